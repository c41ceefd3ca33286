"""The Salesforce dialect: login, and the REST resources of one fake org.

Pages: Help, "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration" and "Identity
URLs"; REST API Developer Guide, "Resources". What a page demands stands beside the code that
demands it here.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox import (
    salesforce_admin,
    salesforce_bulk,
    salesforce_data,
    salesforce_setup,
    salesforce_write,
)
from sandbox.org import Clock, Org
from sandbox.salesforce_http import (
    ApiError,
    Call,
    dispatch,
    html_page,
    json_response,
    oversize,
    resource,
    version_list,
    version_of,
)
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_sessions import CLIENT_ID, CLIENT_SECRET

METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE")
_AUTHORIZATION: Final = re.compile(r"(?:Bearer|OAuth)\s+(\S+)\Z", re.IGNORECASE)


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
        return oversize(request) or await _token(org, request)

    async def identity(request: Request) -> Response:
        return oversize(request) or _identity(org, request)

    async def user_info(request: Request) -> Response:
        return oversize(request) or _user_info(org, request)

    async def versions(request: Request) -> Response:
        return oversize(request) or json_response(version_list())

    async def data(request: Request) -> Response:
        return oversize(request) or await _data(org, request)

    return [
        *salesforce_admin.routes(org),
        Route("/services/oauth2/token", token, methods=["POST"]),
        Route("/services/oauth2/userinfo", user_info, methods=["GET", "POST"]),
        Route("/id/{org_id}/{user_id}", identity, methods=["GET"]),
        Route("/services/data", versions, methods=["GET"]),
        Route("/services/data/", versions, methods=["GET"]),
        Route("/services/data/{version}", data, methods=METHODS),
        Route("/services/data/{version}/{rest:path}", data, methods=METHODS),
    ]


# Login


async def _token(org: SalesforceOrg, request: Request) -> Response:
    form = await _form(request)
    grant = form.get("grant_type")
    if grant != "client_credentials":
        return _refused_login("unsupported_grant_type", "grant type not supported")
    client_id, secret = _client(request, form)
    if client_id != CLIENT_ID:
        return _refused_login("invalid_client_id", "client identifier invalid")
    if secret != CLIENT_SECRET:
        return _refused_login("invalid_client", "invalid client credentials")
    address = _address(request)
    # No expires_in and no refresh token: a client learns of the end by a 401.
    answer = {
        "access_token": org.sessions.issue(org.org_id),
        "signature": base64.b64encode(org.random.randbytes(32)).decode(),
        "scope": "api",
        "instance_url": address,
        "id": f"{address}/id/{org.org_id}/{org.api_user_id}",
        "token_type": "Bearer",
        "issued_at": str(int(org.now().timestamp() * 1000)),
    }
    return json_response(answer)


async def _form(request: Request) -> Mapping[str, str]:
    """The body's fields; another content type than form-encoded holds none."""
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        return {}
    body = (await request.body()).decode(errors="replace")
    return {name: values[0] for name, values in parse_qs(body).items()}


def _client(request: Request, form: Mapping[str, str]) -> tuple[str, str]:
    """The client's id and secret, from the form or by Basic authentication."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return client_id, secret
    return form.get("client_id", ""), form.get("client_secret", "")


def _refused_login(error: str, description: str) -> Response:
    return json_response({"error": error, "error_description": description}, 400)


def _address(request: Request) -> str:
    """Where this server listens, whatever host the client asked for."""
    host, port = request.scope["server"]
    return f"http://{host}:{port}"


def _identity(org: SalesforceOrg, request: Request) -> Response:
    token = _bearer(request)
    if token is None or not org.sessions.knows(token):
        return html_page(403, "Bad_OAuth_Token")
    user = org.find("User", request.path_params["user_id"])
    if user is None or request.path_params["org_id"] != org.org_id:
        return html_page(404, "not found")
    address = _address(request)
    answer = {
        "id": f"{address}/id/{org.org_id}/{user.id}",
        "user_id": user.id,
        "organization_id": org.org_id,
        "username": user["Username"],
        "display_name": user["Name"],
        "email": user["Email"],
        "active": user["IsActive"],
        "timezone": user["TimeZoneSidKey"],
        "urls": {"rest": f"{address}/services/data/v{{version}}/"},
    }
    return json_response(answer)


def _user_info(org: SalesforceOrg, request: Request) -> Response:
    # Help, "The UserInfo Endpoint": the bearer of a token asks who it belongs to.
    token = _bearer(request)
    if token is None or not org.sessions.knows(token):
        return html_page(403, "Bad_OAuth_Token")
    address = _address(request)
    answer = {
        "sub": f"{address}/id/{org.org_id}/{org.api_user_id}",
        "user_id": org.api_user_id,
        "organization_id": org.org_id,
    }
    return json_response(answer)


# REST resources


async def _data(org: SalesforceOrg, request: Request) -> Response:
    try:
        version = version_of(request.path_params["version"])
        token = _session(org, request)
        org.api_calls += 1
        response = await _answer(org, request, version, token)
    except ApiError as error:
        response = error.response()
    # On every answer to a known session (REST guide, "Limit Info Header").
    if response.status_code not in {401, 404, 410} or org.sessions.knows(_bearer(request)):
        response.headers["Sforce-Limit-Info"] = f"api-usage={org.api_calls}/{org.api_calls_max}"
    return response


async def _answer(org: SalesforceOrg, request: Request, version: str, token: str) -> Response:
    if org.api_calls > org.api_calls_max:
        message = "TotalRequests Limit exceeded."
        raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", message)
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
    token = _bearer(request)
    if token is None:
        raise ApiError(401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE")
    if not org.sessions.knows(token):
        raise ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")
    return token


def _bearer(request: Request) -> str | None:
    match = _AUTHORIZATION.match(request.headers.get("authorization", ""))
    return match.group(1) if match else None


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
