"""Server mode: real worker and beat processes on real Redis and PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from celery import Celery

from store import checkpoints
from store.engine import operating
from tests.fixtures.recorder import recording
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import SEEDED, Site
from worker.health import is_healthy

PATIENCE = 60.0
_STEPS = 14
"""Twelve streams of both CRMs and two write-backs."""

RUN = {
    "worker": "import sys; from worker.app import run_worker; sys.exit(run_worker(concurrency=2))",
    "sweeper": "import sys; from worker.app import run_worker;"
    " sys.exit(run_worker(concurrency=1, queues='kpisync'))",
    "beat": "import sys; from worker.app import run_beat; sys.exit(run_beat())",
    "web": "import sys; from worker.cli import main;"
    " sys.argv = ['kpisync', 'web', '--port', '0']; main()",
    # A host whose clock is wrong by HOURS.
    "strayed_worker": """
import os, sys, time_machine
from datetime import UTC, datetime, timedelta
astray = timedelta(hours=float(os.environ["HOURS"]))
with time_machine.travel(datetime.now(UTC) + astray, tick=True):
    from worker.app import run_worker
    sys.exit(run_worker(concurrency=2))
""",
    # A library that keeps 150 MB of every task.
    "swelling_worker": """
import sys
from celery.signals import task_postrun
kept = []
task_postrun.connect(lambda **_: kept.append(b"x" * 150_000_000), weak=False)
from worker.app import run_worker
sys.exit(run_worker(concurrency=1))
""",
    # Somebody sets the clock by JUMP seconds as soon as a file is there.
    "jumping_beat": """
import os, sys, time
real = time.time
time.time = lambda: real() + int(os.environ["JUMP"]) * os.path.exists(os.environ["JUMP_NOW"])
from worker.app import run_beat
sys.exit(run_beat())
""",
}


@contextmanager
def running(site: Site, role: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A worker or beat process; it must end by itself on SIGTERM."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KPISYNC_")}
    log = (site.folder / f"{role}.log").open("a", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN[role]],
        env=clean | {"KPISYNC_CONFIG": str(site.path)} | environment,
        cwd=Path(__file__).parents[3],
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        log.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def said(site: Site, role: str) -> str:
    return (site.folder / f"{role}.log").read_text(encoding="utf-8")


def wait_until(is_true: Callable[[], bool], site: Site, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text() for path in site.folder.glob("*.log"))
            pytest.fail(f"it never came true; the processes said:\n{logs[-6000:]}")
        time.sleep(0.2)


def bindings(site: Site) -> set[str]:
    """Which messages reach which queue, as the broker has it: (routing key, pattern, queue)."""
    with redis.Redis.from_url(site.broker) as client:
        return {member.decode() for member in client.smembers("_kombu.binding.kpisync")}


@pytest.fixture
def server_site(
    start_sandbox: Callable[..., Sandbox], tmp_path: Path, postgres_database: str, redis_url: str
) -> Site:
    site = Site(tmp_path, start_sandbox(*SEEDED), postgres_database, broker=redis_url, every="2s")
    return site.with_fields()


def _told(site: Site) -> dict[object, object]:
    """Values but those of empty groups.

    A group that had a record between two pulls stays with 0 or nothing; one that never had any
    has no row. Both read the same.
    """
    return {place: value for place, value in site.values().items() if value}


def test_worker_and_beat_reach_what_an_embedded_pass_reaches(
    server_site: Site, start_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    (tmp_path / "embedded").mkdir()
    embedded = Site(
        tmp_path / "embedded",
        start_sandbox(*SEEDED),
        f"sqlite:///{tmp_path}/embedded/kpisync.db",
    ).with_fields()
    embedded.full_pass()

    with running(server_site, "worker") as worker, running(server_site, "beat") as beat:
        wait_until(lambda: len(server_site.writes()) == len(embedded.writes()), server_site)
        with server_site.runtime() as runtime:
            assert is_healthy(runtime.engine, "worker")
            assert is_healthy(runtime.engine, "beat")
        assert server_site.kpi_fields() == embedded.kpi_fields()
        assert _told(server_site) == _told(embedded)
        assert server_site.stored() == embedded.stored()

        assert bindings(server_site) == {
            f"{name}\x06\x16\x06\x16{name}"
            for name in ("kpisync", "kpisync.salesforce", "kpisync.hubspot")
        }

        # An edit travels through by itself, and nothing is written twice.
        account = next(iter(server_site.sandbox.salesforce.snapshot()["Account"]))
        server_site.sandbox.salesforce.create(
            "Opportunity",
            {
                "Name": "Another",
                "AccountId": account["id"],
                "StageName": "Closed Won",
                "CloseDate": "2026-06-01",
                "Amount": 12345,
            },
        )
        wait_until(lambda: len(server_site.writes()) > len(embedded.writes()), server_site)
        assert server_site.redundant_writes() == []

        for process in (worker, beat):
            process.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert beat.wait(30) == 0

    with server_site.runtime() as runtime:
        assert not is_healthy(runtime.engine, "worker")
    assert "sandbox-secret" not in said(server_site, "worker") + said(server_site, "beat")


AS_MEASURED = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_soft_shutdown_timeout": 30.0,
    "worker_max_tasks_per_child": 200,
    "worker_max_memory_per_child": 300_000,
    "result_backend": None,
    "task_serializer": "json",
    "accept_content": ["json"],
    "broker_connection_max_retries": None,
}
WIRE = {
    "visibility_timeout": 900,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "retry_on_timeout": True,
}


def test_celery_is_set_as_it_was_measured(server_site: Site) -> None:
    """What each of them is for stands in worker/app.py; a default in its place loses work."""
    asked = (
        "import json; from worker.app import app;"
        "print(json.dumps({name: app.conf[name] for name in"
        f" {[*AS_MEASURED, 'broker_transport_options', 'beat_schedule']!r}}}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", asked],
        env=os.environ | {"KPISYNC_CONFIG": str(server_site.path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(ended.stdout)
    assert {name: found[name] for name in AS_MEASURED} == AS_MEASURED
    wire = found["broker_transport_options"]
    assert {name: wire[name] for name in WIRE} == WIRE
    # A black hole is noticed by these two, within the minute that Redis has.
    assert wire["socket_timeout"] <= 30
    assert wire["health_check_interval"] <= 10
    assert [one["schedule"] for one in found["beat_schedule"].values()] == [2.0]


def test_a_queue_that_nobody_empties_holds_each_step_once(server_site: Site) -> None:
    """As when a host of its own for a connection is away, or there is more to do than time."""
    with (
        running(server_site, "sweeper"),
        running(server_site, "beat"),
        redis.Redis.from_url(server_site.broker) as client,
    ):
        wait_until(lambda: client.llen("kpisync.salesforce") > 0, server_site)
        at_first = client.llen("kpisync.salesforce")
        # Two rings more.
        time.sleep(5)

        assert client.llen("kpisync.salesforce") == at_first


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_where_there_is_more_to_do_than_time_every_step_gets_its_turn(server_site: Site) -> None:
    busy = server_site.but(every="1s")
    with running(busy, "worker"), running(busy, "beat"):

        def fewest() -> int:
            pulls = Counter(
                (run.connection, run.stream, run.writeback)
                for run in busy.runs()
                if run.state == "ok" and run.kind in {"pull", "push"}
            )
            return min(pulls.values()) if len(pulls) >= _STEPS else 0

        wait_until(lambda: fewest() >= 3, busy, seconds=400)


def test_beat_alone_does_not_fill_the_broker(server_site: Site) -> None:
    with running(server_site, "beat"), redis.Redis.from_url(server_site.broker) as client:
        wait_until(lambda: client.llen("kpisync") > 0, server_site)
        for _ in range(12):
            client.lpush("kpisync", "a message that waits")
        waiting = client.llen("kpisync")
        time.sleep(5)

        assert client.llen("kpisync") <= waiting + 1


def test_a_worker_waits_for_its_database_and_says_so(server_site: Site) -> None:
    address = server_site.database
    away = server_site.but(database=address.rpartition("/")[0] + "/not_there_yet")
    with running(away, "worker") as worker:
        wait_until(lambda: "waiting for the database" in said(away, "worker"), away)
        assert worker.poll() is None


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_a_process_older_than_its_schema_ends_with_one_clear_line(
    server_site: Site, role: str
) -> None:
    with server_site.runtime() as runtime:
        assert runtime.engine is not None
    with psycopg.connect(server_site.database.replace("+psycopg", "")) as conn:
        conn.execute("UPDATE alembic_version SET version_num = 'from_the_future'")

    with running(server_site, role) as process:
        code = process.wait(30)

    assert code != 0
    assert "newer" in said(server_site, role)
    assert "Traceback" not in said(server_site, role)


@pytest.mark.parametrize("jump", [-3600, pytest.param(3600, marks=pytest.mark.slow)])
def test_beat_ends_when_the_clock_jumps(server_site: Site, jump: int) -> None:
    now = server_site.folder / "now"
    with (
        running(server_site, "jumping_beat", JUMP=str(jump), JUMP_NOW=str(now)) as beat,
        redis.Redis.from_url(server_site.broker) as client,
    ):
        wait_until(lambda: client.llen("kpisync") > 0, server_site)
        now.touch()
        code = beat.wait(30)

    assert code == 1
    assert f"the clock jumped by {jump} seconds" in said(server_site, "jumping_beat")


@pytest.mark.parametrize("role", ["beat", pytest.param("web", marks=pytest.mark.slow)])
def test_whoever_lives_tells_that_nobody_works(server_site: Site, role: str) -> None:
    """Without beat or broker no worker looks, and without workers nobody would."""
    with recording(None) as channel:
        address = channel.url.replace("http://", "json://")
        rule = "{when: stale, stream: accounts, after: 2h, to: [ops]}"
        site = server_site.but(
            crms=("salesforce",),
            more=f'alerts: {{channels: {{ops: "{address}"}}, rules: [{rule}]}}\n',
        )
        site.pull("salesforce", "accounts")
        with site.runtime() as runtime, operating(runtime.engine) as conn:
            found = checkpoints.load(conn, "salesforce", "accounts")
            assert found.last_success is not None
            long_ago = found.last_success - timedelta(hours=3)
            checkpoints.save(conn, replace(found, last_success=long_ago))

        with running(site, role):
            wait_until(lambda: len(channel.said) == 1, site)

        assert "salesforce.accounts (stale)" in channel.said[0].body.decode()


@pytest.mark.slow
def test_a_message_that_waited_too_long_is_dropped(server_site: Site) -> None:
    with server_site.runtime():
        pass
    with (
        Celery(broker=server_site.broker) as sender,
        redis.Redis.from_url(server_site.broker) as client,
    ):
        now = int(client.time()[0])
        for stream, age in (("accounts", 60), ("deals", 0)):
            sender.send_task(
                "kpisync.pull_stream",
                ["salesforce", stream],
                queue="kpisync.salesforce",
                headers={"kpisync_rung_at": now - age},
            )

    with running(server_site, "worker"):
        wait_until(lambda: any(run.state == "ok" for run in server_site.runs()), server_site)

    first = min(server_site.runs(), key=lambda run: run.started)
    # Others follow, for a worker that has done a step rings for the next one.
    assert first.stream == "deals"


@pytest.mark.parametrize("hours", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_worker_whose_clock_is_an_hour_off_does_all_the_work(
    server_site: Site, hours: int
) -> None:
    """Beat's host has the right time: no message may look out of date for that."""
    site = server_site.but(crms=("salesforce",))

    with running(site, "strayed_worker", HOURS=str(hours)), running(site, "beat"):
        wait_until(lambda: len(site.writes()) > 0, site)
        written = len(site.writes())
        account = str(next(iter(site.sandbox.salesforce.snapshot()["Account"]))["id"])
        site.sandbox.salesforce.create(
            "Opportunity",
            {
                "Name": "Another",
                "AccountId": account,
                "StageName": "Closed Won",
                "CloseDate": "2026-06-01",
                "Amount": 12345,
            },
        )
        wait_until(lambda: len(site.writes()) > written, site)

        assert site.redundant_writes() == []


@pytest.mark.slow
def test_a_child_that_grows_beyond_300_mb_is_replaced_and_the_work_goes_on(
    server_site: Site,
) -> None:
    largest: dict[int, int] = {}

    def look(worker: psutil.Process) -> bool:
        for child in worker.children():
            with suppress(psutil.Error):
                size = child.memory_info().rss // 2**20
                largest[child.pid] = max(size, largest.get(child.pid, 0))
        return len(largest) > 3 and said(server_site, "swelling_worker").count("step done") > 3

    with running(server_site, "swelling_worker") as worker, running(server_site, "beat"):
        wait_until(lambda: look(psutil.Process(worker.pid)), server_site)
        assert worker.poll() is None

    assert max(largest.values()) < 300 + 150 + 50, (
        "each child ends after the task that was too much"
    )


def test_silence_is_not_health(server_site: Site) -> None:
    with server_site.runtime() as runtime:
        begun = time.monotonic()

        assert not is_healthy(runtime.engine, "worker", max_age=timedelta(seconds=5))
        assert time.monotonic() - begun < 2
