"""Puts a company into the Salesforce org, each record with the stamps of when it happened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sandbox.company import Account, Campaign, Company, Deal, Person, Ticket
from sandbox.load_common import Ids, beginning, closes_last, number
from sandbox.org import Fields, FieldType, Value
from sandbox.salesforce_admin import add_object
from sandbox.salesforce_org import SalesforceOrg

SOURCES: Mapping[str, str] = {
    "web": "Web",
    "referral": "Partner Referral",
    "paid": "Purchased List",
    "email": "Other",
    "phone": "Phone Inquiry",
}
STATUSES: Mapping[str, str] = {"new": "New", "waiting": "Working", "closed": "Closed"}
TYPES: Mapping[str, str] = {
    "problem": "Problem",
    "question": "Question",
    "wish": "Feature Request",
}
CHANNELS: Mapping[str, str] = {
    "email": "Email",
    "event": "Conference",
    "webinar": "Webinar",
    "ads": "Advertisement",
}
QUALIFIED, CONVERTED, GIVEN_UP = (
    "Working - Contacted",
    "Closed - Converted",
    "Closed - Not Converted",
)
ANSWERS = "Survey_Response__c"


def fill_salesforce(company: Company, org: SalesforceOrg) -> Ids:
    """Everything the company has; the product is `Product__c`.

    Survey answers are a custom object, `Survey_Response__c`; the first reply to a case is its
    field `First_Response__c`, what a contract brings a year `Amount__c`: Salesforce has none.
    """
    org.set_stages(company.stages)
    org.add_field("Opportunity", "Product__c", label="Product", type=FieldType.TEXT)
    since = beginning(company)
    ids = Ids()
    for rep in company.reps:
        fields: dict[str, Value] = {"FirstName": rep.first_name, "LastName": rep.last_name}
        fields |= {"Email": rep.email, "Username": rep.email, "IsActive": rep.is_active}
        ids.reps[rep.name] = org.create("User", fields, at=since)
    for account in company.accounts:
        ids.accounts[account.name] = org.create("Account", _account(account, ids), at=since)
    _add_campaigns(org, company, ids)
    _add_contacts(org, company, ids)
    for deal in company.deals:
        ids.deals[deal.name] = _add_opportunity(org, company, deal, ids)
    _add_leads(org, company, ids)
    _add_members(org, company, ids)
    _add_service(org, company, ids)
    return ids


def _account(account: Account, ids: Ids) -> Fields:
    return {
        "Name": account.name,
        "Industry": account.industry,
        "BillingCountry": account.country,
        "AnnualRevenue": number(account.annual_revenue),
        "NumberOfEmployees": account.employees,
        "ParentId": ids.accounts[account.parent] if account.parent else None,
        "Website": f"https://www.{account.domain}" if account.domain else None,
        **({"OwnerId": ids.reps[account.owner]} if account.owner else {}),
    }


def _add_opportunity(org: SalesforceOrg, company: Company, deal: Deal, ids: Ids) -> str:
    first, *later = deal.visits
    is_closed = closes_last(company, deal)
    campaign = ids.campaigns.get(company.deal_campaigns.get(deal.name, ""))
    fields: dict[str, Value] = {
        "Name": deal.name,
        "OwnerId": ids.reps[deal.owner],
        "AccountId": ids.accounts[deal.account] if deal.account else None,
        "StageName": first.stage,
        # Salesforce wants a date even where nobody forecasts one.
        "CloseDate": (deal.close_date or company.last_day).isoformat(),
        "Amount": None if is_closed and later else number(deal.amount),
        "Product__c": deal.product,
        "LeadSource": SOURCES[deal.source] if deal.source else None,
        "Type": _type(deal.is_repeat_business),
        **({"CampaignId": campaign} if campaign else {}),
    }
    record_id = org.create("Opportunity", fields, at=first.at)
    people = (ids.people.get(name) for name in company.deal_people.get(deal.name, ()))
    for place, contact in enumerate(one for one in people if one is not None):
        role: dict[str, Value] = {"OpportunityId": record_id, "ContactId": contact}
        role |= {"Role": "Decision Maker", "IsPrimary": place == 0}
        org.create("OpportunityContactRole", role, at=first.at)
    for place, visit in enumerate(later, start=1):
        change: dict[str, Value] = {"StageName": visit.stage}
        if place == len(later) and is_closed:
            change["Amount"] = number(deal.amount)
        org.edit("Opportunity", record_id, change, at=visit.at)
    if deal.deleted_at is not None:
        org.delete("Opportunity", record_id, at=deal.deleted_at)
    return record_id


def _type(is_repeat: bool | None) -> str | None:
    if is_repeat is None:
        return None
    return "Existing Customer - Upgrade" if is_repeat else "New Customer"


def _add_contacts(org: SalesforceOrg, company: Company, ids: Ids) -> None:
    """Those at accounts; a converted lead is one since its conversion."""
    for person in company.people:
        if person.account is None or person.account not in ids.accounts:
            continue
        fields: dict[str, Value] = {
            **_name(person),
            "AccountId": ids.accounts[person.account],
            "OwnerId": ids.reps[person.owner],
        }
        at = person.converted_at or person.created
        ids.people[person.name] = org.create("Contact", fields, at=at)


def _name(person: Person) -> dict[str, Value]:
    return {
        "FirstName": person.first_name,
        "LastName": person.last_name,
        "Email": person.email,
        "LeadSource": SOURCES[person.source] if person.source else None,
    }


def _add_leads(org: SalesforceOrg, company: Company, ids: Ids) -> None:
    for person in company.people:
        if person.lead_at is None:
            continue
        fields: dict[str, Value] = {
            **_name(person),
            "Company": person.company or "[not provided]",
            "OwnerId": ids.reps[person.owner],
        }
        lead = org.create("Lead", fields, at=person.lead_at)
        ids.leads[person.name] = lead
        if person.qualified_at is not None:
            org.edit("Lead", lead, {"Status": QUALIFIED}, at=person.qualified_at)
        if person.converted_at is not None:
            _convert(org, lead, person, person.converted_at, ids)
        elif person.is_lost:
            org.edit("Lead", lead, {"Status": GIVEN_UP}, at=person.qualified_at or person.lead_at)


def _convert(
    org: SalesforceOrg, lead: str, person: Person, converted_at: datetime, ids: Ids
) -> None:
    converted: dict[str, Value] = {
        "Status": CONVERTED,
        "IsConverted": True,
        "ConvertedDate": converted_at.date().isoformat(),
        "ConvertedAccountId": ids.accounts.get(str(person.account)),
        "ConvertedContactId": ids.people.get(person.name),
        "ConvertedOpportunityId": ids.deals.get(str(person.deal)),
    }
    org.edit("Lead", lead, converted, at=converted_at)


def _add_campaigns(org: SalesforceOrg, company: Company, ids: Ids) -> None:
    for campaign in company.campaigns:
        fields: dict[str, Value] = {
            "Name": campaign.name,
            "Type": CHANNELS[campaign.channel],
            "Status": "Completed" if campaign.is_over else "In Progress",
            "StartDate": campaign.starts.isoformat(),
            "EndDate": campaign.ends.isoformat(),
            "ActualCost": number(campaign.cost),
            "BudgetedCost": number(campaign.budget),
            "IsActive": not campaign.is_over,
        }
        created = min((it.at for it in campaign.touches), default=beginning(company))
        ids.campaigns[campaign.name] = org.create("Campaign", fields, at=created)


def _add_members(org: SalesforceOrg, company: Company, ids: Ids) -> None:
    for campaign in company.campaigns:
        _add_members_of(org, campaign, ids)


def _add_members_of(org: SalesforceOrg, campaign: Campaign, ids: Ids) -> None:
    for touch in campaign.touches:
        lead, contact = ids.leads.get(touch.person), ids.people.get(touch.person)
        if lead is None and contact is None:
            continue
        fields: dict[str, Value] = {
            "CampaignId": ids.campaigns[campaign.name],
            "Status": "Responded" if touch.responded else "Sent",
            "HasResponded": touch.responded,
        }
        if lead is not None:
            fields["LeadId"] = lead
        if contact is not None:
            fields["ContactId"] = contact
        org.create("CampaignMember", fields, at=touch.at)


def _add_service(org: SalesforceOrg, company: Company, ids: Ids) -> None:
    if company.tickets:
        org.add_field("Case", "First_Response__c", label="First response", type=FieldType.DATETIME)
    for ticket in company.tickets:
        _add_case(org, ticket, ids)
    if company.answers:
        add_object(org, ANSWERS_OBJECT)
    for answer in company.answers:
        fields: dict[str, Value] = {
            "Kind__c": "NPS",
            "Score__c": answer.score,
            "Submitted_At__c": _stamp(answer.at),
            "Account__c": ids.accounts[answer.account],
            "Contact__c": ids.people.get(answer.person),
        }
        org.create(ANSWERS, fields, at=answer.at)
    if company.contracts:
        org.add_field("Contract", "Amount__c", label="Amount", type=FieldType.MONEY)
    since = beginning(company)
    for contract in company.contracts:
        terms: dict[str, Value] = {
            "AccountId": ids.accounts[contract.account],
            "Status": "Activated",
            "StartDate": contract.starts.isoformat(),
            "ContractTerm": contract.months,
            "Amount__c": number(contract.amount),
        }
        org.create("Contract", terms, at=max(since, _morning(contract.starts.isoformat())))


ANSWERS_OBJECT: Mapping[str, object] = {
    "name": ANSWERS,
    "label": "Survey Response",
    "fields": [
        {"name": "Kind__c", "type": "string", "label": "Kind"},
        {"name": "Score__c", "type": "double", "label": "Score", "precision": 3, "scale": 0},
        {"name": "Submitted_At__c", "type": "datetime", "label": "Submitted at"},
        {"name": "Account__c", "type": "reference", "label": "Account", "to": "Account"},
        {"name": "Contact__c", "type": "reference", "label": "Contact", "to": "Contact"},
    ],
}


def _add_case(org: SalesforceOrg, ticket: Ticket, ids: Ids) -> None:
    first, *later = ticket.visits
    fields: dict[str, Value] = {
        "Subject": ticket.subject,
        "AccountId": ids.accounts[ticket.account],
        "ContactId": ids.people.get(str(ticket.person)),
        "OwnerId": ids.reps[ticket.owner],
        "Status": STATUSES[first.status],
        "Type": TYPES[ticket.category],
        "Priority": ticket.priority.capitalize(),
        "Origin": ticket.origin.capitalize(),
    }
    case = org.create("Case", fields, at=first.at)
    if ticket.first_reply is not None:
        reply: dict[str, Value] = {"First_Response__c": _stamp(ticket.first_reply)}
        org.edit("Case", case, reply, at=ticket.first_reply)
    for visit in later:
        org.edit("Case", case, {"Status": STATUSES[visit.status]}, at=visit.at)


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def _morning(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T08:00:00+00:00")
