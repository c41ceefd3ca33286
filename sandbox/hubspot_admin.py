"""The admin endpoints that only HubSpot has: links, pipelines, custom objects, webhooks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.admin import PREFIX, BadAdminRequestError, Json, list_of, mapping_of, post, text_of
from sandbox.hubspot_pipelines import Pipeline, Stage
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_webhooks import send
from sandbox.org import FieldType, Org


def routes(portal: Portal) -> list[Route]:
    """Associate records and edit pipelines, as people do in the portal."""
    verbs: dict[str, Callable[[Portal, Json], Json]] = {
        "associate": associate,
        "pipeline": pipeline,
        "define_object": define_object,
        "label": label,
        "webhooks": webhooks,
    }
    routes = [post(portal, name, _for(portal, verb)) for name, verb in verbs.items()]
    return [*routes, Route(f"{PREFIX}deliver", _deliver_endpoint(portal), methods=["POST"])]


def associate(portal: Portal, body: Json) -> Json:
    """``from``, ``id``, ``to``, ``to_ids``, ``primary``, ``label``; with ``remove``, undo it."""
    from_type, to_type = _type(portal, body, "from"), _type(portal, body, "to")
    from_id = portal.get(from_type, text_of(body, "id")).id
    labels = frozenset({text_of(body, "label")}) if "label" in body else frozenset()
    for to_id in list_of(body, "to_ids"):
        other = portal.get(to_type, str(to_id)).id
        if body.get("remove"):
            portal.links.remove(from_type, from_id, to_type, other)
        else:
            primary = bool(body.get("primary", False))
            portal.links.add(from_type, from_id, to_type, other, primary=primary, labels=labels)
    return {}


def pipeline(portal: Portal, body: Json) -> Json:
    """Add or replace a pipeline: ``object`` (deals), ``id``, ``label``, ``stages``.

    A stage has ``id``, ``label``, ``is_closed``, ``probability``, and may be ``is_archived``.
    """
    stages = [_stage(mapping_of(one)) for one in list_of(body, "stages")]
    object_type = _type(portal, body, "object") if "object" in body else "deals"
    added = Pipeline(text_of(body, "id"), text_of(body, "label"), stages)
    portal.put_pipeline(object_type, added)
    return {}


def define_object(portal: Portal, body: Json) -> Json:
    """A custom object: ``name``, ``label``, ``properties``; answers its type id and full name.

    A property has ``name`` and ``type`` (as in `add_field`), and may have a ``label`` and
    ``choices``.
    """
    name = text_of(body, "name")
    label = str(body.get("label", name))
    kind = portal.define_object(name, label, properties=())
    for one in map(mapping_of, list_of(body, "properties")):
        portal.add_field(
            name,
            text_of(one, "name"),
            label=str(one.get("label", one["name"])),
            type=FieldType(text_of(one, "type")),
            choices=[str(choice) for choice in list_of(one, "choices")],
        )
    return {"type_id": kind.type_id, "full_name": portal.types.full_name(kind)}


def label(portal: Portal, body: Json) -> Json:
    """A label for associations, in both directions: ``from``, ``to``, ``label``."""
    pair = _type(portal, body, "from"), _type(portal, body, "to")
    made = portal.link_types.add_label(pair, text_of(body, "label"))
    return {"type_ids": [one.type_id for one in made]}


def webhooks(portal: Portal, body: Json) -> Json:
    """Subscribe: ``url`` (empty: nobody any more), ``secret``, ``types`` (all)."""
    kinds = [str(one) for one in list_of(body, "types")]
    portal.webhooks.subscribe(str(body.get("url", "")), str(body.get("secret", "")), kinds)
    return {}


def _deliver_endpoint(portal: Portal) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = json.loads(await request.body() or b"{}")
        unknown = sorted(set(body) - DELIVERY)
        if unknown:
            words = f"unknown key {', '.join(unknown)}; there is {', '.join(sorted(DELIVERY))}"
            return JSONResponse({"error": words}, status_code=400)
        return JSONResponse(await deliver(portal, body))

    return endpoint


async def deliver(portal: Portal, body: Json) -> dict[str, object]:
    """Send what waits: ``twice``, ``shuffle``, ``hold`` (events kept for later), ``age_seconds``.

    Answers the ``statuses`` of the batches, and how many events are ``waiting`` still: those
    held back, and those nobody took, which are sent again.
    """
    hooks = portal.webhooks
    hold, age = int(str(body.get("hold", 0))), float(str(body.get("age_seconds", 0)))
    batches = hooks.take(portal.random, shuffle=bool(body.get("shuffle")), hold=hold)
    statuses: list[int] = []
    for batch in batches:
        for _ in range(2 if body.get("twice") else 1):
            # Aside, so that whoever receives it may call the portal meanwhile.
            status = await asyncio.to_thread(send, hooks.url, hooks.secret, batch, age_seconds=age)
            statuses.append(status)
        if not OK <= statuses[-1] < REDIRECT:
            hooks.put_back(batch)
    return {"statuses": statuses, "waiting": len(hooks.waiting), "given_up": hooks.given_up}


DELIVERY = frozenset({"twice", "shuffle", "hold", "age_seconds"})
OK, REDIRECT = 200, 300


def _type(portal: Portal, body: Json, name: str) -> str:
    named = text_of(body, name)
    found = portal.types.named(named) or portal.types.get(named)
    if found is None:
        raise BadAdminRequestError(f"the portal has no object {named!r}")
    return found.name


def _stage(one: Json) -> Stage:
    return Stage(
        text_of(one, "id"),
        text_of(one, "label"),
        bool(one.get("is_closed", False)),
        float(str(one.get("probability", 0))),
        bool(one.get("is_archived", False)),
    )


def _for(portal: Portal, verb: Callable[[Portal, Json], Json]) -> Callable[[Org, Json], Json]:
    return lambda _, body: verb(portal, body)
