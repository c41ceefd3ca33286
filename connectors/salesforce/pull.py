"""Reading a stream: windows of change times, late commits, deletions, completeness.

A window is ``low <= change time < high``. `high` is the server's own time when the pull begins,
`low` the last `high` minus an overlap, because a row is stamped when it is saved and seen only
when its transaction commits, up to some ten minutes later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.base import ConnectionSettings, Cursor, Page, Stream
from connectors.errors import (
    MalformedAnswer,
    MisconfiguredConnection,
    OrgChanged,
    PermissionMissing,
    RequestRefused,
)
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.cursor import Place
from connectors.salesforce.deletions import read_log
from connectors.salesforce.ids import long_id
from connectors.salesforce.walk import Chunk, Row, Walk
from store.canonical import CanonicalRecord, RecordRef, RejectedRecord

LOOKBACK: Final = timedelta(minutes=15)
"""Longer than Salesforce lets a transaction run, so no late commit is missed."""
PAGE_SIZE: Final = 2000
SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Deletions:
    rows: Sequence[Row] = ()
    refs: Sequence[RecordRef] = ()
    covered_until: datetime | None = None


class StreamPull:
    """One pull of one stream."""

    def __init__(
        self, client: SalesforceClient, settings: ConnectionSettings, stream: Stream
    ) -> None:
        self._client = client
        self._connection = settings.name
        self._lookback = LOOKBACK if settings.tuning.lookback is None else settings.tuning.lookback
        self._walk = Walk(client, settings, stream.name, settings.tuning.page_size or PAGE_SIZE)
        # Stamps are whole seconds and windows end before their bound: without the second that
        # runs right now, what was saved just before the pull would have to wait for the next.
        self._end = self._walk.map.shape.server_time + SECOND
        self._told: set[str] = set()
        self._seen: set[str] = set()
        self._stages: frozenset[str] | None = None

    def pages(self, since: Cursor | datetime | None) -> Iterator[Page]:
        """See ``connectors.base.Connector.pull``."""
        windows = self._windows(since, org=self._client.org_id() or "")
        for window in windows:
            yield from self._window_pages(window, is_last=window is windows[-1])

    # ------------------------------------------------------------ which windows

    def _windows(self, since: Cursor | datetime | None, *, org: str) -> list[Place]:
        end = self._end
        if since is None:
            return [Place(mode="full", org=org, low=None, high=end)]
        if isinstance(since, datetime):
            return [Place(mode="increment", org=org, low=since.astimezone(UTC), high=end)]
        kept = Place.from_cursor(self._connection, since)
        if kept.org and org and kept.org != org:
            raise OrgChanged(
                self._connection,
                f"The credentials lead to org {org}, the stored data came from {kept.org}."
                " Correct the credentials, or after a sandbox refresh reset the connection"
                f" (kpisync state reset {self._connection} --org).",
            )
        # A clock set back must not open a gap: the overlap starts from the earlier of the two.
        following = Place(
            mode="increment",
            org=org,
            low=min(kept.high, end) - self._lookback,
            high=end,
            deletions_from=kept.deletions_from,
        )
        return [following] if kept.mode == "done" else [kept, following]

    # ------------------------------------------------------------ the pages of a window

    def _window_pages(self, window: Place, *, is_last: bool) -> Iterator[Page]:
        total = self._walk.count() if window.mode == "full" else None
        settled = self._settled(window)
        place, walked, answers = window, 0, 0
        for chunk in self._walk.chunks(
            low=window.low, high=window.high, at=window.at, after_id=window.id
        ):
            answers += 1
            walked += len(chunk.read)
            place = replace(place, at=chunk.at, id=chunk.id, rows=place.rows + settled(chunk))
            if not chunk.is_end:
                yield self._page(chunk.rows, place, total=total)
                continue
            if total is not None and (window.at is not None or walked < total):
                self._ensure_nothing_was_lost(place)
            rows = chunk.rows
            # A row edited while we read moves behind `high`, perhaps before we came to it.
            if window.mode == "full" or answers > 1:
                for tail in self._walk.chunks(low=window.high, high=None, at=None, after_id=""):
                    if rows and tail.rows:
                        yield self._page(rows, place, total=total)
                    rows = tail.rows or rows
            yield self._last_page(rows, place, total=total, is_last=is_last)

    def _last_page(
        self, rows: Sequence[Row], place: Place, *, total: int | None, is_last: bool
    ) -> Page:
        self._seen.update(long_id(row["Id"]) for row in rows)
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
        )
        return self._page(
            [*rows, *deletions.rows],
            done,
            total=total,
            deleted=deletions.refs,
            complete_until=place.high - SECOND if is_last else None,
            warnings=warnings,
        )

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
        for row in rows:
            mapped = self._walk.map.record(row)
            if isinstance(mapped, RejectedRecord):
                rejected.append(mapped)
            else:
                records.append(mapped)
        if place.mode == "increment":
            self._seen.update(long_id(row["Id"]) for row in rows)
        said = [*self._walk.map.warnings, *self._unknown_stages(rows), *warnings]
        return Page(
            records=records,
            deleted=deleted,
            rejected=rejected,
            resume_at=place.to_cursor(),
            complete_until=complete_until,
            total=total,
            warnings=self._not_told_yet(said),
            unreadable=self._walk.map.unreadable,
        )

    # ------------------------------------------------------------ completeness

    def _settled(self, window: Place) -> _Settled:
        return _Settled(window.high - max(self._lookback, LOOKBACK))

    def _ensure_nothing_was_lost(self, place: Place) -> None:
        """A full pull that brought less than the CRM counts must not pass for complete."""
        before = self._settled(place).before
        counted = self._walk.count(before)
        if place.rows < counted:
            raise MalformedAnswer(
                self._connection,
                f"Salesforce counts {counted} {self._walk.selection.object} records changed before"
                f" {before:%Y-%m-%d %H:%M:%S} UTC, but brought only {place.rows}."
                " The stream is not taken for complete; pull it again.",
            )

    # ------------------------------------------------------------ deletions

    def _deletions(self, place: Place, warnings: list[str]) -> _Deletions:
        """Deletions of the window; what the bin still holds comes as rows, the rest as refs."""
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

    # ------------------------------------------------------------ warnings

    def _unknown_stages(self, rows: Sequence[Row]) -> Iterator[str]:
        source = self._walk.map.stage_column
        if source is None:
            return
        for row in rows:
            name = row.get(source)
            if isinstance(name, str) and name and not self._is_known_stage(name):
                yield (
                    f'The stage "{name}" is not in the org\'s list of opportunity stages. Its'
                    " deals count as open, won or lost by their own flags (IsClosed, IsWon)."
                    " Move them to a listed stage, or restore the stage in Setup > Object Manager"
                    " > Opportunity > Stage."
                )

    def _is_known_stage(self, name: str) -> bool:
        if self._stages is None:
            try:
                rows = self._client.query_all("SELECT ApiName FROM OpportunityStage")
            except (MisconfiguredConnection, PermissionMissing, RequestRefused):
                # The stream of stages itself says what is wrong with reading them.
                rows = []
            self._stages = frozenset(str(row.get("ApiName")) for row in rows)
        return name in self._stages or not self._stages

    def _not_told_yet(self, warnings: Sequence[str]) -> tuple[str, ...]:
        fresh = [text for text in dict.fromkeys(warnings) if text not in self._told]
        self._told.update(fresh)
        return tuple(fresh)


@dataclass(frozen=True, slots=True)
class _Settled:
    """Counts rows changed so early that no running transaction can add to them."""

    before: datetime

    def __call__(self, chunk: Chunk) -> int:
        """How many rows of a chunk are settled."""
        if chunk.at is not None and chunk.at < self.before:
            return len(chunk.read)
        return sum(datetime.fromisoformat(stamp) < self.before for stamp in chunk.read)
