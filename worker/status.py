"""Freshness, lag and failures of everything, gathered from the tables in one look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Self

from sqlalchemy import Connection, func, select

from store import calls, checkpoints, deadletters, heartbeats, leases, notes, outbox, runs
from store.engine import database_now, reading
from store.tables import DIRTY_KEYS
from worker import doubts, leftovers
from worker.doubts import Doubtful
from worker.reloading import CONFIGURATION_NOTE
from worker.runtime import Runtime
from worker.schedule import next_firing
from worker.sinks import SinkState, sink_states
from worker.targets import Standing, is_any_missed, standings
from worker.verifying import Verified, verified_so_far
from worker.writeback_states import WritebackState, writeback_states

LATE_AFTER_INTERVALS = 3
_PATIENCE: Final = timedelta(minutes=5)
"""Nothing is late before, however short its schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """One stream as `status` shows it."""

    connection: str
    stream: str
    state: str
    """One of ok, running, late, paused, quarantined, waiting, failed."""
    checkpoint: datetime | None
    last_success: datetime | None
    lag_seconds: int | None
    rejects: int
    error: str | None = None
    """Why the last pull failed, or waits."""
    is_overdue: bool = False
    """Whatever its state: no pull succeeded for as long as makes one late."""

    @classmethod
    def unread(cls, connection: str, stream: str) -> Self:
        """One that nobody has begun to read, though it is time."""
        return cls(
            connection=connection,
            stream=stream,
            state="late",
            checkpoint=None,
            last_success=None,
            lag_seconds=None,
            rejects=0,
            error="it was never read: does a worker listen to its queue?",
            is_overdue=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much of its calls a connection has used in the last 24 hours."""

    usage: calls.Usage
    allowed: int | None
    """Calls it may make in 24 hours; None: the configuration and the CRM set no number."""
    paused_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole."""

    streams: Sequence[StreamStatus]
    dirty_keys: int
    outbox: Mapping[str, int]
    leases: Sequence[leases.LeaseState]
    heartbeats: Sequence[heartbeats.Heartbeat]
    writeback_states: Mapping[str, str]
    held: Sequence[WritebackState]
    """Write-backs that stand still until a person has looked, or whose fields others change."""
    sinks: Sequence[SinkState]
    quota: Sequence[Quota]
    verified: Verified
    """Whether values agree with the records behind them."""
    targets: Sequence[Standing]
    """How every target stands in its running period."""
    doubtful: Doubtful | None
    """Matches that wait for a person, as they were counted last."""
    configuration_fault: str | None
    """What is wrong with the file that is there; the last good one is in force."""
    refused_writes: int
    """Records that a CRM refused to change and that wait in the dead letters."""
    sentences: Sequence[str]
    """Everything that needs a person, in plain words."""

    @property
    def has_failed(self) -> bool:
        """Something failed, or a guard stopped it and waits for a person.

        A write-back that waits for its first approval has not failed.
        """
        is_stopped = any(
            stream.state in {"failed", "waiting", "quarantined"} for stream in self.streams
        )
        states = {"failed", "refused", "partly_failed"} & set(self.writeback_states.values())
        is_sink_broken = any(sink.state == "failed" for sink in self.sinks)
        is_wrong = self.verified.differing is not None
        return is_stopped or bool(states) or is_sink_broken or is_wrong or self.refused_writes > 0

    @property
    def is_stale(self) -> bool:
        """A stream is later than its schedule explains."""
        return any(stream.state == "late" for stream in self.streams)

    @property
    def has_missed_target(self) -> bool:
        """A target is missed."""
        return is_any_missed(self.targets)

    def to_json(self) -> dict[str, object]:
        """The shape other programs read."""
        return {
            "streams": [
                {
                    "connection": stream.connection,
                    "stream": stream.stream,
                    "state": stream.state,
                    "checkpoint": stream.checkpoint,
                    "last_success": stream.last_success,
                    "lag_seconds": stream.lag_seconds,
                    "rejects": stream.rejects,
                    "error": stream.error,
                }
                for stream in self.streams
            ],
            "dirty_keys": self.dirty_keys,
            "outbox": dict(self.outbox),
            "writebacks": dict(self.writeback_states),
            "held": [one.to_json() for one in self.held],
            "sinks": [
                {
                    "sink": one.sink,
                    "state": one.state,
                    "synced_at": one.synced_at,
                    "behind": one.behind,
                    "error": one.error,
                }
                for one in self.sinks
            ],
            "leases": [
                {"name": lease.name, "holder": lease.holder, "expires_at": lease.expires_at}
                for lease in self.leases
                if lease.is_held
            ],
            "heartbeats": [
                {"role": one.role, "host": one.host, "pid": one.pid, "seen_at": one.seen_at}
                for one in self.heartbeats
            ],
            "quota": [
                {
                    "connection": one.usage.connection,
                    "calls": one.usage.total,
                    "calls_by_purpose": dict(one.usage.calls),
                    "allowed": one.allowed,
                    "org_calls": one.usage.org_calls,
                    "org_limit": one.usage.org_limit,
                    "paused_until": one.paused_until,
                }
                for one in self.quota
            ],
            "verified": {
                "at": self.verified.at,
                "state": self.verified.state,
                "values": self.verified.values,
                "differing": self.verified.differing,
            },
            "targets": [one.to_json() for one in self.targets],
            "doubtful": None if self.doubtful is None else self.doubtful.to_json(),
            "messages": list(self.sentences),
        }


def gather(runtime: Runtime) -> Status:
    """Look at everything once, in one snapshot."""
    with reading(runtime.engine) as conn:
        counts = outbox.counts(conn)
        last_pushes = _last_pushes(conn)
        written = writeback_states(conn, runtime)
        sinks = sink_states(conn, runtime)
        targets = standings(conn, runtime.config, runtime.catalog)
        verified = verified_so_far(conn)
        return Status(
            streams=stream_states(runtime, conn),
            dirty_keys=conn.execute(select(func.count()).select_from(DIRTY_KEYS)).scalar_one(),
            outbox={state: counts.get(state, 0) for state in ("pending", "sending", "failed")},
            leases=leases.every(conn),
            heartbeats=heartbeats.every(conn),
            writeback_states={name: run.state for name, run in last_pushes.items()},
            held=[one for one in written if one.hold or one.frozen or one.edited],
            sinks=sinks,
            quota=[_quota(runtime, conn, name) for name in runtime.config.connections],
            verified=verified,
            targets=targets,
            doubtful=doubts.noted(conn, runtime) if doubts.is_matching(runtime) else None,
            refused_writes=sum(
                letter.direction == deadletters.PUSH for letter in deadletters.every(conn)
            ),
            configuration_fault=notes.get(conn, *CONFIGURATION_NOTE),
            sentences=[
                *_configuration_sentences(conn),
                *_stream_sentences(conn, runtime),
                *leftovers.sentences(leftovers.leftovers(runtime, conn)),
                *leftovers.sentence_of_kpis(leftovers.left_kpis(runtime, conn)),
                *_quarantine_sentences(conn),
                *(sentence for one in written for sentence in one.sentences()),
                *(f"sink {one.sink}: {one.state}: {one.error}" for one in sinks if one.error),
                *_letter_sentences(conn),
                *doubts.sentences(conn, runtime),
                *(f"target missed: {one.words}" for one in targets if one.is_missed),
                *([verified.differing] if verified.differing is not None else []),
            ],
        )


def stream_states(runtime: Runtime, conn: Connection) -> list[StreamStatus]:
    """Every configured stream that was ever read, and those that should have been by now."""
    now = database_now(conn)
    rejects = _rejects(conn)
    left = {(one.connection, one.stream) for one in leftovers.leftovers(runtime, conn)}
    begun = {
        (one.connection, one.stream): one
        for one in checkpoints.every(conn)
        if (one.connection, one.stream) not in left
    }
    found = [
        _stream_status(runtime, conn, checkpoint, now=now, rejects=rejects)
        for checkpoint in begun.values()
    ]
    since = runs.first_start(conn)
    unread = [
        StreamStatus.unread(connection, stream)
        for connection, section in runtime.config.connections.items()
        for stream in section.streams
        if (connection, stream) not in begun
        and since is not None
        and now > late_after(runtime, connection, since)
    ]
    return sorted([*found, *unread], key=lambda one: (one.connection, one.stream))


def _quota(runtime: Runtime, conn: Connection, name: str) -> Quota:
    usage = calls.usage(conn, name)
    written = runtime.config.connections[name].limits.daily_calls
    if isinstance(written, Decimal):
        allowed = None if usage.org_limit is None else int(usage.org_limit * written)
    else:
        allowed = written
    pause = checkpoints.paused(conn, name)
    return Quota(usage=usage, allowed=allowed, paused_until=pause[0] if pause else None)


def _rejects(conn: Connection) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for letter in deadletters.every(conn):
        if letter.direction == "pull":
            place = (letter.connection, letter.stream)
            counts[place] = counts.get(place, 0) + 1
    return counts


def _stream_status(
    runtime: Runtime,
    conn: Connection,
    checkpoint: checkpoints.Checkpoint,
    *,
    now: datetime,
    rejects: Mapping[tuple[str, str], int],
) -> StreamStatus:
    complete = checkpoint.complete_until
    lag = None if complete is None else max(0, int((now - complete).total_seconds()))
    return StreamStatus(
        connection=checkpoint.connection,
        stream=checkpoint.stream,
        state=_state(runtime, conn, checkpoint, now),
        checkpoint=complete,
        last_success=checkpoint.last_success,
        lag_seconds=lag,
        rejects=rejects.get((checkpoint.connection, checkpoint.stream), 0),
        error=checkpoint.error,
        is_overdue=_is_overdue(runtime, checkpoint, now),
    )


def _state(
    runtime: Runtime, conn: Connection, checkpoint: checkpoints.Checkpoint, now: datetime
) -> str:
    if checkpoints.paused(conn, checkpoint.connection) is not None:
        return "paused"
    if _quarantine(conn, checkpoint, now) is not None:
        return "quarantined"
    is_dead = checkpoint.state == "running" and not _is_held(conn, checkpoint)
    if checkpoint.state != "ok" and not is_dead:
        return checkpoint.state
    if _is_overdue(runtime, checkpoint, now):
        return "late"
    return checkpoint.state


def _is_overdue(runtime: Runtime, checkpoint: checkpoints.Checkpoint, now: datetime) -> bool:
    last = checkpoint.last_success or checkpoint.last_attempt
    return last is None or now > late_after(runtime, checkpoint.connection, last)


def late_after(runtime: Runtime, connection: str, last: datetime) -> datetime:
    """When nobody can say any more that a stream is read as its schedule says.

    A schedule of office hours rests at night: its firings are counted, not its usual span.
    """
    every = runtime.config.connections[connection].every
    firing = last
    for _ in range(LATE_AFTER_INTERVALS):
        firing = next_firing(every, firing, runtime.company.timezone)
    return max(firing, last + _PATIENCE)


def _is_held(conn: Connection, checkpoint: checkpoints.Checkpoint) -> bool:
    name = f"pull:{checkpoint.connection}.{checkpoint.stream}"
    return any(lease.name == name and lease.is_held for lease in leases.every(conn))


def _configuration_sentences(conn: Connection) -> Iterator[str]:
    fault = notes.get(conn, *CONFIGURATION_NOTE)
    if fault is not None:
        yield (
            "the configuration file is faulty; the last good one stays in force until it is "
            f"mended:\n{fault}"
        )


def _quarantine(
    conn: Connection, checkpoint: checkpoints.Checkpoint, now: datetime
) -> datetime | None:
    until = checkpoints.quarantined_until(checkpoint, is_running=_is_held(conn, checkpoint))
    return until if until is not None and until > now else None


def _quarantine_sentences(conn: Connection) -> Iterator[str]:
    now = database_now(conn)
    for checkpoint in checkpoints.every(conn):
        until = _quarantine(conn, checkpoint, now)
        if until is not None:
            place = f"{checkpoint.connection}.{checkpoint.stream}"
            yield (
                f"{place}: quarantined until {until:%Y-%m-%d %H:%M} UTC: "
                f"{checkpoints.MOST_STRIKES} attempts in a row ended their process before a page "
                f"was stored. The log of that time tells why; `kpisync pull {place}` tries now."
            )


def _stream_sentences(conn: Connection, runtime: Runtime) -> list[str]:
    sentences: list[str] = []
    for name in runtime.config.connections:
        pause = checkpoints.paused(conn, name)
        if pause is not None:
            until, reason = pause
            sentences.append(
                f"{name}: paused until {until.isoformat(timespec='seconds')}: {reason}"
            )
    sentences.extend(
        f"{checkpoint.connection}.{checkpoint.stream}: {checkpoint.error}"
        for checkpoint in checkpoints.every(conn)
        if checkpoint.error and checkpoint.connection in runtime.config.connections
    )
    return sentences


def _last_pushes(conn: Connection) -> dict[str, runs.Run]:
    newest: dict[str, runs.Run] = {}
    for run in runs.every(conn):
        if run.kind == "push" and run.writeback:
            newest.setdefault(run.writeback, run)
    return newest


def _letter_sentences(conn: Connection) -> list[str]:
    counts: dict[tuple[str, str, str], int] = {}
    for letter in deadletters.every(conn):
        place = (letter.direction, letter.connection, letter.stream)
        counts[place] = counts.get(place, 0) + 1
    words = {"pull": "could not be read", "push": "were refused by the CRM"}
    return [
        f"{connection}.{stream}: {count} record(s) {words.get(direction, direction)} and wait in "
        "the dead letters (kpisync deadletters list)"
        for (direction, connection, stream), count in sorted(counts.items())
    ]
