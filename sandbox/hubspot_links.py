"""Which records are associated, in both directions ("Associate records" guide, v4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Pair: TypeAlias = tuple[str, str]
"""(object type, other object type)."""

Changed: TypeAlias = Callable[[Pair, Pair, bool], None]
"""Told of a change: the two ends as (object type, record id), and whether the link is gone."""

PRIMARY = "Primary"
HUBSPOT_DEFINED, USER_DEFINED = "HUBSPOT_DEFINED", "USER_DEFINED"

# "Associate records" guide, tables of association type ids: without a label, by direction.
UNLABELLED: Mapping[Pair, int] = {
    ("contacts", "companies"): 279,
    ("companies", "contacts"): 280,
    ("deals", "companies"): 341,
    ("companies", "deals"): 342,
    ("tickets", "companies"): 339,
    ("companies", "tickets"): 340,
    ("deals", "contacts"): 3,
    ("contacts", "deals"): 4,
    ("contacts", "tickets"): 15,
    ("tickets", "contacts"): 16,
    ("deals", "line_items"): 19,
    ("line_items", "deals"): 20,
    ("deals", "tickets"): 27,
    ("tickets", "deals"): 28,
    ("contacts", "feedback_submissions"): 97,
    ("feedback_submissions", "contacts"): 98,
    ("tickets", "feedback_submissions"): 99,
    ("feedback_submissions", "tickets"): 100,
    ("companies", "feedback_submissions"): 929,
    ("feedback_submissions", "companies"): 928,
    ("orders", "contacts"): 507,
    ("contacts", "orders"): 508,
    ("orders", "companies"): 509,
    ("companies", "orders"): 510,
    ("orders", "deals"): 512,
    ("deals", "orders"): 511,
    ("orders", "line_items"): 513,
    ("line_items", "orders"): 514,
    ("contacts", "contacts"): 449,
    ("companies", "companies"): 450,
    ("deals", "deals"): 451,
    ("tickets", "tickets"): 452,
    ("subscriptions", "companies"): 299,
    ("companies", "subscriptions"): 300,
    ("subscriptions", "contacts"): 295,
    ("contacts", "subscriptions"): 296,
    ("invoices", "contacts"): 177,
    ("contacts", "invoices"): 178,
    ("invoices", "companies"): 179,
    ("companies", "invoices"): 180,
}
PRIMARY_IDS: Mapping[Pair, int] = {
    ("contacts", "companies"): 1,
    ("companies", "contacts"): 2,
    ("deals", "companies"): 5,
    ("companies", "deals"): 6,
    ("tickets", "companies"): 26,
    ("companies", "tickets"): 25,
}
FIRST_CUSTOM_TYPE = 31
ONE_IS_PRIMARY = "companies"
"""A contact, deal or ticket has one primary company; a company is that of many."""


@dataclass(frozen=True, slots=True)
class LinkType:
    """One way in which two kinds of records may be associated, in one direction."""

    type_id: int
    category: str
    label: str | None


class LinkTypes:
    """The association types of a portal: HubSpot's own, and the labels its people made."""

    def __init__(self) -> None:
        self._types: dict[Pair, list[LinkType]] = {
            pair: [LinkType(type_id, HUBSPOT_DEFINED, None)] for pair, type_id in UNLABELLED.items()
        }
        for pair, type_id in PRIMARY_IDS.items():
            self._types[pair].insert(0, LinkType(type_id, HUBSPOT_DEFINED, PRIMARY))
        self._next_id = FIRST_CUSTOM_TYPE

    def of(self, pair: Pair) -> list[LinkType]:
        """The types of this direction, labelled ones first; empty: cannot be associated."""
        return self._types.get(pair, [])

    def allow(self, pair: Pair) -> None:
        """Let two kinds of records be associated, in both directions (custom objects)."""
        for one in (pair, pair[::-1]):
            if one not in self._types:
                self._types[one] = [LinkType(self._new_id(), USER_DEFINED, None)]

    def add_label(self, pair: Pair, label: str) -> list[LinkType]:
        """A label of one's own, in both directions; the two types that make it up."""
        made: list[LinkType] = []
        for one in dict.fromkeys((pair, pair[::-1])):
            link = LinkType(self._new_id(), USER_DEFINED, label)
            self._types.setdefault(one, []).insert(0, link)
            made.append(link)
        return made

    def labels(self, pair: Pair, type_ids: set[int]) -> frozenset[str] | None:
        """The labels that these type ids stand for; None: one of them does not fit."""
        known = {one.type_id: one.label for one in self.of(pair)}
        if not type_ids or not type_ids <= known.keys():
            return None
        return frozenset(label for i in type_ids if (label := known[i]) is not None)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1


class Links:
    """All associations of a portal; each has the labels it carries, none being plain."""

    def __init__(self, changed: Changed | None = None) -> None:
        self._of: dict[Pair, dict[str, dict[str, frozenset[str]]]] = {}
        """(object type, record id) -> other object type -> other id -> labels."""
        self._changed = changed

    def add(
        self,
        from_type: str,
        from_id: str,
        to_type: str,
        to_id: str,
        *,
        primary: bool = False,
        labels: frozenset[str] = frozenset(),
    ) -> None:
        """Associate two records; repeating it replaces the labels.

        Marking a second company as the primary one takes the mark from the first.
        """
        carried = labels | {PRIMARY} if primary else labels
        if PRIMARY in carried and to_type == ONE_IS_PRIMARY:
            self._unmark(from_type, from_id, to_type)
        if PRIMARY in carried and from_type == ONE_IS_PRIMARY:
            self._unmark(to_type, to_id, from_type)
        self._side(from_type, from_id, to_type)[to_id] = carried
        self._side(to_type, to_id, from_type)[from_id] = carried
        self._tell((from_type, from_id), (to_type, to_id), is_removed=False)

    def remove(self, from_type: str, from_id: str, to_type: str, to_id: str) -> None:
        """Undo `add`; nothing happens where there is no such association."""
        self._side(from_type, from_id, to_type).pop(to_id, None)
        self._side(to_type, to_id, from_type).pop(from_id, None)
        self._tell((from_type, from_id), (to_type, to_id), is_removed=True)

    def labels(self, from_type: str, from_id: str, to_type: str, to_id: str) -> frozenset[str]:
        """The labels of one association; empty where it is plain, or is not there."""
        found = self._of.get((from_type, from_id), {}).get(to_type, {})
        return found.get(to_id, frozenset())

    def of(self, from_type: str, from_id: str, to_type: str) -> dict[str, frozenset[str]]:
        """Other id -> labels, in the order of the ids."""
        found = self._of.get((from_type, from_id), {}).get(to_type, {})
        return {other: found[other] for other in sorted(found, key=int)}

    def move(self, object_type: str, old_id: str, new_id: str) -> None:
        """Give all links of one record to another, as a merge does."""
        for other_type, other_id, labels in list(self._all_of(object_type, old_id)):
            self.remove(object_type, old_id, other_type, other_id)
            known = self.of(object_type, new_id, other_type)
            one_is_enough = other_type == ONE_IS_PRIMARY
            if one_is_enough and any(PRIMARY in carried for carried in known.values()):
                labels -= {PRIMARY}
            if not known.get(other_id):
                self.add(object_type, new_id, other_type, other_id, labels=labels)

    def _tell(self, one: Pair, other: Pair, *, is_removed: bool) -> None:
        if self._changed is not None:
            self._changed(one, other, is_removed)

    def _side(self, from_type: str, from_id: str, to_type: str) -> dict[str, frozenset[str]]:
        return self._of.setdefault((from_type, from_id), {}).setdefault(to_type, {})

    def _unmark(self, from_type: str, from_id: str, to_type: str) -> None:
        for other, labels in self._side(from_type, from_id, to_type).items():
            if PRIMARY in labels:
                self._side(from_type, from_id, to_type)[other] = labels - {PRIMARY}
                self._side(to_type, other, from_type)[from_id] = labels - {PRIMARY}

    def _all_of(
        self, object_type: str, record_id: str
    ) -> Iterator[tuple[str, str, frozenset[str]]]:
        for other_type, others in self._of.get((object_type, record_id), {}).items():
            for other_id, labels in others.items():
                yield other_type, other_id, labels
