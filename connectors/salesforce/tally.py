"""What a pull's answers would have cost a perfect client: the figure beside the calls made.

Rows count by full pages of 2,000 (a query that finds none is a call all the same); describing an
object, a look into the log of deletions, a count and each step of a bulk query are one each.
"""

from __future__ import annotations

from typing import Final

from connectors.base import CallCounter

LARGEST_PAGE: Final = 2000
"""Rows; REST API Developer Guide, "Query Options Header"."""


class Tally:
    """Adds to `CallCounter.minimum`; one for each pull, so that parts of pages add up."""

    def __init__(self, calls: CallCounter) -> None:
        self._calls = calls
        self._rows = 0
        self._pages = 0

    def rows(self, count: int) -> None:
        """Rows of queries were read."""
        self._rows += count
        pages = max(1, -(-self._rows // LARGEST_PAGE))
        self.calls(pages - self._pages)
        self._pages = pages

    def calls(self, count: int = 1) -> None:
        """Calls were made for which there is no cheaper way."""
        self._calls.minimum += count
