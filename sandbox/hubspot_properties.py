"""Property definitions, and the checks of the values written ("Properties" guide)."""

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
