"""What the records amount to, group by group and day by day, and looks at it from a period."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from metrics.verify.periods import Calendar, Period, before

EXACT: Final = Context(prec=200)

Number: TypeAlias = int | Decimal | Fraction
Dimensions: TypeAlias = Mapping[str, str | None]
Grouping: TypeAlias = tuple[str, ...]


def plus(one: Number, other: Number) -> Number:
    """The exact sum."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    if isinstance(one, Fraction) or isinstance(other, Fraction):
        return Fraction(one) + Fraction(other)
    return EXACT.add(Decimal(one), Decimal(other))


@dataclass(slots=True)
class Page:
    """One group's part of one subject."""

    figures: dict[int | None, dict[str, Number]] = field(default_factory=dict)
    values: dict[int | None, list[Number]] = field(default_factory=lambda: defaultdict(list))
    members: list[tuple[int | None, str, Mapping[str, int]]] = field(default_factory=list)
    units: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    _days: list[int] = field(default_factory=list)
    """The known days of the figures in their order, as far as they were looked at."""

    def figures_between(self, start: int, stop: int) -> Iterable[Mapping[str, Number]]:
        """The figures of the known days from one on and before another."""
        known = len(self.figures) - (None in self.figures)
        if len(self._days) != known:  # a day that came stays
            self._days = sorted(day for day in self.figures if day is not None)
        first, end = bisect_left(self._days, start), bisect_left(self._days, stop)
        return [self.figures[day] for day in self._days[first:end]]

    def copy(self) -> Page:
        """The same, to be added to on its own."""
        return Page(
            figures={day: defaultdict(int, sums) for day, sums in self.figures.items()},
            values=defaultdict(list, {day: [*some] for day, some in self.values.items()}),
            members=[*self.members],
            units=defaultdict(list, {name: [*items] for name, items in self.units.items()}),
        )

    def days(self) -> set[int]:
        """Every known day that something stands on."""
        found = {day for day in (*self.figures, *self.values) if day is not None}
        return found | {day for day, _, _ in self.members if day is not None}


class Book:
    """Subject -> grouping -> key -> page."""

    def __init__(self, wanted: Mapping[str, Iterable[Grouping]]) -> None:
        self.pages: dict[str, dict[Grouping, dict[str, Page]]] = {
            subject: {grouping: {} for grouping in groupings}
            for subject, groupings in wanted.items()
        }
        self.calendar_days: dict[str, set[int]] = defaultdict(set)

    def copy(self) -> Book:
        """The same, to be added to on its own."""
        other = Book({})
        other.pages = {
            subject: {
                grouping: {key: page.copy() for key, page in pages.items()}
                for grouping, pages in groupings.items()
            }
            for subject, groupings in self.pages.items()
        }
        return other

    def _pages(self, subject: str, dimensions: Dimensions) -> Iterable[Page]:
        for grouping, pages in self.pages.get(subject, {}).items():
            key = key_of([dimensions.get(name) for name in grouping])
            if key is not None:
                yield pages.setdefault(key, Page())

    def add(
        self, subject: str, day: date | None, dimensions: Dimensions, **figures: Number
    ) -> None:
        """Add a record's figures to all its groups."""
        number = None if day is None else day.toordinal()
        for page in self._pages(subject, dimensions):
            sums = page.figures.setdefault(number, defaultdict(int))
            for name, figure in figures.items():
                sums[name] = plus(sums[name], figure)

    def value(self, subject: str, day: date | None, dimensions: Dimensions, value: Number) -> None:
        """Note a value whose rank counts."""
        for page in self._pages(subject, dimensions):
            page.values[None if day is None else day.toordinal()].append(value)

    def member(
        self, subject: str, day: date | None, dimensions: Dimensions, name: str, **flags: int
    ) -> None:
        """Note somebody who counts once in each group and period."""
        for page in self._pages(subject, dimensions):
            page.members.append((None if day is None else day.toordinal(), name, flags))

    def unit(self, subject: str, dimensions: Dimensions, name: str, item: object) -> None:
        """Note something of a unit that is looked at as a whole."""
        for page in self._pages(subject, dimensions):
            page.units[name].append(item)


def key_of(values: Sequence[str | None]) -> str | None:
    """The key of a group; None: it has none."""
    if any(value is None for value in values):
        return None
    texts = [value or "" for value in values]
    if not texts:
        return "*"
    if len(texts) == 1:
        return texts[0]
    return ",".join(
        "".join("\\" + letter if letter in "\\," else letter for letter in text) for text in texts
    )


_NOTHING: Final = Page()


@dataclass(frozen=True, slots=True)
class View:
    """One group in one period."""

    book: Book
    grouping: Grouping
    key: str
    period: Period
    today: int
    calendar: Calendar

    def page(self, subject: str) -> Page:
        """The group's part of a subject."""
        return self.book.pages.get(subject, {}).get(self.grouping, {}).get(self.key, _NOTHING)

    def sibling(self, grouping: Grouping, key: str) -> View:
        """Another group in the same period."""
        return View(self.book, grouping, key, self.period, self.today, self.calendar)

    def bounds(self, span: str) -> tuple[int, int]:
        """The days that a span means."""
        match span:
            case "previous":
                return before(self.period, self.calendar)
            case "before":
                return 0, 0 if self.period.is_everything else self.period.start
            case "upto":
                return 0, self.period.stop
            case "last_90d":
                return self.today - 89, self.today + 1
        return self.period.start, self.period.stop

    def holds(self, span: str) -> Callable[[int | None], bool]:
        """Whether a day lies in a span."""
        start, stop = self.bounds(span)
        takes_unknown = self._takes_unknown(span)
        return lambda day: takes_unknown if day is None else start <= day < stop

    def _takes_unknown(self, span: str) -> bool:
        return self.period.is_everything and span in ("period", "upto")

    def total(self, subject: str, names: str, span: str = "period") -> Number:
        """The sum of figures over the days of a span."""
        page = self.page(subject)
        summed = list(page.figures_between(*self.bounds(span)))
        if self._takes_unknown(span) and None in page.figures:
            summed.append(page.figures[None])
        found: Number = 0
        for name in names.split():
            for figures in summed:
                if name in figures:
                    found = plus(found, figures[name])
        return found

    def count(self, subject: str, names: str, span: str = "period") -> int:
        """The same of counts."""
        return int(self.total(subject, names, span))

    def ranked(self, subject: str) -> list[Number]:
        """The values of the period in their order."""
        holds = self.holds("period")
        page = self.page(subject)
        return sorted(
            value for day, values in page.values.items() if holds(day) for value in values
        )

    def members(self, subject: str) -> dict[str, dict[str, int]]:
        """Who counts in the period, with the largest of each flag."""
        holds = self.holds("period")
        found: dict[str, dict[str, int]] = {}
        for day, name, flags in self.page(subject).members:
            if holds(day):
                known = found.setdefault(name, {})
                for flag, value in flags.items():
                    known[flag] = max(known.get(flag, 0), value)
        return found
