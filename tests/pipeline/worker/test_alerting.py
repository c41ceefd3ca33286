"""Whoever should know is told once, reminded, and told when it is over."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from store import alerts, checkpoints, deadletters
from store.engine import database_now, operating
from store.tables import RUNS
from tests.fixtures.servers import start_postgres
from tests.pipeline.worker.site import Site
from worker.alerting import look
from worker.reloading import LiveRuntime
from worker.runtime import open_runtime
from worker.status import gather, late_after
from worker.watching import Watch


@dataclass
class Channel:
    """An address that takes JSON notices, as many chat tools do."""

    port: int
    notices: list[dict[str, str]] = field(default_factory=list)
    status: int = 200

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [notice["title"] for notice in self.notices]


@pytest.fixture
def channel() -> Iterator[Channel]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.status == 200:
                found.notices.append(json.loads(body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found = Channel(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def told(site: Site) -> int:
    with site.runtime() as runtime:
        return look(runtime)


def watched(site: Site, channel: Channel, rules: str = "", more: str = "") -> Site:
    rules_line = f"rules: [{rules}], " if rules else ""
    return site.but(more=f'alerts: {{channels: {{ops: "{channel.url}"}}, {rules_line}{more}}}\n')


def make_stale(site: Site, by: timedelta) -> None:
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        found = checkpoints.load(conn, "salesforce", "accounts")
        assert found.last_success is not None
        checkpoints.save(conn, replace(found, last_success=found.last_success - by))


def test_a_stale_stream_is_told_once_and_its_recovery_too(
    empty_site: Site, channel: Channel
) -> None:
    site = watched(empty_site, channel, "{when: stale, stream: accounts, after: 2h, to: [ops]}")
    site.pull("salesforce", "accounts")
    assert told(site) == 0
    make_stale(site, timedelta(hours=3))

    assert (told(site), told(site)) == (1, 0)
    site.pull("salesforce", "accounts")
    assert (told(site), told(site)) == (1, 0)

    assert channel.titles == [
        "kpisync: salesforce.accounts (stale)",
        "kpisync: over: salesforce.accounts (stale)",
    ]
    assert "nothing was read for 3 h" in channel.notices[0]["message"]


def test_a_trouble_that_lasts_is_reminded_of(empty_site: Site, channel: Channel) -> None:
    rule = "{when: stale, after: 2h, remind_every: 1d, to: [ops]}"
    site = watched(empty_site, channel, rule)
    site.pull("salesforce", "accounts")
    make_stale(site, timedelta(hours=3))
    told(site)
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        (before,) = alerts.every(conn)
        alerts.forget(conn, before.rule, before.subject)
        alerts.tell(conn, before.rule, before.subject, before.words, before.channels)
        conn.execute(
            alerts.ALERTS.update().values(told_at=before.told_at - timedelta(days=1, minutes=1))
        )

    assert told(site) == 1
    assert channel.titles[-1].startswith("kpisync: still: ")


def test_a_notice_that_nobody_took_is_tried_again(empty_site: Site, channel: Channel) -> None:
    site = watched(empty_site, channel, "{when: stale, after: 2h, to: [ops]}")
    site.pull("salesforce", "accounts")
    make_stale(site, timedelta(hours=3))
    channel.status = 500
    assert told(site) == 0

    channel.status = 200
    assert told(site) == 1


def test_a_stream_that_nobody_reads_is_told_whatever_its_state(
    empty_site: Site, channel: Channel
) -> None:
    site = watched(empty_site.but(every="10m"), channel)
    site.pull("salesforce", "accounts")
    why = "the column amount is gone"
    with site.runtime() as runtime:
        for state, hours in (("paused", 3), ("running", 3), ("paused", 0)):
            with operating(runtime.engine) as conn:
                found = checkpoints.load(conn, "salesforce", "accounts")
                now = found.last_attempt
                assert now is not None
                silent = replace(found, last_success=now - timedelta(hours=hours))
                checkpoints.save(conn, replace(silent, state=state, error=why))
            look(runtime)
            if hours:
                assert gather(runtime).streams[0].is_overdue

    assert channel.titles == [
        "kpisync: salesforce.accounts (stale)",
        "kpisync: over: salesforce.accounts (stale)",
    ]
    assert "nothing was read for 3 h 0 min" in channel.notices[0]["message"]
    assert channel.notices[0]["message"].endswith(why)


def test_what_should_have_been_read_by_now_and_never_was_is_told(
    empty_site: Site, channel: Channel
) -> None:
    site = watched(empty_site.but(every="10m"), channel)
    site.pull("salesforce", "accounts")
    with site.runtime() as runtime:
        assert look(runtime) == 0
        with operating(runtime.engine) as conn:
            long_ago = database_now(conn) - timedelta(hours=1)
            conn.execute(RUNS.update().values(started=long_ago))
        look(runtime)

    assert "kpisync: salesforce.deals (stale)" in channel.titles
    assert "does a worker listen to its queue?" in channel.notices[0]["message"]


def test_a_schedule_of_office_hours_is_not_late_at_night(empty_site: Site) -> None:
    site = empty_site.but(every='"0 8-18 * * mon-fri"')
    site.pull("salesforce", "accounts")
    friday = datetime(2026, 11, 20, 17, 0, 5, tzinfo=UTC)
    with site.runtime() as runtime:
        late = late_after(runtime, "salesforce", friday)

    # 18:00 in Berlin, then Monday at 8, 9 and 10.
    assert late == datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("rules", ["", "{when: failed, to: [ops]}"])
def test_a_faulty_configuration_is_told_and_its_mending_too(
    empty_site: Site, channel: Channel, rules: str
) -> None:
    site = watched(empty_site, channel, rules)
    live = LiveRuntime(site.path, open_runtime(site.config()), look_every=timedelta(0))
    text = site.path.read_text()
    site.path.with_name("kpisync.yaml").write_text(text.replace("version: 1", "version: 1\nkpi: 1"))
    look(live.current)
    site.path.with_name("kpisync.yaml").write_text(text)
    look(live.current)
    live.close()

    assert channel.titles == [
        "kpisync: configuration (configuration)",
        "kpisync: over: configuration (configuration)",
    ]
    assert '"kpi" is not a key' in channel.notices[0]["message"]


def test_without_rules_every_channel_is_told_of_a_failed_stream(
    empty_site: Site, channel: Channel
) -> None:
    site = watched(empty_site, channel)
    site.pull("salesforce", "accounts")
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        found = checkpoints.load(conn, "salesforce", "accounts")
        checkpoints.save(conn, replace(found, state="failed"))

    assert told(site) == 1
    assert channel.titles == ["kpisync: salesforce.accounts (failed)"]

    with site.runtime() as runtime, operating(runtime.engine) as conn:
        checkpoints.save(conn, replace(found, state="running"))
    assert told(site) == 0, "it is tried again, which is no recovery yet"
    site.pull("salesforce", "accounts")
    assert told(site) == 1
    assert channel.titles[1:] == ["kpisync: over: salesforce.accounts (failed)"]


def test_quiet_hours_hold_a_notice_back_until_they_end(empty_site: Site, channel: Channel) -> None:
    rule = "{when: stale, after: 2h, to: [ops]}"
    site = watched(empty_site, channel, rule)
    site.pull("salesforce", "accounts")
    make_stale(site, timedelta(hours=3))

    assert told(watched(empty_site, channel, rule, 'quiet: "00:00-23:59"')) == 0
    assert told(site) == 1


def test_a_database_that_stays_away_is_told_once_and_its_return_too(
    empty_site: Site, channel: Channel
) -> None:
    quick = timedelta(seconds=0.2)
    with start_postgres() as server:
        site = watched(empty_site.but(database=server.url), channel)
        with (
            site.runtime() as runtime,
            Watch(lambda: runtime, every=quick, patience=timedelta(seconds=1)),
        ):
            server.stop(signal.SIGQUIT)
            _wait_for(lambda: len(channel.notices) == 1)
            time.sleep(1)
            server.start()
            _wait_for(lambda: len(channel.notices) == 2)

    assert channel.titles == [
        "kpisync: database (away)",
        "kpisync: over: database (away)",
    ]


def _wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_quarantine_guard_and_failed_writes_are_told_once_each_and_their_ends_too(
    empty_site: Site, channel: Channel
) -> None:
    crm = empty_site.sandbox.salesforce
    won = {"StageName": "Closed Won", "CloseDate": "2026-03-05", "Amount": 10}
    accounts = crm.create_many("Account", [{"Name": f"Account {n}"} for n in range(3)])
    deals = [{"Name": "Deal", "AccountId": one, **won} for one in accounts]
    crm.create_many("Opportunity", deals)
    site = watched(empty_site.but(guard="{max_records: 1}"), channel)
    site.full_pass()
    _strike_out(site, "owners")

    assert (told(site), told(site)) == (3, 0)
    assert sorted(channel.titles) == [
        "kpisync: account_kpis (guard)",
        "kpisync: account_kpis (writeback_failed)",
        "kpisync: salesforce.owners (quarantine)",
    ]
    site.pull("salesforce", "owners")
    wider = site.but(guard="{max_records: 5000}")
    crm.fault("validation", record=accounts[0], times="forever", message="No.")
    wider.apply(wider.plan())
    assert told(wider) == 2
    crm.clear_faults()
    wider.apply(wider.plan())
    assert told(wider) == 0, "nothing was left to write, but what was refused still waits"
    with wider.runtime() as runtime, operating(runtime.engine) as conn:
        deadletters.drop(conn, [letter.id for letter in deadletters.every(conn)])
    wider.apply(wider.plan())

    assert told(wider) == 1
    assert sorted(channel.titles[3:]) == [
        "kpisync: over: account_kpis (guard)",
        "kpisync: over: account_kpis (writeback_failed)",
        "kpisync: over: salesforce.owners (quarantine)",
    ]
    assert told(wider) == 0


def _strike_out(site: Site, stream: str) -> None:
    with site.runtime() as runtime, operating(runtime.engine) as conn:
        found = checkpoints.load(conn, "salesforce", stream)
        checkpoints.save(conn, replace(found, strikes=checkpoints.MOST_STRIKES))


def test_a_missed_target_is_told_once_and_its_end_too(empty_site: Site, channel: Channel) -> None:
    rule = "{when: target_missed, kpi: open_count, to: [ops]}"
    site = watched(empty_site, channel, rule)
    wanted = "targets: {open_count: {period: now, at_least: 2, warn_at: 1, owner: Head of sales}}\n"
    missed = site.but(more=site.more + wanted)
    met = site.but(more=site.more + wanted.replace("at_least: 2, warn_at: 1", "at_least: 0"))

    assert (told(missed), told(missed)) == (1, 0)
    assert (told(met), told(met)) == (1, 0)
    assert channel.titles == [
        "kpisync: open_count (now) (target_missed)",
        "kpisync: over: open_count (now) (target_missed)",
    ]
    assert channel.notices[0]["message"] == (
        "open_count (now): open_count now: 0, wanted at least 2; Head of sales answers for it"
    )
