from __future__ import annotations

import pytest

from config.interpolate import Value
from config.matching import identity_makes_sense, sides_of

CONNECTIONS: dict[str, Value] = {
    "salesforce": {
        "type": "salesforce",
        "streams": {"accounts": {"fields": {"vat": "VAT__c"}}, "contacts": {}},
    },
    "hubspot": {"type": "hubspot", "streams": {"accounts": {}, "deals": {}}},
}


def faults(stream: str, section: dict[str, Value]) -> list[str]:
    values: dict[str, Value] = {"connections": CONNECTIONS, "identity": {stream: section}}
    return [f"{one.message} {one.hint}" for one in identity_makes_sense(values)]


def test_two_fields_are_named_by_their_connections() -> None:
    assert sides_of("hubspot.salesforceaccountid = salesforce.Id") == (
        ("hubspot", "salesforceaccountid"),
        ("salesforce", "Id"),
    )
    assert sides_of("salesforceaccountid = salesforce.Id") is None
    assert sides_of("a.b") is None


def test_rules_that_can_be_followed_have_no_fault() -> None:
    by_id: Value = {"same": "hubspot.salesforceaccountid = salesforce.Id"}
    by_domain: Value = {"domain": "website", "ignore": ("example.com",)}

    assert faults("accounts", {"match": (by_id, by_domain), "prefer": "salesforce"}) == []
    assert faults("deals", {"fields": {"segment": "hubspot"}}) == []
    assert faults("accounts", {"fields": {"website": "hubspot", "vat": "salesforce"}}) == []
    assert faults("contacts", {"fields": {"nps_score": "salesforce"}}) == []


@pytest.mark.parametrize(
    ("stream", "section", "said"),
    [
        ("accounts", {"prefer": "salesforc"}, 'Did you mean "salesforce"'),
        ("accounts", {"match": ({"same": "hubspot.x"},)}, "does not name two fields"),
        ("accounts", {"match": ({"same": "hubspot.x = crm.Id"},)}, 'no connection "crm"'),
        ("accounts", {"match": ({"same": "hubspot.x = hubspot.y"},)}, "Both sides"),
        ("deals", {"match": ({"same": "hubspot.x = salesforce.Id"},)}, "does not read deals"),
        ("accounts", {"match": ({"domain": "website", "key": "vat"},)}, "one of same"),
        ("accounts", {"match": ({"ignore": ("x",)},)}, "one of same"),
        ("accounts", {"match": ({"key": "vat"},)}, "salesforce alone maps"),
        ("accounts", {"fields": {"segmet": "hubspot"}}, '"segmet" is no field of accounts'),
        ("accounts", {"fields": {"segment": "hubspt"}}, 'Did you mean "hubspot"'),
        ("accounts", {"fields": {"vat": "hubspot"}}, 'hubspot" does not map "vat" of accounts'),
        ("contacts", {"fields": {"name": "hubspot"}}, 'hubspot" does not read contacts'),
        ("contacts", {"fields": {"account": "salesforce"}}, "always comes from the preferred"),
        ("deals", {"fields": {"stage": "hubspot"}}, "always comes from the preferred"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_a_fault_in_words(
    stream: str, section: dict[str, Value], said: str
) -> None:
    (fault,) = faults(stream, section)

    assert said in fault
