"""How long until work goes on, with the times of an installation that tunes nothing.

Each figure is from the end of the trouble until a deal that is won then has reached its account's
field in the CRM: a pull, a computation and a push. ``pytest -m slow -s`` prints them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest
import redis

from tests.acceptance.under_fire import DEFAULTS, Site, at_work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RING_EVERY_SECONDS = 2.0
WORKER, REDIS, POSTGRES = 90.0, 60.0, 30.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with at_work(tmp_path_factory.mktemp("fire"), advanced=DEFAULTS) as installed:
        yield installed
        installed.is_well()


def tell(fault: str, seconds: float, most: float) -> None:
    print(f"{fault}: {seconds:.1f} s, at most {most:.0f}")  # noqa: T201 - figures for a person


def in_a_long_call(site: Site) -> None:
    """Wait until a pull of Salesforce stands in a call that takes long."""
    site.sandbox.salesforce.fault("slow", seconds=45, path="/query")
    time.sleep(4)


@pytest.mark.parametrize("whom", ["child", "main", "group"])
def test_a_worker_killed_in_the_midst_of_a_call_is_back_within_90_seconds(
    site: Site, whom: str
) -> None:
    in_a_long_call(site)
    if whom == "child":
        for which in range(2):
            site.worker.kill_child(which)
    elif whom == "main":
        site.worker.kill_main()
    else:
        site.worker.kill_group()

    tell(f"worker, {whom} killed", site.recovers(WORKER), WORKER)


def test_what_a_dead_worker_of_another_host_held_is_taken_over_within_90_seconds(
    site: Site,
) -> None:
    in_a_long_call(site)
    site.worker.kill_group()
    with site.asking() as conn:
        held = conn.execute(
            "UPDATE leases SET holder = 'elsewhere/pid:[1]/1/1' WHERE expires_at > now()"
        )
    assert held.rowcount > 0

    tell("worker, on another host", site.recovers(WORKER), WORKER)


def test_a_worker_frozen_for_longer_than_its_lease_holds_nobody_up(site: Site) -> None:
    in_a_long_call(site)
    frozen = site.worker.process
    os.killpg(frozen.pid, signal.SIGSTOP)
    has_arrived = site.sell()
    site.worker.start()
    took = site.wait(has_arrived, WORKER)
    os.killpg(frozen.pid, signal.SIGCONT)
    time.sleep(5)
    os.killpg(frozen.pid, signal.SIGKILL)
    frozen.wait()

    tell("worker, frozen beside another one", took, WORKER)
    assert site.redundant_writes() == []


def test_redis_killed_and_empty_again_is_followed_within_60_seconds(site: Site) -> None:
    site.lose(site.redis, seconds=10)

    tell("Redis, 10 s away and empty", site.recovers(REDIS), REDIS)


def test_redis_flushed_is_followed_within_60_seconds(site: Site) -> None:
    with redis.Redis.from_url(site.redis.url) as client:
        client.flushall()

    tell("Redis, flushed", site.recovers(REDIS), REDIS)


def test_redis_frozen_for_longer_than_any_deadline_is_followed_within_60_seconds(
    site: Site,
) -> None:
    site.redis.send(signal.SIGSTOP)
    time.sleep(45)
    site.redis.send(signal.SIGCONT)

    tell("Redis, frozen for 45 s", site.recovers(REDIS), REDIS)


def test_a_connection_to_redis_that_became_a_black_hole_is_left_within_60_seconds(
    site: Site,
) -> None:
    site.wire.swallow()

    tell("Redis, black hole", site.recovers(REDIS), REDIS)


def test_a_redis_that_was_full_is_followed_within_60_seconds(site: Site) -> None:
    with redis.Redis.from_url(site.redis.url) as client:
        client.config_set("maxmemory", 1)
        time.sleep(20)
        client.config_set("maxmemory", 0)

    tell("Redis, full for 20 s", site.recovers(REDIS), REDIS)


def test_postgresql_stopped_at_once_is_followed_within_30_seconds(site: Site) -> None:
    site.lose(site.postgres, seconds=10)

    tell("PostgreSQL, 10 s away", site.recovers(POSTGRES), POSTGRES)


def test_a_postgresql_without_free_connections_is_followed_within_30_seconds(site: Site) -> None:
    with site.asking() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'kpisync'"
        )
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(psycopg.connect(site.postgres.url, connect_timeout=2))
        site.wait(lambda: "no free connections" in site.worker.log.read_text(), 60)

    tell("PostgreSQL, out of connections", site.recovers(POSTGRES), POSTGRES)


def test_a_killed_beat_rings_again_within_two_intervals_of_its_start(site: Site) -> None:
    site.beat.kill_main()
    site.beat.start()
    site.wait(lambda: site.beat.log.read_text().count("is starting.") >= site.beat.starts, 60)
    ready = time.monotonic()
    with site.asking() as conn:
        now = conn.execute("SELECT clock_timestamp()").fetchone()
        assert now is not None
        site.wait(
            lambda: conn.execute("SELECT FROM runs WHERE started > %s", now).fetchone() is not None,
            60,
        )

    took = time.monotonic() - ready
    most = 2 * RING_EVERY_SECONDS
    tell("beat, killed", took, most)
    assert took <= most


@pytest.mark.parametrize("seconds", [10, 45])
def test_sigterm_in_the_midst_of_a_call_ends_a_worker_within_30_seconds(
    site: Site, seconds: int
) -> None:
    site.sandbox.salesforce.fault("slow", seconds=seconds, path="/query")
    time.sleep(4)
    before = len(site.worker.slow_stops)

    begun = time.monotonic()
    site.worker.stop(most_seconds=30)
    tell(f"worker, SIGTERM in a call of {seconds} s", time.monotonic() - begun, 30)

    assert site.worker.slow_stops[before:] == []
    site.recovers(WORKER)
