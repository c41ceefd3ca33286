"""Writing values: by sObject Collections, or by a job where there are many records.

Page: REST API Developer Guide, "Update Multiple Records with Fewer Round-Trips". The answer is a
list in the order of the request; a well-formed request is HTTP 200 even when every record failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from connectors.base import PushOutcome, PushResult
from connectors.errors import ConnectorError
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.entries import WRITE_HEADERS, Entry, all_alike, entries_of
from connectors.salesforce.faults import AnswerLost, UnreadableRequest, outcome_of
from connectors.salesforce.ids import long_id
from connectors.salesforce.ingest import BulkWriter, JobRefused, fits_into_csv
from store.canonical import FieldUpdate

MOST_RECORDS: Final = 200
"""In one call."""

_PATH: Final = "composite/sobjects"
_IS_DUPLICATE: Final = "DUPLICATES_DETECTED"


class Writer:
    """Writes to one org.

    Args:
        client: What talks to the org.
        jobs: What writes by jobs.
        batch: Most records a call.
        bulk_from: From so many records of an object on a job is made; None: never.
    """

    def __init__(
        self, client: SalesforceClient, jobs: BulkWriter, *, batch: int, bulk_from: int | None
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._batch = batch
        self._bulk_from = bulk_from

    def push(
        self, updates: Sequence[FieldUpdate], parents: Mapping[str, str]
    ) -> Sequence[PushResult]:
        """Write `updates`, whatever their number.

        Args:
            updates: What to write.
            parents: Record id -> id of the record that its saving locks, as far as known.

        Returns:
            One result for each update, in their order.

        Raises:
            ConnectorError: nothing at all was written.
        """
        self._jobs.settle()
        results: dict[int, PushResult] = {}
        waiting = list(self._lots(entries_of(updates, parents)))
        while waiting:
            lot = waiting.pop(0)
            try:
                told = self._written(lot)
            except ConnectorError as error:
                if not results:
                    raise
                # Earlier calls have written: their results must not be lost with this error.
                left = [entry for each in (lot, *waiting) for entry in each]
                told = all_alike(left, PushOutcome.RETRY, type(error).__name__, error.message)
                waiting = []
            results.update((id(result.update), result) for result in told)
        return [results[id(update)] for update in updates]

    def _lots(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """What goes out at once: a job's worth of one object, or one call's."""
        single: list[Entry] = []
        for _, some in groupby(entries, key=lambda entry: entry.object_name):
            of_object = list(some)
            in_csv = [entry for entry in of_object if fits_into_csv(entry)]
            if self._bulk_from is not None and len(in_csv) >= self._bulk_from:
                yield in_csv
                single += [entry for entry in of_object if not fits_into_csv(entry)]
            else:
                single += of_object
        yield from _pieces(single, self._batch)

    def _written(self, lot: list[Entry]) -> list[PushResult]:
        if self._bulk_from is not None and len(lot) > self._batch:
            try:
                told = self._jobs.write(lot)
            except JobRefused:
                return self._piece_by_piece(lot)
            return self._with_duplicates_allowed(lot, told)
        return self._by_call(lot)

    def _with_duplicates_allowed(
        self, lot: Sequence[Entry], told: list[PushResult]
    ) -> list[PushResult]:
        """Write by calls what a job refused as a duplicate: jobs know no header that allows it."""
        again = {
            long_id(result.update.record_id) for result in told if result.code == _IS_DUPLICATE
        }
        if not again:
            return told
        left = [entry for entry in lot if entry.record_id in again]
        try:
            retold = self._piece_by_piece(left)
        except ConnectorError as error:
            retold = all_alike(left, PushOutcome.RETRY, type(error).__name__, error.message)
        kept = [result for result in told if long_id(result.update.record_id) not in again]
        return [*kept, *retold]

    def _piece_by_piece(self, lot: Sequence[Entry]) -> list[PushResult]:
        """The org makes no jobs: many calls then, each of which may be the last one."""
        told: list[PushResult] = []
        for piece in _pieces(lot, self._batch):
            try:
                told += self._by_call(piece)
            except ConnectorError as error:
                if not told:
                    raise
                left = lot[len({result.update.record_id for result in told}) :]
                told += all_alike(left, PushOutcome.RETRY, type(error).__name__, error.message)
                break
        return told

    # ------------------------------------------------------------ one call

    def _by_call(self, entries: Sequence[Entry]) -> list[PushResult]:
        body = {"allOrNone": False, "records": [_record(entry) for entry in entries]}
        try:
            answer = self._client.write(_PATH, body, method="PATCH", headers=WRITE_HEADERS)
        except AnswerLost as error:
            return all_alike(entries, PushOutcome.UNKNOWN, "NO_ANSWER", error.message)
        except UnreadableRequest as error:
            return self._without_the_culprit(entries, error)
        if not isinstance(answer, list) or len(answer) != len(entries):
            return all_alike(
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
        self, entries: Sequence[Entry], error: UnreadableRequest
    ) -> list[PushResult]:
        """One value its field cannot take refuses the whole call: halve until it stands alone."""
        if len(entries) == 1:
            return all_alike(entries, PushOutcome.FAILED, "JSON_PARSER_ERROR", error.message)
        middle = len(entries) // 2
        return self._by_call(entries[:middle]) + self._by_call(entries[middle:])


def _record(entry: Entry) -> Mapping[str, object]:
    """The record as Collections wants it; None clears a field."""
    return {"attributes": {"type": entry.object_name}, "id": entry.record_id, **entry.values}


def _results(entry: Entry, told: object) -> Iterator[PushResult]:
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


def _pieces(entries: Sequence[Entry], size: int) -> Iterator[list[Entry]]:
    for start in range(0, len(entries), size):
        yield list(entries[start : start + size])
