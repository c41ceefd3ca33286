"""What an expression says, once it is understood: typed, frozen, without any text of SQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeAlias

from metrics.expression.fields import Field

Literal: TypeAlias = str | Decimal | date


@dataclass(frozen=True, slots=True)
class Flag:
    """A yes-or-no field says yes."""

    field: Field


@dataclass(frozen=True, slots=True)
class IsKnown:
    """A field has a value."""

    field: Field


@dataclass(frozen=True, slots=True)
class Compare:
    """A field beside a literal of its kind: texts by = alone, money in the company's currency."""

    field: Field
    operator: str
    """One of = < <= > >=."""
    literal: Literal


@dataclass(frozen=True, slots=True)
class CompareFields:
    """Two fields of one kind; instants as instants, an instant and a day as days."""

    field: Field
    operator: str
    other: Field


@dataclass(frozen=True, slots=True)
class CompareToday:
    """A day, or the local day of an instant, beside today."""

    field: Field
    operator: str
    days: int
    """Added to today."""


@dataclass(frozen=True, slots=True)
class Not:
    """What is unknown stays unknown."""

    part: Condition


@dataclass(frozen=True, slots=True)
class And:
    """All of them; false wins over unknown."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of them; true wins over unknown."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = Flag | IsKnown | Compare | CompareFields | CompareToday | Not | And | Or


@dataclass(frozen=True, slots=True)
class Span:
    """The time from one field to another: whole days, or whole seconds between instants."""

    start: Field
    end: Field

    @property
    def is_of_days(self) -> bool:
        """Whether it is measured in days."""
        return not (self.start.type == self.end.type == "datetime")


Value: TypeAlias = Field | Span


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One figure of many records."""

    function: str
    """One of count, sum, mean, median, min, max, distinct."""
    value: Value | None
    """None: the records themselves are counted."""
    where: Condition | None


def atoms(condition: Condition | None) -> Iterator[Condition]:
    """Every part that is not made of parts."""
    match condition:
        case None:
            return
        case Not(part):
            yield from atoms(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from atoms(part)
        case _:
            yield condition


def fields_of(*parts: Condition | Value | None) -> Iterator[Field]:
    """Every field that conditions and values name."""
    for part in parts:
        match part:
            case Field():
                yield part
            case Span(start, end):
                yield from (start, end)
            case _:
                for atom in atoms(part):
                    yield from _fields_of_atom(atom)


def _fields_of_atom(atom: Condition) -> Iterator[Field]:
    match atom:
        case Flag(field) | IsKnown(field) | Compare(field) | CompareToday(field):
            yield field
        case CompareFields(field, _, other):
            yield from (field, other)


def both(one: Condition | None, other: Condition | None) -> Condition | None:
    """The condition that both hold."""
    if one is None or other is None:
        return one or other
    return And((one, other))


def depends_on_today(condition: Condition | None) -> bool:
    """Whether time alone can change it."""
    return any(isinstance(atom, CompareToday) for atom in atoms(condition))


def money_compared(condition: Condition | None) -> Iterator[Compare]:
    """Comparisons of money with an amount in the company's currency."""
    for atom in atoms(condition):
        if isinstance(atom, Compare) and atom.field.type == "money":
            yield atom
