"""Leases: one worker a stream, and none that was frozen or killed does harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import psycopg
import pytest
import sqlalchemy as sa

from store import checkpoints, leases
from store.engine import open_store, operating, reading
from store.schema import ensure_current
from tests.pipeline.worker.site import Site
from worker.holding import Busy, HeldLeases, holder_of_this_process, is_gone
from worker.results import Kind, State
from worker.running import Running, Subject, record_run
from worker.schedule import due


def test_a_stream_somebody_else_pulls_is_skipped_with_a_word(site: Site) -> None:
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        leases.acquire(conn, "pull:salesforce.accounts", "another host", timedelta(minutes=1))

    skipped = site.pull("salesforce", "accounts")

    assert skipped.state is State.SKIPPED
    assert "another process is at work" in skipped.warnings[0]
    assert (skipped.run, skipped.calls) == ("", 0)


def test_a_lease_that_ran_out_is_taken_over(site: Site) -> None:
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        leases.acquire(conn, "pull:salesforce.accounts", "another host", timedelta(seconds=1))
    time.sleep(1.1)

    assert site.pull("salesforce", "accounts").state is State.OK


def test_waiting_for_a_lease_ends_when_patience_does(site: Site) -> None:
    with site.runtime() as runtime:
        with operating(runtime.engine) as conn:
            leases.acquire(conn, "compute", "another host", timedelta(minutes=1))
        patience = timedelta(seconds=0.3)
        with (
            pytest.raises(Busy, match="compute"),
            runtime.leases.hold("compute", patience=patience),
        ):
            pass


def test_nothing_is_kept_when_the_second_of_two_leases_is_busy(site: Site) -> None:
    with site.runtime() as runtime:
        with operating(runtime.engine) as conn:
            leases.acquire(conn, "push-org:salesforce", "another host", timedelta(minutes=1))
        with pytest.raises(Busy), runtime.leases.hold("push:a", "push-org:salesforce"):
            pass
        with runtime.leases.hold("push:a") as (lease,):
            assert lease.name == "push:a"


def test_a_process_of_this_machine_is_seen_to_be_gone() -> None:
    ended = subprocess.Popen(
        [sys.executable, "-c", "from worker.holding import *; print(holder_of_this_process())"],
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = ended.communicate(timeout=30)
    holder = said.strip()

    assert is_gone(holder)
    assert not is_gone(holder_of_this_process())
    # The same process id, started at another time, is another process.
    machine, _, _started = holder_of_this_process().rpartition("/")
    assert is_gone(f"{machine}/1")
    # Nobody can tell about other machines.
    assert not is_gone(f"elsewhere/{holder}")
    assert not is_gone("another host")


def test_a_frozen_worker_that_wakes_up_changes_nothing(site: Site) -> None:
    short = site.but(crms=("salesforce",), advanced=f"{site.advanced}, lease: 1s")
    short.sandbox.salesforce.fault("slow", path="COUNT() FROM Account", seconds=3.0)
    process = short.process()
    # It has begun and waits for the CRM: no transaction is open.
    _wait_until(lambda: _checkpoint(short, "accounts").is_full_pull_running)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1.2)

    taken_over = short.pull("salesforce", "accounts")
    before = (short.stored()["accounts"], _checkpoint(short, "accounts"))
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=60)

    assert taken_over.state is State.OK
    frozen = [
        run
        for run in short.runs()
        if (run.connection, run.stream) == ("salesforce", "accounts") and run.run != taken_over.run
    ]
    assert [run.state for run in frozen] == ["interrupted"]
    assert [run.pulled for run in frozen] == [0]
    assert (short.stored()["accounts"], _checkpoint(short, "accounts")) == before


def test_a_step_slower_than_its_lease_keeps_it(site: Site) -> None:
    """Both between two transactions, as over a slow answer, and within one, as in a rebuild."""

    def slow(running: Running) -> State:
        with running.writing():
            time.sleep(1.3)
        time.sleep(1.3)
        with running.writing():
            return State.OK

    with site.but(advanced=f"{site.advanced}, lease: 1s").runtime() as runtime:
        done = record_run(runtime, Subject(Kind.COMPUTE), slow, lease_names=("compute",))

    assert (done.state, done.error) == (State.OK, None)


def test_a_fault_of_ours_is_remembered_with_its_trace_and_without_values(site: Site) -> None:
    def clumsy(_: Running) -> State:
        raise KeyError("a value that is nobody's business")

    with site.runtime() as runtime:
        done = record_run(runtime, Subject(Kind.COMPUTE), clumsy, lease_names=("compute",))

    (run,) = site.runs()
    assert done.state is State.FAILED
    assert "an unexpected KeyError" in str(run.error)
    assert "worker/test_holding.py:" in run.warnings[0]
    assert "clumsy" in run.warnings[0]
    assert "nobody's business" not in str(run)


def test_what_a_killed_process_held_is_due_at_once(site: Site) -> None:
    process = site.process(crash_at="pull.page_received:1")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL

    with site.runtime() as runtime:
        with reading(runtime.engine) as conn:
            (left,) = [one for one in leases.every(conn) if one.is_held]
        found = {f"pull:{one.connection}.{one.stream}" for one in due(runtime) if one.stream}

    assert left.name in found


def _checkpoint(site: Site, stream: str) -> checkpoints.Checkpoint:
    with site.runtime() as runtime, reading(runtime.engine) as conn:
        return checkpoints.load(conn, "salesforce", stream)


def _wait_until(is_true: object) -> None:
    assert callable(is_true)
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_what_a_database_that_was_away_did_not_take_back_is_given_back_with_the_next_step(
    postgres_url: str, postgres_database: str
) -> None:
    name = sa.make_url(postgres_database).database
    engine = open_store(postgres_database)
    ensure_current(engine)
    held = HeldLeases(engine, timedelta(minutes=5))
    with psycopg.connect(postgres_url, autocommit=True) as server:
        with held.hold("push:a"):
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    of_another_process = HeldLeases(engine, timedelta(minutes=5))
    with pytest.raises(Busy), of_another_process.hold("push:a"):
        pass

    with held.hold("compute"), of_another_process.hold("push:a"):
        pass
    engine.dispose()
