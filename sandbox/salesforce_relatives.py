"""What happens to a record's children when it is deleted, restored, erased or merged away.

Pages: SOAP API Developer Guide, delete() ("cascade deletes"), undelete(), merge(); Help,
"Considerations for Deleting Accounts".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.org import Record

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

CASCADES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "Account": (
        ("Contact", "AccountId"), ("Opportunity", "AccountId"), ("Case", "AccountId"),
        ("Contract", "AccountId"),
    ),
    "Opportunity": (
        ("OpportunityContactRole", "OpportunityId"), ("OpportunityLineItem", "OpportunityId"),
    ),
    "Contact": (("OpportunityContactRole", "ContactId"), ("CampaignMember", "ContactId")),
    "Lead": (("CampaignMember", "LeadId"),),
    "Campaign": (("CampaignMember", "CampaignId"), ("CampaignMemberStatus", "CampaignId")),
}  # fmt: skip
"""Children that go with their parent, by the reference field that ties them to it."""


class Relatives:
    """The ties between the records of one org."""

    def __init__(self, org: SalesforceOrg) -> None:
        self._org = org
        self._went_along: dict[str, list[Record]] = {}
        """Children that went into the bin with a record, by its id."""
        self.cascades_stamp = False
        """Whether a child that goes with its parent gets a new SystemModstamp."""

    def delete_with(
        self, record: Record, *, by: str, at: datetime | None, commit_after: timedelta | None
    ) -> None:
        """Put the record's children into the bin."""
        went = self._went_along.setdefault(record.id, [])
        for child in self._children(record):
            if child.is_deleted:
                continue
            went.append(child)
            self.delete_with(child, by=by, at=at, commit_after=commit_after)
            before = child.state.modified_at
            self._org.bin_directly(child, by=by, at=at, commit_after=commit_after)
            if commit_after is None and not self._moves_stamp(child):
                # Cascades fire no trigger and are no edit of the child: only deleted/ tells.
                self._org.put(child, replace(child.state, modified_at=before))

    def _moves_stamp(self, child: Record) -> bool:
        return self.cascades_stamp or child.object_name == "OpportunityHistory"

    def undelete_with(
        self, record: Record, *, by: str, at: datetime | None, commit_after: timedelta | None
    ) -> None:
        """Take out of the bin what went there with the record."""
        for child in self._went_along.pop(record.id, []):
            if child.is_deleted and child.id in self._org.rows(child.object_name):
                self.undelete_with(child, by=by, at=at, commit_after=commit_after)
                self._org.unbin_directly(child, by=by, at=at, commit_after=commit_after)

    def erase_with(self, record: Record) -> None:
        """Remove the record's children for good."""
        self._went_along.pop(record.id, None)
        for child in list(self._children(record)):
            if child.id in self._org.rows(child.object_name):
                self._org.erase(child.object_name, child.id)

    def move(self, object_name: str, losers: set[str], winner: str) -> None:
        """Let every record that refers to a loser refer to the winner; no stamp moves."""
        for spec in list(self._org.schema.values()):
            for each in spec.fields.values():
                if object_name not in each.reference_to or each.name == "MasterRecordId":
                    continue
                for loser in losers:
                    for child in list(self._org.children(spec.name, each.name, loser)):
                        fields = {**child.fields, each.name: winner}
                        self._org.put(child, replace(child.state, fields=fields))

    def _children(self, record: Record) -> Iterator[Record]:
        yield from self._org.history.of(record)
        for object_name, field in CASCADES.get(record.object_name, ()):
            yield from list(self._org.children(object_name, field, record.id))
