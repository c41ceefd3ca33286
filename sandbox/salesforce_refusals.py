"""Refusals that an org gives for reasons of its own, at the admin's wish.

Pages: REST API Developer Guide, "Status Codes and Error Responses"; SOAP API Developer Guide,
"ExceptionCode"; App Limits Cheat Sheet (concurrent requests).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

KNOWN: Final[dict[str, tuple[int, str, str]]] = {
    "TOTAL_REQUESTS": (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
    "CONCURRENT_REQUESTS": (
        403,
        "REQUEST_LIMIT_EXCEEDED",
        "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
    ),
    "API_DISABLED_FOR_ORG": (
        403,
        "API_DISABLED_FOR_ORG",
        "API is not enabled for this Organization or Partner",
    ),
    "API_CURRENTLY_DISABLED": (
        403,
        "API_CURRENTLY_DISABLED",
        "API access is currently disabled for this user.",
    ),
    "INSUFFICIENT_ACCESS": (
        403,
        "INSUFFICIENT_ACCESS",
        "insufficient access rights on cross-reference id",
    ),
    "QUERY_TIMEOUT": (400, "QUERY_TIMEOUT", "Your query request was running for too long."),
    "QUERY_TOO_COMPLICATED": (
        400,
        "QUERY_TOO_COMPLICATED",
        "Query is either selecting too many fields or the filter conditions are too complicated.",
    ),
    "OPERATION_TOO_LARGE": (400, "OPERATION_TOO_LARGE", "exceeded 100000 distinct who/what's"),
    "INVALID_QUERY_LOCATOR": (400, "INVALID_QUERY_LOCATOR", "invalid query locator"),
    "QUERY_LOCATOR_EXPIRED": (400, "QUERY_LOCATOR_EXPIRED", "query locator expired"),
    "SERVER_UNAVAILABLE": (
        503,
        "SERVER_UNAVAILABLE",
        "Salesforce is temporarily unavailable. Please try again.",
    ),
    "UNKNOWN_EXCEPTION": (
        500,
        "UNKNOWN_EXCEPTION",
        "An unexpected error occurred. Please include this ErrorId: 1234567890-12345 (1234567890)",
    ),
    "INVALID_SESSION_ID": (401, "INVALID_SESSION_ID", "Session expired or invalid"),
}
"""HTTP status, errorCode and message by the admin's name for the refusal."""


@dataclass(slots=True)
class Refused:
    """One refusal and how often it still applies."""

    name: str
    times: int
    after: int = 0
    path: str = ""
    """A part of the decoded path with its query; empty: any."""

    def matches(self, path: str) -> bool:
        """Whether this call is meant."""
        return self.path in path


class Refusals:
    """The refusals in force."""

    def __init__(self) -> None:
        self._refused: list[Refused] = []

    def add(self, refused: Refused) -> None:
        """Put one in force.

        Raises:
            ValueError: for a name that is not known.
        """
        if refused.name not in KNOWN:
            raise ValueError(f"no refusal {refused.name!r}; there is {', '.join(sorted(KNOWN))}")
        self._refused.append(refused)

    def clear(self) -> None:
        """Answer normally again."""
        self._refused.clear()

    def take(self, path: str, query: str) -> tuple[int, str, str] | None:
        """The refusal that this call gets, used up by one."""
        whole = unquote_plus(f"{path}?{query}" if query else path)
        for refused in self._refused:
            if not refused.matches(whole):
                continue
            if refused.after > 0:
                refused.after -= 1
                continue
            refused.times -= 1
            if refused.times <= 0:
                self._refused.remove(refused)
            return KNOWN[refused.name]
        return None
