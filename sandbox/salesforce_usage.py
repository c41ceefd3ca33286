"""Counting API calls against the org's limit, which rolls over 24 hours.

Pages: App Limits Cheat Sheet, "API Request Limits and Allocations"; REST API Developer Guide,
"Limit Info Header".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(hours=24)
GRAIN: Final = timedelta(minutes=1)


class Usage:
    """The calls of the whole org, ours and those of every other tool.

    Args:
        now: The org's time.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.most = 100_000
        self.app_most: int | None = None
        """The connected app's own allocation, where the org has set one."""
        self._now = now
        self._spans: deque[tuple[datetime, int]] = deque()
        self._ours = 0

    @property
    def used(self) -> int:
        """Calls of the last 24 hours."""
        oldest = self._now() - WINDOW
        while self._spans and self._spans[0][0] <= oldest:
            self._spans.popleft()
        return sum(count for _, count in self._spans)

    def set_used(self, count: int) -> None:
        """Let that many calls have been made just now, by whomever."""
        self._spans.clear()
        self._spans.append((self._now(), count))

    def add(self) -> None:
        """Count one call of ours."""
        now = self._now()
        self._ours += 1
        if self._spans and timedelta() <= now - self._spans[-1][0] < GRAIN:
            begun, count = self._spans[-1]
            self._spans[-1] = (begun, count + 1)
        else:
            self._spans.append((now, 1))

    @property
    def is_exceeded(self) -> bool:
        """Whether the call just counted is one too many."""
        return self.used > self.most

    def header(self) -> str:
        """The value of Sforce-Limit-Info."""
        own = f"; per-app-api-usage={self._ours}/{self.app_most}(appName=kpisync)"
        return f"api-usage={self.used}/{self.most}" + (own if self.app_most else "")
