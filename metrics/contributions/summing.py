"""From contributions to cells: signed, netted, summed in every grouping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import CTE, CompoundSelect, func, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from metrics import period_sql
from metrics.contributions import CONTRIBUTIONS
from metrics.contributions.keys import key_column
from metrics.contributions.rows import Distinct, Facts, Grouped, Rows
from metrics.contributions.terms import (
    NO_CURRENCY,
    flag,
    is_any_not_zero,
    number,
    sum_of,
    text_of,
    zero,
)
from metrics.definition import Family
from metrics.dimensions import Grouping, name_of, places_in
from metrics.periods import Kind
from store.compiled import AnySelect
from store.tables import MEASURES, NO_DAY


def cells_of(
    family: Family, groupings: Sequence[Grouping], facts: Facts
) -> CompoundSelect[*tuple[Any, ...]]:
    """The cells that facts amount to, or by which they move them; columns `CELL_COLUMNS`."""
    return cells_of_all([(family, groupings)], facts)


def cells_of_all(
    kept: Sequence[tuple[Family, Sequence[Grouping]]], facts: Facts
) -> CompoundSelect[*tuple[Any, ...]]:
    """The same of several families, which share what they have in common.

    Args:
        kept: families and their groupings.
        facts: that were used in no other statement.
    """
    return union_all(
        *(cells for family, groupings in kept for cells in _cells_of(family, groupings, facts))
    )


def _cells_of(family: Family, groupings: Sequence[Grouping], facts: Facts) -> list[AnySelect]:
    shape = CONTRIBUTIONS[family.formula](facts, family)
    if isinstance(shape, Distinct):
        return [_distinct_cells(family, grouping, shape, facts) for grouping in groupings]
    if isinstance(shape, Grouped):
        return [_grouped_cells(family, grouping, shape) for grouping in groupings]
    netted = _netted(family, groupings, shape, facts)
    return [_summed_cells(family, grouping, netted) for grouping in groupings]


MOST_PARTS: Final = 100
"""SELECTs in one statement; SQLite takes 500."""


def together(
    families: Iterable[Family], groupings: Mapping[str, tuple[Grouping, ...]]
) -> Iterator[tuple[Kept, ...]]:
    """Families of one source that are worth one statement, with their groupings."""
    by_source: dict[str, list[Kept]] = {}
    for family in families:
        some = by_source.setdefault(family.source, [])
        if sum(len(kept) for _, kept in some) + len(groupings[family.name]) > MOST_PARTS and some:
            yield tuple(some)
            some.clear()
        some.append((family, groupings[family.name]))
    yield from (tuple(some) for some in by_source.values() if some)


Kept: TypeAlias = tuple[Family, tuple[Grouping, ...]]
"""A family and the groupings of its cells."""


# ---------------------------------------------------------------- row by row


def _netted(family: Family, groupings: Sequence[Grouping], rows: Rows, facts: Facts) -> CTE:
    """The contributions summed over everything that tells them apart; what cancels is gone."""
    sign = rows.source.c.side
    used = sorted({name for one in groupings for name in places_in(one, family.mapped)})
    sums = dict(zip(MEASURES, rows.measures, strict=False))
    signed = (
        select(
            *(rows.source.c[name] for name in used),
            rows.day.label("day"),
            rows.currency.label("currency"),
            rows.bucket.label("bucket"),
            sign.label("n"),
            *((sign * measure).label(name) for name, measure in sums.items()),
        )
        .where(*rows.where)
        .subquery("signed")
    )
    apart = [signed.c[name] for name in (*used, "day", "currency", "bucket")]
    if facts.is_difference:
        added = {name: sum_of(signed.c[name]) for name in ("n", *sums)}
        statement = (
            select(*apart, *(value.label(name) for name, value in added.items()))
            .group_by(*apart)
            .having(is_any_not_zero(added.values()))
        )
    else:
        # Nothing can cancel: one sum, that of each grouping, is enough.
        statement = select(signed)
    return statement.cte(f"net_{family.name}").prefix_with("MATERIALIZED")


def _summed_cells(family: Family, grouping: Grouping, netted: CTE) -> AnySelect:
    columns = [netted.c[name] for name in places_in(grouping, family.mapped)]
    apart = [netted.c.day, netted.c.currency, netted.c.bucket]
    sums = {name: sum_of(netted.c[name]) for name in ("n", *MEASURES[: len(family.measures)])}
    return (
        select(
            *_names(family, grouping, key_column(columns)),
            *apart,
            *(sums.get(name, zero).label(name) for name in ("n", *MEASURES)),
        )
        .where(*(column.is_not(None) for column in columns))
        .group_by(*columns, *apart)
        .having(is_any_not_zero(sums.values()))
    )


# ---------------------------------------------------------------- once for each period


def _distinct_cells(family: Family, grouping: Grouping, rows: Distinct, facts: Facts) -> AnySelect:
    """Members that are there after but not before, less those that were and are no more."""
    columns = [rows.source.c[name] for name in places_in(grouping, family.mapped)]
    kind = Kind(family.kind or Kind.ALL)
    is_dated = kind is not Kind.ALL
    start = period_sql.start_of(facts.calendar, kind, rows.day) if is_dated else number(NO_DAY)
    members = [f"member{place}" for place in range(len(rows.member))]
    measures = MEASURES[: len(rows.measures)]
    found = (
        select(
            *(part.label(name) for name, part in zip(members, rows.member, strict=True)),
            key_column(columns).label("key"),
            start.label("start"),
            rows.source.c.side,
            *(value.label(name) for name, value in zip(measures, rows.measures, strict=True)),
        )
        .where(*(column.is_not(None) for column in columns), *rows.where)
        .where(*((rows.day.is_not(None),) if is_dated else ()))
        .subquery("found")
    )

    # Measures are never negative: the largest of none, on a side without rows, is 0.
    def change(value: ColumnElement[int]) -> ColumnElement[int]:
        after = func.max(flag(found.c.side >= zero) * value)
        before = func.max(flag(found.c.side <= zero) * value)
        return after - before

    changes = {
        "n": change(number(1)),
        **{name: change(found.c[name]) for name in measures},
    }
    apart = [found.c[name] for name in ("key", "start", *members)]
    counted = (
        select(*apart[:2], *(value.label(name) for name, value in changes.items()))
        .group_by(*apart)
        .having(is_any_not_zero(changes.values()))
        .subquery("counted")
    )
    sums = {name: sum_of(counted.c[name]) for name in changes}
    return (
        select(
            *_names(family, grouping, counted.c.key),
            counted.c.start.label("day"),
            text_of(NO_CURRENCY).label("currency"),
            zero.label("bucket"),
            *(sums.get(name, zero).label(name) for name in ("n", *MEASURES)),
        )
        .group_by(counted.c.key, counted.c.start)
        .having(is_any_not_zero(sums.values()))
    )


# ---------------------------------------------------------------- within each group


def _grouped_cells(family: Family, grouping: Grouping, shape: Grouped) -> AnySelect:
    rows = shape.rows(places_in(grouping, family.mapped)).subquery("rows_of_units")
    measures = MEASURES[: len(family.measures)]
    sums = {"n": sum_of(rows.c.side), **{m: sum_of(rows.c.side * rows.c[m]) for m in measures}}
    return (
        select(
            *_names(family, grouping, rows.c.key),
            rows.c.day,
            text_of(NO_CURRENCY).label("currency"),
            zero.label("bucket"),
            *(sums.get(name, zero).label(name) for name in ("n", *MEASURES)),
        )
        .group_by(rows.c.key, rows.c.day)
        .having(is_any_not_zero(sums.values()))
    )


def _names(
    family: Family, grouping: Grouping, key: ColumnElement[str]
) -> tuple[ColumnElement[str], ...]:
    return (
        text_of(family.name).label("family"),
        text_of(name_of(grouping)).label("dimension"),
        key.label("key"),
    )
