"""Embedded mode: one process, its own schedule, no broker."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

from store.engine import open_store
from store.errors import StoreError
from worker.alerting import LOOK_EVERY, look_calmly
from worker.health import Pulse
from worker.observe import log_result
from worker.pace import Every
from worker.passes import perform
from worker.reloading import LiveRuntime
from worker.runtime import Runtime
from worker.schedule import due

ROLE: Final = "loop"
LOOK_EVERY_SECONDS: Final = 1.0
_AWAY_SECONDS: Final = 5.0


def run_forever(live: LiveRuntime) -> None:
    """Do what is due until SIGTERM or Ctrl-C; the step under way ends at its next good place.

    Raises:
        SchemaTooNew: A newer kpisync has upgraded the database.
        SchemaTooOld: The database waits for `kpisync db upgrade`.
        StoreUnavailable: The database is away when the loop starts.
    """
    first = live.current
    # The pulse has connections of its own: the runtime may be exchanged while it beats.
    _ = first.engine
    engine = open_store(first.config.database)
    with _stopping_on_signals(live), Pulse(engine, ROLE):
        first.progress.say("kpisync runs; Ctrl-C or SIGTERM ends it after the step under way")
        watch = Every(LOOK_EVERY)
        while not (runtime := live.current).is_stopping:
            _round(runtime)
            if watch.is_due():
                look_calmly(runtime)
    engine.dispose()
    runtime.progress.say("kpisync has stopped")


def _round(runtime: Runtime) -> None:
    """One look at what is due, and all of it."""
    log = structlog.get_logger("kpisync.loop")
    try:
        steps = due(runtime)
        for step in steps:
            if runtime.is_stopping:
                return
            log_result(perform(runtime, step))
    except StoreError as error:
        if not error.retryable:
            raise
        log.warning("the database is away; waiting", reason=str(error))
        runtime.rest(_AWAY_SECONDS)
        return
    if not steps:
        runtime.rest(LOOK_EVERY_SECONDS)


@contextmanager
def _stopping_on_signals(live: LiveRuntime) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        live.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
