"""What is due, derived from the tables alone: no clockwork remembers anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim
from sqlalchemy import Connection, bindparam, func, select

from config.scalars import Cron, Interval
from metrics import clock
from metrics.rebuild import stale_families
from store import checkpoints, leases, runs
from store.checkpoints import Checkpoint
from store.engine import database_now, reading
from store.tables import DIRTY_KEYS, RUNS
from worker.holding import is_gone
from worker.pulling import stream_names
from worker.results import Kind, State
from worker.runtime import Runtime

_USUAL_INDEX_LAG: Final = timedelta(seconds=10)
_COMPARE_EVERY: Final = timedelta(days=1)

LONGEST_RETRY: Final = timedelta(minutes=15)
"""What failed is tried again after this at the latest, however rare its schedule."""

_AHEAD: Final = timedelta(minutes=1)
"""What is dated later than this from now was done before somebody set the clock back."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do now; names only."""

    kind: Kind
    connection: str | None = None
    stream: str | None = None
    writeback: str | None = None
    is_full: bool = False
    begun: datetime | None = field(default=None, compare=False)
    """When it was begun last; None: never, or nobody asks."""

    @property
    def label(self) -> str:
        """A word for logs."""
        return f"{self.connection}.{self.stream}" if self.stream else self.writeback or self.kind

    def is_same(self, other: Step) -> bool:
        """Whether both are about the same, however much of it."""
        return (self.kind, self.connection, self.stream, self.writeback) == (
            other.kind,
            other.connection,
            other.stream,
            other.writeback,
        )


@dataclass(frozen=True, slots=True)
class _Push:
    """The latest run of a write-back or a sink."""

    started: datetime
    state: str


def next_firing(schedule: Interval | Cron, after: datetime, zone: ZoneInfo) -> datetime:
    """The first instant after `after` at which a schedule fires (aware UTC).

    A cron expression is read in the company's zone; an hour that a clock change repeats or skips
    fires once.
    """
    if isinstance(schedule, Interval):
        return after + schedule.every
    local = next(CronSim(schedule.expression, after.astimezone(zone)))
    return local.astimezone(UTC)


def due(runtime: Runtime) -> tuple[Step, ...]:
    """Everything that should be done now, in a good order.

    Pulls, computation, write-backs, then copies of the metrics table, looks at what was written
    and the nightly verification.

    Raises:
        StoreUnavailable: The database is away.
    """
    with reading(runtime.engine) as conn:
        look = _Look(conn, runtime)
        return (
            *look.pulls(),
            *look.computation(),
            *look.pushes(),
            *look.copies(),
            *look.comparisons(),
            *look.verification(),
        )


def is_dirty(runtime: Runtime) -> bool:
    """Whether published values lag behind the stored records."""
    with reading(runtime.engine) as conn:
        return _is_dirty(conn, runtime)


_of_kind = (
    select(RUNS.c.writeback, func.max(RUNS.c.run).label("run"))
    .where(
        RUNS.c.kind == bindparam("kind"),
        RUNS.c.writeback.is_not(None),
        RUNS.c.started <= bindparam("until", type_=RUNS.c.started.type),
    )
    .group_by(RUNS.c.writeback)
    .subquery()
)
_NEWEST: Final = select(RUNS.c.writeback, RUNS.c.started, RUNS.c.state).join(
    _of_kind, RUNS.c.run == _of_kind.c.run
)
"""The newest run of a kind for each write-back or sink; made once, asked at each look."""


class _Look:
    """One look at the tables."""

    def __init__(self, conn: Connection, runtime: Runtime) -> None:
        self._conn = conn
        self._runtime = runtime
        self._now = database_now(conn)
        self._zone = runtime.company.timezone
        # What a dead process of this machine left behind is free: whoever takes it sees that, too.
        self._held = {
            lease.name
            for lease in leases.every(conn)
            if lease.is_held and not (lease.holder and is_gone(lease.holder))
        }
        self._newest: dict[Kind, dict[str, _Push]] = {}
        self._checkpoints = {(one.connection, one.stream): one for one in checkpoints.every(conn)}
        names = runtime.config.connections
        self._paused = {name for name in names if checkpoints.paused(conn, name)}
        self._unwritable = {
            name for name in names if checkpoints.paused(conn, name, for_writing=True)
        }

    # ------------------------------------------------------------ pulls

    def pulls(self) -> Iterator[Step]:
        """Streams to pull, in the order of their connection."""
        for connection in self._runtime.config.connections:
            if connection in self._paused:
                continue
            for stream in stream_names(self._runtime, connection):
                if f"pull:{connection}.{stream}" in self._held:
                    continue
                checkpoint = self._checkpoints.get(
                    (connection, stream), Checkpoint(connection=connection, stream=stream)
                )
                if self._is_quarantined(checkpoint):
                    continue
                if self._is_refresh_due(checkpoint):
                    yield Step(
                        Kind.PULL, connection, stream, is_full=True, begun=checkpoint.last_attempt
                    )
                elif self._is_pull_due(checkpoint):
                    yield Step(Kind.PULL, connection, stream, begun=checkpoint.last_attempt)

    def _is_quarantined(self, checkpoint: Checkpoint) -> bool:
        until = checkpoints.quarantined_until(checkpoint, is_running=False)
        return until is not None and until > self._now

    def _is_pull_due(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.last_attempt is None or checkpoint.state == State.RUNNING:
            # Never pulled, or its process ended before it did.
            return True
        if self._is_rung(checkpoint) or checkpoint.last_attempt > self._now + _AHEAD:
            # Of the latter nobody knows how long ago it was.
            return True
        every = self._runtime.config.connections[checkpoint.connection].every
        firing = next_firing(every, checkpoint.last_attempt, self._zone)
        if checkpoint.state == State.FAILED:
            firing = min(firing, checkpoint.last_attempt + LONGEST_RETRY)
        return firing <= self._now

    def _is_rung(self, checkpoint: Checkpoint) -> bool:
        """The CRM told of a change; what it told of must have reached its search index."""
        rung, attempted = checkpoint.rung_at, checkpoint.last_attempt
        if rung is None or attempted is None or rung <= attempted:
            return False
        settled = self._runtime.config.advanced.index_lag or _USUAL_INDEX_LAG
        return self._now >= max(rung, attempted) + settled

    def _is_refresh_due(self, checkpoint: Checkpoint) -> bool:
        """Whether everything should be read again; a full pull under way goes on instead."""
        is_refused = checkpoint.state == checkpoints.WAITING
        is_under_way = checkpoint.is_full_pull_running and not is_refused
        if checkpoint.last_full is None or is_under_way:
            return False
        every = self._runtime.config.connections[checkpoint.connection].full_refresh
        if next_firing(every, checkpoint.last_full, self._zone) > self._now:
            return False
        # What failed, or waits for a person, is looked at again at the usual pace.
        is_well = checkpoint.state not in {State.FAILED, checkpoints.WAITING}
        return is_well or self._is_pull_due(checkpoint)

    # ------------------------------------------------------------ computation

    def computation(self) -> Iterator[Step]:
        """One step when values lag behind, but not while a first load keeps everything moving."""
        if (
            "compute" not in self._held
            and not self._is_loading()
            and _is_dirty(self._conn, self._runtime)
        ):
            yield Step(Kind.COMPUTE)

    def _is_loading(self) -> bool:
        return any(
            one.complete_until is None
            and one.state == State.RUNNING
            and one.connection in self._runtime.config.connections
            and one.connection not in self._paused
            for one in self._checkpoints.values()
        )

    # ------------------------------------------------------------ write-backs

    def pushes(self) -> Iterator[Step]:
        """Write-backs to run."""
        latest = self._latest(Kind.PUSH)
        local = self._now.astimezone(self._zone).time()
        for name, section in self._runtime.config.writebacks.items():
            connection = section.connection
            quiet = self._runtime.writebacks[name].quiet
            if quiet is not None and quiet.covers(local):
                continue
            busy = {f"push:{name}", f"push-org:{connection}"} & self._held
            if busy or connection in self._unwritable or not self._is_read(connection):
                continue
            last = latest.get(name)
            if self._is_push_due(section.every, last):
                begun = last.started if last else None
                yield Step(Kind.PUSH, connection, writeback=name, begun=begun)

    def _is_push_due(self, every: Interval | Cron, latest: _Push | None) -> bool:
        if latest is None:
            begun = self._first_start()
            if isinstance(every, Interval) or begun is None:
                return begun is not None
            return next_firing(every, begun, self._zone) <= self._now
        if latest.state in {State.RUNNING, State.INTERRUPTED}:
            return True
        firing = next_firing(every, latest.started, self._zone)
        if latest.state in {State.FAILED, State.PAUSED}:
            firing = min(firing, latest.started + LONGEST_RETRY)
        return firing <= self._now

    def _is_read(self, connection: str) -> bool:
        """Whether everything of a connection has been read once, and counted."""
        is_complete = all(
            (one := self._checkpoints.get((connection, stream))) is not None
            and one.complete_until is not None
            for stream in stream_names(self._runtime, connection)
        )
        return is_complete and not stale_families(self._conn, self._runtime.catalog)

    # ------------------------------------------------------------ copies and comparisons

    def copies(self) -> Iterator[Step]:
        """Sinks to bring up to date."""
        latest = self._latest(Kind.SINK)
        for name, section in self._runtime.config.sinks.items():
            if f"sink:{name}" not in self._held and self._is_again_due(
                section.every, latest.get(name)
            ):
                yield Step(Kind.SINK, writeback=name)

    def comparisons(self) -> Iterator[Step]:
        """Write-backs whose fields are to be compared with what was written."""
        latest = self._latest(Kind.DRIFT)
        pushes = self._latest(Kind.PUSH)
        every = Interval(self._runtime.config.advanced.sweep or _COMPARE_EVERY)
        for name, section in self._runtime.config.writebacks.items():
            is_free = f"push:{name}" not in self._held and section.connection not in self._paused
            last = latest.get(name) or pushes.get(name)
            if is_free and last is not None and self._is_again_due(every, last):
                yield Step(Kind.DRIFT, section.connection, writeback=name, begun=last.started)

    def verification(self) -> Iterator[Step]:
        """The share of values whose night it is, once nothing waits to be computed."""
        advanced = self._runtime.config.advanced
        if not advanced.verify_nights or "verify" in self._held or self._is_loading():
            return
        latest = self._latest_alone(Kind.VERIFY)
        last = latest.started if latest is not None else self._first_start()
        if last is None:
            return
        firing = next_firing(advanced.verify_at, last, self._zone)
        # Differences that were found stand until the next night, a share cut off does not.
        if latest is not None and latest.state in {State.INTERRUPTED, State.RUNNING}:
            firing = min(firing, last + LONGEST_RETRY)
        if firing > self._now:
            return
        if not _is_dirty(self._conn, self._runtime):
            yield Step(Kind.VERIFY)

    def _latest_alone(self, kind: Kind) -> _Push | None:
        """The newest run of a kind of which there is one for all."""
        query = (
            select(RUNS.c.started, RUNS.c.state)
            .where(RUNS.c.kind == kind, RUNS.c.started <= self._now + _AHEAD)
            .order_by(RUNS.c.run.desc())
            .limit(1)
        )
        row = self._conn.execute(query).first()
        return None if row is None else _Push(row.started, row.state)

    def _is_again_due(self, every: Interval | Cron, latest: _Push | None) -> bool:
        if latest is None:
            return self._first_start() is not None
        firing = next_firing(every, latest.started, self._zone)
        # Nobody holds the lease: one that seems to run has died.
        if latest.state in {State.FAILED, State.INTERRUPTED, State.RUNNING}:
            firing = min(firing, latest.started + LONGEST_RETRY)
        return firing <= self._now

    def _latest(self, kind: Kind) -> dict[str, _Push]:
        """The newest run of a kind for each write-back or sink."""
        if kind not in self._newest:
            asked = {"kind": kind, "until": self._now + _AHEAD}
            self._newest[kind] = {
                row.writeback: _Push(row.started, row.state)
                for row in self._conn.execute(_NEWEST, asked)
            }
        return self._newest[kind]

    def _first_start(self) -> datetime | None:
        return runs.first_start(self._conn)


def _is_dirty(conn: Connection, runtime: Runtime) -> bool:
    is_dirty = conn.execute(select(DIRTY_KEYS.c.family).limit(1)).first() is not None
    if is_dirty or stale_families(conn, runtime.catalog):
        return True
    return clock.is_due(conn, runtime.catalog, database_now(conn))
