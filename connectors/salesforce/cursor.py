"""Where a pull of a Salesforce stream stands, as the JSON text that a checkpoint keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, cast

from connectors.base import Cursor
from connectors.errors import MisconfiguredConnection

Mode: TypeAlias = Literal["full", "increment", "done"]

_MODES: Final = ("full", "increment", "done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A position within a window of change times, or behind a finished one."""

    mode: Mode
    org: str
    """The org the position belongs to: ids and clocks of another one mean nothing here."""
    low: datetime | None
    """First change time of the window; None: from the beginning."""
    high: datetime
    """First change time behind the window, by the server's clock."""
    at: datetime | None = None
    """Change time of the last row read; None: none yet."""
    id: str = ""
    """Its id; rows of one change time are read in the order of their ids."""
    rows: int = 0
    """Rows read so far that no late commit can join any more."""
    deletions_from: datetime | None = None
    """Up to where the log of deletions has been read."""

    def to_cursor(self) -> Cursor:
        """The text to keep."""
        return Cursor(
            json.dumps(
                {
                    "mode": self.mode,
                    "low": _text(self.low),
                    "high": _text(self.high),
                    "t": _text(self.at),
                    "id": self.id,
                    "n": self.rows,
                    "d": _text(self.deletions_from),
                    "org": self.org,
                }
            )
        )

    @staticmethod
    def from_cursor(connection: str, cursor: Cursor) -> Place:
        """Read a kept text.

        Raises:
            MisconfiguredConnection: it is not a text of ours.
        """
        try:
            return _place(json.loads(cursor))
        except (ValueError, KeyError, TypeError) as error:
            raise MisconfiguredConnection(
                connection,
                "The stored checkpoint of this stream cannot be read. Pull the stream in full"
                " once (kpisync pull CONNECTION.STREAM --full).",
            ) from error


def _place(kept: Mapping[str, Any]) -> Place:
    high = _instant(kept["high"])
    if kept["mode"] not in _MODES or high is None:
        raise ValueError("no known mode, or no upper bound")
    return Place(
        mode=cast("Mode", kept["mode"]),
        org=str(kept["org"]),
        low=_instant(kept["low"]),
        high=high,
        at=_instant(kept["t"]),
        id=str(kept["id"]),
        rows=int(kept["n"]),
        deletions_from=_instant(kept["d"]),
    )


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
