"""From the sums of cells to the value of a KPI, in Decimal.

Sums are exact; the one division of a value comes last and is rounded half-up to 28 digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final, TypeAlias

from metrics.catalog import Catalog
from metrics.definition import Family, Kpi, Part, Sum, Term, Unit
from store.kpis import Content
from store.money import minor_units

DIGITS: Final = Context(prec=28, rounding=ROUND_HALF_UP)
"""Precision and rounding of every published value."""

_EXACT: Final = Context(prec=120)
_MILLION: Final = 6
_NOTHING: Final = Decimal(0)

Tally: TypeAlias = list[Any]
"""One number for each term: money is Decimal in major units of the company's currency, everything
else is int."""

FIRST_MEASURE: Final = 5
"""Where the measures begin in a row of sums: after dimension, key, start, currency, bucket."""
_CURRENCY: Final = 3
_BUCKET: Final = 4


class Formulas:
    """The formulas of the KPIs above one family."""

    def __init__(self, family: Family, catalog: Catalog, kpis: Sequence[Kpi]) -> None:
        terms: dict[Term, int] = {}
        currency = catalog.company.currency
        self._formulas = {kpi.name: _Formula(kpi, terms, currency) for kpi in kpis}
        self._terms = [
            (
                position,
                FIRST_MEASURE + family.measures.index(term.measure),
                term.part,
                term.measure in family.money,
            )
            for term, position in terms.items()
        ]
        self._has_money = bool(family.money)
        rates = {**catalog.settings.rates, currency: Decimal(1)}
        self._factors = {
            name: rate.scaleb(-minor_units(name), _EXACT) for name, rate in rates.items()
        }

    def empty(self) -> Tally:
        """A tally of nothing."""
        return [0] * len(self._terms)

    def add(self, tally: Tally, row: Sequence[Any]) -> None:
        """Add the sums of one currency (and bucket)."""
        if not self._has_money:
            for position, column, _, _ in self._terms:
                tally[position] += row[column]
            return
        factor = self._factors.get(row[_CURRENCY])
        parts = _parts(row[_CURRENCY], factor, row[_BUCKET])
        for position, column, part, is_money in self._terms:
            if not is_money:
                if part in parts:
                    tally[position] += row[column]
            elif factor is not None and (part is not Part.WEIGHTED or Part.WEIGHABLE in parts):
                amount = _EXACT.multiply(Decimal(row[column]), factor)
                if part is Part.WEIGHTED:
                    weight = Decimal(row[_BUCKET]).scaleb(-_MILLION, _EXACT)
                    amount = _EXACT.multiply(amount, weight)
                tally[position] = _EXACT.add(amount, tally[position])

    def content(self, kpi: Kpi, tally: Tally) -> Content | None:
        """The value of a KPI; None where the tally has no record of it, used or left out."""
        return self._formulas[kpi.name].content(tally)

    def emptied(self, kpi: Kpi) -> Content:
        """What becomes of a value whose records are all gone."""
        return self._formulas[kpi.name].emptied


class _Formula:
    """One KPI, its terms as positions in a tally."""

    def __init__(self, kpi: Kpi, terms: dict[Term, int], currency: str) -> None:
        def positions(wanted: Sum) -> tuple[int, ...]:
            return tuple(terms.setdefault(term, len(terms)) for term in wanted)

        self._numerator = positions(kpi.numerator)
        self._denominator = None if kpi.denominator is None else positions(kpi.denominator)
        self._used = positions(kpi.used)
        self._left_out = [(name, positions(kpi.left_out[name])) for name in sorted(kpi.left_out)]
        self._divisor = None if kpi.divisor == 1 else Decimal(kpi.divisor)
        self._unit = kpi.unit.value
        self._currency = currency if kpi.unit is Unit.MONEY else None
        self._definition = kpi.formula
        self.emptied = self._content(
            _NOTHING if kpi.empties_to_zero else None,
            _NOTHING,
            None if kpi.empties_to_zero else _NOTHING,
            0,
            "{}",
        )

    def content(self, tally: Tally) -> Content | None:
        n = _added(tally, self._used)
        left_out = [
            f'"{reason}": {count}'
            for reason, positions in self._left_out
            if (count := _added(tally, positions))
        ]
        if not n and not left_out:
            return None
        exact = Decimal(_added(tally, self._numerator))
        divisor = self._divisor
        numerator = DIGITS.plus(exact) if divisor is None else DIGITS.divide(exact, divisor)
        reasons = "{" + ", ".join(left_out) + "}"
        if self._denominator is None:
            return self._content(numerator, numerator, None, n, reasons)
        denominator = Decimal(_added(tally, self._denominator))
        whole = denominator if divisor is None else _EXACT.multiply(denominator, divisor)
        value = DIGITS.divide(exact, whole) if denominator else None
        return self._content(value, numerator, DIGITS.plus(denominator), n, reasons)

    def _content(
        self,
        value: Decimal | None,
        numerator: Decimal,
        denominator: Decimal | None,
        n: int,
        left_out: str,
    ) -> Content:
        return Content(
            value,
            numerator,
            denominator,
            n,
            left_out,
            self._unit,
            self._currency,
            self._definition,
        )


def _added(tally: Tally, positions: tuple[int, ...]) -> Any:
    if len(positions) == 1:
        return tally[positions[0]]
    total: Any = 0
    for position in positions:
        number = tally[position]
        total = _EXACT.add(number, total) if isinstance(number, Decimal) else total + number
    return total


_UNKNOWN_AMOUNT: Final = frozenset({Part.ALL, Part.NO_AMOUNT})
_UNKNOWN_RATE: Final = frozenset({Part.ALL, Part.NO_RATE})
_WEIGHABLE: Final = frozenset({Part.ALL, Part.PRICED, Part.WEIGHABLE})
_NOT_WEIGHABLE: Final = frozenset({Part.ALL, Part.PRICED, Part.NO_WEIGHT})


def _parts(currency: str, factor: Decimal | None, bucket: int) -> frozenset[Part]:
    """The parts to which the records of a cell belong."""
    if not currency:
        return _UNKNOWN_AMOUNT
    if factor is None:
        return _UNKNOWN_RATE
    return _WEIGHABLE if bucket >= 0 else _NOT_WEIGHABLE
