"""HubSpot's JSON becomes canonical records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.base import FieldSource
from connectors.fieldmap import MapRequest, NativeField, compile_fieldmap
from connectors.hubspot.deals import DealMapper
from connectors.hubspot.defaults import COMPANIES, DEALS, defaults_of
from connectors.hubspot.mapping import (
    Mapped,
    Pipelines,
    RecordMapper,
    owner_of,
    pipelines_of,
)
from store.canonical import Company, Deal, StageChange

UTC_USD = Company(ZoneInfo("UTC"), "USD")

PIPELINES = pipelines_of(
    "web",
    [
        {
            "id": "shop",
            "label": "Web shop",
            "stages": [
                {
                    "id": "won",
                    "label": "Gewonnen",
                    "displayOrder": 2,
                    "metadata": {"isClosed": "true", "probability": "1.0"},
                },
                {
                    "id": "lost",
                    "label": "Won by others",
                    "displayOrder": 3,
                    "metadata": {"isClosed": "true", "probability": "0.0"},
                },
                {
                    "id": "offer",
                    "label": "Offer",
                    "displayOrder": 1,
                    "metadata": {"isClosed": "false", "probability": "0.4"},
                },
            ],
        }
    ],
)


def native(name: str) -> NativeField:
    types = {"amount": "number", "closedate": "datetime", "hs_is_closed": "boolean"}
    types |= {"hs_is_closed_won": "boolean", "hs_deal_stage_probability": "number"}
    types |= {"createdate": "datetime", "hs_lastmodifieddate": "datetime"}
    return NativeField(name, types.get(name, "text"))


def deal_mapper(
    *,
    company: Company = UTC_USD,
    home_currency: str | None = None,
    own: Mapping[str, FieldSource] | None = None,
    pipelines: Pipelines = PIPELINES,
) -> DealMapper:
    fieldmap = compile_fieldmap(
        MapRequest(
            connection="web",
            crm="HubSpot",
            stream="deals",
            object=DEALS,
            company=company,
            defaults=defaults_of("deals", DEALS),
            own=own or {},
            look_up=native,
            missing_remedy="",
            percent_divisor=1,
        )
    )
    return DealMapper(RecordMapper("web", "deals", fieldmap, home_currency), pipelines)


def deal_row(
    history: list[tuple[str, str]] | None = None, **properties: str | None
) -> dict[str, Any]:
    """A deal as a batch read has it; `history` is oldest first."""
    defaults: dict[str, str | None] = {"pipeline": "shop", "dealstage": "offer"}
    past = [{"timestamp": at, "value": stage} for at, stage in (history or [])]
    return {
        "id": "7",
        "properties": {**defaults, **properties},
        "propertiesWithHistory": {"dealstage": past[::-1]},
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-02T00:00:00.123Z",
    }


def map_deal(row: Mapping[str, Any], mapper: DealMapper | None = None) -> Mapped:
    mapped = Mapped()
    (mapper or deal_mapper()).map(row, {COMPANIES: ()}, mapped)
    return mapped


def only_deal(mapped: Mapped) -> Deal:
    (deal,) = [record for record in mapped.records if isinstance(record, Deal)]
    return deal


def changes(mapped: Mapped) -> list[StageChange]:
    return [record for record in mapped.records if isinstance(record, StageChange)]


def test_won_is_closed_with_probability_one_and_never_a_label() -> None:
    assert {
        (stage.ref.native_id, stage.is_closed, stage.is_won, stage.position)
        for stage in PIPELINES.stages.values()
    } == {("offer", False, False, 0), ("won", True, True, 1), ("lost", True, False, 2)}


def test_stage_and_pipeline_are_named_by_the_keys_that_deals_hold() -> None:
    deal = only_deal(map_deal(deal_row()))

    assert (deal.stage, deal.pipeline) == ("web:offer", "web:shop")
    assert PIPELINES.stages["offer"].pipeline == "web:shop"


def test_an_owner_is_named_by_id_not_by_user_id() -> None:
    owner = owner_of(
        "web",
        {
            "id": "41",
            "userId": 9,
            "firstName": "Rep",
            "lastName": "07",
            "email": "rep07@x.example",
            "archived": True,
            "teams": [{"name": "North", "primary": False}, {"name": "South", "primary": True}],
        },
    )

    assert (owner.ref.key, owner.name, owner.team, owner.is_active) == (
        "web:41",
        "Rep 07",
        "South",
        False,
    )


@pytest.mark.parametrize(
    ("stage", "flags", "expected"),
    [
        ("offer", {}, (False, False)),
        ("won", {}, (True, True)),
        ("lost", {}, (True, False)),
        ("offer", {"hs_is_closed": "true", "hs_is_closed_won": "true"}, (True, True)),
        ("won", {"hs_is_closed": None, "hs_is_closed_won": ""}, (True, True)),
    ],
)
def test_hubspots_flags_count_before_the_stages_definition(
    stage: str, flags: dict[str, str | None], expected: tuple[bool, bool]
) -> None:
    deal = only_deal(map_deal(deal_row([], dealstage=stage, **flags)))

    assert expected == (deal.is_closed, deal.is_won)


def test_an_unknown_stage_with_flags_is_a_warning() -> None:
    mapped = map_deal(deal_row(dealstage="gone", hs_is_closed="true", hs_is_closed_won="false"))

    assert only_deal(mapped).is_closed
    assert "gone" in mapped.warnings[0]


def test_an_unknown_stage_without_flags_is_rejected_with_its_remedy() -> None:
    mapped = map_deal(deal_row(dealstage="gone"))

    assert mapped.records == []
    (rejected,) = mapped.rejected
    assert rejected.code == "unknown_stage"
    assert 'Stage "gone" is in no pipeline' in rejected.reason
    assert "Put the deal into a stage that exists." in rejected.reason


def test_an_amount_that_is_no_number_is_rejected_with_its_text() -> None:
    mapped = map_deal(deal_row(amount="abc"))

    (rejected,) = mapped.rejected
    assert (rejected.field, rejected.code, rejected.raw) == ("amount", "not_a_number", "abc")


def test_no_amount_is_unknown_and_not_zero() -> None:
    assert only_deal(map_deal(deal_row(amount=""))).amount is None


@pytest.mark.parametrize(
    ("zone", "day"), [("US/Pacific", 31), ("UTC", 1), ("Asia/Tokyo", 1), ("Europe/Berlin", 1)]
)
def test_the_close_date_is_the_companys_local_day(zone: str, day: int) -> None:
    mapper = deal_mapper(company=Company(ZoneInfo(zone), "USD"))

    deal = only_deal(map_deal(deal_row(closedate="2026-02-01T02:00:00Z"), mapper))

    assert deal.close_date == date(2026, 1 if day == 31 else 2, day)


def test_an_open_deals_close_date_is_a_forecast_and_no_closing() -> None:
    deal = only_deal(map_deal(deal_row(closedate="2026-02-01T02:00:00Z")))

    assert deal.close_date == date(2026, 2, 1)
    assert deal.closed_at is None


def test_a_closed_deal_without_a_close_date_was_closed_when_it_last_entered_a_closed_stage() -> (
    None
):
    history = [
        ("2026-01-01T00:00:00Z", "offer"),
        ("2026-01-02T00:00:00Z", "lost"),
        ("2026-01-03T00:00:00Z", "offer"),
        ("2026-01-04T00:00:00Z", "won"),
        ("2026-01-05T00:00:00Z", "won"),
    ]

    deal = only_deal(map_deal(deal_row(history, dealstage="won")))

    assert deal.closed_at == datetime(2026, 1, 4, tzinfo=UTC)
    assert deal.close_date is None


def test_the_history_gives_one_change_for_each_stage_and_none_for_a_clearing() -> None:
    history = [
        ("2026-01-01T00:00:00.001Z", "offer"),
        ("2026-01-02T00:00:00Z", ""),
        ("2026-01-03T00:00:00Z", "gone"),
        ("2026-01-03T00:00:00Z", "gone"),
    ]

    found = changes(map_deal(deal_row(history)))

    assert {(one.ref.native_id, one.stage, one.pipeline) for one in found} == {
        ("7-1767225600001-offer", "web:offer", "web:shop"),
        ("7-1767398400000-gone", "web:gone", None),
    }


def test_changes_of_one_millisecond_keep_their_order() -> None:
    at = "2026-01-03T00:00:00Z"

    found = changes(map_deal(deal_row([(at, "won"), (at, "offer"), (at, "gone")])))

    in_order = sorted(found, key=lambda one: (one.at, one.ref))
    assert [one.stage for one in in_order] == ["web:won", "web:offer", "web:gone"]


def test_an_unreadable_time_in_the_history_rejects_the_deal() -> None:
    mapped = map_deal(deal_row([("yesterday", "offer")]))

    assert mapped.records == []
    assert mapped.rejected[0].code == "not_a_datetime"


def test_the_types_of_deals_become_kinds() -> None:
    kinds = {
        text: only_deal(map_deal(deal_row(dealtype=text))).kind
        for text in ("newbusiness", "existingbusiness", "partner", "")
    }

    assert kinds == {
        "newbusiness": "new",
        "existingbusiness": "upsell",
        "partner": "other",
        "": None,
    }


def test_probability_is_a_ratio() -> None:
    deal = only_deal(map_deal(deal_row(hs_deal_stage_probability="0.4")))

    assert deal.probability == Decimal("0.4")


def test_an_amount_without_a_currency_is_in_the_portals_currency() -> None:
    abroad = deal_mapper(home_currency="EUR")

    assert only_deal(map_deal(deal_row(amount="5"))).currency is None
    assert only_deal(map_deal(deal_row(amount="5"), abroad)).currency == "EUR"
    assert (
        only_deal(map_deal(deal_row(amount="5", deal_currency_code="CHF"), abroad)).currency
        == "CHF"
    )


def test_every_default_can_be_mapped_from_elsewhere() -> None:
    own = {
        "stage": FieldSource("my_stage"),
        "amount": FieldSource("my_amount"),
        "product": FieldSource("my_product"),
        "score": FieldSource("my_score", type="integer"),
    }
    row = deal_row(my_stage="won", my_amount="3", my_product="P", my_score="4", amount="1")
    row["propertiesWithHistory"] = {
        "my_stage": [{"timestamp": "2026-01-01T00:00:00Z", "value": "won"}]
    }
    mapper = DealMapper(deal_mapper(own=own).base, PIPELINES, stage="my_stage")

    deal = only_deal(map_deal(row, mapper))

    assert (deal.stage, deal.amount, deal.product) == ("web:won", Decimal(3), "P")
    assert deal.extra == {"score": 4}
    assert deal.is_won
    assert deal.closed_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_merge_marks_the_old_ids_and_nothing_else_of_them() -> None:
    row = deal_row(hs_merged_object_ids="5;6;7")

    mapped = map_deal(row)

    assert {
        (record.ref.native_id, record.deleted, record.merged_into)
        for record in mapped.records
        if record.ref.native_id != "7"
    } == {("5", True, "web:7"), ("6", True, "web:7")}


def test_a_company_keeps_its_parent_and_numbers() -> None:
    fieldmap = compile_fieldmap(
        MapRequest(
            connection="web",
            crm="HubSpot",
            stream="accounts",
            object=COMPANIES,
            company=UTC_USD,
            defaults=defaults_of("accounts", COMPANIES),
            own={},
            look_up=native,
            missing_remedy="",
        )
    )
    mapped = Mapped()
    row = {
        "id": "3",
        "properties": {
            "name": "Account 0003",
            "hs_parent_company_id": "2",
            "numberofemployees": "12",
            "annualrevenue": "1000.5",
        },
        "updatedAt": "2026-01-02T00:00:00Z",
    }

    RecordMapper("web", "accounts", fieldmap, "EUR").map(row, {}, mapped)

    (account,) = mapped.records
    assert account.modified_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert [
        getattr(account, name) for name in ("parent", "employees", "annual_revenue", "currency")
    ] == ["web:2", 12, Decimal("1000.5"), "EUR"]
