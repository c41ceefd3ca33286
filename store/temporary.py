"""Temporary tables: made once for each database connection, empty at every use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from sqlalchemy import Column, Connection, Dialect, MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from store.compiled import run_all
from store.engine import is_postgresql

MOST_DEAD: Final = 256 * 1024
"""Bytes of a PostgreSQL table up to which its rows are deleted. No autovacuum ever visits temporary
tables, so dead rows stay; but a TRUNCATE makes new files and catalogue rows, and takes thirty times
as long as a DELETE of some hundred rows."""


def table(name: str, metadata: MetaData, *columns: Column[object]) -> Table:
    """A temporary table's definition, of the same name on both stores."""
    return Table(name, metadata, *columns, prefixes=["TEMPORARY"])


def prepare(conn: Connection, tables: Sequence[Table]) -> None:
    """Make sure the tables exist on this connection and hold nothing."""
    memory = _memory_of(conn)
    names = [table.name for table in tables]
    existing = memory.lasting("tables", names, lambda: _existing(conn))
    for missing in (table for table in tables if table.name not in existing):
        for statement in _making(missing, conn.dialect):
            conn.exec_driver_sql(statement)
        memory.note("tables", missing.name)
    _empty(conn, [name for name in names if name in existing])


@cache
def _making(table: Table, dialect: Dialect) -> tuple[str, ...]:
    """The statements that make a table: each new connection needs them again."""
    indexes = [str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes]
    return (str(CreateTable(table).compile(dialect=dialect)), *indexes)


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
        return
    memory = _memory_of(conn)
    if name not in memory.lasting("analyzed", [name], lambda: _analyzed(conn)):
        # Once is enough: the order of magnitude decides, and every ANALYZE makes SQLite
        # prepare all its statements again.
        conn.exec_driver_sql(f"ANALYZE temp.{name}")
        memory.note("analyzed", name)


def analyze_all(conn: Connection, sizes: Mapping[str, int]) -> None:
    """Tell the planner the sizes of some temporary tables, by name; see `analyze`."""
    if is_postgresql(conn):
        run_all(conn, [f"ANALYZE {name}" for name, rows in sizes.items() if rows])
        return
    for name, rows in sizes.items():
        analyze(conn, name, rows)


def _memory_of(conn: Connection) -> _Memory:
    """What is remembered with a connection to the database, and ends with it."""
    memory: _Memory = conn.info.setdefault("kpisync.temporary", _Memory())
    memory.enter(conn.get_transaction())
    return memory


class _Memory:
    """What is known of the temporary tables of one database connection.

    A rollback undoes the creation of a temporary table, and its statistics. So only what an
    earlier transaction left is remembered; all else is asked of the database.
    """

    def __init__(self) -> None:
        self._lasting: dict[str, frozenset[str]] = {}
        self._made: dict[str, set[str]] = {}
        self._transaction: object = None

    def enter(self, transaction: object) -> None:
        """Forget what an earlier transaction made: it may have been rolled back."""
        if self._transaction is not transaction:
            self._transaction = transaction
            self._made.clear()

    def lasting(
        self, what: str, names: Iterable[str], ask: Callable[[], frozenset[str]]
    ) -> frozenset[str]:
        """The names of which it holds: those known, or else what the database says."""
        known = self._lasting.get(what, frozenset())
        if known.issuperset(names):
            return known
        found = ask()
        self._lasting[what] = found - self._made.get(what, frozenset())
        return found

    def note(self, what: str, name: str) -> None:
        """Remember that this transaction made it so."""
        self._made.setdefault(what, set()).add(name)


def _existing(conn: Connection) -> frozenset[str]:
    if is_postgresql(conn):
        query = "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
    else:
        query = "SELECT name FROM sqlite_temp_schema WHERE type = 'table'"
    return frozenset(conn.exec_driver_sql(query).scalars())


def _empty(conn: Connection, names: Sequence[str]) -> None:
    if not names:
        return
    if is_postgresql(conn):
        sizes = _sizes(conn, names)
        large = [name for name, size in sizes.items() if size > MOST_DEAD]
        emptied = [f"DELETE FROM {name}" for name in sizes if name not in large]  # noqa: S608 - our own names
        run_all(conn, [*emptied, *([f"TRUNCATE {', '.join(large)}"] if large else [])])
        return
    for name in _full(conn, names) if len(names) > 1 else names:
        conn.exec_driver_sql(f"DELETE FROM temp.{name}")  # noqa: S608 - our own names


def _sizes(conn: Connection, names: Sequence[str]) -> dict[str, int]:
    """The bytes of those PostgreSQL tables that hold a row, dead rows included."""
    questions = ", ".join(
        f"CASE WHEN EXISTS (SELECT 1 FROM {name}) THEN pg_relation_size('{name}') END"  # noqa: S608 - our own names
        for name in names
    )
    found = conn.exec_driver_sql(f"SELECT {questions}").one()
    return {name: size for name, size in zip(names, found, strict=True) if size is not None}


def _full(conn: Connection, names: Sequence[str]) -> list[str]:
    """Those that hold a row: most do not, and one question is cheaper than a DELETE for each."""
    questions = ", ".join(f"EXISTS (SELECT 1 FROM {name})" for name in names)  # noqa: S608 - our own names
    filled = conn.exec_driver_sql(f"SELECT {questions}").one()
    return [name for name, is_filled in zip(names, filled, strict=True) if is_filled]


def _analyzed(conn: Connection) -> frozenset[str]:
    """Of SQLite's temporary tables those of which the planner knows the size."""
    statistics = "SELECT 1 FROM sqlite_temp_schema WHERE name = 'sqlite_stat1'"
    if conn.exec_driver_sql(statistics).first() is None:
        return frozenset()
    return frozenset(conn.exec_driver_sql("SELECT tbl FROM temp.sqlite_stat1").scalars())
