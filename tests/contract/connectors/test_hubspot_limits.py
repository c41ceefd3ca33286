"""The limits of a portal: nobody who shares them goes beyond, and no day is used up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from connectors.base import DailyCalls, PushOutcome
from connectors.errors import QuotaExhausted, RateLimited
from store.engine import open_store
from tests.contract.connectors.hubspot_portal import (
    QUICK,
    fresh,
    paths,
    portal,
    pull,
    update,
)
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox
from worker.sharing import StoredLedger

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        sandbox.hubspot.add_field("companies", "kpi_count", "number")
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


def refused(crm: Crm) -> int:
    return sum(1 for one in crm.requests() if one["status"] == 429)


def until_stopped(step: Callable[[], object]) -> QuotaExhausted:
    """Do something again and again; what stops it."""
    for _ in range(60):
        try:
            step()
        except QuotaExhausted as stop:
            return stop
    pytest.fail("nothing stopped it")


# ---------------------------------------------------------------- the portal's day


def test_reading_stops_at_nine_tenths_of_the_portals_day_and_writing_does_not(crm: Crm) -> None:
    (company_id,) = crm.create_many("companies", [{"name": "Account 0001"}])
    reset = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    usage = {"results": [{"currentUsage": 905, "usageLimit": 1000, "resetsAt": reset.isoformat()}]}
    crm.fault("status", path="api-usage", status=200, body=usage, times="forever")

    with portal(crm) as connector:
        connector.org_id()
        crm.settings(daily=1_000, used_today=890)
        stop = until_stopped(lambda: pull(connector, "accounts"))
        before = len(crm.requests())
        until_stopped(lambda: pull(connector, "accounts"))
        after = len(crm.requests())
        (result,) = connector.push([update(company_id, "kpi_count", 1)])

    assert stop.until == reset
    assert "quota" in stop.message
    assert re.search(r"90\d of the portal's 1,000 calls", stop.message)
    assert before == after
    assert result.outcome is PushOutcome.WRITTEN


def test_reading_goes_on_by_itself_when_the_portals_day_ends(crm: Crm) -> None:
    reset = datetime.now(UTC) + timedelta(seconds=1.5)
    usage = {"results": [{"currentUsage": 90, "usageLimit": 100, "resetsAt": reset.isoformat()}]}
    crm.fault("status", path="api-usage", status=200, body=usage, times="forever")

    with portal(crm) as connector:
        connector.org_id()
        crm.settings(daily=100, used_today=90)
        until_stopped(lambda: pull(connector, "owners"))
        crm.settings(used_today=0)
        time.sleep(max(0.0, (reset - datetime.now(UTC)).total_seconds()))
        pull(connector, "owners")

    assert crm.requests()[-1]["status"] == 200


def test_writing_leaves_the_last_twentieth_of_the_portals_day_to_people(crm: Crm) -> None:
    ids = crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(20)])

    with portal(crm) as connector:
        connector.org_id()
        crm.settings(daily=100, used_today=90)
        stop = until_stopped(lambda: connector.push([update(ids.pop(), "kpi_count", 1)]))

    assert "writing stops at 95%" in stop.message
    assert len(paths(crm, "batch/update")) == 5


# ---------------------------------------------------------------- our own budget


@pytest.mark.parametrize(
    "allowed", [DailyCalls(calls=20), DailyCalls(share=Decimal("0.02"))], ids=["number", "share"]
)
def test_reading_leaves_a_reserve_of_the_configured_calls_to_writing(
    crm: Crm, allowed: DailyCalls
) -> None:
    crm.settings(daily=1_000)
    ids = crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(9)])

    with portal(crm, daily_calls=allowed) as connector:
        stop = until_stopped(lambda: pull(connector, "accounts"))
        read = len(crm.requests())
        until_stopped(lambda: connector.push([update(ids.pop(), "kpi_count", 1)]))

    assert read == 17
    assert len(crm.requests()) == 20
    assert "limits.daily_calls" in stop.message
    assert timedelta(0) < stop.until - datetime.now(UTC) <= timedelta(hours=24, minutes=2)


def test_the_configured_calls_are_those_of_all_processes_together(
    crm: Crm, migrated_sqlite: str
) -> None:
    engine = open_store(migrated_sqlite)
    try:
        one, other = (StoredLedger(lambda: engine, "web") for _ in range(2))
        with portal(crm, daily_calls=DailyCalls(calls=20), ledger=one) as first:
            for _ in range(4):
                pull(first, "owners")
        one.flush()
        used = len(crm.requests())
        with portal(crm, daily_calls=DailyCalls(calls=20), ledger=other) as second:
            until_stopped(lambda: pull(second, "owners"))
    finally:
        engine.dispose()

    assert used == 8
    assert len(crm.requests()) == 17


# ---------------------------------------------------------------- rates


def test_a_429_of_one_worker_makes_the_others_wait_as_long(crm: Crm) -> None:
    crm.fault("status", path="owners", status=429, headers={"Retry-After": "2"})
    storage = "memory://one-for-both"
    impatient = replace(QUICK, retry_wait_max=timedelta(milliseconds=100))

    with (
        portal(crm, limits_storage=storage, tuning=impatient) as first,
        portal(crm, limits_storage=storage) as second,
    ):
        with pytest.raises(RateLimited):
            pull(first, "owners")
        started = time.monotonic()
        pull(second, "owners")

    assert time.monotonic() - started >= 1.8
    assert refused(crm) == 1


def test_another_app_that_takes_the_searches_delays_a_pull_and_does_not_fail_it(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    body = {"message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}
    # More refusals than a call has tries.
    crm.fault(
        "status", path="/search", status=429, body=body, headers={"Retry-After": "0.1"}, times=4
    )
    tuning = replace(QUICK, retry_attempts=3)

    with portal(crm, tuning=tuning) as connector:
        pulled = pull(connector, "accounts", datetime.now(UTC) - timedelta(days=1))

    assert pulled.ids("accounts") == {company_id}
    assert refused(crm) == 4


def workers(crm: Crm, redis_url: str, *, count: int, pulls: int) -> list[int]:
    """Run worker processes at once; how many companies each pull of each of them brought."""
    command = [sys.executable, "-m", "tests.contract.connectors.hubspot_worker"]
    started = [
        subprocess.Popen(
            [*command, crm.url, redis_url, str(pulls)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(count)
    ]
    brought: list[int] = []
    for process in started:
        said, _ = process.communicate(timeout=110)
        assert process.returncode == 0
        brought += json.loads(said)
    return brought


def busiest(crm: Crm, part: str, seconds: float) -> int:
    """The most calls that came within `seconds`, of those whose path holds `part`."""
    times = sorted(
        datetime.fromisoformat(str(one["at"])).timestamp()
        for one in crm.requests()
        if part in str(one["path"]) and one["status"] != 429
    )
    return max(sum(1 for at in times if start <= at < start + seconds) for start in times)


@pytest.mark.parametrize(
    ("burst", "burst_seconds", "pulls"),
    [
        pytest.param(40, 2, 1, id="quick"),
        pytest.param(100, 10, 8, id="as HubSpot has them", marks=pytest.mark.slow),
    ],
)
def test_four_workers_keep_to_five_searches_a_second_and_the_burst(
    crm: Crm, redis_url: str, burst: int, burst_seconds: int, pulls: int
) -> None:
    """429 storms: each worker within the limits, all together beyond."""
    crm.settings(search_per_second=5, burst=burst, burst_seconds=burst_seconds)
    crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(8)])
    crm.forget()

    brought = workers(crm, redis_url, count=4, pulls=pulls)

    assert brought == [8] * 4 * pulls
    assert refused(crm) <= 4
    assert busiest(crm, "/search", 1.0) <= 5
    assert len(paths(crm, "/search")) >= 4 * pulls * 4
