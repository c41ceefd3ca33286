"""Rows of a window by a bulk query: begun, waited for and taken part by part, resumable anywhere.

The rows come in no order, so the position is the job itself and how much of it was taken. Every
step yields the place to go on from; the job's id is handed out before its first look, so that a
worker killed at any time goes on with the same job.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import IO, Final

from connectors.base import ConnectionSettings
from connectors.errors import CrmUnavailable, MalformedAnswer
from connectors.salesforce.bulk import BulkQueries, JobLost, JobState, Part
from connectors.salesforce.csvrows import BrokenCsv, Row, rows
from connectors.salesforce.cursor import Job, Place
from connectors.salesforce.faults import UnknownName
from connectors.salesforce.tally import LARGEST_PAGE
from connectors.salesforce.walk import Walk

PATIENCE: Final = timedelta(minutes=30)
"""How long one pull waits for a job; the next pull goes on with the same one."""
OLDEST_JOB: Final = timedelta(days=6)
"""Salesforce keeps jobs seven days."""
LONGEST_WAIT: Final = 30.0
"""Seconds between two looks."""
_MOST_JOBS: Final = 3
_MOST_FETCHES: Final = 3
"""Of one part whose rows do not add up."""


@dataclass(frozen=True, slots=True)
class Step:
    """Some rows, or none while a job is under way, and the place behind them."""

    rows: Sequence[Row]
    place: Place
    is_end: bool = False


class BulkRead:
    """Reads one window of one stream.

    Args:
        jobs: The org's bulk queries.
        walk: What is read.
        settings: The connection.
        settled: Counts the change times that no late commit can join any more.
    """

    def __init__(
        self,
        jobs: BulkQueries,
        walk: Walk,
        settings: ConnectionSettings,
        settled: Callable[[Sequence[str]], int],
    ) -> None:
        self._jobs = jobs
        self._settled = settled
        self._walk = walk
        self._settings = settings
        tuning = settings.tuning
        self._first_wait = tuning.retry_wait.total_seconds()
        self._longest_wait = min(LONGEST_WAIT, tuning.retry_wait_max.total_seconds())
        self.losses: list[str] = []
        """What became of jobs that had to be begun anew."""

    def steps(self, window: Place) -> Iterator[Step]:
        """All rows changed from `window.low` on; the last step has `is_end`.

        Raises:
            BulkRefused: Salesforce does not take the query as a job; nothing was read yet.
            JobLost: job after job fails.
            CrmUnavailable: the job is not done in time; it goes on without us.
        """
        place = window
        for attempt in range(1, _MOST_JOBS + 1):
            is_new = place.job is None or self._is_too_old(place)
            if is_new:
                job = Job(id=self._created(window))
                place = replace(place, at=None, id="", rows=0, job=job)
                yield Step((), place)
            try:
                for step in self._of_job(place, is_new=is_new):
                    place = step.place
                    yield step
            except JobLost as lost:
                if attempt == _MOST_JOBS:
                    raise
                self.losses.append(f"{lost.message} A new one is begun.")
                place = replace(place, job=None)
            else:
                return

    def _created(self, window: Place) -> str:
        for _ in range(_MOST_JOBS):
            soql = self._walk.selection.unordered(self._walk.map.columns, low=window.low)
            try:
                return self._jobs.create(soql, deleted_too=True)
            except UnknownName as fault:
                self._walk.look_again(fault)
        raise MalformedAnswer(
            self._settings.name, f"The columns of {self._walk.selection.object} keep changing."
        )

    def _is_too_old(self, place: Place) -> bool:
        return self._walk.server_time - place.high > OLDEST_JOB

    # ------------------------------------------------------------ one job

    def _of_job(self, place: Place, *, is_new: bool) -> Iterator[Step]:
        yield from self._waiting(place, is_new=is_new)
        with tempfile.TemporaryFile(prefix="kpisync-bulk-") as file:
            yield from self._taking(place, file)

    def _waiting(self, place: Place, *, is_new: bool) -> Iterator[Step]:
        """A step now and then until the job is done, so that stops and leases are not held up."""
        job = _job_of(place)
        wait, waited = self._first_wait, 0.0
        while is_new or self._jobs.state(job.id) is not JobState.DONE:
            is_new = False
            if waited >= PATIENCE.total_seconds():
                raise CrmUnavailable(
                    self._settings.name,
                    f"Salesforce has not finished the bulk query {job.id} of"
                    f" {self._walk.selection.object} in {PATIENCE.total_seconds() / 60:.0f}"
                    " minutes. The next pull goes on waiting for it (Setup > Bulk Data Load Jobs"
                    " shows its progress).",
                )
            if self._settings.on_wait is not None:
                what = f"Salesforce prepares {self._walk.selection.object} (bulk query {job.id})"
                self._settings.on_wait(f"{self._settings.name}: {what}", wait)
            time.sleep(wait)
            waited, wait = waited + wait, min(wait * 2, self._longest_wait)
            yield Step((), place)

    def _taking(self, place: Place, file: IO[bytes]) -> Iterator[Step]:
        visited: set[str] = set()
        while True:
            job = _job_of(place)
            part: Part | None = None
            for attempt in range(1, _MOST_FETCHES + 1):
                try:
                    part = self._fetched(job, file, visited)
                    for step in self._rows_of(place, part, file):
                        place = step.place
                        yield step
                    break
                except MalformedAnswer:
                    if attempt == _MOST_FETCHES:
                        raise
                    job = _job_of(place)
            if part is None or part.next_locator is None:
                return

    def _fetched(self, job: Job, file: IO[bytes], visited: set[str]) -> Part:
        part = self._jobs.fetch(job.id, job.part, file)
        visited.add(job.part)
        if part.next_locator is not None and part.next_locator in visited:
            raise MalformedAnswer(
                self._settings.name, "The parts of a bulk query lead in a circle."
            )
        return part

    def _rows_of(self, place: Place, part: Part, file: IO[bytes]) -> Iterator[Step]:
        """The rows of a part behind those that were taken, a page at a time."""
        job, taken, page = _job_of(place), 0, list[Row]()
        columns, booleans = self._walk.map.columns, self._walk.map.booleans
        try:
            for row in rows(file, columns, booleans):
                taken += 1
                if taken <= job.taken:
                    continue
                page.append(row)
                if len(page) == LARGEST_PAGE and (part.rows is None or taken < part.rows):
                    place = self._behind(place, page, taken)
                    yield Step(page, place)
                    page = []
        except BrokenCsv as broken:
            raise self._distrusted(str(broken)) from None
        if part.rows is not None and taken != part.rows:
            raise self._distrusted(f"it speaks of {part.rows} rows and brought {taken}")
        place = self._behind(place, page, taken)
        if part.next_locator is None:
            yield Step(page, place, is_end=True)
            return
        # The place behind a part is the next part: who goes on from here always comes further.
        yield Step(page, replace(place, job=Job(id=job.id, part=part.next_locator)))

    def _behind(self, place: Place, page: Sequence[Row], taken: int) -> Place:
        column = self._walk.map.cursor_column
        try:
            count = self._settled([row[column] for row in page])
        except TypeError:
            raise self._distrusted(f"rows lack their {column}") from None
        job = replace(_job_of(place), taken=taken)
        return replace(place, rows=place.rows + count, job=job)

    def _distrusted(self, what: str) -> MalformedAnswer:
        return MalformedAnswer(
            self._settings.name,
            f"A part of the bulk query of {self._walk.selection.object} is wrong: {what}.",
        )


def _job_of(place: Place) -> Job:
    assert place.job is not None  # noqa: S101  # set before any of this is reached
    return place.job
