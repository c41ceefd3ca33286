"""Bulk API 2.0 queries, driven step by step so that a killed worker can go on with its job.

The library's own driving keeps the job's id to itself, never renews a token and holds whole
results in memory. Here each step is one call: create, look, fetch a part into a file.

Pages: Bulk API 2.0 and Bulk API Developer Guide, "Create a Query Job", "Get Information About a
Query Job", "Get Results for a Query Job". A job lives seven days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Final

from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    RequestRefused,
)
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.faults import NotFound, UnknownName
from connectors.salesforce.tally import Tally

PART_ROWS: Final = 50_000
"""Rows asked for at once: a part lies on the disk while it is read, and is fetched again when
the worker is killed in between."""
_JOBS: Final = "jobs/query"
_NO_MORE: Final = frozenset({"", "null"})
"""The locator behind the last part: the text ``null``."""


class JobState(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    DONE = "done"


class BulkRefused(ConnectorError):
    """Salesforce does not take this query as a bulk job; it may be read in pages."""


class JobLost(CrmUnavailable):
    """The job failed, was stopped or is forgotten: only a new one brings the rows."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a result, now in a file."""

    rows: int | None
    """How many rows Salesforce says it has."""
    next_locator: str | None


class BulkQueries:
    """The query jobs of one org."""

    def __init__(self, client: SalesforceClient, tally: Tally) -> None:
        self._client = client
        self._tally = tally

    def create(self, soql: str, *, deleted_too: bool) -> str:
        """Begin a query and return its job's id.

        Raises:
            BulkRefused: the org or the object does not allow it.
            UnknownName: a column or object is not there.
        """
        asked = {"operation": "queryAll" if deleted_too else "query", "query": soql}
        try:
            # A second job that nobody fetches, after a lost answer, ends by itself.
            answer = self._client.read(lambda sf: sf.restful(_JOBS, method="POST", json=asked))
        except UnknownName:
            raise
        except (RequestRefused, PermissionMissing, MisconfiguredConnection) as error:
            raise BulkRefused(self._client.connection, error.message) from None
        job = answer.get("id") if isinstance(answer, Mapping) else None
        if not isinstance(job, str) or not job:
            raise MalformedAnswer(self._client.connection, "The new bulk query has no id.")
        self._tally.calls()
        return job

    def state(self, job: str) -> JobState:
        """Look how far a job is.

        Raises:
            JobLost: it will never be done.
        """
        try:
            answer = self._client.get(f"{_JOBS}/{job}")
        except NotFound:
            raise self._lost(job, "is not known any more") from None
        match answer.get("state"):
            case "JobComplete":
                self._tally.calls()
                return JobState.DONE
            case "Failed":
                raise self._lost(job, f"failed: {answer.get('errorMessage') or 'no reason given'}")
            case "Aborted":
                raise self._lost(job, "was stopped by somebody")
            case _:
                return JobState.RUNNING

    def fetch(self, job: str, locator: str, into: IO[bytes]) -> Part:
        """Bring one part of the result into an empty file.

        Args:
            job: A job that is done.
            locator: Of the part; empty for the first.
            into: Written from its beginning and left standing there.

        Raises:
            JobLost: the result is not kept any more.
        """
        asked = {"maxRecords": str(PART_ROWS)} | ({"locator": locator} if locator else {})
        try:
            headers = self._client.download(f"{_JOBS}/{job}/results", into, asked)
        except NotFound:
            raise self._lost(job, "and its result are not known any more") from None
        self._tally.calls()
        count, following = headers.get("Sforce-NumberOfRecords"), headers.get("Sforce-Locator", "")
        if following == locator and following not in _NO_MORE:
            raise MalformedAnswer(
                self._client.connection,
                "Salesforce names the same part of a bulk query as the next one.",
            )
        return Part(
            int(count) if count is not None and count.isdecimal() else None,
            None if following in _NO_MORE else following,
        )

    def _lost(self, job: str, what: str) -> JobLost:
        return JobLost(self._client.connection, f"The bulk query {job} {what}.")
