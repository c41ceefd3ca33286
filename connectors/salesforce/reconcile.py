"""What a nightly comparison with the org needs: counts, and ids without their records.

Removed contact roles, campaign members and products of quotes leave no trace that a query or the
log of deletions shows; only the list of all ids tells that they are gone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from simple_salesforce.format import format_soql

from connectors.base import CallCounter, ConnectionSettings, IdPage, Page, Stream
from connectors.errors import (
    CursorExpired,
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    RequestRefused,
)
from connectors.salesforce.bulk import BulkQueries, BulkRefused, JobState
from connectors.salesforce.bulkread import LONGEST_WAIT
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.csvrows import BrokenCsv, rows
from connectors.salesforce.deletions import read_log
from connectors.salesforce.faults import QueryTooHeavy
from connectors.salesforce.pull import LOOKBACK, MOST_PAGED_CALLS, Shared, StreamPull
from connectors.salesforce.schema import ObjectAbsent
from connectors.salesforce.streams import SPECS, stream_settings
from connectors.salesforce.tally import LARGEST_PAGE, Tally
from connectors.salesforce.walk import MOST_ROWS, Walk
from store.canonical import RecordRef

_LOG_REACHES: Final = timedelta(days=14)
"""The log of deletions goes back 15 days at most."""
_READ_IN_FULL: Final = frozenset({"owners", "stages", "rates"})
"""Short, or of several objects."""


class Reconciliation:
    """Counts and lists of one stream."""

    def __init__(
        self,
        client: SalesforceClient,
        settings: ConnectionSettings,
        stream: Stream,
        calls: CallCounter,
        shared: Shared,
    ) -> None:
        self._shared = shared
        self._client = client
        self._settings = settings
        self._stream = stream
        self._calls = calls
        self._tally = Tally(calls)

    @property
    def _is_listed(self) -> bool:
        return self._stream.name not in _READ_IN_FULL and not SPECS[self._stream.name].is_list

    def _known(self) -> Walk | None:
        try:
            return self._pull().known()
        except ObjectAbsent:
            return None

    def _pull(self) -> StreamPull:
        return StreamPull(self._client, self._settings, self._stream, self._calls, self._shared)

    def count(self, until: datetime) -> int | None:
        """Live records that were there before `until` and have not changed since.

        By change time, not by CreatedDate: an import may date that back while we read. Those that
        changed shortly before `until` are left out, for a transaction may still commit more.
        """
        walk = self._known() if self._is_listed else None
        try:
            return (
                None if walk is None else self._count(walk.selection.live_count(until - LOOKBACK))
            )
        except QueryTooHeavy:
            # The pull itself warns that nobody can count them.
            return None

    def fetch(self, refs: Sequence[RecordRef]) -> Page:
        """Records by id; one that does not exist any more is left out."""
        return self._pull().fetch([ref.native_id for ref in refs])

    def ids(self) -> Iterator[IdPage] | None:
        """Ids of all live records; None where the stream is better read in full."""
        return self._pages() if self._is_listed else None

    # ------------------------------------------------------------ ids

    def _pages(self) -> Iterator[IdPage]:
        walk = self._pull().known()
        before = self._count(_counting(walk.selection.live_ids()))
        listed = 0
        for page in self._live(walk, before):
            listed += len(page.refs)
            yield page
        if listed < before and listed < self._count(_counting(walk.selection.live_ids())):
            raise MalformedAnswer(
                self._settings.name,
                f"Salesforce counts {before} live {walk.selection.object} records but listed the"
                f" ids of {listed}. Nothing is removed; the comparison begins anew next time.",
            )
        yield from self._explained(walk)

    def _live(self, walk: Walk, total: int) -> Iterator[IdPage]:
        api = stream_settings(self._settings, self._stream.name).api
        is_long = total > MOST_PAGED_CALLS * LARGEST_PAGE
        if api == "bulk" or (api is None and is_long):
            try:
                yield from self._by_job(walk, total)
            except BulkRefused:
                # The stream's own pull says so; here pages do as well.
                pass
            else:
                return
        for ids in self._by_pages(walk.selection.live_ids(), deleted_too=False):
            yield IdPage(refs=[walk.map.ref(each) for each in ids], total=total)

    def _by_job(self, walk: Walk, total: int) -> Iterator[IdPage]:
        jobs = BulkQueries(self._client, self._tally)
        job = jobs.create(walk.selection.live_ids(), deleted_too=False)
        tuning = self._settings.tuning
        wait = tuning.retry_wait.total_seconds()
        while jobs.state(job) is not JobState.DONE:
            if self._settings.on_wait is not None:
                what = f"Salesforce lists the ids of {walk.selection.object} (bulk query {job})"
                self._settings.on_wait(f"{self._settings.name}: {what}", wait)
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT, tuning.retry_wait_max.total_seconds())
            yield IdPage(refs=(), total=total)
        locator: str | None = ""
        visited: set[str] = set()
        with tempfile.TemporaryFile(prefix="kpisync-bulk-") as file:
            while locator is not None:
                if locator in visited:
                    raise MalformedAnswer(
                        self._settings.name, "The parts of a bulk query lead in a circle."
                    )
                visited.add(locator)
                part = jobs.fetch(job, locator, file)
                try:
                    refs = [walk.map.ref(row["Id"]) for row in rows(file, ("Id",), frozenset())]
                except BrokenCsv as broken:
                    raise MalformedAnswer(
                        self._settings.name, f"A list of ids is wrong: {broken}."
                    ) from None
                yield IdPage(refs=refs, total=total)
                locator = part.next_locator

    def _by_pages(self, soql: str, *, deleted_too: bool) -> Iterator[list[str]]:
        """Ids in their own order, so that a forgotten query goes on behind the last one."""
        joint = " AND " if " WHERE " in soql else " WHERE "
        last, expired = "", 0
        while True:
            behind = joint + format_soql("Id > {}", last) if last else ""
            asked = f"{soql}{behind} ORDER BY Id LIMIT {MOST_ROWS}"
            came = 0
            try:
                answer = self._client.query(asked, deleted_too=deleted_too)
                while True:
                    ids = [str(row["Id"]) for row in answer.records]
                    self._tally.rows(len(ids))
                    came += len(ids)
                    if ids:
                        last, expired = ids[-1], 0
                        yield ids
                    if answer.next_url is None:
                        break
                    answer = self._client.next_page(answer.next_url)
            except CursorExpired:
                expired += 1
                if expired > MOST_PAGED_CALLS:
                    raise
                continue
            if came < MOST_ROWS:
                return

    def _explained(self, walk: Walk) -> Iterator[IdPage]:
        """What the org itself reports as deleted: in its bin, or in its log."""
        selection = walk.selection
        if walk.map.shape.has("IsDeleted"):
            binned = f"SELECT Id FROM {selection.object} WHERE IsDeleted = true"  # noqa: S608  # described name
            for ids in self._by_pages(binned, deleted_too=True):
                yield IdPage(refs=(), explained=[walk.map.ref(each) for each in ids])
        if walk.map.sees_deletions:
            end = self._client.server_time()
            with suppress(PermissionMissing, RequestRefused, MisconfiguredConnection):
                self._tally.calls()
                log = read_log(self._client, selection.object, start=end - _LOG_REACHES, end=end)
                yield IdPage(refs=(), explained=[walk.map.ref(each) for each in log.ids])

    def _count(self, soql: str) -> int:
        self._tally.calls()
        return self._client.query(soql, deleted_too=False).total


def _counting(soql: str) -> str:
    return soql.replace("SELECT Id", "SELECT COUNT()", 1)
