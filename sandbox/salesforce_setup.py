"""Setting up an org: custom fields by the Tooling API, permission sets by ordinary REST.

Pages: Tooling API, "CustomField"; Metadata API Developer Guide, "CustomField"; Object
Reference, "PermissionSet", "FieldPermissions", "PermissionSetAssignment".
"""

import re
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from sandbox.org import Fields, Record
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_guards import Refusal
from sandbox.salesforce_http import (
    ApiError,
    Call,
    json_response,
    no_content,
    not_found,
)
from sandbox.salesforce_org import SalesforceOrg

MAX_PRECISION: Final = 18  # Metadata API, "CustomField": digits including the scale
MAX_TEXT: Final = 255
_FULL_NAME: Final = re.compile(r"([A-Za-z]\w*)\.([A-Za-z](?:_?[A-Za-z0-9]){0,39}__c)\Z")
_KINDS: Final[Mapping[str, str]] = {
    "Number": "double",
    "Currency": "currency",
    "Percent": "percent",
    "Text": "string",
    "Date": "date",
    "DateTime": "datetime",
    "Checkbox": "boolean",
}
_METADATA_KEYS: Final = frozenset(
    {
        "label", "type", "precision", "scale", "length", "required", "description",
        "defaultValue", "inlineHelpText", "externalId", "unique", "trackHistory",
        "trackTrending",
    }
)  # fmt: skip


# Custom fields


def create_field(call: Call) -> Response:
    """POST tooling/sobjects/CustomField."""
    if not call.org.access.has_permission("PermissionsCustomizeApplication"):
        message = "insufficient access rights on entity: CustomField"
        raise ApiError(403, "INSUFFICIENT_ACCESS", message)
    body = call.json_object()
    spec, name = _named(call.org, body.get("FullName"))
    metadata = body.get("Metadata")
    if not isinstance(metadata, dict):
        raise _refused("REQUIRED_FIELD_MISSING", "Required fields are missing: [Metadata]")
    each = _field(name, metadata)
    if spec.get(name) is not None:
        message = f"There is already a field named {name.removesuffix('__c')} on {spec.name}."
        raise _refused("DUPLICATE_DEVELOPER_NAME", message)
    # Nobody may see it yet: fields made by API get no field-level security at all.
    created = call.org.install_field(spec, each)
    answer = {"id": created, "success": True, "errors": [], "warnings": [], "infos": []}
    return json_response(answer, 201)


def read_field(call: Call, record_id: str) -> Response:
    """GET tooling/sobjects/CustomField/id."""
    record, spec, each = _known(call.org, record_id)
    row = {
        "attributes": {
            "type": "CustomField",
            "url": f"{call.base}/tooling/sobjects/CustomField/{record.id}",
        },
        "Id": record.id,
        "DeveloperName": record["DeveloperName"],
        "TableEnumOrId": spec.name,
        "FullName": record["FullName"],
        "Metadata": _metadata(each),
    }
    return json_response(row)


def delete_field(call: Call, record_id: str) -> Response:
    """DELETE tooling/sobjects/CustomField/id."""
    record, _, _ = _known(call.org, record_id)
    call.org.erase("CustomField", record.id)
    return no_content()


def _known(org: SalesforceOrg, record_id: str) -> tuple[Record, ObjectSpec, FieldSpec]:
    record = org.find("CustomField", record_id)
    if record is None:
        raise not_found()
    object_name, _, name = str(record["FullName"]).partition(".")
    spec = org.object_spec(object_name)
    each = spec.get(name) if spec else None
    if spec is None or each is None:
        raise not_found()
    return record, spec, each


def _named(org: SalesforceOrg, full_name: object) -> tuple[ObjectSpec, str]:
    match = _FULL_NAME.match(full_name) if isinstance(full_name, str) else None
    if match is None:
        message = (
            f"The name {full_name!r} is not valid: it must read Object.Name__c, begin with a "
            "letter and hold only letters, digits and single underscores."
        )
        raise _refused("FIELD_INTEGRITY_EXCEPTION", message)
    spec = org.object_spec(match.group(1))
    if spec is None or not spec.custom_fields:
        message = f"Entity Enumeration Or ID: bad value for restricted picklist: {match.group(1)}"
        raise _refused("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message)
    return spec, match.group(2)


def _field(name: str, metadata: Mapping[str, object]) -> FieldSpec:
    _refuse_unreadable(metadata)
    wanted = str(metadata["type"])
    kind = _KINDS[wanted]
    label = metadata.get("label")
    if not isinstance(label, str) or not label:
        raise _integrity("Must specify a non-empty label for the CustomField")
    length = precision = scale = 0
    if kind in {"double", "currency", "percent"}:
        precision, scale = _digits(metadata, wanted)
    elif kind == "string":
        length = _whole(metadata, "length", wanted, at_most=MAX_TEXT, at_least=1)
    default = metadata.get("defaultValue")
    if kind == "boolean" and default not in (True, False, "true", "false"):
        raise _integrity("Must specify 'defaultValue' for a CustomField of type Checkbox")
    return FieldSpec(
        name,
        kind,
        label,
        length=length,
        precision=precision,
        scale=scale,
        nillable=kind != "boolean" and metadata.get("required") is not True,
        custom=True,
        external_id=metadata.get("externalId") is True,
        unique=metadata.get("unique") is True,
        default=default in (True, "true") if kind == "boolean" else None,
    )


def _refuse_unreadable(metadata: Mapping[str, object]) -> None:
    for key in metadata:
        if key not in _METADATA_KEYS:
            message = f'Unrecognized field "{key}" of Metadata at [line:1, column:1]'
            raise _refused("JSON_PARSER_ERROR", message)
    if metadata.get("type") not in _KINDS:
        message = (
            "Cannot deserialize instance of complexvalue from VALUE_STRING value "
            f"{metadata.get('type')} or request may be missing a required field "
            "at [line:1, column:1]"
        )
        raise _refused("JSON_PARSER_ERROR", message)


def _digits(metadata: Mapping[str, object], wanted: str) -> tuple[int, int]:
    precision = _whole(metadata, "precision", wanted, at_most=MAX_PRECISION, at_least=1)
    scale = _whole(metadata, "scale", wanted, at_most=precision, at_least=0)
    return precision, scale


def _whole(
    metadata: Mapping[str, object], key: str, wanted: str, *, at_most: int, at_least: int
) -> int:
    value = metadata.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _integrity(f"Must specify '{key}' for a CustomField of type {wanted}")
    if not at_least <= value <= at_most:
        raise _integrity(f"'{key}' must be between {at_least} and {at_most}, not {value}")
    return value


def _metadata(each: FieldSpec) -> dict[str, object]:
    kinds = {kind: name for name, kind in _KINDS.items()}
    number = each.is_number
    return {
        "label": each.label,
        "type": kinds.get(each.type, each.type),
        "precision": each.precision if number else None,
        "scale": each.scale if number else None,
        "length": each.length or None,
        "required": not each.nillable and each.type != "boolean",
        "defaultValue": None if each.default is None else str(each.default).lower(),
    }


def _integrity(message: str) -> ApiError:
    return _refused("FIELD_INTEGRITY_EXCEPTION", message)


def _refused(code: str, message: str) -> ApiError:
    return ApiError(400, code, message)


# Permission sets


def check_setup(org: SalesforceOrg, spec: ObjectSpec, values: Fields) -> Refusal | None:
    """Why a new permission record is refused, if it is; other objects pass.

    Args:
        org: The org.
        spec: The object to be created.
        values: Its checked values.
    """
    check = {
        "PermissionSet": _check_permission_set,
        "FieldPermissions": _check_field_permissions,
        "PermissionSetAssignment": _check_assignment,
    }.get(spec.name)
    if check is None:
        return None
    if not org.access.has_permission("PermissionsManageUsers"):
        return _refusal("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object")
    return check(org, values)


def _check_permission_set(org: SalesforceOrg, values: Fields) -> Refusal | None:
    name = str(values.get("Name", ""))
    if not re.match(r"[A-Za-z](?:_?[A-Za-z0-9])*\Z", name):
        message = (
            "The Permission Set API Name can only contain underscores and alphanumeric characters. "
            "It must be unique, begin with a letter, not include spaces, not end with an "
            "underscore, and not contain two consecutive underscores."
        )
        return _refusal("INVALID_FULLNAME", message, "Name")
    if any(str(row["Name"]).lower() == name.lower() for row in org.all("PermissionSet")):
        message = f"The name {name} is already used. Please choose another."
        return _refusal("DUPLICATE_DEVELOPER_NAME", message, "Name")
    return None


def _check_field_permissions(org: SalesforceOrg, values: Fields) -> Refusal | None:
    object_name, _, field_name = str(values.get("Field", "")).partition(".")
    spec = org.object_spec(object_name)
    each = spec.get(field_name) if spec else None
    named = f"{spec.name}.{each.name}" if spec and each else None
    if (
        spec is None
        or each is None
        or spec.name != values.get("SobjectType")
        or (named != values.get("Field"))
    ):
        message = f"Field Name: bad value for restricted picklist field: {values.get('Field')}"
        return _refusal("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, "Field")
    if not each.has_permissions:
        message = f"You cannot set field permissions of the required field {values.get('Field')}"
        return _refusal("FIELD_INTEGRITY_EXCEPTION", message, "Field")
    if values.get("PermissionsEdit") is True and values.get("PermissionsRead") is not True:
        message = "Field permission Edit depends on Read"
        return _refusal("FIELD_INTEGRITY_EXCEPTION", message, "PermissionsEdit")
    return _twice(org, "FieldPermissions", values, ("ParentId", "Field"))


def _check_assignment(org: SalesforceOrg, values: Fields) -> Refusal | None:
    return _twice(org, "PermissionSetAssignment", values, ("PermissionSetId", "AssigneeId"))


def _twice(
    org: SalesforceOrg, object_name: str, values: Fields, keys: tuple[str, ...]
) -> Refusal | None:
    for row in org.all(object_name):
        if all(row[key] == values.get(key) for key in keys):
            message = f"duplicate value found: duplicates value on record with id: {row.id[:15]}"
            return _refusal("DUPLICATE_VALUE", message)
    return None


def _refusal(code: str, message: str, *fields: str) -> Refusal:
    return Refusal(code, message, fields)
