"""Published values: what the cells mean, computed for dirty keys only.

A value is written only when something in it changed; what was believed before stays readable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Text,
    and_,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from metrics import clock, labels, meaning, period_sql, rates
from metrics.bottleneck import bottlenecks
from metrics.catalog import Bundle, Catalog
from metrics.definition import Bucket, Family, Kpi, Term, Unit
from metrics.dimensions import name_of
from metrics.expression import rating
from metrics.formulas import Formula, Tallies, Tally
from metrics.periods import FIRST_DAY, LAST_DAY, Calendar, Kind, kind_of, period_of
from metrics.rates import RateBook
from metrics.rebuild import rebuild, stale_families
from metrics.series import Group, Moment, Series, Wanted, want
from store import kpis as stored
from store.compiled import in_written_order, rows_of, text_of
from store.engine import is_postgresql
from store.kpis import Content, Current, DirtyKey, KpiValue, NewValue, Place
from store.tables import CELLS, MEASURES, NO_DAY

__all__ = ["KpiValue", "Published", "current", "publish"]

PUBLICATION: Final = "publication"
"""The bookkeeping entry that says with which settings values were published."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one step of publication did."""

    changed: int
    """Values that were written, emptied or ended."""
    unchanged: int
    """Values that were computed and found as they were."""
    remaining: int
    """Dirty keys that are left; the caller goes on until there are none."""


# ---------------------------------------------------------------- publishing


def publish(
    conn: Connection,
    catalog: Catalog,
    *,
    run: str | None,
    as_of: datetime,
    limit: int | None = None,
) -> Published:
    """Bring the values above some dirty keys up to date.

    Args:
        conn: in `store.engine.writing`.
        catalog: what is published.
        run: the run that does it.
        as_of: the instant from which on new values are believed.
        limit: how many dirty keys to take; None: all.
    """
    ended = _end_unconfigured(conn, catalog, as_of)
    meaning.note(conn, catalog, as_of=as_of, run=run)
    stale = set(stale_families(conn, catalog))
    rerated = rating.stale(conn, catalog, max(as_of, clock.published_at(conn) or as_of))
    if set(rerated) - stale:
        rebuild(conn, catalog, sorted(set(rerated) - stale))
    families = {name: family for name, family in catalog.families.items() if name not in stale}
    book = rates.load_book(conn, catalog.settings)
    moment = Moment.of(catalog, clock.note(conn, catalog, families, book, as_of))
    if book.is_dated:
        rates.prepare(conn, book, moment.today)
    stored.spread_whole_families(
        conn, {name: [kpi.name for kpi in kpis_above(catalog, name)] for name in families}
    )
    taken = stored.take_dirty_keys(conn, [*families, stored.LABELS], limit)
    publication = _Publication(conn, catalog, book, moment, run=run, as_of=as_of)
    publication.renew(taken, families)
    labels.renew(conn, catalog, [key for key in taken if key.family == stored.LABELS])
    stored.settle_taken_keys(conn)
    remaining = stored.count_dirty_keys(conn, [*families, stored.LABELS])
    if not remaining:
        stored.analyze_first_values(conn)
    return Published(
        changed=publication.changed + ended, unchanged=publication.unchanged, remaining=remaining
    )


def kpis_above(catalog: Catalog, family: str) -> list[Kpi]:
    """The KPIs that rest on a family's cells."""
    above = {
        kpi.name: kpi
        for kpi in catalog.kpis
        for kind in catalog.kinds_of(kpi)
        if any(one.name == family for one in catalog.families_of(kpi, kind))
    }
    return list(above.values())


def _end_unconfigured(conn: Connection, catalog: Catalog, as_of: datetime) -> int:
    """When the settings changed: end what is no longer asked for, and compute all the rest."""
    if stored.fingerprints(conn).get(PUBLICATION) == catalog.publication_fingerprint:
        return 0
    wanted = {
        (kpi.name, kind, name_of(grouping))
        for kpi in catalog.kpis
        for kind in catalog.kinds_of(kpi)
        for grouping in catalog.groupings_of(kpi, kind)
    }
    unwanted = [
        (kpi, dimension, period)
        for kpi, dimension, period in stored.kinds_of_current_values(conn)
        if (kpi, kind_of(period), dimension) not in wanted
    ]
    ended = stored.close_values(conn, unwanted, as_of)
    stored.drop_families(conn, stored.families_with_traces(conn) - catalog.families.keys())
    for family in catalog.families:
        stored.note_whole_family(conn, family)
    stored.save_fingerprint(conn, PUBLICATION, catalog.publication_fingerprint)
    return ended


# ---------------------------------------------------------------- one step


_KINDS: Final = {str(kind): kind for kind in Kind}


class _Group(NamedTuple):
    """A group and the periods of one kind that are to be computed."""

    dimension: str
    key: str
    start: int
    stop: int
    period: str | None
    """None: all of them."""
    kind: str


class _Publication:
    """Computes the values of one step and writes those that changed."""

    def __init__(
        self,
        conn: Connection,
        catalog: Catalog,
        book: RateBook,
        moment: Moment,
        *,
        run: str | None,
        as_of: datetime,
    ) -> None:
        self.changed = 0
        self.unchanged = 0
        self._new: list[NewValue] = []
        self._run = run
        self._as_of = as_of
        self._conn = conn
        self._catalog = catalog
        self._book = book
        self._moment = moment
        self._labels = labels.Labels(conn)
        self._calendar = catalog.settings.calendar
        self._has_values = stored.has_values(conn)

    def renew(self, taken: Sequence[DirtyKey], families: Mapping[str, Family]) -> None:
        """Compute every value above dirty keys, family by family."""
        self._labels.load((key.dimension, key.key) for key in taken if key.family in families)
        for name, keys in groupby(taken, key=attrgetter("family")):
            if name in families:
                self._renew_family(families[name], list(keys))
        wanted: dict[Bundle, Wanted] = defaultdict(Wanted)
        clock_now = (self._catalog.settings.calendar, self._moment.today)
        for key in taken:
            if key.family in families:
                for bundle in self._catalog.bundles_above(key.family, key.dimension):
                    group = Group(key.dimension, key.key)
                    want(wanted[bundle], bundle, key.family, group, key.day, clock_now)
        for bundle in self._catalog.bundles:
            if bundle in wanted and all(family.name in families for family in bundle.families):
                self._renew_bundle(bundle, wanted[bundle])
                self._write()

    def _renew_family(self, family: Family, keys: Sequence[DirtyKey]) -> None:
        named: dict[_Group, None] = {}
        by_kind: dict[str, dict[_Group, None]] = defaultdict(dict)
        whole = {(key.dimension, key.key) for key in keys if key.day == stored.WHOLE_GROUP}
        for key in keys:
            if key.day == stored.ROLLING or stored.of_clock(key.day) is not None:
                continue  # plain sums do not move with time
            if key.day != stored.WHOLE_GROUP and (key.dimension, key.key) in whole:
                continue  # its periods are computed with the group's, and once is enough
            for kind in self._catalog.kinds_published(family.name, key.dimension):
                group = self._group(key, kind)
                if group is not None:
                    (by_kind[kind] if group.period is None else named)[group] = None
        if named:
            self._renew_named(family, list(named))
            self._write()
        for kind, groups in by_kind.items():
            self._renew_kind(family, kind, list(groups))
            self._write()

    def _renew_bundle(self, bundle: Bundle, wanted: Wanted) -> None:
        series = Series(self._conn, self._catalog, self._book, self._moment)
        places = series.places(bundle, wanted)
        stored.set_places(
            self._conn,
            [
                *(
                    (place.group.dimension, place.group.key, place.period.label, 0, 0)
                    for place in places
                    if place.group not in wanted.whole
                ),
                *((group.dimension, group.key, None, 0, 0) for group in wanted.whole),
            ],
        )
        names = [kpi.name for kpi in bundle.kpis]
        before = self._current(names, whole=False) if len(places) > len(wanted.whole) else {}
        if wanted.whole:
            before |= self._before(bundle.kind, names)
        contents = (
            bottlenecks(series, bundle, places)
            if bundle.kpis[0].unit is Unit.TEXT
            else series.contents(bundle, places)
        )
        emptied: dict[str, Content] = {}
        for place, kpi, content, formula in contents:
            emptied[kpi.name] = formula.emptied
            stored_place = Place(
                kpi.name, place.group.dimension, place.group.key, place.period.label
            )
            replaced = before.pop(stored_place, None)
            if content is not None:
                self._compare(stored_place, content, replaced)
            elif replaced is not None:
                self._compare(stored_place, formula.emptied, replaced)
        for stored_place, replaced in before.items():
            if stored_place.dimension in bundle.dimensions:
                kpi = self._catalog.kpi(stored_place.kpi)
                empty = Formula(kpi, {}, self._catalog.company.currency).emptied
                self._compare(stored_place, empty, replaced)

    def _write(self) -> None:
        # Kind by kind, so that a first publication does not stand in memory as a whole.
        stored.write_values(self._conn, self._new, run=self._run, as_of=self._as_of)
        self.changed += len(self._new)
        self._new.clear()

    def _group(self, key: DirtyKey, kind: str) -> _Group | None:
        is_all = kind in (Kind.ALL, Kind.NOW)
        if is_all:
            return _Group(key.dimension, key.key, NO_DAY, LAST_DAY, str(kind), kind)
        if key.day == stored.WHOLE_GROUP:
            return _Group(key.dimension, key.key, FIRST_DAY, LAST_DAY, None, kind)
        if key.day == NO_DAY:
            return None  # an unknown day lies in no period but "all"
        period = period_of(self._calendar, _KINDS[kind], key.day)
        return _Group(key.dimension, key.key, period.start, period.stop, period.label, kind)

    def _renew_named(self, family: Family, groups: Sequence[_Group]) -> None:
        """Of single periods of groups: of any kinds, by one look at the cells."""
        self._set_places(groups)
        kpis = [self._catalog.published(family.name, one.kind, one.dimension) for one in groups]
        names = sorted({kpi.name for published in kpis for kpi in published})
        before = self._current(names, whole=False)
        positions, formulas = self._formulas(names)
        tallies: list[Tally | None] = [None] * len(groups)
        text = _sums_of_places(
            family, self._book.is_dated and bool(family.money), is_postgresql(self._conn)
        )
        reader = Tallies(family, list(positions), positions, self._book)
        for row in rows_of(self._conn, text):
            tally = tallies[row[0]]
            if tally is None:
                tallies[row[0]] = tally = [0] * len(positions)
            reader.add(tally, row)
        for group, published, tally in zip(groups, kpis, tallies, strict=True):
            period = str(group.period)
            for kpi in published:
                place = Place(kpi.name, group.dimension, group.key, period)
                replaced = before.get(place)
                content = None if tally is None else formulas[kpi.name].content(tally)
                if content is not None:
                    self._compare(place, content, replaced)
                elif replaced is not None:
                    self._compare(place, formulas[kpi.name].emptied, replaced)

    def _set_places(self, groups: Sequence[_Group]) -> None:
        stored.set_places(
            self._conn,
            [
                (group.dimension, group.key, group.period, group.start, group.stop)
                for group in groups
            ],
        )

    def _formulas(self, names: Sequence[str]) -> tuple[dict[Term, int], dict[str, Formula]]:
        positions: dict[Term, int] = {}
        currency = self._catalog.company.currency
        formulas = {name: Formula(self._catalog.kpi(name), positions, currency) for name in names}
        return positions, formulas

    def _current(self, names: Sequence[str], *, whole: bool) -> dict[Place, Current]:
        if not self._has_values:
            return {}
        return stored.current_at_places(self._conn, names, whole=whole)

    def _renew_kind(self, family: Family, kind: str, groups: Sequence[_Group]) -> None:
        """Of every period of a kind of groups."""
        self._set_places(groups)
        kpis = {
            dimension: self._catalog.published(family.name, kind, dimension)
            for dimension in {group.dimension for group in groups}
        }
        names = sorted({kpi.name for published in kpis.values() for kpi in published})
        before = self._before(kind, names)
        positions, formulas = self._formulas(names)
        computed: set[tuple[str, str, str]] = set()
        for dimension, key, period, tally in self._tallies(family, kind, positions):
            computed.add((dimension, key, period))
            for kpi in kpis[dimension]:
                place = Place(kpi.name, dimension, key, period)
                replaced = before.get(place)
                content = formulas[kpi.name].content(tally)
                if content is not None:
                    self._compare(place, content, replaced)
                elif replaced is not None:
                    self._compare(place, formulas[kpi.name].emptied, replaced)
        for place, replaced in before.items():
            if place[1:] not in computed and self._is_published(kpis, place):
                self._compare(place, formulas[place.kpi].emptied, replaced)

    @staticmethod
    def _is_published(kpis: Mapping[str, Sequence[Kpi]], place: Place) -> bool:
        return any(kpi.name == place.kpi for kpi in kpis.get(place.dimension, ()))

    def _before(self, kind: str, names: Sequence[str]) -> dict[Place, Current]:
        found = self._current(names, whole=True)
        return {place: value for place, value in found.items() if kind_of(place.period) == kind}

    def _tallies(
        self, family: Family, kind: str, positions: Mapping[Term, int]
    ) -> Iterator[tuple[str, str, str, Tally]]:
        calendar = self._catalog.settings.calendar
        is_dated = self._book.is_dated and bool(family.money)
        text = _sums(family, kind, calendar, is_dated, is_postgresql(self._conn))
        reader = Tallies(family, list(positions), positions, self._book)
        tallies: dict[tuple[str, str, int], Tally] = {}
        for row in rows_of(self._conn, text):
            place = (row[0], row[1], row[2])
            tally = tallies.get(place)
            if tally is None:
                tallies[place] = tally = [0] * len(positions)
            reader.add(tally, row)
        for (dimension, key, start), tally in tallies.items():
            yield dimension, key, period_of(calendar, Kind(kind), start).label, tally

    def _compare(self, place: Place, content: Content, before: Current | None) -> None:
        if before is not None and before.content == content:
            self.unchanged += 1
            return
        label = self._labels.of(place.dimension, place.key)
        self._new.append(NewValue(place, content, label, before))


@lru_cache(maxsize=512)
def _sums(
    family: Family, kind: str, calendar: Calendar, is_dated: bool, for_postgresql: bool
) -> str:
    """The family's sums in the groups of `PLACES`, in each period: one row for each currency."""
    places = stored.PLACES
    start = period_sql.start_of(calendar, Kind(kind), CELLS.c.day).label("start")
    named = (places.c.dimension, places.c.key, start)
    return _summed(family, named, named, is_dated, for_postgresql)


@lru_cache(maxsize=512)
def _sums_of_places(family: Family, is_dated: bool, for_postgresql: bool) -> str:
    """The family's sums in each of `PLACES`, by its number: one row for each currency."""
    places = stored.PLACES
    nothing = literal_column("NULL", Text)
    named = (places.c.place, nothing, nothing)
    return _summed(family, named, named[:1], is_dated, for_postgresql)


def _summed(
    family: Family,
    named: Sequence[ColumnElement[Any]],
    grouped: Sequence[ColumnElement[Any]],
    is_dated: bool,
    for_postgresql: bool,
) -> str:
    places = stored.PLACES
    since = rates.since() if is_dated else cast(literal_column("NULL"), Integer)
    has_buckets = family.bucket in (Bucket.PROBABILITY, Bucket.SHARES)
    bucket = CELLS.c.bucket if has_buckets else cast(0, BigInteger)
    apart = [*grouped, CELLS.c.currency]
    apart += [since] if is_dated else []
    apart += [bucket] if has_buckets else []
    is_in_place = and_(
        CELLS.c.family == family.name,
        CELLS.c.dimension == places.c.dimension,
        CELLS.c.key == places.c.key,
        CELLS.c.day >= places.c.start,
        CELLS.c.day < places.c.stop,
    )
    sums = [cast(func.sum(CELLS.c[name]), BigInteger) for name in MEASURES[: len(family.measures)]]
    statement = (
        select(*named, CELLS.c.currency, since.label("since"), bucket.label("bucket"), *sums)
        .join_from(places, CELLS, is_in_place)
        .group_by(*apart)
    )
    return in_written_order(text_of(statement, for_postgresql), for_postgresql)


# ---------------------------------------------------------------- reading


def current(
    conn: Connection,
    catalog: Catalog,
    *,
    kpi: str | None = None,
    period: str | None = None,
    dimension: str | None = None,
    key: str | None = None,
    at: datetime | None = None,
) -> list[KpiValue]:
    """The values that are believed, sorted by (KPI, period, dimension, key).

    Args:
        conn: in any transaction.
        catalog: whose KPIs.
        kpi: only this one.
        period: a label (``2017-Q1``, ``all``) or a kind (``quarter``: every quarter).
        dimension: ``all`` for totals, ``owner``, ``owner,region`` ...
        key: of one group.
        at: an instant: what was believed then; None: what is believed now.
    """
    names: list[str] | None = [kept.name for kept in catalog.kpis if kpi in (None, kept.name)]
    if at is not None:
        # What was believed then may be of KPIs that nobody keeps any more.
        names = None if kpi is None else [kpi]
    if period in set(catalog.kinds):
        found = stored.current_values(
            conn,
            kpis=names,
            dimension=dimension,
            key=key,
            at=at,
            is_wanted=lambda label: kind_of(label) == period,
        )
    else:
        found = stored.current_values(
            conn, kpis=names, period=period, dimension=dimension, key=key, at=at
        )
    worded = {value.words for value in found if value.words is not None}
    known = labels.stage_names(conn, worded) if worded else {}
    if not known:
        return found
    return [replace(value, named=known.get(value.words or "")) for value in found]
