"""Fields of the company's own mapping, read by SQL: whole numbers, texts and days out of JSON.

They stand in the column ``extra`` as `store.scalars` writes them. On PostgreSQL the database
reads them; on SQLite, which knows no exact decimals, a function of ours does. A value that is
not of the wanted kind, or larger than the bound, is null: nobody knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Date,
    Integer,
    Text,
    case,
    cast,
    extract,
    func,
    literal,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import Numeric

from store.canonical import Scalar
from store.conversion import day_number, instant_number
from store.money import scaled
from store.scalars import decode_fields, encode

LARGEST: Final = 10**15
"""Beyond it, in the smallest units that are kept, a number is a mistake: sums would overflow."""

_FUNCTION: Final = "kpisync_own_field"


# ---------------------------------------------------------------- as Python reads them


def text_of(value: Scalar) -> str | None:
    """A text."""
    return value if isinstance(value, str) else None


def key_of(value: Scalar) -> str | None:
    """Whatever can tell groups apart: a text, a number, yes or no, a day."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, datetime):
        return None
    return value.isoformat() if isinstance(value, date) else encode(value)


def flag_of(value: Scalar) -> int | None:
    """Yes (1) or no (0)."""
    return int(value) if isinstance(value, bool) else None


def units_of(value: Scalar, digits: int) -> int | None:
    """A number in units of 10^-digits."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    try:
        return scaled(Decimal(value), digits, LARGEST)
    except ValueError:
        return None


def day_of(value: Scalar) -> int | None:
    """Of a day its number."""
    if isinstance(value, datetime) or not isinstance(value, date):
        return None
    return day_number(value)


def instant_of(value: Scalar) -> int | None:
    """Of an instant its number."""
    return instant_number(value) if isinstance(value, datetime) else None


_READERS: Final[Mapping[str, Callable[[Scalar], int | str | None]]] = MappingProxyType(
    {"text": text_of, "key": key_of, "flag": flag_of, "day": day_of, "instant": instant_of}
)


def _read(extra: str | None, name: str, kind: str, digits: int | None) -> int | str | None:
    if extra is None:
        return None
    value = _fields(extra).get(name)
    if kind == "units":
        return None if digits is None else units_of(value, digits)
    return _READERS[kind](value)


@lru_cache(maxsize=256)
def _fields(extra: str) -> Mapping[str, Scalar]:
    # Several fields of one record are asked for one after the other.
    return decode_fields(extra)


def register(connection: DBAPIConnection) -> None:
    """Let a SQLite connection know the function."""
    connection.create_function(_FUNCTION, 4, _read, deterministic=True)


# ---------------------------------------------------------------- as statements read them


class OwnFields:
    """The own fields of one table, as columns of a statement."""

    def __init__(self, extra: ColumnElement[str], *, for_postgresql: bool) -> None:
        """Read from a table.

        Args:
            extra: its column.
            for_postgresql: which store the statement is for.
        """
        self._extra = extra
        self._for_postgresql = for_postgresql

    def text(self, name: str) -> ColumnElement[str]:
        """A text."""
        if not self._for_postgresql:
            return self._on_sqlite(name, "text", Text())
        return case((self._is(name, "string"), self._json(name)))

    def key(self, name: str) -> ColumnElement[str]:
        """Whatever can tell groups apart, as text."""
        if not self._for_postgresql:
            return self._on_sqlite(name, "key", Text())
        kind = self._kind(name)
        return case(
            (kind.in_(("string", "number", "boolean")), self._json(name)),
            (kind == "object", self._inner(name, "date")),
        )

    def flag(self, name: str) -> ColumnElement[int]:
        """1, 0 or null."""
        if not self._for_postgresql:
            return self._on_sqlite(name, "flag", Integer())
        text = self._json(name)
        return case(
            (self._is(name, "boolean"), case((text == "true", 1), else_=0)),
        )

    def units(self, name: str, digits: ColumnElement[int] | int) -> ColumnElement[int]:
        """A number in units of 10^-digits."""
        if not self._for_postgresql:
            return self._on_sqlite(name, "units", BigInteger(), digits)
        number = cast(self._json(name), Numeric())
        units = func.round(number * func.power(cast(10, Numeric()), digits))
        fits = case((func.abs(units) <= literal(LARGEST, BigInteger()), cast(units, BigInteger)))
        return case((self._is(name, "number"), fits))

    def day(self, name: str) -> ColumnElement[int]:
        """Of a day its number."""
        if not self._for_postgresql:
            return self._on_sqlite(name, "day", Integer())
        epoch = literal_column("DATE '1970-01-01'", Date())
        days: ColumnElement[int] = cast(self._inner(name, "date"), Date()).op(
            "-", return_type=Integer()
        )(epoch)
        return case((self._is(name, "object"), days))

    def instant(self, name: str) -> ColumnElement[int]:
        """Of an instant its number."""
        if not self._for_postgresql:
            return self._on_sqlite(name, "instant", BigInteger())
        at = cast(self._inner(name, "at"), TIMESTAMP(timezone=True))
        number = extract("epoch", at) * 1_000_000
        return case((self._is(name, "object"), cast(number, BigInteger)))

    # ---- the two stores

    def _on_sqlite(
        self,
        name: str,
        kind: str,
        type_: Text | Integer | BigInteger,
        digits: ColumnElement[int] | int = 0,
    ) -> ColumnElement[Any]:
        return func.kpisync_own_field(self._extra, name, kind, digits, type_=type_)

    def _kind(self, name: str) -> ColumnElement[str]:
        return func.json_typeof(cast(self._extra, JSON)[name], type_=Text())

    def _is(self, name: str, kind: str) -> ColumnElement[bool]:
        return self._kind(name) == kind

    def _json(self, name: str) -> ColumnElement[str]:
        text: ColumnElement[str] = cast(self._extra, JSON)[name].astext
        return text

    def _inner(self, name: str, part: str) -> ColumnElement[str]:
        text: ColumnElement[str] = cast(self._extra, JSON)[name][part].astext
        return text
