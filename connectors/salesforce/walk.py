"""Rows of a window in the order of (change time, id), whatever Salesforce does on the way.

Pages come smaller than asked for, thousands of rows share one change time, running queries are
forgotten, a span is too heavy for one query, a column disappears between two pages. Out come
chunks of rows, each with the position after which a later walk goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.base import ConnectionSettings
from connectors.errors import (
    CrmUnavailable,
    CursorExpired,
    MalformedAnswer,
    MisconfiguredConnection,
)
from connectors.salesforce.client import LONGEST_URI, QueryResult, SalesforceClient
from connectors.salesforce.faults import QueryTooHeavy, UnknownName
from connectors.salesforce.mapping import StreamMap, stream_settings
from connectors.salesforce.schema import OrgSchema
from connectors.salesforce.soql import IDS_AT_ONCE, Selection, column_groups

_BEGINNING: Final = datetime(1999, 1, 1, tzinfo=UTC)
"""No Salesforce record is older."""
_NARROWEST: Final = timedelta(minutes=1)
"""A query too heavy for a span as short as this is beyond help."""
_MOST_RESTARTS: Final = 5
"""Without a single row between them."""
_LONGEST_LITERAL: Final = datetime(2000, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
_SOME_ID: Final = "0" * 18

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one answer, and the position behind them."""

    rows: Sequence[Row]
    read: Sequence[str]
    """Change times of all rows that were passed, as Salesforce writes them."""
    at: datetime | None
    id: str
    is_end: bool


class Walk:
    """Reads rows of one stream's object with the columns that its map asks for."""

    def __init__(
        self, client: SalesforceClient, settings: ConnectionSettings, stream: str, limit: int
    ) -> None:
        self._client = client
        self._settings = settings
        self._stream = stream
        self._limit = limit
        self._look()

    map: StreamMap
    """How rows become records; newer when a column disappeared on the way."""
    selection: Selection

    def chunks(  # noqa: C901  # the order of these few cases is the algorithm
        self, *, low: datetime | None, high: datetime | None, at: datetime | None, after_id: str
    ) -> Iterator[Chunk]:
        """All rows of ``low <= change time < high``, behind the position (at, after_id) if any.

        The last chunk, perhaps an empty one, has `is_end`.
        """
        ceiling, after, in_tie, restarts = high, at, at is not None, 0
        while True:
            asked = self._tie(at, after_id) if in_tie else self._window(low, ceiling, after)
            count, is_end = 0, False
            try:
                for result in self._results(asked):
                    count += len(result.records)
                    if result.records:
                        at, after_id = self._position(result.records, at, after_id)
                        restarts = 0
                    is_end = (
                        not in_tie
                        and result.next_url is None
                        and count < self._limit
                        and ceiling == high
                    )
                    if result.records or is_end:
                        yield self._chunk(result, at, after_id, is_end=is_end)
            except CursorExpired:
                restarts += 1
                if restarts > _MOST_RESTARTS:
                    raise
                after, in_tie = at, at is not None
                continue
            except QueryTooHeavy as fault:
                ceiling = self._nearer(after or low, ceiling, fault, in_tie=in_tie)
                continue
            except UnknownName as fault:
                self._look_again(fault)
                continue
            if is_end:
                return
            if count >= self._limit:
                in_tie = True
            elif in_tie:
                after, in_tie = at, False
            else:
                # A narrowed window is through: the rest of the whole one follows.
                low, after, ceiling = ceiling, None, high

    def by_id(self, ids: Sequence[str]) -> list[Row]:
        """The rows of these ids that exist, deleted ones in the bin included."""
        rows: list[Row] = []
        for start in range(0, len(ids), IDS_AT_ONCE):
            some = ids[start : start + IDS_AT_ONCE]
            for result in self._results(self.selection.by_id(self._groups[0], some)):
                rows.extend(self._widened(result.records))
        return rows

    def count(self, high: datetime | None = None) -> int:
        """How many rows there are in all, or were changed before `high`."""
        try:
            return self._client.count(self.selection.count(high=high))
        except UnknownName as fault:
            raise self._misnamed(fault) from None

    # ------------------------------------------------------------ queries

    def _window(self, low: datetime | None, high: datetime | None, after: datetime | None) -> str:
        return self.selection.window(self._groups[0], low=low, high=high, after=after)

    def _tie(self, at: datetime | None, after_id: str) -> str:
        assert at is not None  # noqa: S101  # a tie is a tie with something
        return self.selection.tie(self._groups[0], at=at, after_id=after_id)

    def _results(self, soql: str) -> Iterator[QueryResult]:
        result = self._client.query(soql)
        visited: set[str] = set()
        while True:
            yield result
            if result.next_url is None:
                return
            if result.next_url in visited:
                raise self._malformed("the same page is named as the next one again and again")
            visited.add(result.next_url)
            result = self._client.next_page(result.next_url)

    def _chunk(
        self, result: QueryResult, at: datetime | None, after_id: str, *, is_end: bool
    ) -> Chunk:
        column = self.map.cursor_column
        return Chunk(
            rows=self._widened(result.records),
            read=[row[column] for row in result.records],
            at=at,
            id=after_id,
            is_end=is_end,
        )

    def _widened(self, rows: Sequence[Row]) -> list[Row]:
        """Rows with the columns that did not fit into the first query.

        A row that is gone meanwhile is left out: its deletion is told elsewhere.
        """
        widened: dict[str, Row] = {row["Id"]: row for row in rows}
        for group in self._groups[1:]:
            ids = list(widened)
            more: dict[str, Row] = {}
            for start in range(0, len(ids), IDS_AT_ONCE):
                some = ids[start : start + IDS_AT_ONCE]
                for result in self._results(self.selection.by_id(group, some)):
                    more.update((row["Id"], row) for row in result.records)
            widened = {
                row_id: {**more[row_id], **row} for row_id, row in widened.items() if row_id in more
            }
        return list(widened.values())

    # ------------------------------------------------------------ what cannot be trusted

    def _position(
        self, rows: Sequence[Row], at: datetime | None, after_id: str
    ) -> tuple[datetime, str]:
        """The position behind rows, which must be later than the one before them."""
        column = self.map.cursor_column
        try:
            stamps = [row[column] for row in rows]
            first, last = datetime.fromisoformat(stamps[0]), datetime.fromisoformat(stamps[-1])
            last_id = rows[-1]["Id"]
            is_sorted = all(map(str.__le__, stamps, stamps[1:]))
        except (KeyError, TypeError, ValueError):
            raise self._malformed(f"rows lack their Id or {column}") from None
        if not is_sorted or (at is not None and first < at):
            raise self._malformed("rows are not in the order asked for")
        if (last, last_id) == (at, after_id) or not isinstance(last_id, str):
            raise self._malformed("the same rows come again")
        return last, last_id

    def _malformed(self, what: str) -> MalformedAnswer:
        return MalformedAnswer(
            self._settings.name,
            f"Salesforce's answer for {self.selection.object} is wrong: {what}.",
        )

    def _nearer(
        self,
        low: datetime | None,
        high: datetime | None,
        fault: QueryTooHeavy,
        *,
        in_tie: bool,
    ) -> datetime:
        """An upper bound halfway: half the span is half the work."""
        start = low or _BEGINNING
        span = (high or self._client.server_time()) - start
        if in_tie or span <= _NARROWEST:
            raise CrmUnavailable(
                self._settings.name,
                f"{fault.message} Nothing was read past this point; it is tried again at the next"
                f" pull. A narrower streams.{self._stream}.where or fewer fields would help.",
            ) from None
        return (start + span / 2).replace(microsecond=0)

    # ------------------------------------------------------------ what the org looks like

    def _look(self) -> None:
        self.map = StreamMap(self._settings, self._stream, OrgSchema(self._client))
        self.selection = Selection(
            object=self.map.shape.name,
            cursor_column=self.map.cursor_column,
            where=stream_settings(self._settings, self._stream).where,
            limit=self._limit,
        )
        self._groups = self._column_groups()

    def _look_again(self, fault: UnknownName) -> None:
        """A name was refused: did a column disappear meanwhile?"""
        before = self.map.columns
        self._look()
        if self.map.columns == before:
            raise self._misnamed(fault) from None

    def _misnamed(self, fault: UnknownName) -> MisconfiguredConnection:
        return MisconfiguredConnection(
            self._settings.name,
            f"{fault.message} Check where and fields of streams.{self._stream}.",
        )

    def _column_groups(self) -> list[list[str]]:
        marks, rest = (
            self.map.columns[: self.map.mark_count],
            self.map.columns[self.map.mark_count :],
        )
        late = _LONGEST_LITERAL

        def first(columns: Sequence[str]) -> int:
            text = self.selection.window(columns, low=None, high=late, after=late)
            return self._client.uri_bytes(text)

        def further(columns: Sequence[str]) -> int:
            return self._client.uri_bytes(self.selection.by_id(columns, [_SOME_ID] * IDS_AT_ONCE))

        if further(marks) > LONGEST_URI:
            raise MisconfiguredConnection(
                self._settings.name,
                f"streams.{self._stream}.where is too long for one request. Shorten it, for"
                " example by a formula field or a list view's field.",
            )
        return column_groups(rest, marks, first=first, further=further, longest=LONGEST_URI)
