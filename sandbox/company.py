"""A company's sales in no vendor's words, as the loaders read or invent it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sandbox.org import StageSpec


@dataclass(frozen=True, slots=True)
class Rep:
    """Somebody who owns deals; the same e-mail address in every CRM."""

    name: str
    first_name: str
    last_name: str
    email: str
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Account:
    """A company one sells to, known by its name."""

    name: str
    industry: str | None = None
    country: str | None = None
    annual_revenue: Decimal | None = None
    employees: int | None = None
    parent: str | None = None
    domain: str | None = None
    owner: str | None = None
    """A rep's name."""


@dataclass(frozen=True, slots=True)
class StageVisit:
    """A deal entering a stage."""

    at: datetime
    stage: str


@dataclass(frozen=True, slots=True)
class Deal:
    """A deal with its whole way through the stages, the first visit being its creation."""

    name: str
    owner: str
    """A rep's name."""
    visits: Sequence[StageVisit]
    account: str | None = None
    product: str | None = None
    amount: Decimal | None = None
    """Known from the last stage change on, if that closes the deal, else from the start."""
    close_date: date | None = None
    """The day of closing; for an open deal the expected one."""
    is_repeat_business: bool | None = None
    source: str | None = None
    lost_reason: str | None = None
    created_as: datetime | None = None
    """A creation date entered by hand, where the CRM takes one."""
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Company:
    """Everything to put into the CRMs."""

    stages: Sequence[StageSpec]
    reps: Sequence[Rep]
    accounts: Sequence[Account]
    """Parents stand before their subsidiaries."""
    deals: Sequence[Deal]
    last_day: date
    """The last day anything is known of; open deals without a forecast are expected then."""
