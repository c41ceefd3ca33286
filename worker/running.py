"""One run from its first row to its final state, whatever happens between.

Every step of the product runs in here: it holds its leases, owns a row in ``runs``, and each way
it can fail becomes a state and one sentence. Nothing that goes wrong leaves a run without an end:
a run whose process dies is closed as interrupted by whoever takes its lease over.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection

from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    NothingLeft,
    OrgChanged,
    PermissionMissing,
    QuotaExhausted,
    RateLimited,
    StreamPaused,
)
from store import checkpoints, leases, runs
from store.engine import operating, reading, writing
from store.errors import LeaseLost, StoreError
from store.leases import Lease
from worker import telemetry
from worker.holding import Busy
from worker.results import Kind, RunResult, State
from worker.runtime import Runtime

_MOST_WARNINGS: Final = 50
_TRACED_CALLS: Final = 6

_COUNTS_OF_ROW: Final = frozenset(
    {"pulled", "stored", "unchanged", "dead", "cleaned", "sent", "failed", "calls", "minimum_calls"}
)

_REMEDIES: Final[dict[type[ConnectorError], str]] = {
    AuthenticationFailed: "Correct the credentials of this connection, then see "
    "`kpisync check --online`.",
    PermissionMissing: "Grant the missing right to the integration user, then see "
    "`kpisync check --online`.",
    OrgChanged: "Correct the credentials, or run `kpisync state reset CONNECTION --org` if the "
    "change is meant.",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a run is about."""

    kind: Kind
    connection: str | None = None
    stream: str | None = None
    writeback: str | None = None

    @property
    def label(self) -> str:
        """A word for progress and logs."""
        if self.stream:
            return f"{self.connection}.{self.stream}"
        return self.writeback or self.kind


@dataclass(slots=True)
class Running:
    """A run under way."""

    runtime: Runtime
    subject: Subject
    run: str
    held: tuple[Lease, ...]
    counts: Counter[str] = field(default_factory=Counter)
    error: str | None = None
    is_unfinished: bool = False
    _warnings: dict[str, None] = field(default_factory=dict)
    _calls_before: int = 0
    _minimum_before: int = 0

    def warn(self, *sentences: str) -> None:
        """Keep sentences for people, each once."""
        for sentence in sentences:
            if len(self._warnings) < _MOST_WARNINGS:
                self._warnings.setdefault(sentence)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences so far."""
        return tuple(self._warnings)

    def guard(self, conn: Connection) -> None:
        """Tie this transaction to our leases and keep them for another term.

        Raises:
            LeaseLost: Somebody else has taken one over; the transaction must not commit.
        """
        for lease in self.held:
            # Which makes sure that it is held.
            leases.renew(conn, lease, self.runtime.lease_ttl)

    def ensure_held(self) -> None:
        """Look once more before an act that no transaction can take back, such as a write.

        Raises:
            LeaseLost: We were frozen, and somebody else may be doing the same by now.
        """
        with reading(self.runtime.engine) as conn:
            for lease in self.held:
                if not leases.is_held(conn, lease):
                    raise LeaseLost(lease.name)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """The one-writer transaction, tied to our leases from its begin to its end.

        Raises:
            LeaseLost: Somebody else has taken one over; nothing is committed.
            StoreUnavailable: The database is away.
        """
        with writing(self.runtime.engine) as conn:
            for lease in self.held:
                leases.ensure(conn, lease)
            yield conn
            # Not at its begin: nobody sees it before the commit, and a rebuild takes minutes.
            for lease in self.held:
                leases.extend(conn, lease, self.runtime.lease_ttl)

    def add(self, conn: Connection, **counts: int) -> None:
        """Count on the run's row, in the transaction that makes the counts true."""
        calls, minimum = self._calls_since_last_count()
        counts["calls"] = counts.get("calls", 0) + calls
        if self.subject.kind is Kind.PULL:
            counts["minimum_calls"] = counts.get("minimum_calls", 0) + minimum
        self.counts.update(counts)
        of_row = {name: n for name, n in counts.items() if n and name in _COUNTS_OF_ROW}
        if of_row:
            runs.add(conn, self.run, **of_row)

    def _calls_since_last_count(self) -> tuple[int, int]:
        """Calls made, and the least they could have been."""
        if self.subject.connection is None:
            return 0, 0
        calls = self.runtime.connector(self.subject.connection).calls
        fresh = calls.made - self._calls_before, calls.minimum - self._minimum_before
        self._calls_before, self._minimum_before = calls.made, calls.minimum
        return fresh


Body = Callable[[Running], State]
Settle = Callable[[Connection, Running, State], None]


def record_run(
    runtime: Runtime,
    subject: Subject,
    body: Body,
    *,
    lease_names: tuple[str, ...],
    patience: timedelta = timedelta(0),
    settle: Settle | None = None,
) -> RunResult:
    """Run `body` under its leases and write down how it ended.

    Args:
        runtime: What it works with.
        subject: What it is about.
        body: Does the work, returns its final state; commits as it goes.
        lease_names: Taken in this order and held throughout.
        patience: How long to wait for others who hold them.
        settle: Written in the transaction that ends the run, while the leases are still ours.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    try:
        with runtime.leases.hold(*lease_names, patience=patience) as held:
            return _run(runtime, subject, body, held, settle)
    except Busy as busy:
        return RunResult(
            kind=subject.kind,
            connection=subject.connection,
            stream=subject.stream,
            writeback=subject.writeback,
            state=State.SKIPPED,
            warnings=(f"skipped: {busy}; it will be done there",),
        )


def _run(
    runtime: Runtime,
    subject: Subject,
    body: Body,
    held: tuple[Lease, ...],
    settle: Settle | None,
) -> RunResult:
    running = _start(runtime, subject, held)
    about = {"connection": subject.connection, "stream": subject.stream, "run": running.run}
    about["writeback"] = subject.writeback
    named = {name: value for name, value in about.items() if value}
    with (
        structlog.contextvars.bound_contextvars(**named),
        telemetry.step(subject.kind, about) as ended,
    ):
        try:
            state = _attempt(running, body)
        except BaseException:
            # Ctrl-C, or the database is away: say so on the row if that is still possible.
            with suppress(StoreError):
                _finish(running, State.INTERRUPTED, None)
            raise
        state = _finish(running, state, settle)
        result = _result(running, state)
        ended(result)
        return result


def _start(runtime: Runtime, subject: Subject, held: tuple[Lease, ...]) -> Running:
    with operating(runtime.engine) as conn:
        runs.interrupt_unfinished(
            conn,
            kind=subject.kind,
            connection=subject.connection,
            stream=subject.stream,
            writeback=subject.writeback,
        )
        run = runs.start(
            conn,
            subject.kind,
            connection=subject.connection,
            stream=subject.stream,
            writeback=subject.writeback,
        )
    running = Running(runtime=runtime, subject=subject, run=run, held=held)
    running._calls_since_last_count()  # noqa: SLF001 - earlier calls belong to earlier runs
    return running


def _attempt(running: Running, body: Body) -> State:
    log = structlog.get_logger("kpisync.run")
    try:
        return body(running)
    except (QuotaExhausted, StreamPaused) as error:
        return _rest(running, error)
    except RateLimited as error:
        if error.wait_seconds > running.runtime.pause_min.total_seconds():
            return _pause(running, error, _after(running, error.wait_seconds))
        running.error = str(error)
        return State.FAILED
    except ConnectorError as error:
        if isinstance(error, OrgChanged):
            # Whatever comes next looks again where the credentials lead.
            running.runtime.recognised.discard(error.connection)
        running.error = _with_remedy(error)
        return State.FAILED
    except LeaseLost as error:
        running.error = str(error)
        return State.INTERRUPTED
    except StoreError as error:
        if error.retryable:
            raise
        running.error = str(error)
        return State.FAILED
    except Exception as error:
        # A fault of ours in one step must not take the other steps down, nor stay silent.
        log.exception("step failed unexpectedly", step=running.subject.label)
        telemetry.fault(error)
        running.error = (
            f"an unexpected {type(error).__name__} stopped this step; the log has its trace. "
            "The next run tries again from the last checkpoint."
        )
        running.warn(f"where it happened: {_trace(error)}")
        return State.FAILED


def _trace(error: BaseException) -> str:
    """The calls that led to a fault, without their values: ``worker/pulling.py:88 pull > ...``."""
    frames = traceback.extract_tb(error.__traceback__)[-_TRACED_CALLS:]
    return " > ".join(
        f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno} {one.name}" for one in frames
    )


def _rest(running: Running, error: QuotaExhausted | StreamPaused) -> State:
    if isinstance(error, QuotaExhausted):
        return _pause(running, error, error.until)
    running.warn(error.message)
    return State.PAUSED


def _pause(running: Running, error: ConnectorError, until: datetime) -> State:
    """Remember across processes that this connection rests until an instant."""
    connection = running.subject.connection or error.connection
    # Reading stops while there is still a reserve to write with, unless the CRM itself refuses.
    has_reserve = isinstance(error, QuotaExhausted) and not isinstance(error, NothingLeft)
    is_of_reading = has_reserve and running.subject.kind is Kind.PULL
    with operating(running.runtime.engine) as conn:
        checkpoints.pause(conn, connection, until, error.message, reading_only=is_of_reading)
    when = until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    running.warn(f"{connection} is paused until {when}: {error.message}")
    return State.PAUSED


def _finish(running: Running, state: State, settle: Settle | None) -> State:
    with operating(running.runtime.engine) as conn:
        if settle is not None and state is not State.INTERRUPTED:
            try:
                running.guard(conn)
            except LeaseLost as error:
                state, running.error = State.INTERRUPTED, str(error)
            else:
                settle(conn, running, state)
        running.add(conn)
        runs.finish(conn, running.run, state, error=running.error, warnings=running.warnings)
    return state


def _result(running: Running, state: State) -> RunResult:
    subject = running.subject
    return RunResult(
        run=running.run,
        kind=subject.kind,
        connection=subject.connection,
        stream=subject.stream,
        writeback=subject.writeback,
        state=state,
        error=running.error,
        warnings=running.warnings,
        is_unfinished=running.is_unfinished,
        **running.counts,
    )


def _with_remedy(error: ConnectorError) -> str:
    remedy = next((words for kind, words in _REMEDIES.items() if isinstance(error, kind)), None)
    if remedy is None:
        return str(error)
    return f"{error} {remedy.replace('CONNECTION', error.connection)}"


def _after(running: Running, seconds: float) -> datetime:
    return running.runtime.clock.now() + timedelta(seconds=seconds)
