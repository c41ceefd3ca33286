"""Reading records by id so that every id asked for is accounted for.

A batch answer is in any order, names unknown ids in a list of errors, answers for a merged-away
id with the record it was merged into, and may leave an id out without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from connectors.hubspot.client import (
    HISTORY_LIMIT,
    READ_LIMIT,
    HubSpotClient,
    Json,
    Unparsable,
)
from connectors.hubspot.faults import Entry, entries_of
from connectors.hubspot.fields import MERGED, RECORD_ID
from connectors.hubspot.links import NOT_FOUND, ids_of, is_settled
from connectors.hubspot.minimum import Minimum

T = TypeVar("T")


@dataclass(slots=True)
class Fetched:
    """What became of the ids asked for."""

    rows: dict[str, Json] = field(default_factory=dict)
    """Record id -> its JSON; also winners that were not asked for."""
    gone: list[str] = field(default_factory=list)
    """Ids that HubSpot says it does not have."""
    merged: dict[str, str] = field(default_factory=dict)
    """Asked id -> id of the record that took its place."""
    unread: dict[str, str] = field(default_factory=dict)
    """Id -> why nothing certain is known about it."""


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into parts of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def merged_ids(row: Json) -> tuple[str, ...]:
    """The ids of the records that were merged into this one."""
    joined = (row.get("properties") or {}).get(MERGED)
    if not joined:
        return ()
    own = str(row["id"])
    return tuple(part for part in str(joined).split(";") if part and part != own)


def fetch(
    client: HubSpotClient,
    object_name: str,
    ids: Iterable[str],
    *,
    properties: Sequence[str],
    history: Sequence[str] = (),
    look_for_winners: bool = False,
    minimum: Minimum | None = None,
) -> Fetched:
    """Read records by id.

    Args:
        client: The connection.
        object_name: Which object.
        ids: Record ids; doubled ones are asked for once.
        properties: Names of the properties to read.
        history: Names of the properties whose past to read.
        look_for_winners: Ask one by one whether an unknown id was merged into another record.
        minimum: Reckons what the answers are worth.
    """
    fetching = _Fetching(client, object_name, properties, history, minimum)
    left_out = fetching.read(list(dict.fromkeys(ids)))
    if look_for_winners:
        left_out += fetching.done.gone
        fetching.done.gone = []
    for record_id in fetching.read(fetching.look_up(left_out)):
        fetching.done.unread[record_id] = "it has the record and leaves it out of its answer."
    return fetching.done


@dataclass(slots=True)
class _Fetching:
    """Reading records under way."""

    client: HubSpotClient
    object: str
    properties: Sequence[str]
    history: Sequence[str]
    minimum: Minimum | None
    done: Fetched = field(default_factory=Fetched)

    def read(self, ids: Sequence[str]) -> list[str]:
        """Read batches; returns the ids that the answers leave out."""
        limit = HISTORY_LIMIT if self.history else READ_LIMIT
        if self.minimum is not None:
            self.minimum.add(f"values of {self.object}", len(ids), limit)
        return [left_out for part in chunks(ids, limit) for left_out in self._part(part)]

    def look_up(self, ids: Iterable[str]) -> list[str]:
        """Ask for ids one by one; returns the ids of records that are still to be read."""
        to_read: dict[str, None] = {}
        for record_id in ids:
            row = self.client.get(self.object, record_id, [RECORD_ID, MERGED])
            if row is None:
                self.done.gone.append(record_id)
                continue
            found_id = str(row["id"])
            if found_id != record_id:
                self.done.merged[record_id] = found_id
            if found_id not in self.done.rows:
                to_read[found_id] = None
        return list(to_read)

    def _part(self, part: Sequence[str]) -> list[str]:
        try:
            answer = self.client.batch_read(
                self.object, part, self.properties, self.history, is_settled
            )
        except Unparsable as fault:
            if len(part) == 1:
                self.done.unread[part[0]] = fault.message
                return []
            # One poisoned record must not keep its neighbours out.
            half = len(part) // 2
            return self._part(part[:half]) + self._part(part[half:])
        open_ids = dict.fromkeys(part)
        for row in answer.results:
            self._take(row, open_ids)
        for entry in entries_of(answer.content):
            self._explain(entry, open_ids)
        return list(open_ids)

    def _take(self, row: Json, open_ids: dict[str, None]) -> None:
        record_id = str(row["id"])
        self.done.rows[record_id] = row
        if record_id in open_ids:
            del open_ids[record_id]
            return
        for old_id in merged_ids(row):
            if old_id in open_ids:
                del open_ids[old_id]
                self.done.merged[old_id] = record_id

    def _explain(self, entry: Entry, open_ids: dict[str, None]) -> None:
        for record_id in ids_of(entry):
            if record_id not in open_ids:
                continue
            del open_ids[record_id]
            if entry.category == NOT_FOUND:
                self.done.gone.append(record_id)
            else:
                self.done.unread[record_id] = entry.message or entry.category
