"""A company in no vendor's words, as the loaders read or invent it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
class Person:
    """Somebody at an account, or somebody who may become a customer; known by the name."""

    name: str
    first_name: str
    last_name: str
    email: str
    owner: str
    created: datetime
    account: str | None = None
    """The account's name; of a lead that was never converted, None."""
    company: str | None = None
    """What a lead says where it works."""
    source: str | None = None
    lead_at: datetime | None = None
    """When the person became a lead; None: never was one."""
    qualified_at: datetime | None = None
    converted_at: datetime | None = None
    deal: str | None = None
    """The deal the lead was converted into."""
    is_lost: bool = False
    """A lead that was given up."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A campaign reaching a person."""

    person: str
    at: datetime
    responded: bool


@dataclass(frozen=True, slots=True)
class EmailDay:
    """What became of a campaign's e-mail on one day."""

    day: date
    sent: int
    delivered: int
    opened: int
    clicked: int
    unsubscribed: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """A marketing effort, known by its name."""

    name: str
    channel: str
    """One of email, event, webinar, ads."""
    starts: date
    ends: date
    cost: Decimal
    budget: Decimal
    is_over: bool
    touches: Sequence[Touch]
    email_days: Sequence[EmailDay] = ()
    visits: int = 0
    """Web visits that came from it."""


@dataclass(frozen=True, slots=True)
class TicketVisit:
    """A ticket entering a status: new, waiting or closed."""

    at: datetime
    status: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A customer's request, with its whole way through the statuses."""

    subject: str
    account: str
    person: str | None
    owner: str
    category: str
    """One of problem, question, wish."""
    priority: str
    """One of low, medium, high."""
    origin: str
    """One of email, phone, web."""
    visits: Sequence[TicketVisit]
    first_reply: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to "would you recommend us": 0 to 10."""

    person: str
    account: str
    at: datetime
    score: int


@dataclass(frozen=True, slots=True)
class Contract:
    """What an account is bound to, for whole months from a day on."""

    account: str
    starts: date
    months: int
    amount: Decimal


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
    people: Sequence[Person] = ()
    campaigns: Sequence[Campaign] = ()
    deal_people: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """A deal's name -> the people it is with, the first being the main one."""
    deal_campaigns: Mapping[str, str] = field(default_factory=dict)
    """A deal's name -> the campaign it is owed to."""
    tickets: Sequence[Ticket] = ()
    answers: Sequence[Answer] = ()
    contracts: Sequence[Contract] = ()
