"""The one model behind both dialects: objects, records, their history, and time.

An `Org` is one CRM tenant. It holds records by native object name (``Opportunity``, ``deals``),
each a bag of fields with its creation, modification, deletion and merge marks and the history
of every field. What a vendor adds (ids, field types, resolution of stamps, merges) lives in a
subclass beside the dialect that serves it, by overriding the methods under "For the dialects".

Everything runs on one event loop: handlers are ``async def``, so no two of them interleave
inside a call to the org, and nothing here locks.

A dialect module offers ``new_org(*, clock: Clock, seed: int) -> Org`` (an empty tenant with its
standard objects, stages and one admin user) and ``routes(org) -> list[Route]``. The server adds
the clock's ``Date`` header, the request log and the request faults around those routes, and
serves the admin endpoints by the org's verbs (`create`, `edit`, `delete`, ...); the loaders
call the same verbs with ``at`` in the past. A dialect writes with ``by=API`` for the journal.

Writes are stamped when they are made and shown when they are committed. With ``commit_after``
the two differ: a reader that trusts stamps misses the row, as it does in a real CRM.
"""

from __future__ import annotations

import heapq
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from sandbox.faults import FaultList

Value: TypeAlias = str | int | float | bool | None
"""A field's value, as JSON carries it. HubSpot's are all text."""

Fields: TypeAlias = Mapping[str, Value]

PEOPLE = "people"
"""The actor of edits made through the admin endpoints: somebody working in the CRM."""

API = "api"
"""The actor of writes that came through the vendor's API."""

NO_FIELDS: Fields = MappingProxyType({})


class UnknownRecordError(LookupError):
    """No visible record has this id."""

    def __init__(self, object_name: str, record_id: str) -> None:
        super().__init__(object_name, record_id)
        self.object_name = object_name
        self.record_id = record_id

    def __str__(self) -> str:
        return f"{self.object_name} has no record {self.record_id}"


class Clock:
    """The org's time: real time plus an offset, or a fixed instant, both set by the admin."""

    def __init__(self, *, start: datetime | None = None) -> None:
        self._fixed: datetime | None = None
        self._offset = timedelta()
        if start is not None:
            self.move_to(start)

    @classmethod
    def like(cls, other: Clock) -> Clock:
        """A clock of its own that shows the same time for now."""
        clock = cls()
        clock._fixed, clock._offset = other._fixed, other._offset
        return clock

    def now(self) -> datetime:
        """The org's current instant, aware, in UTC."""
        return self._fixed if self._fixed is not None else datetime.now(UTC) + self._offset

    def move_to(self, instant: datetime) -> None:
        """Continue from `instant`; a fixed clock stays fixed, at the new instant."""
        if self._fixed is not None:
            self._fixed = instant
        self._offset = instant - datetime.now(UTC)

    def advance(self, by: timedelta) -> None:
        """Jump ahead (or back) by a span."""
        if self._fixed is not None:
            self._fixed += by
        self._offset += by

    def fix(self, instant: datetime | None = None) -> None:
        """Stop at `instant`, or at the present one."""
        self._fixed = self.now() if instant is None else instant

    def run(self) -> None:
        """Run again, from where the clock stands."""
        now, self._fixed = self.now(), None
        self._offset = now - datetime.now(UTC)


class FieldType(StrEnum):
    """What kind of value a custom field holds, in words both vendors can translate."""

    TEXT = "text"
    NUMBER = "number"
    MONEY = "money"
    PERCENT = "percent"
    DATE = "date"
    DATETIME = "datetime"
    BOOLEAN = "boolean"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of the deal pipeline, as the loaders set it up."""

    name: str
    """Label, and in Salesforce also the value of StageName."""
    is_closed: bool
    is_won: bool
    probability: float
    """A ratio, 0..1."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value a field took: what, when, by whom."""

    at: datetime
    value: Value
    by: str


@dataclass(frozen=True, slots=True)
class State:
    """A record's content at one moment; replaced as a whole by each write, never edited."""

    fields: Fields
    modified_at: datetime
    modified_by: str
    deleted_at: datetime | None = None
    merged_into: str | None = None

    @property
    def is_deleted(self) -> bool:
        """In the recycle bin, or archived; a merged-away record is deleted too."""
        return self.deleted_at is not None


@dataclass(slots=True)
class Record:
    """One record: its identity, its present state, what search shows of it, and its past."""

    object_name: str
    id: str
    created_at: datetime
    created_by: str
    state: State
    indexed: State | None = None
    """What the search index holds; None while the record is not in it yet."""
    changes: dict[str, list[Change]] = field(default_factory=dict)
    """Per field that changed after creation: its values, oldest first."""

    def __getitem__(self, name: str) -> Value:
        return self.state.fields.get(name)

    @property
    def fields(self) -> Fields:
        """The present values; a field that was never set is absent."""
        return self.state.fields

    @property
    def is_deleted(self) -> bool:
        """See `State.is_deleted`."""
        return self.state.is_deleted

    def history(self, name: str) -> list[Change]:
        """Every value the field took, oldest first, the one at creation included."""
        if name in self.changes:
            return list(self.changes[name])
        value = self[name]
        return [] if value is None else [Change(self.created_at, value, self.created_by)]


@dataclass(frozen=True, slots=True)
class Erasure:
    """The trace of a hard deletion, for the APIs that report such."""

    at: datetime
    object_name: str
    id: str


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One field written through the API; `redundant` when it already had that value."""

    at: datetime
    object_name: str
    id: str
    field: str
    old: Value
    new: Value
    redundant: bool


@dataclass(frozen=True, slots=True)
class RequestEntry:
    """One request the org answered (status 0: the connection was cut or left hanging)."""

    at: datetime
    method: str
    path: str
    query: str
    status: int


@dataclass(frozen=True, slots=True)
class UsualAnswer:
    """The answer a vendor gives with an error status."""

    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(order=True, slots=True)
class _Pending:
    """A write that is made but not yet visible."""

    commit_at: datetime
    order: int
    apply: Callable[[], None] = field(compare=False)


class Org(ABC):
    """One CRM tenant: records by object, a clock, an audit trail, and the faults to serve.

    Verbs raise `UnknownRecordError` for an id that is not visible. ``at`` back-dates the stamp of a
    write (demo data, imports); ``commit_after`` keeps a write invisible for that span although
    it is stamped at once; ``by`` names the actor. Ids are passed through `canonical_id` first.
    """

    deletion_moves_modified = True
    """Whether deleting and restoring a record moves its modified stamp (a vendor's choice)."""

    def __init__(self, *, crm: str, clock: Clock | None = None, seed: int = 0) -> None:
        self.crm = crm
        self.clock = clock or Clock()
        self.random = random.Random(seed)  # noqa: S311 - shuffles answers, guards nothing
        self.index_lag = timedelta()
        self.faults = FaultList()
        self.journal: list[JournalEntry] = []
        self.requests: list[RequestEntry] = []
        self.erasures: list[Erasure] = []
        self._records: dict[str, dict[str, Record]] = {}
        self._pending: list[_Pending] = []
        self._to_index: list[_Pending] = []
        self._order = itertools.count()

    # For the dialects: override what the vendor does differently.

    @abstractmethod
    def new_id(self, object_name: str) -> str:
        """A fresh native id for a record of this object."""

    @abstractmethod
    def canonical_id(self, object_name: str, record_id: str) -> str:
        """The form under which a record is kept (Salesforce: 18 characters)."""

    @abstractmethod
    def prepared(self, object_name: str, values: Fields, record: Record | None) -> Fields:
        """The values as stored: defaults for a new record (None), derived fields, types.

        Called with the values of a create or edit before they are compared and kept.
        """

    @abstractmethod
    def changed(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """React to a committed create (`before` is empty) or edit, e.g. write a history row."""

    @abstractmethod
    def add_field(
        self,
        object_name: str,
        name: str,
        *,
        label: str,
        type: FieldType,  # noqa: A002 - the field's word
        choices: Sequence[str] = (),
    ) -> None:
        """Add a custom field that everybody may read and write (loaders and the admin do)."""

    @abstractmethod
    def set_stages(self, stages: Sequence[StageSpec]) -> None:
        """Replace the stages of the deal (default) pipeline, in order."""

    def configure(self, settings: Mapping[str, object]) -> None:
        """Change what the admin endpoint ``settings`` may: limits, scopes, paging.

        Raises:
            ValueError: for a setting the dialect does not know, or a value it cannot take.
        """
        raise ValueError(f"{self.crm} has no setting {', '.join(sorted(settings))}")

    def link(self, object_name: str, record_id: str, to_object: str, to_ids: Sequence[str]) -> None:
        """Associate records, in a CRM that keeps links beside the fields; the first is primary.

        Raises:
            ValueError: where a link is a field (Salesforce).
        """
        raise ValueError(
            f"{self.crm}: {object_name} {record_id} takes no links to {to_object} {to_ids}"
        )

    def usual_answer(self, status: int) -> UsualAnswer | None:  # noqa: ARG002
        """What the vendor sends with this status; None: an empty body will do."""
        return None

    def indexed(self, record: Record) -> None:  # noqa: B027 - most vendors' search is the records
        """React to a change of what search shows of a record; it may be deleted or gone."""

    def same_value(self, object_name: str, name: str, old: Value, new: Value) -> bool:  # noqa: ARG002
        """Whether a write of `new` over `old` is redundant, for the journal."""
        return old == new

    def stamp(self, instant: datetime) -> datetime:
        """An instant in the resolution the vendor keeps (Salesforce: whole seconds)."""
        return instant

    # Time

    def now(self) -> datetime:
        """The org's current instant, aware, in UTC, unrounded."""
        return self.clock.now()

    def settle(self) -> None:
        """Make visible what is due: late commits, then the search index.

        The server calls it before every request; reads through `get` and `all` do too.
        """
        now = self.now()
        while self._pending and self._pending[0].commit_at <= now:
            heapq.heappop(self._pending).apply()
        while self._to_index and self._to_index[0].commit_at <= now:
            heapq.heappop(self._to_index).apply()

    def set_index_lag(self, lag: timedelta) -> None:
        """Let search trail writes by `lag` from now on; without one, the index catches up."""
        self.index_lag = lag
        if not lag:
            while self._to_index:
                heapq.heappop(self._to_index).apply()

    # Reading

    def objects(self) -> Sequence[str]:
        """Names of the objects that ever held a record, sorted."""
        return sorted(self._records)

    def find(self, object_name: str, record_id: str) -> Record | None:
        """The record in whatever state, deleted and merged ones included; None: unknown."""
        self.settle()
        return self._records.get(object_name, {}).get(self.canonical_id(object_name, record_id))

    def get(self, object_name: str, record_id: str) -> Record:
        """Like `find`, but an unknown id raises `UnknownRecordError`."""
        record = self.find(object_name, record_id)
        if record is None:
            raise UnknownRecordError(object_name, record_id)
        return record

    def all(self, object_name: str, *, include_deleted: bool = False) -> Iterator[Record]:
        """The visible records in order of their creation in the org."""
        self.settle()
        for record in self._records.get(object_name, {}).values():
            if include_deleted or not record.is_deleted:
                yield record

    def searchable(self, object_name: str) -> Iterator[tuple[Record, State]]:
        """What the search index shows, which may trail the records by the index lag.

        Deleted records are left out at once.
        """
        self.settle()
        for record in self._records.get(object_name, {}).values():
            if record.indexed is not None and not record.is_deleted:
                yield record, record.indexed

    def erased_between(self, object_name: str, start: datetime, end: datetime) -> list[Erasure]:
        """Hard deletions with ``start <= at < end``."""
        return [
            erasure
            for erasure in self.erasures
            if erasure.object_name == object_name and start <= erasure.at < end
        ]

    # Writing

    def create(
        self,
        object_name: str,
        values: Fields,
        *,
        record_id: str | None = None,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> str:
        """Create a record and return its id, which is taken even before the commit."""
        new_id = record_id or self.new_id(object_name)
        stamped = self.stamp(at or self.now())
        kept = {k: v for k, v in self.prepared(object_name, values, None).items() if v is not None}

        def apply() -> None:
            state = State(fields=kept, modified_at=stamped, modified_by=by)
            record = Record(object_name, new_id, stamped, by, state)
            self._records.setdefault(object_name, {})[new_id] = record
            self._journal(record, NO_FIELDS, {k: kept.get(k) for k in values}, at=stamped, by=by)
            self._show(record)
            self.changed(record, NO_FIELDS, stamped, by)

        self._commit(apply, commit_after)
        return new_id

    def edit(
        self,
        object_name: str,
        record_id: str,
        values: Fields,
        *,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Set fields (None clears). The modified stamp moves even if nothing differs."""
        record = self.get(object_name, record_id)
        stamped = self.stamp(at or self.now())
        kept = self.prepared(object_name, values, record)

        def apply() -> None:
            before = record.fields
            self._journal(record, before, {k: kept.get(k) for k in values}, at=stamped, by=by)
            self._remember(record, kept, at=stamped, by=by)
            after = {k: v for k, v in {**before, **kept}.items() if v is not None}
            self.put(record, replace(record.state, fields=after), modified=stamped, by=by)
            self.changed(record, before, stamped, by)

        self._commit(apply, commit_after)

    def delete(
        self,
        object_name: str,
        record_id: str,
        *,
        merged_into: str | None = None,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Put a record into the bin (archive it); `merged_into` marks a merge's loser."""
        record = self.get(object_name, record_id)
        stamped = self.stamp(at or self.now())

        def apply() -> None:
            state = replace(record.state, deleted_at=stamped, merged_into=merged_into)
            self._put_deletion(record, state, at=stamped, by=by)

        self._commit(apply, commit_after)

    def undelete(
        self,
        object_name: str,
        record_id: str,
        *,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Take a record out of the bin."""
        record = self.get(object_name, record_id)
        stamped = self.stamp(at or self.now())

        def apply() -> None:
            state = replace(record.state, deleted_at=None, merged_into=None)
            self._put_deletion(record, state, at=stamped, by=by)

        self._commit(apply, commit_after)

    def erase(self, object_name: str, record_id: str) -> None:
        """Remove a record for good; only `erasures` tells that it was there."""
        record = self.get(object_name, record_id)
        del self._records[object_name][record.id]
        record.indexed = None
        self.indexed(record)
        self.erasures.append(Erasure(self.stamp(self.now()), object_name, record.id))

    def merge(
        self, object_name: str, winner_id: str, loser_ids: Iterable[str], *, by: str = PEOPLE
    ) -> str:
        """Merge records into one and return the id under which it lives on.

        Here the winner keeps its id and the losers are deleted; dialects add the rest
        (re-parented children, HubSpot's new id).
        """
        winner = self.get(object_name, winner_id)
        for loser_id in loser_ids:
            self.delete(object_name, loser_id, merged_into=winner.id, by=by)
        self.edit(object_name, winner.id, {}, by=by)
        return winner.id

    def put(
        self, record: Record, state: State, *, modified: datetime | None = None, by: str = PEOPLE
    ) -> None:
        """Replace a record's state without journal, history or `changed` (for dialects).

        With `modified` the stamp moves too, but never back: a late commit must not hide a
        newer write.
        """
        if modified is not None:
            latest = max(modified, state.modified_at)
            state = replace(state, modified_at=latest, modified_by=by)
        record.state = state
        if state.is_deleted:
            self.indexed(record)
        self._show(record)

    def snapshot(self, object_name: str = "") -> dict[str, list[dict[str, object]]]:
        """Every visible record of every object (or of one), as JSON values, for tests."""
        self.settle()
        return {
            name: [as_json(record) for record in self._records.get(name, {}).values()]
            for name in self.objects()
            if object_name in ("", name)
        }

    # Inside

    def _commit(self, apply: Callable[[], None], commit_after: timedelta | None) -> None:
        if commit_after is None:
            apply()
        else:
            due = _Pending(self.now() + commit_after, next(self._order), apply)
            heapq.heappush(self._pending, due)

    def _put_deletion(self, record: Record, state: State, *, at: datetime, by: str) -> None:
        self.put(record, state, modified=at if self.deletion_moves_modified else None, by=by)

    def _show(self, record: Record) -> None:
        """Let the search index see the record's present state, now or after the lag."""
        state = record.state

        def apply() -> None:
            record.indexed = state
            self.indexed(record)

        if self.index_lag:
            due = _Pending(self.now() + self.index_lag, next(self._order), apply)
            heapq.heappush(self._to_index, due)
        else:
            apply()

    def _journal(
        self, record: Record, before: Fields, values: Fields, *, at: datetime, by: str
    ) -> None:
        if by != API:
            return
        for name, new in values.items():
            old = before.get(name)
            redundant = self.same_value(record.object_name, name, old, new)
            entry = JournalEntry(at, record.object_name, record.id, name, old, new, redundant)
            self.journal.append(entry)

    def _remember(self, record: Record, values: Fields, *, at: datetime, by: str) -> None:
        for name, new in values.items():
            if record[name] != new:
                history = record.changes.get(name) or record.history(name)
                history.append(Change(at, new, by))
                record.changes[name] = history


def as_json(record: Record) -> dict[str, object]:
    """One record with its marks, as JSON values."""
    state = record.state
    return {
        "id": record.id,
        "fields": dict(sorted(state.fields.items())),
        "created": iso(record.created_at),
        "modified": iso(state.modified_at),
        "modified_by": state.modified_by,
        "deleted": iso(state.deleted_at) if state.deleted_at else None,
        "merged_into": state.merged_into,
    }


def iso(instant: datetime) -> str:
    """An instant as ISO 8601 in UTC with milliseconds and ``Z``."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
