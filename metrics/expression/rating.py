"""The rates that custom KPIs are kept with.

Which records count may depend on what their amounts are worth, and a new rate moves no record.
So these families are kept with the rates that were noted last; when others hold, they are built
again from the records, before anything is published.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from metrics import rates
from metrics.expression.compiling import BOUNDS, SPANS, bounds_of
from metrics.periods import FIRST_DAY
from metrics.rates import RateBook
from store import kpis as stored
from store import temporary
from store.conversion import local_day
from store.engine import database_now
from store.loading import load

if TYPE_CHECKING:
    from metrics.catalog import Catalog

NOTE: Final = stored.CUSTOM_RATES


def noted_day(conn: Connection, catalog: Catalog) -> int:
    """The day whose rates records without a day have."""
    return _noted(conn, catalog)[1]


def _noted(conn: Connection, catalog: Catalog) -> tuple[RateBook, int]:
    text = stored.fingerprints(conn).get(NOTE)
    if text is None:
        book = rates.load_book(conn, catalog.settings)
        day = local_day(database_now(conn), catalog.company.timezone)
        _save(conn, book, day)
        return book, day
    return _read(text, catalog.company.currency)


def _save(conn: Connection, book: RateBook, day: int) -> None:
    text = json.dumps({"day": day, "book": json.loads(book.to_text())})
    stored.save_fingerprint(conn, NOTE, text)


def _read(text: str, company: str) -> tuple[RateBook, int]:
    noted = json.loads(text)
    spans = {
        currency: [(int(since), Decimal(rate)) for since, rate in spans]
        for currency, spans in noted["book"].items()
    }
    return RateBook(company, spans), int(noted["day"])


def prepare(conn: Connection, catalog: Catalog, families: Collection[str]) -> None:
    """Let statements on this connection know the noted rates."""
    temporary.prepare(conn, [BOUNDS, SPANS])
    if not any(catalog.custom_parts[name].needs_rates for name in families):
        return
    book, _ = _noted(conn, catalog)
    bounds = [
        (slot, currency, since, *bounds_of(amount, factor))
        for slot, amount in enumerate(catalog.money_slots)
        for currency in sorted({*book.spans, book.company})
        for since, factor in _factors(book, currency)
    ]
    columns = ("slot", "currency", "since", "low", "high")
    load(conn, BOUNDS.name, columns, bounds)
    temporary.analyze(conn, BOUNDS.name, len(bounds))
    spans = [
        (currency, since)
        for currency, of_currency in sorted(book.spans.items())
        if len(of_currency) > 1 and currency != book.company
        for since, _ in of_currency
    ]
    load(conn, SPANS.name, ("currency", "since"), spans)
    temporary.analyze(conn, SPANS.name, len(spans))


def _factors(book: RateBook, currency: str) -> list[tuple[int, Decimal]]:
    spans = [(FIRST_DAY, Decimal(1))] if currency == book.company else book.spans[currency]
    found = [(since, book.factor(currency, since)) for since, _ in spans]
    return [(since, factor) for since, factor in found if factor is not None]


def stale(conn: Connection, catalog: Catalog, as_of: datetime) -> list[str]:
    """Families that were built with other rates than those that hold now, which are noted.

    Args:
        conn: in `store.engine.writing`.
        catalog: what is kept.
        as_of: now.
    """
    families = [name for name, part in catalog.custom_parts.items() if part.needs_rates]
    if not families:
        return []
    book = rates.load_book(conn, catalog.settings)
    day = local_day(as_of, catalog.company.timezone)
    text = stored.fingerprints(conn).get(NOTE)
    if text is not None:
        noted, noted_on = _read(text, catalog.company.currency)
        if noted.to_text() == book.to_text() and all(
            book.at(currency, noted_on) == book.at(currency, day) for currency in book.spans
        ):
            return []
    _save(conn, book, day)
    return families


def next_change(conn: Connection, catalog: Catalog, after: datetime) -> int | None:
    """The next day on which a rate begins to hold that records without a day have."""
    if not any(part.needs_rates for part in catalog.custom_parts.values()):
        return None
    today = local_day(after, catalog.company.timezone)
    book = rates.load_book(conn, catalog.settings)
    coming = [since for spans in book.spans.values() for since, _ in spans if since > today]
    return min(coming, default=None)
