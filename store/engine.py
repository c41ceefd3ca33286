"""Engines and transactions for SQLite and PostgreSQL.

Three kinds of transactions, and nothing else, touch the database:

- `writing`: the one writer of records, cells and values, at most one at a time;
- `operating`: a short write of operational rows (leases, runs, heartbeats, outbox marks);
- `reading`: a consistent snapshot that is never committed.

They are also the one seam where a driver's failure becomes `StoreUnavailable`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Final

import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Select,
    create_engine,
    event,
    exc,
    func,
    literal_column,
    make_url,
    select,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.elements import ColumnElement

from store import own_fields
from store.errors import StoreError, StoreUnavailable, SumTooLarge
from store.tables import SUMS_FIT, UtcDateTime

BUSY_SECONDS: Final = 60
"""How long a SQLite writer waits for the one before it."""

WRITER_LOCK: Final = 0x6B70_6973_796E_63
"""The advisory lock of the one writer of a PostgreSQL database ("kpisync" in ASCII)."""

SQLITE_SETTINGS: Final = (
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    # NORMAL survives the death of any process, but a power cut takes the last commits back,
    # an outbox mark for a call already made among them. FULL costs one sync per commit.
    "PRAGMA synchronous = FULL",
    # The default of 1,000 pages makes every commit of a large page copy into the database.
    "PRAGMA wal_autocheckpoint = 20000",
    # 48 MiB, so that the pages of one large transaction are not written twice, and a worker that
    # loads half a million records stays under 200 MB.
    "PRAGMA cache_size = -49152",
    # A first load leaves a log of gigabytes; give all but 128 MiB of it back.
    "PRAGMA journal_size_limit = 134217728",
)

POSTGRESQL_SETTINGS: Final = {
    "TimeZone": "UTC",
    # At the default of 4, batches of some thousand rows flip to sequential scans.
    "random_page_cost": "1.1",
    # Facts of a record join up to a dozen tables. At the default of 8 the few records they are
    # wanted of come last, after the whole table.
    "join_collapse_limit": "16",
    "from_collapse_limit": "16",
    # Both cost more than they save on statements of a few milliseconds.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # A rebuild of millions of rows is the longest statement.
    "statement_timeout": "30min",
    # A frozen writer is disconnected before those who wait for it give up.
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "5min",
}

POSTGRESQL_ARGUMENTS: Final = {
    "connect_timeout": 5,
    "application_name": "kpisync",
    # A server that vanishes without a goodbye is noticed within a minute.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
}


# ---------------------------------------------------------------- opening


def open_store(url: str) -> Engine:
    """An engine for a database URL; connects only when it is used.

    Args:
        url: ``sqlite:///path`` (a file) or ``postgresql://user:password@host/database``.

    Raises:
        StoreError: the URL names neither.
    """
    address = _normalised(url)
    if address.get_backend_name() == "sqlite":
        engine = create_engine(address, connect_args={"cached_statements": 512})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(
            address, connect_args=POSTGRESQL_ARGUMENTS, pool_pre_ping=True, pool_timeout=30
        )
        event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _normalised(url: str) -> URL:
    forms = 'use "sqlite:///FILE" or "postgresql://USER:PASSWORD@HOST/DATABASE"'
    try:
        address = make_url(url)
    except (exc.ArgumentError, ValueError):
        # The URL may hold a password: it is not repeated.
        raise StoreError(f"the database URL cannot be read; {forms}") from None
    scheme = address.drivername
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        return address.set(drivername="postgresql+psycopg")
    if scheme not in ("sqlite", "sqlite+pysqlite"):
        raise StoreError(f'kpisync does not know databases of kind "{scheme}"; {forms}')
    if not address.database or address.database == ":memory:":
        raise StoreError(f"a database in memory is lost with its process; {forms}")
    return address


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # Without this the driver begins and commits on its own account, around DDL too.
    connection.isolation_level = None
    own_fields.register(connection)
    cursor = connection.cursor()
    for setting in SQLITE_SETTINGS:
        cursor.execute(setting)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    how = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {how}")


def _prepare_postgresql(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    calls = ", ".join("set_config(%s, %s, false)" for _ in POSTGRESQL_SETTINGS)
    cursor.execute(
        f"SELECT {calls}",
        [part for setting in POSTGRESQL_SETTINGS.items() for part in setting],
    )
    cursor.close()
    connection.commit()


# ---------------------------------------------------------------- transactions


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """The one-writer transaction; commits at the end, rolls back on an exception.

    Raises:
        StoreUnavailable: the database is away, or another writer holds it for too long.
    """
    with _failures_translated(engine), engine.connect() as raw:
        conn = raw.execution_options(sqlite_begin="IMMEDIATE")
        with conn.begin():
            if is_postgresql(conn):
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
            yield conn


@contextmanager
def operating(engine: Engine) -> Iterator[Connection]:
    """A short write transaction beside the one writer (on SQLite: between two of its own).

    Raises:
        StoreUnavailable: the database is away, locked, full or read-only.
    """
    with _failures_translated(engine), engine.connect() as raw:
        conn = raw.execution_options(sqlite_begin="IMMEDIATE")
        with conn.begin():
            yield conn


@contextmanager
def reading(engine: Engine, *, makes_tables: bool = False) -> Iterator[Connection]:
    """A consistent snapshot of the whole store; what is written in it is rolled back.

    Args:
        engine: from `open_store`.
        makes_tables: whether temporary tables are needed, which PostgreSQL makes in no
            transaction that only reads.

    Raises:
        StoreUnavailable: the database is away.
    """
    with _failures_translated(engine), engine.connect() as raw:
        conn = (
            raw.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=not makes_tables
            )
            if is_postgresql(raw)
            else raw
        )
        transaction = conn.begin()
        try:
            yield conn
        finally:
            transaction.rollback()


def tidy(engine: Engine) -> None:
    """Housekeeping for an idle moment: moves SQLite's log into its file, without waiting.

    Otherwise a commit of some later page does it and takes ten times its usual time.

    Raises:
        StoreUnavailable: the database is away.
    """
    if engine.dialect.name == "sqlite":
        with _failures_translated(engine), engine.connect() as conn:
            cursor = conn.connection.cursor()  # outside of any transaction
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
            cursor.close()


def is_postgresql(conn: Connection) -> bool:
    """Whether the statement dialect is PostgreSQL's; otherwise it is SQLite's."""
    return conn.dialect.name == "postgresql"


# ---------------------------------------------------------------- the database's clock


def database_now(conn: Connection) -> datetime:
    """The instant by the database's clock, which all hosts share (aware UTC)."""
    now: datetime = conn.execute(_look_at_clock(for_postgresql=is_postgresql(conn))).scalar_one()
    return now


def now_after(conn: Connection, seconds: float) -> ColumnElement[datetime]:
    """An SQL expression: the instant so many seconds after the statement runs."""
    return _instant_after(seconds, for_postgresql=is_postgresql(conn))


# Every transaction of a step asks for the time, and building an expression takes longer than
# running it.
@lru_cache(maxsize=2)
def _look_at_clock(*, for_postgresql: bool) -> Select[datetime]:
    return select(_instant_after(0, for_postgresql=for_postgresql))


@lru_cache(maxsize=256)
def _instant_after(seconds: float, *, for_postgresql: bool) -> ColumnElement[datetime]:
    if for_postgresql:
        now: ColumnElement[datetime] = func.clock_timestamp(type_=UtcDateTime())
        if not seconds:
            return now
        span = func.make_interval(0, 0, 0, 0, 0, 0, float(seconds))
        return now.op("+", return_type=UtcDateTime())(span)
    # Milliseconds are all SQLite has; the rest makes it the text of `UtcDateTime`.
    moment = func.strftime("%Y-%m-%dT%H:%M:%f", "now", f"{seconds:+.3f} seconds")
    return moment.op("||", return_type=UtcDateTime())(literal_column("'000+00:00'"))


# ---------------------------------------------------------------- failures


@contextmanager
def _failures_translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        cause = error.orig if error.orig is not None else error
        if _leaves_64_bits(cause):
            raise SumTooLarge from error
        sentence = _sentence(cause, is_lost=error.connection_invalidated)
        if sentence is None:
            raise
        raise StoreUnavailable(f"{place(engine)}: {sentence}") from error
    except exc.TimeoutError as error:
        raise StoreUnavailable(
            f"{place(engine)}: all connections of this process are busy; try again"
        ) from error
    except (psycopg.Error, sqlite3.Error) as error:
        if _leaves_64_bits(error):
            raise SumTooLarge from error
        sentence = _sentence(error, is_lost=False)
        if sentence is None:
            raise
        raise StoreUnavailable(f"{place(engine)}: {sentence}") from error


def place(engine: Engine) -> str:
    """Which database, without user or password, for messages."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"database {url.database}"
    port = f":{url.port}" if url.port else ""
    return f"database {url.database} on {url.host or 'the local socket'}{port}"


_SQLITE_FAULTS: Final = {
    "SQLITE_BUSY": f"another process has been writing for more than {BUSY_SECONDS} seconds; "
    "wait for it or look for one that hangs",
    "SQLITE_LOCKED": "another statement of this process holds the table; try again",
    "SQLITE_READONLY": "it is read-only; check the permissions of the file and of its folder",
    "SQLITE_FULL": "the disk is full; make room",
    "SQLITE_IOERR": "the disk reports an error or is full; check it",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that its folder exists and is writable",
    "SQLITE_PERM": "access is denied; check the permissions of the file and of its folder",
    "SQLITE_CORRUPT": "the file is damaged; restore it from a backup",
    "SQLITE_NOTADB": "the file is not a SQLite database; check the path",
}

_POSTGRESQL_FAULTS: Final = {
    "08": "no connection; is the server up, and are host and port right?",
    "25006": "it is read-only (a standby?); connect to the primary",
    "25P03": "the transaction stood still too long and was ended by the server; try again",
    "28": "the server refuses the login; check user and password",
    "3D": "the database does not exist; create it",
    "40": "the server undid the transaction in favour of another one; try again",
    "53100": "the server's disk is full; make room",
    "53200": "the server is out of memory; try again",
    "53300": "the server has no free connections; raise max_connections or run fewer workers",
    "53": "the server is out of resources; try again",
    "55P03": "another process holds the lock for too long; wait for it or look for one that hangs",
    "57014": "the statement took too long and was cancelled; try again",
    "57": "the server is shutting down or starting; wait for it",
    "58": "the server reports an error of its disk or system; check its log",
}

# While connecting the driver knows no codes, only the server's words.
_POSTGRESQL_WORDS: Final = {
    "password authentication failed": "28",
    "no pg_hba.conf entry": "28",
    "no password supplied": "28",
    "role ": "28",
    "does not exist": "3D",
    "too many clients": "53300",
    "remaining connection slots": "53300",
    "too many connections": "53300",
    "starting up": "57",
    "shutting down": "57",
    "in recovery mode": "57",
}


def _leaves_64_bits(cause: BaseException) -> bool:
    """A sum of whole numbers is larger than a column holds."""
    if isinstance(cause, psycopg.errors.NumericValueOutOfRange):
        return True
    said = str(cause)
    return SUMS_FIT in said or (isinstance(cause, sqlite3.Error) and said == "integer overflow")


def _sentence(cause: BaseException, *, is_lost: bool) -> str | None:
    """What is wrong and what to do, or None where the fault is ours."""
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", None) or ""
        # Extended codes read like SQLITE_BUSY_SNAPSHOT.
        return _SQLITE_FAULTS.get("_".join(name.split("_")[:2]))
    if isinstance(cause, psycopg.Error):
        code = cause.sqlstate or ""
        for known in (code, code[:2]):
            if known in _POSTGRESQL_FAULTS:
                return _POSTGRESQL_FAULTS[known]
        if is_lost or (isinstance(cause, psycopg.OperationalError) and not code):
            said = str(cause)
            known_words = (code for words, code in _POSTGRESQL_WORDS.items() if words in said)
            known = next(known_words, "08")
            return _POSTGRESQL_FAULTS[known]
    return None
