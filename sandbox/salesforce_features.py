"""What an org may have switched on: several currencies, person accounts; and campaign counts.

Pages: Help, "Manage Multiple Currencies", "About Advanced Currency Management" and "Person
Accounts"; Object Reference, "CurrencyType", "DatedConversionRate", "Account", "Campaign".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sandbox.org import Fields, Record, Value
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_rules import put_quietly
from sandbox.salesforce_schema import currency_field, currency_objects, person_fields

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

PERSON_FIELDS: Final = {
    "FirstName": "FirstName",
    "LastName": "LastName",
    "Salutation": "Salutation",
    "PersonEmail": "Email",
    "PersonMobilePhone": "MobilePhone",
    "PersonTitle": "Title",
    "PersonLeadSource": "LeadSource",
    "PersonHasOptedOutOfEmail": "HasOptedOutOfEmail",
}
"""Fields of a person account and those of the contact that it is at the same time."""


class Features:
    """The switches of one org."""

    def __init__(self, org: SalesforceOrg) -> None:
        self._org = org
        self.corporate_currency: str | None = None
        """The currency of records that name none; None: the org has a single currency."""
        self.has_person_accounts = False
        self._mirrored = dict(PERSON_FIELDS)
        self._count_campaigns()

    def furnish(self, spec: ObjectSpec) -> None:
        """Give a new object the columns of what is switched on."""
        if self.corporate_currency is not None and spec.has_currency:
            spec.add(currency_field())

    # Currencies

    def use_currencies(
        self, corporate: str, rates: Mapping[str, float], *, dated: bool = False
    ) -> None:
        """Switch multi-currency on, for good as at the vendor.

        Args:
            corporate: ISO code of the corporate currency, whose rate is 1.
            rates: Units of each further currency that one corporate unit buys.
            dated: Whether rates change over time (DatedConversionRate exists).
        """
        org = self._org
        if self.corporate_currency is None:
            self.corporate_currency = corporate
            for spec in org.schema.values():
                self.furnish(spec)
        for spec in currency_objects(dated=dated):
            if org.object_spec(spec.name) is None:
                org.schema[spec.name.lower()] = spec
        for code, rate in {corporate: 1.0, **rates}.items():
            self._put_currency(code, rate, is_corporate=code == corporate)

    def _put_currency(self, code: str, rate: float, *, is_corporate: bool) -> None:
        row: dict[str, Value] = {"IsoCode": code, "ConversionRate": float(rate), "IsActive": True}
        row |= {"DecimalPlaces": 0 if code == "JPY" else 2, "IsCorporate": is_corporate}
        kept = next((r for r in self._org.all("CurrencyType") if r["IsoCode"] == code), None)
        if kept is None:
            self._org.create("CurrencyType", row)
        else:
            self._org.edit("CurrencyType", kept.id, row)

    # Person accounts

    def use_person_accounts(self) -> None:
        """Switch person accounts on, for good as at the vendor."""
        if self.has_person_accounts:
            return
        self.has_person_accounts = True
        for object_name, fields in person_fields().items():
            spec = self._org.known_spec(object_name)
            for each in fields:
                spec.add(each)
            self._org.grant_fields(spec, fields)
        if (name := self._org.known_spec("Account").get("Name")) is not None:
            self._org.known_spec("Account").add(replace(name, compound="Name"))
        for each in list(self._org.known_spec("Contact").fields.values()):
            self.mirror(each)

    def mirror(self, each: FieldSpec) -> None:
        """Show a custom field of Contact on Account as `…__pc` (Help, "Person Accounts")."""
        if not (self.has_person_accounts and each.custom and each.compute is None):
            return
        spec = self._org.known_spec("Account")
        shown = replace(each, name=f"{each.name.removesuffix('__c')}__pc", relationship=None)
        self._mirrored[shown.name] = each.name
        spec.add(shown)
        self._org.grant_fields(spec, [shown])

    def changed(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """Keep the contact behind a person account the same as the account."""
        if record.object_name != "Account" or record["IsPersonAccount"] is not True:
            return
        org = self._org
        values = {theirs: record[ours] for ours, theirs in self._mirrored.items()}
        contact_id = record["PersonContactId"]
        if isinstance(contact_id, str):
            if any(before.get(name) != record[name] for name in self._mirrored):
                org.edit("Contact", contact_id, values, by=by, at=at)
            return
        values = {name: value for name, value in values.items() if value is not None}
        values |= {"AccountId": record.id, "IsPersonAccount": True, "OwnerId": record["OwnerId"]}
        put_quietly(org, record, PersonContactId=org.create("Contact", values, by=by, at=at))

    # Campaigns

    def _count_campaigns(self) -> None:
        """Bind the counts of campaigns to what is counted; they move no stamp."""
        spec = self._org.known_spec("Campaign")
        for name, count in _CAMPAIGN_COUNTS.items():
            if (each := spec.get(name)) is not None:
                spec.add(replace(each, compute=self._counted(count)))

    def _counted(
        self, count: Callable[[SalesforceOrg, Record], Value]
    ) -> Callable[[Record], Value]:
        return lambda record: count(self._org, record)


def _members(org: SalesforceOrg, campaign: Record) -> list[Record]:
    rows = org.children("CampaignMember", "CampaignId", campaign.id)
    return [row for row in rows if not row.is_deleted]


def _deals(org: SalesforceOrg, campaign: Record) -> list[Record]:
    rows = org.children("Opportunity", "CampaignId", campaign.id)
    return [row for row in rows if not row.is_deleted]


def _amounts(deals: Sequence[Record]) -> float:
    return sum(float(a) for row in deals if isinstance(a := row["Amount"], int | float))


def _converted(org: SalesforceOrg, member: Record) -> bool:
    lead = org.find("Lead", str(member["LeadId"] or ""))
    return lead is not None and lead["IsConverted"] is True


_CAMPAIGN_COUNTS: Final[Mapping[str, Callable[[SalesforceOrg, Record], Value]]] = {
    "NumberOfLeads": lambda org, c: sum(1 for m in _members(org, c) if m["LeadId"]),
    "NumberOfConvertedLeads": lambda org, c: sum(_converted(org, m) for m in _members(org, c)),
    "NumberOfContacts": lambda org, c: sum(1 for m in _members(org, c) if m["ContactId"]),
    "NumberOfResponses": lambda org, c: sum(m["HasResponded"] is True for m in _members(org, c)),
    "NumberOfOpportunities": lambda org, c: len(_deals(org, c)),
    "NumberOfWonOpportunities": lambda org, c: sum(d["IsWon"] is True for d in _deals(org, c)),
    "AmountAllOpportunities": lambda org, c: _amounts(_deals(org, c)),
    "AmountWonOpportunities": lambda org, c: _amounts([d for d in _deals(org, c) if d["IsWon"]]),
}
