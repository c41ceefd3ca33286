"""Leaving others their share of the org's calls, and write-backs theirs of ours.

Page: REST API Developer Guide, "API Request Limits and Allocations". The limit is a rolling day
for the whole org, whatever tool calls; every answer says how much of it is gone
(``Sforce-Limit-Info: api-usage=18/15000``).

Two bounds hold at once. Of the org's calls, all tools together, reading stops at 90 % and writing
at 95 %. Of the connection's own budget (``limits.daily_calls``), reading stops at 85 % and writing
at the end. What reading leaves is the reserve for write-backs: values that were computed can
always be delivered.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.base import CallLedger, ConnectionSettings, DailyCalls, Purpose, TellsWhenFree
from connectors.errors import QuotaExhausted
from connectors.salesforce.faults import QUOTA_PAUSE

ORG_SHARE: Final[Mapping[Purpose, float]] = {Purpose.READ: 0.90, Purpose.WRITE: 0.95}
"""Of the org's calls, those of other tools included."""
OWN_SHARE: Final[Mapping[Purpose, float]] = {Purpose.READ: 0.85, Purpose.WRITE: 1.0}
"""Of the connection's own budget."""

WINDOW: Final = timedelta(hours=24)

_USAGE: Final = re.compile(r"(?<![\w-])(api-usage|per-app-api-usage)=(\d+)/(\d+)")
_ROOM: Final = 50
"""A pause ends when a fiftieth of the bound is free again: one free call is no reason to start."""

_purpose: ContextVar[Purpose] = ContextVar("purpose", default=Purpose.READ)


@contextmanager
def spending_on(purpose: Purpose) -> Iterator[None]:
    """Calls made inside are made for this purpose."""
    before = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(before)


@dataclass(frozen=True, slots=True)
class _Usage:
    """What Salesforce said of one of its own limits, and when (seconds of the epoch)."""

    used: int
    limit: int
    at: float


class CallBudget:
    """What a connection may still call."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._connection = settings.name
        self._daily = settings.daily_calls
        self.pause = settings.tuning.pause_min or QUOTA_PAUSE
        self._ledger: CallLedger = settings.ledger or OwnLedger()
        self._usages: dict[str, _Usage] = {}

    def count(self) -> None:
        """One call is being made."""
        self._ledger.add(1, _purpose.get())

    def note(self, headers: Mapping[str, str]) -> None:
        """Remember what an answer says of the calls used."""
        for name, used, limit in _USAGE.findall(headers.get("Sforce-Limit-Info", "")):
            self._remember(name, int(used), int(limit))

    def note_limits(self, limits: Mapping[str, object]) -> None:
        """Remember what the resource ``/limits`` says of the org's calls."""
        daily = limits.get("DailyApiRequests")
        if isinstance(daily, Mapping):
            limit, left = daily.get("Max"), daily.get("Remaining")
            if type(limit) is int and type(left) is int:
                self._remember("api-usage", limit - left, limit)

    @property
    def wants_limits(self) -> bool:
        """A share of the org's calls is configured, and nobody has said yet how many these are."""
        has_share = self._daily is not None and self._daily.share is not None
        return has_share and "api-usage" not in self._usages

    def ensure_left(self) -> None:
        """Refuse another call while too many of the last 24 hours' calls are gone.

        Raises:
            QuotaExhausted: with the time at which to look again.
        """
        purpose = _purpose.get()
        for name, usage in self._usages.items():
            self._ensure_left_of_org(name, usage, purpose)
        self._ensure_left_of_own(purpose)

    def _remember(self, name: str, used: int, limit: int) -> None:
        if limit <= 0:
            return
        self._usages[name] = _Usage(used, limit, time.time())
        if name == "api-usage":
            self._ledger.note_org(used, limit)

    def _ensure_left_of_org(self, name: str, usage: _Usage, purpose: Purpose) -> None:
        if usage.used < usage.limit * ORG_SHARE[purpose]:
            return
        # Nobody says when other tools' calls leave the window: after a pause one call looks.
        pause = self.pause.total_seconds()
        left = pause - (time.time() - usage.at)
        if 0 < left <= pause:
            whose = "this app's" if name.startswith("per-app") else "the org's"
            raise QuotaExhausted(
                self._connection,
                f"{usage.used:,} of {whose} {usage.limit:,} API calls a day are used, by all tools"
                f" together. {_stops(purpose)} at {ORG_SHARE[purpose]:.0%} and goes on by itself"
                " when calls have come back.",
                _now() + timedelta(seconds=left),
            )

    def _ensure_left_of_own(self, purpose: Purpose) -> None:
        budget = self._own_budget()
        if budget is None:
            return
        bound = int(budget * OWN_SHARE[purpose])
        used = self._ledger.used()
        if used < bound:
            return
        excess = used - bound + max(1, bound // _ROOM)
        raise QuotaExhausted(
            self._connection,
            f"{used:,} of the {budget:,} API calls that limits.daily_calls allows in 24 hours are"
            f" used. {_stops(purpose)} at {bound:,} and goes on by itself when calls have left the"
            " window.",
            self._free_at(excess),
        )

    def _own_budget(self) -> int | None:
        daily: DailyCalls | None = self._daily
        if daily is None:
            return None
        if daily.calls is not None:
            return daily.calls
        usage = self._usages.get("api-usage")
        if daily.share is None or usage is None:
            return None
        return int(usage.limit * daily.share)

    def _free_at(self, calls: int) -> datetime:
        free_at = None
        if isinstance(self._ledger, TellsWhenFree):
            free_at = self._ledger.free_at(calls)
        soonest = _now() + timedelta(minutes=1)
        return max(soonest, free_at) if free_at is not None else _now() + self.pause


class OwnLedger:
    """Counts the calls of this process alone, by the minute."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, int]] = deque()
        self._used = 0

    def add(self, calls: int, purpose: Purpose) -> None:
        """Count calls that were just made."""
        del purpose
        minute = int(time.time()) // 60
        if self._minutes and self._minutes[-1][0] == minute:
            calls_before = self._minutes.pop()[1]
            self._minutes.append((minute, calls_before + calls))
        else:
            self._minutes.append((minute, calls))
        self._used += calls

    def used(self) -> int:
        """Calls within the last 24 hours."""
        oldest = int(time.time() - WINDOW.total_seconds()) // 60
        while self._minutes and self._minutes[0][0] < oldest:
            self._used -= self._minutes.popleft()[1]
        return self._used

    def note_org(self, used: int, limit: int) -> None:
        """Nobody else is there to be told."""

    def free_at(self, calls: int) -> datetime | None:
        """When at least so many of the counted calls have left the window."""
        gone = 0
        for minute, number in self._minutes:
            gone += number
            if gone >= calls:
                return datetime.fromtimestamp((minute + 1) * 60, UTC) + WINDOW
        return None


def _stops(purpose: Purpose) -> str:
    return "Writing stops" if purpose is Purpose.WRITE else "Reading stops"


def _now() -> datetime:
    return datetime.now(UTC)
