"""Which stored records carry the values of which groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, or_, select

from store.canonical import Key
from store.records import of_connection
from store.scalars import decode_fields
from store.tables import IDENTITY, RECORD_TABLES

_LINKS: Final[Mapping[str, str]] = {
    "account": "accounts",
    "contact": "contacts",
    "deal": "deals",
    "ticket": "tickets",
    "campaign": "campaigns",
    "owner": "owners",
}
"""Dimensions whose keys are records, and the streams of those."""


def dead_ids(conn: Connection, stream: str, connection: str) -> frozenset[str]:
    """Native ids of records that were deleted or merged away."""
    table = RECORD_TABLES[stream]
    query = select(table.c.ref).where(
        of_connection(table.c.ref, connection),
        or_(table.c.deleted, table.c.merged_into.is_not(None)),
    )
    return frozenset(key.removeprefix(f"{connection}:") for key in conn.execute(query).scalars())


def members(
    conn: Connection, stream: str, connection: str, keys: Iterable[Key]
) -> dict[Key, list[str]]:
    """Native ids of the records of one connection that stand for each entity.

    Most entities are one record; where several CRMs, or several records of one, know the same
    customer, each of them carries its values.
    """
    standing_for: dict[Key, list[str]] = {}
    elsewhere: set[Key] = set()
    query = select(IDENTITY.c.ref, IDENTITY.c.canonical).where(
        IDENTITY.c.stream == stream, of_connection(IDENTITY.c.ref, connection)
    )
    prefix = f"{connection}:"
    for row in conn.execute(query):
        elsewhere.add(row.ref)
        if row.canonical is not None:
            standing_for.setdefault(row.canonical, []).append(row.ref.removeprefix(prefix))
    found: dict[Key, list[str]] = {}
    for key in keys:
        ids = list(standing_for.get(key, ()))
        if key.startswith(prefix) and key not in elsewhere:
            ids.append(key.removeprefix(prefix))
        found[key] = ids
    return found


def grouped_by(
    conn: Connection, stream: str, connection: str, dimension: str
) -> dict[str, list[str]]:
    """Key of a group -> native ids of the live records whose own field names that group."""
    table = RECORD_TABLES[stream]
    is_own = dimension not in table.c
    column = table.c.extra if is_own else table.c[dimension]
    query = select(table.c.ref, column.label("named")).where(
        *_live(stream, connection), column.is_not(None)
    )
    rows = [(row.ref, row.named) for row in conn.execute(query)]
    if is_own:
        rows = list(_own_values(rows, dimension))
    canonical = _canonicals(conn, _LINKS.get(dimension))
    found: dict[str, list[str]] = {}
    for ref, named in rows:
        key = canonical.get(named, named)
        if key is not None:
            found.setdefault(str(key), []).append(ref.removeprefix(f"{connection}:"))
    return found


def everybody(conn: Connection, stream: str, connection: str) -> list[str]:
    """Native ids of all live records."""
    table = RECORD_TABLES[stream]
    query = select(table.c.ref).where(*_live(stream, connection)).order_by(table.c.ref)
    return [key.removeprefix(f"{connection}:") for key in conn.execute(query).scalars()]


def keys_of_values(
    conn: Connection, dimension: str, connection: str, name: str | None, values: Collection[str]
) -> dict[str, list[Key]]:
    """What a record of another object means by the value of its matching field.

    Args:
        conn: in any transaction.
        dimension: what is named.
        connection: whose records are named.
        name: the mapped field that holds the same value; None: the native id.
        values: what stands in the matching field.

    Returns:
        Value -> canonical keys; more than one where the value names several records.
    """
    stream = _LINKS.get(dimension)
    if stream is None:
        return {value: [value] for value in values}
    canonical = _canonicals(conn, stream)
    if name is None:
        refs = {value: [_as_key(value, connection)] for value in values}
    else:
        refs = _refs_by(conn, stream, connection, name, set(values))
    return {
        value: sorted({key for ref in named if (key := canonical.get(ref, ref)) is not None})
        for value, named in refs.items()
    }


def live_counts(conn: Connection) -> dict[str, int]:
    """How many live records of each stream are stored, where there are any."""
    found: dict[str, int] = {}
    for stream, table in RECORD_TABLES.items():
        query = select(func.count()).where(~table.c.deleted, table.c.merged_into.is_(None))
        number = conn.execute(query.select_from(table)).scalar_one()
        if number:
            found[stream] = number
    return found


def parents(conn: Connection, stream: str, connection: str) -> dict[str, str]:
    """Native id -> the record whose row a write to it locks too: its account, its parent."""
    table = RECORD_TABLES[stream]
    name = next((name for name in ("account", "parent", "manager") if name in table.c), None)
    if name is None:
        return {}
    query = select(table.c.ref, table.c[name].label("parent")).where(
        of_connection(table.c.ref, connection), table.c[name].is_not(None)
    )
    prefix = f"{connection}:"
    return {row.ref.removeprefix(prefix): row.parent for row in conn.execute(query)}


def _as_key(value: str, connection: str) -> Key:
    return value if value.startswith(f"{connection}:") else f"{connection}:{value}"


def _refs_by(
    conn: Connection, stream: str, connection: str, name: str, values: set[str]
) -> dict[str, list[Key]]:
    table = RECORD_TABLES[stream]
    is_own = name not in table.c
    column = table.c.extra if is_own else table.c[name]
    query = select(table.c.ref, column.label("named")).where(
        *_live(stream, connection), column.is_not(None)
    )
    rows = [(row.ref, row.named) for row in conn.execute(query)]
    if is_own:
        rows = list(_own_values(rows, name))
    found: dict[str, list[Key]] = {}
    for ref, named in rows:
        if str(named) in values:
            found.setdefault(str(named), []).append(ref)
    return found


def _own_values(rows: Iterable[tuple[Key, str]], name: str) -> Iterator[tuple[Key, str]]:
    for ref, extra in rows:
        value = decode_fields(extra).get(name)
        if value is not None:
            yield ref, str(value)


def _canonicals(conn: Connection, stream: str | None) -> dict[Key, Key | None]:
    if stream is None:
        return {}
    query = select(IDENTITY.c.ref, IDENTITY.c.canonical).where(IDENTITY.c.stream == stream)
    return {row.ref: row.canonical for row in conn.execute(query)}


def _live(stream: str, connection: str) -> tuple[ColumnElement[bool], ...]:
    table = RECORD_TABLES[stream]
    return (
        of_connection(table.c.ref, connection),
        ~table.c.deleted,
        table.c.merged_into.is_(None),
    )
