"""Values waiting to be written into a CRM, and what became of them.

A row goes pending → sending → sent or failed. ``sending`` is committed before the call, so after
a crash it is known which values may or may not have arrived: they are read back first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from store.canonical import FieldUpdate, Scalar
from store.engine import database_now
from store.scalars import MOST_DIGITS, decode, encode
from store.tables import OUTBOX, PUSHED_VALUES
from store.upsert import upsert

__all__ = [
    "FAILED",
    "PENDING",
    "SENDING",
    "SENT",
    "VOID",
    "OutboxRow",
    "back_to_pending",
    "counts",
    "decode",
    "encode",
    "enqueue",
    "every",
    "last_pushed",
    "mark_sending",
    "pending_records",
    "purge",
    "sending",
    "settle",
    "void_pending",
]

PENDING: Final = "pending"
SENDING: Final = "sending"
SENT: Final = "sent"
FAILED: Final = "failed"
VOID: Final = "void"

_AT_ONCE: Final = 500
_MOVES_LOOKED_AT: Final = 5_000
_FEWEST_MOVES: Final = 20

_PLACE: Final = ("connection", "object", "record_id", "field")
_PLACE_NAMES: Final = tuple(f"place_{name}" for name in _PLACE)
_DROP_PENDING: Final = delete(OUTBOX).where(
    OUTBOX.c.state == PENDING,
    *(OUTBOX.c[name] == bindparam(f"place_{name}") for name in _PLACE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One value for one field of one record; `value` and `old` are JSON text (`decode`)."""

    id: int
    writeback: str
    connection: str
    object: str
    record_id: str
    field: str
    value: str
    old: str
    as_of: datetime
    state: str
    run: str
    attempts: int
    sent_at: datetime | None
    code: str | None
    error: str | None

    def to_update(self) -> FieldUpdate:
        """What a connector is asked to write."""
        return FieldUpdate(
            connection=self.connection,
            object=self.object,
            record_id=self.record_id,
            field=self.field,
            value=decode(self.value),
            old=decode(self.old),
        )


# ---------------------------------------------------------------- the way of a row


def enqueue(
    conn: Connection,
    writeback: str,
    run: str,
    updates: Sequence[FieldUpdate],
    as_of: datetime,
    *,
    is_exact: bool = False,
) -> int:
    """Queue values; a pending one for the same field is replaced, one being sent is not.

    Args:
        conn: a writing connection.
        writeback: the write-back they belong to.
        run: the run that wants them written.
        updates: the values, already rounded.
        as_of: the instant the values are true for.
        is_exact: keep the digits of numbers as they are: what is put back stood there so.

    Returns:
        How many were queued: all but those whose field is being sent right now.
    """
    latest = {_place(wanted): wanted for wanted in updates}
    busy = {_place(row) for row in _rows(conn, OUTBOX.c.state == SENDING)}
    queued = [wanted for place, wanted in latest.items() if place not in busy]
    if not queued:
        return 0
    # Whichever write-back queued it: a field has one next value.
    conn.execute(_DROP_PENDING, [dict(zip(_PLACE_NAMES, _place(w), strict=True)) for w in queued])
    conn.execute(
        insert(OUTBOX),
        [
            {
                "writeback": writeback,
                "connection": wanted.connection,
                "object": wanted.object,
                "record_id": wanted.record_id,
                "field": wanted.field,
                "value": encode_exactly(wanted.value) if is_exact else encode(wanted.value),
                "old": encode_exactly(wanted.old),
                "as_of": as_of,
                "state": PENDING,
                "run": run,
                "attempts": 0,
            }
            for wanted in queued
        ],
    )
    return len(queued)


def pending_records(conn: Connection, writeback: str, limit: int) -> list[OutboxRow]:
    """All pending rows of the first so many records, by record and field."""
    waiting = (OUTBOX.c.writeback == writeback, OUTBOX.c.state == PENDING)
    records = (
        select(OUTBOX.c.record_id).where(*waiting).distinct().order_by(OUTBOX.c.record_id)
    ).limit(limit)
    return _rows(conn, *waiting, OUTBOX.c.record_id.in_(records))


def mark_sending(conn: Connection, ids: Sequence[int]) -> None:
    """Declare the intent to write these rows; commit this before the call."""
    for some in _portions(ids):
        conn.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(some), OUTBOX.c.state == PENDING)
            .values(state=SENDING, attempts=OUTBOX.c.attempts + 1)
        )


def sending(conn: Connection, writeback: str) -> list[OutboxRow]:
    """Rows whose call was about to be made: after a crash, read them back before anything."""
    return _rows(conn, OUTBOX.c.writeback == writeback, OUTBOX.c.state == SENDING)


def settle(
    conn: Connection,
    ids: Sequence[int],
    state: str,
    code: str | None = None,
    error: str | None = None,
) -> None:
    """Give rows their final state; what was sent is remembered as our last value there."""
    now = database_now(conn)
    for some in _portions(ids):
        if state == SENT:
            _remember_pushed(conn, some, now)
        conn.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(some))
            .values(
                state=state,
                code=code,
                error=error,
                sent_at=now if state == SENT else OUTBOX.c.sent_at,
            )
        )


def back_to_pending(conn: Connection, ids: Sequence[int]) -> None:
    """Queue rows again whose values did not arrive."""
    for some in _portions(ids):
        conn.execute(
            update(OUTBOX)
            .where(OUTBOX.c.id.in_(some), OUTBOX.c.state == SENDING)
            .values(state=PENDING)
        )


def void_pending(conn: Connection, writeback: str) -> int:
    """Drop what waits, because a newer plan replaces it; returns how many rows."""
    waiting = update(OUTBOX).where(OUTBOX.c.writeback == writeback, OUTBOX.c.state == PENDING)
    return conn.execute(waiting.values(state=VOID)).rowcount


def encode_exactly(value: Scalar) -> str:
    """As `encode`, but with the zeros that the CRM showed: undoing restores the very text."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return encode(value)
    plain = format(value, "f")
    return plain if len(plain) <= MOST_DIGITS else encode(value)


# ---------------------------------------------------------------- looking


def counts(conn: Connection) -> dict[str, int]:
    """How many rows are in each state; the open states are always named.

    A refused value counts once, and until a later run has brought one into its field.
    """
    query = select(OUTBOX.c.state, func.count().label("rows")).group_by(OUTBOX.c.state)
    found = {row.state: row.rows for row in conn.execute(query)}
    found |= {FAILED: _still_refused(conn)} if FAILED in found else {}
    return {PENDING: 0, SENDING: 0, FAILED: 0} | found


def _still_refused(conn: Connection) -> int:
    place = [OUTBOX.c[name] for name in ("connection", "object", "record_id", "field")]
    is_overtaken = and_(
        *(PUSHED_VALUES.c[column.name] == column for column in place),
        PUSHED_VALUES.c.run > OUTBOX.c.run,
    )
    refused = (
        select(*place)
        .select_from(OUTBOX.outerjoin(PUSHED_VALUES, is_overtaken))
        .where(OUTBOX.c.state == FAILED, PUSHED_VALUES.c.run.is_(None))
        .distinct()
        .subquery()
    )
    number: int = conn.execute(select(func.count()).select_from(refused)).scalar_one()
    return number


def every(conn: Connection) -> list[OutboxRow]:
    """All rows that are kept, by record, field and age."""
    return _rows(conn)


def of_run(conn: Connection, run: str) -> list[OutboxRow]:
    """The rows that a run queued."""
    return _rows(conn, OUTBOX.c.run == run)


def sent_by(conn: Connection, run: str) -> list[OutboxRow]:
    """What a run has written, by record and field."""
    return _rows(conn, OUTBOX.c.run == run, OUTBOX.c.state == SENT)


def refused_values(conn: Connection, writeback: str) -> dict[str, dict[str, str]]:
    """Record id -> field -> the value (JSON text) that the CRM refused last for good."""
    found: dict[str, dict[str, str]] = {}
    for row in _rows(conn, OUTBOX.c.writeback == writeback, OUTBOX.c.state == FAILED):
        found.setdefault(row.record_id, {})[row.field] = row.value
    return found


def usual_moves(conn: Connection, writeback: str, fields: Collection[str]) -> dict[str, Decimal]:
    """Field -> by how much its values moved in earlier passes, in the middle.

    Args:
        conn: a connection in a transaction.
        writeback: the write-back's name.
        fields: its fields; one with fewer than twenty moves is left out.
    """
    query = (
        select(OUTBOX.c.field, OUTBOX.c.value, OUTBOX.c.old)
        .where(
            OUTBOX.c.writeback == writeback,
            OUTBOX.c.state == SENT,
            OUTBOX.c.field.in_(list(fields)),
            OUTBOX.c.old != encode(None),
        )
        .order_by(OUTBOX.c.id.desc())
        .limit(_MOVES_LOOKED_AT)
    )
    moves: dict[str, list[Decimal]] = {}
    for row in conn.execute(query):
        value, old = decode(row.value), decode(row.old)
        if _is_number(value) and _is_number(old):
            moves.setdefault(row.field, []).append(abs(Decimal(str(value)) - Decimal(str(old))))
    return {field: median(sizes) for field, sizes in moves.items() if len(sizes) >= _FEWEST_MOVES}


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def purge(conn: Connection, older_than: timedelta) -> int:
    """Drop rows settled longer ago than this; open rows stay. Returns how many went."""
    limit = database_now(conn) - older_than
    age = case((OUTBOX.c.sent_at.is_not(None), OUTBOX.c.sent_at), else_=OUTBOX.c.as_of)
    settled = OUTBOX.c.state.not_in([PENDING, SENDING])
    return conn.execute(delete(OUTBOX).where(settled, age < limit)).rowcount


def replaced_within(
    conn: Connection, writeback: str, fields: Collection[str], span: timedelta
) -> frozenset[str]:
    """Records of which a value was replaced or blanked by a write-back within the last `span`.

    Args:
        conn: a connection in a transaction.
        writeback: the write-back's name.
        fields: its fields; a first value in an empty field replaces nothing.
        span: how far to look back; not beyond what `purge` keeps.
    """
    query = (
        select(OUTBOX.c.record_id)
        .where(
            OUTBOX.c.writeback == writeback,
            OUTBOX.c.state == SENT,
            OUTBOX.c.field.in_(list(fields)),
            OUTBOX.c.old != encode(None),
            OUTBOX.c.sent_at >= database_now(conn) - span,
        )
        .distinct()
    )
    return frozenset(conn.execute(query).scalars())


def last_pushed(
    conn: Connection,
    connection: str,
    object: str,  # noqa: A002 - the CRM's word
) -> Mapping[tuple[str, str], str]:
    """Our last value in each field of an object: (record id, field) → JSON text."""
    query = select(PUSHED_VALUES.c.record_id, PUSHED_VALUES.c.field, PUSHED_VALUES.c.value).where(
        PUSHED_VALUES.c.connection == connection, PUSHED_VALUES.c.object == object
    )
    return {(row.record_id, row.field): row.value for row in conn.execute(query)}


# ---------------------------------------------------------------- inside


def _rows(conn: Connection, *conditions: ColumnElement[bool]) -> list[OutboxRow]:
    order = (OUTBOX.c[name] for name in ("record_id", "object", "field", "id"))
    query = select(OUTBOX).where(*conditions).order_by(*order)
    return [OutboxRow(**row) for row in conn.execute(query).mappings()]


def _place(wanted: FieldUpdate | OutboxRow) -> tuple[str, str, str, str]:
    return (wanted.connection, wanted.object, wanted.record_id, wanted.field)


def _remember_pushed(conn: Connection, ids: Sequence[int], now: datetime) -> None:
    upsert(
        conn,
        PUSHED_VALUES,
        [
            {
                "connection": row.connection,
                "object": row.object,
                "record_id": row.record_id,
                "field": row.field,
                "value": row.value,
                # What stood there before our first write; later writes leave it.
                "before": row.old,
                "pushed_at": now,
                "run": row.run,
            }
            for row in _rows(conn, OUTBOX.c.id.in_(ids))
        ],
        replacing=("value", "pushed_at", "run"),
    )


def _portions(ids: Iterable[int]) -> Iterator[Sequence[int]]:
    all_ids = sorted(ids)
    for start in range(0, len(all_ids), _AT_ONCE):
        yield all_ids[start : start + _AT_ONCE]
