"""Tickets with the changes of their status.

HubSpot has no closed flag for tickets: the stage says it. On reopening it clears or rewrites the
closing date, so only the history of the stage tells what happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from connectors.hubspot.client import Json
from connectors.hubspot.deals import bad_history, unknown_stage
from connectors.hubspot.defaults import IS_CLOSED, TICKET_STAGE
from connectors.hubspot.history import entries
from connectors.hubspot.mapping import LinksByObject, Mapped, Pipelines, RecordMapper, losers
from connectors.values import Unreadable
from store.canonical import RecordRef, Ticket, TicketStatusChange


@dataclass(frozen=True, slots=True)
class TicketMapper:
    """Maps tickets."""

    base: RecordMapper
    pipelines: Pipelines
    status_source: str = TICKET_STAGE
    closed_source: str = IS_CLOSED

    def map(self, row: Json, links: LinksByObject, mapped: Mapped) -> None:
        """Map one ticket with its history."""
        ref = RecordRef(self.base.connection, Ticket.STREAM, str(row["id"]))
        native = self.base.native(row, links)
        if not self._complete_flag(ref, native, mapped):
            return
        record = self.base.record(row, native, mapped)
        if record is None:
            return
        assert isinstance(record, Ticket)  # noqa: S101 - the map was made for this stream
        try:
            changes = list(self._changes(record, row))
        except Unreadable as fault:
            mapped.rejected.append(
                bad_history(ref, "status", self.status_source, row, fault, what="ticket")
            )
            return
        record = replace(record, closed_at=_closed_at(record, changes))
        mapped.records.append(replace(record, status=self._key(record.status)))
        mapped.records += changes
        mapped.records += losers(record, row)

    def _complete_flag(self, ref: RecordRef, native: dict[str, object], mapped: Mapped) -> bool:
        """Say whether the ticket is closed; False: nobody knows, and it was rejected."""
        if native.get(self.closed_source) not in (None, ""):
            return True
        stage_id = str(native.get(self.status_source) or "")
        stage = self.pipelines.stages.get(stage_id)
        if stage is not None:
            native[self.closed_source] = "true" if stage.is_closed else "false"
            return True
        if native.get("closed_date"):
            mapped.warnings.append(
                f'Stage "{stage_id}" of some tickets is in no pipeline of HubSpot any more; those'
                " with a closing date count as closed."
            )
            native[self.closed_source] = "true"
            return True
        mapped.rejected.append(unknown_stage(ref, stage_id, "ticket"))
        return False

    def _changes(self, ticket: Ticket, row: Json) -> Iterator[TicketStatusChange]:
        connection = self.base.connection
        for entry in entries(row, self.status_source):
            stage = self.pipelines.stages.get(entry.stage)
            yield TicketStatusChange(
                ref=RecordRef(connection, TicketStatusChange.STREAM, entry.native_id),
                created_at=entry.at,
                modified_at=ticket.modified_at,
                ticket=ticket.ref.key,
                status=self._key(entry.stage) or entry.stage,
                is_closed=stage is not None and stage.is_closed,
                at=entry.at,
            )

    def _key(self, status: str | None) -> str | None:
        """The key of a stage, as stages carry it; a status of one's own mapping is plain text."""
        if status is None or self.status_source != TICKET_STAGE:
            return status
        return f"{self.base.connection}:{status}"


def _closed_at(ticket: Ticket, changes: Sequence[TicketStatusChange]) -> datetime | None:
    """When a closed ticket was closed last; HubSpot leaves old dates on reopened ones."""
    if not ticket.is_closed:
        return None
    if ticket.closed_at is not None:
        return ticket.closed_at
    latest: datetime | None = None
    was_closed = False
    for change in sorted(changes, key=lambda one: one.at):
        if change.is_closed and not was_closed:
            latest = change.at
        was_closed = change.is_closed
    return latest
