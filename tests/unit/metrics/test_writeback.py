"""What a write-back would change, why, and when it stops itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from connectors.base import FieldType, LiveRecord, TargetField
from metrics.writeback import FieldPlan, Guard, Plan, UnreadablePlanError, make_plan
from store.canonical import Scalar
from tests.unit.metrics.writeback_cases import (
    AS_OF,
    REVENUE,
    TARGETS,
    WIN_RATE,
    number,
    other,
    percent,
    planned,
    record,
    spec,
    value,
)


def _one(amount: str | None, kpi: str, target: TargetField, **of_value: str) -> Plan:
    field = FieldPlan(target.name, kpi, "all")
    return planned(
        spec(field), [value("A1", kpi, amount, **of_value)], [record("A1")], targets=[target]
    )


# ---------------------------------------------------------------- what changes


def test_old_and_new_stand_beside_each_other_in_the_order_of_ids() -> None:
    plan = planned(
        spec(),
        [
            value("A2", "revenue", "100"),
            value("A2", "win_rate", "0.5"),
            value("A1", "revenue", "70.005"),
        ],
        [record("A2", KPI_Revenue__c=Decimal(90)), record("A1")],
    )

    assert [
        ("A1", "KPI_Revenue__c", None, Decimal("70.01"), "fill"),
        ("A2", "KPI_Revenue__c", Decimal(90), Decimal("100.00"), "change"),
        ("A2", "KPI_Win_Rate__c", None, Decimal("50.00"), "fill"),
    ] == [(c.record, c.field, c.old, c.new, c.kind) for c in plan.changes]
    assert (plan.matched, plan.unmatched, plan.deleted, plan.calls) == (2, 0, 0, 1)
    assert plan.guard.ok
    assert plan.as_of == AS_OF


def test_equal_values_are_never_in_a_plan() -> None:
    plan = planned(
        spec(),
        [value("A1", "revenue", "12.5"), value("A1", "win_rate", "0.820700001")],
        [record("A1", KPI_Revenue__c=Decimal("12.500"), KPI_Win_Rate__c=Decimal("82.07"))],
    )

    assert plan.changes == ()
    assert plan.calls == 0


def test_every_change_says_why() -> None:
    plan = planned(
        spec(),
        [value(f"A{n}", "revenue", "100") for n in range(1, 5)],
        [
            record("A1"),
            record("A2", KPI_Revenue__c=Decimal(90)),
            record("A3", KPI_Revenue__c=Decimal(90)),
            record("A4", KPI_Revenue__c=Decimal(55)),
        ],
        pushed={("A2", "KPI_Revenue__c"): Decimal(90), ("A4", "KPI_Revenue__c"): Decimal(90)},
    )

    assert [change.why for change in plan.changes] == [
        "first value: revenue is 100.00, from 7 records",
        "new data moved revenue: 90 -> 100.00, from 7 records",
        "revenue is 100.00, from 7 records; what the field holds was not written by us",
        "the field was changed to 55 in the CRM: revenue is 100.00, from 7 records",
    ]


def test_only_the_named_kpis_periods_dimensions_and_records_count() -> None:
    plan = planned(
        spec(REVENUE),
        [
            value("A1", "revenue", "1", period="2026"),
            value("A1", "revenue", "2", dimension="owner"),
            value("A1", "revenue", "3", connection="other"),
            value("A1", "buyers", "4"),
        ],
        [record("A1")],
    )

    assert plan.changes == ()
    assert plan.matched == 0


def test_records_that_are_gone_merged_or_unknown_are_counted_and_left_alone() -> None:
    plan = planned(
        spec(REVENUE),
        [value(name, "revenue", "5") for name in ("A1", "DELETED", "MERGED", "NOWHERE")],
        [
            record("A1"),
            LiveRecord(asked_id="MERGED", record_id="A1", values={}),
            record("DELETED"),
            record("STRANGER", KPI_Revenue__c=Decimal(7)),
        ],
        deleted_ids=["DELETED", "NEVER_ASKED"],
    )

    assert [change.record for change in plan.changes] == ["A1"]
    assert (plan.matched, plan.unmatched, plan.deleted) == (1, 1, 2)


def test_what_writing_costs_is_told() -> None:
    values = [value(f"A{n:03}", "revenue", "5") for n in range(401)]
    live = [record(f"A{n:03}") for n in range(401)]

    plan = planned(spec(REVENUE), values, live, push_batch=200, daily_calls=15_000)

    assert plan.calls == 3
    assert Decimal("0.0002") == plan.quota_share


# ---------------------------------------------------------------- rounding


@pytest.mark.parametrize(
    ("amount", "kpi", "target", "expected"),
    [
        ("0.125", "revenue", number("f", scale=2), "0.13"),
        ("-0.125", "revenue", number("f", scale=2), "-0.13"),
        ("2.5", "revenue", number("f", scale=0), "3"),
        ("0.5", "win_rate", percent("f"), "50.00"),
        ("0.820749", "win_rate", percent("f"), "82.07"),
        ("0.82075", "win_rate", percent("f"), "82.08"),
        ("0.825", "win_rate", percent("f", scale=0), "83"),
        ("0.82074999", "win_rate", number("f", scale=None, precision=None), "0.8207"),
        ("0.82075", "win_rate", number("f", scale=3), "0.821"),
        ("1.005", "revenue", number("f", scale=None, precision=None), "1.01"),
        ("47.985", "sales_cycle_days", number("f", scale=None, precision=None), "47.99"),
        ("3", "buyers", number("f", scale=None, precision=None), "3"),
        ("2.416", "buyers", number("f", scale=None, precision=None), "2.42"),
        ("-0.004", "revenue", number("f", scale=2), "0.00"),
    ],
)
def test_values_are_rounded_half_up_to_the_fields_scale(
    amount: str, kpi: str, target: TargetField, expected: str
) -> None:
    (change,) = _one(amount, kpi, target).changes

    assert expected == str(change.new)


@pytest.mark.parametrize(
    ("currency", "expected"), [("EUR", "1234.57"), ("JPY", "1235"), ("KWD", "1234.568")]
)
def test_money_in_a_field_without_scale_has_its_currencys_minor_units(
    currency: str, expected: str
) -> None:
    target = number("f", scale=None, precision=None)

    (change,) = _one("1234.5675", "revenue", target, currency=currency).changes

    assert expected == str(change.new)


def test_configured_digits_count_but_never_beyond_the_field() -> None:
    fields = (
        FieldPlan("free", "win_rate", "all", digits=3),
        FieldPlan("narrow", "win_rate", "all", digits=6),
    )

    plan = planned(
        spec(*fields),
        [value("A1", "win_rate", "0.82074999")],
        [record("A1")],
        targets=[number("free", scale=None, precision=None), number("narrow", scale=2)],
    )

    assert [str(change.new) for change in plan.changes] == ["0.821", "0.82"]


def test_hubspots_percent_properties_get_the_ratio() -> None:
    (change,) = _one("0.82074999", "win_rate", other("f", FieldType.PERCENT)).changes

    assert str(change.new) == "0.8207"


# ---------------------------------------------------------------- values that do not fit


@pytest.mark.parametrize(
    ("amount", "kpi", "target", "reason"),
    [
        ("NaN", "revenue", number("f"), "A1.f: revenue is NaN, which is no number"),
        ("Infinity", "revenue", number("f"), "A1.f: revenue is Infinity"),
        ("1e400", "revenue", number("f", scale=None, precision=None), "too large for any field"),
        ("1000", "revenue", number("f", scale=2, precision=5), "more than the 3 digits before"),
        ("999.995", "revenue", number("f", scale=2, precision=5), "1000.00 has more than the 3"),
        ("0.5", "win_rate", number("f", scale=0), "give it at least 2"),
        ("5", "revenue", percent("f"), "unit money, which a percent field would show wrongly"),
        ("0.5", "win_rate", other("f", FieldType.CURRENCY), "unit ratio, which a currency field"),
        ("5", "revenue", other("f", FieldType.TEXT), '"f" of sf.Account is a text field'),
        ("5", "revenue", other("f", FieldType.CHECKBOX), "give it a number field"),
        ("5", "revenue", number("f", writable=False), "cannot be written by the integration user"),
        ("5", "revenue", number("other"), '"f" is not a field of Account'),
    ],
)
def test_a_value_that_does_not_fit_stops_the_write_back_in_plain_words(
    amount: str, kpi: str, target: TargetField, reason: str
) -> None:
    plan = planned(
        spec(FieldPlan("f", kpi, "all")),
        [value("A1", kpi, amount)],
        [record("A1")],
        targets=[target],
    )

    assert not plan.guard.ok
    assert reason in (plan.guard.reason or "")
    assert plan.changes == ()


def test_a_hundred_alike_are_told_in_three_examples() -> None:
    plan = planned(
        spec(REVENUE),
        [value(f"A{n:03}", "revenue", "NaN") for n in range(100)],
        [record(f"A{n:03}") for n in range(100)],
    )

    assert "(and 97 more)" in (plan.guard.reason or "")
    assert len(plan.guard.reason or "") < 400


def test_an_unfit_value_never_counts_as_an_empty_group() -> None:
    plan = planned(
        spec(REVENUE),
        [value("A1", "revenue", "NaN")],
        [record("A1", KPI_Revenue__c=Decimal(5))],
        pushed={("A1", "KPI_Revenue__c"): Decimal(5)},
    )

    assert plan.changes == ()
    assert not plan.guard.ok


# ---------------------------------------------------------------- blanks and edits


def test_a_value_that_vanished_keeps_the_field_unless_blanking_is_allowed() -> None:
    values = [value("A1", "win_rate", None)]
    live = [record("A1", KPI_Win_Rate__c=Decimal(50))]

    kept = planned(spec(WIN_RATE), values, live)
    blanked = planned(spec(WIN_RATE, guard=Guard(never_blank=False)), values, live)

    assert [("kept", Decimal(50))] == [(c.kind, c.new) for c in kept.changes]
    assert kept.updates() == []
    assert kept.calls == 0
    assert [(c.kind, c.new) for c in blanked.changes] == [("blank", None)]
    assert [update.value for update in blanked.updates()] == [None]


def test_a_group_without_records_is_brought_to_zero_where_we_wrote_before() -> None:
    plan = planned(
        spec(replace(REVENUE, period="2026-Q2"), replace(WIN_RATE, period="2026-Q2")),
        [],
        [
            record("A1", KPI_Revenue__c=Decimal(100), KPI_Win_Rate__c=Decimal(50)),
            record("A2", KPI_Revenue__c=Decimal(100)),
        ],
        pushed={
            ("A1", "KPI_Revenue__c"): Decimal(100),
            ("A1", "KPI_Win_Rate__c"): Decimal(50),
        },
    )

    assert [
        ("A1", "KPI_Revenue__c", Decimal(0), "change"),
        ("A1", "KPI_Win_Rate__c", Decimal(50), "kept"),
    ] == [(c.record, c.field, c.new, c.kind) for c in plan.changes]
    assert "no records are behind revenue of 2026-Q2 any more" in plan.changes[0].why


def test_a_deleted_record_is_never_brought_to_zero() -> None:
    plan = planned(
        spec(REVENUE),
        [],
        [record("A1", KPI_Revenue__c=Decimal(100))],
        pushed={("A1", "KPI_Revenue__c"): Decimal(100)},
        deleted_ids=["A1"],
    )

    assert plan.changes == ()


def test_an_edited_value_is_restored_or_kept_as_configured() -> None:
    values = [value("A1", "revenue", "100"), value("A2", "revenue", "100")]
    live = [record("A1", KPI_Revenue__c=Decimal(1)), record("A2")]
    pushed: dict[tuple[str, str], Scalar] = {
        ("A1", "KPI_Revenue__c"): Decimal(100),
        ("A2", "KPI_Revenue__c"): Decimal(100),
    }

    restored = planned(spec(REVENUE), values, live, pushed=pushed)
    kept = planned(spec(REVENUE, on_edit="keep"), values, live, pushed=pushed)

    assert [change.kind for change in restored.changes] == ["change", "fill"]
    assert "was emptied in the CRM" in restored.changes[1].why
    assert [change.kind for change in kept.changes] == ["kept", "kept"]
    assert kept.updates() == []


def test_an_empty_text_is_an_empty_field() -> None:
    plan = planned(spec(REVENUE), [value("A1", "revenue", None)], [record("A1", KPI_Revenue__c="")])

    assert plan.changes == ()


# ---------------------------------------------------------------- the stamp


def _stamped(kind: FieldType, **held: Scalar) -> Plan:
    return make_plan(
        spec(REVENUE, stamp="At"),
        values=[value("A1", "revenue", "5"), value("A2", "revenue", "5")],
        targets={target.name: target for target in (*TARGETS, other("At", kind))},
        live=[record("A1", **held), record("A2", KPI_Revenue__c=Decimal(5), At=None)],
        pushed={},
        deleted_ids=[],
        push_batch=200,
        timezone=ZoneInfo("Pacific/Auckland"),
    )


def test_the_stamp_is_written_only_beside_another_change() -> None:
    plan = _stamped(FieldType.DATETIME)

    assert [
        ("A1", "KPI_Revenue__c", Decimal("5.00")),
        ("A1", "At", datetime(2026, 11, 22, 3, tzinfo=UTC)),
    ] == [(c.record, c.field, c.new) for c in plan.changes]


def test_a_stamp_that_is_a_day_is_the_companys_day() -> None:
    late = AS_OF + timedelta(hours=12)
    plan = make_plan(
        spec(REVENUE, stamp="At"),
        values=[value("A1", "revenue", "5", as_of=late)],
        targets={target.name: target for target in (*TARGETS, other("At", FieldType.DATE))},
        live=[record("A1")],
        pushed={},
        deleted_ids=[],
        push_batch=200,
        timezone=ZoneInfo("Pacific/Auckland"),
    )

    assert date(2026, 11, 23) == plan.changes[1].new


def test_an_equal_stamp_is_not_written_again() -> None:
    plan = _stamped(FieldType.DATETIME, At=datetime(2026, 11, 22, 3, 0, 0, 999, tzinfo=UTC))

    assert [change.field for change in plan.changes] == ["KPI_Revenue__c"]


def test_a_stamp_of_another_type_stops_the_write_back() -> None:
    plan = _stamped(FieldType.TEXT)

    assert "a stamp needs a date or datetime" in (plan.guard.reason or "")


# ---------------------------------------------------------------- the guard


def _moved(
    changed: int,
    held: int,
    empty: int = 0,
    *,
    guard: Guard,
    replaced_today: frozenset[str] = frozenset(),
) -> Plan:
    values = [value(f"A{n:04}", "revenue", "2") for n in range(held + empty)]
    live = [
        record(f"A{n:04}", KPI_Revenue__c=Decimal(1 if n < changed else 2)) for n in range(held)
    ] + [record(f"A{n:04}") for n in range(held, held + empty)]
    return planned(spec(REVENUE, guard=guard), values, live, replaced_today=replaced_today)


def test_the_share_of_replaced_values_is_limited() -> None:
    guard = Guard(max_changed=Decimal("0.25"))

    assert _moved(25, 100, guard=guard).guard.ok
    stopped = _moved(26, 100, guard=guard)

    assert not stopped.guard.ok
    assert "26 of 100 records with values (26%)" in (stopped.guard.reason or "")
    assert "writebacks.health.guard.max_changed allows 25%" in (stopped.guard.reason or "")


def test_small_passes_do_not_add_up_to_a_large_change_within_a_day() -> None:
    guard = Guard(max_changed=Decimal("0.25"))
    earlier = frozenset(f"A{n:04}" for n in range(50, 70))

    assert _moved(5, 100, guard=guard, replaced_today=earlier).guard.ok
    stopped = _moved(6, 100, guard=guard, replaced_today=earlier)

    assert not stopped.guard.ok
    assert "26 of 100 records with values (26%)" in (stopped.guard.reason or "")
    assert "within 24 hours" in (stopped.guard.reason or "")


def test_records_that_are_gone_since_they_were_replaced_today_held_a_value_then() -> None:
    gone = frozenset(f"B{n}" for n in range(20))

    assert _moved(2, 2, guard=Guard(max_changed=Decimal(1)), replaced_today=gone).guard.ok
    stopped = _moved(6, 80, guard=Guard(max_changed=Decimal("0.25")), replaced_today=gone)

    assert not stopped.guard.ok
    assert "26 of 100 records with values (26%)" in (stopped.guard.reason or "")


def test_first_fills_do_not_count_as_changes() -> None:
    assert _moved(0, 0, empty=500, guard=Guard(max_changed=Decimal("0.01"))).guard.ok
    assert _moved(2, 10, empty=500, guard=Guard(max_changed=Decimal("0.25"))).guard.ok
    assert not _moved(3, 10, empty=500, guard=Guard(max_changed=Decimal("0.25"))).guard.ok


def test_the_number_of_written_records_is_limited_fills_included() -> None:
    assert _moved(0, 0, empty=20, guard=Guard(max_records=20)).guard.ok
    stopped = _moved(0, 0, empty=21, guard=Guard(max_records=20))

    assert not stopped.guard.ok
    assert "21 records would be written" in (stopped.guard.reason or "")
    assert "max_records allows 20" in (stopped.guard.reason or "")


def test_too_many_vanished_values_stop_the_write_back_though_each_is_kept() -> None:
    values = [value(f"A{n}", "win_rate", None if n < 4 else "0.5") for n in range(10)]
    live = [record(f"A{n}", KPI_Win_Rate__c=Decimal(50)) for n in range(10)]

    plan = planned(spec(WIN_RATE, guard=Guard(max_changed=Decimal("0.25"))), values, live)

    assert sum(change.kind == "kept" for change in plan.changes) == 4
    assert "4 of 10 records with values (40%)" in (plan.guard.reason or "")


# ---------------------------------------------------------------- JSON


def _rich_plan() -> Plan:
    return planned(
        spec(stamp="At"),
        [
            value("A1", "revenue", "5"),
            value("A2", "revenue", "12345678901234.5678"),
            value("A2", "win_rate", None),
        ],
        [
            record("A1", KPI_Revenue__c="not a number", At=None),
            record("A2", KPI_Revenue__c=Decimal("1E+3"), KPI_Win_Rate__c=Decimal(5)),
        ],
        targets=[*TARGETS, other("At", FieldType.DATETIME)],
        daily_calls=1000,
    )


def test_a_plan_has_the_agreed_shape_in_json() -> None:
    document = json.loads(json.dumps(_rich_plan().to_json()))

    assert {
        "plan", "writeback", "to", "matched", "unmatched", "deleted", "changes", "calls",
        "quota_share", "guard",
    } <= document.keys()  # fmt: skip
    assert (
        document["writeback"],
        document["to"],
        document["guard"],
    ) == ("health", "sf.Account", {"ok": True, "reason": None})
    first = document["changes"][2]
    assert {"record", "field", "old", "new", "kind", "why"} <= first.keys()
    assert (first["record"], first["old"], first["new"]) == ("A2", "1000", "12345678901234.57")


def test_a_plan_survives_json() -> None:
    plan = _rich_plan()

    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))

    assert plan == again
    assert plan.id == again.id
    assert plan.updates() == again.updates()


def test_a_plan_that_was_changed_since_is_refused() -> None:
    document = json.loads(json.dumps(_rich_plan().to_json()))
    document["changes"][0]["new"] = "1000000.00"

    with pytest.raises(UnreadablePlanError, match="changed after it was made"):
        Plan.from_json(document)


@pytest.mark.parametrize(
    "document", [None, [], {}, {"to": 5}, {"writeback": "w", "to": "a.b", "quota_share": []}]
)
def test_what_is_no_plan_is_refused(document: dict[str, int]) -> None:
    with pytest.raises(UnreadablePlanError):
        Plan.from_json(document)


def test_a_plan_for_something_else_is_recognised() -> None:
    plan = _rich_plan()

    assert plan.strangers(spec(stamp="At")) == ()
    assert plan.strangers(spec(REVENUE)) == ("At", "KPI_Win_Rate__c")
    assert plan.strangers(replace(spec(stamp="At"), object="Contact")) == ("sf.Account",)
