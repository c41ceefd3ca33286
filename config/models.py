"""The configuration as frozen values; attributes are named as the YAML keys.

Every description here is also the key's paragraph for editors (`kpisync schema`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
)

from config.connections import Connection, StreamName
from config.errors import Path, Place, Problem
from config.locate import Places, Scalar
from config.scalars import (
    CALENDAR_PERIODS,
    Address,
    Boolean,
    Bounds,
    BrokerUrl,
    CrmName,
    Cron,
    Currency,
    DatabaseUrl,
    Duration,
    Host,
    HoursOfDay,
    Interval,
    Month,
    Name,
    Percent,
    Period,
    Rate,
    Schedule,
    Secret,
    Text,
    Threshold,
    TimeZone,
    Version,
    WeekStart,
    Word,
    fault,
    read_timezone,
    whole_number,
)
from config.section import Section

__all__ = ["CALENDAR_PERIODS", "Config", "Cron", "Interval"]

Count: TypeAlias = Annotated[int, whole_number(1)]
Digits: TypeAlias = Annotated[int, whole_number(0, 15)]


# ---------------------------------------------------------------- company


class ExchangeRates(Section):
    """Where exchange rates come from: one of the three."""

    source: Name | None = Field(default=None, alias="from")
    """The connection whose CRM keeps the rates."""
    file: Text | None = None
    """A CSV file with the columns currency, date, rate."""
    table: Mapping[Currency, Rate] = Field(default_factory=dict)
    """Units of the company's currency for one unit of each other currency."""


class BusinessHours(Section):
    """When the company works."""

    days: Text = "mon-fri"
    """Working days, such as mon-fri."""
    open: Text = "09:00"
    """When work begins."""
    close: Text = "17:00"
    """When work ends."""
    holidays: Text | None = None
    """A CSV file of days without work."""


class Company(Section):
    """What the company's books are kept in."""

    name: Text | None = None
    """For headings and reports."""
    currency: Currency = "USD"
    """The currency (ISO 4217) in which KPIs are published."""
    fx: ExchangeRates = ExchangeRates()
    """Exchange rates to the company's currency."""
    timezone: TimeZone = Field(default_factory=lambda: read_timezone("UTC"))
    """The IANA zone whose calendar days are counted."""
    fiscal_year_starts: Month = "january"
    """The month in which the fiscal year begins."""
    week_starts: WeekStart = "monday"
    """The first day of a week."""
    business_hours: BusinessHours = BusinessHours()
    """Working hours, for durations in business hours."""


# ---------------------------------------------------------------- identity


def _is_share(value: Decimal) -> Decimal:
    if not 0 <= value <= 1:
        raise fault("{value} is no share.", "Write a number from 0 to 1, or a percentage.")
    return value


Certainty: TypeAlias = Annotated[Threshold, AfterValidator(_is_share)]


class RecordMatch(Section):
    """One rule by which records of two CRMs are the same."""

    same: Text | None = None
    """Two fields that hold the same id."""
    domain: Text | None = None
    """A field that holds a web domain."""
    email: Text | None = None
    """A field that holds an e-mail address."""
    key: Text | None = None
    """A mapped field that holds a key of your own, such as a VAT or customer number."""
    ignore: tuple[Text, ...] = ()
    """Values that prove nothing, beside the free mailboxes that are known."""


class OwnerMatch(Section):
    """One rule by which users of two CRMs are the same person."""

    email: Literal["email"]
    """The same e-mail address, whatever its case."""


class RecordIdentity(Section):
    """How records of several CRMs are recognised as one."""

    match: tuple[RecordMatch, ...] = ()
    """Rules, the first that fits counts."""
    prefer: Name | None = None
    """The connection whose record stands for all, and whose values win; by default the first."""
    fields: Mapping[Word, Name] = Field(default_factory=dict)
    """Fields of which another connection's value is asked for first: canonical or own ones."""
    review_below: Certainty = Decimal("0.75")
    """How sure a match has to be (0..1, or a percentage); what is below waits for a person."""


class OwnerIdentity(Section):
    """How users of several CRMs are recognised as one person."""

    match: tuple[OwnerMatch, ...] = ()
    """Rules; without any, users are never merged across connections."""


class Identity(Section):
    """One customer, however many CRMs know it; nothing is matched without a rule."""

    accounts: RecordIdentity = RecordIdentity()
    """How accounts are matched."""
    contacts: RecordIdentity = RecordIdentity()
    """How contacts are matched."""
    deals: RecordIdentity = RecordIdentity()
    """How deals are matched."""
    owners: OwnerIdentity = OwnerIdentity()
    """How users are matched."""


# ---------------------------------------------------------------- KPIs

Pack: TypeAlias = Literal["sales", "marketing", "service", "customer"]
PeriodKind: TypeAlias = Literal[
    "day", "week", "month", "quarter", "year", "fiscal_month", "fiscal_quarter", "fiscal_year"
]


def _groupings(value: object) -> object:
    if isinstance(value, tuple):
        return tuple((item,) if isinstance(item, str) else item for item in value)
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise fault("A combination of dimensions is empty.", "Write it like [owner, region].")
    if len(set(value)) < len(value):
        raise fault("A dimension stands twice in this combination.", "Name each one once.")
    return value


Grouping: TypeAlias = Annotated[tuple[Word, ...], AfterValidator(_distinct)]
Groupings: TypeAlias = Annotated[
    tuple[Grouping, ...],
    BeforeValidator(_groupings, json_schema_input_type=tuple[str | tuple[str, ...], ...]),
]


class KpiSettings(Section):
    """What is particular about one KPI."""

    by: Groupings | None = None
    """Dimensions to group by; a list in the list is a combination; [] is the total alone."""
    window: Duration | None = None
    """How long a customer stays active after a purchase."""
    models: tuple[Literal["first", "last", "linear", "primary"], ...] = ()
    """Attribution models."""
    costs: tuple[Text | Mapping[Text, Text], ...] = ()
    """Where acquisition costs come from."""
    clock: Literal["clock", "business_hours"] | None = None
    """Which hours count."""
    of: Literal["buyers", "customers"] | None = None
    """What a rate is a share of."""
    lifespan: Literal["observed", "churn"] | None = None
    """How the customer lifespan is estimated."""
    margin: Rate | None = None
    """The share of revenue that remains."""
    stalled_days: Count | None = None
    """After how many days without a stage change a deal is stalled."""
    answers: Literal["all", "latest"] | None = None
    """Which answers of a person count."""


class CustomKpi(Section):
    """A KPI of the company's own."""

    label: Text | None = None
    """For people."""
    of: StreamName
    """The records it counts."""
    date: Word | None = None
    """The field that decides the period; without it the value is that of now."""
    where: Text | None = None
    """Which records count (docs/custom-kpis.md)."""
    value: Text | None = None
    """What is counted, summed or ranked: count(where won), sum(amount), median(csat)."""
    numerator: Text | None = None
    """Of a ratio: what is counted or summed."""
    denominator: Text | None = None
    """Of a ratio: what it is divided by."""
    window: Duration | None = None
    """A rolling span instead of calendar periods."""
    by: Groupings | None = None
    """Dimensions to group by."""
    format: Literal["percent", "money", "number", "days", "hours"] | None = None
    """How it is shown; by default as what is counted."""


class Kpis(Section):
    """Which KPIs are kept, for which periods and groups."""

    use: tuple[Pack, ...] = ("sales", "customer")
    """Packs of KPIs."""
    skip: tuple[Word, ...] = ()
    """KPIs of those packs to leave out."""
    periods: tuple[PeriodKind, ...] = ("month", "quarter", "year")
    """Calendar periods to keep; `all` and `now` are always kept."""
    settings: Mapping[Word, KpiSettings] = Field(default_factory=dict)
    """KPI name: what is particular about it."""
    custom: Mapping[Word, CustomKpi] = Field(default_factory=dict)
    """KPIs of the company's own."""


class Target(Section):
    """What a KPI should reach."""

    period: Period
    """The period it is for: a kind (the running one), a label such as 2026-Q4, last_90d, now."""
    by: Word | None = None
    """A dimension each of whose groups is to reach it, or the one that `key` names."""
    key: Text | None = None
    """The group: SALESFORCE:ID of an owner, or a value such as EMEA."""
    at_least: Threshold | None = None
    """The value to reach, in the KPI's unit (28% of ratios)."""
    at_most: Threshold | None = None
    """The value not to pass."""
    warn_at: Threshold | None = None
    """The value that separates at risk from missed while the period runs."""
    owner: Text | None = None
    """Who answers for it; named where it is missed."""


def _several_targets(value: object) -> object:
    return (value,) if isinstance(value, Mapping) else value


Targets: TypeAlias = Annotated[
    tuple[Target, ...],
    BeforeValidator(_several_targets, json_schema_input_type=Target | tuple[Target, ...]),
]


class AlertRule(Section):
    """When to tell whom."""

    when: Literal[
        "target_missed",
        "stale",
        "failed",
        "quarantine",
        "guard",
        "writeback_failed",
        "difference",
        "configuration",
    ]
    """The event."""
    kpi: Word | None = None
    """The KPI concerned."""
    stream: Text | None = None
    """The stream concerned, or *."""
    after: Duration | None = None
    """How long it must last."""
    over: Percent | None = None
    """From which share on."""
    to: tuple[Name, ...]
    """Channels."""
    remind_every: Duration | None = None
    """How often to repeat it."""


class Alerts(Section):
    """Who is told about what."""

    channels: Mapping[Name, Secret] = Field(default_factory=dict)
    """Channel name: its URL."""
    rules: tuple[AlertRule, ...] = ()
    """When to tell whom; without rules every channel is told of everything but targets."""
    quiet: HoursOfDay | None = None
    """Hours in which nobody is told (22:00-06:00, in the company's zone); it is told after."""


# ---------------------------------------------------------------- write-back


def _when_empty(value: object) -> object:
    return "0" if value == 0 and not isinstance(value, bool) else value


class WrittenKpi(Section):
    """What stands in a CRM field."""

    kpi: Word
    """The KPI whose value is written."""
    period: Period | None = None
    """Its period: all, now, a kind (the running one), a label, last_90d; else as the KPI says."""
    by: Word | None = None
    """Another dimension than the record's own: `all`, or a field of the record such as owner."""
    show: Literal["number", "label", "words"] | None = None
    """What stands there: the number, the group's name (label), or the value in words."""
    band: Mapping[Text, Threshold] = Field(default_factory=dict)
    """Words for ranges of the value, each with the number (or percentage) from which it holds."""
    empty: Annotated[
        Literal["keep", "clear", "0"] | None,
        BeforeValidator(_when_empty, json_schema_input_type=Literal["keep", "clear", "0", 0]),
    ] = None
    """Where the KPI has no value: keep what stands there, clear it, or write 0."""


def _long_kpi(value: object) -> object:
    return {"kpi": value} if isinstance(value, str) else value


WrittenField: TypeAlias = Annotated[
    WrittenKpi, BeforeValidator(_long_kpi, json_schema_input_type=str | WrittenKpi)
]


class Guard(Section):
    """What a write-back may do in one pass without being asked."""

    max_records: Count | None = 2000
    """Most records written in one pass; more stops the write-back."""
    max_changed: Percent | None = None
    """Largest share of the held values that may be replaced or blanked in one pass."""
    never_blank: Boolean = True
    """Whether a value stays when the KPI has none any more."""
    max_shrink: Percent | None = Decimal("0.3")
    """Largest share by which the records behind the values may have shrunk since the last pass."""
    max_jump: Annotated[int, whole_number(2)] | None = 10
    """By this factor most values may not move in one pass."""
    range: Mapping[CrmName, Bounds] = Field(default_factory=dict)
    """Field: [lowest, highest] value that can be true, in the KPI's unit, instead of its own."""


class MatchedRecords(Section):
    """How records of an object of its own name what their KPIs are about."""

    field: CrmName
    """The field of the CRM's object that names it."""
    to: Word
    """What it names: account, contact, deal, ticket, campaign, owner, or another dimension."""
    of: Name | None = None
    """The connection whose record ids stand in the field; by default the object's own."""
    same: Word | None = None
    """A mapped field of those records that holds the same value; by default their id."""


_OBJECT_NAME = re.compile(r"[A-Za-z]\w{0,254}|[0-9]-[0-9]{1,15}", re.ASCII)
"""An API name, or HubSpot's number of an object (2-123)."""
_TARGET_HINT = "Write CONNECTION.OBJECT, such as salesforce.Account or hubspot.companies."


def _target(value: object) -> str:
    if not isinstance(value, str):
        raise fault("{value} is not CONNECTION.OBJECT.", _TARGET_HINT)
    connection, _, object_name = value.partition(".")
    if not connection or not _OBJECT_NAME.fullmatch(object_name):
        raise fault("{value} is not CONNECTION.OBJECT.", _TARGET_HINT)
    return str(value)


class Writeback(Section):
    """KPI values in fields of CRM records."""

    to: Annotated[
        str,
        BeforeValidator(_target, json_schema_input_type=str),
    ]
    """The records: CONNECTION.OBJECT."""
    every: Schedule = Interval(timedelta(days=1))
    """When to write: an interval or five cron fields in the company's zone."""
    fields: Annotated[Mapping[CrmName, WrittenField], Field(min_length=1)]
    """The CRM's API name of a field: the KPI that stands in it."""
    stamp: CrmName | None = None
    """A date or date-time field that tells as of when the values are."""
    approve: Literal["always", "first_time", "never"] = "first_time"
    """When a person must have approved the plan (`kpisync apply`)."""
    on_edit: Literal["restore", "keep"] = "restore"
    """What happens to a value that somebody edited in the CRM."""
    guard: Guard = Guard()
    """Limits that stop a write-back."""
    round: Mapping[CrmName, Digits] = Field(default_factory=dict)
    """Field: digits after the point, where the CRM field does not say."""
    match: MatchedRecords | None = None
    """For an object that is no account, contact, deal, ticket, campaign or user."""
    quiet: HoursOfDay | None = None
    """Hours in which nothing is written on schedule, in the company's zone: 22:00-06:00."""

    @property
    def connection(self) -> str:
        """The connection part of `to`."""
        return self.to.partition(".")[0]

    @property
    def object(self) -> str:
        """The object part of `to`."""
        return self.to.partition(".")[2]


class Sink(Section):
    """Another place for the metrics table."""

    type: Literal["postgres", "sqlite"]
    """What kind of database."""
    url: DatabaseUrl
    """Its address: postgresql://USER@HOST/NAME or sqlite:///FILE."""
    schema_name: Name | None = Field(default=None, alias="schema")
    """The database schema (PostgreSQL)."""
    table: Name = "kpi_values"
    """The table; it is made where it is missing, and only ever extended."""
    history: Literal["all", "current"] = "all"
    """Whether replaced values stay."""
    every: Schedule = Interval(timedelta(minutes=15))
    """When to copy what changed: an interval or five cron fields in the company's zone."""


# ---------------------------------------------------------------- operation


class Security(Section):
    """What is allowed beyond the safe defaults."""

    allow_hosts: tuple[Host, ...] = ()
    """Hosts (or host:port) that a connection's base_url may name, plain http included."""


class Advanced(Section):
    """Fine tuning; the defaults are right for almost everybody."""

    lookback: Duration | None = None
    """Overlap that each pull reads again for late writes (Salesforce 15m, HubSpot 10m)."""
    index_lag: Duration | None = None
    """How far the CRM's search index may trail."""
    connect_timeout: Duration = timedelta(seconds=5)
    """Longest wait for a connection."""
    read_timeout: Duration = timedelta(seconds=60)
    """Longest silence of the CRM within a call."""
    total_timeout: Duration = timedelta(minutes=5)
    """Longest time of one call, its retries included."""
    retry_attempts: Annotated[int, whole_number(1, 100)] = 5
    """Attempts of one call."""
    retry_wait: Duration = timedelta(seconds=1)
    """Wait before the second attempt; it doubles each time."""
    retry_wait_max: Duration = timedelta(minutes=1)
    """Longest wait between attempts in one process."""
    pause_min: Duration | None = None
    """Shortest pause of a stream that ran out of quota."""
    lease: Duration = timedelta(seconds=45)
    """How long a worker holds a stream or write-back without a sign of life."""
    step_rows: Annotated[int, whole_number(1, 1_000_000)] = 2000
    """Values computed in one transaction."""
    page_size: Annotated[int, whole_number(1, 10_000)] | None = None
    """Records a page; by default the most the CRM gives."""
    push_batch: Annotated[int, whole_number(1, 10_000)] | None = None
    """Records a write call; by default the most the CRM takes."""
    canary: Annotated[int, whole_number(0, 10_000)] = 20
    """Records written first and read back before the rest."""
    sweep: Duration | None = None
    """How often links are compared."""
    keep_outbox: Duration = timedelta(days=30)
    """How long settled writes stay listed."""
    keep_history: Duration = timedelta(days=400)
    """How long former states of records are kept, which `explain --changes` needs."""
    verify_at: Schedule = Cron("30 2 * * *")
    """When a share of the values is recomputed from the records and compared."""
    verify_nights: Annotated[int, whole_number(0, 366)] = 7
    """In how many such rounds everything is verified once; 0: never."""


class Config(Section):
    """Everything a kpisync installation is told."""

    version: Version = 1
    """The version of this format: 1."""
    database: DatabaseUrl = Address("sqlite:///kpisync.db")
    """Where everything is remembered: sqlite:///FILE or postgresql://USER@HOST/NAME."""
    broker: BrokerUrl = Address("")
    """The Redis of server mode; empty for embedded mode."""
    company: Company = Company()
    """What the company's books are kept in."""
    connections: Mapping[Name, Connection]
    """The CRMs to read, by names of your choice."""
    identity: Identity = Identity()
    """How records that several CRMs know are recognised as one."""
    kpis: Kpis = Kpis()
    """Which KPIs are kept."""
    targets: Mapping[Word, Targets] = Field(default_factory=dict)
    """What KPIs should reach."""
    alerts: Alerts = Alerts()
    """Who is told about what."""
    writebacks: Mapping[Name, Writeback] = Field(default_factory=dict)
    """KPI values in fields of CRM records, by names of your choice."""
    sinks: Mapping[Name, Sink] = Field(default_factory=dict)
    """Other places for the metrics table."""
    security: Security = Security()
    """What is allowed beyond the safe defaults."""
    advanced: Advanced = Advanced()
    """Fine tuning."""

    _places: Places = PrivateAttr(
        default_factory=lambda: Places(Scalar(Place("kpisync.yaml", 1, 1), "", is_plain=True))
    )

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """Where the value at `path` is written (with `key`: where its key is).

        A path that the file leaves out has the place of the nearest key that is written.
        """
        return self._places.locate(path, key=key)

    def problem(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> Problem:
        """A problem at `path`, for faults that only show when the CRM or the catalogue is known.

        With `key` the fault is the last key of `path` itself (an unknown field, say): the place
        is the key's, the path shown is the mapping's.
        """
        place = self.locate(path, key=key)
        return Problem.at(place, path[:-1] if key else path, message, hint)
