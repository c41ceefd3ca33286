"""HubSpot's JSON becomes canonical records here, and travels no further.

Property values are text. Whether a deal is closed or won is HubSpot's own flag, else what its
stage's definition says; never the stage's label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from connectors.fieldmap import FieldMap
from connectors.hubspot.client import Json
from connectors.hubspot.fields import IS_CLOSED, IS_WON, LINK, PIPELINE, STAGE
from connectors.hubspot.reading import merged_ids
from connectors.values import ReadOptions, Unreadable, reader
from store.canonical import (
    RECORD_TYPES,
    Account,
    CanonicalRecord,
    Deal,
    Key,
    Owner,
    RecordRef,
    RejectedRecord,
    Stage,
    StageChange,
)

_PLAIN: Final = ReadOptions(zone=UTC, prefix="", percent_divisor=1)
_READ_INSTANT: Final = reader("datetime", _PLAIN)
_READ_RATIO: Final = reader("percent", _PLAIN)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_TEXTS: Final[Mapping[bool, str]] = {True: "true", False: "false"}


@dataclass(slots=True)
class Mapped:
    """What rows became."""

    records: list[CanonicalRecord] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    deleted: list[RecordRef] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The pipelines of an object: what its stages mean and where they belong."""

    stages: Mapping[str, Stage]
    """Native stage id -> the stage."""
    labels: Mapping[str, str]
    """Native pipeline id -> its label."""


# ---------------------------------------------------------------- owners and stages


def owner_of(connection: str, content: Json) -> Owner:
    """Map one owner; `id` is what records name, `userId` is not."""
    names = (content.get("firstName"), content.get("lastName"))
    name = " ".join(str(part).strip() for part in names if part).strip()
    email = content.get("email") or None
    teams: Sequence[Json] = content.get("teams") or ()
    main = next((team for team in teams if team.get("primary")), teams[0] if teams else None)
    return Owner(
        ref=RecordRef(connection, Owner.STREAM, str(content["id"])),
        created_at=_instant(content.get("createdAt")),
        modified_at=_instant(content.get("updatedAt")),
        name=name or email,
        email=email,
        team=str(main["name"]) if main and main.get("name") else None,
        is_active=not content.get("archived"),
    )


def pipelines_of(connection: str, content: Sequence[Json]) -> Pipelines:
    """Read the pipelines of an object; metadata values are text."""
    stages: dict[str, Stage] = {}
    labels: dict[str, str] = {}
    for pipeline in content:
        pipeline_id = str(pipeline["id"])
        labels[pipeline_id] = str(pipeline.get("label") or pipeline_id)
        for position, stage in enumerate(_in_order(pipeline.get("stages") or ())):
            metadata = stage.get("metadata") or {}
            probability = _ratio(metadata.get("probability"))
            is_closed = str(metadata.get("isClosed")).lower() == "true"
            stages[str(stage["id"])] = Stage(
                ref=RecordRef(connection, Stage.STREAM, str(stage["id"])),
                created_at=_instant(stage.get("createdAt")),
                modified_at=_instant(stage.get("updatedAt")),
                pipeline=f"{connection}:{pipeline_id}",
                pipeline_label=labels[pipeline_id],
                label=str(stage.get("label") or stage["id"]),
                position=position,
                is_closed=is_closed,
                is_won=is_closed and probability == 1,
                probability=probability,
                is_active=not stage.get("archived"),
            )
    return Pipelines(stages, labels)


def _in_order(stages: Sequence[Json]) -> list[Json]:
    return sorted(stages, key=lambda stage: int(stage.get("displayOrder") or 0))


# ---------------------------------------------------------------- companies and deals


@dataclass(frozen=True, slots=True)
class AccountMapper:
    """Maps companies.

    `home_currency` is the portal's currency where it is not the company's: what an amount
    without a currency code is in.
    """

    connection: str
    fieldmap: FieldMap
    home_currency: str | None

    def map(self, row: Json, links: Mapping[str, str | None], mapped: Mapped) -> None:
        """Map one company; `links` holds linked ids by object."""
        ref = RecordRef(self.connection, Account.STREAM, str(row["id"]))
        record = self.fieldmap.record(ref, native_of(row, links))
        if isinstance(record, RejectedRecord):
            mapped.rejected.append(record)
            return
        assert isinstance(record, Account)  # noqa: S101 - the map was made for this stream
        if record.currency is None and self.home_currency and record.annual_revenue is not None:
            record = replace(record, currency=self.home_currency)
        mapped.records.append(record)
        mapped.records += losers(record, row)


@dataclass(frozen=True, slots=True)
class DealMapper:
    """Maps deals with the changes of their stage.

    `chosen` holds the native ids of the pipelines to read (empty: all); a deal elsewhere is
    reported as deleted, since it may have been moved there. `flags`, `stage_source` and
    `pipeline_source` name the properties from which those fields are read.
    """

    connection: str
    fieldmap: FieldMap
    pipelines: Pipelines
    chosen: frozenset[str]
    home_currency: str | None
    flags: tuple[str, str] = (IS_CLOSED, IS_WON)
    stage_source: str = STAGE
    pipeline_source: str = PIPELINE

    def map(self, row: Json, links: Mapping[str, str | None], mapped: Mapped) -> None:
        """Map one deal with its history; `links` holds linked ids by object."""
        ref = RecordRef(self.connection, Deal.STREAM, str(row["id"]))
        native = native_of(row, links)
        if self.chosen and str(native.get(self.pipeline_source)) not in self.chosen:
            mapped.deleted.append(ref)
            return
        if not self._complete_flags(ref, native, mapped):
            return
        record = self.fieldmap.record(ref, native)
        if isinstance(record, RejectedRecord):
            mapped.rejected.append(record)
            return
        assert isinstance(record, Deal)  # noqa: S101 - the map was made for this stream
        try:
            changes = list(self._changes(record, row))
        except Unreadable as fault:
            mapped.rejected.append(_bad_history(ref, self.stage_source, row, fault))
            return
        record = self._closing(record, changes)
        if record.currency is None and self.home_currency and record.amount is not None:
            record = replace(record, currency=self.home_currency)
        mapped.records.append(record)
        mapped.records += changes
        mapped.records += losers(record, row)

    def _complete_flags(self, ref: RecordRef, native: dict[str, object], mapped: Mapped) -> bool:
        """Fill in flags that HubSpot left empty from the deal's stage; False: rejected."""
        stage_id = str(native.get(self.stage_source) or "")
        stage = self.pipelines.stages.get(stage_id)
        missing = [name for name in self.flags if native.get(name) in {None, ""}]
        if stage is None and missing:
            mapped.rejected.append(_unknown_stage(ref, stage_id))
            return False
        if stage is None:
            if stage_id:
                mapped.warnings.append(
                    f'Stage "{stage_id}" of some deals is in no pipeline of HubSpot any more;'
                    " HubSpot's own closed and won flags are used, time in that stage is not"
                    " measured."
                )
            return True
        for name in missing:
            native[name] = _TEXTS[stage.is_closed if name == self.flags[0] else stage.is_won]
        return True

    def _changes(self, deal: Deal, row: Json) -> Iterator[StageChange]:
        """The deal's stages over time, from the history of its stage property."""
        history = (row.get("propertiesWithHistory") or {}).get(self.stage_source) or ()
        before: tuple[int, str] | None = None
        again = 0
        # Newest first as it comes: entries of one millisecond keep their order by their ids.
        for entry in reversed(history):
            stage_id = entry.get("value")
            if not stage_id:
                continue  # cleared: the deal stood in no stage
            at = _READ_INSTANT(entry.get("timestamp"))
            if not isinstance(at, datetime):
                raise Unreadable("no_timestamp", "has no time")
            stamp = (at - _EPOCH) // _MILLISECOND
            if before == (stamp, stage_id):
                continue
            again = again + 1 if before and before[0] == stamp else 0
            before = (stamp, stage_id)
            # "-" sorts before ".", so the first of a millisecond stays the first.
            place = f"{stamp}.{again}" if again else f"{stamp}"
            native_id = f"{deal.ref.native_id}-{place}-{stage_id}"
            stage = self.pipelines.stages.get(str(stage_id))
            stage_key = f"{self.connection}:{stage_id}"
            yield StageChange(
                ref=RecordRef(self.connection, StageChange.STREAM, native_id),
                created_at=at,
                modified_at=deal.modified_at,
                deal=deal.ref.key,
                stage=stage_key,
                pipeline=stage.pipeline
                if stage
                else deal.pipeline
                if stage_key == deal.stage
                else None,
                at=at,
            )

    def _closing(self, deal: Deal, changes: Sequence[StageChange]) -> Deal:
        """Set when the deal was closed; an open deal's close date is only a forecast."""
        closed_at = deal.closed_at if deal.is_closed else None
        if deal.is_closed and closed_at is None:
            closed_at = self._last_closing(changes)
        return deal if closed_at == deal.closed_at else replace(deal, closed_at=closed_at)

    def _last_closing(self, changes: Sequence[StageChange]) -> datetime | None:
        """The instant at which a closed stage was entered last; repeats are no entries."""
        latest: datetime | None = None
        before: Key | None = None
        for change in sorted(changes, key=lambda one: one.at):
            stage = self.pipelines.stages.get(self._native_id(change.stage))
            if change.stage != before and stage is not None and stage.is_closed:
                latest = change.at
            before = change.stage
        return latest

    def _native_id(self, key: Key | None) -> str:
        return (key or "").removeprefix(f"{self.connection}:")


def native_of(row: Json, links: Mapping[str, str | None]) -> dict[str, object]:
    """A record's JSON as field maps read it: its properties, beside its links by object."""
    native: dict[str, object] = dict(row.get("properties") or {})
    native[LINK.rstrip(".")] = links
    for name, own in (("createdate", "createdAt"), ("hs_lastmodifieddate", "updatedAt")):
        if native.get(name) in {None, ""}:
            native[name] = row.get(own)
    return native


def losers(winner: CanonicalRecord, row: Json) -> Iterator[CanonicalRecord]:
    """The records that were merged into `winner`.

    HubSpot shows nothing of them but their ids, so these carry only the marks.
    """
    for old_id in merged_ids(row):
        yield loser(winner.ref, old_id, winner.ref.key, winner.modified_at)


def loser(
    winner: RecordRef, old_id: str, merged_into: Key, modified_at: datetime | None
) -> CanonicalRecord:
    """The mark of one merged-away record."""
    return RECORD_TYPES[winner.stream](
        ref=RecordRef(winner.connection, winner.stream, old_id),
        deleted=True,
        merged_into=merged_into,
        modified_at=modified_at,
    )


def _unknown_stage(ref: RecordRef, stage_id: str) -> RejectedRecord:
    return RejectedRecord(
        ref=ref,
        field="stage",
        reason=(
            f'Stage "{stage_id}" is in no pipeline, and HubSpot does not say whether the deal is'
            " closed. Put the deal into a stage that exists."
            if stage_id
            else "The deal has no stage, and HubSpot does not say whether it is closed."
            " Put it into a stage."
        ),
        code="unknown_stage",
        raw=stage_id[:200],
    )


def _bad_history(ref: RecordRef, source: str, row: Json, fault: Unreadable) -> RejectedRecord:
    return RejectedRecord(
        ref=ref,
        field="stage",
        reason=(
            f"An entry in the history of {source} {fault.reason}, so the time in its stages"
            " cannot be known. It is read again when the deal changes."
        ),
        code=fault.code,
        raw=str((row.get("propertiesWithHistory") or {}).get(source))[:200],
    )


def _instant(value: object) -> datetime | None:
    try:
        at = _READ_INSTANT(value)
    except Unreadable:
        return None
    return at if isinstance(at, datetime) else None


def _ratio(value: object) -> Decimal | None:
    try:
        ratio = _READ_RATIO(value)
    except Unreadable:
        return None
    return ratio if isinstance(ratio, Decimal) else None
