"""Doing something now and then from a loop that turns faster."""

from __future__ import annotations

import time
from datetime import timedelta


class Every:
    """Says yes once in each span, at the first question too."""

    def __init__(self, span: timedelta) -> None:
        self._seconds = span.total_seconds()
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether the span has passed since the last yes."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
