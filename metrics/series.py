"""Values that take more than one look at the cells.

Those of several families, of other days than the period's own, of what the clock moves, and
percentiles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from metrics import period_sql, rates
from metrics.catalog import Bundle, Catalog
from metrics.clock import BEGUN, CAME
from metrics.contributions.terms import MICROSECONDS_PER_DAY, NO_CURRENCY
from metrics.contributions.terms import text_of as text_constant
from metrics.definition import (
    DAYS_PER_YEAR,
    VELOCITY_DAYS,
    Bucket,
    Family,
    Kpi,
    PeriodLength,
    Span,
    Term,
)
from metrics.formulas import Formula, Tallies, Tally
from metrics.periods import (
    FIRST_DAY,
    LAST_DAY,
    MONTHS,
    Calendar,
    Kind,
    Period,
    is_rolling,
    period_of,
    rolling_days,
    rolling_period,
)
from metrics.rates import RateBook
from store import kpis as stored
from store import temporary
from store.compiled import in_written_order, rows_of, text_of
from store.conversion import instant_number, local_day
from store.engine import is_postgresql
from store.kpis import Content
from store.loading import load
from store.tables import CELLS, KEY, MEASURES, NO_DAY

RANGES: Final = temporary.table(
    "value_ranges",
    MetaData(),
    Column("place", Integer, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("start", Integer, nullable=False),
    Column("stop", Integer, nullable=False),
)
"""Which days of which groups are summed for which places."""

MEDIAN: Final = 50


class Group(NamedTuple):
    """A group of one dimension."""

    dimension: str
    key: str


@dataclass(frozen=True)
class Moment:
    """When values are computed."""

    instant: int
    """Microseconds since 1970, UTC."""
    today: int
    """The company's local day."""

    @classmethod
    def of(cls, catalog: Catalog, at: datetime) -> Moment:
        """The moment of an instant."""
        return cls(instant_number(at), local_day(at, catalog.company.timezone))


@dataclass
class Wanted:
    """Which periods of which groups are to be computed for a bundle."""

    whole: set[Group] = field(default_factory=set)
    some: dict[Group, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Group -> the first days of periods."""


class Place(NamedTuple):
    """One group in one period."""

    group: Group
    period: Period


# ---------------------------------------------------------------- which periods


def want(  # noqa: PLR0917 - a cell has that many coordinates
    wanted: Wanted, bundle: Bundle, family: str, group: Group, day: int, clock: tuple[Calendar, int]
) -> None:
    """Note what a moved cell makes wrong.

    Args:
        wanted: where it is noted.
        bundle: the values looked at.
        family: of the cell.
        group: of the cell.
        day: of the cell, or a mark of `store.kpis`.
        clock: the calendar and today.
    """
    by_clock = stored.of_clock(day)
    if by_clock is not None:
        _want_by_clock(wanted, bundle, family, group, *by_clock, clock)
        return
    if not bundle.is_calendar:
        if day != stored.ROLLING or _is_rolled(bundle, family):
            wanted.some[group].add(NO_DAY)
        return
    if day == stored.WHOLE_GROUP:
        wanted.whole.add(group)
        return
    if day in (NO_DAY, stored.ROLLING):
        return
    _want_around(wanted, bundle, family, group, day, clock)


def _is_rolled(bundle: Bundle, family: str) -> bool:
    return is_rolling(bundle.kind) or Span.LAST_90D in bundle.spans_of(family)


def _want_by_clock(  # noqa: PLR0917 - as `want`
    wanted: Wanted,
    bundle: Bundle,
    family: str,
    group: Group,
    day: int,
    number: int,
    clock: tuple[Calendar, int],
) -> None:
    """Note what the clock makes wrong: plain sums over fixed days are not among it."""
    if not bundle.is_up_to_now:
        return
    if number == CAME:
        if bundle.is_calendar:
            _want_around(wanted, bundle, family, group, day, clock)
        elif not is_rolling(bundle.kind):
            wanted.some[group].add(NO_DAY)
    elif bundle.is_calendar and number == BEGUN[Kind(bundle.kind)]:
        calendar, today = clock
        wanted.some[group].update(_starts(calendar, Kind(bundle.kind), day, today))


def _want_around(  # noqa: PLR0917 - as `want`
    wanted: Wanted, bundle: Bundle, family: str, group: Group, day: int, clock: tuple[Calendar, int]
) -> None:
    """Note the periods that read a day."""
    calendar, today = clock
    kind = Kind(bundle.kind)
    spans = bundle.spans_of(family)
    period = period_of(calendar, kind, day)
    starts = {period.start} if Span.PERIOD in spans else set()
    if Span.PREVIOUS in spans:
        starts.add(period.stop)
    if spans & {Span.UPTO, Span.BEFORE}:
        starts.update(_starts(calendar, kind, period.start, today))
    if Span.NORM in spans:
        starts.update(_starts(calendar, kind, period.start, min(today, day + _LEAP_YEAR)))
    if bundle.is_up_to_now:
        starts = {start for start in starts if start <= today}
    if group not in wanted.whole and starts:
        wanted.some[group].update(starts)


def _starts(calendar: Calendar, kind: Kind, first: int, today: int) -> Iterator[int]:
    start = first
    while start <= today:
        yield start
        start = period_of(calendar, kind, start).stop


class Series:
    """Computes the contents of bundles at places."""

    def __init__(self, conn: Connection, catalog: Catalog, book: RateBook, moment: Moment) -> None:
        self._conn = conn
        self._catalog = catalog
        self._calendar = catalog.settings.calendar
        self._book = book
        self._moment = moment
        self._for_postgresql = is_postgresql(conn)

    def places(self, bundle: Bundle, wanted: Wanted) -> list[Place]:
        """Every place that a wish comes down to."""
        found: dict[Place, None] = {}
        for group, starts in wanted.some.items():
            for start in sorted(starts):
                found[Place(group, self._period(bundle.kind, start))] = None
        if wanted.whole:
            for group, starts in self._starts_of(bundle, wanted.whole).items():
                for start in sorted(starts):
                    found[Place(group, self._period(bundle.kind, start))] = None
        return list(found)

    def _period(self, kind: str, start: int) -> Period:
        if kind in (Kind.ALL, Kind.NOW):
            return Period(kind, NO_DAY, LAST_DAY, str(kind))
        if is_rolling(kind):
            return rolling_period(kind, self._moment.today)
        return period_of(self._calendar, Kind(kind), start)

    def _starts_of(self, bundle: Bundle, groups: Iterable[Group]) -> dict[Group, set[int]]:
        """The first days of all periods in which groups can have a value."""
        found: dict[Group, set[int]] = defaultdict(set)
        kind, today = Kind(bundle.kind), self._moment.today
        self._set_ranges((0, *group, FIRST_DAY, LAST_DAY) for group in sorted(groups))
        for family in bundle.families:
            spans = bundle.spans_of(family.name)
            text = _starts_in_cells(family.name, kind, self._calendar, self._for_postgresql)
            for dimension, key, start in rows_of(self._conn, text):
                starts = found[Group(dimension, key)]
                if Span.PERIOD in spans:
                    starts.add(start)
                if Span.PREVIOUS in spans:
                    starts.add(period_of(self._calendar, kind, start).stop)
                if spans & {Span.UPTO, Span.BEFORE}:
                    starts.update(_starts(self._calendar, kind, start, today))
        if bundle.is_up_to_now:
            return {
                group: {start for start in starts if start <= today}
                for group, starts in found.items()
            }
        return found

    # ---- contents

    def contents(
        self, bundle: Bundle, places: Sequence[Place]
    ) -> Iterator[tuple[Place, Kpi, Content | None, Formula]]:
        """The content of every KPI of a bundle at every place; None where there is none."""
        positions: dict[Term, int] = {}
        formulas = [
            (kpi, Formula(kpi, positions, self._catalog.company.currency)) for kpi in bundle.kpis
        ]
        tallies: list[Tally] = [[0] * len(positions) for _ in places]
        by_read: dict[tuple[str, Span], set[Term]] = defaultdict(set)
        for kpi in bundle.kpis:
            for term in kpi.terms:
                family = self._catalog.family_of(kpi, term, bundle.kind)
                unsigned = term if term.sign == 1 else -term
                by_read[family.name, term.span].add(unsigned)
        families = {family.name: family for family in bundle.families}
        for (name, span), terms in sorted(by_read.items()):
            self._read(families[name], span, sorted(terms, key=repr), positions, places, tallies)
        (first, *_) = bundle.kpis
        if first.percentile is not None:
            yield from self._percentiles(bundle, formulas[0], places, tallies)
            return
        for place, tally in zip(places, tallies, strict=True):
            length = length_of(place.period)
            for kpi, formula in formulas:
                yield place, kpi, formula.content(tally, length), formula

    def _read(  # noqa: PLR0917 - where from and where to
        self,
        family: Family,
        span: Span,
        terms: Sequence[Term],
        positions: Mapping[Term, int],
        places: Sequence[Place],
        tallies: Sequence[Tally],
    ) -> None:
        self._set_ranges(
            (number, *place.group, *self._days(family, span, place.period))
            for number, place in enumerate(places)
        )
        reader = Tallies(family, terms, positions, self._book)
        text = (
            _members(family.name, self._for_postgresql)
            if family.bucket is Bucket.MEMBER
            else _sums(family, self._book.is_dated and bool(family.money), self._for_postgresql)
        )
        instant = self._moment.instant
        for row in rows_of(self._conn, text.replace(_NOW, str(instant))):
            reader.add(tallies[row[0]], row)

    def _days(self, family: Family, span: Span, period: Period) -> tuple[int, int]:
        """The days of a family that a span means, seen from a period."""
        today = self._moment.today
        start, stop = period.start, period.stop
        is_everything = period.kind in (Kind.ALL, Kind.NOW)
        match span:
            case Span.PERIOD if family.is_running:
                start = FIRST_DAY
            case Span.PREVIOUS if is_everything:
                return FIRST_DAY, FIRST_DAY
            case Span.PREVIOUS if is_rolling(period.kind):
                start, stop = start - rolling_days(period.kind), start
            case Span.PREVIOUS:
                before = period_of(self._calendar, Kind(period.kind), start - 1)
                start, stop = before.start, before.stop
            case Span.BEFORE if is_everything:
                return FIRST_DAY, FIRST_DAY
            case Span.BEFORE:
                start, stop = FIRST_DAY, start
            case Span.UPTO:
                start = NO_DAY if is_everything else FIRST_DAY
            case Span.NORM:
                return FIRST_DAY, FIRST_DAY
            case Span.LAST_90D:
                start, stop = today - VELOCITY_DAYS + 1, today + 1
        return start, min(stop, today + 1) if family.is_clocked else stop

    def _set_ranges(self, rows: Iterable[tuple[object, ...]]) -> None:
        temporary.prepare(self._conn, [RANGES])
        listed = list(rows)
        load(self._conn, RANGES.name, tuple(column.name for column in RANGES.columns), listed)
        temporary.analyze(self._conn, RANGES.name, len(listed))

    # ---- percentiles

    def keys_of(self, family: str, dimension: str) -> list[str]:
        """The groups of a dimension that have cells, sorted."""
        found: list[str] = []
        after = ""
        while True:
            # From one key to the next through the index, not through all cells.
            following: str | None = self._conn.execute(
                select(func.min(CELLS.c.key)).where(
                    CELLS.c.family == family, CELLS.c.dimension == dimension, CELLS.c.key > after
                )
            ).scalar_one()
            if following is None:
                return found
            found.append(following)
            after = following

    def medians(
        self, family: Family, kpi: Kpi, ranges: Sequence[tuple[object, ...]]
    ) -> dict[int, tuple[int, Fraction | None]]:
        """How many values lie in each range, and their median."""
        self._set_ranges(ranges)
        return self._ranked(family, kpi)

    def _percentiles(
        self,
        bundle: Bundle,
        formula_of: tuple[Kpi, Formula],
        places: Sequence[Place],
        tallies: Sequence[Tally],
    ) -> Iterator[tuple[Place, Kpi, Content | None, Formula]]:
        kpi, formula = formula_of
        (family,) = bundle.families
        self._set_ranges(
            (number, *place.group, *self._days(family, Span.PERIOD, place.period))
            for number, place in enumerate(places)
        )
        found = (
            self._ranked_money(family, kpi)
            if family.has_money_buckets
            else self._ranked(family, kpi)
        )
        for number, (place, tally) in enumerate(zip(places, tallies, strict=True)):
            count, value = found.get(number, (0, None))
            content = formula.of_percentile(count, value, formula.left_out(tally))
            yield place, kpi, content, formula

    def _ranked(self, family: Family, kpi: Kpi) -> dict[int, tuple[int, Fraction | None]]:
        percent = MEDIAN if kpi.percentile is None else kpi.percentile
        text = _ranks(family.name, percent, self._for_postgresql)
        return {row[0]: (row[1], Fraction(row[2] + row[3], 2)) for row in rows_of(self._conn, text)}

    def _ranked_money(self, family: Family, kpi: Kpi) -> dict[int, tuple[int, Fraction | None]]:
        """Percentiles of amounts: by the database where all of a place have one worth."""
        percent = MEDIAN if kpi.percentile is None else kpi.percentile
        found: dict[int, tuple[int, Fraction | None]] = {}
        mixed: list[int] = []
        text = _ranks_of_money(family.name, percent, self._for_postgresql)
        for place, total, lower, upper, currency, other in rows_of(self._conn, text):
            if currency != other or not self._book.is_constant(currency):
                mixed.append(place)
                continue
            factor = self._book.factor(currency, None)
            if factor is not None:
                found[place] = (total, Fraction(factor) * Fraction(lower + upper, 2))
        if mixed:
            found |= self._ranked_mixtures(family, percent, mixed)
        return found

    def _ranked_mixtures(
        self, family: Family, percent: int, places: Sequence[int]
    ) -> dict[int, tuple[int, Fraction | None]]:
        found: dict[int, dict[Decimal, dict[int, int]]] = defaultdict(dict)
        chosen = set(places)
        text = _buckets(family.name, self._book.is_dated, self._for_postgresql)
        for place, currency, since, bucket, count in rows_of(self._conn, text):
            factor = self._book.factor(currency, since) if currency and place in chosen else None
            if factor is not None:
                # Two currencies, or two spans of dated rates, may be worth the same.
                units = found[place].setdefault(factor, {})
                units[bucket] = units.get(bucket, 0) + count
        return {place: _ranked_amounts(of_place, percent) for place, of_place in found.items()}


def _ranked_amounts(
    counts: Mapping[Decimal, Mapping[int, int]], percent: int
) -> tuple[int, Fraction | None]:
    """The percentile of amounts: by what a unit is worth, how often each number of units is."""
    if len(counts) == 1:
        ((factor, units),) = counts.items()
        total, rank = ranked(units, percent)
        return total, None if rank is None else rank * Fraction(factor)
    amounts: dict[Fraction, int] = defaultdict(int)
    for factor, units in counts.items():
        worth = Fraction(factor)
        for number, count in units.items():
            amounts[worth * number] += count
    return ranked(amounts, percent)


_N = TypeVar("_N", int, Fraction)


def ranked(counts: Mapping[_N, int], percent: int) -> tuple[int, Fraction | None]:
    """How many values there are, and their percentile: the median, else the nearest rank."""
    total = sum(counts.values())
    lower: _N | None = None
    upper: _N | None = None
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        if lower is None and passed * 100 >= percent * total:
            lower = value
        if upper is None and passed * 2 > total:
            upper = value
    if lower is None or upper is None:
        return total, None
    return total, Fraction(lower + upper) / 2 if percent == MEDIAN else Fraction(lower)


def length_of(period: Period) -> PeriodLength:
    """How long a period is in the sense of formulas: a year 365.25 days, a month a 12th of it."""
    if period.kind in (Kind.ALL, Kind.NOW):
        return PeriodLength()
    if is_rolling(period.kind):
        days = rolling_days(period.kind)
        return PeriodLength(Fraction(1) if days == _YEAR else days / DAYS_PER_YEAR)
    kind = Kind(period.kind)
    if kind in MONTHS:
        return PeriodLength(Fraction(MONTHS[kind], 12))
    return PeriodLength((7 if kind is Kind.WEEK else 1) / DAYS_PER_YEAR)


_YEAR: Final = 365
_LEAP_YEAR: Final = 366


# ---------------------------------------------------------------- statements

_NOW: Final = "987654321012345678"
"""Stands in the statements for the instant, which would otherwise be compiled in anew."""


def _in_range(family: str) -> ColumnElement[bool]:
    return and_(
        CELLS.c.family == family,
        CELLS.c.dimension == RANGES.c.dimension,
        CELLS.c.key == RANGES.c.key,
        CELLS.c.day >= RANGES.c.start,
        CELLS.c.day < RANGES.c.stop,
    )


@lru_cache(maxsize=512)
def _sums(family: Family, is_dated: bool, for_postgresql: bool) -> str:
    """A family's sums at places: columns as `metrics.formulas` reads them, an age at the end."""
    since = rates.since() if is_dated else cast(literal_column("NULL"), Integer)
    apart: list[ColumnElement[Any]] = [RANGES.c.place, CELLS.c.currency]
    bucket: ColumnElement[Any] = cast(0, BigInteger)
    age: ColumnElement[Any] = cast(0, BigInteger)
    if family.bucket in (Bucket.PROBABILITY, Bucket.SHARES):
        bucket = CELLS.c.bucket
        apart.append(bucket)
    elif family.bucket is Bucket.INSTANT:
        now = literal_column(_NOW, BigInteger)
        bucket = case((CELLS.c.bucket < now, 1), else_=0)
        apart.append(bucket)
        days = (now - CELLS.c.bucket) // literal_column(str(MICROSECONDS_PER_DAY), BigInteger)
        aged = case((CELLS.c.bucket < now, days), else_=0) * CELLS.c.n
        age = cast(func.sum(aged), BigInteger)
    if is_dated:
        apart.append(since)
    sums = [cast(func.sum(CELLS.c[name]), BigInteger) for name in MEASURES[: len(family.measures)]]
    nothing = literal_column("NULL", Text)
    statement = (
        select(RANGES.c.place, nothing, nothing, CELLS.c.currency, since, bucket, *sums, age)
        .join_from(RANGES, CELLS, _in_range(family.name))
        .group_by(*apart)
    )
    return in_written_order(text_of(statement, for_postgresql), for_postgresql)


@lru_cache(maxsize=64)
def _members(family: str, for_postgresql: bool) -> str:
    """How many different members a family has at places: columns as those of `_sums`."""
    members = cast(func.count(CELLS.c.currency.distinct()), BigInteger)
    nothing, none = literal_column("NULL", Text), literal_column("''", Text)
    zero = cast(0, BigInteger)
    statement = (
        select(RANGES.c.place, nothing, nothing, none, nothing, zero, members, zero)
        .join_from(RANGES, CELLS, _in_range(family))
        .group_by(RANGES.c.place)
    )
    return in_written_order(text_of(statement, for_postgresql), for_postgresql)


@lru_cache(maxsize=512)
def _starts_in_cells(family: str, kind: Kind, calendar: Calendar, for_postgresql: bool) -> str:
    start = period_sql.start_of(calendar, kind, CELLS.c.day)
    statement = (
        select(RANGES.c.dimension, RANGES.c.key, start)
        .join_from(RANGES, CELLS, _in_range(family))
        .distinct()
    )
    return in_written_order(text_of(statement, for_postgresql), for_postgresql)


@lru_cache(maxsize=64)
def _ranks(family: str, percent: int, for_postgresql: bool) -> str:
    """Of each place: how many values, and the two whose mean is the percentile."""
    return _ranked_by(family, percent, for_postgresql, CELLS.c.bucket >= 0)


@lru_cache(maxsize=16)
def _ranks_of_money(family: str, percent: int, for_postgresql: bool) -> str:
    """The same of amounts, and the first and the last of their currencies."""
    has_amount = CELLS.c.currency != text_constant(NO_CURRENCY)
    return _ranked_by(
        family,
        percent,
        for_postgresql,
        has_amount,
        func.min(CELLS.c.currency).label("first_currency"),
        func.max(CELLS.c.currency).label("last_currency"),
    )


def _ranked_by(
    family: str,
    percent: int,
    for_postgresql: bool,
    where: ColumnElement[bool],
    *ends: ColumnElement[str],
) -> str:
    counted = (
        select(RANGES.c.place, CELLS.c.bucket, func.sum(CELLS.c.m1).label("n"), *ends)
        .join_from(RANGES, CELLS, _in_range(family))
        .where(where)
        .group_by(RANGES.c.place, CELLS.c.bucket)
        .subquery("counted")
    )
    names = [end.name for end in ends]
    passed = select(
        counted.c.place,
        counted.c.bucket,
        *(counted.c[name] for name in names),
        func.sum(counted.c.n)
        .over(partition_by=counted.c.place, order_by=counted.c.bucket)
        .label("passed"),
        func.sum(counted.c.n).over(partition_by=counted.c.place).label("total"),
    ).subquery("passed")
    is_reached = passed.c.passed * 100 >= passed.c.total * percent
    is_upper = passed.c.passed * 2 > passed.c.total if percent == MEDIAN else is_reached
    extremes = [
        func.min(passed.c[name]) if place == 0 else func.max(passed.c[name])
        for place, name in enumerate(names)
    ]
    statement = select(
        passed.c.place,
        cast(func.max(passed.c.total), BigInteger),
        func.min(case((is_reached, passed.c.bucket))),
        func.min(case((is_upper, passed.c.bucket))),
        *extremes,
    ).group_by(passed.c.place)
    return in_written_order(text_of(statement, for_postgresql), for_postgresql)


@lru_cache(maxsize=16)
def _buckets(family: str, is_dated: bool, for_postgresql: bool) -> str:
    since = rates.since() if is_dated else cast(literal_column("NULL"), Integer)
    apart = [RANGES.c.place, CELLS.c.currency, CELLS.c.bucket, *((since,) if is_dated else ())]
    statement = (
        select(
            RANGES.c.place,
            CELLS.c.currency,
            since,
            CELLS.c.bucket,
            cast(func.sum(CELLS.c.m1), BigInteger),
        )
        .join_from(RANGES, CELLS, _in_range(family))
        .group_by(*apart)
    )
    return in_written_order(text_of(statement, for_postgresql), for_postgresql)
