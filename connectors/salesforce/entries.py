"""What is written of one record, and in which order records are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from connectors.base import PushOutcome, PushResult
from connectors.salesforce.ids import long_id
from store.canonical import FieldUpdate, Scalar

WRITE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Without it an update runs assignment rules again and hands records to other owners.
        "Sforce-Auto-Assign": "FALSE",
        # Duplicate rules judge updates too; a KPI is no reason to refuse the record.
        "Sforce-Duplicate-Rule-Header": "allowSave=true",
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """All updates of one record: they are written, or refused, together."""

    object_name: str
    record_id: str
    updates: tuple[FieldUpdate, ...]

    @property
    def values(self) -> dict[str, Scalar]:
        """Field -> value; the last update of a field counts."""
        return {update.field: update.value for update in self.updates}

    def results(
        self, outcome: PushOutcome, code: str | None = None, message: str | None = None
    ) -> Iterator[PushResult]:
        """The same outcome for every update of the record."""
        for update in self.updates:
            yield PushResult(update=update, outcome=outcome, code=code, message=message)


def entries_of(updates: Sequence[FieldUpdate], parents: Mapping[str, str]) -> list[Entry]:
    """One entry per record, children of one parent side by side.

    Saving a child locks its parent: records of one account in several batches at once would wait
    for each other (Salesforce, "Record Locking Cheat Sheet"). One id twice in a call is an error.

    Args:
        updates: What to write.
        parents: Record id -> id of the record that its saving locks, as far as known.
    """
    by_record: dict[tuple[str, str], list[FieldUpdate]] = {}
    for update in updates:
        by_record.setdefault((update.object, long_id(update.record_id)), []).append(update)
    ordered = sorted(by_record, key=lambda key: (key[0], parents.get(key[1], key[1]), key[1]))
    return [
        Entry(name, record_id, tuple(by_record[name, record_id])) for name, record_id in ordered
    ]


def all_alike(
    entries: Iterable[Entry], outcome: PushOutcome, code: str, message: str
) -> list[PushResult]:
    """The same outcome for every update of several records."""
    return [result for entry in entries for result in entry.results(outcome, code, message)]
