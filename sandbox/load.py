"""Puts a company into the CRMs: into one, half and half by account, or overlapping."""

from __future__ import annotations

from enum import StrEnum

from sandbox.company import Company
from sandbox.hubspot_portal import Portal
from sandbox.load_hubspot import Twins, fill_hubspot
from sandbox.load_salesforce import fill_salesforce
from sandbox.parts import FIRST, SECOND, half, overlap
from sandbox.salesforce_org import SalesforceOrg


class Split(StrEnum):
    """Which CRM gets the accounts with all that is theirs; reps are in every CRM in use."""

    SALESFORCE = "salesforce"
    HUBSPOT = "hubspot"
    BOTH = "both"
    """Every second family of accounts."""
    OVERLAP = "overlap"
    """As `BOTH`, but a third of the families is in both, and a third of their deals copied."""


def fill(company: Company, *, salesforce: SalesforceOrg, hubspot: Portal, split: Split) -> None:
    """Create everything with the stamps of the time when it happened."""
    if split == Split.SALESFORCE:
        fill_salesforce(company, salesforce)
    elif split == Split.HUBSPOT:
        fill_hubspot(company, hubspot)
    elif split == Split.BOTH:
        fill_salesforce(half(company, FIRST), salesforce)
        fill_hubspot(half(company, SECOND), hubspot)
    else:
        _fill_overlapping(company, salesforce, hubspot)


def _fill_overlapping(company: Company, salesforce: SalesforceOrg, hubspot: Portal) -> None:
    """HubSpot's own integration has written the ids of Salesforce into what both have."""
    parts = overlap(company)
    there = fill_salesforce(parts.first, salesforce)
    twins = Twins(
        accounts={name: there.accounts[name] for name in parts.linked_accounts},
        deals={name: there.deals[name] for name in parts.copied_deals},
        people={name: there.people[name] for name in parts.shared_people},
        domains=parts.domains,
        doubles=parts.doubles,
    )
    fill_hubspot(parts.second, hubspot, twins)
