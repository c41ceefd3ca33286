"""Known figures of a public data set, straight from its file to the published values."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from metrics.definition import KpiSettings
from store.canonical import CanonicalRecord, Company, Deal, Owner
from tests.pipeline.metrics.books import Books, key, ref

DATA = Path(
    os.environ.get(
        "KPISYNC_TEST_DATA",
        Path(__file__).parents[4] / "shared" / "data" / "crm_sales_opportunities",
    )
)
SPELT_DIFFERENTLY = {"GTXPro": "GTX Pro"}
QUARTERS = ("2017-Q1", "2017-Q2", "2017-Q3", "2017-Q4")

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(),
    reason="the public data set is not part of the repository: name its folder with "
    "KPISYNC_TEST_DATA",
)


def _deals() -> Iterator[CanonicalRecord]:
    with (DATA / "sales_pipeline.csv").open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            engaged = row["engage_date"]
            yield Deal(
                ref=ref("deals", row["opportunity_id"]),
                owner=key(row["sales_agent"]),
                account=key(row["account"]) if row["account"] else None,
                product=SPELT_DIFFERENTLY.get(row["product"], row["product"]),
                is_closed=row["deal_stage"] in ("Won", "Lost"),
                is_won=row["deal_stage"] == "Won",
                amount=Decimal(row["close_value"]) if row["close_value"] else None,
                created_at=_noon(date.fromisoformat(engaged)) if engaged else None,
                close_date=date.fromisoformat(row["close_date"]) if row["close_date"] else None,
            )


def _sellers() -> Iterator[CanonicalRecord]:
    """Each seller with the manager's team."""
    with (DATA / "sales_teams.csv").open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines):
            yield Owner(ref=ref("owners", row["sales_agent"]), team=row["manager"])


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    company = Company(ZoneInfo("America/New_York"), "USD")
    path = tmp_path_factory.mktemp("public") / "kpisync.db"
    by_team = dict.fromkeys(("won_count", "lost_count", "win_rate"), (("owner",), ("team",)))
    made = Books(f"sqlite:///{path}", KpiSettings(company=company, by=by_team))
    deals = [*_sellers(), *_deals()]
    for start in range(0, len(deals), 1_000):
        made.commit(*deals[start : start + 1_000])
    made.publish()
    yield made
    made.close()


def numbers(books: Books, kpi: str, digits: int = 0) -> list[Decimal]:
    current = books.current()
    found = [current[kpi, quarter, "all", "*"].value for quarter in QUARTERS]
    return [round(number or Decimal(0), digits) for number in found]


def test_deals_won_and_lost_and_the_rate_by_quarter(books: Books) -> None:
    assert numbers(books, "won_count") == [531, 1254, 1257, 1196]
    assert numbers(books, "lost_count") == [116, 778, 790, 789]
    assert numbers(books, "win_rate", 4) == [
        Decimal(rate) for rate in ("0.8207", "0.6171", "0.6141", "0.6025")
    ]


def test_the_whole_company(books: Books) -> None:
    rate, mean, cycle = (
        books.number(kpi) for kpi in ("win_rate", "avg_deal_value", "sales_cycle_days")
    )

    assert books.number("won_value") == 10_005_534
    assert round(rate or 0, 4) == Decimal("0.6315")
    assert round(mean or 0, 2) == Decimal("2360.91")
    assert round(cycle or 0, 2) == Decimal("51.78")


def test_days_to_close_by_product(books: Books) -> None:
    slow = books.number("sales_cycle_days", dimension="product", key="GTK 500")
    quick = books.number("sales_cycle_days", dimension="product", key="GTX Pro")

    assert round(slow or 0, 2) == Decimal("64.07")
    assert round(quick or 0, 2) == Decimal("48.33")
    assert books.number("closed_count", dimension="product", key="GTX Pro") is not None
    assert books.number("deals_created", dimension="product", key="GTX Pro") == 1480


def test_the_top_seller(books: Books) -> None:
    current = books.current()
    by_seller = {
        seller: value.value
        for (kpi, period, dimension, seller), value in current.items()
        if (kpi, period, dimension) == ("won_value", "all", "owner")
    }

    top = max(by_seller, key=lambda seller: by_seller[seller] or 0)

    assert by_seller[top] == 1_153_214
    assert books.number("won_count", dimension="owner", key=top) == 349
    assert books.number("lost_count", dimension="owner", key=top) == 204


def test_the_manager_with_the_most_deals_won_has_the_sums_of_the_team(books: Books) -> None:
    current = books.current()
    won = {
        place[3]: value.value or 0
        for place, value in current.items()
        if place[:3] == ("won_count", "all", "team")
    }

    manager = max(won, key=lambda team: won[team])
    rate = current["win_rate", "all", "team", manager]

    assert (len(won), won[manager]) == (6, 882)
    assert books.number("lost_count", dimension="team", key=manager) == 536
    assert (rate.numerator, rate.denominator) == (882, 882 + 536)
    assert sum(won.values()) == 4_238


def test_open_deals_without_amount_or_account_are_counted_and_reported(books: Books) -> None:
    value = books.value("open_value", "now")

    assert value is not None
    assert (value.value, value.left_out) == (0, {"no_amount": 2089})
    assert books.number("open_count", "now") == 2089


@pytest.mark.slow
def test_everything_agrees_with_a_rebuild_and_with_a_second_opinion(books: Books) -> None:
    books.check()
