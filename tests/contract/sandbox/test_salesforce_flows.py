"""Every way into the org: JWT bearer, SOAP login, client credentials, and how tokens end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from simple_salesforce.exceptions import SalesforceAuthenticationFailed

from tests.contract.sandbox.salesforce_rest import (
    error_of,
    fresh_org,
    rest,
    simple_salesforce,
)
from tests.fixtures.sandboxes import Crm

USERNAME = "integration@sandbox.example"
CLIENT = {"consumer_key": "sandbox-client", "consumer_secret": "sandbox-secret"}
PASSWORD = {
    "username": USERNAME,
    "password": "sandbox-password",
    "security_token": "sandbox-security-token",
}


@pytest.fixture
def crm() -> Iterator[Crm]:
    with fresh_org() as crm:
        yield crm


def by_jwt(crm: Crm, **more: Any) -> Any:
    key = more.pop("privatekey", None) or crm.admin("private_key")["private_key"]
    keys = {"username": USERNAME, "consumer_key": "sandbox-client", "domain": "login"}
    return simple_salesforce(crm, privatekey=key, **{**keys, **more})


def refusal(crm: Crm, **more: Any) -> str:
    with pytest.raises(SalesforceAuthenticationFailed) as caught, by_jwt(crm, **more):
        pass
    _, _, words = str(caught.value).partition("): ")
    return f"{caught.value.code}: {words}"


def answered(crm: Crm, path: str, form: dict[str, str]) -> requests.Response:
    with rest(crm) as speaker:
        return speaker.call("POST", path, data=form)


# JWT bearer


def test_a_signed_assertion_of_a_pre_authorized_user_logs_in(crm: Crm) -> None:
    with by_jwt(crm) as client:
        assert client.query("SELECT Id FROM Organization")["totalSize"] == 1


def test_a_jwt_may_go_to_my_domain_while_its_audience_is_the_login_host(crm: Crm) -> None:
    with by_jwt(crm, instance_url="acme.my") as client:
        assert client.query("SELECT Id FROM Organization")["totalSize"] == 1


def test_a_sandbox_org_wants_the_test_audience(crm: Crm) -> None:
    crm.settings(is_sandbox=True)

    with by_jwt(crm, domain="test") as client:
        assert client.query("SELECT Id FROM Organization")["totalSize"] == 1
    assert refusal(crm, domain="login") == "invalid_grant: audience is invalid"


def test_an_assertion_signed_with_another_key_is_refused(crm: Crm) -> None:
    other = str(crm.admin("private_key")["private_key"])
    crm.admin("private_key")

    assert refusal(crm, privatekey=other) == "invalid_grant: invalid assertion"


def test_an_app_without_certificate_takes_no_assertion(crm: Crm) -> None:
    key = str(crm.admin("private_key")["private_key"])
    crm.settings(certificate=None)

    assert refusal(crm, privatekey=key) == "invalid_grant: invalid assertion"


@pytest.mark.parametrize(
    ("hours", "words"), [(1, "expired authorization code"), (-1, "invalid assertion")]
)
def test_a_clock_that_is_wrong_by_an_hour_is_noticed(crm: Crm, hours: int, words: str) -> None:
    crm.clock(advance=3600 * hours)

    assert refusal(crm) == f"invalid_grant: {words}"


def test_a_user_who_is_not_pre_authorized_is_refused(crm: Crm) -> None:
    crm.settings(pre_authorized=[])

    assert refusal(crm).startswith("invalid_app_access: user is not admin approved")


def test_unknown_and_inactive_users_and_clients_are_refused(crm: Crm) -> None:
    user = crm.create("User", {"Username": "rep@sandbox.example", "IsActive": False})

    with pytest.warns(UserWarning, match="authorize this"):
        assert "hasn't approved" in refusal(crm, username="nobody@sandbox.example")
    assert refusal(crm, username="rep@sandbox.example") == "invalid_grant: inactive user"
    assert refusal(crm, consumer_key="other").startswith("invalid_client_id")
    assert user.startswith("005")


def test_the_answer_to_an_assertion_has_no_expiry(crm: Crm) -> None:
    with by_jwt(crm) as client:
        assertion = crm.requests()[0]

    assert assertion["path"] == "/services/oauth2/token"
    assert client.session_id.startswith("00D")


def test_nonsense_for_an_assertion_is_400(crm: Crm) -> None:
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x.y.z"}

    answer = answered(crm, "/services/oauth2/token", form)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


# SOAP login


def test_the_legacy_password_flow_logs_in(crm: Crm) -> None:
    with simple_salesforce(crm, **PASSWORD) as client:
        assert client.query("SELECT Id FROM Organization")["totalSize"] == 1


@pytest.mark.parametrize(
    "wrong",
    [{"password": "other"}, {"security_token": ""}, {"username": "nobody@sandbox.example"}],
)
def test_a_wrong_password_or_token_is_an_invalid_login(crm: Crm, wrong: dict[str, str]) -> None:
    with (
        pytest.raises(SalesforceAuthenticationFailed, match="INVALID_LOGIN"),
        simple_salesforce(crm, **{**PASSWORD, **wrong}),
    ):
        pass


def test_a_trusted_network_needs_no_security_token(crm: Crm) -> None:
    crm.settings(trusted_network=True)

    with simple_salesforce(crm, **{**PASSWORD, "security_token": ""}) as client:
        assert client.session_id


def test_soap_login_can_be_switched_off_and_is_absent_from_65(crm: Crm) -> None:
    with (
        pytest.raises(SalesforceAuthenticationFailed, match="UNSUPPORTED_API_VERSION"),
        simple_salesforce(crm, version="65.0", **PASSWORD),
    ):
        pass
    crm.settings(soap_login=False)
    with (
        pytest.raises(SalesforceAuthenticationFailed, match="INVALID_OPERATION"),
        simple_salesforce(crm, **PASSWORD),
    ):
        pass


# Client credentials


@pytest.mark.parametrize("host", ["login.salesforce.com", "test.salesforce.com"])
def test_client_credentials_need_the_my_domain_host(crm: Crm, host: str) -> None:
    form = {"grant_type": "client_credentials"} | {
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
    }
    with rest(crm) as speaker:
        answer = speaker.client.session.post(f"https://{host}/services/oauth2/token", form)

    assert answer.status_code == 400
    assert answer.json() == {
        "error": "invalid_grant",
        "error_description": "request not supported on this domain",
    }


def test_client_credentials_can_be_switched_off(crm: Crm) -> None:
    crm.settings(client_credentials=False)

    with (
        pytest.raises(SalesforceAuthenticationFailed, match="no client credentials user"),
        simple_salesforce(crm, domain="acme.my", **CLIENT),
    ):
        pass


# How tokens end


def test_one_token_can_be_revoked_with_its_locators(crm: Crm) -> None:
    crm.settings(page_rows=1)
    crm.create_many("Account", [{"Name": "a"}, {"Name": "b"}])
    with simple_salesforce(crm) as first, simple_salesforce(crm) as second:
        with rest(crm, first.session_id) as one, rest(crm, second.session_id) as other:
            place = one.query("SELECT Id FROM Account").json()["nextRecordsUrl"]
            there = other.query("SELECT Id FROM Account").json()["nextRecordsUrl"]
            crm.settings(revoke_tokens=first.session_id)

            assert error_of(one.get(place)) == (401, "INVALID_SESSION_ID")
            assert other.get(there).status_code == 200
        assert answered(crm, "/services/oauth2/revoke", {"token": second.session_id}).ok
        with rest(crm, second.session_id) as other:
            assert error_of(other.get("limits")) == (401, "INVALID_SESSION_ID")


def test_with_rotation_a_new_login_of_any_flow_ends_token_and_locators(crm: Crm) -> None:
    crm.settings(rotate_tokens=True, page_rows=1)
    crm.create_many("Account", [{"Name": "a"}, {"Name": "b"}])
    with simple_salesforce(crm) as client, rest(crm, client.session_id) as old:
        place = old.query("SELECT Id FROM Account").json()["nextRecordsUrl"]
        with simple_salesforce(crm, **PASSWORD) as newer, rest(crm, newer.session_id) as new:
            assert error_of(old.get(place)) == (401, "INVALID_SESSION_ID")
            assert error_of(new.get(place)) == (400, "INVALID_QUERY_LOCATOR")
            assert len(new.rows("SELECT Id FROM Account")) == 2
