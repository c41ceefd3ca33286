"""HubSpot's request limits and the headers that tell of them.

"API usage guidelines and limits": 100 requests per 10 seconds for a static token (Free and
Starter), a daily sum that resets at midnight of the account's zone. "Search the CRM": five
searches per second and account, beside the burst; answers to searches carry no limit headers.
They are counted in real time, whatever the portal's clock says.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import date

from sandbox.hubspot_errors import HubSpotError

GROUP = "publicapi:private-apps-api-calls:sandbox"


@dataclass(slots=True)
class Limits:
    """The limits in force and the calls that count against them."""

    burst: int = 100
    burst_seconds: float = 10.0
    daily: int = 250_000
    search_per_second: int = 5
    used_today: int = 0
    _day: date | None = None
    _burst_calls: deque[float] = field(default_factory=deque)
    _search_calls: deque[float] = field(default_factory=deque)

    def set(self, name: str, value: object) -> None:
        """Change one limit.

        Raises:
            ValueError: for anything but a number of a known name.
        """
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or name not in SETTABLE:
            raise ValueError(f"{name!r} takes a number; the limits are {', '.join(SETTABLE)}")
        setattr(self, name, value)

    def count(self, *, is_search: bool, today: date) -> None:
        """Let one call through.

        Raises:
            HubSpotError: 429 in the shape of the limit that is used up.
        """
        self._count_day(today)
        if is_search:
            _roll(self._search_calls, 1.0)
            if len(self._search_calls) >= self.search_per_second:
                raise _too_many_searches()
            self._search_calls.append(time.monotonic())
        else:
            _roll(self._burst_calls, self.burst_seconds)
            if len(self._burst_calls) >= self.burst:
                raise _too_many(
                    "You have reached your ten_secondly_rolling limit.", "TEN_SECONDLY_ROLLING"
                )
            self._burst_calls.append(time.monotonic())
        self.used_today += 1

    def headers(self) -> dict[str, str]:
        """What an answer that is no search's says of the limits."""
        _roll(self._burst_calls, self.burst_seconds)
        return {
            "X-HubSpot-RateLimit-Daily": str(self.daily),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(self.daily - self.used_today, 0)),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(self.burst_seconds * 1000)),
            "X-HubSpot-RateLimit-Max": str(self.burst),
            "X-HubSpot-RateLimit-Remaining": str(max(self.burst - len(self._burst_calls), 0)),
        }

    def _count_day(self, today: date) -> None:
        if self._day != today:
            self._day, self.used_today = today, 0
        if self.used_today >= self.daily:
            raise _too_many("You have reached your daily limit.", "DAILY")


SETTABLE = ("burst", "burst_seconds", "daily", "search_per_second", "used_today")


def _roll(calls: deque[float], seconds: float) -> None:
    earliest = time.monotonic() - seconds
    while calls and calls[0] <= earliest:
        calls.popleft()


def _too_many(message: str, policy: str) -> HubSpotError:
    extra = {"errorType": "RATE_LIMIT", "policyName": policy, "groupName": GROUP}
    return HubSpotError(429, message, extra=extra)


def _too_many_searches() -> HubSpotError:
    # As recorded from the live service: neither a policyName nor a Retry-After.
    return HubSpotError(429, "You have reached your secondly limit.", "RATE_LIMITS")
