"""What loading a company takes in every CRM."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from sandbox.company import Company, Deal

NOON = time(12, tzinfo=UTC)
PEOPLE_SINCE = timedelta(days=30)
"""Reps and accounts are in the CRM this long before the first deal."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Native ids by name, as far as they are loaded."""

    reps: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    deals: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)
    """Contacts; of leads that were converted the contact they became."""
    leads: dict[str, str] = field(default_factory=dict)
    campaigns: dict[str, str] = field(default_factory=dict)


def closes_last(company: Company, deal: Deal) -> bool:
    """Whether the deal stands in a closed stage."""
    closed = {stage.name for stage in company.stages if stage.is_closed}
    return deal.visits[-1].stage in closed


def beginning(company: Company) -> datetime:
    """When the CRM was first used."""
    starts = [deal.visits[0].at for deal in company.deals]
    return min(starts, default=end_of(company)) - PEOPLE_SINCE


def end_of(company: Company) -> datetime:
    """Noon of the last day."""
    return datetime.combine(company.last_day, NOON)


def number(value: Decimal | None) -> int | float | None:
    """A sum as a JSON number."""
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def text(value: Decimal | None) -> str | None:
    """A sum as text."""
    return None if value is None else f"{value:f}"
