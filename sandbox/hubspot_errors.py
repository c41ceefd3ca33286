"""The error bodies of HubSpot's APIs.

Shape and codes: "Error handling" in HubSpot's developer documentation. Any part may be missing;
the list of validation errors stands a second time, as JSON, inside ``message``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TypeAlias

from sandbox.org import UsualAnswer

JsonObject: TypeAlias = dict[str, object]

SCOPES_PAGE = "https://developers.hubspot.com/scopes"


@dataclass
class HubSpotError(Exception):
    """An answer that is not a success; the front door turns it into a response."""

    status: int
    message: str
    category: str | None = None
    sub_category: str | None = None
    errors: Sequence[JsonObject] = ()
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, correlation_id: str) -> JsonObject:
        """The JSON of the answer."""
        body: JsonObject = {
            "status": "error",
            "message": self.message,
            "correlationId": correlation_id,
        }
        if self.errors:
            body["errors"] = list(self.errors)
        if self.context:
            body["context"] = {name: list(values) for name, values in self.context.items()}
        if self.category:
            body["category"] = self.category
        if self.sub_category:
            body["subCategory"] = self.sub_category
        return {**body, **self.extra}


@dataclass(frozen=True, slots=True)
class Invalid:
    """One property value the CRM does not take."""

    property: str
    code: str
    message: str

    def as_error(self) -> JsonObject:
        """The entry of ``errors``."""
        return {
            "message": self.message,
            "code": self.code,
            "context": {"propertyName": [self.property]},
        }

    def in_message(self) -> JsonObject:
        """The entry of the list inside ``message``."""
        return {
            "isValid": False,
            "message": self.message,
            "error": self.code,
            "name": self.property,
            "localizedErrorMessage": self.message,
        }


def invalid_values(problems: Sequence[Invalid]) -> HubSpotError:
    """400 for property values of a write."""
    listed = json.dumps([problem.in_message() for problem in problems], separators=(",", ":"))
    return HubSpotError(
        400,
        f"Property values were not valid: {listed}",
        "VALIDATION_ERROR",
        errors=[problem.as_error() for problem in problems],
    )


def bad_request(message: str, code: str | None = None, *, about: str | None = None) -> HubSpotError:
    """400 for a request that breaks a rule of the endpoint."""
    errors: list[JsonObject] = []
    if code is not None:
        errors = [{"message": message, "code": code}]
        if about is not None:
            errors[0]["context"] = {"propertyName": [about]}
    return HubSpotError(400, message, "VALIDATION_ERROR", errors=errors)


def not_found(message: str = "resource not found") -> HubSpotError:
    """404 for a record, property, owner … that is not there."""
    return HubSpotError(404, message, "OBJECT_NOT_FOUND")


def missing_scopes(scopes: Sequence[str]) -> HubSpotError:
    """403 naming the scopes of which one would do."""
    return HubSpotError(
        403,
        "This app hasn't been granted all required scopes to make this call. "
        f"Read more about required scopes here: {SCOPES_PAGE}.",
        "MISSING_SCOPES",
        errors=[
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": list(scopes)},
            }
        ],
        extra={"links": {"scopes": SCOPES_PAGE}},
    )


def absent_hub(hub: str) -> HubSpotError:
    """403 for an API of a hub that the account has not bought; no scope would help."""
    return HubSpotError(
        403,
        f"This portal does not have access to this feature: {hub.capitalize()} Hub is required.",
        "MISSING_SCOPES",
        errors=[{"message": "This account does not have a subscription for this API."}],
    )


def correlation_id(random: Random) -> str:
    """What HubSpot's support asks for."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def no_credentials() -> HubSpotError:
    """401 for a call without a token, or with one nobody issued."""
    return HubSpotError(
        401,
        "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
        "INVALID_AUTHENTICATION",
    )


def expired_credentials(expired_at: datetime, now: datetime) -> HubSpotError:
    """401 for a token whose time is over."""
    hours = (now - expired_at) // timedelta(hours=1)
    return HubSpotError(
        401,
        f"The OAuth token used to make this call expired {hours} hour(s) ago.",
        "EXPIRED_AUTHENTICATION",
        context={"expire time": [expired_at.strftime("%Y-%m-%dT%H:%M:%SZ")]},
    )


# "Error handling": what comes with the statuses that are nobody's mistake. 5xx come from the
# servers in front, in HTML.
LOCKED, MIGRATING, TOO_MANY = 423, 477, 429
MESSAGES: Mapping[int, tuple[str, str]] = {
    LOCKED: ("Resource is locked by another write; try again in two seconds.", "LOCKED"),
    MIGRATING: ("The account is being moved between data centres.", "MIGRATION_IN_PROGRESS"),
    TOO_MANY: ("You have reached your ten_secondly_rolling limit.", "RATE_LIMITS"),
    500: ("internal error", "INTERNAL_ERROR"),
}
RETRY_AFTER: Mapping[int, str] = {MIGRATING: "3600"}
FRONT_SERVERS: Mapping[int, str] = {
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    521: "Web server is down",
    523: "Origin is unreachable",
    524: "A timeout occurred",
}


def usual_answer(status: int, correlated: str) -> UsualAnswer | None:
    """What HubSpot sends with an error status that no request is to blame for."""
    if status in FRONT_SERVERS:
        title = f"{status} {FRONT_SERVERS[status]}"
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        return UsualAnswer(page, "text/html")
    if status not in MESSAGES:
        return None
    message, category = MESSAGES[status]
    body = HubSpotError(status, message, category).body(correlated)
    headers = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else {}
    return UsualAnswer(json.dumps(body), headers=headers)
