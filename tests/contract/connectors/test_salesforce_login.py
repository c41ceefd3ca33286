"""Salesforce logins: every flow, one token for all, and refusals that say what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors.base import Connector, KnowsItsOrg, Notes
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MisconfiguredConnection,
    RateLimited,
)
from connectors.registry import connect
from tests.contract.connectors.salesforce_org import CLIENT, SalesforceOrg
from tests.contract.connectors.suite import QUICK, Copy
from tests.fixtures.sandboxes import Sandbox, launch

LOGIN = "oauth2/token"


class Vault:
    """One token for all connectors that are given it, as processes of a connection share one."""

    def __init__(self) -> None:
        self._held: Mapping[str, str] | None = None
        self._lock = threading.Lock()
        self.logins = 0

    def token(
        self, log_in: Callable[[], Mapping[str, str]], *, refused: str | None = None
    ) -> Mapping[str, str]:
        with self._lock:
            if self._held is None or self._held["access_token"] == refused:
                self._held = dict(log_in())
                self.logins += 1
            return self._held


class Paper:
    """Notes that outlive a process."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self.notes.get(name)

    def put(self, name: str, text: str) -> None:
        self.notes[name] = text

    def drop(self, name: str) -> None:
        self.notes.pop(name, None)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    SalesforceOrg(started.salesforce).add_accounts(
        [f"Account {number:04}" for number in range(900)]
    )
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.settings(rotate_tokens=False)
    org.crm.forget()
    return org


def logins(org: SalesforceOrg) -> int:
    return sum(LOGIN in str(request["path"]) for request in org.crm.requests())


def refuse(org: SalesforceOrg, error: str, description: str, **more: object) -> None:
    body = json.dumps({"error": error, "error_description": description})
    org.crm.fault("status", status=400, path=LOGIN, body=body, times="forever", **more)


def problem_of(connector: Connector) -> str:
    (problem,) = connector.check().problems
    assert problem.is_error
    assert problem.place == "connections.salesforce.auth"
    return f"{problem.message} | {problem.remedy}"


@pytest.mark.parametrize(
    ("error", "description", "remedy"),
    [
        ("invalid_grant", "user hasn't approved this consumer", "admin-approved users"),
        ("invalid_app_access", "user is not admin approved to access this app", "permission set"),
        ("invalid_grant", "audience is invalid", "acme--uat.sandbox.my"),
        ("invalid_grant", "request not supported on this domain", "My Domain"),
        ("invalid_grant", "no client credentials user enabled", "choose a user to run as"),
        ("invalid_grant", "ip restricted", "login IP ranges"),
        ("invalid_grant", "inactive user", "Activate it"),
        ("invalid_grant", "user is locked", "Unlock it"),
        ("inactive_org", "inactive organization", "administrator"),
        ("invalid_client_id", "client identifier invalid", "auth.client_id"),
        ("invalid_client", "invalid client credentials", "auth.client_secret"),
        ("invalid_grant", "invalid assertion", "certificate has expired"),
        ("unsupported_grant_type", "grant type not supported", "enable it"),
        ("invalid_grant", "something entirely new", "auth.client_secret"),
    ],
)
def test_a_refused_login_says_in_words_what_to_do(
    org: SalesforceOrg, error: str, description: str, remedy: str
) -> None:
    refuse(org, error, description)

    found = problem_of(connect(org.settings()))

    assert description in found
    assert remedy in found
    assert "sandbox-secret" not in found


def test_a_missing_my_domain_is_told_before_any_call(org: SalesforceOrg) -> None:
    for domain in ("", "login", "test", "https://login.salesforce.com"):
        connector = connect(org.settings(auth={**CLIENT, "domain": domain}))

        assert "My Domain" in problem_of(connector)

    assert org.crm.requests() == []


@pytest.mark.parametrize(
    "domain", ["acme.my", "ACME.my.salesforce.com", "https://acme.my.salesforce.com/"]
)
def test_a_my_domain_may_be_written_in_any_way(org: SalesforceOrg, domain: str) -> None:
    connector = connect(org.settings(auth={**CLIENT, "domain": domain}))

    assert connector.check().org_id is not None


def test_too_many_logins_are_a_pause_and_no_wrong_password(org: SalesforceOrg) -> None:
    refuse(org, "invalid_grant", "login rate exceeded")

    with pytest.raises(RateLimited) as caught:
        Copy().pull(connect(org.settings()), "accounts")

    assert caught.value.wait_seconds > 60


def test_a_login_service_that_is_down_is_no_wrong_password(org: SalesforceOrg) -> None:
    org.crm.fault("html", status=503, path=LOGIN, times="forever")

    with pytest.raises(CrmUnavailable):
        Copy().pull(connect(org.settings()), "accounts")


# Token renewed while paging kills the read


def test_a_token_renewed_while_paging_does_not_kill_the_read(org: SalesforceOrg) -> None:
    connector = connect(org.settings())
    copy = Copy()
    copy.pull(connector, "accounts", pages=2)
    before = logins(org)
    org.crm.settings(revoke_tokens=True)

    copy.pull(connector, "accounts")

    assert len(copy.records) == 900
    assert logins(org) == before + 1


def test_workers_share_one_token_and_renew_it_once_for_all(org: SalesforceOrg) -> None:
    org.crm.settings(rotate_tokens=True)
    vault = Vault()
    workers = [connect(replace(org.settings(), tokens=vault)) for _ in range(4)]
    copies = [Copy() for _ in workers]
    for worker, copy in zip(workers, copies, strict=True):
        copy.pull(worker, "accounts", pages=1)
    assert logins(org) == vault.logins == 1
    org.crm.settings(revoke_tokens=True)

    threads = [
        threading.Thread(target=copy.pull, args=(worker, "accounts"))
        for worker, copy in zip(workers, copies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(copy.records) for copy in copies] == [900] * 4
    assert logins(org) == vault.logins == 2


def test_the_org_is_known_from_a_token_that_another_process_fetched(org: SalesforceOrg) -> None:
    vault = Vault()
    first = connect(replace(org.settings(), tokens=vault))
    second = connect(replace(org.settings(), tokens=vault))
    assert isinstance(first, KnowsItsOrg)
    assert isinstance(second, KnowsItsOrg)

    assert second.org_id() == first.org_id() is not None

    assert logins(org) == 1
    assert not any("userinfo" in str(request["path"]) for request in org.crm.requests())


def test_a_token_refused_for_ever_costs_one_login_and_then_rests(org: SalesforceOrg) -> None:
    body = '[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]'
    org.crm.fault("status", status=401, path="/services/data", body=body, times="forever")
    connector = connect(org.settings())

    for _ in range(3):
        with pytest.raises(AuthenticationFailed, match="even a fresh token"):
            Copy().pull(connector, "accounts")

    assert logins(org) == 2


# Refusals stand


def test_a_refused_login_stands_for_five_minutes_in_all_processes(org: SalesforceOrg) -> None:
    notes: Notes = Paper()
    settings = replace(org.settings(auth=org.wrong_credentials), notes=notes)
    now = datetime.now(UTC)

    with time_machine.travel(now, tick=False) as clock:
        for _ in range(3):
            with pytest.raises(AuthenticationFailed, match=r"client_secret"):
                Copy().pull(connect(settings), "accounts")
        assert logins(org) == 1
        clock.shift(timedelta(minutes=5, seconds=1))
        with pytest.raises(AuthenticationFailed):
            Copy().pull(connect(settings), "accounts")
        assert logins(org) == 2


def test_corrected_credentials_need_not_wait(org: SalesforceOrg) -> None:
    notes = Paper()
    with pytest.raises(AuthenticationFailed):
        Copy().pull(
            connect(replace(org.settings(auth=org.wrong_credentials), notes=notes)), "accounts"
        )
    assert "wrong-secret" not in str(notes.notes)

    Copy().pull(connect(replace(org.settings(), notes=notes)), "accounts", pages=1)

    assert notes.notes == {}


# Misconfigured keys


def test_a_private_key_that_is_none_is_told_before_any_call(org: SalesforceOrg) -> None:
    jwt = {"flow": "jwt", "domain": "acme.my", "client_id": "x", "username": "u@sandbox.example"}
    locked = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
        .decode()
    )

    for key, words in (("no key", "PEM"), (locked, "passphrase"), ("", "auth.private_key")):
        with pytest.raises(MisconfiguredConnection, match=words) as caught:
            Copy().pull(connect(org.settings(auth={**jwt, "private_key": key})), "accounts")
        assert key not in str(caught.value) or not key

    assert org.crm.requests() == []


def test_a_ready_token_that_ends_says_that_it_cannot_be_renewed(org: SalesforceOrg) -> None:
    auth = {
        "flow": "token",
        "access_token": "ended",
        "instance_url": "https://acme.my.salesforce.com",
    }

    with pytest.raises(AuthenticationFailed, match=r"auth\.access_token"):
        Copy().pull(connect(org.settings(auth=auth)), "accounts")

    assert logins(org) == 0


def test_a_server_that_accepts_and_never_answers_does_not_hang_the_login(
    org: SalesforceOrg,
) -> None:
    quick = replace(QUICK, read_timeout=timedelta(seconds=1), retry_attempts=1)
    org.crm.fault("hang", path=LOGIN, seconds=20)
    started = datetime.now(UTC)

    with pytest.raises(CrmUnavailable, match="in time"):
        Copy().pull(connect(org.settings(tuning=quick)), "accounts")

    assert datetime.now(UTC) - started < timedelta(seconds=5)
