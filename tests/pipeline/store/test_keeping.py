"""A field the CRM stops showing keeps its stored values."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from store import records
from store.canonical import Company, Deal, RecordRef
from store.engine import open_store, reading, writing
from store.schema import upgrade

COMPANY = Company(ZoneInfo("Europe/Berlin"), "EUR")


@pytest.fixture
def engine(database_url: str):
    engine = open_store(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


def store(engine, *deals: Deal, unreadable: frozenset[str] = frozenset()) -> records.Staged:
    with writing(engine) as conn:
        staged = records.stage(conn, deals, (), COMPANY, unreadable={"deals": unreadable})
        records.apply(conn, staged)
    return staged


def deal(second: int, **fields) -> Deal:
    return Deal(
        ref=RecordRef("crm", "deals", "1"),
        modified_at=datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC),
        **fields,
    )


def stored(engine) -> Deal:
    with reading(engine) as conn:
        (found,) = records.iterate(conn, "deals", COMPANY)
    return found


def test_a_withdrawn_permission_takes_no_stored_value_away(engine) -> None:
    store(engine, deal(1, name="A", source="Web", extra={"tier": "gold", "note": "x"}))

    store(
        engine,
        deal(2, name="B", extra={"note": "y"}),
        unreadable=frozenset({"source", "tier"}),
    )

    assert stored(engine).name == "B"
    assert stored(engine).source == "Web"
    assert dict(stored(engine).extra) == {"tier": "gold", "note": "y"}


def test_a_field_that_is_readable_and_empty_is_emptied(engine) -> None:
    store(engine, deal(1, source="Web"))

    store(engine, deal(2))

    assert stored(engine).source is None


def test_a_record_that_differs_in_unreadable_fields_alone_is_unchanged(engine) -> None:
    store(engine, deal(1, source="Web"))

    staged = store(engine, deal(2), unreadable=frozenset({"source"}))

    assert (staged.changed, staged.unchanged) == (0, 1)
