"""The records behind a value, each with what it adds, and those left out with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import TypeAlias

from metrics.catalog import available
from metrics.definition import Kpi, Unit
from metrics.explain.composition import COMPOSITIONS, Composition, Scale, scale_of
from metrics.explain.ledger import Entry, by_unit, told_again
from metrics.verify import recipe_of
from metrics.verify.book import Grouping, Number, Page, View
from metrics.verify.custom import Share, shares_of
from metrics.verify.periods import Period
from metrics.verify.recipes import Ask, Recipe, Result

Groupings: TypeAlias = Sequence[Grouping]


@dataclass(frozen=True, slots=True)
class Line:
    """A record, or an account where accounts are what counts, and what it adds."""

    name: str
    """Stream and key."""
    day: date | None
    """The first local day on which it counts; None: it has none."""
    n: int
    """Records of it that are counted."""
    numerator: Fraction | None
    """What it adds to the numerator, before the KPI's divisor."""
    denominator: Fraction | None
    values: tuple[Number, ...]
    """Of percentiles: its values, before the KPI's divisor."""
    left_out: Mapping[str, int]
    entries: tuple[Entry, ...]
    shares: tuple[Share, Share] | None = None
    """Where the value is no ratio of sums: what it adds to either figure, be it 0."""

    @property
    def is_counted(self) -> bool:
        """Whether the value rests on it.

        One that adds to the numerator alone is not among n: a ticket closed in the period, but
        created before it, in a rate of those created.
        """
        if any(share.number is not None for share in self.shares or ()):
            return True
        return bool(self.n or self.numerator or self.denominator)


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything behind one result."""

    kpi: str
    period: Period
    result: Result
    lines: Sequence[Line]
    is_sum: bool
    """Whether the lines' numerators and denominators add up to the result's."""
    is_complete: bool
    """Whether the lines, taken together, give the result again."""
    scale: Scale
    composition: Composition | None = None
    parts: Sequence[Listing] = ()

    @property
    def counted(self) -> list[Line]:
        """The lines that the value rests on."""
        return [line for line in self.lines if line.is_counted]

    @property
    def left_out(self) -> list[Line]:
        """The lines that are missing from the value, at least in part."""
        return [line for line in self.lines if line.left_out]

    @property
    def beside(self) -> list[Line]:
        """The lines that the value is compared with."""
        return [line for line in self.lines if not line.is_counted and not line.left_out]


@dataclass(frozen=True, slots=True)
class _Watched(View):
    """A view that remembers which subjects were looked at."""

    asked: set[str] = field(default_factory=set)

    def page(self, subject: str) -> Page:
        """The group's part of a subject."""
        self.asked.add(subject)
        return View.page(self, subject)


class Lister:
    """Lists what stands behind the values of one group, from what its records say."""

    def __init__(self, entries: Sequence[Entry], ask: Ask, inner: Groupings) -> None:
        """Look at a group.

        Args:
            entries: everything that the records of the group say.
            ask: the settings of the KPI, and the instant of which it is true.
            inner: the groupings whose pages recipes look at, the group's own among them.
        """
        self._entries = entries
        self._ask = ask
        self._inner = inner

    def listing(self, kpi: Kpi, view: View) -> Listing:
        """What stands behind a KPI.

        Args:
            kpi: a KPI.
            view: the group and the period; the book may be any.
        """
        recipe = recipe_of(kpi)
        whole = self._seen(view, self._entries, recipe.subjects)
        result = recipe.make(whole, self._ask)
        composition = None if result.numerator is not None else COMPOSITIONS.get(kpi.name)
        scale = scale_of(view, self._ask)
        if composition is not None:
            parts = list(self._parts(composition, view))
            values = [part.result.value for part in parts]
            return Listing(
                kpi=kpi.name,
                period=view.period,
                result=result,
                lines=(),
                is_sum=False,
                is_complete=_combined(composition, values, scale) == result.value
                and all(part.is_complete for part in parts),
                composition=composition,
                parts=parts,
                scale=scale,
            )
        lines = list(self._lines(kpi, recipe, whole, whole.asked or set(recipe.subjects)))
        listed = (entry for line in lines for entry in line.entries)
        again = recipe.make(self._seen(view, listed, recipe.subjects), self._ask)
        return Listing(
            kpi=kpi.name,
            period=view.period,
            result=result,
            lines=lines,
            is_sum=_is_sum(kpi, result, lines),
            is_complete=_same(again, result),
            scale=scale,
        )

    def _seen(self, view: View, entries: Iterable[Entry], subjects: Sequence[str]) -> _Watched:
        book = told_again(entries, subjects, self._inner)
        return _Watched(book, view.grouping, view.key, view.period, view.today, view.calendar)

    def _lines(
        self, kpi: Kpi, recipe: Recipe, whole: View, asked: AbstractSet[str]
    ) -> Iterator[Line]:
        holds = whole.holds("period")
        for unit, entries in sorted(by_unit(self._entries, asked).items()):
            view = self._seen(whole, entries, recipe.subjects)
            alone = recipe.make(view, self._ask)
            left_out = {reason: count for reason, count in (alone.left_out or {}).items() if count}
            values = tuple(
                number
                for subject in sorted(asked)
                if kpi.percentile is not None
                for number in view.ranked(subject)
            )
            days = [entry.day for entry in entries if entry.day is not None]
            days_within = [day for day in days if holds(day.toordinal())]
            shares = shares_of(kpi, view)
            above, below = (
                (_times(alone.numerator, kpi.divisor), alone.denominator)
                if shares is None
                else (share.number for share in shares)
            )
            line = Line(
                name=unit,
                day=min(days_within or days, default=None),
                n=alone.n,
                numerator=above,
                denominator=below,
                values=values,
                left_out=left_out,
                entries=tuple(entries),
                shares=shares,
            )
            # The norm of a bottleneck comes from visits of before, which are no part of its n.
            if line.is_counted or left_out or kpi.unit is Unit.TEXT:
                yield line

    def _parts(self, composition: Composition, view: View) -> Iterator[Listing]:
        known = available()
        for part in composition.parts:
            yield self.listing(known[part.kpi], part.view(view))


def _same(one: Result, other: Result) -> bool:
    return (one.n, one.value, one.numerator, one.denominator, one.words, _told(one)) == (
        *(other.n, other.value, other.numerator, other.denominator, other.words),
        _told(other),
    )


def _told(result: Result) -> dict[str, int]:
    return {reason: count for reason, count in (result.left_out or {}).items() if count}


def _combined(
    composition: Composition, values: Sequence[Fraction | None], scale: Scale
) -> Fraction | None:
    known = tuple(value for value in values if value is not None)
    return composition.combine(known, scale) if len(known) == len(values) else None


def _times(number: Fraction | None, divisor: int) -> Fraction | None:
    return None if number is None else number * divisor


def _is_sum(kpi: Kpi, result: Result, lines: Sequence[Line]) -> bool:
    if result.numerator is None:
        return False
    above = sum((line.numerator or Fraction(0) for line in lines), Fraction(0))
    below = sum((line.denominator or Fraction(0) for line in lines), Fraction(0))
    n = sum(line.n for line in lines)
    return (above, below, n) == (
        result.numerator * kpi.divisor,
        result.denominator or Fraction(0),
        result.n,
    )
