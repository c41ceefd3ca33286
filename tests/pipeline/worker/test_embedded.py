"""Embedded mode: the loop, draining, setting up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from store import checkpoints, leases
from store.engine import operating
from tests.pipeline.worker.site import Site
from worker import pipeline
from worker.results import State

LOOP = """
import os, sys
from pathlib import Path
from config.loader import load
from worker.loop import run_forever
from worker.reloading import LiveRuntime
from worker.runtime import open_runtime
with open_runtime(load(Path(sys.argv[1]), dict(os.environ))) as runtime:
    run_forever(LiveRuntime(Path(sys.argv[1]), runtime))
"""


def test_the_loop_does_what_is_due_and_ends_gracefully(site: Site) -> None:
    brisk = site.but(every="1s")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KPISYNC_")}
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(brisk.path)],
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(brisk.writes()) < 10 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)

    assert process.returncode == 0, said
    assert len(brisk.writes()) == 10
    assert brisk.redundant_writes() == []
    assert "running" not in {run.state for run in brisk.runs()}


def test_draining_leaves_nothing_due(site: Site) -> None:
    with site.runtime() as runtime:
        drained = pipeline.drain(runtime, timedelta(seconds=60))
        again = pipeline.drain(runtime, timedelta(seconds=60))

    assert (drained.exit_code, drained.total("sent")) == (0, 10)
    assert (again.exit_code, again.total("sent"), again.total("stored")) == (0, 0, 0)


def test_draining_ends_when_time_is_up(site: Site) -> None:
    with site.runtime() as runtime:
        with operating(runtime.engine) as conn:
            leases.acquire(conn, "pull:salesforce.owners", "another host", timedelta(minutes=5))

        drained = pipeline.drain(runtime, timedelta(seconds=1))

    assert drained.is_time_up
    assert drained.exit_code == 1


def test_setting_up_creates_the_fields_once(site: Site) -> None:
    class More(Site):
        def text(self) -> str:
            return (
                super()
                .text()
                .replace(
                    "KPI_Win_Rate__c: win_rate",
                    "KPI_New__c: purchases, KPI_Days__c: sales_cycle_days",
                )
            )

    new = More(site.folder, site.sandbox, site.database, crms=("salesforce",))
    with new.runtime() as runtime:
        dry = pipeline.setup_writeback(runtime, "account_kpis", dry_run=True)
        first = pipeline.setup_writeback(runtime, "account_kpis", dry_run=False)
        second = pipeline.setup_writeback(runtime, "account_kpis", dry_run=False)

    outcomes = [{one.field: one.outcome for one in step} for step in (dry, first, second)]
    assert [step["KPI_New__c"] for step in outcomes] == ["would_create", "created", "present"]
    assert [step["KPI_Days__c"] for step in outcomes] == ["would_create", "created", "present"]
    assert new.full_pass().exit_code == 0


def test_a_pause_is_remembered_by_every_process(site: Site) -> None:
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        until = datetime.now(UTC) + timedelta(minutes=5)
        checkpoints.pause(conn, "salesforce", until, "the quota is used up")
    site.sandbox.salesforce.forget()

    with site.runtime() as runtime:
        drained = pipeline.drain(runtime, timedelta(seconds=60))

    states = {r.state for r in drained.results if r.connection == "salesforce"}
    assert states == {State.PAUSED}
    assert site.sandbox.salesforce.requests() == []
