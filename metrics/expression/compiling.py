"""From a typed condition to SQL: fields are columns of ours, everything else is bound.

A condition is true, false or unknown, as SQL has it. Numbers are compared as the whole numbers
they are stored as; a literal is scaled beside them, so that nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    FromClause,
    Integer,
    MetaData,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.sales import day_of_last_closing, resolved_account, shortened, stands_for
from metrics.contributions.terms import is_live
from metrics.expression import tree, zones
from metrics.expression.fields import Field, Type, canonical_fields, has_currency
from store import temporary
from store.conversion import day_number
from store.identity_tables import FALLBACKS, MONEY
from store.money import USUAL_MINOR_UNITS, unusual_minor_units
from store.own_fields import LARGEST, OwnFields
from store.tables import CAMPAIGNS, IDENTITY, KEY, OWNERS, RECORD_TABLES

NUMBER_DIGITS: Final = 6
"""Digits after the point of numbers that are not money."""

_LARGEST_BOUND: Final = 2**62

_STORED_DAYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "created_at": "created_day",
        "at": "at_day",
        "submitted_at": "submitted_day",
        "qualified_at": "qualified_day",
        "first_response_at": "first_response_day",
    }
)
"""Instants whose local day stands beside them."""

_RATE_DAYS: Final[Mapping[str, str]] = MappingProxyType(
    {"costs": "date", "campaigns": "start_date", "contracts": "start_date"}
)
"""Stream -> the day whose rate its amounts have; deals have a rule of their own."""

BOUNDS: Final = temporary.table(
    "money_bounds",
    MetaData(),
    Column("slot", Integer, primary_key=True),
    Column("currency", KEY, primary_key=True),
    Column("since", Integer, primary_key=True),
    Column("low", BigInteger, nullable=False),
    Column("high", BigInteger, nullable=False),
)
"""What an amount in the company's currency is in another's minor units, from a day on: the
largest whole number up to it, and the smallest from it on."""

SPANS: Final = temporary.table(
    "custom_rate_spans",
    MetaData(),
    Column("currency", KEY, primary_key=True),
    Column("since", Integer, primary_key=True),
)
"""From which days on other rates hold, of currencies that have more than one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a statement depends on beside the expression."""

    stream: str
    currency: str
    """The company's."""
    today: int
    """Whose rates records without a day have."""
    slots: tuple[Decimal, ...]
    """Amounts in the company's currency, each in its place in `BOUNDS`."""
    for_postgresql: bool


_BOUND: Final = literal(LARGEST, BigInteger())


class Records:
    """The live records of a stream, as a FROM clause with everything expressions may name."""

    def __init__(self, setting: Setting) -> None:
        """Join what a stream's records link to."""
        self.setting = setting
        self.table = RECORD_TABLES[setting.stream]
        kept = FALLBACKS.get(setting.stream)
        # What a copy says where the record itself does not; see `store.fallbacks`.
        self._copies = None if kept is None else kept.alias("copied_values")
        self._own = OwnFields(self._column("extra"), for_postgresql=setting.for_postgresql)
        self._accounts = IDENTITY.alias("account_identity")
        self._owners = IDENTITY.alias("owner_identity")
        self._itself = IDENTITY.alias("own_identity")
        self._contacts = IDENTITY.alias("contact_identity")
        self._people = OWNERS.alias("record_owners")
        self._campaigns = CAMPAIGNS.alias("record_campaigns")

    # ---- where from

    def source(self) -> FromClause:
        """The table with its joins."""
        table, columns = self.table, self.table.c
        joined: FromClause = table.outerjoin(
            self._itself, stands_for(self._itself, self.setting.stream, columns.ref)
        )
        if "account" in columns:
            joined = joined.outerjoin(
                self._accounts, stands_for(self._accounts, "accounts", columns.account)
            )
        if self._copies is not None:
            joined = joined.outerjoin(self._copies, self._copies.c.ref == columns.ref)
        if "owner" in columns:
            joined = joined.outerjoin(
                self._owners, stands_for(self._owners, "owners", self._column("owner"))
            ).outerjoin(self._people, self._people.c.ref == self._owner())
        if "contact" in columns:
            joined = joined.outerjoin(
                self._contacts, stands_for(self._contacts, "contacts", columns.contact)
            )
        if "campaign" in columns:
            joined = joined.outerjoin(self._campaigns, self._campaigns.c.ref == columns.campaign)
        return joined

    def exist(self) -> ColumnElement[bool]:
        """Deleted records do not exist; merged and matched ones count as who they stand for."""
        return and_(is_live(self.table), self._itself.c.ref.is_(None))

    def _owner(self) -> ColumnElement[str]:
        return func.coalesce(self._owners.c.canonical, self._column("owner"))

    def _column(self, name: str) -> ColumnElement[Any]:
        """A column of the record, or of the copy that is asked for it."""
        own: ColumnElement[Any] = self.table.c[name]
        if self._copies is None or name not in self._copies.c:
            return own
        copied: ColumnElement[Any] = self._copies.c[name]
        if name != "currency":
            return func.coalesce(copied, own)
        amount = self._copies.c[MONEY[self.setting.stream]]
        return case((amount.is_not(None), copied), else_=own)

    # ---- fields

    def dimension(self, name: str, grain: str | None) -> ColumnElement[str]:
        """What records are grouped by."""
        if name == grain and name not in self.table.c:
            return self.table.c.ref
        match name:
            case "team":
                return shortened(self._people.c.team)
            case "channel" if self.setting.stream != "campaigns":
                return shortened(self._campaigns.c.channel)
        if name not in self.table.c:
            return shortened(self._own.key(name))
        field = canonical_fields(self.setting.stream)[name]
        column = self.text(field)
        return column if field.type is Type.REF else shortened(column)

    def text(self, field: Field) -> ColumnElement[str]:
        """A text, or the key of a record."""
        if field.is_own:
            return self._own.text(field.name)
        match field.name:
            case "account":
                return resolved_account(self.table.c.account, self._accounts)
            case "owner":
                return self._owner()
            case "contact":
                return func.coalesce(self._contacts.c.canonical, self.table.c.contact)
        return self._column(field.name)

    def number(self, field: Field) -> ColumnElement[int]:
        """A number as it is stored: money in minor units, integers as they are, else millionths."""
        if not field.is_own:
            return self._column(field.name)
        if field.type is Type.INTEGER:
            return self._own.units(field.name, 0)
        if field.type is Type.MONEY:
            return self._own.units(field.name, self.digits())
        return self._own.units(field.name, NUMBER_DIGITS)

    def bounded_number(self, field: Field) -> ColumnElement[int]:
        """The same, unknown where sums could overflow."""
        number = self.number(field)
        return number if field.is_own else case((number.between(-_BOUND, _BOUND), number))

    def instant(self, field: Field) -> ColumnElement[int]:
        """An instant."""
        if field.is_own:
            return self._own.instant(field.name)
        column: ColumnElement[int] = self.table.c[field.name]
        return column

    def day(self, field: Field) -> ColumnElement[int]:
        """A day, or the local day of an instant."""
        if field.is_own:
            days = self._own.day(field.name)
            if field.type is Type.DATE:
                return days
            return func.coalesce(days, zones.local_day(self._own.instant(field.name)))
        if field.type is Type.DATE:
            return self._column(field.name)
        stored = _STORED_DAYS.get(field.name)
        if stored is not None and stored in self.table.c:
            known: ColumnElement[int] = self.table.c[stored]
            return known
        return zones.local_day(self.table.c[field.name])

    def counting_day(self, field: Field) -> ColumnElement[int]:
        """The day that decides the period: of closed records the one they are closed on."""
        if field.name != "closed_at" or field.is_own or "closed_day" not in self.table.c:
            return self.day(field)
        return self._closed_day()

    def _closed_day(self) -> ColumnElement[int]:
        columns = self.table.c
        if self.setting.stream != "deals":
            day: ColumnElement[int] = columns.closed_day
            return day
        return case(
            (and_(columns.is_closed, columns.closed_day.is_(None)), day_of_last_closing()),
            else_=columns.closed_day,
        )

    # ---- money

    def own_currency(self) -> ColumnElement[str]:
        """What a record's amounts are in."""
        if not has_currency(self.setting.stream):
            return literal(self.setting.currency, Text())
        return func.coalesce(func.nullif(self._column("currency"), ""), self.setting.currency)

    def digits(self) -> ColumnElement[int]:
        """Digits after the point of a record's amounts."""
        by_digits: dict[int, list[str]] = {}
        for name, units in sorted(unusual_minor_units().items()):
            by_digits.setdefault(units, []).append(name)
        currency = self.own_currency()
        return case(
            *((currency.in_(names), units) for units, names in sorted(by_digits.items())),
            else_=USUAL_MINOR_UNITS,
        )

    def rate_day(self) -> ColumnElement[int]:
        """The day whose rate a record's amounts have."""
        columns = self.table.c
        today = literal(self.setting.today, Integer())
        if self.setting.stream == "deals":
            day = case((columns.is_closed, self._closed_day()), else_=columns.close_date)
            return func.coalesce(day, today)
        known = _RATE_DAYS.get(self.setting.stream)
        return today if known is None else func.coalesce(columns[known], today)

    def coded_currency(self) -> ColumnElement[str]:
        """The currency, with the first day of the span of rates where there are several."""
        currency = self.own_currency()
        since = (
            select(SPANS.c.since)
            .where(SPANS.c.currency == currency, SPANS.c.since <= self.rate_day())
            .order_by(SPANS.c.since.desc())
            .limit(1)
            .correlate_except(SPANS)
            .scalar_subquery()
        )
        coded = currency.op("||", return_type=Text())("@").op("||", return_type=Text())(
            cast(since, Text)
        )
        return func.coalesce(coded, currency)

    def _bound(self, amount: Decimal, side: str) -> ColumnElement[int]:
        return (
            select(BOUNDS.c[side])
            .where(
                BOUNDS.c.slot == self.setting.slots.index(amount),
                BOUNDS.c.currency == self.own_currency(),
                BOUNDS.c.since <= self.rate_day(),
            )
            .order_by(BOUNDS.c.since.desc())
            .limit(1)
            .correlate_except(BOUNDS)
            .scalar_subquery()
        )

    # ---- conditions

    def condition(self, node: tree.Condition, today: ColumnElement[int]) -> ColumnElement[bool]:
        """A condition as it is on a day.

        Args:
            node: what is asked.
            today: the day that expressions call so.
        """
        match node:
            case tree.Flag(field):
                return self._flag(field)
            case tree.IsKnown(field):
                return self._anything(field).is_not(None)
            case tree.Not(part):
                return not_(self.condition(part, today))
            case tree.And(parts):
                return and_(*(self.condition(part, today) for part in parts))
            case tree.Or(parts):
                return or_(*(self.condition(part, today) for part in parts))
            case tree.CompareToday(field, operator, days):
                return _ordered(self.day(field), operator, today + days)
            case tree.CompareFields(field, operator, other):
                return self._beside(field, operator, other)
            case tree.Compare():
                return self._compared(node)

    def _flag(self, field: Field) -> ColumnElement[bool]:
        if field.is_own:
            return self._own.flag(field.name) == 1
        column: ColumnElement[bool] = self.table.c[field.name]
        return column

    def _anything(self, field: Field) -> ColumnElement[Any]:
        if not field.is_own:
            return self.text(field) if field.type is Type.REF else self._column(field.name)
        match field.type:
            case Type.TEXT | Type.REF:
                return self._own.text(field.name)
            case Type.BOOLEAN:
                return self._own.flag(field.name)
            case Type.DATE:
                return self._own.day(field.name)
            case Type.DATETIME:
                return self._own.instant(field.name)
            case Type.UNSAID:
                key = self._own.key(field.name)
                return func.coalesce(key, cast(self._own.instant(field.name), Text))
        return self.number(field)

    def _beside(self, field: Field, operator: str, other: Field) -> ColumnElement[bool]:
        match field.type:
            case Type.TEXT | Type.REF:
                return self.text(field) == self.text(other)
            case Type.DATETIME if other.type is Type.DATETIME:
                return _ordered(self.instant(field), operator, self.instant(other))
            case Type.DATE | Type.DATETIME:
                return _ordered(self.day(field), operator, self.day(other))
        return _ordered(self.number(field), operator, self.number(other))

    def _compared(self, node: tree.Compare) -> ColumnElement[bool]:
        field, operator, value = node.field, node.operator, node.literal
        if isinstance(value, str):
            return self.text(field) == literal(value, Text())
        if not isinstance(value, Decimal):
            day = literal(day_number(value), Integer())
            return _ordered(self.day(field), operator, day)
        if field.type is Type.MONEY:
            low, high = self._bound(value, "low"), self._bound(value, "high")
            return _within(self.number(field), operator, low, high)
        digits = 0 if field.type is Type.INTEGER else NUMBER_DIGITS
        exact = Fraction(value) * 10**digits
        low, high = (literal(clamped(part), BigInteger()) for part in (floor(exact), ceil(exact)))
        return _within(self.number(field), operator, low, high)


def clamped(number: int) -> int:
    """As far as a column goes: beyond it every stored number is on the same side."""
    return max(-_LARGEST_BOUND, min(_LARGEST_BOUND, number))


def bounds_of(amount: Decimal, factor: Decimal) -> tuple[int, int]:
    """What an amount is in another currency's minor units: down to a whole one, and up.

    Args:
        amount: in the company's currency.
        factor: company units for one minor unit.
    """
    exact = Fraction(amount) / Fraction(factor)
    return clamped(floor(exact)), clamped(ceil(exact))


def _ordered(
    left: ColumnElement[Any], operator: str, right: ColumnElement[Any]
) -> ColumnElement[bool]:
    found: Mapping[str, ColumnElement[bool]] = {
        "=": left == right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    return found[operator]


def _within(
    number: ColumnElement[int], operator: str, low: ColumnElement[int], high: ColumnElement[int]
) -> ColumnElement[bool]:
    """A whole number beside one that lies between two whole ones, or is both."""
    match operator:
        case "<":
            return number < high
        case "<=":
            return number <= low
        case ">":
            return number > low
        case ">=":
            return number >= high
    return and_(number >= high, number <= low)


def thresholds(
    records: Records, conditions: Sequence[tree.Condition | None]
) -> list[ColumnElement[int]]:
    """The days on which time alone can change any of some conditions about a record."""
    found: dict[tuple[Field, int], ColumnElement[int]] = {}
    for condition in conditions:
        for atom in tree.atoms(condition):
            if isinstance(atom, tree.CompareToday):
                # f <= today + c turns true on f - c, f < today + c a day later; >= and > end then.
                shifts = {"<=": (0,), ">": (0,), "<": (1,), ">=": (1,), "=": (0, 1)}
                for shift in shifts[atom.operator]:
                    place = (atom.field, shift - atom.days)
                    found[place] = records.day(atom.field) + place[1]
    return list(found.values())
