"""Staging and applying pages of records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, func, select

from store import records
from store.canonical import (
    RECORD_TYPES,
    Account,
    CanonicalRecord,
    Company,
    Deal,
    Owner,
    RecordRef,
    StageChange,
)
from store.conversion import fields_of
from store.engine import reading, writing
from store.errors import RecordRefused
from store.records import STAGE, Staged
from store.tables import RECORD_TABLES

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def ref(native_id: str, stream: str = "deals", connection: str = "salesforce") -> RecordRef:
    return RecordRef(connection, stream, native_id)


def deal(native_id: str = "A", minute: int | None = 0, **fields: Any) -> Deal:
    modified_at = None if minute is None else at(minute)
    return Deal(ref=ref(native_id), modified_at=modified_at, **fields)


@pytest.fixture
def commit(
    store: Engine, company: Company
) -> Callable[[Sequence[CanonicalRecord], Sequence[RecordRef]], Staged]:
    """Stages and applies a page in a transaction of its own."""

    def commit_page(page: Sequence[CanonicalRecord], deleted: Sequence[RecordRef] = ()) -> Staged:
        with writing(store) as conn:
            staged = records.stage(conn, page, deleted, company)
            records.apply(conn, staged)
        return staged

    return commit_page


@pytest.fixture
def stored(store: Engine, company: Company) -> Callable[..., list[CanonicalRecord]]:
    """What the store holds of a stream."""

    def read(stream: str = "deals", **options: Any) -> list[CanonicalRecord]:
        with reading(store) as conn:
            return list(records.iterate(conn, stream, company, **options))

    return read


Commit = Callable[..., Staged]
Stored = Callable[..., list[CanonicalRecord]]


# ---------------------------------------------------------------- changes


def test_a_page_comes_back_as_it_was_given(commit: Commit, stored: Stored) -> None:
    page = [
        deal("A", amount=Decimal("100.01"), extra={"x_arr": Decimal("12.5"), "since": at(0)}),
        deal("B", is_closed=True, is_won=True, close_date=date(2026, 3, 1)),
    ]

    staged = commit(page)

    assert Staged(("deals",), pulled=2, changed=2, unchanged=0, cleaned=0) == staged
    assert page == stored()


def test_reading_a_page_again_changes_nothing(commit: Commit, stored: Stored) -> None:
    page = [deal("A", amount=Decimal(1), name="Ä"), deal("B", None)]
    commit(page)

    again = commit(page)

    assert (again.changed, again.unchanged) == (0, 2)
    assert page == stored()


def test_a_newer_time_alone_is_stored_but_no_change(commit: Commit, stored: Stored) -> None:
    commit([deal(minute=0, name="same")])

    staged = commit([deal(minute=5, name="same")])

    assert (staged.changed, staged.unchanged) == (0, 1)
    assert [deal(minute=5, name="same")] == stored()


def test_every_field_that_appears_changes_or_goes_is_a_change(
    store: Engine, company: Company
) -> None:
    """Null-safe: from nothing to something and back counts, nothing to nothing does not."""
    for stream in RECORD_TYPES:
        before, after = _pairs(stream)
        with writing(store) as conn:
            for page in (before, after, before):
                changed = _changed_refs(conn, stream, page, company)
                assert {record.ref.key for record in page} == changed
                assert set() == _changed_refs(conn, stream, page, company)


def _pairs(stream: str) -> tuple[list[CanonicalRecord], list[CanonicalRecord]]:
    """Records that differ in one field each, named after it."""
    before: list[CanonicalRecord] = []
    after: list[CanonicalRecord] = []
    for name in fields_of(stream):
        if name == "modified_at":
            continue
        values = [getattr(_filled(stream, 2), name)]
        if RECORD_TYPES[stream].__dataclass_fields__[name].default is None:
            values.append(None)
        for value in values:
            full = replace(_filled(stream, 1), ref=ref(f"{name} to {value}", stream))
            before.append(full)
            after.append(replace(full, **{name: value}))
    return before, after


def _changed_refs(
    conn: Connection, stream: str, page: Sequence[CanonicalRecord], company: Company
) -> set[str]:
    staged = records.stage(conn, page, [], company)
    stage = STAGE[stream].c
    changed = set(conn.execute(select(stage.ref).where(stage.is_changed)).scalars())
    records.apply(conn, staged)
    assert len(changed) == staged.changed
    return changed


def _filled(stream: str, number: int) -> CanonicalRecord:
    """A record with a value in every field, another one for every number."""
    by_type: dict[str, object] = {
        "Decimal": Decimal(number),
        "datetime": at(number),
        "date": date(2026, 1, number),
        "int": number,
        "bool": number % 2 == 0,
        "str": f"text {number}",
        "Key": f"salesforce:{number}",
    }
    fields = RECORD_TYPES[stream].__dataclass_fields__
    values: dict[str, Any] = {
        name: by_type[str(fields[name].type).removesuffix(" | None")]
        for name in fields_of(stream)
        if name != "modified_at"
    }
    if "currency" in values:
        values["currency"] = ["EUR", "USD"][number - 1]
    return RECORD_TYPES[stream](ref=ref("A", stream), **values)


def test_own_fields_count_as_changes(commit: Commit) -> None:
    commit([deal(extra={"x": 1})])

    assert commit([deal(extra={"x": Decimal("1.0")})]).changed == 0
    assert commit([deal(extra={"x": 2})]).changed == 1
    assert commit([deal()]).changed == 1


# ---------------------------------------------------------------- order of versions


def test_of_several_versions_in_a_page_the_latest_counts(commit: Commit, stored: Stored) -> None:
    staged = commit([deal(minute=2, name="new"), deal(minute=1, name="old")])

    assert (staged.pulled, staged.changed, staged.unchanged) == (2, 1, 1)
    assert [deal(minute=2, name="new")] == stored()


def test_an_older_version_than_the_stored_one_is_dropped(commit: Commit, stored: Stored) -> None:
    commit([deal(minute=2, name="new")])

    staged = commit([deal(minute=1, name="old", deleted=True)])

    assert (staged.changed, staged.unchanged) == (0, 1)
    assert [deal(minute=2, name="new")] == stored()


def test_a_version_without_a_time_counts_as_it_comes(commit: Commit, stored: Stored) -> None:
    commit([deal(minute=2, name="one")])

    commit([deal(minute=None, name="two")])

    assert [deal(minute=None, name="two")] == stored()


# ---------------------------------------------------------------- deletions


def test_a_deleted_reference_marks_the_stored_record(commit: Commit, stored: Stored) -> None:
    commit([deal("A", 5, name="kept"), deal("B")])

    staged = commit([], [ref("A"), ref("unknown"), ref("X", "accounts")])

    assert Staged(("accounts", "deals"), 3, 1, 2, 0) == staged
    assert [deal("A", 5, name="kept", deleted=True), deal("B")] == stored()
    assert [deal("B")] == stored(include_deleted=False)


def test_a_deletion_is_noticed_once(commit: Commit) -> None:
    commit([deal()])
    commit([], [ref("A")])

    assert commit([], [ref("A"), ref("A")]).changed == 0


def test_a_deleted_reference_wins_over_a_version_in_its_page(
    commit: Commit, stored: Stored
) -> None:
    commit([deal("A", 1, name="one")])

    staged = commit([deal("A", 9, name="nine"), deal("C", 9)], [ref("A"), ref("C")])

    assert (staged.pulled, staged.changed, staged.unchanged) == (4, 2, 2)
    assert [deal("A", 9, name="nine", deleted=True), deal("C", 9, deleted=True)] == stored()


def test_a_deleted_reference_wins_over_an_older_version_in_its_page(
    commit: Commit, stored: Stored
) -> None:
    commit([deal("A", 5, name="five")])

    commit([deal("A", 1, name="one")], [ref("A")])

    assert [deal("A", 5, name="five", deleted=True)] == stored()


def test_a_record_that_comes_back_is_live_again(commit: Commit, stored: Stored) -> None:
    commit([deal("A", 1)])
    commit([], [ref("A")])

    staged = commit([deal("A", 2)])

    assert staged.changed == 1
    assert [deal("A", 2)] == stored()


def test_a_shown_deletion_follows_the_time_of_change(commit: Commit, stored: Stored) -> None:
    commit([deal("A", 1)])

    assert commit([deal("A", 2, deleted=True, merged_into="salesforce:B")]).changed == 1
    assert commit([deal("A", 1)]).changed == 0
    assert [deal("A", 2, deleted=True, merged_into="salesforce:B")] == stored()


# ---------------------------------------------------------------- what others see


def test_the_last_winner_of_a_chain_of_merges_is_found(commit: Commit, store: Engine) -> None:
    def merged(native_id: str, winner: str) -> Deal:
        return deal(native_id, deleted=True, merged_into=f"salesforce:{winner}")

    commit([merged("A", "B"), merged("B", "C"), deal("C"), merged("X", "Y"), merged("Y", "X")])
    with reading(store) as conn:
        winners = records.last_winners(conn, "deals")

    assert winners == {
        "salesforce:A": "salesforce:C",
        "salesforce:B": "salesforce:C",
        "salesforce:X": "salesforce:X",
        "salesforce:Y": "salesforce:X",
    }


def test_the_staged_rows_are_those_that_will_be_stored(store: Engine, company: Company) -> None:
    with writing(store) as conn:
        records.apply(conn, records.stage(conn, [deal("A", 1), deal("B", 1)], [], company))
    with writing(store) as conn:
        records.stage(
            conn,
            [deal("A", 1), deal("C", 1, is_closed=True, close_date=date(2026, 1, 2))],
            [ref("B")],
            company,
        )
        staged = STAGE["deals"].c
        query = select(staged.ref, staged.deleted, staged.closed_day, staged.is_changed)
        rows = conn.execute(query.order_by(staged.ref)).all()

    assert rows == [
        ("salesforce:A", False, None, False),
        ("salesforce:B", True, None, True),
        ("salesforce:C", False, 20_455, True),
    ]


def _sizes(conn: Connection) -> dict[str, int]:
    return {
        stream: conn.execute(select(func.count()).select_from(table)).scalar_one()
        for stream, table in STAGE.items()
    }


def test_nothing_of_an_earlier_page_is_left_in_the_stage(store: Engine, company: Company) -> None:
    account = Account(ref=ref("1", "accounts"))

    def fail_after_staging(first: str) -> None:
        with writing(store) as conn:
            records.stage(conn, [deal(first), account], [ref("9")], company)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_staging("A")  # the tables are made, and unmade by the rollback
    with writing(store) as conn:
        records.stage(conn, [deal("B"), deal("C"), account], [], company)
    with pytest.raises(ZeroDivisionError):
        fail_after_staging("D")  # emptied and filled again, and the rollback undoes both
    with writing(store) as conn:
        records.stage(conn, [deal("E")], [], company)
        sizes = _sizes(conn)

    assert {stream: size for stream, size in sizes.items() if size} == {"deals": 1}


def test_a_page_may_mix_streams_and_connections(
    store: Engine, commit: Commit, stored: Stored
) -> None:
    owner = Owner(ref=ref("U", "owners"), name="Rep 07")
    change = StageChange(
        ref=ref("H", "deal_stage_changes"), deal="salesforce:A", stage="salesforce:s", at=at(1)
    )
    other = Deal(ref=RecordRef("hubspot", "deals", "A"))
    look_alike = Deal(ref=RecordRef("salesforce2", "deals", "A"))

    staged = commit([change, deal("A"), owner, other, look_alike], [])

    assert staged.streams == ("deals", "deal_stage_changes", "owners")
    assert [owner] == stored("owners")
    assert [change] == stored("deal_stage_changes")
    assert [deal("A")] == stored(connection="salesforce")
    assert [other, look_alike, deal("A")] == stored()
    with reading(store) as conn:
        assert records.count(conn, "deals") == 3
        assert records.count(conn, "deals", "salesforce") == 1


def test_records_are_sorted_byte_by_byte(commit: Commit, stored: Stored) -> None:
    ids = ["a", "B", "ä", "_", "1", "Z", "é", "aa"]

    commit([deal(native_id) for native_id in ids])

    assert sorted(ids, key=str.encode) == [record.ref.native_id for record in stored()]


def test_cleaned_text_is_counted(commit: Commit, stored: Stored) -> None:
    staged = commit([deal("A", name="nul\0", product="\ud800", region="fine")])

    assert staged.cleaned == 2
    assert [deal("A", name="nul\ufffd", product="\ufffd", region="fine")] == stored()
    assert commit([deal("A", name="nul\0", product="\ud800", region="fine")]).changed == 0


def test_a_record_that_does_not_fit_leaves_its_page_undone(commit: Commit, stored: Stored) -> None:
    with pytest.raises(RecordRefused, match="amount"):
        commit([deal("A"), deal("B", amount=Decimal("NaN"))])

    assert stored() == []


def test_the_ends_of_every_range_are_stored(commit: Commit, stored: Stored) -> None:
    page = [
        deal(
            "A",
            amount=Decimal(10**16),
            probability=Decimal(10**12),
            created_at=datetime(1700, 1, 1, tzinfo=UTC),
            close_date=date(9999, 12, 31),
            closed_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            name="x" * 65_536,
        ),
        deal("B", amount=Decimal(-(10**16)), close_date=date(1700, 1, 1)),
    ]

    commit(page)

    assert page == stored()


# ---------------------------------------------------------------- any history

VERSIONS = st.builds(
    lambda native_id, minute, name, amount, owner, deleted: deal(
        native_id,
        minute,
        name=name,
        amount=amount,
        owner=owner,
        deleted=deleted,
    ),
    st.sampled_from("ABCD"),
    st.none() | st.integers(0, 3),
    st.sampled_from([None, "one", "two"]),
    st.sampled_from([None, Decimal(0), Decimal("0.01")]),
    st.sampled_from([None, "salesforce:1", "salesforce:2"]),
    st.booleans(),
)
PAGES = st.tuples(
    st.lists(VERSIONS, max_size=6), st.lists(st.sampled_from("ABCDX").map(ref), max_size=2)
)


def _expected(model: dict[RecordRef, CanonicalRecord], page: Any) -> int:
    """Plain Python's idea of what a page does; returns how many records change."""
    before = dict(model)
    versions, deleted = page
    newest: dict[RecordRef, CanonicalRecord] = {}
    for version in versions:
        rival = newest.get(version.ref)
        if rival is None or not _older(version, rival):
            newest[version.ref] = version
    for version in newest.values():
        known = model.get(version.ref)
        if known is None or not _older(version, known):
            model[version.ref] = version
    for gone in deleted:
        if gone in model:
            model[gone] = replace(model[gone], deleted=True)
    return sum(
        one not in before or replace(before[one], modified_at=now.modified_at) != now
        for one, now in model.items()
    )


def _older(version: CanonicalRecord, other: CanonicalRecord) -> bool:
    both = version.modified_at, other.modified_at
    return None not in both and both[0] < both[1]  # type: ignore[operator]  # neither is None


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(PAGES, min_size=1, max_size=5))
def test_any_history_of_pages_ends_as_plain_python_says(
    store: Engine, company: Company, pages: list[Any]
) -> None:
    with writing(store) as conn:
        conn.execute(RECORD_TABLES["deals"].delete())
    model: dict[RecordRef, CanonicalRecord] = {}

    for page in pages:
        with writing(store) as conn:
            staged = records.stage(conn, page[0], page[1], company)
            records.apply(conn, staged)
        assert _expected(model, page) == staged.changed
        assert len(page[0]) + len(page[1]) == staged.changed + staged.unchanged

    with reading(store) as conn:
        kept = list(records.iterate(conn, "deals", company))
    assert sorted(model.values(), key=lambda record: record.ref) == kept


def test_reading_a_stream_leaves_its_connection_as_it_was(store: Engine, company: Company) -> None:
    with writing(store) as conn:
        records.apply(conn, records.stage(conn, [deal("A"), deal("B")], [], company))
        assert len(list(records.iterate(conn, "deals", company))) == 2

        assert "yield_per" not in conn.get_execution_options()
        assert conn.execute(RECORD_TABLES["deals"].delete()).rowcount == 2
