"""Links that a merge moved.

When two companies are merged, the links of their deals go over to the winner without a trace on
the deals: neither their modified date nor anything else tells. So a pull of deals asks which
companies won a merge in its window, and reads the deals of these again.
https://developers.hubspot.com/changelog/updated-merge-functionality-for-contacts-and-companies
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from connectors.errors import PermissionMissing, RequestRefused
from connectors.hubspot.cursor import Position
from connectors.hubspot.defaults import modified_property
from connectors.hubspot.fields import MERGED
from connectors.hubspot.links import Links, read_links
from connectors.hubspot.walk import Walk

_WON_A_MERGE: Final = ({"propertyName": MERGED, "operator": "HAS_PROPERTY"},)


def relinked(walk: Walk, targets: Iterable[str], window: Position) -> list[str]:
    """Ids of records whose links a merge within a window may have moved.

    Args:
        walk: How the records' own object is walked over.
        targets: The objects to which they are linked.
        window: Since when, and until when.
    """
    found: dict[str, None] = {}
    for target in targets:
        try:
            for links in _of_winners(walk, target, window):
                found.update((link.id, None) for link in links)
        except (PermissionMissing, RequestRefused):
            # An object that is never merged, or not for this token: the sweep sees what moves.
            continue
    return list(found)


def _of_winners(walk: Walk, target: str, window: Position) -> Iterator[Links]:
    others = replace(walk, object=target, modified=modified_property(target))
    for batch, _ in others.window(replace(window, after=None), _WON_A_MERGE):
        if batch.ids:
            linked = read_links(walk.client, target, walk.object, batch.ids, walk.minimum)
            yield from linked.known.values()
