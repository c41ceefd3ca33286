"""Login, versions, sessions and the limits of a request, as the vendor has them."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceGeneralError

from tests.contract.sandbox.salesforce_rest import (
    OrgAlone,
    Rest,
    error_of,
    fresh_org,
    rest,
    simple_salesforce,
)
from tests.fixtures.sandboxes import Crm

GRANT = {"grant_type": "client_credentials"}
CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}


@pytest.fixture
def sandbox() -> Iterator[OrgAlone]:
    with fresh_org() as crm:
        yield OrgAlone(crm)


@pytest.fixture(scope="module")
def crm() -> Iterator[Crm]:
    with fresh_org() as crm:
        yield crm


@pytest.fixture(scope="module")
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


def login(crm: Crm, **more: Any) -> requests.Response:
    with rest(crm) as speaker:
        del speaker.session.headers["Authorization"]
        return speaker.call("POST", "/services/oauth2/token", **more)


def test_client_credentials_are_taken_from_the_form_and_by_basic(crm: Crm) -> None:
    by_form = login(crm, data={**GRANT, **CLIENT})
    basic = base64.b64encode(b"sandbox-client:sandbox-secret").decode()
    by_header = login(crm, data=GRANT, headers={"Authorization": f"Basic {basic}"})

    for answer in (by_form, by_header):
        assert answer.status_code == 200
        with rest(crm, answer.json()["access_token"]) as speaker:
            assert speaker.get("limits").status_code == 200


def test_the_token_answer_has_no_expiry_and_no_refresh_token(crm: Crm) -> None:
    answer = login(crm, data={**GRANT, **CLIENT}).json()

    assert set(answer) == {
        "access_token", "signature", "scope", "instance_url", "id", "token_type", "issued_at",
    }  # fmt: skip


def test_the_id_address_names_org_and_user(crm: Crm) -> None:
    answer = login(crm, data={**GRANT, **CLIENT}).json()
    *_, org_id, user_id = answer["id"].split("/")
    with rest(crm, answer["access_token"]) as speaker:
        person = speaker.get(f"/id/{org_id}/{user_id}").json()

    assert (org_id[:3], user_id[:3], len(org_id), len(user_id)) == ("00D", "005", 18, 18)
    assert (person["organization_id"], person["user_id"]) == (org_id, user_id)


def test_a_refreshed_org_has_another_id_and_the_same_records(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    account = crm.create("Account", {"Name": "a"})
    crm.settings(org_id="00DxX0000000001")
    address = login(crm, data={**GRANT, **CLIENT}).json()["id"]
    with rest(crm) as api:
        (organization,) = api.rows("SELECT Id FROM Organization")

        assert organization["Id"] == "00DxX0000000001UAA"
        assert organization["Id"] in address
        assert api.one("Account", account, "Name")["Name"] == "a"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({**GRANT, **CLIENT, "client_secret": "wrong"}, "invalid_client"),
        ({**GRANT, **CLIENT, "client_id": "wrong"}, "invalid_client_id"),
        ({**CLIENT, "grant_type": "password"}, "unsupported_grant_type"),
        (CLIENT, "unsupported_grant_type"),
    ],
)
def test_a_refused_login_is_400_with_error_and_description(
    crm: Crm, form: dict[str, str], error: str
) -> None:
    answer = login(crm, data=form)

    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert answer.json()["error_description"]


def test_a_login_that_is_not_form_encoded_is_refused(crm: Crm) -> None:
    answer = login(crm, json={**GRANT, **CLIENT})

    assert answer.json()["error"] == "unsupported_grant_type"


def test_simple_salesforce_logs_in_and_queries(crm: Crm) -> None:
    with simple_salesforce(crm) as client:
        found = client.query("SELECT Id, Name FROM Organization")

    assert found["totalSize"] == 1
    assert client.api_usage["api-usage"].used > 0


def test_simple_salesforce_reports_a_wrong_secret(crm: Crm) -> None:
    keys = {"consumer_key": "sandbox-client", "consumer_secret": "x", "domain": "acme.my"}

    with (
        pytest.raises(SalesforceAuthenticationFailed, match="invalid_client"),
        simple_salesforce(crm, **keys),
    ):
        pass


def test_simple_salesforce_gets_a_new_token_when_the_old_one_is_revoked(sandbox: OrgAlone) -> None:
    with simple_salesforce(sandbox.salesforce) as client:
        sandbox.salesforce.settings(revoke_tokens=True)
        found = client.query("SELECT Id FROM Organization")

    logins = [r for r in sandbox.salesforce.requests() if r["path"] == "/services/oauth2/token"]
    assert found["totalSize"] == 1
    assert len(logins) == 2


def test_with_rotation_a_new_login_ends_the_other_sessions(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.settings(rotate_tokens=True)
    first = login(crm, data={**GRANT, **CLIENT}).json()["access_token"]
    second = login(crm, data={**GRANT, **CLIENT}).json()["access_token"]

    with rest(crm, first) as old, rest(crm, second) as new:
        assert error_of(old.get("limits")) == (401, "INVALID_SESSION_ID")
        assert new.get("limits").status_code == 200


def test_a_bad_token_and_no_token_are_401(crm: Crm) -> None:
    with rest(crm, "nonsense") as speaker:
        assert error_of(speaker.get("limits")) == (401, "INVALID_SESSION_ID")
        del speaker.session.headers["Authorization"]
        assert error_of(speaker.get("limits")) == (401, "INVALID_AUTH_HEADER")


def test_versions_are_listed_without_a_token(crm: Crm) -> None:
    with rest(crm) as speaker:
        del speaker.session.headers["Authorization"]
        listed = speaker.get("/services/data/").json()

    assert listed[0]["version"] == "31.0"
    assert {"label": "Winter '25", "url": "/services/data/v62.0", "version": "62.0"} in listed


def test_retired_versions_are_gone_and_future_ones_unknown(api: Rest) -> None:
    assert api.get("/services/data/v30.0/limits").status_code == 410
    assert error_of(api.get("/services/data/v99.0/limits")) == (404, "NOT_FOUND")
    assert error_of(api.get("/services/data/62.0/limits")) == (404, "NOT_FOUND")
    assert api.get("/services/data/v31.0/limits").status_code == 200


def test_every_answer_carries_the_usage_and_the_orgs_time(sandbox: OrgAlone) -> None:
    sandbox.salesforce.clock(fix="2026-01-02T03:04:05Z")
    with rest(sandbox.salesforce) as api:
        first, second = api.get("limits"), api.get("sobjects/Nothing/describe")

    assert first.headers["Sforce-Limit-Info"] == "api-usage=1/100000"
    assert second.headers["Sforce-Limit-Info"] == "api-usage=2/100000"
    assert second.headers["Date"] == "Fri, 02 Jan 2026 03:04:05 GMT"
    assert first.json()["DailyApiRequests"] == {"Max": 100_000, "Remaining": 99_999}


def test_the_daily_limit_refuses_with_403(sandbox: OrgAlone) -> None:
    sandbox.salesforce.settings(daily_calls_max=10, daily_calls_used=9)
    with rest(sandbox.salesforce) as api:
        assert api.get("limits").status_code == 200
        assert error_of(api.get("limits")) == (403, "REQUEST_LIMIT_EXCEEDED")


def test_a_uri_above_16384_bytes_is_414_in_html(api: Rest) -> None:
    answer = api.query(f"SELECT Id FROM Account WHERE Name = '{'x' * 16_384}'")

    assert answer.status_code == 414
    assert answer.headers["Content-Type"].startswith("text/html")


def test_uri_and_headers_above_16384_bytes_together_are_431(api: Rest) -> None:
    soql = f"SELECT Id FROM Account WHERE Name = '{'x' * 10_000}'"

    assert api.query(soql).status_code == 200
    assert api.query(soql, **{"X-Padding": "x" * 7_000}).status_code == 431


def test_simple_salesforce_reports_414(crm: Crm) -> None:
    with simple_salesforce(crm) as client, pytest.raises(SalesforceGeneralError) as caught:
        client.query(f"SELECT Id FROM Account WHERE Name = '{'x' * 16_384}'")

    assert caught.value.status == 414


def test_a_wrong_method_is_405(api: Rest) -> None:
    assert error_of(api.call("PUT", "limits")) == (405, "METHOD_NOT_ALLOWED")
