"""Orders and look-ups over an org's records, kept up to date, so that half a million serve fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
        self._built: dict[str, list[tuple[str, str]]] = {}
        """Per object the orders and look-ups that exist, by object and field."""
        self._touched: dict[tuple[str, str], set[str]] = {}
        self._placed: dict[tuple[str, str], list[Placed]] = {}
        self._ids: dict[str, tuple[int, list[str]]] = {}
        self._groups: dict[tuple[str, str], _Groups] = {}

    def note(self, object_name: str, record_id: str) -> None:
        """A record came, changed or went."""
        self._revisions[object_name] = self._revisions.get(object_name, 0) + 1
        for key in self._built.get(object_name, ()):
            self._touched.setdefault(key, set()).add(record_id)

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
            self._built.setdefault(object_name, []).append(key)
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

    def referring(self, object_name: str, field: str) -> Mapping[str, Mapping[str, Record]]:
        """The records, by id, by the text that one of their fields holds."""
        key, rows = (object_name, field), self._rows(object_name)
        groups = self._groups.get(key)
        touched: Iterable[str] = self._touched.pop(key, ())
        if groups is None:
            groups = self._groups[key] = _Groups(field)
            self._built.setdefault(object_name, []).append(key)
            touched = rows
        for record_id in touched:
            groups.put(record_id, rows.get(record_id))
        return groups.by_target


class _Groups:
    """Records by what one of their fields holds."""

    def __init__(self, field: str) -> None:
        self.by_target: dict[str, dict[str, Record]] = {}
        self._field = field
        self._targets: dict[str, str] = {}

    def put(self, record_id: str, record: Record | None) -> None:
        """Take note of what the record holds now; None: it is gone."""
        before = self._targets.pop(record_id, None)
        if before is not None:
            self.by_target[before].pop(record_id, None)
        target = record.state.fields.get(self._field) if record is not None else None
        if record is not None and isinstance(target, str):
            self._targets[record_id] = target
            self.by_target.setdefault(target, {})[record_id] = record
