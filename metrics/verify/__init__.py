"""A second opinion: every value worked out again from the stored records, in plain Python.

Nothing here is shared with the SQL that keeps the cells: records are read one by one, nothing is
rounded before the end, and what a KPI means is written down a second time. If the two disagree,
one of them is wrong, and nobody should believe either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeAlias

from sqlalchemy import Connection

from metrics import clock
from metrics.catalog import Catalog
from metrics.definition import MONEY_UNITS, Kpi
from metrics.verify import custom, customers, emails, marketing, sales, service
from metrics.verify.book import Book, Grouping, View
from metrics.verify.periods import Calendar, periods_for
from metrics.verify.reading import Reader
from metrics.verify.recipes import Ask, Recipe, Result, rounded
from store.kpis import KpiValue, current_values, kinds_of_current_values, plain

__all__ = [
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
class Difference:
    """A stored value that does not agree with the records."""

    kpi: str
    period: str
    dimension: str
    key: str
    stored: str | None
    recomputed: str | None
    n: int = 0
    """Records that are counted or left out, on the side that has more of them."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of comparing every value."""

    ok: bool
    checked: int
    differences: list[Difference]


Place: TypeAlias = tuple[str, str, str, str]
"""KPI, dimension, key, period."""


def verify(
    conn: Connection, catalog: Catalog, *, as_of: datetime, kpis: Sequence[Kpi] | None = None
) -> Verification:
    """Recompute every value of every kept KPI and compare it with the stored one, exactly.

    Args:
        conn: in `store.engine.reading`, so that records and values are of one instant.
        catalog: what is kept.
        as_of: the instant the values are compared for, where none were published yet; else
            they are compared for the instant of their publication.
        kpis: only the values of these; None: of all, and there must be none of others.
    """
    reader = Reader(conn, catalog, clock.published_at(conn) or as_of)
    checked = 0
    differences: list[Difference] = []
    # One subject after the other: the groups of all of them at once would fill the memory.
    for together in verified_together(catalog.kpis if kpis is None else kpis):
        recomputed = _recompute(reader, catalog, together)
        stored = _stored(conn, [kpi.name for kpi in together])
        checked += len(recomputed.keys() | stored.keys())
        differences += _differences(stored, recomputed)
    unknown: set[str] = set()
    if kpis is None:
        unknown = {kpi for kpi, _, _ in kinds_of_current_values(conn)}
        unknown -= {kpi.name for kpi in catalog.kpis}
    stored = _stored(conn, sorted(unknown))
    differences += _differences(stored, {})
    return Verification(
        ok=not differences,
        checked=checked + len(stored),
        differences=sorted(differences, key=lambda found: (found.kpi, found.dimension, found.key)),
    )


def missing_recipes(kpis: Iterable[str]) -> list[str]:
    """KPIs that nobody has written down a second time."""
    return sorted(set(kpis) - RECIPES.keys())


# ---------------------------------------------------------------- comparing


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is compared of a value."""

    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None
    n: int
    left_out: tuple[tuple[str, int], ...]
    currency: str | None
    definition: str
    words: str | None

    @property
    def is_empty(self) -> bool:
        """No record stands behind it: a group that emptied is like one that never was."""
        return not self.n and not self.left_out and not self.value and not self.numerator


def _stored(conn: Connection, kpis: Sequence[str]) -> dict[Place, _Facts]:
    return {
        (value.kpi, value.dimension, value.key, value.period): _facts_of(value)
        for value in current_values(conn, kpis=kpis)
    }


def _differences(
    stored: Mapping[Place, _Facts], recomputed: Mapping[Place, _Facts]
) -> Iterator[Difference]:
    for place in stored.keys() | recomputed.keys():
        one, other = stored.get(place), recomputed.get(place)
        if not _agree(one, other):
            kpi, dimension, key, period = place
            n = max(facts.n + sum(dict(facts.left_out).values()) for facts in (one, other) if facts)
            yield Difference(kpi, period, dimension, key, _words(one), _words(other), n)


def _facts_of(value: KpiValue) -> _Facts:
    return _Facts(
        value=value.value,
        numerator=value.numerator,
        denominator=value.denominator,
        n=value.n,
        left_out=tuple(sorted(value.left_out.items())),
        currency=value.currency,
        definition=value.definition,
        words=value.words,
    )


def _agree(stored: _Facts | None, recomputed: _Facts | None) -> bool:
    if stored is None or recomputed is None:
        one = stored or recomputed
        # A recomputed value always has records: only a stored one can be an emptied group.
        return one is stored and one is not None and one.is_empty
    return stored == recomputed


def _words(facts: _Facts | None) -> str | None:
    if facts is None:
        return None
    parts = [f"n {facts.n}", *(f"{reason} {count}" for reason, count in facts.left_out)]
    if facts.denominator is not None:
        parts.insert(0, f"{plain(facts.numerator)} / {plain(facts.denominator)}")
    shown = facts.words or plain(facts.value) or "no value"
    return f"{shown} ({', '.join(parts)}, {facts.definition})"


# ---------------------------------------------------------------- recomputing


def verified_together(kpis: Sequence[Kpi]) -> list[list[Kpi]]:
    """The KPIs, those together that need the same subjects."""
    found: dict[tuple[str, ...], list[Kpi]] = defaultdict(list)
    for kpi in kpis:
        found[recipe_of(kpi).subjects].append(kpi)
    return [found[subjects] for subjects in sorted(found)]


def _recompute(reader: Reader, catalog: Catalog, kpis: Sequence[Kpi]) -> dict[Place, _Facts]:
    subjects = recipe_of(kpis[0]).subjects
    groupings = {
        grouping
        for kpi in kpis
        for kind in catalog.kinds_of(kpi)
        for grouping in (*catalog.groupings_of(kpi, kind), *kpi.inner)
    }
    book = Book(dict.fromkeys(subjects, groupings))
    for read in readers_of(kpis[0]):
        read(reader, book)
    settings = catalog.settings
    calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)
    facts: dict[Place, _Facts] = {}
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


def _facts(kpi: Kpi, result: Result, currency: str) -> _Facts | None:
    left_out = {reason: count for reason, count in (result.left_out or {}).items() if count}
    if not result.n and not left_out:
        return None
    return _Facts(
        value=rounded(result.value),
        numerator=rounded(result.numerator),
        denominator=rounded(result.denominator),
        n=result.n,
        left_out=tuple(sorted(left_out.items())),
        currency=currency if kpi.unit in MONEY_UNITS else None,
        definition=f"{kpi.name}@{kpi.version}",
        words=result.words,
    )
