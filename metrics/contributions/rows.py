"""How a family says what it adds, before anything is summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sqlalchemy import FromClause
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.terms import NO_CURRENCY, text_of, zero
from metrics.definition import Family
from metrics.dimensions import Grouping
from metrics.periods import Calendar
from store.compiled import AnySelect

_NO_CURRENCY: Final = text_of(NO_CURRENCY)


@dataclass(frozen=True, slots=True)
class Facts:
    """Where the statements of families read from."""

    tables: Mapping[str, FromClause]
    is_difference: bool
    """Whether there is a side before, against which most of the side after cancels."""
    calendar: Calendar
    shared: dict[tuple[object, ...], FromClause] = field(default_factory=dict, compare=False)
    """What several parts of one statement read: worked out once for all of them."""

    def once(self, *about: object, find: Callable[[], AnySelect]) -> FromClause:
        """Rows that every part of the statement that asks for the same shares."""
        if about not in self.shared:
            name = f"shared_{len(self.shared)}"
            self.shared[about] = find().cte(name).prefix_with("MATERIALIZED")
        return self.shared[about]

    def of(self, source: str) -> FromClause:
        """The facts of one source."""
        return self.tables[source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Contributions row by row: each has a sign (its side), a day and its dimensions."""

    source: FromClause
    """Has a column `side` and one for each dimension."""
    day: ColumnElement[int]
    measures: tuple[ColumnElement[int], ...]
    currency: ColumnElement[str] = _NO_CURRENCY
    bucket: ColumnElement[int] = zero
    where: tuple[ColumnElement[bool], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """Members that count once in each group and period, with the largest of their measures."""

    source: FromClause
    member: tuple[ColumnElement[Any], ...]
    day: ColumnElement[int]
    measures: tuple[ColumnElement[int], ...]
    where: tuple[ColumnElement[bool], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Contributions that are worked out within each group: a function of all rows of a unit."""

    rows: Callable[[Grouping], AnySelect]
    """Columns: key, side (1 or -1), day, m1 ..."""


Shape: TypeAlias = Rows | Distinct | Grouped
Contribution: TypeAlias = Callable[[Facts, Family], Shape]
"""What the facts amount to in one family."""
