"""Values that HubSpot keeps in several properties: names, stage entries, first replies.

The names of such properties differ between portals (custom stages carry numbers, odd stage ids a
suffix), so they are looked up among the properties that the portal has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.fieldmap import NativeField
from connectors.hubspot.defaults import (
    CONTRACT_AMOUNT,
    CONTRACT_END,
    CONTRACT_START,
    CONVERTED,
    DERIVED,
    ENTERED,
    FIRST_REPLY,
    IS_CLOSED,
    IS_WON,
    LEAD_STAGE,
    LINK,
    NAME,
    QUALIFIED,
    QUALIFIED_STAGES,
)
from connectors.hubspot.fields import Property
from connectors.values import ReadOptions, Unreadable, reader

_PLAIN: Final = ReadOptions(zone=UTC, prefix="", percent_divisor=1)
_READ_INSTANT: Final = reader("datetime", _PLAIN)
_READ_NUMBER: Final = reader("number", _PLAIN)

_FIRST_REPLY_DATE: Final = re.compile(r"first_\w*reply_date")
_FIRST_REPLY_TIME: Final = re.compile(r"time_to_first_\w*reply")
_STAMPS: Final = frozenset({"createdate", "hs_createdate", "hs_lastmodifieddate"})
"""Every record carries these beside its properties, whatever the portal describes."""
_FLAGS: Final = frozenset({"hs_is_closed", "hs_is_closed_won", IS_CLOSED, IS_WON})
"""What a stage's definition can stand in for."""

_OF_SUBSCRIPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    CONTRACT_START: ("hs_recurring_billing_start_date", "hs_start_date"),
    CONTRACT_END: ("hs_recurring_billing_end_date", "hs_end_date"),
    CONTRACT_AMOUNT: ("hs_recurring_revenue", "hs_acv", "hs_tcv"),
}

Values = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Derived:
    """A value made of several properties."""

    type: str
    """In the words of field maps."""
    sources: tuple[str, ...]
    read: Callable[[Values], object]


def native_field(
    name: str, properties: Mapping[str, Property], derived: Mapping[str, Derived]
) -> NativeField | None:
    """What a field map may read under `name`; None: the token sees no such property."""
    if name.startswith(LINK):
        return NativeField(name, "ref")
    if name in _FLAGS and name not in properties:
        return NativeField(name, "boolean")
    if name.startswith(DERIVED):
        made = derived.get(name)
        return NativeField(name, made.type) if made and made.sources else None
    known = properties.get(name)
    if known is None:
        return NativeField(name, "datetime") if name in _STAMPS else None
    return known.as_native()


def derived_of_contacts(
    properties: Mapping[str, Property], converted_stage: str
) -> Mapping[str, Derived]:
    """A contact's name, and when it entered the stages that make a lead of it.

    Args:
        properties: What the portal has.
        converted_stage: Id of the lifecycle stage at which a lead counts as converted.
    """
    qualified = [one for stage in QUALIFIED_STAGES for one in entries_of(stage, properties)]
    return {
        NAME: _joined(_present(("firstname", "lastname"), properties)),
        ENTERED: _first_known(entries_of(LEAD_STAGE, properties)),
        QUALIFIED: _earliest(qualified),
        CONVERTED: _first_known(entries_of(converted_stage, properties)),
    }


def derived_of_tickets(properties: Mapping[str, Property]) -> Mapping[str, Derived]:
    """When somebody replied first; only replies by e-mail are told, and only to some portals."""
    dates = tuple(name for name in sorted(properties) if _FIRST_REPLY_DATE.fullmatch(name))
    times = tuple(name for name in sorted(properties) if _FIRST_REPLY_TIME.fullmatch(name))

    def read(values: Values) -> object:
        told = _filled(values, dates)
        return told if told is not None else _later(values, times)

    sources = (*dates, *times, "createdate") if dates or times else ()
    return {FIRST_REPLY: Derived("datetime", sources, read)}


def derived_of_subscriptions(properties: Mapping[str, Property]) -> Mapping[str, Derived]:
    """Span and amount of a subscription; their properties have changed their names."""
    return {
        name: _one_of(_present(candidates, properties), properties)
        for name, candidates in _OF_SUBSCRIPTIONS.items()
    }


def entries_of(stage: str, properties: Mapping[str, Property]) -> tuple[str, ...]:
    """The properties that tell when a record entered a stage, the best first.

    HubSpot writes a stage's id in small letters and gives odd ones a number at their end.
    """
    written = re.escape(re.sub(r"[^a-z0-9]+", "_", stage.lower()))
    exact = re.escape(stage)
    patterns = (
        rf"hs_v2_date_entered_(?:{exact}|{written}(?:_\d{{5,}})?)",
        rf"hs_date_entered_(?:{exact}|{written}(?:_\d{{5,}})?)",
        rf"hs_lifecyclestage_(?:{exact}|{written})_date",
    )
    names = sorted(properties)
    return tuple(name for one in patterns for name in names if re.fullmatch(one, name))


def instant(value: object) -> datetime | None:
    """An instant; None where it is none."""
    try:
        at = _READ_INSTANT(value)
    except Unreadable:
        return None
    return at if isinstance(at, datetime) else None


def _present(names: Sequence[str], properties: Mapping[str, Property]) -> tuple[str, ...]:
    return tuple(name for name in names if name in properties)


def _joined(sources: tuple[str, ...]) -> Derived:
    def read(values: Values) -> object:
        parts = (values.get(name) for name in sources)
        return " ".join(str(part).strip() for part in parts if part).strip()

    return Derived("text", sources, read)


def _one_of(sources: tuple[str, ...], properties: Mapping[str, Property]) -> Derived:
    kind = properties[sources[0]].kind if sources else "text"
    alike = tuple(name for name in sources if properties[name].kind == kind)
    return Derived(kind, alike, lambda values: _filled(values, alike))


def _first_known(sources: tuple[str, ...]) -> Derived:
    return Derived("datetime", sources, lambda values: _filled(values, sources))


def _earliest(sources: Sequence[str]) -> Derived:
    def read(values: Values) -> object:
        told = [at for name in sources if (at := instant(values.get(name))) is not None]
        return min(told).isoformat() if told else None

    return Derived("datetime", tuple(sources), read)


def _filled(values: Values, names: Sequence[str]) -> object:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)


def _later(values: Values, times: Sequence[str]) -> object:
    """The instant some milliseconds after the record was created."""
    created = instant(values.get("createdate"))
    try:
        wait = _READ_NUMBER(_filled(values, times))
    except Unreadable:
        return None
    if created is None or wait is None:
        return None
    return (created + timedelta(milliseconds=float(str(wait)))).isoformat()
