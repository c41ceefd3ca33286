"""What the format knows but this version cannot do yet.

A part that is listed here is refused by name, never ignored. To support it, delete its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from config.errors import Finding, Path, quoted
from config.interpolate import Value

NOT_YET_KEYS: Final[tuple[str, ...]] = ()
"""Keys; ``*`` stands for any one key or list position."""

NOT_YET_VALUES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {}
"""Values of supported keys, and what may be used instead."""


def unsupported(values: Value) -> Iterator[Finding]:
    """Every part of a configuration that is not supported yet."""
    for path, value in _walk(values, ()):
        for pattern in NOT_YET_KEYS:
            if _fits(path, pattern):
                yield Finding(
                    path,
                    f"{quoted(str(path[-1]))} is not supported yet.",
                    "Remove it: this version would do nothing with it.",
                    at_key=True,
                )
        if not isinstance(value, str):
            continue
        for pattern, (words, hint) in NOT_YET_VALUES.items():
            if _fits(path, pattern) and words.fullmatch(value):
                yield Finding(path, f"{quoted(value)} is not supported yet.", hint)


def _walk(value: Value, path: Path) -> Iterator[tuple[Path, Value]]:
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, (*path, key))
    elif isinstance(value, tuple):
        for position, inner in enumerate(value):
            yield from _walk(inner, (*path, position))


def _fits(path: Path, pattern: str) -> bool:
    parts = pattern.split(".")
    return len(parts) == len(path) and all(
        part in {"*", here} for part, here in zip(parts, path, strict=True)
    )
