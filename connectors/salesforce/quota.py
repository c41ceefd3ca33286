"""Leaving the org's other tools their share: reading stops before the daily calls are used up.

Page: REST API Developer Guide, "API Request Limits". The limit is a rolling day for the whole
org; every answer says how much of it is gone (``Sforce-Limit-Info: api-usage=18/15000``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from connectors.errors import QuotaExhausted
from connectors.salesforce.faults import QUOTA_PAUSE

MOST_SHARE: Final = 0.9
"""Of the org's calls; the rest is for people, other tools and our own write-backs."""

_USAGE: Final = re.compile(r"\bapi-usage=(\d+)/(\d+)")


class OrgQuota:
    """Watches the usage that Salesforce reports, and says when to stop reading."""

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._paused_until = 0.0
        self._shown = ""

    def note(self, headers: Mapping[str, str]) -> None:
        """Remember what an answer says of the calls used."""
        usage = _USAGE.search(headers.get("Sforce-Limit-Info", ""))
        if usage is None:
            return
        used, most = int(usage[1]), int(usage[2])
        is_over = most > 0 and used >= most * MOST_SHARE
        self._paused_until = time.monotonic() + QUOTA_PAUSE.total_seconds() if is_over else 0.0
        self._shown = f"{used} of {most}"

    def ensure_left(self) -> None:
        """Refuse another reading call while the org is short of calls.

        Raises:
            QuotaExhausted: with the time at which to look again.
        """
        left_seconds = self._paused_until - time.monotonic()
        if left_seconds > 0:
            raise QuotaExhausted(
                self._connection,
                f"{self._shown} of the org's daily API calls are used. Reading stops at"
                f" {MOST_SHARE:.0%} and goes on by itself when calls have come back.",
                datetime.now(UTC) + QUOTA_PAUSE,
            )
