"""A CRM in memory: records with change times, a bin, merges, a journal of what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

from tests.simulation.world import BEGIN, World

Value: TypeAlias = "str | Decimal | None"

ACCOUNTS: Final = "companies"
DEALS: Final = "deals"
STAGES: Final = "stages"

SPOILT: Final = "abc"
"""An amount that is none."""

KPI_FIELDS: Final = ("kpi_revenue", "kpi_win_rate")


@dataclass(frozen=True, slots=True)
class Row:
    """A record of the CRM."""

    id: str
    created_at: datetime
    changed_at: datetime
    fields: Mapping[str, Value]
    deleted: bool = False
    merged_into: str | None = None
    visible_from: datetime | None = None
    """Its transaction commits then; what it stamped itself with lies before."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that was written through the interface."""

    at: datetime
    object: str
    id: str
    field: str
    old: Value
    new: Value

    @property
    def is_redundant(self) -> bool:
        """The field held it already."""
        return self.old == self.new


@dataclass
class Crm:
    """What a CRM holds."""

    world: World
    rows: dict[str, dict[str, Row]] = field(
        default_factory=lambda: {name: {} for name in (STAGES, ACCOUNTS, DEALS)}
    )
    journal: list[Entry] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)
    """Ids of records that a rule of validation protects."""
    locked: dict[str, int] = field(default_factory=dict)
    """Record id -> how many writes still meet its lock."""

    def copy(self, world: World) -> Crm:
        """The same records in another world."""
        return Crm(
            world,
            {name: dict(rows) for name, rows in self.rows.items()},
            list(self.journal),
            set(self.refusing),
            dict(self.locked),
        )

    def told(self) -> list[str]:
        """All that it holds, a line each."""
        return [
            *(
                f"{name} {row.id} {row.created_at} {row.changed_at} {row.deleted} {row.merged_into}"
                f" {row.visible_from} {sorted(row.fields.items())}"
                for name, rows in self.rows.items()
                for row in rows.values()
            ),
            *(
                f"journal {number} {one.at} {one.object} {one.id} {one.field} {one.old} {one.new}"
                for number, one in enumerate(self.journal)
            ),
            f"refusing {sorted(self.refusing)} locked {sorted(self.locked.items())}",
        ]

    # ------------------------------------------------------------ people at work

    def make(
        self, object_name: str, record: str, *, late: timedelta | None = None, **fields: Value
    ) -> None:
        """Somebody enters a record; `late`: its transaction takes that long to commit."""
        now = self.world.now
        visible = None if late is None else now + late
        self.rows[object_name][record] = Row(record, now, now, fields, visible_from=visible)

    def edit(self, object_name: str, record: str, **fields: Value) -> None:
        """Somebody changes fields of a record."""
        row = self.rows[object_name][record]
        self._put(object_name, replace(row, fields={**row.fields, **fields}))

    def delete(self, object_name: str, record: str) -> None:
        """Into the bin."""
        self._put(object_name, replace(self.rows[object_name][record], deleted=True))

    def restore(self, object_name: str, record: str) -> None:
        """Out of the bin."""
        self._put(object_name, replace(self.rows[object_name][record], deleted=False))

    def erase(self, object_name: str, record: str) -> None:
        """Gone without a trace."""
        del self.rows[object_name][record]

    def merge(self, winner: str, loser: str) -> None:
        """Two accounts become one; the deals of the loser become the winner's."""
        row = self.rows[ACCOUNTS][loser]
        self._put(ACCOUNTS, replace(row, deleted=True, merged_into=winner))
        self._put(ACCOUNTS, self.rows[ACCOUNTS][winner])
        for deal in list(self.rows[DEALS].values()):
            if deal.fields.get("account") == loser:
                self.edit(DEALS, deal.id, account=winner)

    def _put(self, object_name: str, row: Row) -> None:
        self.rows[object_name][row.id] = replace(row, changed_at=self.world.now)

    # ------------------------------------------------------------ what is seen

    def alive(self, object_name: str) -> list[Row]:
        """Records that are there, by id."""
        found = [row for row in self.rows[object_name].values() if not row.deleted]
        return sorted(found, key=lambda row: row.id)

    def changed(
        self, object_name: str, after: tuple[datetime, str], limit: int, *, with_deleted: bool
    ) -> Sequence[Row]:
        """Records by change time and id behind a place."""
        now = self.world.now
        found = [
            row
            for row in self.rows[object_name].values()
            if (row.changed_at, row.id) > after
            and (with_deleted or not row.deleted)
            and (row.visible_from is None or row.visible_from <= now)
        ]
        return sorted(found, key=lambda row: (row.changed_at, row.id))[:limit]

    def shown(self, object_name: str, record: str) -> Row | None:
        """A record as it is shown to who asks by id: a merged one shows its winner."""
        row = self.rows[object_name].get(record)
        while row is not None and row.merged_into is not None:
            row = self.rows[object_name].get(row.merged_into)
        return None if row is None or row.deleted else row

    # ------------------------------------------------------------ what is written

    def write(self, object_name: str, record: str, values: Mapping[str, Value]) -> str:
        """Write fields of a record; returns how it went: ok, gone, locked, refused."""
        row = self.rows[object_name].get(record)
        if row is None or row.deleted:
            return "gone"
        if self.locked.get(record, 0) > 0:
            self.locked[record] -= 1
            return "locked"
        if record in self.refusing:
            return "refused"
        for name, value in values.items():
            old = row.fields.get(name)
            self.journal.append(Entry(self.world.now, object_name, record, name, old, value))
        self.edit(object_name, record, **values)
        return "ok"


def small_company(world: World) -> Crm:
    """Three stages, five accounts, six deals, entered some days before."""
    crm = Crm(world)
    now, world.now = world.now, BEGIN - timedelta(days=3)
    for number, (stage, is_closed, is_won) in enumerate(
        (("open", "", ""), ("won", "1", "1"), ("lost", "1", ""))
    ):
        crm.make(STAGES, stage, position=str(number), is_closed=is_closed, is_won=is_won)
    for number in range(1, 5):
        world.now += timedelta(minutes=1)
        crm.make(ACCOUNTS, f"a{number}", name=f"Account {number:04d}", owner="u1")
    crm.make(ACCOUNTS, "a5", name="Account 0005, without deals", owner="u1")
    stages = ("won", "open", "won", "lost", "won", "open")
    for number, stage in enumerate(stages, start=1):
        world.now += timedelta(minutes=1)
        crm.make(
            DEALS,
            f"d{number}",
            name=f"Deal {number:04d}",
            account=f"a{1 + number % 4}",
            owner=f"u{1 + number % 2}",
            stage=stage,
            amount=Decimal(100 * number),
            day=f"2026-06-{number:02d}",
        )
    world.now = now
    return crm
