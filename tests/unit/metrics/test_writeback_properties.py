"""What holds of every plan, whatever the values and the records."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import FieldType, LiveRecord, TargetField
from metrics.writeback import FieldPlan, Guard, Plan, WritebackSpec
from store.canonical import Scalar
from store.kpis import KpiValue
from tests.unit.metrics.writeback_cases import (
    AS_OF,
    applied,
    number,
    other,
    percent,
    planned,
    record,
    spec,
    value,
)

LIMITS = settings(max_examples=200, deadline=timedelta(seconds=5))

FIELDS = (
    FieldPlan("Revenue", "revenue", "all", empty=Decimal(0)),
    FieldPlan("Rate", "win_rate", "all"),
    FieldPlan("Buyers", "buyers", "2026-Q1", empty=Decimal(0)),
)
IDS = ("A1", "A2", "A3", "A4")

amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9)
kpi_values = st.one_of(st.none(), amounts)
held: st.SearchStrategy[Scalar] = st.one_of(
    st.none(), st.just(""), amounts, st.integers(-5, 5), st.sampled_from(["text", "7"])
)


@st.composite
def values_of(draw: st.DrawFn) -> list[KpiValue]:
    found = []
    for record_id in IDS:
        for plan in FIELDS:
            if draw(st.booleans()):
                amount = draw(kpi_values)
                found.append(
                    value(
                        record_id,
                        plan.kpi,
                        None if amount is None else str(amount),
                        period=plan.period,
                        as_of=AS_OF + timedelta(seconds=draw(st.integers(0, 3))),
                    )
                )
    return found


@st.composite
def live_records(draw: st.DrawFn) -> list[LiveRecord]:
    return [
        record(
            record_id,
            Revenue=draw(held),
            Rate=draw(held),
            Buyers=draw(held),
            At=draw(st.sampled_from([None, AS_OF])),
            Foreign=Decimal(1),
        )
        for record_id in draw(st.lists(st.sampled_from(IDS), unique=True))
    ]


@st.composite
def targets(draw: st.DrawFn) -> list[TargetField]:
    scale = draw(st.sampled_from([None, 0, 2, 5]))
    return [
        number("Revenue", scale=scale, precision=None if scale is None else 18),
        draw(st.sampled_from([percent("Rate"), number("Rate", scale=None, precision=None)])),
        number("Buyers", scale=draw(st.sampled_from([None, 0])), precision=None),
        other("At", draw(st.sampled_from([FieldType.DATE, FieldType.DATETIME]))),
        number("Foreign"),
    ]


pushed_values = st.dictionaries(
    st.tuples(st.sampled_from(IDS), st.sampled_from([plan.field for plan in FIELDS])),
    st.one_of(st.none(), amounts),
)


@st.composite
def specs(draw: st.DrawFn) -> WritebackSpec:
    return spec(
        *FIELDS,
        guard=Guard(
            max_records=draw(st.sampled_from([None, 2])),
            max_changed=draw(st.sampled_from([None, Decimal("0.25")])),
            never_blank=draw(st.booleans()),
        ),
        stamp=draw(st.sampled_from([None, "At"])),
        on_edit=draw(st.sampled_from(["restore", "keep"])),
    )


@LIMITS
@given(specs(), values_of(), live_records(), targets(), pushed_values)
def test_a_plan_that_was_applied_leaves_nothing_to_do(
    given_spec: WritebackSpec,
    values: list[KpiValue],
    live: list[LiveRecord],
    fields: list[TargetField],
    pushed: dict[tuple[str, str], Scalar],
) -> None:
    plan = planned(given_spec, values, live, targets=fields, pushed=pushed)
    after = applied(live, plan)
    now_pushed = pushed | {(u.record_id, u.field): u.value for u in plan.updates()}

    again = planned(given_spec, values, after, targets=fields, pushed=now_pushed)

    assert again.updates() == []
    assert again.calls == 0


@LIMITS
@given(specs(), values_of(), live_records(), targets(), pushed_values)
def test_a_plan_touches_its_own_fields_and_live_records_alone(
    given_spec: WritebackSpec,
    values: list[KpiValue],
    live: list[LiveRecord],
    fields: list[TargetField],
    pushed: dict[tuple[str, str], Scalar],
) -> None:
    plan = planned(given_spec, values, live, targets=fields, pushed=pushed)

    own = {one.field for one in FIELDS} | ({given_spec.stamp} if given_spec.stamp else set())
    by_id = {one.record_id: one for one in live}
    assert plan.strangers(given_spec) == ()
    for change in plan.changes:
        assert change.field in own
        assert change.record in by_id
        before = by_id[change.record].values[change.field]
        assert change.old == (None if before == "" else before)
        assert change.old != change.new or change.kind == "kept"
        assert not (given_spec.guard.never_blank and change.kind == "blank")
    assert [c.record for c in plan.changes] == sorted(c.record for c in plan.changes)


@LIMITS
@given(specs(), values_of(), live_records(), targets(), pushed_values)
def test_a_plan_is_the_same_after_json(
    given_spec: WritebackSpec,
    values: list[KpiValue],
    live: list[LiveRecord],
    fields: list[TargetField],
    pushed: dict[tuple[str, str], Scalar],
) -> None:
    plan = planned(given_spec, values, live, targets=fields, pushed=pushed)

    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))

    assert plan.to_json() == again.to_json()
    assert plan.updates() == again.updates()


@LIMITS
@given(values_of(), live_records(), targets())
def test_the_order_of_what_comes_in_does_not_matter(
    values: list[KpiValue], live: list[LiveRecord], fields: list[TargetField]
) -> None:
    plan = planned(spec(*FIELDS), values, live, targets=fields)

    assert plan == planned(spec(*FIELDS), values[::-1], live[::-1], targets=fields[::-1])
