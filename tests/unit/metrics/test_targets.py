from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from metrics.catalog import available
from metrics.periods import Calendar
from metrics.targets import Judge, State, Target
from store.conversion import day_number
from store.kpis import KpiValue

TODAY = date(2026, 11, 15)  # the 46th of the 92 days of the quarter


def judge(*targets: Target, today: date = TODAY) -> Judge:
    return Judge(targets=targets, kpis=available(), calendar=Calendar(), today=day_number(today))


def target(kpi: str, value: str, warn_at: str | None = None, **changes: object) -> Target:
    made = Target(
        kpi=kpi,
        period="quarter",
        value=Decimal(value),
        is_at_least=True,
        warn_at=None if warn_at is None else Decimal(warn_at),
        key="*",
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # as the names say


def value(
    kpi: str, number: str | None, period: str = "2026-Q4", dimension: str = "all", key: str = "*"
) -> KpiValue:
    return KpiValue(
        kpi=kpi,
        period=period,
        dimension=dimension,
        key=key,
        label=None,
        value=None if number is None else Decimal(number),
        numerator=None,
        denominator=None,
        n=1,
        left_out={},
        unit="count",
        currency=None,
        as_of=datetime(2026, 11, 15, tzinfo=UTC),
        definition=f"{kpi}@1",
    )


def test_half_of_a_quarter_paces_a_count_to_twice_its_value() -> None:
    found = judge(target("won_count", "100")).of(value("won_count", "45"))

    assert found.attainment == Decimal("0.45")
    assert found.pace == 90
    assert found.state is State.AT_RISK


def test_a_rate_is_its_own_pace() -> None:
    found = judge(target("win_rate", "0.28")).of(value("win_rate", "0.3"))

    assert (found.pace, found.state) == (Decimal("0.3"), State.ON)


@pytest.mark.parametrize(
    ("number", "state"),
    [
        ("50", State.ON),
        ("49.9", State.AT_RISK),
        ("40", State.AT_RISK),
        ("39.9", State.MISSED),
        (None, State.NO_VALUE),
    ],
)
def test_the_warn_level_separates_at_risk_from_missed_while_the_period_runs(
    number: str | None, state: State
) -> None:
    assert judge(target("won_value", "100", "80")).of(value("won_value", number)).state is state


@pytest.mark.parametrize(
    ("number", "state"), [("9", State.ON), ("10", State.AT_RISK), ("20.1", State.MISSED)]
)
def test_a_count_that_should_stay_below_is_missed_once_it_is_beyond(
    number: str, state: State
) -> None:
    below = target("lost_count", "19", is_at_least=False)
    if state is State.MISSED:
        below = replace(below, value=Decimal(20))

    assert judge(below).of(value("lost_count", number)).state is state


@pytest.mark.parametrize(
    ("period", "number", "state", "pace"),
    [
        ("2026-Q3", "99", State.MISSED, "99"),
        ("2026-Q3", "100", State.ON, "100"),
        ("2027-Q1", "1", State.AT_RISK, "1"),
        ("2026-Q4", "0", State.AT_RISK, "0"),
    ],
)
def test_a_period_that_is_over_is_judged_for_good_and_one_to_come_is_not(
    period: str, number: str, state: State, pace: str
) -> None:
    found = judge(target("won_count", "100")).of(value("won_count", number, period))

    assert (found.state, found.pace) == (state, Decimal(pace))


def test_on_the_last_day_a_period_still_runs_and_its_pace_is_its_value() -> None:
    found = judge(target("won_count", "100"), today=date(2026, 12, 31)).of(value("won_count", "99"))

    assert (found.state, found.pace) == (State.AT_RISK, Decimal(99))


def test_the_most_particular_target_counts() -> None:
    everyone = target("won_count", "10", dimension="owner", key=None)
    ana = target("won_count", "20", dimension="owner", key="crm:ana")
    this_quarter = replace(everyone, period="2026-Q4", value=Decimal(15))
    looked_at = judge(everyone, ana, this_quarter)

    def wanted(dimension: str, key: str, period: str = "2026-Q4") -> Decimal | None:
        found = looked_at.of(value("won_count", "1", period, dimension, key)).target
        return None if found is None else found.value

    assert wanted("owner", "crm:ana") == 20
    assert wanted("owner", "crm:ben") == 15
    assert wanted("owner", "crm:ben", "2026-Q3") == 10
    assert wanted("all", "*") is None
    assert wanted("owner", "crm:ben", "2026-11") is None


def test_a_value_without_a_target_says_so_and_a_target_of_zero_has_no_attainment() -> None:
    nothing = judge().of(value("won_count", "1"))
    zero = judge(target("lost_count", "0", is_at_least=False)).of(value("lost_count", "0"))

    assert nothing.to_json() == {
        "target": None,
        "attainment": None,
        "pace": None,
        "state": "no_target",
    }
    assert (zero.attainment, zero.state) == (None, State.ON)
