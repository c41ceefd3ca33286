"""The retry policy: what is tried again, how long, and what is said of it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from connectors.base import Tuning
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    CursorExpired,
    MalformedAnswer,
    QuotaExhausted,
    RateLimited,
)
from connectors.retry import RetryPolicy

QUICK = Tuning(retry_wait=timedelta(milliseconds=1), retry_wait_max=timedelta(milliseconds=200))


def failing(*errors: Exception) -> tuple[Callable[[], str], list[int]]:
    """An operation that fails so and then succeeds, and the list of its calls."""
    calls: list[int] = []

    def operation() -> str:
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return operation, calls


def test_a_passing_fault_is_tried_again_until_it_works() -> None:
    operation, calls = failing(CrmUnavailable("crm", "503"), MalformedAnswer("crm", "cut"))

    assert RetryPolicy(QUICK).call(operation) == "done"
    assert len(calls) == 3


def test_the_last_error_comes_out_after_all_attempts() -> None:
    operation, calls = failing(*(CrmUnavailable("crm", str(n)) for n in range(9)))

    with pytest.raises(CrmUnavailable, match="crm: 4"):
        RetryPolicy(QUICK).call(operation)

    assert len(calls) == 5


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("crm", "no"),
        QuotaExhausted("crm", "used up", datetime(2026, 1, 1, tzinfo=UTC)),
        CursorExpired("crm", "forgotten"),
        ValueError("a mistake of ours"),
    ],
)
def test_what_another_try_cannot_help_passes_at_once(error: Exception) -> None:
    operation, calls = failing(error)

    with pytest.raises(type(error)):
        RetryPolicy(QUICK).call(operation)

    assert len(calls) == 1


def test_the_crms_own_wait_is_honoured_and_told() -> None:
    told: list[tuple[str, float]] = []
    operation, _ = failing(RateLimited("crm", "slow down", 0.1))
    started = time.monotonic()

    RetryPolicy(QUICK, lambda reason, seconds: told.append((reason, seconds))).call(operation)

    assert time.monotonic() - started >= 0.1
    assert [reason for reason, _ in told] == ["crm: slow down"]
    assert told[0][1] >= 0.1


def test_a_wait_longer_than_allowed_is_the_callers_to_remember() -> None:
    operation, calls = failing(RateLimited("crm", "slow down", 60))

    with pytest.raises(RateLimited) as caught:
        RetryPolicy(QUICK).call(operation)

    assert (len(calls), caught.value.wait_seconds) == (1, 60)


def test_the_total_time_ends_it() -> None:
    tuning = Tuning(
        retry_attempts=1000,
        retry_wait=timedelta(milliseconds=50),
        retry_wait_max=timedelta(milliseconds=50),
        total_timeout=timedelta(milliseconds=300),
    )
    operation, calls = failing(*(CrmUnavailable("crm", "503") for _ in range(1000)))
    started = time.monotonic()

    with pytest.raises(CrmUnavailable):
        RetryPolicy(tuning).call(operation)

    assert time.monotonic() - started < 0.5
    assert 2 < len(calls) < 10


@pytest.mark.parametrize(
    "error",
    [
        CrmUnavailable("crm", "503"),
        RateLimited("crm", "slow down", 1.5),
        QuotaExhausted("crm", "used up", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_errors_survive_pickling(error: ConnectorError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert (type(copy), vars(copy), str(copy)) == (type(error), vars(error), str(error))
