"""Starts of calendar periods as SQL arithmetic, the same on SQLite and PostgreSQL.

Only integers and operators that both databases know alike: day numbers are shifted to be
positive before they are divided, because integer division rounds towards zero.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Integer, literal_column
from sqlalchemy.sql.elements import ColumnElement

from metrics.periods import FISCAL, MONTHS, Calendar, Kind

# Days from 0000-03-01 to 1970-01-01 and 400 years more, after which the calendar repeats: the
# fiscal year of the first days there are begins before them. And whole weeks that are longer.
_TO_A_FIRST_OF_MARCH: Final = 719_468 + 146_097
_WEEKS_TO_BE_POSITIVE: Final = 7 * 110_000


def start_of(calendar: Calendar, kind: Kind, day: ColumnElement[int]) -> ColumnElement[int]:
    """The first day of the period of a kind that contains `day`.

    Raises:
        ValueError: the kind has no start (``all``, ``now``).
    """
    if kind is Kind.DAY:
        return day
    if kind is Kind.WEEK:
        shift = 3 - calendar.week_starts + _WEEKS_TO_BE_POSITIVE
        return day - (day + _number(shift)) % _number(7)
    if kind not in MONTHS:
        raise ValueError(f'the period "{kind}" has no start')
    if MONTHS[kind] == 1:
        return _month_start(day)
    first_month = calendar.fiscal_year_starts if kind in FISCAL else 1
    # March is month 0 of the shifted year: 14 makes January month 0, and keeps it positive.
    months_into = (_month_from_march(day) + _number(14 - (first_month - 1))) % _number(12)
    months_over = months_into % _number(MONTHS[kind])
    # From the middle of the month, whole mean months back end in the middle of another one.
    middle = _month_start(day) + _number(14) - _divided(months_over * _number(3_044), 100)
    return _month_start(middle)


def _number(value: int) -> ColumnElement[int]:
    # Written into the statement: these numbers are part of the formula, not data.
    return literal_column(str(value), Integer)


def _day_of_march_year(day: ColumnElement[int]) -> ColumnElement[int]:
    # Neri and Schneider, "Euclidean affine functions and their application to calendar
    # algorithms" (2022), with the divisions left as they are.
    day_of_century = _divided(
        (_number(4) * (day + _number(_TO_A_FIRST_OF_MARCH)) + _number(3)) % _number(146_097), 4
    )
    return _divided((_number(4) * day_of_century + _number(3)) % _number(1_461), 4)


def _month_from_march(day: ColumnElement[int]) -> ColumnElement[int]:
    return _divided(_number(5) * _day_of_march_year(day) + _number(2), 153)


def _month_start(day: ColumnElement[int]) -> ColumnElement[int]:
    day_of_month = (_number(5) * _day_of_march_year(day) + _number(2)) % _number(153)
    return day - _divided(day_of_month, 5)


def _divided(value: ColumnElement[int], divisor: int) -> ColumnElement[int]:
    # "//" is integer division on both databases; the operand is never negative here.
    return value // _number(divisor)
