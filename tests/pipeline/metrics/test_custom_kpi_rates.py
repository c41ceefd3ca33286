"""Own KPIs of money whose records have no day: the rate of today is theirs, and today moves."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from metrics import clock
from metrics.definition import KpiSettings
from metrics.expression.definition import Written
from store.canonical import Account, Contract, DealLine, Rate
from store.engine import reading
from tests.pipeline.metrics.books import BERLIN, Books, deal, ref, won

MIDNIGHT = datetime(2024, 6, 9, 22, tzinfo=UTC)
"""When the rate of 10 June begins to hold in Berlin."""


def _written(of: str, money: str, day: str | None) -> list[Written]:
    return [
        Written(
            name=f"{of}_by_{day}_{number}",
            label="Money",
            of=of,
            date=day,
            where=where,
            numerator=numerator,
        )
        for number, (numerator, where) in enumerate(
            [
                (f"sum({money})", None),
                (f"median({money})", None),
                (f"count(where {money} > 100)", None),
                (f"max({money})", f"{money} > 90"),
            ]
        )
    ]


OWN = (
    *_written("deals", "amount", None),
    *_written("deals", "amount", "close_date"),
    *_written("contracts", "amount", "start_date"),
    *_written("accounts", "annual_revenue", None),
    *_written("deal_lines", "total", None),
)


def _rate(name: str, since: date, worth: str) -> Rate:
    return Rate(ref=ref("rates", name), currency="USD", date=since, rate=Decimal(worth))


@pytest.mark.slow
def test_money_without_a_day_is_worth_what_todays_rate_says_whatever_rates_come_and_go(
    tmp_path: Path,
) -> None:
    settings = KpiSettings(company=BERLIN, use=(), periods=("month",), rates_from="crm", custom=OWN)
    books = Books(f"sqlite:///{tmp_path}/store.db", settings)
    books.commit(
        _rate("R1", date(2024, 1, 1), "0.5"),
        _rate("R2", date(2024, 6, 10), "0.9"),
        deal("D1", amount=200, currency="USD", close_date=None),
        deal("D2", amount=150, currency="USD", close_date=date(2024, 6, 20)),
        won("D3", date(2024, 3, 1), amount=70, currency="USD"),
        Contract(ref=ref("contracts", "C1"), amount=Decimal(222), currency="USD"),
        Account(ref=ref("accounts", "A"), annual_revenue=Decimal(250), currency="USD"),
        DealLine(ref=ref("deal_lines", "N1"), deal="crm:D1", total=Decimal(199), currency="USD"),
    )
    books.publish()
    with reading(books.engine) as conn:
        assert clock.next_change(conn, books.catalog, books.now) == MIDNIGHT
    seen = []
    for change in (
        None,
        timedelta(0),  # only time passes
        _rate("R3", date(2024, 5, 1), "0.7"),
        _rate("R2", date(2024, 6, 10), "0.95"),
        ref("rates", "R2"),
    ):
        if isinstance(change, Rate):
            books.commit(change)
        elif isinstance(change, timedelta):
            books.publish(later=MIDNIGHT - books.now)
        elif change is not None:
            books.commit(deleted=[change])
        books.publish()
        books.check()
        seen.append(
            (
                books.number("deals_by_close_date_0"),
                books.number("contracts_by_start_date_0"),
                books.number("accounts_by_None_0", "now"),
                books.number("deal_lines_by_None_0", "now"),
            )
        )

    # Of the deals 150 and 70 dollars have days of their own: 20 June and 1 March.
    assert seen == [
        (100 + 135 + 35, 111, 125, Decimal("99.5")),
        (180 + 135 + 35, Decimal("199.8"), 225, Decimal("179.1")),
        (180 + 135 + 35, Decimal("199.8"), 225, Decimal("179.1")),
        (190 + Decimal("142.5") + 35, Decimal("210.9"), Decimal("237.5"), Decimal("189.05")),
        (140 + 105 + 35, Decimal("155.4"), 175, Decimal("139.3")),
    ]
    books.close()
