"""A process killed at any named point: one more pass, and everything is as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.sandboxes import Sandbox, launch
from tests.pipeline.worker.site import Site
from worker.crashpoints import POINTS

SMALL = ("--seed", "3", "--size", "25", "--today", "2026-06-30", "--split", "salesforce")

LATER = {"store.before_commit": 5, "store.after_commit": 4, "lease.acquired": 3}
"""Points that a pass meets often: die in the midst of it."""


@dataclass(frozen=True)
class Undisturbed:
    """What a pass that nobody disturbed leaves behind."""

    stored: object
    values: object
    fields: object
    pushed: object
    writes: list[dict[str, object]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    sandbox = launch(*SMALL)
    try:
        site = _small_site(folder, sandbox, f"sqlite:///{folder}/kpisync.db")
        assert site.full_pass().total("sent") > 0
        return Undisturbed(
            site.stored(), site.values(), site.kpi_fields(), site.pushed(), site.writes()
        )
    finally:
        sandbox.end()


@pytest.fixture
def small_site(start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str) -> Site:
    return _small_site(tmp_path, start_sandbox(*SMALL), sqlite_database)


def _small_site(folder: Path, sandbox: Sandbox, database: str) -> Site:
    site = Site(folder, sandbox, database, crms=("salesforce",))
    return site.but(advanced=f"{site.advanced}, page_size: 10").with_fields()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_and_one_more_pass_equal_an_undisturbed_run(
    point: str, small_site: Site, undisturbed: Undisturbed
) -> None:
    site = small_site
    process = site.process(crash_at=f"{point}:{LATER.get(point, 1)}")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said

    again = site.full_pass()

    assert again.exit_code == 0
    assert site.stored() == undisturbed.stored
    assert site.values() == undisturbed.values
    assert site.kpi_fields() == undisturbed.fields
    # We know what we wrote, even where the answer came to a dead process.
    assert site.pushed() == undisturbed.pushed
    assert site.redundant_writes() == []
    assert len(site.writes()) == len(undisturbed.writes)
    assert {run.state for run in site.runs()} <= {"ok", "interrupted"}
