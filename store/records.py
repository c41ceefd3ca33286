"""Canonical records in and out of the store.

A page is staged first: temporary tables hold its rows as they will be stored, and which of them
differ from what is stored. Whoever differences KPIs reads both sides, then the page is applied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from sqlalchemy import (
    Connection,
    and_,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from store import staging, temporary
from store.canonical import CanonicalRecord, Company, Key, RecordRef
from store.chains import end_of_chain
from store.compiled import run_all
from store.conversion import (
    Cell,
    RecordMaker,
    RowMaker,
    check,
    columns_of,
    instant_number,
    record_of,
    ref_of,
    row_of,
)
from store.engine import is_postgresql
from store.keeping import with_stored_values
from store.loading import load
from store.money import minor_units, to_minor
from store.staging import IS_CHANGED, STAGE, STAGE_REFS
from store.tables import RECORD_TABLES

__all__ = [
    "NOTHING_UNREADABLE",
    "STAGE",
    "Staged",
    "apply",
    "check",
    "children",
    "count",
    "iterate",
    "minor_units",
    "of_connection",
    "record_of",
    "ref_of",
    "row_of",
    "stage",
    "to_minor",
]

ROWS_AT_ONCE: Final = 2_000
"""Rows fetched at a time where a whole stream is read."""


_PARENTS_AT_ONCE: Final = 500
"""Keys in one IN list: SQLite takes 32,766 variables, the planner prefers far fewer."""


NOTHING_UNREADABLE: Final[Mapping[str, AbstractSet[str]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Staged:
    """What a page holds, once its rows stand in the temporary tables."""

    streams: tuple[str, ...]
    """Streams with staged rows, in the order of the schema."""
    pulled: int
    """Records and deletions that the page brought: `changed` + `unchanged`."""
    changed: int
    """Rows that differ from the stored ones in more than their modification time."""
    unchanged: int
    """Equal rows, older versions, repetitions, and deletions of what is not here."""
    cleaned: int
    """Texts that had to be altered to be stored."""


# ---------------------------------------------------------------- staging


def stage(
    conn: Connection,
    records: Sequence[CanonicalRecord],
    deleted: Sequence[RecordRef],
    company: Company,
    *,
    unreadable: Mapping[str, AbstractSet[str]] = NOTHING_UNREADABLE,
) -> Staged:
    """Put the rows of a page, as they will be stored, into the temporary tables `STAGE`.

    Of several versions of a record in one page the last by `modified_at` counts; a version
    older than the stored one is dropped. A reference in `deleted` marks the record deleted
    whatever its times; one that the store does not know is ignored.

    Args:
        conn: a connection inside `store.engine.writing`.
        records: records of any streams.
        deleted: records the CRM reports as deleted without showing them.
        company: the zone of local days and the default currency.
        unreadable: stream -> fields that the CRM does not show now; the stored values stay.

    Raises:
        RecordRefused: a record does not fit; callers sort those out with `check` beforehand.
    """
    by_stream: dict[str, list[CanonicalRecord]] = defaultdict(list)
    for record in records:
        by_stream[record.STREAM].append(record)
    deleted_by_stream: dict[str, set[str]] = defaultdict(set)
    for ref in deleted:
        deleted_by_stream[ref.stream].add(ref.key)

    # All of them, so that nobody meets the rows of an earlier page.
    temporary.prepare(conn, [*STAGE.values(), STAGE_REFS])
    streams = tuple(
        stream for stream in RECORD_TABLES if stream in by_stream or stream in deleted_by_stream
    )
    changed = cleaned = 0
    for stream in streams:
        maker = RowMaker(stream, company)
        newest = _newest(by_stream.get(stream, ()))
        if newest and unreadable.get(stream):
            newest = with_stored_values(conn, stream, newest, unreadable[stream], company)
        rows = maker.rows(newest)
        cleaned += maker.cleaned
        changed += _stage_stream(conn, stream, rows, deleted_by_stream.get(stream, frozenset()))
    pulled = len(records) + len(deleted)
    return Staged(
        streams=streams,
        pulled=pulled,
        changed=changed,
        unchanged=pulled - changed,
        cleaned=cleaned,
    )


def _newest(records: Sequence[CanonicalRecord]) -> Sequence[CanonicalRecord]:
    newest: dict[RecordRef, CanonicalRecord] = {}
    for record in records:
        before = newest.get(record.ref)
        if before is None or not _is_older(record, before):
            newest[record.ref] = record
    return tuple(newest.values())


def _is_older(record: CanonicalRecord, other: CanonicalRecord) -> bool:
    if record.modified_at is None or other.modified_at is None:
        return False
    return record.modified_at < other.modified_at


def _stage_stream(
    conn: Connection, stream: str, rows: Sequence[tuple[Cell, ...]], deleted: AbstractSet[str]
) -> int:
    staged = STAGE[stream]
    load(conn, staged.name, columns_of(stream), rows)
    if rows:
        temporary.analyze(conn, staged.name, len(rows), ("ref",))
        _compare(conn, stream)
    if deleted:
        _stage_deletions(conn, stream, deleted)
        _compare(conn, stream)
    changed = select(func.count()).select_from(staged).where(staged.c[IS_CHANGED])
    return conn.execute(changed).scalar_one()


def _compare(conn: Connection, stream: str) -> None:
    run_all(conn, staging.comparing(stream, is_postgresql(conn)))


def _stage_deletions(conn: Connection, stream: str, deleted: AbstractSet[str]) -> None:
    conn.execute(delete(STAGE_REFS))
    load(conn, STAGE_REFS.name, ("ref",), [(key,) for key in sorted(deleted)])
    temporary.analyze(conn, STAGE_REFS.name, len(deleted))
    conn.execute(staging.mark_deleted(stream))
    conn.execute(staging.add_deleted(stream))


# ---------------------------------------------------------------- applying


def apply(conn: Connection, staged: Staged) -> None:
    """Insert or replace every staged row in its record table."""
    for_postgresql = is_postgresql(conn)
    run_all(
        conn,
        (text for stream in staged.streams for text in staging.applying(stream, for_postgresql)),
    )


# ---------------------------------------------------------------- reading


def of_connection(ref: ColumnElement[str], connection: str) -> ColumnElement[bool]:
    """The condition that a key belongs to a connection; an index on the key serves it."""
    # ";" follows ":" in bytes, so this is the range of the prefix "CONNECTION:".
    return and_(ref >= f"{connection}:", ref < f"{connection};")


def iterate(
    conn: Connection,
    stream: str,
    company: Company,
    connection: str | None = None,
    include_deleted: bool = True,
) -> Iterator[CanonicalRecord]:
    """The records of a stream, sorted by key (byte by byte), read in portions.

    Args:
        conn: a connection in a transaction that stays open while the records are read.
        stream: the canonical stream.
        company: the default currency of amounts.
        connection: only records of this connection.
        include_deleted: also those marked deleted.
    """
    stored = RECORD_TABLES[stream]
    query = select(stored).order_by(stored.c.ref)
    if connection is not None:
        query = query.where(of_connection(stored.c.ref, connection))
    if not include_deleted:
        query = query.where(~stored.c.deleted)
    maker = RecordMaker(stream, company)
    # An option of this statement alone: one of the connection would outlive it.
    result = conn.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
    for row in result.mappings():
        yield maker.record(row)


def last_winners(conn: Connection, stream: str) -> Mapping[Key, Key]:
    """Merged record -> the one that stands for it in the end: winners are merged in their turn.

    A circle, which no CRM should hold, ends at the smallest of its keys.
    """
    stored = RECORD_TABLES[stream]
    query = select(stored.c.ref, stored.c.merged_into).where(stored.c.merged_into.is_not(None))
    into: dict[Key, Key] = {row.ref: row.merged_into for row in conn.execute(query)}
    return {ref: end_of_chain(ref, into) for ref in into}


def count(
    conn: Connection,
    stream: str,
    connection: str | None = None,
    *,
    created_until: datetime | None = None,
) -> int:
    """How many live records of a stream are stored.

    Args:
        conn: a connection in a transaction.
        stream: the canonical stream.
        connection: only records of this connection.
        created_until: only those created up to this instant, or nobody knows when.
    """
    stored = RECORD_TABLES[stream]
    query = select(func.count()).select_from(stored).where(~stored.c.deleted)
    if connection is not None:
        query = query.where(of_connection(stored.c.ref, connection))
    if created_until is not None:
        created = stored.c.created_at
        query = query.where(or_(created.is_(None), created <= instant_number(created_until)))
    return conn.execute(query).scalar_one()


def children(
    conn: Connection, stream: str, link: str, parents: Sequence[str]
) -> Sequence[RecordRef]:
    """Live stored records that name one of these parents.

    Args:
        conn: a connection in a transaction.
        stream: the children's stream.
        link: their field with the parent's key.
        parents: keys of parents.
    """
    stored = RECORD_TABLES[stream]
    return [
        ref_of(key, stream)
        for start in range(0, len(parents), _PARENTS_AT_ONCE)
        for key in conn.execute(
            select(stored.c.ref).where(
                stored.c[link].in_(parents[start : start + _PARENTS_AT_ONCE]), ~stored.c.deleted
            )
        ).scalars()
    ]
