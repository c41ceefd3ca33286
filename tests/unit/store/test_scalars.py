"""Scalars as JSON text."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.canonical import Scalar
from store.scalars import decode, decode_fields, encode, encode_fields

SCALARS: st.SearchStrategy[Scalar] = st.one_of(
    st.none(),
    st.booleans(),
    st.text(st.characters(codec="utf-8")),
    st.integers(-(10**60), 10**60),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40),
    st.dates(),
    st.datetimes(timezones=st.timezones(), allow_imaginary=False),
)


@given(SCALARS)
def test_every_scalar_comes_back_equal(value: Scalar) -> None:
    decoded = decode(encode(value))

    assert value == decoded
    assert isinstance(value, bool) == isinstance(decoded, bool)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), SCALARS, max_size=4))
def test_fields_come_back_equal(fields: dict[str, Scalar]) -> None:
    assert fields == decode_fields(encode_fields(fields))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("5.00"), 5),
        (Decimal("0.10"), Decimal("0.1")),
        (Decimal("-0.0"), 0),
        (Decimal("1E+3"), 1000),
        (
            datetime(2026, 1, 1, 12, tzinfo=UTC),
            datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
        ),
    ],
)
def test_equal_values_have_equal_text(one: Scalar, other: Scalar) -> None:
    assert encode(one) == encode(other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (Decimal("28.50"), "28.5"),
        ("28.5", '"28.5"'),
        (date(2026, 2, 28), '{"date": "2026-02-28"}'),
    ],
)
def test_the_text_is_plain_json(value: Scalar, text: str) -> None:
    assert text == encode(value)
    json.loads(text)


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+999999"), Decimal("1E-999999")]
)
def test_numbers_without_a_reasonable_notation_are_refused(value: Decimal) -> None:
    with pytest.raises(ValueError, match="number"):
        encode(value)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        encode(datetime(2026, 1, 1))  # noqa: DTZ001 - the fault under test
