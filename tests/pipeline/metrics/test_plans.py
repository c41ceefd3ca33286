"""An increment must not read whole tables: its time may not grow with what is stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from metrics import values
from metrics.cells import commit_page
from store.canonical import CanonicalRecord
from store.engine import writing
from tests.pipeline.metrics.books import Books, account, deal, entered, lost, owner, stage, won

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
BASE_TABLES = ("deals", "deal_stage_changes", "accounts", "cells", "kpi_values", "identity")
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
