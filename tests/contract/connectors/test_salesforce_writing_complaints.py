"""What users of other tools complain of when these write to Salesforce, with the whole product."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store import checkpoints
from store.engine import operating, reading
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import Site
from tests.pipeline.worker.test_alerting import Channel, channel
from tests.pipeline.worker.test_pushing import accounts_with_deals
from worker import alerting
from worker.observe import configure_logging
from worker.results import State
from worker.status import gather

__all__ = ["channel"]


class LimitedSite(Site):
    """An installation that may use 60 calls a day."""

    def text(self) -> str:
        return (
            super()
            .text()
            .replace("    every: 1h\n", "    every: 1h\n    limits: {daily_calls: 60}\n", 1)
        )


@pytest.fixture
def site(sandbox: Sandbox, tmp_path: Path, sqlite_database: str) -> Site:
    """Salesforce alone, without records."""
    configure_logging(is_quiet=True)
    quick = "retry_wait: 1s, retry_wait_max: 1s, connect_timeout: 2s, read_timeout: 5s"
    return Site(
        tmp_path, sandbox, sqlite_database, crms=("salesforce",), advanced=quick
    ).with_fields()


def read_and_computed(site: Site) -> Site:
    site.pull_all("salesforce")
    site.compute()
    return site


def test_a_fifth_of_the_rows_locked_and_yet_all_are_written_in_the_end(site: Site) -> None:
    accounts = accounts_with_deals(site, 300)
    read_and_computed(site)
    crm = site.sandbox.salesforce
    for number, account in enumerate(accounts[::5]):
        crm.fault("lock", record=account, times=1 + number % 2)
    words = {account: f"Rule {number} says no." for number, account in enumerate(accounts[1:4])}
    for account, message in words.items():
        crm.fault("validation", record=account, times="forever", message=message)

    pushed = site.push()

    assert pushed.state is State.PARTLY_FAILED
    held = site.kpi_fields()
    assert {a for a in accounts if held[a].get("KPI_Revenue__c") is None} == set(words)
    letters = {letter.ref.partition(":")[2]: letter for letter in site.dead_letters()}
    assert {each: letters[each].reason for each in letters} == words
    assert {letter.code for letter in letters.values()} == {"FIELD_CUSTOM_VALIDATION_EXCEPTION"}
    assert site.redundant_writes() == []


@pytest.mark.slow
def test_locked_rows_of_a_job_are_all_written_in_the_end(site: Site) -> None:
    accounts = accounts_with_deals(site, 2_050)
    read_and_computed(site)
    for account in accounts[::5]:
        site.sandbox.salesforce.fault("lock", record=account)
    site.sandbox.salesforce.fault(
        "validation", record=accounts[1], times="forever", message="Rule 7 says no."
    )

    pushed = site.push()

    assert pushed.failed
    held = site.kpi_fields()
    assert [a for a in accounts if held[a].get("KPI_Revenue__c") is None] == [accounts[1]]
    (letter,) = site.dead_letters()
    assert (letter.code, letter.reason) == ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Rule 7 says no.")
    assert site.redundant_writes() == []
    assert any("jobs/ingest" in str(each["path"]) for each in site.sandbox.salesforce.requests())


def test_there_is_no_endless_update_loop(site: Site) -> None:
    accounts_with_deals(site, 30)
    first = site.full_pass()
    written = len(site.writes())

    second, third = site.full_pass(), site.full_pass()

    assert first.results[-1].sent == written == 60
    assert [(each.results[-1].state, each.results[-1].sent) for each in (second, third)] == [
        (State.OK, 0),
        (State.OK, 0),
    ]
    assert len(site.writes()) == written


def test_the_orgs_daily_calls_are_not_eaten_and_nobody_sleeps_on_the_limit(
    sandbox: Sandbox, tmp_path: Path, sqlite_database: str
) -> None:
    configure_logging(is_quiet=True)
    site = LimitedSite(tmp_path, sandbox, sqlite_database, crms=("salesforce",)).with_fields()
    accounts_with_deals(site, 20)
    read_and_computed(site)
    calls_before = len(sandbox.salesforce.requests())
    passes = 0

    while not (paused := _paused(site)) and passes < 30:
        site.pull_all("salesforce")
        passes += 1

    assert paused is not None
    until, reason = paused
    assert "limits.daily_calls" in reason
    # The first calls leave the window a day after they were made, whoever made them.
    assert timedelta(hours=23, minutes=55) < until - datetime.now(UTC) <= timedelta(hours=24)
    calls = sum("/services/data" in str(each["path"]) for each in sandbox.salesforce.requests())
    assert calls <= 51 < calls + 8
    assert calls > calls_before
    pushed = site.push()
    assert (pushed.state, pushed.sent) == (State.OK, 40)


def test_a_stream_that_stands_still_for_weeks_is_not_unnoticed(
    site: Site, channel: Channel
) -> None:
    rule = "{when: stale, after: 2h, to: [ops]}"
    watched = site.but(more=f'alerts: {{channels: {{ops: "{channel.url}"}}, rules: [{rule}]}}\n')
    watched.pull_all("salesforce")
    with watched.runtime() as runtime, operating(runtime.engine) as conn:
        # Seven weeks in which every pull of accounts failed, and every one of deals did not.
        stuck = checkpoints.load(conn, "salesforce", "accounts")
        assert stuck.last_success is not None
        weeks_ago = stuck.last_success - timedelta(weeks=7)
        checkpoints.save(
            conn, replace(stuck, last_success=weeks_ago, complete_until=weeks_ago, state="failed")
        )

    with watched.runtime() as runtime:
        alerting.look(runtime)
        states = {one.stream: one.state for one in gather(runtime).streams}

    assert channel.titles == ["kpisync: salesforce.accounts (stale)"]
    assert states["accounts"] == "failed"
    assert states["deals"] == "ok"


def _paused(site: Site) -> tuple[datetime, str] | None:
    with site.runtime() as runtime, reading(runtime.engine) as conn:
        return checkpoints.paused(conn, "salesforce")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["waiting", "half way", "done"])
def test_a_worker_killed_while_its_job_runs_repeats_no_write(site: Site, moment: str) -> None:
    accounts = accounts_with_deals(site, 2_050)
    read_and_computed(site)
    crm = site.sandbox.salesforce
    crm.settings(bulk={"held": True})
    process = site.process()
    _await_job(site)
    match moment:
        case "half way":
            crm.admin("job", id="last", rows=1_000)
        case "done":
            crm.admin("job", id="last", state="JobComplete")
    process.kill()
    process.communicate(timeout=30)
    crm.settings(bulk={"held": False})

    again = site.full_pass()

    assert again.exit_code == 0
    held = site.kpi_fields()
    assert all(held[account].get("KPI_Revenue__c") is not None for account in accounts)
    assert site.redundant_writes() == []
    assert len(site.writes()) == 2 * len(accounts)
    assert site.full_pass().results[-1].sent == 0


def _await_job(site: Site) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        jobs = site.sandbox.salesforce._list("jobs")
        if jobs and jobs[-1]["state"] == "UploadComplete":
            return
        time.sleep(0.05)
    raise AssertionError("no job was started")
