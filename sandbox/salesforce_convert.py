"""Converting a lead into an account, a contact and, if wanted, an opportunity.

Pages: SOAP API Developer Guide, convertLead(); Object Reference, "Lead".
"""

from __future__ import annotations

from sandbox.org import PEOPLE, Value
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_rules import put_quietly


def convert_lead(
    org: SalesforceOrg,
    lead_id: str,
    *,
    account_id: str | None = None,
    contact_id: str | None = None,
    opportunity_name: str | None = None,
) -> dict[str, str | None]:
    """Convert a lead; what is not given is created from it.

    Returns:
        The ids under ``account``, ``contact`` and ``opportunity`` (None: none was wanted).

    Raises:
        ValueError: it is converted already.
    """
    lead = org.get("Lead", lead_id)
    if lead["IsConverted"]:
        raise ValueError(f"Lead {lead.id} is converted already")
    owner = lead["OwnerId"]
    account = account_id or org.create("Account", {"Name": lead["Company"], "OwnerId": owner})
    contact = contact_id or org.create(
        "Contact",
        {
            "FirstName": lead["FirstName"],
            "LastName": lead["LastName"],
            "Email": lead["Email"],
            "LeadSource": lead["LeadSource"],
            "AccountId": account,
            "OwnerId": owner,
        },
    )
    opportunity = None
    if opportunity_name is not None:
        values: dict[str, Value] = {"Name": opportunity_name, "AccountId": account}
        values |= {"LeadSource": lead["LeadSource"], "OwnerId": owner}
        opportunity = org.create("Opportunity", values)
        org.create(
            "OpportunityContactRole",
            {"OpportunityId": opportunity, "ContactId": contact, "IsPrimary": True},
        )
    statuses = [row["ApiName"] for row in org.all("LeadStatus") if row["IsConverted"]]
    org.edit(
        "Lead",
        lead.id,
        {
            "Status": statuses[0] if statuses else lead["Status"],
            "IsConverted": True,
            "ConvertedDate": org.now().date().isoformat(),
            "ConvertedAccountId": account,
            "ConvertedContactId": contact,
            "ConvertedOpportunityId": opportunity,
        },
        by=PEOPLE,
    )
    for member in list(org.children("CampaignMember", "LeadId", lead.id)):
        # The lead's memberships become the contact's too ("CampaignMember").
        put_quietly(org, member, ContactId=contact, LeadOrContactId=contact, AccountId=account)
    return {"account": account, "contact": contact, "opportunity": opportunity}
