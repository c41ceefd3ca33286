"""The error bodies of HubSpot's APIs.

Shape and codes: "Error handling" in HubSpot's developer documentation. Any part may be missing;
the list of validation errors stands a second time, as JSON, inside ``message``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

JsonObject: TypeAlias = dict[str, object]

SCOPES_PAGE = "https://developers.hubspot.com/scopes"
PLACEHOLDER_CORRELATION_ID = "00000000-0000-0000-0000-000000000000"


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


def no_credentials() -> HubSpotError:
    """401 for a call without a token, or with one nobody issued."""
    return HubSpotError(
        401,
        "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
        "INVALID_AUTHENTICATION",
    )


def expired_credentials() -> HubSpotError:
    """401 for a token of a wrong shape, which is reported as expired in 1970."""
    return HubSpotError(
        401,
        "The OAuth token used to make this call expired 496176 hour(s) ago.",
        "EXPIRED_AUTHENTICATION",
        context={"expire time": ["1970-01-01T00:00:00Z"]},
    )
