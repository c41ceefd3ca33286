"""What the portal knows about properties: the standard ones and the checks of their values.

Names and types: "Deals" and "Companies" default properties, "Properties" guide, in HubSpot's
developer documentation.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sandbox.hubspot_errors import Invalid
from sandbox.org import FieldType, Value

LONGEST_TEXT = 65_536
"""Characters of a text property ("Properties" guide)."""

# "Properties" guide, table "Property type and fieldType values".
FIELD_TYPES_OF: Mapping[str, tuple[str, ...]] = {
    "bool": ("booleancheckbox", "calculation_equation"),
    "enumeration": ("booleancheckbox", "checkbox", "radio", "select", "calculation_equation"),
    "date": ("date",),
    "datetime": ("date",),
    "string": ("file", "text", "textarea", "html", "phonenumber", "calculation_equation"),
    "number": ("number", "calculation_equation"),
}

TYPE_OF: Mapping[FieldType, tuple[str, str]] = {
    FieldType.TEXT: ("string", "text"),
    FieldType.NUMBER: ("number", "number"),
    FieldType.MONEY: ("number", "number"),
    FieldType.PERCENT: ("number", "number"),
    FieldType.DATE: ("date", "date"),
    FieldType.DATETIME: ("datetime", "date"),
    FieldType.BOOLEAN: ("bool", "booleancheckbox"),
    FieldType.CHOICE: ("enumeration", "select"),
}

# Digits and one dot; an exponent is allowed, a thousands comma is not.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
MILLISECONDS = re.compile(r"-?\d+")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of an enumeration."""

    value: str
    label: str


@dataclass(slots=True)
class Property:
    """The definition of one property of one object type."""

    name: str
    label: str
    type: str
    field_type: str
    group: str
    options: tuple[Option, ...] = ()
    read_only: bool = False
    """Its value is HubSpot's own: writes of it are 400."""
    is_calculated: bool = False
    is_standard: bool = True
    has_unique_value: bool = False
    external_options: bool = False
    """Its choices live elsewhere (owners, pipelines)."""
    description: str = ""
    display_hint: str | None = None
    created_at: datetime = datetime(2020, 1, 1, tzinfo=UTC)


def standard_properties(object_type: str) -> list[Property]:
    """The properties every portal has, as far as the sandbox imitates them."""
    group = {"deals": "dealinformation", "companies": "companyinformation"}[object_type]
    specific = _deal_properties(group) if object_type == "deals" else _company_properties(group)
    return [
        Property("hs_object_id", "Record ID", "number", "number", group, read_only=True),
        Property("createdate", "Create Date", "datetime", "date", group),
        Property("hs_createdate", "Object create date", "datetime", "date", group, read_only=True),
        Property(
            "hs_lastmodifieddate", "Last Modified Date", "datetime", "date", group, read_only=True
        ),
        Property(
            "hs_merged_object_ids",
            "Merged record IDs",
            "enumeration",
            "checkbox",
            group,
            read_only=True,
            external_options=True,
        ),
        Property(
            "hubspot_owner_id", "Owner", "enumeration", "select", group, external_options=True
        ),
        *specific,
    ]


def _deal_properties(group: str) -> list[Property]:
    def calculated(name: str, label: str, kind: str) -> Property:
        field_type = {"bool": "booleancheckbox", "number": "number", "datetime": "date"}[kind]
        return Property(name, label, kind, field_type, group, read_only=True, is_calculated=True)

    return [
        Property("dealname", "Deal Name", "string", "text", group),
        Property("amount", "Amount", "number", "number", group, display_hint="currency"),
        Property("deal_currency_code", "Currency", "string", "text", group),
        Property("closedate", "Close Date", "datetime", "date", group),
        Property("dealstage", "Deal Stage", "enumeration", "radio", group, external_options=True),
        Property("pipeline", "Pipeline", "enumeration", "select", group, external_options=True),
        Property(
            "dealtype",
            "Deal Type",
            "enumeration",
            "radio",
            group,
            options=(
                Option("newbusiness", "New Business"),
                Option("existingbusiness", "Existing Business"),
            ),
        ),
        Property("description", "Deal Description", "string", "textarea", group),
        Property("closed_lost_reason", "Closed Lost Reason", "string", "textarea", group),
        Property("closed_won_reason", "Closed Won Reason", "string", "textarea", group),
        Property(
            "hs_analytics_source",
            "Original Traffic Source",
            "enumeration",
            "select",
            group,
            options=_options(
                "ORGANIC_SEARCH PAID_SEARCH EMAIL_MARKETING SOCIAL_MEDIA REFERRALS "
                "OTHER_CAMPAIGNS DIRECT_TRAFFIC OFFLINE PAID_SOCIAL"
            ),
        ),
        Property(
            "hs_manual_forecast_category",
            "Forecast category",
            "enumeration",
            "select",
            group,
            options=_options("OMIT PIPELINE BEST_CASE COMMIT CLOSED"),
        ),
        Property(
            "notes_last_updated", "Last Activity Date", "datetime", "date", group, read_only=True
        ),
        calculated("amount_in_home_currency", "Amount in company currency", "number"),
        calculated("hs_exchange_rate", "Exchange rate", "number"),
        calculated("hs_is_closed", "Is Deal Closed?", "bool"),
        calculated("hs_is_closed_won", "Is Closed Won", "bool"),
        calculated("hs_is_closed_lost", "Is Closed Lost", "bool"),
        calculated("hs_deal_stage_probability", "Deal probability", "number"),
        calculated("days_to_close", "Days to close", "number"),
    ]


def _company_properties(group: str) -> list[Property]:
    return [
        Property("name", "Company name", "string", "text", group),
        Property("domain", "Company Domain Name", "string", "text", group),
        Property("website", "Website URL", "string", "text", group),
        Property(
            "industry",
            "Industry",
            "enumeration",
            "select",
            group,
            options=_options(
                "AUTOMOTIVE BANKING COMPUTER_SOFTWARE CONSTRUCTION EDUCATION_MANAGEMENT "
                "ENTERTAINMENT FINANCIAL_SERVICES HOSPITAL_HEALTH_CARE HOSPITALITY MACHINERY "
                "MARKETING_AND_ADVERTISING RETAIL TELECOMMUNICATIONS UTILITIES"
            ),
        ),
        Property("annualrevenue", "Annual Revenue", "number", "number", group),
        Property("numberofemployees", "Number of Employees", "number", "number", group),
        Property("country", "Country/Region", "string", "text", group),
        Property("city", "City", "string", "text", group),
        Property("state", "State/Region", "string", "text", group),
        Property(
            "type",
            "Type",
            "enumeration",
            "select",
            group,
            options=_options("PROSPECT PARTNER RESELLER VENDOR OTHER"),
        ),
        Property(
            "lifecyclestage",
            "Lifecycle Stage",
            "enumeration",
            "radio",
            group,
            options=_options(
                "subscriber lead marketingqualifiedlead salesqualifiedlead opportunity customer "
                "evangelist other"
            ),
        ),
        Property("founded_year", "Year Founded", "string", "text", group),
        Property("description", "Description", "string", "textarea", group),
        Property(
            "hs_parent_company_id",
            "Parent Company",
            "number",
            "number",
            group,
            read_only=True,
            is_calculated=True,
        ),
        Property(
            "num_associated_deals",
            "Number of Associated Deals",
            "number",
            "number",
            group,
            read_only=True,
            is_calculated=True,
        ),
    ]


def _options(values: str) -> tuple[Option, ...]:
    return tuple(Option(v, v.replace("_", " ").capitalize()) for v in values.split())


class InvalidValueError(ValueError):
    """A value that a property does not take."""

    def __init__(self, problem: Invalid) -> None:
        super().__init__(problem)
        self.problem = problem


def stored(definition: Property, text: str) -> str:
    """A written value as HubSpot keeps and returns it; "" stays "" and clears.

    Raises:
        InvalidValueError: where HubSpot answers 400, with the code it gives.
    """
    if text == "":
        return ""
    if definition.type != "string" and text != text.strip():
        # Changelog "Enhanced validations for non-string properties": blanks are not trimmed.
        raise _refused(definition, "INVALID_FORMAT", f"{text!r} has leading or trailing spaces")
    return _CHECKS[definition.type](definition, text)


def _stored_number(definition: Property, text: str) -> str:
    if not NUMBER.fullmatch(text):
        raise _refused(definition, "INVALID_INTEGER", f"{text} was not a valid number.")
    return text


def _stored_bool(definition: Property, text: str) -> str:
    if text not in ("true", "false"):
        message = f"{text} was not one of the allowed options: [true, false]"
        raise _refused(definition, "INVALID_OPTION", message)
    return text


def _stored_enumeration(definition: Property, text: str) -> str:
    if definition.external_options:
        return text
    allowed = [option.value for option in definition.options]
    values = text.split(";") if definition.field_type == "checkbox" else [text]
    for value in values:
        # Internal values, case-sensitive; the label people see is not one of them.
        if value not in allowed:
            message = f"{value} was not one of the allowed options: [{', '.join(allowed)}]"
            raise _refused(definition, "INVALID_OPTION", message)
    return text


def _stored_date(definition: Property, text: str) -> str:
    if DAY.fullmatch(text):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(text).isoformat()
    instant = parsed_instant(text)
    if instant is None or instant.timetz() != time(0, tzinfo=UTC):
        raise _refused(definition, "INVALID_DATE", f"{text} is not midnight UTC")
    return instant.date().isoformat()


def _stored_datetime(definition: Property, text: str) -> str:
    instant = None if DAY.fullmatch(text) else parsed_instant(text)
    if instant is None:
        raise _refused(definition, "INVALID_LONG", f"{text} was not a valid long.")
    return instant_text(instant)


def _stored_string(definition: Property, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise _refused(definition, "PROPERTY_VALUE_TOO_LONG", f"longer than {LONGEST_TEXT}")
    return text


_CHECKS = {
    "number": _stored_number,
    "bool": _stored_bool,
    "enumeration": _stored_enumeration,
    "date": _stored_date,
    "datetime": _stored_datetime,
    "string": _stored_string,
}


def _refused(definition: Property, code: str, message: str) -> InvalidValueError:
    return InvalidValueError(Invalid(definition.name, code, message))


def parsed_instant(text: str) -> datetime | None:
    """Milliseconds since 1970, or ISO 8601 with a zone; None: neither."""
    if MILLISECONDS.fullmatch(text):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(text))
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo is not None else None


def instant_text(instant: datetime) -> str:
    """An instant as HubSpot writes it: milliseconds only where there are some."""
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text.replace(".000Z", "Z")


def as_text(value: Value) -> str | None:
    """A JSON value as the text HubSpot keeps, for values the admin sets; "" clears."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value == "" else str(value)
