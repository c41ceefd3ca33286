"""Calls to the tiny CRM: one place where HTTP becomes values, and its failures our errors."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode, urlsplit

from connectors.base import CallCounter, ConnectionSettings
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
)
from connectors.retry import RetryPolicy

Json: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class NotSent(CrmUnavailable):
    """Nobody listens: the call certainly had no effect."""


class Client:
    """One tiny CRM, by its address and token."""

    def __init__(self, settings: ConnectionSettings, calls: CallCounter) -> None:
        self._name = settings.name
        self._token = settings.auth.get("token", "")
        self._calls = calls
        self._retries = RetryPolicy(settings.tuning, settings.on_wait)
        self._timeout = settings.tuning.read_timeout.total_seconds()
        address = urlsplit(settings.base_url or "")
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise MisconfiguredConnection(
                settings.name, "base_url is missing: write the address of the tiny CRM."
            )
        self._address = address

    # Never part of a message or a log: the settings do not show it, and neither do we.
    def __repr__(self) -> str:
        return f"Client({self._address.netloc!r})"

    def value(self, path: str, name: str) -> object:
        """One value of an answer; whatever may pass is tried again.

        Raises:
            ConnectorError: it did not pass in time, or never will.
        """
        return self._retries.call(lambda: self._part(self._call("GET", path, None), name, object))

    def listed(self, path: str, name: str, **query: object) -> Sequence[Json]:
        """A list of an answer, as `value` is read."""
        target = f"{path}?{urlencode(query)}" if query else path
        return self._retries.call(lambda: self._part(self._call("GET", target, None), name, list))

    def asked(self, path: str, name: str, body: object) -> Sequence[Json]:
        """The same, by a body that is too long for an address."""
        return self._retries.call(lambda: self._part(self._call("POST", path, body), name, list))

    def written(self, path: str, name: str, body: object) -> Sequence[Json]:
        """Write, and return a list of the answer. Never tried again: an answer may be lost.

        Raises:
            NotSent: nothing was written.
            ConnectorError: as told; nobody knows what was written if it is `retryable`.
        """
        return self._part(self._call("POST", path, body), name, list)

    def _call(self, method: str, target: str, body: object) -> Json:
        self._calls.made += 1
        self._calls.minimum += 1
        status, content = self._exchange(method, target, body)
        if status >= http.client.BAD_REQUEST:
            raise self._refused(status, content)
        return self._read(content)

    def _exchange(self, method: str, target: str, body: object) -> tuple[int, bytes]:
        kind = (
            http.client.HTTPSConnection
            if self._address.scheme == "https"
            else http.client.HTTPConnection
        )
        line = kind(str(self._address.hostname), self._address.port, timeout=self._timeout)
        where = self._address.netloc
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body)
        try:
            try:
                line.connect()
            except OSError as error:
                raise NotSent(self._name, f"{where} does not answer ({error.strerror}).") from None
            line.request(method, self._address.path + target, sent, headers)
            answer = line.getresponse()
            return answer.status, answer.read()
        except TimeoutError:
            raise CrmUnavailable(self._name, f"{where} did not answer in time.") from None
        except (OSError, http.client.HTTPException) as error:
            raise CrmUnavailable(
                self._name, f"{where} broke off the connection ({type(error).__name__})."
            ) from None
        finally:
            line.close()

    def _read(self, content: bytes) -> Json:
        try:
            # Numbers stay exact: a float would round money.
            found = json.loads(content, parse_float=Decimal)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise MalformedAnswer(self._name, "the tiny CRM answered, but not with JSON.")
        return found

    def _refused(self, status: int, content: bytes) -> ConnectorError:
        try:
            told = self._read(content)
        except MalformedAnswer:
            told = {}
        words = str(told.get("message", ""))[:200]
        match status:
            case http.client.UNAUTHORIZED:
                return AuthenticationFailed(self._name, "the tiny CRM does not accept the token.")
            case http.client.FORBIDDEN:
                return PermissionMissing(self._name, f"the token may not do this: {words}")
            case http.client.TOO_MANY_REQUESTS if "until" in told:
                until = datetime.fromisoformat(str(told["until"]))
                return QuotaExhausted(self._name, f"no calls are left until {until}.", until)
            case http.client.TOO_MANY_REQUESTS:
                seconds = float(told.get("wait_seconds", 1))
                return RateLimited(self._name, "the tiny CRM asks to slow down.", seconds)
            case _ if status >= http.client.INTERNAL_SERVER_ERROR:
                return CrmUnavailable(self._name, f"the tiny CRM answered {status}.")
            case _:
                return RequestRefused(self._name, f"the tiny CRM refused the call: {words}")

    def _part(self, answer: Json, name: str, kind: type[T]) -> T:
        # A part that is not there is a fault, never "nothing": an empty list would be believed.
        found = answer.get(name)
        if found is None or not isinstance(found, kind):
            raise MalformedAnswer(self._name, f'the answer of the tiny CRM has no "{name}".')
        return found
