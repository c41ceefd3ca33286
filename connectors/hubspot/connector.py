"""The HubSpot connector: the seam's methods, each handed to the module that knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

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
    WebRequest,
)
from connectors.errors import PermissionMissing, RequestRefused
from connectors.hubspot.books import books
from connectors.hubspot.check import check
from connectors.hubspot.client import WRITE_LIMIT, HubSpotClient
from connectors.hubspot.create import create
from connectors.hubspot.defaults import STREAM_OBJECTS
from connectors.hubspot.discover import Discovery
from connectors.hubspot.fields import Property, object_streams, properties_of
from connectors.hubspot.find import find
from connectors.hubspot.push import push, read
from connectors.hubspot.readers import PortalReader
from connectors.hubspot.webhooks import Delivery, DeliveryRefused, streams_of
from store.canonical import FieldUpdate, RecordRef


class HubSpotConnector:
    """One HubSpot portal; see ``connectors.base.Connector`` and ``WriteTarget``.

    Raises:
        MisconfiguredConnection: the settings cannot work.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self.calls = CallCounter()
        self.capabilities = Capabilities(
            push_batch=min(settings.tuning.push_batch or WRITE_LIMIT, WRITE_LIMIT),
            sees_deletions=True,
            stream_objects=STREAM_OBJECTS,
            object_streams=object_streams(settings.streams),
        )
        self._client = HubSpotClient(settings, self.calls)
        self._reader = PortalReader(self._client, settings, self.calls)
        self._described: dict[str, Mapping[str, Property]] = {}

    def org_id(self) -> str | None:
        """The portal's id; None where the token may not see it."""
        try:
            return self._client.account.portal_id
        except (PermissionMissing, RequestRefused):
            return self._client.portal_of_token()

    def books(self) -> Books:
        """The portal's zone and currencies."""
        return books(self._client)

    def check(self) -> CheckReport:
        """Look at token, scopes, properties and pipelines; never raises for what it sees."""
        return check(self._client, self._settings)

    def streams(self) -> Sequence[Stream]:
        """What is configured or implied, in the order in which to pull it."""
        return self._reader.streams()

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read a stream; see ``connectors.hubspot.pull``."""
        return self._reader.pull(stream, since)

    def count(self, stream: Stream, until: datetime) -> int | None:
        """Live records of a stream; None while HubSpot's index may be behind."""
        return self._reader.count(stream, until)

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        """Ids of all live records; None for streams that are read whole anyway."""
        return self._reader.ids(stream)

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        """Records by id."""
        return self._reader.fetch(stream, refs)

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Write values by batch update; see ``connectors.hubspot.push``."""
        with self._client.working_for(Purpose.WRITE):
            return push(
                self._client,
                updates,
                batch=self.capabilities.push_batch,
                described=self._described,
            )

    def fields(self, object_name: str) -> Mapping[str, TargetField]:
        """The properties of an object that the token sees."""
        with self._client.working_for(Purpose.WRITE):
            described = self._describe(object_name)
        return {name: one.as_target() for name, one in described.items()}

    def read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        """Live values by id; merged records show their winner, deleted ones are left out."""
        if not record_ids:
            return []
        with self._client.working_for(Purpose.WRITE):
            properties = self._described.get(object_name, {})
            if not properties.keys() >= set(field_names):
                properties = self._describe(object_name)
            return read(self._client, object_name, record_ids, field_names, properties)

    def create(
        self, object_name: str, fields: Sequence[NewField], *, dry_run: bool
    ) -> Sequence[SetupResult]:
        """Create missing properties in a group of their own; idempotent."""
        with self._client.working_for(Purpose.WRITE):
            return create(
                self._client,
                object_name,
                fields,
                lambda: self._describe(object_name),
                dry_run=dry_run,
            )

    def objects(self) -> Sequence[DiscoveredObject]:
        """Every object that the token may read."""
        return self._discovery().objects()

    def discover(self, object_name: str) -> DiscoveredObject:
        """One object with its properties, fill rates, masked samples and stages."""
        return self._discovery().discover(object_name)

    def _discovery(self) -> Discovery:
        defaults = {
            native: name for name, native in reversed([*self.capabilities.stream_objects.items()])
        }
        return Discovery(self._client, {**defaults, **self.capabilities.object_streams})

    def find(self, object_name: str, field_name: str) -> Iterator[Sequence[tuple[str, str]]]:
        """Records of any object by one of their properties; see ``connectors.hubspot.find``."""
        with self._client.working_for(Purpose.WRITE):
            return iter([*find(self._client, object_name, field_name, self._describe)])

    def rung(self, request: WebRequest, now: datetime) -> frozenset[str]:
        """The streams that a signed webhook delivery has news of.

        Raises:
            RequestRefused: it is not signed by HubSpot for this app, too old, or no secret is
                configured to tell.
        """
        auth = self._settings.auth
        delivery = Delivery(
            method=request.method, uri=request.url, headers=request.headers, body=request.body
        )
        try:
            return streams_of(
                delivery,
                secret=auth.get("webhook_secret") or auth.get("client_secret", ""),
                now=now,
                streams=self.streams(),
            )
        except DeliveryRefused as refused:
            raise RequestRefused(self._settings.name, refused.message) from None

    def close(self) -> None:
        """Give sockets back."""
        self._client.close()

    def _describe(self, object_name: str) -> Mapping[str, Property]:
        properties = properties_of(self._client.properties(object_name).results)
        self._described[object_name] = properties
        return properties


def connect(settings: ConnectionSettings) -> HubSpotConnector:
    """The factory behind the entry point ``hubspot``."""
    return HubSpotConnector(settings)
