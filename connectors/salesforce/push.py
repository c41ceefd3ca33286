"""Writing values: sObject Collections, one record per entry, one result per update.

Page: REST API Developer Guide, "Update Multiple Records with Fewer Round-Trips". The answer is a
list in the order of the request; a well-formed request is HTTP 200 even when every record failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from connectors.base import PushOutcome, PushResult
from connectors.errors import ConnectorError
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.faults import AnswerLost, UnreadableRequest, outcome_of
from connectors.salesforce.ids import long_id
from store.canonical import FieldUpdate, Scalar

MOST_RECORDS: Final = 200
"""In one call."""

WRITE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Without it an update runs assignment rules again and hands records to other owners.
        "Sforce-Auto-Assign": "FALSE",
        # Duplicate rules judge updates too; a KPI is no reason to refuse the record.
        "Sforce-Duplicate-Rule-Header": "allowSave=true",
    }
)

_PATH: Final = "composite/sobjects"


@dataclass(frozen=True, slots=True)
class _Entry:
    """All updates of one record: they are written, or refused, together."""

    object_name: str
    record_id: str
    updates: tuple[FieldUpdate, ...]

    @property
    def body(self) -> Mapping[str, object]:
        """The record as Collections wants it; None clears a field."""
        values: dict[str, Scalar] = {update.field: update.value for update in self.updates}
        return {"attributes": {"type": self.object_name}, "id": self.record_id, **values}

    def results(
        self, outcome: PushOutcome, code: str | None = None, message: str | None = None
    ) -> Iterator[PushResult]:
        """The same outcome for every update of the record."""
        for update in self.updates:
            yield PushResult(update=update, outcome=outcome, code=code, message=message)


def push(
    client: SalesforceClient, updates: Sequence[FieldUpdate], *, batch: int
) -> Sequence[PushResult]:
    """Write `updates`, at most `batch` records a call.

    Returns:
        One result for each update, in their order.

    Raises:
        ConnectorError: nothing at all was written.
    """
    entries = _entries(updates)
    results: dict[int, PushResult] = {}
    for start in range(0, len(entries), batch):
        some = entries[start : start + batch]
        try:
            told = _write(client, some)
        except ConnectorError as error:
            if start == 0:
                raise
            # Earlier calls have written: their results must not be lost with this error.
            told = _all(entries[start:], PushOutcome.RETRY, type(error).__name__, error.message)
            results.update((id(result.update), result) for result in told)
            break
        results.update((id(result.update), result) for result in told)
    return [results[id(update)] for update in updates]


def _entries(updates: Sequence[FieldUpdate]) -> list[_Entry]:
    """One entry per record, sorted: neighbours often share a parent, which their writes lock."""
    by_record: dict[tuple[str, str], list[FieldUpdate]] = {}
    for update in updates:
        by_record.setdefault((update.object, long_id(update.record_id)), []).append(update)
    return [
        _Entry(object_name, record_id, tuple(by_record[object_name, record_id]))
        for object_name, record_id in sorted(by_record)
    ]


def _write(client: SalesforceClient, entries: Sequence[_Entry]) -> list[PushResult]:
    body = {"allOrNone": False, "records": [entry.body for entry in entries]}
    try:
        answer = client.write(_PATH, body, method="PATCH", headers=WRITE_HEADERS)
    except AnswerLost as error:
        return _all(entries, PushOutcome.UNKNOWN, "NO_ANSWER", error.message)
    except UnreadableRequest as error:
        return _without_the_culprit(client, entries, error)
    if not isinstance(answer, list) or len(answer) != len(entries):
        return _all(
            entries,
            PushOutcome.UNKNOWN,
            "INCOMPLETE_ANSWER",
            "Salesforce did not answer for every record of the call.",
        )
    return [
        result
        for entry, told in zip(entries, answer, strict=True)
        for result in _results(entry, told)
    ]


def _without_the_culprit(
    client: SalesforceClient, entries: Sequence[_Entry], error: UnreadableRequest
) -> list[PushResult]:
    """One value that its field cannot take refuses the whole call: halve until it stands alone."""
    if len(entries) == 1:
        return _all(entries, PushOutcome.FAILED, "JSON_PARSER_ERROR", error.message)
    middle = len(entries) // 2
    return _write(client, entries[:middle]) + _write(client, entries[middle:])


def _results(entry: _Entry, told: object) -> Iterator[PushResult]:
    if not isinstance(told, Mapping) or not isinstance(told.get("success"), bool):
        return entry.results(
            PushOutcome.UNKNOWN, "UNREADABLE_RESULT", "Salesforce's answer for it is unreadable."
        )
    told_id = told.get("id")
    if isinstance(told_id, str) and long_id(told_id) != entry.record_id:
        return entry.results(
            PushOutcome.UNKNOWN, "WRONG_ORDER", f"Salesforce answered for {told_id} in its place."
        )
    if told["success"]:
        return entry.results(PushOutcome.WRITTEN)
    errors = [error for error in told.get("errors") or () if isinstance(error, Mapping)]
    outcome, code, words = outcome_of(errors)
    return entry.results(outcome, code, words)


def _all(
    entries: Sequence[_Entry], outcome: PushOutcome, code: str, message: str
) -> list[PushResult]:
    return [result for entry in entries for result in entry.results(outcome, code, message)]
