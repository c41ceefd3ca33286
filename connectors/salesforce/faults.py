"""What Salesforce's refusals mean: its error codes become our errors, once and here.

Bodies are a JSON list ``[{"message", "errorCode"}]``, a dict (token and some 4xx answers) or the
HTML of a gateway. Pages: REST API Developer Guide "Status Codes and Error Responses", SOAP API
Developer Guide "Core Data Types Used in API Calls" (StatusCode).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import requests

from connectors.base import PushOutcome
from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    CursorExpired,
    MalformedAnswer,
    MisconfiguredConnection,
    NothingLeft,
    PermissionMissing,
    RateLimited,
    RequestRefused,
)

QUOTA_PAUSE: Final = timedelta(minutes=15)
"""The limit is a rolling day for the whole org: sooner than this nothing has come back."""
CONCURRENCY_WAIT_SECONDS: Final = 5.0
_MESSAGE_LENGTH: Final = 500

_GONE: Final = frozenset({"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "NOT_FOUND"})
_PASSING: Final = frozenset(
    {"UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION", "REQUEST_RUNNING_TOO_LONG"}
)


class QueryTooHeavy(CrmUnavailable):
    """The query itself is too much for the org; a smaller one may work, the same one will not."""

    retryable = False


class UnknownName(MisconfiguredConnection):
    """A query named a field or object that is not there, or not visible to this user."""


class ExpiredSessionError(ConnectorError):
    """The token is not accepted any more; never leaves the client."""


class NotFound(RequestRefused):
    """The address names nothing: an unknown object, or a record that is gone."""


class DeletionsUnknown(RequestRefused):
    """Salesforce no longer knows what was deleted in the span asked for."""


class TooManyDeletions(RequestRefused):
    """More records were deleted in the span than Salesforce lists at once: ask for less."""


class Unparsable(MalformedAnswer):
    """A whole JSON text that no reader takes: some record in it is poison.

    Asking again brings the same; asking for fewer records helps.
    """

    retryable = False


class UnreadableRequest(RequestRefused):
    """A value does not fit its field's JSON type; the whole request was refused for it."""


class NothingDone(CrmUnavailable):
    """Salesforce was not reached, or said that it did not serve: nothing has happened there."""


class AnswerLost(CrmUnavailable):
    """A change was sent and no proper answer came: it may or may not have taken effect."""

    retryable = False


_BY_CODE: Final[Mapping[str, tuple[type[ConnectorError], str]]] = {
    **dict.fromkeys(
        ("QUERY_TIMEOUT", "QUERY_TOO_COMPLICATED", "OPERATION_TOO_LARGE"),
        (QueryTooHeavy, "Salesforce gave up on a query"),
    ),
    **dict.fromkeys(
        ("INVALID_QUERY_LOCATOR", "QUERY_LOCATOR_EXPIRED", "INVALID_QUERY_CURSOR"),
        (CursorExpired, "Salesforce forgot the running query"),
    ),
    **dict.fromkeys(
        ("INVALID_FIELD", "INVALID_TYPE", "MALFORMED_QUERY"),
        (UnknownName, "Salesforce does not know a name, or cannot read the query"),
    ),
    "INVALID_REPLICATION_DATE": (DeletionsUnknown, "The log of deletions does not reach back"),
    "EXCEEDED_ID_LIMIT": (TooManyDeletions, "Too many deletions at once"),
    "JSON_PARSER_ERROR": (UnreadableRequest, "Salesforce cannot read a value"),
    "NOT_FOUND": (NotFound, "Salesforce does not know this"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error as Salesforce tells it."""

    code: str
    message: str

    @property
    def text(self) -> str:
        """Code and words for people, bounded."""
        return f"{self.message} ({self.code})"[:_MESSAGE_LENGTH] if self.code else self.message


def refusal_of(body: object) -> Refusal:
    """The first error in a body of any of its shapes."""
    first = body[0] if isinstance(body, list) and body else body
    if isinstance(first, Mapping):
        code = first.get("errorCode") or first.get("statusCode") or first.get("error") or ""
        message = first.get("message") or first.get("error_description") or ""
        return Refusal(str(code), str(message))
    if isinstance(first, (str, bytes)):
        text = first.decode("utf-8", "replace") if isinstance(first, bytes) else first
        return Refusal("", _plain(text))
    return Refusal("", "")


def translate(
    connection: str,
    status: int,
    body: object,
    headers: Mapping[str, str],
    *,
    quota_pause: timedelta = QUOTA_PAUSE,
) -> ConnectorError:
    """The error that tells the caller what to do about an answer with a bad status."""
    refusal = refusal_of(body)
    if status == HTTPStatus.UNAUTHORIZED:
        return ExpiredSessionError(connection, refusal.text)
    if refusal.code == "REQUEST_LIMIT_EXCEEDED":
        return _limit(connection, refusal, quota_pause)
    if refusal.code in _BY_CODE:
        error_class, words = _BY_CODE[refusal.code]
        return error_class(connection, f"{words}: {refusal.text}")
    if is_passing(status):
        return _passing(connection, status, refusal, headers)
    return _permanent(connection, status, refusal)


def is_passing(status: int) -> bool:
    """A later try of the same may go well."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def no_answer(
    connection: str, error: requests.RequestException, base_url: str | None
) -> ConnectorError:
    """The error for a call that got no answer, or not the whole of it."""
    host = base_url or _host_of(error) or "Salesforce"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return MalformedAnswer(connection, "Salesforce's answer is not JSON.")
    if isinstance(error, requests.exceptions.SSLError):
        return MisconfiguredConnection(
            connection,
            f"The certificate of {host} is not trusted. Check the address and the proxy"
            " between here and Salesforce.",
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return CrmUnavailable(connection, f"{host} did not answer in time.")
    if isinstance(error, requests.exceptions.ConnectTimeout) or _never_opened(error):
        return NothingDone(
            connection,
            f"{host} cannot be reached. Check the address (auth.domain or base_url), the"
            " network and the proxy.",
        )
    return CrmUnavailable(connection, f"The connection to {host} broke off.")


def _passing(
    connection: str, status: int, refusal: Refusal, headers: Mapping[str, str]
) -> ConnectorError:
    message = f"Salesforce answers {status}: {refusal.text or 'no reason given'}"
    wait_seconds = retry_after(headers)
    if status == HTTPStatus.TOO_MANY_REQUESTS and wait_seconds is None:
        wait_seconds = CONCURRENCY_WAIT_SECONDS
    if wait_seconds is not None:
        return RateLimited(connection, message, wait_seconds)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return NothingDone(connection, message)
    return CrmUnavailable(connection, message)


def _permanent(connection: str, status: int, refusal: Refusal) -> ConnectorError:
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(connection, f"Salesforce does not know this: {refusal.text}")
    if status == HTTPStatus.FORBIDDEN:
        return PermissionMissing(
            connection,
            f"Salesforce refuses: {refusal.text} Give the connected user the permission"
            ' "API Enabled" and access to the objects that are read and written.',
        )
    if status == HTTPStatus.GONE:
        return MisconfiguredConnection(
            connection,
            f"Salesforce has retired this API version: {refusal.text}"
            ' Set a newer one, such as api_version: "62.0".',
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return MisconfiguredConnection(
            connection,
            "Salesforce points to another address, which is not followed. Set the address of"
            " your org itself (auth.domain, or auth.instance_url for a ready token).",
        )
    return RequestRefused(connection, f"Salesforce refuses with {status}: {refusal.text}")


def _limit(connection: str, refusal: Refusal, pause: timedelta) -> ConnectorError:
    if "concurrent" in refusal.message.lower():
        return RateLimited(
            connection,
            f"Too many long requests run in the org at once: {refusal.text}",
            CONCURRENCY_WAIT_SECONDS,
        )
    return NothingLeft(
        connection,
        f"The org's API calls of the last 24 hours are used up: {refusal.text}",
        datetime.now(UTC) + pause,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def outcome_of(errors: Sequence[Mapping[str, object]]) -> tuple[PushOutcome, str, str]:
    """What the errors of one record mean: outcome, code, Salesforce's words."""
    codes = [str(error.get("statusCode") or error.get("errorCode") or "") for error in errors]
    messages = [str(error.get("message") or "") for error in errors]
    words = "; ".join(
        message + _named_fields(error, message)
        for error, message in zip(errors, messages, strict=True)
        if message
    )[:_MESSAGE_LENGTH]
    code = codes[0] if codes else "UNKNOWN"
    # A trigger that met a lock reports its own code and hides the lock in its text.
    if "UNABLE_TO_LOCK_ROW" in " ".join([*codes, *messages]):
        return PushOutcome.RETRY, "UNABLE_TO_LOCK_ROW", words
    # With fields named, it is a value that points nowhere, not the record itself.
    if any(
        code in _GONE and not error.get("fields") for code, error in zip(codes, errors, strict=True)
    ):
        return PushOutcome.GONE, code, words
    if codes and all(code in _PASSING for code in codes):
        return PushOutcome.RETRY, code, words
    return PushOutcome.FAILED, code, words


def _named_fields(error: Mapping[str, object], message: str) -> str:
    """The fields that an error names, where its words do not name them."""
    fields = error.get("fields")
    named = [str(name) for name in fields] if isinstance(fields, list) else []
    return f" ({', '.join(named)})" if named and not any(n in message for n in named) else ""


def _host_of(error: requests.RequestException) -> str | None:
    url = error.request.url if error.request is not None else None
    return urlsplit(url).netloc if isinstance(url, str) else None


def _never_opened(error: requests.RequestException) -> bool:
    """The TCP connection was refused or the name is unknown, so nothing was sent."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError"}


def _plain(text: str) -> str:
    """The words of an HTML page, bounded."""
    words = re.sub(r"<[^>]*>|\s+", " ", text[:5000])
    return re.sub(r" +", " ", words).strip()[:200]
