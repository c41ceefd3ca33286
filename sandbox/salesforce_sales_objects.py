"""The objects of selling: accounts and people, opportunities with their parts, campaigns.

Page: Object Reference, "Standard Objects" (field names, types, lengths, who may write them).
"""

from dataclasses import replace
from typing import Final

from sandbox.salesforce_fields import (
    FieldSpec,
    ObjectSpec,
    address,
    built,
    choice,
    create_only,
    day,
    flag,
    history_object,
    long_text,
    moment,
    money,
    number,
    person_name,
    read_only,
    ref,
    system,
    text,
)

INDUSTRIES: Final = (
    "Agriculture", "Banking", "Construction", "Consulting", "Education", "Electronics",
    "Energy", "Engineering", "Entertainment", "Finance", "Government", "Healthcare",
    "Hospitality", "Insurance", "Manufacturing", "Media", "Retail", "Technology",
    "Telecommunications", "Transportation", "Utilities", "Other",
)  # fmt: skip
LEAD_SOURCES: Final = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
FORECASTS: Final = {
    "Omitted": "Omitted", "Pipeline": "Pipeline", "BestCase": "Best Case",
    "MostLikely": "Most Likely", "Forecast": "Commit", "Closed": "Closed",
}  # fmt: skip
"""ForecastCategory to ForecastCategoryName (Object Reference, "OpportunityStage")."""

LAST_ACTIVITY: Final = read_only(FieldSpec("LastActivityDate", "date", "Last Activity"))


def sales_objects() -> list[ObjectSpec]:
    """A fresh set."""
    return [
        _account(), _contact(), _lead(), _opportunity(), _opportunity_history(),
        history_object("OpportunityFieldHistory", "Opportunity Field History", "017",
                       "Opportunity"),
        history_object("LeadHistory", "Lead History", "017", "Lead"),
        _contact_role(), _line_item(), _product(), _price_book(), _price_book_entry(),
        _campaign(), _campaign_member(), _campaign_member_status(), _contract(),
    ]  # fmt: skip


def _account() -> ObjectSpec:
    return built(
        ObjectSpec(
            "Account", "Account", "001", custom_fields=True, mergeable=True, has_currency=True
        ),
        text("Name", 255, required=True),
        choice("Type", "Prospect", "Customer - Direct", "Customer - Channel", "Other"),
        ref("ParentId", "Account"),
        ref("RecordTypeId", "RecordType"),
        *address("Billing"),
        *address("Shipping"),
        text("Phone", 40, "phone"),
        text("AccountNumber", 40),
        text("Website", 255, "url"),
        choice("Industry", *INDUSTRIES),
        number("AnnualRevenue", "currency", 18, 0),
        number("NumberOfEmployees", "int", 8, 0),
        choice("Ownership", "Public", "Private", "Subsidiary", "Other"),
        choice("Rating", "Hot", "Warm", "Cold"),
        text("TickerSymbol", 20),
        text("Site", 80),
        choice("AccountSource", *LEAD_SOURCES),
        long_text("Description"),
        ref("OwnerId", "User", required=True),
        read_only(ref("MasterRecordId", "Account", relationship="MasterRecord")),
        LAST_ACTIVITY,
        system=system(),
    )


def _contact() -> ObjectSpec:
    return built(
        ObjectSpec(
            "Contact", "Contact", "003", custom_fields=True, mergeable=True, has_currency=True
        ),
        *person_name(),
        ref("AccountId", "Account"),
        ref("RecordTypeId", "RecordType"),
        ref("ReportsToId", "Contact"),
        text("Email", 80, "email"),
        text("Phone", 40, "phone"),
        text("MobilePhone", 40, "phone"),
        text("Title", 128),
        text("Department", 80),
        *address("Mailing"),
        choice("LeadSource", *LEAD_SOURCES),
        day("Birthdate"),
        flag("HasOptedOutOfEmail"),
        text("EmailBouncedReason", 255),
        moment("EmailBouncedDate"),
        long_text("Description"),
        ref("OwnerId", "User", required=True),
        read_only(ref("MasterRecordId", "Contact", relationship="MasterRecord")),
        LAST_ACTIVITY,
        system=system(),
    )


def _lead() -> ObjectSpec:
    return built(
        ObjectSpec("Lead", "Lead", "00Q", custom_fields=True, mergeable=True, has_currency=True),
        *person_name(),
        text("Title", 128),
        text("Company", 255, required=True),
        ref("RecordTypeId", "RecordType"),
        *address(""),
        text("Phone", 40, "phone"),
        text("MobilePhone", 40, "phone"),
        text("Email", 80, "email"),
        text("Website", 255, "url"),
        choice("LeadSource", *LEAD_SOURCES),
        replace(choice("Status", required=True), defaulted=True),
        choice("Industry", *INDUSTRIES),
        choice("Rating", "Hot", "Warm", "Cold"),
        number("AnnualRevenue", "currency", 18, 0),
        number("NumberOfEmployees", "int", 8, 0),
        flag("HasOptedOutOfEmail"),
        long_text("Description"),
        # Object Reference, "Lead": set by conversion alone.
        read_only(flag("IsConverted")),
        read_only(day("ConvertedDate")),
        read_only(ref("ConvertedAccountId", "Account")),
        read_only(ref("ConvertedContactId", "Contact")),
        read_only(ref("ConvertedOpportunityId", "Opportunity")),
        flag("IsUnreadByOwner"),
        ref("OwnerId", "Group", "User", required=True),
        read_only(ref("MasterRecordId", "Lead", relationship="MasterRecord")),
        LAST_ACTIVITY,
        system=system(),
    )


def _opportunity() -> ObjectSpec:
    return built(
        ObjectSpec("Opportunity", "Opportunity", "006", custom_fields=True, has_currency=True),
        text("Name", 120, required=True),
        ref("AccountId", "Account"),
        ref("ContactId", "Contact"),
        ref("RecordTypeId", "RecordType"),
        ref("CampaignId", "Campaign"),
        ref("Pricebook2Id", "Pricebook2", relationship="Pricebook2"),
        choice("StageName", required=True),
        money("Amount"),
        number("Probability", "percent", 3, 0),
        read_only(money("ExpectedRevenue")),
        number("TotalOpportunityQuantity", "double", 18, 2),
        day("CloseDate", required=True),
        choice("Type", "Existing Business", "New Business"),
        choice("LeadSource", *LEAD_SOURCES),
        text("NextStep", 255),
        long_text("Description"),
        read_only(flag("IsClosed")),
        read_only(flag("IsWon")),
        read_only(choice("ForecastCategory", *FORECASTS)),
        choice("ForecastCategoryName", *FORECASTS.values()),
        read_only(flag("HasOpportunityLineItem")),
        ref("OwnerId", "User", required=True),
        LAST_ACTIVITY,
        read_only(moment("LastStageChangeDate")),
        system=system(),
    )


def _opportunity_history() -> ObjectSpec:
    # Read-only by nature: no field can be written, and it has no LastModifiedDate.
    rows = (
        ref("OpportunityId", "Opportunity"),
        choice("StageName"),
        money("Amount"),
        money("ExpectedRevenue"),
        day("CloseDate"),
        number("Probability", "percent", 3, 0),
        choice("ForecastCategory", *FORECASTS),
    )
    return built(
        ObjectSpec(
            "OpportunityHistory",
            "Opportunity History",
            "008",
            createable=False,
            updateable=False,
            deletable=False,
            replicateable=False,
            has_currency=True,
        ),
        *(read_only(spec) for spec in rows),
        system=system("LastModifiedDate", "LastModifiedById"),
    )


def _contact_role() -> ObjectSpec:
    # Object Reference, "OpportunityContactRole": IsDeleted is set only with the parent's.
    return built(
        ObjectSpec(
            "OpportunityContactRole",
            "Opportunity Contact Role",
            "00K",
            custom_fields=True,
            has_currency=True,
            deletion="traceless",
        ),
        create_only(ref("OpportunityId", "Opportunity", required=True)),
        ref("ContactId", "Contact", required=True),
        choice("Role", "Business User", "Decision Maker", "Economic Buyer", "Evaluator", "Other"),
        flag("IsPrimary"),
        system=system(),
    )


def _line_item() -> ObjectSpec:
    return built(
        ObjectSpec(
            "OpportunityLineItem",
            "Opportunity Product",
            "00k",
            custom_fields=True,
            has_currency=True,
        ),
        create_only(ref("OpportunityId", "Opportunity", required=True)),
        create_only(ref("PricebookEntryId", "PricebookEntry")),
        create_only(ref("Product2Id", "Product2", relationship="Product2")),
        read_only(text("ProductCode", 255)),
        read_only(text("Name", 376)),
        number("Quantity", "double", 12, 2),
        money("UnitPrice"),
        money("TotalPrice"),
        read_only(money("ListPrice")),
        number("Discount", "percent", 4, 2),
        number("SortOrder", "int", 9, 0),
        day("ServiceDate"),
        text("Description", 255),
        system=system(),
    )


def _product() -> ObjectSpec:
    return built(
        ObjectSpec("Product2", "Product", "01t", custom_fields=True, has_currency=True),
        text("Name", 255, required=True),
        text("ProductCode", 255),
        choice("Family"),
        flag("IsActive"),
        text("Description", 4000, "textarea"),
        system=system(),
    )


def _price_book() -> ObjectSpec:
    return built(
        ObjectSpec("Pricebook2", "Price Book", "01s", custom_fields=True),
        text("Name", 255, required=True),
        flag("IsActive"),
        read_only(flag("IsStandard")),
        system=system(),
    )


def _price_book_entry() -> ObjectSpec:
    return built(
        ObjectSpec("PricebookEntry", "Price Book Entry", "01u", has_currency=True),
        create_only(ref("Pricebook2Id", "Pricebook2", required=True, relationship="Pricebook2")),
        create_only(ref("Product2Id", "Product2", required=True, relationship="Product2")),
        replace(money("UnitPrice"), nillable=False),
        flag("IsActive"),
        system=system(),
    )


def _campaign() -> ObjectSpec:
    # The counts are kept by the org in the background and move no stamp (Object Reference,
    # "Campaign": they are read-only, calculated fields).
    counts = (
        "NumberOfLeads", "NumberOfConvertedLeads", "NumberOfContacts", "NumberOfResponses",
        "NumberOfOpportunities", "NumberOfWonOpportunities",
    )  # fmt: skip
    return built(
        ObjectSpec("Campaign", "Campaign", "701", custom_fields=True, has_currency=True),
        text("Name", 80, required=True),
        ref("ParentId", "Campaign"),
        ref("RecordTypeId", "RecordType"),
        choice("Type", "Conference", "Webinar", "Email", "Advertisement", "Partners", "Other"),
        choice("Status", "Planned", "In Progress", "Completed", "Aborted"),
        day("StartDate"),
        day("EndDate"),
        number("ExpectedRevenue", "currency", 18, 0),
        number("BudgetedCost", "currency", 18, 0),
        number("ActualCost", "currency", 18, 0),
        number("ExpectedResponse", "percent", 10, 2),
        number("NumberSent", "double", 18, 0),
        flag("IsActive"),
        long_text("Description"),
        *(replace(read_only(number(each, "int", 9, 0)), calculated=False) for each in counts),
        read_only(number("AmountAllOpportunities", "currency", 18, 0)),
        read_only(number("AmountWonOpportunities", "currency", 18, 0)),
        ref("OwnerId", "User", required=True),
        LAST_ACTIVITY,
        system=system(),
    )


def _campaign_member() -> ObjectSpec:
    # A member that is removed is gone at once: deleted/ reports it, no recycle bin holds it.
    return built(
        ObjectSpec(
            "CampaignMember",
            "Campaign Member",
            "00v",
            custom_fields=True,
            has_currency=True,
            deletion="traced",
        ),
        create_only(ref("CampaignId", "Campaign", required=True)),
        create_only(ref("LeadId", "Lead")),
        create_only(ref("ContactId", "Contact")),
        create_only(ref("AccountId", "Account")),
        read_only(ref("LeadOrContactId", "Contact", "Lead")),
        read_only(choice("Type", "Lead", "Contact", "Account")),
        choice("Status"),
        read_only(flag("HasResponded")),
        read_only(day("FirstRespondedDate")),
        system=system(),
    )


def _campaign_member_status() -> ObjectSpec:
    return built(
        ObjectSpec("CampaignMemberStatus", "Campaign Member Status", "01Y"),
        create_only(ref("CampaignId", "Campaign", required=True)),
        text("Label", 765, required=True),
        number("SortOrder", "int", 9, 0),
        flag("HasResponded"),
        flag("IsDefault"),
        system=system(),
    )


def _contract() -> ObjectSpec:
    return built(
        ObjectSpec("Contract", "Contract", "800", custom_fields=True, has_currency=True),
        read_only(text("ContractNumber", 30, required=True)),
        ref("AccountId", "Account", required=True),
        ref("RecordTypeId", "RecordType"),
        replace(
            choice("Status", "Draft", "In Approval Process", "Activated", required=True),
            defaulted=True,
        ),
        read_only(choice("StatusCode", "Draft", "InApproval", "Activated")),
        day("StartDate"),
        read_only(day("EndDate")),
        number("ContractTerm", "int", 4, 0),
        moment("ActivatedDate"),
        day("CustomerSignedDate"),
        long_text("Description"),
        ref("OwnerId", "User", required=True),
        LAST_ACTIVITY,
        system=system(),
    )
