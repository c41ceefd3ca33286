"""How a field of a record is read, shown and compared.

Pages: SOQL and SOSL Reference, "Using Relationship Queries", "Understanding Polymorphic Keys and
Relationships"; Object Reference, "Compound Fields".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeAlias

from sandbox.org import Record, Value
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_values import stamp_text

Key: TypeAlias = str | float | int | bool | datetime | None
"""A value in the form in which it is compared: text folded, stamps as instants."""
Getter: TypeAlias = Callable[[Record], object]
KeyGetter: TypeAlias = Callable[[Record], Key]

POINTED_AT: Final = "Type of what is pointed at"
"""The label that marks the Type of a polymorphic lookup's target."""
_ADDRESS_PARTS: Final = ("City", "Country", "PostalCode", "State", "Street")
_WITHOUT: Final = ("geocodeAccuracy", "latitude", "longitude")


@dataclass(frozen=True, slots=True)
class Column:
    """A field path looked up in the schema: how to show it and how to compare it."""

    names: tuple[str, ...]
    """The path in the schema's spelling."""
    spec: FieldSpec
    show: Getter
    key: KeyGetter
    leaf: Getter
    """How the last record on the way shows the field."""
    links: tuple[tuple[str, Callable[[Record], Record | None]], ...] = ()
    """The relationships on the way, each with how its parent is found from the one before."""


def own_column(org: SalesforceOrg, each: FieldSpec) -> Column:
    """The column of an object's own field."""
    show = shown(org, each)
    return Column((each.name,), each, show, _key_of(org, each, show), show)


def through(
    relationship: str, parent_of: Callable[[Record], Record | None], inner: Column
) -> Column:
    """The column of a parent's field, reached through a relationship."""
    # A boolean of a missing parent counts as false (SOQL Reference, "WHERE": outer joins).
    absent: Key = False if inner.spec.type == "boolean" else None

    def show(record: Record) -> object:
        found = parent_of(record)
        return None if found is None else inner.show(found)

    def key(record: Record) -> Key:
        found = parent_of(record)
        return absent if found is None else inner.key(found)

    names = (relationship, *inner.names)
    links = ((relationship, parent_of), *inner.links)
    return Column(names, inner.spec, show, key, inner.leaf, links)


def parent_finder(org: SalesforceOrg, link: FieldSpec) -> Callable[[Record], Record | None]:
    """How the record that a reference field points at is found; None where it is empty."""
    tables = [org.rows(name) for name in link.reference_to]
    names = link.reference_to
    show_link = shown(org, link)

    def parent_of(record: Record) -> Record | None:
        found = show_link(record)
        if not isinstance(found, str):
            return None
        for name, table in zip(names, tables, strict=True):
            # A table that was empty when the query began may be another one by now.
            parent = (table or org.rows(name)).get(found)
            if parent is not None:
                return parent
        return None

    return parent_of


def attributes(spec: ObjectSpec, record: Record, version: str) -> dict[str, object]:
    """The `attributes` member of a row."""
    return {
        "type": spec.name,
        "url": f"/services/data/v{version}/sobjects/{spec.name}/{record.id}",
    }


@lru_cache(maxsize=65_536)
def shown_stamp(instant: datetime) -> str:
    """See `stamp_text`; thousands of rows share a second."""
    return stamp_text(instant)


_MARKS: Final[Mapping[str, Getter]] = {
    "Id": lambda record: record.id,
    "IsDeleted": lambda record: record.state.deleted_at is not None,
    "MasterRecordId": lambda record: record.state.merged_into,
    "CreatedDate": lambda record: shown_stamp(record.created_at),
    "SystemModstamp": lambda record: shown_stamp(record.state.modified_at),
}


def shown(org: SalesforceOrg, spec: FieldSpec) -> Getter:  # noqa: PLR0911 - one way per kind
    """How a field of a record is read: marks from the record, values from its fields."""
    name = spec.name
    if name in _MARKS:
        return _MARKS[name]
    if name == "LastModifiedDate":
        return lambda record: shown_stamp(_last_modified(org, record))
    if name == "Type" and spec.label == POINTED_AT:
        return _kind
    if name == "CreatedById":
        return lambda record: org.user_of(record.created_by)
    if name == "LastModifiedById":
        return lambda record: org.user_of(record.state.modified_by)
    if spec.compute is not None:
        return spec.compute
    if spec.is_compound:
        prefix = name.removesuffix("Address")
        return lambda record: _address(record, prefix)
    if name == "CurrencyIsoCode":
        # A record that names no currency holds the corporate one (Help, "Manage Multiple
        # Currencies"), also where it is older than the switch.
        return lambda record: record.state.fields.get(name) or org.features.corporate_currency
    if spec.type == "boolean":
        # A checkbox is never null, also where the record is older than the field.
        default = spec.default is True
        return lambda record: record.state.fields.get(name, default)
    return lambda record: record.state.fields.get(name)


def _kind(record: Record) -> str:
    return "Queue" if record["Type"] == "Queue" else record.object_name


def _last_modified(org: SalesforceOrg, record: Record) -> datetime:
    return org.older_changes.get(record.id, record.state.modified_at)


def _address(record: Record, prefix: str) -> dict[str, object] | None:
    fields = record.state.fields
    parts: dict[str, object] = {
        part[0].lower() + part[1:]: fields.get(f"{prefix}{part}") for part in _ADDRESS_PARTS
    }
    if not any(parts.values()):
        return None
    return {**parts, **dict.fromkeys(_WITHOUT)}


def _key_of(org: SalesforceOrg, spec: FieldSpec, show: Getter) -> KeyGetter:
    if spec.name == "SystemModstamp":
        return lambda record: record.state.modified_at
    if spec.name == "CreatedDate":
        return lambda record: record.created_at
    if spec.name == "LastModifiedDate":
        return lambda record: _last_modified(org, record)
    if spec.is_text:
        return lambda record: text.casefold() if isinstance(text := show(record), str) else None
    if spec.type == "datetime":
        return lambda record: _instant(show(record))
    if spec.type == "boolean":
        return lambda record: show(record) is True
    return lambda record: _plain(show(record))


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) else None


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.000%z").astimezone(UTC)
