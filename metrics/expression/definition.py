"""Custom KPIs: what the configuration says of one, checked, and what the engine keeps of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeVar

from metrics.definition import (
    Bucket,
    Direction,
    Family,
    Formula,
    Kpi,
    Part,
    Ratio,
    Sum,
    Term,
    Total,
    Unit,
    WorkedExample,
)
from metrics.dimensions import LONGEST, Grouping
from metrics.expression import tree
from metrics.expression.checking import Checker
from metrics.expression.faults import ExpressionFault, nearest
from metrics.expression.fields import (
    GRAIN_OF,
    STREAMS,
    Field,
    Type,
    dimensions_of,
    fields_of,
)

SOURCE: Final = "custom"
"""The source of the families of custom KPIs."""

MOST_DIMENSIONS: Final = 12
"""Different dimensions that one KPI can be grouped by."""
MOST_THRESHOLDS: Final = 8
MOST_MONEY_BOUNDS: Final = 20
FORMATS: Final = ("percent", "money", "number", "days", "hours")

ADDITIVE: Final = frozenset({"count", "sum", "mean"})
RANKED: Final[Mapping[str, int]] = {"median": 50, "min": 0, "max": 100}
"""Function -> which percentile it is."""

_SECONDS: Final[Mapping[Unit, int]] = {Unit.DAYS: 86_400, Unit.HOURS: 3_600}

MEASURES: Final = ("above", "above_sum", "below", "below_sum", "valued", "negative")
"""What a family of additive figures sums: records and amounts of either aggregate, records of
which any aggregate wants the value, and those whose time runs backwards."""


class CustomFault(ValueError):
    """A part of a custom KPI that cannot be."""

    def __init__(self, part: str, fault: ExpressionFault) -> None:
        """Say which part.

        Args:
            part: the key of the configuration: ``where``, ``numerator`` ...
            fault: what is wrong in it.
        """
        super().__init__(part, fault)
        self.part = part
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.part}: {self.fault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A custom KPI as it is configured."""

    name: str
    label: str
    of: str
    date: str | None = None
    """The field that decides the period; None: it is true of now."""
    where: str | None = None
    numerator: str
    denominator: str | None = None
    window: int | None = None
    """Days of a rolling span, instead of calendar periods."""
    by: tuple[Grouping, ...] = ()
    format: str | None = None
    direction: str = "neutral"
    own: tuple[tuple[str, str | None], ...] = ()
    """Fields of the company's own mapping in this stream, with their types where said."""


@dataclass(frozen=True, kw_only=True)
class CustomKpi:
    """A custom KPI, understood."""

    written: Written
    date: Field | None
    where: tree.Condition | None
    above: tree.Aggregate
    below: tree.Aggregate | None
    unit: Unit
    dimensions: tuple[str, ...]
    """Everything it could be grouped by."""

    @property
    def name(self) -> str:
        """As it is configured."""
        return self.written.name

    @property
    def stream(self) -> str:
        """Whose records it counts."""
        return self.written.of

    @property
    def grain(self) -> str | None:
        """The dimension whose keys are the records themselves."""
        return GRAIN_OF.get(self.stream)

    @cached_property
    def condition_above(self) -> tree.Condition | None:
        """Which records the numerator counts."""
        return tree.both(self.where, self.above.where)

    @cached_property
    def condition_below(self) -> tree.Condition | None:
        """Which records the denominator counts."""
        return tree.both(self.where, self.below.where if self.below else None)

    @property
    def conditions(self) -> tuple[tree.Condition | None, ...]:
        """Of both."""
        return (
            (self.condition_above,)
            if self.below is None
            else (self.condition_above, self.condition_below)
        )

    @cached_property
    def depends_on_today(self) -> bool:
        """Whether time alone can change which records count."""
        return any(tree.depends_on_today(one) for one in self.conditions)

    @property
    def is_never_negative(self) -> bool:
        """Whether only records, different values or times are counted."""
        return all(
            one is None or one.value is None or one.function == "distinct" or _is_span(one)
            for one in (self.above, self.below)
        )

    @property
    def is_ratio_of_sums(self) -> bool:
        """Whether what single records add, added up and divided once, is the value."""
        if self.below is None:
            return self.above.function in ADDITIVE
        return {self.above.function, self.below.function} <= ADDITIVE - {"mean"}

    @cached_property
    def parts(self) -> tuple[FamilyPart, ...]:
        """The families that the engine keeps for it."""
        return tuple(_parts_of(self))

    @property
    def _fields(self) -> Iterator[Field]:
        """Every field that decides its values."""
        values = (one.value for one in (self.above, self.below) if one is not None)
        return tree.fields_of(self.date, *values, *self.conditions)

    @cached_property
    def digest(self) -> str:
        """Of everything that decides its values but records, rates and groupings."""
        named = {field.name for field in self._fields}
        own = tuple(one for one in self.written.own if one[0] in named)
        written = replace(self.written, label="", by=(), own=own)
        return hashlib.sha256(f"{_VERSION} {written!r}".encode()).hexdigest()

    @property
    def version(self) -> int:
        """Another number for another meaning."""
        return int(self.digest[:7], 16)


_VERSION: Final = 1
"""Raised when the same words come to mean something else."""


@dataclass(frozen=True, kw_only=True)
class FamilyPart:
    """One family of a custom KPI, and the aggregates it serves."""

    custom: CustomKpi = field(repr=False)
    name: str
    above: tree.Aggregate | None
    below: tree.Aggregate | None

    @property
    def value(self) -> tree.Value | None:
        """What is summed or ranked: one of all aggregates."""
        return next((one.value for one in self.aggregates if one.value is not None), None)

    @property
    def aggregates(self) -> tuple[tree.Aggregate, ...]:
        """One or two."""
        return tuple(one for one in (self.above, self.below) if one is not None)

    @property
    def needs_rates(self) -> bool:
        """Whether rates decide what it keeps."""
        is_compared = any(True for _, one in self.conditions for _ in tree.money_compared(one))
        return is_compared or self.is_money

    @property
    def is_distinct(self) -> bool:
        """Whether different values are counted."""
        return self.aggregates[0].function == "distinct"

    @property
    def is_ranked(self) -> bool:
        """Whether the order of values counts."""
        return self.aggregates[0].function in RANKED

    @property
    def is_span(self) -> bool:
        """Whether the value is the time between two dates, in seconds."""
        return isinstance(self.value, tree.Span)

    @property
    def is_money(self) -> bool:
        """Whether the value is money."""
        return isinstance(self.value, Field) and self.value.type is Type.MONEY

    @property
    def conditions(self) -> tuple[tuple[str, tree.Condition | None], ...]:
        """Role -> which records count in it."""
        found: list[tuple[str, tree.Condition | None]] = []
        if self.above is not None:
            found.append(("above", self.custom.condition_above))
        if self.below is not None:
            found.append(("below", self.custom.condition_below))
        return tuple(found)

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of its sums."""
        if self.is_distinct:
            return ("members",)
        return ("valued", "amount", "negative") if self.is_ranked else MEASURES

    def family(self, dimensions: Sequence[str]) -> Family:
        """The family as the engine knows it."""
        has_value = self.value is not None and not self.is_distinct
        bucket = Bucket.INSTANT if self.custom.depends_on_today else Bucket.NONE
        if self.is_distinct:
            bucket = Bucket.MEMBER
        elif self.is_ranked:
            bucket = Bucket.VALUE
        if self.is_ranked:
            money = frozenset({"amount"})
        elif has_value or bucket is Bucket.INSTANT:
            # Without any amount, too: sums of parts are told apart only where there is money.
            money = frozenset({"above_sum", "below_sum"})
        else:
            money = frozenset()
        return Family(
            name=self.name,
            formula=SOURCE,
            version=1,
            measures=self.measures,
            source=SOURCE,
            dimensions=tuple(dimensions),
            money=money,
            bucket=bucket,
            has_money_buckets=self.is_ranked,
            meaning=self.custom.digest,
        )


# ---------------------------------------------------------------- checking


T = TypeVar("T")


def understood(written: Written) -> CustomKpi:
    """A custom KPI, checked.

    Raises:
        CustomFault: with the first thing that cannot be.
    """
    faults = list(faults_of(written))
    if faults:
        raise faults[0]
    return _understood(written)


def faults_of(written: Written) -> Iterator[CustomFault]:
    """Everything that is wrong with a custom KPI."""
    if written.of not in STREAMS:
        message = f'There are no custom KPIs over "{written.of}".'
        yield CustomFault("of", ExpressionFault(message, 1, nearest(written.of, STREAMS)))
        return
    checker = _checker(written)
    found: list[CustomFault] = []
    for part, check in (
        ("date", lambda: checker.date(written.date or "")),
        ("where", lambda: checker.filter(written.where or "")),
        ("numerator", lambda: checker.aggregate(written.numerator)),
        ("denominator", lambda: checker.aggregate(written.denominator or "")),
    ):
        if getattr(written, part) is None:
            continue
        try:
            check()
        except ExpressionFault as fault:
            found.append(CustomFault(part, fault))
    found += _grouping_faults(written)
    if found:
        yield from found
        return
    yield from _faults_of_whole(written)


def _checker(written: Written) -> Checker:
    return Checker(written.of, fields_of(written.of, dict(written.own)))


def _grouping_faults(written: Written) -> Iterator[CustomFault]:
    known = dimensions_of(written.of, dict(written.own))
    for grouping in written.by:
        for name in grouping:
            if name not in known:
                message = f'"{name}" is not a dimension of {written.of}.'
                yield CustomFault("by", ExpressionFault(message, 1, nearest(name, known)))
        if len(set(grouping)) != len(grouping):
            fault = ExpressionFault("A dimension is named twice.", 1, "")
            yield CustomFault("by", fault)
        if len(grouping) > LONGEST:
            message = f"At most {LONGEST} dimensions can be combined."
            yield CustomFault("by", ExpressionFault(message, 1, ""))


def _faults_of_whole(written: Written) -> Iterator[CustomFault]:
    checker = _checker(written)
    above = checker.aggregate(written.numerator)
    below = None if written.denominator is None else checker.aggregate(written.denominator)
    where = None if written.where is None else checker.filter(written.where)

    yield from _ratio_faults(above, below)
    conditions = [tree.both(where, one.where) for one in (above, below) if one is not None]
    if any(tree.depends_on_today(one) for one in conditions):
        yield from _today_faults(above, below)
    if sum(_threshold_count(one) for one in conditions) > MOST_THRESHOLDS:
        yield _fault("where", f"today stands here more than {MOST_THRESHOLDS // 2} times.")
    money = {atom.literal for one in conditions for atom in tree.money_compared(one)}
    if len(money) > MOST_MONEY_BOUNDS:
        yield _fault("where", f"More than {MOST_MONEY_BOUNDS} amounts are compared.")
    if written.window is not None and written.date is None:
        yield _fault("window", "A window needs a date that decides who is in it.", "Name a date.")
    yield from _format_faults(written, above, below)


def _fault(part: str, message: str, hint: str = "") -> CustomFault:
    return CustomFault(part, ExpressionFault(message, 1, hint))


def _ratio_faults(above: tree.Aggregate, below: tree.Aggregate | None) -> Iterator[CustomFault]:
    if below is None:
        return
    for part, one in (("numerator", above), ("denominator", below)):
        if one.function in RANKED:
            message = f"{one.function} cannot be a part of a ratio."
            yield _fault(part, message, f"Give {one.function} a KPI of its own.")
    if isinstance(below.value, tree.Span):
        yield _fault("denominator", "A time between two dates cannot be divided by.")


def _today_faults(above: tree.Aggregate, below: tree.Aggregate | None) -> Iterator[CustomFault]:
    for part, one in (("numerator", above), ("denominator", below)):
        if one is not None and one.function not in ADDITIVE:
            message = f"{one.function} together with today cannot be kept exact from day to day."
            hint = (
                "Use window: 90d for the last days, count, sum or mean, or compare with a fixed "
                "date."
            )
            yield _fault(part, message, hint)


def _threshold_count(condition: tree.Condition | None) -> int:
    return sum(
        2 if atom.operator == "=" else 1
        for atom in tree.atoms(condition)
        if isinstance(atom, tree.CompareToday)
    )


def _format_faults(
    written: Written, above: tree.Aggregate, below: tree.Aggregate | None
) -> Iterator[CustomFault]:
    kind = _kind_of(above, below)
    fits = {
        "money": {None, "money"},
        "span": {None, "days", "hours"},
        "count": {None, "number"},
        "number": {None, "number", "percent", "days", "hours"},
        "ratio": {None, "number", "percent"},
        "mixed": set(),
    }[kind]
    if written.format not in fits:
        if kind == "mixed":
            message = "A time between two dates cannot be divided by money."
            yield CustomFault("numerator", ExpressionFault(message, 1, ""))
            return
        message = f'The value is {_SHOWN[kind]}; "{written.format}" does not fit.'
        choices = sorted(one for one in fits if one is not None)
        hint = f"It may be: {', '.join(choices)}."
        yield CustomFault("format", ExpressionFault(message, 1, hint))


_SHOWN: Final = {
    "money": "money",
    "span": "a time",
    "count": "a count",
    "number": "a number",
    "ratio": "a ratio",
}


def _kind_of(above: tree.Aggregate, below: tree.Aggregate | None) -> str:
    kinds = [_kind_of_one(one) for one in (above, below) if one is not None]
    if len(kinds) == 1:
        return kinds[0]
    first, second = kinds
    if second == "money":
        return "mixed" if first == "span" else "ratio"
    if first in {"money", "span"}:
        return first
    return "ratio"


def _kind_of_one(one: tree.Aggregate) -> str:
    match one.value:
        case tree.Span():
            return "span"
        case Field(type=Type.MONEY):
            return "money"
    if one.function in {"count", "distinct"}:
        return "count"
    return "number"


def _unit_of(written: Written, above: tree.Aggregate, below: tree.Aggregate | None) -> Unit:
    match written.format:
        case "percent":
            return Unit.RATIO
        case "days":
            return Unit.DAYS
        case "hours":
            return Unit.HOURS
    match _kind_of(above, below):
        case "money":
            return Unit.MONEY
        case "span":
            is_of_days = isinstance(above.value, tree.Span) and above.value.is_of_days
            return Unit.DAYS if is_of_days else Unit.HOURS
        case "ratio":
            return Unit.RATIO
        case "count":
            return Unit.COUNT
    is_whole = above.function == "sum" and _is_integer(above.value)
    return Unit.COUNT if is_whole else Unit.POINTS


def _is_span(one: tree.Aggregate) -> bool:
    return isinstance(one.value, tree.Span)


def _is_integer(value: tree.Value | None) -> bool:
    return isinstance(value, Field) and value.type is Type.INTEGER


def _understood(written: Written) -> CustomKpi:
    checker = _checker(written)
    above = checker.aggregate(written.numerator)
    below = None if written.denominator is None else checker.aggregate(written.denominator)
    return CustomKpi(
        written=written,
        date=None if written.date is None else checker.date(written.date),
        where=None if written.where is None else checker.filter(written.where),
        above=above,
        below=below,
        unit=_unit_of(written, above, below),
        dimensions=dimensions_of(written.of, dict(written.own)),
    )


# ---------------------------------------------------------------- families and formula


def _parts_of(custom: CustomKpi) -> Iterator[FamilyPart]:
    above, below = custom.above, custom.below
    name = f"custom_{custom.name}"
    if below is None:
        yield FamilyPart(custom=custom, name=name, above=above, below=None)
        return
    values = {one.value for one in (above, below) if one.value is not None}
    if {above.function, below.function} <= ADDITIVE and len(values) <= 1:
        yield FamilyPart(custom=custom, name=name, above=above, below=below)
        return
    yield FamilyPart(custom=custom, name=f"{name}__above", above=above, below=None)
    yield FamilyPart(custom=custom, name=f"{name}__below", above=None, below=below)


def _part(custom: CustomKpi, part: Part) -> Part:
    """The same part of the records whose instant is over, where time decides."""
    if not custom.depends_on_today:
        return part
    return Part.PAST if part is Part.ALL else Part(f"past_{part}")


@dataclass(frozen=True)
class _Figures:
    """The terms of one aggregate."""

    total: Sum
    count: Sum
    """What a mean is divided by, and how many records are used."""
    left_out: Mapping[str, Sum]
    is_mean: bool

    @property
    def formula(self) -> Formula:
        """What the aggregate comes to."""
        return Ratio(Total(self.total), Total(self.count)) if self.is_mean else Total(self.total)


def _figures(custom: CustomKpi, part: FamilyPart, role: str, one: tree.Aggregate) -> _Figures:
    if part.is_distinct:
        members = (Term("members", Part.ALL, part.name),)
        return _Figures(members, members, {}, is_mean=False)
    if part.is_ranked:
        counted = (Term("valued", Part.PRICED, part.name),)
        return _Figures((), counted, _missing(custom, part), is_mean=False)
    if one.value is None:
        count = (Term(role, _part(custom, Part.ALL), part.name),)
        return _Figures(count, count, {}, is_mean=False)
    count = (Term(role, _part(custom, Part.PRICED), part.name),)
    total = (Term(f"{role}_sum", _part(custom, Part.PRICED), part.name),)
    missing = _missing(custom, part)
    return _Figures(total, count, missing, is_mean=one.function == "mean")


def _missing(custom: CustomKpi, part: FamilyPart) -> dict[str, Sum]:
    unknown = Term("valued", _part(custom, Part.NO_AMOUNT), part.name)
    if part.is_span:
        negative = Term("negative", _part(custom, Part.NO_AMOUNT), part.name)
        return {"negative_duration": (negative,), "no_date": (unknown, -negative)}
    if part.is_money:
        no_rate = Term("valued", _part(custom, Part.NO_RATE), part.name)
        return {"no_amount": (unknown,), "no_rate": (no_rate,)}
    return {"no_value": (unknown,)}


def kpi_of(custom: CustomKpi) -> Kpi:
    """The KPI as the catalogue keeps it."""
    parts = custom.parts
    above = _figures(custom, parts[0], "above", custom.above)
    below = None if custom.below is None else _figures(custom, parts[-1], "below", custom.below)
    left_out: dict[str, Sum] = dict(above.left_out)
    if below is not None and len(parts) > 1:
        for reason, terms in below.left_out.items():
            left_out[reason] = (*left_out.get(reason, ()), *terms)
    elif below is not None:
        left_out = {**left_out, **below.left_out}
    percentile = RANKED.get(custom.above.function)
    numerator: Sum = () if percentile is not None else above.total
    denominator: Sum | None = None
    composed: Formula | None = None
    if below is not None:
        if above.is_mean or below.is_mean:
            composed, numerator = Ratio(above.formula, below.formula), ()
        else:
            denominator = below.total
    elif above.is_mean:
        denominator = above.count
    return Kpi(
        name=custom.name,
        label=custom.written.label,
        definition=definition_in_words(custom),
        unit=custom.unit,
        direction=Direction(custom.written.direction),
        family=parts[0].name,
        numerator=numerator,
        denominator=denominator,
        composed=composed,
        percentile=percentile,
        used=(below or above).count,
        left_out=left_out,
        divisor=_SECONDS[custom.unit] if any(part.is_span for part in parts) else 1,
        version=custom.version,
        is_instant=custom.date is None,
        window=custom.written.window,
        has_all=custom.written.window is None,
        groupings=custom.written.by,
        by_account=False,
        counting_day="" if custom.date is None else custom.date.name,
        caveats=tuple(_caveats(custom)),
        example=WorkedExample(text="", records=(), period="all", value=None),
        custom=custom,
    )


def definition_in_words(custom: CustomKpi) -> str:
    """What it counts, as it was written."""
    written = custom.written
    over = written.numerator
    if written.denominator is not None:
        over = f"{over} / {written.denominator}"
    where = "" if written.where is None else f" where {written.where}"
    when = " now" if written.date is None else f" by {written.date}"
    window = "" if written.window is None else f", last {written.window} days"
    return f"{over} of {written.of}{where},{when}{window}"


def _caveats(custom: CustomKpi) -> Iterator[str]:
    if any(True for one in custom.conditions for _ in tree.money_compared(one)):
        yield (
            "Amounts are compared in the company's currency; a record whose amount or rate is "
            "unknown is not counted."
        )
    if custom.date is not None and custom.date.name == "closed_at":
        yield "Records count on the day they were closed; open ones only in the period all."
