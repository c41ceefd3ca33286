"""Stored values beside recomputed ones: what is compared, and what counts as a difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from sqlalchemy import Connection

from store.kpis import KpiValue, current_values, plain

Place: TypeAlias = tuple[str, str, str, str]
"""KPI, dimension, key, period."""

OF_CELLS: Final = " (cells)"
"""Behind the name of a KPI: its cells differ, whatever the values do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored value that does not agree with the records."""

    kpi: str
    period: str
    dimension: str
    key: str
    stored: str | None
    recomputed: str | None
    n: int = 0
    """Records that are counted or left out, on the side that has more of them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is compared of a value."""

    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None
    n: int
    left_out: tuple[tuple[str, int], ...]
    currency: str | None
    definition: str
    words: str | None

    @property
    def is_empty(self) -> bool:
        """No record stands behind it: a group that emptied is like one that never was."""
        return not self.n and not self.left_out and not self.value and not self.numerator


def stored_facts(conn: Connection, kpis: Sequence[str]) -> dict[Place, Facts]:
    """The values that are believed now of these KPIs."""
    return {
        (value.kpi, value.dimension, value.key, value.period): _facts_of(value)
        for value in current_values(conn, kpis=kpis)
    }


def differing(
    stored: Mapping[Place, Facts], recomputed: Mapping[Place, Facts]
) -> Iterator[Difference]:
    """Every place where the two do not say the same."""
    for place in stored.keys() | recomputed.keys():
        one, other = stored.get(place), recomputed.get(place)
        if not _agree(one, other):
            kpi, dimension, key, period = place
            n = max(facts.n + sum(dict(facts.left_out).values()) for facts in (one, other) if facts)
            yield Difference(kpi, period, dimension, key, _words(one), _words(other), n)


def _facts_of(value: KpiValue) -> Facts:
    return Facts(
        value=value.value,
        numerator=value.numerator,
        denominator=value.denominator,
        n=value.n,
        left_out=tuple(sorted(value.left_out.items())),
        currency=value.currency,
        definition=value.definition,
        words=value.words,
    )


def _agree(stored: Facts | None, recomputed: Facts | None) -> bool:
    if stored is None or recomputed is None:
        one = stored or recomputed
        # A recomputed value always has records: only a stored one can be an emptied group.
        return one is stored and one is not None and one.is_empty
    return stored == recomputed


def _words(facts: Facts | None) -> str | None:
    if facts is None:
        return None
    parts = [f"n {facts.n}", *(f"{reason} {count}" for reason, count in facts.left_out)]
    if facts.denominator is not None:
        parts.insert(0, f"{plain(facts.numerator)} / {plain(facts.denominator)}")
    shown = facts.words or plain(facts.value) or "no value"
    return f"{shown} ({', '.join(parts)}, {facts.definition})"


def words_of_cell(measures: Sequence[str], sums: Sequence[int] | None, currency: str) -> str | None:
    """What a cell says, for people; None: there is none.

    Args:
        measures: the names of its sums.
        sums: n, and the sums.
        currency: of the cell.
    """
    if sums is None:
        return None
    said = ", ".join(
        f"{name} {number}" for name, number in zip(("n", *measures), sums, strict=False)
    )
    return f"{said} {currency}" if currency else said
