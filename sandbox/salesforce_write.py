"""Saving records through the API: checks as strict as the vendor's, one result per record.

Pages: REST API Developer Guide, "sObject Collections", "Update a Record", "Assignment Rule
Header"; SOAP API Developer Guide, "StatusCode".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias

from starlette.responses import Response

from sandbox.faults import RecordFault
from sandbox.org import API, Record, Value
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_http import (
    ApiError,
    Call,
    Refusal,
    json_response,
    no_content,
    not_found,
)
from sandbox.salesforce_ids import is_id, long_id
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_setup import check_setup
from sandbox.salesforce_values import RefusedValueError, UnreadableValueError, stored

MAX_RECORDS: Final = 200  # REST guide, "sObject Collections"
MAX_RUNS: Final = 10  # the same page: "chunks" of records of one type
ASSIGNED: Final = frozenset({"Account", "Case", "Lead"})
ROLLED_BACK: Final = (
    "Record rolled back because not all records were valid and the request was using "
    "AllOrNone header"
)

Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Save:
    """A checked record, ready to be written; without an id it is a new one."""

    spec: ObjectSpec
    id: str | None
    values: dict[str, Value]


# Collections


def update_collection(call: Call) -> Response:
    """PATCH composite/sobjects."""
    records, all_or_none = _collection(call)
    counted = Counter(long_id(str(_given_id(record))) for _, record in records)
    checked = [_checked_update(call.org, spec, record, counted) for spec, record in records]
    return json_response(_saved(call, checked, all_or_none=all_or_none))


def create_collection(call: Call) -> Response:
    """POST composite/sobjects."""
    records, all_or_none = _collection(call)
    checked = [_checked_create(call.org, spec, record) for spec, record in records]
    return json_response(_saved(call, checked, all_or_none=all_or_none))


def _collection(call: Call) -> tuple[list[tuple[ObjectSpec, Json]], bool]:
    body = call.json_object()
    for name in body:
        if name not in {"allOrNone", "records"}:
            message = f'Unrecognized field "{name}" at [line:1, column:1]'
            raise ApiError(400, "JSON_PARSER_ERROR", message)
    records, all_or_none = body.get("records"), body.get("allOrNone", False)
    if not isinstance(records, list) or not isinstance(all_or_none, bool):
        message = "Cannot deserialize: records must be a list and allOrNone a boolean"
        raise ApiError(400, "JSON_PARSER_ERROR", message)
    if len(records) > MAX_RECORDS:
        message = f"record limit reached. cannot submit more than {MAX_RECORDS} records"
        raise ApiError(400, "EXCEEDED_ID_LIMIT", message)
    typed = [_typed_record(call.org, record) for record in records]
    if len(list(groupby(spec.name for spec, _ in typed))) > MAX_RUNS:
        message = (
            f"Cannot have more than {MAX_RUNS} chunks in a single operation. "
            "Please rearrange the data to reduce chunking."
        )
        raise ApiError(400, "LIMIT_EXCEEDED", message)
    return typed, all_or_none


def _typed_record(org: SalesforceOrg, record: object) -> tuple[ObjectSpec, Json]:
    attributes = record.get("attributes") if isinstance(record, dict) else None
    kind = attributes.get("type") if isinstance(attributes, dict) else None
    if not isinstance(record, dict) or not isinstance(kind, str):
        message = "each record must be an object with attributes that name its type"
        raise ApiError(400, "JSON_PARSER_ERROR", message)
    spec = org.visible_spec(kind)
    if spec is None:
        raise ApiError(400, "INVALID_TYPE", f"sObject type '{kind}' is not supported.")
    return spec, record


def _saved(
    call: Call, checked: Sequence[Save | Refusal], *, all_or_none: bool
) -> list[dict[str, object]]:
    if all_or_none and any(isinstance(each, Refusal) for each in checked):
        rolled_back = Refusal("ALL_OR_NONE_OPERATION_ROLLED_BACK", ROLLED_BACK)
        return [
            each.result() if isinstance(each, Refusal) else rolled_back.result() for each in checked
        ]
    return [
        each.result() if isinstance(each, Refusal) else _success(_write(call, each))
        for each in checked
    ]


def _success(record_id: str) -> dict[str, object]:
    return {"id": record_id, "success": True, "errors": []}


# Single records


def update_record(call: Call, object_name: str, record_id: str) -> Response:
    """PATCH sobjects/X/id."""
    spec = _spec(call.org, object_name)
    body = call.json_object()
    if _given_id(body) is not None:
        message = "The Id field should not be specified in the sobject data."
        raise ApiError(400, "INVALID_FIELD", message, ["Id"])
    if long_id(record_id) not in call.org.rows(spec.name):
        raise not_found()
    checked = _checked_update(call.org, spec, {**body, "Id": record_id}, Counter())
    if isinstance(checked, Refusal):
        gone = checked.code == "ENTITY_IS_DELETED"
        raise checked.error(404 if gone else 400)
    _write(call, checked)
    return no_content()


def create_record(call: Call, object_name: str) -> Response:
    """POST sobjects/X."""
    checked = _checked_create(call.org, _spec(call.org, object_name), call.json_object())
    if isinstance(checked, Refusal):
        raise checked.error()
    return json_response(_success(_write(call, checked)), 201)


def delete_record(call: Call, object_name: str, record_id: str) -> Response:
    """DELETE sobjects/X/id."""
    spec = _spec(call.org, object_name)
    record = _live_record(call.org, spec, record_id)
    if isinstance(record, Refusal):
        raise record.error(404)
    if not spec.deletable:
        message = f"entity type {spec.name} does not support delete"
        raise ApiError(400, "INSUFFICIENT_ACCESS_OR_READONLY", message)
    call.org.delete(spec.name, record.id, by=API)
    return no_content()


def _spec(org: SalesforceOrg, object_name: str) -> ObjectSpec:
    spec = org.visible_spec(object_name)
    if spec is None:
        raise not_found()
    return spec


# Checks


def _checked_update(
    org: SalesforceOrg, spec: ObjectSpec, record: Json, counted: Mapping[str, int]
) -> Save | Refusal:
    given = _given_id(record)
    if not isinstance(given, str) or not given:
        return Refusal("MISSING_ARGUMENT", "Id not specified in an update call", ("Id",))
    if counted.get(long_id(given), 1) > 1:
        return Refusal("DUPLICATE_VALUE", f"Duplicate id specified: {given}", ("Id",))
    found = _live_record(org, spec, given)
    if isinstance(found, Refusal):
        return found
    values = _checked_values(org, spec, record, is_new=False)
    if isinstance(values, Refusal):
        return values
    fault = org.faults.take_for_record(found.id)
    return _faulty(fault, found.id) if fault else Save(spec, found.id, values)


def _checked_create(org: SalesforceOrg, spec: ObjectSpec, record: Json) -> Save | Refusal:
    if not spec.createable:
        message = f"entity type {spec.name} does not support create"
        return Refusal("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message)
    if _given_id(record) is not None:
        message = "cannot specify Id in an insert call"
        return Refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, ("Id",))
    values = _checked_values(org, spec, record, is_new=True)
    if isinstance(values, Refusal):
        return values
    missing = [
        each.name
        for each in spec.fields.values()
        if each.createable and not each.nillable and not each.is_defaulted
        if values.get(each.name) is None
    ]
    if missing:
        listed = f"Required fields are missing: [{', '.join(missing)}]"
        return Refusal("REQUIRED_FIELD_MISSING", listed, tuple(missing))
    return Save(spec, None, values)


def _given_id(record: Json) -> object:
    return next((value for name, value in record.items() if name.lower() == "id"), None)


def _live_record(org: SalesforceOrg, spec: ObjectSpec, record_id: str) -> Record | Refusal:
    if not is_id(record_id):
        return Refusal("MALFORMED_ID", f"malformed id {record_id}", ("Id",))
    record = org.find(spec.name, record_id)
    if record is None or not org.access.sees_record(record):
        return Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
    if record.is_deleted:
        return Refusal("ENTITY_IS_DELETED", "entity is deleted")
    return record


def _checked_values(
    org: SalesforceOrg, spec: ObjectSpec, record: Json, *, is_new: bool
) -> dict[str, Value] | Refusal:
    fields = _writable_fields(org, spec, record, is_new=is_new)
    if isinstance(fields, Refusal):
        return fields
    values: dict[str, Value] = {}
    for each, value in fields:
        refusal = _put_value(org, each, value, values)
        if refusal is not None:
            return refusal
    blanked = [each.name for each, _ in fields if values[each.name] is None and not each.nillable]
    if blanked:
        listed = f"Required fields are missing: [{', '.join(blanked)}]"
        return Refusal("REQUIRED_FIELD_MISSING", listed, tuple(blanked))
    return check_setup(org, spec, values) or values if is_new else values


def _writable_fields(
    org: SalesforceOrg, spec: ObjectSpec, record: Json, *, is_new: bool
) -> list[tuple[FieldSpec, object]] | Refusal:
    fields: list[tuple[FieldSpec, object]] = []
    for name, value in record.items():
        if name == "attributes" or name.lower() == "id":
            continue
        each = spec.get(name)
        if each is None or not org.access.may_read(spec, each):
            # The same words for what is unknown and what is hidden: security does not tell.
            message = f"No such column '{name}' on sobject of type {spec.name}"
            return Refusal("INVALID_FIELD", message)
        fields.append((each, value))
    locked = [each.name for each, _ in fields if not _may_write(org, spec, each, is_new=is_new)]
    if locked:
        message = (
            f"Unable to create/update fields: {', '.join(locked)}. Please check the security "
            "settings of this field and verify that it is read/write for your profile or "
            "permission set."
        )
        return Refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, tuple(locked))
    return fields


def _may_write(org: SalesforceOrg, spec: ObjectSpec, each: FieldSpec, *, is_new: bool) -> bool:
    if is_new and each.createable and not each.updateable:
        return True  # settable once, at creation
    return org.access.may_edit(spec, each)


def _put_value(
    org: SalesforceOrg, each: FieldSpec, value: object, values: dict[str, Value]
) -> Refusal | None:
    try:
        kept = stored(each, value)
    except UnreadableValueError as error:
        # A value the JSON reader cannot take fails the request, not only its record.
        raise ApiError(400, "JSON_PARSER_ERROR", error.message) from None
    except RefusedValueError as error:
        return Refusal(error.code, error.message, (error.field,))
    if each.type == "reference" and isinstance(kept, str) and not _points_at(org, each, kept):
        message = "invalid cross reference id"
        return Refusal("INVALID_CROSS_REFERENCE_KEY", message, (each.name,))
    values[each.name] = kept
    return None


def _points_at(org: SalesforceOrg, each: FieldSpec, record_id: str) -> bool:
    found = (org.find(name, record_id) for name in each.reference_to)
    return any(record is not None and not record.is_deleted for record in found)


def _faulty(fault: RecordFault, record_id: str) -> Refusal:
    fields = (fault.field,) if fault.field else ()
    match fault.kind:
        case "lock":
            message = f"unable to obtain exclusive access to this record or 1 records: {record_id}"
            return Refusal("UNABLE_TO_LOCK_ROW", fault.message or message, fields)
        case "validation":
            message = "The record breaks a validation rule."
            return Refusal("FIELD_CUSTOM_VALIDATION_EXCEPTION", fault.message or message, fields)
        case code:
            return Refusal(code, fault.message or code, fields)


# Writing


def _write(call: Call, save: Save) -> str:
    org = call.org
    if save.id is None:
        return org.create(save.spec.name, save.values, by=API)
    # Saving what is there already still moves the stamps: the vendor saves, it does not compare.
    org.edit(save.spec.name, save.id, save.values, by=API)
    # REST guide, "Assignment Rule Header": on by default, also for updates.
    wanted = call.headers.get("sforce-auto-assign", "TRUE").upper() != "FALSE"
    if wanted and save.spec.name in ASSIGNED and org.assignment_owner is not None:
        org.edit(save.spec.name, save.id, {"OwnerId": org.assignment_owner}, by=org.api_user_id)
    return save.id
