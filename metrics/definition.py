"""What a KPI is: plain values that say the formula, the words and the doubtful cases.

A KPI is a linear combination of measures, or one divided by another. Measures are integer sums
that a family keeps in the store's cells; which rows a family counts is SQL in
`metrics.contributions`, what the sums mean is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias

from metrics.dimensions import Grouping
from metrics.periods import Calendar, Kind
from store.canonical import CanonicalRecord, Company

SECONDS_PER_DAY: Final = 86_400


class Unit(StrEnum):
    """Of a published value."""

    COUNT = "count"
    RATIO = "ratio"
    MONEY = "money"
    DAYS = "days"


class Direction(StrEnum):
    """Which way a value gets better."""

    UP = "up"
    DOWN = "down"
    NEUTRAL = "neutral"


class Part(StrEnum):
    """Which of a measure's records a term takes.

    Every record lies in exactly one of `PRICED`, `NO_AMOUNT` and `NO_RATE`; a priced one in
    exactly one of `WEIGHABLE` and `NO_WEIGHT`.
    """

    ALL = "all"
    PRICED = "priced"
    """The amount is known and its currency has a rate."""
    NO_AMOUNT = "no_amount"
    NO_RATE = "no_rate"
    """The amount is known, but not what it is worth in the company's currency."""
    WEIGHABLE = "weighable"
    """Priced, and the probability is known."""
    NO_WEIGHT = "no_weight"
    """Priced, but nobody knows the probability."""
    WEIGHTED = "weighted"
    """The sum of amount x probability of the weighable ones."""


@dataclass(frozen=True, slots=True)
class Term:
    """One measure of a family, or a part of it."""

    measure: str
    part: Part = Part.ALL


Sum: TypeAlias = tuple[Term, ...]
"""Terms to be added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A set of records counted together, each once per grouping, on one day each."""

    name: str
    formula: str
    """Names the SELECT in `metrics.contributions`."""
    version: int
    """Raised with every change of the SELECT: the cells are then rebuilt."""
    measures: tuple[str, ...]
    """The names of a cell's sums, in the order of its columns."""
    money: frozenset[str] = frozenset()
    """Measures in minor units of the cell's currency."""
    has_buckets: bool = False
    """The cell's bucket is a probability in millionths; below zero: unknown."""
    kind: Kind | None = None
    """Of families that do not add up over days: the kind of period their cells stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedExample:
    """A few records and the value they give; shown in the documentation, kept by a test."""

    text: str
    records: tuple[CanonicalRecord, ...]
    period: str
    value: Decimal | None
    dimension: str = "all"
    key: str = "*"

    def __str__(self) -> str:
        """The example in words."""
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One business figure: formula, words, unit and caveats in one place."""

    name: str
    label: str
    definition: str
    unit: Unit
    direction: Direction
    family: str
    """The formula of its family or, where distinct things are counted, of one for each kind."""
    numerator: Sum
    denominator: Sum | None = None
    used: Sum
    """How many records the value rests on."""
    left_out: Mapping[str, Sum] = field(default_factory=dict)
    """Reason -> how many records are missing from the value."""
    divisor: int = 1
    """Units of the numerator's measure in one published unit (seconds in a day)."""
    version: int = 1
    is_instant: bool = False
    """True of now, not of a period."""
    is_by_stage: bool = False
    """Its groups are stages by default, too."""
    counting_day: str
    """The day that decides the period, in words."""
    caveats: tuple[str, ...] = ()
    example: WorkedExample

    @property
    def formula(self) -> str:
        """Name and version as they stand beside each value: ``win_rate@1``."""
        return f"{self.name}@{self.version}"

    @property
    def empties_to_zero(self) -> bool:
        """Counts and sums of nothing are 0; a ratio of nothing is no value."""
        return self.denominator is None


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiSettings:
    """What the configuration says of KPIs."""

    company: Company
    use: tuple[str, ...] = ("sales", "customer")
    """Packs, or single KPIs by name."""
    skip: tuple[str, ...] = ()
    periods: tuple[str, ...] = ("month", "quarter", "year")
    by: Mapping[str, tuple[Grouping, ...]] = field(default_factory=dict)
    """KPI -> its groupings instead of the default ones; the total is always there."""
    implied: Mapping[str, tuple[Grouping, ...]] = field(default_factory=dict)
    """KPI -> groupings that a write-back needs, beside whichever are configured."""
    rates: Mapping[str, Decimal] = field(default_factory=dict)
    """Currency -> units of the company's currency for one of its units."""
    match_owners_by_email: bool = False
    week_starts: int = 0
    """Weekday as in `date.weekday`: Monday is 0."""
    fiscal_year_starts: int = 1
    """Month 1..12."""

    @property
    def calendar(self) -> Calendar:
        """How periods are cut."""
        return Calendar(self.week_starts, self.fiscal_year_starts)
