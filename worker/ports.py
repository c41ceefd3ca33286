"""What a runtime reaches the world by: time, the store, the CRMs.

A process uses the machine's clock, a database by its address and the installed connectors. The
simulation (``tests/simulation``) gives others, so that a whole installation runs in one process,
the same way for the same seed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from sqlalchemy import Engine

from connectors import registry
from connectors.base import ConnectionSettings, Connector
from store.engine import open_store


class Clock(Protocol):
    """The time of one process. What hosts must agree on is the database's time, not this one."""

    def now(self) -> datetime:
        """The instant by the machine's clock (aware UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event, so many seconds at most; whether it has come."""
        ...

    def beside(self, seconds: float, work: Callable[[], None]) -> AbstractContextManager[None]:
        """Do `work` every so many seconds beside the block, for as long as the process lives."""
        ...


class SystemClock:
    """`Clock` of the machine."""

    def now(self) -> datetime:
        """The instant by the machine's clock (aware UTC)."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for an event, so many seconds at most; whether it has come."""
        return event.wait(seconds)

    @contextmanager
    def beside(self, seconds: float, work: Callable[[], None]) -> Iterator[None]:
        """Do `work` in a thread of its own every so many seconds until the block ends."""
        end = threading.Event()

        def now_and_then() -> None:
            while not end.wait(seconds):
                work()

        threading.Thread(target=now_and_then, name="beside", daemon=True).start()
        try:
            yield
        finally:
            end.set()


MACHINE: Final[Clock] = SystemClock()


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a runtime gets the time, its store and its connectors from."""

    clock: Clock = MACHINE
    open_store: Callable[[str], Engine] = open_store
    """The engine of a database address."""
    connect: Callable[[ConnectionSettings], Connector] = registry.connect
    """The connector of a connection."""


PORTS: Final = Ports()
"""Those of a process on a machine."""
