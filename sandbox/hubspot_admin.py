"""The admin endpoints that only HubSpot has: associations, and pipelines beside the default."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import Route

from sandbox.admin import Json, list_of, mapping_of, post, text_of
from sandbox.hubspot_portal import TYPE_NAMES, Pipeline, Portal, Stage
from sandbox.org import Org


def routes(portal: Portal) -> list[Route]:
    """Associate records and edit pipelines, as people do in the portal."""
    verbs: dict[str, Callable[[Portal, Json], Json]] = {
        "associate": associate,
        "pipeline": pipeline,
    }
    return [post(portal, name, _for(portal, verb)) for name, verb in verbs.items()]


def associate(portal: Portal, body: Json) -> Json:
    """``from``, ``id``, ``to``, ``to_ids``, ``primary``; with ``remove`` true, undo it."""
    from_type, to_type = TYPE_NAMES[text_of(body, "from")], TYPE_NAMES[text_of(body, "to")]
    from_id = portal.get(from_type, text_of(body, "id")).id
    for to_id in list_of(body, "to_ids"):
        other = portal.get(to_type, str(to_id)).id
        if body.get("remove"):
            portal.links.remove(from_type, from_id, to_type, other)
        else:
            primary = bool(body.get("primary", False))
            portal.links.add(from_type, from_id, to_type, other, primary=primary)
    return {}


def pipeline(portal: Portal, body: Json) -> Json:
    """Add or replace a pipeline: ``id``, ``label``, ``stages``.

    A stage has ``id``, ``label``, ``is_closed``, ``probability``, and may be ``is_archived``.
    """
    stages = [_stage(mapping_of(one)) for one in list_of(body, "stages")]
    portal.put_pipeline(Pipeline(text_of(body, "id"), text_of(body, "label"), stages))
    return {}


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
