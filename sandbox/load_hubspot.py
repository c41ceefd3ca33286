"""Puts a company into the HubSpot portal, each record with the stamps of when it happened."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from sandbox.company import Account, Campaign, Company, Deal, Person, Ticket, Touch
from sandbox.hubspot_pipelines import DEFAULT_PIPELINES
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_properties import instant_text
from sandbox.load_common import NOON, Ids, beginning, closes_last, end_of, text
from sandbox.org import Fields, FieldType, Value

SOURCES: Mapping[str, str] = {
    "web": "ORGANIC_SEARCH",
    "referral": "REFERRALS",
    "paid": "PAID_SEARCH",
    "email": "EMAIL_MARKETING",
    "phone": "OFFLINE",
}
TICKET_STAGES: Mapping[str, str] = {"new": "1", "waiting": "3", "closed": "4"}
TICKET_CATEGORIES: Mapping[str, str] = {
    "problem": "PRODUCT_ISSUE",
    "question": "GENERAL_INQUIRY",
    "wish": "FEATURE_REQUEST",
}
PARTS_OF_SPEND = 3
PROMOTERS, PASSIVES = 9, 7
"""Scores from which on an answer is one."""


@dataclass(frozen=True, slots=True)
class Twins:
    """What HubSpot's own integration with Salesforce wrote: ids of the same records there."""

    accounts: Mapping[str, str] = field(default_factory=dict)
    deals: Mapping[str, str] = field(default_factory=dict)
    people: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, str] = field(default_factory=dict)
    """An account's name -> the domain it has here, where it is another one."""
    doubles: Mapping[str, str] = field(default_factory=dict)
    """An account's name -> the domain of a second company that is the same customer."""


NO_TWINS = Twins()


def fill_hubspot(company: Company, portal: Portal, twins: Twins = NO_TWINS) -> Ids:
    """Everything the company has; the product is `product`, a contract a subscription."""
    portal.set_stages(company.stages)
    portal.add_field("deals", "product", label="Product", type=FieldType.TEXT)
    industries = sorted({a.industry for a in company.accounts if a.industry})
    portal.add_field(
        "companies", "industry", label="Industry", type=FieldType.CHOICE, choices=industries
    )
    ids = Ids()
    since = beginning(company)
    _add_owners(portal, company, ids, since)
    doubles: dict[str, str] = {}
    for account in company.accounts:
        fields = _company(account, ids, twins)
        ids.accounts[account.name] = portal.create("companies", fields, at=since)
        if account.name in twins.doubles:
            other = {**fields, "domain": twins.doubles[account.name]}
            doubles[account.name] = portal.create("companies", other, at=since)
    won_at = _won_at(company)
    for person in company.people:
        ids.people[person.name] = _add_contact(portal, person, ids, twins, won_at)
    for place, deal in enumerate(company.deals):
        second = doubles.get(deal.account or "") if place % 2 else None
        ids.deals[deal.name] = _add_deal(portal, company, deal, ids, twins, company_id=second)
    for campaign in company.campaigns:
        _add_campaign(portal, company, campaign, ids)
    for ticket in company.tickets:
        _add_ticket(portal, ticket, ids)
    _add_answers(portal, company, ids)
    _add_contracts(portal, company, ids)
    return ids


def _add_owners(portal: Portal, company: Company, ids: Ids, since: datetime) -> None:
    for rep in company.reps:
        fields: Fields = {
            "firstName": rep.first_name,
            "lastName": rep.last_name,
            "email": rep.email,
        }
        ids.reps[rep.name] = portal.create("owners", fields, at=since)
    for rep in company.reps:
        if not rep.is_active:
            portal.delete("owners", ids.reps[rep.name], at=end_of(company))


def _company(account: Account, ids: Ids, twins: Twins) -> dict[str, Value]:
    return {
        "name": account.name,
        "industry": account.industry,
        "country": account.country,
        "annualrevenue": text(account.annual_revenue),
        "numberofemployees": account.employees,
        "hs_parent_company_id": ids.accounts[account.parent] if account.parent else None,
        "domain": twins.domains.get(account.name, account.domain),
        "hubspot_owner_id": ids.reps[account.owner] if account.owner else None,
        "salesforceaccountid": twins.accounts.get(account.name),
    }


def _won_at(company: Company) -> dict[str, datetime]:
    won = {stage.name for stage in company.stages if stage.is_won}
    return {deal.name: deal.visits[-1].at for deal in company.deals if deal.visits[-1].stage in won}


def _add_contact(
    portal: Portal, person: Person, ids: Ids, twins: Twins, won_at: Mapping[str, datetime]
) -> str:
    fields: dict[str, Value] = {
        "email": person.email,
        "firstname": person.first_name,
        "lastname": person.last_name,
        "company": person.company,
        "hubspot_owner_id": ids.reps[person.owner],
        "hs_analytics_source": SOURCES[person.source] if person.source else None,
        "salesforcecontactid": twins.people.get(person.name),
    }
    if person.lead_at is not None:
        fields |= {"lifecyclestage": "lead", "hs_lead_status": "NEW"}
    contact = portal.create("contacts", fields, at=person.created)
    for at, change in _progress(person, won_at):
        portal.edit("contacts", contact, change, at=at)
    account = ids.accounts.get(person.account or "")
    if account is not None:
        portal.links.add("contacts", contact, "companies", account, primary=True)
    return contact


def _progress(person: Person, won_at: Mapping[str, datetime]) -> list[tuple[datetime, Fields]]:
    steps: list[tuple[datetime, Fields]] = []
    if person.qualified_at is not None:
        change = {"lifecyclestage": "marketingqualifiedlead", "hs_lead_status": "CONNECTED"}
        steps.append((person.qualified_at, change))
    if person.converted_at is not None:
        opened = {"lifecyclestage": "opportunity", "hs_lead_status": "OPEN_DEAL"}
        steps.append((person.converted_at, opened))
        if (won := won_at.get(person.deal or "")) is not None:
            steps.append((won, {"lifecyclestage": "customer"}))
    elif person.is_lost and person.lead_at is not None:
        steps.append((person.qualified_at or person.lead_at, {"hs_lead_status": "UNQUALIFIED"}))
    return steps


def _add_deal(
    portal: Portal,
    company: Company,
    deal: Deal,
    ids: Ids,
    twins: Twins,
    *,
    company_id: str | None,
) -> str:
    pipeline = portal.pipelines["deals"][DEFAULT_PIPELINES["deals"]]
    stages = {stage.label: stage.id for stage in pipeline.stages}
    first, *later = deal.visits
    is_closed = closes_last(company, deal)
    closing = _closing_fields(deal) if is_closed else {}
    forecast = instant_text(datetime.combine(deal.close_date, NOON)) if deal.close_date else None
    fields: dict[str, Value] = {
        "dealname": deal.name,
        "hubspot_owner_id": ids.reps[deal.owner],
        "dealstage": stages[first.stage],
        "product": deal.product,
        "dealtype": _type(deal.is_repeat_business),
        "hs_analytics_source": SOURCES[deal.source] if deal.source else None,
        "createdate": instant_text(deal.created_as or first.at),
        "hs_salesforceopportunityid": twins.deals.get(deal.name),
    }
    if not is_closed:
        fields |= {"amount": text(deal.amount), "closedate": forecast}
    elif not later:
        fields |= closing
    record_id = portal.create("deals", fields, at=first.at)
    for place, visit in enumerate(later, start=1):
        change: dict[str, Value] = {"dealstage": stages[visit.stage]}
        if place == len(later):
            change |= closing
        portal.edit("deals", record_id, change, at=visit.at)
    if deal.account is not None:
        owner = company_id or ids.accounts[deal.account]
        portal.links.add("deals", record_id, "companies", owner, primary=True)
    for name in company.deal_people.get(deal.name, ()):
        if name in ids.people:
            portal.links.add("deals", record_id, "contacts", ids.people[name])
    if deal.deleted_at is not None:
        portal.delete("deals", record_id, at=deal.deleted_at)
    return record_id


def _closing_fields(deal: Deal) -> dict[str, Value]:
    closing: dict[str, Value] = {"amount": text(deal.amount)}
    if deal.close_date is not None:
        closing["closedate"] = instant_text(datetime.combine(deal.close_date, NOON))
    if deal.lost_reason is not None:
        closing["closed_lost_reason"] = deal.lost_reason
    return closing


def _type(is_repeat: bool | None) -> str | None:
    if is_repeat is None:
        return None
    return "existingbusiness" if is_repeat else "newbusiness"


def _add_campaign(portal: Portal, company: Company, campaign: Campaign, ids: Ids) -> None:
    created = datetime.combine(campaign.starts, time(9), NOON.tzinfo)
    fields: Fields = {
        "hs_name": campaign.name,
        "hs_start_date": campaign.starts.isoformat(),
        "hs_end_date": campaign.ends.isoformat(),
        "hs_campaign_status": "completed" if campaign.is_over else "in_progress",
        "hs_currency_code": portal.settings.company_currency,
        "hs_utm": campaign.name.lower().replace(" ", "-"),
        "hs_notes": campaign.channel,
    }
    guid = portal.create("campaigns", fields, at=created)
    ids.campaigns[campaign.name] = guid
    _add_money(portal, campaign, guid, created)
    leads = {person.name for person in company.people if person.lead_at is not None}
    _add_touches(portal, campaign.touches, guid, ids, leads)
    visits: Fields = {
        "campaign": guid,
        "day": campaign.starts.isoformat(),
        "visits": campaign.visits,
    }
    portal.create("campaign_visits", visits, at=created)
    if campaign.email_days:
        _add_email(portal, campaign, guid, created)


def _add_money(portal: Portal, campaign: Campaign, guid: str, created: datetime) -> None:
    budget: Fields = {"campaign": guid, "name": "Budget", "amount": text(campaign.budget)}
    portal.create("campaign_budget", budget, at=created)
    part = (campaign.cost / PARTS_OF_SPEND).quantize(campaign.cost)
    for place in range(PARTS_OF_SPEND):
        last = place == PARTS_OF_SPEND - 1
        amount = campaign.cost - part * (PARTS_OF_SPEND - 1) if last else part
        fields: Fields = {"campaign": guid, "name": f"Part {place + 1}", "amount": text(amount)}
        portal.create("campaign_spend", fields, at=created)


def _add_touches(
    portal: Portal, touches: Sequence[Touch], guid: str, ids: Ids, leads: Collection[str]
) -> None:
    for touch in touches:
        contact = ids.people.get(touch.person)
        if contact is None:
            continue
        fields: Fields = {"campaign": guid, "contact": contact, "at": instant_text(touch.at)}
        portal.create("campaign_touches", {**fields, "kind": "influencedContacts"}, at=touch.at)
        # A lead is reached once, by the campaign that it came from.
        kinds = [
            ("contactFirstTouch", touch.person in leads),
            ("contactLastTouch", touch.responded),
        ]
        for kind in (name for name, is_one in kinds if is_one):
            portal.create("campaign_touches", {**fields, "kind": kind}, at=touch.at)


def _add_email(portal: Portal, campaign: Campaign, guid: str, created: datetime) -> None:
    fields: Fields = {"name": campaign.name, "subject": campaign.name, "campaign": guid}
    email = portal.create("marketing_emails", fields, at=created)
    asset: Fields = {
        "campaign": guid,
        "kind": "MARKETING_EMAIL",
        "asset": email,
        "name": campaign.name,
    }
    portal.create("campaign_assets", asset, at=created)
    for day in campaign.email_days:
        counted: Fields = {
            "email": email,
            "day": day.day.isoformat(),
            "sent": day.sent,
            "delivered": day.delivered,
            "bounce": day.sent - day.delivered,
            "open": day.opened,
            "click": day.clicked,
            "unsubscribed": day.unsubscribed,
        }
        portal.create("email_days", counted, at=created)


def _add_ticket(portal: Portal, ticket: Ticket, ids: Ids) -> None:
    first, *later = ticket.visits
    fields: Fields = {
        "subject": ticket.subject,
        "hs_pipeline_stage": TICKET_STAGES[first.status],
        "hs_ticket_priority": ticket.priority.upper(),
        "hs_ticket_category": TICKET_CATEGORIES[ticket.category],
        "source_type": {"web": "FORM"}.get(ticket.origin, ticket.origin.upper()),
        "hubspot_owner_id": ids.reps[ticket.owner],
        "createdate": instant_text(first.at),
    }
    record_id = portal.create("tickets", fields, at=first.at)
    if ticket.first_reply is not None:
        reply: Fields = {"first_agent_reply_date": instant_text(ticket.first_reply)}
        portal.edit("tickets", record_id, reply, at=ticket.first_reply)
    for visit in later:
        change: Fields = {"hs_pipeline_stage": TICKET_STAGES[visit.status]}
        portal.edit("tickets", record_id, change, at=visit.at)
    company = ids.accounts[ticket.account]
    portal.links.add("tickets", record_id, "companies", company, primary=True)
    if ticket.person in ids.people:
        portal.links.add("tickets", record_id, "contacts", ids.people[ticket.person])


def _add_answers(portal: Portal, company: Company, ids: Ids) -> None:
    for answer in company.answers:
        fields: Fields = {
            "hs_survey_type": "NPS",
            "hs_survey_name": "Would you recommend us?",
            "hs_survey_channel": "EMAIL",
            "hs_survey_id": 1,
            "hs_value": answer.score,
            "hs_response_group": _group(answer.score),
            "hs_submission_timestamp": instant_text(answer.at),
        }
        record_id = portal.create("feedback_submissions", fields, at=answer.at)
        company_id = ids.accounts[answer.account]
        portal.links.add("feedback_submissions", record_id, "companies", company_id)
        if answer.person in ids.people:
            person = ids.people[answer.person]
            portal.links.add("feedback_submissions", record_id, "contacts", person)


def _group(score: int) -> str:
    if score >= PROMOTERS:
        return "PROMOTER"
    return "PASSIVE" if score >= PASSIVES else "DETRACTOR"


def _add_contracts(portal: Portal, company: Company, ids: Ids) -> None:
    for contract in company.contracts:
        ends = _months_later(contract.starts, contract.months)
        fields: Fields = {
            "hs_name": f"Contract of {contract.account}",
            "hs_status": "expired" if ends <= company.last_day else "active",
            "hs_currency_code": portal.settings.company_currency,
            "hs_recurring_billing_start_date": contract.starts.isoformat(),
            "hs_recurring_billing_end_date": ends.isoformat(),
            "hs_recurring_revenue": text(contract.amount),
        }
        created = datetime.combine(contract.starts, time(8), NOON.tzinfo)
        record_id = portal.create("subscriptions", fields, at=created)
        company_id = ids.accounts[contract.account]
        portal.links.add("subscriptions", record_id, "companies", company_id)


def _months_later(day: date, months: int) -> date:
    """The day after the last one of a contract."""
    years, month = divmod(day.month - 1 + months, 12)
    first = day.replace(year=day.year + years, month=month + 1, day=1)
    last_of_month = (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    return first.replace(day=min(day.day, last_of_month.day))
