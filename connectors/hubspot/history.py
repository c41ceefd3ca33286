"""The history of a stage property: when a record entered which stage.

HubSpot keeps a limited number of values (20, of contacts 45). An entry's id is made of its record,
its time and its stage, so what was seen once stays stored when HubSpot has forgotten it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.hubspot.client import Json
from connectors.values import ReadOptions, Unreadable, reader

_READ_INSTANT: Final = reader("datetime", ReadOptions(zone=UTC, prefix=""))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record stood in `stage` (a native id) from `at` on."""

    native_id: str
    stage: str
    at: datetime


def entries(row: Json, source: str) -> Iterator[Entry]:
    """What `source` held over time, oldest first.

    Raises:
        Unreadable: an entry has no time.
    """
    history = (row.get("propertiesWithHistory") or {}).get(source) or ()
    before: tuple[int, str] | None = None
    again = 0
    # Newest first as it comes: entries of one millisecond keep their order by their ids.
    for entry in reversed(history):
        stage = entry.get("value")
        if not stage:
            continue  # cleared: the record stood in no stage
        at = _READ_INSTANT(entry.get("timestamp"))
        if not isinstance(at, datetime):
            raise Unreadable("no_timestamp", "has no time")
        stamp = (at - _EPOCH) // _MILLISECOND
        if before == (stamp, stage):
            continue
        again = again + 1 if before and before[0] == stamp else 0
        before = (stamp, stage)
        # "-" sorts before ".", so the first of a millisecond stays the first.
        place = f"{stamp}.{again}" if again else f"{stamp}"
        yield Entry(f"{row['id']}-{place}-{stage}", str(stage), at)
