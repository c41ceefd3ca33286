"""HubSpot over HTTP: the one place that knows its client library, and what its calls can bring.

The library keeps authentication, paths and errors; answers are taken raw, because its models
cost thirty times the decoding and turn a cut body into an empty page. Above this module only
``connectors.errors`` exist. Every call has a deadline, is counted, and waits for the shared
rate limits first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from io import BytesIO
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from hubspot import HubSpot
from urllib3 import BaseHTTPResponse, HTTPResponse, PoolManager
from urllib3.exceptions import HTTPError, ReadTimeoutError

from connectors.base import CallCounter, ConnectionSettings
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    QuotaExhausted,
)
from connectors.hubspot import faults
from connectors.hubspot.faults import AnswerLost, DailyLimitReached
from connectors.hubspot.paths import ACCOUNT_DETAILS, DAILY_USAGE, LEGACY, is_version, versioned
from connectors.limits import Rate, SharedLimiter
from connectors.retry import RetryPolicy

Json: TypeAlias = Mapping[str, Any]
"""A JSON object of HubSpot; it travels no further than this package."""

HOST: Final = "https://api.hubapi.com"

BURST: Final = Rate(calls=100, seconds=10)
"""What every portal allows; an answer's headers may say more."""
SEARCHES: Final = Rate(calls=5, seconds=1)
"""Of the whole account, shared by all apps; searches do not count in the burst."""

LIST_LIMIT: Final = 100
SEARCH_LIMIT: Final = 200
READ_LIMIT: Final = 100
HISTORY_LIMIT: Final = 50
"""Inputs of a batch read that asks for the history of a property."""
LINKS_LIMIT: Final = 1000
WRITE_LIMIT: Final = 100
OWNERS_LIMIT: Final = 100

_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What HubSpot said, and when by its own clock."""

    content: Json
    at: datetime

    @property
    def results(self) -> Sequence[Json]:
        """The records of a list, batch or search."""
        results: Sequence[Json] = self.content["results"]
        return results

    @property
    def after(self) -> str | None:
        """Where the next page begins; None: this was the last one."""
        paging = self.content.get("paging") or {}
        after = (paging.get("next") or {}).get("after")
        return None if after in {None, ""} else str(after)


@dataclass(frozen=True, slots=True)
class Account:
    """The portal: who it is, and what its days and money are."""

    portal_id: str
    timezone: str | None
    currency: str | None


class Unparsable(MalformedAnswer):
    """A whole JSON text that no reader takes: some record in it is poison.

    Asking again brings the same; asking for fewer records helps.
    """

    retryable = False


class HubSpotClient:
    """Typed calls of one connection; each returns JSON that is what it should be.

    Args:
        settings: The connection; ``auth`` holds the flow ``token`` and its ``token``.
        calls: Counts every request that goes out.

    Raises:
        MisconfiguredConnection: the authentication or the API version cannot work.
    """

    def __init__(self, settings: ConnectionSettings, calls: CallCounter) -> None:
        self.connection = settings.name
        self._settings = settings
        self._calls = calls
        self._token = _token(settings)
        self._version = _version(settings)
        self._host = (settings.base_url or HOST).rstrip("/")
        tuning = settings.tuning
        self._timeouts = (
            tuning.connect_timeout.total_seconds(),
            tuning.read_timeout.total_seconds(),
        )
        self._policy = RetryPolicy(tuning, settings.on_wait)
        self._pool = _BoundedPool(tuning.total_timeout.total_seconds())
        self._burst_rate = BURST
        self._burst = self._limiter("burst", _short_of(BURST))
        self._searches = self._limiter("search", SEARCHES)
        # `base_url` serves the library's untyped requests, `host` everything else.
        self._library = HubSpot(
            access_token=self._token,
            host=self._host,
            base_url=self._host,
            retry=False,
            api_factory=self._api,
        )

    def close(self) -> None:
        """Give connections back."""
        self._pool.clear()

    # ------------------------------------------------------------ reading

    @cached_property
    def account(self) -> Account:
        """The portal's identity, zone and currency; asked once."""
        answer = self._read(
            lambda: self._get(ACCOUNT_DETAILS), lambda content: "portalId" in content
        )
        content = answer.content
        return Account(
            portal_id=str(content["portalId"]),
            timezone=content.get("timeZone") or None,
            currency=content.get("companyCurrency") or None,
        )

    def properties(self, object_name: str) -> Answer:
        """The properties of an object that the token may see."""
        api = self._properties_api
        return self._read(lambda: api.get_all(object_name, **self._raw))

    def pipelines(self, object_name: str) -> Answer:
        """The pipelines of an object with their stages."""
        api = self._pipelines_api
        return self._read(lambda: api.get_all(object_name, **self._raw))

    def owners(
        self,
        *,
        archived: bool,
        after: str | None,
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """One page of the owners, active or archived; `is_sound` as in `search`."""
        api = self._owners_api
        return self._read(
            lambda: api.get_page(
                limit=OWNERS_LIMIT, archived=_flag(archived), **_after(after), **self._raw
            ),
            is_sound=is_sound,
        )

    def page(
        self,
        object_name: str,
        *,
        after: str | None,
        limit: int,
        archived: bool = False,
        properties: Sequence[str] = ("hs_object_id",),
        history: Sequence[str] = (),
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """One page of an object's records in the order of their ids; ids only by default.

        Args:
            object_name: Which object.
            after: Where the page begins; None: at the beginning.
            limit: Most records; no page has more than HubSpot allows.
            archived: List the archived records, and only them.
            properties: Names of the properties to read.
            history: Names of the properties whose past to read.
            is_sound: What this page has to be beside well-formed; another is asked for again.
        """
        api = self._objects_api

        def is_of_its_kind(answer: Answer) -> bool:
            # A live record taken for an archived one would leave every number.
            return all(bool(row.get("archived")) is archived for row in answer.results) and (
                is_sound is None or is_sound(answer)
            )

        past = {"properties_with_history": list(history)} if history else {}
        return self._read(
            lambda: api.get_page(
                object_name,
                limit=min(limit, HISTORY_LIMIT if history else LIST_LIMIT),
                properties=list(properties),
                archived=_flag(archived),
                **past,
                **_after(after),
                **self._raw,
            ),
            is_sound=is_of_its_kind,
        )

    def resource(
        self,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        is_complete: Callable[[Json], bool] | None = None,
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """An answer from a path that the client library has no method for.

        Args:
            path: One of ``connectors.hubspot.paths``, as the oldest version has it.
            query: Parameters of the address.
            is_complete: What its JSON has to have; by default a list ``results``.
            is_sound: As in `search`.
        """
        return self._read(lambda: self._get(path, query), is_complete, is_sound=is_sound)

    def search(self, object_name: str, request: Json, is_sound: Callable[[Answer], bool]) -> Answer:
        """One page of a search.

        Args:
            object_name: Which object.
            request: The search's JSON.
            is_sound: What this page has to be beside well-formed; another is asked for again.
        """
        api = self._search_api
        return self._read(
            lambda: api.do_search(object_name, request, **self._raw),
            limiter=self._searches,
            is_sound=is_sound,
        )

    def batch_read(
        self,
        object_name: str,
        ids: Iterable[str],
        properties: Sequence[str],
        history: Sequence[str],
        is_settled: Callable[[Answer], bool],
    ) -> Answer:
        """Values of records by id; unknown ids are told in ``errors``.

        An answer that is not settled is asked for again, and the last one given back as it is.
        """
        api = self._batch_api
        request = {
            "inputs": [{"id": record_id} for record_id in ids],
            "properties": list(properties),
            "propertiesWithHistory": list(history),
        }
        return self._read_settled(lambda: api.read(object_name, request, **self._raw), is_settled)

    def get(self, object_name: str, record_id: str, properties: Sequence[str]) -> Json | None:
        """One record, the winner where it was merged away; None: there is none."""
        api = self._objects_api
        try:
            answer = self._read(
                lambda: api.get_by_id(
                    object_name, record_id, properties=list(properties), **self._raw
                ),
                lambda content: "id" in content,
            )
        except faults.Refused as refusal:
            if refusal.status == faults.NOT_FOUND:
                return None
            raise
        return answer.content

    def links(
        self,
        from_object: str,
        to_object: str,
        inputs: Sequence[Json],
        is_settled: Callable[[Answer], bool],
    ) -> Answer:
        """Associations of records by id; settled as in `batch_read`."""
        api = self._associations_api
        request = {"inputs": list(inputs)}
        return self._read_settled(
            lambda: api.get_page(from_object, to_object, request, **self._raw), is_settled
        )

    # ------------------------------------------------------------ writing

    def batch_update(self, object_name: str, inputs: Sequence[Json]) -> Answer:
        """Set properties of records by id.

        Raises:
            AnswerLost, MalformedAnswer: it may have been done; never repeated in here.
        """
        api = self._batch_api
        return self._write(lambda: api.update(object_name, {"inputs": list(inputs)}, **self._raw))

    def create_group(self, object_name: str, group: Json) -> None:
        """Create a group of properties."""
        api = self._groups_api
        self._write(lambda: api.create(object_name, dict(group), **self._raw), _is_object)

    def create_property(self, object_name: str, definition: Json) -> None:
        """Create a property."""
        api = self._properties_api
        self._write(lambda: api.create(object_name, dict(definition), **self._raw), _is_object)

    # ------------------------------------------------------------ the seam

    def _read(
        self,
        request: Callable[[], Any],
        is_complete: Callable[[Json], bool] | None = None,
        *,
        limiter: SharedLimiter | None = None,
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        def once() -> Answer:
            answer = self._send(request, is_complete or _has_results, limiter)
            if is_sound is not None and not is_sound(answer):
                raise MalformedAnswer(
                    self.connection, "HubSpot sent a page that is not the one asked for."
                )
            return answer

        return self._policy.call(once)

    def _read_settled(
        self, request: Callable[[], Any], is_settled: Callable[[Answer], bool]
    ) -> Answer:
        seen: list[Answer] = []

        def is_sound(answer: Answer) -> bool:
            seen.append(answer)
            return is_settled(answer)

        try:
            return self._read(request, is_sound=is_sound)
        except MalformedAnswer:
            if not seen:
                raise
            return seen[-1]

    def _write(
        self, request: Callable[[], Any], is_complete: Callable[[Json], bool] | None = None
    ) -> Answer:
        lost: list[ConnectorError] = []

        def once() -> Answer | None:
            try:
                return self._send(request, is_complete or _has_results, None)
            except (AnswerLost, MalformedAnswer) as error:
                # What may have been done is not done again before somebody has looked.
                lost.append(error)
                return None

        answer = self._policy.call(once)
        if answer is None:
            raise lost[-1]
        return answer

    def _send(
        self,
        request: Callable[[], Any],
        is_complete: Callable[[Json], bool],
        limiter: SharedLimiter | None,
    ) -> Answer:
        try:
            response = self._accepted(request, limiter or self._burst)
        except DailyLimitReached as error:
            until = self._quota_until(error.wait_seconds)
            raise QuotaExhausted(self.connection, error.message, until) from error
        self._learn_rate(response)
        return self._answer(response, is_complete)

    def _accepted(self, request: Callable[[], Any], limiter: SharedLimiter) -> HTTPResponse:
        try:
            return self._attempt(request, limiter)
        except AuthenticationFailed:
            # A 401 in the midst of a run is sometimes a hiccup of HubSpot's own.
            return self._attempt(request, limiter)

    def _attempt(self, request: Callable[[], Any], limiter: SharedLimiter) -> HTTPResponse:
        limiter.take()
        self._calls.made += 1
        try:
            response: HTTPResponse = request()
        except HTTPError as error:
            raise faults.unanswered(self.connection, self._host, error) from None
        except Exception as error:
            translated = self._translated(error)
            if translated is None:
                raise
            raise translated from None
        return response

    def _translated(self, error: Exception) -> ConnectorError | None:
        """The library's exceptions share no base: they are known by what they carry."""
        # It also stumbles over bodies that are no UTF-8; its exception is then the context.
        for candidate in (error, error.__context__):
            status = getattr(candidate, "status", None)
            if not isinstance(status, int):
                continue
            if status == 0:
                return CrmUnavailable(
                    self.connection, "A secure connection to HubSpot cannot be made (TLS)."
                )
            body = getattr(candidate, "body", None)
            return self._redacted(
                faults.answered(self.connection, status, getattr(candidate, "headers", None), body)
            )
        return None

    def _redacted(self, error: ConnectorError) -> ConnectorError:
        if self._token in error.message:
            error.message = error.message.replace(self._token, "[secret]")
            error.args = (error.args[0], error.message, *error.args[2:])
        return error

    def _answer(self, response: HTTPResponse, is_complete: Callable[[Json], bool]) -> Answer:
        content = self._decoded(response.data)
        if not isinstance(content, dict) or not is_complete(content):
            raise MalformedAnswer(
                self.connection, "HubSpot sent JSON that is not the answer to the question."
            )
        return Answer(content, self._clock(response))

    def _decoded(self, body: bytes) -> object:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass
        try:
            # Slower, and takes lone surrogates, which HubSpot's texts may carry.
            return json.loads(body)
        except (ValueError, RecursionError):
            text = body.strip()
            if text.startswith(b"{") and text.endswith(b"}"):
                raise Unparsable(
                    self.connection, "HubSpot sent JSON that cannot be read."
                ) from None
            kind = "a web page" if text.startswith(b"<") else "no JSON" if text else "nothing"
            raise MalformedAnswer(
                self.connection, f"HubSpot answered with {kind} instead of data."
            ) from None

    def _clock(self, response: HTTPResponse) -> datetime:
        try:
            at = parsedate_to_datetime(response.headers["Date"])
        except (KeyError, ValueError):
            raise MalformedAnswer(
                self.connection, "HubSpot's answer does not say when it was given (no Date header)."
            ) from None
        return at.astimezone(UTC)

    # ------------------------------------------------------------ limits

    def _limiter(self, scope: str, rate: Rate) -> SharedLimiter:
        return SharedLimiter(
            storage=self._settings.limits_storage,
            connection=self.connection,
            scope=f"hubspot:{self._host}:{self.connection}:{scope}",
            rates=[rate],
            on_wait=self._settings.on_wait,
        )

    def _learn_rate(self, response: HTTPResponse) -> None:
        """Take the portal's own burst limit from its headers; search answers carry none."""
        calls = response.headers.get("X-HubSpot-RateLimit-Max", "")
        milliseconds = response.headers.get("X-HubSpot-RateLimit-Interval-Milliseconds", "")
        if not (calls.isdecimal() and milliseconds.isdecimal()):
            return
        rate = Rate(max(1, int(calls)), max(1, int(milliseconds) // 1000))
        if rate != self._burst_rate:
            self._burst_rate = rate
            self._burst = self._limiter("burst", _short_of(rate))
            self._burst.take()  # counts the call whose answer this is

    def _quota_until(self, wait_seconds: float | None) -> datetime:
        """When the day's calls are given again: as told, or the portal's next midnight."""
        now = datetime.now(UTC)
        if wait_seconds is not None:
            return now + timedelta(seconds=wait_seconds)
        try:
            response = self._attempt(lambda: self._get(DAILY_USAGE), self._burst)
            reset = _reset(self._answer(response, _is_object).content)
        except ConnectorError:
            reset = None
        if reset is not None and reset > now:
            return reset
        zone = self._portal_zone()
        tomorrow = now.astimezone(zone).date() + timedelta(days=1)
        return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).astimezone(UTC)

    def _portal_zone(self) -> ZoneInfo:
        account = self.__dict__.get("account")
        try:
            return ZoneInfo(account.timezone) if account else self._settings.company.timezone
        except (TypeError, ValueError, ZoneInfoNotFoundError):
            return self._settings.company.timezone

    # ------------------------------------------------------------ the library

    @property
    def _raw(self) -> dict[str, Any]:
        return {"_preload_content": False, "_request_timeout": self._timeouts}

    def _get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        # Not among the library's typed methods; its untyped request knows no timeout.
        headers = {"Accept": "application/json"}
        client = self._objects_api.api_client
        return client.call_api(
            path, "GET", {}, list(query), headers, auth_settings=["oauth2"], **self._raw
        )

    def _api(self, package: Any, name: str, config: Mapping[str, Any]) -> Any:
        """Build one of the library's API objects, with our pool, paths and no hidden retries."""
        configuration = package.Configuration()
        configuration.access_token = config["access_token"]
        configuration.host = config["host"]
        configuration.retries = False
        client = package.ApiClient(configuration=configuration)
        client.user_agent = "kpisync"
        client.rest_client.pool_manager = self._pool
        unversioned = client.call_api

        def call_api(path: str, *args: Any, **options: Any) -> Any:
            return unversioned(versioned(path, self._version), *args, **options)

        client.call_api = call_api
        return getattr(package, name)(api_client=client)

    # Each access of the library makes a new client: they are kept.

    @cached_property
    def _objects_api(self) -> Any:
        return self._library.crm.objects.basic_api

    @cached_property
    def _batch_api(self) -> Any:
        return self._library.crm.objects.batch_api

    @cached_property
    def _search_api(self) -> Any:
        return self._library.crm.objects.search_api

    @cached_property
    def _associations_api(self) -> Any:
        return self._library.crm.associations.v4.batch_api

    @cached_property
    def _properties_api(self) -> Any:
        return self._library.crm.properties.core_api

    @cached_property
    def _groups_api(self) -> Any:
        return self._library.crm.properties.groups_api

    @cached_property
    def _pipelines_api(self) -> Any:
        return self._library.crm.pipelines.pipelines_api

    @cached_property
    def _owners_api(self) -> Any:
        return self._library.crm.owners.owners_api


class _BoundedPool:
    """One connection pool for all API objects; bodies arrive whole and within a deadline.

    A read timeout alone bounds the silence between two bytes, not a body that trickles.
    """

    def __init__(self, total_seconds: float) -> None:
        self._manager = PoolManager(cert_reqs="CERT_REQUIRED", retries=False)
        self._total_seconds = total_seconds

    def request(self, method: str, url: str, **options: Any) -> HTTPResponse:
        """Send a request and read its whole answer; redirects are not followed."""
        deadline = time.monotonic() + self._total_seconds
        options.update(preload_content=False, redirect=False)
        response = self._manager.request(method, url, **options)
        try:
            body = self._body(response, url, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return HTTPResponse(
            body=body,
            headers=response.headers,
            status=response.status,
            reason=response.reason,
            decode_content=False,
        )

    def _body(self, response: BaseHTTPResponse, url: str, deadline: float) -> BytesIO:
        body = BytesIO()
        while chunk := response.read1(_CHUNK, decode_content=True):
            body.write(chunk)
            if time.monotonic() > deadline:
                pool = self._manager.connection_from_url(url)
                raise ReadTimeoutError(pool, url, "the answer trickles")
        body.seek(0)
        return body

    def clear(self) -> None:
        """Close idle connections."""
        self._manager.clear()


def _token(settings: ConnectionSettings) -> str:
    flow = settings.auth.get("flow", "token")
    token = settings.auth.get("token", "")
    place = f"connections.{settings.name}.auth"
    if flow != "token":
        raise MisconfiguredConnection(
            settings.name, f"{place}.flow: {flow} is not supported for HubSpot yet. Use token."
        )
    if not token.strip():
        raise MisconfiguredConnection(
            settings.name, f"{place}.token is missing. Create a service key in HubSpot."
        )
    return token.strip()


def _version(settings: ConnectionSettings) -> str:
    version = settings.api_version or LEGACY
    if not is_version(version):
        raise MisconfiguredConnection(
            settings.name,
            f"connections.{settings.name}.api_version: {version} is no version of HubSpot's API."
            f' Use "{LEGACY}" or a date such as "2026-09".',
        )
    return version


def _after(after: str | None) -> dict[str, str]:
    return {} if after is None else {"after": after}


def _short_of(rate: Rate) -> Rate:
    # HubSpot counts calls when they arrive, we when they leave: the two differ by a few.
    return Rate(max(1, rate.calls * 95 // 100), rate.seconds)


def _flag(value: bool) -> str:
    # The library would send "True".
    return "true" if value else "false"


def _has_results(content: Json) -> bool:
    return isinstance(content.get("results"), list)


def _is_object(content: Json) -> bool:
    return isinstance(content, dict)


def _reset(content: Json) -> datetime | None:
    """`resetsAt` of the daily usage, which comes alone or in a list."""
    results = content.get("results")
    usage = results[0] if isinstance(results, list) and results else content
    value = usage.get("resetsAt") if isinstance(usage, dict) else None
    try:
        if isinstance(value, int):
            return datetime.fromtimestamp(value / 1000, UTC)
        at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return at.astimezone(UTC) if at.tzinfo else None
