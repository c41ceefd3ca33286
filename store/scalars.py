"""Scalars as JSON text and back, one text for one value: equal values have equal text.

Text is a JSON string, a number a JSON number in plain notation without trailing zeros, yes and
no are JSON booleans, a day is ``{"date": "2026-02-28"}``, an instant
``{"at": "2026-02-28T11:30:00.000000+00:00"}``, no value is ``null``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from store.canonical import Scalar

# With options, json's own functions make a new reader or writer for every value.
_read: Final = json.JSONDecoder(parse_float=Decimal).decode
_write: Final = json.JSONEncoder(ensure_ascii=False).encode

MOST_DIGITS: Final = 200
"""Longest plain notation of a number; `1E+999999` would be a megabyte of zeros."""


def encode(value: Scalar) -> str:
    """The JSON text of a scalar.

    Raises:
        ValueError: a number is not finite or needs more than 200 digits, or an instant has no
            zone.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _write(value)
    if isinstance(value, int | Decimal):
        return _number(Decimal(value))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a naive datetime has no instant")
        return json.dumps({"at": value.astimezone(UTC).isoformat(timespec="microseconds")})
    return json.dumps({"date": value.isoformat()})


def decode(text: str) -> Scalar:
    """The scalar of a JSON text that `encode` made."""
    return _scalar(_read(text))


def encode_fields(fields: Mapping[str, Scalar]) -> str | None:
    """A JSON object of scalars, sorted by name; None for an empty one.

    Raises:
        ValueError: as `encode`.
    """
    if not fields:
        return None
    parts = (f"{json.dumps(name)}: {encode(fields[name])}" for name in sorted(fields))
    return "{" + ", ".join(parts) + "}"


def decode_fields(text: str | None) -> dict[str, Scalar]:
    """The scalars of `encode_fields`."""
    if text is None:
        return {}
    return {name: _scalar(value) for name, value in _read(text).items()}


def _scalar(value: str | int | Decimal | bool | dict[str, str] | None) -> Scalar:
    if isinstance(value, dict):
        if "date" in value:
            return date.fromisoformat(value["date"])
        return datetime.fromisoformat(value["at"])
    return value


def _number(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("not a finite number")
    if not value:
        return "0"
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and max(abs(value.adjusted()), -exponent) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")
    plain = format(value, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
