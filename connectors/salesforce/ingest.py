"""Writing many records by a job: Bulk API 2.0 ingest, driven by ourselves.

Page: Bulk API 2.0 and Bulk API Developer Guide, "Bulk API 2.0 Ingest". A job is created, gets one
CSV file, and is told that this was all; Salesforce then works through it in its own time. Three
lists tell of the end: what was written, what was refused, what was not looked at. They are in no
order, and a job that is "complete" may have refused every row.

The id of a job is noted before anything is uploaded: after a crash the next push waits for the
old job before it writes, so that no old value can overtake a new one.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from connectors.base import ConnectionSettings, PushOutcome, PushResult
from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    PermissionMissing,
    RequestRefused,
)
from connectors.salesforce.client import Json, SalesforceClient
from connectors.salesforce.entries import WRITE_HEADERS, Entry, all_alike
from connectors.salesforce.faults import AnswerLost, NotFound, outcome_of
from connectors.salesforce.ids import is_id, long_id
from store.canonical import Scalar

FROM_RECORDS: Final = 2_000
"""A job costs some eight calls; from ten calls of 200 records on it is the cheaper way."""
MOST_RECORDS: Final = 10_000
"""What Salesforce works through as one batch: batches of one job would lock each other's rows."""
MOST_BYTES: Final = 90_000_000
"""Of one upload; Salesforce takes 150 MB after its base64 coding, which is 100 MB before."""

NULL: Final = "#N/A"
"""Clears a field; an empty cell leaves it as it is."""

_PATH: Final = "jobs/ingest"
_NOTE: Final = "ingest_job"
_RUNNING: Final = frozenset({"UploadComplete", "InProgress"})
_ENDED: Final = frozenset({"JobComplete", "Failed", "Aborted"})
_LONGEST_WAIT_SECONDS: Final = 10.0
_PATIENCE: Final = 4
"""How many times `Tuning.total_timeout` a job may take before it is aborted."""
_LOOKS_AT_UPLOAD: Final = 3
_SPOOLED_BYTES: Final = 4_000_000
_HOPELESS: Final = ("InvalidBatch", "InvalidEntity", "Field name not found")
"""Beginnings of a failed job's words that another attempt would only meet again."""


class JobRefused(ConnectorError):
    """The org makes no such job; nothing was written."""


class BulkWriter:
    """Writes records of one org by jobs, one job at a time."""

    def __init__(self, client: SalesforceClient, settings: ConnectionSettings) -> None:
        self._client = client
        self._notes = settings.notes
        self._own_notes: dict[str, str] = {}
        self._on_wait = settings.on_wait
        self._first_wait = settings.tuning.retry_wait.total_seconds()
        self._longest_wait = min(
            _LONGEST_WAIT_SECONDS, settings.tuning.retry_wait_max.total_seconds()
        )
        self._patience = settings.tuning.total_timeout.total_seconds() * _PATIENCE

    # ------------------------------------------------------------ jobs of others

    def await_running(self) -> None:
        """Wait until a job under way has ended: what records hold is not settled before."""
        job_id = self._noted()
        if job_id is not None:
            self._ended(job_id, may_abort=False)

    def settle(self) -> None:
        """Bring a job to its end that a dead process has left behind.

        Raises:
            ConnectorError: it cannot be asked about; nothing must be written now.
        """
        job_id = self._noted()
        if job_id is None:
            return
        if self._state(job_id).get("state") == "Open":
            self._abort(job_id)
        self._ended(job_id, may_abort=True)
        self._forget()

    # ------------------------------------------------------------ writing

    def write(self, entries: Sequence[Entry]) -> list[PushResult]:
        """Write records of one object, in as many jobs as their size needs.

        Raises:
            JobRefused: the org makes no jobs for this; nothing was written.
            ConnectorError: nothing was written.
        """
        told: list[PushResult] = []
        columns = sorted({name for entry in entries for name in entry.values})
        for some, text in _files(entries, columns):
            try:
                told += self._one_job(some, text)
            except ConnectorError as error:
                if not told:
                    raise
                told += all_alike(some, PushOutcome.RETRY, type(error).__name__, error.message)
        return told

    def _one_job(self, entries: Sequence[Entry], text: bytes) -> list[PushResult]:
        job_id = self._created(entries[0].object_name)
        self._note(job_id)
        try:
            self._client.upload(f"{_PATH}/{quote(job_id, safe='')}/batches", text)
        except ConnectorError:
            # Salesforce looks at nothing before it is told that the upload is complete.
            self._abort(job_id)
            self._forget()
            raise
        try:
            self._complete_upload(job_id)
            job = self._ended(job_id, may_abort=True)
            results = self._results(job_id, job, entries)
        except ConnectorError as error:
            # The job goes on without us; its note stays, and what it has done is read back.
            return all_alike(entries, PushOutcome.UNKNOWN, type(error).__name__, error.message)
        self._forget()
        return results

    def _created(self, object_name: str) -> str:
        body = {
            "object": object_name,
            "operation": "update",
            "contentType": "CSV",
            "lineEnding": "LF",
        }
        try:
            answer = self._client.write(_PATH, body, headers=WRITE_HEADERS)
        except (RequestRefused, PermissionMissing, AnswerLost) as error:
            # An answer that was lost leaves an empty job behind, which does nothing.
            raise JobRefused(error.connection, error.message) from None
        job_id = answer.get("id") if isinstance(answer, Mapping) else None
        if not isinstance(job_id, str) or not is_id(job_id):
            raise JobRefused(self._client.connection, "Salesforce did not name the new job.")
        return job_id

    def _complete_upload(self, job_id: str) -> None:
        for _ in range(_LOOKS_AT_UPLOAD):
            try:
                self._patch(job_id, "UploadComplete")
            except (AnswerLost, RequestRefused):
                if self._state(job_id).get("state") == "Open":
                    continue
            return
        raise CrmUnavailable(
            self._client.connection, f"Salesforce does not start the job {job_id}."
        )

    def _abort(self, job_id: str) -> None:
        try:
            self._patch(job_id, "Aborted")
        except ConnectorError:
            # An open job does nothing, and one that has ended in the meantime is what we want.
            return

    def _patch(self, job_id: str, state: str) -> None:
        path = f"{_PATH}/{quote(job_id, safe='')}"
        self._client.write(path, {"state": state}, method="PATCH", headers=WRITE_HEADERS)

    # ------------------------------------------------------------ waiting

    def _ended(self, job_id: str, *, may_abort: bool) -> Json:
        """The job when it has ended; one that takes too long is aborted, where it may be.

        Raises:
            CrmUnavailable: it does not end.
        """
        deadline = time.monotonic() + self._patience
        wait, is_aborted = self._first_wait, False
        while (job := self._state(job_id)).get("state") in _RUNNING:
            if time.monotonic() > deadline:
                if is_aborted or not may_abort:
                    raise CrmUnavailable(
                        self._client.connection,
                        f"The job {job_id} does not end. See Setup > Bulk Data Load Jobs.",
                    )
                self._abort(job_id)
                is_aborted, deadline = True, time.monotonic() + self._patience
            if self._on_wait is not None:
                self._on_wait(f"{self._client.connection}: a job writes records", wait)
            time.sleep(wait)
            wait = min(wait * 1.5, self._longest_wait)
        return job

    def _state(self, job_id: str) -> Json:
        try:
            job = self._client.get(f"{_PATH}/{quote(job_id, safe='')}")
        except NotFound:
            # Jobs are forgotten some days after their end.
            return {"id": job_id, "state": "Aborted"}
        if job.get("state") not in {"Open", *_RUNNING, *_ENDED}:
            raise MalformedAnswer(
                self._client.connection, f"The job {job_id} is in a state nobody knows."
            )
        return job

    # ------------------------------------------------------------ results

    def _results(self, job_id: str, job: Json, entries: Sequence[Entry]) -> list[PushResult]:
        """One outcome a record from the three lists; a record in none of them is unknown."""
        told: dict[str, tuple[PushOutcome, str | None, str | None]] = {}
        doubled: set[str] = set()
        lists: Mapping[str, Callable[[Mapping[str, str]], _Told]] = {
            "successfulResults": lambda _: (PushOutcome.WRITTEN, None, None),
            "failedResults": _refusal,
            "unprocessedrecords": lambda _: _unprocessed(job),
        }
        for name, meaning in lists.items():
            for record_id, row in self._rows(f"{_PATH}/{quote(job_id, safe='')}/{name}"):
                if record_id in told:
                    doubled.add(record_id)
                told[record_id] = meaning(row)
        silence: _Told = (
            PushOutcome.UNKNOWN,
            "INCOMPLETE_ANSWER",
            f"The job {job_id} does not tell what became of it, or tells it twice.",
        )
        if not told and job.get("state") != "JobComplete" and _looked_at(job) == 0:
            # It ended before it read its file, and so has nothing to list.
            silence = _unprocessed(job)
        return [
            result
            for entry in entries
            for result in entry.results(
                *(silence if entry.record_id in doubled else told.get(entry.record_id, silence))
            )
        ]

    def _rows(self, path: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """The rows of a list by record id."""
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as file:
            self._client.download(path, file)
            with io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="") as text:
                for row in csv.DictReader(text):
                    record_id = row.get("sf__Id") or row.get("Id") or ""
                    yield long_id(record_id), row

    # ------------------------------------------------------------ the note

    def _noted(self) -> str | None:
        name = _NOTE
        text = self._notes.get(name) if self._notes is not None else self._own_notes.get(name)
        try:
            return str(json.loads(text)["job"]) if text else None
        except (ValueError, KeyError, TypeError):
            return None

    def _note(self, job_id: str) -> None:
        text = json.dumps({"job": job_id})
        if self._notes is not None:
            self._notes.put(_NOTE, text)
        else:
            self._own_notes[_NOTE] = text

    def _forget(self) -> None:
        if self._notes is not None:
            self._notes.drop(_NOTE)
        else:
            self._own_notes.pop(_NOTE, None)


_Told = tuple[PushOutcome, str | None, str | None]


def fits_into_csv(entry: Entry) -> bool:
    """No text of it means something else in a job's file."""
    return NULL not in entry.values.values()


def _files(entries: Sequence[Entry], columns: Sequence[str]) -> Iterator[tuple[list[Entry], bytes]]:
    """The records as CSV files that Salesforce takes, with the records in each."""
    head = _line(["Id", *columns])
    lines: list[bytes] = [head]
    held: list[Entry] = []
    size = len(head)
    for entry in entries:
        values = entry.values
        cells = [_cell(values[name]) if name in values else "" for name in columns]
        line = _line([entry.record_id, *cells])
        if held and (size + len(line) > MOST_BYTES or len(held) >= MOST_RECORDS):
            yield held, b"".join(lines)
            lines, held, size = [head], [], len(head)
        lines.append(line)
        held.append(entry)
        size += len(line)
    if held:
        yield held, b"".join(lines)


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    # A lone surrogate is no UTF-8.
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Scalar) -> str:
    """A value as a job's file wants it.

    Raises:
        ValueError: a number that is not finite.
    """
    if value is None or value == "":
        return NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("a number that is not finite cannot be written")
        return format(value, "f")
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return in_utc.replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    # NUL ends a text for many who read it after us.
    return str(value).replace("\0", "\ufffd")


def _refusal(row: Mapping[str, Any]) -> _Told:
    """The words of ``sf__Error``: ``CODE:message:Field__c --``."""
    code, _, rest = str(row.get("sf__Error") or "UNKNOWN").partition(":")
    message, _, fields = rest.rpartition(":")
    named = [name for name in fields.removesuffix("--").strip().split(",") if name]
    return outcome_of([{"statusCode": code, "message": message or rest, "fields": named}])


def _looked_at(job: Json) -> int | None:
    count = job.get("numberRecordsProcessed")
    return count if type(count) is int else None


def _unprocessed(job: Json) -> _Told:
    words = str(job.get("errorMessage") or f"The job ended as {job.get('state')} before it.")
    if job.get("state") == "Failed" and any(sign in words for sign in _HOPELESS):
        return PushOutcome.FAILED, "JOB_FAILED", words[:500]
    return PushOutcome.RETRY, "UNPROCESSED", words[:500]
