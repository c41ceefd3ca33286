"""One invented company, whole in Salesforce, whole in HubSpot, or spread over both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

Rows = list[dict[str, Any]]
SEEDED = ("--seed", "5", "--size", "240", "--today", "2026-03-01", "--split")


def rows(crm: Crm, object_name: str) -> Rows:
    """The live records: their fields, with `id`, `created`."""
    return [
        {**record["fields"], "id": record["id"], "created": record["created"]}
        for record in _snapshot(crm).get(object_name, [])
        if not record["deleted"]
    ]


def _snapshot(crm: Crm) -> dict[str, Rows]:
    return crm.snapshot()


@pytest.fixture(scope="module")
def salesforce() -> Iterator[Crm]:
    with start_sandbox(*SEEDED, "salesforce") as sandbox:
        yield sandbox.salesforce


@pytest.fixture(scope="module")
def hubspot() -> Iterator[Crm]:
    with start_sandbox(*SEEDED, "hubspot") as sandbox:
        yield sandbox.hubspot


@pytest.fixture(scope="module")
def spread() -> Iterator[Sandbox]:
    with start_sandbox(*SEEDED, "overlap") as sandbox:
        yield sandbox


def test_both_crms_hold_the_same_leads_converted_on_the_same_days(
    salesforce: Crm, hubspot: Crm
) -> None:
    leads = rows(salesforce, "Lead")
    contacts = [one for one in rows(hubspot, "contacts") if "hs_v2_date_entered_lead" in one]

    assert {(one["Email"], one["created"][:10]) for one in leads} == {
        (one["email"], one["hs_v2_date_entered_lead"][:10]) for one in contacts
    }
    converted = {one["Email"]: one["ConvertedDate"] for one in leads if one["IsConverted"]}
    assert converted == {
        one["email"]: one["hs_v2_date_entered_opportunity"][:10]
        for one in contacts
        if "hs_v2_date_entered_opportunity" in one
    }
    assert 0.1 < len(converted) / len(leads) < 0.6
    statuses = Counter(one["Status"] for one in leads)
    assert len(statuses) == 4, "some are new, some worked on, some given up"


def test_a_converted_lead_names_its_account_contact_and_deal(salesforce: Crm) -> None:
    ids = {
        name: {one["id"] for one in _snapshot(salesforce)[name]}
        for name in ("Account", "Contact", "Opportunity")
    }
    converted = [one for one in rows(salesforce, "Lead") if one["IsConverted"]]

    assert converted
    for lead in converted:
        for name, known in ids.items():
            assert lead[f"Converted{name}Id"] in known


def test_both_crms_hold_the_same_answers_tickets_and_contracts(
    salesforce: Crm, hubspot: Crm
) -> None:
    cases, tickets = rows(salesforce, "Case"), rows(hubspot, "tickets")

    answers = Counter(int(one["Score__c"]) for one in rows(salesforce, "Survey_Response__c"))
    assert answers == Counter(int(one["hs_value"]) for one in rows(hubspot, "feedback_submissions"))
    assert set(answers) & {0, 10} == {0, 10} or len(answers) > 5
    assert {one["Subject"]: one["IsClosed"] for one in cases} == {
        one["subject"]: "closed_date" in one for one in tickets
    }
    assert {one["Subject"] for one in cases if "First_Response__c" in one} == {
        one["subject"] for one in tickets if "first_agent_reply_date" in one
    }
    reopened = [one for one in tickets if "hs_v2_date_exited_4" in one]
    assert reopened
    starts = Counter(one["StartDate"] for one in rows(salesforce, "Contract"))
    assert starts == Counter(
        one["hs_recurring_billing_start_date"] for one in rows(hubspot, "subscriptions")
    )


def test_case_history_tells_of_reopened_cases(salesforce: Crm) -> None:
    changes = [one for one in rows(salesforce, "CaseHistory") if one["Field"] == "Status"]

    assert any(one.get("OldValue") == "Closed" for one in changes)


def test_both_crms_hold_the_same_campaigns_with_costs_and_members(
    salesforce: Crm, hubspot: Crm
) -> None:
    spent: Counter[str] = Counter()
    names = {one["id"]: one["hs_name"] for one in rows(hubspot, "campaigns")}
    for item in rows(hubspot, "campaign_spend"):
        spent[names[item["campaign"]]] += Decimal(item["amount"])  # type: ignore[assignment]

    costs = {one["Name"]: one["ActualCost"] for one in rows(salesforce, "Campaign")}
    assert costs == {name: float(sum_) for name, sum_ in spent.items()}
    touches = [it for it in rows(hubspot, "campaign_touches") if it["kind"] == "influencedContacts"]
    members = rows(salesforce, "CampaignMember")
    assert len(members) == len(touches) > 0
    assert any(one["HasResponded"] for one in members)
    assert any("CampaignId" in one for one in rows(salesforce, "Opportunity"))
    assert sum(int(one["sent"]) for one in rows(hubspot, "email_days")) > 0


def test_an_overlapping_company_loses_no_deal_and_copies_some(
    spread: Sandbox, salesforce: Crm
) -> None:
    here = {one["id"]: one for one in rows(spread.salesforce, "Opportunity")}
    there = {one["dealname"]: one for one in rows(spread.hubspot, "deals")}

    copies = {n: one for n, one in there.items() if "hs_salesforceopportunityid" in one}
    names = {one["Name"] for one in here.values()}
    assert names | set(there) == {one["Name"] for one in rows(salesforce, "Opportunity")}
    assert names & set(there) == set(copies)
    assert 5 < len(copies) < 100
    for name, copy in copies.items():
        original = here[copy["hs_salesforceopportunityid"]]
        assert original["Name"] == name
        assert original.get("Amount") == (float(copy["amount"]) if "amount" in copy else None)
        assert copy["createdate"][:10] == original["created"][:10]


def test_an_overlapping_company_knows_its_customers_by_id_by_domain_or_twice(
    spread: Sandbox,
) -> None:
    accounts = {one["id"]: one for one in rows(spread.salesforce, "Account")}
    by_domain = {
        one["Website"].removeprefix("https://www."): one["id"] for one in accounts.values()
    }
    companies = rows(spread.hubspot, "companies")

    linked = [one for one in companies if "salesforceaccountid" in one]
    assert all(accounts[one["salesforceaccountid"]]["Name"] == one["name"] for one in linked)
    same = [one for one in companies if one["domain"] in by_domain]
    assert [one for one in same if "salesforceaccountid" not in one], "known by domain alone"
    assert [one for one in linked if one["domain"] not in by_domain], "known by id alone"
    (twice,) = [i for i, n in Counter(o["salesforceaccountid"] for o in linked).items() if n > 1]
    domains = {one["domain"] for one in linked if one["salesforceaccountid"] == twice}
    assert len(domains) == 2
    assert by_domain.keys().isdisjoint(domains), "three domains, one customer"


def test_an_overlapping_company_has_each_lead_ticket_and_answer_once(
    spread: Sandbox, salesforce: Crm
) -> None:
    leads = Counter(one["Email"] for one in rows(spread.salesforce, "Lead"))
    leads += Counter(
        one["email"] for one in rows(spread.hubspot, "contacts") if "hs_v2_date_entered_lead" in one
    )
    tickets = Counter(one["Subject"] for one in rows(spread.salesforce, "Case"))
    tickets += Counter(one["subject"] for one in rows(spread.hubspot, "tickets"))
    answers = len(rows(spread.salesforce, "Survey_Response__c"))
    answers += len(rows(spread.hubspot, "feedback_submissions"))

    assert leads == Counter(one["Email"] for one in rows(salesforce, "Lead"))
    assert tickets == Counter(one["Subject"] for one in rows(salesforce, "Case"))
    assert answers == len(rows(salesforce, "Survey_Response__c"))
    shared = {one["Email"] for one in rows(spread.salesforce, "Contact")} & {
        one["email"] for one in rows(spread.hubspot, "contacts")
    }
    assert shared, "people at customers of both"
