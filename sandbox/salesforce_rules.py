"""What Salesforce itself fills in: defaults of new records, and fields that follow from others.

Page: Object Reference, the pages of the objects named beside each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from sandbox.org import NO_FIELDS, Fields, Record, Value
from sandbox.salesforce_fields import ObjectSpec

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

Rule: TypeAlias = "Callable[[SalesforceOrg, dict[str, Value], Record | None], dict[str, Value]]"
"""Takes the values of a write and the record as it was, and adds what follows from them."""

NAMED_DEFAULTS: Final = {"Account": "Account", "Campaign": "Campaign", "Product2": "Product",
                         "Pricebook2": "Price Book", "Group": "Group"}  # fmt: skip
HUNDRED: Final = 100


def defaults(org: SalesforceOrg, spec: ObjectSpec, given: Fields) -> dict[str, Value]:
    """The values a new record starts with; `given` wins over them."""
    values: dict[str, Value] = dict(org.standing_defaults(spec))
    if spec.name in NAMED_DEFAULTS:
        values["Name"] = NAMED_DEFAULTS[spec.name]
    own = _DEFAULTS.get(spec.name)
    return {**values, **own(org, given)} if own else values


def derived(
    org: SalesforceOrg, spec: ObjectSpec, typed: dict[str, Value], record: Record | None
) -> dict[str, Value]:
    """The values of a write with what follows from them."""
    rule = _RULES.get(spec.name)
    return rule(org, typed, record) if rule else typed


# Defaults


def _opportunity_defaults(org: SalesforceOrg, _: Fields) -> dict[str, Value]:
    return {
        "Name": "Opportunity",
        "StageName": org.stages.first(),
        "CloseDate": org.now().date().isoformat(),
    }


def user_defaults(last_name: str) -> dict[str, Value]:
    """A user whom somebody called so."""
    short = last_name.lower().replace(" ", "")
    return {
        "LastName": last_name,
        "Username": f"{short}@sandbox.example",
        "Email": f"{short}@sandbox.example",
        "Alias": short[:8],
        "IsActive": True,
        "UserType": "Standard",
        "TimeZoneSidKey": "UTC",
        "LocaleSidKey": "en_US",
    }


def _new_user(org: SalesforceOrg, _: Fields) -> dict[str, Value]:
    user = user_defaults(f"User {org.next_number('username')}")
    return user | {"ProfileId": org.profile_id}


def _new_permission_set(_: SalesforceOrg, given: Fields) -> dict[str, Value]:
    return {"IsCustom": not given.get("IsOwnedByProfile", False)}


def _new_lead(org: SalesforceOrg, _: Fields) -> dict[str, Value]:
    status = _default_of(org, "LeadStatus")
    return {"LastName": "Lead", "Company": "Company", "Status": status}


def _new_contact(_: SalesforceOrg, __: Fields) -> dict[str, Value]:
    return {"LastName": "Contact"}


def _new_case(org: SalesforceOrg, given: Fields) -> dict[str, Value]:
    contact = org.find("Contact", str(given.get("ContactId") or ""))
    # Object Reference, "Case": AccountId is taken from the contact.
    account = contact["AccountId"] if contact is not None else None
    return {
        "CaseNumber": f"{org.next_number('case'):08d}",
        "Status": _default_of(org, "CaseStatus"),
        "AccountId": account,
    }


def _new_contract(org: SalesforceOrg, _: Fields) -> dict[str, Value]:
    return {"ContractNumber": f"{org.next_number('contract'):08d}", "Status": "Draft"}


def _new_member(org: SalesforceOrg, given: Fields) -> dict[str, Value]:
    for row in org.children("CampaignMemberStatus", "CampaignId", given.get("CampaignId")):
        if row["IsDefault"]:
            return {"Status": row["Label"]}
    return {"Status": "Sent"}


def _new_group(_: SalesforceOrg, given: Fields) -> dict[str, Value]:
    name = str(given.get("Name") or "Group")
    return {"Type": "Queue", "DeveloperName": name.replace(" ", "_")}


def _new_record_type(_: SalesforceOrg, given: Fields) -> dict[str, Value]:
    name = str(given.get("Name") or given.get("DeveloperName") or "Record Type")
    return {"Name": name, "DeveloperName": name.replace(" ", "_"), "IsActive": True}


def _default_of(org: SalesforceOrg, object_name: str) -> Value:
    return next((row["ApiName"] for row in org.all(object_name) if row["IsDefault"]), None)


_DEFAULTS: Final[Mapping[str, Callable[[SalesforceOrg, Fields], dict[str, Value]]]] = {
    "Opportunity": _opportunity_defaults,
    "User": _new_user,
    "PermissionSet": _new_permission_set,
    "Lead": _new_lead,
    "Contact": _new_contact,
    "Case": _new_case,
    "Contract": _new_contract,
    "CampaignMember": _new_member,
    "Group": _new_group,
    "RecordType": _new_record_type,
}


# What follows


def _opportunity(
    org: SalesforceOrg, typed: dict[str, Value], record: Record | None
) -> dict[str, Value]:
    """Fields that follow from the stage and the amount (Object Reference, "Opportunity")."""
    before = record.fields if record else NO_FIELDS
    out = dict(typed)
    if before.get("HasOpportunityLineItem") and "HasOpportunityLineItem" not in typed:
        # The same page, "Amount": with products it is their sum, and updates are ignored.
        out.pop("Amount", None)
    if "StageName" in typed and (record is None or typed["StageName"] != record["StageName"]):
        follows = _stage_fields(org, typed["StageName"])
        out = {**follows, **out} | {name: follows[name] for name in ("IsClosed", "IsWon")}
    amount, probability = (out.get(name, before.get(name)) for name in ("Amount", "Probability"))
    if isinstance(amount, float) and isinstance(probability, float):
        out["ExpectedRevenue"] = round(amount * probability / HUNDRED, 2)
    else:
        out["ExpectedRevenue"] = None
    return out


def _stage_fields(org: SalesforceOrg, stage_name: Value) -> dict[str, Value]:
    stage = org.stages.find(stage_name)
    if stage is None:
        # StageName is an unrestricted picklist: a value of no known stage is kept, open.
        return {"IsClosed": False, "IsWon": False, "ForecastCategory": "Pipeline"}
    return {
        "IsClosed": stage["IsClosed"],
        "IsWon": stage["IsWon"],
        "Probability": stage["DefaultProbability"],
        "ForecastCategory": stage["ForecastCategory"],
        "ForecastCategoryName": stage["ForecastCategoryName"],
    }


def _named(_: SalesforceOrg, typed: dict[str, Value], record: Record | None) -> dict[str, Value]:
    """A person's Name is made of first and last name; a Name given whole is taken apart."""
    out = dict(typed)
    if isinstance(name := out.pop("Name", None), str):
        first, _space, last = name.rpartition(" ")
        out |= {"FirstName": first or None, "LastName": last}
    before = record.fields if record else NO_FIELDS
    parts = (out.get(part, before.get(part)) for part in ("FirstName", "LastName"))
    out["Name"] = " ".join(str(part) for part in parts if part)
    return out


def _account(
    org: SalesforceOrg, typed: dict[str, Value], record: Record | None
) -> dict[str, Value]:
    """An account with a last name is a person (Help, "Person Accounts")."""
    is_person = bool(record and record["IsPersonAccount"]) or bool(typed.get("LastName"))
    if not is_person:
        return typed
    return _named(org, {**typed, "IsPersonAccount": True, "Name": None}, record)


def _case(org: SalesforceOrg, typed: dict[str, Value], record: Record | None) -> dict[str, Value]:
    if "Status" not in typed:
        return typed
    closed = any(
        row["IsClosed"] for row in org.all("CaseStatus") if row["ApiName"] == typed["Status"]
    )
    on_create = {"IsClosedOnCreate": closed} if record is None else {}
    return {**typed, "IsClosed": closed, **on_create}


def _member(org: SalesforceOrg, typed: dict[str, Value], record: Record | None) -> dict[str, Value]:
    before = record.fields if record else NO_FIELDS
    out = dict(typed)
    now = {**before, **typed}
    person = now.get("ContactId") or now.get("LeadId")
    kind = "Contact" if now.get("ContactId") else "Lead" if person else "Account"
    out |= {"Type": kind, "LeadOrContactId": person}
    if contact := org.find("Contact", str(now.get("ContactId") or "")):
        out["AccountId"] = contact["AccountId"]
    # Object Reference, "CampaignMember": whether a status is a response, the campaign's own list
    # of statuses says, at creation too (where a checkbox that nobody gave is false).
    is_given = typed.get("HasResponded") is True if record is None else "HasResponded" in typed
    if "Status" in typed and not is_given:
        rows = org.children("CampaignMemberStatus", "CampaignId", now.get("CampaignId"))
        responded = any(row["HasResponded"] for row in rows if row["Label"] == typed["Status"])
        out["HasResponded"] = responded
    return out


def _contract(_: SalesforceOrg, typed: dict[str, Value], record: Record | None) -> dict[str, Value]:
    """EndDate is StartDate plus ContractTerm months (Object Reference, "Contract")."""
    before = record.fields if record else NO_FIELDS
    now = {**before, **typed}
    out = dict(typed)
    codes = {"Activated": "Activated", "In Approval Process": "InApproval"}
    out["StatusCode"] = codes.get(str(now.get("Status")), "Draft")
    start, months = now.get("StartDate"), now.get("ContractTerm")
    if isinstance(start, str) and isinstance(months, int):
        out["EndDate"] = _months_later(date.fromisoformat(start), months).isoformat()
    return out


def _months_later(start: date, months: int) -> date:
    years, month = divmod(start.month - 1 + months, 12)
    first = date(start.year + years, month + 1, 1)
    last_of_month = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return min(first + timedelta(days=start.day - 1), last_of_month) - timedelta(days=1)


def _line_item(
    org: SalesforceOrg, typed: dict[str, Value], record: Record | None
) -> dict[str, Value]:
    """TotalPrice, UnitPrice and Quantity go together (Object Reference, "OpportunityLineItem")."""
    before = record.fields if record else NO_FIELDS
    out = dict(typed)
    now = {**before, **typed}
    entry = org.find("PricebookEntry", str(now.get("PricebookEntryId") or ""))
    product = org.find(
        "Product2", str((entry and entry["Product2Id"]) or now.get("Product2Id") or "")
    )
    if entry is not None:
        out["ListPrice"] = entry["UnitPrice"]
    if product is not None:
        out |= {"Product2Id": product.id, "ProductCode": product["ProductCode"]}
        out["Name"] = str(product["Name"])
    quantity, unit, total, discount = (
        value if isinstance(value := now.get(name), int | float) else None
        for name in ("Quantity", "UnitPrice", "TotalPrice", "Discount")
    )
    share = 1 - (discount or 0) / HUNDRED
    if unit is not None and quantity is not None and "TotalPrice" not in typed:
        out["TotalPrice"] = round(quantity * unit * share, 2)
    elif total is not None and quantity and unit is None:
        out["UnitPrice"] = round(total / quantity, 2)
    return out


_RULES: Final[Mapping[str, Rule]] = {
    "Opportunity": _opportunity,
    "User": _named,
    "Contact": _named,
    "Lead": _named,
    "Account": _account,
    "Case": _case,
    "CampaignMember": _member,
    "Contract": _contract,
    "OpportunityLineItem": _line_item,
}


# After a write


def put_quietly(org: SalesforceOrg, record: Record, **values: Value) -> None:
    """Set fields as part of a write that was stamped already."""
    fields = {k: v for k, v in {**record.fields, **values}.items() if v is not None}
    org.put(record, replace(record.state, fields=fields))
