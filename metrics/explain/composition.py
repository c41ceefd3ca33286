"""KPIs that are made of other KPIs: which, and how they combine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, TypeAlias

from metrics.verify.book import View
from metrics.verify.periods import Period, period_of
from metrics.verify.recipes import Ask

_YEAR: Final = Fraction(1461, 4)


@dataclass(frozen=True, slots=True)
class Scale:
    """What the parts are multiplied with beside each other."""

    days: Fraction
    months: Fraction
    margin: Fraction


def scale_of(view: View, ask: Ask) -> Scale:
    """The length of a view's period, and the margin of the settings."""
    margin = Fraction(1) if ask.own.margin is None else Fraction(ask.own.margin)
    return Scale(view.period.years * _YEAR, view.period.years * 12, margin)


Combine: TypeAlias = Callable[[tuple[Fraction, ...], Scale], Fraction | None]


@dataclass(frozen=True, slots=True)
class Part:
    """Another KPI, of the same group."""

    kpi: str
    span: str = "period"

    def view(self, whole: View) -> View:
        """What it looks at where the whole looks at `whole`."""
        if self.span == "period":
            return whole
        start, stop = whole.bounds(self.span)
        if self.span == "previous":
            kind = whole.period.kind
            label = f"{kind} before"
            if start and not kind.startswith("last_"):
                label = period_of(kind, start, whole.calendar).label
            return replace(whole, period=Period(kind, label, start, stop))
        return replace(whole, period=Period(self.span, self.span, start, stop))


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts of a KPI and how they make its value."""

    words: str
    parts: tuple[Part, ...]
    combine: Combine


def _of(words: str, combine: Combine, *parts: str) -> Composition:
    return Composition(words, tuple(Part(name) for name in parts), combine)


def _cltv(parts: tuple[Fraction, ...], scale: Scale) -> Fraction | None:
    value, days = parts
    return value * days / scale.days * scale.margin if scale.days else None


def _payback(parts: tuple[Fraction, ...], scale: Scale) -> Fraction | None:
    cac, revenue, buyers = parts
    monthly = revenue / buyers / scale.months * scale.margin if buyers and scale.months else None
    return cac / monthly if monthly else None


def _velocity(parts: tuple[Fraction, ...], _: Scale) -> Fraction | None:
    open_count, win_rate, value, cycle = parts
    return open_count * win_rate * value / cycle if cycle else None


COMPOSITIONS: Final[Mapping[str, Composition]] = {
    "customer_value": _of(
        "avg_purchase_value x purchase_frequency",
        lambda parts, _: parts[0] * parts[1],
        "avg_purchase_value",
        "purchase_frequency",
    ),
    "cltv": _of(
        "customer_value x customer_lifespan_days / days of the period x margin",
        _cltv,
        "customer_value",
        "customer_lifespan_days",
    ),
    "ltv_cac": _of(
        "cltv / cac",
        lambda parts, _: parts[0] / parts[1] if parts[1] else None,
        "cltv",
        "cac",
    ),
    "payback_months": _of(
        "cac / (revenue / buyers / months of the period x margin)",
        _payback,
        "cac",
        "revenue",
        "buyers",
    ),
    "nps_change": Composition(
        "nps - nps of the period before",
        (Part("nps"), Part("nps", "previous")),
        lambda parts, _: parts[0] - parts[1],
    ),
    "pipeline_velocity": Composition(
        "open_count x win_rate x avg_deal_value / sales_cycle_days, "
        "the last three over the last 90 days",
        (
            Part("open_count"),
            Part("win_rate", "last_90d"),
            Part("avg_deal_value", "last_90d"),
            Part("sales_cycle_days", "last_90d"),
        ),
        _velocity,
    ),
}
"""KPI -> what it is made of."""
