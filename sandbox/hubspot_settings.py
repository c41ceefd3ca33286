"""What the admin may set about a portal (docs/sandbox.md lists it)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from zoneinfo import ZoneInfo

from sandbox.hubspot_types import CUSTOM_SCOPE, STANDARD_TYPES

TOKEN = "pat-na1-sandbox"  # noqa: S105 - the sandbox's well-known token

OTHER_SCOPES = (
    "crm.objects.owners.read",
    "crm.objects.custom.read",
    "crm.objects.custom.write",
    "crm.schemas.custom.read",
    "crm.schemas.custom.write",
    "marketing.campaigns.read",
    "marketing.campaigns.revenue.read",
    "content",
    "settings.currencies.read",
    "oauth",
)
HUBS = frozenset({"marketing", "service", "commerce"})

NUMBERS = ("portal_id", "association_page")
FLAGS = ("archived_shows_merged", "stale_calculated", "merge_keeps_winner")


def _all_scopes() -> frozenset[str]:
    words = [one.scope for one in STANDARD_TYPES if one.scope != CUSTOM_SCOPE]
    granted = {f"crm.{part}.{word}.read" for word in words for part in ("objects", "schemas")}
    writable = [one.scope for one in STANDARD_TYPES if one.is_writable]
    granted |= {f"crm.{part}.{word}.write" for word in writable for part in ("objects", "schemas")}
    return frozenset(granted | set(OTHER_SCOPES))


ALL_SCOPES = _all_scopes()


@dataclass(frozen=True, slots=True)
class RequiredRule:
    """A rule that an administrator set for people: what a record has to have.

    Changelog "CRM API write validation enforcement": from 2026-09 on it holds for API writes.
    """

    needs: tuple[str, ...]
    at_creation: bool = False
    when: str = ""
    """The property that makes the others required (empty: always)..."""
    has: tuple[str, ...] = ()
    """...when it has one of these values."""

    def applies(self, written: Mapping[str, str], *, is_new: bool) -> bool:
        """Whether a write of these values has to keep the rule."""
        if self.at_creation:
            return is_new
        return not self.when or written.get(self.when) in self.has


@dataclass(slots=True)
class Settings:
    """The portal's own settings, and how it behaves where HubSpot's behaviour varies."""

    portal_id: int = 7654321
    time_zone: str = "UTC"
    company_currency: str = "USD"
    rates: dict[str, Decimal] = field(default_factory=dict)
    """Company currency per unit of a foreign currency."""
    tokens: frozenset[str] = frozenset({TOKEN})
    scopes: frozenset[str] = ALL_SCOPES
    absent_hubs: frozenset[str] = frozenset()
    """Hubs the account has not bought: their objects answer 403."""
    association_page: int = 100
    """Links of one record per answer of the batch read."""
    archived_shows_merged: bool = False
    """Whether merged-away records stand in the archived list (HubSpot does not say)."""
    stale_calculated: bool = False
    """Whether search answers null for calculated properties, as it sometimes does."""
    merge_keeps_winner: bool = False
    """Whether records merge into the winner, as contacts and companies did before 2025."""
    required: dict[str, tuple[RequiredRule, ...]] = field(default_factory=dict)

    def set(self, name: str, value: object) -> None:
        """Change one.

        Raises:
            ValueError: for a name that is none, or a value it does not take.
        """
        if name == "time_zone":
            self.time_zone = ZoneInfo(str(value)).key
        elif name == "company_currency":
            self.company_currency = str(value)
        elif name == "rates" and isinstance(value, dict):
            self.rates = {str(k): Decimal(str(v)) for k, v in value.items()}
        elif name in ("tokens", "scopes") and isinstance(value, list):
            setattr(self, name, frozenset(str(it) for it in value))
        elif name == "absent_hubs" and isinstance(value, list) and HUBS.issuperset(value):
            self.absent_hubs = frozenset(value)
        elif name == "required" and isinstance(value, dict):
            self.required = {str(k): _rules(v) for k, v in value.items()}
        elif name in NUMBERS and isinstance(value, int):
            setattr(self, name, value)
        elif name in FLAGS:
            setattr(self, name, bool(value))
        else:
            raise ValueError(f"hubspot has no setting {name!r} that takes {json.dumps(value)}")


def _rules(value: object) -> tuple[RequiredRule, ...]:
    """``[{"needs": [...], "at_creation": true}, {"needs": [...], "when": ..., "has": [...]}]``."""
    if not isinstance(value, list):
        raise TypeError("required: a list of rules for each object")
    return tuple(_rule(one) for one in value)


def _rule(one: Mapping[str, object]) -> RequiredRule:
    return RequiredRule(
        _texts(one.get("needs")),
        bool(one.get("at_creation", False)),
        str(one.get("when", "")),
        _texts(one.get("has")),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, Sequence) else ()
