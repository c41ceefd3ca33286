"""How a value is made of what a view shows: sums, ratios, percentiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Final, TypeAlias

from metrics.definition import KpiSettings, OwnSettings
from metrics.verify.book import Number, View

_ROUNDED: Final = Context(prec=28, rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Result:
    """What a recipe makes of a view, before rounding."""

    n: int
    value: Fraction | None = None
    numerator: Fraction | None = None
    denominator: Fraction | None = None
    left_out: Mapping[str, int] | None = None
    words: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """What a recipe may know beside the view."""

    settings: KpiSettings
    own: OwnSettings
    now_at: datetime


Make: TypeAlias = Callable[[View, Ask], Result]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A KPI, said once more."""

    subjects: tuple[str, ...]
    make: Make
    is_up_to_now: bool = False
    """Whether periods that have not begun have no value."""


def linear(
    subject: str,
    numerator: str,
    *,
    over: str | None = None,
    n: str,
    left_out: Mapping[str, str] | None = None,
    divisor: int = 1,
) -> Recipe:
    """A sum, or a ratio of sums, over the period."""

    def make(view: View, _: Ask) -> Result:
        above = Fraction(view.total(subject, numerator))
        reasons = {reason: view.count(subject, names) for reason, names in (left_out or {}).items()}
        used = view.count(subject, n)
        if over is None:
            return Result(used, above / divisor, above / divisor, None, reasons)
        return ratio(used, above, Fraction(view.total(subject, over)), reasons, divisor=divisor)

    return Recipe((subject,), make)


def ratio(
    n: int,
    above: Fraction | int,
    below: Fraction | int,
    left_out: Mapping[str, int] | None = None,
    *,
    divisor: int = 1,
    factor: int = 1,
) -> Result:
    """One divided by another, both shown beside it."""
    top, bottom = Fraction(above), Fraction(below)
    value = top * factor / bottom / divisor if bottom else None
    return Result(n, value, top / divisor, bottom, left_out)


def percentile(
    subject: str, percent: int, counts: str, left_out: Mapping[str, str], divisor: int = 1
) -> Recipe:
    """The median or a nearest rank of the period's values."""

    def make(view: View, _: Ask) -> Result:
        values = view.ranked(subject)
        reasons = {reason: view.count(counts, names) for reason, names in left_out.items()}
        if not values:
            return Result(0, left_out=reasons)
        count = len(values)
        if percent == 50:  # noqa: PLR2004 - the median
            middle = Fraction(values[(count - 1) // 2]) + Fraction(values[count // 2])
            value = middle / 2
        else:
            value = Fraction(values[-(-count * percent // 100) - 1])
        return Result(count, value / divisor, left_out=reasons)

    return Recipe((subject, counts), make)


def median(values: list[Number]) -> Fraction | None:
    """The middle of sorted values."""
    if not values:
        return None
    return (Fraction(values[(len(values) - 1) // 2]) + Fraction(values[len(values) // 2])) / 2


def rounded(number: Fraction | None) -> Decimal | None:
    """The published form: 28 digits, half up."""
    if number is None:
        return None
    return _ROUNDED.divide(Decimal(number.numerator), Decimal(number.denominator))
