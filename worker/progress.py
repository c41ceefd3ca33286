"""Who watches a long step."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is under way; shows it or not."""

    def start(self, name: str, total: int | None) -> None:
        """Something begins; `total` records where that is known."""
        ...

    def advance(self, name: str, n: int) -> None:
        """`n` more records are done."""
        ...

    def finish(self, name: str) -> None:
        """It is over."""
        ...

    def say(self, text: str) -> None:
        """A sentence for whoever watches."""
        ...


class Unwatched:
    """Nobody watches."""

    def start(self, name: str, total: int | None) -> None:
        """Nothing to show."""

    def advance(self, name: str, n: int) -> None:
        """Nothing to show."""

    def finish(self, name: str) -> None:
        """Nothing to show."""

    def say(self, text: str) -> None:
        """Nothing to show."""
