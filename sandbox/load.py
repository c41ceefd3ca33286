"""Puts a company into the CRMs: into one, or half and half by account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from sandbox.company import Account, Company, Deal
from sandbox.hubspot_portal import DEFAULT_PIPELINE, Portal
from sandbox.hubspot_properties import instant_text
from sandbox.org import Fields, FieldType, Org, Value

NOON = time(12, tzinfo=UTC)
PEOPLE_SINCE = timedelta(days=30)
"""Reps and accounts are in the CRM this long before the first deal."""

SALESFORCE_SOURCES: Mapping[str, str] = {
    "web": "Web",
    "referral": "Partner Referral",
    "paid": "Purchased List",
    "email": "Other",
    "phone": "Phone Inquiry",
}
HUBSPOT_SOURCES: Mapping[str, str] = {
    "web": "ORGANIC_SEARCH",
    "referral": "REFERRALS",
    "paid": "PAID_SEARCH",
    "email": "EMAIL_MARKETING",
    "phone": "OFFLINE",
}


@dataclass(frozen=True, slots=True)
class Ids:
    """Native ids by name, as far as they are loaded."""

    reps: dict[str, str]
    accounts: dict[str, str]


class Split(StrEnum):
    """Which CRM gets the accounts with their deals; reps are in every CRM in use."""

    SALESFORCE = "salesforce"
    HUBSPOT = "hubspot"
    BOTH = "both"


def fill(company: Company, *, salesforce: Org, hubspot: Portal, split: Split) -> None:
    """Create everything with the stamps of the time when it happened."""
    if split in (Split.SALESFORCE, Split.BOTH):
        part = company if split == Split.SALESFORCE else half(company, 0)
        fill_salesforce(part, salesforce)
    if split in (Split.HUBSPOT, Split.BOTH):
        part = company if split == Split.HUBSPOT else half(company, 1)
        fill_hubspot(part, hubspot)


def half(company: Company, which: int) -> Company:
    """Every second family of accounts with its deals, and every second deal without account."""
    parents = {account.name: account.parent for account in company.accounts}
    families = sorted({_root(name, parents) for name in parents})
    mine = {family for place, family in enumerate(families) if place % 2 == which}
    loose = [deal for deal in company.deals if deal.account is None]
    mine_loose = {deal.name for place, deal in enumerate(loose) if place % 2 == which}
    return replace(
        company,
        accounts=[a for a in company.accounts if _root(a.name, parents) in mine],
        deals=[
            deal
            for deal in company.deals
            if (
                deal.name in mine_loose
                if deal.account is None
                else _root(deal.account, parents) in mine
            )
        ],
    )


def _root(name: str, parents: Mapping[str, str | None]) -> str:
    parent = parents[name]
    return name if parent is None else _root(parent, parents)


def fill_salesforce(company: Company, org: Org) -> None:
    """Users, accounts, and opportunities with their history; the product is `Product__c`."""
    org.set_stages(company.stages)
    org.add_field("Opportunity", "Product__c", label="Product", type=FieldType.TEXT)
    since = _beginning(company)
    users = {
        rep.name: org.create(
            "User",
            {
                "FirstName": rep.first_name,
                "LastName": rep.last_name,
                "Email": rep.email,
                "Username": rep.email,
                "IsActive": rep.is_active,
            },
            at=since,
        )
        for rep in company.reps
    }
    ids = Ids(users, {})
    for account in company.accounts:
        fields = _salesforce_account(account, ids)
        ids.accounts[account.name] = org.create("Account", fields, at=since)
    for deal in company.deals:
        _add_opportunity(org, company, deal, ids)


def _salesforce_account(account: Account, ids: Ids) -> Fields:
    return {
        "Name": account.name,
        "Industry": account.industry,
        "BillingCountry": account.country,
        "AnnualRevenue": _number(account.annual_revenue),
        "NumberOfEmployees": account.employees,
        "ParentId": ids.accounts[account.parent] if account.parent else None,
        "Website": f"https://www.{account.domain}" if account.domain else None,
        **({"OwnerId": ids.reps[account.owner]} if account.owner else {}),
    }


def _add_opportunity(org: Org, company: Company, deal: Deal, ids: Ids) -> None:
    first, *later = deal.visits
    closes_last = _closes_last(company, deal)
    fields: dict[str, Value] = {
        "Name": deal.name,
        "OwnerId": ids.reps[deal.owner],
        "AccountId": ids.accounts[deal.account] if deal.account else None,
        "StageName": first.stage,
        # Salesforce wants a date even where nobody forecasts one.
        "CloseDate": (deal.close_date or company.last_day).isoformat(),
        "Amount": None if closes_last and later else _number(deal.amount),
        "Product__c": deal.product,
        "LeadSource": SALESFORCE_SOURCES[deal.source] if deal.source else None,
        "Type": _salesforce_type(deal.is_repeat_business),
    }
    record_id = org.create("Opportunity", fields, at=first.at)
    for place, visit in enumerate(later, start=1):
        change: dict[str, Value] = {"StageName": visit.stage}
        if place == len(later) and closes_last:
            change["Amount"] = _number(deal.amount)
        org.edit("Opportunity", record_id, change, at=visit.at)
    if deal.deleted_at is not None:
        org.delete("Opportunity", record_id, at=deal.deleted_at)


def _salesforce_type(is_repeat: bool | None) -> str | None:
    if is_repeat is None:
        return None
    return "Existing Customer - Upgrade" if is_repeat else "New Customer"


def fill_hubspot(company: Company, portal: Portal) -> None:
    """Owners, companies, and deals with their history; the product is `product`."""
    portal.set_stages(company.stages)
    portal.add_field("deals", "product", label="Product", type=FieldType.TEXT)
    industries = sorted({a.industry for a in company.accounts if a.industry})
    portal.add_field(
        "companies", "industry", label="Industry", type=FieldType.CHOICE, choices=industries
    )
    since = _beginning(company)
    owners = {
        rep.name: portal.create(
            "owners",
            {"firstName": rep.first_name, "lastName": rep.last_name, "email": rep.email},
            at=since,
        )
        for rep in company.reps
    }
    for rep in company.reps:
        if not rep.is_active:
            portal.delete("owners", owners[rep.name], at=_end_of(company))
    ids = Ids(owners, {})
    for account in company.accounts:
        fields = _hubspot_company(account, ids)
        ids.accounts[account.name] = portal.create("companies", fields, at=since)
    for deal in company.deals:
        _add_deal(portal, company, deal, ids)


def _hubspot_company(account: Account, ids: Ids) -> Fields:
    return {
        "name": account.name,
        "industry": account.industry,
        "country": account.country,
        "annualrevenue": _text(account.annual_revenue),
        "numberofemployees": account.employees,
        "hs_parent_company_id": ids.accounts[account.parent] if account.parent else None,
        "domain": account.domain,
        "hubspot_owner_id": ids.reps[account.owner] if account.owner else None,
    }


def _add_deal(portal: Portal, company: Company, deal: Deal, ids: Ids) -> None:
    stages = {stage.label: stage.id for stage in portal.pipelines["deals"][DEFAULT_PIPELINE].stages}
    first, *later = deal.visits
    closes_last = _closes_last(company, deal)
    closing = _closing_fields(deal) if closes_last else {}
    forecast = instant_text(datetime.combine(deal.close_date, NOON)) if deal.close_date else None
    fields: dict[str, Value] = {
        "dealname": deal.name,
        "hubspot_owner_id": ids.reps[deal.owner],
        "dealstage": stages[first.stage],
        "product": deal.product,
        "dealtype": _hubspot_type(deal.is_repeat_business),
        "hs_analytics_source": HUBSPOT_SOURCES[deal.source] if deal.source else None,
        "createdate": instant_text(deal.created_as or first.at),
    }
    if not closes_last:
        fields |= {"amount": _text(deal.amount), "closedate": forecast}
    elif not later:
        fields |= closing
    record_id = portal.create("deals", fields, at=first.at)
    for place, visit in enumerate(later, start=1):
        change: dict[str, Value] = {"dealstage": stages[visit.stage]}
        if place == len(later):
            change |= closing
        portal.edit("deals", record_id, change, at=visit.at)
    if deal.account is not None:
        portal.links.add("deals", record_id, "companies", ids.accounts[deal.account], primary=True)
    if deal.deleted_at is not None:
        portal.delete("deals", record_id, at=deal.deleted_at)


def _closing_fields(deal: Deal) -> dict[str, Value]:
    closing: dict[str, Value] = {"amount": _text(deal.amount)}
    if deal.close_date is not None:
        closing["closedate"] = instant_text(datetime.combine(deal.close_date, NOON))
    if deal.lost_reason is not None:
        closing["closed_lost_reason"] = deal.lost_reason
    return closing


def _hubspot_type(is_repeat: bool | None) -> str | None:
    if is_repeat is None:
        return None
    return "existingbusiness" if is_repeat else "newbusiness"


def _closes_last(company: Company, deal: Deal) -> bool:
    closed = {stage.name for stage in company.stages if stage.is_closed}
    return deal.visits[-1].stage in closed


def _beginning(company: Company) -> datetime:
    starts = [deal.visits[0].at for deal in company.deals]
    return min(starts, default=_end_of(company)) - PEOPLE_SINCE


def _end_of(company: Company) -> datetime:
    return datetime.combine(company.last_day, NOON)


def _number(value: Decimal | None) -> int | float | None:
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"
