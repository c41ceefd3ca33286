"""The access token that all processes of a connection share, as unreadable text.

This module stores sealed text; sealing it is the business of whoever knows the credentials.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from store.engine import database_now
from store.tables import TOKENS
from store.upsert import upsert


def get(conn: Connection, connection: str) -> str | None:
    """The sealed token."""
    query = select(TOKENS.c.sealed).where(TOKENS.c.connection == connection)
    return conn.execute(query).scalar_one_or_none()


def put(conn: Connection, connection: str, sealed: str) -> None:
    """Keep a new token in place of the old one."""
    row = {"connection": connection, "sealed": sealed, "renewed_at": database_now(conn)}
    upsert(conn, TOKENS, [row], replacing=("sealed", "renewed_at"))


def drop(conn: Connection, connection: str) -> None:
    """Forget a connection's token."""
    conn.execute(delete(TOKENS).where(TOKENS.c.connection == connection))
