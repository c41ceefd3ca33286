"""The span of time that a value counts, in the company's days and in UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final
from zoneinfo import ZoneInfo

from metrics.periods import kind_of
from metrics.verify.periods import NEVER, Calendar, Period, period_of, periods_for

_YEAR: Final = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True)
class Window:
    """The first day that counts and the day after the last; None: there is no bound."""

    first_day: date | None
    day_after: date | None
    timezone: str
    starts_at: datetime | None
    """The first day's local midnight."""
    ends_at: datetime | None
    """The midnight after the last day; that instant itself is outside."""


def window_of(period: Period, zone: ZoneInfo) -> Window:
    """The bounds of a period in a company's zone."""
    first = None if period.is_everything else _day(period.start)
    after = None if period.is_everything else _day(period.stop)
    return Window(first, after, zone.key, _midnight(first, zone), _midnight(after, zone))


def _day(ordinal: int) -> date | None:
    return date.fromordinal(ordinal) if 0 < ordinal <= date.max.toordinal() else None


def _midnight(day: date | None, zone: ZoneInfo) -> datetime | None:
    if day is None:
        return None
    try:
        return datetime.combine(day, time(), zone).astimezone(UTC)
    except OverflowError:
        return None


def period_named(label: str, today: date, calendar: Calendar) -> Period:
    """The period that a label stands for.

    Raises:
        ValueError: no period is called so.
    """
    kind = kind_of(label)
    if (year := _YEAR.search(label)) is None or kind == label:
        return next(iter(periods_for(kind, set(), today.toordinal(), calendar)))
    for day in _days_around(int(year.group())):
        period = period_of(kind, day, calendar)
        if period.label == label:
            return period
    raise ValueError(f'"{label}" is not a period')


def _days_around(year: int) -> range:
    if not date.min.year <= year <= date.max.year:
        return range(0)
    # A fiscal year, or the week of a year, may begin in the year before.
    start = date(max(date.min.year, year - 1), 1, 1).toordinal()
    stop = NEVER if year == date.max.year else date(year + 1, 2, 1).toordinal()
    return range(start, min(stop, date.max.toordinal() + 1))


def running_period(kind: str, today: date, calendar: Calendar) -> str:
    """The label of the period of a kind in which today lies."""
    return period_of(kind, today.toordinal(), calendar).label
