"""Fitting KPI values into CRM fields: which field takes which value, and with how many digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, Protocol

from store.canonical import Scalar
from store.money import minor_units

RESTORE: Final = "restore"
KEEP: Final = "keep"

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
    def value(self) -> Decimal | None:
        """At full precision, in `unit`."""

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
class FieldPlan:
    """What stands in one field."""

    field: str
    kpi: str
    period: str
    digits: int | None = None
    """After the point, where the configuration says so (`round`); never more than the field has."""
    empty: Decimal | None = None
    """What a group without records is worth: 0 for counts and sums, None for the rest."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What one pass may do without being asked."""

    max_records: int | None = None
    """Most records written."""
    max_changed: Decimal | None = None
    """Largest share (0..1) of the records holding a value that may be replaced or blanked."""
    never_blank: bool = True
    """Whether a value stays when the KPI has none any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WritebackSpec:
    """One write-back: KPIs into fields of one object's records."""

    name: str
    connection: str
    object: str
    stream: str
    """The canonical stream of the object's records."""
    fields: tuple[FieldPlan, ...]
    stamp: str | None = None
    """A date or datetime field that tells as of when the values are."""
    guard: Guard = Guard()
    on_edit: str = RESTORE
    """`restore` or `keep` values that somebody edited in the CRM."""

    @property
    def dimension(self) -> str:
        """The dimension whose keys are the target's records."""
        return _DIMENSIONS.get(self.stream, self.stream.removesuffix("s"))

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
    spec: WritebackSpec, values: Iterable[PublishedValue], targets: Mapping[str, TargetLike]
) -> Desired:
    """Round published values to the fields they go to.

    Values of other KPIs, periods, dimensions and connections are passed over.
    """
    problems = _Problems()
    plans: dict[tuple[str, str], list[FieldPlan]] = {}
    for plan in spec.fields:
        if _is_usable(spec, plan, targets, problems):
            plans.setdefault((plan.kpi, plan.period), []).append(plan)
    unfit: set[tuple[str, str]] = set()
    found: dict[str, dict[str, Wanted]] = {}
    prefix = f"{spec.connection}:"
    for value in values:
        if value.dimension != spec.dimension or not value.key.startswith(prefix):
            continue
        record = value.key.removeprefix(prefix)
        for plan in plans.get((value.kpi, value.period), ()):
            try:
                rounded = _rounded(value, plan, targets[plan.field])
            except _UnfitError as fault:
                problems.add(fault.group, f"{record}.{plan.field}: {fault.sentence}")
                unfit.add((record, plan.field))
                continue
            found.setdefault(record, {})[plan.field] = Wanted(rounded, value)
    if spec.stamp is not None:
        _check_stamp(spec, spec.stamp, targets, problems)
    return Desired(found, problems.sentences(), frozenset(unfit))


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
    if fault is None and target is not None and target.type not in NUMERIC:
        fault = (
            f'"{plan.field}" of {spec.to} is a {target.type} field, {plan.kpi} is a number: '
            "give it a number field"
        )
    if fault is not None:
        problems.add(plan.field, fault)
    return fault is None


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


# ---------------------------------------------------------------- rounding


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
    if not number.is_finite():
        raise _UnfitError(f"{plan.field} finite", f"{plan.kpi} is {number}, which is no number")
    if number and number.adjusted() >= _LARGEST:
        raise _UnfitError(f"{plan.field} size", f"{plan.kpi} is too large for any field")
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
            return 0
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
