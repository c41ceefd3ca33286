"""Creating KPI fields, and making them visible: what an admin would do by hand in Setup.

Pages: Tooling API "CustomField"; Object Reference "PermissionSet", "FieldPermissions",
"PermissionSetAssignment". A field made by API is visible to no profile, so it is granted by two
permission sets: one to write, for the connected user, and one to read, for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from simple_salesforce.format import format_soql

from connectors.base import FieldType, NewField, SetupResult, TargetField
from connectors.errors import PermissionMissing, RequestRefused
from connectors.salesforce.client import Json, SalesforceClient
from connectors.salesforce.fields import target_fields
from connectors.salesforce.ids import long_id
from connectors.salesforce.schema import OrgSchema

WRITE_SET: Final = "kpisync_write"
READ_SET: Final = "kpisync_read"

_LABELS: Final = MappingProxyType(
    {WRITE_SET: "kpisync: write KPI fields", READ_SET: "kpisync: see KPI fields"}
)
_LONGEST_LABEL: Final = 40
_LONGEST_HELP: Final = 510
_TEXT_LENGTH: Final = 255

_TYPES: Final[Mapping[FieldType, str]] = MappingProxyType(
    {
        FieldType.NUMBER: "Number",
        FieldType.PERCENT: "Percent",
        FieldType.CURRENCY: "Currency",
        FieldType.TEXT: "Text",
        FieldType.DATE: "Date",
        FieldType.DATETIME: "DateTime",
        FieldType.CHECKBOX: "Checkbox",
    }
)
_ALSO_FITTING: Final[Mapping[FieldType, frozenset[FieldType]]] = MappingProxyType(
    {
        FieldType.PERCENT: frozenset({FieldType.PERCENT, FieldType.NUMBER}),
        FieldType.CURRENCY: frozenset({FieldType.CURRENCY, FieldType.NUMBER}),
    }
)
"""Types of fields that were there before and hold the wanted values as well."""
_PERCENT_DIGITS: Final = 2
_NUMERIC: Final = frozenset({FieldType.NUMBER, FieldType.PERCENT, FieldType.CURRENCY})


class FieldMaker:
    """Brings the fields of one object into being; doing it twice changes nothing."""

    def __init__(self, client: SalesforceClient, object_name: str) -> None:
        self._client = client
        self._shape = OrgSchema(client).shape(object_name)
        self._object = self._shape.name
        self._visible = {name.lower(): field for name, field in target_fields(self._shape).items()}

    def create(self, fields: Sequence[NewField], *, dry_run: bool) -> list[SetupResult]:
        """Create what is missing, grant what is hidden, say what was done."""
        results = [self._created(field, dry_run=dry_run) for field in fields]
        to_grant = [result.field for result in results if result.outcome in {"created", "granted"}]
        if not to_grant or dry_run:
            return results
        note = self._grant(to_grant)
        seen = target_fields(OrgSchema(self._client).shape(self._object))
        visible = {name.lower(): field for name, field in seen.items()}
        return [
            self._granted(field, result, visible.get(field.name.lower()), note)
            if result.field in to_grant
            else result
            for field, result in zip(fields, results, strict=True)
        ]

    def _granted(
        self, field: NewField, result: SetupResult, seen: TargetField | None, note: str
    ) -> SetupResult:
        """What became of a field, by what the connected user now sees of it."""
        fault = _mismatch(field, seen) if seen is not None else ""
        if fault:
            # It was there, hidden from us: only now can it be compared.
            return SetupResult(field=field.name, outcome="conflict", note=fault)
        if seen is None or not seen.writable:
            note = (
                f"{note} The connected user still cannot write it: give it edit access to"
                f" {self._object}.{field.name} by a permission set in Setup."
            )
            return SetupResult(
                field=field.name, outcome="manual", note=f"{result.note} {note}".strip()
            )
        return SetupResult(
            field=field.name, outcome=result.outcome, note=f"{result.note} {note}".strip()
        )

    def _created(self, field: NewField, *, dry_run: bool) -> SetupResult:
        fault = _fault(field)
        if fault:
            return SetupResult(field=field.name, outcome="conflict", note=fault)
        existing = self._visible.get(field.name.lower())
        if existing is not None:
            return self._compared(field, existing, dry_run=dry_run)
        if dry_run:
            return SetupResult(
                field=field.name,
                outcome="would_create",
                note=f"{_TYPES[field.type]} on {self._object}, granted by the permission sets"
                f" {WRITE_SET} and {READ_SET}",
            )
        return self._posted(field)

    def _compared(self, field: NewField, existing: TargetField, *, dry_run: bool) -> SetupResult:
        described = self._shape.field(field.name)
        if described is not None and described.get("calculated") is True:
            fault = (
                "The field exists and is a formula, which Salesforce computes itself. Choose"
                " another field."
            )
        else:
            fault = _mismatch(field, existing)
        if fault:
            return SetupResult(field=field.name, outcome="conflict", note=fault)
        if existing.writable:
            return SetupResult(field=field.name, outcome="present")
        if dry_run:
            return SetupResult(
                field=field.name, outcome="would_create", note="would be granted for writing"
            )
        return SetupResult(field=field.name, outcome="granted")

    def _posted(self, field: NewField) -> SetupResult:
        body = {"FullName": f"{self._object}.{field.name}", "Metadata": _metadata(field)}
        try:
            self._client.write("tooling/sobjects/CustomField", body)
        except PermissionMissing as error:
            return SetupResult(
                field=field.name,
                outcome="manual",
                note=f"{error.message} Run setup with the credentials of an admin who has the"
                f" permission Customize Application, or create the field {field.name}"
                f" ({_TYPES[field.type]}) by hand in Setup > Object Manager.",
            )
        except RequestRefused as error:
            if "DUPLICATE_DEVELOPER_NAME" not in error.message:
                return SetupResult(field=field.name, outcome="conflict", note=error.message)
            return SetupResult(
                field=field.name, outcome="granted", note="existed, was not visible."
            )
        return SetupResult(field=field.name, outcome="created")

    # ------------------------------------------------------------ permissions

    def _grant(self, names: Sequence[str]) -> str:
        """Let the connected user write the fields, and have a set for those who read them."""
        try:
            for set_name, may_edit in ((WRITE_SET, True), (READ_SET, False)):
                set_id = self._permission_set(set_name)
                self._field_permissions(set_id, names, may_edit=may_edit)
                if may_edit:
                    assigned = self._assign(set_id)
        except (PermissionMissing, RequestRefused) as error:
            return (
                f"Not granted: {error.message} Give the connected user edit access to the field"
                " by a permission set in Setup."
            )
        shown = (
            f"Assign the permission set {READ_SET} to people, and put the field on the page layout."
        )
        return (
            shown
            if assigned
            else f"Assign the permission set {WRITE_SET} to the connected user. {shown}"
        )

    def _permission_set(self, name: str) -> str:
        found = self._rows("SELECT Id FROM PermissionSet WHERE Name = {}", name)
        if found:
            return long_id(str(found[0]["Id"]))
        return self._insert("PermissionSet", {"Name": name, "Label": _LABELS[name]})

    def _field_permissions(self, set_id: str, names: Sequence[str], *, may_edit: bool) -> None:
        held = {
            str(row["Field"]).lower(): row
            for row in self._rows(
                "SELECT Id, Field, PermissionsRead, PermissionsEdit FROM FieldPermissions"
                " WHERE ParentId = {} AND SobjectType = {}",
                set_id,
                self._object,
            )
        }
        for name in names:
            full_name = f"{self._object}.{name}"
            row = held.get(full_name.lower())
            wanted = {"PermissionsRead": True, "PermissionsEdit": may_edit}
            if row is None:
                self._insert(
                    "FieldPermissions",
                    {"ParentId": set_id, "SobjectType": self._object, "Field": full_name, **wanted},
                )
            elif not row.get("PermissionsRead") or (may_edit and not row.get("PermissionsEdit")):
                self._client.write(f"sobjects/FieldPermissions/{row['Id']}", wanted, method="PATCH")

    def _assign(self, set_id: str) -> bool:
        user_id = self._client.user_id()
        if user_id is None:
            return False
        held = self._rows(
            "SELECT Id FROM PermissionSetAssignment WHERE PermissionSetId = {} AND AssigneeId = {}",
            set_id,
            user_id,
        )
        if not held:
            self._insert(
                "PermissionSetAssignment", {"PermissionSetId": set_id, "AssigneeId": user_id}
            )
        return True

    def _rows(self, soql: str, *values: str) -> Sequence[Json]:
        return self._client.query_all(format_soql(soql, *values), deleted_too=False)

    def _insert(self, object_name: str, values: Mapping[str, object]) -> str:
        answer = self._client.write(f"sobjects/{object_name}", values)
        new_id = answer.get("id") if isinstance(answer, Mapping) else None
        if not isinstance(new_id, str):
            raise RequestRefused(
                self._client.connection, f"Salesforce did not confirm the new {object_name}."
            )
        return long_id(new_id)


def _fault(field: NewField) -> str:
    if not field.name.endswith("__c"):
        return f'Salesforce gives custom fields the ending __c: name it "{field.name}__c".'
    if field.type not in _TYPES:
        return f"A field of type {field.type} cannot be created."
    return ""


def _mismatch(wanted: NewField, existing: TargetField) -> str:
    if existing.type not in _ALSO_FITTING.get(wanted.type, {wanted.type}):
        return (
            f"The field exists with type {existing.type}, {wanted.type} is needed."
            " Rename or delete it in Setup, or choose another field."
        )
    # A plain number holds the ratio itself: 0.415 where a Percent field holds 41.5.
    is_ratio = wanted.type is FieldType.PERCENT and existing.type is FieldType.NUMBER
    scale = wanted.scale + (_PERCENT_DIGITS if is_ratio else 0)
    if wanted.type in _NUMERIC and (existing.scale or 0) < scale:
        return (
            f"The field exists with {existing.scale} digits after the point, {scale} are"
            " needed. Change it in Setup, or choose another field."
        )
    return ""


def _metadata(field: NewField) -> Mapping[str, object]:
    metadata: dict[str, object] = {
        "label": field.label[:_LONGEST_LABEL],
        "type": _TYPES[field.type],
        "required": False,
        "description": "Written by kpisync",
    }
    if field.help_text:
        metadata["inlineHelpText"] = field.help_text[:_LONGEST_HELP]
    if field.type in _NUMERIC:
        metadata |= {"precision": field.precision, "scale": field.scale}
    if field.type is FieldType.TEXT:
        metadata["length"] = _TEXT_LENGTH
    if field.type is FieldType.CHECKBOX:
        metadata |= {"defaultValue": False}
        del metadata["required"]
    return metadata
