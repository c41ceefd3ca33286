"""What a KPI is: plain values that say the formula, the words and the doubtful cases.

A KPI is a linear combination of measures, or one divided by another. Measures are integer sums
that a family keeps in the store's cells; which rows a family counts is SQL in
`metrics.contributions`, what the sums mean is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from metrics.dimensions import Grouping
from metrics.periods import Calendar
from store.canonical import CanonicalRecord, Company, Cost
from store.identity_rules import NO_RULES, IdentityRules

if TYPE_CHECKING:
    from metrics.expression.definition import CustomKpi, Written

SECONDS_PER_HOUR: Final = 3_600
SECONDS_PER_DAY: Final = 86_400


class Unit(StrEnum):
    """Of a published value."""

    COUNT = "count"
    RATIO = "ratio"
    MONEY = "money"
    MONEY_PER_DAY = "money/day"
    DAYS = "days"
    HOURS = "hours"
    POINTS = "points"
    TEXT = "text"


MONEY_UNITS: Final = frozenset({Unit.MONEY, Unit.MONEY_PER_DAY})
"""Units of values that have a currency."""


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
    PAST = "past"
    """Records whose instant is over; so are those of the next three."""
    PAST_PRICED = "past_priced"
    PAST_NO_AMOUNT = "past_no_amount"
    PAST_NO_RATE = "past_no_rate"
    AGE = "age"
    """The sum of whole days since the instants of the records."""
    SHARED = "shared"
    """Each record's measure divided by the number of its shares."""
    SHARED_PRICED = "shared_priced"
    SHARED_NO_AMOUNT = "shared_no_amount"
    SHARED_NO_RATE = "shared_no_rate"


class Span(StrEnum):
    """Which days a term sums, seen from a period."""

    PERIOD = "period"
    PREVIOUS = "previous"
    """The period of the same kind before."""
    BEFORE = "before"
    """Every day before the period's first."""
    UPTO = "upto"
    """Every day up to the period's last."""
    NORM = "norm"
    """The twelve months before the period; of texts, which look there themselves."""
    LAST_90D = "last_90d"
    """The last 90 local days, today included, whatever the period."""


VELOCITY_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Term:
    """One measure of a family, or a part of it."""

    measure: str
    part: Part = Part.ALL
    family: str = ""
    """The formula of another family than the KPI's own."""
    span: Span = Span.PERIOD
    sign: int = 1

    def over(self, span: Span) -> Term:
        """The same measure over other days."""
        return replace(self, span=span)

    def __neg__(self) -> Term:
        """The same to be subtracted."""
        return replace(self, sign=-self.sign)


Sum: TypeAlias = tuple[Term, ...]
"""Terms to be added."""


class Bucket(StrEnum):
    """What a cell's bucket says of the records in it."""

    NONE = "none"
    PROBABILITY = "probability"
    """In millionths; below zero: unknown."""
    VALUE = "value"
    """A whole number (days, seconds) whose order counts; below zero: unknown."""
    SHARES = "shares"
    """Into how many parts the record is shared out: sums are divided by it."""
    INSTANT = "instant"
    """Microseconds since 1970, UTC."""
    MEMBER = "member"
    """None; the cell's currency names a member, and members count once."""


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
    source: str
    """Which facts it reads."""
    also: tuple[str, ...] = ()
    """Further facts it reads."""
    dimensions: tuple[str, ...]
    """What it can be grouped by."""
    money: frozenset[str] = frozenset()
    """Measures in minor units of the cell's currency."""
    bucket: Bucket = Bucket.NONE
    has_money_buckets: bool = False
    """The bucket is an amount in minor units of the cell's currency."""
    is_by_kind: bool = False
    """Whether its sums do not add up over days, so that each kind of period needs its own."""
    kind: str | None = None
    """Of families that do not add up over days: the kind of period their cells stand for."""
    window: int = 0
    """Days, where the formula has a window."""
    days: int = 0
    """Of rolling periods: how many."""
    is_running: bool = False
    """The sum over a period is that over all days up to its last: cells say what begins and ends.
    """
    is_clocked: bool = False
    """Days that are yet to come do not count until they come."""
    is_business_hours: bool = False
    is_latest: bool = False
    """Only the last answer of each person counts."""
    origins: tuple[str, ...] = ()
    """Which costs count; none named: all."""
    mapped: tuple[str, ...] = ()
    """Mapped fields that it can be grouped by, too, each in a place of the facts."""
    meaning: str = ""
    """Of custom KPIs: a digest of what is counted."""


# ---------------------------------------------------------------- formulas of several sums


class Formula(Protocol):
    """A value made of sums, exact until it is published."""

    @property
    def terms(self) -> Sum:
        """Every term it needs."""
        ...

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:
        """The value; None where a denominator is zero."""
        ...


@dataclass(frozen=True, slots=True)
class PeriodLength:
    """How long a period is, as far as formulas want to know; 0: it has no length."""

    years: Fraction = Fraction(0)

    @property
    def months(self) -> Fraction:
        """Twelfths of a year."""
        return self.years * 12


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of terms."""

    terms: Sum

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction:  # noqa: ARG002 - of all formulas
        """The sum."""
        return sum((look(term) * term.sign for term in self.terms), Fraction(0))


@dataclass(frozen=True, slots=True)
class Fixed:
    """A number of the settings."""

    number: Fraction
    terms: Sum = ()

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:  # noqa: ARG002 - of all formulas
        """The number."""
        return self.number


@dataclass(frozen=True, slots=True)
class Days:
    """The days of the period's own length: a year 365.25, a quarter a 4th, a month a 12th."""

    terms: Sum = ()

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:  # noqa: ARG002 - of all formulas
        """None for periods without a length."""
        return span.years * DAYS_PER_YEAR or None


@dataclass(frozen=True, slots=True)
class Months:
    """The months of the period's own length."""

    terms: Sum = ()

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:  # noqa: ARG002 - of all formulas
        """None for periods without a length."""
        return span.months or None


@dataclass(frozen=True, slots=True)
class Ratio:
    """One divided by another."""

    above: Formula
    below: Formula

    @property
    def terms(self) -> Sum:
        """Of both."""
        return (*self.above.terms, *self.below.terms)

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:
        """None where there is nothing to divide by."""
        below = self.below.value(look, span)
        if not below:
            return None
        above = self.above.value(look, span)
        return None if above is None else above / below


@dataclass(frozen=True, slots=True)
class Product:
    """Factors, of which none may be missing."""

    factors: tuple[Formula, ...]

    @property
    def terms(self) -> Sum:
        """Of all factors."""
        return tuple(term for factor in self.factors for term in factor.terms)

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:
        """The product."""
        product = Fraction(1)
        for factor in self.factors:
            value = factor.value(look, span)
            if value is None:
                return None
            product *= value
        return product


@dataclass(frozen=True, slots=True)
class Difference:
    """One less another."""

    one: Formula
    other: Formula

    @property
    def terms(self) -> Sum:
        """Of both."""
        return (*self.one.terms, *self.other.terms)

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:
        """None where either is missing."""
        one, other = self.one.value(look, span), self.other.value(look, span)
        return None if one is None or other is None else one - other


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A formula that says nothing when it rests on too little."""

    support: Sum
    minimum: int
    of: Formula

    @property
    def terms(self) -> Sum:
        """Of the formula and of what it rests on."""
        return (*self.support, *self.of.terms)

    def value(self, look: Callable[[Term], Fraction], span: PeriodLength) -> Fraction | None:
        """None where there is less than the minimum."""
        if Total(self.support).value(look, span) < self.minimum:
            return None
        return self.of.value(look, span)


DAYS_PER_YEAR: Final = Fraction(1461, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedExample:
    """A few records and the value they give; shown in the documentation, kept by a test."""

    text: str
    records: tuple[CanonicalRecord, ...]
    period: str
    value: Decimal | None
    dimension: str = "all"
    key: str = "*"
    at: datetime | None = None
    """When it is looked at, where that matters."""
    words: str | None = None
    """The value of a KPI whose unit is text."""

    def __str__(self) -> str:
        """The example in words."""
        return self.text


@dataclass(frozen=True, kw_only=True)
class Kpi:
    """One business figure: formula, words, unit and caveats in one place."""

    name: str
    label: str
    definition: str
    unit: Unit
    direction: Direction
    family: str
    """The formula of the family of its terms, unless they name another."""
    numerator: Sum = ()
    denominator: Sum | None = None
    composed: Formula | None = None
    """Of KPIs that are more than one sum or one ratio of sums."""
    percentile: int | None = None
    """The value is this percentile (nearest rank) of the family's buckets."""
    used: Sum
    """How many records the value rests on."""
    left_out: Mapping[str, Sum] = field(default_factory=dict)
    """Reason -> how many records are missing from the value."""
    divisor: int = 1
    """Units of the numerator's measure in one published unit (seconds in a day)."""
    factor: int = 1
    """What a ratio is multiplied by (points of a hundred)."""
    version: int = 1
    is_share: bool = False
    """The numerator counts some of what the denominator counts: chance has known bounds."""
    is_instant: bool = False
    """True of now, not of a period."""
    has_all: bool = True
    """Whether it says anything of all times together."""
    groupings: tuple[Grouping, ...] | None = None
    """By default, instead of those of its family's pack; the total is always there, too."""
    by_account: bool = True
    """Whether single accounts have it by default."""
    has_total: bool = True
    inner: tuple[Grouping, ...] = ()
    """Groupings whose cells it reads without being published by them."""
    settings: tuple[str, ...] = ()
    """Which settings it takes."""
    resolve: Callable[[Kpi, OwnSettings], Kpi] | None = None
    """The KPI as these settings want it."""
    model: str | None = None
    """Of attributed KPIs: the model, which must be on."""
    base: str | None = None
    """The name under which the settings know it, with its sisters."""
    counting_day: str
    """The day that decides the period, in words."""
    custom: CustomKpi | None = None
    """What the configuration says, of a KPI of the company's own."""
    window: int | None = None
    """Of custom KPIs: published for the last so many days, instead of calendar periods."""
    caveats: tuple[str, ...] = ()
    example: WorkedExample

    @property
    def formula(self) -> str:
        """Name and version as they stand beside each value: ``win_rate@1``."""
        return f"{self.name}@{self.version}"

    @property
    def empties_to_zero(self) -> bool:
        """Counts and sums of nothing are 0; a ratio or the age of nothing is no value."""
        is_sum = self.denominator is None and self.composed is None and self.percentile is None
        # A sum of times that a company defined itself is a sum; the age of a record is none.
        is_sum_of_times = self.custom is not None
        return is_sum and (is_sum_of_times or self.unit not in {Unit.TEXT, Unit.DAYS, Unit.HOURS})

    @cached_property
    def terms(self) -> Sum:
        """Every term that its value or what stands beside it needs."""
        return (
            *self.numerator,
            *(self.denominator or ()),
            *(self.composed.terms if self.composed else ()),
            *self.used,
            *(term for terms in self.left_out.values() for term in terms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingHours:
    """When the company works."""

    weekdays: frozenset[int]
    """As in `date.weekday`: Monday is 0."""
    opens: time
    closes: time
    holidays: frozenset[date] = frozenset()

    def __str__(self) -> str:
        """A form that is the same whenever the hours are."""
        days = ",".join(str(day) for day in sorted(self.weekdays))
        holidays = ",".join(day.isoformat() for day in sorted(self.holidays))
        return f"{days} {self.opens}-{self.closes} {holidays}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSettings:
    """What the configuration says of one KPI, or of one with its sisters."""

    window: int | None = None
    """Days."""
    models: tuple[str, ...] = ()
    clock: str | None = None
    of: str | None = None
    lifespan: str | None = None
    margin: Decimal | None = None
    stalled_days: int | None = None
    answers: str | None = None
    costs: tuple[str, ...] = ()
    """Names of cost sources: ``campaigns.cost``, ``costs``, ``file``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedRate:
    """From a day on, what one unit of a currency is worth in the company's."""

    currency: str
    since: date
    rate: Decimal


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
    implied_kinds: Mapping[tuple[str, Grouping], frozenset[str]] = field(default_factory=dict)
    """(KPI, implied grouping) -> the kinds of periods it is needed for; absent: all."""
    rolling: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """KPI -> rolling periods (``last_90d``) that something asks for."""
    own: Mapping[str, OwnSettings] = field(default_factory=dict)
    """KPI, or the common name of several -> what is particular about it."""
    rates: Mapping[str, Decimal] = field(default_factory=dict)
    """Currency -> units of the company's currency for one of its units, at all times."""
    dated_rates: tuple[DatedRate, ...] = ()
    """Rates of a file."""
    rates_from: str | None = None
    """The connection whose stored rates count."""
    costs: tuple[Cost, ...] = ()
    """Acquisition costs of files."""
    working_hours: WorkingHours | None = None
    match_owners_by_email: bool = False
    matching: IdentityRules = NO_RULES
    """By what records of several connections are recognised as one."""
    week_starts: int = 0
    """Weekday as in `date.weekday`: Monday is 0."""
    fiscal_year_starts: int = 1
    """Month 1..12."""
    custom: tuple[Written, ...] = ()
    """KPIs of the company's own."""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stream -> its mapped fields by which built-in KPIs can be grouped, too."""

    @property
    def identity(self) -> IdentityRules:
        """By what records and owners of several connections are recognised as one."""
        return replace(self.matching, owners_by_email=self.match_owners_by_email)

    @property
    def calendar(self) -> Calendar:
        """How periods are cut."""
        return Calendar(self.week_starts, self.fiscal_year_starts)
