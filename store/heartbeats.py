"""Which processes are alive: each says so now and then, and a silent one is noticed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, select

from store.engine import database_now
from store.tables import HEARTBEATS
from store.upsert import upsert

FORGOTTEN_AFTER: Final = timedelta(days=1)
"""A process silent for so long is swept away when another one starts in its role."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A process and when it was last alive."""

    role: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    silent_seconds: float
    """By the database's clock, so that hosts whose clocks differ agree."""


_begun: set[tuple[str, int]] = set()
"""(role, process id) that have said something since this process started."""


def beat(conn: Connection, role: str) -> None:
    """Say that this process is alive in a role."""
    now = database_now(conn)
    process = (role, os.getpid())
    # Process ids come again (in a container always): the first beat begins a new life.
    is_first = process not in _begun
    _begun.add(process)
    upsert(
        conn,
        HEARTBEATS,
        [{**_self(role), "started_at": now, "seen_at": now}],
        replacing=("started_at", "seen_at") if is_first else ("seen_at",),
    )
    if is_first:
        long_dead = (HEARTBEATS.c.role == role, HEARTBEATS.c.seen_at < now - FORGOTTEN_AFTER)
        conn.execute(delete(HEARTBEATS).where(*long_dead))


def every(conn: Connection) -> list[Heartbeat]:
    """All processes that did not say goodbye, by role, host and process."""
    now = database_now(conn)
    order = (HEARTBEATS.c.role, HEARTBEATS.c.host, HEARTBEATS.c.pid)
    return [
        Heartbeat(
            role=row.role,
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            seen_at=row.seen_at,
            silent_seconds=(now - row.seen_at).total_seconds(),
        )
        for row in conn.execute(select(HEARTBEATS).order_by(*order))
    ]


def forget(conn: Connection, role: str) -> None:
    """Say goodbye: this process ends on purpose."""
    _begun.discard((role, os.getpid()))
    conditions = (HEARTBEATS.c[name] == value for name, value in _self(role).items())
    conn.execute(delete(HEARTBEATS).where(*conditions))


def _self(role: str) -> dict[str, str | int]:
    return {"role": role, "host": socket.gethostname(), "pid": os.getpid()}
