"""What could not be mapped or written and is not retried: one row for each, until it is cured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)

from store.canonical import RecordRef, RejectedRecord
from store.conversion import cleaned_text
from store.engine import database_now
from store.tables import DEAD_LETTERS, SEEN_REFS
from store.upsert import upsert

PULL: Final = "pull"
PUSH: Final = "push"

LONGEST_RAW: Final = 2_000
"""Characters kept of an offending value."""

_PLACE: Final = ("direction", "connection", "stream", "ref", "field")
_NEWEST: Final = ("reason", "code", "raw", "last_seen")
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that was not stored, or a value that was not written, and why."""

    id: int
    ref: str
    connection: str
    stream: str
    direction: str
    """``pull`` or ``push``."""
    field: str | None
    reason: str
    code: str
    raw: str | None
    attempts: int
    first_seen: datetime
    last_seen: datetime


def record_rejected(conn: Connection, rejected: Sequence[RejectedRecord]) -> None:
    """Note records that could not be mapped; one noted before counts another attempt.

    A record stands here once, with its latest reason: another field at fault than the last
    time replaces it.
    """
    latest = {record.ref: record for record in rejected}
    now = database_now(conn)
    rows = [_row(PULL, record, now) for record in latest.values()]
    if not rows:
        return
    conn.execute(
        _RENAME_FIELD,
        [
            {
                "of_connection": row["connection"],
                "of_stream": row["stream"],
                "of_ref": row["ref"],
                "new_field": row["field"],
            }
            for row in rows
        ],
    )
    upsert(
        conn,
        DEAD_LETTERS,
        rows,
        replacing=_NEWEST,
        adding=("attempts",),
        on=_PLACE,
    )


def clear_mapped(conn: Connection, connection: str, stream: str, refs: Iterable[RecordRef]) -> int:
    """Drop the letters of records that can be mapped now; returns how many left."""
    if not _has_any(conn, connection, stream):
        return 0
    keys = sorted({ref.key for ref in refs})
    return sum(
        conn.execute(
            delete(DEAD_LETTERS).where(
                _of_stream(PULL, connection, stream),
                DEAD_LETTERS.c.ref.in_(keys[start : start + _AT_ONCE]),
            )
        ).rowcount
        for start in range(0, len(keys), _AT_ONCE)
    )


def clear_unseen(conn: Connection, connection: str, stream: str) -> int:
    """Drop the letters of records that a full pull did not meet; returns how many left."""
    is_seen = exists().where(
        SEEN_REFS.c.connection == connection,
        SEEN_REFS.c.stream == stream,
        SEEN_REFS.c.ref == DEAD_LETTERS.c.ref,
    )
    return conn.execute(
        delete(DEAD_LETTERS).where(_of_stream(PULL, connection, stream), ~is_seen)
    ).rowcount


def park(  # noqa: PLR0917 - in the order of a sentence, as `RejectedRecord`
    conn: Connection,
    ref: RecordRef,
    field: str | None,
    reason: str,
    code: str,
    raw: str,
    *,
    attempts: int = 1,
) -> None:
    """Note a value that the CRM refuses for good; once for each record and field.

    Args:
        conn: a writing connection.
        ref: the record.
        field: the field, where it is known to be one.
        reason: in the CRM's words.
        code: a stable short name of the fault.
        raw: the value, as people write it.
        attempts: how often it was sent just now.
    """
    refused = RejectedRecord(ref, field, reason, code, raw)
    upsert(
        conn,
        DEAD_LETTERS,
        [_row(PUSH, refused, database_now(conn)) | {"attempts": attempts}],
        replacing=_NEWEST,
        adding=("attempts",),
        on=_PLACE,
    )


def unpark(conn: Connection, ref: RecordRef, field: str | None = None) -> int:
    """Drop the letter of a value that was written after all; without a field, of the record."""
    parked = delete(DEAD_LETTERS).where(
        _of_stream(PUSH, ref.connection, ref.stream), DEAD_LETTERS.c.ref == ref.key
    )
    if field is not None:
        parked = parked.where(DEAD_LETTERS.c.field == field)
    return conn.execute(parked).rowcount


def every(conn: Connection) -> list[DeadLetter]:
    """All dead letters, by record."""
    order = (DEAD_LETTERS.c[name] for name in ("ref", "stream", "direction", "field"))
    return [
        DeadLetter(
            id=row.id,
            ref=row.ref,
            connection=row.connection,
            stream=row.stream,
            direction=row.direction,
            field=row.field or None,
            reason=row.reason,
            code=row.code,
            raw=row.raw,
            attempts=row.attempts,
            first_seen=row.first_seen,
            last_seen=row.last_seen,
        )
        for row in conn.execute(select(DEAD_LETTERS).order_by(*order))
    ]


def counts(conn: Connection) -> dict[tuple[str, str, str], int]:
    """How many letters there are for each (direction, connection, stream)."""
    place = (DEAD_LETTERS.c.direction, DEAD_LETTERS.c.connection, DEAD_LETTERS.c.stream)
    query = select(*place, func.count().label("letters")).group_by(*place)
    return {(row.direction, row.connection, row.stream): row.letters for row in conn.execute(query)}


def refs(conn: Connection, connection: str, stream: str) -> set[str]:
    """Keys of a stream's records that could not be mapped."""
    query = select(DEAD_LETTERS.c.ref).where(_of_stream(PULL, connection, stream))
    return set(conn.execute(query).scalars())


def drop(conn: Connection, ids: Sequence[int]) -> int:
    """Forget letters by id; returns how many there were."""
    return conn.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.id.in_(ids))).rowcount


def _row(direction: str, rejected: RejectedRecord, now: datetime) -> dict[str, object]:
    return {
        "direction": direction,
        "connection": rejected.ref.connection,
        "stream": rejected.ref.stream,
        "ref": cleaned_text(rejected.ref.key),
        "field": rejected.field or "",
        "reason": cleaned_text(rejected.reason),
        "code": rejected.code,
        "raw": cleaned_text(rejected.raw[:LONGEST_RAW]),
        "attempts": 1,
        "first_seen": now,
        "last_seen": now,
    }


# A record's letter names the field that is at fault now.
_RENAME_FIELD: Final = (
    update(DEAD_LETTERS)
    .where(
        DEAD_LETTERS.c.direction == PULL,
        DEAD_LETTERS.c.connection == bindparam("of_connection"),
        DEAD_LETTERS.c.stream == bindparam("of_stream"),
        DEAD_LETTERS.c.ref == bindparam("of_ref"),
        DEAD_LETTERS.c.field != bindparam("new_field"),
    )
    .values(field=bindparam("new_field"))
)


def _of_stream(direction: str, connection: str, stream: str) -> ColumnElement[bool]:
    return (
        (DEAD_LETTERS.c.direction == direction)
        & (DEAD_LETTERS.c.connection == connection)
        & (DEAD_LETTERS.c.stream == stream)
    )


def _has_any(conn: Connection, connection: str, stream: str) -> bool:
    query = select(DEAD_LETTERS.c.id).where(_of_stream(PULL, connection, stream)).limit(1)
    return conn.execute(query).first() is not None
