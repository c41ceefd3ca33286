"""The Salesforce connector: the seam's methods, each handed to the module that knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from connectors.base import (
    Books,
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    DiscoveredObject,
    IdPage,
    LiveRecord,
    NewField,
    Page,
    Purpose,
    PushResult,
    SetupResult,
    Stream,
    TargetField,
)
from connectors.errors import MisconfiguredConnection
from connectors.salesforce.books import books
from connectors.salesforce.check import check
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.create import FieldMaker
from connectors.salesforce.discover import Discovery
from connectors.salesforce.fields import LiveReader, target_fields
from connectors.salesforce.find import find
from connectors.salesforce.ingest import FROM_RECORDS, BulkWriter
from connectors.salesforce.ingest import MOST_RECORDS as MOST_OF_A_JOB
from connectors.salesforce.lists import Lists
from connectors.salesforce.merges import Merges
from connectors.salesforce.pull import Shared, StreamPull
from connectors.salesforce.push import MOST_RECORDS, Writer
from connectors.salesforce.quota import spending_on
from connectors.salesforce.reconcile import Reconciliation
from connectors.salesforce.schema import KnownShapes, OrgSchema
from connectors.salesforce.streams import default_objects, streams_of
from connectors.salesforce.tally import Tally
from store.canonical import FieldUpdate, RecordRef, Stage

_WRITABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accounts": "Account",
        "contacts": "Contact",
        "leads": "Lead",
        "deals": "Opportunity",
        "tickets": "Case",
        "campaigns": "Campaign",
        "owners": "User",
    }
)
"""Canonical stream -> Salesforce's own object of its records, where single records are people's."""

_SCHEMA_SECONDS: Final = 600.0
"""How long a description of an object is good for: one push asks for it once."""
_MOST_PARENTS: Final = 50_000
"""Remembered; of the others the order of writing is by id alone."""


class SalesforceConnector:
    """One Salesforce org; see ``connectors.base.Connector`` and ``WriteTarget``."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self.calls = CallCounter()
        batch = min(settings.tuning.push_batch or MOST_RECORDS, MOST_RECORDS)
        # Whoever asks for small batches has locks or triggers in mind: then no job either.
        has_jobs = batch == MOST_RECORDS
        self.capabilities = Capabilities(
            push_batch=batch,
            push_bulk_from=FROM_RECORDS if has_jobs else None,
            push_bulk_batch=MOST_OF_A_JOB if has_jobs else None,
            sees_deletions=True,
            stream_objects=default_objects(settings),
            object_streams=_object_streams(settings),
        )
        self._client = SalesforceClient(settings, self.calls)
        self._jobs = BulkWriter(self._client, settings)
        self._parents: dict[str, str] = {}
        self._totals: dict[str, int] = {}
        self._targets = OrgSchema(self._client)
        """Objects written to, as they were described last."""
        self._shared = Shared(Merges(settings.notes), KnownShapes())

    def check(self) -> CheckReport:
        """Look at login, objects, fields, filters and quota; never raises for what it sees."""
        return check(self._client, self._settings)

    def org_id(self) -> str | None:
        """The id of the org (18 characters) behind the credentials, where it may be known."""
        return self._client.org_id()

    def books(self) -> Books:
        """The org's name, zone, currencies and fiscal year."""
        return books(self._client)

    def streams(self) -> Sequence[Stream]:
        """What is configured, and owners, stages and histories that it implies."""
        return streams_of(self._settings)

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read a stream; see ``connectors.salesforce.pull``."""
        warnings = self._client.login_warnings
        for page in self._pages(stream, since):
            yield replace(page, warnings=(*warnings, *page.warnings)) if warnings else page
            warnings = ()

    def _pages(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        pull = StreamPull(self._client, self._settings, stream, self.calls, self._shared)
        return pull.pages(since)

    def count(self, stream: Stream, until: datetime) -> int | None:
        """Live records of a stream created up to an instant; see ``reconcile``."""
        return self._reconciliation(stream).count(until)

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        """Ids of all live records; None for short lists."""
        return self._reconciliation(stream).ids()

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        """Records by id."""
        return self._reconciliation(stream).fetch(refs)

    def _reconciliation(self, stream: Stream) -> Reconciliation:
        return Reconciliation(self._client, self._settings, stream, self.calls, self._shared)

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Write values by sObject Collections, many of them by a job; see `Writer.push`."""
        writer = Writer(
            self._client,
            self._jobs,
            batch=self.capabilities.push_batch,
            bulk_from=self.capabilities.push_bulk_from,
        )
        with spending_on(Purpose.WRITE):
            return writer.push(updates, self._parents)

    def fields(self, object_name: str) -> Mapping[str, TargetField]:
        """The fields of an object that the connected user sees."""
        with spending_on(Purpose.WRITE):
            self._targets = OrgSchema(self._client)
            return target_fields(self._targets.shape(object_name))

    def read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        """Live values by id; merged records show their winner, deleted ones are left out."""
        if not record_ids:
            return []
        # A look at the targets belongs to the write: it may use what reading leaves for it.
        with spending_on(Purpose.WRITE):
            self._jobs.await_running()
            if self._targets.age_seconds > _SCHEMA_SECONDS:
                self._targets = OrgSchema(self._client)
            try:
                return self._read(object_name, record_ids, field_names)
            except MisconfiguredConnection:
                # What we knew of the object may be out of date: look at it once more.
                self._targets = OrgSchema(self._client)
                return self._read(object_name, record_ids, field_names)

    def _read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        reader = LiveReader(self._client, self._targets, object_name, self._totals)
        records = reader.read(record_ids, field_names)
        if len(self._parents) > _MOST_PARENTS:
            self._parents.clear()
        self._parents.update(reader.parents)
        return records

    def find(self, object_name: str, field_name: str) -> Iterator[Sequence[tuple[str, str]]]:
        """Records of any object by one of their fields; see ``connectors.salesforce.find``."""
        with spending_on(Purpose.WRITE):
            return iter([*find(self._client, OrgSchema(self._client), object_name, field_name)])

    def objects(self) -> Sequence[DiscoveredObject]:
        """Every readable object, without fields."""
        return self._discovery().objects()

    def discover(self, object_name: str) -> DiscoveredObject:
        """One object with its fields, fill rates, masked samples and stages."""
        return self._discovery().discover(object_name)

    def _discovery(self) -> Discovery:
        streams: dict[str, str] = {}
        for stream, object_name in self.capabilities.stream_objects.items():
            streams.setdefault(object_name, stream)
        return Discovery(self._client, streams, self._stages_of)

    def _stages_of(self, object_name: str) -> Sequence[Stage]:
        objects = self.capabilities.stream_objects
        with_deals = object_name == objects.get("deals")
        with_tickets = object_name == objects.get("tickets")
        if not with_deals and not with_tickets:
            return ()
        lists = Lists(self._client, self._settings, Tally(self.calls))
        found = lists.stages(with_deals=with_deals, with_tickets=with_tickets).records
        return [stage for stage in found if isinstance(stage, Stage) and stage.label is not None]

    def create(
        self, object_name: str, fields: Sequence[NewField], *, dry_run: bool
    ) -> Sequence[SetupResult]:
        """Create missing fields by the Tooling API and grant them by permission sets."""
        with spending_on(Purpose.WRITE):
            self._targets = OrgSchema(self._client)
            return FieldMaker(self._client, object_name).create(fields, dry_run=dry_run)

    def close(self) -> None:
        """Give sockets back."""
        self._client.close()


def _object_streams(settings: ConnectionSettings) -> Mapping[str, str]:
    """The objects that can carry values: Salesforce's own, and custom ones that are read."""
    configured = {name: one.object for name, one in settings.streams.items() if one.object}
    found = {configured.get(name) or own: name for name, own in _WRITABLE.items()}
    for name, object_name in configured.items():
        if object_name.endswith("__c"):
            found.setdefault(object_name, name)
    return found


def connect(settings: ConnectionSettings) -> SalesforceConnector:
    """The factory behind the entry point ``salesforce``."""
    return SalesforceConnector(settings)
