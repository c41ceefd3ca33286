"""Reading one native value: JSON scalars of a CRM become exact, bounded canonical scalars.

Every reader takes what JSON can hold (text, numbers, booleans, null) and returns a canonical
scalar, None for "no value", or raises `Unreadable` with a reason in plain words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final, TypeAlias

from store.canonical import Scalar

Reader: TypeAlias = Callable[[object], Scalar]

LARGEST_MONEY: Final = Decimal(10) ** 16
"""Sixteen digits before the point and two behind it: no CRM's field of money holds more."""
LARGEST_NUMBER: Final = Decimal(10) ** 12
"""Above it a number in millionths would leave 64 bits."""
LARGEST_INTEGER: Final = 10**18
LONGEST_NUMBER: Final = 60
"""Characters; longer ones are no numbers of a business."""

EARLIEST_YEAR: Final = 1000
LATEST_INSTANT: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""Later ones leave the calendar in some time zone."""

_ISO_DATE_LENGTH: Final = len("2026-11-22")
_BARE_DATE_LENGTH: Final = len("20261122")
_MILLISECONDS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_EPOCH: Final = 16

_TRUTHS: Final[Mapping[str, bool | None]] = MappingProxyType(
    {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "": None}
)


class Unreadable(ValueError):
    """A value that is not what its field promises.

    Args:
        code: A stable short name of the fault.
        reason: What is wrong, to follow the value in a sentence ("is not a number").
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a reader has to know beside the type."""

    zone: tzinfo
    """The company's zone: it decides the day of an instant."""
    prefix: str
    """What stands before a native id in a key (``salesforce:``)."""
    identify: Callable[[str], str] = str
    """Brings a native id into its one spelling."""
    percent_divisor: int = 100
    """What a percent of the CRM is divided by to be a ratio."""
    is_midnight_utc: bool = False
    """Instants of a calendar-day field stand for midnight UTC of that day."""
    least_epoch: int = 0
    """A bare number below it is no instant in milliseconds since 1970: in tables written by
    people and other programs 20260305 is a day, and nobody knows what 45658 is."""


def reader(kind: str, options: ReadOptions) -> Reader:
    """The reader of values of type `kind` (one of ``fieldmap.TYPES``)."""
    match kind:
        case "money":
            return _bounded_number(LARGEST_MONEY)
        case "number":
            return _bounded_number(LARGEST_NUMBER)
        case "percent":
            return _percent(options.percent_divisor)
        case "date":
            return _day(UTC if options.is_midnight_utc else options.zone, options.least_epoch)
        case "datetime":
            return _instant(options.zone, options.least_epoch)
        case "ref":
            return _key(options.prefix, options.identify)
        case _:
            return _PLAIN[kind]


def read_text(value: object) -> str | None:
    """Text as it is; the empty text is no value."""
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal, float)):
        return str(value)
    raise Unreadable("not_a_text", "is a compound value, not a text")


def read_boolean(value: object) -> bool | None:
    """True or false, also as text (``"true"``)."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        truth = _TRUTHS.get(value.strip().lower(), value)
        if not isinstance(truth, str):
            return truth
    if isinstance(value, int) and value in {0, 1}:
        return bool(value)
    raise Unreadable("not_a_boolean", "is neither true nor false")


def read_integer(value: object) -> int | None:
    """A whole number; ``5.0`` is one, ``5.5`` is not."""
    if type(value) is int:
        number = value
    else:
        exact = _decimal(value)
        if exact is None:
            return None
        if exact.adjusted() >= LONGEST_NUMBER or exact != exact.to_integral_value():
            raise Unreadable("not_an_integer", "is not a whole number")
        number = int(exact)
    if not -LARGEST_INTEGER < number < LARGEST_INTEGER:
        raise Unreadable("number_too_large", "is too large a number")
    return number


def _bounded_number(largest: Decimal) -> Callable[[object], Decimal | None]:
    smallest = -largest

    def read(value: object) -> Decimal | None:
        number = _decimal(value)
        if number is None or smallest < number < largest:
            return number
        raise Unreadable("number_too_large", "is too large a number")

    return read


def _percent(divisor: int) -> Reader:
    bounded = _bounded_number(LARGEST_NUMBER)
    if divisor == 1:
        return bounded

    def read(value: object) -> Decimal | None:
        number = bounded(value)
        return None if number is None else number / divisor

    return read


def _decimal(value: object) -> Decimal | None:
    """An exact finite number of bounded length; None for no value."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise Unreadable("not_a_number", "is not a number")
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, int):
        if not -LARGEST_INTEGER < value < LARGEST_INTEGER:
            raise Unreadable("number_too_large", "is too large a number")
        return Decimal(value)
    elif isinstance(value, (str, float)):
        number = _parsed(value if isinstance(value, str) else repr(value))
    else:
        raise Unreadable("not_a_number", "is not a number")
    if not number.is_finite():
        raise Unreadable("not_a_number", "is not a number")
    if len(number.as_tuple().digits) > LONGEST_NUMBER or abs(number.adjusted()) > LONGEST_NUMBER:
        if number == 0:
            return Decimal(0)
        raise Unreadable("number_too_long", "has too many digits for a number")
    return number


def _parsed(text: str) -> Decimal:
    stripped = text.strip()
    if len(stripped) > LONGEST_NUMBER:
        raise Unreadable("number_too_long", "has too many digits for a number")
    # Decimal takes "1_000" and the digits of other scripts; no CRM means a number by them.
    if "_" in stripped or not stripped.isascii():
        raise Unreadable("not_a_number", "is not a number")
    try:
        return Decimal(stripped)
    except InvalidOperation:
        raise Unreadable("not_a_number", "is not a number") from None


def _day(zone: tzinfo, least_epoch: int) -> Reader:
    def read(value: object) -> date | None:
        if value is None or value == "":
            return None
        if isinstance(value, str) and len(value) == _ISO_DATE_LENGTH and value[4] == "-":
            return _checked_day(value)
        instant = _parsed_instant(_dashed(value, least_epoch, "date"), zone, "date")
        return instant.astimezone(zone).date()

    return read


def _checked_day(text: str) -> date:
    try:
        # Python 3.11 would take "20260101xx" for a day.
        day = date.fromisoformat(text if text[4] == text[7] == "-" else "")
    except ValueError:
        raise Unreadable("not_a_date", "is not a calendar day") from None
    if day.year < EARLIEST_YEAR:
        raise Unreadable("date_out_of_range", "is a day outside the years 1000 to 9999")
    return day


def _instant(zone: tzinfo, least_epoch: int) -> Reader:
    def read(value: object) -> datetime | None:
        if value is None or value == "":
            return None
        return _parsed_instant(_dashed(value, least_epoch, "datetime"), zone, "datetime")

    return read


def _dashed(value: object, least_epoch: int, wanted: str) -> object:
    """A bare number that is too small to be milliseconds as the day it writes."""
    if not least_epoch or isinstance(value, bool) or not isinstance(value, (int, str)):
        return value
    text = str(value).strip()
    is_number = text.isascii() and text.lstrip("-").isdecimal() and len(text) <= _LONGEST_EPOCH
    if not is_number or abs(int(text)) >= least_epoch:
        return value
    if len(text) != _BARE_DATE_LENGTH or text.startswith("-"):
        raise _not_an_instant(wanted)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _parsed_instant(value: object, zone: tzinfo, wanted: str) -> datetime:
    """An aware instant in UTC; a bare day is its midnight in `zone`."""
    try:
        instant = _raw_instant(value, zone, wanted)
        in_utc = instant.astimezone(UTC)
    except OverflowError:
        in_utc = None
    except ValueError as error:
        if isinstance(error, Unreadable):
            raise
        raise _not_an_instant(wanted) from None
    if in_utc is None or in_utc.year < EARLIEST_YEAR or in_utc > LATEST_INSTANT:
        raise Unreadable("date_out_of_range", "is a time outside the years 1000 to 9999")
    return in_utc


def _raw_instant(value: object, zone: tzinfo, wanted: str) -> datetime:
    if isinstance(value, int) and not isinstance(value, bool):
        return _EPOCH + value * _MILLISECONDS
    if not isinstance(value, str):
        raise _not_an_instant(wanted)
    text = value.strip()
    if text.lstrip("-").isdecimal() and text.isascii():
        if len(text) > _LONGEST_EPOCH:
            raise Unreadable("date_out_of_range", "is a time outside the years 1000 to 9999")
        return _EPOCH + int(text) * _MILLISECONDS
    if len(text) == _ISO_DATE_LENGTH:
        return datetime.combine(_checked_day(text), time(), zone)
    instant = _iso_instant(text)
    if instant.tzinfo is None:
        raise Unreadable("no_time_zone", "is a time without a zone")
    return instant


def _iso_instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        # A leap second: Python's clock has none, the instant is the next second.
        if ":60" not in text:
            raise
        return datetime.fromisoformat(text.replace(":60", ":59", 1)) + timedelta(seconds=1)


def _not_an_instant(wanted: str) -> Unreadable:
    if wanted == "date":
        return Unreadable("not_a_date", "is not a calendar day")
    return Unreadable("not_a_datetime", "is not a date and time")


def _key(prefix: str, identify: Callable[[str], str]) -> Reader:
    def read(value: object) -> str | None:
        if type(value) is str:
            return prefix + identify(value) if value else None
        text = read_text(value)
        return None if text is None else prefix + identify(text)

    return read


_PLAIN: Final[Mapping[str, Reader]] = MappingProxyType(
    {"text": read_text, "boolean": read_boolean, "integer": read_integer}
)
