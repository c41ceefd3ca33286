"""Which scopes a connection needs, and which of those it has it could do without.

https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/scopes
A tool that runs unattended should hold no right that it does not use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from connectors.base import Problem, Stream

_TYPE_IDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "0-1": "contacts",
        "0-2": "companies",
        "0-3": "deals",
        "0-5": "tickets",
        "0-7": "products",
        "0-8": "line_items",
        "0-19": "feedback_submissions",
        "0-53": "invoices",
        "0-69": "subscriptions",
        "0-123": "orders",
        "0-142": "carts",
    }
)
_STANDARD: Final = frozenset(_TYPE_IDS.values())

_OLD_NAMES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"tickets": frozenset({"tickets"}), "line_items": frozenset({"e-commerce"})}
)
"""What older apps hold instead; it reads and writes at once."""

_OTHER: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "owners": frozenset({"crm.objects.owners.read"}),
        "campaigns": frozenset({"marketing.campaigns.read", "marketing.campaigns.revenue.read"}),
        "marketing_emails": frozenset({"content", "marketing-email"}),
        "currencies": frozenset({"settings.currencies.read", "multi-currency-read"}),
    }
)
"""What is read and no CRM object -> scopes that it may take."""

_HARMLESS: Final = frozenset({"oauth"})
"""What every app has."""
_SHOWN: Final = 8


def scope_object(object_name: str) -> str:
    """The word for an object in the names of scopes: all custom objects share one."""
    named = _TYPE_IDS.get(object_name, object_name)
    return named if named in _STANDARD else "custom"


def write_scope(object_name: str) -> str:
    """What writing an object's records takes."""
    return f"crm.objects.{scope_object(object_name)}.write"


def scope_problems(
    place: str,
    granted: frozenset[str],
    streams: Sequence[Stream],
    *,
    linked: frozenset[str],
    written: frozenset[str] | None,
) -> Iterator[Problem]:
    """Scopes that write-backs lack, and scopes that nothing needs.

    Scopes that reading lacks are found by reading.

    Args:
        place: Where the credentials stand in the configuration.
        granted: What the token has.
        streams: What the connection reads.
        linked: Objects whose links to those records are read.
        written: Objects that write-backs name; None: nobody says.
    """
    for object_name in sorted(written or ()):
        scope = write_scope(object_name)
        if granted.isdisjoint({scope} | _old_names(object_name)):
            yield Problem(
                place=place,
                message=f"The access token lacks the scope {scope}: write-backs to {object_name}"
                " would be refused.",
                remedy=f"Add {scope} to the service key or app in HubSpot.",
            )
    read = {stream.object for stream in streams} | linked
    excess = sorted(granted - _useful(read, written) - _HARMLESS)
    if excess:
        listed = ", ".join(excess[:_SHOWN])
        more = f" and {len(excess) - _SHOWN} more" if len(excess) > _SHOWN else ""
        yield Problem(
            place=place,
            message=f"The access token may do more than this configuration needs: {listed}{more}.",
            remedy="Take these scopes away in HubSpot: whoever gets hold of the token has them.",
            is_error=False,
        )


def _useful(read: set[str], written: frozenset[str] | None) -> frozenset[str]:
    found: set[str] = set()
    for object_name in read:
        if object_name in _OTHER:
            found |= _OTHER[object_name]
        elif re.fullmatch(r"pipelines(/.*)?", object_name) is None:
            word = scope_object(object_name)
            found |= {f"crm.objects.{word}.read", f"crm.schemas.{word}.read"}
            found |= _old_names(object_name)
    # Where nobody says what is written, a right to write what is read is no excess.
    for object_name in read - _OTHER.keys() if written is None else written:
        word = scope_object(object_name)
        kinds = ("objects", "schemas")
        found |= {f"crm.{kind}.{word}.{right}" for kind in kinds for right in ("read", "write")}
    return frozenset(found)


def _old_names(object_name: str) -> frozenset[str]:
    return _OLD_NAMES.get(scope_object(object_name), frozenset())
