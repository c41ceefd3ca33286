"""What is due, by the tables alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from config.scalars import Cron, Interval
from store import checkpoints, leases
from store.checkpoints import Checkpoint
from store.engine import operating
from tests.pipeline.worker.site import Site
from worker.results import Kind
from worker.runtime import Runtime
from worker.schedule import Step, due, next_firing

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("expression", "after", "firing"),
    [
        ("0 6 * * MON-FRI", "2026-01-02T05:00:00+00:00", "2026-01-05T05:00:00+00:00"),
        # 02:30 does not exist on the day clocks go forward: it fires once, when the hour is over.
        ("30 2 * * *", "2026-03-28T23:30:00+00:00", "2026-03-29T01:00:00+00:00"),
        # 02:30 comes twice on the day clocks go back: it fires the first time only.
        ("30 2 * * *", "2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"),
    ],
)
def test_cron_is_read_in_the_companys_zone(expression: str, after: str, firing: str) -> None:
    fires = next_firing(Cron(expression), datetime.fromisoformat(after), BERLIN)

    assert fires == datetime.fromisoformat(firing)
    assert fires.tzinfo is UTC


def test_an_interval_is_an_interval_whatever_the_clocks_do() -> None:
    before = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)

    assert next_firing(Interval(HOUR), before, BERLIN) - before == HOUR


def streams(runtime: Runtime) -> list[str]:
    return [
        f"{step.connection}.{step.stream}" + (" full" if step.is_full else "")
        for step in due(runtime)
        if step.kind is Kind.PULL
    ]


def change(runtime: Runtime, stream: str, **differences: object) -> None:
    with operating(runtime.engine) as conn:
        before: Checkpoint = checkpoints.load(conn, "salesforce", stream)
        checkpoints.save(conn, replace(before, **differences))  # type: ignore[arg-type]


def test_everything_is_due_at_first_and_nothing_after_a_pass(site: Site) -> None:
    with site.runtime() as runtime:
        first = streams(runtime)
    site.full_pass()
    with site.runtime() as runtime:
        after = due(runtime)

    assert len(first) == 12
    assert after == ()


def test_streams_come_due_by_interval_failure_death_and_calendar(site: Site) -> None:
    site.full_pass()
    now = datetime.now(UTC)
    with site.runtime() as runtime:
        change(runtime, "accounts", last_attempt=now - 2 * HOUR)
        change(runtime, "deals", state="running")
        change(runtime, "stages", state="failed", last_attempt=now - timedelta(minutes=16))
        change(runtime, "owners", last_full=now - timedelta(days=8))

        assert streams(runtime) == [
            "salesforce.owners full",
            "salesforce.stages",
            "salesforce.accounts",
            "salesforce.deals",
        ]


def test_what_is_held_or_paused_is_not_rung_for(site: Site) -> None:
    with site.runtime() as runtime:
        with operating(runtime.engine) as conn:
            leases.acquire(conn, "pull:salesforce.owners", "another host", HOUR)
            checkpoints.pause(conn, "hubspot", datetime.now(UTC) + HOUR, "quota")

        assert streams(runtime) == [
            f"salesforce.{stream}"
            for stream in (
                *("stages", "accounts", "deals"),
                *("deal_stage_changes", "deal_contacts", "deal_lines"),
            )
        ]


def test_a_full_pull_under_way_goes_on_instead_of_starting_over(site: Site) -> None:
    site.full_pass()
    long_ago = datetime.now(UTC) - timedelta(days=8)
    with site.runtime() as runtime:
        change(
            runtime,
            "deals",
            last_full=long_ago,
            last_attempt=long_ago,
            is_full_pull_running=True,
            state="failed",
        )

        assert streams(runtime) == ["salesforce.deals"]


def test_a_write_back_waits_until_everything_was_read_and_computed(site: Site) -> None:
    site.pull_all("salesforce")
    with site.runtime() as runtime:
        before = [step for step in due(runtime) if step.kind is not Kind.PULL]
    site.compute()
    with site.runtime() as runtime:
        after = [step for step in due(runtime) if step.kind is not Kind.PULL]

    assert before == [Step(Kind.COMPUTE)]
    assert after == [Step(Kind.PUSH, "salesforce", writeback="account_kpis")]
