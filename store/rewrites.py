"""Fields in which somebody else keeps replacing what we write.

One write of ours that was replaced counts once, however often it is looked at. After three of
them the field of that record is frozen: two tools that correct each other end nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, select

from store.engine import database_now
from store.tables import PUSHED_VALUES, REWRITTEN_FIELDS
from store.upsert import upsert

MOST_REWRITES: Final = 3
_MEMORY: Final = timedelta(days=30)
"""What lies further back is another story."""

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Replaced:
    """A field that holds something else than we wrote."""

    record_id: str
    field: str
    held: str
    """JSON text of what stands there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """How often others have replaced what we wrote into one field of one record."""

    connection: str
    object: str
    record_id: str
    field: str
    writeback: str
    times: int
    counted_push: datetime
    held: str
    last_seen: datetime
    frozen_at: datetime | None


def note(
    conn: Connection,
    writeback: str,
    connection: str,
    object_name: str,
    replaced: Iterable[Replaced],
) -> list[Rewritten]:
    """Count fields in which others have replaced our last write.

    Args:
        conn: in `store.engine.operating`.
        writeback: whose fields they are.
        connection: the CRM.
        object_name: the CRM's object.
        replaced: what was seen.

    Returns:
        Those that are frozen from now on.
    """
    seen = {(one.record_id, one.field): one for one in replaced}
    if not seen:
        return []
    now = database_now(conn)
    pushes = _pushed_at(conn, connection, object_name, {record for record, _ in seen})
    known = {(row.record_id, row.field): row for row in of_object(conn, connection, object_name)}
    changed: list[Rewritten] = []
    for place, one in sorted(seen.items()):
        pushed_at = pushes.get(place)
        before = known.get(place)
        if pushed_at is None or (before is not None and before.counted_push >= pushed_at):
            continue
        is_recent = before is not None and before.last_seen > now - _MEMORY
        times = before.times + 1 if before is not None and is_recent else 1
        changed.append(
            Rewritten(
                connection=connection,
                object=object_name,
                record_id=one.record_id,
                field=one.field,
                writeback=writeback,
                times=times,
                counted_push=pushed_at,
                held=one.held,
                last_seen=now,
                frozen_at=now if times >= MOST_REWRITES else None,
            )
        )
    upsert(
        conn,
        REWRITTEN_FIELDS,
        [asdict(one) for one in changed],
        replacing=("writeback", "times", "counted_push", "held", "last_seen", "frozen_at"),
    )
    return [one for one in changed if one.frozen_at is not None]


def of_object(conn: Connection, connection: str, object_name: str) -> list[Rewritten]:
    """All counted fields of an object, by record and field."""
    return [one for one in every(conn) if (one.connection, one.object) == (connection, object_name)]


def every(conn: Connection) -> list[Rewritten]:
    """All counted fields, by place."""
    query = select(REWRITTEN_FIELDS).order_by(*REWRITTEN_FIELDS.primary_key.columns)
    return [Rewritten(**row) for row in conn.execute(query).mappings()]


def frozen(conn: Connection, connection: str, object_name: str) -> frozenset[tuple[str, str]]:
    """(record id, field) that are left alone until a person says otherwise."""
    query = select(REWRITTEN_FIELDS.c.record_id, REWRITTEN_FIELDS.c.field).where(
        REWRITTEN_FIELDS.c.connection == connection,
        REWRITTEN_FIELDS.c.object == object_name,
        REWRITTEN_FIELDS.c.frozen_at.is_not(None),
    )
    return frozenset((row.record_id, row.field) for row in conn.execute(query))


def forget(
    conn: Connection, writeback: str, *, record_id: str | None = None, field: str | None = None
) -> int:
    """Begin to count anew, frozen fields included; returns how many fields that were."""
    ended = delete(REWRITTEN_FIELDS).where(REWRITTEN_FIELDS.c.writeback == writeback)
    if record_id is not None:
        ended = ended.where(REWRITTEN_FIELDS.c.record_id == record_id)
    if field is not None:
        ended = ended.where(REWRITTEN_FIELDS.c.field == field)
    return conn.execute(ended).rowcount


def _pushed_at(
    conn: Connection, connection: str, object_name: str, record_ids: set[str]
) -> dict[tuple[str, str], datetime]:
    found: dict[tuple[str, str], datetime] = {}
    ids = sorted(record_ids)
    for start in range(0, len(ids), _AT_ONCE):
        query = select(
            PUSHED_VALUES.c.record_id, PUSHED_VALUES.c.field, PUSHED_VALUES.c.pushed_at
        ).where(
            PUSHED_VALUES.c.connection == connection,
            PUSHED_VALUES.c.object == object_name,
            PUSHED_VALUES.c.record_id.in_(ids[start : start + _AT_ONCE]),
        )
        found.update({(row.record_id, row.field): row.pushed_at for row in conn.execute(query)})
    return found
