"""An increment must not read whole tables: its time may not grow with what is stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from bench import engine_company as company
from bench.engine import Product, load_records
from metrics import catalog, values
from metrics.cells import commit_page
from metrics.definition import KpiSettings
from metrics.expression.definition import Written
from store.canonical import CanonicalRecord
from store.engine import reading, writing
from tests.pipeline.metrics.books import (
    BERLIN,
    Books,
    account,
    deal,
    entered,
    lost,
    owner,
    stage,
    won,
)

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
BASE_TABLES = (
    *("deals", "deal_stage_changes", "accounts", "cells", "kpi_values", "identity"),
    *("contacts", "campaign_members", "leads", "tickets", "survey_responses", "contracts"),
)
LARGE = ("deals", "deal_stage_changes", "tickets", "campaign_members", "cells", "kpi_values")
SCAN = re.compile(rf"^(SCAN|BLOOM FILTER ON) ({'|'.join(BASE_TABLES)})\b")


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database)
    page: list[CanonicalRecord] = [stage("new"), stage("offer"), owner("ana")]
    for number in range(200):
        make = won if number % 3 else lost
        page += [
            make(f"D{number}", date(2024, 1 + number % 6, 1), account=f"A{number % 40}"),
            account(f"A{number % 40}"),
            entered(f"D{number}", "new", NOON),
            entered(f"D{number}", "offer", NOON + timedelta(days=number)),
        ]
    made.commit(*page)
    made.publish()
    yield made
    made.close()


def plans_of(engine: Engine, conn: Connection) -> list[tuple[str, str]]:
    """From now on: (plan step, statement) of everything that runs on the connection."""
    steps: list[tuple[str, str]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def explain(
        _conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        if many or not statement.lstrip().startswith(
            ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
        ):
            return
        driver = conn.connection.driver_connection
        assert driver is not None
        plan = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps.extend((row[3], statement) for row in plan)

    return steps


def scans(steps: list[tuple[str, str]]) -> list[str]:
    return [
        f"{step} in {statement[:300]}"
        for step, statement in steps
        # "Is there any" stops at the first row.
        if SCAN.match(step) and "LIMIT" not in statement
    ]


def test_a_page_of_any_kind_scans_no_base_table(books: Books) -> None:
    page: list[CanonicalRecord] = [
        *(won(f"D{number}", owner="ben", account=f"A{number % 7}") for number in range(120)),
        deal("D3"),
        entered("D5", "offer", NOON + timedelta(hours=5)),
        account("A2", merged_into="A1"),
        account("A3", deleted=True),
    ]

    with writing(books.engine) as conn:
        steps = plans_of(books.engine, conn)
        commit_page(conn, books.catalog, page, [won("D77").ref])

    assert len(steps) > 50
    assert scans(steps) == []


def test_publishing_after_a_page_scans_neither_cells_nor_values(books: Books) -> None:
    books.commit(*(won(f"D{number}", owner="ben") for number in range(120)))

    with writing(books.engine) as conn:
        steps = plans_of(books.engine, conn)
        published = values.publish(conn, books.catalog, run="run", as_of=books.now, limit=5000)

    assert published.changed > 0
    assert scans(steps) == []


OWN = tuple(
    Written(name=name, label=name, of="deals", by=(("owner",), ("account",)), **said)  # type: ignore[arg-type]  # as the names say
    for name, said in {
        "rate": {
            "date": "closed_at",
            "where": "segment = 'large' and amount >= 25000 and owner != 'x'",
            "numerator": "count(where won)",
            "denominator": "count(where won or lost)",
        },
        "overdue": {"numerator": "count(where close_date < today - 3d)"},
        "middle": {"date": "close_date", "numerator": "median(arr)", "own": (("arr", "money"),)},
        "customers": {"date": "close_date", "numerator": "distinct(account)", "window": 90},
        "length": {"date": "close_date", "numerator": "mean(close_date - created_at)"},
    }.items()
)


def test_a_page_that_moves_custom_kpis_scans_no_base_table(books: Books) -> None:
    books.configure(KpiSettings(company=BERLIN, custom=OWN))
    books.rebuild()
    books.publish()
    page = [won(f"D{number}", owner="ben", account=f"A{number % 7}") for number in range(120)]

    with writing(books.engine) as conn:
        steps = plans_of(books.engine, conn)
        commit_page(conn, books.catalog, [*page, account("A2", merged_into="A1")], [])
        values.publish(conn, books.catalog, run="run", as_of=books.now, limit=5000)

    assert any("INSERT INTO custom_facts" in statement for _, statement in steps)
    assert scans(steps) == []


def test_a_page_of_every_kpi_scans_no_base_table(sqlite_database: str) -> None:
    product = Product(load_records(sqlite_database, 600), catalog.build(company.CATALOGUE))
    product.rebuild()
    product.publish()
    page = _page(product, 60)

    with writing(product.engine) as conn:
        steps = plans_of(product.engine, conn)
        commit_page(conn, product.catalog, page, [])
    product.engine.dispose()

    assert len(steps) > 100
    assert scans(steps) == []


def test_postgresql_reads_no_large_table_as_a_whole_for_a_page(postgres_database: str) -> None:
    product = Product(load_records(postgres_database, 20_000), catalog.build(company.BREADTH))
    product.rebuild()
    product.publish()
    product.commit(_page(product, 40))
    product.publish()
    page = _page(product, 60)
    before = _sequential_scans(product.engine)

    product.commit(page)
    product.publish()

    after = _sequential_scans(product.engine)
    product.engine.dispose()
    assert {record.ref.stream for record in page} >= {"deals", "tickets", "deal_stage_changes"}
    # Whose tickets are touched is asked while the touched ones are not counted yet: a table as
    # small as this one may be read as a whole for that, one of millions is not.
    assert after.pop("tickets") - before.pop("tickets") <= 1
    assert before == after


def _page(product: Product, size: int) -> list[CanonicalRecord]:
    edits = company.Edits(600)
    with reading(product.engine) as conn:
        return edits.batch(conn, size, seed=size)


def _sequential_scans(engine: Engine) -> dict[str, int]:
    with writing(engine) as conn:
        conn.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with reading(engine) as conn:
        rows = conn.exec_driver_sql("SELECT relname, seq_scan FROM pg_stat_user_tables").all()
    return {name: scanned for name, scanned in rows if name in LARGE}
