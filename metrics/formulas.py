"""From the sums of cells to the value of a KPI, in Decimal.

Sums are exact; the one division of a value comes last and is rounded half-up to 28 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from metrics.definition import (
    MONEY_UNITS,
    Bucket,
    Family,
    Kpi,
    Part,
    PeriodLength,
    Ratio,
    Sum,
    Term,
    Total,
)
from metrics.rates import RateBook
from store.kpis import Content

DIGITS: Final = Context(prec=28, rounding=ROUND_HALF_UP)
"""Precision and rounding of every published value."""

_EXACT: Final = Context(prec=120)
_MILLION: Final = 6
_NOTHING: Final = Decimal(0)

Tally: TypeAlias = list[Any]
"""One number for each term: money is Decimal in major units of the company's currency, shares are
fractions, everything else is int."""

FIRST_MEASURE: Final = 6
"""Where the measures begin in a row of sums: after dimension, key, start, currency, since,
bucket."""
_CURRENCY: Final = 3
_SINCE: Final = 4
_BUCKET: Final = 5


class Tallies:
    """How the sums of one family's cells become the numbers of terms."""

    def __init__(
        self, family: Family, terms: Sequence[Term], positions: Mapping[Term, int], book: RateBook
    ) -> None:
        """Look where each term's measure stands.

        Args:
            family: whose cells are read.
            terms: those of the family.
            positions: each term's place in a tally.
            book: the rates.
        """
        self._terms = [
            (
                positions[term],
                FIRST_MEASURE + family.measures.index(term.measure),
                term.part,
                term.measure in family.money,
            )
            for term in terms
        ]
        self._age = FIRST_MEASURE + len(family.measures)
        self._bucket = family.bucket
        self._has_money = bool(family.money)
        self._book = book
        self._factors: dict[tuple[str, int | None], Decimal | None] = {}

    def add(self, tally: Tally, row: Sequence[Any]) -> None:
        """Add the sums of one currency (and bucket)."""
        if not self._has_money:
            for position, column, _, _ in self._terms:
                tally[position] += row[column]
            return
        currency = row[_CURRENCY]
        place = (currency, row[_SINCE])
        if place not in self._factors:
            self._factors[place] = self._book.factor(*place) if currency else None
        factor = self._factors[place]
        parts = _parts(currency, factor, self._bucket, row[_BUCKET])
        for position, column, part, is_money in self._terms:
            if part not in parts:
                continue
            if part is Part.AGE:
                tally[position] += row[self._age]
            elif is_money:
                if factor is not None:
                    amount = _EXACT.multiply(Decimal(row[column]), factor)
                    tally[position] = _plus(tally[position], self._weighed(amount, part, row))
            elif part in _SHARED:
                tally[position] += Fraction(row[column], row[_BUCKET])
            else:
                tally[position] += row[column]

    @staticmethod
    def _weighed(amount: Decimal, part: Part, row: Sequence[Any]) -> Decimal | Fraction:
        if part is Part.WEIGHTED:
            weight = Decimal(row[_BUCKET]).scaleb(-_MILLION, _EXACT)
            return _EXACT.multiply(amount, weight)
        if part in _SHARED:
            return Fraction(amount) / int(row[_BUCKET])
        return amount


def _plus(one: Any, other: Decimal | Fraction) -> Any:
    if isinstance(one, Fraction) or isinstance(other, Fraction):
        return Fraction(one) + Fraction(other)
    return _EXACT.add(other, one)


_SHARED: Final = frozenset(
    {Part.SHARED, Part.SHARED_PRICED, Part.SHARED_NO_AMOUNT, Part.SHARED_NO_RATE}
)


def _parts(currency: str, factor: Decimal | None, kind: Bucket, bucket: int) -> frozenset[Part]:
    """The parts to which the records of a cell belong."""
    if not currency:
        state = "NO_AMOUNT"
    elif factor is None:
        state = "NO_RATE"
    else:
        state = "PRICED"
    return _PARTS[state, kind, bucket >= 0 if kind is Bucket.PROBABILITY else bucket == 1]


def _all_parts() -> dict[tuple[str, Bucket, bool], frozenset[Part]]:
    found: dict[tuple[str, Bucket, bool], frozenset[Part]] = {}
    for state in ("NO_AMOUNT", "NO_RATE", "PRICED"):
        for kind in Bucket:
            for is_marked in (False, True):
                parts = {Part.ALL, Part[state]}
                if kind is Bucket.PROBABILITY and state == "PRICED":
                    parts |= {Part.WEIGHABLE, Part.WEIGHTED} if is_marked else {Part.NO_WEIGHT}
                if kind is Bucket.INSTANT:
                    parts.add(Part.AGE)
                    if is_marked:
                        parts |= {Part.PAST, Part[f"PAST_{state}"]}
                if kind is Bucket.SHARES:
                    parts |= {Part.SHARED, Part[f"SHARED_{state}"]}
                found[state, kind, is_marked] = frozenset(parts)
    return found


_PARTS: Final = _all_parts()


# ---------------------------------------------------------------- values


_NO_LENGTH: Final = PeriodLength()


class Formula:
    """One KPI, its terms as positions in a tally."""

    def __init__(self, kpi: Kpi, terms: dict[Term, int], currency: str) -> None:
        """Give each term a position.

        Args:
            kpi: whose values are wanted.
            terms: positions of terms so far; those of the KPI are added.
            currency: the company's.
        """

        def positions(wanted: Sum) -> tuple[tuple[int, int], ...]:
            return tuple(
                (terms.setdefault(_unsigned(term), len(terms)), term.sign) for term in wanted
            )

        composed = kpi.composed
        above, below = kpi.numerator, kpi.denominator
        self._composed = composed
        if (
            isinstance(composed, Ratio)
            and isinstance(composed.above, Total)
            and isinstance(composed.below, Total)
        ):
            above, below, self._composed = composed.above.terms, composed.below.terms, None
        if self._composed is not None:
            positions(self._composed.terms)
        self._positions = terms
        self._numerator = positions(above)
        self._denominator = None if below is None else positions(below)
        self._used = positions(kpi.used)
        self._left_out = [(name, positions(kpi.left_out[name])) for name in sorted(kpi.left_out)]
        self._divisor = None if kpi.divisor == 1 else Decimal(kpi.divisor)
        self._factor = kpi.factor
        self._unit = kpi.unit.value
        self._currency = currency if kpi.unit in MONEY_UNITS else None
        self._definition = kpi.formula
        is_sum = kpi.empties_to_zero
        has_parts = self._composed is None and kpi.percentile is None
        self.emptied = self._content(
            _NOTHING if is_sum else None,
            _NOTHING if has_parts else None,
            None if is_sum or not has_parts else _NOTHING,
            0,
            "{}",
        )

    def content(self, tally: Tally, length: PeriodLength = _NO_LENGTH) -> Content | None:
        """The value; None where the tally has no record of it, used or left out."""
        n = int(_added(tally, self._used))
        reasons = self._reasons(tally)
        if not n and reasons == "{}":
            return None
        if self._composed is not None:
            exact = self._composed.value(self._look(tally), length)
            return self._content(_decimal(exact, self._divisor), None, None, n, reasons)
        above = _added(tally, self._numerator)
        numerator = _quotient(above, self._divisor)
        if self._denominator is None:
            return self._content(numerator, numerator, None, n, reasons)
        below = _added(tally, self._denominator)
        denominator = _quotient(below, None)
        if not below:
            return self._content(None, numerator, denominator, n, reasons)
        if isinstance(above, Fraction) or isinstance(below, Fraction) or self._factor != 1:
            ratio = Fraction(above) * self._factor / Fraction(below)
            return self._content(_decimal(ratio, self._divisor), numerator, denominator, n, reasons)
        whole = Decimal(below)
        if self._divisor is not None:
            whole = _EXACT.multiply(whole, self._divisor)
        value = DIGITS.divide(Decimal(above), whole)
        return self._content(value, numerator, denominator, n, reasons)

    def of_percentile(
        self, count: int, value: Decimal | Fraction | None, reasons: Mapping[str, int]
    ) -> Content | None:
        """The content of a percentile; None where nothing was counted or left out."""
        left_out = _json(reasons)
        if not count and left_out == "{}":
            return None
        exact = None if value is None else Fraction(value)
        return self._content(_decimal(exact, self._divisor), None, None, count, left_out)

    def of_words(self, words: str | None, n: int) -> Content:
        """The content of a value that is a text."""
        return self._content(None, None, None, n, "{}", words)

    def left_out(self, tally: Tally) -> dict[str, int]:
        """Reason -> how many records are missing from the value."""
        return {
            name: int(count)
            for name, positions in self._left_out
            if (count := _added(tally, positions))
        }

    def _look(self, tally: Tally) -> Callable[[Term], Fraction]:
        return lambda term: Fraction(tally[self._positions[_unsigned(term)]])

    def _reasons(self, tally: Tally) -> str:
        # Asked of every value, and most have nothing to tell.
        for _, positions in self._left_out:
            if _added(tally, positions):
                return _json(self.left_out(tally))
        return "{}"

    def _content(  # noqa: PLR0917 - the columns of a row
        self,
        value: Decimal | None,
        numerator: Decimal | None,
        denominator: Decimal | None,
        n: int,
        left_out: str,
        words: str | None = None,
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
            words,
        )


_SHORT: Final = 10**28
"""Whole numbers below it have no digit to round."""


def _unsigned(term: Term) -> Term:
    return term if term.sign == 1 else -term


def _json(reasons: Mapping[str, int]) -> str:
    parts = (f'"{reason}": {count}' for reason, count in sorted(reasons.items()))
    return "{" + ", ".join(parts) + "}"


def _quotient(number: Any, divisor: Decimal | None) -> Decimal:
    if divisor is None and type(number) is int and -_SHORT < number < _SHORT:
        return Decimal(number)
    if isinstance(number, Fraction):
        return _decimal(number, divisor) or _NOTHING
    exact = Decimal(number)
    return DIGITS.plus(exact) if divisor is None else DIGITS.divide(exact, divisor)


def _decimal(exact: Fraction | None, divisor: Decimal | None) -> Decimal | None:
    if exact is None:
        return None
    if divisor is not None:
        exact /= int(divisor)
    return DIGITS.divide(Decimal(exact.numerator), Decimal(exact.denominator))


def _added(tally: Tally, positions: tuple[tuple[int, int], ...]) -> Any:
    if len(positions) == 1:
        position, sign = positions[0]
        return tally[position] if sign == 1 else _negative(tally[position])
    total: Any = 0
    for position, sign in positions:
        number = tally[position] if sign == 1 else _negative(tally[position])
        if type(number) is int and type(total) is int:
            total += number
        else:
            total = _sum(total, number)
    return total


def _negative(number: Any) -> Any:
    # A minus sign alone would round to the precision of the moment.
    return number.copy_negate() if isinstance(number, Decimal) else -number


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Fraction) or isinstance(other, Fraction):
        return Fraction(one) + Fraction(other)
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        return _EXACT.add(Decimal(one), Decimal(other))
    return one + other
