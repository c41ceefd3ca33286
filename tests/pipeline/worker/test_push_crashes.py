"""Pushes that die: nothing is lost, nothing is written twice, no older value over a newer one.

The first pass of each point is in `test_crashes`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.sandboxes import launch
from tests.pipeline.worker.site import Site
from tests.pipeline.worker.test_pushing import accounts_with_deals
from worker.results import State

POINTS = (
    "outbox.claimed",
    "outbox.before_call",
    "outbox.after_call",
    "outbox.before_settle",
    "outbox.after_settle",
)
RECORDS = 9
BATCH = 3
LAST = RECORDS // BATCH


@pytest.fixture(scope="module")
def small_company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Accounts that are written in three calls."""
    with company(tmp_path_factory.mktemp("push"), RECORDS, batch=BATCH) as site:
        yield site


def company(folder: Path, records: int, *, batch: int) -> _Company:
    return _Company(folder, records, batch)


class _Company:
    """A company in a sandbox of its own whose amounts move together."""

    def __init__(self, folder: Path, records: int, batch: int) -> None:
        self._folder, self._records, self._batch = folder, records, batch
        self._sandbox = launch()

    def __enter__(self) -> Site:
        site = Site(
            self._folder,
            self._sandbox,
            f"sqlite:///{self._folder}/kpisync.db",
            crms=("salesforce",),
            guard="{max_records: 5000, max_jump: 1000000}",
        )
        site = site.but(advanced=f"{site.advanced}, push_batch: {self._batch}, canary: 0")
        accounts_with_deals(site.with_fields(), self._records)
        assert site.full_pass().exit_code == 0
        return site

    def __exit__(self, *_: object) -> None:
        self._sandbox.end()


def move_to(site: Site, amount: int) -> None:
    """Every deal is worth so much from now on, stored and counted, not yet written."""
    crm = site.sandbox.salesforce
    deals = [str(deal["id"]) for deal in crm.snapshot()["Opportunity"]]
    crm.edit("Opportunity", deals, {"Amount": amount})
    site.pull("salesforce", "deals")
    site.compute()
    crm.forget()


def push_process(site: Site, crash_at: str | None = None) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KPISYNC_")}
    if crash_at:
        environment |= {"KPISYNC_TEST": "1", "KPISYNC_CRASH_AT": crash_at}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.worker.one_push", str(site.path)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def revenues(site: Site) -> set[object]:
    return {fields["KPI_Revenue__c"] for fields in site.kpi_fields().values()}


@pytest.mark.parametrize("nth", [2, LAST])
@pytest.mark.parametrize("point", POINTS)
def test_a_push_killed_at_any_pass_of_any_point_is_finished_without_a_second_write(
    point: str, nth: int, small_company: Site
) -> None:
    site = small_company
    amount = 1000 + 10 * POINTS.index(point) + nth
    move_to(site, amount)
    process = push_process(site, f"{point}:{nth}")
    assert process.wait(60) == -signal.SIGKILL

    again = site.push()

    assert again.state is State.OK
    assert revenues(site) == {amount}
    # We know what we wrote, even where the answer came to a dead process.
    ours = {value for (_, field), value in site.pushed().items() if field == "KPI_Revenue__c"}
    assert ours == {str(amount)}
    writes = [(entry["id"], entry["field"]) for entry in site.writes()]
    assert len(writes) == len(set(writes)) == RECORDS
    assert site.redundant_writes() == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_random_kills_under_load_lose_nothing_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    dice = random.Random(7)  # noqa: S311 - repeatable, not secret
    with company(tmp_path, 60, batch=5) as site:
        usual = _seconds_of_a_push(site)
        crm = site.sandbox.salesforce
        killed = 0
        amount = 1000
        while killed < 200:
            if killed % 4 == 0:
                amount += 10
                deals = [str(deal["id"]) for deal in crm.snapshot()["Opportunity"]]
                crm.edit("Opportunity", deals, {"Amount": amount})
                site.pull("salesforce", "deals")
                site.compute()
            process = push_process(site)
            time.sleep(dice.uniform(0.3 * usual, 1.1 * usual))
            process.kill()
            killed += process.wait(60) == -signal.SIGKILL
        last = site.push()

        assert last.state is State.OK
        assert revenues(site) == {amount}
        assert site.redundant_writes() == []
        by_place: dict[object, list[float]] = {}
        for entry in site.writes():
            if entry["field"] == "KPI_Revenue__c":
                by_place.setdefault(entry["id"], []).append(float(str(entry["new"])))
        assert len(by_place) == 60
        # Never an older value over a newer one, and none twice.
        assert all(values == sorted(set(values)) for values in by_place.values())
        states = {run.state for run in site.runs()}
        assert states <= {"ok", "interrupted"}


def _seconds_of_a_push(site: Site) -> float:
    begun = time.monotonic()
    assert push_process(site).wait(120) == 0
    return time.monotonic() - begun
