"""Leases as steps use them: taken, kept alive over long waits, given back.

A lease that its process left behind by dying is taken over at once when that process can be seen
to be gone (same machine, same process namespace); otherwise it runs out by itself.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from store import leases
from store.engine import operating
from store.errors import StoreError
from store.leases import Lease
from worker import crashpoints
from worker.ports import PORTS, Clock

_POLL_SECONDS: Final = 0.1
_RENEWALS: Final = 3
"""How often a lease is renewed before it would run out."""

_NEVER: Final = threading.Event()
"""Nobody sets it: who waits for it sleeps."""


class Busy(Exception):
    """Another process holds the lease."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        """What holds us up."""
        return f"another process is at work on {self.name}"


class HeldLeases:
    """The leases this process holds now, so that a long wait can renew them all."""

    def __init__(self, engine: Engine, ttl: timedelta, clock: Clock = PORTS.clock) -> None:
        self._engine = engine
        self._ttl = ttl
        self._clock = clock
        self._held: list[Lease] = []
        self._owed: list[Lease] = []
        """Not held any more, and not given back either: the database was away."""
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, *names: str, patience: timedelta = timedelta(0)) -> Iterator[tuple[Lease, ...]]:
        """Hold these leases for the length of a block.

        Args:
            names: Taken in this order.
            patience: How long to wait for others to give them back.

        Raises:
            Busy: Another process holds one of them; none is kept then.
            StoreUnavailable: The database is away.
        """
        self.give_back_late()
        taken: list[Lease] = []
        deadline = self._clock.monotonic() + patience.total_seconds()
        try:
            for name in names:
                lease = self._take(name, deadline)
                taken.append(lease)
            crashpoints.reach(crashpoints.LEASE_ACQUIRED)
            # A process that is frozen or dead renews nothing: that is what a lease is for.
            with self._clock.beside(self._ttl.total_seconds() / _RENEWALS, self._keep_alive):
                yield tuple(taken)
        finally:
            self._give_back(taken)

    def _keep_alive(self) -> None:
        """Renew from beside while a step waits for an answer longer than a lease lasts."""
        # Whether it is lost is for the step to find out, when it commits.
        with suppress(StoreError):
            self.renew()

    def renew(self, extra: timedelta = timedelta(0)) -> None:
        """Keep every held lease for another term.

        Args:
            extra: Time on top, for a sleep that is about to begin.

        Raises:
            LeaseLost: One of them has been taken over.
        """
        with self._lock:
            held = tuple(self._held)
        if not held:
            return
        with operating(self._engine) as conn:
            for lease in held:
                leases.renew(conn, lease, self._ttl + extra)
        crashpoints.reach(crashpoints.LEASE_RENEWED)

    def _take(self, name: str, deadline: float) -> Lease:
        while True:
            with operating(self._engine) as conn:
                _free_if_holder_is_gone(conn, name)
                lease = leases.acquire(conn, name, holder_of_this_process(), self._ttl)
            if lease is not None:
                with self._lock:
                    self._held.append(lease)
                return lease
            if self._clock.monotonic() >= deadline:
                raise Busy(name)
            self._clock.wait(_NEVER, _POLL_SECONDS)

    def _give_back(self, taken: list[Lease]) -> None:
        with self._lock:
            self._held = [lease for lease in self._held if lease not in taken]
        if not taken:
            return
        self._owed += reversed(taken)
        # What led here matters more than a lease that cannot be given back now.
        with suppress(StoreError):
            self.give_back_late()

    def give_back_late(self) -> None:
        """Give back what could not be given back when its step ended.

        Else a database that was away for a second would hold up the steps it cut off for as long
        as a lease lasts: their holder lives, so nobody may take them over.

        Raises:
            StoreUnavailable: The database is still away; they stay owed, or run out by themselves.
        """
        if not self._owed:
            return
        with operating(self._engine) as conn:
            for lease in self._owed:
                leases.release(conn, lease)
        self._owed.clear()


def holder_of_this_process() -> str:
    """Names this process so that another one on this machine can tell whether it still runs."""
    return _holder(os.getpid())


@lru_cache(maxsize=1)  # by its id: a child is another process
def _holder(pid: int) -> str:
    return f"{_machine()}/{pid}/{_started(pid)}"


def is_gone(holder: str) -> bool:
    """Whether the process of a holder is known to have ended; False when nobody can tell."""
    machine, _, process = holder.rpartition("/")[0].rpartition("/")
    started = holder.rpartition("/")[2]
    if machine != _machine() or not process.isdecimal() or not started:
        return False
    return _started(int(process)) != started


def _machine() -> str:
    """Host and process namespace: containers of one host do not see each other's processes."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = "?"
    return f"{socket.gethostname()}/{namespace}"


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty when it does not run.

    Process ids are used again, pairs of id and start are not (before the next boot, which ends
    leases that nobody renews).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    ticks = rest[18]
    return "" if state in {"Z", "X"} else ticks


def _free_if_holder_is_gone(conn: Connection, name: str) -> None:
    for row in leases.every(conn):
        if row.name == name and row.is_held and row.holder and is_gone(row.holder):
            leases.release(conn, Lease(row.name, row.token, row.holder))
