"""Amounts in minor units."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.money import LARGEST_AMOUNT, from_minor, minor_units, scaled, to_minor


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("HUF", 2), ("XXX", 2)],
)
def test_currencies_have_the_minor_units_of_iso_4217(currency: str, digits: int) -> None:
    assert digits == minor_units(currency)


@pytest.mark.parametrize(
    ("amount", "currency", "units"),
    [
        ("10.005", "EUR", 1001),
        ("-10.005", "EUR", -1001),
        ("10.004999999999999999999999999999999999", "EUR", 1000),
        ("1E+3", "JPY", 1000),
        ("0.5", "JPY", 1),
        ("1.2345", "KWD", 1235),
        ("1E-999999", "EUR", 0),
        ("0E+999999", "EUR", 0),
        ("10000000000000000", "EUR", 10**18),
    ],
)
def test_amounts_are_rounded_once_and_half_up(amount: str, currency: str, units: int) -> None:
    assert units == to_minor(Decimal(amount), currency)


@pytest.mark.parametrize(
    "amount",
    ["NaN", "sNaN", "Infinity", "-Infinity", "1E+400", "10000000000000000.01", "1E+999999"],
)
def test_amounts_that_no_book_holds_are_refused(amount: str) -> None:
    with pytest.raises(ValueError, match=r"finite|beyond"):
        to_minor(Decimal(amount), "EUR")


@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9),
    st.integers(0, 6),
)
def test_scaling_equals_exact_rational_arithmetic(number: Decimal, digits: int) -> None:
    exact = abs(Fraction(number)) * 10**digits
    half_up = int(exact + Fraction(1, 2))

    assert (half_up if number >= 0 else -half_up) == scaled(number, digits, 10**18)


@given(st.integers(-LARGEST_AMOUNT, LARGEST_AMOUNT), st.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_every_number_of_minor_units_survives_the_way_back(units: int, currency: str) -> None:
    assert units == to_minor(from_minor(units, currency), currency)
