"""Bulk API 2.0 jobs: what they are, and how they move from state to state.

Page: Bulk API 2.0 and Bulk API Developer Guide, "Get Information About a Query Job", "Get Job
Info", "Bulk API 2.0 Limits and Allocations".

A job's work is done by the dialect (`Work`); here is only when. By default each question about a
job moves it one state on; the admin can let states last longer, hold jobs, or move them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from sandbox.salesforce_ids import long_id, make_id

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

JobKind: TypeAlias = Literal["query", "ingest"]

OPEN: Final = "Open"
UPLOAD_COMPLETE: Final = "UploadComplete"
IN_PROGRESS: Final = "InProgress"
JOB_COMPLETE: Final = "JobComplete"
FAILED: Final = "Failed"
ABORTED: Final = "Aborted"
ENDED: Final = frozenset({JOB_COMPLETE, FAILED, ABORTED})
WAITING: Final = frozenset({UPLOAD_COMPLETE, IN_PROGRESS})
JOB_LIFE: Final = timedelta(days=7)  # Bulk guide, limits: results are kept for seven days


class Work(Protocol):
    """What a job does while it is in progress."""

    def begin(self) -> str | None:
        """Look at what was sent; an error message if the job fails before any row."""

    def go_on(self, rows: int) -> bool:
        """Do the next so many rows; whether all are done."""

    @property
    def processed(self) -> int:
        """Rows done, failed ones included."""

    @property
    def failed(self) -> int:
        """Rows that were refused."""


class Idle:
    """The work of a job that has none yet."""

    processed = 0
    failed = 0

    def begin(self) -> str | None:
        """Nothing is wrong."""
        return None

    def go_on(self, rows: int) -> bool:
        """There is nothing to do."""
        del rows
        return True


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job is to end other than well."""

    kind: str
    """``query``, ``ingest``, or empty for either."""
    state: str
    message: str
    after_rows: int


@dataclass(slots=True)
class Job:
    """One Bulk job of the org; it belongs to no session."""

    id: str
    kind: JobKind
    operation: str
    object: str
    api_version: str
    line_ending: str
    delimiter: str
    created_at: datetime
    state: str
    work: Work = field(default_factory=Idle)
    external_id: str = ""
    query: str = ""
    assigns: bool = False
    changed_at: datetime | None = None
    error: str = ""
    content: bytes | None = None
    polls: int = 0
    """Questions about the job since it last changed its state."""
    ending: Ending | None = None


@dataclass(slots=True)
class Pace:
    """How fast jobs move."""

    polls: int = 1
    """How many questions a job stays in a state; 0: the first question finds it complete."""
    seconds: float = 0.0
    """How long by the org's clock it stays in a state at least."""
    is_held: bool = False
    """Whether only the admin moves jobs."""


class Jobs:
    """The Bulk jobs of one org."""

    def __init__(self, org: SalesforceOrg) -> None:
        self._org = org
        self._jobs: dict[str, Job] = {}
        self._endings: list[Ending] = []
        self.pace = Pace()
        self.is_enabled = True
        self.part_rows = 50_000
        """Rows that one part of results holds at most, whatever a client asks for."""
        self.upload_bytes = 100_000_000
        """Bulk guide, limits: 150 MB after base64, so 100 MB of data in the one upload."""
        self.batch_rows = 10_000
        self.rows_at_once = 20_000
        """Rows of an ingest job that one question about it lets be saved."""
        self.parent_lock_share = 0.0
        """Share of rows refused with a lock whose parent has rows in several batches."""
        self.empty_body = False
        """Whether the results of a query without rows have no header either."""
        self.query_jobs_max = 10_000
        self.result_mb_max = 1_000_000
        self.batches_max = 15_000
        self.query_jobs = 0
        self.result_bytes = 0
        self.batches = 0

    def add(self, job: Job) -> None:
        """Take a new job."""
        job.ending = self._take_ending(job.kind)
        job.changed_at = job.created_at
        self._jobs[job.id] = job

    def new_id(self) -> str:
        """An id for a job."""
        return make_id("750", self._org.next_number("job"))

    def find(self, kind: JobKind, job_id: str) -> Job | None:
        """The job of this kind and id, unless it is gone."""
        job = self._jobs.get(long_id(job_id))
        if job is None or job.kind != kind:
            return None
        return job if self._org.now() - job.created_at < JOB_LIFE else None

    def all(self, kind: JobKind | None = None) -> Iterator[Job]:
        """The jobs, oldest first."""
        return (job for job in self._jobs.values() if kind in {None, job.kind})

    def remove(self, job: Job) -> None:
        """Delete a job with its results."""
        self._jobs.pop(job.id, None)

    def plan(self, ending: Ending, times: int) -> None:
        """Let the next so many new jobs of a kind end like this."""
        self._endings += [ending] * times

    def look(self, job: Job) -> None:
        """A question about the job: it may move on by one state, or to its end."""
        if job.state not in WAITING or self.pace.is_held:
            return
        job.polls += 1
        due = (job.changed_at or job.created_at) + timedelta(seconds=self.pace.seconds)
        if self._org.now() < due:
            return
        if self.pace.polls == 0:
            self.run(job)
        elif job.polls >= self.pace.polls:
            self.move(job)

    def move(self, job: Job) -> None:
        """Bring a waiting job to its next state."""
        if job.state == UPLOAD_COMPLETE:
            self.enter(job, IN_PROGRESS)
            message = job.work.begin()
            if message is not None:
                job.error = message
                self.enter(job, FAILED)
            return
        if job.ending is not None:
            job.work.go_on(max(0, job.ending.after_rows - job.work.processed))
            job.error = job.ending.message
            self.enter(job, job.ending.state)
            return
        if job.work.go_on(self.rows_at_once):
            self.enter(job, JOB_COMPLETE)

    def run(self, job: Job) -> None:
        """Bring a waiting job to its end."""
        while job.state in WAITING:
            self.move(job)

    def enter(self, job: Job, state: str) -> None:
        """Put the job into a state."""
        job.state, job.polls, job.changed_at = state, 0, self._org.now()

    def work_on(self, job: Job, rows: int) -> None:
        """Let a job in progress do some rows and stay in progress."""
        if job.state == UPLOAD_COMPLETE:
            self.move(job)
        if job.state == IN_PROGRESS:
            job.work.go_on(rows)

    def _take_ending(self, kind: JobKind) -> Ending | None:
        for ending in self._endings:
            if ending.kind in {"", kind}:
                self._endings.remove(ending)
                return ending
        return None


def stamped(job: Job, text: Callable[[datetime], str], user: str) -> dict[str, object]:
    """The members that every answer about a job has."""
    return {
        "id": job.id,
        "operation": job.operation,
        "object": job.object,
        "createdById": user,
        "createdDate": text(job.created_at),
        "systemModstamp": text(job.changed_at or job.created_at),
        "state": job.state,
        "concurrencyMode": "Parallel",
        "contentType": "CSV",
        "apiVersion": float(job.api_version),
        "lineEnding": job.line_ending,
        "columnDelimiter": job.delimiter,
    }


DELIMITERS: Final[Mapping[str, str]] = {
    "BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t",
}  # fmt: skip
LINE_ENDINGS: Final[Mapping[str, str]] = {"LF": "\n", "CRLF": "\r\n"}
