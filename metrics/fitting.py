"""Fitting KPI values into CRM fields: which field takes which value, and with how many digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, Protocol, TypeAlias

from store.canonical import Scalar
from store.money import minor_units

RESTORE: Final = "restore"
KEEP: Final = "keep"
CLEAR: Final = "clear"
ZERO: Final = "0"

NUMBER: Final = "number"
LABEL: Final = "label"
WORDS: Final = "words"

Places: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
"""Dimension -> key of a group -> ids of the records that carry the group's values."""

TEXT: Final = frozenset({"text"})
"""Types of fields that take labels, bands and values in words."""

NUMERIC: Final = frozenset({"number", "percent", "currency"})
"""Types of fields that take a KPI value."""
STAMP: Final = frozenset({"date", "datetime"})
"""Types of fields that take the instant of a value."""

_FITTING: Final[Mapping[str, frozenset[str]]] = {
    "ratio": frozenset({"number", "percent"}),
    "money": frozenset({"number", "currency"}),
    "money/day": frozenset({"number", "currency"}),
}
"""Unit -> types of fields that may carry it; other units go into plain numbers."""

_DIMENSIONS: Final[Mapping[str, str]] = {
    "accounts": "account",
    "deals": "deal",
    "campaigns": "campaign",
    "tickets": "ticket",
    "contacts": "contact",
    "owners": "owner",
}
"""Stream of the target's records -> the dimension whose keys are those records."""

_LARGEST: Final = 30
"""No field takes a number of more digits before the point."""
_EXACT: Final = Context(prec=100, rounding=ROUND_HALF_UP)
_EXAMPLES_SHOWN: Final = 3
_SHORTEST_RATIO: Final = 2
"""Digits that a ratio keeps at least: 0.82 told as 1 is a wrong number."""


# ---------------------------------------------------------------- what comes in


class PublishedValue(Protocol):
    """One current KPI value, as ``metrics.values`` gives it."""

    @property
    def kpi(self) -> str:
        """Its name."""

    @property
    def period(self) -> str:
        """Its period's label, `all` or `now`."""

    @property
    def dimension(self) -> str:
        """What it is grouped by; here the kind of record."""

    @property
    def key(self) -> str:
        """The record's key, ``CONNECTION:native id``."""

    @property
    def label(self) -> str | None:
        """The group's name for people."""

    @property
    def value(self) -> Decimal | None:
        """At full precision, in `unit`."""

    @property
    def numerator(self) -> Decimal | None:
        """What was divided, or the sum."""

    @property
    def denominator(self) -> Decimal | None:
        """What it was divided by; None of counts and sums."""

    @property
    def n(self) -> int:
        """Records it rests on."""

    @property
    def unit(self) -> str:
        """One of count, ratio, money, money/day, days, hours, points."""

    @property
    def currency(self) -> str | None:
        """Of money."""

    @property
    def as_of(self) -> datetime:
        """The instant it is true for."""


class TargetLike(Protocol):
    """A CRM field, as ``connectors.base.TargetField`` describes it."""

    @property
    def name(self) -> str:
        """Its API name."""

    @property
    def type(self) -> str:
        """One of number, percent, currency, text, date, datetime, checkbox, other."""

    @property
    def writable(self) -> bool:
        """Whether the run-time user may write it."""

    @property
    def precision(self) -> int | None:
        """Digits in all; None: unlimited."""

    @property
    def scale(self) -> int | None:
        """Digits after the point; None: not limited."""

    @property
    def length(self) -> int | None:
        """Characters that a text may have; None: not limited."""

    @property
    def ratio_factor(self) -> int:
        """100 where a ratio of 0.5 is stored as 50."""


class LiveLike(Protocol):
    """What a CRM record holds now, as ``connectors.base.LiveRecord`` says it."""

    @property
    def asked_id(self) -> str:
        """The id that was asked for."""

    @property
    def record_id(self) -> str:
        """Another one when the record was merged."""

    @property
    def values(self) -> Mapping[str, Scalar]:
        """Field -> value."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values that can be true, in the KPI's own unit; None: no bound on this side."""

    low: Decimal | None = None
    high: Decimal | None = None

    def __contains__(self, number: Decimal) -> bool:
        """Whether a value can be true."""
        is_low = self.low is not None and number < self.low
        return not is_low and not (self.high is not None and number > self.high)

    def __str__(self) -> str:
        """The range in words."""
        if self.high is None:
            return "any number" if self.low is None else f"{self.low:f} or more"
        return f"at most {self.high:f}" if self.low is None else f"{self.low:f} to {self.high:f}"


ANYTHING: Final = Range()


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """What stands in one field."""

    field: str
    kpi: str
    period: str
    digits: int | None = None
    """After the point, where the configuration says so (`round`); never more than the field has."""
    empty: Decimal | None = None
    """What a group without records is worth: 0 for counts and sums, None for the rest."""
    by: str | None = None
    """The dimension whose value it is; None: the record's own."""
    show: str = NUMBER
    """`number`, the group's `label`, or the value in `words`."""
    bands: tuple[tuple[str, Decimal], ...] = ()
    """Words for values from a threshold on, ascending; a value below all of them has none."""
    when_empty: str | None = None
    """`keep`, `clear` or `0` where there is no value; None: as `empty` and the guard say."""
    range: Range = ANYTHING
    """What the KPI can be."""

    @property
    def is_text(self) -> bool:
        """Whether it needs a text field."""
        return bool(self.bands) or self.show != NUMBER


@dataclass(frozen=True, slots=True)
class Guard:
    """What one pass may do without being asked."""

    max_records: int | None = None
    """Most records written."""
    max_changed: Decimal | None = None
    """Largest share (0..1) of the records holding a value that may be replaced or blanked."""
    never_blank: bool = True
    """Whether a value stays when the KPI has none any more."""
    max_shrink: Decimal | None = None
    """Largest share (0..1) by which what stands behind the values may have shrunk."""
    max_jump: int | None = None
    """By this factor values may not move in a pass, compared with what they were."""


@dataclass(frozen=True, slots=True)
class Match:
    """How records of an object of its own name the group whose values they carry."""

    field: str
    """Of the CRM's object."""
    to: str
    """The dimension."""
    connection: str
    """Whose native ids stand there, where the dimension's keys are records."""
    same: str | None = None
    """A mapped field of the dimension's records that holds the same value; None: their id."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of the day in which nothing is written on schedule; they may span midnight."""

    start: time
    stop: time

    def covers(self, local: time) -> bool:
        """Whether a time of the day lies in them."""
        if self.start <= self.stop:
            return self.start <= local < self.stop
        return local >= self.start or local < self.stop

    def __str__(self) -> str:
        """``22:00-06:00``."""
        return f"{self.start:%H:%M}-{self.stop:%H:%M}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WritebackSpec:
    """One write-back: KPIs into fields of one object's records."""

    name: str
    connection: str
    object: str
    stream: str
    """The canonical stream of the object's records; empty for an object with a `match`."""
    fields: tuple[FieldPlan, ...]
    stamp: str | None = None
    """A date or datetime field that tells as of when the values are."""
    guard: Guard = Guard()
    on_edit: str = RESTORE
    """`restore` or `keep` values that somebody edited in the CRM."""
    match: Match | None = None
    quiet: Quiet | None = None
    rolled: frozenset[str] = field(default=frozenset())
    """Fields whose running period is another one than when they were last written."""

    @property
    def dimension(self) -> str:
        """The dimension whose keys the target's records are, or name."""
        if self.match is not None:
            return self.match.to
        return _DIMENSIONS.get(self.stream, self.stream.removesuffix("s"))

    def dimension_of(self, plan: FieldPlan) -> str:
        """The dimension of one field's values."""
        return plan.by or self.dimension

    @property
    def letter_stream(self) -> str:
        """Under which stream refused records stand in the dead letters."""
        return self.stream or self.object

    @property
    def to(self) -> str:
        """``CONNECTION.OBJECT``."""
        return f"{self.connection}.{self.object}"


# ---------------------------------------------------------------- what should stand where


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one field of one record should hold."""

    value: Scalar
    """Rounded to the field; None: there is no value."""
    source: PublishedValue | None
    """The published value behind it; None: the group has no records any more."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What all fields of a write-back should hold."""

    by_record: Mapping[str, Mapping[str, Wanted]]
    """Record id -> field -> value."""
    problems: tuple[str, ...]
    """Sentences: fields that cannot take values, values that fit no field."""
    unfit: frozenset[tuple[str, str]]
    """(record id, field) whose value does not fit."""


def desired(
    spec: WritebackSpec,
    values: Iterable[PublishedValue],
    targets: Mapping[str, TargetLike],
    places: Places | None = None,
) -> Desired:
    """Fit published values to the fields they go to.

    Values of other KPIs, periods, dimensions and connections are passed over.

    Args:
        spec: The write-back.
        values: Current published values.
        targets: The object's fields by name.
        places: Which records carry which groups; a dimension that is missing here has keys that
            are the connection's own records.
    """
    problems = _Problems()
    plans: dict[tuple[str, str, str], list[FieldPlan]] = {}
    for plan in spec.fields:
        if _is_usable(spec, plan, targets, problems):
            place = (plan.kpi, plan.period, spec.dimension_of(plan))
            plans.setdefault(place, []).append(plan)
    unfit: set[tuple[str, str]] = set()
    found: dict[str, dict[str, Wanted]] = {}
    for value in values:
        wanting = plans.get((value.kpi, value.period, value.dimension), ())
        records = _records_of(spec, value, places or {}) if wanting else ()
        for plan in wanting:
            try:
                fitted = _fitted(value, plan, targets[plan.field])
            except _UnfitError as fault:
                for record in records:
                    problems.add(fault.group, f"{record}.{plan.field}: {fault.sentence}")
                    unfit.add((record, plan.field))
                continue
            for record in records:
                found.setdefault(record, {})[plan.field] = Wanted(fitted, value)
    if spec.stamp is not None:
        _check_stamp(spec, spec.stamp, targets, problems)
    return Desired(found, problems.sentences(), frozenset(unfit))


def _records_of(spec: WritebackSpec, value: PublishedValue, places: Places) -> Sequence[str]:
    groups = places.get(value.dimension)
    if groups is not None:
        return groups.get(value.key, ())
    prefix = f"{spec.connection}:"
    return (value.key.removeprefix(prefix),) if value.key.startswith(prefix) else ()


class _UnfitError(Exception):
    """A value that a field cannot take."""

    def __init__(self, group: str, sentence: str) -> None:
        super().__init__(group, sentence)
        self.group = group
        self.sentence = sentence


class _Problems:
    """Sentences in groups: of a hundred thousand alike only the first few are told."""

    def __init__(self) -> None:
        self._groups: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, group: str, sentence: str) -> None:
        examples = self._groups.setdefault(group, [])
        self._counts[group] = self._counts.get(group, 0) + 1
        if len(examples) < _EXAMPLES_SHOWN:
            examples.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        return tuple(
            "; ".join(examples) + (f" (and {more:,} more)" if more else "")
            for group, examples in self._groups.items()
            for more in [self._counts[group] - len(examples)]
        )


def _is_usable(
    spec: WritebackSpec, plan: FieldPlan, targets: Mapping[str, TargetLike], problems: _Problems
) -> bool:
    target = targets.get(plan.field)
    fault = _fault_of(spec, plan.field, target)
    if fault is None and target is not None:
        fault = _fault_of_type(spec, plan, target)
    if fault is not None:
        problems.add(plan.field, fault)
    return fault is None


def _fault_of_type(spec: WritebackSpec, plan: FieldPlan, target: TargetLike) -> str | None:
    place = f'"{plan.field}" of {spec.to} is a {target.type} field'
    if plan.is_text and target.type not in TEXT:
        return f"{place}, but words are to stand there: give it a text field"
    if not plan.is_text and target.type not in NUMERIC:
        return f"{place}, {plan.kpi} is a number: give it a number field"
    return None


def _check_stamp(
    spec: WritebackSpec, stamp: str, targets: Mapping[str, TargetLike], problems: _Problems
) -> None:
    target = targets.get(stamp)
    fault = _fault_of(spec, stamp, target)
    if fault is None and target is not None and target.type not in STAMP:
        fault = f'"{stamp}" of {spec.to} is a {target.type} field: a stamp needs a date or datetime'
    if fault is not None:
        problems.add(stamp, fault)


def _fault_of(spec: WritebackSpec, name: str, target: TargetLike | None) -> str | None:
    if target is None:
        return (
            f'"{name}" is not a field of {spec.object} that connection "{spec.connection}" can '
            f"see: `kpisync setup {spec.name}` creates it and grants access"
        )
    if not target.writable:
        return (
            f'"{name}" of {spec.to} cannot be written by the integration user: '
            f"`kpisync setup {spec.name}` grants access"
        )
    return None


# ---------------------------------------------------------------- values


def _fitted(value: PublishedValue, plan: FieldPlan, target: TargetLike) -> Scalar:
    """The value as the field will hold it."""
    number = value.value
    if number is not None:
        _check_number(number, plan)
    if not plan.is_text:
        return _rounded(value, plan, target)
    text = _text_of(value, plan)
    if text is not None and target.length is not None and len(text) > target.length:
        raise _UnfitError(
            f"{plan.field} length",
            f'"{text[:30]}..." has {len(text)} characters, the field holds {target.length}',
        )
    return text


def _check_number(number: Decimal, plan: FieldPlan) -> None:
    if not number.is_finite():
        raise _UnfitError(f"{plan.field} finite", f"{plan.kpi} is {number}, which is no number")
    if number and number.adjusted() >= _LARGEST:
        raise _UnfitError(f"{plan.field} size", f"{plan.kpi} is too large for any field")
    if number not in plan.range:
        raise _UnfitError(
            f"{plan.field} range",
            f"{plan.kpi} is {_short(number)}, which cannot be: its range is {plan.range}",
        )


def _short(number: Decimal) -> str:
    return f"{rounded_to(number, 6).normalize():f}"


def _text_of(value: PublishedValue, plan: FieldPlan) -> str | None:
    if plan.show == LABEL:
        return value.label or value.key
    if value.unit == "text":
        return _words_of(value)
    if value.value is None:
        return None
    return band_of(plan, value.value) if plan.bands else in_words(value)


def _words_of(value: PublishedValue) -> str | None:
    # Only values whose unit is text have words.
    words = getattr(value, "named", None) or getattr(value, "words", None)
    return words if isinstance(words, str) else None


def band_of(plan: FieldPlan, number: Decimal) -> str | None:
    """The word of the highest band whose threshold a value reaches; below all of them none."""
    reached = [word for word, threshold in plan.bands if number >= threshold]
    return reached[-1] if reached else None


def in_words(value: PublishedValue) -> str | None:
    """A value as people write it: ``82.1 % (531 of 647)``, ``1,250.00 EUR``, ``12.5 days``."""
    number = value.value
    if number is None:
        return None
    match value.unit:
        case "ratio":
            words = f"{rounded_to(number * 100, 1):f} %"
            if value.numerator is None or value.denominator is None:
                return words
            return f"{words} ({_counted(value.numerator)} of {_counted(value.denominator)})"
        case "count":
            return _counted(number)
        case "money" | "money/day":
            digits = minor_units(value.currency) if value.currency else 2
            per = " a day" if value.unit == "money/day" else ""
            return f"{rounded_to(number, digits):,f} {value.currency or ''}".rstrip() + per
        case unit:
            return f"{rounded_to(number, 1):,f} {unit}"


def _counted(number: Decimal) -> str:
    return f"{rounded_to(number, 2).normalize():,f}"


# ---------------------------------------------------------------- rounding


def rounded_for(number: Decimal, plan: FieldPlan, target: TargetLike) -> Scalar:
    """What a group without a published value is worth, as the field will hold it."""
    return band_of(plan, number) if plan.is_text else rounded_to(number, target.scale or 0)


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a KPI does not go well into a field."""

    words: str
    is_error: bool
    """No value can be written; otherwise digits are lost."""


def misfit(unit: str, plan: FieldPlan, target: TargetLike) -> Misfit | None:
    """What will be wrong with every value of a unit in a field; None where it fits.

    Args:
        unit: Of the KPI.
        plan: What is to be written.
        target: The field as the CRM describes it.
    """
    if plan.is_text:
        is_text = target.type == "text"
        return None if is_text else Misfit(f"words do not go into a {target.type} field", True)
    if target.type not in _FITTING.get(unit, frozenset({"number"})):
        return Misfit(
            f"{plan.kpi} is a {unit}, which a {target.type} field would show wrongly", True
        )
    if target.scale is None:
        return None
    shift = len(str(target.ratio_factor)) - 1 if unit == "ratio" else 0
    if unit == "ratio" and target.scale + shift < _SHORTEST_RATIO:
        return Misfit(
            f"{plan.kpi} is a ratio, but the field has {target.scale} digits after the point; at"
            f" least {_SHORTEST_RATIO - shift} are needed",
            True,
        )
    if plan.digits is not None and plan.digits > target.scale:
        return Misfit(
            f"round asks for {plan.digits} digits after the point, the field has {target.scale}",
            False,
        )
    return None


def _rounded(value: PublishedValue, plan: FieldPlan, target: TargetLike) -> Decimal | None:
    """The value as the field will hold it, rounded half up (away from zero)."""
    if target.type not in _FITTING.get(value.unit, frozenset({"number"})):
        raise _UnfitError(
            f"{plan.field} type",
            f"{plan.kpi} has the unit {value.unit}, which a {target.type} field would show wrongly",
        )
    number = value.value
    if number is None:
        return None
    factor = target.ratio_factor if value.unit == "ratio" else 1
    digits = _digits(value, plan, target, factor)
    rounded = rounded_to(number * factor, digits)
    _check_precision(rounded, plan, target)
    return rounded


def _digits(value: PublishedValue, plan: FieldPlan, target: TargetLike, factor: int) -> int:
    """How many digits after the point the field holds."""
    shift = len(str(factor)) - 1
    if plan.digits is not None:
        return plan.digits if target.scale is None else min(plan.digits, target.scale)
    if target.scale is None:
        return max(_usual_digits(value) - shift, 0)
    if value.unit == "ratio" and target.scale + shift < _SHORTEST_RATIO:
        raise _UnfitError(
            f"{plan.field} scale",
            f"{plan.kpi} is a ratio, but the field has {target.scale} digits after the point: "
            f"give it at least {_SHORTEST_RATIO - shift}",
        )
    return target.scale


def _usual_digits(value: PublishedValue) -> int:
    match value.unit:
        case "count":
            # A mean of counts, or a shared credit, is no whole number.
            number = value.value
            return 0 if number is None or number == number.to_integral_value() else 2
        case "ratio":
            return 4
        case "money" | "money/day":
            return minor_units(value.currency) if value.currency else 2
        case _:
            return 2


def rounded_to(number: Decimal, digits: int) -> Decimal:
    """Rounded half up, away from zero; never minus zero."""
    rounded = number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, context=_EXACT)
    return rounded or abs(rounded)


def _check_precision(number: Decimal, plan: FieldPlan, target: TargetLike) -> None:
    if target.precision is None:
        return
    whole_digits = target.precision - (target.scale or 0)
    if number and number.adjusted() >= whole_digits:
        raise _UnfitError(
            f"{plan.field} precision",
            f"{plan.kpi} = {number:f} has more than the {whole_digits} digits before the point "
            "that the field holds: widen the field",
        )
