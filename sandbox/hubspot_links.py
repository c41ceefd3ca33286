"""Which records are associated, in both directions ("Associate records" guide, v4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Side: TypeAlias = tuple[str, str, str]
"""(object type, record id, other object type)."""

# Ids of HubSpot's own association types, unlabelled and primary, by direction.
UNLABELLED = {("deals", "companies"): 341, ("companies", "deals"): 342}
PRIMARY = {("deals", "companies"): 5, ("companies", "deals"): 6}
ASSOCIABLE = frozenset(UNLABELLED)


class Links:
    """All associations of a portal; ``primary`` marks the one main company of a deal."""

    def __init__(self) -> None:
        self._sides: dict[Side, dict[str, bool]] = {}

    def add(
        self, from_type: str, from_id: str, to_type: str, to_id: str, *, primary: bool = False
    ) -> None:
        """Associate two records; repeating it may set or drop the primary mark."""
        self._sides.setdefault((from_type, from_id, to_type), {})[to_id] = primary
        self._sides.setdefault((to_type, to_id, from_type), {})[from_id] = primary

    def remove(self, from_type: str, from_id: str, to_type: str, to_id: str) -> None:
        """Undo `add`; nothing happens where there is no such association."""
        self._sides.get((from_type, from_id, to_type), {}).pop(to_id, None)
        self._sides.get((to_type, to_id, from_type), {}).pop(from_id, None)

    def of(self, from_type: str, from_id: str, to_type: str) -> dict[str, bool]:
        """Other id -> whether primary, in the order of the ids."""
        found = self._sides.get((from_type, from_id, to_type), {})
        return {other: found[other] for other in sorted(found, key=int)}

    def move(self, object_type: str, old_id: str, new_id: str) -> None:
        """Give all links of one record to another, as a merge does."""
        for other_type, other_id, primary in list(self._all_of(object_type, old_id)):
            self.remove(object_type, old_id, other_type, other_id)
            known = self.of(object_type, new_id, other_type)
            keeps_primary = primary and not any(known.values())
            if not known.get(other_id):
                self.add(object_type, new_id, other_type, other_id, primary=keeps_primary)

    def _all_of(self, object_type: str, record_id: str) -> Iterator[tuple[str, str, bool]]:
        for (from_type, from_id, to_type), others in self._sides.items():
            if (from_type, from_id) == (object_type, record_id):
                for other_id, primary in others.items():
                    yield to_type, other_id, primary
