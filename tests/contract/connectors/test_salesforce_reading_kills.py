"""A worker killed while it reads by jobs and by pages: the next pass ends as if nothing had been.

The kills are real: the process ends itself by SIGKILL at a named point.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.connectors.test_salesforce_complaints_reading import StoredOrg
from tests.fixtures.sandboxes import Sandbox, launch
from tests.pipeline.worker.site import Site
from worker.observe import configure_logging

SMALL = ("--seed", "3", "--size", "25", "--today", "2026-06-30", "--split", "salesforce")
STREAMS = "{{accounts: {{api: {api}}}, deals: {{api: {api}}}}}"
POINTS = ("pull.page_received", "pull.page_mapped", "store.before_commit", "store.after_commit")
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch(*SMALL)
    started.salesforce.add_field("Account", "KPI_Revenue__c", "number")
    started.salesforce.add_field("Account", "KPI_Win_Rate__c", "percent")
    started.salesforce.clock(advance=86_400)
    yield started
    started.end()


def site_of(running: Sandbox, folder: Path, api: str) -> Site:
    configure_logging(is_quiet=True)
    database = f"sqlite:///{folder}/kpisync-{next(_NUMBERS)}.db"
    site = StoredOrg(
        folder, running, database, crms=("salesforce",), streams=STREAMS.format(api=api)
    )
    return site.but(advanced=f"{site.advanced}, page_size: 10", approve="always")


@pytest.fixture(scope="module")
def undisturbed(
    running: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[object]]:
    site = site_of(running, tmp_path_factory.mktemp("undisturbed"), "rest")
    site.pull_all("salesforce")
    return site.stored()


@pytest.mark.slow
@pytest.mark.parametrize("api", ["rest", "bulk"])
@pytest.mark.parametrize(("point", "passage"), [*itertools.product(POINTS, (1, 4, 9))])
def test_a_kill_while_reading_changes_nothing_in_the_end(
    *, running: Sandbox, tmp_path: Path, undisturbed: object, api: str, point: str, passage: int
) -> None:
    site = site_of(running, tmp_path, api)
    process = site.process(crash_at=f"{point}:{passage}")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said

    site.pull_all("salesforce")

    assert site.stored() == undisturbed
