"""Who may work on a stream or a write-back now.

A lease is a row with a token that only ever rises. Whoever commits data under a lease calls
`ensure` in the same transaction: a worker that was frozen past its lease then cannot commit, for
the token moved on or the time is over, and nobody can take the lease between `ensure` and the
commit. Time is the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from store.engine import database_now, now_after
from store.errors import LeaseLost
from store.tables import LEASES
from store.upsert import upsert

# Made once: every transaction asks one of them.
_ROW: Final = select(LEASES.c.token, LEASES.c.expires_at).where(LEASES.c.name == bindparam("lease"))
_LOCKED: Final = _ROW.with_for_update()
_FREE: Final = _ROW.with_for_update(skip_locked=True)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on `name`, proven by its token."""

    name: str
    token: int
    holder: str


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as everybody sees it."""

    name: str
    token: int
    holder: str | None
    """None: nobody holds it."""
    expires_at: datetime | None
    is_held: bool
    """False once it has expired, whoever held it."""


def acquire(conn: Connection, name: str, holder: str, ttl: timedelta) -> Lease | None:
    """Take a lease that nobody holds, or whose holder let it expire; never waits for it.

    Args:
        conn: a connection inside `store.engine.operating`.
        name: what is worked on, such as ``pull:salesforce:deals``.
        holder: who, for people: host, process.
        ttl: how long it lasts without `renew`.

    Returns:
        The lease, or None while somebody else has it.
    """
    upsert(conn, LEASES, [{"name": name, "token": 0}], replacing=())
    # A row that is locked belongs to a transaction that commits under the lease right now.
    row = conn.execute(_FREE, {"lease": name}).first()
    if row is None or (row.expires_at is not None and row.expires_at > database_now(conn)):
        return None
    token: int = row.token + 1
    conn.execute(
        update(LEASES)
        .where(LEASES.c.name == name)
        .values(token=token, holder=holder, expires_at=now_after(conn, ttl.total_seconds()))
    )
    return Lease(name, token, holder)


def renew(conn: Connection, lease: Lease, ttl: timedelta) -> None:
    """Let a lease last for another `ttl` from now.

    Raises:
        LeaseLost: it expired or was taken over; it cannot be revived.
    """
    ensure(conn, lease)
    conn.execute(
        update(LEASES)
        .where(LEASES.c.name == lease.name)
        .values(expires_at=now_after(conn, ttl.total_seconds()))
    )


def extend(conn: Connection, lease: Lease, ttl: timedelta) -> None:
    """Let a lease last for another `ttl`, at the end of a transaction that has called `ensure`.

    However long the transaction took: its lock on the row kept everybody else away.
    """
    conn.execute(
        update(LEASES)
        .where(LEASES.c.name == lease.name, LEASES.c.token == lease.token)
        .values(expires_at=now_after(conn, ttl.total_seconds()))
    )


def ensure(conn: Connection, lease: Lease) -> None:
    """Make the running transaction valid only while the lease is held.

    The lease's row stays locked until the transaction ends, so it cannot change hands before.

    Raises:
        LeaseLost: it expired or was taken over; roll back.
    """
    row = conn.execute(_LOCKED, {"lease": lease.name}).first()
    if (
        row is None
        or row.token != lease.token
        or row.expires_at is None
        or row.expires_at <= database_now(conn)
    ):
        raise LeaseLost(lease.name)


def is_held(conn: Connection, lease: Lease) -> bool:
    """Whether a lease is still ours, without keeping it so; for acts that no transaction holds."""
    row = conn.execute(_ROW, {"lease": lease.name}).first()
    return (
        row is not None
        and row.token == lease.token
        and row.expires_at is not None
        and row.expires_at > database_now(conn)
    )


def release(conn: Connection, lease: Lease) -> None:
    """Give a lease back; one that was lost meanwhile is left to its new holder."""
    conn.execute(
        update(LEASES)
        .where(LEASES.c.name == lease.name, LEASES.c.token == lease.token)
        .values(holder=None, expires_at=None)
    )


def every(conn: Connection) -> list[LeaseState]:
    """All leases ever taken, by name."""
    now = database_now(conn)
    return [
        LeaseState(
            name=row.name,
            token=row.token,
            holder=row.holder,
            expires_at=row.expires_at,
            is_held=row.expires_at is not None and row.expires_at > now,
        )
        for row in conn.execute(select(LEASES).order_by(LEASES.c.name))
    ]
