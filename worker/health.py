"""Whether a process of ours on this host is alive, by its heartbeat in the database."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import structlog
from sqlalchemy import Engine

from store import heartbeats
from store.engine import operating, reading
from store.errors import StoreError

HEARTBEAT_EVERY: Final = timedelta(seconds=5)
FRESH: Final = timedelta(seconds=30)


def is_healthy(
    engine: Engine, role: str, *, host: str | None = None, max_age: timedelta = FRESH
) -> bool:
    """Whether a process of this role has been seen lately.

    Args:
        engine: The store.
        role: ``worker``, ``beat`` or ``loop``.
        host: Where it must run; this host unless given.
        max_age: How old a heartbeat still counts.

    Raises:
        StoreUnavailable: Nobody can tell without the database.
    """
    where = host or socket.gethostname()
    with reading(engine) as conn:
        return any(
            beat.role == role
            and beat.host == where
            and beat.silent_seconds <= max_age.total_seconds()
            for beat in heartbeats.every(conn)
        )


class Pulse:
    """Says every few seconds that this process is alive, from a thread of its own."""

    def __init__(self, engine: Engine, role: str, *, every: timedelta = HEARTBEAT_EVERY) -> None:
        self._engine = engine
        self._role = role
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"pulse-{role}", daemon=True)

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
        """End, and say goodbye."""
        self._end.set()
        self._thread.join(timeout=5)
        with suppress(StoreError), operating(self._engine) as conn:
            heartbeats.forget(conn, self._role)

    def _beat(self) -> None:
        log = structlog.get_logger("kpisync.pulse")
        is_away = False
        while True:
            try:
                with operating(self._engine) as conn:
                    heartbeats.beat(conn, self._role)
                is_away = False
            except StoreError as error:
                if not is_away:
                    log.warning("no heartbeat", role=self._role, reason=str(error))
                is_away = True
            if self._end.wait(self._every.total_seconds()):
                return
