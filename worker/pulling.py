"""Pulling: pages of a stream into the store, one transaction a page, nothing counted twice."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, cast

from sqlalchemy import Connection

from connectors.base import (
    Connector,
    CountsRecords,
    Cursor,
    IdPage,
    KnowsItsOrg,
    ListsIds,
    Page,
    Stream,
)
from connectors.errors import (
    CursorExpired,
    MalformedAnswer,
    MisconfiguredConnection,
    MustStartOver,
)
from metrics import cells
from store import checkpoints, deadletters, records, seen
from store.canonical import CanonicalRecord, Owner, Rate, RecordRef, RejectedRecord, Stage
from store.checkpoints import Checkpoint
from store.engine import database_now, operating, reading
from store.errors import RecordRefused
from worker import crashpoints, settings
from worker.leftovers import ensure_not_twice
from worker.reconciling import (
    FETCHED_AT_ONCE,
    Reconciliation,
    doubtful,
    is_too_much,
    left_by,
    refusal,
)
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

NEVER_FORGOTTEN: Final = frozenset({Owner.STREAM, Stage.STREAM})
"""A seller who left and a stage that was archived still stand on old deals: what is known of
them stays, though the CRM lists them no more."""

READ_WHOLE: Final = frozenset({Rate.STREAM})
"""A short list that each pull brings whole, without a sign of what was taken out of it: a rate
that is gone must not go on converting amounts."""

_FETCH_PATIENCE: Final = timedelta(minutes=1)
_SINCE_MARGIN: Final = timedelta(hours=1)
_EXPIRED_CURSORS_IN_A_ROW: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How to pull."""

    full: bool = False
    """Read everything again and remove what has vanished."""
    reconcile: bool = False
    """Compare all ids too; read everything again where the CRM cannot list ids alone."""
    since: datetime | None = None
    """Read again what changed since then."""
    accept_vanished: bool = False
    """However many records vanished, they are really gone."""
    max_rows: int | None = None
    """Stop after a page when this many records are committed; the next pull goes on."""


def pull_stream(
    runtime: Runtime,
    connection: str,
    stream: str,
    *,
    full: bool = False,
    reconcile: bool = False,
    since: datetime | None = None,
    accept_vanished: bool = False,
    max_rows: int | None = None,
) -> RunResult:
    """Bring one stream up to what the CRM shows now.

    Args:
        runtime: What it works with.
        connection: A configured connection.
        stream: One of its streams.
        full: Read everything again and remove what has vanished.
        reconcile: Compare all ids and remove what has vanished, without reading all records
            where the CRM can list ids alone.
        since: Read again what changed since then (aware).
        accept_vanished: However many records vanished, they are really gone.
        max_rows: Stop early after about this many records; `is_unfinished` tells.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    options = PullOptions(
        full=full,
        reconcile=reconcile,
        since=since,
        accept_vanished=accept_vanished,
        max_rows=max_rows,
    )
    subject = Subject(kind=Kind.PULL, connection=connection, stream=stream)
    return record_run(
        runtime,
        subject,
        lambda running: _pull(running, options),
        lease_names=(f"pull:{connection}.{stream}",),
        settle=_settle,
    )


def pull_connection(
    runtime: Runtime,
    connection: str,
    *,
    stream: str | None = None,
    full: bool = False,
    since: datetime | None = None,
    accept_vanished: bool = False,
) -> list[RunResult]:
    """Pull one stream of a connection, or all in their order; one that fails stops no other."""
    names = [stream] if stream else stream_names(runtime, connection)
    results: list[RunResult] = []
    for name in names:
        if runtime.is_stopping:
            break
        results.append(
            pull_stream(
                runtime,
                connection,
                name,
                full=full,
                since=since,
                accept_vanished=accept_vanished,
            )
        )
    return results


def fetch_again(
    runtime: Runtime, connection: str, stream: str, refs: Sequence[RecordRef]
) -> RunResult:
    """Read single records again, such as those in the dead letters.

    Where the CRM cannot be asked for records by id, everything is read again.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    if not isinstance(runtime.connector(connection), ListsIds):
        return pull_stream(runtime, connection, stream, full=True)
    subject = Subject(kind=Kind.PULL, connection=connection, stream=stream)
    return record_run(
        runtime,
        subject,
        lambda running: _fetched(running, refs),
        lease_names=(f"pull:{connection}.{stream}",),
        patience=_FETCH_PATIENCE,
        settle=_settle,
    )


def _fetched(running: Running, refs: Sequence[RecordRef]) -> State:
    runtime, connection = running.runtime, cast("str", running.subject.connection)
    connector = runtime.connector(connection)
    stream = _stream(connector, connection, cast("str", running.subject.stream))
    recognise_org(runtime, connection)
    if isinstance(connector, ListsIds):
        pull = _Pull(running, stream, PullOptions())
        for start in range(0, len(refs), FETCHED_AT_ONCE):
            pull.take_again(connector, refs[start : start + FETCHED_AT_ONCE])
    return State.OK


def stream_names(runtime: Runtime, connection: str) -> list[str]:
    """The streams of a connection in the order in which to pull them."""
    return [stream.name for stream in runtime.connector(connection).streams()]


def recognise_org(runtime: Runtime, connection: str) -> None:
    """Make sure, once a process, that the credentials still lead to the org our data is from.

    Raises:
        OrgPinned: They lead elsewhere.
    """
    if connection in runtime.recognised:
        return
    connector = runtime.connector(connection)
    org_id = connector.org_id() if isinstance(connector, KnowsItsOrg) else connector.check().org_id
    if org_id is None:
        # The login failed; whatever is called next says why in its own class of error.
        return
    with operating(runtime.engine) as conn:
        checkpoints.pin_org(conn, connection, org_id)
    runtime.recognised.add(connection)


def _pull(running: Running, options: PullOptions) -> State:
    runtime, subject = running.runtime, running.subject
    connection = cast("str", subject.connection)
    stream = _stream(runtime.connector(connection), connection, cast("str", subject.stream))
    with reading(runtime.engine) as conn:
        pause = checkpoints.paused(conn, connection)
    if pause is not None:
        until, reason = pause
        running.warn(f"{connection} is paused until {until:%Y-%m-%d %H:%M:%S} UTC: {reason}")
        return State.PAUSED
    _mark_attempt(running, connection, stream)
    recognise_org(runtime, connection)
    ensure_not_twice(runtime, connection, stream.name)
    return _pulled(running, stream, options)


def _pulled(running: Running, stream: Stream, options: PullOptions) -> State:
    connector = running.runtime.connector(cast("str", running.subject.connection))
    if not options.reconcile:
        return _Pull(running, stream, options).to_the_end()
    ids = connector.ids(stream) if isinstance(connector, ListsIds) else None
    if ids is None or not isinstance(connector, ListsIds):
        return _Pull(running, stream, replace(options, full=True)).to_the_end()
    pull = _Pull(running, stream, options)
    is_first_load = pull.is_full
    state = pull.to_the_end()
    if state is not State.OK or running.is_unfinished or is_first_load:
        return state
    return pull.reconcile(connector, ids)


def _stream(connector: Connector, connection: str, name: str) -> Stream:
    for stream in connector.streams():
        if stream.name == name:
            return stream
    known = ", ".join(stream.name for stream in connector.streams())
    raise MisconfiguredConnection(
        connection, f'there is no stream "{name}" on this connection (it has: {known})'
    )


def _mark_attempt(running: Running, connection: str, stream: Stream) -> None:
    with operating(running.runtime.engine) as conn:
        running.guard(conn)
        checkpoint = checkpoints.load(conn, connection, stream.name)
        # Nobody wrote down how the attempt before ended: its process died.
        has_died = checkpoint.state == checkpoints.RUNNING
        checkpoints.save(
            conn,
            replace(
                checkpoint,
                state=State.RUNNING,
                last_attempt=database_now(conn),
                strikes=checkpoint.strikes + has_died,
            ),
        )


def _settle(conn: Connection, running: Running, state: State) -> None:
    """Leave the stream's own row in a state that tells how the run ended."""
    subject = running.subject
    checkpoint = checkpoints.load(
        conn, cast("str", subject.connection), cast("str", subject.stream)
    )
    match state:
        case State.OK if running.is_unfinished:
            stream_state = "running"
        case State.OK | State.PARTLY_FAILED:
            stream_state = "ok"
        case State.REFUSED:
            # A person must say whether the records are gone.
            stream_state = "waiting"
        case _:
            stream_state = state.value
    error = running.error
    if state is State.PAUSED:
        error = "; ".join(running.warnings) or None
    checkpoints.save(conn, replace(checkpoint, state=stream_state, error=error))


class _Pull:
    """One pull of one stream."""

    def __init__(self, running: Running, stream: Stream, options: PullOptions) -> None:
        self._running = running
        self._runtime = running.runtime
        self._stream = stream
        self._options = options
        self._connection = cast("str", running.subject.connection)
        self._definition = settings.stream_definition(
            running.runtime.config, self._connection, stream.name
        )
        self._checkpoint, self._since = self._begin()
        self._rows = 0

    def to_the_end(self) -> State:
        """Commit page after page; a cursor the CRM forgot is picked up from the checkpoint."""
        expired = 0
        while True:
            rows_before = self._rows
            try:
                state = self._pages()
            except CursorExpired:
                expired = expired + 1 if self._rows == rows_before else 1
                if expired >= _EXPIRED_CURSORS_IN_A_ROW:
                    raise
                if self._rows > 0:
                    self._since = self._place_of(self._checkpoint)
            except MustStartOver:
                if self._since is None:
                    raise
                self._options = replace(self._options, full=True)
                self._checkpoint, self._since = self._begin()
            else:
                if state is not State.OK or self._checkpoint.definition is not None:
                    return state
                # A field came back: fill it in the rows that were stored without it.
                self._checkpoint, self._since = self._begin()
            finally:
                self._runtime.progress.finish(self._running.subject.label)

    @property
    def is_full(self) -> bool:
        """Everything is being read: there is nothing to compare ids with."""
        return self._checkpoint.is_full_pull_running

    def reconcile(self, connector: ListsIds, ids: Iterator[IdPage]) -> State:
        """Compare all ids with the store, once the increment is in."""
        comparison = Reconciliation(
            self._running,
            connector,
            self._stream,
            self._connection,
            self._options.accept_vanished,
            self._commit,
        )
        if not comparison.run(ids):
            return State.REFUSED
        with self._running.writing() as conn:
            self._checkpoint = replace(self._checkpoint, last_full=database_now(conn))
            checkpoints.save(conn, self._checkpoint)
        return State.OK

    def take_again(self, connector: ListsIds, refs: Sequence[RecordRef]) -> None:
        """Read records by id; those the CRM does not have any more leave the dead letters."""
        page = replace(connector.fetch(self._stream, refs), resume_at=None, complete_until=None)
        self._commit(page)
        there = {record.ref for record in page.records} | {one.ref for one in page.rejected}
        with self._running.writing() as conn:
            self._clear_mapped(conn, [ref for ref in refs if ref not in there])

    # ------------------------------------------------------------ where it begins

    def _begin(self) -> tuple[Checkpoint, Cursor | datetime | None]:
        with self._running.writing() as conn:
            checkpoint = checkpoints.load(conn, self._connection, self._stream.name)
            is_redefined = self._is_redefined(checkpoint)
            since = None if is_redefined else self._usable_since(checkpoint)
            if since is not None:
                # Everything stored from here on is mapped by the rules of now.
                return replace(checkpoint, definition=self._definition), since
            starts_over = (
                self._options.full
                or is_redefined
                or checkpoint.cursor is None
                or self._stream.name in READ_WHOLE
            )
            if starts_over:
                checkpoint = replace(
                    checkpoint,
                    cursor=None,
                    is_full_pull_running=True,
                    definition=self._definition,
                )
                seen.clear(conn, self._connection, self._stream.name)
                seen.start(conn, self._connection, self._stream.name)
                checkpoints.save(conn, checkpoint)
        return checkpoint, self._place_of(checkpoint)

    def _is_redefined(self, checkpoint: Checkpoint) -> bool:
        """Whether stored rows were mapped by other rules than those that hold now."""
        if checkpoint.cursor is None or checkpoint.definition == self._definition:
            return False
        self._running.warn(
            "the stream's fields, filters or the company's zone changed, or a field can be read "
            "again: everything is read anew"
        )
        return True

    def _usable_since(self, checkpoint: Checkpoint) -> datetime | None:
        """The date to begin at, unless beginning there would skip something unread."""
        since = self._options.since
        if since is None or self._options.full:
            return None
        if checkpoint.is_full_pull_running:
            self._running.warn("a full pull is under way and brings everything; --since is idle")
            return None
        complete = checkpoint.complete_until
        if complete is not None and since > complete - _SINCE_MARGIN:
            self._running.warn(
                "--since lies after the last pull's end; going on from there instead"
            )
            return None
        if complete is None:
            self._running.warn(
                f"only what changed since {since:%Y-%m-%d %H:%M} UTC was read; older records "
                f"come with `kpisync pull {self._connection}.{self._stream.name} --full`"
            )
        return since

    @staticmethod
    def _place_of(checkpoint: Checkpoint) -> Cursor | None:
        return None if checkpoint.cursor is None else Cursor(checkpoint.cursor)

    # ------------------------------------------------------------ page after page

    def _pages(self) -> State:
        connector = self._runtime.connector(self._connection)
        label = self._running.subject.label
        is_started = False
        with _closing(connector.pull(self._stream, self._since)) as pages:
            for page in pages:
                crashpoints.reach(crashpoints.PAGE_RECEIVED)
                if not is_started:
                    self._runtime.progress.start(label, page.total)
                    is_started = True
                state = self._commit(page)
                self._runtime.progress.advance(label, _own_size(page, self._stream.name))
                if page.complete_until is not None:
                    return state
                if page.resume_at is not None and self._should_stop():
                    self._running.is_unfinished = True
                    return State.OK
        raise MalformedAnswer(
            self._connection,
            f"the pull of {self._stream.name} ended before it was complete; "
            "the next one goes on from the last page",
        )

    def _should_stop(self) -> bool:
        most = self._options.max_rows
        return self._runtime.is_stopping or (most is not None and self._rows >= most)

    def _commit(self, page: Page) -> State:
        """One transaction; anything but OK when the end of a full pull is not to be believed."""
        accepted, refused = self._checked(page.records)
        rejected = [*page.rejected, *refused]
        self._running.warn(*page.warnings)
        expected = self._expected(page)
        crashpoints.reach(crashpoints.PAGE_MAPPED)
        with self._running.writing() as conn:
            deleted = [*page.deleted, *_gone_children(conn, page)]
            staged = self._apply(conn, accepted, deleted, page.unreadable)
            deadletters.record_rejected(conn, rejected)
            self._clear_mapped(conn, [*(record.ref for record in accepted), *page.deleted])
            self._note_seen(conn, page, rejected)
            checkpoint = self._advanced(page)
            state = State.OK
            if page.complete_until is not None:
                checkpoint, state = self._ended(conn, checkpoint, page, expected)
            checkpoints.save(conn, checkpoint)
            pulled = len(page.records) + len(deleted) + len(page.rejected)
            self._running.add(
                conn,
                pulled=pulled,
                stored=staged.changed,
                dead=len(rejected),
                unchanged=pulled - staged.changed - len(rejected),
                cleaned=staged.cleaned,
                # A connector that reckons knows better than "one call a page".
                minimum_calls=0 if self._reckons else 1,
            )
            crashpoints.reach(crashpoints.STORE_BEFORE_COMMIT)
        crashpoints.reach(crashpoints.STORE_AFTER_COMMIT)
        crashpoints.reach(crashpoints.LEASE_RENEWED)
        self._checkpoint = checkpoint
        self._rows += pulled
        return state

    @property
    def _reckons(self) -> bool:
        return self._runtime.connector(self._connection).calls.minimum > 0

    def _expected(self, page: Page) -> int | None:
        """How many live records a full pull that ends with this page should have brought."""
        connector = self._runtime.connector(self._connection)
        if (
            page.complete_until is None
            or not self._checkpoint.is_full_pull_running
            or not isinstance(connector, CountsRecords)
        ):
            return None
        return connector.count(self._stream, page.complete_until)

    def _ended(
        self, conn: Connection, checkpoint: Checkpoint, page: Page, expected: int | None
    ) -> tuple[Checkpoint, State]:
        """The checkpoint of a pull that has come to its end, and whether the end is believed."""
        until = cast("datetime", page.complete_until)
        if expected is not None:
            brought = self._brought(conn, until)
            if brought < expected:
                self._running.error = (
                    f"the CRM counts {expected:,} {self._stream.name}, but only {brought:,} came: "
                    "rows were lost on the way. What came is stored; the next run reads "
                    "everything again."
                )
                return replace(
                    checkpoint, cursor=None, complete_until=self._checkpoint.complete_until
                ), State.FAILED
        is_believed = not page.brought_all or self._reconcile(conn, page.doubt)
        checkpoint = _completed(checkpoint, database_now(conn), is_believed=is_believed)
        checkpoint = self._noting_unreadable(checkpoint, page)
        return checkpoint, State.OK if is_believed else State.REFUSED

    def _brought(self, conn: Connection, until: datetime) -> int:
        """Live records created up to an instant, those that could not be mapped included."""
        name = self._stream.name
        letters = deadletters.counts(conn).get((deadletters.PULL, self._connection, name), 0)
        return letters + records.count(conn, name, self._connection, created_until=until)

    def _checked(
        self, found: Sequence[CanonicalRecord]
    ) -> tuple[list[CanonicalRecord], list[RejectedRecord]]:
        accepted: list[CanonicalRecord] = []
        refused: list[RejectedRecord] = []
        for record in found:
            try:
                records.check(record, self._runtime.company)
            except RecordRefused as error:
                refused.append(
                    RejectedRecord(record.ref, error.field, error.reason, error.code, error.raw)
                )
            else:
                accepted.append(record)
        return accepted, refused

    def _apply(
        self,
        conn: Connection,
        accepted: Sequence[CanonicalRecord],
        deleted: Sequence[RecordRef],
        unreadable: AbstractSet[str] = frozenset(),
    ) -> records.Staged:
        return cells.commit_page(
            conn,
            self._runtime.catalog,
            accepted,
            deleted,
            # A first load moves most of the table: building once at its end is far cheaper.
            defer=self._checkpoint.complete_until is None,
            unreadable={self._stream.name: unreadable},
            run=self._running.run,
        )

    def _clear_mapped(self, conn: Connection, cured: Sequence[RecordRef]) -> None:
        """What maps now, or is gone, leaves the dead letters."""
        by_stream: dict[str, list[RecordRef]] = {}
        for ref in cured:
            by_stream.setdefault(ref.stream, []).append(ref)
        for stream, refs in by_stream.items():
            deadletters.clear_mapped(conn, self._connection, stream, refs)

    def _note_seen(self, conn: Connection, page: Page, rejected: Sequence[RejectedRecord]) -> None:
        if not self._checkpoint.is_full_pull_running:
            return
        # A record that cannot be mapped is there all the same.
        refs = [
            *(record.ref for record in page.records),
            *(letter.ref for letter in rejected),
        ]
        own = [ref for ref in refs if ref.stream == self._stream.name]
        seen.add(conn, self._connection, self._stream.name, own)

    def _advanced(self, page: Page) -> Checkpoint:
        cursor: str | None = page.resume_at
        if cursor is None and page.complete_until is None:
            # Nothing to resume at yet: an interrupted pull begins where this one began.
            cursor = self._checkpoint.cursor
        return replace(
            self._checkpoint,
            cursor=cursor,
            complete_until=page.complete_until or self._checkpoint.complete_until,
            state=State.RUNNING,
            strikes=0,
        )

    def _noting_unreadable(self, checkpoint: Checkpoint, page: Page) -> Checkpoint:
        """Remember what cannot be read; what can be read again is missing in the rows stored."""
        before = set((checkpoint.unreadable or "").split(",")) - {""}
        returned = before - page.unreadable
        is_filled = self._checkpoint.is_full_pull_running or not returned
        return replace(
            checkpoint,
            unreadable=",".join(sorted(page.unreadable)),
            volatile=json.dumps(dict(page.volatile)) if page.volatile else None,
            # Without one, everything is read anew, which fills the gaps.
            definition=checkpoint.definition if is_filled else None,
        )

    def _reconcile(self, conn: Connection, doubt: str) -> bool:
        """Remove what a full pull did not see any more; False when it is too much to believe."""
        if not self._checkpoint.is_full_pull_running:
            return True
        if self._stream.name in NEVER_FORGOTTEN:
            seen.clear(conn, self._connection, self._stream.name)
            return True
        vanished = seen.vanished(conn, self._connection, self._stream.name)
        stored = records.count(conn, self._stream.name, self._connection)
        if vanished and doubt and not self._options.accept_vanished:
            self._running.error = doubtful(
                self._connection, self._stream.name, len(vanished), doubt
            )
            return False
        if is_too_much(len(vanished), stored) and not self._options.accept_vanished:
            self._running.error = refusal(
                self._connection, self._stream.name, len(vanished), stored
            )
            return False
        if vanished:
            left = Page(records=(), resume_at=None, whole=left_by(self._stream, vanished))
            gone = [*vanished, *_gone_children(conn, left)]
            staged = self._apply(conn, [], gone)
            self._running.add(
                conn,
                pulled=len(gone),
                stored=staged.changed,
                unchanged=len(gone) - staged.changed,
            )
        deadletters.clear_unseen(conn, self._connection, self._stream.name)
        seen.clear(conn, self._connection, self._stream.name)
        return True


def _completed(checkpoint: Checkpoint, now: datetime, *, is_believed: bool) -> Checkpoint:
    was_full = checkpoint.is_full_pull_running
    return replace(
        checkpoint,
        # A refused end stays open: every pull looks again until a person has decided.
        is_full_pull_running=was_full and not is_believed,
        last_full=now if was_full else checkpoint.last_full,
        last_success=now if is_believed else checkpoint.last_success,
        error=None if is_believed else checkpoint.error,
        strikes=0,
    )


@contextmanager
def _closing(pages: Iterator[Page]) -> Iterator[Iterator[Page]]:
    """A pull that stops between two pages gives its connection back now, not some time later."""
    try:
        yield pages
    finally:
        if isinstance(pages, Generator):
            pages.close()


def _gone_children(conn: Connection, page: Page) -> list[RecordRef]:
    """Children that the page should carry if they still existed."""
    present = {record.ref for record in page.records} | {letter.ref for letter in page.rejected}
    return [
        ref
        for family in page.whole
        for ref in records.children(conn, family.stream, family.link, family.parents)
        if ref not in present
    ]


def _own_size(page: Page, stream: str) -> int:
    """Records of the stream itself: what rides along is not in the CRM's total."""
    own = sum(record.ref.stream == stream for record in page.records)
    return own + len(page.deleted) + len(page.rejected)
