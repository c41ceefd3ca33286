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
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SecretStr,
    Tag,
    model_validator,
)

from config.errors import Path, Place, Problem
from config.installed import BUILT_IN, further_types
from config.locate import Places, Scalar
from config.scalars import (
    CALENDAR_PERIODS,
    Address,
    Boolean,
    Bounds,
    BrokerUrl,
    CrmName,
    CrmObject,
    CrmPath,
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
    PercentOrCount,
    Period,
    Rate,
    Reads,
    Schedule,
    Secret,
    Text,
    Threshold,
    TimeZone,
    Version,
    WebAddress,
    WeekStart,
    Word,
    fault,
    read_text,
    read_timezone,
    whole_number,
)

__all__ = ["CALENDAR_PERIODS", "Config", "Cron", "Interval"]

Count: TypeAlias = Annotated[int, whole_number(1)]
Digits: TypeAlias = Annotated[int, whole_number(0, 15)]


class Section(BaseModel):
    """A mapping of the configuration; a key without a value means its defaults."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: object) -> object:
        return {} if value is None else value


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


# ---------------------------------------------------------------- connections

FieldType: TypeAlias = Literal[
    "text", "integer", "number", "money", "percent", "date", "datetime", "boolean", "ref"
]


def _natives(value: object) -> object:
    return (value,) if isinstance(value, str) else value


NativeValues: TypeAlias = Annotated[
    tuple[Text, ...],
    BeforeValidator(
        _natives,
        json_schema_input_type=str | tuple[str, ...],
    ),
]


class FieldSource(Section):
    """Where a field of a stream comes from."""

    source: CrmPath = Field(alias="from")
    """The CRM's API name of the field, or a path to a parent's field (Account.Region__c)."""
    type: FieldType | None = None
    """How to read it; by default as the CRM describes the field."""
    values: Mapping[Text, NativeValues] = Field(default_factory=dict)
    """Canonical value: the CRM's values that mean it; what is not listed stays as it is."""
    required: Boolean = False
    """Whether the stream pauses when the field vanishes or becomes unreadable."""

    def canonical_values(self) -> Mapping[str, str]:
        """CRM value -> canonical value."""
        return {
            native: canonical for canonical, natives in self.values.items() for native in natives
        }


def _long_source(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


MappedField: TypeAlias = Annotated[
    FieldSource, BeforeValidator(_long_source, json_schema_input_type=str | FieldSource)
]

CONFIGURABLE_STREAMS = (
    "accounts", "contacts", "leads", "deals", "campaigns", "campaign_members",
    "email_statistics", "costs", "tickets", "survey_responses", "contracts",
)  # fmt: skip
IMPLIED_STREAMS: Mapping[str, str] = {
    "owners": "the connection", "stages": "deals", "deal_stage_changes": "deals",
    "deal_contacts": "deals", "deal_lines": "deals", "ticket_status_changes": "tickets",
    "rates": "company.fx",
}  # fmt: skip
StreamName: TypeAlias = Literal[
    "accounts", "contacts", "leads", "deals", "campaigns", "campaign_members",
    "email_statistics", "costs", "tickets", "survey_responses", "contracts",
]  # fmt: skip


class Stream(Section):
    """What is read of one kind of record; standard fields map themselves."""

    object: CrmObject | None = None
    """The CRM's own name of the object."""
    where: Text | None = None
    """An additional filter, in the CRM's own language."""
    pipelines: tuple[Text, ...] = ()
    """Labels or ids of the pipelines to read; all of them by default."""
    fields: Mapping[Word, MappedField] = Field(default_factory=dict)
    """Own mappings: a canonical or own field name, and where it comes from."""
    touch: Literal["created", "responded"] | None = None
    """What counts as a campaign touch."""
    converted_stage: Text | None = None
    """The lifecycle stage at which a lead counts as converted."""
    api: Literal["rest", "bulk"] | None = None
    """Salesforce: read by REST pages or by Bulk API 2.0; by default whichever is cheaper."""


class Limits(Section):
    """How much of the CRM's quota this connection may use."""

    daily_calls: PercentOrCount | None = None
    """Calls in any 24 hours, as a number or a share of the org's limit."""


def _default_streams() -> dict[StreamName, Stream]:
    return {"accounts": Stream(), "deals": Stream()}


class ConnectionSection(Section):
    """What connections to every CRM have in common."""

    base_url: WebAddress | None = None
    """Another address for the CRM (sandbox, proxy); its host must be in security.allow_hosts."""
    api_version: Text | None = None
    """The version of the CRM's API, in quotes."""
    limits: Limits = Limits()
    """How much of the CRM's quota may be used."""
    every: Schedule = Interval(timedelta(minutes=15))
    """When to pull changes: an interval (15m) or five cron fields in the company's zone."""
    full_refresh: Schedule = Cron("0 3 * * SUN")
    """When to read everything again, to find hard deletions and lost links."""
    streams: Mapping[StreamName, Stream] = Field(default_factory=_default_streams)
    """What to read; accounts and deals by default. Owners, stages and histories are implied."""


class AuthSection(Section):
    """Credentials; secrets by reference (${VAR}, ${file:/path})."""

    def resolved(self) -> dict[str, str]:
        """Every credential in plain text, by its key, `flow` included; never log this."""
        found: dict[str, str] = {}
        for name, value in self:
            if isinstance(value, SecretStr):
                found[name] = value.get_secret_value()
            elif value is not None:
                found[name] = str(value)
        return found


class SalesforceClientCredentials(AuthSection):
    """OAuth client credentials of an external client app."""

    flow: Literal["client_credentials"]
    """Which way of logging in; it decides the other keys."""
    domain: Text | None = None
    """The org's My Domain without .salesforce.com: acme.my."""
    client_id: Secret
    """The consumer key of the external client app."""
    client_secret: Secret
    """The consumer secret of the external client app."""


class SalesforceJwt(AuthSection):
    """OAuth JWT bearer with a certificate."""

    flow: Literal["jwt"]
    """Which way of logging in; it decides the other keys."""
    domain: Text | None = None
    """The org's My Domain without .salesforce.com."""
    username: Secret
    """The integration user."""
    client_id: Secret
    """The consumer key."""
    private_key: Secret
    """The private key in PEM form."""


class SalesforceToken(AuthSection):
    """A ready access token."""

    flow: Literal["token"]
    """Which way of logging in; it decides the other keys."""
    access_token: Secret
    """The token or session id."""
    instance_url: WebAddress | None = None
    """The org's address: https://acme.my.salesforce.com."""


class SalesforcePassword(AuthSection):
    """SOAP login (legacy)."""

    flow: Literal["password"]
    """Which way of logging in; it decides the other keys."""
    domain: Text | None = None
    """login, test or the org's My Domain."""
    username: Secret
    """The integration user."""
    password: Secret
    """Its password."""
    security_token: Secret | None = None
    """Its security token."""


class HubspotToken(AuthSection):
    """A service key or private app token."""

    flow: Literal["token"]
    """Which way of logging in; it decides the other keys."""
    token: Secret
    """The token (pat-...)."""
    webhook_secret: Secret | None = None
    """The client secret of the app whose webhooks ring at /hooks/NAME of `kpisync web`."""


class HubspotRefreshToken(AuthSection):
    """OAuth with a refresh token."""

    flow: Literal["refresh_token"]
    """Which way of logging in; it decides the other keys."""
    client_id: Secret
    """The app's client id."""
    client_secret: Secret
    """The app's client secret."""
    refresh_token: Secret
    """The refresh token."""
    webhook_secret: Secret | None = None
    """The client secret of the app whose webhooks ring at /hooks/NAME; by default the same."""


def _tag(value: object, key: str) -> str | None:
    chosen = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
    return f"{key}={chosen}" if isinstance(chosen, str) else None


def _flow_of(value: object) -> str | None:
    return _tag(value, "flow")


def _type_of(value: object) -> str | None:
    tag = _tag(value, "type")
    is_further = tag is not None and tag.removeprefix("type=") in further_types()
    return FURTHER_TYPE if is_further else tag


UNKNOWN_FLOW = "unknown_flow"
UNKNOWN_TYPE = "unknown_type"
FURTHER_TYPE = "type=..."
"""The tag of connections whose type another package brings."""

SalesforceAuth: TypeAlias = Annotated[
    Annotated[SalesforceClientCredentials, Tag("flow=client_credentials")]
    | Annotated[SalesforceJwt, Tag("flow=jwt")]
    | Annotated[SalesforceToken, Tag("flow=token")]
    | Annotated[SalesforcePassword, Tag("flow=password")],
    Discriminator(_flow_of, custom_error_type=UNKNOWN_FLOW, custom_error_message="unknown flow"),
]
HubspotAuth: TypeAlias = Annotated[
    Annotated[HubspotToken, Tag("flow=token")]
    | Annotated[HubspotRefreshToken, Tag("flow=refresh_token")],
    Discriminator(_flow_of, custom_error_type=UNKNOWN_FLOW, custom_error_message="unknown flow"),
]


class FileColumn(FieldSource):
    """Which column of a file a field of a stream is read from."""

    source: Text = Field(alias="from")
    """The column's heading, or the key of a JSON line."""
    of: Name | None = None
    """For a link: the connection whose record ids stand in the column."""


MappedColumn: TypeAlias = Annotated[
    FileColumn, BeforeValidator(_long_source, json_schema_input_type=str | FileColumn)
]


def _columns_of_key(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FileStream(Stream):
    """Files that hold one kind of record."""

    object: Text | None = None
    """Which files, by a pattern within the folder (costs-*.csv); by default STREAM.*."""
    fields: Mapping[Word, MappedColumn] = Field(default_factory=dict)
    """Own mappings; columns that are headed like a field map themselves."""
    key: Annotated[
        tuple[Text, ...],
        BeforeValidator(_columns_of_key, json_schema_input_type=str | tuple[str, ...]),
    ] = ()
    """Columns that tell rows apart; by default id, or all columns together."""
    snapshot: Boolean = True
    """Whether the files hold all records: a row that is gone then means a deletion."""
    encoding: Text | None = None
    """Of text files; by default UTF-8, or what their first bytes say, or Windows-1252."""
    delimiter: Text | None = None
    """Between the cells of a CSV file; by default found out."""
    decimal: Literal[".", ","] = "."
    """The decimal mark; with a comma, points and spaces group thousands."""


class QueryStream(Stream):
    """Rows of a query that are one kind of record."""

    query: Text
    """One SELECT; its columns are what fields are mapped from."""
    fields: Mapping[Word, MappedColumn] = Field(default_factory=dict)
    """Own mappings; columns that are named like a field map themselves."""
    key: Text = "id"
    """The column that tells rows apart."""
    cursor: Text | None = None
    """A column that rises with every change (an instant or a number); without it all rows are
    read each time, and rows that are gone are deletions."""


class SqlAuth(AuthSection):
    """How to reach a database."""

    url: Secret
    """An SQLAlchemy URL: postgresql+psycopg://READER:PASSWORD@HOST/NAME; its driver is installed
    by you."""


class SqlConnection(ConnectionSection):
    """Queries on a database, read only."""

    type: Literal["sql"]
    """What kind of source this is."""
    auth: SqlAuth
    """How to log in."""
    streams: Mapping[StreamName, QueryStream] = Field(min_length=1)
    """What the queries bring."""


class NoAuth(AuthSection):
    """Nothing to log in to."""


class FilesConnection(ConnectionSection):
    """Files in a folder: CSV, JSON lines, Parquet."""

    type: Literal["files"]
    """What kind of source this is."""
    folder: Text
    """Where the files are; relative to the configuration file."""
    streams: Mapping[StreamName, FileStream] = Field(min_length=1)
    """What the files hold."""
    auth: NoAuth = NoAuth()
    """Files need none."""


class SalesforceConnection(ConnectionSection):
    """One Salesforce org."""

    type: Literal["salesforce"]
    """Which CRM this is."""
    auth: SalesforceAuth
    """How to log in."""


class HubspotConnection(ConnectionSection):
    """One HubSpot account."""

    type: Literal["hubspot"]
    """Which CRM this is."""
    auth: HubspotAuth
    """How to log in."""


class FurtherAuth(AuthSection):
    """Credentials by the names that the connector's own documentation gives."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Secret]

    flow: Text | None = None
    """Which way of logging in, where there are several; the one key here that is no secret."""


class FurtherStream(Stream):
    """What a connector of another package reads of one kind of record."""

    object: Text | None = None
    """The source's own name of the object."""
    fields: Mapping[Word, MappedColumn] = Field(default_factory=dict)
    """Own mappings: a canonical or own field name, and where it comes from."""
    options: Mapping[Word, Text] = Field(default_factory=dict)
    """What the connector's own documentation names; kpisync passes it through."""


def _no_credentials() -> FurtherAuth:
    return FurtherAuth.model_validate({})


def _default_further_streams() -> dict[StreamName, FurtherStream]:
    return {"accounts": FurtherStream(), "deals": FurtherStream()}


class FurtherConnection(ConnectionSection):
    """A connection whose type another package brings (docs/writing-a-connector.md)."""

    type: Annotated[
        str, Reads(read_text, {"type": "string", "minLength": 1, "not": {"enum": list(BUILT_IN)}})
    ]
    """What kind of source this is."""
    auth: FurtherAuth = Field(default_factory=_no_credentials)
    """How to log in."""
    options: Mapping[Word, Text] = Field(default_factory=dict)
    """Types of other packages: what the connector's own documentation names."""
    streams: Mapping[StreamName, FurtherStream] = Field(default_factory=_default_further_streams)
    """What to read; accounts and deals by default."""


Connection: TypeAlias = Annotated[
    Annotated[SalesforceConnection, Tag("type=salesforce")]
    | Annotated[HubspotConnection, Tag("type=hubspot")]
    | Annotated[FilesConnection, Tag("type=files")]
    | Annotated[SqlConnection, Tag("type=sql")]
    | Annotated[FurtherConnection, Tag(FURTHER_TYPE)],
    Discriminator(_type_of, custom_error_type=UNKNOWN_TYPE, custom_error_message="unknown type"),
]


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
        "target_missed", "stale", "failed", "quarantine", "guard", "writeback_failed", "difference"
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
