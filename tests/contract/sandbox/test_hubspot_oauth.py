"""OAuth apps: tokens that expire, grants that die, and their own limits."""

from __future__ import annotations

import pytest
import requests
from hubspot import HubSpot
from hubspot.oauth import ApiException

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api

DETAILS = "/account-info/v3/details"
APP = {"client_id": "sandbox-app", "client_secret": "sandbox-app-secret"}
FIRST = {"grant_type": "refresh_token", "refresh_token": "sandbox-refresh", **APP}


def token(sandbox: Sandbox, path: str = "/oauth/v1/token", **changes: str) -> requests.Response:
    return Api(sandbox.hubspot.url, token=None).form(path, {**FIRST, **changes})


def details(sandbox: Sandbox, access_token: str) -> requests.Response:
    return Api(sandbox.hubspot.url, access_token).get(DETAILS)


def test_the_client_renews_its_token_and_keeps_the_refresh_token_that_comes_back(
    sandbox: Sandbox,
) -> None:
    client = HubSpot(host=sandbox.hubspot.url)

    first = client.oauth.tokens_api.create(**FIRST)
    second = client.oauth.tokens_api.create(**{**FIRST, "refresh_token": first.refresh_token})

    assert first.expires_in == 1800
    assert details(sandbox, second.access_token).status_code == 200
    assert details(sandbox, first.access_token).status_code == 200, "until its time is over"
    with pytest.raises(ApiException, match="BAD_REFRESH_TOKEN"):
        client.oauth.tokens_api.create(**FIRST)


def test_an_access_token_expires_by_the_portals_clock(sandbox: Sandbox) -> None:
    sandbox.hubspot.clock(fix="2026-01-01T12:00:00Z")
    granted = token(sandbox).json()
    sandbox.hubspot.clock(advance=1800)

    refused = details(sandbox, granted["access_token"])

    assert refused.status_code == 401
    assert refused.json()["category"] == "EXPIRED_AUTHENTICATION"
    assert refused.json()["context"]["expire time"] == ["2026-01-01T12:30:00Z"]
    assert granted["hub_id"] == 7654321
    assert "crm.objects.deals.read" in granted["scopes"]


def test_a_revoked_access_token_is_no_longer_known(sandbox: Sandbox) -> None:
    granted = token(sandbox).json()
    sandbox.hubspot.settings(revoke_access_tokens=True)

    refused = details(sandbox, granted["access_token"])

    assert (refused.status_code, refused.json()["category"]) == (401, "INVALID_AUTHENTICATION")
    assert token(sandbox, refresh_token=granted["refresh_token"]).status_code == 200


@pytest.mark.parametrize("path", ["/oauth/v1/token", "/oauth/v3/token", "/oauth/2026-09/token"])
def test_a_dead_grant_is_a_400(sandbox: Sandbox, path: str) -> None:
    sandbox.hubspot.settings(refresh_tokens=[])

    refused = token(sandbox, path)

    assert (refused.status_code, refused.json()["status"]) == (400, "BAD_REFRESH_TOKEN")
    if path != "/oauth/v1/token":
        assert refused.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"client_secret": "wrong"}, "BAD_CLIENT_SECRET"),
        ({"client_id": "wrong"}, "BAD_CLIENT_ID"),
        ({"grant_type": "password"}, "BAD_GRANT_TYPE"),
    ],
)
def test_the_wrong_app_gets_no_token(steady: Sandbox, changes: dict[str, str], word: str) -> None:
    refused = token(steady, **changes)

    assert (refused.status_code, refused.json()["status"]) == (400, word)


def test_only_the_first_version_takes_its_parameters_from_the_query(sandbox: Sandbox) -> None:
    api = Api(sandbox.hubspot.url, token=None)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    def ask(version: str) -> int:
        path = f"/oauth/{version}/token"
        return api.send("POST", path, qs=FIRST, headers=headers, default_json=False).status_code

    assert [ask("v3"), ask("2026-09"), ask("v1")] == [400, 400, 200]


def test_a_refresh_token_that_does_not_rotate_stays_good(sandbox: Sandbox) -> None:
    sandbox.hubspot.settings(rotate_refresh_tokens=False, token_seconds=60)

    answers = [token(sandbox).json() for _ in range(2)]

    assert {one["refresh_token"] for one in answers} == {"sandbox-refresh"}
    assert answers[0]["expires_in"] == 60


def test_an_app_has_a_burst_of_its_own_and_no_daily_limit(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(burst=1, oauth_burst=3, daily=1)
    access_token = token(sandbox).json()["access_token"]
    api.get(DETAILS)

    answers = [details(sandbox, access_token) for _ in range(4)]

    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert "X-HubSpot-RateLimit-Daily" not in answers[0].headers
    assert answers[0].headers["X-HubSpot-RateLimit-Max"] == "3"
    assert api.get(DETAILS).json()["policyName"] == "DAILY"
