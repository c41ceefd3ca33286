"""What a pull would have cost a client that wastes no call.

Beside the calls that were made stands the least that could have brought the same data: every
answer adds its rows to those of its kind, and each kind counts as full pages.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from connectors.base import CallCounter


@dataclass(slots=True)
class Minimum:
    """The reckoning of one pull."""

    calls: CallCounter
    _rows: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, rows: int, most: int) -> None:
        """Count rows of an answer.

        Args:
            kind: What was read; rows of one kind share pages.
            rows: How many came, or were asked for.
            most: How many HubSpot's largest page or batch takes.
        """
        before = _pages(self._rows[kind], most)
        self._rows[kind] += rows
        self.calls.minimum += _pages(self._rows[kind], most) - before

    def add_whole(self, calls: int = 1) -> None:
        """Count calls that cannot be shared: descriptions, the account."""
        self.calls.minimum += calls


def _pages(rows: int, most: int) -> int:
    return -(-rows // most)
