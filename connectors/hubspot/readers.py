"""Reading a portal: every stream by the way that fits it, and reconciliation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connectors.base import CallCounter, ConnectionSettings, Cursor, IdPage, Page, Stream
from connectors.errors import PermissionMissing, RequestRefused, StreamPaused
from connectors.hubspot.campaigns import CampaignPull
from connectors.hubspot.client import LIST_LIMIT, HubSpotClient
from connectors.hubspot.cursor import EPOCH, LIST, Position
from connectors.hubspot.deletions import Archive
from connectors.hubspot.emails import EmailPull
from connectors.hubspot.fields import MERGED, RECORD_ID
from connectors.hubspot.merges import Merges
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.pull import LOOKBACK, ObjectPlan, ObjectPull, pull_owners, pull_stages
from connectors.hubspot.rates import pull_rates
from connectors.hubspot.reading import merged_ids
from connectors.hubspot.streams import (
    NOT_OF_PROPERTIES,
    Planner,
    is_optional,
    pipeline_objects,
    streams_of,
)
from connectors.hubspot.walk import Walk, within
from store.canonical import (
    Campaign,
    DealLine,
    EmailStatistics,
    Owner,
    Rate,
    RecordRef,
    Stage,
)


@dataclass(slots=True)
class PortalReader:
    """Reads the streams of one portal; remembers what the last pulls saw."""

    client: HubSpotClient
    settings: ConnectionSettings
    calls: CallCounter
    _planner: Planner = field(init=False)
    _merges: Merges = field(default_factory=Merges)
    _newest: dict[str, datetime] = field(default_factory=dict)
    """Stream -> the latest change that its last pull of everything saw."""

    def __post_init__(self) -> None:
        self._planner = Planner(self.client, self.settings)

    def streams(self) -> Sequence[Stream]:
        """The streams of the connection, in the order in which to pull them."""
        return streams_of(self.settings)

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read a stream; see ``connectors.hubspot.pull``.

        Raises:
            StreamPaused: the portal has no such records, or the token may not see them.
        """
        try:
            yield from self._pages(stream, since)
        except (PermissionMissing, RequestRefused) as error:
            if not is_optional(stream):
                raise
            raise self._off(stream, error) from error

    def _pages(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        minimum = Minimum(self.calls)
        if stream.name == Owner.STREAM:
            yield from pull_owners(self.client, minimum)
        elif stream.name == Stage.STREAM:
            yield from pull_stages(self.client, pipeline_objects(self.settings), minimum)
        elif stream.name == Campaign.STREAM:
            currency, words = self._planner.home_currency()
            campaigns = CampaignPull(self.client, self.settings, stream, minimum, currency, words)
            yield from campaigns.pages(since)
        elif stream.name == EmailStatistics.STREAM:
            emails = EmailPull(self.client, self.settings, stream, minimum)
            yield from emails.pages(since)
        elif stream.name == Rate.STREAM:
            yield from pull_rates(self.client, self.settings.company, minimum)
        else:
            yield from self._records(stream, since, minimum)

    def _records(
        self, stream: Stream, since: Cursor | datetime | None, minimum: Minimum
    ) -> Iterator[Page]:
        self._newest.pop(stream.name, None)
        plan = self._planner.plan(stream, minimum)
        pull = ObjectPull(self.client, self.settings.tuning, plan, minimum, self._merges)
        yield from pull.pages(since)
        if since is None:
            self._newest[stream.name] = pull.newest

    def _off(self, stream: Stream, error: PermissionMissing | RequestRefused) -> StreamPaused:
        # What is implied by another stream cannot be taken out.
        way_out = (
            f" If HubSpot's {stream.object} are not to be read, take {stream.name} out of the"
            " configuration."
            if stream.name in self.settings.streams
            else ""
        )
        return StreamPaused(
            self.settings.name,
            f"{stream.name} is switched off, what is stored of it stays: {error.message}{way_out}",
        )

    # ------------------------------------------------------------ reconciliation

    def count(self, stream: Stream, until: datetime) -> int | None:
        """Live records created up to an instant, while the index is surely up to date.

        Search is the only one that counts, and its index trails: after a change within the
        lookback its total may be one too many or too few, and nothing is said.
        """
        newest = self._newest.get(stream.name)
        lookback = self.settings.tuning.lookback or LOOKBACK
        if newest is None or newest > until - lookback:
            return None
        minimum = Minimum(CallCounter())
        plan = self._planner.plan(stream, minimum)
        # Line items of quotes and invoices are counted there, too, and belong to no deal.
        if plan.is_wanted or plan.created is None or stream.name == DealLine.STREAM:
            return None
        return self._walk(plan, minimum).count(within(plan.created, EPOCH, until)[1:])

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        """Ids of all live records; None for streams that are read whole anyway."""
        return None if stream.name in NOT_OF_PROPERTIES else self._id_pages(stream)

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        """Records by id; one that does not exist any more is left out."""
        minimum = Minimum(self.calls)
        plan = self._planner.plan(stream, minimum)
        pull = ObjectPull(self.client, self.settings.tuning, plan, minimum)
        return pull.read([ref.native_id for ref in refs])

    def _id_pages(self, stream: Stream) -> Iterator[IdPage]:
        minimum = Minimum(self.calls)
        plan = self._planner.plan(stream, minimum)
        archive = Archive(self.client, plan.object, minimum)
        refs = [self._ref(plan, one) for one in archive.read()]
        # The archive first: what is archived during the walk is missing there without a word.
        yield IdPage(refs=(), explained=refs)
        for batch, _ in self._walk(plan, minimum).listed(Position(phase=LIST, until=plan.began)):
            rows = batch.rows.values()
            wanted = [row for row in rows if plan.is_wanted is None or plan.is_wanted(row)]
            yield IdPage(
                refs=[self._ref(plan, str(row["id"])) for row in wanted],
                explained=[self._ref(plan, one) for row in rows for one in merged_ids(row)],
                total=batch.total,
            )

    def _walk(self, plan: ObjectPlan, minimum: Minimum) -> Walk:
        properties = tuple(dict.fromkeys([RECORD_ID, MERGED, *plan.wanted_by]))
        return Walk(
            self.client, plan.object, plan.modified, properties, (), 10 * LIST_LIMIT, minimum
        )

    def _ref(self, plan: ObjectPlan, record_id: str) -> RecordRef:
        return RecordRef(self.client.connection, plan.stream, record_id)
