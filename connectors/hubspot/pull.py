"""Reading streams.

Owners and stages are few: they are read whole, every time. An object's records are read in one
of two ways. Everything: by the list, and what changes meanwhile falls into the next increment,
which begins at the start of the walk. What changed: by search, up to HubSpot's clock at the start;
the index trails writes, so the next window overlaps by the lookback.

What moves no modified date is looked for beside: archived records in the archive's list, links by
reading everything again now and then (the sweep), and links that a merge moved by asking for the
winners of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from connectors.base import Cursor, Page, Tuning, WholeFamily
from connectors.errors import PermissionMissing, RequestRefused, StreamPaused
from connectors.hubspot.client import HubSpotClient, Json
from connectors.hubspot.cursor import DONE, EPOCH, LIST, SWEEP, WINDOW, Position, position_of
from connectors.hubspot.deletions import Archive
from connectors.hubspot.derived import instant
from connectors.hubspot.links import Linked, read_links
from connectors.hubspot.mapping import (
    LinksByObject,
    Mapped,
    Pipelines,
    can_be_marked,
    loser,
    owner_of,
    pipelines_of,
)
from connectors.hubspot.merges import Merges
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.reading import Fetched, chunks, fetch, merged_ids
from connectors.hubspot.walk import Batch, Circle, Walk
from store.canonical import RecordRef, RejectedRecord, Stage

LOOKBACK: Final = timedelta(minutes=10)
"""HubSpot gives no bound for how far search trails writes; ten minutes are far beyond reports."""

PAGE_SIZE: Final = 1000
"""Records a page: one call for their links, one transaction in the store."""

REMEMBERED_UNSETTLED: Final = 1000


class MapRow(Protocol):
    """Turns a row with its links into what it is."""

    def __call__(self, row: Json, links: LinksByObject, mapped: Mapped) -> None:
        """Add what the row is to `mapped`."""
        ...


# ---------------------------------------------------------------- owners and stages


def pull_owners(client: HubSpotClient, minimum: Minimum) -> Iterator[Page]:
    """Every owner, active and archived: old deals still name those who left."""
    began: datetime | None = None
    pages: list[Page] = []
    for archived in (False, True):
        after: str | None = None
        circle = Circle(client.connection, "owners")
        while True:
            answer = client.owners(archived=archived, after=after, is_sound=circle.is_new)
            minimum.add_whole()
            began = began or answer.at
            records = [owner_of(client.connection, one) for one in answer.results]
            pages.append(Page(records=records, resume_at=None))
            after = answer.after
            circle.enter(after)
            if after is None:
                break
            yield pages.pop()
        if not archived:
            yield pages.pop()
    yield replace(pages.pop(), complete_until=began, resume_at=whole(began))


def pull_stages(client: HubSpotClient, objects: Sequence[str], minimum: Minimum) -> Iterator[Page]:
    """Every stage of every pipeline of some objects; those that are refused are named."""
    at: datetime | None = None
    records: list[Stage] = []
    warnings: list[str] = []
    for object_name in objects:
        try:
            answer = client.pipelines(object_name)
        except (PermissionMissing, RequestRefused) as error:
            if len(objects) == 1:
                raise
            warnings.append(f"Stages of {object_name} are not read: {error.message}")
            continue
        minimum.add_whole()
        at = at or answer.at
        records += pipelines_of(client.connection, answer.results).stages.values()
    if at is None:
        raise StreamPaused(client.connection, " ".join(warnings))
    yield Page(
        records=records,
        resume_at=whole(at),
        complete_until=at,
        total=len(records),
        warnings=warnings,
    )


def whole(at: datetime | None) -> Cursor:
    """The cursor of a stream that is read whole."""
    return Position(phase=DONE, until=at or EPOCH).as_cursor()


def read_pipelines(client: HubSpotClient, object_name: str) -> Pipelines:
    """The pipelines of an object as they are now."""
    return pipelines_of(client.connection, client.pipelines(object_name).results)


# ---------------------------------------------------------------- records of an object


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Records that stand for the links of a stream's records to another object."""

    stream: str
    link: str
    """Their field that names the record."""
    object: str
    """What the links lead to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPlan:
    """How one object becomes one stream in this run."""

    stream: str
    object: str
    modified: str
    properties: Sequence[str]
    history: Sequence[str]
    links: Mapping[str, frozenset[str]]
    """Objects to which the records are linked, and the fields that are read from the links."""
    map_row: MapRow
    warnings: Sequence[str]
    unreadable: frozenset[str]
    began: datetime
    """HubSpot's clock when the run began."""
    created: str | None = None
    """The property that tells when a record was created; None: several do."""
    is_wanted: Callable[[Json], bool] | None = None
    """Which of the object's records belong to the stream; None: all."""
    wanted_by: Sequence[str] = ()
    """The properties that `is_wanted` looks at."""
    children: Children | None = None
    dependents: Sequence[tuple[str, str]] = ()
    """Streams whose records go with the record that their field names."""


@dataclass(slots=True)
class ObjectPull:
    """One pull of an object's records."""

    client: HubSpotClient
    tuning: Tuning
    plan: ObjectPlan
    minimum: Minimum
    merges: Merges = field(default_factory=Merges)
    newest: datetime = EPOCH
    """The latest change, creation or archiving that this pull saw."""
    _unsettled: dict[str, None] = field(default_factory=dict)
    _is_everything: bool = False

    def pages(self, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read everything (None), from a date on, or from a cursor on."""
        start, is_resumed = self._start(since)
        if start.phase == LIST and not is_resumed:
            # What is restored while the walk is beyond its place would be seen by nobody.
            start = Archive(self.client, self.plan.object, self.minimum).remembered(start)
        warnings: Sequence[str] = self.plan.warnings
        position = start
        if start.unsettled:
            yield self._page(Batch(list(start.unsettled)), start, warnings=warnings)
            warnings = ()
        for phase in self._phases(start, is_resumed=is_resumed):
            for batch, position in phase:
                if batch.ids:
                    yield self._page(batch, position, warnings=warnings)
                    warnings = ()
        yield from self._ending(position, warnings)

    def read(self, ids: Sequence[str]) -> Page:
        """Records by id, for a reconciliation."""
        page = self._page(Batch(list(ids)), Position(phase=DONE, until=self.plan.began))
        return replace(page, resume_at=None, deleted=())

    # ------------------------------------------------------------ phases

    def _start(self, since: Cursor | datetime | None) -> tuple[Position, bool]:
        """Where to begin, and whether that is in the midst of an interrupted pull."""
        now = self.plan.began
        if since is None:
            return Position(phase=LIST, until=now), False
        if isinstance(since, datetime):
            window = Position(phase=WINDOW, since=since.astimezone(UTC), until=now, swept_at=now)
            return window, False
        saved = position_of(self.client.connection, since)
        if saved.phase == DONE:
            return self._next_window(saved), False
        return saved, True

    def _next_window(self, done: Position) -> Position:
        # HubSpot's clock may have been set back: what it stamps now must not lie before the window.
        since = max(EPOCH, min(done.until, self.plan.began) - self._overlap)
        return replace(done, phase=WINDOW, since=since, until=self.plan.began, after=None)

    @property
    def _overlap(self) -> timedelta:
        told = [one for one in (self.tuning.lookback, self.tuning.index_lag) if one is not None]
        return max(told, default=LOOKBACK)

    def _phases(
        self, start: Position, *, is_resumed: bool
    ) -> Iterator[Iterator[tuple[Batch, Position]]]:
        position = start
        if start.phase == LIST:
            self._is_everything = not is_resumed and start.after is None
            yield self._everything(start)
            position = _read_through(start)
        elif start.phase == SWEEP:
            yield self._everything(start)
            position = _read_through(start)
        else:
            yield self._window(start)
            position = replace(start, after=None)
        if is_resumed:
            # An interrupted pull looks back to its own start: go on to the present.
            position = self._next_window(position)
            yield self._window(position)
        if self._is_sweep_due(position):
            yield self._everything(replace(position, phase=SWEEP, after=None))

    def _everything(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        for batch, position in self._walk.listed(start):
            yield batch, position or _read_through(start)

    def _window(self, start: Position) -> Iterator[tuple[Batch, Position]]:
        moved = self.merges.relinked(
            self._walk, self.plan.stream, self.plan.links, start, overlap=self._overlap
        )
        for part in chunks(moved, self._page_size):
            yield Batch(list(part)), start
        yield from self._walk.window(start)

    def _is_sweep_due(self, position: Position) -> bool:
        if not self.plan.links:
            return False
        swept_at = position.swept_at
        return swept_at is None or self.plan.began - swept_at >= self.tuning.sweep

    @property
    def _page_size(self) -> int:
        return max(1, self.tuning.page_size or PAGE_SIZE)

    @property
    def _walk(self) -> Walk:
        plan = self.plan
        return Walk(
            self.client,
            plan.object,
            plan.modified,
            plan.properties,
            plan.history,
            self._page_size,
            self.minimum,
        )

    # ------------------------------------------------------------ records

    def _page(self, batch: Batch, position: Position, *, warnings: Sequence[str] = ()) -> Page:
        """Read and map the records of a batch."""
        mapped, families = self._mapped(batch)
        kept = {record.ref for record in mapped.records}
        return Page(
            records=mapped.records,
            deleted=[ref for ref in mapped.deleted if ref not in kept],
            rejected=mapped.rejected,
            resume_at=self._with_unsettled(position).as_cursor(),
            total=batch.total,
            warnings=[*warnings, *dict.fromkeys(mapped.warnings)],
            whole=families,
            unreadable=self.plan.unreadable,
        )

    def _mapped(self, batch: Batch) -> tuple[Mapped, Sequence[WholeFamily]]:
        fetched = self._fetched(batch)
        mapped = Mapped()
        foreign = self._foreign(fetched)
        own = [one for one in fetched.rows if one not in foreign]
        linked = self._linked(own)
        unread = {
            **fetched.unread,
            **{one: why for found in linked.values() for one, why in found.unread.items()},
        }
        for record_id in own:
            if record_id not in unread:
                row = fetched.rows[record_id]
                links = {target: found.known[record_id] for target, found in linked.items()}
                self.plan.map_row(row, links, mapped)
        self._note_age(fetched.rows.values())
        self._mark_merged(fetched, unread, foreign, mapped)
        mapped.deleted += [self._ref(one) for one in fetched.gone]
        if not batch.is_listed:
            mapped.deleted += [
                self._ref(one)
                for record_id in foreign
                for one in (record_id, *merged_ids(fetched.rows[record_id]))
            ]
        mapped.rejected += [self._unread(one, why) for one, why in unread.items()]
        self._remember_unsettled(batch.ids, unread)
        gone = [ref.native_id for ref in mapped.deleted]
        gone += [
            record.ref.native_id
            for record in mapped.records
            if record.ref.stream == self.plan.stream and record.merged_into is not None
        ]
        return mapped, self._families([one for one in own if one not in unread], gone, linked)

    def _fetched(self, batch: Batch) -> Fetched:
        """What the list brought along, and the rest by id."""
        missing = [one for one in batch.ids if one not in batch.rows]
        plan = self.plan
        fetched = fetch(
            self.client,
            plan.object,
            missing,
            properties=plan.properties,
            history=plan.history,
            minimum=self.minimum,
        )
        fetched.rows = {**batch.rows, **fetched.rows}
        return fetched

    def _foreign(self, fetched: Fetched) -> frozenset[str]:
        """Records of the object that do not belong to the stream."""
        is_wanted = self.plan.is_wanted
        if is_wanted is None:
            return frozenset()
        return frozenset(one for one, row in fetched.rows.items() if not is_wanted(row))

    def _linked(self, ids: Sequence[str]) -> Mapping[str, Linked]:
        if not ids:
            return {}
        return {
            target: read_links(self.client, self.plan.object, target, ids, self.minimum)
            for target in self.plan.links
        }

    def _mark_merged(
        self,
        fetched: Fetched,
        unread: Mapping[str, str],
        foreign: frozenset[str],
        mapped: Mapped,
    ) -> None:
        for old_id, winner_id in fetched.merged.items():
            if winner_id in unread or winner_id in foreign:
                continue
            if can_be_marked(self.plan.stream):
                winner = self._ref(winner_id)
                mapped.records.append(loser(winner, old_id, winner.key))
            else:
                mapped.deleted.append(self._ref(old_id))

    def _families(
        self, ids: Sequence[str], gone: Sequence[str], linked: Mapping[str, Linked]
    ) -> Sequence[WholeFamily]:
        """Whose children the page carries all of: those with links that were read, and the gone."""
        children = self.plan.children
        parents = {one: list(gone) for one in self.plan.dependents}
        if children is not None and children.object in linked:
            parents.setdefault((children.stream, children.link), []).extend(ids)
        return [
            WholeFamily(stream, link, tuple(dict.fromkeys(self._ref(one).key for one in known)))
            for (stream, link), known in parents.items()
            if known
        ]

    def _note_age(self, rows: Iterable[Json]) -> None:
        """Keep the latest change; instants of one spelling sort as their texts do."""
        told = [str(row.get(name) or "") for row in rows for name in ("createdAt", "updatedAt")]
        latest = instant(max(told, default=""))
        if latest is not None and latest > self.newest:
            self.newest = latest

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

    def _with_unsettled(self, position: Position) -> Position:
        return replace(position, unsettled=tuple(self._unsettled)[:REMEMBERED_UNSETTLED])

    # ------------------------------------------------------------ deletions

    def _ending(self, position: Position, warnings: Sequence[str]) -> Iterator[Page]:
        """Report the archived records, read those again that were restored, and finish."""
        archive = Archive(self.client, self.plan.object, self.minimum)
        news: Sequence[RecordRef] = ()
        if archive.is_due(position, self.plan.began, is_everything=self._is_everything):
            found = archive.read()
            if archive.refusal is not None:
                warnings = [*warnings, archive.refusal]
            self.newest = max(self.newest, archive.latest)
            # Those of the last pull were reported then; a pull of everything reports them all.
            reported = archive.reported(position, found)
            refs = [self._ref(one) for one in found if one not in reported]
            restored = [one for one in position.archived if one not in found]
            *parts, news = chunks(refs, self._page_size) or [()]
            for part in parts:
                at = self._with_unsettled(position).as_cursor()
                yield Page(
                    records=[],
                    deleted=part,
                    resume_at=at,
                    warnings=warnings,
                    whole=self._families([], [ref.native_id for ref in part], {}),
                    unreadable=self.plan.unreadable,
                )
                warnings = ()
            for part_of_restored in chunks(restored, self._page_size):
                yield self._page(Batch(list(part_of_restored)), position, warnings=warnings)
                warnings = ()
            position = archive.noted(position, found, self.plan.began)
        done = replace(self._with_unsettled(position), phase=DONE, since=None, after=None)
        yield Page(
            records=[],
            deleted=news,
            resume_at=done.as_cursor(),
            complete_until=position.until,
            warnings=warnings,
            whole=self._families([], [ref.native_id for ref in news], {}),
            unreadable=self.plan.unreadable,
        )


def _read_through(start: Position) -> Position:
    """The place after a list or sweep: what changed since it began is the next window's."""
    return replace(start, phase=WINDOW, since=start.until, after=None, swept_at=start.until)
