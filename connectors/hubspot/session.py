"""The seam to HubSpot: the one place that knows how its client library calls, fails and waits.

The library keeps authentication, paths and errors; answers are taken raw, because its models
cost thirty times the decoding and turn a cut body into an empty page. Above this module only
``connectors.errors`` exist. Every call has a deadline, is counted, and waits for the shared
rate limits first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar

import orjson
from hubspot import HubSpot
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from connectors.base import CallCounter, ConnectionSettings, Purpose
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    QuotaExhausted,
)
from connectors.hubspot import faults
from connectors.hubspot.faults import AnswerLost, DailyLimitReached, TooManyCalls
from connectors.hubspot.login import login_of
from connectors.hubspot.paths import DAILY_USAGE, LEGACY, is_version, versioned
from connectors.hubspot.quota import DailyQuota
from connectors.hubspot.transport import BoundedPool
from connectors.limits import Rate, SharedLimiter
from connectors.retry import RetryPolicy

T = TypeVar("T")

Json: TypeAlias = Mapping[str, Any]
"""A JSON object of HubSpot; it travels no further than this package."""

HOST: Final = "https://api.hubapi.com"

BURST: Final = Rate(calls=100, seconds=10)
"""What every portal allows; an answer's headers may say more."""
SEARCHES: Final = Rate(calls=5, seconds=1)
"""Of the whole account, shared by all apps; searches do not count in the burst."""

_TRAVEL_SECONDS: Final = 0.15
"""How much closer together two calls may arrive than they left."""
_LONGEST_HOLD: Final = 60.0
_REFUSED_SECONDS: Final = 60.0


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
        return None if after in (None, "") else str(after)


class Unparsable(MalformedAnswer):
    """A whole JSON text that no reader takes: some record in it is poison.

    Asking again brings the same; asking for fewer records helps.
    """

    retryable = False


class Session:
    """Calls of one connection; each brings JSON that is what it should be.

    Args:
        settings: The connection; ``auth`` holds a flow and what belongs to it (see ``login``).
        calls: Counts every request that goes out.
        zone: The portal's time zone, as far as it is known.

    Raises:
        MisconfiguredConnection: the authentication or the API version cannot work.
    """

    def __init__(
        self, settings: ConnectionSettings, calls: CallCounter, zone: Callable[[], tzinfo]
    ) -> None:
        self.connection = settings.name
        self._settings = settings
        self._calls = calls
        self._zone = zone
        self._version = _version(settings)
        self._host = (settings.base_url or HOST).rstrip("/")
        tuning = settings.tuning
        self._timeouts = (
            tuning.connect_timeout.total_seconds(),
            tuning.read_timeout.total_seconds(),
        )
        self._policy = RetryPolicy(tuning, settings.on_wait)
        self._pool = BoundedPool(tuning.total_timeout.total_seconds())
        self.login = login_of(settings, self._exchange)
        self._token = ""
        self._refusal = ""
        self._refused_until = 0.0
        self._purpose = Purpose.READ
        self._quota = DailyQuota(
            settings.name, settings.daily_calls, settings.ledger, self._day_ends
        )
        self._burst_rate = BURST
        self._burst = self._limiter("burst", _short_of(BURST))
        self._searches = self._limiter("search", SEARCHES)
        # `base_url` serves the library's untyped requests, `host` everything else.
        self.library = HubSpot(
            host=self._host, base_url=self._host, retry=False, api_factory=self._api
        )

    def close(self) -> None:
        """Give connections back."""
        self._pool.clear()

    @contextmanager
    def working_for(self, purpose: Purpose) -> Iterator[None]:
        """Let the calls inside use what the day's quota keeps for a purpose."""
        before, self._purpose = self._purpose, purpose
        try:
            yield
        finally:
            self._purpose = before

    # ------------------------------------------------------------ calls

    def read(
        self,
        request: Callable[[], Any],
        is_complete: Callable[[Json], bool] | None = None,
        *,
        is_search: bool = False,
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """Make a call that changes nothing, again where that can help.

        Args:
            request: Makes the call, through the library.
            is_complete: Whether JSON is an answer to the question; by default a list ``results``.
            is_search: It counts among the searches of the account, not in the burst.
            is_sound: What the answer has to be beside complete; another is asked for again.
        """
        limiter = self._searches if is_search else self._burst

        def once() -> Answer:
            answer = self._send(request, is_complete or _has_results, limiter)
            if is_sound is not None and not is_sound(answer):
                raise MalformedAnswer(
                    self.connection, "HubSpot sent a page that is not the one asked for."
                )
            return answer

        return self._patiently(once)

    def read_settled(
        self, request: Callable[[], Any], is_settled: Callable[[Answer], bool]
    ) -> Answer:
        """As `read`; an answer that never settles is given back as it came last."""
        seen: list[Answer] = []

        def is_sound(answer: Answer) -> bool:
            seen.append(answer)
            return is_settled(answer)

        try:
            return self.read(request, is_sound=is_sound)
        except MalformedAnswer:
            if not seen:
                raise
            return seen[-1]

    def write(
        self, request: Callable[[], Any], is_complete: Callable[[Json], bool] | None = None
    ) -> Answer:
        """Make a call that changes something, again only where it certainly was not executed.

        Raises:
            AnswerLost, MalformedAnswer: it may have been done.
        """
        lost: list[ConnectorError] = []

        def once() -> Answer | None:
            try:
                return self._send(request, is_complete or _has_results, self._burst)
            except (AnswerLost, MalformedAnswer) as error:
                # What may have been done is not done again before somebody has looked.
                lost.append(error)
                return None

        with self.working_for(Purpose.WRITE):
            answer = self._patiently(once)
        if answer is None:
            raise lost[-1]
        return answer

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> Any:
        """Call a path that the library has no method for, as its methods do.

        Its own untyped request knows no timeout.
        """
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self._basic_api.api_client.call_api(
            path,
            method,
            {},
            list(query),
            headers,
            body=body,
            auth_settings=["oauth2"],
            **self.raw,
        )

    @property
    def raw(self) -> dict[str, Any]:
        """What every method of the library is given besides: raw answers, and deadlines."""
        return {"_preload_content": False, "_request_timeout": self._timeouts}

    def _patiently(self, once: Callable[[], T]) -> T:
        """Retry a call as the policy says, and longer where others use the limit up.

        Searches are limited for the account: another app may take most of them for minutes.
        """
        deadline = time.monotonic() + self._settings.tuning.total_timeout.total_seconds()
        longest = self._settings.tuning.retry_wait_max.total_seconds()
        while True:
            try:
                return self._policy.call(once)
            except TooManyCalls as error:
                wait_seconds = error.wait_seconds
                if wait_seconds > longest or time.monotonic() + wait_seconds > deadline:
                    raise
                if self._settings.on_wait is not None:
                    self._settings.on_wait(str(error), wait_seconds)
                time.sleep(wait_seconds)

    # ------------------------------------------------------------ one attempt

    def _send(
        self,
        request: Callable[[], Any],
        is_complete: Callable[[Json], bool],
        limiter: SharedLimiter,
    ) -> Answer:
        self._quota.ensure_left(self._purpose)
        try:
            response = self._accepted(request, limiter)
        except DailyLimitReached as error:
            until = self._quota_until(error.wait_seconds)
            raise QuotaExhausted(self.connection, f"quota: {error.message}", until) from error
        self._learn_rate(response)
        self._quota.note(response.headers)
        return self._answer(response, is_complete)

    def _accepted(self, request: Callable[[], Any], limiter: SharedLimiter) -> HTTPResponse:
        if time.monotonic() < self._refused_until:
            # What was refused a moment ago is not asked again for every stream.
            raise AuthenticationFailed(self.connection, self._refusal)
        self._token = self.login.token()
        try:
            return self._attempt(request, limiter)
        except AuthenticationFailed:
            # The token has died in the midst of a run; a static one is sometimes refused by a
            # hiccup of HubSpot's own.
            self._token = self.login.token(refused=self._token)
        try:
            return self._attempt(request, limiter)
        except AuthenticationFailed as error:
            self._refusal = f"{error.message} {self.login.advice}"
            self._refused_until = time.monotonic() + _REFUSED_SECONDS
            raise AuthenticationFailed(self.connection, self._refusal) from None

    def _attempt(self, request: Callable[[], Any], limiter: SharedLimiter) -> HTTPResponse:
        limiter.take()
        self._calls.made += 1
        self._quota.count(self._purpose)
        try:
            response: HTTPResponse = request()
        except HTTPError as error:
            raise faults.unanswered(self.connection, self._host, error) from None
        except Exception as error:
            translated = self._translated(error)
            if translated is None:
                raise
            if isinstance(translated, TooManyCalls) and translated.wait_seconds <= _LONGEST_HOLD:
                limiter.hold(translated.wait_seconds)
            raise translated from None
        return response

    def _exchange(self, form: Mapping[str, str]) -> Json:
        """Ask for a token; once, because the call that needs it is tried again as a whole."""
        self._calls.made += 1
        try:
            response: HTTPResponse = self._tokens_api.create(**form, **self.raw)
        except HTTPError as error:
            raise _not_logged_in(faults.unanswered(self.connection, self._host, error)) from None
        except Exception as error:
            refused = self._refused_grant(error) or self._translated(error)
            if refused is None:
                raise
            raise _not_logged_in(refused) from None
        content = self._decoded(response.data)
        if not isinstance(content, dict):
            raise MalformedAnswer(self.connection, "HubSpot's answer to the login is no object.")
        return content

    def _refused_grant(self, error: Exception) -> ConnectorError | None:
        status, body = getattr(error, "status", None), getattr(error, "body", None)
        refused = faults.refused_grant(self.connection, status, body, self.login.advice)
        return None if refused is None else self._redacted(refused)

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
        for secret in self.login.secrets:
            if secret in error.message:
                error.message = error.message.replace(secret, "[secret]")
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
            margin_seconds=_TRAVEL_SECONDS,
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
        """When the day's calls are given again: as told with the refusal, or by the portal."""
        if wait_seconds is not None:
            return datetime.now(UTC) + timedelta(seconds=wait_seconds)
        return self._day_ends()

    def _day_ends(self) -> datetime:
        """When the portal's day ends: as it says itself, or at its next midnight."""
        now = datetime.now(UTC)
        try:
            response = self._attempt(lambda: self.call("GET", DAILY_USAGE), self._burst)
            reset = _reset(self._answer(response, is_object).content)
        except ConnectorError:
            reset = None
        if reset is not None and reset > now:
            return reset
        zone = self._zone()
        tomorrow = now.astimezone(zone).date() + timedelta(days=1)
        return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).astimezone(UTC)

    # ------------------------------------------------------------ the library

    # Importing a part of the library takes a moment, which not every command has to spend.

    @cached_property
    def _basic_api(self) -> Any:
        return self.library.crm.objects.basic_api

    @cached_property
    def _tokens_api(self) -> Any:
        return self.library.oauth.tokens_api

    def _api(self, package: Any, name: str, config: Mapping[str, Any]) -> Any:
        """Build one of the library's API objects, with our pool, paths and no hidden retries."""
        configuration = package.Configuration()
        configuration.host = config["host"]
        configuration.retries = False
        client = package.ApiClient(configuration=configuration)
        client.user_agent = "kpisync"
        client.rest_client.pool_manager = self._pool
        unversioned = client.call_api

        def call_api(path: str, *args: Any, **options: Any) -> Any:
            # A kept API object would go on with the token that it was made with.
            configuration.access_token = self._token
            return unversioned(versioned(path, self._version), *args, **options)

        client.call_api = call_api
        return getattr(package, name)(api_client=client)


def _version(settings: ConnectionSettings) -> str:
    version = settings.api_version or LEGACY
    if not is_version(version):
        raise MisconfiguredConnection(
            settings.name,
            f"connections.{settings.name}.api_version: {version} is no version of HubSpot's API."
            f' Use "{LEGACY}" or a date such as "2026-09".',
        )
    return version


def _short_of(rate: Rate) -> Rate:
    # HubSpot counts calls when they arrive, we when they leave: the two differ by a few.
    return Rate(max(1, rate.calls * 95 // 100), rate.seconds)


def _not_logged_in(error: ConnectorError) -> ConnectorError:
    # A login that got no answer leaves nothing in doubt: nothing of the call itself was sent.
    if isinstance(error, AnswerLost):
        return CrmUnavailable(error.connection, error.message)
    return error


def _has_results(content: Json) -> bool:
    """Whether there is a list, each row of which says what it is about."""
    results = content.get("results")
    return isinstance(results, list) and all(
        isinstance(row, dict) and not _NAMED_BY.isdisjoint(row) for row in results
    )


_NAMED_BY: Final = frozenset({"id", "from", "name", "interval"})
"""Records, links, properties and days of statistics have one of these; a row without any cannot be
placed."""


def is_object(content: Json) -> bool:
    """Any JSON object will do."""
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
