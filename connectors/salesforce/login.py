"""Logging in: each way to a token, in order of preference.

Pages: Salesforce Help, "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration",
"OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration", "Platform SOAP API login()
Retirement". No answer says how long a token lives, and none brings a refresh token: its end shows
as a 401, and then one logs in again.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

import jwt
import requests
from simple_salesforce.exceptions import SalesforceAuthenticationFailed
from simple_salesforce.login import SalesforceLogin
from simple_salesforce.util import getUniqueElementValueFromXmlString

from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    MalformedAnswer,
    MisconfiguredConnection,
)
from connectors.salesforce.faults import Refusal, is_passing, no_answer, refusal_of, translate
from connectors.salesforce.ids import is_id, long_id
from connectors.salesforce.login_faults import explain
from connectors.salesforce.transport import Session

LAST_SOAP_LOGIN: Final = 64
"""The newest API version that still has SOAP ``login()``."""

LEGACY_WARNING: Final = (
    "auth.flow: password logs in by SOAP, which Salesforce retires: API versions from 65.0 on lack"
    " it, new orgs have it switched off, and it ends for all with the release Summer '27. Move to"
    " flow: client_credentials or flow: jwt before that."
)

_LOGIN_HOSTS: Final = frozenset({"", "login", "test"})
_TOKEN_PATH: Final = "/services/oauth2/token"  # noqa: S105  # an address, not a secret
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_JWT_SECONDS: Final = 180
"""Salesforce takes assertions that end within a few minutes."""
_SANDBOX_HOSTS: Final = (".sandbox.", ".scratch.")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, where it is good, and who it belongs to as far as the login says so."""

    text: str = field(repr=False)
    host: str
    org_id: str | None = None
    user_id: str | None = None

    def as_mapping(self) -> Mapping[str, str]:
        """As `connectors.base.TokenVault` keeps it."""
        found = {
            "access_token": self.text,
            "instance_url": f"https://{self.host}",
            "org_id": self.org_id,
            "user_id": self.user_id,
        }
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_mapping(cls, kept: Mapping[str, str]) -> Token:
        """The token that `as_mapping` wrote down."""
        return cls(
            kept["access_token"],
            host_of(kept["instance_url"]),
            kept.get("org_id"),
            kept.get("user_id"),
        )


class Login:
    """One connection's way to a token.

    Args:
        connection: Its name, for messages.
        auth: The credentials, with the key ``flow``.
        session: What sends the calls.
        version: The API version in use, such as ``62.0``.
        base_url: Another address for every host, for messages.
    """

    def __init__(
        self,
        connection: str,
        auth: Mapping[str, str],
        session: Session,
        *,
        version: str,
        base_url: str | None,
    ) -> None:
        self._connection = connection
        self._auth = auth
        self._session = session
        self._version = version
        self._base_url = base_url

    @property
    def flow(self) -> str:
        """Which of the ways it is; what is not said is guessed from the credentials."""
        ready = "token" if "access_token" in self._auth else "client_credentials"
        return self._auth.get("flow") or ready

    @property
    def can_renew(self) -> bool:
        """A refused token can be replaced by logging in again."""
        return self.flow != "token"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for people about this way of logging in."""
        return (LEGACY_WARNING,) if self.flow == "password" else ()

    def log_in(self) -> Token:
        """Fetch a token.

        Raises:
            AuthenticationFailed: Salesforce refuses; the sentence says what a person must do.
            MisconfiguredConnection: the credentials lack something.
            ConnectorError: Salesforce cannot be reached, or answers nonsense.
        """
        flows: Mapping[str, Callable[[], Token]] = {
            "client_credentials": self._by_client_credentials,
            "jwt": self._by_jwt,
            "token": self._ready_token,
            "password": self._by_password,
        }
        if self.flow not in flows:
            raise MisconfiguredConnection(
                self._connection,
                f"auth.flow {self.flow} is not supported. Use one of {', '.join(flows)}.",
            )
        return flows[self.flow]()

    # ------------------------------------------------------------ the flows

    def _by_client_credentials(self) -> Token:
        domain = my_domain(self._auth.get("domain", self._any_domain))
        if domain in _LOGIN_HOSTS:
            raise MisconfiguredConnection(
                self._connection,
                "The client credentials flow needs your My Domain: set auth.domain to the part"
                " before .salesforce.com (Setup > My Domain), such as acme.my, or"
                " acme--uat.sandbox.my for a sandbox.",
            )
        client_id = self._needed("client_id", "the app's consumer key")
        secret = self._needed("client_secret", "the app's consumer secret")
        pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
        return self._by_oauth(
            domain,
            {"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {pair}"},
        )

    def _by_jwt(self) -> Token:
        domain = my_domain(self._auth.get("domain", "")) or "login"
        claims: dict[str, str | int] = {
            "iss": self._needed("client_id", "the app's consumer key"),
            "sub": self._needed("username", "the user to act as"),
            # Not the host that is asked: Salesforce wants one of its two login hosts here.
            "aud": f"https://{'test' if _is_sandbox(domain) else 'login'}.salesforce.com",
            "exp": int(time.time()) + _JWT_SECONDS,
        }
        form = {"grant_type": _JWT_GRANT, "assertion": self._signed(claims)}
        return self._by_oauth(domain, form)

    def _signed(self, claims: Mapping[str, str | int]) -> str:
        key = self._needed("private_key", "the private key of the app's certificate, in PEM form")
        # An environment variable often carries the line ends as the two characters \n.
        if "\n" not in key.strip():
            key = key.replace("\\n", "\n")
        try:
            return jwt.encode(dict(claims), key, algorithm="RS256")
        except TypeError:
            reason = "is locked by a passphrase; store it without one"
        except (jwt.PyJWTError, ValueError):
            reason = (
                "is not an RSA private key in PEM form; it begins with -----BEGIN PRIVATE KEY-----"
                ' (use private_key: "${file:/run/secrets/...}")'
            )
        raise MisconfiguredConnection(self._connection, f"auth.private_key {reason}.")

    def _ready_token(self) -> Token:
        if self._any_domain and "instance_url" not in self._auth:
            return Token(
                self._needed("access_token", "a token of the org"),
                f"{self._any_domain}.salesforce.com",
            )
        host = host_of(self._needed("instance_url", "the full address of your org"))
        if not host:
            raise MisconfiguredConnection(
                self._connection,
                "auth.instance_url is not an address; write it in full, such as"
                " https://acme.my.salesforce.com.",
            )
        return Token(self._needed("access_token", "a token of the org"), host)

    @property
    def _any_domain(self) -> str:
        """A name for a host that is not called: base_url says where everything goes."""
        return "org.my" if self._base_url else ""

    def _by_password(self) -> Token:
        version = self._version.partition(".")[0]
        newest = int(version) if version.isdigit() else LAST_SOAP_LOGIN
        try:
            token, host = SalesforceLogin(
                username=self._needed("username", "the user to log in as"),
                password=self._needed("password", "the user's password"),
                security_token=self._auth.get("security_token") or "",
                domain=my_domain(self._auth.get("domain", "")) or "login",
                session=self._session,
                sf_version=f"{min(newest, LAST_SOAP_LOGIN)}.0",
            )
        except SalesforceAuthenticationFailed as error:
            raise self._refused(Refusal(str(error.code), str(error.auth_message or ""))) from None
        except requests.RequestException as error:
            raise no_answer(self._connection, error, self._base_url) from None
        except (ExpatError, AttributeError, TypeError, ValueError):
            raise self._malformed("is not what it should be") from None
        body = self._session.last.body
        return self._token(
            str(token),
            str(host),
            _element(body, "organizationId"),
            _element(body, "userId"),
        )

    # ------------------------------------------------------------ one answer

    def _by_oauth(
        self, domain: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Token:
        try:
            response = self._session.post(
                f"https://{domain}.salesforce.com{_TOKEN_PATH}", data=form, headers=headers
            )
        except requests.RequestException as error:
            raise no_answer(self._connection, error, self._base_url) from None
        try:
            answer = response.json()
        except ValueError:
            answer = response.text
        if not response.ok:
            raise self._refused(refusal_of(answer))
        if not isinstance(answer, Mapping):
            raise self._page_instead_of_token()
        token, host = answer.get("access_token"), host_of(str(answer.get("instance_url") or ""))
        # The identity's address (…/id/00D…/005…) names org and user.
        *_, org, user = ["", "", *str(answer.get("id") or "").split("/")]
        return self._token(token if isinstance(token, str) else "", host, org, user)

    def _token(self, text: str, host: str, org: str, user: str) -> Token:
        if not text or not host:
            raise self._malformed("has no token")
        is_known = is_id(org) and is_id(user)
        return Token(
            text,
            host,
            long_id(org) if is_known else None,
            long_id(user) if is_known else None,
        )

    def _refused(self, refusal: Refusal) -> ConnectorError:
        last = self._session.last
        # A SOAP fault is a 500: its code alone tells whether Salesforce refuses or ails.
        is_fault = self.flow == "password" and refusal.code.isupper()
        if is_passing(last.status) and not is_fault:
            body = {"errorCode": refusal.code, "message": refusal.message}
            return translate(self._connection, last.status, body, last.headers)
        if not refusal.code or refusal.code.isdigit():
            return self._page_instead_of_token()
        return explain(self._connection, self.flow, refusal, last.headers)

    def _page_instead_of_token(self) -> MalformedAnswer:
        return self._malformed(
            f"is a page with status {self._session.last.status} instead of a token. Check"
            " auth.domain: is it your org's My Domain?"
        )

    def _malformed(self, words: str) -> MalformedAnswer:
        ending = "" if words.endswith("?") else "."
        return MalformedAnswer(
            self._connection, f"Salesforce's answer to the login {words}{ending}"
        )

    def _needed(self, key: str, what: str) -> str:
        value = self._auth.get(key)
        if not value:
            raise MisconfiguredConnection(self._connection, f"auth.{key} is missing: {what}.")
        return value


def refused_fresh_token(connection: str, words: str) -> AuthenticationFailed:
    """A token that Salesforce has just given out is not accepted."""
    return AuthenticationFailed(
        connection,
        "Salesforce refuses even a fresh token. Check that the connected user is active, may use"
        f" the API and may log in from this address. ({words})",
    )


def my_domain(text: str) -> str:
    """What stands before ``.salesforce.com``, from whatever way of writing it."""
    return host_of(text).strip().lower().removesuffix(".salesforce.com")


def host_of(address: str) -> str:
    """The host of an address, with or without a scheme before it."""
    return urlsplit(address if "//" in address else f"https://{address}").netloc


def _is_sandbox(domain: str) -> bool:
    return domain == "test" or any(part in f"{domain}." for part in _SANDBOX_HOSTS)


def _element(body: bytes, name: str) -> str:
    try:
        return str(getUniqueElementValueFromXmlString(body, name) or "")
    except ExpatError:
        return ""
