"""Values as HubSpot takes and gives them, and the properties that hold them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from connectors.base import FieldType, NewField
from connectors.hubspot.fields import (
    Property,
    by_hand,
    decoded,
    definition,
    encoded,
    is_same_type,
    property_of,
)
from store.canonical import Scalar


def make_property(kind: str, field_type: str = "text", hint: str | None = None) -> Property:
    return Property("kpi", "KPI", kind, field_type, hint, is_read_only=False)


def make_field(kind: FieldType, name: str = "kpi_x") -> NewField:
    return NewField(name=name, label="X", help_text="What it is", type=kind)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.00012300"), "0.00012300"),
        (Decimal("1E-7"), "0.0000001"),
        (42, "42"),
        (date(2026, 3, 1), "2026-03-01"),
        (
            datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=9))),
            "2026-02-28T16:30:00.000Z",
        ),
        ("a;b", "a;b"),
    ],
)
def test_values_go_out_as_text(value: Scalar, text: str) -> None:
    assert text == encoded(value)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("", "number", None),
        (None, "string", None),
        ("12.50", "number", Decimal("12.5")),
        ("2026-03-01", "date", date(2026, 3, 1)),
        ("1772323200000", "date", date(2026, 3, 1)),
        ("2026-03-01T00:00:00Z", "datetime", datetime(2026, 3, 1, tzinfo=UTC)),
        ("true", "bool", True),
        ("not a number", "number", "not a number"),
    ],
)
def test_live_values_come_back_as_they_compare(text: object, kind: str, value: Scalar) -> None:
    assert value == decoded(text, make_property(kind))


def test_the_type_of_a_target_follows_how_it_is_shown() -> None:
    percentage = make_property("number", "number", "percentage").as_target()

    assert percentage.type == FieldType.PERCENT
    assert percentage.ratio_factor == 1


@pytest.mark.parametrize(
    "marks", [{"modificationMetadata": {"readOnlyValue": True}}, {"calculated": True}]
)
def test_a_read_only_property_cannot_be_a_target(marks: dict[str, object]) -> None:
    described = property_of({"name": "hs_x", "label": "X", "type": "number", **marks})

    assert not described.as_target().writable


def test_a_definition_pairs_type_and_field_type_as_hubspot_wants() -> None:
    pairs = {
        kind: (content["type"], content["fieldType"])
        for kind in FieldType
        if kind != FieldType.OTHER
        for content in (definition(make_field(kind)),)
    }

    assert pairs == {
        FieldType.NUMBER: ("number", "number"),
        FieldType.PERCENT: ("number", "number"),
        FieldType.CURRENCY: ("number", "number"),
        FieldType.TEXT: ("string", "text"),
        FieldType.DATE: ("date", "date"),
        FieldType.DATETIME: ("datetime", "date"),
        FieldType.CHECKBOX: ("bool", "booleancheckbox"),
    }


@pytest.mark.parametrize("name", ["hs_kpi", "KPI_X__c", "1st", "a-b"])
def test_a_name_hubspot_cannot_have_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        definition(make_field(FieldType.NUMBER, name))


def test_an_existing_property_of_another_type_is_not_the_same() -> None:
    wanted = make_field(FieldType.CURRENCY)

    assert is_same_type(wanted, make_property("number"))
    assert not is_same_type(wanted, make_property("string"))


def test_a_property_of_days_can_hold_the_stamp() -> None:
    assert is_same_type(make_field(FieldType.DATETIME), make_property("date"))
    assert not is_same_type(make_field(FieldType.DATE), make_property("datetime"))


def test_what_to_create_by_hand_names_everything_needed() -> None:
    words = by_hand("companies", make_field(FieldType.CURRENCY))

    assert all(part in words for part in ("kpi_x", "number", "currency", "crm.schemas.companies"))
