"""Small durable notes of connectors: what must outlive the process that wrote it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, select

from store.engine import database_now
from store.tables import NOTES
from store.upsert import upsert


def get(conn: Connection, connection: str, name: str) -> str | None:
    """The text under a name."""
    query = select(NOTES.c.text).where(_named(connection, name))
    return conn.execute(query).scalar_one_or_none()


def put(conn: Connection, connection: str, name: str, text: str) -> None:
    """Note a text, in place of what stood under the name."""
    row = {"connection": connection, "name": name, "text": text, "noted_at": database_now(conn)}
    upsert(conn, NOTES, [row], replacing=("text", "noted_at"))


def drop(conn: Connection, connection: str, name: str) -> None:
    """Forget a note."""
    conn.execute(delete(NOTES).where(_named(connection, name)))


def _named(connection: str, name: str) -> ColumnElement[bool]:
    return (NOTES.c.connection == connection) & (NOTES.c.name == name)
