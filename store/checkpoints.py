"""Where each stream stands, and what is known of each connection.

A checkpoint is saved in the transaction of the data it covers, never beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, select, update

from store.conversion import cleaned_text
from store.engine import database_now
from store.errors import OrgPinned
from store.tables import CHECKPOINTS, CONNECTIONS
from store.upsert import upsert

RUNNING: Final = "running"
WAITING: Final = "waiting"
"""The state of a stream that was never pulled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a stream of a connection is pulled, and how the last attempt went."""

    connection: str
    stream: str
    cursor: str | None = None
    """Where the next pull goes on; opaque outside the connector."""
    complete_until: datetime | None = None
    """The stream is complete up to here; None before the first full pull ended."""
    is_full_pull_running: bool = False
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    last_full: datetime | None = None
    state: str = WAITING
    """One of ok, running, late, paused, quarantined, waiting, failed."""
    error: str | None = None
    strikes: int = 0
    """Attempts in a row whose process died before it had committed a page; the last one, which
    may still run, is not among them."""
    definition: str | None = None
    """A digest of what the stored rows were mapped with: fields, filters, zone."""
    unreadable: str | None = None
    """Mapped fields that the CRM did not show when the last pull ended, comma between."""
    volatile: str | None = None
    """JSON: mapped fields that change without their record being reported -> their sources."""
    rung_at: datetime | None = None
    """When the CRM last said that something changed."""


MOST_STRIKES: Final = 3
QUARANTINE: Final = timedelta(hours=1)


def quarantined_until(checkpoint: Checkpoint, *, is_running: bool) -> datetime | None:
    """Until when a stream that killed its process three times is left alone; None: it is not.

    Args:
        checkpoint: of the stream.
        is_running: whether somebody is pulling it right now.
    """
    has_died = checkpoint.state == RUNNING and not is_running
    if checkpoint.last_attempt is None or checkpoint.strikes + has_died < MOST_STRIKES:
        return None
    return checkpoint.last_attempt + QUARANTINE


def load(conn: Connection, connection: str, stream: str) -> Checkpoint:
    """The stream's checkpoint; that of a stream never pulled where there is none."""
    query = select(CHECKPOINTS).where(_of_stream(connection, stream))
    row = conn.execute(query).mappings().first()
    if row is None:
        return Checkpoint(connection=connection, stream=stream)
    return _checkpoint(dict(row))


def save(conn: Connection, checkpoint: Checkpoint) -> None:
    """Store a checkpoint, replacing the stream's former one."""
    upsert(conn, CHECKPOINTS, [asdict(checkpoint)], replacing=_CHANGEABLE)


def ring(conn: Connection, connection: str, stream: str) -> None:
    """Note that a stream has changed, by the CRM's own word; it is pulled before its time."""
    row = {
        **asdict(Checkpoint(connection=connection, stream=stream)),
        "rung_at": database_now(conn),
    }
    upsert(conn, CHECKPOINTS, [row], replacing=("rung_at",))


def every(conn: Connection) -> list[Checkpoint]:
    """All checkpoints, by connection and stream."""
    query = select(CHECKPOINTS).order_by(CHECKPOINTS.c.connection, CHECKPOINTS.c.stream)
    return [_checkpoint(dict(row)) for row in conn.execute(query).mappings()]


def reset(conn: Connection, connection: str, stream: str) -> None:
    """Forget where a stream stands: its next pull reads everything."""
    conn.execute(delete(CHECKPOINTS).where(_of_stream(connection, stream)))


_CHANGEABLE: Final = tuple(
    field.name
    for field in fields(Checkpoint)
    # Whoever pulls must not silence a bell that rings meanwhile.
    if field.name not in {"connection", "stream", "rung_at"}
)


def _of_stream(connection: str, stream: str) -> ColumnElement[bool]:
    return (CHECKPOINTS.c.connection == connection) & (CHECKPOINTS.c.stream == stream)


def _checkpoint(row: Mapping[str, object]) -> Checkpoint:
    return Checkpoint(**row)  # type: ignore[arg-type]  # the columns are the fields


# ---------------------------------------------------------------- connections


def pin_org(conn: Connection, connection: str, org_id: str) -> None:
    """Remember which org or portal a connection's data come from, at first contact.

    Raises:
        OrgPinned: it was another one before.
    """
    now = database_now(conn)
    _know(conn, connection)
    conn.execute(
        update(CONNECTIONS)
        .where(CONNECTIONS.c.name == connection, CONNECTIONS.c.org_id.is_(None))
        .values(org_id=org_id, pinned_at=now)
    )
    pinned = pinned_org(conn, connection)
    if pinned != org_id:
        raise OrgPinned(connection, str(pinned), org_id)


def pinned_org(conn: Connection, connection: str) -> str | None:
    """The org or portal that a connection's data came from so far."""
    query = select(CONNECTIONS.c.org_id).where(CONNECTIONS.c.name == connection)
    return conn.execute(query).scalar_one_or_none()


def pinned_to(conn: Connection, org_id: str) -> list[str]:
    """The connections whose data came from an org or portal, by name."""
    query = select(CONNECTIONS.c.name).where(CONNECTIONS.c.org_id == org_id)
    return list(conn.execute(query.order_by(CONNECTIONS.c.name)).scalars())


def unpin_org(conn: Connection, connection: str) -> None:
    """Let the connection's next contact decide which org it belongs to."""
    conn.execute(
        update(CONNECTIONS)
        .where(CONNECTIONS.c.name == connection)
        .values(org_id=None, pinned_at=None)
    )


def pause(
    conn: Connection, connection: str, until: datetime, reason: str, *, reading_only: bool = False
) -> None:
    """Leave a connection alone until an instant; every process obeys, `status` shows why.

    Args:
        conn: a writing connection.
        connection: which one.
        until: when to go on.
        reason: one sentence for people.
        reading_only: writing goes on, from the reserve that reading leaves.
    """
    _know(conn, connection)
    conn.execute(
        update(CONNECTIONS)
        .where(CONNECTIONS.c.name == connection)
        .values(
            paused_until=until,
            paused_reason=cleaned_text(reason),
            is_only_reading_paused=reading_only,
        )
    )


def paused(
    conn: Connection, connection: str, *, for_writing: bool = False
) -> tuple[datetime, str] | None:
    """Until when and why a connection is paused; None when it is not (any more).

    Args:
        conn: any connection.
        connection: which one.
        for_writing: whether the question is of writing: a pause of reading alone is none then.
    """
    query = select(
        CONNECTIONS.c.paused_until,
        CONNECTIONS.c.paused_reason,
        CONNECTIONS.c.is_only_reading_paused,
    ).where(CONNECTIONS.c.name == connection)
    row = conn.execute(query).first()
    if row is None or row.paused_until is None or row.paused_until <= database_now(conn):
        return None
    if for_writing and row.is_only_reading_paused:
        return None
    return row.paused_until, row.paused_reason or ""


def resume(conn: Connection, connection: str) -> None:
    """End a connection's pause."""
    conn.execute(
        update(CONNECTIONS)
        .where(CONNECTIONS.c.name == connection)
        .values(paused_until=None, paused_reason=None, is_only_reading_paused=False)
    )


def _know(conn: Connection, connection: str) -> None:
    upsert(conn, CONNECTIONS, [{"name": connection}], replacing=())
