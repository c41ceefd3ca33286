"""Copying the metrics table to other databases, and only what changed since the last time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, exc, make_url

from config.models import Sink
from store import runs, sinks
from store.engine import database_now, open_store, operating, place, reading
from store.errors import StoreError
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

_ROWS: Final = 5_000
"""Copied in one transaction."""
_PATIENCE: Final = timedelta(seconds=30)


class SinkFailed(Exception):
    """The other database does not do what it should."""


def sync_sink(
    runtime: Runtime, name: str, *, is_full: bool = False, patience: timedelta = _PATIENCE
) -> RunResult:
    """Bring one sink up to date with the metrics table.

    Args:
        runtime: What it works with.
        name: A configured sink.
        is_full: Copy every row again, for a place whose history somebody has changed.
        patience: How long to wait for another process that does the same.

    Raises:
        StoreUnavailable: The product's own database is away.
    """
    return record_run(
        runtime,
        Subject(kind=Kind.SINK, writeback=name),
        lambda running: _sync(running, name, is_full=is_full),
        lease_names=(f"sink:{name}",),
        patience=patience,
    )


def _sync(running: Running, name: str, *, is_full: bool) -> State:
    section = running.runtime.config.sinks[name]
    engine = open_store(section.url)
    try:
        _Copy(running, name, section, engine).all(is_full=is_full)
    except SinkFailed as error:
        running.error = f"sinks.{name}: {error}"
        return State.FAILED
    finally:
        engine.dispose()
    return State.INTERRUPTED if running.runtime.is_stopping else State.OK


class _Copy:
    """One copy of what changed to one sink."""

    def __init__(self, running: Running, name: str, section: Sink, engine: Engine) -> None:
        self._running = running
        self._store = running.runtime.engine
        self._name = name
        self._sink = engine
        self._keeps_history = section.history == "all"
        self._table: Table = sinks.table_of(section.table, section.schema_name)
        self._fingerprint = _fingerprint(section)

    def all(self, *, is_full: bool) -> None:
        """Everything that changed since the last copy."""
        progress = self._running.runtime.progress
        with reading(self._store) as conn:
            position = sinks.position_of(conn, self._name)
            newest = sinks.newest_id(conn)
            computed = sinks.computed(conn)
        last_id = 0
        if position is not None and position.fingerprint == self._fingerprint and not is_full:
            last_id = position.last_id
        with self._writing() as out:
            sinks.prepare(out, self._table)
            is_emptied = bool(last_id) and sinks.is_empty(out, self._table)
        if is_emptied:
            last_id = 0
        elif position and last_id == newest and position.computed == computed:
            return
        label = f"{self._name}: copying values"
        progress.start(label, newest - last_id)
        try:
            while newest - last_id > _ROWS and not self._running.runtime.is_stopping:
                last_id = self._some(last_id, label)
            if not self._running.runtime.is_stopping:
                self._rest(last_id, label)
        finally:
            progress.finish(label)

    def _some(self, last_id: int, label: str) -> int:
        """One portion of a long copy; returns how far it came."""
        with reading(self._store) as conn:
            rows = sinks.rows_after(conn, last_id, _ROWS)
        with self._writing() as out:
            self._put(out, rows)
        last_id = rows[-1]["id"]
        # What closed meanwhile is found at the end: no computation is known there yet.
        self._remember(last_id, "", len(rows))
        self._running.runtime.progress.advance(label, len(rows))
        return last_id

    def _rest(self, last_id: int, label: str) -> None:
        """The newest rows and what became of older ones, from one snapshot in one transaction."""
        with reading(self._store) as conn, self._writing() as out:
            computed = sinks.computed(conn)
            written = 0
            while rows := sinks.rows_after(conn, last_id, _ROWS):
                self._put(out, rows)
                last_id = rows[-1]["id"]
                written += len(rows)
                self._running.runtime.progress.advance(label, len(rows))
            if not self._keeps_history:
                sinks.remove_replaced(out, self._table)
            now = database_now(conn)
            for gap in list(sinks.gaps(conn, out, self._table, last_id)):
                written += self._close(conn, out, gap, now)
        self._remember(last_id, computed, written)

    def _close(self, conn: Connection, out: Connection, gap: sinks.Gap, now: datetime) -> int:
        ids = [*gap.fetch, *(row_id for row_id, _ in gap.closed)]
        rows = [
            row
            for start in range(0, len(ids), 500)
            for row in sinks.rows_by_id(conn, ids[start : start + 500])
        ]
        known = {tuple(row[name] for name in sinks.PLACE) for row in rows}
        closed = [one for _, one in gap.closed]
        strangers = [*gap.strangers, *(one for one in closed if one not in known)]
        if self._keeps_history:
            # From a former store, say: no answer is better than one that nobody keeps right.
            sinks.end(out, self._table, strangers, now)
        else:
            sinks.remove(out, self._table, [*strangers, *closed])
        self._put(out, rows)
        return len(rows) + len(strangers)

    def _put(self, out: Connection, rows: Sequence[dict[str, Any]]) -> None:
        wanted = [row for row in rows if self._keeps_history or row["valid_to"] is None]
        if wanted:
            sinks.put(out, self._table, wanted)

    def _remember(self, last_id: int, computed: str, written: int) -> None:
        """After the sink has committed: a crash in between repeats what is there already."""
        with operating(self._store) as conn:
            self._running.guard(conn)
            sinks.set_position(
                conn,
                self._name,
                fingerprint=self._fingerprint,
                last_id=last_id,
                computed=computed,
            )
            self._running.add(conn, sent=written)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction of the sink; its failures are the sink's, not the store's."""
        try:
            with operating(self._sink) as conn:
                yield conn
        except StoreError as error:
            if not str(error).startswith(place(self._sink)):
                raise
            raise SinkFailed(str(error)) from error
        except exc.DBAPIError as error:
            said = str(error.orig).strip().partition("\n")[0]
            raise SinkFailed(
                f"{place(self._sink)} refuses: {said}; check that the user may create and change "
                f'the table "{self._table.fullname}"'
            ) from error


def _fingerprint(section: Sink) -> str:
    # Without the password: a new one leads to the same place.
    url = make_url(section.url).render_as_string(hide_password=True)
    where = [url, section.schema_name, section.table, section.history]
    return hashlib.sha256(json.dumps(where).encode()).hexdigest()


# ---------------------------------------------------------------- how they stand


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkState:
    """How a sink stands."""

    sink: str
    state: str
    """Of its last run."""
    synced_at: datetime | None
    behind: int
    """Rows of the metrics table that are not there yet."""
    error: str | None


def sink_states(conn: Connection, runtime: Runtime) -> list[SinkState]:
    """How every configured sink stands."""
    newest = sinks.newest_id(conn)
    last: dict[str, runs.Run] = {}
    for run in runs.every(conn):
        if run.kind == Kind.SINK and run.writeback:
            last.setdefault(run.writeback, run)
    positions = {name: sinks.position_of(conn, name) for name in runtime.config.sinks}
    return [
        SinkState(
            sink=name,
            state=last[name].state if name in last else "never run",
            synced_at=position.synced_at if position else None,
            behind=newest - (position.last_id if position else 0),
            error=last[name].error if name in last else None,
        )
        for name, position in positions.items()
    ]
