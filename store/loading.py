"""Many rows at once, past SQLAlchemy, whose bookkeeping costs more than the insert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection

from store.engine import is_postgresql


def load(
    conn: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Append rows to a table: COPY on PostgreSQL, one prepared statement on SQLite.

    Args:
        conn: a connection in a transaction.
        table: one of our own names; a temporary table goes before a stored one.
        columns: the columns that the rows give, in their order.
        rows: values as the driver takes them; no type of ours converts them.
    """
    if not rows:
        return
    names = ", ".join(f'"{column}"' for column in columns)
    if is_postgresql(conn):
        driver: psycopg.Connection[Any] = conn.connection.driver_connection  # type: ignore[assignment]  # the pool does not know its driver
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    places = ", ".join("?" * len(columns))
    conn.exec_driver_sql(
        f"INSERT INTO {table} ({names}) VALUES ({places})",  # noqa: S608 - our own names
        list(rows),
    )
