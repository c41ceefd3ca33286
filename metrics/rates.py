"""What a currency is worth in the company's, by day; a record's day decides.

Cells keep amounts by currency and day, so that a new rate rewrites none of them: conversion
happens when values are published. Before a currency's first rate the first one applies.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import Final

from sqlalchemy import Column, Connection, Integer, MetaData, Text, case, func, select
from sqlalchemy.sql.elements import ColumnElement

from metrics.definition import KpiSettings
from metrics.periods import FIRST_DAY
from store import temporary
from store.loading import load
from store.money import minor_units
from store.records import of_connection
from store.tables import CELLS, NO_DAY, RATES

_EXACT: Final = Context(prec=120)
_EPOCH: Final = date(1970, 1, 1).toordinal()

_UNIT: Final = "#"
IN_UNITS: Final = f"{_UNIT}0"
"""Stands for a currency where numbers are no money, and whole; they have one value at all times."""
IN_MILLIONTHS: Final = f"{_UNIT}6"
"""The same for numbers kept in millionths."""

RATE_SPANS: Final = temporary.table(
    "rate_spans",
    MetaData(),
    Column("currency", Text, primary_key=True),
    Column("since", Integer, primary_key=True),
)
"""From which days on other rates hold; the first span of a currency has no beginning."""

TODAY: Final = temporary.table("rate_today", MetaData(), Column("day", Integer))


@dataclass(frozen=True)
class RateBook:
    """The rates of every currency."""

    company: str
    spans: Mapping[str, Sequence[tuple[int, Decimal]]]
    """Currency -> (first day, rate), sorted; the first one's day is `FIRST_DAY`."""

    @property
    def is_dated(self) -> bool:
        """Whether any rate changes with time."""
        return any(len(spans) > 1 for spans in self.spans.values())

    def is_constant(self, currency: str) -> bool:
        """Whether one unit of a currency has the same worth on all days, or none."""
        return currency == self.company or len(self.spans.get(currency, ())) < 2  # noqa: PLR2004 - one

    def factor(self, currency: str, since: int | None) -> Decimal | None:
        """Company units for one minor unit; None: nobody knows.

        Args:
            currency: of the amounts; ``USD@19700`` names the span of rates itself.
            since: the first day of the span of rates they lie in; None: the only one there is.
        """
        if currency.startswith(_UNIT):
            return Decimal(1).scaleb(-int(currency.removeprefix(_UNIT)))
        base, _, begins = currency.partition("@")
        if base == self.company:
            rate: Decimal | None = Decimal(1)
        else:
            spans = self.spans.get(base)
            if not spans:
                return None
            first = int(begins) if begins else since
            rate = spans[0][1] if first is None else dict(spans).get(first)
        return None if rate is None else rate.scaleb(-minor_units(base), _EXACT)

    def at(self, currency: str, day: int) -> Decimal | None:
        """The rate of a day."""
        spans = self.spans.get(currency)
        if not spans:
            return None
        return spans[max(0, bisect_right([since for since, _ in spans], day) - 1)][1]

    def to_text(self) -> str:
        """All of it, to be compared with another day's."""
        return json.dumps(
            {
                currency: [[since, str(rate)] for since, rate in spans]
                for currency, spans in sorted(self.spans.items())
            }
        )


def load_book(conn: Connection, settings: KpiSettings) -> RateBook:
    """The rates of the settings, of files and of the CRM that keeps them."""
    dated: dict[str, dict[int, Decimal]] = defaultdict(dict)
    for one in settings.dated_rates:
        dated[one.currency][one.since.toordinal() - _EPOCH] = one.rate
    if settings.rates_from is not None:
        query = (
            select(RATES.c.currency, RATES.c.date, RATES.c.rate)
            .where(
                ~RATES.c.deleted,
                RATES.c.merged_into.is_(None),
                of_connection(RATES.c.ref, settings.rates_from),
            )
            .order_by(RATES.c.ref)
        )
        for row in conn.execute(query):
            rate = None if row.rate is None else Decimal(row.rate)
            if row.currency and row.date is not None and rate is not None and rate > 0:
                dated[row.currency][row.date] = rate
    spans = {currency: [(FIRST_DAY, rate)] for currency, rate in settings.rates.items()}
    for currency, rates in dated.items():
        by_day = sorted(rates.items())
        spans[currency] = [(FIRST_DAY, by_day[0][1]), *by_day[1:]]
    return RateBook(settings.company.currency, spans)


def first_changes(before: str | None, book: RateBook) -> dict[str, int]:
    """Currency -> the first day whose rate is another one than before."""
    known: dict[str, list[list[object]]] = {} if before is None else json.loads(before)
    now: dict[str, list[list[object]]] = json.loads(book.to_text())
    changed: dict[str, int] = {}
    for currency in known.keys() | now.keys():
        old, new = known.get(currency, []), now.get(currency, [])
        same = 0
        while same < min(len(old), len(new)) and old[same] == new[same]:
            same += 1
        rest = [spans[same][0] for spans in (old, new) if len(spans) > same]
        if rest:
            changed[currency] = min(int(str(day)) for day in rest)
    return changed


def prepare(conn: Connection, book: RateBook, today: int) -> None:
    """Let statements with `since` know the spans."""
    temporary.prepare(conn, [RATE_SPANS, TODAY])
    rows = [
        (currency, since)
        for currency, spans in sorted(book.spans.items())
        if len(spans) > 1
        for since, _ in spans
    ]
    load(conn, RATE_SPANS.name, ("currency", "since"), rows)
    load(conn, TODAY.name, ("day",), [(today,)])
    temporary.analyze(conn, RATE_SPANS.name, len(rows))


def since() -> ColumnElement[int]:
    """The span of rates that a cell's amounts lie in; null where a currency has but one."""
    # An unknown day has the rate of today.
    day = case((CELLS.c.day == NO_DAY, select(TODAY.c.day).scalar_subquery()), else_=CELLS.c.day)
    return (
        select(func.max(RATE_SPANS.c.since))
        .where(RATE_SPANS.c.currency == CELLS.c.currency, RATE_SPANS.c.since <= day)
        .correlate(CELLS)
        .scalar_subquery()
    )
