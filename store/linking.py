"""Which records are one, from what they hold and what people decided.

A function of its input alone, whatever the order in which that came about: decisions first, then
rule by rule, within a rule value by value. A record that any of these joins to another is one
with it and with all that the other is one with, unless a person said that two of them are not.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from store.canonical import Key
from store.identity_evidence import CERTAIN, CROWDED, certainty
from store.identity_rules import MOST_HOLDERS, NATIVE_ID, Decision, MatchRule, StreamRules

_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Holder:
    """A record that holds a value."""

    ref: Key
    head: Key
    """The record that it was merged into in its CRM, or itself."""
    name: str | None
    created_at: int | None
    """Of the head."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Two records that may be one."""

    one: Key
    other: Key
    rule: int
    """Its place among the rules."""
    value: str
    score: int
    """Thousandths of certainty."""
    holders: int
    """How many records hold the value."""


class Linker:
    """Joins records to entities."""

    def __init__(
        self,
        rules: StreamRules,
        decisions: Iterable[Decision] = (),
        head_of: Callable[[Key], Key | None] = str,
        on_doubt: Callable[[Doubt], None] | None = None,
    ) -> None:
        """Begin with what people decided.

        Args:
            rules: of the stream.
            decisions: the newest first.
            head_of: the record that one was merged into in its CRM, or itself; None: it is gone.
            on_doubt: told of every match that waits for a person.
        """
        self._rules = rules
        self._on_doubt = on_doubt
        self._numbers: dict[Key, int] = {}
        self._refs: list[Key] = []
        self._parents = array("q")
        self._created = array("q")
        self._apart: dict[int, set[int]] = defaultdict(set)
        self._naming: dict[tuple[int, str], bool] = {}
        """Place of a rule and connection -> whether its records hold their own ids by it."""
        links: list[tuple[int, int]] = []
        for decision in decisions:
            heads = head_of(decision.one), head_of(decision.other)
            if heads[0] is None or heads[1] is None or heads[0] == heads[1]:
                continue  # gone, or merged in the CRM: nothing is left to decide
            one, other = self._number(heads[0]), self._number(heads[1])
            if decision.is_same:
                links.append((one, other))
            else:
                self._apart[one].add(other)
                self._apart[other].add(one)
        for one, other in links:
            self._join(one, other)

    def know(self, ref: Key, created_at: int | None) -> None:
        """Say when a record was created that no value may mention."""
        if ref in self._numbers:
            self._number(ref, created_at)

    # ---- values

    def add(self, rule: MatchRule, place: int, value: str, holders: Sequence[Holder]) -> None:
        """Take up everybody who holds a value; in the order of places, then values.

        Args:
            rule: by which they hold it.
            place: of the rule.
            value: what they hold.
            holders: sorted by key.
        """
        numbers = [self._number(one.head, one.created_at) for one in holders]
        if rule.is_by_id:
            self._add_by_id(rule, place, holders, numbers)
        else:
            self._add_by_value(rule, place, value, holders, numbers)

    def _add_by_id(
        self, rule: MatchRule, place: int, holders: Sequence[Holder], numbers: Sequence[int]
    ) -> None:
        for holder, number in zip(holders, numbers, strict=True):
            if self._is_named(rule, place, holder):
                for other in numbers:
                    self._join(number, other)

    def _is_named(self, rule: MatchRule, place: int, holder: Holder) -> bool:
        """Whether the value is the record's own id, not what it says of another."""
        connection = holder.ref.partition(":")[0]
        known = self._naming.get((place, connection))
        if known is None:
            known = self._naming[place, connection] = rule.field_of(connection) == NATIVE_ID
        return known

    def _add_by_value(
        self,
        rule: MatchRule,
        place: int,
        value: str,
        holders: Sequence[Holder],
        numbers: Sequence[int],
    ) -> None:
        connections = [one.ref.partition(":")[0] for one in holders]
        entities: dict[str, set[int]] = defaultdict(set)
        for connection, number in zip(connections, numbers, strict=True):
            entities[connection].add(self._root(number))
        if len(entities) == 1:
            return
        is_shared_by_all = len(holders) > MOST_HOLDERS
        is_crowded = is_shared_by_all or any(len(some) > 1 for some in entities.values())
        for one, other in combinations(range(len(holders)), 2):
            if connections[one] == connections[other]:
                continue
            first, second = holders[one], holders[other]
            score = CROWDED if is_crowded else certainty(rule, value, first.name, second.name)
            is_known = self._root(numbers[one]) == self._root(numbers[other])
            if score >= self._rules.review_below and not is_shared_by_all:
                self._join(numbers[one], numbers[other])
            elif self._on_doubt is not None and not is_known:
                self._on_doubt(Doubt(first.head, second.head, place, value, score, len(holders)))
                if is_shared_by_all:
                    return  # one word about it is enough

    # ---- entities

    def entities(self) -> Iterator[Sequence[Key]]:
        """Records that are one, two of them at least; the first stands for all."""
        members: dict[int, list[int]] = {}
        for number in range(len(self._refs)):
            root = self._root(number)
            if root != number:
                members.setdefault(root, [root]).append(number)
        for numbers in members.values():
            yield [self._refs[number] for number in sorted(numbers, key=self._precedence)]

    def are_one(self, one: Key, other: Key) -> bool:
        """Whether two records are one."""
        if one == other:
            return True
        numbers = self._numbers.get(one), self._numbers.get(other)
        if numbers[0] is None or numbers[1] is None:
            return False
        return self._root(numbers[0]) == self._root(numbers[1])

    def entity_of(self, ref: Key) -> Key:
        """A record that stands for all it is one with, the same for each of them."""
        number = self._numbers.get(ref)
        return ref if number is None else self._refs[self._root(number)]

    def are_kept_apart(self, one: Key, other: Key) -> bool:
        """Whether a person said that two records, or those they are one with, are not one."""
        if one not in self._numbers or other not in self._numbers:
            return False
        first, second = self._root(self._numbers[one]), self._root(self._numbers[other])
        return any(self._root(enemy) == second for enemy in self._apart.get(first, ()))

    def _precedence(self, number: int) -> tuple[int, int, Key]:
        ref = self._refs[number]
        # The oldest: a record that is created later takes no customer's name away.
        return self._rules.rank(ref.partition(":")[0]), self._created[number], ref

    def _number(self, ref: Key, created_at: int | None = None) -> int:
        number = self._numbers.get(ref)
        if number is None:
            number = self._numbers[ref] = len(self._refs)
            self._refs.append(ref)
            self._parents.append(number)
            self._created.append(_NEVER)
        if created_at is not None:
            self._created[number] = created_at
        return number

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    def _join(self, one: int, other: int) -> None:
        first, second = self._root(one), self._root(other)
        if first == second:
            return
        if self._apart:
            if any(self._root(enemy) == second for enemy in self._apart.get(first, ())):
                return
            enemies = self._apart.pop(second, None)
            if enemies:
                self._apart[first] |= enemies
        self._parents[second] = first


def canonicals(linker: Linker, heads: Mapping[Key, Key | None]) -> Iterator[tuple[Key, Key | None]]:
    """Record -> for whom it stands, where that is somebody else.

    Args:
        linker: with everything taken up.
        heads: merged and deleted records -> the end of their chain, null where nobody is.
    """
    standing_for: dict[Key, Key] = {}
    for members in linker.entities():
        first = members[0]
        for member in members[1:]:
            standing_for[member] = first
            yield member, first
    for ref, head in heads.items():
        canonical = None if head is None else standing_for.get(head, head)
        if canonical != ref and ref not in standing_for:
            yield ref, canonical


__all__ = ["CERTAIN", "Doubt", "Holder", "Linker", "canonicals"]
