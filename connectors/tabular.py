"""Rows with named columns as canonical records: what files and queries have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final
from uuid import UUID

from connectors.base import ConnectionSettings, FieldSource
from connectors.fieldmap import (
    FieldMap,
    MapRequest,
    NativeField,
    canonical_fields,
    compile_fieldmap,
)
from store.canonical import RECORD_TYPES

LEAST_EPOCH: Final = 10**11
"""Smaller bare numbers are days (20260305), seconds or a spreadsheet's count of days, not
milliseconds since 1970; as those they would all lie before March 1973."""

_EXACT_WHOLE: Final = 2.0**53
_REMEDY: Final = "Correct the name of the column, or map the field from the one that holds it."


def map_columns(
    settings: ConnectionSettings, stream: str, *, place: str, columns: Iterable[str]
) -> FieldMap:
    """The field map of a stream whose columns map themselves where they are named like fields.

    Args:
        settings: Of the connection.
        stream: The canonical stream.
        place: Where the columns are, for people: a file pattern, "the query".
        columns: Their names; case does not matter.

    Raises:
        StreamPaused: a needed column is missing.
        MisconfiguredConnection: a type cannot be read as another.
    """
    known = {name.casefold(): name for name in reversed(list(columns))}
    mappable = canonical_fields(stream)
    needed = needed_fields(stream)

    def look_up(source: str) -> NativeField | None:
        name = known.get(source.casefold())
        return None if name is None else NativeField(name)

    return compile_fieldmap(
        MapRequest(
            connection=settings.name,
            crm=place,
            stream=stream,
            object=place,
            company=settings.company,
            defaults={name: FieldSource(name, required=name in needed) for name in mappable},
            own=settings.streams[stream].fields,
            look_up=look_up,
            missing_remedy=_REMEDY,
            may_lack=frozenset(mappable) - needed,
            least_epoch=LEAST_EPOCH,
        )
    )


def needed_fields(stream: str) -> frozenset[str]:
    """Canonical fields that a record of the stream cannot be without."""
    known = RECORD_TYPES[stream].__dataclass_fields__
    return frozenset(name for name in canonical_fields(stream) if known[name].default is MISSING)


def as_json_has_it(row: Mapping[str, object]) -> Mapping[str, object]:
    """Values as the JSON of a CRM would have them: no empty texts, days and instants as text."""
    return MappingProxyType({name: _plain(value) for name, value in row.items()})


def _plain(value: object) -> object:
    match value:
        case str():
            return value.strip() or None
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return aware.isoformat()
        case date():
            return value.isoformat()
        case float():
            if value.is_integer() and abs(value) < _EXACT_WHOLE:
                # Ids of a column with gaps, as data frames keep them.
                return int(value)
            # The shortest text that means this number, as its writer saw it.
            return Decimal(repr(value))
        case UUID():
            return str(value)
        case _:
            return value
