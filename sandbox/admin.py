"""The admin endpoints of one org, under ``/__sandbox__/``; documented in docs/sandbox.md.

They do what people do in the CRM's own screens, and what a test or a rehearsal asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.faults import FOREVER, Fault, Kind, RecordFault
from sandbox.org import (
    PEOPLE,
    Fields,
    FieldType,
    JournalEntry,
    Org,
    RequestEntry,
    StageSpec,
    UnknownRecordError,
    Value,
    iso,
)

PREFIX = "/__sandbox__/"

Json: TypeAlias = Mapping[str, object]


class BadAdminRequestError(ValueError):
    """An admin request that asks for something the sandbox does not understand."""


def routes(org: Org) -> list[Route]:
    """The admin endpoints of this org."""
    return [
        *(post(org, name, verb) for name, verb in VERBS.items()),
        *(_get(org, name, view) for name, view in VIEWS.items()),
    ]


def post(org: Org, name: str, verb: Callable[[Org, Json], Json]) -> Route:
    """The endpoint of one verb; what the verb refuses is answered with 400 and its words."""

    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body() or b"{}")
            if not isinstance(body, dict):
                raise BadAdminRequestError("the body must be a JSON object")
            _refuse_unknown_keys(name, body)
            return JSONResponse(dict(verb(org, body)))
        except UnknownRecordError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except (ValueError, TypeError, KeyError) as error:
            return JSONResponse({"error": f"{name}: {error!r}"}, status_code=400)

    return Route(PREFIX + name, endpoint, methods=["POST"])


def _refuse_unknown_keys(name: str, body: Json) -> None:
    # A misspelt key that is passed over makes a rehearsal of something else.
    unknown = sorted(set(body) - KEYS[name]) if name in KEYS else []
    if unknown:
        known = ", ".join(sorted(KEYS[name]))
        raise BadAdminRequestError(f"unknown key {', '.join(unknown)}; there is {known}")


def _get(org: Org, name: str, view: Callable[[Org, str], object]) -> Route:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(view(org, request.query_params.get("object", "")))

    return Route(PREFIX + name, endpoint, methods=["GET"])


# What people do


def create(org: Org, body: Json) -> Json:
    """``object``, ``fields`` (or ``records``: a list of them), ``at``, ``commit_after``, ``by``."""
    many = body.get("records")
    wanted = list_of(body, "records") if many is not None else [body.get("fields", {})]
    at, commit_after, by = _when(body)
    ids = [
        org.create(
            text_of(body, "object"), _fields(values), by=by, at=at, commit_after=commit_after
        )
        for values in wanted
    ]
    for to_object, others in mapping_of(body.get("associations", {})).items():
        linked = [str(other) for other in list_of({to_object: others}, to_object)]
        for record_id in ids:
            org.link(text_of(body, "object"), record_id, to_object, linked)
    return {"ids": ids} if many is not None else {"id": ids[0]}


def edit(org: Org, body: Json) -> Json:
    """``object``, ``id`` or ``ids`` (all get one stamp), ``fields`` (null clears), as `create`."""
    at, commit_after, by = _when(body)
    stamped = at or org.now()
    for record_id in _ids(body):
        values = _fields(body.get("fields", {}))
        org.edit(
            text_of(body, "object"), record_id, values, by=by, at=stamped, commit_after=commit_after
        )
    return {}


def delete(org: Org, body: Json) -> Json:
    """``object``, ``id`` or ``ids``: into the bin, archived."""
    at, commit_after, by = _when(body)
    for record_id in _ids(body):
        org.delete(text_of(body, "object"), record_id, by=by, at=at, commit_after=commit_after)
    return {}


def undelete(org: Org, body: Json) -> Json:
    """``object``, ``id`` or ``ids``: out of the bin again."""
    at, commit_after, by = _when(body)
    for record_id in _ids(body):
        org.undelete(text_of(body, "object"), record_id, by=by, at=at, commit_after=commit_after)
    return {}


def erase(org: Org, body: Json) -> Json:
    """``object``, ``id`` or ``ids``: gone for good."""
    for record_id in _ids(body):
        org.erase(text_of(body, "object"), record_id)
    return {}


def merge(org: Org, body: Json) -> Json:
    """``object``, ``winner``, ``losers``; answers the id under which the record lives on."""
    losers = [str(loser) for loser in list_of(body, "losers")]
    return {"id": org.merge(text_of(body, "object"), text_of(body, "winner"), losers)}


def add_field(org: Org, body: Json) -> Json:
    """``object``, ``name``, ``label``, ``type`` (a `FieldType`), ``choices``."""
    name = text_of(body, "name")
    org.add_field(
        text_of(body, "object"),
        name,
        label=str(body.get("label", name)),
        type=FieldType(text_of(body, "type")),
        choices=[str(choice) for choice in list_of(body, "choices")],
    )
    return {}


def set_stages(org: Org, body: Json) -> Json:
    """``stages``: a list of ``name``, ``is_closed``, ``is_won``, ``probability``."""
    org.set_stages([_stage(stage) for stage in list_of(body, "stages")])
    return {}


# What a rehearsal asks


def fault(org: Org, body: Json) -> Json:
    """A request fault, or with ``record`` a record fault; see `sandbox.faults`."""
    if "record" in body:
        org.faults.add(_record_fault(body))
    else:
        org.faults.add(_request_fault(body))
    return {}


def clear_faults(org: Org, body: Json) -> Json:  # noqa: ARG001 - every verb has this shape
    """Serve normally again."""
    org.faults.clear()
    return {}


def clock(org: Org, body: Json) -> Json:
    """``fix`` or ``move_to`` an instant, ``advance`` by seconds, ``run``; answers ``now``.

    ``fix: true`` stops the clock where it is, ``run: true`` lets it go on from there.
    """
    if body.get("fix"):
        org.clock.fix(None if body["fix"] is True else _instant(body["fix"]))
    if "move_to" in body:
        org.clock.move_to(_instant(body["move_to"]))
    if "advance" in body:
        org.clock.advance(_seconds(body["advance"]))
    if body.get("run"):
        org.clock.run()
    org.settle()
    return {"now": iso(org.now())}


def lag(org: Org, body: Json) -> Json:
    """``seconds`` by which the search index trails writes from now on; 0 lets it catch up."""
    org.set_index_lag(_seconds(body.get("seconds", 0)))
    return {}


def settings(org: Org, body: Json) -> Json:
    """What the dialect lets the admin set; see docs/sandbox.md."""
    org.configure(body)
    return {}


def forget(org: Org, body: Json) -> Json:  # noqa: ARG001 - every verb has this shape
    """Empty the journal and the request log."""
    org.journal.clear()
    org.requests.clear()
    return {}


VERBS: Mapping[str, Callable[[Org, Json], Json]] = {
    "create": create,
    "edit": edit,
    "delete": delete,
    "undelete": undelete,
    "erase": erase,
    "merge": merge,
    "add_field": add_field,
    "set_stages": set_stages,
    "fault": fault,
    "clear_faults": clear_faults,
    "clock": clock,
    "lag": lag,
    "settings": settings,
    "forget": forget,
}

STAMPING = frozenset({"object", "at", "commit_after", "by", "raw"})
"""`raw` only tells the reader that no API would have taken the values."""

WHICH = frozenset({"id", "ids"})

KEYS: Mapping[str, frozenset[str]] = {
    "create": STAMPING | {"fields", "records", "associations"},
    "edit": STAMPING | WHICH | {"fields"},
    "delete": STAMPING | WHICH,
    "undelete": STAMPING | WHICH,
    "erase": WHICH | {"object"},
    "merge": frozenset({"object", "winner", "losers"}),
    "add_field": frozenset({"object", "name", "label", "type", "choices"}),
    "set_stages": frozenset({"stages"}),
    "fault": frozenset(
        [
            "kind",
            "times",
            "after",
            "method",
            "path",
            "body_contains",
            "status",
            "body",
            "headers",
            "seconds",
            "record",
            "message",
            "field",
            "on",
        ]
    ),
    "clear_faults": frozenset(),
    "clock": frozenset({"fix", "move_to", "advance", "run"}),
    "lag": frozenset({"seconds"}),
    "forget": frozenset(),
    "associate": frozenset({"from", "id", "to", "to_ids", "primary", "label", "remove"}),
    "pipeline": frozenset({"object", "id", "label", "stages"}),
    "define_object": frozenset({"name", "label", "properties"}),
    "label": frozenset({"from", "to", "label"}),
    "webhooks": frozenset({"url", "secret", "types"}),
}
"""What the body of each verb may hold; `settings` knows its own."""

VIEWS: Mapping[str, Callable[[Org, str], object]] = {
    "journal": lambda org, _: [_journal_line(entry) for entry in org.journal],
    "requests": lambda org, _: [_request_line(entry) for entry in org.requests],
    "snapshot": lambda org, object_name: org.snapshot(object_name),
}
"""What each shows of the org; a snapshot may be of one object alone."""


def _journal_line(entry: JournalEntry) -> dict[str, object]:
    return {
        "at": iso(entry.at),
        "object": entry.object_name,
        "id": entry.id,
        "field": entry.field,
        "old": entry.old,
        "new": entry.new,
        "redundant": entry.redundant,
    }


def _request_line(entry: RequestEntry) -> dict[str, object]:
    return {
        "at": iso(entry.at),
        "method": entry.method,
        "path": entry.path,
        "query": entry.query,
        "status": entry.status,
    }


def _request_fault(body: Json) -> Fault:
    kind = Kind(text_of(body, "kind"))
    content = body.get("body", "")
    return Fault(
        kind=kind,
        times=_times(body),
        after=_whole(body.get("after", 0)),
        method=str(body.get("method", "")),
        path=str(body.get("path", "")),
        body_contains=str(body.get("body_contains", "")),
        status=_whole(body.get("status", _default_status(kind))),
        body=content if isinstance(content, str) else json.dumps(content),
        headers={str(k): str(v) for k, v in mapping_of(body.get("headers", {})).items()},
        seconds=_seconds(body.get("seconds", 120)).total_seconds(),
    )


def _default_status(kind: Kind) -> int:
    return {Kind.HTML: 502, Kind.EMPTY: 200}.get(kind, 500)


def _record_fault(body: Json) -> RecordFault:
    return RecordFault(
        record_id=text_of(body, "record"),
        kind=text_of(body, "kind"),
        times=_times(body),
        message=str(body.get("message", "")),
        field=str(body.get("field", "")),
        on=str(body.get("on", "write")),
    )


def _times(body: Json) -> int:
    times = body.get("times", 1)
    return FOREVER if times == "forever" else _whole(times)


def _when(body: Json) -> tuple[datetime | None, timedelta | None, str]:
    at = _instant(body["at"]) if "at" in body else None
    commit_after = _seconds(body["commit_after"]) if "commit_after" in body else None
    return at, commit_after, str(body.get("by", PEOPLE))


def _ids(body: Json) -> list[str]:
    return [str(i) for i in list_of(body, "ids")] if "ids" in body else [text_of(body, "id")]


def _stage(value: object) -> StageSpec:
    stage = mapping_of(value)
    probability = stage.get("probability", 0)
    if not isinstance(probability, int | float):
        raise BadAdminRequestError(f'"probability" must be a number, not {probability!r}')
    return StageSpec(
        text_of(stage, "name"),
        bool(stage.get("is_closed", False)),
        bool(stage.get("is_won", False)),
        float(probability),
    )


def _fields(value: object) -> Fields:
    return {name: _value(name, content) for name, content in mapping_of(value).items()}


def _value(name: str, content: object) -> Value:
    if content is None or isinstance(content, str | int | float | bool):
        return content
    raise BadAdminRequestError(f"{name} must be a plain JSON value, not {content!r}")


def mapping_of(value: object) -> dict[str, object]:
    """A JSON object; anything else is refused."""
    if not isinstance(value, dict):
        raise BadAdminRequestError(f"expected a JSON object, not {value!r}")
    return {str(k): v for k, v in value.items()}


def list_of(body: Json, name: str) -> Sequence[object]:
    """The list of this name, empty where it is absent."""
    value = body.get(name, [])
    if not isinstance(value, list):
        raise BadAdminRequestError(f'"{name}" must be a list')
    return value


def text_of(body: Json, name: str) -> str:
    """The text of this name, which must be there."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadAdminRequestError(f'"{name}" is missing or not a text')
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadAdminRequestError(f"{value!r} is not a whole number")
    return value


def _seconds(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadAdminRequestError(f"{value!r} is not a number of seconds")
    return timedelta(seconds=value)


def _instant(value: object) -> datetime:
    instant = datetime.fromisoformat(str(value))
    if instant.tzinfo is None:
        raise BadAdminRequestError(f"{value!r} has no time zone")
    return instant.astimezone(UTC)
