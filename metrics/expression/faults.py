"""What is wrong with an expression: where, what, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_CUTOFF = 0.55


class ExpressionFault(ValueError):
    """An expression that means nothing, or nothing that can be kept exact."""

    def __init__(self, message: str, column: int, hint: str = "") -> None:
        """Say what is wrong.

        Args:
            message: one sentence.
            column: where in the expression; counts from 1.
            hint: what to do about it.
        """
        super().__init__(message, column, hint)  # positional: errors must survive pickling
        self.message = message
        self.column = column
        self.hint = hint

    def __str__(self) -> str:
        parts = (f"Column {self.column}: {self.message}", self.hint)
        return " ".join(part for part in parts if part)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the word that was probably meant, or all of them."""
    words = sorted(known)
    found = get_close_matches(name.lower(), words, n=1, cutoff=_CUTOFF)
    if found:
        return f'Did you mean "{found[0]}"?'
    return f"There are: {', '.join(words)}."
