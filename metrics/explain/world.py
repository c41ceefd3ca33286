"""The records that one change can reach, and how they stood after each change.

What a record says of a KPI depends on the records it hangs together with: a deal on its account
and on the account's other deals. Owners, stages and campaigns are everybody's. So the effect of a
change is found by reading its neighbourhood again, not the whole store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from sqlalchemy import Connection, select

from store import record_history
from store.canonical import CanonicalRecord, Company, Key
from store.conversion import RecordMaker
from store.record_history import Change, Row
from store.tables import RECORD_TABLES

Name: TypeAlias = tuple[str, Key]
"""Stream and key."""

MOST_RECORDS: Final = 20_000
"""A neighbourhood of more is not followed any further."""

_LINKS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "accounts": (("merged_into", "accounts"),),
    "contacts": (("account", "accounts"), ("merged_into", "contacts")),
    "leads": (("converted_account", "accounts"), ("converted_deal", "deals")),
    "deals": (("account", "accounts"),),
    "deal_stage_changes": (("deal", "deals"),),
    "deal_contacts": (("deal", "deals"), ("contact", "contacts")),
    "deal_lines": (("deal", "deals"),),
    "campaign_members": (("contact", "contacts"), ("lead", "leads")),
    "costs": (("campaign", "campaigns"),),
    "tickets": (("account", "accounts"), ("contact", "contacts")),
    "ticket_status_changes": (("ticket", "tickets"),),
    "survey_responses": (("account", "accounts"), ("contact", "contacts")),
    "contracts": (("account", "accounts"),),
}
"""Stream -> its columns that name another record, and that one's stream."""

EVERYBODYS: Final = ("owners", "stages", "campaigns", "rates")
"""Few records, on which all others may depend."""

_KEYS_AT_ONCE: Final = 500


class World:
    """Records of some neighbourhoods at one instant, changed one by one."""

    def __init__(
        self, conn: Connection, company: Company, streams: Iterable[str], later: Sequence[Change]
    ) -> None:
        """Prepare.

        Args:
            conn: in `store.engine.reading`.
            company: the default currency of amounts.
            streams: those that matter.
            later: every change of theirs since the world's instant, in their order; of a last
                part of them `change` need not be called.
        """
        self._conn = conn
        self._streams = tuple(stream for stream in RECORD_TABLES if stream in set(streams))
        self._makers = {stream: RecordMaker(stream, company) for stream in self._streams}
        self._later: dict[Name, list[Change]] = defaultdict(list)
        for one in later:
            self._later[one.stream, one.key].append(one)
        self._states: dict[Name, list[Row | None]] = {}
        self._position: dict[Name, int] = {}
        self._records: dict[tuple[Name, int], CanonicalRecord | None] = {}
        self._everybodys: list[Name] = []
        self._component: dict[Name, Name] = {}
        self._members: dict[Name, list[Name]] = {}
        self.is_cut = False
        """Whether it would have been too large."""

    def gather(self, seeds: Iterable[Name]) -> None:
        """Take in these records, everybody's, and all that hang together with them."""
        frontier = {name for name in seeds if name[0] in self._makers}
        everybodys = self._of_everybody()
        self._everybodys = sorted(everybodys)
        frontier |= everybodys
        self._load(frontier)
        while frontier and not self.is_cut:
            found = self._neighbours(frontier)
            frontier = found - self._states.keys()
            self._load(frontier)
            self.is_cut = len(self._states) - len(everybodys) > MOST_RECORDS
        self._join()

    def names(self) -> set[Name]:
        """The records taken in."""
        return set(self._states)

    def component(self, name: Name) -> list[Name]:
        """The records that hang together with one; all, where it is one of everybody's."""
        if name[0] in EVERYBODYS:
            return list(self._states)
        return self._members.get(self._component.get(name, name), [])

    def record(self, name: Name) -> CanonicalRecord | None:
        """A record as it stands at this point of the story."""
        place = name, self._position[name]
        if place not in self._records:
            row = self._states[name][place[1]]
            self._records[place] = None if row is None else self._makers[name[0]].record(row)
        return self._records[place]

    def change(self, change: Change) -> tuple[CanonicalRecord | None, CanonicalRecord | None]:
        """Make one change; how the record was before and is after."""
        name = (change.stream, change.key)
        before = self.record(name)
        self._position[name] += 1
        return before, self.record(name)

    def given(self, names: Iterable[Name]) -> dict[str, list[CanonicalRecord]]:
        """These records and everybody's, by stream."""
        found: dict[str, list[CanonicalRecord]] = defaultdict(list)
        for name in {*names, *self._everybodys}:
            record = self.record(name)
            if record is not None:
                found[name[0]].append(record)
        return found

    def links_of(self, change: Change) -> set[Name]:
        """The records that a changed one hung together with before."""
        former = change.former or {}
        return {
            (target, former[column])
            for column, target in _LINKS.get(change.stream, ())
            if former.get(column) is not None
        }

    # ---- gathering

    def _of_everybody(self) -> set[Name]:
        return {
            (stream, key)
            for stream in EVERYBODYS
            if stream in self._makers
            for key in self._conn.execute(select(RECORD_TABLES[stream].c.ref)).scalars()
        } | {name for name in self._later if name[0] in EVERYBODYS}

    def _load(self, names: Iterable[Name]) -> None:
        by_stream: dict[str, list[Key]] = defaultdict(list)
        for stream, key in names:
            by_stream[stream].append(key)
        for stream, keys in by_stream.items():
            present = record_history.present_rows(self._conn, stream, keys)
            for key in keys:
                self._take(stream, key, present.get(key))

    def _take(self, stream: str, key: Key, present: Row | None) -> None:
        name, row = (stream, key), present
        states = [row]
        for one in reversed(self._later.get(name, ())):
            row = record_history.undone(row, one)
            states.append(row)
        self._states[name] = states[::-1]
        self._position[name] = 0

    def _links(self, name: Name) -> set[Name]:
        """Every record that one names, at any point of the story."""
        return {
            (target, row[column])
            for row in self._states[name]
            if row is not None
            for column, target in _LINKS.get(name[0], ())
            if row[column] is not None and target in self._makers
        }

    def _neighbours(self, frontier: Iterable[Name]) -> set[Name]:
        found: set[Name] = set()
        keys: dict[str, set[Key]] = defaultdict(set)
        for name in frontier:
            found |= self._links(name)
            keys[name[0]].add(name[1])
        for stream in self._streams:
            for column, target in _LINKS.get(stream, ()):
                # Of a campaign only its own costs; it is everybody's.
                if target in keys and (target != "campaigns" or stream == "costs"):
                    found |= self._pointing(stream, column, keys[target])
        for name, changed in self._later.items():
            if any(self.links_of(one) & self._states.keys() for one in changed):
                found.add(name)
        return found

    def _pointing(self, stream: str, column: str, keys: set[Key]) -> set[Name]:
        table, wanted = RECORD_TABLES[stream], sorted(keys)
        return {
            (stream, key)
            for start in range(0, len(wanted), _KEYS_AT_ONCE)
            for key in self._conn.execute(
                select(table.c.ref).where(
                    table.c[column].in_(wanted[start : start + _KEYS_AT_ONCE])
                )
            ).scalars()
        }

    # ---- components

    def _join(self) -> None:
        parent: dict[Name, Name] = {name: name for name in self._states}

        def root(name: Name) -> Name:
            while parent[name] != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for name in self._states:
            for other in self._links(name):
                if other in parent:
                    parent[root(name)] = root(other)
        self._component = {name: root(name) for name in self._states}
        self._members = defaultdict(list)
        for name, first in self._component.items():
            self._members[first].append(name)
