"""The token endpoint ("Manage OAuth access tokens" guide).

A form-encoded POST; version 1 also takes its parameters from the query, later ones want all of
them in the body. It has no Authorization header, no limit and no scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.hubspot_errors import JsonObject, correlation_id
from sandbox.hubspot_gate import DATED_VERSIONS, answer
from sandbox.hubspot_grants import CLIENT_ID, CLIENT_SECRET
from sandbox.hubspot_portal import Portal

FORM = "application/x-www-form-urlencoded"
FIRST_VERSION = "v1"


def routes(portal: Portal) -> list[Route]:
    """The endpoint under each of its paths."""
    return [
        Route(f"/oauth/{version}/token", _endpoint(portal, version), methods=["POST"])
        for version in (FIRST_VERSION, "v3", *DATED_VERSIONS)
    ]


def _endpoint(portal: Portal, version: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith(FORM):
            return _refused(portal, version, "BAD_REQUEST", f"the body must be {FORM}")
        given = dict(parse_qsl((await request.body()).decode("latin-1")))
        if version == FIRST_VERSION:
            given = {**dict(request.query_params), **given}
        return _token(portal, version, given)

    return endpoint


def _token(portal: Portal, version: str, given: dict[str, str]) -> Response:
    if given.get("grant_type") != "refresh_token":
        return _refused(portal, version, "BAD_GRANT_TYPE", "grant_type must be refresh_token")
    if given.get("client_id") != CLIENT_ID:
        return _refused(portal, version, "BAD_CLIENT_ID", "missing or unknown client id")
    if given.get("client_secret") != CLIENT_SECRET:
        return _refused(portal, version, "BAD_CLIENT_SECRET", "missing or invalid client secret")
    grants = portal.grants
    try:
        access_token, refresh_token = grants.refresh(
            given.get("refresh_token", ""), now=portal.now(), random=portal.random
        )
    except KeyError:
        words = "missing or invalid refresh token"
        return _refused(portal, version, "BAD_REFRESH_TOKEN", words)
    return answer(
        {
            "token_type": "bearer",
            "access_token": access_token,
            "refresh_token": refresh_token,
            "expires_in": grants.token_seconds,
            "hub_id": portal.settings.portal_id,
            "scopes": sorted(portal.settings.scopes),
        }
    )


OAUTH_ERRORS = {
    "BAD_REFRESH_TOKEN": "invalid_grant",
    "BAD_CLIENT_ID": "invalid_client",
    "BAD_CLIENT_SECRET": "invalid_client",
    "BAD_GRANT_TYPE": "unsupported_grant_type",
}


def _refused(portal: Portal, version: str, status: str, message: str) -> Response:
    """400, never 401: in HubSpot's own words, and in later versions in OAuth's."""
    body: JsonObject = {
        "status": status,
        "message": message,
        "correlationId": correlation_id(portal.random),
    }
    if version != FIRST_VERSION:
        body |= {
            "error": OAUTH_ERRORS.get(status, "invalid_request"),
            "error_description": message,
        }
    return answer(body, 400)
