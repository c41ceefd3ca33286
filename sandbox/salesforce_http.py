"""The shape of Salesforce's REST answers: errors, JSON, usage header, and dispatch by path.

Page: REST API Developer Guide, "Status Codes and Error Responses" and "Headers".
"""

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sandbox.salesforce_guards import Refusal
from sandbox.salesforce_org import SalesforceOrg

MAX_URI_BYTES: Final = 16_384  # REST guide, "Status Codes": 414 and 431
FIRST_VERSION: Final = 31  # versions up to 30.0 are retired
LAST_VERSION: Final = 68
JSON_TYPE: Final = "application/json;charset=UTF-8"
_VERSION: Final = re.compile(r"v(\d{1,3})\.0\Z")
_HTML: Final = "<html><head><title>Error</title></head><body>{text}</body></html>"


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: The HTTP status.
        code: Salesforce's errorCode.
        message: The vendor's sentence.
        fields: The fields concerned, where the vendor names them.
    """

    def __init__(self, status: int, code: str, message: str, fields: Sequence[str] = ()) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = tuple(fields)

    def response(self) -> Response:
        """The vendor's JSON list with one error."""
        error: dict[str, object] = {"message": self.message, "errorCode": self.code}
        if self.fields:
            error["fields"] = list(self.fields)
        return json_response([error], self.status)


def refused(refusal: Refusal, status: int = 400) -> ApiError:
    """A record's refusal as the answer to a single-record request."""
    return ApiError(status, refusal.code, refusal.message, refusal.fields)


def not_found() -> ApiError:
    """What an address that leads nowhere answers."""
    return ApiError(404, "NOT_FOUND", "The requested resource does not exist")


@dataclass(frozen=True, slots=True)
class Call:
    """One authorised request below `/services/data/vNN.0/`."""

    org: SalesforceOrg
    method: str
    version: str
    """Without the `v`, for example `62.0`."""
    path: str
    """What follows the version, without slashes at its ends."""
    query: QueryParams
    headers: Mapping[str, str]
    body: bytes
    token: str

    @property
    def base(self) -> str:
        """`/services/data/vNN.0`."""
        return f"/services/data/v{self.version}"

    def json(self) -> object:
        """The body as JSON; numbers stay exact.

        Raises:
            ApiError: 400 JSON_PARSER_ERROR, 415 for another content type.
        """
        kind = self.headers.get("content-type", "")
        if "json" not in kind:
            message = f"Unsupported media type '{kind}'"
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", message)
        try:
            return json.loads(self.body, parse_constant=_refuse_constant)
        except ValueError as error:
            message = f"Unexpected content at [line:1, column:1]: {error}"
            raise ApiError(400, "JSON_PARSER_ERROR", message) from None

    def json_object(self) -> dict[str, object]:
        """The body as a JSON object; see `json`."""
        body = self.json()
        if not isinstance(body, dict):
            message = "Cannot deserialize: the body is no JSON object at [line:1, column:1]"
            raise ApiError(400, "JSON_PARSER_ERROR", message)
        return body


Handler: TypeAlias = Callable[..., Response]
"""Takes the call and the pattern's groups."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One REST resource: the pattern of its path and its methods."""

    pattern: re.Pattern[str]
    methods: Mapping[str, Handler]


def resource(pattern: str, **methods: Handler) -> Resource:
    """A resource from a pattern in which `{}` stands for one path segment."""
    escaped = re.escape(pattern).replace(r"\{\}", "([^/]+)")
    return Resource(re.compile(escaped + r"\Z", re.IGNORECASE), methods)


def dispatch(resources: Sequence[Resource], call: Call) -> Response:
    """Answer a call by the first resource whose path fits.

    Raises:
        ApiError: 404 for an unknown path, 405 for an unknown method.
    """
    for each in resources:
        match = each.pattern.match(call.path)
        if match is None:
            continue
        handler = each.methods.get("GET" if call.method == "HEAD" else call.method)
        if handler is None:
            allowed = ",".join(each.methods)
            message = f"HTTP Method '{call.method}' not allowed. Allowed are {allowed}"
            raise ApiError(405, "METHOD_NOT_ALLOWED", message)
        return handler(call, *match.groups())
    raise not_found()


def json_response(body: object, status: int = 200) -> Response:
    """A JSON answer in the vendor's content type."""
    return Response(orjson.dumps(body), status, media_type=JSON_TYPE)


def compressed(request: Request, response: Response) -> Response:
    """The answer gzipped, if the client takes that (REST guide, "Use Compression")."""
    accepted = request.headers.get("accept-encoding", "")
    if "gzip" not in accepted or not response.body:
        return response
    response.body = gzip.compress(bytes(response.body), compresslevel=1)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))
    return response


def no_content() -> Response:
    """204, as a successful PATCH or DELETE answers."""
    return Response(status_code=204)


def html_page(status: int, text: str) -> Response:
    """An HTML answer, as from the machines in front of the API."""
    return HTMLResponse(_HTML.format(text=text), status)


def oversize(request: Request) -> Response | None:
    """The refusal of a URI (414) or URI with headers (431) above 16,384 bytes, if it is one."""
    scope = request.scope
    uri = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) + 1
    if uri > MAX_URI_BYTES:
        return html_page(414, "URI Too Long")
    if uri + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_URI_BYTES:
        return html_page(431, "Request Header Fields Too Large")
    return None


def version_of(segment: str) -> str:
    """The version in `vNN.0`.

    Raises:
        ApiError: 404 for no or a future version, 410 for a retired one.
    """
    match = _VERSION.match(segment)
    if match is None or int(match.group(1)) > LAST_VERSION:
        raise not_found()
    if int(match.group(1)) < FIRST_VERSION:
        # Help, "Salesforce Platform API Versions 21.0 through 30.0 Retirement": REST says 410.
        message = "The API version is retired. Use a newer one, listed at /services/data/"
        raise ApiError(410, "GONE", message)
    return f"{match.group(1)}.0"


def version_list() -> list[dict[str, object]]:
    """What `/services/data/` lists: the versions alive, oldest first."""
    return [
        {"label": _season(number), "url": f"/services/data/v{number}.0", "version": f"{number}.0"}
        for number in range(FIRST_VERSION, LAST_VERSION + 1)
    ]


def _season(number: int) -> str:
    years, season = divmod(number - 62, 3)  # 62.0 is Winter '25
    return f"{('Winter', 'Spring', 'Summer')[season]} '{25 + years}"


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")
