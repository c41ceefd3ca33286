"""The configuration under a running process: a new valid one takes over, a broken one does not.

Between two steps a process looks whether the file has changed. While the new one is faulty the
last good one stays in force, and `status` and the alerts say so.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from config.errors import ConfigurationError
from config.loader import load
from config.models import Config
from store import notes
from store.engine import operating
from store.errors import StoreError
from worker.pace import Every
from worker.progress import Progress
from worker.runtime import Runtime, open_runtime

LOOK_EVERY: Final = timedelta(seconds=5)
READ_EVERY: Final = timedelta(minutes=5)
"""Secrets in files of their own change without the configuration's stamp."""

CONFIGURATION_NOTE: Final = ("", "configuration")
"""Where the fault of a configuration that is not in force stands, for every process to see."""


class LiveRuntime:
    """The runtime in force, exchanged when the configuration changes.

    Args:
        path: The configuration's file or folder.
        runtime: What it was opened with at the start; closed when it is exchanged.
        progress: Where new runtimes show theirs.
        look_every: How often to look whether the file has changed.
    """

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        progress: Progress | None = None,
        *,
        look_every: timedelta = LOOK_EVERY,
    ) -> None:
        self._path = path
        self._runtime = runtime
        self._progress = progress
        self._stamp = _stamp(path)
        self._looking = Every(look_every)
        self._reading = Every(READ_EVERY)
        self._reading.is_due()  # the first reading was the start's
        # Whoever starts with the file has found nothing wrong with it.
        self._note(None)

    @property
    def current(self) -> Runtime:
        """The runtime to work with now; ask before each step, never within one."""
        if self._looking.is_due() and self._is_to_be_read():
            self._read_again()
        return self._runtime

    def stop(self) -> None:
        """Ask running steps to end at the next good place; safe in a signal handler."""
        self._runtime.stop()

    def close(self) -> None:
        """Give connections back."""
        self._runtime.close()

    def _is_to_be_read(self) -> bool:
        stamp = _stamp(self._path)
        has_changed, self._stamp = stamp != self._stamp, stamp
        return self._reading.is_due() or has_changed

    def _read_again(self) -> None:
        log = structlog.get_logger("kpisync.configuration")
        try:
            config = load(self._path, dict(os.environ))
            if _is_same(config, self._runtime.config):
                self._note(None)
                return
            fresh = open_runtime(config, progress=self._progress)
        except (ConfigurationError, OSError) as error:
            log.warning("the new configuration is faulty; the last good one stays in force")
            self._note(str(error))
            return
        stopping = self._runtime.is_stopping
        self._runtime.close()
        self._runtime = fresh
        if stopping:
            fresh.stop()
        self._note(None)
        log.info("the configuration has changed and is in force")

    def _note(self, fault: str | None) -> None:
        with suppress(StoreError), operating(self._runtime.engine) as conn:
            if fault is None:
                notes.drop(conn, *CONFIGURATION_NOTE)
            else:
                notes.put(conn, *CONFIGURATION_NOTE, fault)


def _is_same(one: Config, other: Config) -> bool:
    return one.model_dump() == other.model_dump()


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Which files there are, how long, and when they were last written."""
    files = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
    found = []
    for file in files:
        with suppress(OSError):
            status = file.stat()
            found.append((file.name, status.st_size, status.st_mtime_ns))
    return tuple(found)
