"""HubSpot's dialect: one table of operations, under their legacy and their dated paths.

"Legacy API migration guide": `/crm/v3/...` and `/crm/v4/...` are the legacy paths; the new ones
carry a date, with the same bodies. Reading the associations of one record has no dated twin.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import Route

from sandbox import hubspot_admin, hubspot_oauth
from sandbox import hubspot_associations as associations
from sandbox import hubspot_currencies as currencies
from sandbox import hubspot_marketing as marketing
from sandbox import hubspot_objects as objects
from sandbox import hubspot_schema as schema
from sandbox import hubspot_schemas as schemas
from sandbox import hubspot_writes as writes
from sandbox.hubspot_gate import Endpoint, Handler
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

SCHEMAS, DATED_SCHEMAS = "/crm/v3/schemas", "/crm-object-schemas/{version}/schemas"
CLIENT_SCHEMAS = "/crm-object-schemas/v3/schemas"
CAMPAIGNS, DATED_CAMPAIGNS = "/marketing/v3/campaigns", "/marketing/campaigns/{version}"
CURRENCIES, DATED_CURRENCIES = "/settings/v3/currencies", "/settings/currencies/{version}"
EMAILS, DATED_EMAILS = "/marketing/v3/emails", "/marketing/emails/{version}"

READ_CUSTOM = ("crm.schemas.custom.read", "crm.objects.custom.read")
WRITE_CUSTOM = ("crm.schemas.custom.write",)
READ_CAMPAIGNS = ("marketing.campaigns.read",)
READ_REVENUE = ("marketing.campaigns.revenue.read",)
READ_EMAILS = ("content", "marketing-email")
READ_CURRENCIES = ("settings.currencies.read",)


def _both(
    method: str,
    legacy: str,
    dated: str,
    tail: str,
    handler: Handler,
    *,
    scopes: Sequence[str] = (),
    is_search: bool = False,
    hub: str = "",
) -> Endpoint:
    """An operation that has the same tail under its legacy and its dated path."""
    return Endpoint(method, legacy + tail, dated + tail, handler, scopes, is_search, hub)


def _objects(method: str, tail: str, handler: Handler, scopes: Sequence[str]) -> Endpoint:
    is_search = tail == "/search"
    return _both(method, OBJECTS, DATED_OBJECTS, tail, handler, scopes=scopes, is_search=is_search)


def _links(method: str, tail: str, handler: Handler, scopes: Sequence[str]) -> Endpoint:
    return _both(method, LINKS, DATED_LINKS, tail, handler, scopes=scopes)


def _properties(method: str, tail: str, handler: Handler, scopes: Sequence[str]) -> Endpoint:
    return _both(method, PROPERTIES, DATED_PROPERTIES, tail, handler, scopes=scopes)


def _pipelines(tail: str, handler: Handler) -> Endpoint:
    return _both("GET", PIPELINES, DATED_PIPELINES, tail, handler, scopes=READ_SCHEMA)


def _campaigns(method: str, tail: str, handler: Handler, scopes: Sequence[str]) -> Endpoint:
    return _both(
        method, CAMPAIGNS, DATED_CAMPAIGNS, tail, handler, scopes=scopes, hub=marketing.HUB
    )


def _currencies(tail: str, handler: Handler) -> Endpoint:
    return _both("GET", CURRENCIES, DATED_CURRENCIES, tail, handler, scopes=READ_CURRENCIES)


def _emails(tail: str, handler: Handler) -> Endpoint:
    return _both("GET", EMAILS, DATED_EMAILS, tail, handler, scopes=READ_EMAILS, hub=marketing.HUB)


ENDPOINTS = (
    _objects("POST", "/search", objects.search, READ),
    _objects("POST", "/batch/read", objects.batch_read, READ),
    _objects("POST", "/batch/update", writes.batch_update, WRITE),
    _objects("POST", "/batch/create", writes.batch_create, WRITE),
    _objects("POST", "/batch/upsert", writes.batch_upsert, WRITE),
    _objects("POST", "/batch/archive", writes.batch_archive, WRITE),
    _objects("POST", "/merge", writes.merge, WRITE),
    _objects("POST", "/gdpr-delete", writes.gdpr_delete, WRITE),
    _objects("GET", "", objects.list_page, READ),
    _objects("POST", "", writes.create_one, WRITE),
    _objects("GET", "/{id}", objects.get_one, READ),
    _objects("PATCH", "/{id}", writes.update_one, WRITE),
    _objects("DELETE", "/{id}", writes.archive_one, WRITE),
    Endpoint(
        "GET",
        "/crm/v4/objects/{type}/{id}/associations/{to_type}",
        None,
        associations.list_links,
        READ,
    ),
    _links("POST", "/batch/read", associations.batch_read, READ),
    _links("POST", "/batch/create", associations.batch_create, WRITE),
    _links("POST", "/batch/archive", associations.batch_archive, WRITE),
    _links("GET", "/labels", associations.labels, READ),
    _links("POST", "/labels", associations.create_label, WRITE),
    _properties("GET", "/groups", schema.list_groups, READ_SCHEMA),
    _properties("POST", "/groups", schema.create_group, WRITE_SCHEMA),
    _properties("GET", "/groups/{name}", schema.get_group, READ_SCHEMA),
    _properties("GET", "", schema.list_properties, READ_SCHEMA),
    _properties("POST", "", schema.create_property, WRITE_SCHEMA),
    _properties("GET", "/{name}", schema.get_property, READ_SCHEMA),
    _properties("DELETE", "/{name}", schema.archive_property, WRITE_SCHEMA),
    _pipelines("", schema.list_pipelines),
    _pipelines("/{id}", schema.get_pipeline),
    _pipelines("/{id}/stages", schema.list_stages),
    _both("GET", OWNER, DATED_OWNER, "", schema.list_owners, scopes=OWNERS),
    _both("GET", OWNER, DATED_OWNER, "/{id}", schema.get_owner, scopes=OWNERS),
    _both("GET", SCHEMAS, DATED_SCHEMAS, "", schemas.list_schemas, scopes=READ_CUSTOM),
    _both("POST", SCHEMAS, DATED_SCHEMAS, "", schemas.create_schema, scopes=WRITE_CUSTOM),
    _both("GET", SCHEMAS, DATED_SCHEMAS, "/{name}", schemas.get_schema, scopes=READ_CUSTOM),
    # HubSpot's own client asks under this path.
    Endpoint("GET", CLIENT_SCHEMAS, None, schemas.list_schemas, READ_CUSTOM),
    Endpoint("POST", CLIENT_SCHEMAS, None, schemas.create_schema, WRITE_CUSTOM),
    Endpoint("GET", f"{CLIENT_SCHEMAS}/{{name}}", None, schemas.get_schema, READ_CUSTOM),
    _both("GET", ACCOUNT, DATED_ACCOUNT, "/details", schema.account_details),
    _both("GET", ACCOUNT, DATED_ACCOUNT, USAGE, schema.api_usage),
    _currencies("/company-currency", currencies.company_currency),
    _currencies("/exchange-rates", currencies.list_rates),
    _currencies("/exchange-rates/current", currencies.current_rates),
    _currencies("/exchange-rates/{id}", currencies.one_rate),
    _campaigns("GET", "", marketing.list_campaigns, READ_CAMPAIGNS),
    _campaigns("POST", "/batch/read", marketing.batch_read, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}", marketing.get_campaign, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}/reports/metrics", marketing.metrics, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}/reports/revenue", marketing.revenue, READ_REVENUE),
    _campaigns("GET", "/{guid}/reports/contacts/{kind}", marketing.contacts, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}/budget/totals", marketing.budget_totals, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}/budget/{item}", marketing.budget_item, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}/spend/{item}", marketing.spend_item, READ_CAMPAIGNS),
    _campaigns("GET", "/{guid}/assets/{kind}", marketing.assets, READ_CAMPAIGNS),
    _emails("/statistics/list", marketing.email_statistics),
    _emails("/statistics/histogram", marketing.email_histogram),
    _emails("", marketing.list_emails),
    _emails("/{id}", marketing.get_email),
)


def new_org(*, clock: Clock | None = None, seed: int = 0) -> Portal:
    """An empty portal with HubSpot's standard objects, properties and pipelines."""
    return Portal(clock=clock, seed=seed)


def routes(org: Org) -> list[Route]:
    """HubSpot's API and the admin endpoints that only HubSpot has, for one portal.

    Raises:
        TypeError: when the org is not a HubSpot portal.
    """
    if not isinstance(org, Portal):
        raise TypeError(f"a HubSpot portal is needed, not {type(org).__name__}")
    api = [route for endpoint in ENDPOINTS for route in endpoint.routes(org)]
    return [*api, *hubspot_oauth.routes(org), *hubspot_admin.routes(org)]
