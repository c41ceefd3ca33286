"""Which connection types packages of their own bring, by their entry points; loads none of them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Final

GROUP: Final = "kpisync.connectors"
"""The entry-point group of connectors."""

BUILT_IN: Final = ("salesforce", "hubspot", "files", "sql")
"""Types whose keys the format knows."""


@cache
def further_types() -> tuple[str, ...]:
    """Installed types that are not built in, sorted by name."""
    return tuple(sorted(set(entry_points(group=GROUP).names) - set(BUILT_IN)))
