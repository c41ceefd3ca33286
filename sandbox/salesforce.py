"""The Salesforce dialect: login, and the REST resources of one fake org.

Pages: Help, "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration" and "Identity
URLs"; REST API Developer Guide, "Resources". What a page demands stands beside the code that
demands it here.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox import (
    salesforce_admin,
    salesforce_bulk,
    salesforce_data,
    salesforce_login,
    salesforce_setup,
    salesforce_write,
)
from sandbox.org import Clock, Org
from sandbox.salesforce_http import (
    ApiError,
    Call,
    compressed,
    dispatch,
    json_response,
    oversize,
    resource,
    version_list,
    version_of,
)
from sandbox.salesforce_login import bearer
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_refusals import KNOWN

METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE")


def new_org(*, clock: Clock | None = None, seed: int = 0) -> SalesforceOrg:
    """An empty Salesforce org with its standard objects, stages and users.

    Args:
        clock: The org's time; real time if absent.
        seed: Chooses the org's id, and whatever is random.
    """
    return SalesforceOrg(clock=clock, seed=seed)


def routes(org: Org) -> list[Route]:
    """The org's public addresses.

    Raises:
        TypeError: for an org that `new_org` did not make.
    """
    if not isinstance(org, SalesforceOrg):
        raise TypeError(f"not a Salesforce org: {org!r}")

    async def token(request: Request) -> Response:
        return oversize(request) or await salesforce_login.token(org, request)

    async def identity(request: Request) -> Response:
        return oversize(request) or salesforce_login.identity(org, request)

    async def user_info(request: Request) -> Response:
        return oversize(request) or salesforce_login.user_info(org, request)

    async def revoke(request: Request) -> Response:
        return oversize(request) or await salesforce_login.revoke(org, request)

    async def soap(request: Request) -> Response:
        return oversize(request) or await salesforce_login.soap_login(org, request)

    async def versions(request: Request) -> Response:
        return oversize(request) or json_response(version_list())

    async def data(request: Request) -> Response:
        return oversize(request) or await _data(org, request)

    return [
        *salesforce_admin.routes(org),
        Route("/services/oauth2/token", token, methods=["POST"]),
        Route("/services/oauth2/revoke", revoke, methods=["POST"]),
        Route("/services/Soap/u/{version}", soap, methods=["POST"]),
        Route("/services/oauth2/userinfo", user_info, methods=["GET", "POST"]),
        Route("/id/{org_id}/{user_id}", identity, methods=["GET"]),
        Route("/services/data", versions, methods=["GET"]),
        Route("/services/data/", versions, methods=["GET"]),
        Route("/services/data/{version}", data, methods=METHODS),
        Route("/services/data/{version}/{rest:path}", data, methods=METHODS),
    ]


# REST resources


async def _data(org: SalesforceOrg, request: Request) -> Response:
    try:
        version = version_of(request.path_params["version"])
        token = _session(org, request)
        org.usage.add()
        response = await _answer(org, request, version, token)
    except ApiError as error:
        response = error.response()
    # On every answer to a known session (REST guide, "Limit Info Header").
    if response.status_code not in {401, 404, 410} or org.sessions.knows(bearer(request)):
        response.headers["Sforce-Limit-Info"] = org.usage.header()
    return compressed(request, response) if org.compresses else response


async def _answer(org: SalesforceOrg, request: Request, version: str, token: str) -> Response:
    if org.usage.is_exceeded:
        raise ApiError(*KNOWN["TOTAL_REQUESTS"])
    refusal = org.refusals.take(request.url.path, request.url.query)
    if refusal is not None:
        raise ApiError(*refusal)
    call = Call(
        org=org,
        method=request.method,
        version=version,
        path=request.path_params.get("rest", "").strip("/"),
        query=request.query_params,
        headers=request.headers,
        body=await request.body(),
        token=token,
    )
    return dispatch(_RESOURCES, call)


def _session(org: SalesforceOrg, request: Request) -> str:
    token = bearer(request)
    if token is None:
        raise ApiError(401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE")
    if not org.sessions.knows(token):
        raise ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")
    return token


def _list_resources(call: Call) -> Response:
    names = ("composite", "jobs", "limits", "query", "queryAll", "sobjects", "tooling")
    return json_response({name: f"{call.base}/{name}" for name in names})


_RESOURCES: Final = (
    resource("", GET=_list_resources),
    resource("query", GET=salesforce_data.query),
    resource("queryAll", GET=salesforce_data.query_all),
    resource("query/{}", GET=salesforce_data.next_page),
    resource("queryAll/{}", GET=salesforce_data.next_page),
    resource("sobjects", GET=salesforce_data.list_objects),
    resource("sobjects/{}", GET=salesforce_data.object_basics, POST=salesforce_write.create_record),
    resource("sobjects/{}/describe", GET=salesforce_data.describe),
    resource("sobjects/{}/deleted", GET=salesforce_data.deleted),
    resource("sobjects/{}/updated", GET=salesforce_data.updated),
    resource(
        "sobjects/{}/{}",
        GET=salesforce_data.read_record,
        PATCH=salesforce_write.update_record,
        DELETE=salesforce_write.delete_record,
    ),
    resource(
        "composite/sobjects",
        PATCH=salesforce_write.update_collection,
        POST=salesforce_write.create_collection,
        DELETE=salesforce_write.delete_collection,
    ),
    resource("composite/sobjects/{}/{}", PATCH=salesforce_write.upsert_collection),
    resource("ui-api/object-info/{}/picklist-values/{}", GET=salesforce_data.picklist_values),
    resource("ui-api/object-info/{}/picklist-values/{}", GET=salesforce_data.picklist_values),
    resource("limits", GET=salesforce_data.limits),
    resource("limits/recordCount", GET=salesforce_data.record_count),
    resource("tooling/query", GET=salesforce_data.tooling_query),
    resource("tooling/sobjects/CustomField", POST=salesforce_setup.create_field),
    resource(
        "tooling/sobjects/CustomField/{}",
        GET=salesforce_setup.read_field,
        DELETE=salesforce_setup.delete_field,
    ),
    resource("jobs/query", GET=salesforce_bulk.list_queries, POST=salesforce_bulk.create_query),
    resource(
        "jobs/query/{}",
        GET=salesforce_bulk.read_query,
        PATCH=salesforce_bulk.change_query,
        DELETE=salesforce_bulk.delete_query,
    ),
    resource("jobs/query/{}/results", GET=salesforce_bulk.query_results),
    resource("jobs/ingest", GET=salesforce_bulk.list_ingests, POST=salesforce_bulk.create_ingest),
    resource(
        "jobs/ingest/{}",
        GET=salesforce_bulk.read_ingest,
        PATCH=salesforce_bulk.change_ingest,
        DELETE=salesforce_bulk.delete_ingest,
    ),
    resource("jobs/ingest/{}/batches", PUT=salesforce_bulk.upload),
    resource("jobs/ingest/{}/successfulResults", GET=salesforce_bulk.successful_results),
    resource("jobs/ingest/{}/failedResults", GET=salesforce_bulk.failed_results),
    resource("jobs/ingest/{}/unprocessedrecords", GET=salesforce_bulk.unprocessed_records),
)
