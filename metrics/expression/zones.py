"""Local days of instants, and first instants of local days, in SQL.

Neither store's own idea of time zones is asked: both answer from the same table of the instants
at which the company's clocks changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Column, Connection, MetaData, Text, case, cast, literal, select
from sqlalchemy.sql.elements import ColumnElement

from store import temporary
from store.loading import load

DAY: Final = 86_400_000_000
"""Microseconds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR, _LAST_YEAR = 1850, 2200
_STEP: Final = timedelta(days=7)
_BEGINNING: Final = -(2**62)
_FAR: Final = 1_000_000
"""Days: added before a division so that nothing negative is divided."""

CLOCKS: Final = temporary.table(
    "clock_changes",
    MetaData(),
    Column("since", BigInteger, primary_key=True),
    Column("wall", BigInteger, nullable=False),
    Column("ahead", BigInteger, nullable=False),
    Column("zone", Text, nullable=False),
)
"""From which instant on clocks show how much more than UTC, and what they showed just before."""


@lru_cache(maxsize=8)
def changes_of(zone: ZoneInfo) -> Sequence[tuple[int, int, int]]:
    """The changes of a zone's clocks: since, what they showed just before, how far ahead."""
    at = datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
    ahead = _ahead(at, zone)
    found = [(_BEGINNING, _BEGINNING, ahead)]
    while at.year < _LAST_YEAR:
        following = at + _STEP
        later = _ahead(following, zone)
        if later != ahead:
            since = _number(_first_with(zone, at, following, ahead))
            found.append((since, since + ahead, later))
            ahead = later
        at = following
    return tuple(found)


def _first_with(zone: ZoneInfo, low: datetime, high: datetime, ahead: int) -> datetime:
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if _ahead(middle, zone) == ahead:
            low = middle
        else:
            high = middle
    return high


def _ahead(at: datetime, zone: ZoneInfo) -> int:
    offset = at.astimezone(zone).utcoffset() or timedelta()
    return offset // timedelta(microseconds=1)


def _number(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def first_instant(day: int, zone: ZoneInfo) -> int:
    """The instant (microseconds) with which a local day begins."""
    changes = changes_of(zone)
    shown = day * DAY
    since, _, ahead = changes[bisect_right([wall for _, wall, _ in changes], shown) - 1]
    return max(since, shown - ahead)


def prepare(conn: Connection, zone: ZoneInfo) -> None:
    """Let statements on this connection know the zone."""
    temporary.prepare(conn, [CLOCKS])
    rows = [(*change, zone.key) for change in changes_of(zone)]
    load(conn, CLOCKS.name, ("since", "wall", "ahead", "zone"), rows)
    temporary.analyze(conn, CLOCKS.name, len(rows))


def local_day(instant: ColumnElement[int]) -> ColumnElement[int]:
    """The local day of an instant."""
    ahead = (
        select(CLOCKS.c.ahead)
        .where(CLOCKS.c.since <= instant)
        .order_by(CLOCKS.c.since.desc())
        .limit(1)
        .correlate_except(CLOCKS)
        .scalar_subquery()
    )
    return (instant + ahead + _FAR * DAY) // DAY - _FAR


def midnight(day: ColumnElement[int]) -> ColumnElement[int]:
    """The instant with which a local day begins."""
    shown = cast(day, BigInteger) * literal(DAY, BigInteger())
    begins = shown - CLOCKS.c.ahead
    return (
        select(case((begins < CLOCKS.c.since, CLOCKS.c.since), else_=begins))
        .where(CLOCKS.c.wall <= shown)
        .order_by(CLOCKS.c.wall.desc())
        .limit(1)
        .correlate_except(CLOCKS)
        .scalar_subquery()
    )
