"""The quota ledger: how many API calls each connection made in the last day, whoever made them.

Counted by minute of the database's clock, which all hosts share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from store.engine import database_now
from store.tables import CALLS, CONNECTIONS
from store.upsert import upsert

WINDOW_MINUTES: Final = 24 * 60
"""Both vendors count by the day; a rolling one is the stricter reading."""

_KEPT_MINUTES: Final = WINDOW_MINUTES + 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The calls of one connection within the last 24 hours."""

    connection: str
    calls: Mapping[str, int]
    """Purpose (read, write) -> calls."""
    org_calls: int | None
    """What the CRM last said of the whole org, every other tool included."""
    org_limit: int | None
    org_calls_at: datetime | None

    @property
    def total(self) -> int:
        """Calls for any purpose."""
        return sum(self.calls.values())


def add(conn: Connection, connection: str, calls: Mapping[str, int]) -> None:
    """Count calls made just now.

    Args:
        conn: in `store.engine.operating`.
        connection: whose calls.
        calls: purpose -> how many.
    """
    minute = _minute(conn)
    rows = [
        {"connection": connection, "purpose": purpose, "minute": minute, "calls": number}
        for purpose, number in calls.items()
        if number
    ]
    upsert(conn, CALLS, rows, replacing=(), adding=("calls",))
    conn.execute(
        delete(CALLS).where(
            CALLS.c.connection == connection, CALLS.c.minute < minute - _KEPT_MINUTES
        )
    )


def used(conn: Connection, connection: str) -> int:
    """Calls of a connection within the last 24 hours."""
    query = select(func.coalesce(func.sum(CALLS.c.calls), 0)).where(
        CALLS.c.connection == connection, CALLS.c.minute > _minute(conn) - WINDOW_MINUTES
    )
    return int(conn.execute(query).scalar_one())


def free_at(conn: Connection, connection: str, number: int) -> datetime | None:
    """When at least `number` of the calls counted now have left the window; None: never so many."""
    query = (
        select(CALLS.c.minute, func.sum(CALLS.c.calls))
        .where(CALLS.c.connection == connection, CALLS.c.minute > _minute(conn) - WINDOW_MINUTES)
        .group_by(CALLS.c.minute)
        .order_by(CALLS.c.minute)
    )
    gone = 0
    for minute, calls in conn.execute(query):
        gone += int(calls)
        if gone >= number:
            return datetime.fromtimestamp((minute + WINDOW_MINUTES) * 60, UTC)
    return None


def note_org(conn: Connection, connection: str, org_calls: int, org_limit: int) -> None:
    """Keep what the CRM says of the whole org's calls."""
    upsert(conn, CONNECTIONS, [{"name": connection}], replacing=())
    conn.execute(
        update(CONNECTIONS)
        .where(CONNECTIONS.c.name == connection)
        .values(org_calls=org_calls, org_limit=org_limit, org_calls_at=database_now(conn))
    )


def usage(conn: Connection, connection: str) -> Usage:
    """A connection's page of the ledger."""
    query = (
        select(CALLS.c.purpose, func.sum(CALLS.c.calls))
        .where(CALLS.c.connection == connection, CALLS.c.minute > _minute(conn) - WINDOW_MINUTES)
        .group_by(CALLS.c.purpose)
        .order_by(CALLS.c.purpose)
    )
    calls = {purpose: int(number) for purpose, number in conn.execute(query)}
    said = select(CONNECTIONS.c.org_calls, CONNECTIONS.c.org_limit, CONNECTIONS.c.org_calls_at)
    row = conn.execute(said.where(CONNECTIONS.c.name == connection)).first()
    return Usage(
        connection=connection,
        calls=calls,
        org_calls=None if row is None else row.org_calls,
        org_limit=None if row is None else row.org_limit,
        org_calls_at=None if row is None else row.org_calls_at,
    )


def _minute(conn: Connection) -> int:
    return int(database_now(conn).timestamp()) // 60
