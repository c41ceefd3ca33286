"""A second opinion: every value worked out again from the stored records, in plain Python.

Nothing here is shared with the SQL that keeps the cells: records are read one by one, nothing is
rounded before the end, and what a KPI means is written down a second time. If the two disagree,
one of them is wrong, and nobody should believe either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from metrics import clock
from metrics.catalog import Catalog
from metrics.definition import MONEY_UNITS, Kpi
from metrics.verify import cells, custom, customers, emails, marketing, sales, service
from metrics.verify.book import Book, Grouping, View
from metrics.verify.comparing import (
    OF_CELLS,
    Difference,
    Facts,
    Place,
    differing,
    stored_facts,
)
from metrics.verify.periods import Calendar, periods_for
from metrics.verify.reading import Reader
from metrics.verify.recipes import Ask, Recipe, Result, rounded
from store.conversion import day_number
from store.kpis import kinds_of_current_values

__all__ = [
    "OF_CELLS",
    "Difference",
    "Verification",
    "missing_recipes",
    "readers_of",
    "recipe_of",
    "verify",
]

RECIPES: Final[Mapping[str, Recipe]] = {
    **sales.RECIPES,
    **customers.RECIPES,
    **marketing.RECIPES,
    **emails.RECIPES,
    **service.RECIPES,
}
"""KPI -> its recipe."""

READERS: Final[Mapping[str, Callable[[Reader, Book], None]]] = {
    **sales.READERS,
    **customers.READERS,
    **marketing.READERS,
    **emails.READERS,
    **service.READERS,
}
"""Subject -> what reads it from the records."""


def recipe_of(kpi: Kpi) -> Recipe:
    """How the value of a KPI is made, built-in or the company's own."""
    return RECIPES[kpi.name] if kpi.custom is None else custom.recipe_of(kpi)


def readers_of(kpi: Kpi) -> list[Callable[[Reader, Book], None]]:
    """What reads the records of a KPI, each once."""
    if kpi.custom is not None:
        return [custom.reader_of(kpi)]
    return list(dict.fromkeys(READERS[subject] for subject in RECIPES[kpi.name].subjects))


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of comparing values."""

    ok: bool
    checked: int
    """Values."""
    differences: list[Difference]
    days: int = 0
    """What the cells of a group mean for a single day: so many were compared, too."""
    cells: int = 0
    """So many were compared with those that a rebuild would make."""


def verify(
    conn: Connection,
    catalog: Catalog,
    *,
    as_of: datetime,
    kpis: Sequence[Kpi] | None = None,
    with_others: bool = True,
) -> Verification:
    """Recompute every value of every kept KPI and compare it with the stored one, exactly.

    Args:
        conn: in `store.engine.reading`, so that records and values are of one instant.
        catalog: what is kept.
        as_of: the instant the values are compared for, where none were published yet; else
            they are compared for the instant of their publication.
        kpis: only the values of these; None: of all.
        with_others: there must be no values of KPIs that are not kept.
    """
    reader = Reader(conn, catalog, clock.published_at(conn) or as_of)
    checked = cells_checked = 0
    differences: list[Difference] = []
    # One subject after the other: the groups of all of them at once would fill the memory.
    for together in verified_together(catalog.kpis if kpis is None else kpis):
        book = _book_of(reader, catalog, together)
        recomputed = _recompute(reader, book, catalog, together)
        stored = stored_facts(conn, [kpi.name for kpi in together])
        checked += len(recomputed.keys() | stored.keys())
        differences += differing(stored, recomputed)
        compared, wrong = _compare_days(conn, reader, book, catalog, together)
        cells_checked, differences = cells_checked + compared, [*differences, *wrong]
    unknown: set[str] = set()
    if with_others:
        unknown = {kpi for kpi, _, _ in kinds_of_current_values(conn)}
        unknown -= {kpi.name for kpi in catalog.kpis}
    stored = stored_facts(conn, sorted(unknown))
    differences += differing(stored, {})
    return Verification(
        ok=not differences,
        checked=checked + len(stored),
        days=cells_checked,
        differences=sorted(differences, key=lambda found: (found.kpi, found.dimension, found.key)),
    )


def missing_recipes(kpis: Iterable[str]) -> list[str]:
    """KPIs that nobody has written down a second time."""
    return sorted(set(kpis) - RECIPES.keys())


# ---------------------------------------------------------------- recomputing


def verified_together(kpis: Sequence[Kpi]) -> list[list[Kpi]]:
    """The KPIs, those together that need the same subjects."""
    found: dict[tuple[str, ...], list[Kpi]] = defaultdict(list)
    for kpi in kpis:
        found[recipe_of(kpi).subjects].append(kpi)
    return [found[subjects] for subjects in sorted(found)]


def _book_of(reader: Reader, catalog: Catalog, kpis: Sequence[Kpi]) -> Book:
    """Everything that the records say of KPIs that need the same subjects."""
    groupings = {
        grouping
        for kpi in kpis
        for kind in catalog.kinds_of(kpi)
        for grouping in (*catalog.groupings_of(kpi, kind), *kpi.inner)
    }
    book = Book(dict.fromkeys(recipe_of(kpis[0]).subjects, groupings))
    for read in readers_of(kpis[0]):
        read(reader, book)
    return book


def _compare_days(
    conn: Connection, reader: Reader, book: Book, catalog: Catalog, kpis: Sequence[Kpi]
) -> tuple[int, list[Difference]]:
    """The cells of single days: how many were compared, and those that differ."""
    settings = catalog.settings
    calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)

    def made(kpi: Kpi, view: View) -> Facts | None:
        ask = Ask(settings, catalog.own(kpi), reader.now)
        return _facts(kpi, recipe_of(kpi).make(view, ask), settings.company.currency)

    count, found = 0, list[Difference]()
    for above in cells.compared_by_day(catalog, kpis):
        stored = cells.stored_days(conn, catalog, above, day_number(reader.today))
        subjects = recipe_of(kpis[0]).subjects
        days = dict(cells.recomputed_days(book, subjects, above, made, calendar))
        count += len(stored.keys() | days.keys())
        found += differing(stored, days)
    return count, [replace(one, kpi=f"{one.kpi}{OF_CELLS}") for one in found]


def _recompute(
    reader: Reader, book: Book, catalog: Catalog, kpis: Sequence[Kpi]
) -> dict[Place, Facts]:
    subjects = recipe_of(kpis[0]).subjects
    settings = catalog.settings
    calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)
    facts: dict[Place, Facts] = {}
    for kpi in kpis:
        ask = Ask(settings, catalog.own(kpi), reader.now)
        recipe = recipe_of(kpi)
        for kind in catalog.kinds_of(kpi):
            for grouping in catalog.groupings_of(kpi, kind):
                for view in _views(reader, book, subjects, str(kind), grouping, calendar):
                    if recipe.is_up_to_now and view.period.start > view.today:
                        continue
                    found = _facts(kpi, recipe.make(view, ask), settings.company.currency)
                    if found is not None:
                        dimension = ",".join(grouping) or "all"
                        facts[kpi.name, dimension, view.key, view.period.label] = found
    return facts


def _views(  # noqa: PLR0917 - what a view is made of
    reader: Reader,
    book: Book,
    subjects: Sequence[str],
    kind: str,
    grouping: Grouping,
    calendar: Calendar,
) -> Iterator[View]:
    today = reader.today.toordinal()
    days: dict[str, set[int]] = defaultdict(set)
    for subject in subjects:
        for key, page in book.pages[subject][grouping].items():
            days[key] |= page.days()
    for key, of_key in days.items():
        for period in periods_for(kind, of_key, today, calendar):
            yield View(book, grouping, key, period, today, calendar)


def _facts(kpi: Kpi, result: Result, currency: str) -> Facts | None:
    left_out = {reason: count for reason, count in (result.left_out or {}).items() if count}
    if not result.n and not left_out:
        return None
    return Facts(
        value=rounded(result.value),
        numerator=rounded(result.numerator),
        denominator=rounded(result.denominator),
        n=result.n,
        left_out=tuple(sorted(left_out.items())),
        currency=currency if kpi.unit in MONEY_UNITS else None,
        definition=f"{kpi.name}@{kpi.version}",
        words=result.words,
    )
