"""The processes of server mode under a supervisor: started, hurt, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fixtures.cli import Cli, clean_environment
from tests.fixtures.servers import end_with_parent

STOP_SECONDS = 30.0
"""A graceful stop takes no longer than this; a busy machine gets some seconds more."""
_START_SECONDS = 15.0
_DEATH_OF_A_CHILD = "exited with 'signal 9"


@dataclass
class Service:
    """One process of server mode, such as ``kpisync worker``, in a group of its own."""

    cli: Cli
    arguments: tuple[str, ...]
    label: str
    environment: dict[str, str] = field(default_factory=dict)
    """Of the next start on."""
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    slow_stops: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    is_armed: bool = False
    """Its children die at a crash point."""
    _started: float = 0.0

    @property
    def name(self) -> str:
        return self.arguments[0]

    @property
    def log(self) -> Path:
        return self.cli.folder / f"{self.label}.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that was started last."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        environment = clean_environment() | self.cli.environment | self.environment
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("kpisync"), *self.arguments],
                cwd=self.cli.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # A storm that is killed leaves no process behind.
                preexec_fn=end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - no threads here
            )
        self.starts += 1
        self.is_armed = bool(self.environment)
        self._started = time.monotonic()

    def tend(self) -> bool:
        """Start it again if it has ended; whether that was needed."""
        if self.is_running:
            return False
        self.start()
        return True

    def children(self) -> list[psutil.Process]:
        """Its pool, the children that work; empty while it starts."""
        if not self.is_running:
            return []
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    # ------------------------------------------------------------ what is done to it

    def kill_child(self, which: int) -> bool:
        """SIGKILL for one of the children; False when it has none."""
        children = self.children()
        if not children:
            return False
        with contextlib.suppress(psutil.Error):
            children[which % len(children)].kill()
            self.kills["child"] += 1
            return True
        return False

    def kill_main(self) -> None:
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
            self._waited(10)
            self.kills["main"] += 1

    def kill_group(self) -> None:
        if self.is_running:
            os.killpg(self.pid, signal.SIGKILL)
            self._waited(10)
            self.kills["group"] += 1

    def freeze(self, which: int, seconds: float) -> bool:
        """SIGSTOP for a child, then SIGCONT; False when there is none."""
        children = self.children()
        if not children:
            return False
        child = children[which % len(children)]
        with contextlib.suppress(psutil.Error):
            child.suspend()
            time.sleep(seconds)
            child.resume()
        return True

    @contextlib.contextmanager
    def frozen(self, *, is_whole: bool = True) -> Iterator[None]:
        """SIGSTOP for its group, or for the main process alone, and SIGCONT in the end."""
        pid = self.pid
        send = os.killpg if is_whole else os.kill
        send(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            # Somebody may have killed it meanwhile.
            with contextlib.suppress(ProcessLookupError):
                send(pid, signal.SIGCONT)

    def stop(self, most_seconds: float = STOP_SECONDS) -> None:
        """SIGTERM; slow or unclean ends are remembered."""
        if not self.is_running:
            return
        begun = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        code = self._waited(most_seconds + 15)
        took = time.monotonic() - begun
        # Before its handlers are in place a process ends by the signal itself.
        fine = {0, -signal.SIGTERM} if begun - self._started < _START_SECONDS else {0}
        if took > most_seconds or code not in fine:
            self.slow_stops.append(f"{self.name} took {took:.0f} s to stop and ended with {code}")
        if code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._waited(10)

    def _waited(self, seconds: float) -> int | None:
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    # ------------------------------------------------------------ what it shows

    def deaths_of_children(self) -> int:
        """Children that somebody, or a crash point, has killed, by the log."""
        if not self.log.exists():
            return 0
        return self.log.read_text(encoding="utf-8", errors="replace").count(_DEATH_OF_A_CHILD)

    def memory_mb(self) -> float:
        """The largest resident memory of one of its processes."""
        return max((size for size, _ in self._sizes()), default=0.0)

    def open_files(self) -> int:
        """The most open files of one of its processes."""
        return max((files for _, files in self._sizes()), default=0)

    def _sizes(self) -> list[tuple[float, int]]:
        found = []
        with contextlib.suppress(psutil.Error):
            for process in [psutil.Process(self.pid), *self.children()]:
                with contextlib.suppress(psutil.Error):
                    found.append((process.memory_info().rss / 2**20, process.num_fds()))
        return found
