"""Chains of merges: a winner may be merged in its turn."""

from __future__ import annotations

from collections.abc import Mapping

from store.canonical import Key


def end_of_chain(ref: Key, into: Mapping[Key, Key]) -> Key:
    """The last winner; a circle, which no CRM should hold, ends at the smallest of its keys."""
    passed: dict[Key, None] = {}
    while ref in into:
        if ref in passed:
            circle = list(passed)
            return min(circle[circle.index(ref) :])
        passed[ref] = None
        ref = into[ref]
    return ref
