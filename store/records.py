"""Canonical records in and out of the store.

A page is staged first: temporary tables hold its rows as they will be stored, and which of them
differ from what is stored. Whoever differences KPIs reads both sides, then the page is applied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import psycopg
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Delete,
    Insert,
    MetaData,
    Table,
    Update,
    and_,
    delete,
    exists,
    false,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from store import temporary
from store.canonical import CanonicalRecord, Company, RecordRef
from store.conversion import (
    Cell,
    RecordMaker,
    RowMaker,
    check,
    columns_of,
    record_of,
    ref_of,
    row_of,
)
from store.engine import is_postgresql
from store.money import minor_units, to_minor
from store.tables import KEY, RECORD_TABLES

__all__ = [
    "STAGE",
    "Staged",
    "apply",
    "check",
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

_STAGE_METADATA: Final = MetaData()

IS_CHANGED: Final = "is_changed"

ROWS_AT_ONCE: Final = 2_000


def _stage_table(stream: str) -> Table:
    mirrored = (
        Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable)
        for column in RECORD_TABLES[stream].columns
    )
    is_changed: Column[Any] = Column(
        IS_CHANGED, Boolean(create_constraint=False), nullable=False, server_default=true()
    )
    return temporary.table(f"stage_{stream}", _STAGE_METADATA, *mirrored, is_changed)


STAGE: Final[Mapping[str, Table]] = MappingProxyType(
    {stream: _stage_table(stream) for stream in RECORD_TABLES}
)
"""Canonical stream -> temporary table: the columns of its record table and `is_changed`."""

_STAGE_REFS: Final = temporary.table(
    "stage_refs", _STAGE_METADATA, Column("ref", KEY, primary_key=True)
)


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
    temporary.prepare(conn, [*STAGE.values(), _STAGE_REFS])
    streams = tuple(
        stream for stream in RECORD_TABLES if stream in by_stream or stream in deleted_by_stream
    )
    changed = cleaned = 0
    for stream in streams:
        maker = RowMaker(stream, company)
        rows = [maker.row(record) for record in _newest(by_stream.get(stream, ()))]
        cleaned += maker.clean.cleaned
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
    _load(conn, staged.name, columns_of(stream), rows)
    temporary.analyze(conn, staged.name, len(rows), ("ref",))
    if rows:
        conn.execute(_drop_older(stream))
    if deleted:
        _stage_deletions(conn, stream, deleted)
    conn.execute(_find_unchanged(stream))
    changed = select(func.count()).select_from(staged).where(staged.c[IS_CHANGED])
    return conn.execute(changed).scalar_one()


def _stage_deletions(conn: Connection, stream: str, deleted: AbstractSet[str]) -> None:
    conn.execute(delete(_STAGE_REFS))
    _load(conn, _STAGE_REFS.name, ("ref",), [(key,) for key in sorted(deleted)])
    temporary.analyze(conn, _STAGE_REFS.name, len(deleted))
    conn.execute(_mark_deleted(stream))
    conn.execute(_add_deleted(stream))


def _load(
    conn: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Cell, ...]]
) -> None:
    if not rows:
        return
    names = ", ".join(f'"{column}"' for column in columns)
    if is_postgresql(conn):
        driver: psycopg.Connection[Any] = conn.connection.driver_connection  # type: ignore[assignment]  # the pool does not know its driver
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    places = ", ".join("?" * len(columns))
    conn.exec_driver_sql(
        f"INSERT INTO temp.{table} ({names}) VALUES ({places})",  # noqa: S608 - our own names
        list(rows),
    )


# ---------------------------------------------------------------- statements

# Built once for each stream: composing a statement of thirty columns costs more than running it.


@lru_cache(maxsize=64)
def _drop_older(stream: str) -> Delete:
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    return delete(staged).where(
        exists().where(stored.c.ref == staged.c.ref, stored.c.modified_at > staged.c.modified_at)
    )


@lru_cache(maxsize=64)
def _find_unchanged(stream: str) -> Update:
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    equal = (
        stored.c[column].is_not_distinct_from(staged.c[column])
        for column in columns_of(stream)
        if column not in {"ref", "modified_at"}
    )
    same_row = exists().where(stored.c.ref == staged.c.ref, *equal)
    return update(staged).where(same_row).values({IS_CHANGED: false()})


@lru_cache(maxsize=64)
def _mark_deleted(stream: str) -> Update:
    staged = STAGE[stream]
    return update(staged).where(staged.c.ref.in_(select(_STAGE_REFS.c.ref))).values(deleted=true())


@lru_cache(maxsize=64)
def _add_deleted(stream: str) -> Insert:
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    columns = columns_of(stream)
    values = [true() if column == "deleted" else stored.c[column] for column in columns]
    rows = select(*values).where(
        stored.c.ref.in_(select(_STAGE_REFS.c.ref)),
        ~exists().where(staged.c.ref == stored.c.ref),
    )
    return insert(staged).from_select([*columns], rows)


@lru_cache(maxsize=64)
def _upsert(stream: str, *, for_postgresql: bool) -> postgresql.Insert | sqlite.Insert:
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    columns = columns_of(stream)
    is_current = exists().where(
        stored.c.ref == staged.c.ref,
        stored.c.modified_at.is_not_distinct_from(staged.c.modified_at),
    )
    # A row that is equal to its last microsecond is not written again.
    rows = select(*(staged.c[column] for column in columns)).where(
        or_(staged.c[IS_CHANGED], ~is_current)
    )
    upsert: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(stored) if for_postgresql else sqlite.insert(stored)
    )
    upsert = upsert.from_select([*columns], rows)
    return upsert.on_conflict_do_update(
        index_elements=[stored.c.ref],
        set_={column: upsert.excluded[column] for column in columns if column != "ref"},
    )


# ---------------------------------------------------------------- applying


def apply(conn: Connection, staged: Staged) -> None:
    """Insert or replace every staged row in its record table."""
    for stream in staged.streams:
        conn.execute(_upsert(stream, for_postgresql=is_postgresql(conn)))


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
    result = conn.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
    for row in result.mappings():
        yield maker.record(row)


def count(conn: Connection, stream: str, connection: str | None = None) -> int:
    """How many live records of a stream are stored."""
    stored = RECORD_TABLES[stream]
    query = select(func.count()).select_from(stored).where(~stored.c.deleted)
    if connection is not None:
        query = query.where(of_connection(stored.c.ref, connection))
    return conn.execute(query).scalar_one()
