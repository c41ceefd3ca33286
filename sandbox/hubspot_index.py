"""The search index of one object type: by id and by modified date, as far as it has caught up."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeAlias, TypeVar

from sandbox.org import Record, State

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
FEW = 64
"""Keys that are put in their places one by one; more are sorted together."""
REMEMBERED_QUERIES = 8

Found: TypeAlias = tuple[Record, State]


K = TypeVar("K", int, tuple[int, int])


def milliseconds(instant: datetime) -> int:
    """An instant as the number HubSpot compares."""
    return (instant - EPOCH) // MILLISECOND


class SortedKeys(Generic[K]):
    """Keys in order; adding many at once costs one sort, when they are next looked at."""

    def __init__(self) -> None:
        self._keys: list[K] = []
        self._added: list[K] = []

    def add(self, key: K) -> None:
        """Put one more in."""
        self._added.append(key)

    def all(self) -> list[K]:
        """All of them, in order; not to be changed."""
        if 0 < len(self._added) <= FEW:
            for key in self._added:
                insort(self._keys, key)
        elif self._added:
            self._keys.extend(self._added)
            self._keys.sort()
        self._added.clear()
        return self._keys

    def drop(self, key: K) -> None:
        """Take one out."""
        keys = self.all()
        place = bisect_left(keys, key)
        if keys[place : place + 1] == [key]:
            del keys[place]

    def __len__(self) -> int:
        return len(self._keys) + len(self._added)


class SearchIndex:
    """What search sees of one object type."""

    def __init__(self) -> None:
        self.records: dict[int, Found] = {}
        self._times: dict[int, int] = {}
        self._ids: SortedKeys[int] = SortedKeys()
        self._by_time: SortedKeys[tuple[int, int]] = SortedKeys()
        self._remembered: OrderedDict[str, list[int]] = OrderedDict()

    def show(self, record: Record, state: State) -> None:
        """A record as search sees it from now on."""
        number, time = int(record.id), milliseconds(state.modified_at)
        if number not in self.records:
            self._ids.add(number)
        if self._times.get(number) != time:
            self._times[number] = time
            self._by_time.add((time, number))
        self.records[number] = (record, state)
        self._remembered.clear()

    def hide(self, record_id: str) -> None:
        """Search does not see this record any more."""
        number = int(record_id)
        if self.records.pop(number, None) is not None:
            del self._times[number]
            self._ids.drop(number)
            self._remembered.clear()

    def ids(self) -> Sequence[int]:
        """All ids, rising."""
        return self._ids.all()

    def modified_within(self, low: int | None, high: int | None) -> Iterator[int]:
        """Ids of the records with ``low <= modified < high`` (milliseconds), in any order."""
        self._tidy()
        keys = self._by_time.all()
        start = 0 if low is None else bisect_left(keys, (low, 0))
        end = len(keys) if high is None else bisect_left(keys, (high, 0))
        seen: set[int] = set()
        for time, number in keys[start:end]:
            if self._times.get(number) == time and number not in seen:
                seen.add(number)
                yield number

    def remembered(self, query: str, find: Callable[[], list[int]]) -> list[int]:
        """What a query finds; found once until the index changes."""
        if query in self._remembered:
            self._remembered.move_to_end(query)
        else:
            self._remembered[query] = find()
        while len(self._remembered) > REMEMBERED_QUERIES:
            self._remembered.popitem(last=False)
        return self._remembered[query]

    def _tidy(self) -> None:
        """Drop the times that records no longer have, once they are the greater part."""
        if len(self._by_time) > 2 * len(self.records) + FEW:
            current = {(time, number) for number, time in self._times.items()}
            self._by_time = SortedKeys()
            for key in current:
                self._by_time.add(key)
