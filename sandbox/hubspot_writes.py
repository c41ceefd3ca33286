"""Writing records ("Using object APIs", "Properties" guides).

Values are texts, checked against the property's definition; one wrong one refuses the record.
Without `objectWriteTraceId` one wrong input refuses the whole batch; with a unique one on each
input the good ones are written and the wrong ones come back as errors of a 207.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from starlette.responses import Response

from sandbox.hubspot_derived import LIFECYCLE_TYPES
from sandbox.hubspot_errors import (
    HubSpotError,
    Invalid,
    JsonObject,
    bad_request,
    invalid_values,
    not_found,
)
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_objects import LARGEST_BATCH, as_object, batch_answer, live_record
from sandbox.hubspot_pipelines import DEFAULT_PIPELINES
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_properties import InvalidValueError, stored
from sandbox.org import API, Record

CONFLICT = 409
RULES_SINCE = "2026-09"
"""From this version on, rules that an administrator set for people hold for API writes."""
ON_LEFT_OUT = None
"""The result of an input that is dropped without a word: a merged-away id."""


def update_one(call: Call) -> Response:
    """``PATCH {type}/{id}``: a merged-away id writes to the record it lives on in."""
    portal, object_type = call.portal, writable(call)
    record = live_record(call, object_type)
    values = _checked(call, object_type, record, call.body.get("properties"))
    _meet_fault(portal, record.id)
    portal.edit(object_type, record.id, values, by=API)
    return answer(as_object(portal, record, record.state, tuple(values)))


def batch_update(call: Call) -> Response:
    """``POST {type}/batch/update``: up to 100 records by their present ids."""
    portal, object_type = call.portal, writable(call)
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
        values = _checked(call, object_type, record, one.get("properties"))
        _meet_fault(portal, record.id)
        portal.edit(object_type, record.id, values, by=API)
        return as_object(portal, record, record.state, tuple(values))

    def check(one: JsonObject) -> None:
        record = portal.find(object_type, str(one.get("id")))
        _checked(call, object_type, record, one.get("properties"))

    return _batch(portal, inputs, check=check, write=write, done=200)


def create_one(call: Call) -> Response:
    """``POST {type}``: one record, 201."""
    return answer(_create(call, writable(call), dict(call.body)), 201)


def batch_create(call: Call) -> Response:
    """``POST {type}/batch/create``: up to 100 records, with their associations."""
    object_type = writable(call)

    def check(one: JsonObject) -> None:
        _checked(call, object_type, None, one.get("properties"))

    def write(one: JsonObject) -> JsonObject:
        return _create(call, object_type, one)

    return _batch(call.portal, call.inputs(LARGEST_BATCH), check=check, write=write, done=201)


def batch_upsert(call: Call) -> Response:
    """``POST {type}/batch/upsert``: by a unique property; `new` tells created from updated.

    One conflicting record answers 409 for the whole batch.
    """
    portal, object_type = call.portal, writable(call)
    inputs = call.inputs(LARGEST_BATCH)
    _refuse_duplicates(inputs)

    def found(one: JsonObject) -> Record | None:
        name = str(one.get("idProperty") or "")
        definition = portal.properties[object_type].get(name)
        if definition is None or not definition.has_unique_value:
            raise bad_request(f"Unable to perform update/upsert by non-unique property {name}")
        return portal.with_value(object_type, name, str(one.get("id")))

    def check(one: JsonObject) -> None:
        _checked(call, object_type, found(one), one.get("properties"))

    def write(one: JsonObject) -> JsonObject:
        record = found(one)
        if record is None:
            own = one.get("properties")
            named = {str(one["idProperty"]): str(one.get("id"))}
            whole = {**named, **own} if isinstance(own, dict) else named
            return {**_create(call, object_type, {**one, "properties": whole}), "new": True}
        values = _checked(call, object_type, record, one.get("properties"))
        _meet_fault(portal, record.id)
        portal.edit(object_type, record.id, values, by=API)
        return {**as_object(portal, record, record.state, tuple(values)), "new": False}

    for one in inputs:
        found(one)
        _refuse_taken(portal, object_type, found(one), one.get("properties"))
    return _batch(portal, inputs, check=check, write=write, done=200)


def archive_one(call: Call) -> Response:
    """``DELETE {type}/{id}``: 204, also for a record that is archived already."""
    _archive(call, writable(call), call.path("id"))
    return Response(status_code=204)


def batch_archive(call: Call) -> Response:
    """``POST {type}/batch/archive``: 204 without a word about any of them."""
    object_type = writable(call)
    for one in call.inputs(LARGEST_BATCH):
        _archive(call, object_type, str(one.get("id")))
    return Response(status_code=204)


def merge(call: Call) -> Response:
    """``POST {type}/merge``: `primaryObjectId` takes `objectIdToMerge` in; see `Portal.merge`."""
    portal, object_type = call.portal, writable(call)
    winner = portal.live(object_type, call.text("primaryObjectId"))
    loser = portal.live(object_type, call.text("objectIdToMerge"))
    if winner.id == loser.id:
        raise bad_request("A record cannot be merged with itself")
    record = portal.get(object_type, portal.merge(object_type, winner.id, [loser.id], by=API))
    names = (*call.kind().defaults, "hs_merged_object_ids")
    return answer(as_object(portal, record, record.state, names))


def gdpr_delete(call: Call) -> Response:
    """``POST contacts/gdpr-delete``: gone without a trace, not even in the archived list."""
    portal, object_type = call.portal, writable(call)
    if object_type != "contacts":
        raise bad_request("only contacts can be deleted for privacy")
    name, wanted = str(call.body.get("idProperty") or ""), call.text("objectId")
    record = (
        portal.with_value(object_type, name, wanted) if name else portal.find(object_type, wanted)
    )
    if record is None:
        raise not_found()
    portal.erase(object_type, record.id)
    return Response(status_code=204)


def writable(call: Call) -> str:
    """The object type of a write; 405 for one that can only be read."""
    kind = call.kind()
    if not kind.is_writable:
        raise HubSpotError(405, f"{kind.name} cannot be written through the API")
    return kind.name


def _archive(call: Call, object_type: str, record_id: str) -> None:
    record = call.portal.find(object_type, record_id)
    if record is not None and not record.is_deleted:
        call.portal.delete(object_type, record.id, by=API)


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
            if error.status == CONFLICT and not _all_traced(inputs):
                raise
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


def _create(call: Call, object_type: str, one: JsonObject) -> JsonObject:
    portal = call.portal
    values = _checked(call, object_type, None, one.get("properties"))
    _refuse_taken(portal, object_type, None, values)
    wanted = _wanted_links(portal, object_type, one.get("associations") or [])
    new_id = portal.create(object_type, values, by=API)
    for to_type, to_id, labels in wanted:
        portal.links.add(object_type, new_id, to_type, to_id, labels=labels)
    record = portal.get(object_type, new_id)
    names = (*portal.types[object_type].defaults, *values)
    return as_object(portal, record, record.state, names)


def _wanted_links(
    portal: Portal, object_type: str, associations: object
) -> list[tuple[str, str, frozenset[str]]]:
    if not isinstance(associations, list):
        raise bad_request("Invalid input JSON: associations must be a list")
    wanted: list[tuple[str, str, frozenset[str]]] = []
    for one in associations:
        to_id = str(one["to"]["id"])
        type_ids = {int(it["associationTypeId"]) for it in one["types"]}
        for other in portal.types:
            labels = portal.link_types.labels((object_type, other.name), type_ids)
            if labels is not None:
                portal.live(other.name, to_id)
                wanted.append((other.name, to_id, labels))
    return wanted


def _refuse_taken(
    portal: Portal, object_type: str, record: Record | None, properties: object
) -> None:
    """409 where another record has a unique value already ("Contacts" guide: the e-mail)."""
    values = properties if isinstance(properties, dict) else {}
    for name, value in values.items():
        definition = portal.properties[object_type].get(name)
        if definition is None or not definition.has_unique_value or not value:
            continue
        holder = portal.with_value(object_type, name, str(value))
        if holder is not None and (record is None or holder.id != record.id):
            kind = portal.types[object_type].singular.capitalize()
            raise HubSpotError(409, f"{kind} already exists. Existing ID: {holder.id}", "CONFLICT")


def _checked(
    call: Call, object_type: str, record: Record | None, properties: object
) -> dict[str, str]:
    """The values to store.

    Raises:
        HubSpotError: 400 naming every property that is unknown, read-only or of a wrong form,
            409 for a unique value that another record has.
    """
    portal = call.portal
    if not isinstance(properties, dict):
        raise bad_request("Invalid input JSON: properties is required", "REQUIRED_FIELD")
    accepted: dict[str, str] = {}
    problems: list[Invalid] = []
    for name, value in properties.items():
        try:
            accepted[name] = _accepted(portal, object_type, name, value)
        except InvalidValueError as error:
            problems.append(error.problem)
    problems += _stage_problems(portal, object_type, record, accepted)
    if call.version >= RULES_SINCE:
        problems += _missing(portal, object_type, record, accepted)
    if problems:
        raise invalid_values(problems)
    if record is not None:
        _refuse_taken(portal, object_type, record, accepted)
    return _only_forward(portal, object_type, record, accepted)


def _missing(
    portal: Portal, object_type: str, record: Record | None, values: Mapping[str, str]
) -> list[Invalid]:
    """What the rules for people ask for and this write leaves empty."""
    present = {**(record.fields if record else {}), **values}
    problems: list[Invalid] = []
    for rule in portal.settings.required.get(object_type, ()):
        if not rule.applies(values, is_new=record is None):
            continue
        for name in rule.needs:
            if not present.get(name):
                message = f"{name} is required"
                problems.append(Invalid(name, "REQUIRED_PROPERTY_MISSING", message))
    return problems


def _only_forward(
    portal: Portal, object_type: str, record: Record | None, values: dict[str, str]
) -> dict[str, str]:
    """Without a lifecycle stage that would be a step back: it is dropped silently."""
    wanted = values.get("lifecyclestage")
    present = record["lifecyclestage"] if record is not None else None
    if object_type not in LIFECYCLE_TYPES or not wanted or present is None:
        return values
    options = portal.properties[object_type]["lifecyclestage"].options
    order = [option.value for option in options]
    if present in order and order.index(wanted) < order.index(str(present)):
        return {name: value for name, value in values.items() if name != "lifecyclestage"}
    return values


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
    portal: Portal, object_type: str, record: Record | None, values: Mapping[str, str]
) -> list[Invalid]:
    kind = portal.types[object_type]
    if kind.stage is None or kind.pipeline is None or not values.get(kind.stage):
        return []
    present = record[kind.pipeline] if record is not None else DEFAULT_PIPELINES[object_type]
    pipeline = values.get(kind.pipeline) or str(present)
    stage = portal.stage(object_type, pipeline, values[kind.stage])
    if stage is not None and not stage.is_archived:
        return []
    message = f"{values[kind.stage]} is not a stage of pipeline {pipeline}"
    return [Invalid(kind.stage, "INVALID_OPTION", message)]
