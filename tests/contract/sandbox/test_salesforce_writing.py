"""Saving records through the API, as strict as the vendor's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from simple_salesforce.exceptions import SalesforceMalformedRequest

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


@pytest.fixture
def sandbox() -> Iterator[OrgAlone]:
    with fresh_org() as crm:
        yield OrgAlone(crm)


@pytest.fixture(scope="module")
def crm() -> Iterator[Crm]:
    """One org for the tests that only touch records of their own."""
    with fresh_org() as crm:
        crm.add_field("Account", "Win_Rate__c", "percent", label="Win rate")
        crm.add_field("Account", "Note__c", "text", label="Note")
        crm.add_field("Account", "Checked__c", "boolean", label="Checked")
        crm.add_field("Account", "Updated__c", "datetime", label="Updated")
        crm.add_field("Account", "Until__c", "date", label="Until")
        yield crm


@pytest.fixture(scope="module")
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


@pytest.fixture
def account(crm: Crm) -> str:
    return crm.create("Account", {"Name": "Account"}, at="2026-01-01T00:00:00Z")


def value(api: Rest, record_id: str, name: str) -> Any:
    return api.one("Account", record_id, name)[name]


# Collections


def test_results_come_in_the_order_of_the_request_and_fail_one_by_one(api: Rest, crm: Crm) -> None:
    first, gone, last = (crm.create("Account", {"Name": name}) for name in "abc")
    crm.delete("Account", gone)

    results = api.update(
        "Account", {"id": first, "Site": "1"}, {"id": gone, "Site": "2"}, {"id": last, "Site": "3"}
    )

    assert codes(results) == ["ok", "ENTITY_IS_DELETED", "ok"]
    assert [each.get("id") for each in results] == [first, None, last]
    assert results[0]["errors"] == []
    assert set(results[1]["errors"][0]) == {"statusCode", "message", "fields"}
    assert (value(api, first, "Site"), value(api, last, "Site")) == ("1", "3")


def test_all_failed_is_still_http_200(api: Rest, account: str) -> None:
    answer = api.send_update("Account", {"id": account, "Nonsense__c": 1})

    assert answer.status_code == 200
    assert codes(answer.json()) == ["INVALID_FIELD"]


def test_all_or_none_rolls_the_others_back(api: Rest, crm: Crm, account: str) -> None:
    gone = crm.create("Account", {"Name": "gone"})
    crm.delete("Account", gone)

    results = api.update(
        "Account", {"id": account, "Site": "x"}, {"id": gone, "Site": "x"}, all_or_none=True
    )

    assert codes(results) == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "ENTITY_IS_DELETED"]
    assert value(api, account, "Site") is None


def test_an_id_twice_in_one_call_fails_both_times_also_as_15_and_18(
    api: Rest, account: str
) -> None:
    results = api.update("Account", {"id": account, "Site": "a"}, {"id": account[:15], "Site": "b"})

    assert codes(results) == ["DUPLICATE_VALUE", "DUPLICATE_VALUE"]
    assert value(api, account, "Site") is None


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"Site": "x"}, "MISSING_ARGUMENT"),
        ({"id": "nonsense", "Site": "x"}, "MALFORMED_ID"),
        ({"id": "001000000000000AAA", "Site": "x"}, "INVALID_CROSS_REFERENCE_KEY"),
    ],
)
def test_an_id_that_leads_nowhere_fails_its_record(
    api: Rest, record: dict[str, str], code: str
) -> None:
    assert codes(api.update("Account", record)) == [code]


def test_more_than_200_records_are_refused_whole(api: Rest, account: str) -> None:
    answer = api.send_update("Account", *[{"id": account}] * 201)

    assert error_of(answer) == (400, "EXCEEDED_ID_LIMIT")


def test_more_than_10_runs_of_one_type_are_refused_whole(api: Rest) -> None:
    typed = [{"attributes": {"type": kind}} for kind in ("Account", "Opportunity") * 5]

    ten = api.call("PATCH", "composite/sobjects", json={"records": typed})
    eleven = api.call("PATCH", "composite/sobjects", json={"records": [*typed, typed[0]]})

    assert ten.status_code == 200
    assert error_of(eleven) == (400, "LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"records": {}}',
        '{"records": [], "allornone": true}',
        '{"records": [{"id": "001000000000000AAA"}]}',
        '{"records": [], "allOrNone": "yes"}',
        '{"records": [{"attributes": {"type": "Account"}, "Site": NaN}]}',
    ],
)
def test_a_malformed_request_is_400_with_error_code(api: Rest, body: str) -> None:
    headers = {"Content-Type": "application/json"}

    answer = api.call("PATCH", "composite/sobjects", data=body, headers=headers)

    assert error_of(answer) == (400, "JSON_PARSER_ERROR")


def test_a_body_that_is_not_json_by_its_type_is_415(api: Rest) -> None:
    plain = {"Content-Type": "text/plain"}

    assert error_of(api.call("PATCH", "composite/sobjects", data="{}", headers=plain))[0] == 415


def test_simple_salesforce_writes_collections_by_restful(crm: Crm, api: Rest, account: str) -> None:
    record = {"attributes": {"type": "Account"}, "id": account, "Win_Rate__c": 41.5}
    with simple_salesforce(crm) as client:
        results = client.restful(
            "composite/sobjects", method="PATCH", json={"allOrNone": False, "records": [record]}
        )

    assert results == [{"id": account, "success": True, "errors": []}]
    assert value(api, account, "Win_Rate__c") == 41.5


# Values


def test_null_clears_and_an_absent_key_keeps(api: Rest, account: str) -> None:
    api.update("Account", {"id": account, "Note__c": "kept", "Win_Rate__c": 1})

    api.update("Account", {"id": account, "Win_Rate__c": None})

    assert value(api, account, "Note__c") == "kept"
    assert value(api, account, "Win_Rate__c") is None


def test_an_empty_text_is_stored_as_null(api: Rest, account: str) -> None:
    assert codes(api.update("Account", {"id": account, "Note__c": "  "})) == ["ok"]
    assert value(api, account, "Note__c") is None


def test_decimals_beyond_the_scale_are_kept_as_written(api: Rest, account: str) -> None:
    assert codes(api.update("Account", {"id": account, "Win_Rate__c": 41.56789})) == ["ok"]
    assert value(api, account, "Win_Rate__c") == 41.56789


def test_a_number_in_quotes_is_read_as_a_number(api: Rest, account: str) -> None:
    assert codes(api.update("Account", {"id": account, "Win_Rate__c": "12.5"})) == ["ok"]
    assert value(api, account, "Win_Rate__c") == 12.5


@pytest.mark.parametrize(
    ("field", "content", "code"),
    [
        ("Win_Rate__c", 10**14, "NUMBER_OUTSIDE_VALID_RANGE"),
        ("NumberOfEmployees", 100_000_000, "NUMBER_OUTSIDE_VALID_RANGE"),
        ("Note__c", "x" * 256, "STRING_TOO_LONG"),
        ("Checked__c", None, "INVALID_TYPE_ON_FIELD_IN_RECORD"),
        ("Name", None, "REQUIRED_FIELD_MISSING"),
        ("OwnerId", "nobody", "MALFORMED_ID"),
        ("OwnerId", "005000000000000AAA", "INVALID_CROSS_REFERENCE_KEY"),
        ("Unknown__c", 1, "INVALID_FIELD"),
        ("IsDeleted", True, "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ("SystemModstamp", "2026-01-01T00:00:00Z", "INVALID_FIELD_FOR_INSERT_UPDATE"),
    ],
)
def test_a_value_a_field_does_not_take_fails_its_record(
    api: Rest, account: str, field: str, content: object, code: str
) -> None:
    (result,) = api.update("Account", {"id": account, field: content})

    assert codes([result]) == [code]
    if code != "INVALID_FIELD":
        assert field in result["errors"][0]["fields"]


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("Win_Rate__c", "abc"),
        ("Win_Rate__c", True),
        ("Checked__c", 1),
        ("Until__c", "2026-04-30T13:19:18Z"),
        ("Until__c", "2026-02-30"),
        ("Updated__c", "2026-04-30 13:19:18"),
        ("Updated__c", "2026-04-30T13:19:18"),
        ("Note__c", ["x"]),
        ("NumberOfEmployees", 1.5),
    ],
)
def test_a_value_of_the_wrong_json_type_fails_the_whole_request(
    api: Rest, crm: Crm, account: str, field: str, content: object
) -> None:
    other = crm.create("Account", {"Name": "other"})

    answer = api.send_update("Account", {"id": other, "Site": "x"}, {"id": account, field: content})

    assert error_of(answer) == (400, "JSON_PARSER_ERROR")
    assert "Cannot deserialize instance of" in answer.json()[0]["message"]
    assert value(api, other, "Site") is None


def test_instants_are_kept_in_utc_and_whole_seconds(api: Rest, account: str) -> None:
    api.update("Account", {"id": account, "Updated__c": "2026-11-22T03:00:00.987+01:00"})

    assert value(api, account, "Updated__c") == "2026-11-22T02:00:00.000+0000"


def test_a_checkbox_is_never_null_also_where_it_is_younger_than_the_record(
    api: Rest, crm: Crm, account: str
) -> None:
    crm.add_field("Account", "Late__c", "boolean", label="Late")

    assert value(api, account, "Late__c") is False
    assert api.rows("SELECT Id FROM Account WHERE Late__c = false") != []


def test_a_hidden_field_is_unknown_to_writes(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    account = crm.create("Account", {"Name": "a"})
    crm.settings(hide_fields=["Account.Site"])
    with rest(crm) as api:
        results = api.update("Account", {"id": account, "Site": "x"})

    assert codes(results) == ["INVALID_FIELD"]


# What a save moves


def test_saving_an_unchanged_value_moves_the_stamp_and_is_journaled_as_redundant(
    api: Rest, crm: Crm, account: str
) -> None:
    api.update("Account", {"id": account, "Site": "same"})
    before = len(crm.journal())
    crm.edit("Account", account, {}, at="2026-01-01T00:00:00Z")
    api.update("Account", {"id": account, "Site": "same"})

    (entry,) = crm.journal()[before:]
    assert (entry["old"], entry["new"], entry["redundant"]) == ("same", "same", True)
    assert value(api, account, "SystemModstamp") > "2026-01-02"


def test_an_unchanged_save_moves_system_modstamp(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.clock(fix="2026-06-01T12:00:00Z")
    account = crm.create("Account", {"Name": "a", "Site": "same"})
    crm.clock(advance=60)
    with rest(crm) as api:
        api.update("Account", {"id": account, "Site": "same"})

        assert value(api, account, "SystemModstamp") == "2026-06-01T12:01:00.000+0000"


def test_writes_are_the_integration_users_and_edits_somebody_elses(api: Rest, account: str) -> None:
    by_people = value(api, account, "LastModifiedById")
    api.update("Account", {"id": account, "Site": "x"})

    assert value(api, account, "LastModifiedById") != by_people


def test_the_journal_holds_api_writes_only(api: Rest, crm: Crm, account: str) -> None:
    crm.edit("Account", account, {"Site": "by hand"})
    api.update("Account", {"id": account, "Win_Rate__c": 5})

    mine = [entry for entry in crm.journal() if entry["id"] == account]
    assert [(entry["field"], entry["old"], entry["new"]) for entry in mine] == [
        ("Win_Rate__c", None, 5.0)
    ]


def test_an_assignment_rule_takes_the_owner_unless_the_header_says_false(
    sandbox: OrgAlone,
) -> None:
    crm = sandbox.salesforce
    ruled = crm.create("User", {"LastName": "Ruled"})
    account = crm.create("Account", {"Name": "a"})
    crm.settings(assignment_owner=ruled)
    with rest(crm) as api:
        before = value(api, account, "OwnerId")
        api.update("Account", {"id": account, "Site": "1"}, headers={"Sforce-Auto-Assign": "FALSE"})
        spared = value(api, account, "OwnerId")
        api.update("Account", {"id": account, "Site": "2"})
        assigned = value(api, account, "OwnerId")

    assert (spared, assigned) == (before, ruled)
    assert {entry["field"] for entry in crm.journal()} == {"Site"}


# Faults of single records


def test_lock_and_validation_faults_hit_their_record_only(api: Rest, crm: Crm) -> None:
    locked, invalid, fine = (crm.create("Account", {"Name": name}) for name in "abc")
    crm.fault("lock", record=locked)
    crm.fault("validation", record=invalid, message="No.", field="Site", times="forever")
    records = [{"id": each, "Site": "x"} for each in (locked, invalid, fine)]

    first, second = api.update("Account", *records), api.update("Account", *records)

    assert codes(first) == ["UNABLE_TO_LOCK_ROW", "FIELD_CUSTOM_VALIDATION_EXCEPTION", "ok"]
    assert first[1]["errors"][0] == {
        "statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "No.", "fields": ["Site"],
    }  # fmt: skip
    assert codes(second) == ["ok", "FIELD_CUSTOM_VALIDATION_EXCEPTION", "ok"]


# Single records


def test_simple_salesforce_creates_updates_and_deletes(crm: Crm, api: Rest) -> None:
    with simple_salesforce(crm) as client:
        made = client.Account.create({"Name": "by library"})
        status = client.Account.update(made["id"], {"Site": "here"})
        deleted = client.Account.delete(made["id"])

    row = api.one("Account", made["id"], "Site", "IsDeleted")
    assert (made["success"], len(made["id"]), status, deleted) == (True, 18, 204, 204)
    assert (row["Site"], row["IsDeleted"]) == ("here", True)


def test_a_refused_single_update_is_400_with_error_code_and_fields(crm: Crm, account: str) -> None:
    with simple_salesforce(crm) as client, pytest.raises(SalesforceMalformedRequest) as caught:
        client.Account.update(account, {"Note__c": "x" * 256})

    assert caught.value.content[0]["errorCode"] == "STRING_TOO_LONG"
    assert caught.value.content[0]["fields"] == ["Note__c"]


def test_create_wants_what_the_object_requires(api: Rest) -> None:
    answer = api.call("POST", "sobjects/Opportunity", json={"Name": "x"})

    assert error_of(answer) == (400, "REQUIRED_FIELD_MISSING")
    assert answer.json()[0]["fields"] == ["StageName", "CloseDate"]


def test_an_update_of_what_is_not_there_is_404(api: Rest, crm: Crm, account: str) -> None:
    crm.delete("Account", account)
    unknown = api.call("PATCH", "sobjects/Account/001000000000000AAA", json={"Site": "x"})
    gone = api.call("PATCH", f"sobjects/Account/{account}", json={"Site": "x"})

    assert error_of(unknown) == (404, "NOT_FOUND")
    assert error_of(gone) == (404, "ENTITY_IS_DELETED")


def test_history_and_stages_cannot_be_written(api: Rest) -> None:
    answer = api.call("POST", "sobjects/OpportunityHistory", json={})

    assert error_of(answer) == (400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY")


def test_the_admin_is_told_of_a_field_that_does_not_exist(crm: Crm) -> None:
    with pytest.raises(AssertionError, match="Opportunity has no field 'Segment__c'"):
        crm.create("Opportunity", {"Segment__c": "x"})
