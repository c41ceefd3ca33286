"""Archived records: deleting moves no modified date, so the archive's own list is read.

It holds 90 days of deletions in the order of their ids. While it is short it is read with every
pull; a long one as often as its cost allows, so that a portal which deletes much does not spend
its calls on what it deleted.
https://developers.hubspot.com/docs/guides/api/crm/using-object-apis
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from connectors.errors import RequestRefused
from connectors.hubspot.client import LIST_LIMIT, HubSpotClient
from connectors.hubspot.cursor import EPOCH, Position
from connectors.hubspot.derived import instant
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.walk import Circle

REMEMBERED: Final = 5000
"""Ids of archived records that a cursor carries, to notice those that are restored."""

_ALWAYS_PAGES: Final = 10
"""So many pages are read with every pull."""
_REST_FOR_A_PAGE: Final = timedelta(seconds=6)
"""How long a longer archive is left alone for each page that it costs."""


@dataclass(slots=True)
class Archive:
    """The archived records of an object."""

    client: HubSpotClient
    object: str
    minimum: Minimum
    latest: datetime = EPOCH
    """When the last of them was archived."""
    pages: int = 0
    refusal: str | None = None
    """Why HubSpot lists no archived records of this object."""

    def is_due(self, position: Position, now: datetime, *, is_everything: bool) -> bool:
        """Whether to read it in this pull."""
        read_at = position.archive_read_at
        if is_everything or read_at is None or position.archive_pages <= _ALWAYS_PAGES:
            return True
        # A clock that was set back must not put it off for ever.
        return not timedelta(0) <= now - read_at < position.archive_pages * _REST_FOR_A_PAGE

    def read(self) -> Mapping[str, datetime | None]:
        """All archived records by id, in their order; none where HubSpot refuses the list.

        Returns:
            When each was archived, by HubSpot's clock; None where it does not say.
        """
        try:
            return self._read()
        except RequestRefused as error:
            self.refusal = (
                f"HubSpot does not list the archived {self.object}, so deletions are only seen"
                f" when all ids are compared (full_refresh): {error.message}"
            )
            return {}

    def _read(self) -> Mapping[str, datetime | None]:
        circle = Circle(self.client.connection, f"archived {self.object}")
        found: dict[str, datetime | None] = {}
        after: str | None = None
        while True:
            answer = self.client.page(
                self.object,
                after=after,
                limit=LIST_LIMIT,
                archived=True,
                is_sound=circle.is_new,
            )
            self.pages += 1
            self.minimum.add_whole()
            for row in answer.results:
                at = instant(row.get("archivedAt") or row.get("updatedAt"))
                found[str(row["id"])] = at
                self.latest = max(self.latest, at or EPOCH)
            after = answer.after
            circle.enter(after)
            if after is None:
                return found

    def remembered(self, start: Position) -> Position:
        """The beginning of a pull of everything, with what is archived then; unreported."""
        return replace(start, archived=tuple(self.read())[-REMEMBERED:], archive_read_at=None)

    @staticmethod
    def reported(position: Position, found: Mapping[str, datetime | None]) -> frozenset[str]:
        """Which of the archived records the last reading of the archive has reported.

        One that was archived since then has come back in between, and may have been read as alive,
        even where it stood in the archive both times.
        """
        read_at = position.archive_read_at
        if read_at is None:
            return frozenset()
        return frozenset(
            one for one in position.archived if (at := found.get(one)) is not None and at <= read_at
        )

    def noted(
        self, position: Position, found: Mapping[str, datetime | None], now: datetime
    ) -> Position:
        """A position that remembers what was read."""
        return replace(
            position,
            archived=tuple(found)[-REMEMBERED:],
            archive_read_at=now,
            archive_pages=self.pages,
        )
