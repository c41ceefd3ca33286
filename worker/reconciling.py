"""Reconciliation: the ids of a CRM against those in the store, without reading all records.

Increments see what changed. What vanished without a trace (hard deletions, erasures, records that
a permission hides) or was never shown to an increment only a comparison of all ids can find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from connectors.base import IdPage, ListsIds, Page, Stream, WholeFamily
from store import deadletters, records, seen
from store.canonical import RecordRef
from store.engine import reading
from worker.running import Running

VANISHED_SHARE: Final = 0.05
VANISHED_COUNT: Final = 20
"""What misses more than both is not believed: lost permissions look like deletes."""

FETCHED_AT_ONCE: Final = 2_000


def is_too_much(vanished: int, stored: int) -> bool:
    """Whether so many missing records rather mean that something is hidden from us."""
    return vanished > VANISHED_COUNT and vanished > VANISHED_SHARE * stored


def refusal(connection: str, stream: str, vanished: int, stored: int) -> str:
    """The guard's words."""
    return (
        f"{vanished:,} of {stored:,} stored {stream} are missing from the CRM's answer. Lost "
        "permissions look the same, so nothing was removed. If access is back, run "
        f"`kpisync pull {connection}.{stream} --full`; if the records are really gone, add "
        "--accept-vanished."
    )


def doubtful(connection: str, stream: str, vanished: int, doubt: str) -> str:
    """Why what is missing is not removed where it may be there all the same."""
    return (
        f"{vanished:,} stored {stream} are missing, but {doubt}, so nothing was removed. If they "
        f"are really gone, run `kpisync pull {connection}.{stream} --full --accept-vanished`."
    )


def left_by(stream: Stream, gone: Sequence[RecordRef]) -> Sequence[WholeFamily]:
    """What goes with records of a stream that are gone."""
    keys = tuple(ref.key for ref in gone)
    return [WholeFamily(name, link, keys) for name, link in stream.dependents]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One comparison of a stream's ids."""

    running: Running
    connector: ListsIds
    stream: Stream
    connection: str
    accept_vanished: bool
    commit: Callable[[Page], object]
    """Commits a page of records or deletions in one transaction."""

    def run(self, ids: Iterator[IdPage]) -> bool:
        """Remove what is gone and fetch what is missing; False when the guard refused.

        Raises:
            ConnectorError: the CRM failed; the comparison begins anew next time.
        """
        explained = self._listed(ids)
        engine = self.running.runtime.engine
        with reading(engine) as conn:
            vanished = seen.vanished(conn, self.connection, self.stream.name)
            stored = records.count(conn, self.stream.name, self.connection)
            missing = self._missing(conn)
        unexplained = sum(ref.key not in explained for ref in vanished)
        if is_too_much(unexplained, stored) and not self.accept_vanished:
            self.running.error = refusal(self.connection, self.stream.name, unexplained, stored)
            return False
        for gone in _portions(vanished):
            self.commit(
                Page(records=(), deleted=gone, resume_at=None, whole=left_by(self.stream, gone))
            )
        for some in _portions(missing):
            page = self.connector.fetch(self.stream, some)
            # Fetching by id moves no checkpoint.
            self.commit(replace(page, resume_at=None, complete_until=None))
        with self.running.writing() as conn:
            seen.clear(conn, self.connection, self.stream.name)
        return True

    def _listed(self, ids: Iterator[IdPage]) -> set[str]:
        """Note every live id in the store; returns the keys whose absence the CRM explains."""
        runtime, label = self.running.runtime, f"{self.running.subject.label} ids"
        explained: set[str] = set()
        is_started = False
        with self.running.writing() as conn:
            seen.start(conn, self.connection, self.stream.name)
        for page in ids:
            if not is_started:
                runtime.progress.start(label, page.total)
                is_started = True
            with self.running.writing() as conn:
                seen.add(conn, self.connection, self.stream.name, page.refs)
                self.running.add(conn)
            explained.update(ref.key for ref in page.explained)
            runtime.progress.advance(label, len(page.refs))
        runtime.progress.finish(label)
        return explained

    def _missing(self, conn: Connection) -> Sequence[RecordRef]:
        """Records the CRM has and the store has not, but for those that cannot be mapped."""
        unmapped = deadletters.refs(conn, self.connection, self.stream.name)
        absent = seen.unstored(conn, self.connection, self.stream.name)
        return [records.ref_of(key, self.stream.name) for key in absent if key not in unmapped]


def _portions(refs: Sequence[RecordRef]) -> Iterator[Sequence[RecordRef]]:
    for start in range(0, len(refs), FETCHED_AT_ONCE):
        yield refs[start : start + FETCHED_AT_ONCE]
