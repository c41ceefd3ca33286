"""Clocks that are wrong, set, or jump by law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine
from sqlalchemy import select, update

from config.scalars import Cron
from store import checkpoints
from store.engine import operating
from store.tables import RUNS
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import Site
from worker.passes import perform
from worker.results import Kind
from worker.runtime import Runtime
from worker.schedule import Step, due, next_firing

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def firings(expression: str, zone: str, day: datetime) -> list[datetime]:
    """When a calendar fires within the three local days around a clock change."""
    local = ZoneInfo(zone)
    begin = (day - DAY).replace(tzinfo=local).astimezone(UTC)
    end = (day + 2 * DAY).replace(tzinfo=local).astimezone(UTC)
    found = [begin - timedelta(seconds=1)]
    while found[-1] < end:
        found.append(next_firing(Cron(expression), found[-1], local))
    return list(takewhile(lambda at: at < end, found[1:]))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Sydney"])
def test_a_calendar_fires_as_often_as_people_expect_on_both_days_of_a_clock_change(
    zone: str,
) -> None:
    changes = {
        "Europe/Berlin": (datetime(2026, 3, 29), datetime(2026, 10, 25)),  # noqa: DTZ001 - local
        "America/New_York": (datetime(2026, 3, 8), datetime(2026, 11, 1)),  # noqa: DTZ001 - local
        "Australia/Sydney": (datetime(2026, 10, 4), datetime(2026, 4, 5)),  # noqa: DTZ001 - local
    }
    for day, hours in zip(changes[zone], (71, 73), strict=True):
        # Once a day, whether its hour is skipped, comes twice, or is no special one.
        for daily in ("30 2 * * *", "0 3 * * *", "15 1 * * *", "0 0 * * *"):
            assert len(firings(daily, zone, day)) == 3, (daily, day)
        # As regular as the sun, through the hour that comes twice, too.
        for expression, span in (("0 * * * *", HOUR), ("*/15 * * * *", HOUR / 4)):
            found = firings(expression, zone, day)
            assert len(found) == hours * (HOUR / span), (expression, day)
            assert {later - sooner for sooner, later in pairwise(found)} == {span}


def test_the_29th_of_february_fires_in_leap_years_alone() -> None:
    after = datetime(2026, 3, 1, tzinfo=UTC)
    found = []
    for _ in range(2):
        after = next_firing(Cron("0 6 29 2 *"), after, ZoneInfo("Europe/Berlin"))
        found.append(after.date().isoformat())

    assert found == ["2028-02-29", "2032-02-29"]


def test_ticks_that_were_missed_are_caught_up_once(
    start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str
) -> None:
    sandbox = start_sandbox("--seed", "3", "--size", "5", "--today", "2026-06-30")
    # Once an hour, and surely not while this test runs.
    minute = (datetime.now(UTC).minute + 30) % 60
    site = Site(tmp_path, sandbox, sqlite_database, crms=("salesforce",))
    site = site.but(every=f'"{minute} * * * *"').with_fields()
    site.full_pass()

    with site.runtime() as runtime:
        assert _pulls(runtime) == []
        # Nobody ran for two days: 48 ticks went by.
        with operating(runtime.engine) as conn:
            for one in checkpoints.every(conn):
                assert one.last_attempt is not None
                checkpoints.save(conn, replace(one, last_attempt=one.last_attempt - 2 * DAY))
        streams = {step.stream for step in _pulls(runtime)}
        for step in _pulls(runtime):
            perform(runtime, step)

        assert {"accounts", "deals"} <= streams
        assert _pulls(runtime) == []


def test_a_clock_set_back_by_an_hour_stops_nothing_and_hurries_nothing(
    start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str
) -> None:
    """The database's own, as with one host for all: what was done seems to be yet to come."""
    sandbox = start_sandbox("--seed", "3", "--size", "5", "--today", "2026-06-30")
    site = Site(tmp_path, sandbox, sqlite_database, crms=("salesforce",), every="10m").with_fields()
    site.full_pass()

    with site.runtime() as runtime:
        assert _reads_or_writes(runtime) == []
        with operating(runtime.engine) as conn:
            for one in checkpoints.every(conn):
                assert one.last_attempt is not None
                checkpoints.save(conn, replace(one, last_attempt=one.last_attempt + HOUR))
            for run in conn.execute(select(RUNS.c.run, RUNS.c.started)).all():
                # A run is named after its time.
                later = {"run": f"3{run.run}", "started": run.started + HOUR}
                conn.execute(update(RUNS).where(RUNS.c.run == run.run).values(later))
        steps = _reads_or_writes(runtime)
        for step in steps:
            perform(runtime, step)

        assert {"accounts", "deals", None} <= {step.stream for step in steps}
        assert _reads_or_writes(runtime) == []
    assert site.redundant_writes() == []


def _reads_or_writes(runtime: Runtime) -> list[Step]:
    return [step for step in due(runtime) if step.kind in {Kind.PULL, Kind.PUSH}]


def _pulls(runtime: Runtime) -> list[Step]:
    return [step for step in due(runtime) if step.kind is Kind.PULL]


@pytest.mark.parametrize("hours", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_host_whose_clock_is_an_hour_off_misses_and_repeats_nothing(
    hours: int, start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str
) -> None:
    sandbox = start_sandbox("--seed", "3", "--size", "12", "--today", "2026-06-30")
    site = Site(tmp_path, sandbox, sqlite_database, crms=("salesforce",)).with_fields()

    with time_machine.travel(datetime.now(UTC) + hours * HOUR, tick=True):
        site.full_pass()
        account = sandbox.salesforce.create("Account", {"Name": "Account of an hour"})
        written = len(site.writes())
        site.full_pass()
    ended = site.full_pass()

    assert ended.exit_code == 0
    assert f"native_id='{account}'" in str(site.stored()["accounts"])
    assert site.redundant_writes() == []
    assert ended.total("sent") == 0
    assert len(site.writes()) >= written
