"""From a published value down to the records it counts.

The records are read one by one by the program that `kpisync verify` trusts, so what is listed is
what was counted; the lines are then counted once more, alone, and must give the value again. What
does not agree is said, never smoothed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Connection

from metrics import clock
from metrics.catalog import Catalog, available
from metrics.definition import Kpi
from metrics.dimensions import grouping_named
from metrics.explain.ledger import Entry, Ledger
from metrics.explain.listing import Line, Lister, Listing
from metrics.explain.window import Window, period_named, window_of
from metrics.verify import readers_of
from metrics.verify.book import EXACT, Grouping, View
from metrics.verify.custom import money_behind
from metrics.verify.periods import Calendar
from metrics.verify.reading import Reader
from metrics.verify.recipes import Ask, Result, rounded
from store.canonical import (
    RECORD_TYPES,
    Account,
    Campaign,
    CanonicalRecord,
    Contact,
    Cost,
    Deal,
    EmailStatistics,
    Lead,
    Stage,
    SurveyResponse,
    Ticket,
)
from store.kpis import KpiValue, Place, Version, versions

__all__ = ["Explanation", "Line", "Listing", "Money", "Source", "Unexplained", "explain"]


class Unexplained(Exception):
    """There is no such published value, or nobody can say what stands behind it."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount as the record has it, and as it counts."""

    amount: Decimal
    currency: str
    rate: Decimal
    """Company units for one unit of the currency."""
    rate_day: date | None
    """The day whose rate it is; None: the record has none, and today's was taken."""
    converted: Decimal
    """In the company's currency, exactly."""


@dataclass(frozen=True, slots=True)
class Source:
    """A record that a line rests on."""

    stream: str
    key: str
    """``CONNECTION:native id``."""
    label: str | None
    day: date | None
    """The local day on which it counts."""
    money: Money | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A published value and everything behind it."""

    kpi: Kpi
    stored: KpiValue
    valid_from: datetime
    run: str | None
    window: Window
    computed_for: datetime
    """The instant of which the published values are true."""
    listing: Listing
    agrees: bool
    """Whether the records, counted now, give the published value."""
    sources: Mapping[str, Sequence[Source]]
    """Name of a line -> the records it rests on."""
    labels: Mapping[str, str | None]
    """Name of a line -> what people call it."""

    def kpi_named(self, name: str) -> Kpi:
        """The KPI itself, or a built-in one that it is made of."""
        return self.kpi if name == self.kpi.name else available()[name]

    @property
    def is_proven(self) -> bool:
        """Whether the listed records give the published value again, exactly."""
        return self.agrees and self.listing.is_complete


def explain(conn: Connection, catalog: Catalog, place: Place) -> Explanation:
    """Look behind a published value.

    Args:
        conn: in `store.engine.reading`, so that records and values are of one instant.
        catalog: what is kept.
        place: which value.

    Raises:
        Unexplained: no such value is published.
    """
    version = _current(conn, place)
    computed_for = clock.published_at(conn)
    if version is None or computed_for is None:
        raise Unexplained(
            f"no value of {place.kpi} is published for {place.period} and "
            f"{place.dimension}={place.key}"
        )
    kpi = catalog.kpi(place.kpi)
    reader = Reader(conn, catalog, computed_for)
    entries = _entries(reader, kpi, place)
    listing = _listing(reader, catalog, kpi, place, entries)
    lines = list(_all_lines(listing))
    records = _records_of(reader, lines)
    return Explanation(
        kpi=kpi,
        stored=version.value,
        valid_from=version.valid_from,
        run=version.run,
        window=window_of(listing.period, catalog.company.timezone),
        computed_for=computed_for,
        listing=listing,
        agrees=_agrees(version.value, listing.result),
        sources={line.name: tuple(_sources(reader, kpi, line, records)) for line in lines},
        labels={line.name: label_of(records.get(line.name)) for line in lines},
    )


def _current(conn: Connection, place: Place) -> Version | None:
    return next((one for one in versions(conn, place) if one.valid_to is None), None)


def _entries(reader: Reader, kpi: Kpi, place: Place) -> list[Entry]:
    ledger = Ledger(grouping_named(place.dimension), place.key)
    for read in readers_of(kpi):
        read(reader, ledger)
    return ledger.entries


def _listing(
    reader: Reader, catalog: Catalog, kpi: Kpi, place: Place, entries: Sequence[Entry]
) -> Listing:
    settings = catalog.settings
    calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)
    grouping = grouping_named(place.dimension)
    lister = Lister(
        entries,
        Ask(settings, catalog.own(kpi), reader.now),
        groupings_beside(kpi, grouping),
    )
    period = period_named(place.period, reader.today, calendar)
    ledger = Ledger(grouping, place.key)
    view = View(ledger, grouping, place.key, period, reader.today.toordinal(), calendar)
    return lister.listing(kpi, view)


def listing_at(conn: Connection, catalog: Catalog, place: Place, now: datetime) -> list[Line]:
    """The records behind a value, published or not, for an instant; those of parts after it."""
    reader, kpi = Reader(conn, catalog, now), catalog.kpi(place.kpi)
    return list(_all_lines(_listing(reader, catalog, kpi, place, _entries(reader, kpi, place))))


def groupings_beside(kpi: Kpi, grouping: Grouping) -> tuple[Grouping, ...]:
    """The groupings whose pages a recipe looks at for one group: its own and the inner ones."""
    return (grouping, *((*grouping, *inner) for inner in kpi.inner), *kpi.inner)


def _agrees(stored: KpiValue, result: Result) -> bool:
    if not result.n and not any((result.left_out or {}).values()):
        # Of a group without records nothing is published, or that it emptied.
        return not stored.n and not stored.left_out and not stored.value
    left_out = {reason: count for reason, count in (result.left_out or {}).items() if count}
    return (
        stored.value == rounded(result.value)
        and stored.numerator == rounded(result.numerator)
        and stored.denominator == rounded(result.denominator)
        and stored.n == result.n
        and dict(stored.left_out) == left_out
        and stored.words == result.words
    )


# ---------------------------------------------------------------- the records themselves


def _all_lines(listing: Listing) -> Iterator[Line]:
    yield from listing.lines
    for part in listing.parts:
        yield from _all_lines(part)


def _records_of(reader: Reader, lines: Iterable[Line]) -> Mapping[str, CanonicalRecord]:
    wanted = {line.name for line in lines}
    wanted |= {entry.record for line in lines for entry in line.entries}
    found: dict[str, CanonicalRecord] = {}
    for stream in sorted({name.split(" ", 1)[0] for name in wanted}):
        for record in reader.all(RECORD_TYPES[stream]):
            name = f"{stream} {record.ref.key}"
            if name in wanted:
                found[name] = reader.whole(record)
    return found


def _sources(
    reader: Reader, kpi: Kpi, line: Line, records: Mapping[str, CanonicalRecord]
) -> Iterator[Source]:
    seen: dict[str, Entry] = {}
    for entry in line.entries:
        known = seen.get(entry.record)
        # The entry that knows the money says most.
        if known is None or (_has_money(entry) and not _has_money(known)):
            seen[entry.record] = entry
    for name, entry in sorted(seen.items()):
        stream, key = name.split(" ", 1)
        record = records.get(name)
        money = (
            _money_of(reader, record, entry.day)
            if kpi.custom is None and _has_money(entry)
            else _money_of_custom(reader, kpi, record)
        )
        yield Source(stream, key, label_of(record), entry.day, money)


def _has_money(entry: Entry) -> bool:
    return any(name.endswith("money") for name in entry.figures)


def _money_of(reader: Reader, record: CanonicalRecord | None, day: date | None) -> Money | None:
    match record:
        case Deal(amount=amount, currency=currency) | Cost(amount=amount, currency=currency):
            pass
        case Campaign(cost=amount, currency=currency):
            pass
        case _:
            return None
    rate = reader.rate(currency, day)
    if amount is None or rate is None:
        return None
    own = reader.settings.company.currency
    return Money(amount, currency or own, rate, day, EXACT.multiply(amount, rate))


def _money_of_custom(reader: Reader, kpi: Kpi, record: CanonicalRecord | None) -> Money | None:
    if kpi.custom is None or record is None:
        return None
    priced = money_behind(kpi, reader, record)
    if priced is None:
        return None
    converted = EXACT.multiply(priced.amount, priced.rate)
    return Money(priced.amount, priced.currency, priced.rate, priced.rate_day, converted)


def label_of(record: CanonicalRecord | None) -> str | None:
    """What people call a record."""
    match record:
        case Deal(name=name) | Account(name=name) | Lead(name=name) | Campaign(name=name):
            return name
        case Contact(name=name):
            return name
        case Ticket(subject=name) | Stage(label=name) | EmailStatistics(email=name):
            return name
        case Cost(source=source, category=category):
            return " / ".join(word for word in (source, category) if word) or None
        case SurveyResponse(score=score):
            return None if score is None else f"score {score:f}"
    return None
