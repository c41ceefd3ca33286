"""What expressions may name: the fields of canonical records, mapped ones, and short words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Final, get_args, get_type_hints

from store.canonical import RECORD_TYPES


class Type(StrEnum):
    """What a field holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    MONEY = "money"
    PERCENT = "percent"
    DATE = "date"
    DATETIME = "datetime"
    BOOLEAN = "boolean"
    REF = "ref"
    UNSAID = "unsaid"
    """A mapped field without a type: it is what it is compared with."""


NUMBERS: Final = frozenset({Type.INTEGER, Type.NUMBER, Type.PERCENT})
TIMES: Final = frozenset({Type.DATE, Type.DATETIME})
TEXTS: Final = frozenset({Type.TEXT, Type.REF})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record."""

    name: str
    type: Type
    is_own: bool = False
    """Mapped by the company, no canonical field."""


_UNUSABLE: Final = frozenset({"ref", "extra", "deleted", "merged_into", "modified_at"})
"""Marks of records; a change of the modification time alone moves no KPI."""

RESERVED: Final = frozenset(
    {
        *("family", "dimension", "key", "side", "day", "currency", "bucket", "n", "all"),
        *(f"m{number}" for number in range(1, 7)),
    }
)
"""Names of columns of cells, by which nothing can be grouped."""

_MONEY: Final = frozenset({"amount", "annual_revenue", "budget", "cost", "total", "unit_price"})
_PERCENT: Final = frozenset({"probability"})
_REFS: Final = frozenset(
    {
        *("account", "campaign", "contact", "converted_account", "converted_contact"),
        *("converted_deal", "deal", "lead", "manager", "owner", "parent", "pipeline", "stage"),
        "ticket",
    }
)
_TYPES: Final[Mapping[object, Type]] = MappingProxyType(
    {
        str: Type.TEXT,
        int: Type.INTEGER,
        Decimal: Type.NUMBER,
        bool: Type.BOOLEAN,
        date: Type.DATE,
        datetime: Type.DATETIME,
    }
)

STREAMS: Final = (
    *("accounts", "contacts", "leads", "deals", "campaigns", "campaign_members", "costs"),
    *("tickets", "survey_responses", "contracts", "deal_lines", "deal_contacts"),
)
"""Streams whose records a custom KPI can count."""

GRAIN_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accounts": "account",
        "contacts": "contact",
        "deals": "deal",
        "campaigns": "campaign",
        "tickets": "ticket",
    }
)
"""Stream -> the dimension whose keys are its records."""


@cache
def canonical_fields(stream: str) -> Mapping[str, Field]:
    """The fields of a stream's records that expressions may name."""
    record_type = RECORD_TYPES[stream]
    hints = get_type_hints(record_type)
    return MappingProxyType(
        {
            one.name: Field(one.name, _type_of(one.name, hints[one.name]))
            for one in fields(record_type)
            if one.name not in _UNUSABLE
        }
    )


def _type_of(name: str, hint: object) -> Type:
    if name in _MONEY:
        return Type.MONEY
    if name in _PERCENT:
        return Type.PERCENT
    if name in _REFS:
        return Type.REF
    held = next((part for part in get_args(hint) if part is not type(None)), hint)
    return _TYPES[held]


def has_currency(stream: str) -> bool:
    """Whether records of a stream say what currency their amounts are in."""
    return "currency" in RECORD_TYPES[stream].__dataclass_fields__


def fields_of(stream: str, own: Mapping[str, str | None]) -> Mapping[str, Field]:
    """Everything an expression over a stream may name.

    Args:
        stream: whose records.
        own: mapped fields that no canonical field carries -> their type, where it is said.
    """
    known = canonical_fields(stream)
    mapped = {
        name: Field(name, Type(kind) if kind else Type.UNSAID, is_own=True)
        for name, kind in own.items()
        if name not in known and name not in _UNUSABLE
    }
    return {**known, **mapped}


def dimensions_of(stream: str, own: Mapping[str, str | None]) -> tuple[str, ...]:
    """What a KPI over a stream can be grouped by, sorted."""
    found = {
        name
        for name, field in fields_of(stream, own).items()
        if field.type in TEXTS or (field.is_own and field.type is Type.UNSAID)
    } - RESERVED
    if "owner" in found:
        found.add("team")
    if stream != "campaigns" and "campaign" in found:
        found.add("channel")
    if stream in GRAIN_OF:
        found.add(GRAIN_OF[stream])
    return tuple(sorted(found))
