from __future__ import annotations

import sqlite3
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Integer, column
from sqlalchemy.dialects import sqlite

from metrics import period_sql
from metrics.periods import (
    CALENDAR_KINDS,
    Calendar,
    Kind,
    civil_of,
    day_of,
    kind_named,
    kind_of,
    period_of,
)

EPOCH = date(1970, 1, 1)
FEBRUARY = Calendar(fiscal_year_starts=2)


def number(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


@pytest.mark.parametrize(
    ("kind", "label", "first", "last"),
    [
        (Kind.DAY, "2017-03-05", "2017-03-05", "2017-03-05"),
        (Kind.WEEK, "2017-W09", "2017-02-27", "2017-03-05"),
        (Kind.MONTH, "2017-03", "2017-03-01", "2017-03-31"),
        (Kind.QUARTER, "2017-Q1", "2017-01-01", "2017-03-31"),
        (Kind.YEAR, "2017", "2017-01-01", "2017-12-31"),
        (Kind.FISCAL_MONTH, "FY2018-M02", "2017-03-01", "2017-03-31"),
        (Kind.FISCAL_QUARTER, "FY2018-Q1", "2017-02-01", "2017-04-30"),
        (Kind.FISCAL_YEAR, "FY2018", "2017-02-01", "2018-01-31"),
    ],
)
def test_a_day_lies_in_one_period_of_each_kind(
    kind: Kind, label: str, first: str, last: str
) -> None:
    period = period_of(FEBRUARY, kind, number("2017-03-05"))

    assert period.label == label
    assert (period.start, period.stop) == (number(first), number(last) + 1)


def test_a_fiscal_year_is_named_by_the_year_in_which_it_ends() -> None:
    before, after = number("2017-01-31"), number("2017-02-01")

    assert period_of(FEBRUARY, Kind.FISCAL_YEAR, before).label == "FY2017"
    assert period_of(FEBRUARY, Kind.FISCAL_YEAR, after).label == "FY2018"
    assert period_of(Calendar(), Kind.FISCAL_YEAR, after).label == "FY2017"


@given(st.dates())
def test_weeks_from_monday_are_iso_weeks(day: date) -> None:
    year, week, _ = day.isocalendar()

    label = period_of(Calendar(), Kind.WEEK, (day - EPOCH).days).label

    assert label == f"{year:04d}-W{week:02d}"


def test_a_week_from_sunday_has_the_number_of_the_iso_week_that_holds_most_of_it() -> None:
    from_sunday = Calendar(week_starts=6)

    period = period_of(from_sunday, Kind.WEEK, number("2023-01-01"))

    assert period.label == "2023-W01"
    assert period.start == number("2023-01-01")


@given(st.dates())
def test_day_numbers_are_those_of_the_calendar(day: date) -> None:
    as_number = (day - EPOCH).days

    assert civil_of(as_number) == (day.year, day.month, day.day)
    assert day_of(day.year, day.month, day.day) == as_number


@given(
    st.dates(min_value=date(1, 2, 1), max_value=date(9998, 1, 1)),
    st.sampled_from(CALENDAR_KINDS),
    st.integers(0, 6),
    st.integers(1, 12),
)
def test_periods_follow_each_other_without_gap_and_contain_their_days(
    day: date, kind: Kind, week_starts: int, fiscal_start: int
) -> None:
    calendar = Calendar(week_starts, fiscal_start)
    as_number = (day - EPOCH).days

    period = period_of(calendar, kind, as_number)

    assert period.start <= as_number < period.stop
    assert period_of(calendar, kind, period.start) == period
    assert period_of(calendar, kind, period.stop - 1) == period
    assert period_of(calendar, kind, period.stop).start == period.stop
    assert kind_of(period.label) is kind


@pytest.mark.parametrize("kind", CALENDAR_KINDS)
@pytest.mark.parametrize("calendar", [Calendar(), Calendar(6, 2), Calendar(3, 12)])
def test_sql_cuts_time_as_python_does(kind: Kind, calendar: Calendar) -> None:
    days = [
        (date(year, 1, 1) - EPOCH).days + offset
        for year in (1, 1600, 1700, 1900, 1969, 1970, 2000, 2024, 2025, 2100, 9998)
        for offset in range(1, 400, 3)
    ]
    start = period_sql.start_of(calendar, kind, column("day", Integer))
    text = str(start.compile(dialect=sqlite.dialect()))
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE days (day INTEGER)")
        database.executemany("INSERT INTO days VALUES (?)", [(day,) for day in days])
        by_sql = dict(database.execute(f"SELECT day, {text} FROM days"))  # noqa: S608 - a formula of ours
    database.close()

    assert by_sql == {day: period_of(calendar, kind, day).start for day in days}


def test_february_of_a_leap_year_has_29_days() -> None:
    period = period_of(Calendar(), Kind.MONTH, number("2024-02-29"))

    assert period.stop - period.start == timedelta(days=29).days


def test_rolling_periods_are_none_of_the_calendar() -> None:
    with pytest.raises(ValueError, match='"last_90d" is not a period; use day, week'):
        kind_named("last_90d")


def test_an_unknown_period_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match='"fortnight" is not a period; use day, week'):
        kind_named("fortnight")


@pytest.mark.parametrize("label", ["", "2017-13x", "Q1", "latest"])
def test_a_label_that_is_none_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="is not a period"):
        kind_of(label)


@pytest.mark.parametrize("wrong", [{"week_starts": 7}, {"fiscal_year_starts": 0}])
def test_impossible_calendars_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="starts"):
        Calendar(**wrong)
