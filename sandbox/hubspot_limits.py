"""HubSpot's request limits and the headers that tell of them.

"API usage guidelines and limits": 100 requests per 10 seconds for a static token (Free and
Starter; 190 for Professional and Enterprise, 250 with the capacity pack), a daily sum that
resets at midnight of the account's zone; 110 per 10 seconds and no daily sum for an OAuth app.
"Search the CRM": five searches per second and account, beside the burst; answers to searches
carry no limit headers. They are counted in real time, whatever the portal's clock says.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from sandbox.hubspot_errors import HubSpotError

GROUP = "publicapi:private-apps-api-calls:sandbox"


class App(StrEnum):
    """What a call came with; each has a burst of its own."""

    STATIC = "static"
    """A private app or a service key."""
    OAUTH = "oauth"


@dataclass(slots=True)
class Limits:
    """The limits in force and the calls that count against them."""

    burst: int = 100
    oauth_burst: int = 110
    burst_seconds: float = 10.0
    daily: int = 250_000
    """Of static tokens together; an OAuth app has none."""
    search_per_second: int = 5
    used_today: int = 0
    policy_names: bool = True
    """Whether a 429 says which limit is used up; it does not always."""
    retry_after: bool = False
    """Whether a 429 says when to come back; it often does not."""
    _day: date | None = None
    _burst_calls: dict[App, deque[float]] = field(
        default_factory=lambda: {app: deque() for app in App}
    )
    _search_calls: deque[float] = field(default_factory=deque)

    def set(self, name: str, value: object) -> None:
        """Change one limit.

        Raises:
            ValueError: for anything but a number of a known name.
        """
        if name in FLAGS:
            setattr(self, name, bool(value))
            return
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or name not in SETTABLE:
            raise ValueError(f"{name!r} takes a number; the limits are {', '.join(SETTABLE)}")
        setattr(self, name, value)

    def count(self, app: App, *, is_search: bool, today: date) -> None:
        """Let one call through.

        Raises:
            HubSpotError: 429 in the shape of the limit that is used up.
        """
        self._count_day(app, today)
        if is_search:
            _roll(self._search_calls, 1.0)
            if len(self._search_calls) >= self.search_per_second:
                raise self._too_many_searches()
            self._search_calls.append(time.monotonic())
        else:
            calls = self._burst_calls[app]
            _roll(calls, self.burst_seconds)
            if len(calls) >= self._burst(app):
                wait = calls[0] + self.burst_seconds - time.monotonic()
                raise self._too_many("ten_secondly_rolling", "TEN_SECONDLY_ROLLING", wait)
            calls.append(time.monotonic())
        if app == App.STATIC:
            self.used_today += 1

    def headers(self, app: App) -> dict[str, str]:
        """What an answer that is no search's says of the limits."""
        calls = self._burst_calls[app]
        _roll(calls, self.burst_seconds)
        told = {
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(self.burst_seconds * 1000)),
            "X-HubSpot-RateLimit-Max": str(self._burst(app)),
            "X-HubSpot-RateLimit-Remaining": str(max(self._burst(app) - len(calls), 0)),
        }
        if app == App.OAUTH:
            return told
        return {
            **told,
            "X-HubSpot-RateLimit-Daily": str(self.daily),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(self.daily - self.used_today, 0)),
        }

    def _burst(self, app: App) -> int:
        return self.oauth_burst if app == App.OAUTH else self.burst

    def _count_day(self, app: App, today: date) -> None:
        if self._day != today:
            self._day, self.used_today = today, 0
        if app == App.STATIC and self.used_today >= self.daily:
            raise self._too_many("daily", "DAILY", None)

    def _too_many(self, word: str, policy: str, wait_seconds: float | None) -> HubSpotError:
        extra = {"errorType": "RATE_LIMIT", "groupName": GROUP}
        if self.policy_names:
            extra["policyName"] = policy
        headers = self._told(wait_seconds)
        return HubSpotError(
            429, f"You have reached your {word} limit.", extra=extra, headers=headers
        )

    def _too_many_searches(self) -> HubSpotError:
        # As recorded from the live service: no policyName, and most often no Retry-After.
        message = "You have reached your secondly limit."
        return HubSpotError(429, message, "RATE_LIMITS", headers=self._told(1))

    def _told(self, wait_seconds: float | None) -> dict[str, str]:
        if not self.retry_after or wait_seconds is None:
            return {}
        return {"Retry-After": str(max(math.ceil(wait_seconds), 1))}


FLAGS = ("policy_names", "retry_after")
SETTABLE = (
    "burst",
    "oauth_burst",
    "burst_seconds",
    "daily",
    "search_per_second",
    "used_today",
    *FLAGS,
)


def _roll(calls: deque[float], seconds: float) -> None:
    earliest = time.monotonic() - seconds
    while calls and calls[0] <= earliest:
        calls.popleft()
