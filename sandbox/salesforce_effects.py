"""What a committed write does to the record itself and to its neighbours.

Pages: Object Reference, the objects named beside each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from sandbox.org import Fields, Record, Value
from sandbox.salesforce_rules import put_quietly
from sandbox.salesforce_values import stamp_text

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

Effect: TypeAlias = "Callable[[SalesforceOrg, Record, Fields, datetime], None]"


def follow_up(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    """Do what follows from a create (`before` is empty) or an edit stamped `at`."""
    effect = _EFFECTS.get(record.object_name)
    if effect is not None:
        effect(org, record, before, at)


def _opportunity(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    if before and before.get("StageName") != record["StageName"]:
        put_quietly(org, record, LastStageChangeDate=stamp_text(at))


def _case(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    # Object Reference, "Case": ClosedDate is set by closing and cleared by reopening.
    was_closed, is_closed = before.get("IsClosed") is True, record["IsClosed"] is True
    if is_closed and not was_closed and record["ClosedDate"] == before.get("ClosedDate"):
        put_quietly(org, record, ClosedDate=stamp_text(at))
    elif was_closed and not is_closed:
        put_quietly(org, record, ClosedDate=None)


def _member(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    if record["HasResponded"] is True and record["FirstRespondedDate"] is None:
        put_quietly(org, record, FirstRespondedDate=at.date().isoformat())
    del before


def _campaign(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    # A new campaign has two member statuses (Object Reference, "CampaignMemberStatus").
    if before or org.children("CampaignMemberStatus", "CampaignId", record.id):
        return
    for place, (label, responded) in enumerate((("Sent", False), ("Responded", True)), start=1):
        row: dict[str, Value] = {"CampaignId": record.id, "Label": label, "SortOrder": place}
        row |= {"HasResponded": responded, "IsDefault": place == 1}
        org.create("CampaignMemberStatus", row, at=at)


def _line_item(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    del before
    add_up_line_items(org, record["OpportunityId"], at)


def add_up_line_items(org: SalesforceOrg, opportunity_id: Value, at: datetime) -> None:
    """Let an opportunity's Amount be the sum of its products, as long as it has some."""
    opportunity = org.find("Opportunity", str(opportunity_id or ""))
    if opportunity is None or opportunity.is_deleted:
        return
    rows = org.children("OpportunityLineItem", "OpportunityId", opportunity.id)
    totals = [
        float(total) if isinstance(total := row["TotalPrice"], int | float) else 0.0
        for row in rows
        if not row.is_deleted
    ]
    values: dict[str, Value] = {"HasOpportunityLineItem": bool(totals)}
    if totals:
        values["Amount"] = round(sum(totals), 2)
    org.edit("Opportunity", opportunity.id, values, at=at)


def _dated_rate(org: SalesforceOrg, record: Record, before: Fields, at: datetime) -> None:
    """Each rate holds until the next one of its currency starts ("DatedConversionRate")."""
    del before, at
    rows = sorted(
        (r for r in org.all("DatedConversionRate") if r["IsoCode"] == record["IsoCode"]),
        key=lambda row: str(row["StartDate"]),
    )
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        ends = following["StartDate"] if following is not None else "9999-12-31"
        if row["NextStartDate"] != ends:
            put_quietly(org, row, NextStartDate=ends)


_EFFECTS: Final[Mapping[str, Effect]] = {
    "Opportunity": _opportunity,
    "Case": _case,
    "CampaignMember": _member,
    "Campaign": _campaign,
    "OpportunityLineItem": _line_item,
    "DatedConversionRate": _dated_rate,
}
