"""Field maps: how the native values of one CRM object become the fields of a canonical record.

A connector says where the canonical fields of a stream come from by default, the configuration
overrides and adds. `compile_fieldmap` checks both once against what the CRM shows and returns a
`FieldMap`, which then turns native records into canonical ones at some 2 microseconds a field.

A value that cannot be read makes a `RejectedRecord`; the rest of its page lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeAlias, get_args, get_type_hints

from connectors.base import FieldSource
from connectors.errors import MisconfiguredConnection, StreamPaused
from connectors.values import Reader, ReadOptions, Unreadable, reader
from store.canonical import (
    NO_EXTRA,
    RECORD_TYPES,
    CanonicalRecord,
    Company,
    Key,
    RecordRef,
    RejectedRecord,
    Scalar,
)

RAW_LENGTH: Final = 200
"""How much of an offending value a dead letter keeps."""

NativeRecord: TypeAlias = Mapping[str, Any]
"""One record as the CRM's JSON has it; it does not travel beyond the connector."""

_MARKS: Final = frozenset({"ref", "deleted", "merged_into", "extra"})
"""Record fields that the connector itself fills in."""

_REFS: Final = frozenset(
    {
        "account", "campaign", "contact", "converted_account", "converted_contact",
        "converted_deal", "deal", "lead", "manager", "owner", "parent", "pipeline", "stage",
        "ticket",
    }
)  # fmt: skip
_MONEY: Final = frozenset({"amount", "annual_revenue", "budget", "cost", "total", "unit_price"})
_PERCENT: Final = frozenset({"probability"})

_CHOICES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"kind": frozenset({"new", "upsell", "renewal", "other"})}
)
"""Closed lists of deals; a value that the value map does not know is ``other``."""

_NUMBERS: Final = frozenset({"integer", "number", "money", "percent"})
_READABLE_AS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "text": frozenset({"text", "ref", "integer", "number", "money", "boolean"}),
        "integer": frozenset({"integer", "number"}),
        "number": _NUMBERS,
        "money": _NUMBERS,
        "percent": _NUMBERS,
        "date": frozenset({"date", "datetime"}),
        "datetime": frozenset({"date", "datetime"}),
        "boolean": frozenset({"boolean"}),
        "ref": frozenset({"ref", "text"}),
    }
)
"""Type of a canonical field -> types that the configuration may give its source."""

TYPES: Final = tuple(_READABLE_AS)
"""The types of mapped fields."""


@dataclass(frozen=True, slots=True)
class NativeField:
    """A field as the CRM describes it."""

    name: str
    """In the CRM's own spelling, as its answers have it; a path for a parent's field."""
    type: str | None = None
    """One of `TYPES`; None: unknown."""
    is_calculated: bool = False
    """Computed when it is read: a change of it moves no change time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRequest:
    """What is to be mapped, and how the CRM spells it.

    `look_up` returns the described field for a source name, or None where the run-time user sees
    no such field. `identify` brings native ids into one spelling; `identify_of` overrides it by
    canonical field. `missing_remedy` ends the message about a field that is not there.
    """

    connection: str
    crm: str
    """For people: "Salesforce"."""
    stream: str
    object: str
    company: Company
    defaults: Mapping[str, FieldSource]
    own: Mapping[str, FieldSource]
    look_up: Callable[[str], NativeField | None]
    missing_remedy: str
    may_lack: frozenset[str] = frozenset()
    """Default fields that need no word when they are not there."""
    identify: Callable[[str], str] = str
    identify_of: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    percent_divisor: int = 100
    least_epoch: int = 0
    """See `connectors.values.ReadOptions`."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One mapped field, ready to be read."""

    name: str
    source: str
    kind: str
    """The type it is read by."""
    path: tuple[str, ...]
    """Keys to walk to a parent's field; empty for a field of the record itself."""
    read: Reader
    values: Mapping[str, str]
    choices: frozenset[str] | None
    on_none: str
    """What no value means: ``none``, ``default`` (of the record class) or ``reject``."""


class FieldMap:
    """Turns native records of one object into canonical records of one stream.

    Attributes:
        sources: The native fields to ask for, each once, in the CRM's spelling.
        warnings: Sentences for people about optional fields that are not there.
        unreadable: Names of the mapped fields that are not there.
        mapped: Names of the canonical and own fields that are read.
        calculated: Sources that the CRM computes on reading.
    """

    def __init__(
        self,
        request: MapRequest,
        canonical: tuple[_Column, ...],
        own: tuple[_Column, ...],
        *,
        warnings: tuple[str, ...],
        unreadable: frozenset[str],
        calculated: tuple[str, ...],
    ) -> None:
        self._record_type = RECORD_TYPES[request.stream]
        self._crm = request.crm
        self._canonical = canonical
        self._own = own
        self.sources = tuple(dict.fromkeys(column.source for column in canonical + own))
        self.mapped = frozenset(column.name for column in canonical + own)
        self.warnings = warnings
        self.unreadable = unreadable
        self.calculated = calculated

    def numbers(self) -> frozenset[str]:
        """The native fields that are read as numbers."""
        columns = self._canonical + self._own
        return frozenset(column.source for column in columns if column.kind in _NUMBERS)

    def source_of(self, name: str) -> str | None:
        """The native field that a mapped field is read from; None: it is not read."""
        return next((c.source for c in self._canonical + self._own if c.name == name), None)

    def record(
        self,
        ref: RecordRef,
        native: NativeRecord,
        *,
        deleted: bool = False,
        merged_into: Key | None = None,
        given: Mapping[str, Scalar] = NO_EXTRA,
    ) -> CanonicalRecord | RejectedRecord:
        """Map one record.

        Args:
            ref: Its identity.
            native: The CRM's JSON object of it.
            deleted: It is in the CRM's bin.
            merged_into: The key of the record that took its place.
            given: Canonical fields that the connector knows better than the map.

        Returns:
            The canonical record, or why it cannot be one.
        """
        canonical: dict[str, Scalar] = {}
        extra: dict[str, Scalar] = {}
        for columns, target in ((self._canonical, canonical), (self._own, extra)):
            for column in columns:
                raw: object = None
                try:
                    raw = _walk(native, column.path) if column.path else native.get(column.source)
                    value = _read(column, raw)
                except Unreadable as fault:
                    return self._rejected(ref, column, raw, fault)
                if value is not None or column.on_none == "none":
                    target[column.name] = value
                elif column.on_none == "reject":
                    return self._rejected(ref, column, raw, _NO_VALUE)
        canonical.update(given)
        build: Callable[..., CanonicalRecord] = self._record_type
        return build(
            ref=ref,
            deleted=deleted,
            merged_into=merged_into,
            extra=MappingProxyType(extra) if extra else NO_EXTRA,
            **canonical,
        )

    def _rejected(
        self, ref: RecordRef, column: _Column, raw: object, fault: Unreadable
    ) -> RejectedRecord:
        shown = _shown(raw)
        quoted = f'"{shown[:60]}" ' if shown else ""
        return RejectedRecord(
            ref=ref,
            field=column.name,
            reason=(
                f"{column.source} {quoted}{fault.reason}, so {column.name} cannot be read."
                f" Correct the record in {self._crm},"
                f" or map {column.name} from another field."
            ),
            code=fault.code,
            raw=shown,
        )


_NO_VALUE: Final = Unreadable("missing_value", "has no value")


def compile_fieldmap(request: MapRequest) -> FieldMap:
    """Check a map against what the CRM shows, and make it ready.

    Raises:
        StreamPaused: a required field is missing or not visible.
        MisconfiguredConnection: a type cannot be read as another.
    """
    known = _canonical_types(request.stream)
    canonical: list[_Column] = []
    own: list[_Column] = []
    warnings: list[str] = []
    unreadable: set[str] = set()
    calculated: list[str] = []
    for name, source in _merged(request, known).items():
        native = request.look_up(source.source)
        if native is None:
            if source.required:
                raise StreamPaused(request.connection, _missing(request, name, source))
            unreadable.add(name)
            if name in request.own or name not in request.may_lack:
                warnings.append(_missing(request, name, source))
            continue
        if native.is_calculated:
            calculated.append(native.name)
        column = _column(request, known.get(name), name, source, native)
        (canonical if name in known else own).append(column)
    return FieldMap(
        request,
        tuple(canonical),
        tuple(own),
        warnings=tuple(warnings),
        unreadable=frozenset(unreadable),
        calculated=tuple(calculated),
    )


@dataclass(frozen=True, slots=True)
class MissingField:
    """A mapped field that the CRM does not show."""

    name: str
    message: str
    is_required: bool


def missing_fields(request: MapRequest) -> tuple[MissingField, ...]:
    """Every mapped field that is not there, for `check`: it reports all of them at once."""
    known = _canonical_types(request.stream)
    return tuple(
        MissingField(name, _missing(request, name, source), source.required)
        for name, source in _merged(request, known).items()
        if (name in request.own or name not in request.may_lack)
        and request.look_up(source.source) is None
    )


def canonical_fields(stream: str) -> Mapping[str, str]:
    """The mappable fields of a canonical stream with their types."""
    return {name: field.type for name, field in _canonical_types(stream).items()}


@dataclass(frozen=True, slots=True)
class _CanonicalField:
    type: str
    on_none: str


@cache
def _canonical_types(stream: str) -> Mapping[str, _CanonicalField]:
    record_type = RECORD_TYPES[stream]
    hints = get_type_hints(record_type)
    return MappingProxyType(
        {
            field.name: _CanonicalField(
                _type_of(field.name, hints[field.name]),
                "none"
                if NoneType in get_args(hints[field.name])
                else "default"
                if field.default is not MISSING
                else "reject",
            )
            for field in fields(record_type)
            if field.name not in _MARKS
        }
    )


def _type_of(name: str, hint: object) -> str:
    if name in _REFS:
        return "ref"
    if name in _MONEY:
        return "money"
    if name in _PERCENT:
        return "percent"
    held = next((part for part in get_args(hint) if part is not NoneType), hint)
    return _PYTHON_TYPES[held]


_PYTHON_TYPES: Final[Mapping[object, str]] = MappingProxyType(
    {
        str: "text",
        int: "integer",
        Decimal: "number",
        bool: "boolean",
        date: "date",
        datetime: "datetime",
    }
)


def _merged(request: MapRequest, known: Mapping[str, _CanonicalField]) -> Mapping[str, FieldSource]:
    """The connector's defaults, overridden and completed by the configuration."""
    merged = dict(request.defaults)
    for name, source in request.own.items():
        if name in _MARKS:
            raise MisconfiguredConnection(
                request.connection,
                f'streams.{request.stream}.fields: "{name}" is filled in by kpisync itself'
                " and cannot be mapped. Choose another name.",
            )
        default = request.defaults.get(name)
        is_required = source.required or (default is not None and default.required)
        kept_values = default.values if default and not source.values and name in _CHOICES else {}
        merged[name] = FieldSource(
            source.source, source.type, source.values or kept_values, is_required, source.of
        )
    return {name: source for name, source in merged.items() if name in known or name in request.own}


def _column(
    request: MapRequest,
    canonical: _CanonicalField | None,
    name: str,
    source: FieldSource,
    native: NativeField,
) -> _Column:
    kind = _reading(request, canonical, name, source, native)
    options = ReadOptions(
        zone=request.company.timezone,
        prefix=f"{source.of or request.connection}:",
        identify=request.identify_of.get(name, request.identify),
        percent_divisor=request.percent_divisor,
        is_midnight_utc=native.type == "date",
        least_epoch=request.least_epoch,
    )
    return _Column(
        name=name,
        source=native.name,
        kind=kind,
        path=tuple(native.name.split(".")) if "." in native.name else (),
        read=reader(kind, options),
        values=source.values,
        choices=_CHOICES.get(name) if request.stream == "deals" else None,
        on_none=canonical.on_none if canonical else "none",
    )


def _reading(
    request: MapRequest,
    canonical: _CanonicalField | None,
    name: str,
    source: FieldSource,
    native: NativeField,
) -> str:
    """The type by which to read the CRM's values so that the canonical type comes out."""
    if canonical is None:
        return source.type or native.type or "text"
    wanted = canonical.type
    if source.type is not None:
        if source.type not in _READABLE_AS[wanted]:
            raise MisconfiguredConnection(
                request.connection,
                f"streams.{request.stream}.fields.{name}: type {source.type} cannot be read as"
                f" {wanted}, which {name} is. Leave the type out, or map another field.",
            )
        if wanted in _NUMBERS and wanted != "integer" and source.type in {"percent", "number"}:
            return source.type
        return wanted
    if wanted == "percent" and native.type in {"number", "percent"}:
        return native.type
    if wanted in {"number", "money"} and native.type == "percent":
        return "percent"
    return wanted


def _missing(request: MapRequest, name: str, source: FieldSource) -> str:
    kept = f"so {name} keeps what is stored of it and stays empty in new records"
    consequence = "so the stream cannot be read" if source.required else kept
    return (
        f"{request.object}.{source.source}, which {request.stream}.{name} is mapped from,"
        f" does not exist or is not visible to the connected user, {consequence}."
        f" {request.missing_remedy}"
    )


def _walk(native: NativeRecord, path: tuple[str, ...]) -> object:
    value: object = native
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _read(column: _Column, raw: object) -> Scalar:
    if raw is None:
        return None
    if column.values and isinstance(raw, (str, bool, int, Decimal)):
        text = raw if isinstance(raw, str) else str(raw).lower()
        raw = column.values.get(text, raw)
    value = column.read(raw)
    if column.choices is not None and value is not None and value not in column.choices:
        return "other"
    return value


def _shown(raw: object) -> str:
    """The beginning of an offending value as text."""
    if raw is None:
        return ""
    try:
        text = str(raw)
    except ValueError:
        # Python refuses to write out integers of more than 4,300 digits.
        text = "a number of thousands of digits"
    return text[:RAW_LENGTH]
