"""Readers of records that are not the present ones: those of an instant, and small worlds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from metrics.catalog import Catalog
from metrics.definition import KpiSettings
from metrics.verify.reading import Reader
from store import decisions, record_history
from store.canonical import CanonicalRecord
from store.decisions import DatedDecision

_R = TypeVar("_R", bound=CanonicalRecord)


class PastReader(Reader):
    """Reads records as they were at an instant, with the rates of then."""

    def __init__(
        self,
        conn: Connection,
        catalog: Catalog,
        settings: KpiSettings,
        *,
        now: datetime,
        at: datetime,
        decided_by: datetime,
        with_loads: bool = False,
    ) -> None:
        """Begin.

        Args:
            conn: in `store.engine.reading`.
            catalog: what is kept.
            settings: of the catalogue, with the rates that are to hold.
            now: the instant to compute for.
            at: the instant whose records are read.
            decided_by: the instant whose decisions about identities hold.
            with_loads: those that came with a first load that began later, too.
        """
        super().__init__(conn, catalog, now)
        self.settings = settings
        self.asked: set[str] = set()
        """The streams that were read so far."""
        self._at = at
        self._decided_by = decided_by
        self._with_loads = with_loads
        self._past_conn = conn
        self._past_company = catalog.company

    def decided(self, stream: str) -> Sequence[DatedDecision]:
        """What people had said by the instant."""
        return decisions.as_of(self._past_conn, stream, self._decided_by)

    def all(self, record_type: type[_R]) -> Iterator[_R]:
        """Every record of a type as it was, deleted ones too, sorted by key."""
        stream = record_type.STREAM
        self.asked.add(stream)
        for record in record_history.iterate_at(
            self._past_conn,
            stream,
            self._past_company,
            self._at,
            super().all(record_type),
            with_loads=self._with_loads,
        ):
            if isinstance(record, record_type):
                yield record


class WorldReader(Reader):
    """Reads records that are given; everything else does not exist."""

    def __init__(
        self,
        conn: Connection,
        catalog: Catalog,
        settings: KpiSettings,
        *,
        now: datetime,
        decided_by: datetime,
        world: Mapping[str, Sequence[CanonicalRecord]],
    ) -> None:
        """Begin.

        Args:
            conn: in `store.engine.reading`.
            catalog: what is kept.
            settings: of the catalogue, with the rates that are to hold.
            now: the instant to compute for.
            decided_by: the instant whose decisions about identities hold.
            world: stream -> its records, in any order.
        """
        super().__init__(conn, catalog, now)
        self.settings = settings
        self._world = world
        self._past_conn = conn
        self._decided_by = decided_by

    def decided(self, stream: str) -> Sequence[DatedDecision]:
        """What people had said by the instant."""
        return decisions.as_of(self._past_conn, stream, self._decided_by)

    def all(self, record_type: type[_R]) -> Iterator[_R]:
        """Every given record of a type, sorted by key."""
        given = self._world.get(record_type.STREAM, ())
        for record in sorted(given, key=lambda one: one.ref.key):
            if isinstance(record, record_type):
                yield record
