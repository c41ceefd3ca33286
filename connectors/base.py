"""The seam between the product and a CRM: what a connector is given and what it promises.

Together with ``store.canonical`` this module is the public surface for third-party connectors.
They register a factory ``connect(settings: ConnectionSettings) -> Connector`` under the
entry-point group ``kpisync.connectors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NewType, Protocol, runtime_checkable

from store.canonical import (
    CanonicalRecord,
    Company,
    FieldUpdate,
    RecordRef,
    RejectedRecord,
    Scalar,
    Stage,
)

Cursor = NewType("Cursor", str)
"""A position in a stream as JSON text; opaque outside the connector that made it."""


# ---------------------------------------------------------------- what a connector is given


@dataclass(frozen=True, slots=True)
class FieldSource:
    """Where one canonical (or own) field of a stream comes from."""

    source: str
    """The CRM's own name of the field, or a path to a parent's field (``Account.Region__c``)."""
    type: str | None = None
    """One of text, integer, number, money, percent, date, datetime, boolean, ref."""
    values: Mapping[str, str] = field(default_factory=dict)
    """CRM value -> canonical value; a value that is not listed stays as it is."""
    required: bool = False
    of: str | None = None
    """For a link: the connection whose record ids these are; None: this one."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What the configuration says of one stream; everything unsaid is the connector's default."""

    object: str | None = None
    where: str | None = None
    """An additional filter in the CRM's own language."""
    pipelines: tuple[str, ...] = ()
    """Labels or ids of the pipelines to read; empty means all."""
    fields: Mapping[str, FieldSource] = field(default_factory=dict)
    api: str | None = None
    """Which of the CRM's ways to read (Salesforce: rest, bulk); None: the connector chooses."""
    touch: str = "created"
    """Campaign members: what counts as the touch, created or responded."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What only this kind of connection knows, by the names of the configuration."""
    converted_stage: str | None = None
    """Leads made from lifecycle stages: the stage at which one counts as converted."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The ``advanced:`` section as far as connectors care; spans are timedeltas."""

    lookback: timedelta | None = None
    """Overlap re-read for late writes; None: the connector's own default."""
    connect_timeout: timedelta = timedelta(seconds=5)
    read_timeout: timedelta = timedelta(seconds=60)
    total_timeout: timedelta = timedelta(seconds=300)
    """Bound on one call including its retries."""
    retry_attempts: int = 5
    retry_wait: timedelta = timedelta(seconds=1)
    retry_wait_max: timedelta = timedelta(seconds=60)
    page_size: int | None = None
    """Records a page; None: the largest the CRM allows."""
    push_batch: int | None = None
    """Records a write call; None: the largest the CRM allows."""
    index_lag: timedelta | None = None
    """Overlap for a search index that lags behind writes; None: the connector's own default."""
    pause_min: timedelta | None = None
    """Shortest pause when the CRM's quota is used up; None: the connector's own default."""
    sweep: timedelta = timedelta(days=1)
    """How often what changes without a modification mark is read again: links, calculated
    fields."""


class Purpose(StrEnum):
    """What an API call is made for; reading leaves a reserve of the quota to writing."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class DailyCalls:
    """How much of the CRM's daily calls a connection may use: one of the two is set."""

    share: Decimal | None = None
    """A ratio of the org's own limit, 0..1."""
    calls: int | None = None
    """A number of calls in any 24 hours."""


class CallLedger(Protocol):
    """The calls of one connection in the last 24 hours, counted over all processes.

    None of its methods raises when the store is away: each process then counts alone.
    """

    def add(self, calls: int, purpose: Purpose) -> None:
        """Count calls that were just made."""
        ...

    def used(self) -> int:
        """Calls of this connection within the last 24 hours, for either purpose."""
        ...

    def note_org(self, used: int, limit: int) -> None:
        """Keep what the CRM itself says: calls of the whole org in its window, and its limit."""
        ...


@runtime_checkable
class TellsWhenFree(Protocol):
    """A ledger that knows when its calls leave the window."""

    def free_at(self, calls: int) -> datetime | None:
        """When at least so many of the calls counted now will be older than 24 hours.

        Returns:
            None where there are not so many, or nobody knows.
        """
        ...


class TokenVault(Protocol):
    """One access token for all processes of a connection, encrypted where it is kept."""

    def token(
        self, log_in: Callable[[], Mapping[str, str]], *, refused: str | None = None
    ) -> Mapping[str, str]:
        """The shared token, or a new one when there is none, or when it is the `refused` one.

        Args:
            log_in: Fetches a new token: a mapping with the key ``access_token`` and whatever
                belongs to it (``instance_url``, ``refresh_token``, ``expires_at`` ...). Called
                under a lock that all processes of the connection share.
            refused: The ``access_token`` that the CRM no longer accepts.

        Raises:
            ConnectorError: what `log_in` raised.
        """
        ...


class Notes(Protocol):
    """A connector's own small durable notes, such as the id of a job that is under way."""

    def get(self, name: str) -> str | None:
        """What was noted under a name."""
        ...

    def put(self, name: str, text: str) -> None:
        """Note a text, durable when this returns."""
        ...

    def drop(self, name: str) -> None:
        """Forget a note."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """One configured CRM tenant, with its secrets resolved."""

    name: str
    type: str
    auth: Mapping[str, str] = field(repr=False)
    company: Company
    streams: Mapping[str, StreamSettings]
    base_url: str | None = None
    """Another address for every host of the CRM (sandbox, proxy), already checked as allowed."""
    api_version: str | None = None
    tuning: Tuning = Tuning()
    limits_storage: str = "memory://"
    """Where shared rate limits are counted (a storage URI of the library ``limits``)."""
    on_wait: Callable[[str, float], None] | None = None
    """Told (reason, seconds) before the connector sleeps, so that no wait is silent."""
    gives_rates: bool = False
    """The company's exchange rates are those of this CRM (``company.fx.from``)."""
    rated: frozenset[str] | None = frozenset()
    """Currencies that have rates from elsewhere (``company.fx``); None: whichever it may be."""
    written_objects: frozenset[str] | None = None
    """The CRM's objects that write-backs name; None: nobody says."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What only this kind of connection knows, by the names of the configuration."""
    daily_calls: DailyCalls | None = None
    """What this connection may use; None: up to 90 % of the org's own limit."""
    ledger: CallLedger | None = field(default=None, repr=False)
    """None: this process counts alone."""
    tokens: TokenVault | None = field(default=None, repr=False)
    """None: each process logs in for itself."""
    notes: Notes | None = field(default=None, repr=False)
    """None: what is noted is forgotten with the process."""


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Stream:
    """One readable kind of record."""

    name: str
    """Its canonical name, also that of its checkpoint."""
    object: str
    """The CRM's own name of it."""
    yields: tuple[str, ...]
    """Canonical streams whose records its pages carry, its own first."""
    dependents: tuple[tuple[str, str], ...] = ()
    """Of these, the streams whose records go with the one they name, and their field that does.

    Only where reading a record again brings them back.
    """


@dataclass(frozen=True, slots=True)
class WholeFamily:
    """All children of some parents, as links that leave no trace when they are cut need it.

    Example: ``WholeFamily("deal_contacts", "deal", ("hubspot:1", "hubspot:2"))`` on a page with
    every `DealContact` these two deals have now.
    """

    stream: str
    """The children's canonical stream."""
    link: str
    """Their field that names the parent."""
    parents: Sequence[str]
    """Keys of the parents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one step of a pull brought back; committed as one transaction with its cursor."""

    records: Sequence[CanonicalRecord]
    deleted: Sequence[RecordRef] = ()
    """Records the CRM reports as deleted without showing them."""
    rejected: Sequence[RejectedRecord] = ()
    resume_at: Cursor | None
    """Where a later pull goes on; None: an interrupted pull starts this stream again."""
    complete_until: datetime | None = None
    """Set on the last page: the CRM's clock up to which the stream is now complete."""
    total: int | None = None
    """How many records the whole pull will bring, where the CRM says so (for progress)."""
    warnings: Sequence[str] = ()
    """Sentences for people: optional fields that are missing, stages nobody knows."""
    brought_all: bool = True
    """On the last page of a full pull: what no page brought is gone. False where the CRM has
    nothing to look at (an object without its licence): what is stored stays."""
    doubt: str = ""
    """On the last page of a full pull: why what no page brought may be there all the same ("2
    line(s) could not be read"). Nothing is removed then until a person says so."""
    whole: Sequence[WholeFamily] = ()
    """Parents all of whose children of one stream are in `records`: other children are gone."""
    unreadable: frozenset[str] = frozenset()
    """Mapped fields of the stream's own records that the CRM does not show now; what is stored
    of them stays: a lost permission is no empty value."""
    volatile: Mapping[str, str] = field(default_factory=dict)
    """Mapped fields that may change without their record being reported as changed (formulas,
    roll-ups, parents' fields), with the CRM's names of their sources."""


# ---------------------------------------------------------------- writing


class PushOutcome(StrEnum):
    """What became of one update."""

    WRITTEN = "written"
    FAILED = "failed"
    """Refused for good: park it with the CRM's words."""
    RETRY = "retry"
    """Refused for now (row lock, rate): send it again later."""
    GONE = "gone"
    """The record does not exist any more."""
    UNKNOWN = "unknown"
    """No answer came for it: read it back before anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """The CRM's answer to one update."""

    update: FieldUpdate
    outcome: PushOutcome
    code: str | None = None
    message: str | None = None
    """The CRM's own words."""


class FieldType(StrEnum):
    """Types of CRM fields that write-back understands."""

    NUMBER = "number"
    PERCENT = "percent"
    CURRENCY = "currency"
    TEXT = "text"
    DATE = "date"
    DATETIME = "datetime"
    CHECKBOX = "checkbox"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetField:
    """A field of a CRM object as the run-time user sees it."""

    name: str
    label: str
    type: FieldType
    writable: bool
    precision: int | None = None
    """Digits in all; None: unlimited."""
    scale: int | None = None
    """Digits after the point; None: not limited by the field."""
    length: int | None = None
    ratio_factor: int = 1
    """100 where a ratio of 0.5 is stored as 50 (Salesforce Percent)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewField:
    """A KPI field that `setup` wants to exist."""

    name: str
    label: str
    help_text: str
    type: FieldType
    precision: int = 18
    scale: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupResult:
    """What `setup` did, or would do, about one field."""

    field: str
    outcome: str
    """One of created, granted, present, would_create, manual, conflict."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecord:
    """The values a CRM record holds now."""

    asked_id: str
    record_id: str
    """Differs from `asked_id` when the record was merged into another."""
    values: Mapping[str, Scalar]


# ---------------------------------------------------------------- the connector


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """How this CRM differs from others, as data."""

    push_batch: int
    """Most records one write call takes."""
    push_bulk_from: int | None = None
    """From so many records on, `push` writes a whole lot by a job instead of by calls of
    `push_batch` records; None: it never does. Only lots that are handed over in one piece can."""
    push_bulk_batch: int | None = None
    """Most records to hand over in one piece where a job is wanted."""
    sees_deletions: bool
    """Increments report deletions; otherwise only a full pull finds them."""
    stream_objects: Mapping[str, str]
    """Canonical stream -> default native object, for every stream it can read."""
    object_streams: Mapping[str, str]
    """Native object that can be written -> canonical stream of its records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something `check` found."""

    place: str
    message: str
    remedy: str
    is_error: bool = True
    absent_stream: str | None = None
    """The stream that brings no records as things are (its object lacks a licence or right)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The connector's view of its connection."""

    org_id: str | None
    problems: Sequence[Problem] = ()

    @property
    def is_ok(self) -> bool:
        """No problem is an error."""
        return not any(problem.is_error for problem in self.problems)


@dataclass(slots=True)
class CallCounter:
    """Counts API calls; the least a perfect client would have needed stands beside it."""

    made: int = 0
    minimum: int = 0
    """What the answers so far would have cost at the CRM's largest page and batch sizes."""


class Connector(Protocol):
    """One connection to one CRM; knows nothing of KPIs, tables or Celery.

    Errors above this seam are only those of ``connectors.errors``.
    """

    capabilities: Capabilities
    calls: CallCounter

    def check(self) -> CheckReport:
        """Authenticate, look at every mapped object and field, and report what is wrong.

        Never raises for what it looks at: a refused login is a problem in the report.
        """
        ...

    def streams(self) -> Sequence[Stream]:
        """The streams this connection reads, in the order in which to pull them.

        Owners and stages come before accounts, accounts before deals.
        """
        ...

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read a stream: everything (None), from a date on, or from a cursor on.

        Yields at least one page; the last one carries `complete_until`. Every record that the
        CRM showed when the pull began is in some page's records, deleted or rejected. A pull
        that is stopped after any page goes on from that page's `resume_at`.
        """
        ...

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Write values, of any number of records; the connector cuts them into calls or jobs.

        Returns exactly one result for each update, whatever the CRM answered.
        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


@runtime_checkable
class KnowsItsOrg(Protocol):
    """A connector that can name its tenant without looking at every object as `check` does."""

    def org_id(self) -> str | None:
        """The id of the org or portal that the credentials lead to; None where the CRM hides it.

        Raises:
            ConnectorError: the CRM cannot be reached or refuses the credentials.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What days and money mean in a tenant, as far as its CRM tells; None: it does not."""

    name: str | None = None
    """The company's name."""
    timezone: str | None = None
    """The IANA zone of its days."""
    currency: str | None = None
    """The ISO 4217 code of its own currency."""
    more_currencies: tuple[str, ...] = ()
    """Codes of the others in which it keeps amounts."""
    gives_rates: bool = False
    """Whether its exchange rates may be read."""
    fiscal_year_starts: int | None = None
    """The month (1..12)."""


@runtime_checkable
class KnowsItsBooks(Protocol):
    """A connector whose CRM tells what a first configuration would otherwise have to ask."""

    def books(self) -> Books:
        """Name, zone, currencies and fiscal year; what may not be seen is left out.

        Raises:
            ConnectorError: the CRM cannot be reached or refuses the credentials.
        """
        ...


@runtime_checkable
class CountsRecords(Protocol):
    """A connector that can be asked how many records a full pull should have brought."""

    def count(self, stream: Stream, until: datetime) -> int | None:
        """Live records of a stream's own kind created up to an instant, filters applied.

        Returns:
            None where the CRM has no such count, or the stream has no such records.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IdPage:
    """A part of the ids of all live records of a stream."""

    refs: Sequence[RecordRef]
    explained: Sequence[RecordRef] = ()
    """Records the CRM itself reports as deleted, archived or merged: these may vanish."""
    total: int | None = None


@runtime_checkable
class ListsIds(Protocol):
    """A connector that can list ids alone, so that a reconciliation need not read all records.

    Finds what left no trace: hard deletions, erasures, rows that an increment never saw.
    """

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        """Ids of all records that were live when the listing began; None: read them in full."""
        ...

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        """Records by id; one that does not exist any more is left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredField:
    """A field of a CRM object, for people who write a mapping."""

    name: str
    label: str
    type: str
    """The CRM's own word for its type."""
    is_custom: bool = False
    is_calculated: bool = False
    filled: int | None = None
    """Of the sampled records, how many hold a value."""
    sample: str | None = None
    """One value, masked: enough to recognise it, not enough to identify a person."""
    values: Sequence[str] = ()
    """Options of a choice, at most 50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredObject:
    """A CRM object, for people who write a mapping."""

    name: str
    label: str
    stream: str | None = None
    """The canonical stream it is read as by default."""
    count: int | None = None
    sampled: int = 0
    """Records looked at for `filled` and `sample`."""
    fields: Sequence[DiscoveredField] = ()
    stages: Sequence[Stage] = ()
    """Pipelines and stages with their closed and won flags, where the object has them."""


@runtime_checkable
class Discovers(Protocol):
    """A connector that can show what there is to map."""

    def objects(self) -> Sequence[DiscoveredObject]:
        """Every readable object, without fields."""
        ...

    def discover(self, object_name: str) -> DiscoveredObject:
        """One object with its fields, fill rates, masked samples and stages.

        Raises:
            MisconfiguredConnection: there is no such object, or it is not readable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRequest:
    """A request that claims to come from a CRM."""

    method: str
    url: str
    """As the sender wrote it, with scheme, host, path and query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@runtime_checkable
class Doorbell(Protocol):
    """A connector whose CRM can tell of changes as they happen: an earlier trigger, no source."""

    def rung(self, request: WebRequest, now: datetime) -> frozenset[str]:
        """The streams that a genuine notification concerns.

        Raises:
            RequestRefused: it is not genuine, too old, or no secret is configured to tell.
        """
        ...


@runtime_checkable
class WriteTarget(Protocol):
    """What write-back needs beside `push`; a connector that cannot be written lacks it."""

    def fields(self, object_name: str) -> Mapping[str, TargetField]:
        """The fields of an object that the run-time user can see, by name."""
        ...

    def read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        """Live values by id; an id that does not exist any more is left out."""
        ...

    def create(
        self, object_name: str, fields: Sequence[NewField], *, dry_run: bool
    ) -> Sequence[SetupResult]:
        """Create the fields that are missing and make them visible; idempotent."""
        ...


@runtime_checkable
class FindsRecords(Protocol):
    """A connector that can list the records of any object by what one of their fields holds."""

    def find(self, object_name: str, field_name: str) -> Iterator[Sequence[tuple[str, str]]]:
        """(record id, value of the field as text) of all live records in which it is not empty.

        Raises:
            MisconfiguredConnection: there is no such object or field, or it is not readable.
        """
        ...
