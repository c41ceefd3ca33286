"""Whole passes: everything once, or until nothing is due."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import structlog

from store import outbox
from store.engine import operating, reading
from worker.computing import compute
from worker.pulling import pull_stream, stream_names
from worker.pushing import push_writeback
from worker.results import Kind, PassResult, RunResult, State
from worker.runtime import Runtime
from worker.schedule import Step, is_dirty

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
            result = pull_stream(runtime, connection, stream, full=step.is_full, max_rows=max_rows)
        case Step(writeback=str(writeback)):
            result = push_writeback(runtime, writeback)
            _forget_settled(runtime)
        case _:
            result = compute(runtime)
    log_result(result)
    return result


def full_pass(runtime: Runtime) -> PassResult:
    """Pull everything, compute, push; a step that fails stops no other.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    steps = (*_pulls(runtime), Step(Kind.COMPUTE), *_pushes(runtime))
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
    deadline = time.monotonic() + timeout.total_seconds()
    results: list[RunResult] = []
    for step in _pulls(runtime):
        if not _until_done(runtime, step, deadline, results):
            return PassResult(tuple(results), is_time_up=True)
    while True:
        for step in (Step(Kind.COMPUTE), *_pushes(runtime)):
            if not _until_done(runtime, step, deadline, results):
                return PassResult(tuple(results), is_time_up=True)
        if _is_quiet(runtime) or results[-1].state not in {State.OK, State.PARTLY_FAILED}:
            return PassResult(tuple(results))


def _until_done(runtime: Runtime, step: Step, deadline: float, results: list[RunResult]) -> bool:
    """Perform a step until it was really done here; False when time is up."""
    while not runtime.is_stopping:
        if time.monotonic() >= deadline:
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


def _is_quiet(runtime: Runtime) -> bool:
    with reading(runtime.engine) as conn:
        waiting = outbox.counts(conn)
    return not is_dirty(runtime) and not waiting[outbox.PENDING] and not waiting[outbox.SENDING]


def _forget_settled(runtime: Runtime) -> None:
    with operating(runtime.engine) as conn:
        outbox.purge(conn, runtime.config.advanced.keep_outbox)


def log_result(result: RunResult) -> None:
    """One event for each step, loud when it did not end well."""
    log = structlog.get_logger("kpisync.step")
    fields = {
        "step": result.kind.value,
        "connection": result.connection,
        "stream": result.stream,
        "writeback": result.writeback,
        "state": result.state.value,
        "run": result.run,
        "pulled": result.pulled,
        "stored": result.stored,
        "dead": result.dead,
        "changed_values": result.changed_values,
        "sent": result.sent,
        "failed": result.failed,
        "calls": result.calls,
        "error": result.error,
    }
    shown = {name: value for name, value in fields.items() if value}
    if result.state in {State.FAILED, State.REFUSED, State.PARTLY_FAILED}:
        log.error("step did not end well", **shown)
    elif result.state in {State.PAUSED, State.WAITING, State.INTERRUPTED}:
        log.warning("step waits", why="; ".join(result.warnings), **shown)
    else:
        log.debug("step done", **shown)
