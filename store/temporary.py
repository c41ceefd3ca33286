"""Temporary tables: made once for each database connection, empty at every use."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, Connection, MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from store.engine import is_postgresql


def table(name: str, metadata: MetaData, *columns: Column[object]) -> Table:
    """A temporary table's definition, of the same name on both stores."""
    return Table(name, metadata, *columns, prefixes=["TEMPORARY"])


def prepare(conn: Connection, tables: Sequence[Table]) -> None:
    """Make sure the tables exist on this connection and hold nothing.

    What exists is asked of the database and not remembered: a rollback undoes both the
    creation of a temporary table and its emptying.
    """
    existing = _existing(conn)
    for missing in (table for table in tables if table.name not in existing):
        conn.execute(CreateTable(missing))
        for index in missing.indexes:
            conn.execute(CreateIndex(index))
    _empty(conn, [table.name for table in tables if table.name in existing])


def analyze(conn: Connection, name: str, rows: int, columns: Sequence[str] = ()) -> None:
    """Tell the planner the size of a temporary table.

    SQLite takes one that was never analysed for a million rows and scans whole base tables
    to build a Bloom filter; PostgreSQL takes an empty page for a hundred rows or a thousand.

    Args:
        conn: the connection that owns the table.
        name: the temporary table.
        rows: how many rows it holds now.
        columns: on PostgreSQL the ones worth statistics; empty means all.
    """
    if not rows:
        return
    if is_postgresql(conn):
        listed = f" ({', '.join(columns)})" if columns else ""
        conn.exec_driver_sql(f"ANALYZE {name}{listed}")
    elif not _is_analyzed(conn, name):
        # Once is enough: the order of magnitude decides, and every ANALYZE makes SQLite
        # prepare all its statements again.
        conn.exec_driver_sql(f"ANALYZE temp.{name}")


def _existing(conn: Connection) -> frozenset[str]:
    if is_postgresql(conn):
        query = "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
    else:
        query = "SELECT name FROM sqlite_temp_schema WHERE type = 'table'"
    return frozenset(conn.exec_driver_sql(query).scalars())


def _empty(conn: Connection, names: Sequence[str]) -> None:
    if not names:
        return
    # Most of them are: one question is cheaper than a statement for each. TRUNCATE makes new
    # files, and DELETE would leave dead rows on PostgreSQL that no autovacuum ever visits.
    questions = ", ".join(f"EXISTS (SELECT 1 FROM {name})" for name in names)  # noqa: S608 - our own names
    filled = conn.exec_driver_sql(f"SELECT {questions}").one()
    full = [name for name, is_filled in zip(names, filled, strict=True) if is_filled]
    if not full:
        return
    if is_postgresql(conn):
        conn.exec_driver_sql(f"TRUNCATE {', '.join(full)}")
        return
    for name in full:
        conn.exec_driver_sql(f"DELETE FROM temp.{name}")  # noqa: S608 - our own names


def _is_analyzed(conn: Connection, name: str) -> bool:
    statistics = "SELECT 1 FROM sqlite_temp_schema WHERE name = 'sqlite_stat1'"
    if conn.exec_driver_sql(statistics).first() is None:
        return False
    known = f"SELECT 1 FROM temp.sqlite_stat1 WHERE tbl = '{name}'"  # noqa: S608 - our own names
    return conn.exec_driver_sql(known).first() is not None
