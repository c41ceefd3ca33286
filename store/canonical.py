"""The canonical records: what a deal, an account or a stage is, whichever CRM it came from.

Every record is a frozen dataclass. A link to another record is that record's key, the text
``CONNECTION:native id`` (``salesforce:0065g00000AbCdEAAV``). Instants are aware UTC datetimes,
calendar days are dates that never shift, money is a ``Decimal`` in major units beside its
ISO 4217 currency code, ratios lie in 0..1. ``None`` means "not known", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import ClassVar, TypeAlias
from zoneinfo import ZoneInfo

Key: TypeAlias = str
"""The name of a record across CRMs: ``CONNECTION:native id``."""

Scalar: TypeAlias = str | int | Decimal | bool | date | datetime | None
"""A value of a mapped field."""

NO_EXTRA: Mapping[str, Scalar] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Company:
    """What the company's books are kept in: its zone decides days, its currency is the default."""

    timezone: ZoneInfo
    currency: str


@dataclass(frozen=True, slots=True, order=True)
class RecordRef:
    """The identity of one record: connection, canonical stream, native id."""

    connection: str
    stream: str
    native_id: str

    @property
    def key(self) -> Key:
        """The text by which other records link to this one."""
        return f"{self.connection}:{self.native_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalRecord:
    """One CRM record after mapping; the fields every stream has."""

    STREAM: ClassVar[str]

    ref: RecordRef
    created_at: datetime | None = None
    modified_at: datetime | None = None
    deleted: bool = False
    merged_into: Key | None = None
    extra: Mapping[str, Scalar] = field(default_factory=lambda: NO_EXTRA)
    """Fields of the user's own mapping that no canonical field carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(CanonicalRecord):
    """A company one sells to."""

    STREAM: ClassVar[str] = "accounts"

    name: str | None = None
    domain: str | None = None
    owner: Key | None = None
    parent: Key | None = None
    type: str | None = None
    industry: str | None = None
    segment: str | None = None
    region: str | None = None
    country: str | None = None
    employees: int | None = None
    annual_revenue: Decimal | None = None
    currency: str | None = None
    contract_end: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact(CanonicalRecord):
    """A person at an account."""

    STREAM: ClassVar[str] = "contacts"

    name: str | None = None
    email: str | None = None
    account: Key | None = None
    owner: Key | None = None
    source: str | None = None
    lifecycle_stage: str | None = None
    nps_score: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead(CanonicalRecord):
    """A person who may become a customer."""

    STREAM: ClassVar[str] = "leads"

    name: str | None = None
    email: str | None = None
    company: str | None = None
    owner: Key | None = None
    source: str | None = None
    status: str | None = None
    qualified_at: datetime | None = None
    converted_at: datetime | None = None
    converted_account: Key | None = None
    converted_contact: Key | None = None
    converted_deal: Key | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal(CanonicalRecord):
    """An opportunity to sell, open or closed."""

    STREAM: ClassVar[str] = "deals"

    name: str | None = None
    account: Key | None = None
    owner: Key | None = None
    pipeline: Key | None = None
    stage: Key | None = None
    is_closed: bool = False
    is_won: bool = False
    amount: Decimal | None = None
    currency: str | None = None
    """ISO 4217 code of `amount`; None: the company's currency."""
    close_date: date | None = None
    """The calendar day of closing; for an open deal the expected one."""
    closed_at: datetime | None = None
    """When a closed deal entered its closed stage; counts where `close_date` is missing."""
    probability: Decimal | None = None
    """A ratio, 0..1."""
    type: str | None = None
    kind: str | None = None
    """One of new, upsell, renewal, other."""
    source: str | None = None
    campaign: Key | None = None
    product: str | None = None
    segment: str | None = None
    region: str | None = None
    forecast_category: str | None = None
    lost_reason: str | None = None
    last_activity_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChange(CanonicalRecord):
    """A deal stood in `stage` from `at` on; neighbours may repeat a stage."""

    STREAM: ClassVar[str] = "deal_stage_changes"

    deal: Key
    stage: Key
    pipeline: Key | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DealContact(CanonicalRecord):
    """A person's part in a deal."""

    STREAM: ClassVar[str] = "deal_contacts"

    deal: Key
    contact: Key
    role: str | None = None
    is_primary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DealLine(CanonicalRecord):
    """One product line of a deal; money is in the deal's currency."""

    STREAM: ClassVar[str] = "deal_lines"

    deal: Key
    product: str | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    total: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign(CanonicalRecord):
    """A marketing effort with a cost."""

    STREAM: ClassVar[str] = "campaigns"

    name: str | None = None
    channel: str | None = None
    status: str | None = None
    parent: Key | None = None
    start_date: date | None = None
    end_date: date | None = None
    cost: Decimal | None = None
    budget: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignMember(CanonicalRecord):
    """A person touched by a campaign at an instant."""

    STREAM: ClassVar[str] = "campaign_members"

    campaign: Key
    contact: Key | None = None
    lead: Key | None = None
    status: str | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailStatistics(CanonicalRecord):
    """What became of one marketing e-mail on one day; a number that nobody knows is None."""

    STREAM: ClassVar[str] = "email_statistics"

    email: str
    """The CRM's id of the e-mail, or its name where it has none."""
    campaign: Key | None = None
    date: date
    sent: int | None = None
    delivered: int | None = None
    opens: int | None = None
    clicks: int | None = None
    unsubscribes: int | None = None
    bounces: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(CanonicalRecord):
    """Money spent on a day to win customers."""

    STREAM: ClassVar[str] = "costs"

    campaign: Key | None = None
    source: str | None = None
    date: date
    amount: Decimal
    currency: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket(CanonicalRecord):
    """A customer's request to the service team."""

    STREAM: ClassVar[str] = "tickets"

    subject: str | None = None
    account: Key | None = None
    contact: Key | None = None
    owner: Key | None = None
    category: str | None = None
    type: str | None = None
    priority: str | None = None
    """One of low, medium, high, urgent."""
    pipeline: Key | None = None
    status: str | None = None
    """The key of its stage where tickets stand in pipelines, else the status as it is called."""
    is_closed: bool = False
    closed_at: datetime | None = None
    first_response_at: datetime | None = None
    csat: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketStatusChange(CanonicalRecord):
    """A ticket stood in `status` from `at` on."""

    STREAM: ClassVar[str] = "ticket_status_changes"

    ticket: Key
    status: str
    is_closed: bool = False
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyResponse(CanonicalRecord):
    """One person's answer to a survey."""

    STREAM: ClassVar[str] = "survey_responses"

    kind: str | None = None
    """One of nps, csat, ces."""
    score: Decimal | None = None
    submitted_at: datetime
    account: Key | None = None
    contact: Key | None = None
    category: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract(CanonicalRecord):
    """A customer's running obligation."""

    STREAM: ClassVar[str] = "contracts"

    account: Key | None = None
    start_date: date | None = None
    end_date: date | None = None
    amount: Decimal | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner(CanonicalRecord):
    """A user of the CRM to whom records belong."""

    STREAM: ClassVar[str] = "owners"

    name: str | None = None
    email: str | None = None
    team: str | None = None
    manager: Key | None = None
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(CanonicalRecord):
    """One stage of a pipeline; `label` is for people, never for decisions."""

    STREAM: ClassVar[str] = "stages"

    pipeline: Key | None = None
    pipeline_label: str | None = None
    label: str | None = None
    position: int | None = None
    is_closed: bool = False
    is_won: bool = False
    probability: Decimal | None = None
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(CanonicalRecord):
    """From `date` on, one unit of `currency` is worth `rate` units of the company's currency."""

    STREAM: ClassVar[str] = "rates"

    currency: str
    date: date
    rate: Decimal


RECORD_TYPES: Mapping[str, type[CanonicalRecord]] = MappingProxyType(
    {
        record_type.STREAM: record_type
        for record_type in (
            Account,
            Contact,
            Lead,
            Deal,
            StageChange,
            DealContact,
            DealLine,
            Campaign,
            CampaignMember,
            EmailStatistics,
            Cost,
            Ticket,
            TicketStatusChange,
            SurveyResponse,
            Contract,
            Owner,
            Stage,
            Rate,
        )
    }
)
"""Canonical stream name -> record class."""


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that could not be mapped: the dead letter of a pull."""

    ref: RecordRef
    field: str | None
    reason: str
    """One sentence for people: what is wrong and what to do."""
    code: str
    """A stable short name of the fault, such as ``not_a_number``."""
    raw: str
    """The offending value (bounded in length), never a secret."""


@dataclass(frozen=True, slots=True)
class FieldUpdate:
    """One value to be written into one field of one CRM record."""

    connection: str
    object: str
    record_id: str
    field: str
    value: Scalar
    """Already rounded to the field's scale; None clears the field."""
    old: Scalar = None
    """The live value that was seen before the write."""
