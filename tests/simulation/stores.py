"""The product's own store on a SQLite file; each commit is an effect.

The clock of the database is the world's, its one writer is waited for in the world's time, and
what a dead process had not committed is undone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from store.engine import BUSY_SECONDS, open_store
from tests.simulation.world import World

_FORMAT: Final = "%Y-%m-%dT%H:%M:%f"
_FAST: Final = ("PRAGMA synchronous = OFF", "PRAGMA busy_timeout = 0", "PRAGMA cache_size = -2000")

_SMALL: Final = (
    # Ninety years of calendar, of which these records need some weeks.
    "DELETE FROM working_days WHERE day NOT BETWEEN 20590 AND 20650",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA page_size = 1024",
    "VACUUM",
    "PRAGMA journal_mode = WAL",
)


class Disk:
    """The file of a store, and the engines on it; both are used for one run after the other.

    Each place at which a process can run has an engine of its own: processes share no connection.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kpisync.db"
        self.url = f"sqlite:///{self.path}"
        self.world: World | None = None
        self.unwatched = open_store(self.url)
        """For a look from outside of the world."""
        self._engines: dict[str, Engine] = {}

    def engine(self, place: str) -> Engine:
        """The engine of a place, without any open connection."""
        if place not in self._engines:
            self._engines[place] = self._opened()
        engine = self._engines[place]
        engine.dispose()
        return engine

    def content(self) -> bytes:
        """The whole store as it is now, made as small as it can be: it is copied often."""
        self.close()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as conn:
            for setting in _SMALL:
                conn.execute(setting)
            return conn.serialize()

    def restore(self, content: bytes) -> None:
        """Begin with such a content."""
        self.clear()
        self.path.write_bytes(content)

    def clear(self) -> None:
        """Begin with nothing."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close every connection."""
        for engine in (self.unwatched, *self._engines.values()):
            engine.dispose()

    def _opened(self) -> Engine:
        engine = open_store(self.url)
        disk = self

        class OfWorld(_Connection):
            disk_of = disk

        @event.listens_for(engine, "do_connect")
        def _of_world(_dialect: Any, _entry: Any, _args: Any, named: dict[str, Any]) -> None:
            named["factory"] = OfWorld

        @event.listens_for(engine, "connect")
        def _prepared(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            for setting in _FAST:
                cursor.execute(setting)
            cursor.close()

        event.listen(engine, "begin", self._begun, insert=True)
        return engine

    def _begun(self, conn: Connection) -> None:
        world = self.world
        if world is None:
            return
        world.ensure_alive()
        if conn.get_execution_options().get("sqlite_begin") != "IMMEDIATE":
            # A look is no effect, but others may have written just before it.
            world.step_aside()
            return
        if not world.become_writer(timedelta(seconds=BUSY_SECONDS)):
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorname = "SQLITE_BUSY"
            raise busy
        cast("_Connection", conn.connection.dbapi_connection).is_writer = True


class _Connection(sqlite3.Connection):
    """A connection whose commits the world sees before and after."""

    disk_of: Disk
    is_writer = False
    """It is in the one write transaction."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.create_function("strftime", -1, self._time)

    @property
    def _world(self) -> World | None:
        return self.disk_of.world

    def _time(self, form: str, when: str, span: str) -> str:
        """What SQLite's own function gives `store.engine.now_after`."""
        if (form, when) != (_FORMAT, "now"):
            raise NotImplementedError(f"strftime({form}, {when})")
        world = self._world
        assert world is not None
        moment = (
            world.now + world.database_ahead + timedelta(seconds=float(span.split(maxsplit=1)[0]))
        )
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}"

    def commit(self) -> None:
        world = self._world
        if world is None or not self.in_transaction:
            super().commit()
            return
        world.effect("commit")
        super().commit()
        if self.is_writer and world.on_commit is not None:
            world.on_commit()
        self._let_others_write()
        world.effect("committed")

    def rollback(self) -> None:
        super().rollback()
        self._let_others_write()

    def close(self) -> None:
        super().close()
        self._let_others_write()

    def _let_others_write(self) -> None:
        if self.is_writer and self._world is not None:
            self._world.stop_writing()
        self.is_writer = False
