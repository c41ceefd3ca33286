"""Whole passes: everything once, or until nothing is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from store import outbox, record_history
from store.engine import operating, reading
from worker.computing import compute
from worker.drift import watch_writeback
from worker.planning import DAY
from worker.pulling import pull_stream, stream_names
from worker.pushing import push_writeback
from worker.results import Kind, PassResult, RunResult, State
from worker.runtime import Runtime
from worker.schedule import Step, due, is_dirty
from worker.sinks import sync_sink
from worker.verifying import verify_share

_POLL_SECONDS: Final = 0.2

_UNDONE: Final = frozenset({State.SKIPPED, State.INTERRUPTED})
"""States after which the same step is worth another try at once."""


def perform(runtime: Runtime, step: Step, *, max_rows: int | None = None) -> RunResult:
    """Do one step that is due.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    match step:
        case Step(connection=str(connection), stream=str(stream)):
            return pull_stream(
                runtime, connection, stream, reconcile=step.is_full, max_rows=max_rows
            )
        case Step(kind=Kind.SINK, writeback=str(sink)):
            return sync_sink(runtime, sink)
        case Step(kind=Kind.VERIFY):
            return verify_share(runtime)
        case Step(kind=Kind.DRIFT, writeback=str(writeback)):
            return watch_writeback(runtime, writeback)
        case Step(writeback=str(writeback)):
            result = push_writeback(runtime, writeback)
            _forget_settled(runtime)
            return result
        case _:
            result = compute(runtime)
            _forget_history(runtime)
            return result


def answer(
    runtime: Runtime, wanted: Step, ring: Callable[[Step], None], *, max_rows: int | None = None
) -> RunResult | None:
    """Do a step that somebody rang for, unless it has been done since.

    Args:
        runtime: What it works with.
        wanted: The step, by its names.
        ring: Rings for what follows from it.
        max_rows: Stop a pull early after about this many records, and ring for the rest.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    step = next((step for step in due(runtime) if step.is_same(wanted)), None)
    if step is None:
        return None
    result = perform(runtime, step, max_rows=max_rows)
    if result.is_unfinished:
        ring(step)
    elif step.kind is Kind.PULL and result.stored:
        # Not waiting for the next ring keeps KPIs fresh by seconds.
        ring(Step(Kind.COMPUTE))
    return result


def full_pass(runtime: Runtime) -> PassResult:
    """Pull everything, compute, push, copy; a step that fails stops no other.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    steps = (*_pulls(runtime), Step(Kind.COMPUTE), *_pushes(runtime), *_copies(runtime))
    return PassResult(tuple(perform(runtime, step) for step in steps if not runtime.is_stopping))


def drain(runtime: Runtime, timeout: timedelta) -> PassResult:
    """Work until nothing is due: every stream once, then dirty keys, then outboxes.

    Schedules are ignored. Streams that other processes pull right now are waited for.

    Args:
        runtime: What it works with.
        timeout: When to give up; `is_time_up` tells.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    deadline = runtime.clock.monotonic() + timeout.total_seconds()
    results: list[RunResult] = []
    for step in _pulls(runtime):
        if not _until_done(runtime, step, deadline, results):
            return PassResult(tuple(results), is_time_up=True)
    while True:
        begun = len(results)
        for step in (Step(Kind.COMPUTE), *_pushes(runtime), *_copies(runtime)):
            if not _until_done(runtime, step, deadline, results):
                return PassResult(tuple(results), is_time_up=True)
        is_well = all(result.state is State.OK for result in results[begun:])
        if not is_well or _is_quiet(runtime):
            return PassResult(tuple(results))


def _until_done(runtime: Runtime, step: Step, deadline: float, results: list[RunResult]) -> bool:
    """Perform a step until it was really done here; False when time is up."""
    while not runtime.is_stopping:
        if runtime.clock.monotonic() >= deadline:
            return False
        result = perform(runtime, step)
        if result.state not in _UNDONE and not result.is_unfinished:
            results.append(result)
            return True
        if result.is_unfinished:
            results.append(result)
        runtime.rest(_POLL_SECONDS)
    return False


def _pulls(runtime: Runtime) -> list[Step]:
    return [
        Step(Kind.PULL, connection, stream)
        for connection in runtime.config.connections
        for stream in stream_names(runtime, connection)
    ]


def _pushes(runtime: Runtime) -> list[Step]:
    return [
        Step(Kind.PUSH, spec.connection, writeback=name)
        for name, spec in runtime.writebacks.items()
    ]


def _copies(runtime: Runtime) -> list[Step]:
    return [Step(Kind.SINK, writeback=name) for name in runtime.config.sinks]


def _is_quiet(runtime: Runtime) -> bool:
    with reading(runtime.engine) as conn:
        waiting = outbox.counts(conn)
    return not is_dirty(runtime) and not waiting[outbox.PENDING] and not waiting[outbox.SENDING]


def _forget_settled(runtime: Runtime) -> None:
    with operating(runtime.engine) as conn:
        # The guard of a day's changes needs a day of history.
        outbox.purge(conn, max(runtime.config.advanced.keep_outbox, DAY))


def _forget_history(runtime: Runtime) -> None:
    """Once a day: what records and KPIs were longer ago than it is kept."""
    with operating(runtime.engine) as conn:
        record_history.forget(conn, max(runtime.config.advanced.keep_history, DAY))
