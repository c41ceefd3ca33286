"""OAuth: the token is renewed in time, shared by all workers, and a dead grant stops at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from connectors.base import CallCounter, PushOutcome
from connectors.errors import AuthenticationFailed
from connectors.hubspot.connector import HubSpotConnector
from store.engine import open_store
from tests.contract.connectors.hubspot_portal import (
    fresh,
    paths,
    portal,
    pull,
    stream_of,
    update,
)
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox
from worker.holding import HeldLeases
from worker.sharing import StoredTokens

SECRET = "sandbox-app-secret"


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        sandbox.hubspot.add_field("companies", "kpi_count", "number")
        yield sandbox


@pytest.fixture
def grant(request: pytest.FixtureRequest) -> str:
    """A refresh token of this test alone."""
    return f"refresh-{abs(hash(request.node.name)):x}"


@pytest.fixture
def crm(shared: Sandbox, grant: str) -> Crm:
    crm = fresh(shared.hubspot)
    crm.settings(
        oauth_burst=100_000,
        token_seconds=1800,
        rotate_refresh_tokens=True,
        refresh_tokens=[grant],
    )
    return crm


def auth(grant: str, secret: str = SECRET) -> Mapping[str, str]:
    return {
        "flow": "refresh_token",
        "client_id": "sandbox-app",
        "client_secret": secret,
        "refresh_token": grant,
    }


def logins(crm: Crm) -> int:
    return len(paths(crm, "/oauth/"))


@contextmanager
def worker(crm: Crm, engine: Engine, grant: str) -> Iterator[HubSpotConnector]:
    """A connector as a worker process has it, over a store that several share."""
    leases = HeldLeases(engine, timedelta(seconds=30))
    tokens = StoredTokens(lambda: engine, "web", auth(grant), lambda: leases)
    with portal(crm, auth=auth(grant), tokens=tokens) as connector:
        yield connector


@pytest.fixture
def engine(migrated_sqlite: str) -> Iterator[Engine]:
    engine = open_store(migrated_sqlite)
    yield engine
    engine.dispose()


# ---------------------------------------------------------------- one process


@pytest.mark.parametrize(
    ("version", "path"), [(None, "/oauth/v1/token?"), ("2026-09", "/oauth/2026-09/token?")]
)
def test_a_refresh_token_brings_the_access_token_of_all_calls(
    crm: Crm, grant: str, version: str | None, path: str
) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})

    with portal(crm, auth=auth(grant), api_version=version) as connector:
        assert connector.org_id() == "7654321"
        assert pull(connector, "accounts").ids("accounts") == {company_id}

    assert paths(crm, "/oauth/") == [path]
    assert all(one["status"] == 200 for one in crm.requests())


def test_a_token_that_dies_during_a_long_run_is_renewed_once_and_the_run_goes_on(
    crm: Crm, grant: str
) -> None:
    ids = crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(250)])
    seen: set[str] = set()

    with portal(crm, auth=auth(grant)) as connector:
        connector.org_id()
        stream = stream_of(connector, "accounts")
        for number, page in enumerate(connector.pull(stream, None)):
            if number == 0:
                crm.settings(revoke_access_tokens=True)
            seen |= {record.ref.native_id for record in page.records}

    assert seen == set(ids)
    assert [one["status"] for one in crm.requests()].count(401) == 1
    assert logins(crm) == 2


def test_a_token_is_renewed_before_it_ends(crm: Crm, grant: str) -> None:
    crm.settings(token_seconds=2)

    with portal(crm, auth=auth(grant)) as connector:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            pull(connector, "owners")
            time.sleep(0.1)

    assert 401 not in [one["status"] for one in crm.requests()]
    assert 2 <= logins(crm) <= 4


def test_a_dead_grant_stops_at_once_with_a_clear_word(crm: Crm, grant: str) -> None:
    crm.settings(refresh_tokens=[])

    with portal(crm, auth=auth(grant)) as connector:
        with pytest.raises(AuthenticationFailed) as caught:
            pull(connector, "owners")
        report = connector.check()

    assert "BAD_REFRESH_TOKEN" in caught.value.message
    assert "Install the app in the portal again" in caught.value.message
    assert [one["path"] for one in crm.requests()] == ["/oauth/v1/token"]
    (problem,) = report.problems
    assert problem.place == "connections.web.auth"
    for secret in (grant, SECRET):
        assert secret not in f"{caught.value!r} {caught.value} {caught.value.__cause__} {problem}"


def test_a_grant_that_dies_in_the_midst_of_a_run_stops_it(crm: Crm, grant: str) -> None:
    with portal(crm, auth=auth(grant)) as connector:
        pull(connector, "owners")
        crm.settings(refresh_tokens=[], revoke_access_tokens=True)
        crm.forget()
        for _ in range(3):
            with pytest.raises(AuthenticationFailed):
                pull(connector, "owners")

    assert [one["status"] for one in crm.requests()] == [401, 400]


def test_a_wrong_client_secret_is_named_and_not_shown(crm: Crm, grant: str) -> None:
    with (
        portal(crm, auth=auth(grant, "not-the-secret")) as connector,
        pytest.raises(AuthenticationFailed, match="BAD_CLIENT_SECRET") as caught,
    ):
        pull(connector, "owners")

    assert "not-the-secret" not in f"{caught.value} {caught.value!r}"


def test_a_login_that_gets_no_answer_is_tried_again_and_leaves_no_write_in_doubt(
    crm: Crm, grant: str
) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    crm.fault("disconnect", path="/oauth/")

    with portal(crm, auth=auth(grant)) as connector:
        (result,) = connector.push([update(company_id, "kpi_count", 1)])

    assert result.outcome is PushOutcome.WRITTEN
    assert len(paths(crm, "batch/update")) == 1


def test_a_write_that_meets_a_dead_token_is_written_once(crm: Crm, grant: str) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})

    with portal(crm, auth=auth(grant)) as connector:
        connector.org_id()
        crm.settings(revoke_access_tokens=True)
        (result,) = connector.push([update(company_id, "kpi_count", 1)])

    assert result.outcome is PushOutcome.WRITTEN
    assert [one["redundant"] for one in crm.journal()] == [False]


def test_a_second_connector_of_a_process_goes_on_with_the_rotated_refresh_token(
    crm: Crm, grant: str
) -> None:
    for _ in range(2):
        with portal(crm, auth=auth(grant)) as connector:
            crm.settings(revoke_access_tokens=True)
            pull(connector, "owners")

    assert logins(crm) == 2
    assert 400 not in [one["status"] for one in crm.requests()]


# ---------------------------------------------------------------- several workers


def test_workers_share_one_token(crm: Crm, grant: str, engine: Engine) -> None:
    for _ in range(3):
        with worker(crm, engine, grant) as connector:
            pull(connector, "owners")

    assert logins(crm) == 1


def test_one_workers_renewal_does_not_kill_the_others(crm: Crm, grant: str, engine: Engine) -> None:
    """HubSpot rotates the refresh token: who renews with an older one loses the grant."""
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(crm, engine, grant)) for _ in range(3)]
        for number in range(6):
            crm.settings(revoke_access_tokens=True)
            for one in (workers[number % 3], workers[(number + 1) % 3]):
                pull(one, "owners")

    assert logins(crm) == 6


def test_workers_that_meet_the_end_of_the_token_at_once_renew_it_once(
    crm: Crm, grant: str, engine: Engine
) -> None:
    failed: list[BaseException] = []

    def work(connector: HubSpotConnector) -> None:
        try:
            pull(connector, "owners")
        except BaseException as error:  # noqa: BLE001 - the assertion below shows it
            failed.append(error)

    with ExitStack() as stack:
        workers = [stack.enter_context(worker(crm, engine, grant)) for _ in range(4)]
        for one in workers:
            pull(one, "owners")
        crm.settings(revoke_access_tokens=True)
        threads = [threading.Thread(target=work, args=[one]) for one in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failed == []
    assert logins(crm) == 2


def test_a_worker_that_was_away_for_days_goes_on_with_the_newest_refresh_token(
    crm: Crm, grant: str, engine: Engine
) -> None:
    crm.settings(token_seconds=1)
    with worker(crm, engine, grant) as early:
        pull(early, "owners")
        time.sleep(1.1)
        with worker(crm, engine, grant) as late:
            pull(late, "owners")
            pull(early, "owners")

    assert 400 not in [one["status"] for one in crm.requests()]


def test_calls_of_an_app_are_counted_with_those_of_its_logins(crm: Crm, grant: str) -> None:
    with portal(crm, auth=auth(grant)) as connector:
        pull(connector, "owners")
        assert isinstance(connector.calls, CallCounter)
        assert connector.calls.made == len(crm.requests()) == 3


def test_a_mere_look_at_the_connection_does_not_use_up_the_grant(
    crm: Crm, grant: str, kpisync: Cli
) -> None:
    """Each command is a process: what its login brought must not end with it."""
    kpisync.configure(
        f"""
version: 1
database: sqlite:///kpisync.db
company: {{name: Acme, timezone: UTC, currency: USD}}
security: {{allow_hosts: [127.0.0.1]}}
connections:
  web:
    type: hubspot
    base_url: "{crm.url}"
    auth: {{flow: refresh_token, client_id: sandbox-app, client_secret: {SECRET},
           refresh_token: {grant}}}
    every: 15m
kpis: {{use: [sales]}}
"""
    )

    for command in (["check", "--online"], ["discover", "web"]):
        kpisync(*command)

    assert logins(crm) == 1
    assert 400 not in [one["status"] for one in crm.requests()]
