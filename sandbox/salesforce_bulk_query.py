"""Bulk API 2.0 query jobs: the query, its rows in no order, and their CSV.

Page: Bulk API 2.0 and Bulk API Developer Guide, "Query Jobs", "SOQL Considerations", "Get Results
for a Query Job".
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Callable, Sequence
from typing import Final

from sandbox.org import Record
from sandbox.salesforce_columns import Column
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_query import Found, Reader
from sandbox.soql import Query, SoqlError

UNSUPPORTED: Final = frozenset({"CaseStatus", "LeadStatus", "OpportunityStage"})
"""Objects that Bulk answers with INVALIDENTITY, as it does for picklist masters."""


class QueryWork:
    """The work of a query job: finding the rows; they are kept as they are at that moment.

    Raises:
        SoqlError: for what the vendor refuses when the job is created.
    """

    def __init__(self, org: SalesforceOrg, query: Query, *, version: str, everything: bool) -> None:
        self._org = org
        self._query = query
        self._everything = everything
        self._reader = Reader(org, query, version=version)
        _refuse(query, self._reader)
        self.rows: list[Record] = []

    @property
    def object_name(self) -> str:
        """The object asked for, in its own spelling."""
        return self._reader.object.name

    @property
    def processed(self) -> int:
        """Rows found."""
        return len(self.rows)

    @property
    def failed(self) -> int:
        """Queries refuse no rows."""
        return 0

    def begin(self) -> str | None:
        """Nothing to look at: the query was checked when the job was created."""
        return None

    def go_on(self, rows: int) -> bool:
        """Find the rows; `rows` limits nothing, a query job has its results or has none."""
        del rows
        found: Found = self._reader.run(include_deleted=self._everything)
        # Results stay what they are for the life of the job, so that locators can be read again.
        self.rows = [
            Record(r.object_name, r.id, r.created_at, r.created_by, r.state, changes=r.changes)
            for r in found.rows
        ]
        # LIMIT and ORDER BY switch PK chunking off; without them chunks come as they end.
        if self._query.limit is None and not self._query.order:
            self._org.random.shuffle(self.rows)
        return True

    def part(self, start: int, end: int, *, delimiter: str, line_ending: str) -> bytes:
        """Rows of the results as CSV, with the header row that every part has."""
        out = io.StringIO(newline="")
        writer = csv.writer(
            out, delimiter=delimiter, lineterminator=line_ending, quoting=csv.QUOTE_ALL
        )
        columns = self._reader.columns
        writer.writerow([".".join(column.names) for column in columns])
        cells = [_cell(column) for column in columns]
        writer.writerows([cell(record) for cell in cells] for record in self.rows[start:end])
        return out.getvalue().encode("utf-8", errors="surrogatepass")


def _refuse(query: Query, reader: Reader) -> None:
    """Refuse what the guide's "SOQL Considerations" exclude."""
    code = "FUNCTIONALITY_NOT_ENABLED"
    if reader.object.name in UNSUPPORTED:
        message = f"Entity '{reader.object.name}' is not supported by the Bulk API."
        raise SoqlError("INVALIDENTITY", message)
    if query.is_count:
        raise SoqlError(code, "Aggregate Relationships not supported in Bulk Query")
    if query.offset:
        raise SoqlError(code, "OFFSET clause not supported in Bulk Query")
    if any(column.spec.is_compound for column in reader.columns):
        raise SoqlError(code, "Selecting compound data not supported in Bulk Query")


def _cell(column: Column) -> Callable[[Record], object]:
    show = column.show
    match column.spec.type:
        case "datetime":
            # Bulk writes instants with Z where REST writes +0000.
            return lambda record: _instant(show(record))
        case "boolean":
            return lambda record: "true" if show(record) else "false"
    return show


def _instant(value: object) -> str | None:
    return f"{value[:-5]}Z" if isinstance(value, str) else None


def locator_of(job_id: str, start: int) -> str:
    """An opaque locator of the part that begins with this row."""
    return base64.urlsafe_b64encode(f"{job_id[-9:]}{start}".encode()).decode().rstrip("=")


def start_of(locator: str, job_id: str) -> int | None:
    """The first row that a locator means; None: it is none of this job."""
    try:
        text = base64.urlsafe_b64decode(locator + "=" * (-len(locator) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    mine, start = text[:9], text[9:]
    return int(start) if mine == job_id[-9:] and start.isdigit() else None


def csv_rows(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, delimiter: str, line_ending: str
) -> bytes:
    """Rows of text as CSV, all cells quoted."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_ending,
                        quoting=csv.QUOTE_ALL)  # fmt: skip
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode("utf-8", errors="surrogatepass")
