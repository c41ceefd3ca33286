"""Who is there in the last N days, as days on which somebody begins and ceases to be.

The sum of such events up to today is how many there are: nothing is recomputed when a day passes,
only the days that came are added.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import FromClause, Integer, Select, and_, case, func, or_, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.rows import Facts
from metrics.contributions.terms import AFTER, BEFORE, BOTH, number, one, zero
from store.compiled import AnySelect


def sides_of(facts: Facts) -> tuple[int, ...]:
    """The sides on which a unit is looked at as a whole."""
    return (BEFORE, AFTER) if facts.is_difference else (AFTER,)


def both_ways(rows: FromClause, facts: Facts) -> FromClause:
    """The rows as a unit had them before and has them after: `sign` says which."""
    names = [column.name for column in rows.c if column.name != "side"]
    sides = (
        select(number(side).label("sign"), *(rows.c[name] for name in names)).where(
            rows.c.side.in_((number(side), number(BOTH)))
        )
        for side in sides_of(facts)
    )
    return union_all(*sides).subquery("both_ways")


def presences(rows: FromClause, members: Sequence[str], days: int) -> FromClause:
    """When each member of each group begins and ceases to have a row in the last days, today too.

    Args:
        rows: columns sign, key, day and those of `members`.
        members: what tells one from another.
        days: how many.

    Returns:
        Columns sign, key, those of `members`, day and delta: 1 or -1.
    """
    unit = [rows.c[name] for name in ("sign", "key", *members)]
    dated = select(
        *unit,
        rows.c.day,
        func.lag(rows.c.day, type_=Integer)
        .over(partition_by=unit, order_by=rows.c.day)
        .label("before"),
        func.lead(rows.c.day, type_=Integer)
        .over(partition_by=unit, order_by=rows.c.day)
        .label("after"),
    ).subquery("dated_rows")
    others = [dated.c[name] for name in ("sign", "key", *members)]
    begins = select(*others, dated.c.day, one.label("delta")).where(
        or_(dated.c.before.is_(None), dated.c.day - dated.c.before > number(days))
    )
    ends = select(
        *others, (dated.c.day + number(days)).label("day"), number(-1).label("delta")
    ).where(or_(dated.c.after.is_(None), dated.c.after - dated.c.day > number(days)))
    return union_all(begins, ends).subquery("presences")


def changes_over_last_days(events: FromClause, days: int) -> AnySelect:
    """Who was active when the last days began and is not now, and the reverse.

    An event stands on the day before the state it leads to. Seen from a day T, the last N days
    begin with the state of T - N + 1 and end with that of T + 1: of one who is active from event
    b to event e the first holds for T from b + N to e + N - 1, the second from b to e - 1.

    Args:
        events: of each member of each group, in turns a beginning (delta 1) and an end (-1);
            columns sign, key, buyer, day, delta.
        days: N.

    Returns:
        Columns key, side, day; m1: the change of who is active, on its own day; m2 and m3: what
        is lost and gained in the last days, summed up to T.
    """
    spans = _spans_of(events)
    # Without names: many groups stand in one statement.
    was, is_now = spans.alias(), spans.alias()
    # Active at both ends: neither lost nor gained.
    begins = _later(was.c.begins + number(days), is_now.c.begins)
    ends = _earlier(was.c.ends + number(days), is_now.c.ends)
    overlap = (
        select(was.c.sign, was.c.key, begins.label("begins"), ends.label("ends"))
        .join_from(
            was,
            is_now,
            and_(
                was.c.sign == is_now.c.sign,
                was.c.key == is_now.c.key,
                was.c.buyer == is_now.c.buyer,
            ),
        )
        .where(or_(ends.is_(None), begins < ends))
        .subquery("overlap")
    )
    delta = events.c.delta
    changes = union_all(
        select(
            events.c.key,
            events.c.sign.label("side"),
            events.c.day,
            delta.label("m1"),
            zero.label("m2"),
            delta.label("m3"),
        ),
        select(events.c.key, events.c.sign, events.c.day + number(days), zero, delta, zero),
        select(overlap.c.key, overlap.c.sign, overlap.c.begins, zero, number(-1), number(-1)),
        select(overlap.c.key, overlap.c.sign, overlap.c.ends, zero, one, one).where(
            overlap.c.ends.is_not(None)
        ),
    )
    return select(changes.subquery("changes"))


def _spans_of(events: FromClause) -> FromClause:
    """From which event to which somebody is active; an end that is null never comes."""
    following = select(
        *(events.c[name] for name in ("sign", "key", "buyer", "day", "delta")),
        func.lead(events.c.day, type_=Integer)
        .over(partition_by=(events.c.sign, events.c.key, events.c.buyer), order_by=events.c.day)
        .label("ends"),
    ).subquery("following")
    spans: Select[tuple[object, ...]] = select(
        *(following.c[name] for name in ("sign", "key", "buyer")),
        following.c.day.label("begins"),
        following.c.ends,
    ).where(following.c.delta == one)
    return spans.cte()


def _later(day: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((day > other, day), else_=other)


def _earlier(day: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((day.is_(None), other), (other.is_(None), day), (day < other, day), else_=other)
