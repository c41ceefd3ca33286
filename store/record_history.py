"""What records were: each change of a stored record, with what its columns held before.

A change is noted in the transaction that makes it, by one statement a stream: a row of a page
that is stored as it is leaves nothing. Only changed columns are kept, and only those that KPIs
read. The state of a record at an instant is its present row with everything undone that came
later. A first load notes nothing of its records: when the stream was loaded says it for all.
"""

# ruff: noqa: S608 - every name in these statements is one of the schema's own

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, delete, func, insert, select, update

from store import definitions, notes
from store.canonical import CanonicalRecord, Company, Key
from store.conversion import FLAGS, RecordMaker, columns_of, instant_number, instant_of
from store.engine import database_now, is_postgresql
from store.history_tables import FIRST_LOADS, RECORD_HISTORY
from store.staging import IS_CHANGED, STAGE
from store.tables import RECORD_TABLES

Row: TypeAlias = Mapping[str, Any]
"""A record as its table holds it."""

FIRST_SEEN: Final = "first_seen"
EDITED: Final = "edited"
DELETED: Final = "deleted"
UNDELETED: Final = "undeleted"
MERGED: Final = "merged"
MOVED: Final = "moved"
"""It belongs to another record: to another account, deal, ticket, contact, lead or campaign."""
REMOVED: Final = "removed"
"""Its row is gone: a cost of a file that the file does not tell any more."""

_DERIVED: Final = frozenset(
    {
        *("created_day", "closed_day", "at_day", "submitted_day"),
        *("qualified_day", "first_response_day"),
    }
)
_UNREAD: Final = {
    "": frozenset({"ref", "modified_at", "subject", "comment", "label", "pipeline_label"}),
    "contacts": frozenset({"name", "email"}),
    "leads": frozenset({"name", "email", "company"}),
}
"""Stream (empty: every one) -> columns that no KPI reads: people's words and people's names."""

_PARENTS: Final = (
    *("account", "parent", "deal", "ticket", "contact", "lead", "campaign"),
    *("converted_account", "converted_contact", "converted_deal"),
)

_NOTE: Final = ("", "record_history.since")
"""The note that says from which instant on everything is known."""

_SWEPT: Final = ("", "record_history.swept")
"""The note that says when changes were last forgotten."""

_SWEEP_EVERY: Final = timedelta(days=1)

_REFS_AT_ONCE: Final = 500


@lru_cache(maxsize=64)
def kept_columns(stream: str) -> tuple[str, ...]:
    """The columns of a stream whose former values are kept."""
    unread = _UNREAD[""] | _UNREAD.get(stream, frozenset()) | _DERIVED
    return tuple(name for name in columns_of(stream) if name not in unread)


# ---------------------------------------------------------------- noting


def note(
    conn: Connection,
    streams: Sequence[str],
    connections: Collection[str],
    *,
    at: datetime,
    run: str | None,
    is_first_load: bool,
) -> None:
    """Note what a staged page is about to change; goes before `store.records.apply`.

    Args:
        conn: in `store.engine.writing`.
        streams: those with staged rows.
        connections: whose records they are.
        at: the instant of the transaction.
        run: the run that pulls them.
        is_first_load: the page belongs to a stream that was never complete so far.
    """
    number = instant_number(at)
    loading = _loading(conn, streams, connections, number, is_first_load=is_first_load)
    for stream in streams:
        statement = _noting(stream, is_postgresql(conn), with_new=stream not in loading)
        conn.exec_driver_sql(statement, (number, run))


def _loading(
    conn: Connection,
    streams: Sequence[str],
    connections: Collection[str],
    at: int,
    *,
    is_first_load: bool,
) -> set[str]:
    """The streams that are being read for the first time; remembers when that was."""
    known = {
        (row.connection, row.stream): row.is_over
        for row in conn.execute(
            select(FIRST_LOADS).where(FIRST_LOADS.c.connection.in_(sorted(connections)))
        )
    }
    places = [(connection, stream) for stream in streams for connection in sorted(connections)]
    if not is_first_load:
        for place in places:
            if known.get(place) is False:
                _update_load(conn, place, is_over=True)
        return set()
    loading = {
        stream
        for stream in streams
        if not any(known.get((connection, stream)) for connection in connections)
    }
    for connection, stream in places:
        if stream not in loading:
            continue
        if (connection, stream) in known:
            _update_load(conn, (connection, stream), ended=at)
        else:
            row = {"connection": connection, "stream": stream, "began": at, "ended": at}
            conn.execute(insert(FIRST_LOADS), {**row, "is_over": False})
    return loading


def _update_load(conn: Connection, place: tuple[str, str], **values: object) -> None:
    connection, stream = place
    conn.execute(
        update(FIRST_LOADS)
        .where(FIRST_LOADS.c.connection == connection, FIRST_LOADS.c.stream == stream)
        .values(values)
    )


@lru_cache(maxsize=256)
def _noting(stream: str, for_postgresql: bool, *, with_new: bool) -> str:
    """One statement from the stage and the stored rows to the history; takes instant and run."""
    differs = "IS DISTINCT FROM" if for_postgresql else "IS NOT"
    quoted = (
        "coalesce(to_json(t.\"{0}\")::text, 'null')" if for_postgresql else 'json_quote(t."{0}")'
    )
    changed = " || ".join(
        f"""CASE WHEN t."{name}" {differs} s."{name}" """
        f"""THEN ',"{name}":' || {quoted.format(name)} ELSE '' END"""
        for name in kept_columns(stream)
    )
    parents = " OR ".join(
        f't."{name}" {differs} s."{name}"' for name in _PARENTS if name in kept_columns(stream)
    )
    place = "%s" if for_postgresql else "?"
    stage = f"{'pg_temp' if for_postgresql else 'temp'}.{STAGE[stream].name}"
    join = "LEFT JOIN" if with_new else "JOIN"
    return f"""
        INSERT INTO record_history (stream, ref, at, kind, run, former)
        SELECT '{stream}', ref, {place}, kind, {place}, former FROM (
            SELECT s.ref,
                CASE
                    WHEN t.ref IS NULL THEN '{FIRST_SEEN}'
                    WHEN s.merged_into IS NOT NULL AND t.merged_into {differs} s.merged_into
                        THEN '{MERGED}'
                    WHEN s.deleted AND NOT t.deleted THEN '{DELETED}'
                    WHEN t.deleted AND NOT s.deleted THEN '{UNDELETED}'
                    WHEN {parents or "1 = 0"} THEN '{MOVED}'
                    ELSE '{EDITED}'
                END AS kind,
                CASE WHEN t.ref IS NOT NULL THEN '{{' || substr({changed}, 2) || '}}' END AS former
            FROM {stage} s {join} {stream} t ON t.ref = s.ref
            WHERE s.{IS_CHANGED}
        ) AS found
        WHERE former IS NULL OR former <> '{{}}'"""


def note_replaced(
    conn: Connection,
    stream: str,
    before: Mapping[Key, Row],
    after: Mapping[Key, Row],
    *,
    at: datetime,
) -> None:
    """Note that rows were taken out and others put in, not by a page.

    Args:
        conn: in `store.engine.writing`.
        stream: theirs.
        before: the rows that were there.
        after: those that are there now.
        at: the instant of the transaction.
    """
    kept, number = kept_columns(stream), instant_number(at)
    rows = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        former = (
            None
            if old is None
            else {name: old[name] for name in kept if new is None or old[name] != new[name]}
        )
        if former == {}:
            continue
        kind = FIRST_SEEN if former is None else REMOVED if new is None else EDITED
        text = None if former is None else json.dumps(former)
        rows.append({"stream": stream, "ref": key, "at": number, "kind": kind, "former": text})
    if rows:
        conn.execute(insert(RECORD_HISTORY), rows)


# ---------------------------------------------------------------- keeping


def forget(conn: Connection, older_than: timedelta) -> None:
    """Purge, if that was not done for a day; also definitions that are as old.

    Args:
        conn: in `store.engine.operating`.
        older_than: for how long changes are kept.
    """
    now = database_now(conn)
    noted = notes.get(conn, *_SWEPT)
    if noted is None or now - datetime.fromisoformat(noted) >= _SWEEP_EVERY:
        purge(conn, older_than)
        definitions.purge(conn, now - older_than)
        notes.put(conn, *_SWEPT, now.isoformat())


def purge(conn: Connection, older_than: timedelta) -> int:
    """Forget changes of long ago; what was before can then not be told any more.

    Returns:
        How many were forgotten.
    """
    limit = database_now(conn) - older_than
    old = RECORD_HISTORY.c.at < instant_number(limit)
    gone = 0
    for stream in RECORD_TABLES:
        # Stream by stream: so the index serves it.
        gone += conn.execute(
            delete(RECORD_HISTORY).where(RECORD_HISTORY.c.stream == stream, old)
        ).rowcount
    if gone:
        notes.put(conn, *_NOTE, limit.isoformat())
    return gone


def known_since(conn: Connection) -> datetime | None:
    """The instant before which changes are forgotten; None: all are known."""
    noted = notes.get(conn, *_NOTE)
    return None if noted is None else datetime.fromisoformat(noted)


# ---------------------------------------------------------------- looking back


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one record."""

    id: int
    stream: str
    key: Key
    at: datetime
    kind: str
    run: str | None
    former: Mapping[str, Any] | None
    """Changed column -> its stored value before; None: there was no such record."""


@dataclass(frozen=True, slots=True)
class Load:
    """When a stream of a connection was read for the first time."""

    connection: str
    stream: str
    began: datetime
    ended: datetime


def changes(
    conn: Connection, streams: Iterable[str], after: datetime, until: datetime | None = None
) -> list[Change]:
    """Changes later than an instant, up to another one, in the order in which they were made."""
    table = RECORD_HISTORY
    query = select(table).where(
        table.c.stream.in_(sorted(streams)), table.c.at > instant_number(after)
    )
    if until is not None:
        query = query.where(table.c.at <= instant_number(until))
    return [
        Change(
            id=row.id,
            stream=row.stream,
            key=row.ref,
            at=instant_of(row.at),
            kind=row.kind,
            run=row.run,
            former=None if row.former is None else json.loads(row.former),
        )
        for row in conn.execute(query.order_by(table.c.at, table.c.id))
    ]


def loads(conn: Connection) -> list[Load]:
    """Every first load."""
    return [
        Load(row.connection, row.stream, instant_of(row.began), instant_of(row.ended))
        for row in conn.execute(select(FIRST_LOADS))
    ]


def first_seen(conn: Connection, stream: str) -> dict[Key, datetime]:
    """The records of a stream that came after its first load, with when."""
    table = RECORD_HISTORY
    query = (
        select(table.c.ref, func.max(table.c.at).label("at"))
        .where(table.c.stream == stream, table.c.kind == FIRST_SEEN)
        .group_by(table.c.ref)
    )
    return {row.ref: instant_of(row.at) for row in conn.execute(query)}


def undone(row: Row | None, change: Change) -> dict[str, Any] | None:
    """The row before a change, from the one after it; None: there was none."""
    if change.former is None:
        return None
    former = {
        name: bool(value) if name in FLAGS and value is not None else value
        for name, value in change.former.items()
    }
    return {**(row or _blank(change)), **former}


def _blank(change: Change) -> dict[str, Any]:
    return {**dict.fromkeys(columns_of(change.stream)), "ref": change.key, "deleted": False}


def present_rows(conn: Connection, stream: str, keys: Iterable[Key]) -> dict[Key, Row]:
    """The stored rows of these records."""
    table, wanted = RECORD_TABLES[stream], sorted(set(keys))
    found: dict[Key, Row] = {}
    for start in range(0, len(wanted), _REFS_AT_ONCE):
        portion = wanted[start : start + _REFS_AT_ONCE]
        query = select(table).where(table.c.ref.in_(portion))
        found |= {row["ref"]: dict(row) for row in conn.execute(query).mappings()}
    return found


def rows_at(conn: Connection, stream: str, at: datetime) -> Mapping[Key, Row | None]:
    """The records of a stream that are not now as they were at an instant, as they were.

    None: there was no such record. What came with a first load that began later is not among
    them: ask `loaded_later`.
    """
    later = changes(conn, [stream], at)
    rows: dict[Key, Row | None] = {}
    rows.update(present_rows(conn, stream, (change.key for change in later)))
    for change in reversed(later):
        rows[change.key] = undone(rows.get(change.key), change)
    return rows


def loaded_later(conn: Connection, stream: str, at: datetime) -> Callable[[Key], bool]:
    """Whether a record came with a first load that began after an instant."""
    connections = {
        load.connection for load in loads(conn) if load.stream == stream and load.began > at
    }
    if not connections:
        return lambda _: False
    alone = first_seen(conn, stream)
    return lambda key: key.split(":", 1)[0] in connections and key not in alone


def iterate_at(
    conn: Connection,
    stream: str,
    company: Company,
    at: datetime,
    present: Iterator[CanonicalRecord],
    *,
    with_loads: bool = False,
) -> Iterator[CanonicalRecord]:
    """The records of a stream as they were at an instant, sorted by key.

    Args:
        conn: in a transaction that stays open while they are read.
        stream: theirs.
        company: the default currency of amounts.
        at: the instant.
        present: the records as they are, sorted by key, all of them.
        with_loads: those that came with a first load that began later, too.
    """
    former = rows_at(conn, stream, at)
    is_later = loaded_later(conn, stream, at) if not with_loads else lambda _: False
    maker = RecordMaker(stream, company)
    made = sorted(
        (key, row) for key, row in former.items() if row is not None and not is_later(key)
    )
    place = 0
    for record in present:
        key = record.ref.key
        while place < len(made) and made[place][0] < key:
            # Only rows that are gone have no present record of their key.
            yield maker.record(made[place][1])
            place += 1
        if key in former:
            if place < len(made) and made[place][0] == key:
                yield maker.record(made[place][1])
                place += 1
        elif not is_later(key):
            yield record
    for _, row in made[place:]:
        yield maker.record(row)
