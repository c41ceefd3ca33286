"""The connector of the CRM in memory, written as docs/writing-a-connector.md says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final, Protocol, TypeVar

from connectors.base import (
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    FieldType,
    IdPage,
    LiveRecord,
    NewField,
    Page,
    Purpose,
    PushOutcome,
    PushResult,
    SetupResult,
    Stream,
    TargetField,
)
from connectors.errors import ConnectorError, CrmUnavailable
from store.canonical import (
    Account,
    CanonicalRecord,
    Deal,
    FieldUpdate,
    RecordRef,
    RejectedRecord,
)
from tests.simulation.crm import ACCOUNTS, DEALS, KPI_FIELDS, SPOILT, STAGES, Crm, Row
from tests.simulation.world import World

LOOKBACK: Final = timedelta(minutes=10)
PAGE: Final = 3
BATCH: Final = 2

OBJECTS: Final[Mapping[str, str]] = {
    "accounts": ACCOUNTS,
    "deals": DEALS,
}

_OUTCOMES: Final[Mapping[str, PushOutcome]] = {
    "ok": PushOutcome.WRITTEN,
    "gone": PushOutcome.GONE,
    "locked": PushOutcome.RETRY,
    "refused": PushOutcome.FAILED,
}

T = TypeVar("T")


class Wire(Protocol):
    """What happens to calls on their way."""

    def sent(self, what: str) -> None:
        """Before the CRM has the request.

        Raises:
            ConnectorError: It never gets there.
        """
        ...

    def answered(self, what: str) -> None:
        """After the CRM has done what was asked.

        Raises:
            ConnectorError: The answer is lost.
        """
        ...


class CalmWire:
    """Every call arrives and is answered."""

    def sent(self, what: str) -> None:
        """It arrives."""

    def answered(self, what: str) -> None:
        """It is answered."""


class MemoryConnector:
    """One process's connection to the CRM in memory."""

    def __init__(self, settings: ConnectionSettings, crm: Crm, world: World, wire: Wire) -> None:
        self._name = settings.name
        self._settings = settings
        self._crm = crm
        self._world = world
        self._wire = wire
        self.calls = CallCounter()
        self.capabilities = Capabilities(
            push_batch=BATCH,
            sees_deletions=True,
            stream_objects=OBJECTS,
            object_streams={ACCOUNTS: "accounts", DEALS: "deals"},
        )

    def _call(self, what: str, act: Callable[[], T], purpose: Purpose = Purpose.READ) -> T:
        """One request: an effect when it is sent, and another when a write was done."""
        self._world.current.is_writing = purpose is Purpose.WRITE
        try:
            self._world.effect(f"call {what}")
            self.calls.made += 1
            if self._settings.ledger is not None:
                self._settings.ledger.add(1, purpose)
            self._wire.sent(what)
            found = act()
        finally:
            self._world.current.is_writing = False
        if purpose is Purpose.WRITE:
            self._world.effect(f"done {what}")
        self._wire.answered(what)
        return found

    # ------------------------------------------------------------ reading

    def org_id(self) -> str | None:
        """Which CRM this is."""
        return "memory-1"

    def check(self) -> CheckReport:
        """All is well."""
        return CheckReport(org_id=self.org_id())

    def streams(self) -> Sequence[Stream]:
        """All of them."""
        return [Stream(name=name, object=one, yields=(name,)) for name, one in OBJECTS.items()]

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """By change time and id, from the last place with an overlap."""
        begun, place = self._place(since)
        stages = self._crm.rows[STAGES]
        is_last = False
        while not is_last:
            look = partial(
                self._crm.changed, stream.object, place, PAGE, with_deleted=since is not None
            )
            rows = self._call(f"read {stream.name}", look)
            is_last = len(rows) < PAGE
            if rows:
                place = (rows[-1].changed_at, rows[-1].id)
            found = [self._mapped(stream.name, row, stages) for row in rows]
            yield Page(
                records=[one for one in found if isinstance(one, CanonicalRecord)],
                rejected=[one for one in found if isinstance(one, RejectedRecord)],
                resume_at=_completed(begun) if is_last else _cursor(begun, place),
                complete_until=begun if is_last else None,
            )

    def _place(self, since: Cursor | datetime | None) -> tuple[datetime, tuple[datetime, str]]:
        now = self._world.now
        if since is None:
            return now, (datetime.min.replace(tzinfo=UTC), "")
        if isinstance(since, datetime):
            return now, (since, "")
        told = json.loads(since)
        if "complete_until" in told:
            overlap = self._settings.tuning.lookback
            before = LOOKBACK if overlap is None else overlap
            return now, (datetime.fromisoformat(told["complete_until"]) - before, "")
        begun = datetime.fromisoformat(told["begun"])
        return begun, (datetime.fromisoformat(told["at"]), told["id"])

    def _mapped(
        self, stream: str, row: Row, stages: Mapping[str, Row]
    ) -> CanonicalRecord | RejectedRecord:
        ref = RecordRef(self._name, stream, row.id)
        fields = row.fields
        winner = f"{self._name}:{row.merged_into}" if row.merged_into else None

        def text(name: str) -> str | None:
            value = fields.get(name)
            return None if value is None else str(value)

        def link(name: str) -> str | None:
            return f"{self._name}:{fields[name]}" if fields.get(name) else None

        if stream == "accounts":
            return Account(
                ref=ref,
                created_at=row.created_at,
                modified_at=row.changed_at,
                deleted=row.deleted,
                merged_into=winner,
                name=text("name"),
                owner=link("owner"),
            )
        amount = fields.get("amount")
        if row.deleted:
            # Whatever it held: nobody has to read what is in the bin.
            amount = None
        if amount == SPOILT:
            return RejectedRecord(
                ref, "amount", "the amount is no number", "not_a_number", str(amount)
            )
        stage = stages[str(fields["stage"])].fields
        day = text("day")
        return Deal(
            ref=ref,
            created_at=row.created_at,
            modified_at=row.changed_at,
            deleted=row.deleted,
            name=text("name"),
            account=link("account"),
            owner=link("owner"),
            pipeline=f"{self._name}:main",
            stage=link("stage"),
            is_closed=bool(stage["is_closed"]),
            is_won=bool(stage["is_won"]),
            amount=None if amount is None else Decimal(amount),
            close_date=None if day is None else date.fromisoformat(day),
        )

    # ------------------------------------------------------------ ids

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        """Ids of what is alive, in pages."""
        return self._ids(stream)

    def _ids(self, stream: Stream) -> Iterator[IdPage]:
        place = ""
        while True:
            look = partial(self._ids_behind, stream.object, place)
            rows = self._call(f"ids {stream.name}", look)
            yield IdPage(refs=[RecordRef(self._name, stream.name, row.id) for row in rows])
            if len(rows) < PAGE:
                break
            place = rows[-1].id
        gone = self._call(
            f"gone {stream.name}",
            lambda: [row for row in self._crm.rows[stream.object].values() if row.deleted],
        )
        yield IdPage(
            refs=(), explained=[RecordRef(self._name, stream.name, row.id) for row in gone]
        )

    def _ids_behind(self, object_name: str, after: str) -> Sequence[Row]:
        now = self._world.now
        rows = self._crm.alive(object_name)
        seen = [row for row in rows if row.visible_from is None or row.visible_from <= now]
        return [row for row in seen if row.id > after][:PAGE]

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        """Records by id."""
        rows = self._call(
            f"fetch {stream.name}",
            lambda: [
                row
                for ref in refs
                if (row := self._crm.rows[stream.object].get(ref.native_id)) is not None
            ],
        )
        stages = self._crm.rows[STAGES]
        found = [self._mapped(stream.name, row, stages) for row in rows]
        return Page(
            records=[one for one in found if isinstance(one, CanonicalRecord)],
            rejected=[one for one in found if isinstance(one, RejectedRecord)],
            resume_at=None,
        )

    # ------------------------------------------------------------ writing

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """By batches of records; each update gets the answer of its record."""
        by_record: dict[str, list[FieldUpdate]] = {}
        for update in updates:
            by_record.setdefault(update.record_id, []).append(update)
        records = list(by_record)
        results: list[PushResult] = []
        for start in range(0, len(records), BATCH):
            batch = [by_record[record] for record in records[start : start + BATCH]]
            try:
                results += self._written(batch)
            except ConnectorError:
                if not results:
                    raise
                results += [
                    PushResult(update=one, outcome=PushOutcome.RETRY, code="not_sent")
                    for of_record in batch
                    for one in of_record
                ]
        return results

    def _written(self, batch: Sequence[Sequence[FieldUpdate]]) -> list[PushResult]:
        names = ",".join(of_record[0].record_id for of_record in batch)
        is_done = False

        def write() -> list[PushResult]:
            nonlocal is_done
            is_done = True
            return [
                PushResult(update=one, outcome=_OUTCOMES[answer], code=answer, message=answer)
                for of_record in batch
                for answer in (
                    self._crm.write(
                        of_record[0].object,
                        of_record[0].record_id,
                        {one.field: _sent(one) for one in of_record},
                    ),
                )
                for one in of_record
            ]

        try:
            return self._call(f"write {names}", write, Purpose.WRITE)
        except CrmUnavailable:
            if not is_done:
                raise
            return [
                PushResult(update=one, outcome=PushOutcome.UNKNOWN)
                for of_record in batch
                for one in of_record
            ]

    def fields(self, object_name: str) -> Mapping[str, TargetField]:
        """The fields that write-backs may fill."""
        del object_name
        return {
            name: TargetField(name=name, label=name, type=FieldType.NUMBER, writable=True, scale=4)
            for name in KPI_FIELDS
        }

    def read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        """Live values by id."""

        def look() -> list[LiveRecord]:
            found = []
            for record in record_ids:
                row = self._crm.shown(object_name, record)
                if row is not None:
                    values = {name: row.fields.get(name) for name in field_names}
                    found.append(LiveRecord(asked_id=record, record_id=row.id, values=values))
            return found

        return self._call(f"look {object_name}", look)

    def create(
        self, object_name: str, fields: Sequence[NewField], *, dry_run: bool
    ) -> Sequence[SetupResult]:
        """They are there."""
        del object_name, dry_run
        return [SetupResult(field=one.name, outcome="present") for one in fields]

    def close(self) -> None:
        """Nothing is open."""


def _sent(update: FieldUpdate) -> str | Decimal | None:
    value = update.value
    assert value is None or isinstance(value, str | int | Decimal)
    return Decimal(value) if isinstance(value, int | Decimal) else value


def _cursor(begun: datetime, place: tuple[datetime, str]) -> Cursor:
    at, record = place
    told = {"begun": begun.isoformat(), "at": at.isoformat(), "id": record}
    return Cursor(json.dumps(told))


def _completed(begun: datetime) -> Cursor:
    return Cursor(json.dumps({"complete_until": begun.isoformat()}))
