"""Faults of workers, Redis and PostgreSQL under real processes: short times, one installation.

The same with the times of an installation that tunes nothing, and with figures, is in
``test_fault_recovery.py``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
import redis

from tests.acceptance.under_fire import Site, at_work

pytestmark = pytest.mark.timeout(300)

SOON = 120.0
"""Seconds on a machine under load; alone it takes a twentieth."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with at_work(tmp_path_factory.mktemp("fire")) as installed:
        yield installed
        installed.is_well()


@pytest.mark.slow
def test_a_child_or_a_whole_worker_killed_in_the_midst_of_a_pull_is_made_up_for(site: Site) -> None:
    site.sandbox.salesforce.fault("slow", seconds=4, path="/query", times=2)
    time.sleep(2.5)

    assert site.worker.kill_child(0)
    site.recovers(SOON)
    site.worker.kill_group()
    site.recovers(SOON)


@pytest.mark.slow
def test_a_crm_that_hangs_delays_no_other(site: Site) -> None:
    # Each look at HubSpot takes a quarter of a minute now, and there are two processes for all.
    usual = site.recovers(SOON)
    site.sandbox.hubspot.fault("hang", times="forever", seconds=60)
    time.sleep(4)
    took = site.recovers(SOON)
    site.sandbox.hubspot.clear_faults()

    assert took < 20 + 3 * usual


@pytest.mark.slow
def test_children_frozen_longer_than_their_lease_change_nothing(site: Site) -> None:
    site.sell()
    for child in site.worker.children():
        child.suspend()
    time.sleep(3.5)
    has_arrived = site.sell()
    for child in site.worker.children():
        child.resume()

    site.wait(has_arrived, SOON)
    assert site.redundant_writes() == []


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/query", "/composite/sobjects"], ids=["pull", "push"])
def test_a_whole_worker_frozen_until_another_took_its_lease_changes_nothing(
    site: Site, path: str
) -> None:
    """Main process and children, in the midst of a call that reads or writes."""
    account = site.sandbox.salesforce.create("Account", {"Name": "Account of two deals"})
    site.win(account, 700)
    calls = len(site.calls(path))
    site.wait(lambda: len(site.calls(path)) > calls, SOON)
    begun = site.leases()

    with site.worker.frozen(), site.second_worker():
        site.win(account, 77)
        site.wait(lambda: site.revenue(account) == 777, SOON)
        took_over = site.leases()
        # None that the frozen one still counts as its own.
        held = {name for name, token in begun.items() if took_over[name] > token}
    time.sleep(5)

    assert held
    assert site.revenue(account) == 777
    assert site.redundant_writes() == []
    site.recovers(SOON)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["main process", "beat"])
def test_work_goes_on_when_a_frozen_process_wakes_up(site: Site, who: str) -> None:
    frozen = site.worker if who == "main process" else site.beat
    with frozen.frozen(is_whole=False):
        # Longer than a lease and than the time after which a message is dropped.
        time.sleep(8)
        has_arrived = site.sell()
        time.sleep(2)

    site.wait(has_arrived, SOON)
    assert frozen.is_running
    assert site.redundant_writes() == []


@pytest.mark.slow
def test_redis_killed_and_empty_again_or_flushed_costs_a_ring_at_most(site: Site) -> None:
    site.lose(site.redis)
    site.recovers(SOON)

    with redis.Redis.from_url(site.redis.url) as client:
        client.flushall()
    site.recovers(SOON)


@pytest.mark.slow
def test_a_redis_that_is_full_is_said_and_work_goes_on_when_there_is_room(site: Site) -> None:
    with redis.Redis.from_url(site.redis.url) as client:
        client.config_set("maxmemory", 1)
        try:
            site.wait(lambda: "used memory > 'maxmemory'" in site.beat.log.read_text(), SOON)
            time.sleep(3)
        finally:
            client.config_set("maxmemory", 0)

    site.recovers(SOON)


@pytest.mark.slow
def test_postgresql_stopped_at_once_or_without_its_backends_is_waited_for(site: Site) -> None:
    site.lose(site.postgres, seconds=1)
    site.recovers(SOON)

    with site.asking() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'kpisync'"
        )
    site.recovers(SOON)


def test_a_backend_killed_during_commit_leaves_an_outcome_that_is_looked_up(site: Site) -> None:
    """A standby that never answers: each COMMIT is done on disk, and its client never hears it."""
    with site.asking() as conn:
        conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        conn.execute("SELECT pg_reload_conf()")
        has_arrived = site.sell()
        for _ in range(4):
            time.sleep(1.0)
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'kpisync' AND wait_event = 'SyncRep'"
            )
        conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
        conn.execute("SELECT pg_reload_conf()")

    site.wait(has_arrived, SOON)
    site.is_well()


def test_a_transaction_that_postgresql_undoes_is_done_again(site: Site) -> None:
    """By a deadlock and by a serialization failure, in turns."""
    with site.asking() as conn:
        conn.execute("CREATE SEQUENCE undone")
        conn.execute(
            "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " CASE nextval('undone') WHEN 1, 3 THEN RAISE 'x' USING ERRCODE = '40P01';"
            " WHEN 2, 4 THEN RAISE 'x' USING ERRCODE = '40001'; ELSE RETURN NEW; END CASE; END $$"
        )
        conn.execute(
            "CREATE TRIGGER undo BEFORE UPDATE ON checkpoints FOR EACH ROW EXECUTE FUNCTION undo()"
        )
        try:
            site.recovers(SOON)
            row = conn.execute("SELECT last_value FROM undone").fetchone()
        finally:
            conn.execute("DROP TRIGGER undo ON checkpoints")
            conn.execute("DROP FUNCTION undo()")
            conn.execute("DROP SEQUENCE undone")

    assert row is not None
    assert row[0] > 4
    assert "favour of another" in site.worker.log.read_text()


@pytest.mark.slow
def test_a_read_only_postgresql_is_named_and_waited_for(site: Site) -> None:
    with site.asking() as conn:
        conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        conn.execute("SELECT pg_reload_conf()")
        site.wait(lambda: "read-only" in site.worker.log.read_text(), SOON)
        conn.execute("SET default_transaction_read_only = off")
        conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
        conn.execute("SELECT pg_reload_conf()")

    site.recovers(SOON)


@pytest.mark.slow
def test_a_broken_configuration_under_a_running_worker_is_told_and_the_last_good_one_works(
    site: Site,
) -> None:
    good = (site.cli.folder / "kpisync.yaml").read_text()
    site.cli.configure(good.replace("every: 2s", "every: soon"))
    site.wait(lambda: "faulty" in site.worker.log.read_text(), SOON)

    site.recovers(SOON)
    site.cli.configure(good)


@pytest.mark.slow
def test_sigterm_in_the_midst_of_a_long_call_ends_a_worker_within_30_seconds(site: Site) -> None:
    site.sandbox.salesforce.fault("slow", seconds=4, path="/query", times=2)
    time.sleep(2.5)
    begun = time.monotonic()
    pid = site.worker.pid
    os.kill(pid, signal.SIGTERM)
    site.wait(lambda: not site.worker.is_running or site.worker.pid != pid, 35)

    assert time.monotonic() - begun < 30
    site.recovers(SOON)
