"""Creating KPI fields and granting them, as in a real org."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.contract.sandbox.salesforce_rest import (
    OrgAlone,
    Rest,
    codes,
    error_of,
    fresh_org,
    rest,
    simple_salesforce,
)
from tests.fixtures.sandboxes import Crm

INTEGRITY = "FIELD_INTEGRITY_EXCEPTION"
WIN_RATE = {"label": "Win rate", "type": "Percent", "precision": 5, "scale": 2}


@pytest.fixture
def sandbox() -> Iterator[OrgAlone]:
    with fresh_org() as crm:
        yield OrgAlone(crm)


@pytest.fixture(scope="module")
def crm() -> Iterator[Crm]:
    with fresh_org() as crm:
        yield crm


@pytest.fixture(scope="module")
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


def create_field(api: Rest, full_name: str, **metadata: Any) -> requests.Response:
    body = {"FullName": full_name, "Metadata": metadata}
    return api.call("POST", "tooling/sobjects/CustomField", json=body)


def grant(api: Rest, permission_set: str, field: str, *, edit: bool = True) -> requests.Response:
    body = {
        "ParentId": permission_set,
        "SobjectType": field.partition(".")[0],
        "Field": field,
        "PermissionsRead": True,
        "PermissionsEdit": edit,
    }
    return api.call("POST", "sobjects/FieldPermissions", json=body)


def new_permission_set(api: Rest, name: str) -> str:
    answer = api.call("POST", "sobjects/PermissionSet", json={"Name": name, "Label": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def integration_user(api: Rest) -> str:
    (row,) = api.rows("SELECT Id FROM User WHERE LastName = 'Integration'")
    return str(row["Id"])


def test_a_new_field_is_seen_by_nobody_until_it_is_granted_and_assigned(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    account = crm.create("Account", {"Name": "a"})
    record = {"id": account, "KPI_Win_Rate__c": 41.5}
    with rest(crm) as api:
        created = create_field(api, "Account.KPI_Win_Rate__c", **WIN_RATE)
        hidden = codes(api.update("Account", record))
        unreadable = error_of(api.query("SELECT KPI_Win_Rate__c FROM Account"))
        permissions = new_permission_set(api, "KPI_Write")
        granted = grant(api, permissions, "Account.KPI_Win_Rate__c")
        unassigned = "KPI_Win_Rate__c" in api.describe("Account")
        assigned = api.call(
            "POST",
            "sobjects/PermissionSetAssignment",
            json={"PermissionSetId": permissions, "AssigneeId": integration_user(api)},
        )
        field = api.describe("Account")["KPI_Win_Rate__c"]
        written = codes(api.update("Account", record))

    assert (created.status_code, created.json()["success"]) == (201, True)
    assert created.json()["id"].startswith("00N")
    assert (hidden, unreadable) == (["INVALID_FIELD"], (400, "INVALID_FIELD"))
    assert (granted.status_code, assigned.status_code, unassigned) == (201, 201, False)
    assert (field["type"], field["precision"], field["scale"]) == ("percent", 5, 2)
    assert field["updateable"]
    assert field["custom"]
    assert written == ["ok"]


def test_a_read_only_grant_lets_queries_but_no_writes_through(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    account = crm.create("Account", {"Name": "a"})
    with rest(crm) as api:
        create_field(api, "Account.KPI__c", **WIN_RATE)
        permissions = new_permission_set(api, "KPI_Read")
        grant(api, permissions, "Account.KPI__c", edit=False)
        assignment = {"PermissionSetId": permissions, "AssigneeId": integration_user(api)}
        api.call("POST", "sobjects/PermissionSetAssignment", json=assignment)

        assert api.one("Account", account, "KPI__c")["KPI__c"] is None
        assert not api.describe("Account")["KPI__c"]["updateable"]
        results = api.update("Account", {"id": account, "KPI__c": 1})

    assert codes(results) == ["INVALID_FIELD_FOR_INSERT_UPDATE"]
    assert results[0]["errors"][0]["fields"] == ["KPI__c"]


def test_a_field_that_exists_is_a_duplicate(api: Rest) -> None:
    assert create_field(api, "Account.Twice__c", **WIN_RATE).status_code == 201
    assert error_of(create_field(api, "Account.Twice__c", **WIN_RATE)) == (
        400,
        "DUPLICATE_DEVELOPER_NAME",
    )


@pytest.mark.parametrize(
    ("name", "metadata", "kind"),
    [
        ("N", {"type": "Number", "precision": 18, "scale": 2}, "double"),
        ("C", {"type": "Currency", "precision": 18, "scale": 2}, "currency"),
        ("T", {"type": "Text", "length": 255}, "string"),
        ("D", {"type": "Date"}, "date"),
        ("M", {"type": "DateTime"}, "datetime"),
        ("B", {"type": "Checkbox", "defaultValue": "false"}, "boolean"),
    ],
)
def test_each_type_of_kpi_field_can_be_made_and_read_back(
    api: Rest, name: str, metadata: dict[str, Any], kind: str
) -> None:
    answer = create_field(api, f"Account.Made_{name}__c", label=name, **metadata)
    assert answer.status_code == 201, answer.text
    read = api.get(f"tooling/sobjects/CustomField/{answer.json()['id']}").json()

    assert read["FullName"] == f"Account.Made_{name}__c"
    assert read["Metadata"]["type"] == metadata["type"]
    permissions = new_permission_set(api, f"Set_{name}")
    grant(api, permissions, f"Account.Made_{name}__c")
    assignment = {"PermissionSetId": permissions, "AssigneeId": integration_user(api)}
    api.call("POST", "sobjects/PermissionSetAssignment", json=assignment)
    assert api.describe("Account")[f"Made_{name}__c"]["type"] == kind


@pytest.mark.parametrize(
    ("full_name", "metadata", "code"),
    [
        ("Account.X__c", {"type": "Number", "precision": 19, "scale": 2}, INTEGRITY),
        ("Account.X__c", {"type": "Number", "precision": 3, "scale": 4}, INTEGRITY),
        ("Account.X__c", {"type": "Number"}, INTEGRITY),
        ("Account.X__c", {"type": "Text"}, INTEGRITY),
        ("Account.X__c", {"type": "Text", "length": 256}, INTEGRITY),
        ("Account.X__c", {"type": "Checkbox"}, INTEGRITY),
        ("Account.X__c", {"type": "Date", "label": ""}, INTEGRITY),
        ("Account.X__c", {"type": "Long Text"}, "JSON_PARSER_ERROR"),
        ("Account.X__c", {"type": "Date", "colour": "red"}, "JSON_PARSER_ERROR"),
        ("Account.X", {"type": "Date"}, INTEGRITY),
        ("Account.1X__c", {"type": "Date"}, INTEGRITY),
        ("Account.X__Y__c", {"type": "Date"}, INTEGRITY),
        ("Nothing.X__c", {"type": "Date"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
    ],
)
def test_a_field_that_breaks_a_rule_is_refused(
    api: Rest, full_name: str, metadata: dict[str, Any], code: str
) -> None:
    answer = create_field(api, full_name, **{"label": "X", **metadata})

    assert error_of(answer) == (400, code)


def test_without_customize_application_no_field_is_made(sandbox: OrgAlone) -> None:
    sandbox.salesforce.settings(may_customize=False)
    with rest(sandbox.salesforce) as api:
        answer = create_field(api, "Account.KPI__c", **WIN_RATE)

    assert error_of(answer) == (403, "INSUFFICIENT_ACCESS")


def test_permission_sets_are_found_by_name_and_made_once(api: Rest) -> None:
    made = new_permission_set(api, "KPI_Once")

    (row,) = api.rows("SELECT Id, Label FROM PermissionSet WHERE Name = 'KPI_Once'")
    again = api.call("POST", "sobjects/PermissionSet", json={"Name": "KPI_Once", "Label": "x"})
    spaced = api.call("POST", "sobjects/PermissionSet", json={"Name": "KPI Once", "Label": "x"})

    assert row["Id"] == made
    assert made.startswith("0PS")
    assert error_of(again) == (400, "DUPLICATE_DEVELOPER_NAME")
    assert error_of(spaced) == (400, "INVALID_FULLNAME")


def test_grants_and_assignments_are_checked_and_made_once(api: Rest) -> None:
    create_field(api, "Account.Granted__c", **WIN_RATE)
    permissions = new_permission_set(api, "KPI_Grants")
    assignment = {"PermissionSetId": permissions, "AssigneeId": integration_user(api)}
    path = "sobjects/PermissionSetAssignment"

    assert grant(api, permissions, "Account.Granted__c").status_code == 201
    assert error_of(grant(api, permissions, "Account.Granted__c")) == (400, "DUPLICATE_VALUE")
    assert error_of(grant(api, permissions, "Account.Missing__c")) == (
        400,
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
    )
    assert error_of(grant(api, permissions, "Account.Name")) == (400, INTEGRITY)
    assert api.call("POST", path, json=assignment).status_code == 201
    assert error_of(api.call("POST", path, json=assignment)) == (400, "DUPLICATE_VALUE")


def test_tooling_lists_custom_fields_and_deletes_them(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.add_field("Account", "Segment__c", "text", label="Segment")
    with rest(crm) as api:
        soql = (
            "SELECT Id, DeveloperName, FullName FROM CustomField "
            "WHERE TableEnumOrId = 'Account' AND DeveloperName = 'Segment'"
        )
        (row,) = api.get("tooling/query", q=soql).json()["records"]
        before = "Segment__c" in api.describe("Account")
        deleted = api.call("DELETE", f"tooling/sobjects/CustomField/{row['Id']}")
        after = "Segment__c" in api.describe("Account")

    assert row["FullName"] == "Account.Segment__c"
    assert (deleted.status_code, before, after) == (204, True, False)


def test_full_names_of_several_fields_are_not_given_at_once(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    for name in ("One__c", "Two__c"):
        crm.add_field("Account", name, "text", label=name)
    with rest(crm) as api:
        refused = api.get("tooling/query", q="SELECT FullName FROM CustomField")
        listed = api.get("tooling/query", q="SELECT DeveloperName FROM CustomField")

    assert error_of(refused) == (400, "MALFORMED_QUERY")
    assert listed.json()["totalSize"] == 2


def test_simple_salesforce_makes_fields_by_toolingexecute(crm: Crm) -> None:
    body = {"FullName": "Account.By_Library__c", "Metadata": WIN_RATE}
    with simple_salesforce(crm) as client:
        answer = client.toolingexecute("sobjects/CustomField/", "POST", body)

    assert answer["success"]
