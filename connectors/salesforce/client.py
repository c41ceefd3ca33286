"""The only module that talks to Salesforce, through simple-salesforce.

It renews the token once when it is refused (simple-salesforce would loop and drop our headers),
retries what can be retried, keeps to the budget of calls, and translates every failure into
``connectors.errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import IO, Any, Final, TypeVar, cast
from urllib.parse import quote, urlencode

import requests
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError

from connectors.base import CallCounter, ConnectionSettings
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    OrgChanged,
    PermissionMissing,
    RequestRefused,
)
from connectors.retry import RetryPolicy
from connectors.salesforce.exactjson import exact_json
from connectors.salesforce.faults import (
    AnswerLost,
    ExpiredSessionError,
    NothingDone,
    Unparsable,
    no_answer,
    refusal_of,
    translate,
)
from connectors.salesforce.ids import is_id, long_id
from connectors.salesforce.login import Login, Token, refused_fresh_token
from connectors.salesforce.login_faults import clock_skew
from connectors.salesforce.quota import CallBudget
from connectors.salesforce.tokens import SharedToken
from connectors.salesforce.transport import Session

API_VERSION: Final = "62.0"
LONGEST_URI: Final = 12_000
"""Bytes of a request line we allow ourselves; Salesforce refuses above 16,384."""

_DATA_PATH: Final = "/services/data/"
_MOST_TOKENS: Final = 3
"""Tokens tried for one call: other processes may renew theirs in the same moment."""

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
        self.budget = CallBudget(settings)
        self._version = (settings.api_version or API_VERSION).removeprefix("v")
        self._base_url = settings.base_url
        self._session = Session(settings.tuning, calls, settings.base_url, self.budget.count)
        self._retry = RetryPolicy(settings.tuning, settings.on_wait)
        self._login = Login(
            settings.name,
            settings.auth,
            self._session,
            version=self._version,
            base_url=settings.base_url,
        )
        self._tokens = SharedToken(settings, self._login)
        self._library: tuple[str, Salesforce] | None = None
        self._told: tuple[str | None, str | None] | None = None
        self._strange_org: str | None = None
        """Why nothing is asked any more, until somebody looks which org this is."""
        self._has_asked_limits = False

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

    def read(self, ask: Callable[[Salesforce], T]) -> T:
        """Make a reading call through the library itself, guarded like every other.

        Raises:
            ConnectorError: see ``faults.translate``.
        """
        return self._read(lambda: self._call(ask))

    def download(
        self, path: str, into: IO[bytes], params: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """GET a resource that is no JSON (the CSV of a bulk job) into a file, from its start.

        Returns:
            The headers of the answer.
        """

        def fetch() -> Mapping[str, str]:
            into.seek(0)
            into.truncate()
            return self._call(lambda sf: self._downloaded(sf, path, into, params or {}))

        headers = self._read(fetch)
        into.seek(0)
        return headers

    def _downloaded(
        self, library: Salesforce, path: str, into: IO[bytes], params: Mapping[str, str]
    ) -> Mapping[str, str]:
        url = f"{library.base_url}{path}{'?' if params else ''}{urlencode(params)}"
        answer = self._session.download(url, into, {**library.headers, "Accept": "text/csv"})
        if answer.status_code != HTTPStatus.OK:
            raise self._fault(answer.status_code, _body_of(answer), answer.headers)
        return answer.headers

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
            QuotaExhausted: no calls are left for it; nothing was sent.
        """
        text = exact_json(body)
        return self._sent_once(
            lambda sf: sf.restful(path, method=method, data=text, headers=dict(headers or {}))
        )

    def upload(self, path: str, text: bytes) -> None:
        """PUT the CSV of a bulk job; see `write` for what it raises."""
        self._sent_once(lambda sf: self._uploaded(sf, path, text))

    def _uploaded(self, library: Salesforce, path: str, text: bytes) -> None:
        # Not by the library: it takes the empty answer to an upload for broken JSON.
        kinds = {"Content-Type": "text/csv; charset=UTF-8", "Accept": "application/json"}
        answer = self._session.put(
            f"{library.base_url}{path}", data=text, headers={**library.headers, **kinds}
        )
        if not answer.ok:
            raise self._fault(answer.status_code, _body_of(answer), answer.headers)

    def _sent_once(self, ask: Callable[[Salesforce], object]) -> object:
        self.budget.ensure_left()

        def send() -> object:
            try:
                return self._call(ask)
            except (NothingDone, AnswerLost):
                raise
            except (CrmUnavailable, MalformedAnswer) as error:
                raise AnswerLost(self.connection, error.message) from None

        return self._retry.call(send)

    # ------------------------------------------------------------ who and where

    def log_in(self) -> None:
        """Make sure of a token; the ready token is not tested by this."""
        self._retry.call(self._tokens.current)

    @property
    def login_warnings(self) -> tuple[str, ...]:
        """Sentences for people about the way of logging in."""
        return self._login.warnings

    def org_id(self) -> str | None:
        """The id of the org behind the credentials, with 18 characters, where it may be known."""
        self._strange_org = None
        return self._identity()[0]

    def user_id(self) -> str | None:
        """The id of the connected user, where it may be known."""
        return self._identity()[1]

    def _identity(self) -> tuple[str | None, str | None]:
        """Org and user: from the login's answer, else as told to the bearer of a ready token.

        See Salesforce Help, "The UserInfo Endpoint": it may be closed to a token, and so may
        the Organization object.
        """
        self.log_in()
        token = self._tokens.current()
        if token.org_id is not None:
            return token.org_id, token.user_id
        if self._told is None:
            self._told = self._asked_who()
        return self._told

    def _asked_who(self) -> tuple[str | None, str | None]:
        with suppress(PermissionMissing, RequestRefused, MisconfiguredConnection):
            known = self._read(lambda: self._object(self._call(lambda sf: sf.oauth2("userinfo"))))
            org, user = str(known.get("organization_id")), str(known.get("user_id"))
            if is_id(org) and is_id(user):
                return long_id(org), long_id(user)
        with suppress(PermissionMissing, RequestRefused, MisconfiguredConnection):
            rows = self.query("SELECT Id FROM Organization LIMIT 1", deleted_too=False).records
            found = str(rows[0].get("Id")) if rows else ""
            return (long_id(found) if is_id(found) else None), None
        return None, None

    def served_versions(self) -> frozenset[str]:
        """The API versions that the org's host serves (``62.0``); empty where it does not say."""
        host = self._tokens.current().host

        def ask() -> object:
            try:
                return _body_of(self._session.get(f"https://{host}{_DATA_PATH}"))
            except requests.RequestException as error:
                raise no_answer(self.connection, error, self._base_url) from None

        answer = self._retry.call(ask)
        rows = answer if isinstance(answer, list) else []
        return frozenset(str(row.get("version")) for row in rows if isinstance(row, Mapping))

    @property
    def version(self) -> str:
        """The API version in use, such as ``62.0``."""
        return self._version

    @property
    def clock_skew(self) -> float:
        """Seconds by which this machine's clock is ahead of the server's in its latest answer."""
        return clock_skew(self._session.last.headers)

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
        return self._login.can_renew

    def close(self) -> None:
        """Give sockets back."""
        self._session.close()

    # ------------------------------------------------------------ one call

    def _result(self, ask: Callable[[Salesforce], object]) -> QueryResult:
        return self._read(lambda: self._page(self._call(ask)))

    def _read(self, operation: Callable[[], T]) -> T:
        self._learn_limits()
        self.budget.ensure_left()
        return self._retry.call(operation)

    def _learn_limits(self) -> None:
        """Ask for the org's limit where a share of it may be used and no answer has named it."""
        if not self.budget.wants_limits or self._has_asked_limits:
            return
        self._has_asked_limits = True
        with suppress(PermissionMissing, RequestRefused):
            answer = self._retry.call(lambda: self._object(self._call(lambda sf: sf.limits())))
            self.budget.note_limits(answer)

    def _page(self, answer: object) -> QueryResult:
        page = self._object(answer)
        records, done, total = page.get("records"), page.get("done"), page.get("totalSize")
        if not isinstance(records, list) or not isinstance(done, bool) or type(total) is not int:
            raise MalformedAnswer(
                self.connection, "Salesforce's answer to a query lacks records, done or totalSize."
            )
        # Sums have no id; where one row has, each has.
        has_ids = {isinstance(row, Mapping) and "Id" in row for row in records}
        if not all(isinstance(row, Mapping) for row in records) or len(has_ids) > 1:
            raise MalformedAnswer(
                self.connection, "Salesforce's answer to a query has rows that are no records."
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
        """One call; a refused token is renewed once, and the call repeated with all it carried."""
        if self._strange_org is not None:
            raise OrgChanged(self.connection, self._strange_org)
        token, is_fresh = self._tokens.current(), False
        refused = ""
        for _ in range(_MOST_TOKENS):
            library = self._library_for(token)
            try:
                return self._translated(lambda: ask(library))  # noqa: B023  # called at once
            except ExpiredSessionError as expired:
                refused = expired.message
            if not self.can_renew:
                raise AuthenticationFailed(
                    self.connection,
                    "Salesforce no longer accepts the access token, and a ready token cannot be"
                    " renewed. Put a new one into auth.access_token, or use flow:"
                    f" client_credentials. ({refused})",
                )
            if is_fresh:
                break
            before = token
            token, is_fresh = self._tokens.renewed(before)
            self._ensure_same_org(before, token)
        refusal = refused_fresh_token(self.connection, refused)
        self._tokens.refuse(refusal)
        raise refusal

    def _ensure_same_org(self, before: Token, now: Token) -> None:
        """A sandbox that was refreshed refuses the old token, and is another org from then on."""
        if before.org_id and now.org_id and before.org_id != now.org_id:
            self._strange_org = (
                f"The credentials lead to org {now.org_id}, and led to {before.org_id} before."
            )
            raise OrgChanged(self.connection, self._strange_org)

    def _library_for(self, token: Token) -> Salesforce:
        if self._library is None or self._library[0] != token.text:
            library = Salesforce(
                session_id=token.text,
                instance_url=f"https://{token.host}",
                session=self._session,
                version=self._version,
                object_pairs_hook=dict,
            )
            # Indented JSON is half as large again, and nobody here reads it.
            library.headers.pop("X-PrettyPrint", None)
            self._library = token.text, library
        return self._library[1]

    def _fault(self, status: int, body: object, headers: Mapping[str, str]) -> ConnectorError:
        return translate(self.connection, status, body, headers, quota_pause=self.budget.pause)

    def _translated(self, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except SalesforceError as error:
            self.budget.note(self._session.last.headers)
            raise self._fault(error.status, error.content, self._session.last.headers) from None
        except requests.RequestException as error:
            raise no_answer(self.connection, error, self._base_url) from None
        except (ValueError, TypeError, RecursionError) as error:
            # TypeError: simple-salesforce takes the length of whatever JSON it got.
            body = self._session.last.body.strip()
            is_whole = body.startswith(b"{") and body.endswith(b"}")
            raise (Unparsable if is_whole else MalformedAnswer)(
                self.connection,
                f"Salesforce's answer is not the JSON it should be ({type(error).__name__}):"
                f" {refusal_of(self._session.last.body[:300]).message[:120]!r}",
            ) from None
        self.budget.note(self._session.last.headers)
        return answer


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _body_of(answer: requests.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return answer.text
