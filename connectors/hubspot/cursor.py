"""Where a pull of one of HubSpot's objects stands; its JSON is the cursor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from connectors.base import Cursor
from connectors.errors import MisconfiguredConnection

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

LIST: Final = "list"
WINDOW: Final = "window"
SWEEP: Final = "sweep"
DONE: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the pull of an object."""

    phase: str
    until: datetime
    """The stream will be complete up to here, by HubSpot's clock at the start of the phase."""
    since: datetime | None = None
    """The window's first instant; in a list there is none."""
    after: str | None = None
    """List and sweep: where the next page begins. Window: the last id that was read."""
    swept_at: datetime | None = None
    """When everything was read last, to see links that changed without a mark."""
    archived: tuple[str, ...] = ()
    """Records that were archived when the archive was read last."""
    archive_read_at: datetime | None = None
    archive_pages: int = 0
    """What reading the archive cost."""
    unsettled: tuple[str, ...] = ()
    """Records of which HubSpot did not tell everything; they are asked for again."""

    def as_cursor(self) -> Cursor:
        """The cursor that leads back here."""
        content = {
            "v": 2,
            "phase": self.phase,
            "until": to_ms(self.until),
            "since": _ms(self.since),
            "after": self.after,
            "swept_at": _ms(self.swept_at),
            "archived": self.archived,
            "archive_read_at": _ms(self.archive_read_at),
            "archive_pages": self.archive_pages or None,
            "unsettled": self.unsettled,
        }
        return Cursor(
            orjson.dumps({k: v for k, v in content.items() if v not in {None, ()}}).decode()
        )


def position_of(connection: str, cursor: Cursor) -> Position:
    """Read a cursor.

    Raises:
        MisconfiguredConnection: it is none of this connector's.
    """
    try:
        content = orjson.loads(cursor)
        return Position(
            phase=str(content["phase"]),
            until=_from_ms(content["until"]),
            since=_instant(content, "since"),
            after=content.get("after"),
            swept_at=_instant(content, "swept_at"),
            archived=tuple(content.get("archived", ())),
            archive_read_at=_instant(content, "archive_read_at"),
            archive_pages=int(content.get("archive_pages", 0)),
            unsettled=tuple(content.get("unsettled", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MisconfiguredConnection(
            connection,
            "The checkpoint of this stream cannot be read. Start it again: kpisync state reset"
            f" {connection}, or pull --full.",
        ) from error


def to_ms(at: datetime) -> int:
    """An instant as HubSpot's filters take it."""
    return (at - EPOCH) // _MILLISECOND


def _ms(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)


def _from_ms(milliseconds: int) -> datetime:
    return EPOCH + int(milliseconds) * _MILLISECOND


def _instant(content: Mapping[str, int], name: str) -> datetime | None:
    at = content.get(name)
    return None if at is None else _from_ms(at)
