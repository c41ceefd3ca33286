"""A HubSpot connector at the sandbox's portal, and what a pull of it brings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from connectors.base import (
    CallLedger,
    ConnectionSettings,
    Cursor,
    DailyCalls,
    FieldSource,
    Page,
    Stream,
    StreamSettings,
    TokenVault,
    Tuning,
)
from connectors.hubspot.connector import HubSpotConnector, connect
from store.canonical import (
    CanonicalRecord,
    Company,
    FieldUpdate,
    RecordRef,
    RejectedRecord,
    Scalar,
)
from tests.fixtures.sandboxes import Crm

TOKEN = "pat-na1-sandbox"
OBJECTS = (
    "companies", "contacts", "deals", "feedback_submissions", "line_items", "orders",
    "subscriptions", "tickets",
)  # fmt: skip
SCOPES = [
    "crm.objects.owners.read",
    "crm.objects.custom.read",
    "crm.schemas.custom.read",
    "marketing.campaigns.read",
    "marketing.campaigns.revenue.read",
    *(
        f"crm.{kind}.{object_name}.{right}"
        for kind in ("objects", "schemas")
        for object_name in OBJECTS
        for right in ("read", "write")
    ),
]
QUICK = Tuning(
    connect_timeout=timedelta(seconds=2),
    read_timeout=timedelta(seconds=5),
    total_timeout=timedelta(seconds=20),
    retry_attempts=3,
    retry_wait=timedelta(milliseconds=10),
    retry_wait_max=timedelta(seconds=12),
)

_limits = itertools.count()


@dataclass
class Waits:
    """What the connector said before it slept."""

    told: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, reason: str, seconds: float) -> None:
        self.told.append((reason, seconds))


@dataclass
class Pulled:
    """Everything that one pull brought, as a store would hold it afterwards."""

    records: dict[RecordRef, CanonicalRecord] = field(default_factory=dict)
    deleted: list[RecordRef] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def add(self, page: Page) -> None:
        self.pages.append(page)
        self.records.update({record.ref: record for record in page.records})
        self.deleted += page.deleted
        self.rejected += page.rejected
        self.warnings += page.warnings

    @property
    def cursor(self) -> Cursor:
        cursor = self.pages[-1].resume_at
        assert cursor is not None
        return cursor

    @property
    def deleted_ids(self) -> list[str]:
        return sorted(ref.native_id for ref in self.deleted)

    def ids(self, stream: str) -> set[str]:
        return {ref.native_id for ref in self.records if ref.stream == stream}

    def one(self, stream: str, native_id: str) -> CanonicalRecord:
        return self.records[RecordRef("web", stream, native_id)]


@contextmanager
def portal(
    crm: Crm,
    *,
    streams: Mapping[str, StreamSettings] | None = None,
    fields: Mapping[str, FieldSource] | None = None,
    zone: str = "UTC",
    currency: str = "USD",
    tuning: Tuning = QUICK,
    token: str = TOKEN,
    api_version: str | None = None,
    waits: Waits | None = None,
    base_url: str | None = None,
    auth: Mapping[str, str] | None = None,
    daily_calls: DailyCalls | None = None,
    ledger: CallLedger | None = None,
    tokens: TokenVault | None = None,
    limits_storage: str | None = None,
    written_objects: frozenset[str] | None = None,
    gives_rates: bool = False,
    rated: frozenset[str] | None = frozenset(),
) -> Iterator[HubSpotConnector]:
    """A connector named "web" with rate limits of its own; `fields` are those of deals."""
    settings = ConnectionSettings(
        name="web",
        type="hubspot",
        auth=auth or {"flow": "token", "token": token},
        company=Company(ZoneInfo(zone), currency),
        streams=streams
        or {"accounts": StreamSettings(), "deals": StreamSettings(fields=fields or {})},
        base_url=base_url or crm.url,
        api_version=api_version,
        tuning=tuning,
        limits_storage=limits_storage or f"memory://{next(_limits)}",
        on_wait=waits,
        daily_calls=daily_calls,
        ledger=ledger,
        tokens=tokens,
        written_objects=written_objects,
        gives_rates=gives_rates,
        rated=rated,
    )
    connector = connect(settings)
    try:
        yield connector
    finally:
        connector.close()


def fresh(crm: Crm) -> Crm:
    """The portal as it was when the sandbox began, but for limits that no test comes near.

    Starting a sandbox takes longer than most tests.
    """
    crm.clear_faults()
    crm.lag(0)
    crm.clock(run=True)
    crm.clock(move_to=datetime.now(UTC).isoformat())
    crm.settings(
        burst=100_000,
        burst_seconds=10,
        search_per_second=1_000,
        daily=250_000,
        used_today=0,
        time_zone="UTC",
        company_currency="USD",
        association_page=100,
        archived_shows_merged=False,
        stale_calculated=False,
        required={},
        scopes=SCOPES,
    )
    for object_name, records in crm.snapshot().items():
        if records:
            crm.erase(object_name, [str(record["id"]) for record in records])
    crm.forget()
    return crm


def stream_of(connector: HubSpotConnector, name: str) -> Stream:
    return next(stream for stream in connector.streams() if stream.name == name)


def pull(connector: HubSpotConnector, name: str, since: Cursor | datetime | None = None) -> Pulled:
    pulled = Pulled()
    for page in connector.pull(stream_of(connector, name), since):
        pulled.add(page)
    return pulled


def update(record_id: str, name: str, value: Scalar, object_name: str = "companies") -> FieldUpdate:
    return FieldUpdate("web", object_name, record_id, name, value)


def paths(crm: Crm, part: str) -> Sequence[str]:
    """The requests whose path holds `part`, with their query."""
    return [f"{one['path']}?{one['query']}" for one in crm.requests() if part in str(one["path"])]
