"""What every call to HubSpot passes before it is looked at, and the shape of what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zoneinfo import ZoneInfo

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sandbox.hubspot_errors import (
    HubSpotError,
    JsonObject,
    absent_hub,
    bad_request,
    correlation_id,
    expired_credentials,
    missing_scopes,
    no_credentials,
)
from sandbox.hubspot_index import EPOCH
from sandbox.hubspot_limits import App
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_types import ObjectType

LONGEST_URL = 16_000
"""Characters; beyond, the web server in front answers 414 in HTML (reported by peers)."""

TOO_LONG_PAGE = (
    "<html><head><title>414 Request-URI Too Large</title></head>"
    "<body><center><h1>414 Request-URI Too Large</h1></center></body></html>"
)

# "Legacy API migration guide": the dated versions that are served beside the legacy paths.
DATED_VERSIONS = ("2026-03", "2026-09")
DATED_PATH = re.compile(r"/[a-z/-]+/(20\d\d-\d\d)(/|$)")


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed the gate."""

    portal: Portal
    request: Request
    body: Mapping[str, object]

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def object_type(self, name: str = "type") -> str:
        """The key of an object type named in the path; 400 for one the portal does not know."""
        return self.kind(name).name

    def kind(self, name: str = "type") -> ObjectType:
        """An object type named in the path; 400 for one the portal does not know."""
        named = self.path(name)
        found = self.portal.types.named(named)
        if found is None:
            raise bad_request(f"Unable to infer object type from: {named}")
        return found

    @property
    def version(self) -> str:
        """The date in the path; empty for a legacy path."""
        found = DATED_PATH.match(self.request.url.path)
        return found[1] if found else ""

    def list_of(self, name: str) -> list[str]:
        """A query parameter that may be repeated or hold commas."""
        given = self.request.query_params.getlist(name)
        return [part for value in given for part in value.split(",") if part]

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false (the default); clients write True, too."""
        return self.request.query_params.get(name, "false").lower() == "true"

    def whole(self, name: str, *, default: int, most: int) -> int:
        """A query parameter with a whole number in 1..most; 400 otherwise."""
        text = self.request.query_params.get(name, str(default))
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise bad_request(f"{name} must be a whole number from 1 to {most}, got {text}")
        return int(text)

    def text(self, name: str) -> str:
        """A text of the body; 400 where it is missing."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise bad_request(f"Invalid input JSON: {name} is required", "REQUIRED_FIELD")
        return value

    def inputs(self, most: int, too_many: str | None = None) -> list[JsonObject]:
        """The ``inputs`` of a batch; 400 for more than the endpoint takes."""
        inputs = self.body.get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
            raise bad_request("Invalid input JSON: inputs must be a list of objects")
        if len(inputs) > most:
            raise bad_request(
                too_many or f"The maximum number of inputs supported in a batch request is {most}."
            )
        return inputs


Handler: TypeAlias = Callable[[Call], Response]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation: its legacy path, its dated twin (None: there is none), its scopes."""

    method: str
    legacy: str
    dated: str | None
    handler: Handler
    scopes: Sequence[str] = ()
    """One of them is needed; ``{type}`` stands for the object type of the path."""
    is_search: bool = False
    hub: str = ""
    """The hub that the account has to have."""

    def routes(self, portal: Portal) -> list[Route]:
        """The routes under which it is served."""
        endpoint = self._guarded(portal)
        paths = [self.legacy]
        if self.dated is not None:
            paths += [self.dated.replace("{version}", version) for version in DATED_VERSIONS]
        return [Route(path, endpoint, methods=[self.method]) for path in paths]

    def _guarded(self, portal: Portal) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if len(_url(request)) > LONGEST_URL:
                return HTMLResponse(TOO_LONG_PAGE, status_code=414)
            try:
                response = await self._answered(portal, request)
            except HubSpotError as error:
                response = _refusal(portal, error)
            if not self.is_search:
                app = getattr(request.state, "app", App.STATIC)
                response.headers.update(portal.limits.headers(app))
            return response

        return endpoint

    async def _answered(self, portal: Portal, request: Request) -> Response:
        app = _authenticate(portal, request)
        request.state.app = app
        zone = ZoneInfo(portal.settings.time_zone)
        today = portal.now().astimezone(zone).date()
        portal.limits.count(app, is_search=self.is_search, today=today)
        self._authorise(portal, request)
        body = await _json_body(request)
        return self.handler(Call(portal, request, body))

    def _authorise(self, portal: Portal, request: Request) -> None:
        named = [request.path_params.get(part) for part in ("type", "from_type", "to_type")]
        kinds = [portal.types.named(str(name)) for name in named if name is not None]
        for kind in kinds:
            if kind is not None and kind.hub in portal.settings.absent_hubs:
                raise absent_hub(kind.hub)
        # Associations are read with the scope of the records they start from.
        _ask_for_scope(portal, self.scopes, kinds[0] if kinds else None)
        if self.hub in portal.settings.absent_hubs:
            raise absent_hub(self.hub)


def _ask_for_scope(portal: Portal, scopes: Sequence[str], kind: ObjectType | None) -> None:
    if not scopes or (kind is None and "{type}" in scopes[0]):
        return
    if kind is not None and not kind.is_writable and scopes[0].endswith(".write"):
        return  # There is no such scope: the answer is that it cannot be written.
    needed = [scope.replace("{type}", kind.scope if kind else "") for scope in scopes]
    if portal.settings.scopes.isdisjoint(needed):
        raise missing_scopes(needed)


def answer(content: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def _refusal(portal: Portal, error: HubSpotError) -> Response:
    correlated = correlation_id(portal.random)
    headers = {**error.headers, "X-HubSpot-Correlation-Id": correlated}
    refused = answer(error.body(correlated), error.status)
    refused.headers.update(headers)
    return refused


def _authenticate(portal: Portal, request: Request) -> App:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        raise no_credentials()
    if token in portal.settings.tokens:
        return App.STATIC
    expires_at = portal.grants.expires_at(token)
    if expires_at is not None and expires_at > portal.now():
        return App.OAUTH
    if token.startswith("pat-") or (expires_at is None and portal.grants.knows(token)):
        raise no_credentials()
    # A token of a wrong shape is reported as expired in 1970, not as unknown.
    raise expired_credentials(expires_at or EPOCH, portal.now())


async def _json_body(request: Request) -> Mapping[str, object]:
    if request.method not in ("POST", "PUT", "PATCH"):
        return {}
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("application/json"):
        raise HubSpotError(415, f"HTTP 415 Unsupported Media Type: {content_type}")
    try:
        body = orjson.loads(await request.body())
    except ValueError as error:
        raise bad_request(f"Invalid input JSON: {error}") from None
    if not isinstance(body, dict):
        raise bad_request("Invalid input JSON: an object is expected")
    return body


def _url(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    return f"{raw.decode('latin-1')}?{query.decode('latin-1')}"
