"""Properties and their groups, pipelines, owners and the account.

The guides: "Properties", "Pipelines", "Owners", "Account information".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from starlette.responses import Response

from sandbox.hubspot_errors import HubSpotError, JsonObject, bad_request, not_found
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_pipelines import Pipeline, Stage
from sandbox.hubspot_properties import FIELD_TYPES_OF, Option, Property, instant_text
from sandbox.org import Record

PROPERTY_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_PREFIX = "hs_"
MOST_UNIQUE = 10
"""Unique properties of one object type ("Properties" guide)."""
LARGEST_OWNER_PAGE = 500
DEFAULT_OWNER_PAGE = 100


def list_properties(call: Call) -> Response:
    """``GET properties/{type}``."""
    wanted = [] if call.flag("archived") else _properties(call).values()
    return answer({"results": [property_json(it) for it in wanted]})


def get_property(call: Call) -> Response:
    """``GET properties/{type}/{name}``."""
    return answer(property_json(_property(call)))


def create_property(call: Call) -> Response:
    """``POST properties/{type}``: 409 for a name that is taken, 400 for what does not fit."""
    object_type = call.object_type()
    definition = _new_property(call, object_type)
    known = call.portal.properties[object_type]
    if definition.name in known:
        raise _taken(f"A property named '{definition.name}' already exists.")
    known[definition.name] = definition
    return answer(property_json(definition), 201)


def archive_property(call: Call) -> Response:
    """``DELETE properties/{type}/{name}``: a standard property stays."""
    definition = _property(call)
    if definition.is_standard:
        raise bad_request(f"{definition.name} is defined by HubSpot and cannot be archived")
    del _properties(call)[definition.name]
    return Response(status_code=204)


def list_groups(call: Call) -> Response:
    """``GET properties/{type}/groups``."""
    groups = call.portal.groups[call.object_type()]
    return answer({"results": [_group_json(name, groups[name]) for name in groups]})


def get_group(call: Call) -> Response:
    """``GET properties/{type}/groups/{name}``."""
    groups = call.portal.groups[call.object_type()]
    name = call.path("name")
    if name not in groups:
        raise not_found(f"Property group {name} does not exist")
    return answer(_group_json(name, groups[name]))


def create_group(call: Call) -> Response:
    """``POST properties/{type}/groups``: name and label."""
    groups = call.portal.groups[call.object_type()]
    name, label = call.text("name"), call.text("label")
    if name in groups:
        raise _taken(f"A property group named '{name}' already exists.")
    groups[name] = label
    return answer(_group_json(name, label), 201)


def list_pipelines(call: Call) -> Response:
    """``GET pipelines/{type}``: archived stages are not in it, though old deals name them."""
    found = _pipelines(call).values()
    object_type = call.object_type()
    shown = [_pipeline_json(object_type, it, order) for order, it in enumerate(found)]
    return answer({"results": shown})


def get_pipeline(call: Call) -> Response:
    """``GET pipelines/{type}/{id}``."""
    pipelines = _pipelines(call)
    wanted = call.path("id")
    if wanted not in pipelines:
        raise not_found(f"Pipeline {wanted} does not exist")
    place = list(pipelines).index(wanted)
    return answer(_pipeline_json(call.object_type(), pipelines[wanted], place))


def list_stages(call: Call) -> Response:
    """``GET pipelines/{type}/{id}/stages``."""
    found = _pipelines(call).get(call.path("id"))
    if found is None:
        raise not_found(f"Pipeline {call.path('id')} does not exist")
    return answer({"results": _pipeline_json(call.object_type(), found, 0)["stages"]})


def list_owners(call: Call) -> Response:
    """``GET owners``: the active ones, or with `archived=true` those who left."""
    limit = call.whole("limit", default=DEFAULT_OWNER_PAGE, most=LARGEST_OWNER_PAGE)
    after = call.request.query_params.get("after", "0")
    email = call.request.query_params.get("email")
    if not after.isdecimal():
        raise bad_request(f"after must be an id, got {after}")
    owners = [
        record
        for record in call.portal.all("owners", include_deleted=True)
        if record.is_deleted is call.flag("archived")
        and (email is None or record["email"] == email)
        and int(record.id) >= int(after)
    ]
    answered: JsonObject = {"results": [_owner_json(record) for record in owners[:limit]]}
    if len(owners) > limit:
        following = owners[limit].id
        link = str(call.request.url.include_query_params(after=following))
        answered["paging"] = {"next": {"after": following, "link": link}}
    return answer(answered)


def get_owner(call: Call) -> Response:
    """``GET owners/{id}``: an archived one only with `archived=true`."""
    record = call.portal.find("owners", call.path("id"))
    if record is None or record.is_deleted is not call.flag("archived"):
        raise not_found(f"Owner {call.path('id')} does not exist")
    return answer(_owner_json(record))


def account_details(call: Call) -> Response:
    """``GET account-info/…/details``: zone and currency of the account."""
    settings, now = call.portal.settings, call.portal.now()
    offset = now.astimezone(ZoneInfo(settings.time_zone)).utcoffset() or timedelta()
    return answer(
        {
            "portalId": settings.portal_id,
            "accountType": "STANDARD",
            "timeZone": settings.time_zone,
            "companyCurrency": settings.company_currency,
            "additionalCurrencies": sorted({one.currency for one in call.portal.rates()}),
            "utcOffset": _offset_text(offset),
            "utcOffsetMilliseconds": offset // timedelta(milliseconds=1),
            "uiDomain": "app.hubspot.com",
            "dataHostingLocation": "na1",
        }
    )


def api_usage(call: Call) -> Response:
    """``GET account-info/…/api-usage/daily/private-apps``."""
    limits, zone = call.portal.limits, ZoneInfo(call.portal.settings.time_zone)
    now = call.portal.now()
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    usage = {
        "name": "private-apps-api-calls-daily",
        "usageLimit": limits.daily,
        "currentUsage": limits.used_today,
        "collectedAt": instant_text(now),
        "fetchStatus": "SUCCESS",
        "resetsAt": instant_text(datetime.combine(tomorrow, time(), zone)),
    }
    return answer({"results": [usage]})


def _properties(call: Call) -> dict[str, Property]:
    return call.portal.properties[call.object_type()]


def _property(call: Call) -> Property:
    name = call.path("name")
    known = _properties(call)
    if name not in known:
        raise not_found(f'Property "{name}" does not exist')
    return known[name]


def _new_property(call: Call, object_type: str) -> Property:
    name = call.text("name")
    kind, field_type, group = call.text("type"), call.text("fieldType"), call.text("groupName")
    if not PROPERTY_NAME.fullmatch(name):
        raise bad_request(f"{name} must be lower case letters, digits and underscores")
    if name.startswith(RESERVED_PREFIX):
        raise bad_request(f"{name}: the prefix {RESERVED_PREFIX} is HubSpot's own")
    if kind not in FIELD_TYPES_OF or field_type not in FIELD_TYPES_OF[kind]:
        raise bad_request(f"fieldType {field_type} does not fit type {kind}")
    if group not in call.portal.groups[object_type]:
        raise bad_request(f"Property group {group} does not exist")
    options = _new_options(call.body.get("options") or [])
    if kind == "enumeration" and not options:
        raise bad_request(f"{name}: an enumeration needs options")
    if call.body.get("hasUniqueValue"):
        _refuse_too_many_unique(call.portal.properties[object_type])
    return Property(
        name,
        call.text("label"),
        kind,
        field_type,
        group,
        options,
        read_only=field_type == "calculation_equation",
        is_calculated=field_type == "calculation_equation",
        is_standard=False,
        has_unique_value=bool(call.body.get("hasUniqueValue", False)),
        description=str(call.body.get("description") or ""),
        display_hint=str(call.body["numberDisplayHint"])
        if call.body.get("numberDisplayHint")
        else None,
        created_at=call.portal.now(),
    )


def _refuse_too_many_unique(known: Mapping[str, Property]) -> None:
    unique = [one for one in known.values() if one.has_unique_value and not one.is_standard]
    if len(unique) >= MOST_UNIQUE:
        raise bad_request(f"an object has at most {MOST_UNIQUE} unique properties")


def _new_options(raw: object) -> tuple[Option, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
        raise bad_request("Invalid input JSON: options must be a list of objects")
    options = tuple(Option(str(one.get("value")), str(one.get("label"))) for one in raw)
    if len({option.value for option in options}) < len(options):
        raise bad_request("options: a value stands twice")
    return options


def _taken(message: str) -> HubSpotError:
    return HubSpotError(409, message, "OBJECT_ALREADY_EXISTS")


def property_json(definition: Property) -> JsonObject:
    """One property definition as the API shows it."""
    shown: JsonObject = {
        "name": definition.name,
        "label": definition.label,
        "type": definition.type,
        "fieldType": definition.field_type,
        "description": definition.description,
        "groupName": definition.group,
        "options": [
            {"label": it.label, "value": it.value, "displayOrder": order, "hidden": False}
            for order, it in enumerate(definition.options)
        ],
        "displayOrder": -1,
        "calculated": definition.is_calculated,
        "externalOptions": definition.external_options,
        "hasUniqueValue": definition.has_unique_value,
        "hidden": False,
        "hubspotDefined": definition.is_standard,
        "formField": not definition.read_only,
        "archived": False,
        "createdAt": instant_text(definition.created_at),
        "updatedAt": instant_text(definition.created_at),
        "modificationMetadata": {
            "archivable": not definition.is_standard,
            "readOnlyDefinition": definition.is_standard,
            "readOnlyOptions": definition.is_standard,
            "readOnlyValue": definition.read_only,
        },
    }
    if definition.display_hint is not None:
        shown["numberDisplayHint"] = definition.display_hint
    return shown


def _group_json(name: str, label: str) -> JsonObject:
    return {"name": name, "label": label, "displayOrder": -1, "archived": False}


def _pipelines(call: Call) -> Mapping[str, Pipeline]:
    if call.kind().pipeline is None:
        raise bad_request(f"{call.path('type')} have no pipelines")
    return call.portal.pipelines[call.object_type()]


def _pipeline_json(object_type: str, pipeline: Pipeline, order: int) -> JsonObject:
    created = instant_text(pipeline.created_at)
    present = [stage for stage in pipeline.stages if not stage.is_archived]
    return {
        "id": pipeline.id,
        "label": pipeline.label,
        "displayOrder": order,
        "stages": [
            _stage_json(object_type, stage, place, created) for place, stage in enumerate(present)
        ],
        "createdAt": created,
        "updatedAt": created,
        "archived": False,
    }


def _stage_json(object_type: str, stage: Stage, order: int, created: str) -> JsonObject:
    # All metadata are texts; a deal's stage has a probability, a ticket's a state.
    is_closed = "true" if stage.is_closed else "false"
    more = {
        "deals": {"probability": str(float(stage.probability))},
        "tickets": {"ticketState": "CLOSED" if stage.is_closed else "OPEN"},
    }.get(object_type, {"state": "CLOSED" if stage.is_closed else "OPEN"})
    return {
        "id": stage.id,
        "label": stage.label,
        "displayOrder": order,
        "metadata": {"isClosed": is_closed, **more},
        "createdAt": created,
        "updatedAt": created,
        "archived": False,
        "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
    }


def _owner_json(record: Record) -> JsonObject:
    user_id = int(record.id) % 1_000_000
    return {
        "id": record.id,
        "email": record["email"],
        "type": "PERSON",
        "firstName": record["firstName"] or "",
        "lastName": record["lastName"] or "",
        # `id` is what hubspot_owner_id holds; `userId` is not, and is null once archived.
        "userId": None if record.is_deleted else user_id,
        "userIdIncludingInactive": user_id,
        "createdAt": instant_text(record.created_at),
        "updatedAt": instant_text(record.state.modified_at),
        "archived": record.is_deleted,
    }


def _offset_text(offset: timedelta) -> str:
    minutes = abs(offset) // timedelta(minutes=1)
    sign = "-" if offset < timedelta() else "+"
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"
