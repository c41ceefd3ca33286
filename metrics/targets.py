"""Objectives: what KPIs should reach, and how far they are.

A count or a sum grows while its period runs, so it is judged by its pace: what it comes to at the
period's end if the rest of the days bring as much as those before. Everything else is judged as it
stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

from metrics.definition import Direction, Kpi
from metrics.dimensions import TOTAL_NAME
from metrics.periods import Calendar, Kind, is_rolling, kind_of, period_of
from store.kpis import KpiValue

_DIGITS: Final = Context(prec=28, rounding=ROUND_HALF_UP)


class State(StrEnum):
    """How a value stands beside its target."""

    ON = "on"
    AT_RISK = "at_risk"
    MISSED = "missed"
    NO_VALUE = "no_value"
    """There is a target, but nothing to judge."""
    NO_TARGET = "no_target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a KPI should reach in periods of a kind, or in one."""

    kpi: str
    period: str
    """A kind (every period of it is measured, the running one is watched), or a label."""
    value: Decimal
    is_at_least: bool
    """The value is to be reached; else it is not to be passed."""
    warn_at: Decimal | None = None
    dimension: str = TOTAL_NAME
    key: str | None = None
    """One group; None: each of the dimension's."""
    owner: str | None = None

    def concerns(self, value: KpiValue) -> bool:
        """Whether a value is measured by it."""
        if (value.kpi, value.dimension) != (self.kpi, self.dimension):
            return False
        if self.key is not None and value.key != self.key:
            return False
        return self.period in {value.period, str(kind_of(value.period))}

    def watched_period(self, calendar: Calendar, today: int) -> str:
        """The label of the period that is watched now."""
        if self.period in set(Kind) - {Kind.ALL, Kind.NOW}:
            return period_of(calendar, Kind(self.period), today).label
        return self.period


@dataclass(frozen=True, slots=True)
class Judged:
    """A value beside its target."""

    target: Target | None
    attainment: Decimal | None
    """The value divided by the target's."""
    pace: Decimal | None
    """What the value comes to at the end of its period."""
    state: State

    def to_json(self) -> dict[str, object]:
        """As columns beside a value's."""
        target = self.target
        return {
            "target": None if target is None else format(target.value, "f"),
            "attainment": None if self.attainment is None else format(self.attainment, "f"),
            "pace": None if self.pace is None else format(self.pace, "f"),
            "state": str(self.state),
        }


NOT_JUDGED: Final = Judged(None, None, None, State.NO_TARGET)


@dataclass(frozen=True, slots=True)
class Judge:
    """Measures values by targets, as of a day."""

    targets: Sequence[Target]
    kpis: Mapping[str, Kpi]
    calendar: Calendar
    today: int
    """The company's local day, as in the store."""

    def of(self, value: KpiValue) -> Judged:
        """A value beside its target; the most particular one where there are several."""
        found = [target for target in self.targets if target.concerns(value)]
        kpi = self.kpis.get(value.kpi)
        if not found or kpi is None:
            return NOT_JUDGED
        target = max(found, key=_particularity)
        return self.judged(target, kpi, value.period, value.value)

    def judged(self, target: Target, kpi: Kpi, period: str, value: Decimal | None) -> Judged:
        """A number of a period beside a target."""
        if value is None:
            return Judged(target, None, None, State.NO_VALUE)
        attainment = None if not target.value else _DIGITS.divide(value, target.value)
        share, is_over = self._elapsed(period)
        pace = value
        if kpi.empties_to_zero and share is not None:
            projected = Fraction(value) / share
            pace = _DIGITS.divide(Decimal(projected.numerator), Decimal(projected.denominator))
        is_growing = kpi.empties_to_zero and share is not None and not is_over
        state = _state(target, value, pace, is_over=is_over, is_growing=is_growing)
        return Judged(target, attainment, pace, state)

    def _elapsed(self, label: str) -> tuple[Fraction | None, bool]:
        """The share of a period's days that have begun, and whether it is over.

        None: it has no end, or has not begun.
        """
        kind = kind_of(label)
        if kind in {Kind.ALL, Kind.NOW} or is_rolling(kind):
            return None, False
        running = period_of(self.calendar, Kind(kind), self.today)
        if running.label == label:
            return Fraction(self.today - running.start + 1, running.stop - running.start), False
        # Labels of one kind are ordered as their periods are.
        return (Fraction(1), True) if label < running.label else (None, False)


def _state(
    target: Target, value: Decimal, pace: Decimal, *, is_over: bool, is_growing: bool
) -> State:
    if _meets(target, pace, target.value):
        return State.ON
    if is_over:
        return State.MISSED
    if is_growing and not target.is_at_least and value > target.value:
        # What only grows does not come back.
        return State.MISSED
    if target.warn_at is None or _meets(target, pace, target.warn_at):
        return State.AT_RISK
    return State.MISSED


def _meets(target: Target, value: Decimal, bound: Decimal) -> bool:
    return value >= bound if target.is_at_least else value <= bound


def _particularity(target: Target) -> tuple[bool, bool]:
    is_one_period = target.period not in set(Kind)
    return (target.key is not None, is_one_period)


def direction_fits(kpi: Kpi, *, is_at_least: bool) -> bool:
    """Whether a target points the way in which the KPI gets better."""
    wrong = Direction.DOWN if is_at_least else Direction.UP
    return kpi.direction is not wrong
