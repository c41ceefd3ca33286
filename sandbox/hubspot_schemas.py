"""Custom objects: their schemas ("Custom objects" guide)."""

from __future__ import annotations

from starlette.responses import Response

from sandbox.hubspot_errors import HubSpotError, JsonObject, bad_request, not_found
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_links import UNLABELLED
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_properties import FIELD_TYPES_OF, Option, Property, instant_text
from sandbox.hubspot_schema import PROPERTY_NAME, property_json
from sandbox.hubspot_types import ObjectType

SINCE = "2020-01-01T00:00:00Z"


def list_schemas(call: Call) -> Response:
    """``GET schemas``: the custom objects only."""
    kinds = [] if call.flag("archived") else [one for one in call.portal.types if one.is_custom]
    return answer({"results": [_schema_json(call.portal, kind) for kind in kinds]})


def get_schema(call: Call) -> Response:
    """``GET schemas/{objectType}``: by type id or full name."""
    kind = call.portal.types.named(call.path("name"))
    if kind is None:
        raise not_found(f"Unable to infer object type from: {call.path('name')}")
    return answer(_schema_json(call.portal, kind))


def create_schema(call: Call) -> Response:
    """``POST schemas``: name, labels, properties; 409 for a name that is taken."""
    name, labels = call.text("name"), call.body.get("labels")
    if not PROPERTY_NAME.fullmatch(name):
        raise bad_request(f"{name} must be lower case letters, digits and underscores")
    plural = labels.get("plural") if isinstance(labels, dict) else None
    properties = call.body.get("properties")
    if not isinstance(properties, list) or not properties:
        raise bad_request("Invalid input JSON: properties is required", "REQUIRED_FIELD")
    wanted = [_property(one) for one in properties]
    try:
        kind = call.portal.define_object(name, str(plural or name), properties=wanted)
    except ValueError as error:
        raise HubSpotError(409, str(error), "OBJECT_ALREADY_EXISTS") from None
    return answer(_schema_json(call.portal, kind), 201)


def _property(one: object) -> Property:
    given = one if isinstance(one, dict) else {}
    name, kind = str(given.get("name") or ""), str(given.get("type") or "string")
    field_type = str(given.get("fieldType") or "")
    if not PROPERTY_NAME.fullmatch(name):
        raise bad_request(f"{name!r} must be lower case letters, digits and underscores")
    if field_type not in FIELD_TYPES_OF.get(kind, ()):
        raise bad_request(f"fieldType {field_type} does not fit type {kind}")
    options = tuple(
        Option(str(it.get("value")), str(it.get("label"))) for it in given.get("options") or []
    )
    return Property(
        name,
        str(given.get("label") or name),
        kind,
        field_type,
        "",
        options,
        is_standard=False,
        has_unique_value=bool(given.get("hasUniqueValue", False)),
    )


def _schema_json(portal: Portal, kind: ObjectType) -> JsonObject:
    properties = portal.properties[kind.name]
    own = [one.name for one in properties.values() if not one.is_standard]
    return {
        "id": kind.type_id.partition("-")[2],
        "objectTypeId": kind.type_id,
        "fullyQualifiedName": portal.types.full_name(kind),
        "name": kind.name,
        "labels": {"singular": kind.label or kind.singular, "plural": kind.label or kind.name},
        "requiredProperties": own[:1],
        "searchableProperties": own[:1],
        "primaryDisplayProperty": own[0] if own else None,
        "secondaryDisplayProperties": [],
        "properties": [property_json(one) for one in properties.values()],
        "associations": _associations(portal, kind),
        "archived": False,
        "allowsSensitiveProperties": False,
        "createdAt": SINCE,
        "updatedAt": instant_text(portal.now()),
    }


def _associations(portal: Portal, kind: ObjectType) -> list[JsonObject]:
    return [
        {
            "id": str(link.type_id),
            "fromObjectTypeId": kind.type_id,
            "toObjectTypeId": other.type_id,
            "name": f"{kind.singular}_to_{other.singular}",
            "createdAt": SINCE,
            "updatedAt": SINCE,
        }
        for other in portal.types
        if (kind.name, other.name) not in UNLABELLED
        for link in portal.link_types.of((kind.name, other.name))
    ]
