"""Where a pull of a Salesforce stream stands, as the JSON text that a checkpoint keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, cast

from connectors.base import Cursor
from connectors.errors import MisconfiguredConnection

Mode: TypeAlias = Literal["full", "increment", "done", "absent"]

_MODES: Final = ("full", "increment", "done", "absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A Bulk API 2.0 query under way, and how much of its result has been taken."""

    id: str
    part: str = ""
    """The locator of the part being taken; empty: the first."""
    taken: int = 0
    """Rows of that part that are done with."""


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
    job: Job | None = None
    """The rows come by a bulk query, in no order."""
    deletions_from: datetime | None = None
    """Up to where the log of deletions has been read."""
    swept: datetime | None = None
    """When everything was last read, calculated fields included."""

    def to_cursor(self) -> Cursor:
        """The text to keep."""
        job = self.job
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
                    "s": _text(self.swept),
                    "job": None if job is None else [job.id, job.part, job.taken],
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
        job=_job(kept.get("job")),
        deletions_from=_instant(kept["d"]),
        swept=_instant(kept.get("s")),
    )


def _job(kept: object) -> Job | None:
    if kept is None:
        return None
    if not isinstance(kept, list):
        raise TypeError("a job is a list")
    name, part, taken = kept
    return Job(id=str(name), part=str(part), taken=int(taken))


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
