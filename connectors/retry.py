"""The one retry policy: what is tried again, how long we wait, and when we stop.

Errors say themselves whether another try can help (``ConnectorError.retryable``); everything
else passes at once. A wait that the CRM itself asks for is honoured, unless it is longer than
`Tuning.retry_wait_max`: then the error passes with its ``wait_seconds``, so that the caller can
remember the pause instead of sleeping through it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.wait import wait_exponential, wait_random

from connectors.base import Tuning
from connectors.errors import ConnectorError, CursorExpired, RateLimited

T = TypeVar("T")


class RetryPolicy:
    """Tries a call again as long as `tuning` allows and the error says that it can help.

    Args:
        tuning: Attempts, waits and the bound on one call including its retries.
        on_wait: Told (reason, seconds) before every sleep.
    """

    def __init__(self, tuning: Tuning, on_wait: Callable[[str, float], None] | None = None) -> None:
        self._attempts = max(1, tuning.retry_attempts)
        self._longest_wait = tuning.retry_wait_max.total_seconds()
        self._total = tuning.total_timeout.total_seconds()
        self._on_wait = on_wait
        first_wait = tuning.retry_wait.total_seconds()
        self._backoff = wait_exponential(multiplier=first_wait, max=self._longest_wait)
        self._jitter = wait_random(0, first_wait)

    def call(self, operation: Callable[[], T]) -> T:
        """Run `operation` until it succeeds or nothing more can be done.

        Raises:
            ConnectorError: the last failure, unchanged.
        """
        started = time.monotonic()
        retrying = Retrying(
            retry=retry_if_exception(self._is_worth_another_try),
            wait=self._wait_seconds,
            stop=lambda state: self._is_over(state, started),
            before_sleep=self._tell,
            reraise=True,
        )
        return retrying(operation)

    def _is_worth_another_try(self, error: BaseException) -> bool:
        if isinstance(error, RateLimited) and error.wait_seconds > self._longest_wait:
            return False
        # A lost place in a query stays lost: the caller starts it again from its checkpoint.
        if isinstance(error, CursorExpired):
            return False
        return isinstance(error, ConnectorError) and error.retryable

    def _wait_seconds(self, state: RetryCallState) -> float:
        error = _failure(state)
        if isinstance(error, RateLimited) and error.wait_seconds > 0:
            return _padded(error)
        return min(self._backoff(state) + self._jitter(state), self._longest_wait)

    def _is_over(self, state: RetryCallState, started: float) -> bool:
        elapsed = time.monotonic() - started
        return state.attempt_number >= self._attempts or (
            elapsed + state.upcoming_sleep >= self._total
        )

    def _tell(self, state: RetryCallState) -> None:
        if self._on_wait is not None:
            self._on_wait(str(_failure(state)), state.upcoming_sleep)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _padded(error: RateLimited) -> float:
    # A touch later than asked: clocks differ, and a call before the time is counted against us.
    return error.wait_seconds + 0.05
