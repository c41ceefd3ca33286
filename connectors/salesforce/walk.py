"""Rows of a window in the order of (change time, id), whatever Salesforce does on the way.

Pages come smaller than asked for, thousands of rows share one change time, running queries are
forgotten, paging links lead in a circle, a span is too heavy for one query, a column disappears
between two pages. Out come chunks of rows, each with the position after which a later walk goes
on. A running query is followed by its links, which costs no more than a call a page; its position
is only needed when it breaks off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from connectors.base import ConnectionSettings
from connectors.errors import (
    CrmUnavailable,
    CursorExpired,
    MalformedAnswer,
    MisconfiguredConnection,
)
from connectors.salesforce.client import LONGEST_URI, QueryResult, SalesforceClient
from connectors.salesforce.faults import QueryTooHeavy, UnknownName, Unparsable
from connectors.salesforce.mapping import StreamMap
from connectors.salesforce.schema import KnownShapes, OrgSchema
from connectors.salesforce.soql import MOST_IDS, Selection, column_groups
from connectors.salesforce.streams import StreamSpec
from connectors.salesforce.tally import LARGEST_PAGE, Tally

_BEGINNING: Final = datetime(1999, 1, 1, tzinfo=UTC)
"""No Salesforce record is older."""
_NARROWEST: Final = timedelta(minutes=1)
"""A query too heavy for a span as short as this is beyond help."""
_MOST_RESTARTS: Final = 5
"""Without a single row between them."""
_MOST_DISTRUST: Final = 3
"""Answers to one walk that cannot be true."""
MOST_ROWS: Final = 50_000
"""Of one query: what Salesforce has to sort for us at once."""
_ID_BYTES: Final = 27
"""Of one more id in ``IN (…)``, encoded."""
_LONGEST_LITERAL: Final = datetime(2000, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
_SOME_ID: Final = "0" * 18
_FEWEST_IDS: Final = 200
"""That shall fit beside the columns of a further query."""

Row = Mapping[str, Any]


class TooManyRows(Exception):
    """A walk would bring more rows than it was meant for: another way of reading is better."""


class StillTooHeavy(CrmUnavailable):
    """Salesforce gives up on the query however short its span is."""


class _Distrusted(MalformedAnswer):
    """An answer that cannot be true; the query is asked again from the last good row."""


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
        self,
        client: SalesforceClient,
        settings: ConnectionSettings,
        stream: str,
        *,
        tally: Tally,
        known: KnownShapes,
        spec: StreamSpec | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._stream = stream
        self._tally = tally
        self._spec = spec
        self._limit = settings.tuning.page_size or MOST_ROWS
        self.unread: dict[str, str] = {}
        """Rows whose values no JSON reader takes, by id: what is wrong; whoever maps empties it."""
        self.queries = 0
        """How many queries were begun; more than one: the rows are no single picture."""
        self._look(known)

    map: StreamMap
    """How rows become records; newer when a column disappeared on the way."""
    selection: Selection

    def calls_for(self, rows: int) -> int:
        """About how many calls a walk over so many rows takes."""
        pages = -(-rows // LARGEST_PAGE)
        wider = sum(-(-rows // self._ids_at_once(group)) for group in self._groups[1:])
        return pages + wider

    def chunks(  # noqa: C901, PLR0912  # the order of these few cases is the algorithm
        self,
        *,
        low: datetime | None,
        high: datetime | None,
        at: datetime | None,
        after_id: str,
        most_calls: int | None = None,
    ) -> Iterator[Chunk]:
        """All rows of ``low <= change time < high``, behind the position (at, after_id) if any.

        The last chunk, perhaps an empty one, has `is_end`.

        Raises:
            TooManyRows: it would take more than `most_calls`; nothing was read yet.
        """
        ceiling, after, in_tie, restarts, distrust = high, at, at is not None, 0, 0
        columns: Sequence[str] = self._groups[0]
        while True:
            asked = (
                self._tie(columns, at, after_id)
                if in_tie
                else self._window(columns, low, ceiling, after)
            )
            count, is_end = 0, False
            self.queries += 1
            try:
                for result in self._results(asked, columns):
                    if most_calls is not None and self.calls_for(result.total) > most_calls:
                        raise TooManyRows
                    most_calls = None
                    count += len(result.records)
                    if result.records:
                        at, after_id = self._position(result.records, at, after_id, high)
                        restarts = 0
                    is_end = (
                        not in_tie
                        and result.next_url is None
                        and count < self._limit
                        and ceiling == high
                    )
                    if result.records or is_end:
                        yield self._chunk(result, at, after_id, columns, is_end=is_end)
            except (CursorExpired, _Distrusted) as fault:
                restarts += 1
                distrust += isinstance(fault, _Distrusted)
                if restarts > _MOST_RESTARTS or distrust > _MOST_DISTRUST:
                    raise
                after, in_tie = at, at is not None
                continue
            except QueryTooHeavy as fault:
                ceiling = self._nearer(after or low, ceiling, fault, in_tie=in_tie)
                continue
            except UnknownName as fault:
                self.look_again(fault)
                columns = self._groups[0]
                continue
            except Unparsable:
                if columns == self._marks:
                    raise
                # Some row is poison: from here on rows are listed, and read in parts by id.
                columns, after, in_tie = self._marks, at, at is not None
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
        step = self._ids_at_once(self._groups[0])
        for start in range(0, len(ids), step):
            some = ids[start : start + step]
            rows.extend(self._widened(self._by_id(self._groups[0], some)))
        return rows

    def _by_id(self, columns: Sequence[str], ids: Sequence[str]) -> list[Row]:
        """Rows by id in one call; one that no JSON reader takes ends alone in `unread`."""
        try:
            results = self._results(self.selection.by_id(columns, ids), columns)
            return [row for result in results for row in result.records]
        except Unparsable as fault:
            if len(ids) == 1:
                self.unread[ids[0]] = fault.message
                return []
            half = len(ids) // 2
            return self._by_id(columns, ids[:half]) + self._by_id(columns, ids[half:])

    def linked(self, column: str, to: Sequence[str]) -> Iterator[list[Row]]:
        """Rows that point to one of these ids, deleted ones in the bin included."""
        step = self._ids_at_once(self._groups[0])
        for start in range(0, len(to), step):
            some = to[start : start + step]
            asked = self.selection.linked(self._groups[0], by=column, to=some)
            for result in self._results(asked, self._groups[0]):
                yield self._widened(result.records)

    def count(self, high: datetime | None = None) -> int:
        """How many rows there are in all, or were changed before `high`."""
        self._tally.calls()
        try:
            return self._client.count(self.selection.count(high=high))
        except UnknownName as fault:
            raise self._misnamed(fault) from None

    # ------------------------------------------------------------ queries

    def _window(
        self,
        columns: Sequence[str],
        low: datetime | None,
        high: datetime | None,
        after: datetime | None,
    ) -> str:
        return self.selection.window(columns, low=low, high=high, after=after)

    def _tie(self, columns: Sequence[str], at: datetime | None, after_id: str) -> str:
        assert at is not None  # noqa: S101  # a tie is a tie with something
        return self.selection.tie(columns, at=at, after_id=after_id)

    def _results(self, soql: str, columns: Sequence[str]) -> Iterator[QueryResult]:
        # A column without a value comes as null. One that does not come at all is none.
        heads = {column.partition(".")[0] for column in columns}
        result = self._client.query(soql)
        visited: set[str] = set()
        total, came = result.total, 0
        while True:
            came += len(result.records)
            self._tally.rows(len(result.records))
            for row in result.records:
                if not heads <= row.keys():
                    lacking = ", ".join(sorted(heads - row.keys()))
                    raise self._distrusted(f"rows lack {lacking}, which was asked for")
            if result.next_url is None and came < total:
                raise self._distrusted(f"it speaks of {total} rows and brought {came}")
            yield result
            if result.next_url is None:
                return
            if result.next_url in visited:
                raise self._distrusted("the same page is named as the next one again and again")
            visited.add(result.next_url)
            result = self._client.next_page(result.next_url)

    def _chunk(
        self,
        result: QueryResult,
        at: datetime | None,
        after_id: str,
        columns: Sequence[str],
        *,
        is_end: bool,
    ) -> Chunk:
        column = self.map.cursor_column
        is_listed = columns is not self._groups[0]
        listed = [row["Id"] for row in result.records] if is_listed else []
        return Chunk(
            rows=self.by_id(listed) if is_listed else self._widened(result.records),
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
            step = self._ids_at_once(group)
            for start in range(0, len(ids), step):
                some = ids[start : start + step]
                more.update((row["Id"], row) for row in self._by_id(group, some))
            widened = {
                row_id: {**more[row_id], **row} for row_id, row in widened.items() if row_id in more
            }
        return list(widened.values())

    # ------------------------------------------------------------ what cannot be trusted

    def _position(
        self, rows: Sequence[Row], at: datetime | None, after_id: str, high: datetime | None
    ) -> tuple[datetime | None, str]:
        """The position behind rows, which must be later than the one before them.

        A row that was edited after the query began may show its new change time, behind the
        window: it says nothing about where we are.
        """
        column = self.map.cursor_column
        try:
            placed = [(row[column], row["Id"]) for row in rows]
            if high is not None and datetime.fromisoformat(max(placed)[0]) >= high:
                placed = [each for each in placed if datetime.fromisoformat(each[0]) < high]
            if not placed:
                return at, after_id
            first = datetime.fromisoformat(placed[0][0])
            last, last_id = datetime.fromisoformat(placed[-1][0]), placed[-1][1]
            is_sorted = all(one[0] <= two[0] for one, two in pairwise(placed))
        except (KeyError, TypeError, ValueError):
            raise self._distrusted(f"rows lack their Id or {column}") from None
        if not is_sorted or (at is not None and first < at):
            raise self._distrusted("rows are not in the order asked for")
        if (last, last_id) == (at, after_id) or not isinstance(last_id, str):
            raise self._distrusted("the same rows come again")
        return last, last_id

    def _distrusted(self, what: str) -> _Distrusted:
        return _Distrusted(
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
            raise StillTooHeavy(
                self._settings.name,
                f"{fault.message} Nothing was read past this point; it is tried again at the next"
                f" pull. A narrower streams.{self._stream}.where or fewer fields would help.",
            ) from None
        return (start + span / 2).replace(microsecond=0)

    # ------------------------------------------------------------ what the org looks like

    def _look(self, known: KnownShapes | None) -> None:
        schema = OrgSchema(self._client, known)
        self.map = StreamMap(self._settings, self._stream, schema, self._spec)
        self._tally.calls(schema.described)
        self.server_time = self.map.shape.server_time
        self.selection = Selection(
            object=self.map.shape.name,
            cursor_column=self.map.cursor_column,
            where=self.map.where,
            limit=self._limit,
            live_where=self.map.live_where,
        )
        self._groups = self._column_groups()

    def look_again(self, fault: UnknownName) -> None:
        """A name was refused: did a column disappear meanwhile?

        Raises:
            MisconfiguredConnection: no, so the filter or the mapping is wrong.
        """
        before = self.map.columns
        self._look(None)
        if self.map.columns == before:
            raise self._misnamed(fault) from None

    def _misnamed(self, fault: UnknownName) -> MisconfiguredConnection:
        return MisconfiguredConnection(
            self._settings.name,
            f"{fault.message} Check where and fields of streams.{self._stream}.",
        )

    @property
    def _marks(self) -> Sequence[str]:
        """The columns that tell which row it is, and when it changed."""
        return self.map.columns[: self.map.mark_count]

    def _column_groups(self) -> list[list[str]]:
        marks, rest = self._marks, self.map.columns[self.map.mark_count :]
        late = _LONGEST_LITERAL

        def first(columns: Sequence[str]) -> int:
            text = self.selection.window(columns, low=None, high=late, after=late)
            return self._client.uri_bytes(text)

        def further(columns: Sequence[str]) -> int:
            return self._client.uri_bytes(self.selection.by_id(columns, [_SOME_ID] * _FEWEST_IDS))

        if further(marks) > LONGEST_URI:
            raise MisconfiguredConnection(
                self._settings.name,
                f"streams.{self._stream}.where is too long for one request. Shorten it, for"
                " example by a formula field or a list view's field.",
            )
        return column_groups(rest, marks, first=first, further=further, longest=LONGEST_URI)

    def _ids_at_once(self, columns: Sequence[str]) -> int:
        """How many ids fit beside these columns into a request line."""
        taken = self._client.uri_bytes(self.selection.by_id(columns, [_SOME_ID]))
        return max(1, min(MOST_IDS, (LONGEST_URI - taken) // _ID_BYTES))
