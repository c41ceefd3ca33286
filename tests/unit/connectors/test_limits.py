"""Shared rate limits: exact in Redis, a local share without it, never unlimited."""

from __future__ import annotations

import socket
import threading
import time
import uuid

import pytest

from connectors.errors import RateLimited
from connectors.limits import Rate, SharedLimiter


def a_limiter(storage: str, scope: str, *rates: Rate, **more: float) -> SharedLimiter:
    return SharedLimiter(storage=storage, connection="crm", scope=scope, rates=rates, **more)


def a_scope() -> str:
    return f"test:{uuid.uuid4()}"


def seconds_of(limiter: SharedLimiter, calls: int) -> float:
    started = time.monotonic()
    for _ in range(calls):
        limiter.take()
    return time.monotonic() - started


def test_calls_within_the_rate_do_not_wait_and_the_next_one_does() -> None:
    limiter = a_limiter("memory://", a_scope(), Rate(5, 1))

    assert seconds_of(limiter, 5) < 0.5
    assert 0.5 < seconds_of(limiter, 1) < 1.5


def test_two_connectors_of_one_scope_share_and_those_of_others_do_not() -> None:
    scope = a_scope()
    seconds_of(a_limiter("memory://", scope, Rate(5, 1)), 5)

    assert seconds_of(a_limiter("memory://", a_scope(), Rate(5, 1)), 5) < 0.5
    assert seconds_of(a_limiter("memory://", scope, Rate(5, 1)), 1) > 0.5


def test_all_rates_hold_at_once() -> None:
    limiter = a_limiter("memory://", a_scope(), Rate(100, 1), Rate(3, 1))

    assert seconds_of(limiter, 4) > 0.5


def test_every_wait_is_told_and_a_long_one_is_raised() -> None:
    told: list[tuple[str, float]] = []
    limiter = SharedLimiter(
        storage="memory://",
        connection="crm",
        scope=a_scope(),
        rates=[Rate(1, 1)],
        on_wait=lambda reason, seconds: told.append((reason, seconds)),
    )
    seconds_of(limiter, 2)
    slow = a_limiter("memory://", a_scope(), Rate(1, 3600), max_wait_seconds=1.0)
    slow.take()

    with pytest.raises(RateLimited) as caught:
        slow.take()

    assert 3500 < caught.value.wait_seconds <= 3600
    assert told
    assert "crm" in told[0][0]


def test_processes_share_a_rate_through_redis(redis_url: str) -> None:
    scope = a_scope()
    limiters = [a_limiter(redis_url, scope, Rate(10, 1)) for _ in range(3)]
    started = time.monotonic()
    threads = [threading.Thread(target=seconds_of, args=[limiter, 8]) for limiter in limiters]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # 24 calls at 10 a second: the last of them may go after two seconds.
    assert 1.7 < time.monotonic() - started < 6
    assert not any(limiter.is_local for limiter in limiters)


def test_without_redis_a_local_share_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told: list[str] = []
    limiter = SharedLimiter(
        storage=f"redis://127.0.0.1:{port}/0",
        connection="crm",
        scope=a_scope(),
        rates=[Rate(8, 1)],
        on_wait=lambda reason, _seconds: told.append(reason),
        local_share=0.5,
    )

    free = seconds_of(limiter, 4)
    waited = seconds_of(limiter, 1)

    assert limiter.is_local
    assert free < 0.9
    assert 0.1 < waited < 1.5
    assert [reason for reason in told if "local share" in reason]


def test_a_margin_keeps_calls_further_apart_than_the_window() -> None:
    limiter = a_limiter("memory://", a_scope(), Rate(2, 1), margin_seconds=0.3)

    assert seconds_of(limiter, 3) >= 1.3


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_a_wait_that_the_crm_asks_one_process_for_holds_all_who_share(
    where: str, request: pytest.FixtureRequest
) -> None:
    storage = "memory://" if where == "memory" else request.getfixturevalue("redis_url")
    scope = a_scope()
    told, waiting = (a_limiter(storage, scope, Rate(100, 1)) for _ in range(2))

    told.hold(0.6)
    told.hold(0.1)

    assert 0.5 < seconds_of(waiting, 1) < 2.5
    assert seconds_of(waiting, 1) < 0.2
