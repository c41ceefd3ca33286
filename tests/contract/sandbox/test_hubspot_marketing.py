"""Campaigns with their costs and contacts, and the statistics of marketing e-mails."""

from __future__ import annotations

import pytest
from hubspot import HubSpot

from tests.fixtures.sandboxes import Crm, Sandbox

from .conftest import Api

CAMPAIGNS = "/marketing/v3/campaigns"


def campaign(crm: Crm, name: str, **fields: str) -> str:
    return crm.create("campaigns", {"hs_name": name, **fields})


def touch(crm: Crm, campaign_id: str, contact: str, kind: str, at: str) -> None:
    fields = {"campaign": campaign_id, "contact": contact, "kind": kind, "at": at}
    crm.create("campaign_touches", fields)


def test_only_properties_that_were_asked_for_and_have_a_value_are_sent(
    sandbox: Sandbox, api: Api
) -> None:
    spring = campaign(sandbox.hubspot, "Spring", hs_start_date="2025-03-01")

    bare = api.get(CAMPAIGNS).json()
    asked = api.get(CAMPAIGNS, properties="hs_name,hs_start_date,hs_end_date").json()

    assert (bare["total"], bare["results"][0]["id"], bare["results"][0]["properties"]) == (
        1,
        spring,
        {},
    )
    assert asked["results"][0]["properties"] == {
        "hs_name": "Spring",
        "hs_start_date": "2025-03-01",
    }


def test_campaigns_come_in_pages_of_a_hundred_at_most(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.create_many("campaigns", [{"hs_name": f"C{n}"} for n in range(7)])

    names: list[str] = []
    query = {"limit": 3, "sort": "-hs_name", "properties": "hs_name"}
    while True:
        page = api.get(CAMPAIGNS, **query).json()
        names += [one["properties"]["hs_name"] for one in page["results"]]
        if "paging" not in page:
            break
        query["after"] = page["paging"]["next"]["after"]

    assert names == [f"C{n}" for n in range(6, -1, -1)]
    assert api.get(CAMPAIGNS, limit=101).status_code == 400
    assert api.get(CAMPAIGNS, sort="cost").status_code == 400


def test_budget_and_spend_are_items_with_sums(sandbox: Sandbox, api: Api) -> None:
    crm = sandbox.hubspot
    spring, quiet = campaign(crm, "Spring", hs_currency_code="EUR"), campaign(crm, "Quiet")
    crm.create("campaign_budget", {"campaign": spring, "name": "all", "amount": "1000"})
    for amount in ("120.50", "30"):
        fields = {"campaign": spring, "name": "ads", "amount": amount}
        crm.create("campaign_spend", fields, at="2025-03-02T00:00:00Z")

    totals = api.get(f"{CAMPAIGNS}/{spring}/budget/totals").json()
    without = api.get(f"{CAMPAIGNS}/{quiet}/budget/totals").json()
    sums = api.get(
        f"{CAMPAIGNS}/{spring}", properties="hs_spend_items_sum_amount,hs_budget_items_sum_amount"
    ).json()["properties"]

    assert (totals["budgetTotal"], totals["spendTotal"], totals["remainingBudget"]) == (
        1000,
        150.5,
        849.5,
    )
    assert [one["amount"] for one in totals["spendItems"]] == [120.5, 30]
    assert totals["spendItems"][0]["createdAt"] == 1740873600000, "milliseconds"
    assert totals["currencyCode"] == "EUR"
    assert "spendTotal" not in without
    assert sums == {"hs_budget_items_sum_amount": "1000", "hs_spend_items_sum_amount": "150.50"}
    item = totals["spendItems"][1]["id"]
    assert api.get(f"{CAMPAIGNS}/{spring}/spend/{item}").json()["amount"] == 30


def test_counters_and_contacts_of_a_campaign(sandbox: Sandbox, api: Api) -> None:
    crm = sandbox.hubspot
    spring = campaign(crm, "Spring")
    contacts = crm.create_many("contacts", [{} for _ in range(5)])
    for contact in contacts:
        touch(crm, spring, contact, "influencedContacts", "2025-03-05T10:00:00Z")
    touch(crm, spring, contacts[0], "contactFirstTouch", "2025-03-05T10:00:00Z")
    touch(crm, spring, contacts[1], "contactFirstTouch", "2025-04-05T10:00:00Z")
    crm.create("campaign_visits", {"campaign": spring, "day": "2025-03-05", "visits": "40"})
    path = f"{CAMPAIGNS}/{spring}/reports"

    march = api.get(f"{path}/metrics", startDate="2025-03-01", endDate="2025-03-31").json()
    first = api.get(f"{path}/contacts/influencedContacts", limit=3).json()
    after = first["paging"]["next"]["after"]
    second = api.get(f"{path}/contacts/influencedContacts", limit=3, after=after).json()

    assert march == {
        "sessions": 40,
        "newContactsFirstTouch": 1,
        "newContactsLastTouch": 0,
        "influencedContacts": 5,
    }
    found = [*first["results"], *second["results"]]
    assert [one["id"] for one in found] == contacts
    assert "paging" not in second
    assert api.get(f"{path}/contacts/everybody").status_code == 400


def test_revenue_is_shared_among_the_campaigns_that_reached_the_deals_contacts(
    sandbox: Sandbox, api: Api
) -> None:
    crm = sandbox.hubspot
    spring, autumn = campaign(crm, "Spring"), campaign(crm, "Autumn")
    contact = crm.create("contacts", {})
    deal = crm.create(
        "deals",
        {"amount": "900", "dealstage": "closedwon", "closedate": "2025-06-01T12:00:00Z"},
    )
    crm.associate("deals", deal, "contacts", [contact])
    for touched, at in ((spring, "2025-03-01"), (autumn, "2025-05-01"), (autumn, "2025-07-01")):
        touch(crm, touched, contact, "influencedContacts", f"{at}T00:00:00Z")

    def revenue(campaign_id: str, model: str, **days: str) -> list[float]:
        answer = api.get(
            f"{CAMPAIGNS}/{campaign_id}/reports/revenue", attributionModel=model, **days
        )
        return [answer.json()[name] for name in ("dealsNumber", "dealAmount", "revenueAmount")]

    assert revenue(spring, "LINEAR") == [1, 900, 450], "the touch after the close counts nothing"
    assert revenue(spring, "FIRST_INTERACTION") == [1, 900, 900]
    assert revenue(autumn, "FIRST_INTERACTION") == [0, 0, 0]
    assert revenue(autumn, "LAST_INTERACTION") == [1, 900, 900]
    assert revenue(spring, "LINEAR", endDate="2025-05-31") == [0, 0, 0]
    refused = api.get(f"{CAMPAIGNS}/{spring}/reports/revenue", attributionModel="FAIR")
    assert refused.status_code == 400
    sandbox.hubspot.settings(scopes=["marketing.campaigns.read"])
    assert api.get(f"{CAMPAIGNS}/{spring}/reports/revenue").status_code == 403


def test_campaigns_are_read_in_batches_of_fifty(sandbox: Sandbox, api: Api) -> None:
    ids = sandbox.hubspot.create_many("campaigns", [{"hs_name": f"C{n}"} for n in range(51)])

    def read(wanted: list[str]) -> int:
        body = {"inputs": [{"id": one} for one in wanted]}
        answer = api.post(f"{CAMPAIGNS}/batch/read", body)
        return len(answer.json()["results"]) if answer.status_code == 200 else answer.status_code

    assert [read(ids), read(ids[:50]), read([ids[0], ids[0]])] == [400, 50, 1]


def test_email_statistics_count_a_span_of_time_and_divide_in_per_cent(
    sandbox: Sandbox, api: Api, client: HubSpot
) -> None:
    crm = sandbox.hubspot
    email = crm.create("marketing_emails", {"name": "Newsletter", "subject": "News"})
    for day, sent in (("2025-03-01", "100"), ("2025-03-02", "50"), ("2025-04-01", "10")):
        fields = {"email": email, "day": day, "sent": sent, "delivered": sent, "open": "10"}
        crm.create("email_days", fields)
    march = {"startTimestamp": "2025-03-01T00:00:00Z", "endTimestamp": "2025-04-01T00:00:00Z"}

    counted = api.get("/marketing/v3/emails/statistics/list", **march).json()
    days = client.marketing.emails.statistics_api.get_histogram(
        start_timestamp=march["startTimestamp"],
        end_timestamp=march["endTimestamp"],
        interval="DAY",
    )

    assert counted["emails"] == [int(email)]
    assert counted["aggregate"]["counters"]["sent"] == 150
    assert counted["aggregate"]["ratios"]["openratio"] == pytest.approx(100 * 20 / 150)
    assert [one.aggregations.counters["sent"] for one in days.results] == [100, 50]
    assert api.get("/marketing/v3/emails/statistics/list").status_code == 400
    assert api.get("/marketing/v3/emails").json()["results"][0]["name"] == "Newsletter"


def test_emails_bring_statistics_and_a_choice_of_properties_where_they_are_asked_to(
    sandbox: Sandbox, api: Api, client: HubSpot
) -> None:
    crm = sandbox.hubspot
    crm.settings(time_zone="America/New_York")
    spring = campaign(crm, "Spring")
    live, gone = crm.create_many(
        "marketing_emails", [{"name": "News", "campaign": spring}, {"name": "Old"}]
    )
    crm.create("email_days", {"email": live, "day": "2025-03-01", "sent": "9", "open": "4"})
    crm.create("email_days", {"email": live, "day": "2025-03-02", "sent": "1"})
    crm.delete("marketing_emails", gone)
    emails = client.marketing.emails

    (bare,) = emails.marketing_emails_api.get_page().results
    (counted,) = emails.marketing_emails_api.get_page(include_stats=True).results
    (archived,) = emails.marketing_emails_api.get_page(archived=True).results
    (chosen,) = api.get("/marketing/v3/emails", includedProperties="campaign").json()["results"]
    days = emails.statistics_api.get_histogram(
        start_timestamp="2025-03-01T05:00:00Z",
        end_timestamp="2025-03-02T05:00:00Z",
        interval="DAY",
        email_ids=[int(live)],
    )

    assert (bare.id, bare.stats, bare.campaign) == (live, None, spring)
    assert counted.stats.counters["sent"] == 10
    assert (archived.id, archived.archived) == (gone, True)
    assert chosen == {"id": live, "campaign": spring}
    # A day is one of the account's zone, and the span ends before its end.
    assert [one.interval.start.isoformat() for one in days.results] == ["2025-03-01T05:00:00+00:00"]
    assert api.get("/marketing/v3/emails", limit=101).status_code == 400
    assert api.get("/marketing/v3/emails", sort="subject").status_code == 400
    crm.settings(scopes=["marketing.campaigns.read"])
    assert api.get("/marketing/v3/emails/statistics/histogram").status_code == 403
