"""What HubSpot answers when it does not do what was asked, and which of our errors that is.

https://developers.hubspot.com/docs/api-reference/error-handling
Any part of an error's body may be missing, and the body may be HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MisconfiguredConnection,
    PermissionMissing,
    RateLimited,
    RequestRefused,
)

SECONDLY_WAIT: Final = 1.0
TEN_SECONDLY_WAIT: Final = 10.0
LOCKED_WAIT: Final = 2.0
"""423: the record or portal is locked for two seconds by heavy writing."""
MOVING_WAIT: Final = 60.0
"""477 without Retry-After: the account is being moved to another data centre."""

_WORDS_LENGTH: Final = 2000
_NO_WORDS: Final = "without a word of explanation"

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
LOCKED: Final = 423
TOO_MANY: Final = 429
MOVING: Final = 477
SERVER_ERRORS: Final = 500
REDIRECTS: Final = range(300, 400)
_GRANT_REFUSALS: Final = (400, UNAUTHORIZED, FORBIDDEN, NOT_FOUND)


class Refused(RequestRefused):
    """A 4xx answer that will not change, with what HubSpot said about single inputs."""

    def __init__(
        self, connection: str, message: str, status: int, entries: tuple[Entry, ...] = ()
    ) -> None:
        super().__init__(connection, message)
        self.args = (connection, message, status, entries)
        self.status = status
        self.entries = entries


class AnswerLost(CrmUnavailable):
    """The request may have been executed; no answer says so."""


class TooManyCalls(RateLimited):
    """A rate limit of the app or the account: it means every process, not this one alone."""


class DailyLimitReached(RequestRefused):
    """Inside the client only: becomes ``QuotaExhausted`` once it is known until when."""

    def __init__(self, connection: str, message: str, wait_seconds: float | None) -> None:
        super().__init__(connection, message)
        self.args = (connection, message, wait_seconds)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Entry:
    """One error about one input, from an ``errors`` list or from inside a message."""

    category: str
    sub_category: str
    code: str
    message: str
    context: Mapping[str, tuple[str, ...]]
    place: str = ""
    """Which part of the request it is about (``in``), such as ``inputs[3].properties``."""

    @property
    def input(self) -> int | None:
        """The place in a batch of the input that it names."""
        found = re.match(r"(?:\$\.)?inputs\[(\d+)\]", self.place)
        return int(found[1]) if found else None

    @property
    def fields(self) -> tuple[str, ...]:
        """The properties it names."""
        return self.context.get("propertyName", ())


def parse(body: bytes | str | None) -> Mapping[str, Any]:
    """The error's JSON object, or an empty one where it is none."""
    try:
        content = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def entries_of(content: Mapping[str, Any]) -> tuple[Entry, ...]:
    """Every single error in an answer: its ``errors``, and the lists inside its messages."""
    listed = content.get("errors")
    items = listed if isinstance(listed, list) else []
    found = [entry for item in items if isinstance(item, dict) for entry in _entries(item)]
    return (*found, *_embedded(_text(content.get("message"))))


def words_of(content: Mapping[str, Any]) -> str:
    """HubSpot's own words, bounded, with the id by which its support finds the request."""
    words = _plain(_text(content.get("message")).strip()) or _NO_WORDS
    correlation = _text(content.get("correlationId"))
    ending = f" (correlation id {correlation})" if correlation else ""
    return words[:_WORDS_LENGTH] + ending


def answered(
    connection: str, status: int, headers: Mapping[str, str] | None, body: bytes | str | None
) -> ConnectorError:
    """The error that stands for an answer with a status other than 2xx."""
    content = parse(body)
    words = words_of(content)
    wait = _retry_after(headers or {})
    if status == UNAUTHORIZED:
        return AuthenticationFailed(connection, _unauthorized(content, words))
    if status == FORBIDDEN:
        return PermissionMissing(connection, _forbidden(content, words))
    if status == TOO_MANY:
        return _limited(connection, content, words, wait)
    if status == LOCKED:
        locked = f"HubSpot locks this for a moment (423): {words}"
        return RateLimited(connection, locked, max(LOCKED_WAIT, wait or 0))
    if status == MOVING:
        moving = f"HubSpot is moving the account to another data centre (477): {words}"
        return RateLimited(connection, moving, MOVING_WAIT if wait is None else wait)
    if status >= SERVER_ERRORS:
        return _server_error(connection, status, words, wait)
    if status in REDIRECTS:
        return MisconfiguredConnection(
            connection,
            f"HubSpot's address answers with a redirect ({status}), which is not followed."
            f" Correct connections.{connection}.base_url, or the proxy in between.",
        )
    return Refused(connection, f"HubSpot refuses ({status}): {words}", status, entries_of(content))


def refused_grant(
    connection: str, status: object, body: bytes | str | None, advice: str
) -> AuthenticationFailed | None:
    """The error that stands for a refused login; None: this answer is another fault.

    A dead grant is 400 (``BAD_REFRESH_TOKEN``, ``invalid_grant``), not 401.
    https://developers.hubspot.com/docs/api-reference/auth-oauth-v1/guide
    """
    if status not in _GRANT_REFUSALS:
        return None
    content = parse(body)
    told = (_text(content.get(name)) for name in ("error", "status", "category"))
    code = next((one for one in told if one and one != "error"), str(status))
    words = _text(content.get("error_description")) or words_of(content)
    return AuthenticationFailed(
        connection,
        f"HubSpot does not accept the login ({code}): {words.rstrip('.')}. {advice}",
    )


def unanswered(connection: str, host: str, error: HTTPError) -> CrmUnavailable:
    """The error that stands for no answer at all."""
    if isinstance(error, (NewConnectionError, NameResolutionError, ConnectTimeoutError)):
        return CrmUnavailable(
            connection,
            f"HubSpot cannot be reached at {host} ({type(error).__name__})."
            " Check the network and the address.",
        )
    if isinstance(error, ReadTimeoutError):
        return AnswerLost(connection, "HubSpot did not answer in time.")
    return AnswerLost(connection, f"The connection to HubSpot broke ({type(error).__name__}).")


def _unauthorized(content: Mapping[str, Any], words: str) -> str:
    category = _text(content.get("category")) or "401"
    return f"HubSpot does not accept the access token ({category}): {words.rstrip('.')}."


def _forbidden(content: Mapping[str, Any], words: str) -> str:
    scopes = sorted(
        {
            scope
            for entry in entries_of(content)
            for name, values in entry.context.items()
            if name.lower().endswith("scopes")
            for scope in values
        }
    )
    if not scopes:
        return f"HubSpot does not allow this (403): {words}"
    listed = ", ".join(scopes)
    return (
        f"The access token lacks the scope{'s' if len(scopes) > 1 else ''} {listed}."
        " Add it to the service key or app in HubSpot (Development); an app with OAuth has to be"
        " installed again then."
    )


def _limited(
    connection: str, content: Mapping[str, Any], words: str, wait: float | None
) -> ConnectorError:
    # Search's 429 has no policyName: the message says which limit it was.
    policy = _text(content.get("policyName")).lower() or _text(content.get("message")).lower()
    message = f"HubSpot's rate limit is reached (429): {words}"
    if "ten_secondly" in policy or "ten secondly" in policy:
        return TooManyCalls(connection, message, TEN_SECONDLY_WAIT if wait is None else wait)
    if "secondly" in policy:
        return TooManyCalls(connection, message, SECONDLY_WAIT if wait is None else wait)
    if "daily" in policy:
        return DailyLimitReached(
            connection, f"HubSpot's calls of this day are used up (429): {words}", wait
        )
    return TooManyCalls(connection, message, TEN_SECONDLY_WAIT if wait is None else wait)


def _server_error(connection: str, status: int, words: str, wait: float | None) -> ConnectorError:
    message = f"HubSpot has a fault of its own ({status}): {words}"
    if status == 530:  # noqa: PLR2004 - Cloudflare's code for "no such origin"
        message += "; a token of a wrong shape is answered like this, too"
    if status == 503 and wait is not None:  # noqa: PLR2004 - the one that says: not executed
        return RateLimited(connection, message, wait)
    return AnswerLost(connection, message)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until.tzinfo else None


def _embedded(message: str) -> Iterator[Entry]:
    """The list of invalid properties that a message carries as JSON text."""
    start = message.find("[{")
    if start < 0:
        return
    try:
        items = orjson.loads(message[start : message.rfind("]") + 1])
    except orjson.JSONDecodeError:
        return
    for item in items:
        if isinstance(item, dict):
            name = _text(item.get("name"))
            yield Entry(
                category="VALIDATION_ERROR",
                sub_category="",
                code=_text(item.get("error")) or _text(item.get("code")),
                message=_text(item.get("message")),
                context={"propertyName": (name,)} if name else {},
            )


def _entries(item: Mapping[str, Any]) -> Iterator[Entry]:
    """One error, or one for each property that its message lists."""
    content = item.get("context")
    message = _text(item.get("message"))
    whole = Entry(
        category=_text(item.get("category")),
        sub_category=_text(item.get("subCategory")),
        code=_text(item.get("code")),
        message=_plain(message),
        context={
            str(name): tuple(_texts(values))
            for name, values in (content.items() if isinstance(content, dict) else ())
        },
        place=_text(item.get("in")),
    )
    inner = list(_embedded(message))
    for one in inner:
        yield replace(
            whole,
            code=one.code or whole.code,
            message=one.message or whole.message,
            context={**whole.context, **one.context},
        )
    if not inner:
        yield whole


def _plain(message: str) -> str:
    """A message without JSON inside: the listed errors' own words."""
    inner = [one.message for one in _embedded(message) if one.message]
    return message[: message.find("[{")] + "; ".join(inner) if inner else message


def _texts(values: object) -> Iterable[str]:
    if isinstance(values, (list, tuple)):
        return [str(value) for value in values]
    return [] if values is None else [str(values)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
