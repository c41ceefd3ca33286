"""Verifying with DuckDB: cells and values of the additive families by an engine of its own.

The records are copied into a DuckDB in memory. Its sums are compared with the stored cells, cell
by cell, and put together to values, which are compared with the published ones, exactly. What
the statements in `metrics.verify.duck_sources` do not cover is left to the plain-Python way.
"""

# ruff: noqa: S608 - every name in these statements is one of the schema's own

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import BigInteger, Boolean, Connection, Integer, select
from sqlalchemy.types import TypeEngine

from metrics import clock
from metrics.catalog import Catalog
from metrics.definition import MONEY_UNITS, Bucket, Family, Kpi
from metrics.dimensions import name_of
from metrics.periods import kind_of
from metrics.verify.book import EXACT, Grouping
from metrics.verify.comparing import (
    Difference,
    Facts,
    Place,
    differing,
    stored_facts,
    words_of_cell,
)
from metrics.verify.duck_sources import COPIED, PREPARATION, SOURCES, Source
from metrics.verify.duck_values import VALUES, Term, Value
from metrics.verify.periods import Calendar, period_of
from metrics.verify.reading import Reader
from metrics.verify.recipes import rounded
from store.money import minor_units
from store.tables import CELLS, IDENTITY, MEASURES, NO_DAY, RECORD_TABLES

if TYPE_CHECKING:
    import duckdb

_EPOCH: Final = date(1970, 1, 1).toordinal()
_ROWS_AT_ONCE: Final = 10_000


class NoDuckDb(Exception):
    """DuckDB is not installed."""


CellKey: TypeAlias = tuple[str, int, str, int]
"""Key, day, currency, bucket."""
Part: TypeAlias = tuple[str, str, str]
"""Family, measure and part."""
Sums: TypeAlias = tuple[int, ...]
"""Records, then measures."""


@dataclass
class DuckVerification:
    """What DuckDB has compared."""

    cells: int = 0
    values: int = 0
    kpis: set[str] = field(default_factory=set)
    """Those it covers wholly."""
    in_python: set[str] = field(default_factory=set)
    """Those of which it covers nothing, or not every group."""
    differences: list[Difference] = field(default_factory=list)

    def words(self, kpis: int) -> str:
        """What it reached, for people."""
        return (
            f"DuckDB compared {self.cells:,} cells and {self.values:,} values; {len(self.kpis)} of "
            f"{kpis} KPIs it covers wholly, the others are recomputed in plain Python: "
            f"{', '.join(sorted(self.in_python)) or 'none'}"
        )

    def to_json(self) -> dict[str, object]:
        """For other programs."""
        return {
            "cells": self.cells,
            "values": self.values,
            "kpis": sorted(self.kpis),
            "in_python": sorted(self.in_python),
        }


def verify(conn: Connection, catalog: Catalog, *, as_of: datetime) -> DuckVerification:
    """Compare the cells and values that DuckDB can make.

    Args:
        conn: in `store.engine.reading`.
        catalog: what is kept.
        as_of: the instant to compare for, where none were published yet.

    Raises:
        NoDuckDb: the library is missing.
    """
    try:
        # A large optional library, which only this needs.
        import duckdb  # noqa: PLC0415
    except ImportError:
        raise NoDuckDb(
            "DuckDB is not installed: pip install 'kpisync[verify]', or leave --engine out"
        ) from None
    database = duckdb.connect()
    try:
        comparison = _Comparison(conn, database, catalog, clock.published_at(conn) or as_of)
        comparison.copy()
        comparison.compare()
        return comparison.found
    finally:
        database.close()


@dataclass
class _Tally:
    """The sums of one group in one period."""

    sums: dict[Part, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    ranks: dict[int, int] = field(default_factory=lambda: defaultdict(int))


class _Comparison:
    """One comparison of everything that is covered."""

    def __init__(
        self,
        conn: Connection,
        database: duckdb.DuckDBPyConnection,
        catalog: Catalog,
        now: datetime,
    ) -> None:
        self.found = DuckVerification()
        self._conn = conn
        self._database = database
        self._catalog = catalog
        self._reader = Reader(conn, catalog, now)
        settings = catalog.settings
        self._calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)
        self._today = self._reader.today.toordinal()
        self._cells: dict[tuple[str, Grouping], dict[CellKey, Sums]] = {}
        self._rates: dict[tuple[str, int], Decimal | None] = {}

    # ---- copying

    def copy(self) -> None:
        """Bring the records over and prepare what the sources read."""
        with TemporaryDirectory() as folder:
            for table, columns in COPIED.items():
                self._copy(table, columns, Path(folder) / f"{table}.csv")
        company = self._catalog.company
        for statement in PREPARATION:
            self._database.execute(
                statement.replace("{zone}", company.timezone.key)
                .replace("{currency}", company.currency)
                .replace("{no_day}", str(NO_DAY))
            )

    def _copy(self, table: str, columns: Sequence[str], file: Path) -> None:
        stored = RECORD_TABLES[table]
        query = select(*(stored.c[name] for name in columns))
        result = self._conn.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
        with file.open("w", encoding="utf-8", newline="") as stream:
            for row in result:
                stream.write(",".join(map(_quoted, row)) + "\n")
        types = {name: _type_of(stored.c[name].type) for name in columns}
        said = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
        # Quoted is text, even where it is empty; bare nothing is null.
        self._database.execute(
            f"CREATE TABLE {table} AS SELECT * FROM read_csv('{file}', header = false, "
            f"auto_detect = false, columns = {{{said}}}, delim = ',', quote = '\"', "
            "escape = '\"', nullstr = '', allow_quoted_nulls = false, max_line_size = 4000000, "
            "parallel = false)"
        )

    # ---- comparing

    def compare(self) -> None:
        """Cells first, then the values above them."""
        for name, family in self._catalog.families.items():
            source = SOURCES.get(family.formula)
            # Of families that settings make, the statements know nothing.
            if source is None or name not in {family.formula, f"{family.formula}_values"}:
                continue
            for grouping in self._catalog.groupings[name]:
                if self._covers(source, grouping):
                    self._compare_cells(family, source, grouping)
        for kpi in self._catalog.kpis:
            self._compare_values(kpi)
        self.found.in_python = {kpi.name for kpi in self._catalog.kpis} - self.found.kpis

    def _covers(self, source: Source, grouping: Grouping) -> bool:
        """Whether the statements know these groups; who is whom across CRMs they do not."""
        people = {"owner", "team"} if "owners" in self._matched else set()
        is_known = set(grouping) <= set(source.dimensions) - people
        has_customers = "account" in source.dimensions
        return is_known and not (has_customers and self._matched - {"owners", "contacts", "leads"})

    @cached_property
    def _matched(self) -> set[str]:
        """The streams in which records of several CRMs stand for one another."""
        settings = self._catalog.settings
        found = {stream for stream in RECORD_TABLES if settings.identity.of(stream)}
        found |= {"owners"} if settings.match_owners_by_email else set()
        for stream in ("accounts", "deals", "owners"):
            stored = RECORD_TABLES[stream]
            joined = IDENTITY.join(stored, stored.c.ref == IDENTITY.c.ref)
            query = (
                select(IDENTITY.c.ref)
                .select_from(joined)
                .where(IDENTITY.c.stream == stream, ~stored.c.deleted)
                .where(stored.c.merged_into.is_(None))
            )
            if self._conn.execute(query.limit(1)).first() is not None:
                found.add(stream)
        return found

    def _compare_cells(self, family: Family, source: Source, grouping: Grouping) -> None:
        made = self._made(source, grouping, has_buckets=family.bucket is not Bucket.NONE)
        stored = self._stored(family, source, grouping)
        self._cells[family.name, grouping] = made
        self.found.cells += len(made.keys() | stored.keys())
        for cell in made.keys() | stored.keys():
            one, other = stored.get(cell), made.get(cell)
            if one != other:
                self.found.differences.append(
                    _cell_difference(family.name, list(source.measures), grouping, cell, one, other)
                )

    def _made(
        self, source: Source, grouping: Grouping, *, has_buckets: bool
    ) -> dict[CellKey, Sums]:
        bucket = "bucket" if has_buckets else "0"
        sums = ", ".join(f"sum({column})" for column in source.measures.values())
        known = " AND ".join(f'"{name}" IS NOT NULL' for name in grouping) or "true"
        rows = self._database.execute(
            f"SELECT {_key_of(grouping)} AS k, day, currency, {bucket}, count(*), {sums} "
            f"FROM ({source.query}) WHERE {known} GROUP BY ALL"
        ).fetchall()
        return {
            (row[0], int(row[1]), row[2], int(row[3])): tuple(int(value) for value in row[4:])
            for row in rows
        }

    def _stored(self, family: Family, source: Source, grouping: Grouping) -> dict[CellKey, Sums]:
        places = [family.measures.index(name) for name in source.measures]
        columns = [CELLS.c[MEASURES[place]] for place in places]
        query = select(
            CELLS.c.key, CELLS.c.day, CELLS.c.currency, CELLS.c.bucket, CELLS.c.n, *columns
        ).where(CELLS.c.family == family.name, CELLS.c.dimension == name_of(grouping))
        return {tuple(row[:4]): tuple(row[4:]) for row in self._conn.execute(query)}

    # ---- values

    def _compare_values(self, kpi: Kpi) -> None:
        value = VALUES.get(kpi.name)
        if value is None or kpi.custom is not None:
            return
        recomputed: dict[Place, Facts] = {}
        is_whole, dimensions = True, set()
        for kind in self._catalog.kinds_of(kpi):
            families = {
                family.formula: family.name for family in self._catalog.families_of(kpi, kind)
            }
            for grouping in self._catalog.groupings_of(kpi, kind):
                if any((name, grouping) not in self._cells for name in families.values()):
                    is_whole = False
                    continue
                dimensions.add((name_of(grouping), kind))
                recomputed |= self._values(kpi, value, kind, grouping, families)
        places = {
            place: facts
            for place, facts in stored_facts(self._conn, [kpi.name]).items()
            if (place[1], _kind_of(place[3], self._catalog.kinds_of(kpi))) in dimensions
        }
        self.found.values += len(places.keys() | recomputed.keys())
        self.found.differences += differing(places, recomputed)
        if is_whole:
            self.found.kpis.add(kpi.name)

    def _values(
        self,
        kpi: Kpi,
        value: Value,
        kind: str,
        grouping: Grouping,
        families: Mapping[str, str],
    ) -> Iterable[tuple[Place, Facts]]:
        tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
        for family in value.families:
            measures = list(SOURCES[family].measures)
            wanted = [
                (term, measures.index(term[1]) + 1)
                for term in dict.fromkeys(term[:3] for term in value.terms)
                if term[0] == family
            ]
            cells = self._cells[families[family], grouping]
            for (key, day, currency, bucket), sums in cells.items():
                period = self._period(kind, day)
                if period is None:
                    continue
                tally = tallies[key, period]
                self._add(tally, wanted, (day, currency, bucket), sums)
                if value.percent is not None and bucket >= 0:
                    tally.ranks[bucket] += sums[0]
        for (key, period), tally in tallies.items():
            facts = self._facts(kpi, value, tally)
            if facts is not None:
                yield (kpi.name, name_of(grouping), key, period), facts

    def _period(self, kind: str, day: int) -> str | None:
        if kind in ("all", "now"):
            return kind
        if day == NO_DAY:
            return None
        ordinal = day + _EPOCH
        if kind.startswith("last_"):
            length = int(kind[len("last_") : -1])
            return kind if self._today - length < ordinal <= self._today else None
        return period_of(kind, ordinal, self._calendar).label

    def _add(
        self,
        tally: _Tally,
        wanted: Sequence[tuple[Part, int]],
        cell: tuple[int, str, int],
        sums: Sums,
    ) -> None:
        """Add what a cell means to the terms that are asked for."""
        day, currency, bucket = cell
        rate = self._rate(currency, day) if currency else None
        holds = {
            "all": True,
            "no_amount": not currency,
            "no_rate": bool(currency) and rate is None,
            "priced": rate is not None,
            "weighable": rate is not None and bucket >= 0,
            "no_weight": rate is not None and bucket < 0,
        }
        for term, place in wanted:
            number = sums[place]
            if term[2] in {"money", "weighted"}:
                if rate is not None and (term[2] == "money" or bucket >= 0):
                    worth = EXACT.multiply(Decimal(number), rate)
                    if term[2] == "weighted":
                        worth = EXACT.multiply(worth, Decimal(bucket).scaleb(-6))
                    tally.sums[term] = EXACT.add(tally.sums[term], worth)
            elif holds[term[2]]:
                tally.sums[term] += number

    def _rate(self, currency: str, day: int) -> Decimal | None:
        """Company units for one minor unit on a day."""
        place = currency, day
        if place not in self._rates:
            on = None if day == NO_DAY else date.fromordinal(day + _EPOCH)
            rate = self._reader.rate(currency, on)
            self._rates[place] = (
                None if rate is None else rate.scaleb(-minor_units(currency), EXACT)
            )
        return self._rates[place]

    def _facts(self, kpi: Kpi, value: Value, tally: _Tally) -> Facts | None:
        def total(terms: Sequence[Term]) -> Fraction:
            return sum((Fraction(tally.sums[term[:3]]) * term[3] for term in terms), Fraction(0))

        n = int(total(value.n))
        left_out = {reason: int(total(terms)) for reason, terms in value.left_out.items()}
        left_out = {reason: count for reason, count in left_out.items() if count}
        if not n and not left_out:
            return None
        top: Fraction | None = None
        bottom: Fraction | None = None
        if value.percent is not None:
            found = _ranked(tally.ranks, value.percent)
            number = None if found is None else found / value.divisor
        else:
            top = total(value.top)
            bottom = None if value.bottom is None else total(value.bottom)
            number = (
                top / value.divisor
                if bottom is None
                else top * value.factor / bottom / value.divisor
                if bottom
                else None
            )
            top /= value.divisor
        return Facts(
            value=rounded(number),
            numerator=rounded(top),
            denominator=rounded(bottom),
            n=n,
            left_out=tuple(sorted(left_out.items())),
            currency=self._catalog.company.currency if kpi.unit in MONEY_UNITS else None,
            definition=f"{kpi.name}@{kpi.version}",
            words=None,
        )


def _ranked(ranks: Mapping[int, int], percent: int) -> Fraction | None:
    values = [bucket for bucket, count in sorted(ranks.items()) for _ in range(count)]
    if not values:
        return None
    count = len(values)
    if percent == 50:  # noqa: PLR2004 - the median
        return Fraction(values[(count - 1) // 2] + values[count // 2], 2)
    return Fraction(values[-(-count * percent // 100) - 1])


def _kind_of(label: str, kinds: Sequence[str]) -> str | None:
    """The kind of period a label is of, among those of a KPI."""
    kind = str(kind_of(label))
    return kind if kind in kinds else None


def _key_of(grouping: Grouping) -> str:
    if not grouping:
        return "'*'"
    if len(grouping) == 1:
        return f'"{grouping[0]}"'
    escaped = (f"replace(replace(\"{name}\", '\\', '\\\\'), ',', '\\,')" for name in grouping)
    return " || ',' || ".join(escaped)


def _quoted(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return str(value)


def _type_of(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, BigInteger):
        return "BIGINT"
    if isinstance(kind, Integer):
        return "INTEGER"
    return "BOOLEAN" if isinstance(kind, Boolean) else "VARCHAR"


def _cell_difference(  # noqa: PLR0917 - what a cell is made of
    family: str,
    measures: Sequence[str],
    grouping: Grouping,
    cell: CellKey,
    stored: Sums | None,
    made: Sums | None,
) -> Difference:
    key, day, currency, bucket = cell

    when = "unknown day" if day == NO_DAY else date.fromordinal(day + _EPOCH).isoformat()
    where = when if not bucket else f"{when}, bucket {bucket}"
    n = max(sums[0] for sums in (stored, made) if sums is not None)
    one, other = (words_of_cell(measures, sums, currency) for sums in (stored, made))
    return Difference(f"cells of {family}", where, name_of(grouping), key, one, other, n)
