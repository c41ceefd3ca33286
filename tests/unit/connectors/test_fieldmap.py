"""Field maps: native values become canonical ones, or a rejected record with a reason."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import FieldSource
from connectors.errors import MisconfiguredConnection, StreamPaused
from connectors.fieldmap import (
    FieldMap,
    MapRequest,
    NativeField,
    canonical_fields,
    compile_fieldmap,
    missing_fields,
)
from store.canonical import (
    RECORD_TYPES,
    CanonicalRecord,
    Company,
    Deal,
    RecordRef,
    RejectedRecord,
    StageChange,
)

REF = RecordRef("crm", "deals", "1")
DEFAULTS = {
    "name": FieldSource("Name"),
    "account": FieldSource("AccountId"),
    "amount": FieldSource("Amount", required=True),
    "close_date": FieldSource("CloseDate"),
    "closed_at": FieldSource("ClosedAt"),
    "probability": FieldSource("Probability"),
    "is_closed": FieldSource("IsClosed"),
    "kind": FieldSource("Type", values={"New Customer": "new"}),
}


def a_request(
    own: Mapping[str, FieldSource] | None = None,
    *,
    types: Mapping[str, str] | None = None,
    hidden: frozenset[str] = frozenset(),
    stream: str = "deals",
    defaults: Mapping[str, FieldSource] = DEFAULTS,
    may_lack: frozenset[str] = frozenset(),
) -> MapRequest:
    def look_up(source: str) -> NativeField | None:
        return None if source in hidden else NativeField(source, (types or {}).get(source))

    return MapRequest(
        connection="crm",
        crm="Example CRM",
        stream=stream,
        object="Deal",
        company=Company(ZoneInfo("Europe/Berlin"), "EUR"),
        defaults=defaults,
        own=own or {},
        look_up=look_up,
        missing_remedy="Give access to it.",
        may_lack=may_lack,
    )


def a_map(own: Mapping[str, FieldSource] | None = None, **how: object) -> FieldMap:
    return compile_fieldmap(a_request(own, **how))  # type: ignore[arg-type]  # passed through


def read(field_map: FieldMap, **native: object) -> Deal:
    record = field_map.record(REF, native)
    assert isinstance(record, Deal), record
    return record


def rejected(field_map: FieldMap, **native: object) -> RejectedRecord:
    record = field_map.record(REF, native)
    assert isinstance(record, RejectedRecord), record
    return record


def test_every_native_shape_of_a_value_is_read() -> None:
    deal = read(
        a_map(),
        Name="Deal 1",
        AccountId="A1",
        Amount="1e2",
        CloseDate="2026-03-29",
        ClosedAt="2026-03-29T01:59:59.000+0000",
        Probability=45,
        IsClosed="true",
        Type="New Customer",
    )

    assert deal.account == "crm:A1"
    assert deal.amount == Decimal(100)
    assert deal.close_date == date(2026, 3, 29)
    assert deal.closed_at == datetime(2026, 3, 29, 1, 59, 59, tzinfo=UTC)
    assert deal.probability == Decimal("0.45")
    assert deal.is_closed is True
    assert deal.kind == "new"


def test_absent_and_empty_values_are_no_values() -> None:
    deal = read(a_map(), Name="", Amount="", CloseDate="", ClosedAt="", IsClosed=None)

    assert (deal.name, deal.amount, deal.close_date, deal.closed_at) == (None,) * 4
    assert deal.is_closed is False


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("abc", "not_a_number"),
        ("NaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        (float("inf"), "not_a_number"),
        (Decimal("sNaN"), "not_a_number"),
        (True, "not_a_number"),
        ({"value": 1}, "not_a_number"),
        ("1_000", "not_a_number"),
        ("١٢", "not_a_number"),
        ("1,000.00", "not_a_number"),
        ("1e400", "number_too_long"),
        pytest.param("9" * 5000, "number_too_long", id="5000 characters"),
        (Decimal("1e400"), "number_too_long"),
        pytest.param(10**5000, "number_too_large", id="5000 digits"),
        ("1e30", "number_too_large"),
        (-(10**17), "number_too_large"),
    ],
)
def test_what_is_no_amount_rejects_the_record(raw: object, code: str) -> None:
    fault = rejected(a_map(), Amount=raw)

    assert (fault.field, fault.code, fault.ref) == ("amount", code, REF)
    assert "Amount" in fault.reason
    assert "Correct the record in Example CRM" in fault.reason
    assert len(fault.raw) <= 200
    assert len(fault.reason) < 400


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("10000-01-01T00:00:00Z", "not_a_datetime"),
        ("9999-12-31T23:59:59Z", "date_out_of_range"),
        ("0001-01-01T00:00:00+14:00", "date_out_of_range"),
        ("0999-01-01T00:00:00Z", "date_out_of_range"),
        pytest.param("9" * 5000, "date_out_of_range", id="5000 characters"),
        (10**17, "date_out_of_range"),
        ("2026-13-01T00:00:00Z", "not_a_datetime"),
        ("2026-01-01T00:00:00", "no_time_zone"),
        ("yesterday", "not_a_datetime"),
        (True, "not_a_datetime"),
    ],
)
def test_what_is_no_instant_rejects_the_record(raw: object, code: str) -> None:
    assert rejected(a_map(), Amount=1, ClosedAt=raw).code == code


@pytest.mark.parametrize("raw", ["2026-02-30", "0999-01-01", "20260101xx", 1.5, "31.12.2026"])
def test_what_is_no_day_rejects_the_record(raw: object) -> None:
    assert rejected(a_map(), Amount=1, CloseDate=raw).field == "close_date"


def test_a_leap_second_is_the_next_second() -> None:
    deal = read(a_map(), ClosedAt="2016-12-31T23:59:60Z")

    assert deal.closed_at == datetime(2017, 1, 1, tzinfo=UTC)


def test_far_days_are_kept() -> None:
    deal = read(a_map(), CloseDate="9999-12-31")

    assert deal.close_date == date(9999, 12, 31)


@pytest.mark.parametrize("raw", [1_774_746_000_000, "1774746000000", "2026-03-29T01:00:00Z"])
def test_the_day_of_an_instant_is_that_of_the_company(raw: object) -> None:
    late = read(a_map(types={"CloseDate": "datetime"}), CloseDate="2026-03-28T23:30:00Z")
    deal = read(a_map(types={"CloseDate": "datetime"}), CloseDate=raw)

    assert late.close_date == deal.close_date == date(2026, 3, 29)


def test_a_calendar_day_given_as_an_instant_is_midnight_utc() -> None:
    new_york = Company(ZoneInfo("America/New_York"), "USD")
    request = a_request(types={"CloseDate": "date"})
    field_map = compile_fieldmap(replace(request, company=new_york))

    deal = read(field_map, CloseDate="2026-03-29T00:00:00Z")

    assert deal.close_date == date(2026, 3, 29)


def test_percents_become_ratios_and_number_fields_are_ratios_already() -> None:
    percent = read(a_map(types={"Probability": "percent"}), Probability=Decimal("12.5"))
    number = read(a_map(types={"Probability": "number"}), Probability=Decimal("0.125"))

    assert percent.probability == number.probability == Decimal("0.125")


def test_a_kind_nobody_listed_is_other_and_a_value_nobody_listed_stays() -> None:
    own = {"region": FieldSource("Region", values={"N": "North"})}

    deal = read(a_map(own), Type="Something", Region="S")

    assert (deal.kind, deal.region) == ("other", "S")


def test_own_values_replace_the_default_list() -> None:
    own = {"kind": FieldSource("Kind", values={"Neu": "new", "Mehr": "upsell"})}

    assert read(a_map(own), Kind="Mehr").kind == "upsell"


def test_own_fields_are_extra_and_typed() -> None:
    own = {
        "arr": FieldSource("ARR", "money"),
        "plain": FieldSource("Plain"),
        "flag": FieldSource("Flag"),
        "partner": FieldSource("Partner", "ref"),
    }

    deal = read(
        a_map(own, types={"Flag": "boolean"}), ARR="12.5", Plain=7, Flag=False, Partner="P1"
    )

    assert dict(deal.extra) == {
        "arr": Decimal("12.5"), "plain": "7", "flag": False, "partner": "crm:P1",
    }  # fmt: skip


def test_fields_of_parents_are_walked_to() -> None:
    field_map = a_map({"region": FieldSource("Account.Region")})

    assert read(field_map, Account={"Region": "South"}).region == "South"
    assert read(field_map, Account=None).region is None
    assert read(field_map).region is None


def test_a_record_without_what_it_stands_on_is_rejected() -> None:
    defaults = {
        "deal": FieldSource("Deal"), "stage": FieldSource("Stage"), "at": FieldSource("At"),
    }  # fmt: skip
    field_map = a_map(stream="deal_stage_changes", defaults=defaults)

    whole = field_map.record(REF, {"Deal": "1", "Stage": "Won", "At": "2026-01-01T00:00:00Z"})
    half = field_map.record(REF, {"Deal": "1", "Stage": "Won", "At": None})

    assert isinstance(whole, StageChange)
    assert isinstance(half, RejectedRecord)
    assert (half.field, half.code) == ("at", "missing_value")


def test_a_missing_required_field_stops_with_object_field_and_remedy() -> None:
    with pytest.raises(StreamPaused, match=r"Deal\.Amount.*Give access to it"):
        a_map(hidden=frozenset({"Amount"}))


def test_an_override_of_a_required_field_is_required_too() -> None:
    with pytest.raises(StreamPaused, match=r"Deal\.Net"):
        a_map({"amount": FieldSource("Net")}, hidden=frozenset({"Net"}))


def test_a_missing_optional_field_warns_unless_many_lack_it() -> None:
    hidden = frozenset({"Type", "Probability"})

    field_map = a_map(hidden=hidden, may_lack=frozenset({"kind"}))

    (warning,) = field_map.warnings
    assert "Deal.Probability" in warning
    assert read(field_map, Probability=10).probability is None


def test_all_missing_fields_are_listed_at_once() -> None:
    request = a_request({"x": FieldSource("X")}, hidden=frozenset({"Amount", "X", "Name"}))

    missing = {field.name: field.is_required for field in missing_fields(request)}

    assert missing == {"name": False, "amount": True, "x": False}


def test_a_type_that_cannot_become_the_fields_type_is_refused() -> None:
    with pytest.raises(MisconfiguredConnection, match=r"streams\.deals\.fields\.close_date"):
        a_map({"close_date": FieldSource("X", "money")})


def test_marks_of_a_record_cannot_be_mapped() -> None:
    with pytest.raises(MisconfiguredConnection, match="deleted"):
        a_map({"deleted": FieldSource("X")})


@pytest.mark.parametrize("stream", sorted(RECORD_TYPES))
def test_every_canonical_field_has_a_type(stream: str) -> None:
    assert set(canonical_fields(stream).values()) <= {
        "text", "integer", "number", "money", "percent", "date", "datetime", "boolean", "ref",
    }  # fmt: skip


JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=30)
    | st.decimals()
    | st.floats()
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
    | st.datetimes().map(str)
)


@settings(max_examples=300, deadline=None)
@given(native=st.fixed_dictionaries({source.source: JSON_SCALARS for source in DEFAULTS.values()}))
def test_whatever_comes_is_a_record_or_a_rejection(native: dict[str, object]) -> None:
    outcome = a_map().record(REF, native)

    assert isinstance(outcome, (CanonicalRecord, RejectedRecord))
    if isinstance(outcome, Deal):
        assert outcome.amount is None or outcome.amount.is_finite()
        assert outcome.closed_at is None or outcome.closed_at.tzinfo is UTC


def test_a_field_costs_a_few_microseconds() -> None:
    field_map = a_map()
    native = {
        "Name": "Deal 1", "AccountId": "A1", "Amount": Decimal("12.5"), "CloseDate": "2026-03-29",
        "ClosedAt": "2026-03-29T01:59:59.000+0000", "Probability": Decimal(45), "IsClosed": True,
        "Type": "New Customer",
    }  # fmt: skip
    best = min(_seconds(field_map, native) for _ in range(5))

    assert best / 1000 / len(native) < 5e-6


def _seconds(field_map: FieldMap, native: Mapping[str, object]) -> float:
    started = time.perf_counter()
    for _ in range(1000):
        field_map.record(REF, native)
    return time.perf_counter() - started
