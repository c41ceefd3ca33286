"""What is wrong with a configuration: where, what, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value: ``("writebacks", "account_health", "to")``."""

_LONGEST_QUOTE = 60
_SHORTEST_BEGINNING = 3  # a shorter one fits everything


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a configuration file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault (or warning) in a configuration."""

    file: str
    line: int
    column: int
    path: str
    """Dotted key path; empty for the file as a whole."""
    message: str
    """What is wrong, in one sentence; never the value of a secret."""
    hint: str = ""
    """What to do about it."""

    @classmethod
    def at(cls, place: Place, path: Path, message: str, hint: str = "") -> Problem:
        """A problem at a place."""
        return cls(place.file, place.line, place.column, dotted(path), message, hint)

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.file, self.line, self.column)

    def __str__(self) -> str:
        lines = [f"{self.place}  {self.path}".rstrip(), f"  {self.message}"]
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault by key path alone; its place is still to be looked up."""

    path: Path
    message: str
    """``{value}`` stands for the value, as far as it may be shown."""
    hint: str
    at_key: bool = False
    """Whether the last key of the path is at fault, not its value."""


class ConfigurationError(Exception):
    """The configuration cannot be used; ``problems`` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = tuple(sorted(set(problems)))
        super().__init__(ordered)  # positional: errors must survive pickling
        self.problems: tuple[Problem, ...] = ordered

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def dotted(path: Path) -> str:
    """``("kpis", "use", 0)`` as people write it: ``kpis.use[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{printable(part)}" if text else printable(part)
    return text


def printable(text: str, longest: int = _LONGEST_QUOTE) -> str:
    """`text` without anything a terminal could obey, cut to a readable length."""
    shown = "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}"
        for character in text[: longest + 1]
    )
    return shown if len(text) <= longest else shown[:longest] + "…"


def quoted(text: str) -> str:
    """`text` in double quotes, safe to print."""
    return f'"{printable(text)}"'


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, if there is one."""
    by_folded: dict[str, str] = {}
    for candidate in sorted(known):
        by_folded.setdefault(_folded(candidate), candidate)
    wanted = _folded(name[:_LONGEST_QUOTE])
    if wanted in by_folded:
        return by_folded[wanted]
    if len(wanted) >= _SHORTEST_BEGINNING:
        for folded, candidate in by_folded.items():
            if folded.startswith(wanted) or wanted.startswith(folded):
                return candidate
    matches = get_close_matches(wanted, by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: the nearest right one, or all of them if they are few."""
    candidate = nearest(name, known)
    if candidate is not None:
        return f'Did you mean "{candidate}"?'
    return one_of(known)


def one_of(known: Sequence[str]) -> str:
    """A hint that lists what may stand here."""
    if not known:
        return ""
    return f"It may be one of: {', '.join(known)}."


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")
