"""Reading and searching records ("Using object APIs", "Search the CRM" guides)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from starlette.responses import Response

from sandbox import hubspot_search
from sandbox.hubspot_errors import JsonObject, bad_request, not_found
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_links import LinkType
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_properties import as_text, instant_text
from sandbox.org import Record, State

LARGEST_PAGE = 100
LARGEST_PAGE_WITH_HISTORY = 50
LARGEST_BATCH = 100
LARGEST_BATCH_WITH_HISTORY = 50
DAYS_IN_ARCHIVE = 90
ASSOCIATED_WITH_PAGE = 100
"""Ids that `associations=` brings along; the rest needs the associations API."""
TOO_MUCH_HISTORY = (
    "The maximum number of inputs supported in a batch request for property histories is 50. "
    "Please reduce the number of items and try again"
)


def list_page(call: Call) -> Response:
    """``GET {type}``: a page in the order of the ids; `after` is the id of the next record."""
    object_type = call.object_type()
    history = call.list_of("propertiesWithHistory")
    most = LARGEST_PAGE_WITH_HISTORY if history else LARGEST_PAGE
    limit = call.whole("limit", default=10, most=most)
    after = call.request.query_params.get("after", "0")
    if not after.isdecimal():
        raise bad_request(f"after must be an id, got {after}")
    page = list(itertools.islice(_listed(call, object_type, int(after)), limit + 1))
    answered: JsonObject = {"results": [_requested(call, record) for record in page[:limit]]}
    if len(page) > limit:
        answered["paging"] = _next_page(call, page[limit].id)
    return answer(answered)


def get_one(call: Call) -> Response:
    """``GET {type}/{id}``: a merged-away id answers with the record it lives on in."""
    portal, object_type = call.portal, call.object_type()
    if call.flag("archived"):
        record = portal.find(object_type, call.path("id"))
        if record is None or not record.is_deleted:
            raise not_found()
    else:
        record = live_record(call, object_type)
    return answer(_requested(call, record))


def live_record(call: Call, object_type: str) -> Record:
    """The record of the path, named by its id or by a unique property (`idProperty`).

    Raises:
        HubSpotError: 404 where there is none, 400 for a property that is not unique.
    """
    name = call.request.query_params.get("idProperty", "")
    if not name:
        return call.portal.live(object_type, call.path("id"))
    found = finder(call, object_type, name)(call.path("id"))
    if found is None:
        raise not_found()
    return found


def batch_read(call: Call) -> Response:
    """``POST {type}/batch/read``: in any order; unknown ids are errors in a 207."""
    portal, object_type = call.portal, call.object_type()
    history = _names(call, "propertiesWithHistory")
    inputs = (
        call.inputs(LARGEST_BATCH_WITH_HISTORY, TOO_MUCH_HISTORY)
        if history
        else call.inputs(LARGEST_BATCH)
    )
    find = finder(call, object_type, str(call.body.get("idProperty") or "hs_object_id"))
    names = _names(call, "properties") or call.kind().defaults
    results: list[JsonObject] = []
    missing: list[str] = []
    for record_id in dict.fromkeys(str(one.get("id")) for one in inputs):
        record = find(record_id)
        if record is not None and record.state.merged_into is not None:
            continue  # Merged-away ids are left out without a word (observed by peers).
        if record is None or record.is_deleted is not call.flag("archived"):
            missing.append(record_id)
        else:
            results.append(as_object(portal, record, record.state, names, history))
    # "Results come in any order": whoever matches by position is wrong.
    portal.random.shuffle(results)
    errors = [_not_found(call.kind().singular, missing)] if missing else []
    return answer(batch_answer(portal, results, errors), 207 if errors else 200)


def search(call: Call) -> Response:
    """``POST {type}/search``; see `sandbox.hubspot_search`."""
    portal, object_type = call.portal, call.object_type()
    query = hubspot_search.parse(portal, object_type, call.body)
    total, page = hubspot_search.run(portal, object_type, query)
    names = query.properties or call.kind().defaults
    results = [
        _without_calculated(portal, object_type, as_object(portal, record, state, names))
        for record, state in page
    ]
    answered: JsonObject = {"total": total, "results": results}
    reached = query.after + len(page)
    if reached < total:
        answered["paging"] = {"next": {"after": str(reached)}}
    return answer(answered)


def as_object(
    portal: Portal,
    record: Record,
    state: State,
    names: Sequence[str],
    history: Sequence[str] = (),
) -> JsonObject:
    """One record as the API shows it: only the properties asked for, plus id and stamps.

    Unknown names are ignored; known ones without a value are null.
    """
    known = portal.properties[record.object_name]
    always = portal.types[record.object_name].always
    wanted = sorted({*names, *always, *history} & known.keys())
    shown: JsonObject = {
        "id": record.id,
        "properties": {name: portal.value(record, state, name) for name in wanted},
        "createdAt": instant_text(record.created_at),
        "updatedAt": instant_text(state.modified_at),
        "archived": record.is_deleted,
    }
    if record.state.deleted_at is not None:
        shown["archivedAt"] = instant_text(record.state.deleted_at)
    if history:
        shown["propertiesWithHistory"] = {
            name: _past(portal, record, name) for name in history if name in known
        }
    return shown


def batch_answer(
    portal: Portal, results: Sequence[JsonObject], errors: Sequence[JsonObject]
) -> JsonObject:
    """The frame of every batch answer; with `errors` it goes out as 207."""
    now = instant_text(portal.now())
    answered: JsonObject = {
        "status": "COMPLETE",
        "results": list(results),
        "startedAt": now,
        "completedAt": now,
    }
    if errors:
        answered |= {"numErrors": len(errors), "errors": list(errors)}
    return answered


def _not_found(singular: str, ids: Sequence[str]) -> JsonObject:
    kind = singular.upper()
    return {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": f"Could not get some {kind} objects, they may be deleted or not exist. "
        "Check that ids are valid.",
        "context": {"ids": list(ids)},
    }


def finder(call: Call, object_type: str, name: str) -> Callable[[str], Record | None]:
    """How records are named: by id, or by a unique property; 400 for another one."""
    portal = call.portal
    if name == "hs_object_id":
        return lambda record_id: portal.find(object_type, record_id)
    definition = portal.properties[object_type].get(name)
    if definition is None or not definition.has_unique_value:
        raise bad_request(f"Unable to read by non-unique property {name}")
    return lambda value: portal.with_value(object_type, name, value)


def _listed(call: Call, object_type: str, first_id: int) -> Iterator[Record]:
    portal = call.portal
    if not call.flag("archived"):
        return portal.from_id(object_type, first_id)
    found = portal.from_id(object_type, first_id, archived=True)
    return (record for record in found if _stands_in_archive(portal, record))


def _stands_in_archive(portal: Portal, record: Record) -> bool:
    archived_at = record.state.deleted_at
    if archived_at is None or (portal.now() - archived_at).days >= DAYS_IN_ARCHIVE:
        return False
    return record.state.merged_into is None or portal.settings.archived_shows_merged


def _requested(call: Call, record: Record) -> JsonObject:
    """A record with what the query string asks for."""
    names = call.list_of("properties") or call.kind().defaults
    history = call.list_of("propertiesWithHistory")
    shown = as_object(call.portal, record, record.state, names, history)
    associated = call.list_of("associations")
    if associated:
        shown["associations"] = _associations(call.portal, record, associated)
    return shown


def _associations(portal: Portal, record: Record, types: Sequence[str]) -> JsonObject:
    shown: JsonObject = {}
    here = portal.types[record.object_name]
    for named in types:
        other = portal.types.named(named)
        known = portal.link_types.of((here.name, other.name)) if other else []
        if other is None or not known:
            raise bad_request(f"Unable to infer object type from: {named}")
        entries = [
            {"id": record_id, "type": _type_word(here.singular, other.singular, one)}
            for record_id, labels in portal.linked(record, other.name).items()
            for one in _carried(known, labels)
        ]
        if entries:
            shown[other.name] = {"results": entries[:ASSOCIATED_WITH_PAGE]}
    return shown


def _type_word(here: str, there: str, one: LinkType) -> str:
    word = f"{here}_to_{there}"
    if one.label is None:
        return f"{word}_unlabeled"
    return word if one.label == "Primary" else one.label.lower().replace(" ", "_")


def association_types(
    portal: Portal, from_type: str, to_type: str, labels: frozenset[str]
) -> list[JsonObject]:
    """The types of one link: the labels it carries, and the plain one."""
    known = portal.link_types.of((from_type, to_type))
    return [link_type_json(one) for one in _carried(known, labels)]


def link_type_json(one: LinkType) -> JsonObject:
    """One association type as the API shows it."""
    return {"category": one.category, "typeId": one.type_id, "label": one.label}


def _carried(known: Sequence[LinkType], labels: frozenset[str]) -> list[LinkType]:
    return [one for one in known if one.label is None or one.label in labels]


def _past(portal: Portal, record: Record, name: str) -> list[JsonObject]:
    """Newest first; an empty text is a clearing."""
    return [
        {
            "value": as_text(change.value) or "",
            "timestamp": instant_text(change.at),
            "sourceType": "INTEGRATION" if change.by == "api" else "CRM_UI",
            "sourceId": change.by,
            "updatedByUserId": None,
        }
        for change in portal.past(record, name)[: portal.types[record.object_name].history_depth]
    ]


def _without_calculated(portal: Portal, object_type: str, shown: JsonObject) -> JsonObject:
    properties = shown["properties"]
    if not portal.settings.stale_calculated or not isinstance(properties, dict):
        return shown
    known = portal.properties[object_type]
    stale = {k: None if known[k].is_calculated else v for k, v in properties.items()}
    return {**shown, "properties": stale}


def _next_page(call: Call, after: str) -> JsonObject:
    link = call.request.url.include_query_params(after=after)
    return {"next": {"after": after, "link": str(link)}}


def _names(call: Call, name: str) -> list[str]:
    value = call.body.get(name) or []
    if not isinstance(value, list):
        raise bad_request(f"Invalid input JSON: {name} must be a list")
    return [str(one) for one in value]
