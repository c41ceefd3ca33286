"""Saving records through REST: single records and sObject Collections, one result per record.

Pages: REST API Developer Guide, "sObject Collections", "Update a Record", "Upsert Multiple
Records with Fewer Round-Trips", "Assignment Rule Header", "Duplicate Rule Header".
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeAlias

from starlette.responses import Response

from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_guards import Refusal
from sandbox.salesforce_http import ApiError, Call, json_response, no_content, not_found, refused
from sandbox.salesforce_ids import long_id
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_saving import Json, Save, Saving, given_id
from sandbox.salesforce_values import UnreadableValueError

MAX_RECORDS: Final = 200  # REST guide, "sObject Collections"
MAX_RUNS: Final = 10  # the same page: "chunks" of records of one type
ROLLED_BACK: Final = (
    "Record rolled back because not all records were valid and the request was using "
    "AllOrNone header"
)

Checked: TypeAlias = Save | Refusal


def saving(call: Call) -> Saving:
    """How the request's headers want records saved."""
    # REST guide, "Assignment Rule Header": on by default, also for updates.
    assigns = call.headers.get("sforce-auto-assign", "TRUE").upper() != "FALSE"
    rule = call.headers.get("sforce-duplicate-rule-header", "").replace(" ", "").lower()
    return Saving(call.org, assigns=assigns, allows_duplicates="allowsave=true" in rule)


def _readable(check: Callable[[], Checked]) -> Checked:
    try:
        return check()
    except UnreadableValueError as error:
        # A value the JSON reader cannot take fails the request, not only its record.
        raise ApiError(400, "JSON_PARSER_ERROR", error.message) from None


# Collections


def update_collection(call: Call) -> Response:
    """PATCH composite/sobjects."""
    records, all_or_none = _collection(call)
    counted = Counter(long_id(str(given_id(record))) for _, record in records)
    how = saving(call)

    def check(spec: ObjectSpec, record: Json) -> Checked:
        return _readable(lambda: how.check_update(spec, record, counted))

    checked = [check(spec, record) for spec, record in records]
    return json_response(_saved(how, checked, all_or_none=all_or_none))


def create_collection(call: Call) -> Response:
    """POST composite/sobjects."""
    records, all_or_none = _collection(call)
    how = saving(call)

    def check(spec: ObjectSpec, record: Json) -> Checked:
        return _readable(lambda: how.check_create(spec, record))

    checked = [check(spec, record) for spec, record in records]
    return json_response(_saved(how, checked, all_or_none=all_or_none))


def upsert_collection(call: Call, object_name: str, field_name: str) -> Response:
    """PATCH composite/sobjects/X/ExtId__c: one type, matched by an external id."""
    records, all_or_none = _collection(call)
    spec = _spec(call.org, object_name)
    key = external_id(spec, field_name)
    if any(each.name != spec.name for each, _ in records):
        message = f"all records must be of type {spec.name}"
        raise ApiError(400, "INVALID_TYPE", message)
    keys = [
        next((v for n, v in r.items() if n.lower() == key.name.lower()), "") for _, r in records
    ]
    counted = Counter(long_id(str(k)) if key.type == "id" else str(k).casefold() for k in keys)
    how = saving(call)

    def check(record: Json) -> Checked:
        if key.type != "id" and given_id(record) is not None:
            message = "The Id field should not be specified in the sobject data."
            return Refusal("INVALID_FIELD", message, ("Id",))
        return _readable(lambda: how.check_upsert(spec, key, record, counted))

    checked = [check(record) for _, record in records]
    results = _saved(how, checked, all_or_none=all_or_none)
    for result, each in zip(results, checked, strict=True):
        if isinstance(each, Save) and result["success"]:
            result["created"] = each.id is None
    return json_response(results)


def delete_collection(call: Call) -> Response:
    """DELETE composite/sobjects?ids=: at most 200."""
    ids = [each for each in call.query.get("ids", "").split(",") if each]
    if len(ids) > MAX_RECORDS:
        raise _too_many()
    how = saving(call)
    results: list[dict[str, object]] = []
    for each in ids:
        spec = next((s for s in call.org.schema.values() if s.prefix == each[:3]), None)
        checked = (
            how.check_delete(spec, each)
            if spec is not None
            else Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        )
        results.append(_result(checked, how.delete))
    return json_response(results)


def external_id(spec: ObjectSpec, field_name: str) -> FieldSpec:
    """The field by which records are matched.

    Raises:
        ApiError: it is no external id of the object.
    """
    key = spec.get(field_name)
    if key is None or not (key.external_id or key.type == "id"):
        message = f"Field name provided, {field_name} is not an External ID or indexed field"
        raise ApiError(400, "INVALID_FIELD", f"{message} for {spec.name}")
    return key


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
        raise _too_many()
    typed = [_typed_record(call.org, record) for record in records]
    if len(list(groupby(spec.name for spec, _ in typed))) > MAX_RUNS:
        message = (
            f"Cannot have more than {MAX_RUNS} chunks in a single operation. "
            "Please rearrange the data to reduce chunking."
        )
        raise ApiError(400, "LIMIT_EXCEEDED", message)
    return typed, all_or_none


def _too_many() -> ApiError:
    message = f"record limit reached. cannot submit more than {MAX_RECORDS} records"
    return ApiError(400, "EXCEEDED_ID_LIMIT", message)


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
    how: Saving, checked: Sequence[Checked], *, all_or_none: bool
) -> list[dict[str, object]]:
    if all_or_none and any(isinstance(each, Refusal) for each in checked):
        rolled_back = Refusal("ALL_OR_NONE_OPERATION_ROLLED_BACK", ROLLED_BACK)
        return [
            each.result() if isinstance(each, Refusal) else rolled_back.result() for each in checked
        ]
    return [_result(each, how.write) for each in checked]


def _result(checked: Checked, do: Callable[[Save], str]) -> dict[str, object]:
    return checked.result() if isinstance(checked, Refusal) else _success(do(checked))


def _success(record_id: str) -> dict[str, object]:
    return {"id": record_id, "success": True, "errors": []}


# Single records


def update_record(call: Call, object_name: str, record_id: str) -> Response:
    """PATCH sobjects/X/id."""
    spec = _spec(call.org, object_name)
    body = call.json_object()
    if given_id(body) is not None:
        message = "The Id field should not be specified in the sobject data."
        raise ApiError(400, "INVALID_FIELD", message, ["Id"])
    if long_id(record_id) not in call.org.rows(spec.name):
        raise not_found()
    how = saving(call)
    none: Mapping[str, int] = {}
    checked = _readable(lambda: how.check_update(spec, {**body, "Id": record_id}, none))
    if isinstance(checked, Refusal):
        gone = checked.code == "ENTITY_IS_DELETED"
        raise refused(checked, 404 if gone else 400)
    how.write(checked)
    return no_content()


def create_record(call: Call, object_name: str) -> Response:
    """POST sobjects/X."""
    spec, body, how = _spec(call.org, object_name), call.json_object(), saving(call)
    checked = _readable(lambda: how.check_create(spec, body))
    if isinstance(checked, Refusal):
        raise refused(checked)
    return json_response(_success(how.write(checked)), 201)


def delete_record(call: Call, object_name: str, record_id: str) -> Response:
    """DELETE sobjects/X/id."""
    how = saving(call)
    checked = how.check_delete(_spec(call.org, object_name), record_id)
    if isinstance(checked, Refusal):
        raise refused(checked, 400 if checked.code.startswith("INSUFFICIENT") else 404)
    how.delete(checked)
    return no_content()


def _spec(org: SalesforceOrg, object_name: str) -> ObjectSpec:
    spec = org.visible_spec(object_name)
    if spec is None:
        raise not_found()
    return spec
