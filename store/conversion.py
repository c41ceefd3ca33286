"""Canonical records to rows of their tables and back.

The only place that knows how a field is stored: instants as microseconds, days as numbers,
money as minor units, ratios as millionths, text cleaned. Derived columns (local days) are
computed here, in the company's zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
    LARGEST_AMOUNT,
    USUAL_MINOR_UNITS,
    NotFinite,
    TooLarge,
    from_minor,
    minor_units,
    scaled,
)
from store.scalars import decode_fields, encode_fields
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
INTEGERS: Final = frozenset({"employees", "nps_score", "position"})
FLAGS: Final = frozenset({"deleted", "is_closed", "is_won", "is_primary", "is_active"})
EXACT: Final = frozenset({"rate"})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

Cell = str | int | bool | None
"""A value of a record table's column."""


# ---------------------------------------------------------------- one value


class TextCleaner:
    """Makes text storable and counts how often that changed it."""

    def __init__(self) -> None:
        self.cleaned = 0

    def __call__(self, value: str) -> str:
        """The text without NUL and lone surrogates, at most 64 KiB long."""
        if value.isascii() and len(value) <= LONGEST_TEXT and "\0" not in value:
            return value
        clean = _SURROGATES.sub("\ufffd", value.replace("\0", "\ufffd"))
        encoded = clean.encode()
        if len(encoded) > LONGEST_TEXT:
            room = LONGEST_TEXT - len(CUT.encode())
            clean = encoded[:room].decode(errors="ignore") + CUT
        if clean != value:
            self.cleaned += 1
        return clean


def instant_number(value: datetime) -> int:
    """Microseconds since 1970, UTC."""
    if value.tzinfo is None:
        raise _Unfit("no_zone", "is an instant without a time zone")
    return (value - _EPOCH) // _MICROSECOND


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
    return int(value)


def _exact(value: Decimal) -> str:
    if not value.is_finite():
        raise NotFinite
    if abs(value.adjusted()) > LONGEST_RATE or len(value.as_tuple().digits) > LONGEST_RATE:
        raise TooLarge
    return format(value, "f")


def _same(value: Any) -> Any:
    return value


class _Unfit(ValueError):
    def __init__(self, code: str, words: str) -> None:
        super().__init__(code, words)
        self.code = code
        self.words = words


# ---------------------------------------------------------------- records to rows


@lru_cache(maxsize=64)
def columns_of(stream: str) -> tuple[str, ...]:
    """Names of a stream's columns, in the order of `RowMaker.row`."""
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
    """Turns the records of one stream into tuples for its table."""

    def __init__(self, stream: str, company: Company) -> None:
        self.stream = stream
        self.company = company
        self.clean = TextCleaner()
        self._fields = fields_of(stream)
        self._read = attrgetter(*self._fields)
        self._converters = tuple(self._converter(name) for name in self._fields)
        self._defaults = tuple(False if name in FLAGS else None for name in self._fields)
        self._money = tuple(name for name in self._fields if name in MONEY)
        self._derived = _derived(stream)
        self._order = self._position_of_columns()

    def row(self, record: CanonicalRecord) -> tuple[Cell, ...]:
        """The row as it will be stored, in the order of `columns_of`.

        Raises:
            RecordRefused: a value does not fit; names the field.
        """
        zone = self.company.timezone
        values = self._read(record)
        try:
            cells: list[Cell] = [
                default if value is None else convert(value)
                for value, convert, default in zip(
                    values, self._converters, self._defaults, strict=True
                )
            ]
            cells.append(self.clean(record.ref.key))
            cells.append(self._extra(record) if record.extra else None)
            if self._money:
                digits = minor_units(getattr(record, "currency", None) or self.company.currency)
                cells.extend(
                    None if amount is None else scaled(amount, digits, LARGEST_AMOUNT)
                    for amount in (getattr(record, name) for name in self._money)
                )
            cells.extend(derive(record, zone) for derive in self._derived.values())
        except ValueError:
            check(record, self.company)  # names the field
            raise
        return tuple([cells[place] for place in self._order])

    def _position_of_columns(self) -> tuple[int, ...]:
        produced = (*self._fields, "ref", "extra", *self._money, *self._derived)
        # The last position counts: money stands twice, first unconverted.
        position = {name: place for place, name in enumerate(produced)}
        return tuple(position[name] for name in columns_of(self.stream))

    def _converter(self, name: str) -> Callable[[Any], Any]:
        if name in MONEY:
            return _same
        return _CONVERTERS.get(_kind(name), self.clean)

    def _extra(self, record: CanonicalRecord) -> str | None:
        cleaned = {
            name: self.clean(value) if isinstance(value, str) else value
            for name, value in record.extra.items()
        }
        return encode_fields(cleaned)


def check(record: CanonicalRecord, company: Company | None = None) -> None:
    """Whether the store can hold a record without changing its meaning.

    Args:
        record: what is about to be staged.
        company: whose currency amounts without one have; without it two digits are taken.

    Raises:
        RecordRefused: a number is not finite or beyond what the store holds, or an instant has
            no zone; names the first such field.
    """
    stream = record.STREAM
    currency = getattr(record, "currency", None) or (company.currency if company else None)
    digits = minor_units(currency) if currency else USUAL_MINOR_UNITS
    for name in fields_of(stream):
        value = getattr(record, name)
        if value is None:
            continue
        kind = _kind(name)
        try:
            if name in MONEY:
                scaled(value, digits, LARGEST_AMOUNT)
            elif kind in _CHECKED:
                _CONVERTERS[kind](value)
        except ValueError as error:
            raise _refusal(name, value, error) from None
    for name, value in record.extra.items():
        try:
            encode_fields({name: value})
        except ValueError as error:
            raise _refusal(name, value, error) from None


def _refusal(name: str, value: object, error: ValueError) -> RecordRefused:
    if isinstance(error, NotFinite):
        code, words = "not_a_number", "is not a finite number"
    elif isinstance(error, TooLarge):
        code, words = "number_too_large", "is larger than any plausible value"
    elif isinstance(error, _Unfit):
        code, words = error.code, error.words
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


def _kind(name: str) -> str:
    for kind, names in _KINDS.items():
        if name in names:
            return kind
    return "text"


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

_CONVERTERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "instant": instant_number,
        "day": day_number,
        "millionths": _millionths,
        "integer": _integer,
        "flag": bool,
        "exact": _exact,
    }
)

_CHECKED: Final = frozenset({"instant", "millionths", "integer", "exact"})

Derive = Callable[[Any, ZoneInfo], int | None]


@lru_cache(maxsize=64)
def _derived(stream: str) -> Mapping[str, Derive]:
    known: dict[str, Derive] = {
        "created_day": lambda record, zone: _day_or_none(record.created_at, zone),
        "at_day": lambda record, zone: local_day(record.at, zone),
        "submitted_day": lambda record, zone: local_day(record.submitted_at, zone),
        "closed_day": _closed_day,
    }
    return {name: known[name] for name in columns_of(stream) if name in known}


def _day_or_none(value: datetime | None, zone: ZoneInfo) -> int | None:
    return None if value is None else local_day(value, zone)


def _closed_day(record: Any, zone: ZoneInfo) -> int | None:
    if not record.is_closed:
        return None
    close_date: date | None = getattr(record, "close_date", None)
    if close_date is not None:
        return day_number(close_date)
    return _day_or_none(record.closed_at, zone)


def row_of(record: CanonicalRecord, company: Company) -> dict[str, Cell]:
    """The row of a record, by column name.

    Raises:
        RecordRefused: a value does not fit.
    """
    row = RowMaker(record.STREAM, company).row(record)
    return dict(zip(columns_of(record.STREAM), row, strict=True))


# ---------------------------------------------------------------- rows to records


class RecordMaker:
    """Turns rows of one stream's table into records."""

    def __init__(self, stream: str, company: Company) -> None:
        self._stream = stream
        self._type = RECORD_TYPES[stream]
        self._currency = company.currency
        fields = fields_of(stream)
        self._plain = tuple(name for name in fields if _kind(name) in {"text", "integer"})
        self._converted = tuple(
            (name, _READERS[_kind(name)]) for name in fields if _kind(name) in _READERS
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
