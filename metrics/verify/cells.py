"""The cells, day by day: what they mean beside what the records of that day amount to.

A value over a month can be right while two of its days are wrong by the same amount. So the
cells of each group and day are read as a value of that day, and compared with the recipe's.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Connection, Select, func, literal, select

from metrics import rates
from metrics.catalog import Catalog
from metrics.definition import Bucket, Family, Kpi, Term
from metrics.dimensions import name_of
from metrics.formulas import Formula, Tallies, Tally
from metrics.rates import RateBook
from metrics.verify.book import Book, Grouping, Page, View
from metrics.verify.comparing import Facts, Place
from metrics.verify.periods import Calendar, Period
from store.kpis import Content
from store.tables import CELLS, MEASURES, NO_DAY

_EPOCH: Final = date(1970, 1, 1).toordinal()

Made: TypeAlias = Callable[[Kpi, View], Facts | None]
"""What a recipe makes of a view."""


@dataclass
class Above:
    """The KPIs above one family whose values of a single day are sums of its cells."""

    family: Family
    kpis: dict[str, Kpi] = field(default_factory=dict)
    groupings: dict[str, set[Grouping]] = field(default_factory=lambda: defaultdict(set))


def compared_by_day(catalog: Catalog, kpis: Sequence[Kpi]) -> list[Above]:
    """The families of these KPIs whose cells can be looked at day by day."""
    found: dict[str, Above] = {}
    for kpi in kpis:
        for kind in catalog.kinds_of(kpi):
            if kpi.is_instant or not catalog.is_plain(kpi, kind):
                continue
            (family,) = catalog.families_of(kpi, kind)
            if family.kind is None and not family.is_running:
                above = found.setdefault(family.name, Above(family))
                above.kpis[kpi.name] = kpi
                above.groupings[kpi.name] |= set(catalog.groupings_of(kpi, kind))
    return list(found.values())


def stored_days(conn: Connection, catalog: Catalog, above: Above, today: int) -> dict[Place, Facts]:
    """What the stored cells mean, group by group and day by day.

    Args:
        conn: in `store.engine.reading`.
        catalog: what is kept.
        above: the family and the KPIs above it.
        today: as days since 1970, for amounts of an unknown day.
    """
    book = rates.load_book(conn, catalog.settings)
    positions: dict[Term, int] = {}
    own = catalog.company.currency
    formulas = {name: Formula(kpi, positions, own) for name, kpi in above.kpis.items()}
    reader = Tallies(above.family, list(positions), positions, book)
    dimensions = {name_of(one) for groupings in above.groupings.values() for one in groupings}
    tallies: dict[tuple[str, str, int], Tally] = {}
    for row in conn.execute(_cells(above.family, sorted(dimensions))):
        dimension, key, day, currency, bucket, *sums = row
        tally = tallies.setdefault((dimension, key, day), [0] * len(positions))
        since = _span(book, currency, today if day == NO_DAY else day)
        reader.add(tally, (dimension, key, day, currency, since, bucket, *map(int, sums)))
    found: dict[Place, Facts] = {}
    for name, formula in formulas.items():
        kept = {name_of(grouping) for grouping in above.groupings[name]}
        for (dimension, key, day), tally in tallies.items():
            content = formula.content(tally) if dimension in kept else None
            if content is not None and day != NO_DAY:
                found[name, dimension, key, _iso(day)] = _facts_of(content)
    return found


def recomputed_days(
    book: Book, subjects: Sequence[str], above: Above, made: Made, calendar: Calendar
) -> Iterator[tuple[Place, Facts]]:
    """What the recipes make of each group's single days."""
    for name, groupings in above.groupings.items():
        for grouping in groupings:
            for key, day, alone in _days(book, subjects, grouping):
                period = Period("day", date.fromordinal(day).isoformat(), day, day + 1)
                facts = made(above.kpis[name], View(alone, grouping, key, period, day, calendar))
                if facts is not None:
                    yield (name, name_of(grouping), key, period.label), facts


def _days(
    book: Book, subjects: Sequence[str], grouping: Grouping
) -> Iterator[tuple[str, int, Book]]:
    """Each group and day, with a book of that day alone: looking at all days takes too long."""
    keys = {key for subject in subjects for key in book.pages[subject][grouping]}
    for key in keys:
        pages = {subject: book.pages[subject][grouping].get(key, Page()) for subject in subjects}
        for day in {day for page in pages.values() for day in page.days()}:
            alone = Book({})
            for subject, page in pages.items():
                there = Page()
                if day in page.figures:
                    there.figures[day] = page.figures[day]
                if day in page.values:
                    there.values[day] = page.values[day]
                alone.pages[subject] = {grouping: {key: there}}
            yield key, day, alone


def _cells(family: Family, dimensions: Sequence[str]) -> Select[Any]:
    has_buckets = family.bucket in (Bucket.PROBABILITY, Bucket.SHARES)
    apart = [CELLS.c.dimension, CELLS.c.key, CELLS.c.day, CELLS.c.currency]
    bucket = CELLS.c.bucket if has_buckets else literal(0, BigInteger)
    sums = [func.sum(CELLS.c[name]) for name in MEASURES[: len(family.measures)]]
    return (
        select(*apart, bucket, *sums)
        .where(CELLS.c.family == family.name, CELLS.c.dimension.in_(dimensions))
        .group_by(*apart, *([CELLS.c.bucket] if has_buckets else []))
    )


def _span(book: RateBook, currency: str, day: int) -> int | None:
    """The first day of the span of rates that a day lies in; None: there is but one."""
    spans = book.spans.get(currency, ())
    if len(spans) < 2:  # noqa: PLR2004 - one span has no beginning
        return None
    return spans[max(0, bisect_right([since for since, _ in spans], day) - 1)][0]


def _iso(day: int) -> str:
    return date.fromordinal(day + _EPOCH).isoformat()


def _facts_of(content: Content) -> Facts:
    left_out: dict[str, int] = json.loads(content.left_out)
    return Facts(
        value=content.value,
        numerator=content.numerator,
        denominator=content.denominator,
        n=content.n,
        left_out=tuple(sorted(left_out.items())),
        currency=content.currency,
        definition=content.definition,
        words=content.words,
    )
