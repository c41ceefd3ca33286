"""HubSpot's dialect: one table of operations, under their legacy and their dated paths.

"Legacy API migration guide": `/crm/v3/...` and `/crm/v4/...` are the legacy paths; the new ones
carry a date, with the same bodies. Reading the associations of one record has no dated twin.
"""

from __future__ import annotations

from starlette.routing import Route

from sandbox import hubspot_admin
from sandbox import hubspot_associations as associations
from sandbox import hubspot_objects as objects
from sandbox import hubspot_schema as schema
from sandbox import hubspot_writes as writes
from sandbox.hubspot_gate import Endpoint
from sandbox.hubspot_portal import Portal
from sandbox.org import Clock, Org

READ = ("crm.objects.{type}.read",)
WRITE = ("crm.objects.{type}.write",)
READ_SCHEMA = ("crm.schemas.{type}.read", "crm.objects.{type}.read")
WRITE_SCHEMA = ("crm.schemas.{type}.write",)
OWNERS = ("crm.objects.owners.read",)

OBJECTS, DATED_OBJECTS = "/crm/v3/objects/{type}", "/crm/objects/{version}/{type}"
LINKS = "/crm/v4/associations/{from_type}/{to_type}"
DATED_LINKS = "/crm/associations/{version}/{from_type}/{to_type}"
PROPERTIES, DATED_PROPERTIES = "/crm/v3/properties/{type}", "/crm/properties/{version}/{type}"
PIPELINES, DATED_PIPELINES = "/crm/v3/pipelines/{type}", "/crm/pipelines/{version}/{type}"
OWNER, DATED_OWNER = "/crm/v3/owners", "/crm/owners/{version}"
ACCOUNT, DATED_ACCOUNT = "/account-info/v3", "/account-info/{version}"
USAGE = "/api-usage/daily/private-apps"

ENDPOINTS = (
    Endpoint(
        "POST",
        f"{OBJECTS}/search",
        f"{DATED_OBJECTS}/search",
        objects.search,
        READ,
        is_search=True,
    ),
    Endpoint(
        "POST",
        f"{OBJECTS}/batch/read",
        f"{DATED_OBJECTS}/batch/read",
        objects.batch_read,
        READ,
    ),
    Endpoint(
        "POST",
        f"{OBJECTS}/batch/update",
        f"{DATED_OBJECTS}/batch/update",
        writes.batch_update,
        WRITE,
    ),
    Endpoint(
        "POST",
        f"{OBJECTS}/batch/create",
        f"{DATED_OBJECTS}/batch/create",
        writes.batch_create,
        WRITE,
    ),
    Endpoint("GET", OBJECTS, DATED_OBJECTS, objects.list_page, READ),
    Endpoint("POST", OBJECTS, DATED_OBJECTS, writes.create_one, WRITE),
    Endpoint("GET", f"{OBJECTS}/{{id}}", f"{DATED_OBJECTS}/{{id}}", objects.get_one, READ),
    Endpoint("PATCH", f"{OBJECTS}/{{id}}", f"{DATED_OBJECTS}/{{id}}", writes.update_one, WRITE),
    Endpoint(
        "GET",
        "/crm/v4/objects/{type}/{id}/associations/{to_type}",
        None,
        associations.list_links,
        READ,
    ),
    Endpoint(
        "POST",
        f"{LINKS}/batch/read",
        f"{DATED_LINKS}/batch/read",
        associations.batch_read,
        READ,
    ),
    Endpoint(
        "POST",
        f"{LINKS}/batch/create",
        f"{DATED_LINKS}/batch/create",
        associations.batch_create,
        WRITE,
    ),
    Endpoint(
        "GET",
        f"{PROPERTIES}/groups",
        f"{DATED_PROPERTIES}/groups",
        schema.list_groups,
        READ_SCHEMA,
    ),
    Endpoint(
        "POST",
        f"{PROPERTIES}/groups",
        f"{DATED_PROPERTIES}/groups",
        schema.create_group,
        WRITE_SCHEMA,
    ),
    Endpoint(
        "GET",
        f"{PROPERTIES}/groups/{{name}}",
        f"{DATED_PROPERTIES}/groups/{{name}}",
        schema.get_group,
        READ_SCHEMA,
    ),
    Endpoint("GET", PROPERTIES, DATED_PROPERTIES, schema.list_properties, READ_SCHEMA),
    Endpoint("POST", PROPERTIES, DATED_PROPERTIES, schema.create_property, WRITE_SCHEMA),
    Endpoint(
        "GET",
        f"{PROPERTIES}/{{name}}",
        f"{DATED_PROPERTIES}/{{name}}",
        schema.get_property,
        READ_SCHEMA,
    ),
    Endpoint(
        "DELETE",
        f"{PROPERTIES}/{{name}}",
        f"{DATED_PROPERTIES}/{{name}}",
        schema.archive_property,
        WRITE_SCHEMA,
    ),
    Endpoint("GET", PIPELINES, DATED_PIPELINES, schema.list_pipelines, READ_SCHEMA),
    Endpoint(
        "GET",
        f"{PIPELINES}/{{id}}",
        f"{DATED_PIPELINES}/{{id}}",
        schema.get_pipeline,
        READ_SCHEMA,
    ),
    Endpoint("GET", OWNER, DATED_OWNER, schema.list_owners, OWNERS),
    Endpoint("GET", f"{OWNER}/{{id}}", f"{DATED_OWNER}/{{id}}", schema.get_owner, OWNERS),
    Endpoint("GET", f"{ACCOUNT}/details", f"{DATED_ACCOUNT}/details", schema.account_details),
    Endpoint("GET", f"{ACCOUNT}{USAGE}", f"{DATED_ACCOUNT}{USAGE}", schema.api_usage),
)


def new_org(*, clock: Clock | None = None, seed: int = 0) -> Portal:
    """An empty portal with HubSpot's standard properties and its one default pipeline."""
    return Portal(clock=clock, seed=seed)


def routes(org: Org) -> list[Route]:
    """HubSpot's API and the admin endpoints that only HubSpot has, for one portal.

    Raises:
        TypeError: when the org is not a HubSpot portal.
    """
    if not isinstance(org, Portal):
        raise TypeError(f"a HubSpot portal is needed, not {type(org).__name__}")
    api = [route for endpoint in ENDPOINTS for route in endpoint.routes(org)]
    return [*api, *hubspot_admin.routes(org)]
