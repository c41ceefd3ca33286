"""Ways into the org: OAuth client credentials, JWT bearer, SOAP login, and what a token tells.

Pages: Help, "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration", "OAuth 2.0 JWT
Bearer Flow for Server-to-Server Integration", "OAuth 2.0 Errors", "Revoke OAuth Tokens",
"Identity URLs", "The UserInfo Endpoint"; SOAP API Developer Guide, login() and "LoginFault"; Help
article "Platform SOAP API login() Retirement".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import jwt
from jwt.types import Options
from starlette.requests import Request
from starlette.responses import Response

from sandbox.salesforce_http import html_page, json_response
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_sessions import CLIENT_ID, CLIENT_SECRET, PASSWORD, SECURITY_TOKEN

JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LOGIN_HOSTS: Final = frozenset({"login.salesforce.com", "test.salesforce.com"})
LONGEST_ASSERTION: Final = timedelta(minutes=5)
"""How far ahead an assertion may expire ("Create a JWT": within five minutes)."""
LAST_SOAP_LOGIN: Final = 64  # login() is absent from API version 65.0 on
OWN_CURRENCY: Final = "USD"
"""Of an org with a single currency."""
_USER_INFO: Final = re.compile(
    rb"<(?:\w+:)?sessionId>([^<]*)</.*<(?:\w+:)?getUserInfo\b", re.DOTALL
)
_AUTHORIZATION: Final = re.compile(r"(?:Bearer|OAuth)\s+(\S+)\Z", re.IGNORECASE)


class RefusedLoginError(Exception):
    """A login that is answered with 400.

    Args:
        error: The OAuth error, for example invalid_grant.
        description: The vendor's words.
    """

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error, description)
        self.error = error
        self.description = description


# OAuth


async def token(org: SalesforceOrg, request: Request) -> Response:
    """POST /services/oauth2/token."""
    form = await _form(request)
    try:
        answer = _granted(org, request, form)
    except RefusedLoginError as refused:
        body = {"error": refused.error, "error_description": refused.description}
        return json_response(body, 400)
    return json_response(answer)


def _granted(org: SalesforceOrg, request: Request, form: Mapping[str, str]) -> dict[str, object]:
    grant = form.get("grant_type")
    if grant == "client_credentials":
        return _by_client_credentials(org, request, form)
    if grant == JWT_GRANT:
        return _by_assertion(org, request, form.get("assertion", ""))
    raise RefusedLoginError("unsupported_grant_type", "grant type not supported")


def _by_client_credentials(
    org: SalesforceOrg, request: Request, form: Mapping[str, str]
) -> dict[str, object]:
    if wanted_host(request) in LOGIN_HOSTS:
        # The flow needs the org's own My Domain: only there is it known whose client this is.
        raise RefusedLoginError("invalid_grant", "request not supported on this domain")
    if not org.sessions.takes_client_credentials:
        raise RefusedLoginError("invalid_grant", "no client credentials user enabled")
    client_id, secret = _client(request, form)
    if client_id != CLIENT_ID:
        raise RefusedLoginError("invalid_client_id", "client identifier invalid")
    if secret != CLIENT_SECRET:
        raise RefusedLoginError("invalid_client", "invalid client credentials")
    # No expires_in and no refresh token: a client learns of the end by a 401.
    return _token_answer(org, request) | {
        "signature": base64.b64encode(org.random.randbytes(32)).decode(),
        "issued_at": str(int(org.now().timestamp() * 1000)),
    }


def _token_answer(org: SalesforceOrg, request: Request) -> dict[str, object]:
    address = address_of(request)
    return {
        "access_token": org.sessions.issue(org.org_id),
        "scope": "api",
        "instance_url": address,
        "id": f"{address}/id/{org.org_id}/{org.api_user_id}",
        "token_type": "Bearer",
    }


def _by_assertion(org: SalesforceOrg, request: Request, assertion: str) -> dict[str, object]:
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise RefusedLoginError("invalid_grant", "invalid assertion") from None
    if claims.get("iss") != CLIENT_ID:
        raise RefusedLoginError("invalid_client_id", "client identifier invalid")
    _check_signature(org, assertion)
    is_sandbox = org.get("Organization", org.org_id)["IsSandbox"] is True
    if claims.get("aud") != f"https://{'test' if is_sandbox else 'login'}.salesforce.com":
        raise RefusedLoginError("invalid_grant", "audience is invalid")
    _check_expiry(org, claims.get("exp"))
    _check_user(org, str(claims.get("sub", "")))
    return _token_answer(org, request)


def _check_signature(org: SalesforceOrg, assertion: str) -> None:
    # The expiry is checked against the org's clock, not this machine's.
    options: Options = {"verify_exp": False, "verify_aud": False, "verify_iat": False}
    key = org.sessions.public_key
    if key is None:
        raise RefusedLoginError("invalid_grant", "invalid assertion")
    try:
        jwt.decode(assertion, key, algorithms=["RS256"], options=options)
    except jwt.InvalidTokenError:
        raise RefusedLoginError("invalid_grant", "invalid assertion") from None


def _check_expiry(org: SalesforceOrg, expiry: object) -> None:
    text = str(expiry)
    now = org.now().timestamp()
    if not text.isdigit():
        raise RefusedLoginError("invalid_grant", "invalid assertion")
    if int(text) <= now:
        raise RefusedLoginError("invalid_grant", "expired authorization code")
    if int(text) > now + LONGEST_ASSERTION.total_seconds():
        raise RefusedLoginError("invalid_grant", "invalid assertion")


def _check_user(org: SalesforceOrg, username: str) -> None:
    user = next((user for user in org.all("User") if user["Username"] == username), None)
    if user is None:
        raise RefusedLoginError("invalid_grant", "user hasn't approved this consumer")
    if user["IsActive"] is not True:
        raise RefusedLoginError("invalid_grant", "inactive user")
    if username not in org.sessions.pre_authorized:
        description = "user is not admin approved to access this app"
        raise RefusedLoginError("invalid_app_access", description)


async def revoke(org: SalesforceOrg, request: Request) -> Response:
    """POST /services/oauth2/revoke with token=."""
    given = (await _form(request)).get("token", request.query_params.get("token", ""))
    if not org.sessions.knows(given):
        body = {"error": "unsupported_token_type", "error_description": "this token type is not"}
        return json_response(body, 400)
    org.sessions.revoke_one(given)
    return Response(status_code=200)


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


def address_of(request: Request) -> str:
    """Where this server listens, whatever host the client asked for."""
    host, port = request.scope["server"]
    return f"http://{host}:{port}"


def wanted_host(request: Request) -> str:
    """The vendor's host that the client meant, where its transport tells."""
    headers = request.headers
    return headers.get("x-forwarded-host") or headers.get("x-wanted-host") or ""


# Who a token belongs to


def identity(org: SalesforceOrg, request: Request) -> Response:
    """GET /id/ORG/USER."""
    given = bearer(request)
    if given is None or not org.sessions.knows(given):
        return html_page(403, "Bad_OAuth_Token")
    user = org.find("User", request.path_params["user_id"])
    if user is None or request.path_params["org_id"] != org.org_id:
        return html_page(404, "not found")
    address = address_of(request)
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


def user_info(org: SalesforceOrg, request: Request) -> Response:
    """GET /services/oauth2/userinfo: the bearer of a token asks who it belongs to."""
    given = bearer(request)
    if given is None or not org.sessions.knows(given):
        return html_page(403, "Bad_OAuth_Token")
    address = address_of(request)
    answer = {
        "sub": f"{address}/id/{org.org_id}/{org.api_user_id}",
        "user_id": org.api_user_id,
        "organization_id": org.org_id,
    }
    return json_response(answer)


def bearer(request: Request) -> str | None:
    """The session id that a request carries."""
    match = _AUTHORIZATION.match(request.headers.get("authorization", ""))
    return match.group(1) if match else None


# SOAP


async def soap_login(org: SalesforceOrg, request: Request) -> Response:
    """POST /services/Soap/u/NN.0: login() for the legacy password flow, and getUserInfo()."""
    body = await request.body()
    asked = _USER_INFO.search(body)
    if asked is not None:
        return _soap_user_info(org, asked.group(1).decode())
    version = request.path_params["version"].partition(".")[0].lstrip("v")
    if not version.isdigit() or int(version) > LAST_SOAP_LOGIN:
        message = f"SOAP API login() is not available in API version {version}.0"
        return _fault("UNSUPPORTED_API_VERSION", message)
    if not org.sessions.takes_soap_login:
        return _fault("INVALID_OPERATION", "SOAP API login() is disabled by default in this org.")
    username, password, has_scope = _soap_credentials(body)
    user = next((user for user in org.all("User") if user["Username"] == username), None)
    trusted = has_scope or org.sessions.trusts_network
    accepted = {PASSWORD + SECURITY_TOKEN} | ({PASSWORD} if trusted else set())
    if user is None or user["IsActive"] is not True or password not in accepted:
        message = "Invalid username, password, security token; or user locked out."
        return _fault("INVALID_LOGIN", message)
    address = address_of(request)
    session = org.sessions.issue(org.org_id)
    server = f"{address}/services/Soap/u/{version}.0/{org.org_id}"
    return _envelope(
        '<loginResponse xmlns="urn:partner.soap.sforce.com"><result>'
        f"<serverUrl>{escape(server)}</serverUrl><sessionId>{escape(session)}</sessionId>"
        f"<userId>{org.api_user_id}</userId>"
        f"<userInfo><organizationId>{org.org_id}</organizationId></userInfo>"
        "</result></loginResponse>",
        200,
    )


def _soap_user_info(org: SalesforceOrg, session: str) -> Response:
    """SOAP API Developer Guide, "getUserInfo()": the currency is that of a single-currency org."""
    if not org.sessions.knows(session):
        return _fault("INVALID_SESSION_ID", "Invalid Session ID found in SessionHeader")
    several = any(True for _ in org.all("CurrencyType"))
    own = "" if several else OWN_CURRENCY
    return _envelope(
        '<getUserInfoResponse xmlns="urn:partner.soap.sforce.com"><result>'
        f"<orgDefaultCurrencyIsoCode>{own}</orgDefaultCurrencyIsoCode>"
        f"<organizationId>{org.org_id}</organizationId>"
        f"<organizationMultiCurrency>{str(several).lower()}</organizationMultiCurrency>"
        f"<userId>{org.api_user_id}</userId></result></getUserInfoResponse>",
        200,
    )


def _soap_credentials(body: bytes) -> tuple[str, str, bool]:
    """Username, password, and whether a LoginScopeHeader came along."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - from a client on loopback
    except ET.ParseError:
        return "", "", False
    found = {each.tag.rpartition("}")[2]: each.text or "" for each in root.iter()}
    return found.get("username", ""), found.get("password", ""), "organizationId" in found


def _fault(code: str, message: str) -> Response:
    return _envelope(
        f"<soapenv:Fault><faultcode>sf:{code}</faultcode>"
        f"<faultstring>{code}: {escape(message)}</faultstring><detail><sf:LoginFault>"
        f"<sf:exceptionCode>{code}</sf:exceptionCode>"
        f"<sf:exceptionMessage>{escape(message)}</sf:exceptionMessage>"
        "</sf:LoginFault></detail></soapenv:Fault>",
        500,
    )


def _envelope(content: str, status: int) -> Response:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:sf="urn:fault.partner.soap.sforce.com"><soapenv:Body>'
        f"{content}</soapenv:Body></soapenv:Envelope>"
    )
    return Response(text, status, media_type="text/xml;charset=UTF-8")
