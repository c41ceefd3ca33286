"""How far a value can be trusted: on how few records it rests, and within which bounds it lies."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

from metrics.definition import Kpi
from metrics.expression import tree
from metrics.expression.definition import CustomKpi
from store.kpis import KpiValue

SMALL: Final = 20
"""Fewer records than this say little."""

LEVEL: Final = Decimal("0.95")
_Z: Final = Decimal("1.959963984540054")
"""The quantile of the normal distribution that leaves 2.5 % on each side."""

_DIGITS: Final = Decimal("0.000001")
_EXACT: Final = Context(prec=50)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true share lies, nineteen times out of twenty."""

    low: Decimal
    high: Decimal

    def to_json(self) -> dict[str, str]:
        """The bounds as strings, with the level."""
        return {"low": f"{self.low:f}", "high": f"{self.high:f}", "level": f"{LEVEL:f}"}


def is_small(value: KpiValue) -> bool:
    """Whether a value rests on so few records that chance alone may have made it."""
    return value.n < SMALL


def interval_of(kpi: Kpi | None, value: KpiValue) -> Interval | None:
    """The interval of a share; None for what is none, or has no value."""
    if kpi is None or value.numerator is None or not value.denominator:
        return None
    is_share = kpi.is_share if kpi.custom is None else _is_custom_share(kpi.custom)
    return wilson(value.numerator, value.denominator) if is_share else None


def _is_custom_share(custom: CustomKpi) -> bool:
    """Whether an expression shows that what is above the line is also counted below it."""
    above, below = custom.above, custom.below
    if below is None or (above.function, below.function) != ("count", "count"):
        return False
    match above.where, below.where:
        case _, None:
            return True
        case one, tree.Or(parts) if one in parts:
            return True
        case tree.And(parts), one if one in parts:
            return True
    return above.where == below.where


def wilson(part: Decimal, whole: Decimal) -> Interval | None:
    """Wilson's score interval of a share, with six digits.

    Wilson, E. B. (1927): Probable inference, the law of succession, and statistical inference.

    Args:
        part: how many of them.
        whole: how many there are, above zero.

    Returns:
        None where `part` is no part of `whole`: more opens than deliveries, say.
    """
    if not 0 <= part <= whole:
        return None
    share = _EXACT.divide(part, whole)
    square = _EXACT.multiply(_Z, _Z)
    shrunk = _EXACT.divide(square, whole)
    spread = _EXACT.add(
        _EXACT.divide(_EXACT.multiply(share, _EXACT.subtract(Decimal(1), share)), whole),
        _EXACT.divide(shrunk, _EXACT.multiply(Decimal(4), whole)),
    )
    middle = _EXACT.add(share, _EXACT.divide(shrunk, Decimal(2)))
    half = _EXACT.multiply(_Z, _EXACT.sqrt(spread))
    scale = _EXACT.add(Decimal(1), shrunk)
    return Interval(
        _rounded(_EXACT.divide(_EXACT.subtract(middle, half), scale)),
        _rounded(_EXACT.divide(_EXACT.add(middle, half), scale)),
    )


def _rounded(bound: Decimal) -> Decimal:
    inside = min(max(bound, Decimal(0)), Decimal(1))
    return inside.quantize(_DIGITS, ROUND_HALF_UP)
