"""Which write-backs a person has agreed to, as they were defined then."""

from __future__ import annotations

from sqlalchemy import Connection, select

from store.engine import database_now
from store.tables import APPROVALS
from store.upsert import upsert


def is_approved(conn: Connection, writeback: str, fingerprint: str) -> bool:
    """Whether this very definition of the write-back was approved."""
    query = select(APPROVALS.c.fingerprint).where(APPROVALS.c.writeback == writeback)
    return conn.execute(query).scalar_one_or_none() == fingerprint


def was_ever_approved(conn: Connection, writeback: str) -> bool:
    """Whether a person has agreed to any definition of the write-back."""
    query = select(APPROVALS.c.fingerprint).where(APPROVALS.c.writeback == writeback)
    return conn.execute(query).scalar_one_or_none() is not None


def approve(conn: Connection, writeback: str, fingerprint: str) -> None:
    """Remember a person's yes to this definition; a former one is void."""
    upsert(
        conn,
        APPROVALS,
        [
            {
                "writeback": writeback,
                "fingerprint": fingerprint,
                "approved_at": database_now(conn),
            }
        ],
        replacing=("fingerprint", "approved_at"),
    )
