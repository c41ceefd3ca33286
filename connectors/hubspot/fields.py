"""HubSpot's properties: which ones carry the canonical fields, and how their values are written.

https://developers.hubspot.com/docs/api-reference/crm-properties-v3/guide
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from connectors.base import FieldType, NewField, StreamSettings, TargetField
from connectors.fieldmap import NativeField
from connectors.hubspot.client import Json
from connectors.hubspot.scopes import scope_object
from connectors.values import ReadOptions, Unreadable, reader
from store.canonical import Scalar

OBJECT_STREAMS: Final[Mapping[str, str]] = MappingProxyType(
    {"companies": "accounts", "contacts": "contacts", "deals": "deals", "tickets": "tickets"}
)
"""Objects whose records can carry KPI values; custom ones are added by the configuration."""

READ_ONLY_OBJECTS: Final = frozenset({"feedback_submissions", "0-19", "campaigns", "owners"})
"""https://developers.hubspot.com/docs/api-reference/crm-feedback-submissions-v3/guide"""

MODIFIED: Final = "hs_lastmodifieddate"
RECORD_ID: Final = "hs_object_id"
MERGED: Final = "hs_merged_object_ids"
STAGE: Final = "dealstage"
PIPELINE: Final = "pipeline"
IS_CLOSED: Final = "hs_is_closed"
IS_WON: Final = "hs_is_closed_won"


def object_streams(streams: Mapping[str, StreamSettings]) -> Mapping[str, str]:
    """Object that can be written -> canonical stream of its records, as configured."""
    mapped = {
        one.object: name
        for name, one in streams.items()
        if one.object is not None and one.object not in READ_ONLY_OBJECTS
    }
    # A stream that is read from another object has no records of its usual one.
    usual = {native: name for native, name in OBJECT_STREAMS.items() if name not in mapped.values()}
    return MappingProxyType({**mapped, **usual})


GROUP: Final = MappingProxyType({"name": "kpisync", "label": "KPIs (kpisync)"})
"""The group that holds the properties which `setup` creates."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")

_READ_AS: Final[Mapping[str, str]] = MappingProxyType(
    {"number": "number", "date": "date", "datetime": "datetime", "bool": "boolean"}
)
_TARGETS: Final[Mapping[str, FieldType]] = MappingProxyType(
    {
        "number": FieldType.NUMBER,
        "string": FieldType.TEXT,
        "date": FieldType.DATE,
        "datetime": FieldType.DATETIME,
        "bool": FieldType.CHECKBOX,
        # It takes the values of its options and nothing else; HubSpot refuses what is none.
        "enumeration": FieldType.TEXT,
    }
)
_HINTS: Final[Mapping[str, FieldType]] = MappingProxyType(
    {"percentage": FieldType.PERCENT, "currency": FieldType.CURRENCY}
)

_CREATED_AS: Final[Mapping[FieldType, tuple[str, str, str | None]]] = MappingProxyType(
    {
        FieldType.NUMBER: ("number", "number", None),
        FieldType.PERCENT: ("number", "number", "percentage"),
        FieldType.CURRENCY: ("number", "number", "currency"),
        FieldType.TEXT: ("string", "text", None),
        FieldType.DATE: ("date", "date", None),
        FieldType.DATETIME: ("datetime", "date", None),
        FieldType.CHECKBOX: ("bool", "booleancheckbox", None),
    }
)
"""Type of a KPI field -> type, fieldType and numberDisplayHint of its property."""

_HELD_AS_WELL: Final = frozenset({("string", "enumeration"), ("datetime", "date")})
"""Type of a KPI's property, and of one that can take its values all the same."""


@dataclass(frozen=True, slots=True)
class Property:
    """One property of an object as HubSpot describes it."""

    name: str
    label: str
    type: str
    field_type: str
    display_hint: str | None
    is_read_only: bool
    is_calculated: bool = False
    is_custom: bool = False
    options: tuple[tuple[str, str], ...] = ()
    """Of an enumeration: value and label."""

    @property
    def kind(self) -> str:
        """Its type in the words of field maps."""
        if self.type == "enumeration" and self.field_type == "booleancheckbox":
            return "boolean"
        return _READ_AS.get(self.type, "text")

    def as_native(self) -> NativeField:
        """As field maps see it; HubSpot's modified date moves with calculated values, too."""
        return NativeField(self.name, self.kind)

    def as_target(self) -> TargetField:
        """As write-back sees it."""
        kind = _TARGETS.get(self.type, FieldType.OTHER)
        if self.kind == "boolean":
            kind = FieldType.CHECKBOX
        return TargetField(
            name=self.name,
            label=self.label,
            type=_HINTS.get(self.display_hint or "", kind) if kind == FieldType.NUMBER else kind,
            writable=not self.is_read_only,
            length=65_536 if kind == FieldType.TEXT else None,
        )


def properties_of(results: Sequence[Json]) -> Mapping[str, Property]:
    """The properties of an object by name."""
    return {described.name: described for described in map(property_of, results)}


def property_of(content: Json) -> Property:
    """Read one property's description."""
    metadata = content.get("modificationMetadata") or {}
    options = content.get("options") or ()
    return Property(
        name=str(content["name"]),
        label=str(content.get("label") or content["name"]),
        type=str(content.get("type") or ""),
        field_type=str(content.get("fieldType") or ""),
        display_hint=content.get("numberDisplayHint"),
        is_read_only=bool(metadata.get("readOnlyValue") or content.get("calculated")),
        is_calculated=bool(content.get("calculated")),
        is_custom=content.get("hubspotDefined") is False,
        options=tuple(
            (str(one.get("value")), str(one.get("label") or one.get("value")))
            for one in options
            if isinstance(one, dict)
        ),
    )


# ---------------------------------------------------------------- values


def written(value: Scalar, described: Property | None) -> str:
    """A value in the text that a property takes, as far as its description is known.

    Whatever does not fit it goes out as it is: HubSpot refuses that, and says so in its words.
    """
    if described is not None:
        if described.type == "date" and isinstance(value, datetime):
            # A calendar day has no zone; a time would be refused unless it is midnight in UTC.
            return value.date().isoformat()
        if described.type == "datetime" and isinstance(value, date):
            at = value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
            return encoded(at)
    return encoded(value)


def is_echoed(sent: str, echo: object, described: Property | None) -> bool:
    """Whether an answer shows a property as it was sent; a text in another form is the same."""
    if described is None or not isinstance(echo, str | None):
        return True
    return decoded(sent, described) == decoded(echo, described)


def encoded(value: Scalar) -> str:
    """A value in the text that HubSpot takes; the empty text clears a property."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            # Plain digits: HubSpot takes an exponent, and shows it to people.
            return format(value, "f")
        case datetime():
            in_utc = value.astimezone(UTC)
            return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case _:
            return str(value)


def decoded(text: object, described: Property | None) -> Scalar:
    """A live value as it compares with what would be written.

    A value that is not what its property promises stays text: it differs from every number.
    """
    if text is None or text == "":
        return None
    kind = described.kind if described else "text"
    try:
        return reader(kind, _LIVE)(text)
    except Unreadable:
        return str(text)


_LIVE: Final = ReadOptions(zone=UTC, prefix="", percent_divisor=1, is_midnight_utc=True)


# ---------------------------------------------------------------- setup


def definition(field: NewField) -> Json:
    """The JSON that creates the property of a KPI field.

    Raises:
        ValueError: HubSpot cannot have such a property; says why.
    """
    if not _NAME.fullmatch(field.name) or field.name.startswith("hs_"):
        raise ValueError(
            "property names have small letters, digits and underscores, begin with a letter,"
            " and not with hs_"
        )
    if field.type not in _CREATED_AS:
        raise ValueError(f"a property of type {field.type} cannot be created")
    kind, field_type, hint = _CREATED_AS[field.type]
    content: dict[str, object] = {
        "name": field.name,
        "label": field.label,
        "description": field.help_text,
        "groupName": GROUP["name"],
        "type": kind,
        "fieldType": field_type,
    }
    if hint is not None:
        content["numberDisplayHint"] = hint
    if kind == "bool":
        content["options"] = [
            {"label": "Yes", "value": "true", "displayOrder": 0},
            {"label": "No", "value": "false", "displayOrder": 1},
        ]
    return content


def is_same_type(field: NewField, existing: Property) -> bool:
    """Whether an existing property can hold what the KPI field would hold."""
    kind = _CREATED_AS[field.type][0] if field.type in _CREATED_AS else None
    if existing.kind == "boolean":
        return kind == "bool"
    # A choice holds a KPI of words as long as each of them is one of its options; a day holds
    # the stamp's date.
    return (kind, existing.type) in _HELD_AS_WELL or existing.type == kind


def by_hand(object_name: str, field: NewField) -> str:
    """What a person has to create where the token may not."""
    kind, field_type, hint = _CREATED_AS[field.type]
    shown_as = f", shown as {hint}" if hint else ""
    return (
        f'Create it by hand (Settings > Properties > {object_name}): label "{field.label}",'
        f" internal name {field.name}, type {kind} ({field_type}{shown_as});"
        f" or give the token the scope crm.schemas.{scope_object(object_name)}.write."
    )
