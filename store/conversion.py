"""Canonical records to rows of their tables and back.

The only place that knows how a field is stored: instants as microseconds, days as numbers,
money as minor units, ratios as millionths, text cleaned. Derived columns (local days) are
computed here, in the company's zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import RowMapping

from store.canonical import NO_EXTRA, RECORD_TYPES, CanonicalRecord, Company, RecordRef
from store.errors import RecordRefused
from store.money import (
    NotFinite,
    TooLarge,
    from_minor,
    scaled,
    to_minor,
)
from store.scalars import decode_fields, encode, encode_fields
from store.tables import RECORD_TABLES

LONGEST_TEXT: Final = 65_536
"""Bytes of UTF-8; longer text is cut and ends in `CUT`."""

CUT: Final = "… [cut]"

MILLION: Final = 6
"""Digits of a number stored in millionths."""

LARGEST_INTEGER: Final = 10**18

LONGEST_RATE: Final = 60
"""Characters of an exchange rate's decimal text."""

INSTANTS: Final = frozenset(
    {
        *("created_at", "modified_at", "qualified_at", "converted_at", "closed_at"),
        *("last_activity_at", "at", "submitted_at", "first_response_at"),
    }
)
DAYS: Final = frozenset({"contract_end", "close_date", "start_date", "end_date", "date"})
MONEY: Final = frozenset({"annual_revenue", "amount", "unit_price", "total", "cost", "budget"})
MILLIONTHS: Final = frozenset({"probability", "quantity", "csat", "score"})
INTEGERS: Final = frozenset(
    {
        *("employees", "nps_score", "position"),
        *("sent", "delivered", "opens", "clicks", "unsubscribes", "bounces"),
    }
)
FLAGS: Final = frozenset({"deleted", "is_closed", "is_won", "is_primary", "is_active"})
EXACT: Final = frozenset({"rate"})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

Cell = str | int | bool | None
"""A value of a record table's column."""


# ---------------------------------------------------------------- one value


def is_storable(text: str) -> bool:
    """Whether neither store objects to a text and none of its parts can be too long."""
    if len(text) > LONGEST_TEXT or "\0" in text:
        return False
    return text.isascii() or (len(text) * 4 <= LONGEST_TEXT and _SURROGATES.search(text) is None)


def cleaned_text(value: str) -> str:
    """The text without NUL and lone surrogates (U+FFFD stands for them), at most 64 KiB long."""
    if is_storable(value):
        return value
    clean = _SURROGATES.sub("\ufffd", value.replace("\0", "\ufffd"))
    encoded = clean.encode()
    if len(encoded) > LONGEST_TEXT:
        room = LONGEST_TEXT - len(CUT.encode())
        clean = encoded[:room].decode(errors="ignore") + CUT
    return clean


def instant_number(value: datetime) -> int:
    """Microseconds since 1970, UTC."""
    _zoned(value)
    return (value - _EPOCH) // _MICROSECOND


def _zoned(value: datetime) -> None:
    if value.tzinfo is None:
        raise NoZone


def instant_of(number: int) -> datetime:
    """The instant of `instant_number`."""
    return _EPOCH + number * _MICROSECOND


def day_number(value: date) -> int:
    """Days since 1970-01-01."""
    return value.toordinal() - _EPOCH_DAY


def day_of(number: int) -> date:
    """The day of `day_number`."""
    return date.fromordinal(number + _EPOCH_DAY)


def local_day(value: datetime, zone: ZoneInfo) -> int:
    """The number of the calendar day that an instant falls on in a zone."""
    try:
        return day_number(value.astimezone(zone).date())
    except OverflowError:
        # The first and last day of the calendar have no neighbours to shift to.
        return day_number(value.astimezone(UTC).date())


def _millionths(value: Decimal) -> int:
    return scaled(value, MILLION, LARGEST_INTEGER)


def _from_millionths(number: int) -> Decimal:
    return Decimal(number).scaleb(-MILLION)


def _integer(value: int) -> int:
    if abs(value) > LARGEST_INTEGER:
        raise TooLarge
    return value


def _exact(value: Decimal) -> str:
    if not value.is_finite():
        raise NotFinite
    if abs(value.adjusted()) > LONGEST_RATE or len(value.as_tuple().digits) > LONGEST_RATE:
        raise TooLarge
    return format(value, "f")


class NoZone(ValueError):
    """A datetime that names no instant."""


# ---------------------------------------------------------------- records to rows


@lru_cache(maxsize=64)
def columns_of(stream: str) -> tuple[str, ...]:
    """Names of a stream's columns, in the order of `RowMaker.rows`."""
    return tuple(column.name for column in RECORD_TABLES[stream].columns)


@lru_cache(maxsize=64)
def fields_of(stream: str) -> tuple[str, ...]:
    """The columns that are fields of the record as they stand (not derived, not structured)."""
    record_type = RECORD_TYPES[stream]
    return tuple(
        name
        for name in columns_of(stream)
        if name in record_type.__dataclass_fields__ and name not in {"ref", "extra"}
    )


class RowMaker:
    """Turns records of one stream into tuples for its table, column by column.

    A page goes through here on its way in: what is done once for a column and not once for a
    value is most of the speed.
    """

    def __init__(self, stream: str, company: Company) -> None:
        self.stream = stream
        self.company = company
        self.cleaned = 0
        """Texts that had to be altered so far."""

    def rows(self, records: Sequence[CanonicalRecord]) -> list[tuple[Cell, ...]]:
        """The rows as they will be stored, in the order of `columns_of`.

        Raises:
            RecordRefused: a value does not fit; names the field.
        """
        try:
            columns = [self._column(name, records) for name in columns_of(self.stream)]
        except ValueError:
            for record in records:
                check(record, self.company)  # names the field
            raise
        return list(zip(*columns, strict=True))

    def _column(self, name: str, records: Sequence[CanonicalRecord]) -> Sequence[Cell]:
        if name == "ref":
            return self._texts([record.ref.key for record in records])
        if name == "extra":
            return [self._extra(record) if record.extra else None for record in records]
        if name in _DERIVED:
            derive, zone = _DERIVED[name], self.company.timezone
            return [derive(record, zone) for record in records]
        values = list(map(attrgetter(name), records))
        if name in MONEY:
            return self._money(values, records)
        if name in FLAGS:
            return [bool(value) for value in values]
        convert = _CONVERTERS.get(kind_of(name))
        if convert is None:
            return self._texts(values)
        return [None if value is None else convert(value) for value in values]

    def _texts(self, values: list[str | None]) -> Sequence[str | None]:
        if is_storable("".join([value for value in values if value is not None])):
            return values
        return [None if value is None else self._clean(value) for value in values]

    def _clean(self, value: str) -> str:
        clean = cleaned_text(value)
        self.cleaned += clean != value
        return clean

    def _extra(self, record: CanonicalRecord) -> str | None:
        return encode_fields(
            {
                name: self._clean(value) if isinstance(value, str) else value
                for name, value in record.extra.items()
            }
        )

    def _money(
        self, values: Sequence[Decimal | None], records: Sequence[CanonicalRecord]
    ) -> Sequence[int | None]:
        default = self.company.currency
        currencies = map(attrgetter("currency"), records)
        return [
            None if value is None else to_minor(value, currency or default)
            for value, currency in zip(values, currencies, strict=True)
        ]


def check(record: CanonicalRecord, company: Company | None = None) -> None:
    """Whether the store can hold a record without changing its meaning.

    Args:
        record: what is about to be staged.
        company: whose currency amounts without one have; without it two digits are taken.

    Raises:
        RecordRefused: a number is not finite or beyond what the store holds, or an instant has
            no zone; names the first such field.
    """
    for name, test in _tests_of(record.STREAM):
        value = getattr(record, name)
        if value is None:
            continue
        try:
            test(value)
        except ValueError as error:
            raise _refusal(name, value, error) from None
    for name in _money_of(record.STREAM):
        value = getattr(record, name)
        if value is None:
            continue
        currency = getattr(record, "currency", None) or (company.currency if company else "")
        try:
            to_minor(value, currency)
        except ValueError as error:
            raise _refusal(name, value, error) from None
    for name, value in record.extra.items():
        try:
            encode(value)
        except ValueError as error:
            raise _refusal(name, value, error) from None


@lru_cache(maxsize=64)
def _tests_of(stream: str) -> tuple[tuple[str, Callable[[Any], object]], ...]:
    return tuple(
        (name, _TESTS[kind_of(name)]) for name in fields_of(stream) if kind_of(name) in _TESTS
    )


@lru_cache(maxsize=64)
def _money_of(stream: str) -> tuple[str, ...]:
    return tuple(name for name in fields_of(stream) if name in MONEY)


def _refusal(name: str, value: object, error: ValueError) -> RecordRefused:
    if isinstance(error, NotFinite):
        code, words = "not_a_number", "is not a finite number"
    elif isinstance(error, TooLarge):
        code, words = "number_too_large", "is larger than any plausible value"
    elif isinstance(error, NoZone):
        code, words = "no_zone", "is an instant without a time zone"
    else:
        code, words = "unfit", f"cannot be stored: {error}"
    return RecordRefused(
        name, f'the value of "{name}" {words}; correct it in the CRM', code, _raw(value)
    )


def _raw(value: object) -> str:
    try:
        return str(value)[:200]
    except ValueError:
        # Python refuses to print integers of more than 4,300 digits.
        return "an integer of thousands of digits"


def kind_of(name: str) -> str:
    """How a field is stored; the same name means the same in every stream."""
    return next((kind for kind, names in _KINDS.items() if name in names), "text")


_KINDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "instant": INSTANTS,
        "day": DAYS,
        "millionths": MILLIONTHS,
        "integer": INTEGERS,
        "flag": FLAGS,
        "exact": EXACT,
        "money": MONEY,
    }
)

_CONVERTERS: Final[Mapping[str, Callable[[Any], Cell]]] = MappingProxyType(
    {
        "instant": instant_number,
        "day": day_number,
        "millionths": _millionths,
        "integer": _integer,
        "exact": _exact,
    }
)

_TESTS: Final[Mapping[str, Callable[[Any], object]]] = MappingProxyType(
    {"instant": _zoned, "millionths": _millionths, "integer": _integer, "exact": _exact}
)


def _day_or_none(value: datetime | None, zone: ZoneInfo) -> int | None:
    return None if value is None else local_day(value, zone)


def _closed_day(record: Any, zone: ZoneInfo) -> int | None:
    if not record.is_closed:
        return None
    close_date: date | None = getattr(record, "close_date", None)
    if close_date is not None:
        return day_number(close_date)
    return _day_or_none(record.closed_at, zone)


_DERIVED: Final[Mapping[str, Callable[[Any, ZoneInfo], int | None]]] = MappingProxyType(
    {
        "created_day": lambda record, zone: _day_or_none(record.created_at, zone),
        "at_day": lambda record, zone: local_day(record.at, zone),
        "submitted_day": lambda record, zone: local_day(record.submitted_at, zone),
        "closed_day": _closed_day,
        "qualified_day": lambda record, zone: _day_or_none(record.qualified_at, zone),
        "first_response_day": lambda record, zone: _day_or_none(record.first_response_at, zone),
    }
)


def row_of(record: CanonicalRecord, company: Company) -> dict[str, Cell]:
    """The row of a record, by column name.

    Raises:
        RecordRefused: a value does not fit.
    """
    (row,) = RowMaker(record.STREAM, company).rows([record])
    return dict(zip(columns_of(record.STREAM), row, strict=True))


# ---------------------------------------------------------------- rows to records


class RecordMaker:
    """Turns rows of one stream's table into records."""

    def __init__(self, stream: str, company: Company) -> None:
        self._stream = stream
        self._type = RECORD_TYPES[stream]
        self._currency = company.currency
        fields = fields_of(stream)
        self._plain = tuple(name for name in fields if kind_of(name) in {"text", "integer"})
        self._converted = tuple(
            (name, _READERS[kind_of(name)]) for name in fields if kind_of(name) in _READERS
        )
        self._money = tuple(name for name in fields if name in MONEY)

    def record(self, row: Mapping[str, Any] | RowMapping) -> CanonicalRecord:
        """The record that a row stands for."""
        values: dict[str, Any] = {name: row[name] for name in self._plain}
        for name, read in self._converted:
            stored = row[name]
            values[name] = None if stored is None else read(stored)
        currency = row["currency"] or self._currency if self._money else self._currency
        for name in self._money:
            stored = row[name]
            values[name] = None if stored is None else from_minor(stored, currency)
        extra = row["extra"]
        values["extra"] = NO_EXTRA if extra is None else MappingProxyType(decode_fields(extra))
        return self._type(ref=ref_of(row["ref"], self._stream), **values)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "instant": instant_of,
        "day": day_of,
        "millionths": _from_millionths,
        "flag": bool,
        "exact": Decimal,
    }
)


def record_of(row: Mapping[str, Any], company: Company) -> CanonicalRecord:
    """The record of a whole row; its stream is known by its columns."""
    return RecordMaker(_stream_of(frozenset(row)), company).record(row)


@lru_cache(maxsize=64)
def _stream_of(columns: frozenset[str]) -> str:
    for stream in RECORD_TABLES:
        if columns == frozenset(columns_of(stream)):
            return stream
    raise ValueError(f"no stream has exactly the columns {sorted(columns)}")


def ref_of(key: str, stream: str) -> RecordRef:
    """The reference that a key (``CONNECTION:native id``) stands for."""
    connection, _, native_id = key.partition(":")
    return RecordRef(connection, stream, native_id)
