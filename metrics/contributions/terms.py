"""Small pieces of SQL that all contributions are written with.

Constants of ours stand in the statements themselves, so that each is prepared once for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    FromClause,
    Integer,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    or_,
)
from sqlalchemy.sql.elements import ColumnElement

from metrics.definition import Bucket, Family
from store.tables import NO_DAY

BEFORE: Final = -1
BOTH: Final = 0
AFTER: Final = 1

NO_CURRENCY: Final = ""
NO_BUCKET: Final = -1

MICROSECONDS: Final = 1_000_000
MICROSECONDS_PER_DAY: Final = 86_400 * MICROSECONDS

zero: Final = literal_column("0", Integer)
one: Final = literal_column("1", Integer)


def number(value: int) -> ColumnElement[int]:
    """A constant."""
    return literal_column(str(value), BigInteger if abs(value) >= 2**31 else Integer)


def text_of(value: str) -> ColumnElement[str]:
    """A constant text."""
    quoted = value.replace("'", "''")
    return literal_column(f"'{quoted}'", Text)


def no_text() -> ColumnElement[str]:
    """A null in a column of texts."""
    return literal_column("NULL", Text)


def no_number() -> ColumnElement[int]:
    """A null in a column of numbers."""
    return cast(literal_column("NULL"), BigInteger)


def sum_of(value: ColumnElement[int]) -> ColumnElement[int]:
    """A sum that stays an integer: PostgreSQL sums a bigint to a numeric."""
    return cast(func.sum(value), BigInteger)


def flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """1 or 0; unknown is 0."""
    return case((condition, one), else_=zero)


def least(one_value: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    """The smaller of two: a function of another name on each store."""
    return case((one_value < other, one_value), else_=other)


def day_or_unknown(day: ColumnElement[int]) -> ColumnElement[int]:
    """The day of a contribution, whose column cannot be null."""
    return func.coalesce(day, number(NO_DAY))


def bucket_of(
    family: Family, value: ColumnElement[int], is_known: ColumnElement[bool]
) -> ColumnElement[int]:
    """The value, where the family keeps values in their order."""
    if family.bucket is Bucket.NONE:
        return zero
    return case((is_known, value), else_=number(NO_BUCKET))


def is_live(table: FromClause) -> ColumnElement[bool]:
    """Deleted records do not exist, merged ones count as their winner."""
    return and_(~table.c.deleted, table.c.merged_into.is_(None))


def is_any_not_zero(values: Iterable[ColumnElement[int]]) -> ColumnElement[bool]:
    """Whether anything moves."""
    return or_(*(value != zero for value in values))


def within(
    column: ColumnElement[Any], chosen: FromClause | None
) -> tuple[ColumnElement[bool], ...]:
    """The condition that a key is among the chosen ones; None: no condition."""
    from sqlalchemy import select  # noqa: PLC0415

    return () if chosen is None else (column.in_(select(chosen.c[0])),)
