"""Orders and look-ups over an org's records, kept up to date, so that half a million serve fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from sandbox.org import Record

Placed: TypeAlias = tuple[datetime, str, Record]
"""A record behind the instant and the id that place it."""

STAMPS: Final[Mapping[str, Callable[[Record], datetime]]] = {
    "SystemModstamp": lambda record: record.state.modified_at,
    "CreatedDate": lambda record: record.created_at,
}
"""The instants by which records are kept in order."""


class Indexes:
    """Records by instant and id, by id, and by what they refer to; all worked out when asked for.

    Args:
        rows: Gives all visible records of an object by id.
    """

    def __init__(self, rows: Callable[[str], Mapping[str, Record]]) -> None:
        self._rows = rows
        self._revisions: dict[str, int] = {}
        self._touched: dict[tuple[str, str], set[str]] = {}
        self._placed: dict[tuple[str, str], list[Placed]] = {}
        self._ids: dict[str, tuple[int, list[str]]] = {}
        self._groups: dict[tuple[str, str], tuple[int, dict[str, list[Record]]]] = {}

    def note(self, object_name: str, record_id: str) -> None:
        """A record came, changed or went."""
        self._revisions[object_name] = self._revisions.get(object_name, 0) + 1
        for name in STAMPS:
            if (object_name, name) in self._placed:
                self._touched.setdefault((object_name, name), set()).add(record_id)

    def revision(self, object_name: str) -> int:
        """A number that grows with every change of the object's records."""
        return self._revisions.get(object_name, 0)

    def placed(self, object_name: str, stamp: str) -> list[Placed]:
        """All visible records sorted by (an instant of `STAMPS`, Id)."""
        key = (object_name, stamp)
        kept, instant, rows = self._placed.get(key), STAMPS[stamp], self._rows(object_name)
        touched = self._touched.pop(key, set())
        if kept is None:
            kept = [(instant(record), record.id, record) for record in rows.values()]
        elif touched:
            kept = [row for row in kept if row[1] not in touched]
            kept += [(instant(rows[each]), each, rows[each]) for each in touched if each in rows]
        else:
            return kept
        kept.sort()  # ids differ, so that records are never compared
        self._placed[key] = kept
        return kept

    def ids(self, object_name: str) -> list[str]:
        """All visible ids, sorted."""
        rows = self._rows(object_name)
        kept = self._ids.get(object_name)
        if kept is None or kept[0] != self.revision(object_name):
            kept = (self.revision(object_name), sorted(rows))
            self._ids[object_name] = kept
        return kept[1]

    def referring(self, object_name: str, field: str) -> Mapping[str, list[Record]]:
        """The records by the id that one of their reference fields holds."""
        key, revision = (object_name, field), self.revision(object_name)
        kept = self._groups.get(key)
        if kept is None or kept[0] != revision:
            groups: dict[str, list[Record]] = {}
            for record in self._rows(object_name).values():
                target = record.state.fields.get(field)
                if isinstance(target, str):
                    groups.setdefault(target, []).append(record)
            kept = (revision, groups)
            self._groups[key] = kept
        return kept[1]
