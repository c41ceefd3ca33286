"""Reading streams.

Owners and stages are few: they are read whole, every time.

Companies and deals are read in one of two ways. Everything: the list endpoint walks the ids in
their order (100 a call, no search quota, no index lag), and what changes meanwhile falls into the
next increment, which begins at the start of the walk. What changed: search walks a window of
modified dates by ``hs_object_id > last`` and never by ``after``, so neither 10,000 results nor
thousands of equal dates stop it. Its upper end is HubSpot's clock at the start; the index trails
writes, so the next window overlaps by the lookback. Either way only ids are taken from there:
values come from batch reads, which are never stale and have no long addresses.

Every pull ends with the list of archived records, because archiving moves no modified date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import orjson

from connectors.base import Cursor, Page, Tuning
from connectors.errors import MalformedAnswer, MisconfiguredConnection
from connectors.hubspot.client import SEARCH_LIMIT, Answer, HubSpotClient, Json
from connectors.hubspot.fields import MODIFIED, RECORD_ID
from connectors.hubspot.mapping import Mapped, Pipelines, loser, owner_of, pipelines_of
from connectors.hubspot.reading import chunks, fetch, links
from store.canonical import RecordRef, RejectedRecord

LOOKBACK: Final = timedelta(minutes=10)
"""HubSpot gives no bound for how far search trails writes; ten minutes are far beyond reports."""

PAGE_SIZE: Final = 1000
"""Records a page: one call for their links, one transaction in the store."""

REMEMBERED_ARCHIVED: Final = 5000
"""Ids of archived records that a cursor carries, to notice those that are restored."""
REMEMBERED_UNSETTLED: Final = 1000

_SECOND: Final = timedelta(seconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

LIST: Final = "list"
WINDOW: Final = "window"
DONE: Final = "done"

MapRow = Callable[[Json, Mapping[str, str | None], Mapped], None]


# ---------------------------------------------------------------- owners and stages


def pull_owners(client: HubSpotClient) -> Iterator[Page]:
    """Every owner, active and archived: old deals still name those who left."""
    began: datetime | None = None
    pages: list[Page] = []
    for archived in (False, True):
        after: str | None = None
        circle = _Circle(client.connection, "owners")
        while True:
            answer = client.owners(archived=archived, after=after)
            began = began or answer.at
            records = [owner_of(client.connection, one) for one in answer.results]
            pages.append(Page(records=records, resume_at=None))
            after = circle.checked(answer.after)
            if after is None:
                break
            yield pages.pop()
        if not archived:
            yield pages.pop()
    yield replace(pages.pop(), complete_until=began, resume_at=_whole(began))


def pull_stages(client: HubSpotClient, object_name: str) -> Iterator[Page]:
    """Every stage of every pipeline of an object."""
    answer = client.pipelines(object_name)
    pipelines = pipelines_of(client.connection, answer.results)
    yield Page(
        records=list(pipelines.stages.values()),
        resume_at=_whole(answer.at),
        complete_until=answer.at,
        total=len(pipelines.stages),
    )


def _whole(at: datetime | None) -> Cursor:
    return Position(phase=DONE, until=at or _EPOCH).as_cursor()


# ---------------------------------------------------------------- positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a pull of companies or deals stands; its JSON is the cursor."""

    phase: str
    until: datetime
    """The stream will be complete up to here, by HubSpot's clock at the start of the phase."""
    since: datetime | None = None
    """The window's first instant; in a list there is none."""
    after: str | None = None
    """List: where the next page begins. Window: the last id that was read."""
    archived: tuple[str, ...] = ()
    """Records that were archived when the last pull ended."""
    unsettled: tuple[str, ...] = ()
    """Records of which HubSpot did not tell everything; they are asked for again."""

    def as_cursor(self) -> Cursor:
        """The cursor that leads back here."""
        content = {
            "v": 1,
            "phase": self.phase,
            "until": _to_ms(self.until),
            "since": None if self.since is None else _to_ms(self.since),
            "after": self.after,
            "archived": self.archived,
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
        since = content.get("since")
        return Position(
            phase=str(content["phase"]),
            until=_from_ms(content["until"]),
            since=None if since is None else _from_ms(since),
            after=content.get("after"),
            archived=tuple(content.get("archived", ())),
            unsettled=tuple(content.get("unsettled", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MisconfiguredConnection(
            connection,
            "The checkpoint of this stream cannot be read. Start it again: kpisync state reset"
            f" {connection}, or pull --full.",
        ) from error


def _to_ms(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND


def _from_ms(milliseconds: int) -> datetime:
    return _EPOCH + int(milliseconds) * _MILLISECOND


# ---------------------------------------------------------------- companies and deals


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPlan:
    """How one object becomes one stream in this run."""

    stream: str
    object: str
    properties: Sequence[str]
    history: Sequence[str]
    links: Sequence[str]
    """Objects to which the records are linked."""
    map_row: MapRow
    warnings: Sequence[str]
    unreadable: frozenset[str]
    began: datetime
    """HubSpot's clock when the run began."""


@dataclass(slots=True)
class _Batch:
    """Ids of one page to be."""

    ids: list[str]
    position: Position
    """Where to go on after them."""
    total: int | None = None


@dataclass(slots=True)
class ObjectPull:
    """One pull of companies or deals."""

    client: HubSpotClient
    tuning: Tuning
    plan: ObjectPlan
    _unsettled: dict[str, None] = field(default_factory=dict)

    def pages(self, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read everything (None), from a date on, or from a cursor on."""
        start, is_resumed = self._start(since)
        warnings: Sequence[str] = self.plan.warnings
        if start.unsettled:
            yield self._page(list(start.unsettled), start, warnings=warnings)
            warnings = ()
        position = start
        for phase in self._phases(start, is_resumed=is_resumed):
            for batch in phase:
                position = batch.position
                if batch.ids:
                    yield self._page(batch.ids, position, total=batch.total, warnings=warnings)
                    warnings = ()
        yield from self._archived(position, warnings)

    def _start(self, since: Cursor | datetime | None) -> tuple[Position, bool]:
        """Where to begin, and whether that is in the midst of an interrupted pull."""
        now = self.plan.began
        if since is None:
            return Position(phase=LIST, until=now), False
        if isinstance(since, datetime):
            return Position(phase=WINDOW, since=since.astimezone(UTC), until=now), False
        saved = position_of(self.client.connection, since)
        if saved.phase == DONE:
            return self._next_window(saved), False
        return saved, True

    def _next_window(self, done: Position) -> Position:
        # HubSpot's clock may have been set back: what it stamps now must not lie before the window.
        lookback = self.tuning.lookback
        overlap = LOOKBACK if lookback is None else lookback
        since = max(_EPOCH, min(done.until, self.plan.began) - overlap)
        return replace(done, phase=WINDOW, since=since, until=self.plan.began, after=None)

    def _phases(self, start: Position, *, is_resumed: bool) -> Iterator[Iterator[_Batch]]:
        yield self._listed(start) if start.phase == LIST else self._window(start)
        if is_resumed:
            # An interrupted pull looks back to its own start: go on to the present.
            yield self._window(self._next_window(start))

    # ------------------------------------------------------------ ids

    def _listed(self, start: Position) -> Iterator[_Batch]:
        """The ids of all records."""
        circle = _Circle(self.client.connection, self.plan.object)
        total = self._count() if start.after is None else None
        after = start.after
        ids: list[str] = []
        while True:
            answer = self.client.page(self.plan.object, after=after, limit=self._page_size)
            ids += _ids(answer)
            after = circle.checked(answer.after)
            if after is None:
                # Nothing is left to list: what changed since then is the next window's.
                yield _Batch(
                    ids, replace(start, phase=WINDOW, since=start.until, after=None), total
                )
                return
            if len(ids) >= self._page_size:
                yield _Batch(ids, replace(start, after=after), total)
                ids = []

    def _count(self) -> int | None:
        """About how many records there are, for the progress bar."""
        request = {"limit": 1, "properties": [RECORD_ID], "filterGroups": []}
        answer = self.client.search(self.plan.object, request, lambda _: True)
        return _total(answer)

    def _window(self, start: Position) -> Iterator[_Batch]:
        """The ids of records modified in the window, in their order."""
        last = start.after or "0"
        ids: list[str] = []
        total: int | None = None
        while True:
            answer = self._search(start, last)
            total = _total(answer) if total is None else total
            found = _ids(answer)
            ids += found
            last = found[-1] if found else last
            is_last = answer.after is None and (_total(answer) or 0) <= len(found)
            if is_last or len(ids) >= self._page_size:
                yield _Batch(ids, replace(start, after=last), total)
                ids = []
            if is_last:
                return

    def _search(self, window: Position, last: str) -> Answer:
        since = window.since or _EPOCH
        # The Date header has whole seconds: what was saved in the present one is shown, too.
        end = window.until + _SECOND
        filters = [
            {"propertyName": MODIFIED, "operator": "GTE", "value": str(_to_ms(since))},
            {"propertyName": MODIFIED, "operator": "LT", "value": str(_to_ms(end))},
            {"propertyName": RECORD_ID, "operator": "GT", "value": last},
        ]
        request = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": RECORD_ID, "direction": "ASCENDING"}],
            "properties": [RECORD_ID, MODIFIED],
            "limit": min(SEARCH_LIMIT, self._page_size),
        }

        def goes_on(answer: Answer) -> bool:
            found = _ids(answer)
            if not found:
                # "Nothing more" and "so many more" contradict each other.
                return answer.after is None and not _total(answer)
            numbers = [int(last), *map(int, found)]
            return all(one < other for one, other in pairwise(numbers))

        return self.client.search(self.plan.object, request, goes_on)

    @property
    def _page_size(self) -> int:
        return max(1, self.tuning.page_size or PAGE_SIZE)

    # ------------------------------------------------------------ records

    def _page(
        self,
        ids: Sequence[str],
        position: Position,
        *,
        total: int | None = None,
        warnings: Sequence[str] = (),
    ) -> Page:
        """Read and map the records of `ids`."""
        mapped = self._mapped(ids)
        unsettled = tuple(self._unsettled)[:REMEMBERED_UNSETTLED]
        kept = {record.ref for record in mapped.records}
        return Page(
            records=mapped.records,
            deleted=[ref for ref in mapped.deleted if ref not in kept],
            rejected=mapped.rejected,
            resume_at=replace(position, unsettled=unsettled).as_cursor(),
            total=total,
            warnings=[*warnings, *dict.fromkeys(mapped.warnings)],
            unreadable=self.plan.unreadable,
        )

    def _mapped(self, ids: Sequence[str]) -> Mapped:
        plan, client = self.plan, self.client
        mapped = Mapped()
        fetched = fetch(client, plan.object, ids, properties=plan.properties, history=plan.history)
        linked = {
            target: links(client, plan.object, target, list(fetched.rows))
            for target in plan.links
            if fetched.rows
        }
        unread = {
            **fetched.unread,
            **{one: why for found in linked.values() for one, why in found.unread.items()},
        }
        for record_id, row in fetched.rows.items():
            if record_id not in unread:
                own_links = {target: found.one.get(record_id) for target, found in linked.items()}
                plan.map_row(row, own_links, mapped)
        for old_id, winner_id in fetched.merged.items():
            if winner_id not in unread:
                key = self._ref(winner_id).key
                mapped.records.append(loser(self._ref(winner_id), old_id, key, None))
        mapped.deleted += [self._ref(record_id) for record_id in fetched.gone]
        mapped.rejected += [self._unread(record_id, why) for record_id, why in unread.items()]
        self._remember_unsettled(ids, unread)
        return mapped

    def _remember_unsettled(self, ids: Sequence[str], unread: Mapping[str, str]) -> None:
        for record_id in ids:
            self._unsettled.pop(record_id, None)
        self._unsettled.update(dict.fromkeys(unread))

    def _unread(self, record_id: str, why: str) -> RejectedRecord:
        return RejectedRecord(
            ref=self._ref(record_id),
            field=None,
            reason=(
                f"HubSpot does not tell everything about this record: {why}"
                " What is stored of it stays as it is; the next pull asks for it again."
            ),
            code="not_told",
            raw=why[:200],
        )

    def _ref(self, record_id: str) -> RecordRef:
        return RecordRef(self.client.connection, self.plan.stream, record_id)

    # ------------------------------------------------------------ deletions

    def _archived(self, position: Position, warnings: Sequence[str]) -> Iterator[Page]:
        """Report the archived records, and read those again that were restored."""
        circle = _Circle(self.client.connection, f"archived {self.plan.object}")
        archived: dict[str, None] = {}
        after: str | None = None
        while True:
            answer = self.client.page(self.plan.object, after=after, limit=100, archived=True)
            archived.update(dict.fromkeys(_ids(answer)))
            after = circle.checked(answer.after)
            if after is None:
                break
        reported = frozenset(position.archived)
        # Those of the last pull were reported then; a pull of everything reports them all.
        news = [self._ref(one) for one in archived if one not in reported]
        *parts, last = chunks(news, self._page_size) or [()]
        for part in parts:
            at = self._with_unsettled(position).as_cursor()
            yield Page(records=[], deleted=part, resume_at=at, warnings=warnings)
            warnings = ()
        for restored in chunks(
            [one for one in position.archived if one not in archived], self._page_size
        ):
            yield self._page(restored, position, warnings=warnings)
            warnings = ()
        done = replace(
            self._with_unsettled(position),
            phase=DONE,
            since=None,
            after=None,
            archived=tuple(archived)[-REMEMBERED_ARCHIVED:],
        )
        yield Page(
            records=[],
            deleted=last,
            resume_at=done.as_cursor(),
            complete_until=position.until,
            warnings=warnings,
        )

    def _with_unsettled(self, position: Position) -> Position:
        return replace(position, unsettled=tuple(self._unsettled)[:REMEMBERED_UNSETTLED])


class _Circle:
    """Notices pages that lead back to where one has been."""

    def __init__(self, connection: str, what: str) -> None:
        self._connection = connection
        self._what = what
        self._seen: set[str] = set()

    def checked(self, after: str | None) -> str | None:
        """The next page's beginning, if nobody has been there yet.

        Raises:
            MalformedAnswer: the pages go in a circle.
        """
        if after is None:
            return None
        if after in self._seen:
            raise MalformedAnswer(
                self._connection, f"HubSpot's pages of {self._what} go in a circle."
            )
        self._seen.add(after)
        return after


def _ids(answer: Answer) -> list[str]:
    return [str(row["id"]) for row in answer.results]


def _total(answer: Answer) -> int | None:
    total = answer.content.get("total")
    return total if isinstance(total, int) else None


def read_pipelines(client: HubSpotClient, object_name: str) -> Pipelines:
    """The pipelines of an object as they are now."""
    return pipelines_of(client.connection, client.pipelines(object_name).results)
