"""How the databases execute a page: never by reading a whole record table."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import Engine, event

from store import records
from store.canonical import Company, Deal, RecordRef
from store.engine import open_store, reading, writing
from store.schema import ensure_current


def _deals(first: int, last: int, name: str) -> list[Deal]:
    return [
        Deal(
            ref=RecordRef("salesforce", "deals", f"{number:08d}"),
            modified_at=datetime(2026, 1, 1, tzinfo=UTC),
            name=name,
            account=f"salesforce:{number % 50}",
        )
        for number in range(first, last)
    ]


def _commit(engine: Engine, company: Company, page: list[Deal], deleted: list[RecordRef]) -> None:
    with writing(engine) as conn:
        records.apply(conn, records.stage(conn, page, deleted, company))


def test_a_page_on_sqlite_searches_the_record_table_and_never_scans_it(
    sqlite_database: str, company: Company
) -> None:
    engine = open_store(sqlite_database)
    ensure_current(engine)
    _commit(engine, company, _deals(0, 3000, "first"), [])
    plans: list[str] = []

    def explain(conn, cursor, statement, parameters, context, executemany):  # type: ignore[no-untyped-def]  # noqa: ARG001, PLR0917
        if re.match(r"\s*(UPDATE|INSERT|DELETE|SELECT)", statement) and not executemany:
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            plans.extend(f"{row[3]} <- {statement}" for row in cursor.fetchall())

    for size in (3, 1500):  # unanalysed and analysed sizes of the stage
        fresh = open_store(sqlite_database)
        event.listen(fresh, "before_cursor_execute", explain)
        gone = [record.ref for record in _deals(2990, 2995, "")]
        _commit(fresh, company, _deals(100, 100 + size, f"second {size}"), gone)
        fresh.dispose()
    engine.dispose()

    assert any("SEARCH deals" in plan for plan in plans)
    assert [plan for plan in plans if re.match(r"SCAN (deals|t)\b|.*BLOOM", plan)] == []


def test_a_page_on_postgresql_scans_no_record_table(
    postgres_database: str, company: Company
) -> None:
    engine = open_store(postgres_database)
    ensure_current(engine)
    _commit(engine, company, _deals(0, 30_000, "first"), [])
    with writing(engine) as conn:
        conn.exec_driver_sql("ANALYZE deals")
    before = _scans(engine)

    for size in (3, 300):
        gone = [record.ref for record in _deals(29_990, 29_995, "")]
        _commit(engine, company, _deals(100, 100 + size, f"second {size}"), gone)
    after = _scans(engine)
    engine.dispose()

    assert before[0] == after[0]
    assert before[1] < after[1]


def _scans(engine: Engine) -> tuple[int, int]:
    """Sequential and index scans of the deals table so far."""
    with writing(engine) as conn:
        conn.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with reading(engine) as conn:
        row = conn.exec_driver_sql(
            "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'deals'"
        ).one()
    return row[0], row[1]
