"""Leads: contacts that entered the lead stage of their lifecycle.

A lead begins on the day the contact entered that stage, and is converted when it entered the
stage that the configuration names, which is "customer" by default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from connectors.hubspot.client import Json
from connectors.hubspot.derived import instant
from connectors.hubspot.mapping import LinksByObject, Mapped, RecordMapper, losers
from store.canonical import Lead


@dataclass(frozen=True, slots=True)
class LeadMapper:
    """Maps contacts that are leads."""

    base: RecordMapper

    def map(self, row: Json, links: LinksByObject, mapped: Mapped) -> None:
        """Map one contact as a lead."""
        native = self.base.native(row, links)
        record = self.base.record(row, native, mapped)
        if record is None:
            return
        assert isinstance(record, Lead)  # noqa: S101 - the map was made for this stream
        if record.created_at is None:
            record = replace(record, created_at=instant(native.get("createdate")))
        mapped.records.append(self._converted(record))
        mapped.records += losers(record, row)

    def _converted(self, lead: Lead) -> Lead:
        """In HubSpot a lead and its contact are one record; before its conversion it has none."""
        if lead.converted_at is None:
            return replace(lead, converted_account=None, converted_contact=None)
        own = f"{self.base.connection}:{lead.ref.native_id}"
        return replace(lead, converted_contact=lead.converted_contact or own)
