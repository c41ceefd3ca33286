"""Calendar periods of the company: where they start, where they end, what they are called.

Days are integers (days since 1970-01-01) of the proleptic Gregorian calendar, as in the store;
they are already local days of the company's zone. A period is the half-open span of days
``[start, stop)``. Nothing here reads a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final


class Kind(StrEnum):
    """The kinds of periods; `ALL` and `NOW` are always there."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    FISCAL_MONTH = "fiscal_month"
    FISCAL_QUARTER = "fiscal_quarter"
    FISCAL_YEAR = "fiscal_year"
    ALL = "all"
    NOW = "now"


CALENDAR_KINDS: Final = tuple(kind for kind in Kind if kind not in (Kind.ALL, Kind.NOW))
"""What ``kpis.periods`` may name."""

MONTHS: Final = {
    Kind.MONTH: 1,
    Kind.QUARTER: 3,
    Kind.YEAR: 12,
    Kind.FISCAL_MONTH: 1,
    Kind.FISCAL_QUARTER: 3,
    Kind.FISCAL_YEAR: 12,
}
"""Length in months of the kinds that consist of whole months."""

FISCAL: Final = frozenset({Kind.FISCAL_MONTH, Kind.FISCAL_QUARTER, Kind.FISCAL_YEAR})

FIRST_DAY: Final = -1_999_999_999
"""Before every day that has a name, after the store's mark of an unknown day."""

LAST_DAY: Final = 2_000_000_000
"""After every day that has a name."""

_WEEK: Final = 7
_MONDAY_BEFORE_EPOCH: Final = 3  # 1970-01-01 was a Thursday: its week began three days earlier
_JANUARY_IN_SHIFTED_YEAR: Final = 10


@dataclass(frozen=True, slots=True)
class Calendar:
    """How this company cuts time."""

    week_starts: int = 0
    """Weekday as in `date.weekday`: Monday is 0."""
    fiscal_year_starts: int = 1
    """Month 1..12."""

    def __post_init__(self) -> None:
        if self.week_starts not in range(7):
            raise ValueError(f"a week starts on a weekday 0..6, not {self.week_starts}")
        if self.fiscal_year_starts not in range(1, 13):
            raise ValueError(
                f"a fiscal year starts in a month 1..12, not {self.fiscal_year_starts}"
            )


@dataclass(frozen=True, slots=True)
class Period:
    """One period: the days from `start` on, before `stop`."""

    kind: str
    start: int
    stop: int
    label: str


# ---------------------------------------------------------------- days and dates


def civil_of(day: int) -> tuple[int, int, int]:
    """Year, month and day of the month of a day, for any year.

    Howard Hinnant's algorithm (https://howardhinnant.github.io/date_algorithms.html): unlike
    `datetime.date` it knows no last year, and a period may end after 9999-12-31.
    """
    era, day_of_era = divmod(day + 719_468, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day_of_month = day_of_year - (153 * month_from_march + 2) // 5 + 1
    is_next_year = month_from_march >= _JANUARY_IN_SHIFTED_YEAR
    month = month_from_march - 9 if is_next_year else month_from_march + 3
    return year_of_era + era * 400 + is_next_year, month, day_of_month


def day_of(year: int, month: int, day_of_month: int = 1) -> int:
    """The day number of a date; `month` may lie outside 1..12 and carries into the year."""
    carried, month_index = divmod(month - 1, 12)
    year, month = year + carried, month_index + 1
    # Years are counted from March, so that the leap day is a year's last.
    is_before_march = month < 3  # noqa: PLR2004 - March
    era, year_of_era = divmod(year - is_before_march, 400)
    month_from_march = month + 9 if is_before_march else month - 3
    day_of_year = (153 * month_from_march + 2) // 5 + day_of_month - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def year_before(day: int) -> int:
    """The same day twelve months before; the last of February for the 29th."""
    year, month, day_of_month = civil_of(day)
    return min(day_of(year - 1, month, day_of_month), day_of(year - 1, month + 1) - 1)


# ---------------------------------------------------------------- periods


@lru_cache(maxsize=65_536)
def period_of(calendar: Calendar, kind: Kind, day: int) -> Period:
    """The period of a kind that contains a day."""
    if kind in (Kind.ALL, Kind.NOW):
        return Period(kind, FIRST_DAY, LAST_DAY, str(kind))
    if kind is Kind.DAY:
        year, month, day_of_month = civil_of(day)
        return Period(kind, day, day + 1, f"{year:04d}-{month:02d}-{day_of_month:02d}")
    if kind is Kind.WEEK:
        start = day - (day + _MONDAY_BEFORE_EPOCH - calendar.week_starts) % _WEEK
        return Period(kind, start, start + _WEEK, _week_label(start))
    return _month_period(calendar, kind, day)


def _month_period(calendar: Calendar, kind: Kind, day: int) -> Period:
    year, month, _ = civil_of(day)
    first_month = calendar.fiscal_year_starts if kind in FISCAL else 1
    months_into_year = (month - first_month) % 12
    index = months_into_year // MONTHS[kind]
    start_month = month - months_into_year % MONTHS[kind]
    period = (day_of(year, start_month), day_of(year, start_month + MONTHS[kind]))
    if kind in FISCAL:
        is_split = first_month > 1  # then the fiscal year ends in the next calendar year
        name = f"FY{year + (is_split and month >= first_month):04d}"
        forms = {Kind.FISCAL_MONTH: f"{name}-M{index + 1:02d}", Kind.FISCAL_YEAR: name}
        return Period(kind, *period, forms.get(kind, f"{name}-Q{index + 1}"))
    forms = {Kind.MONTH: f"{year:04d}-{month:02d}", Kind.YEAR: f"{year:04d}"}
    return Period(kind, *period, forms.get(kind, f"{year:04d}-Q{index + 1}"))


def _week_label(start: int) -> str:
    # A week takes the number of the ISO week that holds most of it: that of its fourth day.
    middle = start + 3
    thursday = middle - (middle + _MONDAY_BEFORE_EPOCH) % _WEEK + 3
    year, _, _ = civil_of(thursday)
    return f"{year:04d}-W{(thursday - day_of(year, 1)) // _WEEK + 1:02d}"


# ---------------------------------------------------------------- labels

_LABELS: Final = (
    (Kind.DAY, re.compile(r"\d{4,}-\d\d-\d\d")),
    (Kind.WEEK, re.compile(r"\d{4,}-W\d\d")),
    (Kind.MONTH, re.compile(r"\d{4,}-\d\d")),
    (Kind.QUARTER, re.compile(r"\d{4,}-Q\d")),
    (Kind.YEAR, re.compile(r"\d{4,}")),
    (Kind.FISCAL_MONTH, re.compile(r"FY\d{4,}-M\d\d")),
    (Kind.FISCAL_QUARTER, re.compile(r"FY\d{4,}-Q\d")),
    (Kind.FISCAL_YEAR, re.compile(r"FY\d{4,}")),
    (Kind.ALL, re.compile("all")),
    (Kind.NOW, re.compile("now")),
)

_ROLLING: Final = re.compile(r"last_[1-9]\d{0,3}d")


def is_rolling(kind: str) -> bool:
    """Whether a kind, which is then also the label, means the last N days."""
    return _ROLLING.fullmatch(kind) is not None


def rolling_days(kind: str) -> int:
    """How many local days a rolling period has, today included."""
    return int(kind.removeprefix("last_").removesuffix("d"))


def rolling_period(kind: str, today: int) -> Period:
    """The last N days as seen from today."""
    return Period(kind, today - rolling_days(kind) + 1, today + 1, kind)


def kind_of(label: str) -> str:
    """The kind of a period by its label.

    Raises:
        ValueError: no period is called so.
    """
    for kind, form in _LABELS:
        if form.fullmatch(label):
            return kind
    if is_rolling(label):
        return label
    raise ValueError(f'"{label}" is not a period')


def kind_named(name: str) -> Kind:
    """The kind that ``kpis.periods`` names.

    Raises:
        ValueError: there is no such kind.
    """
    for kind in CALENDAR_KINDS:
        if kind == name:
            return kind
    raise ValueError(f'kpis.periods: "{name}" is not a period; use {", ".join(CALENDAR_KINDS)}')
