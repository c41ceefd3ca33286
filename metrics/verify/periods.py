"""Periods, written down a second time: with `datetime.date` instead of arithmetic on days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import lru_cache
from typing import Final

NEVER: Final = 10**9
"""An ordinal after every date there is."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """How this company cuts time."""

    week_starts: int
    fiscal_starts: int


@dataclass(frozen=True, slots=True)
class Period:
    """The days (ordinals of `datetime.date`) from `start` on, before `stop`."""

    kind: str
    label: str
    start: int
    stop: int

    @property
    def is_everything(self) -> bool:
        """Whether it has no bounds, and takes records of unknown days too."""
        return self.kind in ("all", "now")

    @property
    def years(self) -> Fraction:
        """Its length: a year 365.25 days, a quarter a 4th, a month a 12th of it."""
        year = Fraction(1461, 4)
        if self.is_everything:
            return Fraction(0)
        if self.kind.startswith("last_"):
            days = self.stop - self.start
            return Fraction(1) if days == 365 else days / year  # noqa: PLR2004 - taken as a year
        lengths = {
            "day": 1 / year,
            "week": 7 / year,
            "month": Fraction(1, 12),
            "quarter": Fraction(1, 4),
            "year": Fraction(1),
        }
        return lengths[self.kind.removeprefix("fiscal_")]


@lru_cache(maxsize=65_536)
def period_of(kind: str, day: int, calendar: Calendar) -> Period:
    """The period of a kind that contains a day."""
    that = date.fromordinal(day)
    if kind == "day":
        return Period(kind, that.isoformat(), day, day + 1)
    if kind == "week":
        start = day - (that.weekday() - calendar.week_starts) % 7
        year, week, _ = date.fromordinal(min(start + 3, date.max.toordinal())).isocalendar()
        return Period(kind, f"{year:04d}-W{week:02d}", start, start + 7)
    months = {"month": 1, "quarter": 3, "year": 12}[kind.removeprefix("fiscal_")]
    first = calendar.fiscal_starts if kind.startswith("fiscal_") else 1
    into_year = (that.month - first) % 12
    start_month = that.month - into_year % months
    bounds = _first_of(that.year, start_month), _first_of(that.year, start_month + months)
    return Period(kind, _label(kind, that, into_year, first), *bounds)


def _first_of(year: int, month: int) -> int:
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    if year < 1:
        return 0
    return NEVER if year > date.max.year else date(year, month, 1).toordinal()


def _label(kind: str, day: date, into_year: int, first: int) -> str:
    if kind.startswith("fiscal_"):
        year = f"FY{day.year + (first != 1 and day.month >= first):04d}"
        match kind:
            case "fiscal_month":
                return f"{year}-M{into_year + 1:02d}"
            case "fiscal_quarter":
                return f"{year}-Q{into_year // 3 + 1}"
        return year
    match kind:
        case "month":
            return day.isoformat()[:7]
        case "quarter":
            return f"{day.year:04d}-Q{(day.month + 2) // 3}"
    return f"{day.year:04d}"


def before(period: Period, calendar: Calendar) -> tuple[int, int]:
    """The bounds of the period of the same kind before."""
    if period.is_everything or period.start < 2:  # noqa: PLR2004 - nothing is before the first day
        return 0, 0
    if period.kind.startswith("last_"):
        days = period.stop - period.start
        return period.start - days, period.start
    earlier = period_of(period.kind, period.start - 1, calendar)
    return earlier.start, earlier.stop


def periods_for(kind: str, days: set[int], today: int, calendar: Calendar) -> Iterator[Period]:
    """Every period of a kind that some day lies in or before, up to the one after the last."""
    if kind in ("all", "now"):
        yield Period(kind, kind, 0, NEVER)
        return
    if kind.startswith("last_"):
        length = int(kind[len("last_") : -1])
        yield Period(kind, kind, today - length + 1, today + 1)
        return
    if not days:
        return
    found = {period_of(kind, day, calendar) for day in days}
    following = {one.stop for one in found if one.stop <= date.max.toordinal()}
    found |= {period_of(kind, day, calendar) for day in following}
    # And all between the first one and today: sums of all days before have values there.
    day = min(one.start for one in found)
    while 0 < day <= today:
        period = period_of(kind, day, calendar)
        found.add(period)
        day = period.stop
    yield from found
