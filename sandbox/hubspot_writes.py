"""Writing records ("Using object APIs", "Properties" guides).

Values are texts, checked against the property's definition; one wrong one refuses the record.
Without `objectWriteTraceId` one wrong input refuses the whole batch; with a unique one on each
input the good ones are written and the wrong ones come back as errors of a 207.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from starlette.responses import Response

from sandbox.hubspot_errors import (
    HubSpotError,
    Invalid,
    JsonObject,
    bad_request,
    invalid_values,
    not_found,
)
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_links import ASSOCIABLE, PRIMARY, UNLABELLED
from sandbox.hubspot_objects import LARGEST_BATCH, as_object, batch_answer
from sandbox.hubspot_portal import DEFAULT_PROPERTIES, TYPE_NAMES, Portal
from sandbox.hubspot_properties import InvalidValueError, stored
from sandbox.org import API, Record

ON_LEFT_OUT = None
"""The result of an input that is dropped without a word: a merged-away id."""


def update_one(call: Call) -> Response:
    """``PATCH {type}/{id}``: a merged-away id writes to the record it lives on in."""
    portal, object_type = call.portal, call.object_type()
    record = portal.live(object_type, call.path("id"))
    values = _checked(portal, object_type, record, call.body.get("properties"))
    _meet_fault(portal, record.id)
    portal.edit(object_type, record.id, values, by=API)
    return answer(as_object(portal, record, record.state, tuple(values)))


def batch_update(call: Call) -> Response:
    """``POST {type}/batch/update``: up to 100 records by their present ids."""
    portal, object_type = call.portal, call.object_type()
    inputs = call.inputs(LARGEST_BATCH)
    _refuse_duplicates(inputs)

    def write(one: JsonObject) -> JsonObject | None:
        if one.get("idProperty"):
            raise bad_request(
                f"Unable to perform update/upsert by non-unique property {one['idProperty']}"
            )
        record = portal.find(object_type, str(one.get("id")))
        if record is not None and record.state.merged_into is not None:
            return ON_LEFT_OUT
        if record is None or record.is_deleted:
            raise not_found("Could not get some objects, they may be deleted or not exist.")
        values = _checked(portal, object_type, record, one.get("properties"))
        _meet_fault(portal, record.id)
        portal.edit(object_type, record.id, values, by=API)
        return as_object(portal, record, record.state, tuple(values))

    def check(one: JsonObject) -> None:
        record = portal.find(object_type, str(one.get("id")))
        _checked(portal, object_type, record, one.get("properties"))

    return _batch(portal, inputs, check=check, write=write, done=200)


def create_one(call: Call) -> Response:
    """``POST {type}``: one record, 201."""
    portal, object_type = call.portal, call.object_type()
    shown = _create(portal, object_type, dict(call.body))
    return answer(shown, 201)


def batch_create(call: Call) -> Response:
    """``POST {type}/batch/create``: up to 100 records, with their associations."""
    portal, object_type = call.portal, call.object_type()

    def check(one: JsonObject) -> None:
        _checked(portal, object_type, None, one.get("properties"))

    def write(one: JsonObject) -> JsonObject:
        return _create(portal, object_type, one)

    return _batch(portal, call.inputs(LARGEST_BATCH), check=check, write=write, done=201)


def _batch(
    portal: Portal,
    inputs: Sequence[JsonObject],
    *,
    check: Callable[[JsonObject], None],
    write: Callable[[JsonObject], JsonObject | None],
    done: int,
) -> Response:
    if not _all_traced(inputs):
        for one in inputs:
            check(one)
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    for one in inputs:
        try:
            result = write(one)
        except HubSpotError as error:
            errors.append(_error_entry(one, error))
            continue
        if result is not ON_LEFT_OUT:
            results.append({**result, **_trace(one)})
    # "Results are not in input order": whoever matches by position is wrong.
    portal.random.shuffle(results)
    portal.random.shuffle(errors)
    return answer(batch_answer(portal, results, errors), 207 if errors else done)


def _all_traced(inputs: Sequence[JsonObject]) -> bool:
    traces = [one.get("objectWriteTraceId") for one in inputs]
    return None not in traces and len(set(map(str, traces))) == len(traces)


def _trace(one: Mapping[str, object]) -> JsonObject:
    trace = one.get("objectWriteTraceId")
    return {"objectWriteTraceId": str(trace)} if trace is not None else {}


def _error_entry(one: Mapping[str, object], error: HubSpotError) -> JsonObject:
    context: dict[str, list[str]] = {}
    if "id" in one:
        context["ids"] = [str(one["id"])]
    if one.get("objectWriteTraceId") is not None:
        context["objectWriteTraceId"] = [str(one["objectWriteTraceId"])]
    return {
        "status": "error",
        "category": error.category,
        "message": error.message,
        "errors": list(error.errors),
        "context": context,
    }


def _refuse_duplicates(inputs: Sequence[JsonObject]) -> None:
    counted = Counter(str(one.get("id")) for one in inputs)
    twice = [record_id for record_id, times in counted.items() if times > 1]
    if twice:
        raise bad_request(f"Duplicate IDs found in batch input: [{', '.join(twice)}]")


def _meet_fault(portal: Portal, record_id: str) -> None:
    fault = portal.faults.take_for_record(record_id)
    if fault is None:
        return
    if fault.kind == "lock":
        # Error handling: 423, locked by heavy writing; wait two seconds at least.
        raise HubSpotError(423, fault.message or "The record is locked.", "LOCKED")
    if fault.kind == "validation":
        message = fault.message or "A rule of the account refuses this value"
        raise invalid_values([Invalid(fault.field or "hs_object_id", "INVALID_OPTION", message)])
    raise HubSpotError(500, fault.message or "internal error", fault.kind)


def _create(portal: Portal, object_type: str, one: JsonObject) -> JsonObject:
    values = _checked(portal, object_type, None, one.get("properties"))
    wanted = _wanted_links(portal, object_type, one.get("associations") or [])
    new_id = portal.create(object_type, values, by=API)
    for to_type, to_id, primary in wanted:
        portal.links.add(object_type, new_id, to_type, to_id, primary=primary)
    record = portal.get(object_type, new_id)
    names = (*DEFAULT_PROPERTIES[object_type], *values)
    return as_object(portal, record, record.state, names)


def _wanted_links(
    portal: Portal, object_type: str, associations: object
) -> list[tuple[str, str, bool]]:
    if not isinstance(associations, list):
        raise bad_request("Invalid input JSON: associations must be a list")
    wanted: list[tuple[str, str, bool]] = []
    for one in associations:
        to_id = str(one["to"]["id"])
        type_ids = {int(it["associationTypeId"]) for it in one["types"]}
        for to_type in set(TYPE_NAMES.values()) - {object_type}:
            key = (object_type, to_type)
            if key in ASSOCIABLE and type_ids & {UNLABELLED[key], PRIMARY[key]}:
                portal.live(to_type, to_id)
                wanted.append((to_type, to_id, PRIMARY[key] in type_ids))
    return wanted


def _checked(
    portal: Portal, object_type: str, record: Record | None, properties: object
) -> dict[str, str]:
    """The values to store.

    Raises:
        HubSpotError: 400 naming every property that is unknown, read-only or of a wrong form.
    """
    if not isinstance(properties, dict):
        raise bad_request("Invalid input JSON: properties is required", "REQUIRED_FIELD")
    accepted: dict[str, str] = {}
    problems: list[Invalid] = []
    for name, value in properties.items():
        try:
            accepted[name] = _accepted(portal, object_type, name, value)
        except InvalidValueError as error:
            problems.append(error.problem)
    problems += _stage_problems(portal, record, accepted) if object_type == "deals" else []
    if problems:
        raise invalid_values(problems)
    return accepted


def _accepted(portal: Portal, object_type: str, name: str, value: object) -> str:
    definition = portal.properties[object_type].get(name)
    if definition is None:
        message = f'Property "{name}" does not exist'
        raise InvalidValueError(Invalid(name, "PROPERTY_DOESNT_EXIST", message))
    if definition.read_only:
        message = f'"{name}" is a read only property; its value cannot be set'
        raise InvalidValueError(Invalid(name, "READ_ONLY_VALUE", message))
    if not isinstance(value, str):
        # The schema knows texts only: no null, no JSON number. "" clears.
        raise bad_request(f"Invalid input JSON: the value of {name} must be a string")
    return stored(definition, value)


def _stage_problems(
    portal: Portal, record: Record | None, values: Mapping[str, str]
) -> list[Invalid]:
    if not values.get("dealstage"):
        return []
    present = record["pipeline"] if record is not None else "default"
    pipeline = values.get("pipeline") or str(present)
    stage = portal.stage(pipeline, values["dealstage"])
    if stage is not None and not stage.is_archived:
        return []
    message = f"{values['dealstage']} is not a stage of pipeline {pipeline}"
    return [Invalid("dealstage", "INVALID_OPTION", message)]
