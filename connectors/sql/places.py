"""How far the pulls of a query have come, and where the next one begins.

A row that was stamped or numbered before a pull may be committed after it. So each pull reads an
overlap again, for rows that come up to the lookback late. Instants tell by themselves what is
young. Numbers and other texts have no clock: of them a trail is kept, which value had been
reached at which time. Whatever had been reached a lookback before a pull began was committed by
then, so the pull after that one need not look at it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

from connectors.base import Cursor

Value: TypeAlias = datetime | Decimal | str

ENDLESS: Final = "infinity"
"""An instant of PostgreSQL after all others."""

_FARTHEST_WEST: Final = timedelta(hours=12)
_DAY_LENGTH: Final = len("2026-03-05")
_MARKS_PER_LOOKBACK: Final = 10


@dataclass(frozen=True, slots=True)
class Mark:
    """A value that had been reached."""

    at: datetime
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far the rows of a query have been read."""

    value: Value
    """The highest cursor value."""
    key: str = ""
    """Of the row that had it."""
    begun: datetime | None = None
    """Of a pull that has not come to its end: when it began."""
    unplaced: str | None = None
    """Of such a pull: the last key that was read of the rows without a cursor value."""
    trail: Sequence[Mark] = ()
    """Of values without a clock: what had been reached when; the oldest first."""
    last_begun: datetime | None = None
    """When the last pull that came to its end began."""
    last_took: timedelta = timedelta()
    """How long that one took."""

    @classmethod
    def read(cls, cursor: str) -> Place:
        """From the text of a cursor."""
        said = json.loads(cursor)
        kind = said["type"]
        return cls(
            value=_decoded(kind, said["value"]),
            key=said["key"],
            begun=_instant(said.get("begun")),
            unplaced=said.get("unplaced"),
            trail=tuple(
                Mark(datetime.fromisoformat(at), _decoded(kind, value))
                for at, value in said.get("trail", ())
            ),
            last_begun=_instant(said.get("last_begun")),
            last_took=timedelta(seconds=said.get("last_took", 0)),
        )

    def text(self) -> Cursor:
        """As a cursor."""
        kind, value = _encoded(self.value)
        said: dict[str, object] = {"type": kind, "value": value, "key": self.key}
        for name, instant in (("begun", self.begun), ("last_begun", self.last_begun)):
            if instant is not None:
                said[name] = instant.isoformat()
        if self.unplaced is not None:
            said["unplaced"] = self.unplaced
        if self.trail:
            said["trail"] = [(mark.at.isoformat(), _encoded(mark.value)[1]) for mark in self.trail]
        if self.last_took:
            said["last_took"] = self.last_took.total_seconds()
        return Cursor(json.dumps(said))

    def back(self, lookback: timedelta) -> Place | None:
        """Where the overlap begins; None: the trail does not go back so far."""
        # Of what was read long before the last pull ended, more may have come late.
        span = lookback + self.last_took
        match self.value:
            case datetime():
                return Place(value=self.value - span)
            case str() if (earlier := _earlier(self.value, span)) is not None:
                return Place(value=earlier)
        if self.last_begun is None:
            return None
        known = [mark for mark in self.trail if mark.at <= self.last_begun - lookback]
        return Place(value=known[-1].value) if known else None

    def ended(self, *, begun: datetime, now: datetime, lookback: timedelta) -> Place:
        """The same after a pull has come to its end.

        Args:
            begun: when it began (aware).
            now: aware.
            lookback: the overlap.
        """
        place = replace(
            self,
            # One row that is stamped with next year must not hide all that change until then.
            value=_alike(self.value, begun) if self.is_ahead_of(begun) else self.value,
            begun=None,
            unplaced=None,
            last_begun=begun,
            last_took=now - begun,
        )
        if _has_clock(place.value):
            return place
        trail = list(self.trail)
        if not trail or now - trail[-1].at >= lookback / _MARKS_PER_LOOKBACK:
            trail.append(Mark(now, self.value))
        settled = sum(mark.at <= begun - lookback for mark in trail)
        return replace(place, trail=tuple(trail[max(0, settled - 1) :]))

    def is_ahead_of(self, instant: datetime) -> bool:
        """Whether the highest value is an instant after another (aware) one."""
        found = _instant_in(self.value)
        return found is not None and found > instant


def value_of(found: object) -> Value:
    """A cursor value as a database has it."""
    if isinstance(found, datetime):
        return found
    if isinstance(found, (int, float, Decimal)):
        return Decimal(str(found))
    return str(found)


def _has_clock(value: Value) -> bool:
    if isinstance(value, str):
        return _earlier(value, timedelta()) is not None
    return isinstance(value, datetime)


def _instant_in(value: Value) -> datetime | None:
    """A value as an aware instant, without a zone taken as UTC; None: it is none."""
    if value == ENDLESS:
        return datetime.max.replace(tzinfo=UTC)
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(found, datetime):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _alike(value: Value, instant: datetime) -> Value:
    """An instant, or an earlier one, as the clock that wrote another value may show it."""
    if isinstance(value, datetime) and value.tzinfo:
        return instant
    if value == ENDLESS:
        return instant.astimezone(UTC).isoformat(sep=" ")
    written = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if written.tzinfo:
        return instant.astimezone(UTC).isoformat(sep="T" if "T" in str(value) else " ")
    # Whose clock it is nobody says: it may be hours behind.
    local = (instant.astimezone(UTC) - _FARTHEST_WEST).replace(tzinfo=None)
    if isinstance(value, datetime):
        return local
    if len(str(value)) == _DAY_LENGTH:
        return local.date().isoformat()
    return local.isoformat(sep="T" if "T" in str(value) else " ")


def _earlier(value: str, span: timedelta) -> str | None:
    """Of a text that is an instant, as databases without a type for them keep it, an earlier."""
    try:
        earlier = datetime.fromisoformat(value) - span
    except (ValueError, OverflowError):
        return None
    return earlier.isoformat(sep="T" if "T" in value else " ")


def _encoded(value: Value) -> tuple[str, str]:
    match value:
        case datetime():
            return "instant", value.isoformat()
        case Decimal():
            return "number", str(value)
    return "text", value


def _decoded(kind: str, text: object) -> Value:
    match kind:
        case "instant":
            return datetime.fromisoformat(str(text))
        case "number":
            return Decimal(str(text))
    return str(text)


def _instant(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))
