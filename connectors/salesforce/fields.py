"""Fields as targets of write-back: what there is, what it holds now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from math import ceil
from types import MappingProxyType
from typing import Any, Final

from connectors.base import FieldType, LiveRecord, TargetField
from connectors.errors import CursorExpired, MalformedAnswer, MisconfiguredConnection
from connectors.salesforce.client import LONGEST_URI, Json, SalesforceClient
from connectors.salesforce.faults import QueryTooHeavy
from connectors.salesforce.ids import long_id
from connectors.salesforce.schema import MISSING_REMEDY, ObjectShape, OrgSchema
from connectors.salesforce.soql import Selection
from connectors.salesforce.tally import LARGEST_PAGE
from store.canonical import Scalar

IDS_AT_ONCE: Final = 400
_PARENTS: Final[Mapping[str, str]] = MappingProxyType(
    {"Contact": "AccountId", "Opportunity": "AccountId", "Case": "AccountId"}
)
"""Objects whose saving locks the record that this field names."""
_WORTH_A_SCAN: Final = 2
"""So many calls by id may be made before reading the whole object is looked at instead."""
_MOST_MERGES: Final = 20
"""A chain of merges longer than this is a circle."""

_TYPES: Final[Mapping[str, FieldType]] = MappingProxyType(
    {
        "double": FieldType.NUMBER,
        "int": FieldType.NUMBER,
        "long": FieldType.NUMBER,
        "percent": FieldType.PERCENT,
        "currency": FieldType.CURRENCY,
        "string": FieldType.TEXT,
        "textarea": FieldType.TEXT,
        "date": FieldType.DATE,
        "datetime": FieldType.DATETIME,
        "boolean": FieldType.CHECKBOX,
    }
)
_NUMERIC: Final = frozenset({FieldType.NUMBER, FieldType.PERCENT, FieldType.CURRENCY})


def target_fields(shape: ObjectShape) -> Mapping[str, TargetField]:
    """The fields of an object as write-back sees them, by API name."""
    return {str(field["name"]): _target(field) for field in shape.fields.values()}


def _target(field: Json) -> TargetField:
    kind = _TYPES.get(str(field.get("type")), FieldType.OTHER)
    is_whole = field.get("type") in {"int", "long"}
    precision = int(field.get("digits" if is_whole else "precision") or 0)
    return TargetField(
        name=str(field["name"]),
        label=str(field.get("label") or field["name"]),
        type=kind,
        writable=field.get("updateable") is True and field.get("calculated") is not True,
        precision=precision or None if kind in _NUMERIC else None,
        scale=int(field.get("scale") or 0) if kind in _NUMERIC else None,
        length=int(field.get("length") or 0) or None if kind is FieldType.TEXT else None,
        ratio_factor=100 if kind is FieldType.PERCENT else 1,
    )


def _parent_field(shape: ObjectShape) -> str | None:
    """The field that names the record which saving this one locks, where the user sees it.

    Page: Object Reference, "Relationships Among Objects": a detail's first master stands at
    relationshipOrder 0.
    """
    named = _PARENTS.get(shape.name)
    if named is not None:
        return named if shape.has(named) else None
    masters = (field for field in shape.fields.values() if field.get("relationshipOrder") == 0)
    return next((str(field["name"]) for field in masters), None)


class LiveReader:
    """Reads what fields of records hold now, following merges to the winner."""

    def __init__(
        self,
        client: SalesforceClient,
        schema: OrgSchema,
        object_name: str,
        totals: dict[str, int] | None = None,
    ) -> None:
        self._client = client
        self._totals = {} if totals is None else totals
        """Object -> how many records it had when it was last looked at as a whole."""
        self._shape = schema.shape(object_name)
        self._targets = target_fields(self._shape)
        self._parent = _parent_field(self._shape)
        self.parents: dict[str, str] = {}
        """Id of each record read -> id of the record that its saving locks."""

    def read(self, record_ids: Sequence[str], field_names: Sequence[str]) -> list[LiveRecord]:
        """Live values by id, in the order asked for; deleted records are left out."""
        names = [self._name(field) for field in field_names]
        rows = self._rows([long_id(record_id) for record_id in record_ids], names)
        records = []
        for asked_id in record_ids:
            row = self._surviving(rows, long_id(asked_id))
            if row is not None:
                records.append(
                    LiveRecord(
                        asked_id=asked_id,
                        record_id=long_id(str(row["Id"])),
                        values={
                            asked: self._value(name, row.get(name))
                            for asked, name in zip(field_names, names, strict=True)
                        },
                    )
                )
        return records

    def _rows(self, ids: Sequence[str], names: Sequence[str]) -> dict[str, Json]:
        """Rows by id, winners of merged ones included."""
        rows: dict[str, Json] = {}
        wanted = list(dict.fromkeys(ids))
        for _ in range(_MOST_MERGES):
            if not wanted:
                break
            found = self._queried(wanted, names)
            rows.update((long_id(str(row["Id"])), row) for row in found)
            winners = (row.get("MasterRecordId") for row in found)
            wanted = [
                long_id(winner)
                for winner in dict.fromkeys(winners)
                if isinstance(winner, str) and long_id(winner) not in rows
            ]
        return rows

    def _surviving(self, rows: Mapping[str, Json], record_id: str) -> Json | None:
        row = rows.get(record_id)
        for _ in range(_MOST_MERGES):
            winner = row.get("MasterRecordId") if row is not None else None
            if not isinstance(winner, str):
                break
            row = rows.get(long_id(winner))
        return None if row is None or row.get("IsDeleted") is True else row

    def _queried(self, ids: Sequence[str], names: Sequence[str]) -> list[Json]:
        marks = [name for name in ("IsDeleted", "MasterRecordId") if self._shape.has(name)]
        parent = [self._parent] if self._parent else []
        columns = list(dict.fromkeys(["Id", *marks, *parent, *names]))
        selection = Selection(self._shape.name, "Id", None, 0)
        scanned = self._scanned(ids, columns, self._step(selection, columns))
        if scanned is not None:
            self._remember_parents(scanned)
            return scanned
        rows: list[Json] = []
        step = self._step(selection, columns)
        for start in range(0, len(ids), step):
            result = self._client.query(selection.by_id(columns, ids[start : start + step]))
            rows.extend(result.records)
            while result.next_url is not None:
                result = self._client.next_page(result.next_url)
                rows.extend(result.records)
        self._remember_parents(rows)
        return rows

    def _scanned(self, ids: Sequence[str], columns: Sequence[str], step: int) -> list[Json] | None:
        """The wanted rows out of all rows, where that costs fewer calls than asking by id."""
        by_id = ceil(len(ids) / step)
        known = self._totals.get(self._shape.name, 0)
        if by_id <= _WORTH_A_SCAN or ceil(known / LARGEST_PAGE) >= by_id:
            return None
        try:
            wanted, rows = set(ids), []
            soql = f"SELECT {','.join(columns)} FROM {self._shape.name}"  # noqa: S608  # described
            result = self._client.query(soql)
            self._totals[self._shape.name] = result.total
            # The first page tells how many there are: a look that does not pay costs one call.
            if ceil(result.total / LARGEST_PAGE) > by_id:
                return None
            while True:
                rows += [row for row in result.records if long_id(str(row["Id"])) in wanted]
                if result.next_url is None:
                    return rows
                result = self._client.next_page(result.next_url)
        except (CursorExpired, QueryTooHeavy):
            return None

    def _remember_parents(self, rows: Sequence[Json]) -> None:
        for row in rows:
            parent = row.get(self._parent) if self._parent else None
            if isinstance(parent, str):
                self.parents[long_id(str(row["Id"]))] = long_id(parent)

    def _step(self, selection: Selection, columns: Sequence[str]) -> int:
        """How many ids fit into one request line beside the columns."""
        step = IDS_AT_ONCE
        while step > 1:
            if self._client.uri_bytes(selection.by_id(columns, ["0" * 18] * step)) <= LONGEST_URI:
                break
            step //= 2
        return step

    def _name(self, field: str) -> str:
        described = self._shape.field(field)
        if described is None:
            raise MisconfiguredConnection(
                self._client.connection,
                f"{self._shape.name}.{field} does not exist or is not visible to the connected"
                f" user. {MISSING_REMEDY}",
            )
        return str(described["name"])

    def _value(self, name: str, raw: Any) -> Scalar:  # a JSON scalar
        if raw is None:
            return None
        try:
            return _scalar(self._targets[name].type, raw)
        except (ValueError, InvalidOperation, TypeError):
            raise MalformedAnswer(
                self._client.connection,
                f"Salesforce's value of {self._shape.name}.{name} is not of the field's type.",
            ) from None


def _scalar(kind: FieldType, raw: Any) -> Scalar:  # a JSON scalar
    if kind in _NUMERIC:
        return Decimal(str(raw))
    if kind is FieldType.CHECKBOX:
        return bool(raw)
    if kind is FieldType.DATE:
        return date.fromisoformat(raw)
    if kind is FieldType.DATETIME:
        return datetime.fromisoformat(raw).astimezone(UTC)
    return str(raw)
