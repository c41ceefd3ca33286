"""The connector: what `connectors.base.Connector` and `WriteTarget` promise, for the tiny CRM."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from connectors.base import (
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    FieldSource,
    FieldType,
    LiveRecord,
    NewField,
    Page,
    Problem,
    PushOutcome,
    PushResult,
    SetupResult,
    Stream,
    StreamSettings,
    TargetField,
)
from connectors.errors import AuthenticationFailed, ConnectorError, MisconfiguredConnection
from connectors.fieldmap import (
    FieldMap,
    MapRequest,
    NativeField,
    compile_fieldmap,
    missing_fields,
)
from kpisync_example.client import Client, Json, NotSent
from store.canonical import CanonicalRecord, FieldUpdate, RecordRef, RejectedRecord, Scalar

PAGE: Final = 500
BATCH: Final = 100
LOOKBACK: Final = timedelta(minutes=10)
"""The tiny CRM stamps a record when it is saved and shows it when its transaction ends."""

# ---------------------------------------------------------------- what is read

OBJECTS: Final[Mapping[str, str]] = {
    "owners": "users",
    "stages": "stages",
    "accounts": "accounts",
    "deals": "deals",
}
"""Canonical stream -> the tiny CRM's name, in the order in which to pull them."""

WRITTEN: Final[Mapping[str, str]] = {"accounts": "accounts", "deals": "deals"}
"""Object that can be written -> canonical stream of its records."""

_STAMPS: Final[Mapping[str, FieldSource]] = {
    "created_at": FieldSource("created_at"),
    "modified_at": FieldSource("changed_at"),
}
FIELDS: Final[Mapping[str, Mapping[str, FieldSource]]] = {
    "owners": {"name": FieldSource("name"), "email": FieldSource("email")},
    "stages": {
        "label": FieldSource("label"),
        "position": FieldSource("position"),
        "is_closed": FieldSource("is_closed"),
        "is_won": FieldSource("is_won"),
    },
    "accounts": {
        "name": FieldSource("name"),
        "domain": FieldSource("website"),
        "owner": FieldSource("owner"),
    },
    "deals": {
        "name": FieldSource("name"),
        "account": FieldSource("account"),
        "owner": FieldSource("owner"),
        "stage": FieldSource("stage", required=True),
        "amount": FieldSource("amount", required=True),
        "close_date": FieldSource("close_date"),
    },
}
"""Canonical field -> the tiny CRM's field, where the configuration says nothing else."""

_TYPES: Final[Mapping[str, FieldType]] = {
    "number": FieldType.NUMBER,
    "text": FieldType.TEXT,
    "boolean": FieldType.CHECKBOX,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
}
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}

_OUTCOMES: Final[Mapping[str, PushOutcome]] = {
    "ok": PushOutcome.WRITTEN,
    "refused": PushOutcome.FAILED,
    "locked": PushOutcome.RETRY,
    "gone": PushOutcome.GONE,
}


@dataclass(frozen=True, slots=True)
class Place:
    """How far a pull has come: everything up to this change time and id has been read."""

    begun: str
    """The CRM's clock when the pull began; the stream is complete up to it at its end."""
    changed_at: str
    id: str

    @classmethod
    def of(cls, since: Cursor | datetime | None, *, now: str, lookback: timedelta) -> Place:
        """Where a pull begins, or goes on."""
        if since is None:
            return cls(now, "", "")
        if isinstance(since, datetime):
            return cls(now, since.astimezone(UTC).isoformat(), "")
        found = json.loads(since)
        if "complete_until" in found:
            overlap = datetime.fromisoformat(found["complete_until"]) - lookback
            return cls(now, overlap.isoformat(), "")
        return cls(**found)

    def cursor(self) -> Cursor:
        """In the midst of a pull."""
        return Cursor(
            json.dumps({"begun": self.begun, "changed_at": self.changed_at, "id": self.id})
        )

    def completed(self) -> Cursor:
        """At its end."""
        return Cursor(json.dumps({"complete_until": self.begun}))


class ExampleConnector:
    """One tiny CRM."""

    def __init__(self, settings: ConnectionSettings) -> None:
        if settings.options:
            raise MisconfiguredConnection(
                settings.name, f"options.{min(settings.options)}: the tiny CRM has no options."
            )
        self._settings = settings
        self.calls = CallCounter()
        self.capabilities = Capabilities(
            push_batch=BATCH,
            sees_deletions=True,
            stream_objects=OBJECTS,
            object_streams=WRITTEN,
        )
        self._client = Client(settings, self.calls)

    # ------------------------------------------------------------ check

    def org_id(self) -> str | None:
        """Which tiny CRM this is: kpisync refuses to mix two of them."""
        return str(self._client.value("/org", "id"))

    def check(self) -> CheckReport:
        """Log in, then look for every mapped field; never raises for what it sees."""
        place = f"connections.{self._settings.name}"
        try:
            org_id = self.org_id()
            problems = [problem for one in self.streams() for problem in self._missing(one, place)]
        except AuthenticationFailed as error:
            remedy = "Set auth.token to a token of the tiny CRM that is valid."
            return CheckReport(
                org_id=None,
                problems=[Problem(place=f"{place}.auth", message=error.message, remedy=remedy)],
            )
        except ConnectorError as error:
            remedy = "Check base_url, and whether the tiny CRM runs."
            return CheckReport(
                org_id=None, problems=[Problem(place=place, message=error.message, remedy=remedy)]
            )
        return CheckReport(org_id=org_id, problems=problems)

    def _missing(self, stream: Stream, place: str) -> Iterator[Problem]:
        for field in missing_fields(self._request(stream.name)):
            yield Problem(
                place=f"{place}.streams.{stream.name}.fields.{field.name}",
                message=field.message,
                remedy="Correct the name of the field, or make it visible to the token's user.",
                is_error=field.is_required,
            )

    # ------------------------------------------------------------ streams

    def streams(self) -> Sequence[Stream]:
        """Owners and stages always: deals and accounts point to them."""
        wanted = {"owners", "stages", *(self._settings.streams or {"accounts", "deals"})}
        unknown = sorted(wanted - set(OBJECTS))
        if unknown:
            raise MisconfiguredConnection(
                self._settings.name, f"the tiny CRM has no {unknown[0]}: remove it from streams."
            )
        return [
            Stream(name=name, object=object_name, yields=(name,))
            for name, object_name in OBJECTS.items()
            if name in wanted
        ]

    # ------------------------------------------------------------ pull

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read by change time and id, from the last place with an overlap."""
        tuning = self._settings.tuning
        lookback = LOOKBACK if tuning.lookback is None else tuning.lookback
        now = str(self._client.value("/org", "now"))
        place = Place.of(since, now=now, lookback=lookback)
        fieldmap = compile_fieldmap(self._request(stream.name))
        stages = self._stages() if stream.name == "deals" else {}
        size = tuning.page_size or PAGE
        nameless: set[str] = set()
        is_last = False
        while not is_last:
            rows = self._client.listed(
                f"/{stream.object}",
                "records",
                changed_from=place.changed_at,
                after_id=place.id,
                limit=size,
                with_deleted="no" if since is None else "yes",
            )
            is_last = len(rows) < size
            if rows:
                place = Place(place.begun, str(rows[-1]["changed_at"]), str(rows[-1]["id"]))
            records, rejected = self._mapped(stream.name, fieldmap, rows, stages)
            nameless.update(str(row["stage"]) for row in rows if stages and not _known(row, stages))
            yield Page(
                records=records,
                rejected=rejected,
                resume_at=place.completed() if is_last else place.cursor(),
                complete_until=datetime.fromisoformat(place.begun) if is_last else None,
                warnings=[*fieldmap.warnings, *map(_unknown_stage, sorted(nameless))]
                if is_last
                else (),
                unreadable=fieldmap.unreadable,
            )

    def _request(self, stream: str) -> MapRequest:
        object_name = OBJECTS[stream]
        described = {str(one["name"]): one for one in self._fields(object_name)}

        def look_up(source: str) -> NativeField | None:
            found = described.get(source)
            return None if found is None else NativeField(source, str(found["type"]))

        return MapRequest(
            connection=self._settings.name,
            crm="the tiny CRM",
            stream=stream,
            object=object_name,
            company=self._settings.company,
            defaults={**_STAMPS, **FIELDS[stream]},
            own=self._settings.streams.get(stream, StreamSettings()).fields,
            look_up=look_up,
            missing_remedy="Correct the name, or make the field visible.",
        )

    def _mapped(
        self, stream: str, fieldmap: FieldMap, rows: Sequence[Json], stages: Mapping[str, Json]
    ) -> tuple[list[CanonicalRecord], list[RejectedRecord]]:
        records: list[CanonicalRecord] = []
        rejected: list[RejectedRecord] = []
        for row in rows:
            stage = stages.get(str(row.get("stage")), {})
            # Flags come from the list of stages, never from a stage's label.
            flags: Mapping[str, Scalar] = {
                name: bool(stage.get(name)) for name in ("is_closed", "is_won") if stages
            }
            winner = row.get("merged_into")
            found = fieldmap.record(
                RecordRef(self._settings.name, stream, str(row["id"])),
                row,
                deleted=bool(row["deleted"]),
                merged_into=f"{self._settings.name}:{winner}" if winner else None,
                given=flags,
            )
            if isinstance(found, RejectedRecord):
                rejected.append(found)
            else:
                records.append(found)
        return records, rejected

    def _stages(self) -> Mapping[str, Json]:
        rows = self._client.listed("/stages", "records", changed_from="", after_id="", limit=1000)
        return {str(row["id"]): row for row in rows}

    # ------------------------------------------------------------ push

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Write by batches of records; each update gets the answer of its record."""
        by_record: dict[tuple[str, str], list[FieldUpdate]] = {}
        for update in updates:
            by_record.setdefault((update.object, update.record_id), []).append(update)
        answers: dict[tuple[str, str], Json] = {}
        for object_name in sorted({update.object for update in updates}):
            ids = [record for name, record in by_record if name == object_name]
            for start in range(0, len(ids), BATCH):
                batch = [(object_name, record) for record in ids[start : start + BATCH]]
                try:
                    answers |= self._written(batch, by_record)
                except NotSent:
                    if not answers:
                        raise
                    # What came before is written: its results must not be lost.
                    answers |= {one: {"status": "locked"} for one in batch}
        return [_result(update, answers) for update in updates]

    def _written(
        self,
        batch: Sequence[tuple[str, str]],
        by_record: Mapping[tuple[str, str], Sequence[FieldUpdate]],
    ) -> Mapping[tuple[str, str], Json]:
        body = [
            {"id": one[1], "values": {each.field: _sent(each.value) for each in by_record[one]}}
            for one in batch
        ]
        try:
            results = self._client.written(f"/{batch[0][0]}/values", "results", body)
        except NotSent:
            raise
        except ConnectorError as error:
            if not error.retryable:
                raise
            # It was sent, and no answer can be read: perhaps it is written, perhaps not.
            return {one: {"status": "unknown", "message": error.message} for one in batch}
        return {(batch[0][0], str(one["id"])): one for one in results}

    # ------------------------------------------------------------ WriteTarget

    def fields(self, object_name: str) -> Mapping[str, TargetField]:
        """What the token's user can see of an object."""
        return {
            str(one["name"]): TargetField(
                name=str(one["name"]),
                label=str(one["label"]),
                type=_TYPES.get(str(one["type"]), FieldType.OTHER),
                writable=bool(one["writable"]),
            )
            for one in self._fields(object_name)
        }

    def read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        """Live values; a record that is gone is left out, a merged one shows its winner."""
        known = self.fields(object_name)
        found: list[LiveRecord] = []
        for start in range(0, len(record_ids), BATCH):
            body = {"ids": list(record_ids[start : start + BATCH])}
            rows = self._client.asked(f"/{object_name}/read", "records", body)
            found += (
                LiveRecord(
                    asked_id=str(row["asked"]),
                    record_id=str(row["id"]),
                    values={name: _live(row.get(name), known[name].type) for name in field_names},
                )
                for row in rows
            )
        return found

    def create(
        self, object_name: str, fields: Sequence[NewField], *, dry_run: bool
    ) -> Sequence[SetupResult]:
        """Create the fields that are missing; to do it again changes nothing."""
        existing = self.fields(object_name)
        return [self._created(object_name, one, existing, dry_run=dry_run) for one in fields]

    def _created(
        self,
        object_name: str,
        wanted: NewField,
        existing: Mapping[str, TargetField],
        *,
        dry_run: bool,
    ) -> SetupResult:
        held = existing.get(wanted.name)
        kind = _NAMES.get(wanted.type, "number")
        if held is not None:
            fits = held.type is _TYPES[kind] and held.writable
            return SetupResult(field=wanted.name, outcome="present" if fits else "conflict")
        if dry_run:
            return SetupResult(field=wanted.name, outcome="would_create")
        body = {"name": wanted.name, "label": wanted.label, "type": kind}
        self._client.written(f"/fields/{object_name}", "fields", body)
        return SetupResult(field=wanted.name, outcome="created")

    # ------------------------------------------------------------ the rest

    def close(self) -> None:
        """Nothing is kept open."""

    def _fields(self, object_name: str) -> Sequence[Json]:
        return self._client.listed(f"/fields/{object_name}", "fields")


def _known(row: Json, stages: Mapping[str, Json]) -> bool:
    return row.get("stage") is None or str(row["stage"]) in stages


def _unknown_stage(stage: str) -> str:
    return f'The stage "{stage}" of deals is in no list: they count as open. Correct the deals.'


def _result(update: FieldUpdate, answers: Mapping[tuple[str, str], Json]) -> PushResult:
    told = answers.get((update.object, update.record_id), {})
    return PushResult(
        update=update,
        # An answer that leaves a record out says nothing about it.
        outcome=_OUTCOMES.get(str(told.get("status")), PushOutcome.UNKNOWN),
        code=told.get("code"),
        message=told.get("message"),
    )


def _sent(value: Scalar) -> object:
    """A value as the tiny CRM takes it: numbers as text, so that they stay exact."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def _live(value: object, kind: FieldType) -> Scalar:
    if kind is FieldType.NUMBER and value is not None:
        return Decimal(str(value))
    return value if isinstance(value, bool) or value is None else str(value)


def connect(settings: ConnectionSettings) -> ExampleConnector:
    """The factory behind the entry point; calls nothing over the network."""
    return ExampleConnector(settings)
