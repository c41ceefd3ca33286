"""Bulk API 2.0 ingest jobs: the CSV that was sent, row by row, with an outcome for each.

Page: Bulk API 2.0 and Bulk API Developer Guide, "Ingest Jobs", "Prepare CSV Files" (line endings,
UTF-8, empty cells, #N/A), "Get Job Successful Record Results" and its neighbours.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Final

from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_guards import Refusal
from sandbox.salesforce_ids import long_id
from sandbox.salesforce_jobs import DELIMITERS, Job
from sandbox.salesforce_saving import Save, Saving
from sandbox.salesforce_values import UnreadableValueError

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

NULL: Final = "#N/A"
CHUNK: Final = 200
"""Records that one transaction saves (Bulk guide, "How Requests Are Processed")."""
LARGEST_CELL: Final = 32 * 1024 * 1024


class IngestWork:
    """The work of an ingest job.

    Args:
        org: The org.
        spec: The object written.
        operation: ``insert``, ``update``, ``upsert`` or ``delete``.
        key: For an upsert the field by which rows are matched.
    """

    def __init__(
        self, org: SalesforceOrg, spec: ObjectSpec, operation: str, key: FieldSpec | None
    ) -> None:
        self._org = org
        self._spec = spec
        self._operation = operation
        self._key = key
        self.job: Job | None = None
        self._contended: set[str] = set()
        self.header: list[str] = []
        self.rows: list[list[str]] = []
        self.succeeded: list[list[str]] = []
        """sf__Id, sf__Created and the columns sent."""
        self.refused: list[list[str]] = []
        """sf__Id, sf__Error and the columns sent."""

    @property
    def processed(self) -> int:
        """Rows done, failed ones included."""
        return len(self.succeeded) + len(self.refused)

    @property
    def failed(self) -> int:
        """Rows that were refused."""
        return len(self.refused)

    def unprocessed(self) -> list[list[str]]:
        """The rows that the job did not come to."""
        return self.rows[self.processed :]

    # Reading what was sent

    def begin(self) -> str | None:
        """Read the CSV; an error message if nothing of it can be used."""
        job = self.job
        content = job.content if job else None
        if job is None or content is None:
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return "InvalidBatch : The CSV data is not encoded in UTF-8"
        wanted = job.line_ending
        if _line_ending_is_wrong(text, wanted):
            return (
                "InvalidBatch : LineEnding is invalid on user data. "
                f"Current LineEnding setting is {wanted}"
            )
        csv.field_size_limit(LARGEST_CELL)
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=DELIMITERS[job.delimiter], strict=True
        )
        try:
            self.header = next(reader, [])
            self.rows = [row for row in reader if row]
        except csv.Error as error:
            self.rows = []
            return f"InvalidBatch : Failed to parse CSV: {error}"
        self._org.jobs.batches += -(-len(self.rows) // self._org.jobs.batch_rows)
        wrong = self._wrong_header() or self._wrong_width()
        if wrong is None:
            self._note_parents()
        return wrong

    def _note_parents(self) -> None:
        """Find the parents that several batches would lock at the same time."""
        if not self._org.jobs.parent_lock_share or "id" not in map(str.lower, self.header):
            return
        place = [name.lower() for name in self.header].index("id")
        batches: dict[str, set[int]] = {}
        for number, row in enumerate(self.rows):
            if parent := self._parent_of(row[place]):
                batches.setdefault(parent, set()).add(number // self._org.jobs.batch_rows)
        self._contended = {parent for parent, found in batches.items() if len(found) > 1}

    def _parent_of(self, record_id: str) -> str:
        record = self._org.find(self._spec.name, record_id)
        return str((record["AccountId"] or record["ParentId"] or "") if record else "")

    def _is_locked(self, record: dict[str, object]) -> bool:
        # "Record-Level Locking": batches run in parallel, and each save locks the parent.
        share = self._org.jobs.parent_lock_share
        if not share or not self._contended:
            return False
        parent = self._parent_of(str(record.get("Id", "")))
        return parent in self._contended and self._org.random.random() < share

    def _wrong_header(self) -> str | None:
        known = {name.lower() for name in self.header}
        if len(known) != len(self.header):
            return "InvalidBatch : Duplicate field name in the header"
        for name in self.header:
            # A byte order mark makes the first name an unknown one.
            each = self._spec.get(name)
            if each is None or not self._org.access.may_read(self._spec, each):
                return f"InvalidBatch : Field name not found : {name}"
        needed = {"update": "Id", "delete": "Id"}.get(self._operation)
        needed = self._key.name if self._key else needed
        if needed and needed.lower() not in known:
            return f"InvalidBatch : Field name not found : {needed}"
        return None

    def _wrong_width(self) -> str | None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.header):
                return (
                    f"InvalidBatch : Failed to parse CSV: row {number} has {len(row)} columns, "
                    f"the header {len(self.header)}"
                )
        return None

    # Saving

    def go_on(self, rows: int) -> bool:
        """Save the next so many rows in transactions of 200; whether all are saved."""
        end = min(len(self.rows), self.processed + rows)
        while self.processed < end:
            start = self.processed
            self._save(self.rows[start : min(end, start + CHUNK)])
        return self.processed >= len(self.rows)

    def _save(self, rows: list[list[str]]) -> None:
        job = self.job
        saving = Saving(self._org, assigns=bool(job and job.assigns))
        records = [self._record(row) for row in rows]
        counted = Counter(self._match(record) for record in records)
        checked = [self._checked(saving, record, counted) for record in records]
        for row, record, each in zip(rows, records, checked, strict=True):
            if isinstance(each, Refusal):
                self.refused.append([str(record.get("Id") or ""), each.line(), *row])
                continue
            done = saving.delete(each) if self._operation == "delete" else saving.write(each)
            created = each.id is None
            self.succeeded.append([done, str(created).lower(), *row])

    def _record(self, row: list[str]) -> dict[str, object]:
        """A row's values: an empty cell says nothing, `#N/A` says null."""
        record: dict[str, object] = {}
        for name, cell in zip(self.header, row, strict=True):
            if cell == "":
                continue
            each = self._spec.get(name)
            label = each.name if each else name
            if cell == NULL:
                record[label] = None
            else:
                record[label] = _boolean(cell) if each and each.type == "boolean" else cell
        return record

    def _match(self, record: dict[str, object]) -> str:
        if self._key is not None and self._key.type != "id":
            return str(record.get(self._key.name, "")).casefold()
        return long_id(str(record.get("Id", "")))

    def _checked(
        self, saving: Saving, record: dict[str, object], counted: Counter[str]
    ) -> Save | Refusal:
        if self._is_locked(record):
            message = "unable to obtain exclusive access to this record or its parent"
            return Refusal("UNABLE_TO_LOCK_ROW", message)
        try:
            match self._operation:
                case "insert":
                    return saving.check_create(self._spec, record)
                case "delete":
                    return saving.check_delete(self._spec, str(record.get("Id", "")))
                case "upsert" if self._key is not None:
                    return saving.check_upsert(self._spec, self._key, record, counted)
            return saving.check_update(self._spec, record, counted)
        except UnreadableValueError as error:
            return Refusal("INVALID_TYPE_ON_FIELD_IN_RECORD", error.message)


def _boolean(cell: str) -> object:
    # "Valid CSV Record Rows": yes, y, true, on, 1 and their opposites, in any case.
    known = {"yes": True, "y": True, "true": True, "on": True, "1": True,
             "no": False, "n": False, "false": False, "off": False, "0": False}  # fmt: skip
    return known.get(cell.lower(), cell)


def _line_ending_is_wrong(text: str, declared: str) -> bool:
    """Whether some row ends otherwise than declared; line breaks inside quotes are data."""
    outside = text.split('"')[::2]
    if declared == "LF":
        return any("\r" in piece for piece in outside)
    return any("\n" in piece.replace("\r\n", "") for piece in outside)
