"""Walking over an object's records: all of them by the list, or a window of changes by search.

The list goes in the order of the ids and has no index lag; where the names of the properties make
a short address, it brings their values along. Search walks a window of modified dates by
``hs_object_id > last`` and never by ``after``, so neither 10,000 results nor thousands of equal
dates stop it; only ids are taken from it, because its values may be stale.
https://developers.hubspot.com/docs/api-reference/search/guide
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from connectors.errors import MalformedAnswer
from connectors.hubspot.client import (
    HISTORY_LIMIT,
    LIST_LIMIT,
    SEARCH_LIMIT,
    Answer,
    HubSpotClient,
    Json,
    Unparsable,
)
from connectors.hubspot.cursor import EPOCH, Position, to_ms
from connectors.hubspot.fields import RECORD_ID
from connectors.hubspot.minimum import Minimum

_SECOND: Final = timedelta(seconds=1)
_LONGEST_QUERY: Final = 6_000
"""Characters; addresses of some 16,000 are refused, and proxies take less."""
_OF_PARAMETER: Final = len("propertiesWithHistory=&")

Filter = Mapping[str, object]


@dataclass(slots=True)
class Batch:
    """Records of one page to be."""

    ids: list[str] = field(default_factory=list)
    rows: dict[str, Json] = field(default_factory=dict)
    """Of some or all of the ids, what the list told of them."""
    total: int | None = None
    is_listed: bool = False
    """From the list of all records: what is none of the stream's is left out, not deleted."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Walk:
    """How one object is walked over in this run."""

    client: HubSpotClient
    object: str
    modified: str
    """The property that tells when a record was changed."""
    properties: Sequence[str]
    history: Sequence[str]
    page_size: int
    minimum: Minimum

    # ------------------------------------------------------------ the list

    def listed(self, start: Position) -> Iterator[tuple[Batch, Position | None]]:
        """All records from a place on; with each batch where to go on, None: that was the end."""
        circle = Circle(self.client.connection, self.object)
        after = start.after
        batch = Batch(total=self.count() if after is None else None, is_listed=True)
        while True:
            answer = self._page(after, circle, batch)
            after = answer.after
            if after is None:
                yield batch, None
                return
            if len(batch) >= self.page_size:
                yield batch, replace(start, after=after)
                batch = Batch(is_listed=True)

    def _page(self, after: str | None, circle: Circle, batch: Batch) -> Answer:
        brings_values = self._has_short_address
        try:
            answer = self._read_page(after, circle, brings_values=brings_values)
        except Unparsable:
            if not brings_values:
                raise
            # Some record in it is poison: its neighbours are read in smaller parts.
            brings_values = False
            answer = self._read_page(after, circle, brings_values=False)
        circle.enter(answer.after)
        ids = record_ids(answer)
        batch.ids += ids
        if brings_values:
            batch.rows.update(zip(ids, answer.results, strict=True))
            self.minimum.add(f"values of {self.object}", len(ids), self._list_limit)
        else:
            self.minimum.add(f"list of {self.object}", len(ids), LIST_LIMIT)
        return answer

    def _read_page(self, after: str | None, circle: Circle, *, brings_values: bool) -> Answer:
        if not brings_values:
            return self.client.page(
                self.object, after=after, limit=self.page_size, is_sound=circle.is_new
            )
        return self.client.page(
            self.object,
            after=after,
            limit=self.page_size,
            properties=self.properties,
            history=self.history,
            is_sound=circle.is_new,
        )

    @property
    def _list_limit(self) -> int:
        return HISTORY_LIMIT if self.history else LIST_LIMIT

    @property
    def _has_short_address(self) -> bool:
        names = [*self.properties, *self.history]
        return sum(len(name) + _OF_PARAMETER for name in names) <= _LONGEST_QUERY

    # ------------------------------------------------------------ search

    def window(
        self, start: Position, filters: Sequence[Filter] = ()
    ) -> Iterator[tuple[Batch, Position]]:
        """The ids of records modified in a window, in their order, and where to go on.

        Args:
            start: The window, and the last id that was read.
            filters: What the records have to be beside changed.
        """
        last = start.after or "0"
        batch = Batch()
        is_first = True
        while True:
            answer = self._search(start, last, filters)
            found = record_ids(answer)
            self.minimum.add(f"search of {self.object}", len(found), SEARCH_LIMIT)
            if is_first:
                batch.total, is_first = total_of(answer), False
            batch.ids += found
            last = found[-1] if found else last
            is_last = answer.after is None and (total_of(answer) or 0) <= len(found)
            if is_last or len(batch) >= self.page_size:
                yield batch, replace(start, after=last)
                batch = Batch(total=batch.total)
            if is_last:
                return

    def _search(self, window: Position, last: str, filters: Sequence[Filter]) -> Answer:
        request = {
            "filterGroups": [{"filters": [*self.modified_within(window), *filters, _beyond(last)]}],
            "sorts": [{"propertyName": RECORD_ID, "direction": "ASCENDING"}],
            "properties": [RECORD_ID, self.modified],
            "limit": min(SEARCH_LIMIT, self.page_size),
        }

        def goes_on(answer: Answer) -> bool:
            found = record_ids(answer)
            if not found:
                # "Nothing more" and "so many more" contradict each other.
                return answer.after is None and not total_of(answer)
            numbers = [int(last), *map(int, found)]
            return all(one < other for one, other in pairwise(numbers))

        return self.client.search(self.object, request, goes_on)

    def modified_within(self, window: Position) -> list[Filter]:
        """The filters of a window of modified dates."""
        # The Date header has whole seconds: what was saved in the present one is shown, too.
        return within(self.modified, window.since or EPOCH, window.until + _SECOND)

    def count(self, filters: Sequence[Filter] = ()) -> int | None:
        """How many records the index shows now."""
        groups = [{"filters": list(filters)}] if filters else []
        request = {"limit": 1, "properties": [RECORD_ID], "filterGroups": groups}
        return total_of(self.client.search(self.object, request, lambda _: True))


class Circle:
    """Notices pages that lead back to where one has been."""

    def __init__(self, connection: str, what: str) -> None:
        self._connection = connection
        self._what = what
        self._seen: set[str] = set()

    def is_new(self, answer: Answer) -> bool:
        """Whether an answer leads on; one that does not is asked for again.

        Raises:
            MalformedAnswer: it leads back.
        """
        if answer.after is not None and answer.after in self._seen:
            raise MalformedAnswer(
                self._connection, f"HubSpot's pages of {self._what} go in a circle."
            )
        return True

    def enter(self, after: str | None) -> None:
        """Remember where the next page begins."""
        if after is not None:
            self._seen.add(after)


def within(name: str, since: datetime, end: datetime) -> list[Filter]:
    """The filters of a span of instants, its end left out."""
    return [
        {"propertyName": name, "operator": "GTE", "value": str(to_ms(since))},
        {"propertyName": name, "operator": "LT", "value": str(to_ms(end))},
    ]


def record_ids(answer: Answer) -> list[str]:
    """The ids of an answer's records."""
    return [str(row["id"]) for row in answer.results]


def total_of(answer: Answer) -> int | None:
    """How many records a search found in all."""
    total = answer.content.get("total")
    return total if isinstance(total, int) else None


def _beyond(last: str) -> Filter:
    return {"propertyName": RECORD_ID, "operator": "GT", "value": last}
