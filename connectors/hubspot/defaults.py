"""Which of HubSpot's objects and properties the canonical streams are read from by default.

https://developers.hubspot.com/docs/guides/crm/understanding-the-crm
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from connectors.base import FieldSource
from connectors.hubspot.fields import MODIFIED, STAGE

COMPANIES: Final = "companies"
CONTACTS: Final = "contacts"
DEALS: Final = "deals"
TICKETS: Final = "tickets"
LINE_ITEMS: Final = "line_items"
ORDERS: Final = "orders"
FEEDBACK: Final = "feedback_submissions"
SUBSCRIPTIONS: Final = "subscriptions"
CAMPAIGNS: Final = "campaigns"
MARKETING_EMAILS: Final = "marketing_emails"

_TYPE_IDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "0-1": CONTACTS,
        "0-2": COMPANIES,
        "0-3": DEALS,
        "0-5": TICKETS,
        "0-8": LINE_ITEMS,
        "0-19": FEEDBACK,
        "0-69": SUBSCRIPTIONS,
        "0-123": ORDERS,
    }
)
"""HubSpot's own numbers of its standard objects."""

LINK: Final = "associations."
"""What stands before the name of an object to which a field is a link, not a property."""
DERIVED: Final = "@"
"""What stands before the name of a value that is made of several properties."""

NAME: Final = "@name"
ENTERED: Final = "@entered"
QUALIFIED: Final = "@qualified"
CONVERTED: Final = "@converted"
FIRST_REPLY: Final = "@first_reply"
CONTRACT_START: Final = "@start"
CONTRACT_END: Final = "@end"
CONTRACT_AMOUNT: Final = "@amount"
IS_CLOSED: Final = "@is_closed"
IS_WON: Final = "@is_won"

LIFECYCLE: Final = "lifecyclestage"
LEAD_STAGE: Final = "lead"
QUALIFIED_STAGES: Final = ("marketingqualifiedlead", "salesqualifiedlead")
CUSTOMER_STAGE: Final = "customer"
PRIMARY_COMPANY: Final = "associatedcompanyid"
TICKET_STAGE: Final = "hs_pipeline_stage"
TICKET_PIPELINE: Final = "hs_pipeline"

STREAM_OBJECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "owners": "owners",
        "stages": "pipelines",
        "accounts": COMPANIES,
        "contacts": CONTACTS,
        "leads": CONTACTS,
        "campaigns": CAMPAIGNS,
        "email_statistics": MARKETING_EMAILS,
        "deals": DEALS,
        "deal_lines": LINE_ITEMS,
        "tickets": TICKETS,
        "survey_responses": FEEDBACK,
        "contracts": SUBSCRIPTIONS,
        "campaign_members": "",
        "costs": "",
        "rates": "currencies",
    }
)
"""In the order in which to pull them; without an object, the configuration has to name one."""

CHOOSES_PIPELINES: Final = frozenset({"deals", "tickets"})

_OWNER: Final = FieldSource("hubspot_owner_id")
_COMPANY_LINK: Final = FieldSource(LINK + COMPANIES)
_CONTACT_LINK: Final = FieldSource(LINK + CONTACTS)

_STAMPS: Final = {
    "created_at": FieldSource("createdate"),
    "modified_at": FieldSource(MODIFIED),
}
_OTHER_STAMPS: Final = {
    "created_at": FieldSource("hs_createdate"),
    "modified_at": FieldSource(MODIFIED),
}
_CONTACT_STAMPS: Final = {
    "created_at": FieldSource("createdate"),
    "modified_at": FieldSource("lastmodifieddate"),
}

_FIELDS: Final[Mapping[tuple[str, str], Mapping[str, FieldSource]]] = MappingProxyType(
    {
        ("accounts", COMPANIES): {
            **_STAMPS,
            "owner": _OWNER,
            "name": FieldSource("name"),
            "domain": FieldSource("domain"),
            "parent": FieldSource("hs_parent_company_id"),
            "type": FieldSource("type"),
            "industry": FieldSource("industry"),
            "country": FieldSource("country"),
            "employees": FieldSource("numberofemployees"),
            "annual_revenue": FieldSource("annualrevenue"),
        },
        ("contacts", CONTACTS): {
            **_CONTACT_STAMPS,
            "owner": _OWNER,
            "name": FieldSource(NAME),
            "email": FieldSource("email"),
            "account": _COMPANY_LINK,
            "source": FieldSource("hs_analytics_source"),
            "lifecycle_stage": FieldSource(LIFECYCLE),
        },
        ("leads", CONTACTS): {
            "created_at": FieldSource(ENTERED),
            "modified_at": FieldSource("lastmodifieddate"),
            "owner": _OWNER,
            "name": FieldSource(NAME),
            "email": FieldSource("email"),
            "company": FieldSource("company"),
            "source": FieldSource("hs_analytics_source"),
            "status": FieldSource("hs_lead_status", required=True),
            "qualified_at": FieldSource(QUALIFIED),
            "converted_at": FieldSource(CONVERTED),
            "converted_account": _COMPANY_LINK,
        },
        ("deals", DEALS): {
            **_STAMPS,
            "owner": _OWNER,
            "name": FieldSource("dealname"),
            "account": _COMPANY_LINK,
            "pipeline": FieldSource("pipeline", required=True),
            "stage": FieldSource(STAGE, required=True),
            "is_closed": FieldSource("hs_is_closed", required=True),
            "is_won": FieldSource("hs_is_closed_won", required=True),
            "amount": FieldSource("amount", required=True),
            "currency": FieldSource("deal_currency_code"),
            "close_date": FieldSource("closedate", required=True),
            "closed_at": FieldSource("closedate"),
            "probability": FieldSource("hs_deal_stage_probability"),
            "type": FieldSource("dealtype"),
            "kind": FieldSource(
                "dealtype", values={"newbusiness": "new", "existingbusiness": "upsell"}
            ),
            "source": FieldSource("hs_analytics_source"),
            "forecast_category": FieldSource("hs_manual_forecast_category"),
            "lost_reason": FieldSource("closed_lost_reason"),
            "last_activity_at": FieldSource("notes_last_updated"),
        },
        ("deals", ORDERS): {
            **_OTHER_STAMPS,
            "owner": _OWNER,
            "name": FieldSource("hs_order_name"),
            "account": _COMPANY_LINK,
            "pipeline": FieldSource(TICKET_PIPELINE, required=True),
            "stage": FieldSource(TICKET_STAGE, required=True),
            "is_closed": FieldSource(IS_CLOSED, required=True),
            "is_won": FieldSource(IS_WON, required=True),
            "amount": FieldSource("hs_total_price", required=True),
            "currency": FieldSource("hs_currency_code"),
            "close_date": FieldSource("hs_external_created_date", required=True),
            "closed_at": FieldSource("hs_external_created_date"),
        },
        ("deal_lines", LINE_ITEMS): {
            **_STAMPS,
            "deal": FieldSource(LINK + DEALS, required=True),
            "product": FieldSource("name"),
            "quantity": FieldSource("quantity"),
            "unit_price": FieldSource("price"),
            "total": FieldSource("amount"),
            "currency": FieldSource("hs_line_item_currency_code"),
        },
        ("tickets", TICKETS): {
            **_STAMPS,
            "owner": FieldSource("hubspot_owner_id", required=True),
            "subject": FieldSource("subject"),
            "account": _COMPANY_LINK,
            "contact": _CONTACT_LINK,
            "category": FieldSource("hs_ticket_category"),
            "priority": FieldSource(
                "hs_ticket_priority",
                values={"LOW": "low", "MEDIUM": "medium", "HIGH": "high", "URGENT": "urgent"},
            ),
            "pipeline": FieldSource(TICKET_PIPELINE),
            "status": FieldSource(TICKET_STAGE, required=True),
            "is_closed": FieldSource(IS_CLOSED, required=True),
            "closed_at": FieldSource("closed_date"),
            "first_response_at": FieldSource(FIRST_REPLY),
        },
        ("survey_responses", FEEDBACK): {
            **_OTHER_STAMPS,
            "kind": FieldSource(
                "hs_survey_type", values={"NPS": "nps", "CSAT": "csat", "CES": "ces"}
            ),
            "score": FieldSource("hs_value", required=True),
            "submitted_at": FieldSource("hs_submission_timestamp", required=True),
            "account": _COMPANY_LINK,
            "contact": _CONTACT_LINK,
            "comment": FieldSource("hs_content"),
        },
        ("contracts", SUBSCRIPTIONS): {
            **_OTHER_STAMPS,
            "account": _COMPANY_LINK,
            "start_date": FieldSource(CONTRACT_START),
            "end_date": FieldSource(CONTRACT_END),
            "amount": FieldSource(CONTRACT_AMOUNT),
            "currency": FieldSource("hs_currency_code"),
        },
        ("campaigns", CAMPAIGNS): {
            "name": FieldSource("hs_name"),
            "status": FieldSource("hs_campaign_status"),
            "start_date": FieldSource("hs_start_date"),
            "end_date": FieldSource("hs_end_date"),
            "cost": FieldSource("hs_spend_items_sum_amount"),
            "budget": FieldSource("hs_budget_items_sum_amount"),
            "currency": FieldSource("hs_currency_code"),
        },
        ("email_statistics", MARKETING_EMAILS): {
            "email": FieldSource("email", required=True),
            "campaign": FieldSource("campaign"),
            "date": FieldSource("date", required=True),
            "sent": FieldSource("counters.sent"),
            "delivered": FieldSource("counters.delivered"),
            "opens": FieldSource("counters.open"),
            "clicks": FieldSource("counters.click"),
            "unsubscribes": FieldSource("counters.unsubscribed"),
            "bounces": FieldSource("counters.bounce"),
        },
    }
)

_OTHER: Final[Mapping[str, FieldSource]] = MappingProxyType({**_OTHER_STAMPS, "owner": _OWNER})
"""Of every object that has no defaults of its own."""
_OF_STAGES: Final = {"is_closed": FieldSource(IS_CLOSED), "is_won": FieldSource(IS_WON)}
"""What the stages of such an object tell, where it has pipelines."""

MUST_BE_MAPPED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "deals": ("pipeline", "stage", "amount", "close_date"),
        "deal_lines": ("deal",),
        "tickets": ("status",),
        "leads": ("status",),
        "survey_responses": ("score", "submitted_at"),
        "costs": ("date", "amount"),
        "campaign_members": ("campaign", "at"),
    }
)
"""Fields without which a record of the stream says nothing, and which no default may fill."""

MAY_LACK: Final = frozenset(
    {
        "converted_at", "currency", "first_response_at", "forecast_category", "last_activity_at",
        "lost_reason", "qualified_at",
    }
)  # fmt: skip
"""Default fields that need no word where a portal lacks the property."""


def object_name(named: str) -> str:
    """An object's name where the configuration gives HubSpot's number of it (``0-3``)."""
    return _TYPE_IDS.get(named, named)


def defaults_of(stream: str, object_: str) -> Mapping[str, FieldSource]:
    """Where the fields of a stream come from when it is read from an object."""
    known = _FIELDS.get((stream, object_))
    if known is not None:
        return known
    return {**_OTHER, **_OF_STAGES} if stream in CHOOSES_PIPELINES else _OTHER


def modified_property(object_: str) -> str:
    """The property that tells when a record was changed last."""
    return "lastmodifieddate" if object_ == CONTACTS else MODIFIED
