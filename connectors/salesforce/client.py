"""The only module that talks to Salesforce, through simple-salesforce.

It logs in, renews the token once when it is refused (simple-salesforce would loop and drop our
headers), retries what can be retried, and translates every failure into ``connectors.errors``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, urlsplit

import requests
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError
from simple_salesforce.login import SalesforceLogin

from connectors.base import CallCounter, ConnectionSettings
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    RequestRefused,
)
from connectors.retry import RetryPolicy
from connectors.salesforce.exactjson import exact_json
from connectors.salesforce.faults import (
    AnswerLost,
    ExpiredSessionError,
    NothingDone,
    refusal_of,
    translate,
)
from connectors.salesforce.ids import is_id, long_id
from connectors.salesforce.quota import OrgQuota
from connectors.salesforce.transport import Session

API_VERSION: Final = "62.0"
REFUSAL_SECONDS: Final = 300.0
"""How long a refused login stands before it is tried again."""
LONGEST_URI: Final = 12_000
"""Bytes of a request line we allow ourselves; Salesforce refuses above 16,384."""

_LOGIN_HOSTS: Final = frozenset({"", "login", "test"})
_DATA_PATH: Final = "/services/data/"
_TOKEN_PATH: Final = "/services/oauth2/token"  # noqa: S105  # an address, not a secret

T = TypeVar("T")
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One answer to a query: a page, smaller than asked for at Salesforce's own choice."""

    records: Sequence[Json]
    total: int
    next_url: str | None
    server_time: datetime


class SalesforceClient:
    """One org, one run-time user."""

    def __init__(self, settings: ConnectionSettings, calls: CallCounter) -> None:
        self.connection = settings.name
        self._auth = settings.auth
        self._version = (settings.api_version or API_VERSION).removeprefix("v")
        self._base_url = settings.base_url
        self._session = Session(settings.tuning, calls, settings.base_url)
        self._retry = RetryPolicy(settings.tuning, settings.on_wait)
        self._quota = OrgQuota(settings.name)
        self._library: Salesforce | None = None
        self._login_lock = threading.Lock()
        self._org_id: str | None = None
        self._user_id: str | None = None
        self._has_asked_who = False
        self._refusal: AuthenticationFailed | None = None
        self._refusal_ends = 0.0

    # ------------------------------------------------------------ reading

    def query(self, soql: str, *, deleted_too: bool = True) -> QueryResult:
        """Run a query: with `deleted_too` also over the bin and merged records.

        Raises:
            ConnectorError: see ``faults.translate``.
        """
        return self._result(lambda sf: sf.query(soql, include_deleted=deleted_too))

    def query_all(self, soql: str, *, deleted_too: bool = True) -> list[Json]:
        """Every row of a query that has few, page by page.

        Raises:
            ConnectorError: see ``faults.translate``.
        """
        answer = self.query(soql, deleted_too=deleted_too)
        rows = [*answer.records]
        while answer.next_url is not None:
            answer = self.next_page(answer.next_url)
            rows += answer.records
        return rows

    def next_page(self, next_url: str) -> QueryResult:
        """Go on with a query whose answer said ``done: false``.

        Raises:
            CursorExpired: Salesforce does not know the query any more.
        """
        # A paging link is data from outside: it may not lead the token to another host.
        if not next_url.startswith(f"{_DATA_PATH}v{self._version}/query"):
            raise MalformedAnswer(
                self.connection, "Salesforce sent a paging link that leaves its query address."
            )
        return self._result(lambda sf: sf.query_more(next_url, identifier_is_url=True))

    def count(self, soql_after_from: str) -> int:
        """How many rows ``SELECT COUNT() FROM …`` finds, deleted ones included."""
        return self.query(f"SELECT COUNT() FROM {soql_after_from}").total  # noqa: S608  # names checked against describe

    def describe(self, object_name: str) -> tuple[Json, datetime]:
        """What the connected user sees of an object, and the server's time.

        Raises:
            NotFound: there is no such object for this user.
        """
        answer = self.get(f"sobjects/{quote(object_name, safe='')}/describe")
        if not isinstance(answer.get("fields"), list):
            raise MalformedAnswer(
                self.connection, f"The description of {object_name} has no fields."
            )
        return answer, self.server_time()

    def deleted(self, object_name: str, start: datetime, end: datetime) -> Json:
        """Ids deleted between two instants, as ``getDeleted`` knows them (15 days at most).

        Raises:
            DeletionsUnknown: the log does not reach back to `start`.
        """
        answer = self.get(
            f"sobjects/{quote(object_name, safe='')}/deleted/",
            params={"start": _stamp(start), "end": _stamp(end)},
        )
        if not isinstance(answer.get("deletedRecords"), list):
            raise MalformedAnswer(self.connection, "The list of deletions has no records.")
        return answer

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """GET a resource below ``/services/data/vNN.0/`` that answers with a JSON object."""
        return self._read(
            lambda: self._object(self._call(lambda sf: sf.restful(path, params=dict(params or {}))))
        )

    # ------------------------------------------------------------ writing

    def write(
        self,
        path: str,
        body: object,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> object:
        """Send a change once; only what certainly did not take effect is sent again.

        Returns:
            The JSON of the answer, None for an empty one.

        Raises:
            NothingDone: Salesforce could not be reached or did not serve, however often asked.
            AnswerLost: what became of the change is unknown.
        """
        text = exact_json(body)

        def send() -> object:
            try:
                return self._call(
                    lambda sf: sf.restful(
                        path, method=method, data=text, headers=dict(headers or {})
                    )
                )
            except (NothingDone, AnswerLost):
                raise
            except (CrmUnavailable, MalformedAnswer) as error:
                raise AnswerLost(self.connection, error.message) from None

        return self._retry.call(send)

    # ------------------------------------------------------------ who and where

    def log_in(self) -> None:
        """Make sure of a token; the ready token is not tested by this."""
        self._retry.call(self._connected)

    def org_id(self) -> str | None:
        """The id of the org behind the credentials, with 18 characters, where it may be known."""
        self._identify()
        return self._org_id

    def user_id(self) -> str | None:
        """The id of the connected user, where it may be known."""
        self._identify()
        return self._user_id

    def _identify(self) -> None:
        """Who we are: from the login's answer, else as told to the bearer of a ready token.

        See Salesforce Help, "The UserInfo Endpoint": it may be closed to a token, and so may
        the Organization object.
        """
        self.log_in()
        if self._org_id is not None or self._has_asked_who:
            return
        self._has_asked_who = True
        with suppress(PermissionMissing, RequestRefused, MisconfiguredConnection):
            known = self._read(lambda: self._object(self._call(lambda sf: sf.oauth2("userinfo"))))
            self._remember(str(known.get("organization_id")), str(known.get("user_id")))
        if self._org_id is None:
            with suppress(PermissionMissing, RequestRefused, MisconfiguredConnection):
                rows = self.query("SELECT Id FROM Organization LIMIT 1", deleted_too=False).records
                found = str(rows[0].get("Id")) if rows else ""
                self._org_id = long_id(found) if is_id(found) else None

    def server_time(self) -> datetime:
        """The server's clock in its latest answer (whole seconds, UTC)."""
        try:
            return parsedate_to_datetime(self._session.last.headers["Date"]).astimezone(UTC)
        except (KeyError, ValueError):
            # Nobody's clock but ours is left; too early is safe, too late would skip rows.
            return (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0)

    def uri_bytes(self, soql: str) -> int:
        """Length of the request line that carries a query."""
        host = self._base_url or "https://" + "h" * 60
        encoded = quote(soql, safe="").replace("%20", "+")
        return len(f"{host}{_DATA_PATH}v{self._version}/queryAll/?q={encoded}")

    @property
    def can_renew(self) -> bool:
        """A refused token can be replaced by logging in again."""
        return self._flow != "token"

    def close(self) -> None:
        """Give sockets back."""
        self._session.close()

    # ------------------------------------------------------------ one call

    def _result(self, ask: Callable[[Salesforce], object]) -> QueryResult:
        return self._read(lambda: self._page(self._call(ask)))

    def _read(self, operation: Callable[[], T]) -> T:
        self._quota.ensure_left()
        return self._retry.call(operation)

    def _page(self, answer: object) -> QueryResult:
        page = self._object(answer)
        records, done, total = page.get("records"), page.get("done"), page.get("totalSize")
        if not isinstance(records, list) or not isinstance(done, bool) or type(total) is not int:
            raise MalformedAnswer(
                self.connection, "Salesforce's answer to a query lacks records, done or totalSize."
            )
        next_url = page.get("nextRecordsUrl")
        if not done and not isinstance(next_url, str):
            raise MalformedAnswer(
                self.connection, "Salesforce's answer is not done and does not say how to go on."
            )
        return QueryResult(
            records=records,
            total=total,
            next_url=None if done else cast("str", next_url),
            server_time=self.server_time(),
        )

    def _object(self, answer: object) -> Json:
        if not isinstance(answer, Mapping):
            raise MalformedAnswer(self.connection, "Salesforce's answer is not a JSON object.")
        return answer

    def _call(self, ask: Callable[[Salesforce], T]) -> T:
        """One call; a refused token is renewed once, and the call repeated once."""
        library = self._connected()
        try:
            return self._translated(lambda: ask(library))
        except ExpiredSessionError as expired:
            if not self.can_renew:
                raise AuthenticationFailed(
                    self.connection,
                    "Salesforce no longer accepts the access token, and a ready token cannot be"
                    " renewed. Put a new one into auth.access_token, or use flow:"
                    f" client_credentials. ({expired.message})",
                ) from None
            library = self._renewed(library)
        try:
            return self._translated(lambda: ask(library))
        except ExpiredSessionError as refused:
            raise AuthenticationFailed(
                self.connection,
                "Salesforce refuses even a fresh token. Check that the connected user is active,"
                f" may use the API and may log in from this address. ({refused.message})",
            ) from None

    def _translated(self, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except SalesforceError as error:
            raise translate(
                self.connection, error.status, error.content, self._session.last.headers
            ) from None
        except requests.RequestException as error:
            raise self._no_answer(error) from None
        except (ValueError, TypeError) as error:
            # TypeError: simple-salesforce takes the length of whatever JSON it got.
            raise MalformedAnswer(
                self.connection,
                f"Salesforce's answer is not the JSON it should be ({type(error).__name__}):"
                f" {refusal_of(self._session.last.body[:300]).message[:120]!r}",
            ) from None
        self._quota.note(self._session.last.headers)
        return answer

    def _no_answer(self, error: requests.RequestException) -> ConnectorError:
        host = self._base_url or _host_of(error) or "Salesforce"
        if isinstance(error, requests.exceptions.JSONDecodeError):
            return MalformedAnswer(self.connection, "Salesforce's answer is not JSON.")
        if isinstance(error, requests.exceptions.SSLError):
            return MisconfiguredConnection(
                self.connection,
                f"The certificate of {host} is not trusted. Check the address and the proxy"
                " between here and Salesforce.",
            )
        if isinstance(error, requests.exceptions.ReadTimeout):
            return CrmUnavailable(self.connection, f"{host} did not answer in time.")
        if isinstance(error, requests.exceptions.ConnectTimeout) or _never_opened(error):
            return NothingDone(
                self.connection,
                f"{host} cannot be reached. Check the address (auth.domain or base_url), the"
                " network and the proxy.",
            )
        return CrmUnavailable(self.connection, f"The connection to {host} broke off.")

    # ------------------------------------------------------------ logging in

    @property
    def _flow(self) -> str:
        return self._auth.get("flow") or ("token" if "access_token" in self._auth else "")

    def _connected(self) -> Salesforce:
        if self._library is None:
            with self._login_lock:
                if self._library is None:
                    self._library = self._log_in_unless_refused()
        return self._library

    def _log_in_unless_refused(self) -> Salesforce:
        """A refused login is not tried again at once: repeated failures lock the user out."""
        if self._refusal is not None and monotonic() < self._refusal_ends:
            raise self._refusal
        try:
            return self._logged_in()
        except AuthenticationFailed as refusal:
            self._refusal = refusal
            self._refusal_ends = monotonic() + REFUSAL_SECONDS
            raise

    def _renewed(self, refused: Salesforce) -> Salesforce:
        """A library with a new token; one thread renews, the others wait and use it."""
        with self._login_lock:
            if self._library is refused:
                self._library = self._logged_in()
            assert self._library is not None  # noqa: S101  # set by whoever logged in first
            return self._library

    def _logged_in(self) -> Salesforce:
        if self._flow == "token":
            token, host = self._ready_token()
        elif self._flow in {"client_credentials", ""}:
            token, host = self._token_for_client()
        else:
            raise MisconfiguredConnection(
                self.connection,
                f"auth.flow {self._flow} is not supported. Use client_credentials, or token with"
                " access_token and instance_url.",
            )
        return Salesforce(
            session_id=token,
            instance_url=f"https://{host}",
            session=self._session,
            version=self._version,
            object_pairs_hook=dict,
        )

    def _ready_token(self) -> tuple[str, str]:
        url = self._needed("instance_url", "the full address of your org")
        host = urlsplit(url if "//" in url else f"https://{url}").netloc
        if not host:
            raise MisconfiguredConnection(
                self.connection,
                "auth.instance_url is not an address; write it in full, such as"
                " https://acme.my.salesforce.com.",
            )
        return self._needed("access_token", "a token of the org"), host

    def _token_for_client(self) -> tuple[str, str]:
        domain = _my_domain(self._auth.get("domain", ""))
        if domain in _LOGIN_HOSTS:
            raise MisconfiguredConnection(
                self.connection,
                "The client credentials flow needs your My Domain: set auth.domain to the part"
                " before .salesforce.com (Setup > My Domain), such as acme.my, or"
                " acme--uat.sandbox.my for a sandbox.",
            )
        try:
            token, host = SalesforceLogin(
                consumer_key=self._needed("client_id", "the app's consumer key"),
                consumer_secret=self._needed("client_secret", "the app's consumer secret"),
                domain=domain,
                session=self._session,
                sf_version=self._version,
            )
        except SalesforceAuthenticationFailed as error:
            raise self._login_refused(error) from None
        except requests.RequestException as error:
            raise self._no_answer(error) from None
        except (AttributeError, TypeError, ValueError):
            raise MalformedAnswer(
                self.connection, "Salesforce's answer to the login is not what it should be."
            ) from None
        if not token or not host:
            raise MalformedAnswer(self.connection, "Salesforce's answer to the login has no token.")
        self._remember_identity()
        return str(token), str(host)

    def _login_refused(self, error: SalesforceAuthenticationFailed) -> ConnectorError:
        # The library reports 401 for everything, so look at the answer itself.
        status = self._session.last.status
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return translate(
                self.connection, status, error.auth_message, self._session.last.headers
            )
        if isinstance(error.code, int):
            return MalformedAnswer(
                self.connection,
                f"The login answered {error.code} with a page instead of a token."
                " Check auth.domain: is it your org's My Domain?",
            )
        return AuthenticationFailed(
            self.connection,
            f"Salesforce refuses the login: {error.auth_message or 'no reason given'}"
            f" ({error.code}). Check auth.client_id and auth.client_secret, and that the app"
            " allows the client credentials flow with a run-as user.",
        )

    def _remember_identity(self) -> None:
        """The login's ``id`` (``…/id/00D…/005…``) names org and user; the library drops it."""
        last = self._session.last
        if not last.path.endswith(_TOKEN_PATH):
            return
        try:
            identity = str(json.loads(last.body).get("id", ""))
        except (ValueError, AttributeError):
            return
        *_, org, user = ["", "", *identity.split("/")]
        self._remember(org, user)

    def _remember(self, org: str, user: str) -> None:
        if is_id(org) and is_id(user):
            self._org_id, self._user_id = long_id(org), long_id(user)

    def _needed(self, key: str, what: str) -> str:
        value = self._auth.get(key)
        if not value:
            raise MisconfiguredConnection(self.connection, f"auth.{key} is missing: {what}.")
        return value


def _my_domain(text: str) -> str:
    """What stands before ``.salesforce.com``, from whatever way of writing it."""
    host = urlsplit(text).netloc if "//" in text else text.partition("/")[0]
    return host.strip().lower().removesuffix(".salesforce.com")


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _host_of(error: requests.RequestException) -> str | None:
    url = error.request.url if error.request is not None else None
    return urlsplit(url).netloc if isinstance(url, str) else None


def _never_opened(error: requests.RequestException) -> bool:
    """The TCP connection was refused or the name is unknown, so nothing was sent."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError"}
