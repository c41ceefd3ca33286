"""Records to rows and back."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import canonical
from store.canonical import (
    RECORD_TYPES,
    CanonicalRecord,
    Company,
    Cost,
    Deal,
    Rate,
    RecordRef,
    StageChange,
    SurveyResponse,
    Ticket,
)
from store.conversion import (
    CUT,
    LONGEST_TEXT,
    RowMaker,
    check,
    columns_of,
    kind_of,
    record_of,
    row_of,
)
from store.errors import RecordRefused
from store.money import minor_units
from store.tables import RECORD_TABLES

BERLIN = Company(ZoneInfo("Europe/Berlin"), "EUR")


def deal(**fields: Any) -> Deal:
    return Deal(ref=RecordRef("salesforce", "deals", "006A"), **fields)


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


# ---------------------------------------------------------------- lossless

CLEAN_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
CURRENCIES = st.sampled_from(["EUR", "USD", "JPY", "KWD", "CLF"])


def _values_of(name: str, currency: str) -> st.SearchStrategy[object]:
    kind = kind_of(name)
    if kind == "money":
        digits = minor_units(currency)
        return st.integers(-(10**18), 10**18).map(lambda units: Decimal(units).scaleb(-digits))
    return {
        "instant": st.datetimes(timezones=st.just(UTC)),
        "day": st.dates(),
        "millionths": st.integers(-(10**18), 10**18).map(lambda n: Decimal(n).scaleb(-6)),
        "integer": st.integers(-(10**18), 10**18),
        "flag": st.booleans(),
        "exact": st.decimals(allow_nan=False, allow_infinity=False, places=9)
        .filter(lambda rate: abs(rate.adjusted()) < 30)
        .filter(lambda rate: len(rate.as_tuple().digits) < 30),
        "text": CLEAN_TEXT,
    }[kind]


EXTRAS: st.SearchStrategy[dict[str, canonical.Scalar]] = st.dictionaries(
    st.sampled_from(["x_one", "x_two", "arr"]),
    st.one_of(
        st.none(),
        st.booleans(),
        CLEAN_TEXT,
        st.integers(-(10**30), 10**30),
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20),
        st.dates(),
        st.datetimes(timezones=st.just(UTC)),
    ),
    max_size=3,
)


@st.composite
def records(draw: st.DrawFn) -> tuple[CanonicalRecord, Company]:
    stream = draw(st.sampled_from(sorted(RECORD_TYPES)))
    record_type = RECORD_TYPES[stream]
    company = Company(
        draw(st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Auckland")])),
        draw(CURRENCIES),
    )
    names = {field.name for field in dataclasses.fields(record_type)}
    values: dict[str, Any] = {"extra": draw(EXTRAS)}
    currency = company.currency
    if "currency" in names:
        is_optional = record_type.__dataclass_fields__["currency"].default is None
        values["currency"] = draw(st.none() | CURRENCIES if is_optional else CURRENCIES)
        currency = values["currency"] or currency
    for field in dataclasses.fields(record_type):
        if field.name in values or field.name == "ref":
            continue
        value = _values_of(field.name, currency)
        may_be_none = field.default is None
        values[field.name] = draw(st.none() | value if may_be_none else value)
    ref = RecordRef("hubspot", stream, draw(CLEAN_TEXT))
    return record_type(ref=ref, **values), company


@settings(max_examples=400, deadline=None)
@given(records())
def test_every_record_survives_the_way_through_its_row(
    drawn: tuple[CanonicalRecord, Company],
) -> None:
    record, company = drawn
    row = row_of(record, company)

    check(record, company)
    assert record == record_of(row, company)
    assert list(columns_of(record.STREAM)) == list(row)


@pytest.mark.parametrize("stream", sorted(RECORD_TYPES))
def test_every_field_has_a_column_and_a_kind_that_fits_its_type(stream: str) -> None:
    kinds = {
        "Decimal": {"money", "millionths", "exact"},
        "datetime": {"instant"},
        "date": {"day"},
        "int": {"integer"},
        "bool": {"flag"},
        "str": {"text"},
        "Key": {"text"},
    }
    hints = typing.get_type_hints(RECORD_TYPES[stream], vars(canonical))
    for field in dataclasses.fields(RECORD_TYPES[stream]):
        if field.name in {"ref", "extra"}:
            continue
        assert field.name in RECORD_TABLES[stream].columns
        hint = hints[field.name]
        inner = next((one for one in typing.get_args(hint) if one is not type(None)), hint)
        assert kind_of(field.name) in kinds[inner.__name__], field.name


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1700, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
    ],
)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles"])
def test_the_ends_of_the_calendar_are_kept(instant: datetime, zone: str) -> None:
    company = Company(ZoneInfo(zone), "EUR")
    record = deal(created_at=instant, close_date=instant.date())

    assert record == record_of(row_of(record, company), company)


def test_microseconds_are_exact() -> None:
    late = datetime(2026, 7, 1, 12, 30, 0, 123_457, tzinfo=UTC)

    assert row_of(deal(modified_at=late), BERLIN)["modified_at"] == 1_782_909_000_123_457


# ---------------------------------------------------------------- local days


@pytest.mark.parametrize(
    ("zone", "instant", "local"),
    [
        ("Europe/Berlin", "2026-01-01T22:59:59+00:00", "2026-01-01"),
        ("Europe/Berlin", "2026-01-01T23:00:00+00:00", "2026-01-02"),
        ("Europe/Berlin", "2026-07-01T22:00:00+00:00", "2026-07-02"),
        ("Europe/Berlin", "2026-03-28T23:30:00+00:00", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T21:59:59+00:00", "2026-03-29"),
        ("Europe/Berlin", "2026-03-29T22:00:00+00:00", "2026-03-30"),
        ("Europe/Berlin", "2026-10-25T22:59:59+00:00", "2026-10-25"),
        ("Europe/Berlin", "2026-10-25T23:00:00+00:00", "2026-10-26"),
        ("America/New_York", "2026-03-08T04:59:59+00:00", "2026-03-07"),
        ("America/New_York", "2026-03-09T03:59:59+00:00", "2026-03-08"),
        ("Pacific/Auckland", "2026-04-04T11:00:00+00:00", "2026-04-05"),
    ],
)
def test_days_are_those_of_the_company_zone(zone: str, instant: str, local: str) -> None:
    company = Company(ZoneInfo(zone), "EUR")
    at = datetime.fromisoformat(instant)
    change = StageChange(
        ref=RecordRef("s", "deal_stage_changes", "1"), deal="s:1", stage="s:a", at=at
    )
    answer = SurveyResponse(ref=RecordRef("s", "survey_responses", "1"), submitted_at=at)

    assert day(local) == row_of(deal(created_at=at), company)["created_day"]
    assert day(local) == row_of(change, company)["at_day"]
    assert day(local) == row_of(answer, company)["submitted_day"]


def test_a_closed_deal_counts_on_its_close_date_else_on_the_day_it_was_closed() -> None:
    closed_at = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)

    both = row_of(deal(is_closed=True, close_date=date(2025, 12, 30), closed_at=closed_at), BERLIN)
    only_instant = row_of(deal(is_closed=True, closed_at=closed_at), BERLIN)
    neither = row_of(deal(is_closed=True), BERLIN)
    still_open = row_of(deal(close_date=date(2026, 2, 1), closed_at=closed_at), BERLIN)

    assert day("2025-12-30") == both["closed_day"]
    assert day("2026-01-02") == only_instant["closed_day"]
    assert neither["closed_day"] is None
    assert still_open["closed_day"] is None


def test_a_closed_ticket_counts_on_the_local_day_it_was_closed() -> None:
    ticket = Ticket(
        ref=RecordRef("s", "tickets", "1"),
        is_closed=True,
        closed_at=datetime(2026, 1, 1, 23, 30, tzinfo=UTC),
    )

    assert day("2026-01-02") == row_of(ticket, BERLIN)["closed_day"]


# ---------------------------------------------------------------- money, ratios, flags


def test_an_amount_without_currency_has_the_minor_units_of_the_company() -> None:
    yen = Company(ZoneInfo("Asia/Tokyo"), "JPY")

    assert row_of(deal(amount=Decimal("12.4")), yen)["amount"] == 12
    assert row_of(deal(amount=Decimal("12.4"), currency="EUR"), yen)["amount"] == 1240
    assert row_of(deal(amount=Decimal(12)), yen)["currency"] is None


def test_ratios_are_millionths_rounded_half_up() -> None:
    assert row_of(deal(probability=Decimal(1) / 3), BERLIN)["probability"] == 333_333
    assert row_of(deal(probability=Decimal("0.0000005")), BERLIN)["probability"] == 1


def test_an_unknown_flag_is_false() -> None:
    row = row_of(deal(is_won=None), BERLIN)

    assert row["is_won"] is False


# ---------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("Grüße, 東京, 🎉", "Grüße, 東京, 🎉"),
        ("", ""),
    ],
)
def test_text_is_made_storable(text: str, stored: str) -> None:
    maker = RowMaker("deals", BERLIN)
    (row,) = maker.rows([deal(name=text)])

    assert stored == row[columns_of("deals").index("name")]
    assert (stored != text) == bool(maker.cleaned)


@pytest.mark.parametrize("letter", ["a", "ü", "東", "🎉"])
def test_long_text_is_cut_to_64_kib_with_a_mark(letter: str) -> None:
    maker = RowMaker("deals", BERLIN)
    (row,) = maker.rows([deal(name=letter * 10_000_000, lost_reason=letter * 100)])
    stored = str(row[columns_of("deals").index("name")])

    assert stored.endswith(CUT)
    assert LONGEST_TEXT - 8 < len(stored.encode()) <= LONGEST_TEXT
    assert maker.cleaned == 1


def test_text_of_exactly_64_kib_is_kept() -> None:
    maker = RowMaker("deals", BERLIN)
    text = "ü" * (LONGEST_TEXT // 2)
    (row,) = maker.rows([deal(name=text)])

    assert text == row[columns_of("deals").index("name")]
    assert maker.cleaned == 0


def test_own_fields_are_cleaned_too() -> None:
    maker = RowMaker("deals", BERLIN)
    (row,) = maker.rows([deal(extra={"note": "a\0b", "n": 1})])

    assert row[columns_of("deals").index("extra")] == '{"n": 1, "note": "a\ufffdb"}'
    assert maker.cleaned == 1


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("record", "field", "code"),
    [
        (deal(amount=Decimal("10000000000000000.01")), "amount", "number_too_large"),
        (deal(amount=Decimal("1E+400")), "amount", "number_too_large"),
        (deal(amount=Decimal("NaN")), "amount", "not_a_number"),
        (deal(probability=Decimal("-Infinity")), "probability", "not_a_number"),
        (deal(closed_at=datetime(2026, 1, 1)), "closed_at", "no_zone"),  # noqa: DTZ001
        (deal(extra={"x_big": Decimal("1E+9999")}), "x_big", "unfit"),
        (
            Rate(
                ref=RecordRef("s", "rates", "1"),
                currency="USD",
                date=date(2026, 1, 1),
                rate=Decimal("1E+99"),
            ),
            "rate",
            "number_too_large",
        ),
        (
            canonical.Account(ref=RecordRef("s", "accounts", "1"), employees=10**5000),
            "employees",
            "number_too_large",
        ),
    ],
)
def test_values_that_would_change_their_meaning_are_refused_by_name(
    record: CanonicalRecord, field: str, code: str
) -> None:
    with pytest.raises(RecordRefused) as checked:
        check(record)
    with pytest.raises(RecordRefused) as converted:
        row_of(record, BERLIN)

    for refused in (checked.value, converted.value):
        assert (field, code) == (refused.field, refused.code)
        assert field in str(refused)
        assert len(refused.raw) <= 200


def test_a_refusal_is_a_value_error_and_survives_pickling() -> None:
    with pytest.raises(ValueError, match="amount") as caught:
        check(deal(amount=Decimal("Infinity")))

    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own

    assert str(caught.value) == str(again)
    assert again.field == "amount"


def test_the_company_currency_decides_whether_an_amount_fits() -> None:
    large = Cost(
        ref=RecordRef("s", "costs", "1"), date=date(2026, 1, 1), amount=Decimal(5 * 10**15)
    )

    check(large, BERLIN)
    with pytest.raises(RecordRefused):
        check(large, Company(ZoneInfo("Asia/Kuwait"), "KWD"))


def test_a_long_page_names_the_one_record_that_does_not_fit() -> None:
    page = [deal(amount=Decimal(n)) for n in range(50)]
    page[30] = deal(amount=Decimal("NaN"), created_at=datetime.now(UTC) - timedelta(days=1))

    with pytest.raises(RecordRefused) as caught:
        RowMaker("deals", BERLIN).rows(page)

    assert caught.value.field == "amount"
