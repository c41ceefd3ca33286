"""Every path is made in one place, from the configured version."""

from __future__ import annotations

import pytest

from connectors.hubspot.paths import ACCOUNT_DETAILS, is_version, versioned


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
        (ACCOUNT_DETAILS, "/account-info/2026-09/details"),
    ],
)
def test_a_legacy_path_has_its_dated_twin(legacy: str, dated: str) -> None:
    assert dated == versioned(legacy, "2026-09")


def test_without_a_date_the_legacy_path_stays() -> None:
    assert versioned("/crm/v3/objects/deals", "v3") == "/crm/v3/objects/deals"


def test_a_path_without_a_twin_is_refused_rather_than_guessed() -> None:
    with pytest.raises(ValueError, match="no dated form"):
        versioned("/crm/v3/schemas", "2026-09")


@pytest.mark.parametrize(
    ("text", "expected"), [("v3", True), ("2026-09", True), ("62.0", False), ("2026-13", False)]
)
def test_a_version_is_v3_or_a_month(text: str, *, expected: bool) -> None:
    assert expected == is_version(text)
