"""Twenty KPIs that run amok: none of them reaches the CRM, and each is told in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from connectors.base import FieldType, TargetField
from metrics.catalog import available
from metrics.fitting import Range
from metrics.guards import Behind, declared_range
from metrics.writeback import FieldPlan, Guard, Plan, make_plan
from store.kpis import KpiValue
from store.scalars import encode
from tests.unit.metrics.writeback_cases import TARGETS, number, other, percent, record, spec, value

REVENUE = FieldPlan("KPI_Revenue__c", "revenue", "all", empty=Decimal(0))
WIN_RATE = FieldPlan("KPI_Win_Rate__c", "win_rate", "all", range=Range(Decimal(0), Decimal(1)))
CYCLE = FieldPlan("KPI_Cycle__c", "sales_cycle_days", "all", range=Range(Decimal(0)))
BUYERS = FieldPlan("KPI_Buyers__c", "buyers", "all", range=Range(Decimal(0)))

NAMES = [f"A{n:02}" for n in range(40)]
USUAL = Guard(
    max_records=2000,
    max_changed=None,
    never_blank=True,
    max_shrink=Decimal("0.3"),
    max_jump=10,
)
"""The limits that hold where the configuration says nothing."""


def usual_amount(name: str) -> Decimal:
    return Decimal(1000 + 10 * int(name[1:]))


@dataclass(frozen=True)
class Runaway:
    """What is published this time, against a CRM in which our usual values stand."""

    values: Callable[[], Sequence[KpiValue]]
    reason: str
    plan: FieldPlan = REVENUE
    guard: Guard = USUAL
    held: Callable[[str], Decimal] = usual_amount
    behind: Behind = field(default_factory=Behind)


def revenues(amount: Callable[[str], str | None], *, of: Sequence[str] = NAMES) -> list[KpiValue]:
    return [value(name, "revenue", amount(name)) for name in of]


def usual(name: str) -> str:
    return str(usual_amount(name))


def times(factor: str) -> Callable[[str], str]:
    return lambda name: str(usual_amount(name) * Decimal(factor))


def first(count: int, amount: Callable[[str], str]) -> Callable[[str], str]:
    """The first so many records run away, the others are as usual."""
    return lambda name: amount(name) if int(name[1:]) < count else usual(name)


def shares(amount: str) -> list[KpiValue]:
    return [value(name, "win_rate", amount) for name in NAMES]


def half(_: str) -> Decimal:
    return Decimal(50)


def ten(_: str) -> Decimal:
    return Decimal(10)


RUNAWAYS: Mapping[str, Runaway] = {
    "all blank": Runaway(
        lambda: [value(name, "win_rate", None) for name in NAMES],
        "hold a value that has nothing behind it any more",
        plan=WIN_RATE,
        held=half,
    ),
    "all blank, and blanks are allowed": Runaway(
        lambda: [value(name, "win_rate", None) for name in NAMES],
        "hold a value that has nothing behind it any more",
        plan=WIN_RATE,
        guard=replace(USUAL, never_blank=False),
        held=half,
    ),
    "all not a number": Runaway(lambda: revenues(lambda _: "NaN"), "is NaN, which is no number"),
    "all infinite": Runaway(lambda: revenues(lambda _: "Infinity"), "is Infinity"),
    "one not a number": Runaway(
        lambda: revenues(first(1, lambda _: "NaN")), "A00.KPI_Revenue__c: revenue is NaN"
    ),
    "too large for any field": Runaway(lambda: revenues(lambda _: "1e40"), "too large"),
    "a thousand times as much": Runaway(lambda: revenues(times("1000")), "a factor of 10 or more"),
    "cents for units": Runaway(lambda: revenues(times("100")), "a factor of 10 or more"),
    "a thousandth": Runaway(lambda: revenues(times("0.001")), "a factor of 10 or more"),
    "the sign turned round": Runaway(lambda: revenues(times("-1")), "a factor of 10 or more"),
    "all fallen to zero": Runaway(lambda: revenues(lambda _: "0"), "a factor of 10 or more"),
    "most of them grown tenfold": Runaway(
        lambda: revenues(first(21, times("10"))), "21 of 40 values move by a factor of 10"
    ),
    "40 % changed": Runaway(
        lambda: revenues(first(16, times("1.2"))),
        "16 of 40 records with values (40%) would get another value",
        guard=replace(USUAL, max_changed=Decimal("0.25")),
    ),
    "far beyond the usual moves": Runaway(
        lambda: revenues(times("1.5")),
        "in earlier passes it was 3",
        behind=Behind(past_moves={"KPI_Revenue__c": Decimal(3)}),
    ),
    "more records than allowed": Runaway(
        lambda: revenues(times("1.1")),
        "max_records allows 10",
        guard=replace(USUAL, max_records=10),
    ),
    "a share above one": Runaway(
        lambda: shares("1.01"), "win_rate is 1.01, which cannot be", plan=WIN_RATE, held=half
    ),
    "percent for ratio": Runaway(
        lambda: shares("51"), "its range is 0 to 1", plan=WIN_RATE, held=half
    ),
    "days below zero": Runaway(
        lambda: [value(name, "sales_cycle_days", "-3") for name in NAMES],
        "its range is 0 or more",
        plan=CYCLE,
        held=ten,
    ),
    "a count below zero": Runaway(
        lambda: [value(name, "buyers", "-1") for name in NAMES],
        "its range is 0 or more",
        plan=BUYERS,
        held=ten,
    ),
    "money in a percent field": Runaway(
        lambda: [replace(one, unit="money") for one in shares("0.5")],
        "which a percent field would show wrongly",
        plan=WIN_RATE,
        held=half,
    ),
    "the source shrank": Runaway(
        lambda: revenues(times("1.01")),
        "the stored deals fell from 400 to 120",
        behind=Behind(now={"records:deals": 120}, before={"records:deals": 400}),
    ),
    "half of the values are gone": Runaway(
        lambda: revenues(usual, of=NAMES[:20]),
        "the records with a value for KPI_Revenue__c fell from 40 to 20",
        behind=Behind(before={"values:KPI_Revenue__c": 40}),
    ),
    "counted from far fewer records": Runaway(
        lambda: [replace(one, n=1) for one in revenues(times("1.01"))],
        "the records counted in KPI_Revenue__c fell from 280 to 40",
        behind=Behind(before={"records behind:KPI_Revenue__c": 280}),
    ),
}


def planned(runaway: Runaway) -> Plan:
    name = runaway.plan.field
    targets = (*TARGETS, number("KPI_Cycle__c"), number("KPI_Buyers__c", scale=0))
    return make_plan(
        spec(runaway.plan, guard=runaway.guard),
        values=list(runaway.values()),
        targets={target.name: target for target in targets},
        live=[record(one, **{name: runaway.held(one)}) for one in NAMES],
        pushed={(one, name): encode(runaway.held(one)) for one in NAMES},
        deleted_ids=(),
        push_batch=200,
        behind=runaway.behind,
    )


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_kpi_that_runs_amok_is_stopped_and_named(name: str) -> None:
    plan = planned(RUNAWAYS[name])

    assert not plan.guard.ok
    assert RUNAWAYS[name].reason in str(plan.guard.reason)


def test_there_are_twenty_of_them() -> None:
    assert len(RUNAWAYS) >= 20


@pytest.mark.parametrize(
    ("name", "values", "behind"),
    [
        ("nothing moved", revenues(usual), Behind()),
        ("everybody grew a little", revenues(times("1.1")), Behind()),
        ("some grew a thousandfold", revenues(first(20, times("1000"))), Behind()),
        ("some lost their only deal", revenues(first(20, lambda _: "0")), Behind()),
        (
            "a few deals less",
            revenues(times("1.01")),
            Behind(now={"records:deals": 390}, before={"records:deals": 400}),
        ),
        (
            "what is small may shrink",
            revenues(times("1.01")),
            Behind(now={"records:campaigns": 1}, before={"records:campaigns": 9}),
        ),
    ],
)
def test_a_usual_day_passes(name: str, values: list[KpiValue], behind: Behind) -> None:
    plan = planned(Runaway(lambda: values, "", behind=behind))

    assert plan.guard.ok, f"{name}: {plan.guard.reason}"


def test_a_period_that_has_just_begun_starts_from_nothing() -> None:
    quarter = replace(REVENUE, period="2026-Q3")
    fresh = replace(spec(quarter, guard=USUAL), rolled=frozenset({"KPI_Revenue__c"}))

    plan = make_plan(
        fresh,
        values=[value(name, "revenue", "5", period="2026-Q3") for name in NAMES],
        targets={target.name: target for target in TARGETS},
        live=[record(one, KPI_Revenue__c=usual_amount(one)) for one in NAMES],
        pushed={(one, "KPI_Revenue__c"): encode(usual_amount(one)) for one in NAMES},
        deleted_ids=(),
        push_batch=200,
        behind=Behind(before={"records behind:KPI_Revenue__c": 4000}),
    )

    assert plan.guard.ok
    assert len(plan.changes) == 40


def test_values_that_lost_their_ground_long_ago_are_no_news() -> None:
    blanks = [value(name, "win_rate", None) for name in NAMES[:20]]
    rest = [value(name, "win_rate", "0.5") for name in NAMES[20:]]
    known = Behind(before={"unfounded": 17, "values:KPI_Win_Rate__c": 23})

    plan = planned(Runaway(lambda: [*blanks, *rest], "", plan=WIN_RATE, held=half, behind=known))
    news = planned(Runaway(lambda: [*blanks, *rest], "", plan=WIN_RATE, held=half))

    assert plan.guard.ok, plan.guard.reason
    assert plan.counts["unfounded"] == 20
    assert not news.guard.ok


def test_faults_are_for_nobody_to_accept_and_amounts_are_for_a_person() -> None:
    assert not planned(RUNAWAYS["all not a number"]).guard.may_accept
    assert not planned(RUNAWAYS["percent for ratio"]).guard.may_accept
    assert planned(RUNAWAYS["a thousand times as much"]).guard.may_accept
    assert planned(RUNAWAYS["40 % changed"]).guard.may_accept


def test_every_share_lies_between_nothing_and_all() -> None:
    ranges = {name: declared_range(kpi) for name, kpi in available().items()}

    assert Decimal("1.01") not in ranges["win_rate"]
    assert Decimal(-1) not in ranges["won_count"]
    assert Decimal(-500) in ranges["revenue"]


# ---------------------------------------------------------------- words, bands, empty values

BANDED = FieldPlan(
    "KPI_Class__c",
    "win_rate",
    "all",
    bands=(("low", Decimal(0)), ("mid", Decimal("0.2")), ("high", Decimal("0.4"))),
)


@pytest.mark.parametrize(
    ("rate", "word"), [("0", "low"), ("0.1999", "low"), ("0.2", "mid"), ("0.9", "high")]
)
def test_a_band_holds_from_its_threshold_on(rate: str, word: str) -> None:
    plan = text_plan(BANDED, value("A1", "win_rate", rate))

    assert [change.new for change in plan.changes] == [word]


def test_values_in_words_and_labels_of_groups() -> None:
    rate = replace(
        value("A1", "win_rate", "0.8207"),
        label="Account 0001",
        numerator=Decimal(531),
        denominator=Decimal(647),
    )

    words = text_plan(replace(BANDED, bands=(), show="words"), rate)
    label = text_plan(replace(BANDED, bands=(), show="label"), rate)

    slowest = replace(rate, unit="text", value=None, words="hubspot:12", named="Offer made")
    stage = text_plan(replace(BANDED, bands=(), show="words"), slowest)

    assert [change.new for change in words.changes] == ["82.1 % (531 of 647)"]
    assert [change.new for change in label.changes] == ["Account 0001"]
    assert [change.new for change in stage.changes] == ["Offer made"]


def test_words_need_a_text_field_and_must_fit_into_it() -> None:
    short = replace(other("KPI_Class__c", FieldType.TEXT), length=2)
    into_number = text_plan(BANDED, value("A1", "win_rate", "0.5"), number("KPI_Class__c"))
    too_long = text_plan(BANDED, value("A1", "win_rate", "0.5"), short)

    assert "give it a text field" in str(into_number.guard.reason)
    assert "has 4 characters, the field holds 2" in str(too_long.guard.reason)


@pytest.mark.parametrize(
    ("when_empty", "kind", "new"),
    [("keep", "kept", Decimal(50)), ("clear", "blank", None), ("0", "change", Decimal(0))],
)
def test_each_field_says_what_stands_there_without_a_value(
    when_empty: str, kind: str, new: Decimal | None
) -> None:
    plan = make_plan(
        spec(replace(WIN_RATE, when_empty=when_empty)),
        values=[value("A1", "win_rate", None)],
        targets={"KPI_Win_Rate__c": percent("KPI_Win_Rate__c")},
        live=[record("A1", KPI_Win_Rate__c=Decimal(50))],
        pushed={("A1", "KPI_Win_Rate__c"): "50"},
        deleted_ids=(),
        push_batch=200,
    )

    assert [(change.kind, change.new) for change in plan.changes] == [(kind, new)]


def test_a_value_of_another_dimension_goes_to_every_record_of_its_group() -> None:
    by_owner = replace(REVENUE, by="owner")
    everywhere = FieldPlan("KPI_All__c", "revenue", "all", by="all")

    plan = make_plan(
        spec(by_owner, everywhere),
        values=[
            value("U1", "revenue", "70", dimension="owner"),
            replace(value("x", "revenue", "90", dimension="all"), key="*"),
        ],
        targets={one: number(one) for one in ("KPI_Revenue__c", "KPI_All__c")},
        live=[record("A1"), record("A2"), record("A3")],
        pushed={},
        deleted_ids=(),
        push_batch=200,
        places={"owner": {"sf:U1": ["A1", "A2"]}, "all": {"*": ["A1", "A2", "A3"]}},
    )

    assert [(change.record, change.field, change.new) for change in plan.changes] == [
        ("A1", "KPI_Revenue__c", Decimal(70)),
        ("A1", "KPI_All__c", Decimal(90)),
        ("A2", "KPI_Revenue__c", Decimal(70)),
        ("A2", "KPI_All__c", Decimal(90)),
        ("A3", "KPI_All__c", Decimal(90)),
    ]


def text_plan(field_plan: FieldPlan, one: KpiValue, target: TargetField | None = None) -> Plan:
    described = target or other("KPI_Class__c", FieldType.TEXT)
    return make_plan(
        spec(field_plan),
        values=[one],
        targets={"KPI_Class__c": described},
        live=[record("A1")],
        pushed={},
        deleted_ids=(),
        push_batch=200,
    )
