"""Celery tasks: each takes names, does one step of the pipeline, may come twice, and ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import structlog
from celery import current_task, signals
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from config.errors import ConfigurationError
from store.errors import StoreError
from worker.alerting import LOOK_EVERY, look
from worker.app import (
    COMPARE,
    COMPUTE,
    COPY,
    MAIN_QUEUE,
    PULL,
    PUSH,
    SWEEP,
    VERIFY,
    app,
    config,
    config_path,
    queue_of,
    slots,
    when_stopping,
)
from worker.observe import log_result
from worker.pace import Every
from worker.passes import answer
from worker.reloading import LiveRuntime
from worker.results import Kind
from worker.runtime import Runtime, open_runtime
from worker.schedule import Step, due

ROWS_A_TASK: Final = 100_000
"""A longer pull goes on in another task: none comes near the broker's visibility timeout."""

_EXPIRES_SECONDS: Final = 30
"""A message that nobody took by then is dropped; the bell has rung again. By the broker's clock:
Celery's own ``expires`` compares those of two hosts, and one that is seconds ahead of the other
would drop everything without a word."""

_RUNG_AT: Final = "kpisync_rung_at"
"""Header of a message: when it was sent, in seconds of the broker's clock."""

_RUNG_SECONDS: Final = 10
"""While a message waits, no second one is sent for the same step: a queue that fills faster than
it is worked off holds nothing but messages that are dropped for their age."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@functools.cache
def _live() -> LiveRuntime:
    """This child's own connections, opened after the fork."""
    live = LiveRuntime(config_path(), open_runtime(config))
    when_stopping(live.stop)
    return live


def _runtime() -> Runtime:
    return _live().current


def _close(**_: object) -> None:
    if _live.cache_info().currsize:
        _live().close()


def sweep() -> None:
    """Look at the tables and ring for everything that is due."""
    _calmly(_ring)


def pull_stream(connection: str, stream: str) -> None:
    """Pull a stream, if it is still due."""
    _if_due(Step(Kind.PULL, connection, stream))


def compute() -> None:
    """Compute, if something is still dirty."""
    _if_due(Step(Kind.COMPUTE))


def push_writeback(writeback: str) -> None:
    """Run a write-back, if it is still due."""
    section = _runtime().config.writebacks.get(writeback)
    if section is not None:
        _if_due(Step(Kind.PUSH, section.connection, writeback=writeback))


def compare_writeback(writeback: str) -> None:
    """Compare the fields of a write-back with what was written, if it is still due."""
    section = _runtime().config.writebacks.get(writeback)
    if section is not None:
        _if_due(Step(Kind.DRIFT, section.connection, writeback=writeback))


def copy_to_sink(sink: str) -> None:
    """Copy the metrics table to a sink, if it is still due."""
    _if_due(Step(Kind.SINK, writeback=sink))


def verify_share() -> None:
    """Verify tonight's share of the values, if it is still due."""
    _if_due(Step(Kind.VERIFY))


def _ring() -> None:
    # Those that have waited longest come first: where there is more to do than time, all get
    # their turn.
    for step in sorted(due(_runtime()), key=_begun):
        send(step)
    if _watch.is_due():
        look(_runtime())


def _begun(step: Step) -> datetime:
    return step.begun or _NEVER


_watch: Final = Every(LOOK_EVERY)


def send(step: Step) -> None:
    """Ring for one step."""
    names, task = _message(step)
    # A connection that was configured since the workers started has no queue of its own yet.
    is_known = step.connection in config.connections
    queue = queue_of(step.connection) if step.connection and is_known else MAIN_QUEUE
    try:
        with app.producer_or_acquire() as producer:
            redis = producer.channel.client
            if redis.set(_mark(task, names), 1, nx=True, ex=_RUNG_SECONDS):
                sent = {_RUNG_AT: redis.time()[0]}
                app.send_task(task, args=names, queue=queue, headers=sent, producer=producer)
    except (OperationalError, RedisError) as error:
        log = structlog.get_logger("kpisync.sweep")
        log.warning("the broker is away; ringing again later", reason=str(error))


def _answer(step: Step) -> bool:
    """The bell was heard: it may be rung for this step again. False: it rang too long ago."""
    names, task = _message(step)
    rung_at = (current_task.request.headers or {}).get(_RUNG_AT)
    with suppress(OperationalError, RedisError), app.producer_or_acquire() as producer:
        redis = producer.channel.client
        redis.delete(_mark(task, names))
        return rung_at is None or int(redis.time()[0]) - rung_at <= _EXPIRES_SECONDS
    # Without the broker nobody can tell; whether it is still due is looked up anyway.
    return True


def _mark(task: str, names: Iterable[str | None]) -> str:
    return ":".join(("kpisync-rung", task, *(name or "" for name in names)))


def _message(step: Step) -> tuple[list[str | None], str]:
    match step.kind:
        case Kind.PULL:
            return [step.connection, step.stream], PULL
        case Kind.PUSH:
            return [step.writeback], PUSH
        case Kind.DRIFT:
            return [step.writeback], COMPARE
        case Kind.SINK:
            return [step.writeback], COPY
        case Kind.VERIFY:
            return [], VERIFY
        case _:
            return [], COMPUTE


def _if_due(wanted: Step) -> None:
    """Do a step unless somebody has done it since the bell rang."""
    if _answer(wanted):
        _calmly(lambda: _perform(wanted))


def _perform(wanted: Step) -> None:
    if wanted.connection is None:
        _perform_if_due(wanted)
        return
    with slots().of(wanted.connection) as is_free:
        if not is_free:
            # A slow CRM must not hold every process: the bell rings for this step again.
            return
        _perform_if_due(wanted)
    _ring_for_the_next(wanted)


def _ring_for_the_next(done: Step) -> None:
    """Others of the connection had no place meanwhile: the one that has waited longest."""
    waiting = [
        step
        for step in due(_runtime())
        if step.connection == done.connection and not step.is_same(done)
    ]
    for step in sorted(waiting, key=_begun)[:1]:
        send(step)


def _perform_if_due(wanted: Step) -> None:
    result = answer(_runtime(), wanted, send, max_rows=ROWS_A_TASK)
    if result is not None:
        log_result(result)


def _calmly(work: Callable[[], object]) -> None:
    """A database that is away, or a configuration that no longer holds, ends the task alone.

    The next ring finds the work.
    """
    try:
        _runtime().leases.give_back_late()
        work()
    except ConfigurationError as error:
        structlog.get_logger("kpisync.task").error("the configuration is invalid", why=str(error))
    except StoreError as error:
        structlog.get_logger("kpisync.task").warning("the step was put off", reason=str(error))


# By name, not by decorator: Celery's would take the functions' types away.
signals.worker_process_shutdown.connect(_close, weak=False)
for _name, _task in (
    (SWEEP, sweep),
    (PULL, pull_stream),
    (COMPUTE, compute),
    (PUSH, push_writeback),
    (COMPARE, compare_writeback),
    (COPY, copy_to_sink),
    (VERIFY, verify_share),
):
    app.task(name=_name)(_task)
