"""What tests keep of a connector's pages, as the store would."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from connectors.base import (
    Connector,
    Cursor,
    FieldType,
    NewField,
    Page,
    Problem,
    PushOutcome,
    PushResult,
    Stream,
    WriteTarget,
)
from connectors.contract.org import Org
from connectors.errors import MustStartOver
from store.canonical import CanonicalRecord, RejectedRecord

R = TypeVar("R", bound=CanonicalRecord)


@dataclass
class Copy:
    """What a reader of a connector's pages has: the records, and where to go on."""

    records: dict[str, CanonicalRecord] = field(default_factory=dict)
    """By native id."""
    rejected: dict[str, RejectedRecord] = field(default_factory=dict)
    cursor: Cursor | None = None
    complete_until: datetime | None = None
    warnings: list[str] = field(default_factory=list)

    def take(self, page: Page) -> None:
        """Store what a page brought, the latest state of each record."""
        for record in page.records:
            held = self.records.get(record.ref.native_id)
            if not (held and held.modified_at and record.modified_at) or (
                record.modified_at >= held.modified_at
            ):
                self.records[record.ref.native_id] = record
        self._remove(ref.native_id for ref in page.deleted)
        self.rejected.update((each.ref.native_id, each) for each in page.rejected)
        self.cursor, self.complete_until = page.resume_at, page.complete_until
        self.warnings.extend(page.warnings)

    def pull(self, connector: Connector, stream: str, *, pages: int | None = None) -> int:
        """Take pages from where we stand; return how many came.

        What a complete pull of everything did not bring is gone. A cursor that stands for nothing
        any more is dropped, as the worker does it.
        """
        try:
            return self._pull(connector, stream, pages)
        except MustStartOver:
            assert self.cursor is not None, "a pull of everything has nothing to start over from"
            self.cursor = None
            return self._pull(connector, stream, pages)

    def _pull(self, connector: Connector, stream: str, pages: int | None) -> int:
        begun_at = self.cursor
        brought: set[str] = set()
        taken = 0
        last: Page | None = None
        pulling = connector.pull(stream_of(connector, stream), begun_at)
        for last in itertools.islice(pulling, pages):
            self.take(last)
            brought.update(record.ref.native_id for record in last.records)
            brought.update(rejected.ref.native_id for rejected in last.rejected)
            taken += 1
        if begun_at is None and last and last.complete_until and last.brought_all:
            self._remove(set(self.records) - brought)
        return taken

    def follow(self, connector: Connector, stream: str) -> None:
        """The next pull; where increments hide deletions, one of everything behind it."""
        self.pull(connector, stream)
        if not connector.capabilities.sees_deletions:
            self.cursor = None
            self.pull(connector, stream)

    def _remove(self, native_ids: Iterable[str]) -> None:
        for native_id in native_ids:
            if native_id in self.records:
                self.records[native_id] = replace(self.records[native_id], deleted=True)

    @property
    def live(self) -> dict[str, CanonicalRecord]:
        """Records that are not deleted, by native id."""
        return {key: record for key, record in self.records.items() if not record.deleted}

    def of(self, kind: type[R]) -> dict[str, R]:
        """Records of one kind, by native id: pages may carry others as well."""
        return {key: one for key, one in self.records.items() if isinstance(one, kind)}

    def names(self) -> set[str | None]:
        """The names of the live records."""
        return {getattr(record, "name", None) for record in self.live.values()}


def stream_of(connector: Connector, name: str) -> Stream:
    """A stream by its canonical name."""
    return next(stream for stream in connector.streams() if stream.name == name)


def writer(connector: Connector) -> WriteTarget:
    """The connector as something that can be written."""
    assert isinstance(connector, WriteTarget)
    return connector


def outcomes(results: Sequence[PushResult]) -> list[PushOutcome]:
    """What became of each update."""
    return [result.outcome for result in results]


def but_rights(problems: Sequence[Problem]) -> list[Problem]:
    """Problems other than the rights of the connected user, who may do more than is needed."""
    return [each for each in problems if each.is_error or not each.place.endswith(".auth")]


def kpi_field(org: Org) -> NewField:
    """The KPI field that the tests write."""
    return NewField(
        name=org.kpi_field,
        label="KPI test",
        help_text="A number of the tests",
        type=FieldType.NUMBER,
        precision=18,
        scale=4,
    )
