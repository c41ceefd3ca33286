"""Links that a merge moved.

When two companies are merged, the links of their deals go over to the winner without a trace on
the deals: neither their modified date nor anything else tells. So a pull of deals asks which
companies won a merge in its window, and reads the deals of these again.
https://developers.hubspot.com/changelog/updated-merge-functionality-for-contacts-and-companies
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from connectors.errors import PermissionMissing, RequestRefused
from connectors.hubspot.client import LINKS_LIMIT
from connectors.hubspot.cursor import EPOCH, Position
from connectors.hubspot.defaults import modified_property
from connectors.hubspot.fields import MERGED
from connectors.hubspot.links import Links, read_links
from connectors.hubspot.reading import chunks
from connectors.hubspot.walk import Walk

_WON_A_MERGE: Final = ({"propertyName": MERGED, "operator": "HAS_PROPERTY"},)


_ROUND: Final = timedelta(minutes=1)
"""How long an answer is good for the streams that are pulled one after the other."""


@dataclass(slots=True)
class Merges:
    """Which records won a merge lately: each object is asked about once for a round of pulls.

    What is merged after that falls into the overlap of the next windows.
    """

    _found: dict[str, _Winners] = field(default_factory=dict)

    def relinked(
        self,
        walk: Walk,
        stream: str,
        targets: Iterable[str],
        window: Position,
        *,
        overlap: timedelta,
    ) -> list[str]:
        """Ids of records whose links a merge within a window may have moved.

        Args:
            walk: How the records' own object is walked over.
            stream: What they are read as.
            targets: The objects to which they are linked.
            window: Since when, and until when.
            overlap: How far the next window will look back behind the end of this one.
        """
        found: dict[str, None] = {}
        for target in targets:
            try:
                winners = self._winners(walk, stream, target, window, min(overlap, _ROUND))
                for links in _links_of(walk, target, winners):
                    found.update((link.id, None) for link in links)
            except (PermissionMissing, RequestRefused):
                # An object that is never merged, or not for this token: the sweep sees what moves.
                continue
        return list(found)

    def _winners(
        self, walk: Walk, stream: str, target: str, window: Position, longest: timedelta
    ) -> Sequence[str]:
        since = window.since or EPOCH
        known = self._found.get(target)
        # A stream that comes again begins another round.
        if known is None or not known.are_for(stream, since, longest):
            others = replace(walk, object=target, modified=modified_property(target))
            batches = others.window(replace(window, after=None), _WON_A_MERGE)
            ids = [one for batch, _ in batches for one in batch.ids]
            known = self._found[target] = _Winners(since, ids)
        known.asked_by.add(stream)
        return known.ids


@dataclass(slots=True)
class _Winners:
    since: datetime
    ids: Sequence[str]
    asked_by: set[str] = field(default_factory=set)
    asked_at: float = field(default_factory=time.monotonic)

    def are_for(self, stream: str, since: datetime, longest: timedelta) -> bool:
        age = time.monotonic() - self.asked_at
        is_fresh = age <= longest.total_seconds()
        return is_fresh and self.since <= since and stream not in self.asked_by


def _links_of(walk: Walk, target: str, winners: Sequence[str]) -> Iterator[Links]:
    for part in chunks(winners, LINKS_LIMIT):
        yield from read_links(walk.client, target, walk.object, part, walk.minimum).known.values()
