"""What facts carry: the mapped fields that no built-in dimension carries, and what is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import FromClause, func
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.terms import no_number, no_text, number, one, zero
from metrics.dimensions import LONGEST_VALUE, OWN_PLACES
from store.own_fields import OwnFields


@dataclass(frozen=True, slots=True)
class Mapped:
    """Which fields of a stream stand in which places, and which columns any family reads."""

    names: tuple[str, ...] = ()
    for_postgresql: bool = False
    read: frozenset[str] | None = None
    """Columns that are read, among those that are not always; None: all of them."""

    def text(self, name: str, column: ColumnElement[str]) -> ColumnElement[str]:
        """The column, or null where no family reads it."""
        return column if self._is_read(name) else no_text()

    def number(self, name: str, column: ColumnElement[int]) -> ColumnElement[int]:
        """The same of a number that may be null."""
        return column if self._is_read(name) else no_number()

    def count(self, name: str, column: ColumnElement[int]) -> ColumnElement[int]:
        """The same of a number that may not be null."""
        return column if self._is_read(name) else zero

    def _is_read(self, name: str) -> bool:
        return self.read is None or name in self.read


NOTHING: Final = Mapped()


def places_of(
    table: FromClause, mapped: Mapped, copies: FromClause | None = None
) -> Iterator[ColumnElement[str]]:
    """A column for each of `OWN_PLACES`; those without a field are null.

    Args:
        table: the records.
        mapped: which fields stand in which places.
        copies: joined; own fields of copies that count instead, see `store.fallbacks`.
    """
    extra = table.c.extra if copies is None else func.coalesce(copies.c.extra, table.c.extra)
    own = OwnFields(extra, for_postgresql=mapped.for_postgresql)
    for place, label in enumerate(OWN_PLACES):
        if place >= len(mapped.names):
            yield no_text().label(label)
            continue
        name = mapped.names[place]
        column = table.c[name] if name in table.c else own.key(name)
        yield func.substr(column, one, number(LONGEST_VALUE)).label(label)
