"""The standard properties of each object type, as far as the sandbox imitates them.

Names and types: HubSpot's "default properties" pages of contacts, companies, deals, tickets,
products, line items, feedback submissions, orders, invoices, subscriptions and carts. One line
each: name, label, kind. ``=`` before the name: calculated by HubSpot; ``-``: read-only; ``*``:
unique.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sandbox.hubspot_properties import Option, Property
from sandbox.hubspot_types import ObjectType

LIFECYCLE_STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)
SOURCES = (
    "ORGANIC_SEARCH PAID_SEARCH EMAIL_MARKETING SOCIAL_MEDIA REFERRALS "
    "OTHER_CAMPAIGNS DIRECT_TRAFFIC OFFLINE PAID_SOCIAL"
)
INDUSTRIES = (
    "AUTOMOTIVE BANKING COMPUTER_SOFTWARE CONSTRUCTION EDUCATION_MANAGEMENT "
    "ENTERTAINMENT FINANCIAL_SERVICES HOSPITAL_HEALTH_CARE HOSPITALITY MACHINERY "
    "MARKETING_AND_ADVERTISING RETAIL TELECOMMUNICATIONS UTILITIES"
)
FORECASTS = "OMIT PIPELINE BEST_CASE COMMIT CLOSED"
TICKET_CATEGORIES = "PRODUCT_ISSUE BILLING_ISSUE FEATURE_REQUEST GENERAL_INQUIRY"

GROUP_LABELS: Mapping[str, str] = {
    "contactinformation": "Contact information",
    "companyinformation": "Company information",
    "dealinformation": "Deal information",
    "ticketinformation": "Ticket information",
    "productinformation": "Product information",
    "lineiteminformation": "Line item information",
    "feedbacksubmissioninformation": "Feedback submission information",
    "invoiceinformation": "Invoice information",
    "subscriptioninformation": "Subscription information",
    "orderinformation": "Order information",
    "cartinformation": "Cart information",
}

PROPERTIES: Mapping[str, str] = {
    "contacts": f"""
        *email | Email | text
        firstname | First Name | text
        lastname | Last Name | text
        phone | Phone Number | text
        company | Company Name | text
        jobtitle | Job Title | text
        website | Website URL | text
        country | Country/Region | text
        lifecyclestage | Lifecycle Stage | radio {" ".join(LIFECYCLE_STAGES)}
        hs_lead_status | Lead Status | radio NEW OPEN IN_PROGRESS OPEN_DEAL UNQUALIFIED CONNECTED
        hs_analytics_source | Original Traffic Source | choice {SOURCES}
        hs_latest_source | Latest Traffic Source | choice {SOURCES}
        hs_additional_emails | Additional email addresses | elsewhere
        =associatedcompanyid | Primary Associated Company ID | number
        =num_associated_deals | Number of Associated Deals | number
        -notes_last_updated | Last Activity Date | instant
        salesforceaccountid | Salesforce Account ID | text
        salesforcecontactid | Salesforce Contact ID | text
        salesforceleadid | Salesforce Lead ID | text
    """,
    "companies": f"""
        name | Company name | text
        domain | Company Domain Name | text
        website | Website URL | text
        phone | Phone Number | text
        industry | Industry | choice {INDUSTRIES}
        annualrevenue | Annual Revenue | number
        numberofemployees | Number of Employees | number
        country | Country/Region | text
        city | City | text
        state | State/Region | text
        type | Type | choice PROSPECT PARTNER RESELLER VENDOR OTHER
        lifecyclestage | Lifecycle Stage | radio {" ".join(LIFECYCLE_STAGES)}
        founded_year | Year Founded | text
        description | Description | area
        hs_additional_domains | Additional Domains | elsewhere
        =hs_parent_company_id | Parent Company | number
        =num_associated_deals | Number of Associated Deals | number
        =num_associated_contacts | Number of Associated Contacts | number
        -notes_last_updated | Last Activity Date | instant
        salesforceaccountid | Salesforce Account ID | text
    """,
    "deals": f"""
        dealname | Deal Name | text
        amount | Amount | money
        deal_currency_code | Currency | text
        closedate | Close Date | instant
        dealstage | Deal Stage | stage
        pipeline | Pipeline | owner
        dealtype | Deal Type | radio newbusiness:New_Business existingbusiness:Existing_Business
        description | Deal Description | area
        closed_lost_reason | Closed Lost Reason | area
        closed_won_reason | Closed Won Reason | area
        hs_analytics_source | Original Traffic Source | choice {SOURCES}
        hs_manual_forecast_category | Forecast category | choice {FORECASTS}
        hs_priority | Priority | choice low medium high
        -notes_last_updated | Last Activity Date | instant
        =amount_in_home_currency | Amount in company currency | number
        =hs_exchange_rate | Exchange rate | number
        =hs_is_closed | Is Deal Closed? | flag
        =hs_is_closed_won | Is Closed Won | flag
        =hs_is_closed_lost | Is Closed Lost | flag
        =hs_deal_stage_probability | Deal probability | number
        =days_to_close | Days to close | number
        =num_associated_contacts | Number of Associated Contacts | number
        hs_mrr | Monthly recurring revenue | money
        hs_arr | Annual recurring revenue | money
        hs_tcv | Total contract value | money
        hs_acv | Annual contract value | money
        hs_salesforceopportunityid | Salesforce Opportunity ID | text
    """,
    "tickets": f"""
        subject | Ticket name | text
        content | Ticket description | area
        hs_pipeline | Pipeline | owner
        hs_pipeline_stage | Ticket status | stage
        hs_ticket_priority | Priority | choice LOW MEDIUM HIGH URGENT
        hs_ticket_category | Category | checks {TICKET_CATEGORIES}
        source_type | Source | choice CHAT EMAIL FORM PHONE
        closed_date | Close date | instant
        =time_to_close | Time to close | number
        -first_agent_reply_date | First agent email response date | instant
        =time_to_first_agent_reply | Time to first agent email reply | number
        =hs_time_to_first_response_in_operating_hours | Time to first response | number
        -hs_time_to_close_sla_status | Time to close SLA ticket status | elsewhere
        -hs_time_to_first_response_sla_status | Time to first response SLA ticket status | elsewhere
        -notes_last_updated | Last Activity Date | instant
        hs_resolution | Resolution | choice ISSUE_FIXED REFUND_ISSUED QUESTION_ANSWERED
    """,
    "products": """
        name | Name | text
        description | Product description | area
        hs_sku | SKU | text
        price | Unit price | money
        hs_cost_of_goods_sold | Unit cost | money
        recurringbillingfrequency | Billing frequency | choice monthly quarterly annually
        hs_product_type | Product type | choice inventory service non_inventory
    """,
    "line_items": """
        name | Name | text
        description | Description | area
        hs_sku | SKU | text
        quantity | Quantity | number
        price | Unit price | money
        discount | Unit discount | money
        hs_discount_percentage | Discount percentage | number
        =amount | Net price | number
        hs_product_id | Product ID | number
        hs_line_item_currency_code | Currency | text
        recurringbillingfrequency | Billing frequency | choice monthly quarterly annually
        hs_recurring_billing_period | Term | text
        hs_position_on_quote | Position on quote | number
    """,
    "feedback_submissions": """
        -hs_survey_id | Survey ID | number
        -hs_survey_name | Survey Name | text
        -hs_survey_type | Survey Type | choice NPS CSAT CES CUSTOM
        -hs_survey_channel | Survey Channel | choice EMAIL WEB CHAT SMS
        -hs_value | Rating | text
        -hs_response_group | Response Group | choice PROMOTER PASSIVE DETRACTOR
        -hs_sentiment | Sentiment | choice POSITIVE NEUTRAL NEGATIVE
        -hs_content | Response | area
        -hs_submission_name | Submission Name | text
        -hs_submission_timestamp | Submission Date | instant
        -hs_contact_email_rollup | Contact email | text
    """,
    "orders": """
        hs_order_name | Order name | text
        hs_external_order_id | External order ID | text
        hs_external_created_date | External created date | instant
        hs_external_order_status | External order status | text
        hs_currency_code | Currency | text
        hs_total_price | Total price | money
        hs_subtotal_price | Subtotal price | money
        hs_order_discount | Order discount | money
        hs_tax | Tax | money
        hs_shipping_cost | Shipping cost | money
        hs_source_store | Source store | text
        hs_pipeline | Pipeline | owner
        hs_pipeline_stage | Status | stage
        hs_fulfillment_status | Fulfillment status | text
    """,
    "invoices": """
        hs_title | Title | text
        hs_number | Invoice number | text
        hs_currency | Currency | text
        hs_invoice_date | Invoice date | instant
        hs_due_date | Due date | instant
        hs_invoice_status | Invoice status | choice draft open paid voided
        =hs_amount_billed | Amount billed | number
        =hs_balance_due | Balance due | number
    """,
    "subscriptions": """
        hs_name | Name | text
        hs_status | Status | choice active past_due paused canceled expired scheduled
        hs_currency_code | Currency | text
        hs_recurring_billing_start_date | Billing start date | day
        hs_recurring_billing_end_date | Billing end date | day
        hs_next_payment_due_date | Next payment due date | day
        hs_recurring_revenue | Recurring revenue | money
    """,
    "carts": """
        hs_cart_name | Cart name | text
        hs_external_cart_id | External cart ID | text
        hs_external_status | Status | text
        hs_currency_code | Currency | text
        hs_total_price | Total price | money
    """,
}

KINDS: Mapping[str, tuple[str, str]] = {
    "text": ("string", "text"),
    "area": ("string", "textarea"),
    "number": ("number", "number"),
    "money": ("number", "number"),
    "instant": ("datetime", "date"),
    "day": ("date", "date"),
    "flag": ("bool", "booleancheckbox"),
    "choice": ("enumeration", "select"),
    "radio": ("enumeration", "radio"),
    "checks": ("enumeration", "checkbox"),
    "stage": ("enumeration", "radio"),
    "owner": ("enumeration", "select"),
    "elsewhere": ("enumeration", "checkbox"),
}
CHOICES_ELSEWHERE = frozenset({"stage", "owner", "elsewhere"})
"""Kinds whose choices are not options of the property: owners, pipelines, free ones."""


def standard_properties(kind: ObjectType) -> list[Property]:
    """The properties that every portal has for this type; of a custom object the common ones."""
    lines = PROPERTIES.get(kind.name, "").strip().splitlines()
    return [*_common(kind), *(_property(kind.group, line) for line in lines)]


def lifecycle_property(group: str, name: str, label: str) -> Property:
    """A date that HubSpot writes when a record enters or leaves a stage."""
    return _property(group, f"={name} | {label} | instant")


def duration_property(group: str, name: str, label: str) -> Property:
    """A number of milliseconds that HubSpot counts."""
    return _property(group, f"={name} | {label} | number")


def group_label(kind: ObjectType) -> str:
    """What the property group of a type is called."""
    return GROUP_LABELS.get(kind.group, f"{kind.label or kind.name} information")


def _common(kind: ObjectType) -> Iterator[Property]:
    lines = [
        "-hs_object_id | Record ID | number",
        "-hs_createdate | Object create date/time | instant",
        f"-{kind.modified} | Last Modified Date | instant",
        "-hs_merged_object_ids | Merged record IDs | elsewhere",
        "hubspot_owner_id | Owner | owner",
    ]
    if kind.created == "createdate":
        lines.append("createdate | Create Date | instant")
    for line in lines:
        yield _property(kind.group, line)


def _property(group: str, line: str) -> Property:
    marked, label, described = (part.strip() for part in line.split("|"))
    word, *choices = described.split()
    name, (kind, field_type) = marked.lstrip("=-*"), KINDS[word]
    return Property(
        name,
        label,
        kind,
        field_type,
        group,
        tuple(_option(choice) for choice in choices),
        read_only=marked[0] in "=-",
        is_calculated=marked[0] == "=",
        has_unique_value=marked[0] == "*",
        external_options=word in CHOICES_ELSEWHERE,
        display_hint="currency" if word == "money" else None,
    )


def _option(choice: str) -> Option:
    value, _, label = choice.partition(":")
    return Option(value, (label or value).replace("_", " ") if label else _words(value))


def _words(value: str) -> str:
    return value.replace("_", " ").capitalize()
