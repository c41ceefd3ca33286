"""On how little a value rests, and within which bounds a share lies."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from metrics.catalog import available
from metrics.confidence import interval_of, is_small, wilson
from metrics.expression.definition import Written, kpi_of, understood
from store.kpis import KpiValue


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        # Half of twenty, and the ends, as any table of Wilson's intervals has them.
        (10, 20, "0.299298", "0.700702"),
        (3, 3, "0.438503", "1.000000"),
        (0, 5, "0.000000", "0.434482"),
        (4238, 6711, "0.619887", "0.642964"),
    ],
)
def test_the_interval_of_a_share_is_wilsons(part: int, whole: int, low: str, high: str) -> None:
    found = wilson(Decimal(part), Decimal(whole))

    assert found is not None
    assert (str(found.low), str(found.high)) == (low, high)


def test_what_is_no_part_of_the_whole_has_no_interval() -> None:
    assert wilson(Decimal(6), Decimal(5)) is None


def value(kpi: str, numerator: int, denominator: int, n: int) -> KpiValue:
    return KpiValue(
        kpi=kpi,
        period="all",
        dimension="all",
        key="*",
        label="Total",
        value=Decimal(numerator) / denominator if denominator else None,
        numerator=Decimal(numerator),
        denominator=Decimal(denominator),
        n=n,
        left_out={},
        unit="ratio",
        currency=None,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
        definition=f"{kpi}@1",
    )


def test_shares_have_an_interval_and_other_ratios_have_none() -> None:
    known = available()

    assert interval_of(known["win_rate"], value("win_rate", 10, 20, 20)) is not None
    assert interval_of(known["win_rate"], value("win_rate", 0, 0, 0)) is None
    assert interval_of(known["completion_rate"], value("completion_rate", 3, 4, 4)) is None
    assert interval_of(None, value("of_old", 3, 4, 4)) is None


@pytest.mark.parametrize(
    ("above", "below", "is_share"),
    [
        ("count(where won)", "count(where won or lost)", True),
        ("count(where won)", "count()", True),
        ("count(where won and amount > 5)", "count(where won)", True),
        ("count(where won)", "count(where lost)", False),
        ("sum(amount where won)", "count()", False),
    ],
)
def test_a_custom_rate_has_an_interval_where_the_expression_shows_that_it_is_a_share(
    above: str, below: str, is_share: bool
) -> None:
    written = Written(
        name="rate", label="Rate", of="deals", date="closed_at", numerator=above, denominator=below
    )
    kpi = kpi_of(understood(written))

    assert (interval_of(kpi, value("rate", 3, 4, 4)) is not None) == is_share


def test_below_twenty_records_a_sample_is_small() -> None:
    assert is_small(value("win_rate", 10, 19, 19))
    assert not is_small(value("win_rate", 10, 20, 20))
