"""Every path is made in one place, from the configured version."""

from __future__ import annotations

import pytest

from connectors.hubspot.paths import (
    ACCOUNT_DETAILS,
    CAMPAIGNS,
    DAILY_USAGE,
    EMAIL_HISTOGRAM,
    EXCHANGE_RATES,
    STATIC_TOKEN_INFO,
    is_version,
    versioned,
)


@pytest.mark.parametrize(
    ("legacy", "dated"),
    [
        ("/crm/v3/objects/{objectType}", "/crm/objects/2026-09/{objectType}"),
        ("/crm/v3/objects/{objectType}/search", "/crm/objects/2026-09/{objectType}/search"),
        (
            "/crm/v4/associations/{fromObjectType}/{toObjectType}/batch/read",
            "/crm/associations/2026-09/{fromObjectType}/{toObjectType}/batch/read",
        ),
        ("/crm/v3/properties/{objectType}/groups", "/crm/properties/2026-09/{objectType}/groups"),
        ("/crm/v3/pipelines/{objectType}", "/crm/pipelines/2026-09/{objectType}"),
        ("/crm/v3/owners/", "/crm/owners/2026-09"),
        ("/crm/v3/properties/{objectType}", "/crm/properties/2026-09/{objectType}"),
        (ACCOUNT_DETAILS, "/account-info/2026-09/details"),
        (DAILY_USAGE, "/account-info/2026-09/api-usage/daily/private-apps"),
        ("/crm/v3/schemas", "/crm-object-schemas/2026-09/schemas"),
        ("/crm-object-schemas/v3/schemas", "/crm-object-schemas/2026-09/schemas"),
        ("/oauth/v1/token", "/oauth/2026-09/token"),
        (CAMPAIGNS, "/marketing/campaigns/2026-09"),
        (f"{CAMPAIGNS}/x/reports/revenue", "/marketing/campaigns/2026-09/x/reports/revenue"),
        (EMAIL_HISTOGRAM, "/marketing/emails/2026-09/statistics/histogram"),
        (EXCHANGE_RATES, "/settings/currencies/2026-09/exchange-rates"),
        # HubSpot gives no dated twin of this one: it is the same in every version.
        (STATIC_TOKEN_INFO, STATIC_TOKEN_INFO),
    ],
)
def test_a_legacy_path_has_its_dated_twin(legacy: str, dated: str) -> None:
    assert dated == versioned(legacy, "2026-09")


@pytest.mark.parametrize("version", ["v3", "v4", "v3/v4"])
def test_without_a_date_the_legacy_path_stays(version: str) -> None:
    assert versioned("/crm/v3/objects/deals", version) == "/crm/v3/objects/deals"
    assert versioned("/crm/v4/associations/a/b/batch/read", version).startswith("/crm/v4/")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/crm/v3/imports", "no dated form"),
        ("/crm/v4/objects/{objectType}/{objectId}/associations/{toObjectType}", "by batch"),
    ],
)
def test_a_path_without_a_twin_is_refused_rather_than_guessed(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        versioned(path, "2026-09")


@pytest.mark.parametrize(
    ("text", "expected"), [("v3", True), ("2026-09", True), ("62.0", False), ("2026-13", False)]
)
def test_a_version_is_v3_or_a_month(text: str, *, expected: bool) -> None:
    assert expected == is_version(text)
