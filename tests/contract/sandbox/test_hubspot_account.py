"""HubSpot's credentials, limits, properties, pipelines and owners, kept by the sandbox."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from hubspot import HubSpot
from hubspot.crm.properties import ApiException

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api

DETAILS = "/account-info/v3/details"
NEW = {
    "name": "kpi_win_rate",
    "label": "Win rate",
    "groupName": "companyinformation",
    "type": "number",
    "fieldType": "number",
}


@pytest.mark.parametrize(
    ("header", "category"),
    [
        (None, "INVALID_AUTHENTICATION"),
        ("Bearer pat-na1-of-somebody-else", "INVALID_AUTHENTICATION"),
        ("Bearer sandbox", "EXPIRED_AUTHENTICATION"),
        ("Basic pat-na1-sandbox", "INVALID_AUTHENTICATION"),
    ],
)
def test_a_call_without_a_good_token_is_a_401(
    steady: Sandbox, header: str | None, category: str
) -> None:
    headers = {} if header is None else {"Authorization": header}

    refused = Api(steady.hubspot.url, token=None).send("GET", DETAILS, headers=headers)

    assert (401, category) == (refused.status_code, refused.json()["category"])
    if category == "EXPIRED_AUTHENTICATION":
        assert refused.json()["context"]["expire time"][0].startswith("1970")


def test_a_token_can_be_revoked_and_replaced(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(tokens=["pat-na1-rotated"])

    assert api.get(DETAILS).status_code == 401
    api.client.access_token = "pat-na1-rotated"
    assert api.get(DETAILS).status_code == 200


def test_a_missing_scope_is_named(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(scopes=["crm.objects.companies.read"])

    refused = api.get("/crm/v3/objects/deals")

    assert (refused.status_code, refused.json()["category"]) == (403, "MISSING_SCOPES")
    assert refused.json()["errors"][0]["context"]["requiredGranularScopes"] == [
        "crm.objects.deals.read"
    ]
    assert api.get("/crm/v3/objects/companies").status_code == 200
    assert api.patch("/crm/v3/objects/companies/1", {"properties": {}}).status_code == 403
    assert api.post("/crm/v3/properties/companies", NEW).status_code == 403
    assert api.get("/crm/v3/owners").status_code == 403
    assert api.get(DETAILS).status_code == 200, "needs no scope"


def test_a_hundred_calls_in_ten_seconds_are_the_burst(api: Api) -> None:
    headers = api.get(DETAILS).headers
    answers = [api.get(DETAILS) for _ in range(100)]

    assert tuple(
        headers[f"X-HubSpot-RateLimit-{name}"]
        for name in ("Max", "Remaining", "Interval-Milliseconds")
    ) == ("100", "99", "10000")
    assert [answer.status_code for answer in answers[:99]] == [200] * 99
    refused = answers[99].json()
    assert (
        answers[99].status_code,
        refused["policyName"],
        refused["errorType"],
    ) == (429, "TEN_SECONDLY_ROLLING", "RATE_LIMIT")
    assert "Retry-After" not in answers[99].headers
    assert answers[99].headers["X-HubSpot-RateLimit-Remaining"] == "0"


def test_five_searches_a_second_are_the_limit_and_say_so_without_headers(api: Api) -> None:
    answers = [api.search("deals") for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    refused = answers[-1].json()
    assert "policyName" not in refused
    assert refused["message"] == "You have reached your secondly limit."
    for answer in answers:
        assert not [name for name in answer.headers if "RateLimit" in name]
    assert api.get(DETAILS).headers["X-HubSpot-RateLimit-Max"] == "100"
    assert api.get(DETAILS).headers["X-HubSpot-RateLimit-Remaining"] == "98", "no burst used"


def test_the_daily_limit_ends_at_midnight_of_the_accounts_zone(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(daily=2, time_zone="Asia/Tokyo")
    sandbox.hubspot.clock(fix="2026-01-01T14:59:00Z")  # 23:59 in Tokyo
    usage = "/account-info/v3/api-usage/daily/private-apps"

    shown = api.get(usage).json()["results"][0]
    statuses = [api.get(DETAILS).status_code for _ in range(2)]
    refused = api.get(DETAILS).json()
    sandbox.hubspot.clock(advance=60)

    assert (
        shown["usageLimit"],
        shown["currentUsage"],
        shown["resetsAt"],
    ) == (2, 1, "2026-01-01T15:00:00Z")
    assert statuses == [200, 429]
    assert refused["policyName"] == "DAILY"
    assert api.get(DETAILS).status_code == 200


def test_the_account_tells_its_zone_and_currency(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(
        time_zone="America/New_York", company_currency="EUR", rates={"USD": "0.92"}, portal_id=42
    )
    sandbox.hubspot.clock(fix="2026-07-01T00:00:00Z")

    details = api.get(DETAILS).json()

    assert tuple(
        details[name]
        for name in (
            "portalId",
            "timeZone",
            "companyCurrency",
            "additionalCurrencies",
            "utcOffset",
            "utcOffsetMilliseconds",
        )
    ) == (42, "America/New_York", "EUR", ["USD"], "-04:00", -14_400_000)


def test_the_client_creates_and_lists_properties_and_groups(client: HubSpot) -> None:
    groups, core = client.crm.properties.groups_api, client.crm.properties.core_api

    groups.create("companies", {"name": "kpisync", "label": "KPIs"})
    made = core.create("companies", {**NEW, "groupName": "kpisync"})

    assert (made.name, made.type, made.group_name) == ("kpi_win_rate", "number", "kpisync")
    assert not made.modification_metadata.read_only_value
    assert "kpi_win_rate" in [one.name for one in core.get_all("companies").results]
    assert core.get_by_name(
        "companies", "hs_lastmodifieddate"
    ).modification_metadata.read_only_value
    assert "kpisync" in [one.name for one in groups.get_all("companies").results]
    with pytest.raises(ApiException, match="OBJECT_ALREADY_EXISTS"):
        core.create("companies", {**NEW, "groupName": "kpisync"})
    with pytest.raises(ApiException, match="OBJECT_ALREADY_EXISTS"):
        groups.create("companies", {"name": "kpisync", "label": "KPIs"})
    with pytest.raises(ApiException, match="404"):
        core.get_by_name("companies", "nonsense")
    core.archive("companies", "kpi_win_rate")
    assert "kpi_win_rate" not in [one.name for one in core.get_all("companies").results]


@pytest.mark.parametrize(
    "change",
    [
        {"fieldType": "text"},
        {"type": "money"},
        {"groupName": "nonsense"},
        {"name": "hs_kpi"},
        {"name": "Win Rate"},
        {"label": ""},
        {"type": "enumeration", "fieldType": "select"},
        {
            "type": "enumeration",
            "fieldType": "select",
            "options": [{"label": "A", "value": "a"}, {"label": "B", "value": "a"}],
        },
    ],
    ids=str,
)
def test_a_property_that_does_not_fit_is_refused(steady_api: Api, change: dict[str, Any]) -> None:
    assert steady_api.post("/crm/v3/properties/companies", {**NEW, **change}).status_code == 400


def test_pipelines_tell_of_their_stages_in_texts(client: HubSpot) -> None:
    (pipeline,) = client.crm.pipelines.pipelines_api.get_all("deals").results

    assert pipeline.id == "default"
    assert {stage.id: stage.metadata for stage in pipeline.stages}["closedwon"] == {
        "isClosed": "true",
        "probability": "1.0",
    }
    assert pipeline.stages[-1].metadata == {"isClosed": "true", "probability": "0.0"}


def test_archived_stages_vanish_although_old_deals_still_name_them(
    sandbox: Sandbox, api: Api
) -> None:
    stages = [
        {"id": "1001", "label": "Old", "probability": 0.3, "is_archived": True},
        {"id": "9a7f", "label": "Won", "is_closed": True, "probability": 1},
    ]
    sandbox.hubspot.admin("pipeline", id="web", label="Web shop", stages=stages)
    deal = sandbox.hubspot.create("deals", {"pipeline": "web", "dealstage": "1001"})

    shown = api.get("/crm/v3/pipelines/deals/web").json()
    read = api.get(f"/crm/v3/objects/deals/{deal}", properties="dealstage,hs_is_closed").json()

    assert [stage["id"] for stage in shown["stages"]] == ["9a7f"]
    assert (
        read["properties"]["dealstage"],
        read["properties"]["hs_is_closed"],
    ) == ("1001", "false")
    refused = api.patch(f"/crm/v3/objects/deals/{deal}", {"properties": {"dealstage": "1001"}})
    assert refused.status_code == 400


def test_editing_a_pipeline_modifies_its_deals(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {"dealstage": "contractsent"}, at="2025-01-01T00:00:00Z")
    sandbox.hubspot.clock(fix="2026-01-01T00:00:00Z")
    stages = [{"id": "contractsent", "label": "Sold", "is_closed": True, "probability": 1}]

    sandbox.hubspot.admin("pipeline", id="default", label="Sales", stages=stages)

    shown = api.get(f"/crm/v3/objects/deals/{deal}", properties="hs_is_closed_won").json()
    assert (
        shown["updatedAt"],
        shown["properties"]["hs_is_closed_won"],
    ) == ("2026-01-01T00:00:00Z", "true")


def test_owners_who_left_stand_in_a_list_of_their_own(sandbox: Sandbox, client: HubSpot) -> None:
    stays, left = sandbox.hubspot.create_many(
        "owners",
        [
            {"firstName": "Rep", "lastName": "01", "email": "rep.01@example.com"},
            {"firstName": "Rep", "lastName": "02", "email": "rep.02@example.com"},
        ],
    )
    sandbox.hubspot.delete("owners", left)
    api = client.crm.owners.owners_api

    active, archived = api.get_page().results, api.get_page(archived=True).results

    assert [(stays, "rep.01@example.com")] == [(one.id, one.email) for one in active]
    assert active[0].user_id is not None
    assert str(active[0].user_id) != stays, "userId is not what hubspot_owner_id holds"
    assert [(left, None)] == [(one.id, one.user_id) for one in archived]
    assert archived[0].user_id_including_inactive is not None


def test_owners_come_in_pages(sandbox: Sandbox, api: Api) -> None:
    ids = sandbox.hubspot.create_many("owners", [{"email": f"{n}@example.com"} for n in range(5)])

    first = api.get("/crm/v3/owners", limit=3).json()
    second = api.get("/crm/v3/owners", limit=3, after=first["paging"]["next"]["after"]).json()

    assert ids == [one["id"] for one in [*first["results"], *second["results"]]]
    assert "paging" not in second


def test_a_429_may_leave_out_its_policy_and_may_say_when_to_come_back(
    sandbox: Sandbox, api: Api
) -> None:
    sandbox.hubspot.settings(burst=1, search_per_second=0, policy_names=False, retry_after=True)
    api.get(DETAILS)

    burst, search = api.get(DETAILS), api.search("deals")

    assert (burst.status_code, search.status_code) == (429, 429)
    assert "policyName" not in burst.json()
    assert 1 <= int(burst.headers["Retry-After"]) <= 10
    assert search.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("status", "content_type", "words"),
    [
        (423, "application/json", "LOCKED"),
        (477, "application/json", "MIGRATION_IN_PROGRESS"),
        (502, "text/html", "Bad Gateway"),
        (504, "text/html", "Gateway Timeout"),
        (524, "text/html", "timeout"),
    ],
)
def test_bad_days_look_like_hubspots(
    steady: Sandbox, steady_api: Api, status: int, content_type: str, words: str
) -> None:
    steady.hubspot.fault("status", status=status)

    answer = steady_api.get(DETAILS)

    assert (answer.status_code, answer.headers["Content-Type"]) == (status, content_type)
    assert words in answer.text
    assert ("Retry-After" in answer.headers) is (status == 477)


def test_scopes_are_asked_for_by_object_and_by_what_is_done(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(scopes=["crm.objects.tickets.read", "crm.objects.custom.read"])
    sandbox.hubspot.admin("define_object", name="contract", properties=[])

    def needed(answer: requests.Response) -> list[str]:
        assert answer.status_code == 403, answer.text
        scopes: list[str] = answer.json()["errors"][0]["context"]["requiredGranularScopes"]
        return scopes

    assert api.get("/crm/v3/objects/tickets").status_code == 200
    assert api.get("/crm/v3/objects/p_contract").status_code == 200
    assert needed(api.post("/crm/v3/objects/tickets", {})) == ["crm.objects.tickets.write"]
    assert needed(api.search("contacts")) == ["crm.objects.contacts.read"]
    assert needed(api.post("/crm/v3/objects/p_contract", {})) == ["crm.objects.custom.write"]
    assert needed(api.get("/marketing/v3/campaigns")) == ["marketing.campaigns.read"]


def test_rates_are_listed_with_their_past_and_convert_a_closed_deal_at_its_close(
    sandbox: Sandbox, api: Api
) -> None:
    crm = sandbox.hubspot
    for day, rate in (("2025-01-01", "1.10"), ("2025-07-01", "1.20")):
        fields = {"fromCurrencyCode": "EUR", "conversionRate": rate}
        crm.create("exchange_rates", {**fields, "effectiveAt": f"{day}T00:00:00Z"})
    euros = {"amount": "100", "deal_currency_code": "EUR"}
    won = {**euros, "dealstage": "closedwon", "closedate": "2025-03-01T00:00:00Z"}
    closed, still_open = crm.create("deals", won), crm.create("deals", euros)

    listed = api.get("/settings/v3/currencies/exchange-rates", limit=1).json()
    after = listed["paging"]["next"]["after"]
    rest = api.get("/settings/currencies/2026-09/exchange-rates", after=after).json()
    current = api.get("/settings/v3/currencies/exchange-rates/current").json()["results"]

    rates = [one["conversionRate"] for one in [*listed["results"], *rest["results"]]]
    assert (rates, [one["conversionRate"] for one in current]) == ([1.1, 1.2], [1.2])
    assert listed["results"][0]["toCurrencyCode"] == "USD"
    amounts = [
        api.get(f"/crm/v3/objects/deals/{deal}", properties="amount_in_home_currency").json()
        for deal in (closed, still_open)
    ]
    assert [it["properties"]["amount_in_home_currency"] for it in amounts] == ["110.00", "120.00"]
    assert api.get(DETAILS).json()["additionalCurrencies"] == ["EUR"]
    crm.settings(scopes=["crm.objects.deals.read"])
    assert api.get("/settings/v3/currencies/exchange-rates").status_code == 403
