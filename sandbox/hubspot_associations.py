"""Associations, version 4 ("Associate records" guide)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from starlette.responses import Response

from sandbox.hubspot_errors import JsonObject, bad_request
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_objects import association_types, batch_answer, link_type_json
from sandbox.hubspot_portal import Portal

LARGEST_LIST_PAGE = 500
LARGEST_BATCH = 1_000
LARGEST_WRITE_BATCH = 2_000


def list_links(call: Call) -> Response:
    """``GET objects/{type}/{id}/associations/{to}``; it has no dated twin."""
    from_type, to_type = _types(call, "type", "to_type")
    limit = call.whole("limit", default=LARGEST_LIST_PAGE, most=LARGEST_LIST_PAGE)
    after = call.request.query_params.get("after", "")
    record = call.portal.live(from_type, call.path("id"))
    page, following = _page(call.portal.linked(record, to_type), after, limit)
    answered: JsonObject = {"results": _links(call.portal, from_type, to_type, page)}
    if following is not None:
        link = str(call.request.url.include_query_params(after=following))
        answered["paging"] = {"next": {"after": following, "link": link}}
    return answer(answered)


def batch_read(call: Call) -> Response:
    """``POST associations/{from}/{to}/batch/read``: paged for each record by itself.

    A record without links is an error of a 207, `NO_ASSOCIATIONS_FOUND`; the normal case.
    """
    from_type, to_type = _types(call, "from_type", "to_type")
    portal = call.portal
    ends = portal.types[from_type].singular, portal.types[to_type].singular
    results: list[JsonObject] = []
    errors: list[JsonObject] = []
    for one in call.inputs(LARGEST_BATCH):
        record_id = str(one.get("id"))
        fault = portal.faults.take_for_record(record_id, on="associations")
        if fault is not None:
            errors.append(_unreadable(record_id, fault.kind, fault.message))
            continue
        record = portal.find(from_type, record_id)
        linked = {} if record is None or record.is_deleted else portal.linked(record, to_type)
        after = str(one.get("after") or "")
        page, following = _page(linked, after, portal.settings.association_page)
        if not page:
            errors.append(_no_links(*ends, record_id))
            continue
        shown = _links(portal, from_type, to_type, page)
        result: JsonObject = {"from": {"id": record_id}, "to": shown}
        if following is not None:
            result["paging"] = {"next": {"after": following, "link": f"?after={following}"}}
        results.append(result)
    portal.random.shuffle(results)
    return answer(batch_answer(portal, results, errors), 207 if errors else 200)


def batch_create(call: Call) -> Response:
    """``POST associations/{from}/{to}/batch/create``: links of the types given."""
    from_type, to_type = _types(call, "from_type", "to_type")
    portal = call.portal
    results: list[JsonObject] = []
    for one in call.inputs(LARGEST_WRITE_BATCH):
        from_id, to_id = _end(portal, from_type, one, "from"), _end(portal, to_type, one, "to")
        type_ids = _type_ids(one)
        labels = portal.link_types.labels((from_type, to_type), type_ids)
        if labels is None:
            raise bad_request(f"association types {sorted(type_ids)} do not fit")
        portal.links.add(from_type, from_id, to_type, to_id, labels=labels)
        results.append(
            {
                "fromObjectTypeId": portal.types[from_type].type_id,
                "fromObjectId": from_id,
                "toObjectTypeId": portal.types[to_type].type_id,
                "toObjectId": to_id,
                "labels": sorted(labels),
            }
        )
    return answer(batch_answer(portal, results, []), 201)


def batch_archive(call: Call) -> Response:
    """``POST associations/{from}/{to}/batch/archive``: no body, whether they were there or not."""
    from_type, to_type = _types(call, "from_type", "to_type")
    for one in call.inputs(LARGEST_WRITE_BATCH):
        start, ends = one.get("from"), one.get("to")
        if not isinstance(start, dict) or not isinstance(ends, list):
            raise bad_request("Invalid input JSON: from and to are required")
        for end in ends:
            call.portal.links.remove(from_type, str(start.get("id")), to_type, str(end.get("id")))
    return Response(status_code=204)


def labels(call: Call) -> Response:
    """``GET associations/{from}/{to}/labels``: the types of this direction."""
    known = call.portal.link_types.of(_types(call, "from_type", "to_type"))
    return answer({"results": [link_type_json(one) for one in known]})


def create_label(call: Call) -> Response:
    """``POST associations/{from}/{to}/labels``: a label of one's own, in both directions."""
    pair = _types(call, "from_type", "to_type")
    label = call.text("label")
    if any(one.label == label for one in call.portal.link_types.of(pair)):
        raise bad_request(f"the label {label} exists already")
    made = call.portal.link_types.add_label(pair, label)
    return answer({"results": [link_type_json(one) for one in made]})


def _types(call: Call, from_name: str, to_name: str) -> tuple[str, str]:
    types = call.object_type(from_name), call.object_type(to_name)
    if not call.portal.link_types.of(types):
        raise bad_request(f"{types[0]} cannot be associated with {types[1]}")
    return types


Linked: TypeAlias = Mapping[str, frozenset[str]]
"""Other id -> labels."""


def _page(linked: Linked, after: str, limit: int) -> tuple[Linked, str | None]:
    """Links from the cursor on, and the cursor of the next page (None: this is the last)."""
    ids = [other for other in linked if not after or int(other) >= int(after)]
    following = ids[limit] if len(ids) > limit else None
    return {other: linked[other] for other in ids[:limit]}, following


def _links(portal: Portal, from_type: str, to_type: str, page: Linked) -> list[JsonObject]:
    # `toObjectId` is a number in practice, although the specification says text.
    return [
        {
            "toObjectId": int(other),
            "associationTypes": association_types(portal, from_type, to_type, carried),
        }
        for other, carried in page.items()
    ]


def _no_links(here: str, there: str, record_id: str) -> JsonObject:
    return {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
        "message": f"No {there} is associated with {here} {record_id}.",
        "context": {
            "fromObjectId": [record_id],
            "fromObjectType": [here],
            "toObjectType": [there],
        },
    }


def _unreadable(record_id: str, kind: str, message: str) -> JsonObject:
    """An error that says nothing about the links: they are unknown."""
    return {
        "status": "error",
        "category": kind,
        "message": message or "The associations could not be read.",
        "context": {"fromObjectId": [record_id]},
    }


def _end(portal: Portal, object_type: str, one: Mapping[str, object], name: str) -> str:
    end = one.get(name)
    record_id = str(end.get("id")) if isinstance(end, dict) else ""
    return portal.live(object_type, record_id).id


def _type_ids(one: Mapping[str, object]) -> set[int]:
    types = one.get("types")
    if not isinstance(types, list):
        raise bad_request("Invalid input JSON: types is required")
    return {int(it["associationTypeId"]) for it in types if isinstance(it, dict)}
