"""The objects that KPIs read, with what Salesforce derives, switches on and leaves behind."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.sandbox.salesforce_rest import Rest, codes, error_of, fresh_org, rest
from tests.fixtures.sandboxes import Crm

NOON = "2026-06-01T12:00:00Z"
WINDOW = {"start": "2026-06-01T11:00:00Z", "end": "2026-06-01T13:00:00Z"}
PREFIXES = {
    "Account": "001", "Contact": "003", "Lead": "00Q", "Opportunity": "006", "Campaign": "701",
    "Case": "500", "Contract": "800", "Product2": "01t", "Group": "00G", "User": "005",
}  # fmt: skip


@pytest.fixture
def crm() -> Iterator[Crm]:
    with fresh_org() as crm:
        yield crm


@pytest.fixture
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


def values(api: Rest, soql: str, *, everything: bool = False) -> list[tuple[Any, ...]]:
    """Rows without their attributes, as tuples in the order asked for."""
    rows = api.rows(soql, everything=everything)
    return [tuple(v for k, v in row.items() if k != "attributes") for row in rows]


# What there is


def test_records_of_every_object_get_their_prefix(crm: Crm) -> None:
    made = {name: crm.create(name, {})[:3] for name in PREFIXES if name != "Contract"}
    account = crm.create("Account", {})
    made["Contract"] = crm.create("Contract", {"AccountId": account})[:3]

    assert made == PREFIXES


def test_objects_that_share_a_prefix_share_its_numbers(crm: Crm, api: Rest) -> None:
    crm.settings(track_fields={"Opportunity": ["StageName"]})
    crm.create("Case", {})
    crm.create("Opportunity", {})

    ids = [
        *values(api, "SELECT Id FROM CaseHistory"),
        *values(api, "SELECT Id FROM OpportunityFieldHistory"),
    ]
    assert len(set(ids)) == len(ids) == 2
    assert {each[:3] for (each,) in ids} == {"017"}


def test_the_list_of_objects_and_entity_definitions_agree(crm: Crm, api: Rest) -> None:
    crm.admin("add_object", name="Survey__c", fields=[{"name": "Score__c", "type": "double"}])
    crm.settings(hide_objects=["Lead"])

    listed = {each["name"]: each for each in api.get("sobjects").json()["sobjects"]}
    defined = values(api, "SELECT QualifiedApiName, KeyPrefix FROM EntityDefinition")

    assert dict(defined) == {name: each["keyPrefix"] for name, each in listed.items()}
    assert (listed["Survey__c"]["custom"], listed["Survey__c"]["keyPrefix"]) == (True, "a00")
    assert "Lead" not in listed


def test_an_object_without_read_permission_looks_like_an_unknown_one(crm: Crm, api: Rest) -> None:
    crm.settings(hide_objects=["Lead"])

    assert error_of(api.query("SELECT Id FROM Lead")) == (400, "INVALID_TYPE")
    assert error_of(api.get("sobjects/Lead/describe")) == (404, "NOT_FOUND")
    crm.settings(show_objects=["Lead"])
    assert api.query("SELECT Id FROM Lead").status_code == 200


def test_records_that_sharing_hides_look_like_deleted_ones(crm: Crm, api: Rest) -> None:
    seen, hidden = (crm.create("Account", {"Name": name}) for name in "ab")
    crm.settings(hidden_records=[hidden])

    assert values(api, "SELECT Id FROM Account", everything=True) == [(seen,)]
    assert error_of(api.get(f"sobjects/Account/{hidden}")) == (404, "NOT_FOUND")
    (result,) = api.update("Account", {"id": hidden, "Site": "x"})
    assert result["errors"][0]["statusCode"] == "INVALID_CROSS_REFERENCE_KEY"


def test_custom_objects_have_custom_lookups_and_formulas(crm: Crm, api: Rest) -> None:
    crm.add_field("Account", "Region__c", "text")
    account = crm.create("Account", {"Name": "a", "Region__c": "North"})
    crm.admin(
        "add_object",
        name="Survey__c",
        fields=[
            {"name": "Account__c", "type": "reference", "to": "Account"},
            {"name": "Score__c", "type": "double", "precision": 3, "scale": 0},
            {"name": "Region__c", "type": "string", "formula": {"path": "Account__r.Region__c"}},
        ],
    )
    crm.create("Survey__c", {"Account__c": account, "Score__c": 9})

    fields = api.describe("Survey__c")
    (row,) = api.rows("SELECT Score__c, Region__c, Account__r.Name FROM Survey__c")

    assert (fields["Region__c"]["calculated"], fields["Region__c"]["updateable"]) == (True, False)
    assert (fields["Score__c"]["precision"], fields["Score__c"]["scale"]) == (3, 0)
    assert (row["Score__c"], row["Region__c"], row["Account__r"]["Name"]) == (9.0, "North", "a")


def test_addresses_show_whole_and_by_component(crm: Crm, api: Rest) -> None:
    crm.create("Account", {"Name": "a", "BillingCity": "C", "BillingCountry": "L"})
    fields = api.describe("Account")

    (row,) = api.rows("SELECT BillingAddress, ShippingAddress, BillingCity FROM Account")

    assert fields["BillingAddress"]["type"] == "address"
    assert fields["BillingCity"]["compoundFieldName"] == "BillingAddress"
    assert (row["BillingAddress"]["city"], row["BillingAddress"]["street"]) == ("C", None)
    assert row["ShippingAddress"] is None
    where = "SELECT Id FROM Account WHERE BillingAddress = 'C'"
    assert error_of(api.query(where)) == (400, "INVALID_FIELD")


def test_a_queue_or_a_user_may_own_a_case(crm: Crm, api: Rest) -> None:
    queue = crm.create("Group", {"Name": "Support"})
    crm.create("Case", {"Subject": "q", "OwnerId": queue})
    crm.create("Case", {"Subject": "u"})

    rows = api.rows("SELECT Owner.Name, Owner.Type FROM Case ORDER BY Subject")

    assert [row["Owner"]["Type"] for row in rows] == ["Queue", "User"]
    assert rows[0]["Owner"]["Name"] == "Support"
    assert rows[0]["Owner"]["attributes"]["url"].endswith(f"/sobjects/Group/{queue}")
    assert api.describe("Case")["OwnerId"]["referenceTo"] == ["Group", "User"]
    soql = "SELECT Owner.Department FROM Case"
    assert error_of(api.query(soql)) == (400, "INVALID_FIELD")


# What Salesforce derives


def test_a_case_has_number_status_and_closing_time(crm: Crm, api: Rest) -> None:
    account = crm.create("Account", {"Name": "a"})
    contact = crm.create("Contact", {"LastName": "c", "AccountId": account})
    case = crm.create("Case", {"ContactId": contact}, at="2026-01-01T00:00:00Z")
    crm.edit("Case", case, {"Status": "Closed"}, at="2026-01-02T00:00:00Z")
    closed = api.one("Case", case, "IsClosed", "ClosedDate", "CaseNumber", "AccountId")
    crm.edit("Case", case, {"Status": "Working"}, at="2026-01-03T00:00:00Z")

    assert (closed["IsClosed"], closed["ClosedDate"]) == (True, "2026-01-02T00:00:00.000+0000")
    assert (closed["CaseNumber"], closed["AccountId"]) == ("00000001", account)
    reopened = api.one("Case", case, "IsClosed", "ClosedDate")
    assert (reopened["IsClosed"], reopened["ClosedDate"]) == (False, None)
    soql = "SELECT Field, OldValue, NewValue FROM CaseHistory ORDER BY Id"
    assert values(api, soql) == [
        ("created", None, None),
        ("Status", "New", "Closed"),
        ("Status", "Closed", "Working"),
    ]


def test_a_new_owner_leaves_two_history_rows_with_ids_and_names(crm: Crm, api: Rest) -> None:
    queue = crm.create("Group", {"Name": "Support"})
    case = crm.create("Case", {})
    crm.edit("Case", case, {"OwnerId": queue})

    rows = values(api, "SELECT DataType, NewValue FROM CaseHistory WHERE Field = 'Owner'")

    assert sorted(rows) == [("EntityId", queue), ("Text", "Support")]


def test_history_values_cannot_be_filtered_and_follow_the_fields_security(
    crm: Crm, api: Rest
) -> None:
    case = crm.create("Case", {"Priority": "Low"})
    crm.edit("Case", case, {"Priority": "High", "Status": "Working"})
    crm.settings(hide_fields=["Case.Priority"])

    fields = [field for (field,) in values(api, "SELECT Field FROM CaseHistory")]

    assert sorted(fields) == ["Status", "created"]
    filtered = api.query("SELECT Id FROM CaseHistory WHERE NewValue = 'High'")
    assert error_of(filtered) == (400, "INVALID_FIELD")
    assert "SystemModstamp" not in api.describe("CaseHistory")


def test_field_history_begins_with_tracking(crm: Crm, api: Rest) -> None:
    deal = crm.create("Opportunity", {"Amount": 1})
    crm.edit("Opportunity", deal, {"Amount": 2})
    crm.settings(track_fields={"Opportunity": ["Amount"]})
    crm.edit("Opportunity", deal, {"Amount": 3, "NextStep": "x"})

    soql = "SELECT Field, OldValue, NewValue FROM OpportunityFieldHistory"
    assert values(api, soql) == [("Amount", 2.0, 3.0)]


def test_converting_a_lead_makes_three_records_and_locks_it(crm: Crm, api: Rest) -> None:
    lead = crm.create("Lead", {"FirstName": "F", "LastName": "L", "Company": "C", "Email": "a@b.c"})
    campaign = crm.create("Campaign", {"Name": "w"})
    member = crm.create("CampaignMember", {"CampaignId": campaign, "LeadId": lead})

    made = crm.admin("convert_lead", lead=lead, opportunity="deal")

    names = ("IsConverted", "ConvertedAccountId", "ConvertedContactId", "ConvertedOpportunityId")
    row = api.one("Lead", lead, *names, "ConvertedDate", "Status")
    assert [row[name] for name in names] == [
        True, made["account"], made["contact"], made["opportunity"],
    ]  # fmt: skip
    assert (len(row["ConvertedDate"]), row["Status"]) == (10, "Closed - Converted")
    contact = api.one("Contact", str(made["contact"]), "Name", "Email", "AccountId")
    assert (contact["Name"], contact["AccountId"]) == ("F L", made["account"])
    kept = api.one("CampaignMember", member, "LeadId", "ContactId")
    assert (kept["LeadId"], kept["ContactId"]) == (lead, made["contact"])
    (result,) = api.update("Lead", {"id": lead, "Title": "x"})
    assert result["errors"][0]["statusCode"] == "CANNOT_UPDATE_CONVERTED_LEAD"


def test_a_campaign_counts_its_members_without_a_stamp(crm: Crm, api: Rest) -> None:
    campaign = crm.create("Campaign", {"Name": "w"}, at=NOON)
    before = api.one("Campaign", campaign, "NumberOfLeads", "SystemModstamp")
    lead = crm.create("Lead", {})
    member = crm.create("CampaignMember", {"CampaignId": campaign, "LeadId": lead})
    crm.edit("CampaignMember", member, {"Status": "Responded"})
    crm.create("Opportunity", {"CampaignId": campaign, "Amount": 5, "StageName": "Closed Won"})

    after = api.one(
        "Campaign", campaign, "NumberOfLeads", "NumberOfResponses", "AmountWonOpportunities",
        "SystemModstamp",
    )  # fmt: skip

    assert (before["NumberOfLeads"], after["NumberOfLeads"], after["NumberOfResponses"]) == (
        0,
        1,
        1,
    )
    assert after["AmountWonOpportunities"] == 5.0
    assert after["SystemModstamp"] == before["SystemModstamp"]
    assert api.one("CampaignMember", member, "HasResponded")["HasResponded"] is True


def test_a_member_made_with_a_status_of_response_has_responded_from_then_on(
    crm: Crm, api: Rest
) -> None:
    campaign = crm.create("Campaign", {"Name": "w"})
    leads = crm.create_many("Lead", [{} for _ in range(3)])
    members = [{"CampaignId": campaign, "LeadId": lead} for lead in leads]
    members[0]["Status"], members[1]["Status"] = "Responded", "Sent"
    made = [crm.create("CampaignMember", member, at=NOON) for member in members]

    found = [api.one("CampaignMember", one, "Status", "HasResponded", "FirstRespondedDate")
             for one in made]  # fmt: skip

    seen = [(row["Status"], row["HasResponded"], row["FirstRespondedDate"]) for row in found]
    assert seen == [
        ("Responded", True, NOON[:10]),
        ("Sent", False, None),
        ("Sent", False, None),
    ]


def test_products_make_the_amount(crm: Crm, api: Rest) -> None:
    deal = crm.create("Opportunity", {"Amount": 1})
    item = {"OpportunityId": deal, "Quantity": 3, "UnitPrice": 10}
    first = crm.create("OpportunityLineItem", item)
    crm.create("OpportunityLineItem", {**item, "Discount": 50})

    amounts = [api.one("Opportunity", deal, "Amount", "HasOpportunityLineItem")["Amount"]]
    api.update("Opportunity", {"id": deal, "Amount": 999})
    amounts.append(api.one("Opportunity", deal, "Amount")["Amount"])
    crm.delete("OpportunityLineItem", first)
    amounts.append(api.one("Opportunity", deal, "Amount")["Amount"])

    assert amounts == [45.0, 45.0, 15.0]


def test_a_contract_ends_its_term_after_its_start(crm: Crm, api: Rest) -> None:
    account = crm.create("Account", {})
    made = [
        crm.create("Contract", {"AccountId": account, "StartDate": day, "ContractTerm": months})
        for day, months in (("2026-01-15", 12), ("2026-08-31", 6))
    ]

    ends = [api.one("Contract", each, "EndDate")["EndDate"] for each in made]

    assert ends == ["2027-01-14", "2027-02-27"]


# Switches of the org


def test_currencies_exist_only_when_switched_on(crm: Crm, api: Rest) -> None:
    deal = crm.create("Opportunity", {"Amount": 1})
    assert error_of(api.query("SELECT CurrencyIsoCode FROM Opportunity")) == (400, "INVALID_FIELD")

    crm.settings(multi_currency={"corporate": "EUR", "rates": {"USD": 1.25}})
    other = crm.create("Opportunity", {"CurrencyIsoCode": "USD"})

    assert api.one("Opportunity", deal, "CurrencyIsoCode")["CurrencyIsoCode"] == "EUR"
    assert api.one("Opportunity", other, "CurrencyIsoCode")["CurrencyIsoCode"] == "USD"
    soql = "SELECT IsoCode, ConversionRate, IsCorporate FROM CurrencyType ORDER BY IsoCode"
    assert values(api, soql) == [("EUR", 1.0, True), ("USD", 1.25, False)]
    choices = api.describe("Account")["CurrencyIsoCode"]["picklistValues"]
    assert sorted(each["value"] for each in choices) == ["EUR", "USD"]
    dated = api.query("SELECT Id FROM DatedConversionRate")
    assert error_of(dated) == (400, "INVALID_TYPE")


def test_dated_rates_hold_until_the_next_one_starts(crm: Crm, api: Rest) -> None:
    crm.settings(multi_currency={"corporate": "EUR", "rates": {"USD": 1.25}, "dated": True})
    for day, rate in (("2026-01-01", 1.1), ("2026-03-01", 1.3), ("2026-02-01", 1.2)):
        crm.create(
            "DatedConversionRate", {"IsoCode": "USD", "StartDate": day, "ConversionRate": rate}
        )

    soql = "SELECT StartDate, NextStartDate FROM DatedConversionRate ORDER BY StartDate"
    assert values(api, soql) == [
        ("2026-01-01", "2026-02-01"),
        ("2026-02-01", "2026-03-01"),
        ("2026-03-01", "9999-12-31"),
    ]


def test_a_person_account_is_an_account_and_a_contact(crm: Crm, api: Rest) -> None:
    assert "IsPersonAccount" not in api.describe("Account")
    crm.settings(person_accounts=True)
    person = crm.create("Account", {"FirstName": "P", "LastName": "Q", "PersonEmail": "p@q.r"})
    company = crm.create("Account", {"Name": "company"})

    row = api.one("Account", person, "Name", "IsPersonAccount", "PersonContactId")
    contact = api.one("Contact", row["PersonContactId"], "Name", "Email", "AccountId")

    assert (row["Name"], row["IsPersonAccount"]) == ("P Q", True)
    assert (contact["Name"], contact["Email"], contact["AccountId"]) == ("P Q", "p@q.r", person)
    assert api.one("Account", company, "IsPersonAccount")["IsPersonAccount"] is False
    crm.edit("Account", person, {"PersonEmail": "new@q.r"})
    assert api.one("Contact", row["PersonContactId"], "Email")["Email"] == "new@q.r"


def test_the_contact_of_a_person_is_written_through_the_account_alone(crm: Crm, api: Rest) -> None:
    crm.settings(person_accounts=True)
    crm.add_field("Contact", "KPI__c", "number")
    person = crm.create("Account", {"LastName": "Q"})
    contact = api.one("Account", person, "PersonContactId")["PersonContactId"]

    direct = api.update("Contact", {"id": contact, "KPI__c": 7})
    through = api.update("Account", {"id": person, "KPI__pc": 7})

    assert codes(direct) == ["INVALID_PERSON_ACCOUNT_OPERATION"]
    assert codes(through) == ["ok"]
    assert api.one("Contact", contact, "KPI__c")["KPI__c"] == 7.0
    assert codes(api.update("Account", {"id": person, "KPI__pc": None})) == ["ok"]
    assert api.one("Contact", contact, "KPI__c")["KPI__c"] is None


def test_an_account_may_be_a_campaign_member_itself(crm: Crm, api: Rest) -> None:
    account, campaign = crm.create("Account", {}), crm.create("Campaign", {})
    member = crm.create("CampaignMember", {"CampaignId": campaign, "AccountId": account})

    row = api.one("CampaignMember", member, "Type", "AccountId", "LeadOrContactId")

    assert (row["Type"], row["AccountId"], row["LeadOrContactId"]) == ("Account", account, None)


def test_a_child_that_moves_is_found_at_its_new_parent_alone(crm: Crm, api: Rest) -> None:
    first, second = crm.create("Account", {}), crm.create("Account", {})
    deal = crm.create("Opportunity", {"AccountId": first})
    soql = "SELECT Id FROM Opportunity WHERE AccountId = '{}'"
    before = values(api, soql.format(first))
    crm.edit("Opportunity", deal, {"AccountId": second})
    crm.delete("Account", first)

    assert before == [(deal,)]
    assert values(api, soql.format(first)) == []
    assert values(api, soql.format(second)) == [(deal,)]


def test_a_formula_gives_ids_of_15_characters(crm: Crm, api: Rest) -> None:
    formula = {"short_id": "AccountId"}
    crm.admin("field", object="Opportunity", name="Short__c", type="string", formula=formula)
    account = crm.create("Account", {})
    deal = crm.create("Opportunity", {"AccountId": account})

    assert api.one("Opportunity", deal, "Short__c")["Short__c"] == account[:15]


def test_a_record_type_has_stages_of_its_own(crm: Crm, api: Rest) -> None:
    crm.admin("add_stage", name="Signed", is_closed=True, is_won=True, probability=1)
    made = crm.admin(
        "record_type", object="Opportunity", name="Renewal", stages=["Prospecting", "Signed"]
    )["id"]
    deal = crm.create("Opportunity", {"RecordTypeId": made, "StageName": "Signed"})

    chosen = api.get(f"ui-api/object-info/Opportunity/picklist-values/{made}").json()
    infos = api.get("sobjects/Opportunity/describe").json()["recordTypeInfos"]

    stages = chosen["picklistFieldValues"]["StageName"]["values"]
    assert [each["value"] for each in stages] == ["Prospecting", "Signed"]
    assert [info["name"] for info in infos] == ["Renewal", "Master"]
    soql = "SELECT Id FROM Opportunity WHERE RecordType.DeveloperName = 'Renewal' AND IsWon = true"
    assert values(api, soql) == [(deal,)]


# Stamps, formulas


def test_formulas_and_roll_ups_change_without_a_stamp(crm: Crm, api: Rest) -> None:
    crm.clock(fix=NOON)
    crm.add_field("Account", "Region__c", "text")
    account = crm.create("Account", {"Region__c": "North"})
    for object_name, name, kind, formula in (
        ("Opportunity", "Region__c", "string", {"path": "Account.Region__c"}),
        ("Opportunity", "Overdue__c", "double", {"days_since": "CloseDate"}),
        ("Account", "Won__c", "double", {"roll_up": {
            "object": "Opportunity", "link": "AccountId", "function": "sum", "of": "Amount"}}),
    ):  # fmt: skip
        crm.admin("field", object=object_name, name=name, type=kind, formula=formula)
    deal = crm.create("Opportunity", {"AccountId": account, "Amount": 5, "CloseDate": "2026-06-01"})
    first = api.one("Opportunity", deal, "Region__c", "Overdue__c", "SystemModstamp")

    crm.clock(advance=3 * 24 * 3600)
    crm.edit("Account", account, {"Region__c": "South"})
    later = api.one("Opportunity", deal, "Region__c", "Overdue__c", "SystemModstamp")

    assert (first["Region__c"], first["Overdue__c"]) == ("North", 0.0)
    assert (later["Region__c"], later["Overdue__c"]) == ("South", 3.0)
    assert later["SystemModstamp"] == first["SystemModstamp"]
    assert api.one("Account", account, "Won__c")["Won__c"] == 5.0


def test_values_can_change_silently_and_stamps_without_a_change(crm: Crm, api: Rest) -> None:
    crm.clock(fix=NOON)
    account = crm.create("Account", {"Site": "a"})
    crm.clock(advance=60)
    crm.admin("put_silently", object="Account", id=account, fields={"Site": "b"})
    silent = api.one("Account", account, "Site", "SystemModstamp")
    crm.admin("touch", object="Account", id=account)
    touched = api.one("Account", account, "SystemModstamp", "LastModifiedDate")

    assert (silent["Site"], silent["SystemModstamp"]) == ("b", "2026-06-01T12:00:00.000+0000")
    assert touched["SystemModstamp"] == "2026-06-01T12:01:00.000+0000"
    assert touched["LastModifiedDate"] == "2026-06-01T12:00:00.000+0000"


# Deletions that reach further


def test_an_accounts_children_go_with_it_and_come_back(crm: Crm, api: Rest) -> None:
    crm.clock(fix=NOON)
    account = crm.create("Account", {})
    children = {
        name: crm.create(name, {"AccountId": account})
        for name in ("Contact", "Opportunity", "Case", "Contract")
    }
    crm.clock(advance=300)
    crm.delete("Account", account)
    crm.clock(advance=300)

    gone = {n: api.one(n, each, "IsDeleted", "SystemModstamp") for n, each in children.items()}
    listed = api.get("sobjects/Opportunity/deleted/", **WINDOW | {"end": "2026-06-01T12:10:00Z"})
    crm.undelete("Account", account)
    back = [api.one(name, each, "IsDeleted")["IsDeleted"] for name, each in children.items()]

    assert {row["IsDeleted"] for row in gone.values()} == {True}
    # The stamps of the children tell nothing; only deleted/ does.
    assert {row["SystemModstamp"] for row in gone.values()} == {"2026-06-01T12:00:00.000+0000"}
    assert [r["id"] for r in listed.json()["deletedRecords"]] == [children["Opportunity"]]
    assert back == [False] * 4


def test_a_hard_deletion_takes_the_children_along(crm: Crm, api: Rest) -> None:
    account = crm.create("Account", {})
    crm.create("Opportunity", {"AccountId": account})
    crm.delete("Account", account)
    crm.erase("Account", account)

    for name in ("Account", "Opportunity", "OpportunityHistory"):
        assert values(api, f"SELECT Id FROM {name}", everything=True) == []


def test_a_removed_contact_role_leaves_no_trace_and_a_member_only_in_deleted(
    crm: Crm, api: Rest
) -> None:
    crm.clock(fix=NOON)
    contact, deal = crm.create("Contact", {}), crm.create("Opportunity", {})
    campaign = crm.create("Campaign", {})
    link = {"OpportunityId": deal, "ContactId": contact}
    removed = {
        "OpportunityContactRole": crm.create("OpportunityContactRole", link),
        "CampaignMember": crm.create(
            "CampaignMember", {"CampaignId": campaign, "ContactId": contact}
        ),
    }
    kept = crm.create("OpportunityContactRole", link)
    for name, each in removed.items():
        crm.delete(name, each)
    crm.delete("Opportunity", deal)
    crm.clock(advance=600)
    window = WINDOW | {"end": "2026-06-01T12:10:00Z"}

    traces = {}
    for name in removed:
        listed = api.get(f"sobjects/{name}/deleted/", **window).json()["deletedRecords"]
        traces[name] = [row["id"] for row in listed]

    # The role that went with its parent is in the bin; the one removed itself is nowhere.
    roles = values(api, "SELECT Id, IsDeleted FROM OpportunityContactRole", everything=True)
    assert roles == [(kept, True)]
    assert traces == {
        "OpportunityContactRole": [kept],
        "CampaignMember": [removed["CampaignMember"]],
    }
    assert values(api, "SELECT Id FROM CampaignMember", everything=True) == []


@pytest.mark.parametrize("name", ["Contact", "Lead", "Case"])
def test_people_and_cases_merge_and_their_children_move_without_a_stamp(
    crm: Crm, api: Rest, name: str
) -> None:
    winner, loser = crm.create(name, {}), crm.create(name, {})
    campaign = crm.create("Campaign", {})
    child, link = {
        "Contact": ("Case", "ContactId"), "Lead": ("CampaignMember", "LeadId"),
        "Case": ("Case", "ParentId"),
    }[name]  # fmt: skip
    more = {"CampaignId": campaign} if child == "CampaignMember" else {}
    made = crm.create(child, {link: loser, **more}, at=NOON)

    crm.merge(name, winner, [loser])

    lost = api.one(name, loser, "IsDeleted", "MasterRecordId")
    moved = api.one(child, made, link, "SystemModstamp")
    assert (lost["IsDeleted"], lost["MasterRecordId"]) == (True, winner)
    assert (moved[link], moved["SystemModstamp"]) == (winner, "2026-06-01T12:00:00.000+0000")


# Size


def test_generated_records_come_in_order_by_every_way_of_reading(crm: Crm, api: Rest) -> None:
    crm.admin("generate", object="Opportunity", count=500, fields={"Name": "Deal #"}, days=0)
    crm.admin("generate", object="Opportunity", count=500, vary={"Amount": [1, 2]}, days=10)
    (newest,) = api.rows("SELECT SystemModstamp FROM Opportunity ORDER BY Id LIMIT 1")
    stamp = newest["SystemModstamp"][:19] + "Z"

    tie = f"SELECT Id, Name FROM Opportunity WHERE SystemModstamp = {stamp} AND Id > '{{}}' "
    first = api.rows(tie.format("006000000000000AAA") + "ORDER BY Id LIMIT 300")
    second = api.rows(tie.format(first[-1]["Id"]) + "ORDER BY Id LIMIT 300")
    ordered = api.rows("SELECT Id, SystemModstamp FROM Opportunity ORDER BY SystemModstamp, Id")
    some = "', '".join(row["Id"] for row in ordered[::100])

    ids = [row["Id"] for row in (*first, *second)]
    assert ids[:500] == sorted(ids[:500])
    assert {row["Name"] for row in first} >= {"Deal 1", "Deal 300"}
    keys = [(row["SystemModstamp"], row["Id"]) for row in ordered]
    assert (len(keys), keys) == (1000, sorted(keys))
    assert len(api.rows(f"SELECT Id FROM Opportunity WHERE Id IN ('{some}')")) == 10
