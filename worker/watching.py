"""Looking for troubles from processes that do no steps themselves.

Whoever works looks between two steps, but where beat is dead or Redis away nobody works, and that
is what people must be told of. What beat and `kpisync web` find is told once all the same: the
lease and the memory of notices are shared by all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import structlog

from config.errors import ConfigurationError
from store.errors import StoreError
from worker.alerting import LOOK_EVERY, announce, look
from worker.runtime import Runtime

DATABASE_AWAY: Final = timedelta(minutes=5)
"""What is wrong and what was told stands in the database; that it is away itself does not."""


class Watch:
    """Looks every minute, the first time at once, from a thread of its own.

    Args:
        current: The runtime in force; called in the thread before each look.
        every: How often to look.
        patience: How long the database may be away before each process that watches says so.
    """

    def __init__(
        self,
        current: Callable[[], Runtime],
        *,
        every: timedelta = LOOK_EVERY,
        patience: timedelta = DATABASE_AWAY,
    ) -> None:
        self._current = current
        self._every = every
        self._patience = patience
        self._away_since: float | None = None
        self._has_told = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a notice that is being sent may still arrive."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _watch(self) -> None:
        while True:
            try:
                runtime = self._current()
            except ConfigurationError as error:
                structlog.get_logger("kpisync.watch").warning(
                    "nobody is told of troubles: the configuration is invalid", why=str(error)
                )
            else:
                self._look(runtime)
            if self._end.wait(self._every.total_seconds()):
                return

    def _look(self, runtime: Runtime) -> None:
        try:
            look(runtime)
        except StoreError as error:
            self._note_absence(runtime, str(error))
            return
        if self._has_told:
            self._has_told = not announce(
                runtime.config, "over: database (away)", "the database answers again"
            )
        self._away_since = None

    def _note_absence(self, runtime: Runtime, reason: str) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if not self._has_told and now - self._away_since >= self._patience.total_seconds():
            self._has_told = announce(runtime.config, "database (away)", reason)
