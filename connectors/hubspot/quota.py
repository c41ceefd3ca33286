"""The day's calls: what this connection may use, and what the whole portal has left.

https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines
A portal's day ends at midnight in its own zone; every answer to a static token, except those of
searches, says how much of it is left. Apps with OAuth have no daily limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from connectors.base import CallLedger, DailyCalls, Purpose, TellsWhenFree
from connectors.errors import QuotaExhausted

PORTAL_SHARES: Final[Mapping[Purpose, Fraction]] = {
    Purpose.READ: Fraction(90, 100),
    Purpose.WRITE: Fraction(95, 100),
}
"""Of the portal's day: the rest is for people and other tools, the difference for write-backs."""

OWN_SHARES: Final[Mapping[Purpose, Fraction]] = {
    Purpose.READ: Fraction(85, 100),
    Purpose.WRITE: Fraction(1),
}
"""Of what this connection may use: a backfill must not starve the write-backs."""

LOOK_AGAIN: Final = timedelta(minutes=15)
"""Calls of a rolling day come back one by one; when to look again where nobody knows better."""

_ROOM: Final = 50
"""A pause ends when a fiftieth of the bound is free again: one free call is no reason to start."""

_DAY: Final = timedelta(days=1)


class DailyQuota:
    """Says before every call whether the day still has room for it.

    Args:
        connection: Its name, for messages.
        allowed: What the configuration grants; None: as much as the portal has.
        ledger: Counts over all processes; None: this process alone.
        resets_at: When the portal's day ends; asked only when its calls are nearly used up.
    """

    def __init__(
        self,
        connection: str,
        allowed: DailyCalls | None,
        ledger: CallLedger | None,
        resets_at: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._allowed = allowed
        self._ledger: CallLedger = ledger or OwnLedger()
        self._resets_at = resets_at
        self._portal: tuple[int, int] | None = None
        self._portal_ends: datetime | None = None

    def ensure_left(self, purpose: Purpose) -> None:
        """Refuse a call that would leave too little of the day.

        Raises:
            QuotaExhausted: with the instant at which to look again.
        """
        self._ensure_portal(purpose)
        most = self._own_calls()
        if most is None:
            return
        bound = int(most * OWN_SHARES[purpose])
        used = self._ledger.used()
        if used < bound:
            return
        raise QuotaExhausted(
            self._connection,
            f"quota: {used:,} of the {most:,} calls are used that limits.daily_calls lets this"
            f" connection make in 24 hours{_reserve(purpose)}. It goes on by itself.",
            self._free_at(used - bound + max(1, bound // _ROOM)),
        )

    def count(self, purpose: Purpose) -> None:
        """Count a call that goes out."""
        self._ledger.add(1, purpose)

    def note(self, headers: Mapping[str, str]) -> None:
        """Take from an answer how much of the portal's day is used; not every answer tells."""
        limit = headers.get("X-HubSpot-RateLimit-Daily", "")
        left = headers.get("X-HubSpot-RateLimit-Daily-Remaining", "")
        if not (limit.isdecimal() and left.isdecimal()) or int(limit) <= 0:
            return
        self._portal = (max(0, int(limit) - int(left)), int(limit))
        self._ledger.note_org(*self._portal)

    def _ensure_portal(self, purpose: Purpose) -> None:
        if self._portal is None:
            return
        now = datetime.now(UTC)
        if self._portal_ends is not None and now >= self._portal_ends:
            # A new day has begun; its first answer tells how much there is.
            self._portal = self._portal_ends = None
            return
        used, limit = self._portal
        if used < limit * PORTAL_SHARES[purpose]:
            self._portal_ends = None
            return
        if self._portal_ends is None:
            self._portal_ends = self._resets_at()
        raise QuotaExhausted(
            self._connection,
            f"quota: {used:,} of the portal's {limit:,} calls of this day are used, by all who call"
            f" it; {_doing(purpose)} stops at {float(PORTAL_SHARES[purpose]):.0%} and goes on by"
            " itself when the day ends.",
            self._portal_ends,
        )

    def _own_calls(self) -> int | None:
        if self._allowed is None:
            return None
        if self._allowed.calls is not None:
            return self._allowed.calls
        if self._allowed.share is None or self._portal is None:
            return None
        return int(Decimal(self._portal[1]) * self._allowed.share)

    def _free_at(self, calls: int) -> datetime:
        now = datetime.now(UTC)
        free_at = None
        if isinstance(self._ledger, TellsWhenFree):
            free_at = self._ledger.free_at(calls)
        return now + LOOK_AGAIN if free_at is None else max(free_at, now + timedelta(minutes=1))


class OwnLedger:
    """The calls of this process in the last 24 hours, by the minute."""

    def __init__(self) -> None:
        self._minutes: dict[int, int] = {}

    def add(self, calls: int, purpose: Purpose) -> None:
        """Count calls that were just made."""
        del purpose
        minute = _minute(datetime.now(UTC))
        self._minutes[minute] = self._minutes.get(minute, 0) + calls

    def used(self) -> int:
        """Calls within the last 24 hours."""
        oldest = _minute(datetime.now(UTC) - _DAY)
        self._minutes = {one: calls for one, calls in self._minutes.items() if one > oldest}
        return sum(self._minutes.values())

    def note_org(self, used: int, limit: int) -> None:
        """Nobody else is there to be told."""

    def free_at(self, calls: int) -> datetime | None:
        """When at least so many of the counted calls are older than 24 hours."""
        gone = 0
        for minute in sorted(self._minutes):
            gone += self._minutes[minute]
            if gone >= calls:
                return datetime.fromtimestamp((minute + 1) * 60, UTC) + _DAY
        return None


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


def _doing(purpose: Purpose) -> str:
    return "reading" if purpose is Purpose.READ else "writing"


def _reserve(purpose: Purpose) -> str:
    return "; the rest is kept for write-backs" if purpose is Purpose.READ else ""
