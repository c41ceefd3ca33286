"""Custom KPIs, said once more: expressions looked at record by record, in plain Python.

Of the program that keeps the cells only the parsed expression is shared, nothing of what it
compiles to. A condition is true, false or, where something is not known, None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Final

from metrics.definition import Kpi, Unit
from metrics.expression import tree
from metrics.expression.definition import RANKED, CustomKpi
from metrics.expression.fields import Field, Type
from metrics.verify.book import Book, Dimensions, Number, View
from metrics.verify.reading import Reader, cut, named
from metrics.verify.recipes import Ask, Recipe, Result
from store.canonical import (
    RECORD_TYPES,
    Account,
    CanonicalRecord,
    Contact,
    Deal,
    Owner,
    Scalar,
    Ticket,
)

_ENOUGH: Final = Context(prec=300)
_MILLIONTH: Final = Decimal("0.000001")
_LARGEST: Final = 10**15
_UNUSUAL: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}


@dataclass(frozen=True)
class _Look:
    """One record, looked at on a day."""

    reader: Reader
    record: CanonicalRecord
    company: str

    # ---- fields

    def raw(self, field: Field) -> Scalar:
        """What stands in a field."""
        if field.is_own:
            return self._own(field)
        value: Scalar = getattr(self.record, field.name)
        match field.name:
            case "account":
                return self.reader.account(value if isinstance(value, str) else None)
            case "owner":
                return self.reader.owner(value if isinstance(value, str) else None)
            case "contact":
                return self.reader.person(value if isinstance(value, str) else None)
        return value

    def _own(self, field: Field) -> Scalar:
        value = self.record.extra.get(field.name)
        match field.type:
            case Type.TEXT | Type.REF:
                return value if isinstance(value, str) else None
            case Type.BOOLEAN:
                return value if isinstance(value, bool) else None
            case Type.DATE:
                is_day = isinstance(value, date) and not isinstance(value, datetime)
                return value if is_day else None
            case Type.DATETIME:
                return value if isinstance(value, date) else None
            case Type.UNSAID:
                return value
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return None
        digits = {Type.INTEGER: 0, Type.MONEY: self._digits()}.get(field.type, 6)
        return _kept(Decimal(value), digits)

    def _digits(self) -> int:
        names = {name: digits for digits, listed in _UNUSUAL.items() for name in listed.split()}
        return names.get(self.currency, 2)

    @property
    def currency(self) -> str:
        """What the record's amounts are in."""
        return getattr(self.record, "currency", None) or self.company

    def day(self, field: Field) -> date | None:
        """A day, or the company's day of an instant."""
        value = self.raw(field)
        if isinstance(value, datetime):
            return self.reader.local_day(value)
        return value if isinstance(value, date) else None

    def counting_day(self, field: Field) -> date | None:
        """The day that decides the period."""
        if field.name == "closed_at" and not field.is_own:
            if isinstance(self.record, Deal):
                return self.reader.closed_day(self.record) if self.record.is_closed else None
            if isinstance(self.record, Ticket) and not self.record.is_closed:
                return None
        return self.day(field)

    # ---- money

    def rate_day(self) -> date | None:
        """The day whose rate its amounts have; None: that of today."""
        day: object = None
        if isinstance(self.record, Deal):
            closed = self.reader.closed_day(self.record) if self.record.is_closed else None
            day = closed if self.record.is_closed else self.record.close_date
        elif self.record.STREAM == "costs":
            day = getattr(self.record, "date", None)
        elif self.record.STREAM in {"campaigns", "contracts"}:
            day = getattr(self.record, "start_date", None)
        return day if isinstance(day, date) else None

    def rate(self) -> Decimal | None:
        """Company units for one unit of the record's amounts."""
        return self.reader.rate(self.currency, self.rate_day())

    def worth(self, field: Field) -> Fraction | None:
        """An amount in the company's currency."""
        amount, rate = self.raw(field), self.rate()
        if not isinstance(amount, Decimal) or rate is None:
            return None
        return Fraction(amount) * Fraction(rate)

    # ---- conditions

    def holds(self, condition: tree.Condition | None) -> bool:
        """Whether a condition is true."""
        return condition is None or self._truth(condition) is True

    def _truth(self, node: tree.Condition) -> bool | None:
        match node:
            case tree.And(parts):
                truths = [self._truth(part) for part in parts]
                return False if False in truths else None if None in truths else True
            case tree.Or(parts):
                truths = [self._truth(part) for part in parts]
                return True if True in truths else None if None in truths else False
            case tree.Not(part):
                truth = self._truth(part)
                return None if truth is None else not truth
        return self._truth_of_atom(node)

    def _truth_of_atom(self, node: tree.Condition) -> bool | None:
        match node:
            case tree.Flag(field):
                value = self.raw(field)
                return value if isinstance(value, bool) else None
            case tree.IsKnown(field):
                return self._is_known(field)
            case tree.CompareToday(field, operator, days):
                day = self.day(field)
                if day is None:
                    return None
                today = self.reader.today.toordinal() + days
                return _ordered(day.toordinal(), operator, today)
            case tree.CompareFields(field, operator, other):
                return self._beside(field, operator, other)
            case tree.Compare(field, operator, literal):
                return self._compared(field, operator, literal)
        raise TypeError(f"{type(node).__name__} is made of parts")

    def _is_known(self, field: Field) -> bool:
        value = self.raw(field)
        if field.is_own and field.type is Type.DATETIME:
            return isinstance(value, datetime)
        return value is not None

    def _beside(self, field: Field, operator: str, other: Field) -> bool | None:
        one, two = self.raw(field), self.raw(other)
        if {field.type, other.type} == {Type.DATETIME}:
            if not (isinstance(one, datetime) and isinstance(two, datetime)):
                return None
            return _ordered(one, operator, two)
        if field.type in {Type.DATE, Type.DATETIME}:
            one, two = self.day(field), self.day(other)
        if one is None or two is None:
            return None
        return _ordered(one, operator, two)

    def _compared(self, field: Field, operator: str, literal: tree.Literal) -> bool | None:
        value: object
        if field.type is Type.MONEY:
            value = self.worth(field)
        elif isinstance(literal, date):
            value = self.day(field)
        else:
            value = self.raw(field)
        if value is None:
            return None
        if isinstance(literal, Decimal):
            return _ordered(Fraction(value), operator, Fraction(literal))  # type: ignore[arg-type]  # a number
        return _ordered(value, operator, literal)


def _kept(number: Decimal, digits: int) -> Decimal | None:
    """As far as a number of the company's own is kept."""
    if not number.is_finite() or number.adjusted() > 40:  # noqa: PLR2004 - beyond everything
        return None
    rounded = number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _ENOUGH)
    return rounded if abs(rounded.scaleb(digits, _ENOUGH)) <= _LARGEST else None


def _ordered(one: object, operator: str, other: object) -> bool:
    match operator:
        case "=":
            return one == other
        case "<":
            return one < other  # type: ignore[operator,no-any-return]  # of one kind
        case "<=":
            return one <= other  # type: ignore[operator,no-any-return]  # of one kind
        case ">":
            return one > other  # type: ignore[operator,no-any-return]  # of one kind
    return one >= other  # type: ignore[operator,no-any-return]  # of one kind


# ---------------------------------------------------------------- what a record adds


@dataclass(frozen=True)
class _Said:
    """What a record says of a value, or why it says nothing."""

    number: Number | None = None
    reason: str = ""


def _value(look: _Look, value: tree.Value) -> _Said:
    if isinstance(value, tree.Span):
        return _span(look, value)
    if value.type is Type.MONEY:
        amount = look.raw(value)
        if not isinstance(amount, Decimal):
            return _Said(reason="no_amount")
        worth = look.worth(value)
        return _Said(reason="no_rate") if worth is None else _Said(worth)
    number = look.raw(value)
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        return _Said(reason="no_value")
    scale = 1 if value.type is Type.INTEGER else 1 / _MILLIONTH
    if abs(Decimal(number) * Decimal(scale)) > _LARGEST:
        return _Said(reason="no_value")
    return _Said(Fraction(number))


def _span(look: _Look, span: tree.Span) -> _Said:
    if span.start.type is Type.DATETIME and span.end.type is Type.DATETIME:
        start, end = look.raw(span.start), look.raw(span.end)
        if not (isinstance(start, datetime) and isinstance(end, datetime)):
            return _Said(reason="no_date")
        length = end - start
    else:
        first, last = look.day(span.start), look.day(span.end)
        if first is None or last is None:
            return _Said(reason="no_date")
        length = last - first
    if length < timedelta():
        return _Said(reason="negative_duration")
    return _Said(Fraction(length // timedelta(seconds=1)))


def _dimensions(look: _Look, custom: CustomKpi) -> Dimensions:
    """Everything that the record could be grouped by."""
    reader, record = look.reader, look.record
    found: dict[str, str | None] = {"record": named(record)}
    for name in custom.dimensions:
        found[name] = _dimension(look, custom, name)
    if "account" not in found:
        account = getattr(record, "account", None)
        found["account"] = reader.account(account)
    return found


def _dimension(look: _Look, custom: CustomKpi, name: str) -> str | None:
    reader, record = look.reader, look.record
    fields = RECORD_TYPES[custom.stream].__dataclass_fields__
    if name not in fields:
        if name == custom.grain:
            return record.ref.key
        if name == "team":
            return reader.team(reader.owner(getattr(record, "owner", None)))
        if name == "channel":
            campaign = reader.campaigns.get(getattr(record, "campaign", None) or "")
            return None if campaign is None else cut(campaign.channel)
        return cut(_text(record.extra.get(name)))
    value = look.raw(Field(name, Type.REF))
    if not isinstance(value, str):
        return None
    return value if name in _LINKS else cut(value)


_LINKS: Final = frozenset(
    {
        *("account", "campaign", "contact", "converted_account", "converted_contact"),
        *("converted_deal", "deal", "lead", "owner", "parent", "pipeline", "stage", "ticket"),
    }
)


def _text(value: Scalar) -> str | None:
    if value is None or isinstance(value, datetime):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    plain = format(Decimal(value), "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in {"-0", ""} else plain


def _records(reader: Reader, stream: str) -> Iterator[CanonicalRecord]:
    """Records that count: alive, and standing for themselves."""
    for record in reader.live(RECORD_TYPES[stream]):
        key = record.ref.key
        match record:
            case Account():
                is_itself = reader.account(key) == key
            case Contact():
                is_itself = reader.person(key) == key
            case Deal():
                is_itself = reader.deal(key) == key
            case Owner():
                is_itself = reader.owner(key) == key
            case _:
                is_itself = True
        if is_itself:
            yield reader.whole(record)


def _own(kpi: Kpi) -> CustomKpi:
    if kpi.custom is None:
        raise ValueError(f"{kpi.name} is no custom KPI")
    return kpi.custom


def _roles(
    custom: CustomKpi,
) -> Iterator[tuple[str, tree.Aggregate, tree.Condition | None]]:
    yield "above", custom.above, custom.condition_above
    if custom.below is not None:
        yield "below", custom.below, custom.condition_below


def reader_of(kpi: Kpi) -> Callable[[Reader, Book], None]:
    """What reads the records of a custom KPI."""
    return _Telling(_own(kpi), f"custom {kpi.name}")


@dataclass(frozen=True)
class _Telling:
    """Tells a book what each record adds."""

    custom: CustomKpi
    subject: str

    def __call__(self, reader: Reader, book: Book) -> None:
        """Tell it of all records."""
        company = reader.settings.company.currency
        for record in _records(reader, self.custom.stream):
            look = _Look(reader, record, company)
            counted = [
                (role, one) for role, one, condition in _roles(self.custom) if look.holds(condition)
            ]
            if counted:
                self._tell(look, book, counted)

    def _tell(self, look: _Look, book: Book, counted: Sequence[tuple[str, tree.Aggregate]]) -> None:
        custom = self.custom
        day = None if custom.date is None else look.counting_day(custom.date)
        dimensions = _dimensions(look, custom)
        figures: dict[str, Number] = {}
        for role, one in counted:
            if one.function == "distinct" and isinstance(one.value, Field):
                member = _dimension(look, custom, one.value.name)
                if member is not None:
                    book.member(f"{self.subject} {role}", day, dimensions, member)
            elif one.value is None:
                figures[role] = 1
            else:
                said = _value(look, one.value)
                self._add(figures, role, said)
                if one.function in RANKED and said.number is not None:
                    book.value(self.subject, day, dimensions, said.number)
        if figures:
            book.add(self.subject, day, dimensions, **figures)

    def _add(self, figures: dict[str, Number], role: str, said: _Said) -> None:
        if said.number is not None:
            figures[role], figures[f"{role}_sum"] = 1, said.number
        elif said.reason in figures:
            # Two aggregates over one value miss it once; over two values, each misses its own.
            below = self.custom.below
            is_one_value = below is None or self.custom.above.value == below.value
            figures[said.reason] = 1 if is_one_value else 2
        else:
            figures[said.reason] = 1


# ---------------------------------------------------------------- what stands behind a value


def money_behind(kpi: Kpi, reader: Reader, record: CanonicalRecord) -> Priced | None:
    """The amount of a record that a custom KPI sums, ranks or, failing that, compares.

    Args:
        kpi: a custom KPI.
        reader: of its records and rates.
        record: one that it counts.

    Returns:
        None: the KPI asks for no amount, or the record's is not known, or what it is worth.
    """
    custom = _own(kpi)
    look = _Look(reader, record, reader.settings.company.currency)
    valued = (one.value for _, one, _ in _roles(custom))
    compared = (atom.field for one in custom.conditions for atom in tree.money_compared(one))
    for field in (*valued, *compared):
        if isinstance(field, Field) and field.type is Type.MONEY:
            amount, rate = look.raw(field), look.rate()
            if isinstance(amount, Decimal) and rate is not None:
                return Priced(amount, look.currency, rate, look.rate_day())
    return None


@dataclass(frozen=True, slots=True)
class Priced:
    """An amount with the rate that it counts at."""

    amount: Decimal
    currency: str
    rate: Decimal
    """Company units for one unit of the currency."""
    rate_day: date | None
    """The day whose rate it is; None: today's was taken."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one record adds to one aggregate."""

    number: Fraction | None
    """None: it is not counted there."""
    member: str | None
    """The value that counts once, where different values are counted."""


def shares_of(kpi: Kpi, view: View) -> tuple[Share, Share] | None:
    """What a record adds to either aggregate of a custom KPI whose value is no ratio of sums.

    Args:
        kpi: any KPI.
        view: a view of a book that was told of one record alone.

    Returns:
        None: the value is a sum, a ratio of sums, or a rank.
    """
    custom = kpi.custom
    if custom is None or custom.is_ratio_of_sums or custom.above.function in RANKED:
        return None
    subject = f"custom {kpi.name}"
    nothing = Share(None, None)
    found = {role: _share(view, subject, role, one) for role, one, _ in _roles(custom)}
    return found["above"], found.get("below", nothing)


def _share(view: View, subject: str, role: str, one: tree.Aggregate) -> Share:
    if one.function == "distinct":
        member = next(iter(view.members(f"{subject} {role}")), None)
        return Share(None if member is None else Fraction(1), member)
    count = view.count(subject, role)
    total = count if one.value is None else view.total(subject, f"{role}_sum")
    return Share(Fraction(total) if count else None, None)


# ---------------------------------------------------------------- what they come to


_REASONS: Final = ("no_amount", "no_rate", "no_value", "no_date", "negative_duration")
_SECONDS: Final = {Unit.HOURS: 3_600, Unit.DAYS: 86_400}


def recipe_of(kpi: Kpi) -> Recipe:
    """How the value of a custom KPI is made."""
    custom, subject = _own(kpi), f"custom {kpi.name}"
    members = [f"{subject} {role}" for role, one, _ in _roles(custom) if one.function == "distinct"]
    is_span = isinstance(custom.above.value, tree.Span)
    divisor = _SECONDS[kpi.unit] if is_span else 1
    return Recipe((subject, *members), _Making(custom, subject, divisor))


@dataclass(frozen=True)
class _Making:
    """Makes a value of what a view shows."""

    custom: CustomKpi
    subject: str
    divisor: int
    """Seconds in the unit of the value, where it is a time."""

    def __call__(self, view: View, _: Ask) -> Result:
        """The value of one group and period."""
        reasons = {
            reason: count for reason in _REASONS if (count := view.count(self.subject, reason))
        }
        if self.custom.above.function in RANKED:
            return self._rank(view, reasons)
        above = self._figure(view, self.custom.above, "above")
        if self.custom.below is None:
            return self._alone(above, reasons)
        return self._ratio(above, self._figure(view, self.custom.below, "below"), reasons)

    def _alone(self, above: _Figure, reasons: Mapping[str, int]) -> Result:
        total = above.total / self.divisor
        if self.custom.above.function != "mean":
            return Result(above.n, total, total, None, reasons)
        value = None if above.value is None else above.value / self.divisor
        return Result(above.n, value, total, Fraction(above.n), reasons)

    def _ratio(self, above: _Figure, below: _Figure, reasons: Mapping[str, int]) -> Result:
        value = None
        if above.value is not None and below.value:
            value = above.value / below.value / self.divisor
        if above.is_mean or below.is_mean:
            return Result(below.n, value, left_out=reasons)
        return Result(below.n, value, above.total / self.divisor, below.total, reasons)

    def _rank(self, view: View, reasons: Mapping[str, int]) -> Result:
        values = [Fraction(value) for value in view.ranked(self.subject)]
        if not values:
            return Result(0, left_out=reasons)
        match self.custom.above.function:
            case "min":
                found = values[0]
            case "max":
                found = values[-1]
            case _:
                found = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        return Result(len(values), found / self.divisor, left_out=reasons)

    def _figure(self, view: View, one: tree.Aggregate, role: str) -> _Figure:
        if one.function == "distinct":
            members = len(view.members(f"{self.subject} {role}"))
            return _Figure(members, Fraction(members), is_mean=False)
        n = view.count(self.subject, role)
        if one.value is None:
            return _Figure(n, Fraction(n), is_mean=False)
        total = Fraction(view.total(self.subject, f"{role}_sum"))
        return _Figure(n, total, is_mean=one.function == "mean")


@dataclass(frozen=True)
class _Figure:
    """What one aggregate comes to."""

    n: int
    total: Fraction
    is_mean: bool

    @property
    def value(self) -> Fraction | None:
        """The sum, or the mean."""
        if not self.is_mean:
            return self.total
        return self.total / self.n if self.n else None
