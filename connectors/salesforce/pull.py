"""Reading a stream: windows of change times, late commits, deletions, completeness.

A window is ``low <= change time < high``. `high` is the server's own time when the pull begins,
`low` the last `high` minus an overlap, because a row is stamped when it is saved and seen only
when its transaction commits, up to some ten minutes later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.base import CallCounter, ConnectionSettings, Cursor, Page, Stream
from connectors.errors import MalformedAnswer, OrgChanged, StreamPaused
from connectors.salesforce.bulk import BulkQueries, BulkRefused, JobLost
from connectors.salesforce.bulkread import BulkRead
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.cursor import Place
from connectors.salesforce.deletions import read_log
from connectors.salesforce.faults import QueryTooHeavy, UnknownName
from connectors.salesforce.ids import long_id
from connectors.salesforce.lists import Lists
from connectors.salesforce.merges import KEPT, Merges
from connectors.salesforce.schema import KnownShapes, ObjectAbsent
from connectors.salesforce.streams import (
    DEAL_STAGE_CHANGES,
    SPECS,
    TRACKED_STAGES,
    StreamSpec,
    object_of,
    stream_settings,
    streams_of,
)
from connectors.salesforce.tally import Tally
from connectors.salesforce.walk import Row, StillTooHeavy, TooManyRows, Walk
from store.canonical import CanonicalRecord, RecordRef, RejectedRecord, TicketStatusChange

LOOKBACK: Final = timedelta(minutes=15)
"""Longer than Salesforce lets a transaction run, so no late commit is missed."""
SECOND: Final = timedelta(seconds=1)
MOST_PAGED_CALLS: Final = 5
"""Calls (10,000 rows of ordinary width) up to which pages are read: a bulk job costs at least
three calls, its looks and minutes of waiting, but then little more for a million rows."""


MERGEABLE: Final = ("Account", "Contact", "Lead", "Case")


@dataclass(frozen=True, slots=True)
class _Deletions:
    rows: Sequence[Row] = ()
    refs: Sequence[RecordRef] = ()
    covered_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """What the streams of one connection tell each other."""

    merges: Merges
    shapes: KnownShapes
    walks: dict[str, Walk] = field(default_factory=dict)
    """Stream -> what its present run has looked at: one description of an object serves a run."""


class StreamPull:
    """One pull of one stream.

    Args:
        client: The org.
        settings: The connection.
        stream: What to read.
        calls: Where the least possible calls are counted.
        shared: What the streams of the connection tell each other.
    """

    def __init__(
        self,
        client: SalesforceClient,
        settings: ConnectionSettings,
        stream: Stream,
        calls: CallCounter,
        shared: Shared,
    ) -> None:
        self._shared = shared
        self._merges = shared.merges
        self._shapes = shared.shapes
        self._client = client
        self._settings = settings
        self._connection = settings.name
        self._stream = stream.name
        self._lookback = LOOKBACK if settings.tuning.lookback is None else settings.tuning.lookback
        self._tally = Tally(calls)
        self._jobs = BulkQueries(client, self._tally)
        self._lists = Lists(client, settings, self._tally)
        self._api = stream_settings(settings, stream.name).api
        self._warned: list[str] = []
        self._told: set[str] = set()
        self._seen: set[str] = set()
        self._stages: frozenset[str] | None = None
        self._closed_statuses: Mapping[str, bool] | None = None

    def pages(self, since: Cursor | datetime | None) -> Iterator[Page]:
        """See ``connectors.base.Connector.pull``."""
        org = self._client.org_id() or ""
        kept = self._kept(since, org=org)
        if SPECS[self._stream].is_list:
            yield self._list_page(org)
            return
        try:
            self._walk = self.opened()
        except ObjectAbsent as absent:
            yield self._absent_page(absent, kept, org=org)
            return
        # Stamps are whole seconds and windows end before their bound: without the second that
        # runs right now, what was saved just before the pull would have to wait for the next.
        self._end = self._walk.server_time + SECOND
        windows = self._windows(kept, since, org=org)
        for window in windows:
            yield from self._window_pages(window, is_last=window is windows[-1])

    def fetch(self, ids: Sequence[str]) -> Page:
        """Records by id, deleted ones included; one that does not exist is left out.

        Raises:
            ObjectAbsent: the user does not see the object.
        """
        wanted = [*dict.fromkeys(ids)]
        self._walk = self.known()
        try:
            rows = self._walk.by_id(wanted)
        except UnknownName:
            # A column may have gone since the run began.
            self._walk = self.opened()
            rows = self._walk.by_id(wanted)
        place = Place(mode="full", org="", low=None, high=self._walk.server_time)
        return replace(self._page(rows, place, total=None), resume_at=None)

    def known(self) -> Walk:
        """What the run has already looked at, else a look.

        Raises:
            ObjectAbsent: the user sees no object of this stream.
        """
        return self._shared.walks.get(self._stream) or self.opened()

    def opened(self) -> Walk:
        """Look at the stream's object, or at the one that may stand in for it.

        Raises:
            ObjectAbsent: the user sees neither.
        """
        self._shared.walks.pop(self._stream, None)
        walk = self._seen_walk()
        self._shared.walks[self._stream] = walk
        return walk

    def _seen_walk(self) -> Walk:
        try:
            return self._walk_of(None)
        except ObjectAbsent as absent:
            if self._stream != DEAL_STAGE_CHANGES.name:
                raise
            tracked = TRACKED_STAGES
            try:
                walk = self._walk_of(tracked)
            except ObjectAbsent:
                raise absent from None
            self._warned.append(
                f"{absent.message} Stage changes are taken from {tracked.object}, which knows"
                " them only since the field's history is tracked, and for 18 months."
            )
            return walk

    def _walk_of(self, spec: StreamSpec | None) -> Walk:
        return Walk(
            self._client,
            self._settings,
            self._stream,
            tally=self._tally,
            known=self._shapes,
            spec=spec,
        )

    # ------------------------------------------------------------ which windows

    def _kept(self, since: Cursor | datetime | None, *, org: str) -> Place | None:
        if since is None or isinstance(since, datetime):
            return None
        kept = Place.from_cursor(self._connection, since)
        if kept.org and org and kept.org != org:
            raise OrgChanged(
                self._connection,
                f"The credentials lead to org {org}, the stored data came from {kept.org}."
                " Correct the credentials, or after a sandbox refresh reset the connection"
                f" (kpisync state reset {self._connection} --org).",
            )
        return kept

    def _windows(
        self, kept: Place | None, since: Cursor | datetime | None, *, org: str
    ) -> list[Place]:
        end = self._end
        if isinstance(since, datetime):
            low = since.astimezone(UTC)
            return [Place(mode="increment", org=org, low=low, high=end, swept=end)]
        if kept is None or kept.mode == "absent":
            return [Place(mode="full", org=org, low=None, high=end)]
        # A clock set back must not open a gap: the overlap starts from the earlier of the two.
        following = Place(
            mode="increment",
            org=org,
            low=min(kept.high, end) - self._lookback,
            high=end,
            deletions_from=kept.deletions_from,
            swept=kept.swept,
        )
        if kept.mode != "done":
            return [kept, following]
        if self._is_sweep_due(kept):
            # Formulas and parents' fields change without a trace: everything is read again.
            following = replace(following, low=None, swept=end)
        return [following]

    def _is_sweep_due(self, kept: Place) -> bool:
        if not self._walk.map.volatile:
            return False
        return kept.swept is None or self._end - kept.swept >= self._settings.tuning.sweep

    # ------------------------------------------------------------ the pages of a window

    def _window_pages(self, window: Place, *, is_last: bool) -> Iterator[Page]:
        self._warn_of_volatile(window)
        is_begun = window.at is not None
        total, is_for_bulk = None, self._api == "bulk"
        if window.mode == "full":
            try:
                total = self._walk.count()
            except QueryTooHeavy:
                # What cannot even be counted is no matter for pages.
                is_for_bulk = self._api != "rest"
            else:
                is_for_bulk = self._is_for_bulk(total)
        try:
            if window.job is not None or (not is_begun and is_for_bulk):
                yield from self._bulk_pages(window, total, is_last=is_last)
                return
            may_change = self._api is None and not is_begun and total is None
            most_calls = MOST_PAGED_CALLS if may_change else None
            try:
                yield from self._rest_pages(window, total, most_calls, is_last=is_last)
            except TooManyRows:
                yield from self._bulk_pages(window, total, is_last=is_last)
            except StillTooHeavy:
                if self._api == "rest":
                    raise
                yield from self._bulk_pages(window, total, is_last=is_last)
        except (BulkRefused, JobLost) as fault:
            if self._api == "bulk" and isinstance(fault, JobLost):
                raise
            self._warned.append(
                f"{self._walk.selection.object} cannot be read by Bulk API 2.0"
                f" ({fault.message}). It is read in pages instead, which takes more calls."
            )
            paged = replace(window, job=None)
            yield from self._rest_pages(paged, total, None, is_last=is_last)

    def _is_for_bulk(self, total: int) -> bool:
        if self._api is not None:
            return self._api == "bulk"
        return self._walk.calls_for(total) > MOST_PAGED_CALLS

    def _rest_pages(
        self, window: Place, total: int | None, most_calls: int | None, *, is_last: bool
    ) -> Iterator[Page]:
        settled = _Settled(self._settled_before(window))
        place, walked, queries_before = window, 0, self._walk.queries
        for chunk in self._walk.chunks(
            low=window.low,
            high=window.high,
            at=window.at,
            after_id=window.id,
            most_calls=most_calls,
        ):
            walked += len(chunk.read)
            count = place.rows + settled(chunk.read)
            place = replace(place, at=chunk.at, id=chunk.id, rows=count)
            if not chunk.is_end:
                yield self._page(chunk.rows, place, total=total)
                continue
            if total is not None and (window.at is not None or walked < total):
                self._ensure_nothing_was_lost(place)
            rows = chunk.rows
            # A row edited between two queries moves behind `high`, perhaps before we came to it.
            if self._walk.queries - queries_before > 1 or window.at is not None:
                for tail in self._walk.chunks(low=window.high, high=None, at=None, after_id=""):
                    if rows and tail.rows:
                        yield self._page(rows, place, total=total)
                    rows = tail.rows or rows
            yield from self._orphans(place, total)
            yield self._last_page(rows, place, total=total, is_last=is_last)

    def _bulk_pages(self, window: Place, total: int | None, *, is_last: bool) -> Iterator[Page]:
        settled = _Settled(self._settled_before(window))
        reading = BulkRead(self._jobs, self._walk, self._settings, settled)
        for step in reading.steps(window):
            self._warned += reading.losses
            reading.losses.clear()
            if not step.is_end:
                yield self._page(step.rows, step.place, total=total)
                continue
            if window.mode == "full":
                self._ensure_nothing_was_lost(step.place)
            yield from self._orphans(step.place, total)
            yield self._last_page(step.rows, step.place, total=total, is_last=is_last)

    def _last_page(
        self, rows: Sequence[Row], place: Place, *, total: int | None, is_last: bool
    ) -> Page:
        self._note_seen(rows, place)
        warnings: list[str] = []
        deletions = _Deletions()
        if place.mode == "increment" and self._walk.map.sees_deletions:
            deletions = self._deletions(place, warnings)
        done = Place(
            mode="done",
            org=place.org,
            low=None,
            high=place.high,
            deletions_from=deletions.covered_until,
            swept=place.high if place.mode == "full" else place.swept,
        )
        beside: Sequence[CanonicalRecord] = ()
        if self._stream == "owners":
            queues = self._lists.queues()
            beside = queues.records
            warnings += queues.warnings
        page = self._page(
            [*rows, *deletions.rows],
            done,
            total=total,
            deleted=deletions.refs,
            complete_until=place.high - SECOND if is_last else None,
            warnings=warnings,
        )
        return replace(page, records=[*page.records, *beside]) if beside else page

    def _page(
        self,
        rows: Sequence[Row],
        place: Place,
        *,
        total: int | None,
        deleted: Sequence[RecordRef] = (),
        complete_until: datetime | None = None,
        warnings: Sequence[str] = (),
    ) -> Page:
        records: list[CanonicalRecord] = []
        rejected: list[RejectedRecord] = []
        gone: list[RecordRef] = []
        for row in rows:
            if not self._walk.map.is_record(row):
                gone.append(self._walk.map.ref(row["Id"]))
                continue
            mapped = self._walk.map.record(row)
            if isinstance(mapped, RejectedRecord):
                rejected.append(mapped)
            elif isinstance(mapped, TicketStatusChange):
                records.append(replace(mapped, is_closed=self._is_closed(mapped.status)))
            else:
                records.append(mapped)
        rejected += self._unread()
        self._note_seen(rows, place)
        self._note_merges(rows, place)
        said = [
            *self._warned, *self._walk.map.warnings, *self._unknown_stages(rows), *warnings,
        ]  # fmt: skip
        return Page(
            records=records,
            deleted=[*deleted, *(gone if place.mode != "full" else ())],
            rejected=rejected,
            resume_at=place.to_cursor(),
            complete_until=complete_until,
            total=total,
            warnings=self._not_told_yet(said),
            unreadable=self._walk.map.unreadable,
            volatile=self._walk.map.volatile_fields,
        )

    def _unread(self) -> list[RejectedRecord]:
        """Rows that came in no readable form since the last page."""
        unread, self._walk.unread = self._walk.unread, {}
        return [
            RejectedRecord(
                ref=self._walk.map.ref(record_id),
                field=None,
                reason="Salesforce's answer for this record cannot be read as JSON. Look for a"
                " value beyond reason in it; it is read again when it changes, or by `kpisync"
                " deadletters retry`.",
                code="unreadable_answer",
                raw=said,
            )
            for record_id, said in unread.items()
        ]

    # ------------------------------------------------------------ streams of another kind

    def _list_page(self, org: str) -> Page:
        if self._stream == "rates":
            listing = self._lists.rates()
        else:
            wanted = {stream.name for stream in streams_of(self._settings)}
            listing = self._lists.stages(
                with_deals="deals" in wanted, with_tickets="tickets" in wanted
            )
        end = self._client.server_time()
        return Page(
            records=listing.records,
            resume_at=Place(mode="done", org=org, low=None, high=end).to_cursor(),
            complete_until=end,
            total=len(listing.records),
            warnings=tuple(dict.fromkeys(listing.warnings)),
            brought_all=listing.is_whole,
        )

    def _absent_page(self, absent: ObjectAbsent, kept: Place | None, *, org: str) -> Page:
        """The object is not there: legal where it needs a licence, unless we have read it."""
        spec = SPECS[self._stream]
        is_legal = spec.may_be_absent and object_of(self._settings, self._stream) == spec.object
        if kept is not None and kept.mode != "absent":
            raise StreamPaused(
                self._connection,
                f"{absent.message} It could be read before: what is stored of {self._stream}"
                " stays, and goes on when access is back.",
            )
        if not is_legal:
            raise absent
        end = self._client.server_time()
        return Page(
            records=(),
            resume_at=Place(mode="absent", org=org, low=None, high=end).to_cursor(),
            complete_until=end,
            warnings=[_switched_off(absent, self._stream)],
            brought_all=False,
        )

    # ------------------------------------------------------------ completeness

    def _settled_before(self, window: Place) -> datetime:
        return window.high - max(self._lookback, LOOKBACK)

    def _ensure_nothing_was_lost(self, place: Place) -> None:
        """A full pull that brought less than the CRM counts must not pass for complete."""
        before = self._settled_before(place)
        try:
            counted = self._walk.count(before)
        except QueryTooHeavy as fault:
            self._warned.append(
                f"{self._walk.selection.object} has too many records for Salesforce to count them"
                f" ({fault.message}): nobody can say whether all of them came."
            )
            return
        if place.rows < counted:
            raise MalformedAnswer(
                self._connection,
                f"Salesforce counts {counted} {self._walk.selection.object} records changed before"
                f" {before:%Y-%m-%d %H:%M:%S} UTC, but brought only {place.rows}."
                " The stream is not taken for complete; pull it again.",
            )

    # ------------------------------------------------------------ deletions

    def _note_seen(self, rows: Sequence[Row], place: Place) -> None:
        # Of a bulk query there may be millions; the log of deletions is looked up by id instead.
        if place.mode == "increment" and place.job is None:
            self._seen.update(long_id(row["Id"]) for row in rows)

    def _deletions(self, place: Place, warnings: list[str]) -> _Deletions:
        """Deletions of the window; what the bin still holds comes as rows, the rest as refs."""
        self._tally.calls()
        log = read_log(
            self._client,
            self._walk.selection.object,
            start=place.deletions_from or place.low or place.high,
            end=place.high - SECOND,
        )
        warnings.extend(log.warnings)
        unseen = [record_id for record_id in log.ids if record_id not in self._seen]
        # The log is no proof: a record may have been taken out of the bin again.
        rows = self._walk.by_id(unseen)
        existing = {long_id(row["Id"]) for row in rows}
        return _Deletions(
            rows=rows,
            refs=[self._walk.map.ref(each) for each in unseen if each not in existing],
            covered_until=log.covered_until,
        )

    # ------------------------------------------------------------ merges

    def _note_merges(self, rows: Sequence[Row], place: Place) -> None:
        """Remember winners before the page is committed: their children are yet to be read."""
        recently = (place.high - KEPT).strftime("%Y-%m-%dT%H:%M:%S")
        column = self._walk.map.cursor_column
        winners = {
            long_id(row["MasterRecordId"])
            for row in rows
            if row.get("MasterRecordId") and str(row[column]) >= recently
        }
        if winners:
            self._merges.add(self._walk.map.shape.name, winners, seen_at=place.high)

    def _orphans(self, place: Place, total: int | None) -> Iterator[Page]:
        """What points to the winners of merges since the window began."""
        if place.low is None:
            return
        for object_name in MERGEABLE:
            columns = self._walk.map.links_to(object_name)
            winners = self._merges.since(object_name, place.low) if columns else []
            for column in columns if winners else ():
                for rows in self._walk.linked(column, winners):
                    if rows:
                        yield self._page(rows, place, total=total)

    # ------------------------------------------------------------ meanings and warnings

    def _is_closed(self, status: str) -> bool:
        if self._closed_statuses is None:
            self._closed_statuses = self._lists.closed_statuses()
        return self._closed_statuses.get(status, False)

    def _warn_of_volatile(self, window: Place) -> None:
        if window.low is None and self._walk.map.volatile:
            names = ", ".join(self._walk.map.volatile)
            self._warned.append(
                f"{self._stream}: {names} of {self._walk.selection.object} is computed by"
                " Salesforce or belongs to a parent record: when it changes alone, no record is"
                f" reported as changed. It is read again every {self._settings.tuning.sweep}"
                " (advanced.sweep); KPIs may trail it by that."
            )

    def _unknown_stages(self, rows: Sequence[Row]) -> Iterator[str]:
        source = self._walk.map.stage_column
        if source is None:
            return
        listed = self._walk.map.shape.choices(source)
        for row in rows:
            name = row.get(source)
            is_unknown = isinstance(name, str) and name and name not in listed
            if is_unknown and not self._is_known_stage(str(name)):
                yield (
                    f'The stage "{name}" is not in the org\'s list of opportunity stages. Its'
                    " deals count as open, won or lost by their own flags (IsClosed, IsWon)."
                    " Move them to a listed stage, or restore the stage in Setup > Object Manager"
                    " > Opportunity > Stage."
                )

    def _is_known_stage(self, name: str) -> bool:
        """Retired stages are known, though no choice any more."""
        if self._stages is None:
            self._stages = self._lists.stage_names()
        return name in self._stages or not self._stages

    def _not_told_yet(self, warnings: Sequence[str]) -> tuple[str, ...]:
        fresh = [text for text in dict.fromkeys(warnings) if text not in self._told]
        self._told.update(fresh)
        return tuple(fresh)


def _switched_off(absent: ObjectAbsent, stream: str) -> str:
    return (
        f"{absent.message} {stream} is switched off until then. Where the org lacks the licence or"
        " feature, leave it so."
    )


class _Settled:
    """Counts rows changed so early that no running transaction can add to them."""

    def __init__(self, before: datetime) -> None:
        # Stamps are ISO 8601 in UTC, of one length up to the seconds: they compare as texts.
        self._before = before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")

    def __call__(self, stamps: Sequence[str]) -> int:
        """How many of these change times are settled."""
        before = self._before
        return sum(stamp[:19] < before for stamp in stamps)
