"""Which connectors there are: whatever is registered under the entry points ``kpisync.connectors``.

A connector is imported when a connection of its type is opened, not before: whoever has no
HubSpot never loads HubSpot's client.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypeAlias, cast

from connectors.base import ConnectionSettings, Connector
from connectors.errors import MisconfiguredConnection

GROUP: Final = "kpisync.connectors"

Factory: TypeAlias = Callable[[ConnectionSettings], Connector]


def connect(settings: ConnectionSettings) -> Connector:
    """Open the connection that `settings` describe; nothing is called over the network yet.

    Raises:
        MisconfiguredConnection: no connector of that type is installed, or it cannot be loaded.
    """
    return _factory(settings)(settings)


def known_types() -> tuple[str, ...]:
    """The connection types that are installed, sorted by name."""
    return tuple(sorted(entry_points(group=GROUP).names))


def _factory(settings: ConnectionSettings) -> Factory:
    found = entry_points(group=GROUP, name=settings.type)
    if not found:
        raise MisconfiguredConnection(settings.name, _unknown_type(settings.type))
    if len(found) > 1:
        owners = ", ".join(sorted(_distribution(entry) for entry in found))
        raise MisconfiguredConnection(
            settings.name,
            f'The connection type "{settings.type}" is registered by several installed packages'
            f" ({owners}). Uninstall all but one of them.",
        )
    (entry,) = found
    return _load(entry, settings)


def _load(entry: EntryPoint, settings: ConnectionSettings) -> Factory:
    try:
        return cast("Factory", entry.load())
    except (ImportError, AttributeError) as error:
        raise MisconfiguredConnection(
            settings.name,
            f'The connector "{settings.type}" cannot be loaded ({entry.value}: {error}).'
            f" Install {_distribution(entry)} and its dependencies again.",
        ) from error


def _unknown_type(wanted: str) -> str:
    known = known_types()
    if not known:
        return (
            f'"{wanted}" is not a known connection type: no connector is installed.'
            " Install kpisync as a package (pip install .)."
        )
    near = get_close_matches(wanted, known, n=1)
    proposal = f' Did you mean "{near[0]}"?' if near else ""
    return (
        f'"{wanted}" is not a known connection type; known are: {", ".join(known)}.{proposal}'
        " Install the package that brings it, or correct connections.*.type in the configuration."
    )


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
