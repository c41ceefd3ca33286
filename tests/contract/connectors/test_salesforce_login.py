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
from connectors.contract.copies import Copy
from connectors.contract.org import QUICK
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MisconfiguredConnection,
    OrgChanged,
    RateLimited,
)
from connectors.registry import connect
from tests.contract.connectors.salesforce_org import CLIENT, SalesforceOrg
from tests.fixtures.sandboxes import Sandbox, launch

LOGIN = "oauth2/token"
USERNAME = "integration@sandbox.example"


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
        ("invalid_grant", "invalid assertion", "does not belong to the app's certificate"),
        ("invalid_grant", "expired certificate", "has ended"),
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
    for domain in ("login", "test", "https://login.salesforce.com"):
        connector = connect(org.settings(auth={**CLIENT, "domain": domain}))

        assert "My Domain" in problem_of(connector)

    without = replace(org.settings(auth={**CLIENT, "domain": ""}), base_url=None)
    assert "My Domain" in problem_of(connect(without))
    assert org.crm.requests() == []


def test_a_base_url_makes_the_orgs_own_address_unnecessary(org: SalesforceOrg) -> None:
    without = {name: value for name, value in CLIENT.items() if name != "domain"}
    ready = {"flow": "token", "access_token": "sandbox-token"}

    assert connect(org.settings(auth=without)).check().is_ok
    fresh = start_of_a_session(org)
    assert connect(org.settings(auth=ready | {"access_token": fresh})).check().is_ok


def start_of_a_session(org: SalesforceOrg) -> str:
    connector = connect(org.settings())
    connector.check()
    return connector._client._tokens.current().text  # type: ignore[attr-defined]


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


def test_a_renewed_token_of_another_org_reads_and_writes_nothing(org: SalesforceOrg) -> None:
    connector = connect(org.settings())
    assert isinstance(connector, KnowsItsOrg)
    before = connector.org_id()
    org.crm.settings(org_id="00DxX0000000999", revoke_tokens=True)

    with pytest.raises(OrgChanged, match="00DxX0000000999"):
        Copy().pull(connector, "owners", pages=1)
    with pytest.raises(OrgChanged, match="00DxX0000000999"):
        connector.fields("Account")  # type: ignore[attr-defined]  # a connector that writes

    # Whoever has looked may decide.
    assert connector.org_id() not in {None, before}
    connector.fields("Account")  # type: ignore[attr-defined]  # a connector that writes


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


# JWT


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: rsa.RSAPrivateKey, passphrase: bytes | None = None) -> str:
    lock = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
    ).decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return new_key()


@pytest.fixture
def jwt_org(org: SalesforceOrg, key: rsa.RSAPrivateKey) -> SalesforceOrg:
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    org.crm.settings(certificate=public.decode(), pre_authorized=[USERNAME], is_sandbox=False)
    return org


def by_jwt(key: rsa.RSAPrivateKey, **other: str) -> Mapping[str, str]:
    own = {
        "flow": "jwt",
        "domain": "acme.my",
        "client_id": "sandbox-client",
        "username": USERNAME,
        "private_key": pem_of(key),
    }
    return own | other


@pytest.mark.parametrize(
    ("domain", "is_sandbox"),
    [
        ("acme.my", False),
        ("login", False),
        ("", False),
        ("acme--uat.sandbox.my", True),
        ("https://acme--uat.sandbox.my.salesforce.com", True),
        ("acme-dream-1234.scratch.my", True),
        ("test", True),
    ],
)
def test_a_jwt_names_the_login_host_of_its_kind_of_org_as_audience(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey, domain: str, *, is_sandbox: bool
) -> None:
    jwt_org.crm.settings(is_sandbox=is_sandbox)

    connector = connect(jwt_org.settings(auth=by_jwt(key, domain=domain)))

    assert connector.check().is_ok
    assert isinstance(connector, KnowsItsOrg)
    assert connector.org_id() == connect(jwt_org.settings()).check().org_id


def test_a_key_from_the_environment_may_carry_its_line_ends_escaped(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey
) -> None:
    escaped = pem_of(key).strip().replace("\n", "\\n")

    assert connect(jwt_org.settings(auth=by_jwt(key, private_key=escaped))).check().is_ok


def test_a_jwt_login_is_renewed_when_its_token_ends(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey
) -> None:
    connector = connect(jwt_org.settings(auth=by_jwt(key)))
    copy = Copy()
    copy.pull(connector, "accounts", pages=1)
    jwt_org.crm.settings(revoke_tokens=True)

    copy.pull(connector, "accounts")

    assert len(copy.records) == 900


def test_a_user_who_is_not_authorised_beforehand_is_told_where_to_do_it(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey
) -> None:
    jwt_org.crm.settings(pre_authorized=[])

    assert "admin-approved" in problem_of(connect(jwt_org.settings(auth=by_jwt(key))))


def test_a_production_login_to_a_sandbox_is_told(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey
) -> None:
    jwt_org.crm.settings(is_sandbox=True)

    assert "another kind" in problem_of(connect(jwt_org.settings(auth=by_jwt(key))))


def test_a_key_that_does_not_fit_the_certificate_is_told(jwt_org: SalesforceOrg) -> None:
    found = problem_of(connect(jwt_org.settings(auth=by_jwt(new_key()))))

    assert "does not belong to the app's certificate" in found


@pytest.mark.parametrize(("skew", "words"), [(-420, "behind"), (420, "ahead of")])
def test_a_clock_that_is_wrong_is_told_with_by_how_much(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey, skew: int, words: str
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=skew), tick=True):
        found = problem_of(connect(jwt_org.settings(auth=by_jwt(key))))

    assert f"seconds {words} Salesforce's" in found
    assert any(f"{seconds} seconds" in found for seconds in range(415, 426))


def test_a_clock_that_begins_to_be_wrong_is_a_warning(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey
) -> None:
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=100), tick=True):
        report = connect(jwt_org.settings(auth=by_jwt(key))).check()

    assert report.is_ok
    assert any("seconds ahead of" in problem.message for problem in report.problems)


def test_a_wrong_consumer_key_is_told_as_such_even_if_the_clock_is_wrong_too(
    jwt_org: SalesforceOrg, key: rsa.RSAPrivateKey
) -> None:
    with time_machine.travel(datetime.now(UTC) - timedelta(minutes=10), tick=True):
        found = problem_of(connect(jwt_org.settings(auth=by_jwt(key, client_id="another"))))

    assert "auth.client_id" in found


# SOAP


PASSWORD: Mapping[str, str] = {
    "flow": "password",
    "domain": "login",
    "username": USERNAME,
    "password": "sandbox-password",
    "security_token": "sandbox-security-token",
}


def test_the_legacy_login_works_and_warns_with_its_end_in_check_and_at_every_pull(
    org: SalesforceOrg,
) -> None:
    org.crm.settings(soap_login=True)
    connector = connect(org.settings(auth=PASSWORD))
    copy = Copy()

    copy.pull(connector, "accounts")
    report = connector.check()

    assert len(copy.records) == 900
    assert sum("Summer '27" in warning for warning in copy.warnings) == 1
    assert "65.0" in copy.warnings[0]
    assert report.is_ok
    (legacy,) = [each for each in report.problems if each.place.endswith("auth.flow")]
    assert "Summer '27" in legacy.message
    assert report.org_id == connect(org.settings()).check().org_id


def test_a_newer_api_version_does_not_end_the_legacy_login(org: SalesforceOrg) -> None:
    settings = replace(org.settings(auth=PASSWORD), api_version="66.0")

    assert connect(settings).check().is_ok
    assert any("Soap/u/64.0" in str(request["path"]) for request in org.crm.requests())


def test_a_legacy_login_that_is_switched_off_names_the_other_flows(org: SalesforceOrg) -> None:
    org.crm.settings(soap_login=False)

    found = problem_of(connect(org.settings(auth=PASSWORD)))

    org.crm.settings(soap_login=True)
    assert "client_credentials or jwt" in found


def test_a_wrong_password_is_tried_once(org: SalesforceOrg) -> None:
    connector = connect(org.settings(auth={**PASSWORD, "password": "wrong-secret"}))

    for _ in range(3):
        found = problem_of(connector)

    assert "auth.security_token" in found
    assert "wrong-secret" not in found
    assert sum("Soap" in str(request["path"]) for request in org.crm.requests()) == 1


def test_a_password_with_signs_of_xml_is_sent_as_it_is(org: SalesforceOrg) -> None:
    connector = connect(org.settings(auth={**PASSWORD, "password": "<&'\"> ü"}))

    assert "INVALID_LOGIN" in problem_of(connector)


def test_a_trusted_network_needs_no_security_token(org: SalesforceOrg) -> None:
    without = {name: value for name, value in PASSWORD.items() if name != "security_token"}
    assert "auth.security_token" in problem_of(connect(org.settings(auth=without)))

    org.crm.settings(trusted_network=True)
    assert connect(org.settings(auth=without)).check().is_ok
    org.crm.settings(trusted_network=False)


# Misconfigured keys


def test_a_private_key_that_is_none_is_told_before_any_call(org: SalesforceOrg) -> None:
    jwt = {"flow": "jwt", "domain": "acme.my", "client_id": "x", "username": USERNAME}
    locked = pem_of(new_key(), b"pass")

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
