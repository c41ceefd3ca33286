"""Every stream that HubSpot can be read as, from the objects that carry it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeVar

import pytest

from connectors.base import FieldSource, StreamSettings
from connectors.errors import MisconfiguredConnection, StreamPaused
from store.canonical import (
    Campaign,
    CanonicalRecord,
    Contact,
    Contract,
    Cost,
    Deal,
    DealContact,
    DealLine,
    EmailStatistics,
    Lead,
    Rate,
    Stage,
    SurveyResponse,
    Ticket,
    TicketStatusChange,
)
from tests.contract.connectors.hubspot_portal import (
    SCOPES,
    Pulled,
    fresh,
    paths,
    portal,
    pull,
    stream_of,
)
from tests.fixtures.sandboxes import Crm, Fields, Sandbox, start_sandbox

R = TypeVar("R", bound=CanonicalRecord)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


def reading(*names: str, **configured: StreamSettings) -> Mapping[str, StreamSettings]:
    return {**dict.fromkeys(names, StreamSettings()), **configured}


def of_type(pulled: Pulled, kind: type[R]) -> dict[str, R]:
    return {
        ref.native_id: record for ref, record in pulled.records.items() if isinstance(record, kind)
    }


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# ---------------------------------------------------------------- people


def test_a_contact_arrives_with_its_name_company_and_stage(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    contact_id = crm.create(
        "contacts",
        {
            "firstname": "Person",
            "lastname": "0007",
            "email": "person0007@x.example",
            "lifecyclestage": "subscriber",
            "hs_analytics_source": "PAID_SEARCH",
        },
    )
    crm.associate("contacts", contact_id, "companies", [company_id], primary=True)

    with portal(crm, streams=reading("contacts")) as connector:
        contact = of_type(pull(connector, "contacts"), Contact)[contact_id]

    assert (contact.name, contact.email) == ("Person 0007", "person0007@x.example")
    assert contact.account == f"web:{company_id}"
    assert (contact.lifecycle_stage, contact.source) == ("subscriber", "PAID_SEARCH")


def test_contacts_are_found_by_their_own_modified_date(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    one, two = crm.create_many("contacts", [{"email": f"p{n}@x.example"} for n in range(2)])
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    with portal(crm, streams=reading("contacts")) as connector:
        first = pull(connector, "contacts")
        crm.clock(advance=3600)
        crm.edit("contacts", two, {"lastname": "0002"})
        second = pull(connector, "contacts", first.cursor)

    assert first.ids("contacts") == {one, two}
    assert second.ids("contacts") == {two}


def test_leads_are_the_contacts_that_entered_the_lead_stage(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    lead, converted, subscriber = crm.create_many(
        "contacts",
        [{"email": f"p{n}@x.example", "hs_lead_status": "NEW"} for n in range(3)],
        at="2026-01-01T00:00:00+00:00",
    )
    for day, stage in (("05", "lead"), ("10", "marketingqualifiedlead"), ("20", "customer")):
        crm.edit("contacts", converted, {"lifecyclestage": stage}, at=f"2026-01-{day}T09:00:00Z")
    crm.edit("contacts", lead, {"lifecyclestage": "lead"}, at="2026-02-01T09:00:00Z")
    crm.edit("contacts", subscriber, {"lifecyclestage": "subscriber"})
    crm.associate("contacts", converted, "companies", [company_id], primary=True)

    with portal(crm, streams=reading("contacts")) as connector:
        names = [stream.name for stream in connector.streams()]
        pulled = pull(connector, "leads")
        leads = of_type(pulled, Lead)
        contacts = pull(connector, "contacts").ids("contacts")
        crm.edit("contacts", subscriber, {"lastname": "0003"})
        after = pull(connector, "leads", pulled.cursor)

    assert names == ["owners", "stages", "contacts", "leads"]
    assert contacts == {lead, converted, subscriber}
    assert not pulled.deleted
    assert subscriber in after.deleted_ids
    assert leads.keys() == {lead, converted}
    assert leads[lead].created_at == at("2026-02-01T09:00:00")
    assert (leads[lead].status, leads[lead].converted_at) == ("NEW", None)
    won = leads[converted]
    assert won.created_at == at("2026-01-05T09:00:00")
    assert won.qualified_at == at("2026-01-10T09:00:00")
    assert won.converted_at == at("2026-01-20T09:00:00")
    assert (won.converted_account, won.converted_contact) == (
        f"web:{company_id}",
        f"web:{converted}",
    )


def test_the_stage_at_which_a_lead_is_converted_can_be_chosen_by_its_label(crm: Crm) -> None:
    contact_id = crm.create("contacts", {"email": "p@x.example"})
    for day, stage in (("05", "lead"), ("12", "opportunity")):
        crm.edit("contacts", contact_id, {"lifecyclestage": stage}, at=f"2026-01-{day}T09:00:00Z")

    settings = reading("contacts", leads=StreamSettings(converted_stage="Opportunity"))
    with portal(crm, streams=settings) as connector:
        lead = of_type(pull(connector, "leads"), Lead)[contact_id]

    assert lead.converted_at == at("2026-01-12T09:00:00")


def test_a_lifecycle_stage_that_is_not_there_is_named_beside_those_that_are(crm: Crm) -> None:
    settings = reading("contacts", leads=StreamSettings(converted_stage="Kunde"))
    with (
        portal(crm, streams=settings) as connector,
        pytest.raises(MisconfiguredConnection, match=r'"Kunde".*customer'),
    ):
        pull(connector, "leads")


def test_whoever_dates_leads_by_creation_takes_every_contact_as_one(crm: Crm) -> None:
    contact_id = crm.create("contacts", {"email": "p@x.example"}, at="2026-01-01T00:00:00Z")
    mapped = StreamSettings(fields={"created_at": FieldSource("createdate")})

    with portal(crm, streams=reading("contacts", leads=mapped)) as connector:
        leads = of_type(pull(connector, "leads"), Lead)

    assert leads[contact_id].created_at == at("2026-01-01T00:00:00")


# ---------------------------------------------------------------- deals


def test_the_people_of_a_deal_come_with_their_roles_and_go_when_they_are_unlinked(
    crm: Crm,
) -> None:
    crm.admin("label", **{"from": "deals"}, to="contacts", label="Decision maker")
    deal_id = crm.create("deals", {"dealname": "D"})
    one, two = crm.create_many("contacts", [{"email": f"p{n}@x.example"} for n in range(2)])
    crm.associate("deals", deal_id, "contacts", [one], label="Decision maker")
    crm.associate("deals", deal_id, "contacts", [two])

    with portal(crm) as connector:
        first = pull(connector, "deals")
        crm.associate("deals", deal_id, "contacts", [two], remove=True)
        crm.edit("deals", deal_id, {"amount": "5"})
        second = pull(connector, "deals", first.cursor)

    people = of_type(first, DealContact).values()
    assert {(one.deal, one.contact, one.role) for one in people} == {
        (f"web:{deal_id}", f"web:{one}", "Decision maker"),
        (f"web:{deal_id}", f"web:{two}", None),
    }
    assert {one.contact for one in of_type(second, DealContact).values()} == {f"web:{one}"}
    (family,) = second.pages[0].whole
    assert (family.stream, family.link, list(family.parents)) == (
        "deal_contacts", "deal", [f"web:{deal_id}"],
    )  # fmt: skip


def test_what_a_deal_brought_along_goes_with_it(crm: Crm) -> None:
    kept, lost, archived = crm.create_many("deals", [{"dealname": name} for name in "ABC"])
    with portal(crm) as connector:
        first = pull(connector, "deals")
        merged = crm.merge("deals", kept, [lost])
        crm.delete("deals", archived)
        second = pull(connector, "deals", first.cursor)

    gone = {
        (family.stream, parent) for page in second.pages for family in page.whole
        for parent in family.parents
    }  # fmt: skip
    assert {
        (stream, f"web:{deal_id}")
        for stream in ("deal_stage_changes", "deal_contacts")
        for deal_id in (lost, archived)
    } <= gone
    assert ("deal_stage_changes", f"web:{merged}") not in gone


def test_line_items_are_the_lines_of_their_deal(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    line, loose = crm.create_many(
        "line_items", [{"name": "Pump", "quantity": "3", "price": "10.50"}, {"name": "of a quote"}]
    )
    crm.associate("deals", deal_id, "line_items", [line])

    with portal(crm) as connector:
        pulled = pull(connector, "deal_lines")
        crm.delete("line_items", line)
        after = pull(connector, "deal_lines", pulled.cursor)

    lines = of_type(pulled, DealLine)
    assert lines.keys() == {line}
    assert (lines[line].deal, lines[line].product) == (f"web:{deal_id}", "Pump")
    assert (lines[line].quantity, lines[line].unit_price) == (Decimal(3), Decimal("10.5"))
    assert lines[line].total == Decimal("31.5")
    assert loose in pulled.deleted_ids
    assert line in after.deleted_ids


def test_line_items_of_no_deal_are_no_gap_in_a_full_pull(crm: Crm) -> None:
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    crm.create("line_items", {"name": "of a quote"})
    crm.clock(fix="2026-11-22T06:00:00+00:00")

    with portal(crm) as connector:
        until = pull(connector, "deal_lines").pages[-1].complete_until
        assert until is not None
        assert connector.count(stream_of(connector, "deal_lines"), until) is None


def test_an_object_without_a_list_of_archived_records_is_read_all_the_same(crm: Crm) -> None:
    answer_id = crm.create(
        "feedback_submissions",
        {"hs_value": "9", "hs_submission_timestamp": "2026-02-03T04:05:06Z"},
    )
    refusal = {"status": "error", "message": "archived is not supported"}
    crm.fault("status", path="archived=true", status=400, body=refusal, times="forever")

    with portal(crm, streams=reading("survey_responses")) as connector:
        pulled = pull(connector, "survey_responses")

    assert pulled.ids("survey_responses") == {answer_id}
    assert ["deletions are only seen" in one for one in pulled.warnings] == [True]


def test_orders_can_be_read_as_deals(crm: Crm) -> None:
    crm.admin(
        "pipeline",
        object="orders",
        id="shop-orders",
        label="Orders",
        stages=[
            {"id": "o-open", "label": "Open", "probability": 0.5},
            {"id": "o-done", "label": "Shipped", "probability": 1.0, "is_closed": True},
        ],
    )
    order_id = crm.create(
        "orders",
        {
            "hs_order_name": "Order 0001",
            "hs_total_price": "99.90",
            "hs_currency_code": "EUR",
            "hs_pipeline": "shop-orders",
            "hs_pipeline_stage": "o-done",
            "hs_external_created_date": "2026-03-01T12:00:00Z",
            "hs_external_order_status": "paid",
        },
    )
    outcome = FieldSource(
        "hs_external_order_status", "boolean", values={"paid": "true", "returned": "false"}
    )
    mapped = StreamSettings(object="orders", fields={"is_won": outcome})

    with (
        portal(crm, streams={"deals": mapped}) as connector,
        portal(crm, streams={"deals": StreamSettings(object="orders")}) as undecided,
    ):
        rejected = pull(undecided, "deals").rejected
        deal = of_type(pull(connector, "deals"), Deal)[order_id]
        stages = of_type(pull(connector, "stages"), Stage)

    assert (deal.amount, deal.currency) == (Decimal("99.9"), "EUR")
    assert (deal.is_closed, deal.is_won) == (True, True)
    assert (deal.close_date, deal.stage) == (date(2026, 3, 1), "web:o-done")
    assert {"o-open", "o-done"} <= stages.keys()
    assert ["Map is_won" in one.reason for one in rejected] == [True]


# ---------------------------------------------------------------- service


def test_a_ticket_arrives_with_its_people_status_history_and_first_reply(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    contact_id = crm.create("contacts", {"email": "p@x.example"})
    ticket_id = crm.create(
        "tickets",
        {
            "subject": "T",
            "hs_pipeline": "0",
            "hs_pipeline_stage": "1",
            "hs_ticket_priority": "URGENT",
            "hs_ticket_category": "BILLING_ISSUE",
            "first_agent_reply_date": "2026-01-10T10:00:00Z",
        },
        at="2026-01-10T09:00:00+00:00",
    )
    crm.associate("tickets", ticket_id, "companies", [company_id], primary=True)
    crm.associate("tickets", ticket_id, "contacts", [contact_id])
    crm.edit("tickets", ticket_id, {"hs_pipeline_stage": "4"}, at="2026-01-12T09:00:00+00:00")

    with portal(crm, streams=reading("tickets")) as connector:
        pulled = pull(connector, "tickets")
        stages = of_type(pull(connector, "stages"), Stage)

    ticket = of_type(pulled, Ticket)[ticket_id]
    assert (ticket.account, ticket.contact) == (f"web:{company_id}", f"web:{contact_id}")
    assert (ticket.priority, ticket.category) == ("urgent", "BILLING_ISSUE")
    assert (ticket.status, ticket.is_closed) == ("web:4", True)
    assert ticket.closed_at == at("2026-01-12T09:00:00")
    assert ticket.first_response_at == at("2026-01-10T10:00:00")
    changes = of_type(pulled, TicketStatusChange).values()
    assert {(one.status, one.is_closed, one.at) for one in changes} == {
        ("web:1", False, at("2026-01-10T09:00:00")),
        ("web:4", True, at("2026-01-12T09:00:00")),
    }
    assert {ticket.status, *(one.status for one in changes)} <= {
        stage.ref.key for stage in stages.values()
    }
    assert (stages["4"].is_closed, stages["4"].is_won) == (True, False)


def test_a_ticket_that_is_open_again_is_not_closed(crm: Crm) -> None:
    ticket_id = crm.create("tickets", {"hs_pipeline": "0", "hs_pipeline_stage": "1"})
    crm.edit("tickets", ticket_id, {"hs_pipeline_stage": "4"}, at="2026-01-12T09:00:00+00:00")
    crm.edit("tickets", ticket_id, {"hs_pipeline_stage": "2"})
    crm.edit("tickets", ticket_id, {"closed_date": "2026-01-12T09:00:00Z"})

    with portal(crm, streams=reading("tickets")) as connector:
        ticket = of_type(pull(connector, "tickets"), Ticket)[ticket_id]

    assert (ticket.is_closed, ticket.closed_at) == (False, None)


def test_survey_answers_are_those_of_feedback_submissions(crm: Crm) -> None:
    contact_id = crm.create("contacts", {"email": "p@x.example"})
    answer_id = crm.create(
        "feedback_submissions",
        {
            "hs_survey_type": "NPS",
            "hs_value": "9",
            "hs_content": "Fine.",
            "hs_submission_timestamp": "2026-02-03T04:05:06Z",
        },
    )
    crm.associate("feedback_submissions", answer_id, "contacts", [contact_id])

    with portal(crm, streams=reading("survey_responses")) as connector:
        answer = of_type(pull(connector, "survey_responses"), SurveyResponse)[answer_id]

    assert (answer.kind, answer.score, answer.comment) == ("nps", Decimal(9), "Fine.")
    assert answer.submitted_at == at("2026-02-03T04:05:06")
    assert answer.contact == f"web:{contact_id}"


# ---------------------------------------------------------------- money


def test_campaigns_carry_spend_budget_and_what_reports_credit_them_with(crm: Crm) -> None:
    campaign = crm.create(
        "campaigns",
        {"hs_name": "Spring", "hs_start_date": "2026-03-01", "hs_currency_code": "EUR"},
    )
    crm.create("campaign_spend", {"campaign": campaign, "name": "Ads", "amount": "1200.50"})
    crm.create("campaign_budget", {"campaign": campaign, "name": "All", "amount": "2000"})
    mapped = StreamSettings(
        fields={
            "credited": FieldSource("revenue.revenueAmount", "money"),
            "spend_total": FieldSource("budget.spendTotal", "money"),
        }
    )

    with portal(crm, streams={"campaigns": mapped}) as connector:
        pulled = pull(connector, "campaigns")
        crm.delete("campaigns", campaign)
        after = pull(connector, "campaigns", pulled.cursor)

    found = of_type(pulled, Campaign)[campaign]
    assert (found.name, found.start_date) == ("Spring", date(2026, 3, 1))
    assert (found.cost, found.budget, found.currency) == (
        Decimal("1200.5"), Decimal(2000), "EUR",
    )  # fmt: skip
    assert found.extra == {"credited": Decimal(0), "spend_total": Decimal("1200.5")}
    assert after.deleted_ids == [campaign]


def email_with_days(crm: Crm, campaign: str, days: Mapping[str, int]) -> str:
    """A marketing e-mail that was sent to so many people on these days."""
    fields = {"name": "News", "campaign": campaign}
    email = crm.create("marketing_emails", fields, at="2024-06-01T00:00:00Z")
    for day, sent in days.items():
        fates: Fields = {"delivered": sent - 1, "bounce": 1, "open": 5, "click": 2}
        sending: Fields = {"email": email, "day": day, "sent": sent, "unsubscribed": 1}
        crm.create("email_days", {**sending, **fates})
    return email


def test_email_statistics_come_by_email_and_day_of_the_portal_with_their_campaign(
    crm: Crm,
) -> None:
    crm.settings(time_zone="Asia/Tokyo", scopes=[*SCOPES, "content"])
    crm.clock(move_to="2026-03-10T00:00:00Z")
    campaign = crm.create("campaigns", {"hs_name": "Spring"})
    email = email_with_days(crm, campaign, {"2024-07-01": 30, "2026-03-05": 100, "2026-03-06": 9})
    old = email_with_days(crm, campaign, {"2025-01-01": 7})
    crm.delete("marketing_emails", old)

    with portal(crm, streams=reading("email_statistics")) as connector:
        found = of_type(pull(connector, "email_statistics"), EmailStatistics)

    assert {(one.email, one.date.isoformat(), one.sent) for one in found.values()} == {
        (email, "2024-07-01", 30),
        (email, "2026-03-05", 100),
        (email, "2026-03-06", 9),
        (old, "2025-01-01", 7),
    }
    day = found[f"{email}-2026-03-05"]
    assert (day.campaign, day.delivered, day.opens) == (f"web:{campaign}", 99, 5)
    assert (day.clicks, day.unsubscribes, day.bounces) == (2, 1, 1)


def test_emails_whose_counters_moved_are_read_again_and_no_others(crm: Crm) -> None:
    crm.settings(scopes=[*SCOPES, "content"])
    crm.clock(move_to="2026-03-10T00:00:00Z")
    campaign = crm.create("campaigns", {"hs_name": "Spring"})
    moved = email_with_days(crm, campaign, {"2026-03-05": 100})
    email_with_days(crm, campaign, {"2026-03-05": 50})
    asked = "statistics/histogram"

    with portal(crm, streams=reading("email_statistics")) as connector:
        first = pull(connector, "email_statistics")
        crm.forget()
        idle = pull(connector, "email_statistics", first.cursor)
        calls_of_idle = len(paths(crm, "/marketing/"))
        # Somebody opens the message of five days ago.
        opened: Fields = {"email": moved, "day": "2026-03-05", "open": 3}
        crm.create("email_days", opened)
        again = pull(connector, "email_statistics", idle.cursor)

    assert (idle.records, calls_of_idle) == ({}, 2)
    assert len(paths(crm, asked)) == 1
    (day,) = of_type(again, EmailStatistics).values()
    assert (day.email, day.opens, day.sent) == (moved, 8, 100)


def test_email_statistics_without_their_scope_are_switched_off_with_a_word(crm: Crm) -> None:
    email_with_days(crm, crm.create("campaigns", {"hs_name": "Spring"}), {"2026-03-05": 1})

    with portal(crm, streams=reading("campaigns", "email_statistics")) as connector:
        with pytest.raises(StreamPaused, match=r"email_statistics is switched off.*content"):
            pull(connector, "email_statistics")
        assert len(pull(connector, "campaigns").records) == 1


def test_campaigns_are_read_page_by_page(crm: Crm) -> None:
    ids = crm.create_many("campaigns", [{"hs_name": f"C{n:03}"} for n in range(230)])

    with portal(crm, streams=reading("campaigns")) as connector:
        pulled = pull(connector, "campaigns")

    assert pulled.ids("campaigns") == set(ids)
    assert len(paths(crm, "/marketing/")) == 3


def test_a_report_without_its_scope_is_named_and_keeps_what_is_stored(crm: Crm) -> None:
    crm.create("campaigns", {"hs_name": "Spring"})
    crm.settings(scopes=[one for one in SCOPES if "revenue" not in one])
    mapped = StreamSettings(fields={"credited": FieldSource("revenue.revenueAmount", "money")})

    with portal(crm, streams={"campaigns": mapped}) as connector:
        pulled = pull(connector, "campaigns")

    assert len(pulled.records) == 1
    assert any("marketing.campaigns.revenue.read" in one for one in pulled.warnings)
    assert pulled.pages[-1].unreadable == {"credited"}


def test_costs_and_touches_come_from_any_object_by_mapping(crm: Crm) -> None:
    named = crm.admin(
        "define_object",
        name="spendings",
        label="Spending",
        properties=[{"name": "spent_on", "type": "date"}, {"name": "spent", "type": "money"}],
    )["full_name"]
    cost_id = crm.create("spendings", {"spent_on": "2026-04-30", "spent": "77.70"})
    mapping = {"date": FieldSource("spent_on"), "amount": FieldSource("spent")}
    settings = {"costs": StreamSettings(object=str(named), fields=mapping)}

    with portal(crm, streams=settings) as connector:
        full = pull(connector, "costs")
        crm.edit("spendings", cost_id, {"spent": "80"})
        after = pull(connector, "costs", full.cursor)

    cost = of_type(full, Cost)[cost_id]
    assert (cost.date, cost.amount) == (date(2026, 4, 30), Decimal("77.7"))
    assert of_type(after, Cost)[cost_id].amount == 80


def test_rates_are_those_that_the_portal_converts_by(crm: Crm) -> None:
    crm.settings(
        rates={"GBP": "1.25", "CHF": "1.125"}, scopes=[*SCOPES, "settings.currencies.read"]
    )
    wanted = reading("deals")

    with (
        portal(crm, streams=wanted, gives_rates=True) as connector,
        portal(crm, streams=wanted, gives_rates=True, currency="EUR") as abroad,
        portal(crm, streams=wanted) as without,
    ):
        rates = of_type(pull(connector, "rates"), Rate).values()
        elsewhere = pull(abroad, "rates")
        names = [stream.name for stream in without.streams()]

    assert {(one.currency, one.rate) for one in rates} == {
        ("GBP", Decimal("1.25")), ("CHF", Decimal("1.125")),
    }  # fmt: skip
    assert not elsewhere.records
    assert "rates to USD are of no use" in elsewhere.warnings[0]
    assert "rates" not in names


def test_contracts_are_subscriptions(crm: Crm) -> None:
    company_id = crm.create("companies", {"name": "Account 0001"})
    contract_id = crm.create(
        "subscriptions",
        {
            "hs_recurring_billing_start_date": "2026-01-01",
            "hs_recurring_billing_end_date": "2026-12-31",
        },
    )
    crm.associate("subscriptions", contract_id, "companies", [company_id])

    with portal(crm, streams=reading("contracts")) as connector:
        contract = of_type(pull(connector, "contracts"), Contract)[contract_id]

    assert (contract.account, contract.start_date, contract.end_date) == (
        f"web:{company_id}", date(2026, 1, 1), date(2026, 12, 31),
    )  # fmt: skip


# ---------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    ("stream", "scope"),
    [
        ("survey_responses", "feedback_submissions"),
        ("deal_lines", "line_items"),
        ("tickets", "tickets"),
        ("leads", "contacts"),
    ],
)
def test_a_stream_without_its_scope_is_switched_off_and_the_scope_named(
    crm: Crm, stream: str, scope: str
) -> None:
    crm.settings(scopes=[one for one in SCOPES if scope not in one])
    wanted = reading("accounts", "contacts", "deals", "tickets", "survey_responses")

    with portal(crm, streams=wanted) as connector:
        with pytest.raises(StreamPaused, match=rf"{stream}.*crm\.objects\.{scope}\.read"):
            pull(connector, stream)
        rest = [one.name for one in connector.streams() if one.name in {"accounts", "deals"}]
        ends = [pull(connector, one).pages[-1].complete_until for one in rest]

    assert None not in ends


def test_a_hub_that_the_portal_has_not_bought_switches_its_streams_off(crm: Crm) -> None:
    crm.settings(absent_hubs=["marketing", "service"])
    with portal(crm, streams=reading("campaigns", "survey_responses", "deals")) as connector:
        for stream in ("campaigns", "survey_responses"):
            with pytest.raises(StreamPaused, match=f"{stream} is switched off"):
                pull(connector, stream)
        assert pull(connector, "deals").pages[-1].complete_until is not None
    crm.settings(absent_hubs=[])


def test_links_without_a_scope_keep_what_is_stored_of_them(crm: Crm) -> None:
    deal_id = crm.create("deals", {"dealname": "D"})
    crm.settings(scopes=[one for one in SCOPES if "contacts" not in one])
    crm.fault(
        "status",
        path="associations/deals/contacts",
        status=403,
        body={"category": "MISSING_SCOPES", "message": "no"},
        times="forever",
    )

    with portal(crm) as connector:
        pulled = pull(connector, "deals")
        again = pull(connector, "deals", pulled.cursor)

    assert deal_id in pulled.ids("deals")
    assert not pulled.pages[0].whole
    assert any("deal_contacts stays as it is" in one for one in pulled.warnings)
    assert any("deal_contacts stays as it is" in one for one in again.warnings)


def test_a_required_property_that_vanished_pauses_its_stream_alone(crm: Crm) -> None:
    crm.create("tickets", {"hs_pipeline": "0", "hs_pipeline_stage": "1"})
    mapped = StreamSettings(fields={"csat": FieldSource("gone", required=True)})

    with portal(crm, streams={"accounts": StreamSettings(), "tickets": mapped}) as connector:
        with pytest.raises(StreamPaused, match=r"tickets\.gone"):
            pull(connector, "tickets")
        assert pull(connector, "accounts").pages[-1].complete_until is not None


EVERYTHING = reading(
    "accounts", "contacts", "campaigns", "deals", "tickets", "survey_responses", "contracts"
)


def test_dated_paths_bring_every_stream_as_the_legacy_ones_do(crm: Crm) -> None:
    crm.create("campaigns", {"hs_name": "Spring"})
    company_id = crm.create("companies", {"name": "Account 0001"})
    for name in ("contacts", "deals", "tickets", "subscriptions"):
        crm.associate("companies", company_id, name, [crm.create(name, {})])

    with (
        portal(crm, streams=EVERYTHING) as legacy,
        portal(crm, streams=EVERYTHING, api_version="2026-09") as dated,
    ):
        for stream in legacy.streams():
            crm.forget()
            full = pull(dated, stream.name)
            increment = pull(dated, stream.name, full.cursor)
            assert not paths(crm, "/v3/")
            assert not paths(crm, "/v4/")
            assert pull(legacy, stream.name).records == full.records
            assert increment.records.items() <= full.records.items()


def test_every_stream_is_one_of_those_the_connector_says_it_reads(crm: Crm) -> None:
    with portal(crm, streams=EVERYTHING) as connector:
        assert {one.name for one in connector.streams()} <= set(
            connector.capabilities.stream_objects
        )
        for one in connector.streams():
            assert stream_of(connector, one.name).yields[0] == one.name
            assert pull(connector, one.name).pages[-1].complete_until is not None


def test_a_round_without_changes_asks_each_object_once_for_merges_and_values_of_nothing(
    crm: Crm,
) -> None:
    names = ("accounts", "contacts", "deals", "tickets", "survey_responses")
    company = crm.create("companies", {"name": "C"})
    for name in ("contacts", "deals", "tickets"):
        crm.create(name, {}, associations={"companies": [company]})
    with portal(crm, streams=reading(*names)) as connector:
        streams = [stream.name for stream in connector.streams()]
        cursors = {name: pull(connector, name).cursor for name in streams}
        crm.clock(advance=3600)
        cursors = {name: pull(connector, name, cursors[name]).cursor for name in streams}
        crm.clock(advance=600)
        crm.forget()
        for name in streams:
            pull(connector, name, cursors[name])

    asked = Counter(str(one["path"]).rpartition("/")[2] for one in crm.requests())
    merges = [one for one in crm.requests() if "search" in str(one["path"])]
    assert asked["read"] == 0
    # One for each of seven streams' windows, one for each of three objects that links lead to.
    assert len(merges) == 10
    assert sum(asked.values()) <= 32


def test_a_merge_in_the_midst_of_a_round_moves_links_in_the_next_one(crm: Crm) -> None:
    loser, winner, third = crm.create_many("companies", [{"name": name} for name in "ABC"])
    deal = crm.create("deals", {"dealname": "D"}, associations={"companies": [loser]})
    stage: Fields = {"hs_pipeline": "0", "hs_pipeline_stage": "1"}
    ticket = crm.create("tickets", stage, associations={"companies": [third]})
    names = ("deals", "tickets")
    with portal(crm, streams=reading(*names)) as connector:
        cursors = {name: pull(connector, name).cursor for name in names}
        pull(connector, "deals", cursors["deals"])
        lives_on = crm.merge("companies", winner, [loser, third])

        in_between = pull(connector, "tickets", cursors["tickets"])
        next_round = pull(connector, "deals", cursors["deals"])
        next_tickets = pull(connector, "tickets", in_between.cursor)

    assert of_type(next_round, Deal)[deal].account == f"web:{lives_on}"
    assert of_type(next_tickets, Ticket)[ticket].account == f"web:{lives_on}"
