from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from metrics.definition import DatedRate, KpiSettings
from metrics.explain import Explanation, explain
from metrics.explain.document import csv_rows, how
from metrics.expression.definition import Written
from store.engine import reading
from store.kpis import Place
from tests.pipeline.metrics.books import BERLIN, Books, deal, lost, won

WON_OF_ALL = ("mean(amount where won)", "mean(amount)")
BUYERS_OF_DEALS = ("distinct(account where won)", "count()")

KPIS = {
    "size_of_won": WON_OF_ALL,
    "buyers_a_deal": BUYERS_OF_DEALS,
    "customers_won": ("distinct(account where won)", None),
    "smallest": ("min(amount)", None),
    "largest": ("max(amount)", None),
    "dear_ones": ("count(where amount >= 80)", None),
    "waited": ("sum(closed_at - created_at)", None),
}


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(
        database_url,
        KpiSettings(
            company=BERLIN,
            use=(),
            periods=("month",),
            dated_rates=(
                DatedRate(currency="USD", since=date(2024, 1, 1), rate=Decimal("0.5")),
                DatedRate(currency="USD", since=date(2024, 3, 1), rate=Decimal("0.8")),
            ),
            custom=tuple(
                Written(
                    name=name,
                    label=name,
                    of="deals",
                    date="close_date",
                    numerator=above,
                    denominator=below,
                )
                for name, (above, below) in KPIS.items()
            ),
        ),
    )
    made.commit(
        won("D1", account="A", amount=0),
        won("D2", account="A", amount=60),
        won("D3", account="B", amount=100, currency="USD"),
        lost("D4", account="C", amount=40),
    )
    made.publish()
    yield made
    made.close()


def _explained(books: Books, kpi: str) -> Explanation:
    with reading(books.engine) as conn:
        return explain(conn, books.catalog, Place(kpi, "all", "*", "2024-03"))


def _counted(explanation: Explanation, *columns: str) -> Mapping[object, tuple[object, ...]]:
    return {
        row["ref"]: tuple(row[column] for column in columns)
        for row in csv_rows(explanation)
        if row["state"] == "counted"
    }


def test_a_ratio_of_means_lists_what_each_record_adds_to_either_a_zero_too(books: Books) -> None:
    explanation = _explained(books, "size_of_won")

    assert explanation.is_proven
    assert how(explanation.kpi, explanation.listing) == (
        "mean of `numerator`, where there is one, / mean of `denominator`, where there is one,"
    )
    assert _counted(explanation, "numerator", "denominator") == {
        "crm:D1": ("0", "0"),
        "crm:D2": ("60", "60"),
        "crm:D3": ("80", "80"),
        "crm:D4": (None, "40"),
    }


def test_different_values_are_listed_with_the_value_that_counts_once(books: Books) -> None:
    alone, ratio = _explained(books, "customers_won"), _explained(books, "buyers_a_deal")

    assert alone.is_proven
    assert ratio.is_proven
    assert how(alone.kpi, alone.listing) == "number of different `numerator_member`"
    assert how(ratio.kpi, ratio.listing) == (
        "number of different `numerator_member` / sum of `denominator`"
    )
    assert _counted(ratio, "numerator_member", "denominator") == {
        "crm:D1": ("crm:A", "1"),
        "crm:D2": ("crm:A", "1"),
        "crm:D3": ("crm:B", "1"),
        "crm:D4": (None, "1"),
    }


def test_amounts_are_listed_with_the_rate_of_their_day_and_extremes_say_which(books: Books) -> None:
    smallest, largest = _explained(books, "smallest"), _explained(books, "largest")
    compared = _explained(books, "dear_ones")

    words = [how(one.kpi, one.listing) for one in (smallest, largest)]
    assert words == ["smallest of all `values`", "largest of all `values`"]
    columns = ("amount", "currency", "rate", "rate_day", "converted")
    dollars = ("100", "USD", "0.8", "2024-03-10", "80")
    assert _counted(largest, *columns)["crm:D3"] == dollars
    assert _counted(compared, *columns) == {"crm:D3": dollars}


def test_a_sum_of_times_is_zero_when_its_records_are_gone(books: Books) -> None:
    begun, ended = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 2, 1, 12, tzinfo=UTC)
    books.commit(won("D5", date(2024, 2, 1), created=begun, closed_at=ended))
    books.publish()
    before = books.number("waited", "2024-02")

    books.commit(deal("D5", created=begun))
    books.publish()

    assert (before, books.number("waited", "2024-02")) == (Decimal(12), Decimal(0))
    books.check()
