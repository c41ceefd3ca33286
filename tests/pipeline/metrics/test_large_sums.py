"""Amounts as large as a CRM's field takes them, and sums that no 64 bits hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from store.engine import reading
from store.errors import SumTooLarge
from store.records import count
from tests.pipeline.metrics.books import Books, won

LARGEST = Decimal("9999999999999999.99")
"""What a currency field with 18 digits, two of them after the point, holds."""
MOST = 9
"""So many of them fit into the store's integers together."""


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url)
    yield made
    made.close()


def test_the_largest_amounts_of_a_crm_are_summed_exactly(books: Books) -> None:
    for number in range(MOST - 1):
        books.commit(won(f"D{number}", amount=LARGEST, closed=date(2024, 5, 1)))
    books.publish()

    assert books.number("won_value") == (MOST - 1) * LARGEST
    books.check()


def test_a_sum_that_leaves_the_stores_integers_is_an_error_and_no_number(books: Books) -> None:
    page = [won(f"D{n}", amount=LARGEST, closed=date(2024, 5, 1)) for n in range(MOST - 1)]
    books.commit(*page)
    books.publish()

    with pytest.raises(SumTooLarge, match="mistaken amount"):
        books.commit(*(won(f"E{n}", amount=LARGEST, closed=date(2024, 5, 1)) for n in range(3)))
    books.publish()

    with reading(books.engine) as conn:
        assert count(conn, "deals") == MOST - 1
    assert books.number("won_value") == (MOST - 1) * LARGEST
    books.check()


def test_a_total_of_days_that_each_fit_is_an_error_and_no_number(books: Books) -> None:
    for number in range(MOST + 3):
        books.commit(won(f"D{number}", amount=LARGEST, closed=date(2024, 5, number + 1)))

    with pytest.raises(SumTooLarge, match="mistaken amount"):
        books.publish()

    assert books.value("won_value") is None
