"""Rate limits that all workers of one org or portal share.

The counting is done by the library ``limits`` (exact moving window) in Redis, or in this process
in embedded mode. When Redis does not answer, each process goes on with its local share of the
rate: slower, never unlimited.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, MovingWindowSupport, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from connectors.errors import RateLimited

REDIS_TIMEOUT_SECONDS: Final = 2.0
REDIS_RETRY_SECONDS: Final = 30.0
"""How long the local share is used before Redis is asked again."""

_storages: dict[tuple[str, int], Storage] = {}
_storages_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` calls within any `seconds` seconds."""

    calls: int
    seconds: int


class SharedLimiter:
    """Lets a call go when all `rates` allow it, and waits until they do.

    Args:
        storage: A storage URI of the library ``limits`` (``memory://``, ``redis://…``).
        connection: Whose calls these are, for messages.
        scope: What is limited together, such as ``hubspot:1234567:search``; processes with equal
            scopes share the rates.
        rates: All of them hold at once.
        on_wait: Told (reason, seconds) before every sleep.
        local_share: The part of each rate that this process takes alone while Redis is away.
        max_wait_seconds: A longer wait is not slept through but raised.
        margin_seconds: How much longer than its seconds a rate's window is taken to be: calls
            travel for different times, and two of them may arrive closer than they left.
    """

    def __init__(
        self,
        *,
        storage: str,
        connection: str,
        scope: str,
        rates: Sequence[Rate],
        on_wait: Callable[[str, float], None] | None = None,
        local_share: float = 0.25,
        max_wait_seconds: float = 60.0,
        margin_seconds: float = 0.0,
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._on_wait = on_wait
        self._max_wait_seconds = max_wait_seconds
        self._margin_seconds = margin_seconds
        self._uri = storage
        self._shared_items = [RateLimitItemPerSecond(rate.calls, rate.seconds) for rate in rates]
        self._local_items = [
            RateLimitItemPerSecond(max(1, int(rate.calls * local_share)), rate.seconds)
            for rate in rates
        ]
        self._redis_away_until = 0.0

    def take(self) -> None:
        """Wait until one more call is allowed, and count it.

        Raises:
            RateLimited: the wait would be longer than `max_wait_seconds`.
        """
        deadline = time.monotonic() + self._max_wait_seconds
        while (wait_seconds := self._try()) > 0:
            if time.monotonic() + wait_seconds > deadline:
                raise RateLimited(
                    self._connection, "Our own rate limit for this CRM is used up.", wait_seconds
                )
            if self._on_wait is not None:
                self._on_wait(f"{self._connection}: keeping to the rate limit", wait_seconds)
            time.sleep(wait_seconds)

    def hold(self, wait_seconds: float) -> None:
        """Let nobody who shares this scope go before `wait_seconds` are over.

        The CRM has asked one process to wait (429 with Retry-After); it means all of them.
        Whole seconds: the storage counts no finer.
        """
        key = self._hold_key
        try:
            storage = _storage("memory://" if self.is_local else self._uri)
            if self._held_seconds(storage) < wait_seconds:
                storage.clear(key)
                storage.incr(key, max(1, math.ceil(wait_seconds)))
        except StorageError:
            self._go_local()

    @property
    def is_local(self) -> bool:
        """Redis is away: this process keeps to its local share."""
        return time.monotonic() < self._redis_away_until

    def _try(self) -> float:
        """Seconds to wait; 0 when the call was counted and may go."""
        if not self.is_local:
            try:
                return self._count(_storage(self._uri), self._shared_items)
            except StorageError:
                self._go_local()
        return self._count(_storage("memory://"), self._local_items)

    def _go_local(self) -> None:
        self._redis_away_until = time.monotonic() + REDIS_RETRY_SECONDS
        if self._on_wait is not None:
            self._on_wait(
                f"{self._connection}: the shared rate limit cannot be reached,"
                " going on with the local share",
                0.0,
            )

    def _count(self, storage: Storage, items: Sequence[RateLimitItem]) -> float:
        held_seconds = self._held_seconds(storage)
        if held_seconds > 0:
            return held_seconds
        limiter = MovingWindowRateLimiter(storage)
        for item in items:
            wait_seconds = self._until_free(storage, item)
            if wait_seconds > 0:
                return wait_seconds
        for item in items:
            # Another process may have come first: what was counted before it stays counted.
            if not limiter.hit(item, self._scope):
                return max(self._until_free(storage, item), 0.01)
        return 0.0

    def _until_free(self, storage: Storage, item: RateLimitItem) -> float:
        """Seconds until a rate has room; 0 when it has."""
        seconds = item.get_expiry() + self._margin_seconds
        window = cast("MovingWindowSupport", storage)
        # Declared as int, computed with as it is: parts of a second count.
        began, calls = window.get_moving_window(
            item.key_for(self._scope), item.amount, cast("int", seconds)
        )
        if calls < item.amount:
            return 0.0
        return min(max(began + seconds - time.time(), 0.01), seconds)

    @property
    def _hold_key(self) -> str:
        return f"kpisync-hold:{self._scope}"

    def _held_seconds(self, storage: Storage) -> float:
        if not storage.get(self._hold_key):
            return 0.0
        # Redis tells whole seconds: near the end it says 0 while the key is still there.
        return max(0.05, storage.get_expiry(self._hold_key) - time.time())


def _storage(uri: str) -> Storage:
    # By process: a forked worker must not share sockets or locks with its parent.
    key = (uri, os.getpid())
    with _storages_lock:
        if key not in _storages:
            _storages[key] = _open(uri)
        return _storages[key]


def _open(uri: str) -> Storage:
    if uri.startswith("memory://"):
        return MemoryStorage()
    storage = storage_from_string(
        uri,
        wrap_exceptions=True,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )
    if not isinstance(storage, Storage):
        raise TypeError("an asynchronous storage cannot be used here")
    return storage
