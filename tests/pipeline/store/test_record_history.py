"""What records were: a page's changes leave their former values, and the past can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from store import record_history, records
from store.canonical import CanonicalRecord, Deal
from store.engine import reading, writing
from tests.pipeline.metrics.books import BERLIN, Books, account, deal, ref


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database)
    yield made
    made.close()


def at(books: Books, instant: datetime) -> list[CanonicalRecord]:
    """The deals as they were."""
    with reading(books.engine) as conn:
        present = records.iterate(conn, "deals", BERLIN)
        return list(record_history.iterate_at(conn, "deals", BERLIN, instant, present))


def told(books: Books) -> list[tuple[str, str, object]]:
    with reading(books.engine) as conn:
        found = record_history.changes(conn, ["deals"], books.now - timedelta(days=1))
    return [(one.key, one.kind, one.former) for one in found]


def later(books: Books) -> datetime:
    """A minute passes; the instant before it."""
    books.now += timedelta(minutes=1)
    return books.now - timedelta(seconds=30)


def test_every_kind_of_change_is_kept_with_what_changed_and_every_past_state_can_be_read(
    books: Books,
) -> None:
    first = deal("D1", amount="12.50", stage="new")
    edited = replace(first, amount=None, is_won=True, is_closed=True, name="Another name")
    moved = replace(edited, account="crm:B")
    merged = replace(moved, merged_into="crm:D2")
    states = [first, edited, moved, merged]
    instants = []
    for state in states:
        books.commit(state, account("A"))
        instants.append(later(books))
    books.commit(merged)
    books.commit(deleted=[ref("deals", "D1")])
    instants.append(later(books))
    books.commit(deal("D3"))

    assert told(books) == [
        ("crm:D1", "first_seen", None),
        ("crm:D1", "edited", {"name": "D1", "is_closed": False, "is_won": False, "amount": 1250}),
        ("crm:D1", "moved", {"account": "crm:A"}),
        ("crm:D1", "merged", {"merged_into": None}),
        ("crm:D1", "deleted", {"deleted": False}),
        ("crm:D3", "first_seen", None),
    ]
    for state, instant in zip(states, instants, strict=False):
        (found,) = at(books, instant)
        assert found == state
    assert at(books, instants[-1]) == [replace(merged, deleted=True)]
    assert at(books, instants[0] - timedelta(minutes=5)) == []


def test_a_first_load_leaves_no_rows_and_before_it_began_none_of_its_records_existed(
    books: Books,
) -> None:
    before = later(books)
    books.commit(deal("D1"), deal("D2"), defer=True)
    after = later(books)
    books.commit(deal("D2", amount=7), deal("D3"))
    books.commit(deal("D3"), deal("hub:D4"), defer=True)

    assert [(key, kind) for key, kind, _ in told(books)] == [
        ("crm:D2", "edited"),
        ("crm:D3", "first_seen"),
        ("hub:D4", "first_seen"),
    ]
    assert at(books, before) == []
    assert at(books, after) == [deal("D1"), deal("D2")]
    assert [record.ref.key for record in at(books, later(books))] == [
        *("crm:D1", "crm:D2", "crm:D3", "hub:D4"),
    ]


def test_a_row_that_was_removed_whole_is_there_again_in_the_past(sqlite_books: Books) -> None:
    books = sqlite_books
    books.commit(deal("D1", amount=5))
    then = later(books)
    with writing(books.engine) as conn:
        gone = record_history.present_rows(conn, "deals", ["crm:D1"])
        other = {"crm:D9": {**gone["crm:D1"], "ref": "crm:D9"}}
        conn.exec_driver_sql("DELETE FROM deals")
        record_history.note_replaced(conn, "deals", gone, other, at=books.now)
        edited = {"crm:D9": {**other["crm:D9"], "amount": 7}}
        record_history.note_replaced(conn, "deals", other, edited, at=books.now)

    (found,) = at(books, then)
    assert isinstance(found, Deal)
    assert (found.ref.key, found.amount, found.account) == ("crm:D1", Decimal(5), "crm:A")
    assert [kind for _, kind, _ in told(books)] == ["first_seen", "removed", "first_seen", "edited"]
    assert told(books)[-1] == ("crm:D9", "edited", {"amount": 500})


def test_what_is_older_than_its_keeping_is_forgotten_and_from_when_on_all_is_known_is_told(
    sqlite_books: Books,
) -> None:
    books = sqlite_books
    books.commit(deal("D1"))
    with writing(books.engine) as conn:
        assert record_history.known_since(conn) is None
        gone = record_history.purge(conn, timedelta(days=1))
        again = record_history.purge(conn, timedelta(days=1))
        since = record_history.known_since(conn)

    assert (gone, again) == (1, 0)
    assert since is not None
    assert since > books.now
