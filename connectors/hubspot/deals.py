"""Deals with the changes of their stage and the people who take part in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from connectors.hubspot.client import Json
from connectors.hubspot.defaults import CONTACTS, DEALS
from connectors.hubspot.fields import IS_CLOSED, IS_WON, STAGE
from connectors.hubspot.history import entries
from connectors.hubspot.links import Links
from connectors.hubspot.mapping import (
    LinksByObject,
    Mapped,
    Pipelines,
    RecordMapper,
    in_home_currency,
    losers,
)
from connectors.values import Unreadable
from store.canonical import Deal, DealContact, DealLine, Key, RecordRef, RejectedRecord, StageChange

_TEXTS: Final = {True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class DealMapper:
    """Maps deals; `stage` and `flags` (closed, won) name the properties that decide."""

    base: RecordMapper
    pipelines: Pipelines
    stage: str = STAGE
    flags: tuple[str, str] = (IS_CLOSED, IS_WON)

    def map(self, row: Json, links: LinksByObject, mapped: Mapped) -> None:
        """Map one deal with its history and its people."""
        ref = RecordRef(self.base.connection, Deal.STREAM, str(row["id"]))
        native = self.base.native(row, links)
        if not self._complete_flags(ref, native, mapped):
            return
        record = self.base.fieldmap.record(ref, native)
        if isinstance(record, RejectedRecord):
            mapped.rejected.append(record)
            return
        assert isinstance(record, Deal)  # noqa: S101 - the map was made for this stream
        try:
            changes = list(self._changes(record, row))
        except Unreadable as fault:
            mapped.rejected.append(bad_history(ref, "stage", self.stage, row, fault, what="deal"))
            return
        record = self._closing(record, changes)
        mapped.records.append(in_home_currency(record, self.base.home_currency))
        mapped.records += changes
        mapped.records += contacts_of(record, links.get(CONTACTS, ()))
        mapped.records += losers(record, row)

    def _complete_flags(self, ref: RecordRef, native: dict[str, object], mapped: Mapped) -> bool:
        """Fill in flags that HubSpot left empty from the deal's stage; False: rejected."""
        stage_id = str(native.get(self.stage) or "")
        stage = self.pipelines.stages.get(stage_id)
        missing = [name for name in self.flags if native.get(name) in (None, "")]
        if stage is None and missing:
            mapped.rejected.append(unknown_stage(ref, stage_id, "deal"))
            return False
        if stage is None:
            if stage_id:
                mapped.warnings.append(
                    f'Stage "{stage_id}" of some deals is in no pipeline of HubSpot any more;'
                    " HubSpot's own closed and won flags are used, time in that stage is not"
                    " measured."
                )
            return True
        if self.flags[1] in missing and stage.is_closed and stage.probability is None:
            mapped.rejected.append(_undecided(ref, stage_id))
            return False
        for name in missing:
            native[name] = _TEXTS[stage.is_closed if name == self.flags[0] else stage.is_won]
        return True

    def _changes(self, deal: Deal, row: Json) -> Iterator[StageChange]:
        """The deal's stages over time, from the history of its stage property."""
        connection = self.base.connection
        for entry in entries(row, self.stage):
            stage = self.pipelines.stages.get(entry.stage)
            stage_key = f"{connection}:{entry.stage}"
            yield StageChange(
                ref=RecordRef(connection, StageChange.STREAM, entry.native_id),
                created_at=entry.at,
                modified_at=deal.modified_at,
                deal=deal.ref.key,
                stage=stage_key,
                pipeline=stage.pipeline
                if stage
                else deal.pipeline
                if stage_key == deal.stage
                else None,
                at=entry.at,
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
        return (key or "").removeprefix(f"{self.base.connection}:")


@dataclass(frozen=True, slots=True)
class DealLineMapper:
    """Maps line items; those of a quote or an invoice alone belong to no deal."""

    base: RecordMapper

    def map(self, row: Json, links: LinksByObject, mapped: Mapped) -> None:
        """Map one line item."""
        if DEALS in links and not links[DEALS]:
            mapped.deleted.append(RecordRef(self.base.connection, DealLine.STREAM, str(row["id"])))
            return
        self.base.map(row, links, mapped)


def contacts_of(deal: Deal, links: Links) -> Iterator[DealContact]:
    """The people who take part in a deal; their role is the label that people gave the link."""
    connection, deal_id = deal.ref.connection, deal.ref.native_id
    for link in links:
        yield DealContact(
            ref=RecordRef(connection, DealContact.STREAM, f"{deal_id}-{link.id}"),
            modified_at=deal.modified_at,
            deal=deal.ref.key,
            contact=f"{connection}:{link.id}",
            role=link.label,
            is_primary=link.is_primary,
        )


def unknown_stage(ref: RecordRef, stage_id: str, what: str) -> RejectedRecord:
    """A record of which nobody can say whether it is closed."""
    return RejectedRecord(
        ref=ref,
        field="stage",
        reason=(
            f'Stage "{stage_id}" is in no pipeline, and HubSpot does not say whether the {what} is'
            f" closed. Put the {what} into a stage that exists."
            if stage_id
            else f"The {what} has no stage, and HubSpot does not say whether it is closed."
            " Put it into a stage."
        ),
        code="unknown_stage",
        raw=stage_id[:200],
    )


def _undecided(ref: RecordRef, stage_id: str) -> RejectedRecord:
    return RejectedRecord(
        ref=ref,
        field="is_won",
        reason=(
            f'Stage "{stage_id}" is closed, and HubSpot does not say whether what is closed there'
            " is won. Map is_won from a property that says it."
        ),
        code="unknown_outcome",
        raw=stage_id[:200],
    )


def bad_history(
    ref: RecordRef, field: str, source: str, row: Json, fault: Unreadable, *, what: str
) -> RejectedRecord:
    """A record of which nobody can say when it stood where."""
    return RejectedRecord(
        ref=ref,
        field=field,
        reason=(
            f"An entry in the history of {source} {fault.reason}, so the times of its {field}"
            f" cannot be known. It is read again when the {what} changes."
        ),
        code=fault.code,
        raw=str((row.get("propertiesWithHistory") or {}).get(source))[:200],
    )
