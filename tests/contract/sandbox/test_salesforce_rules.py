"""What stands between a client and its records: rules, locks, duplicates, limits, bad days."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simple_salesforce.exceptions import SalesforceMalformedRequest, SalesforceRefusedRequest

import sandbox
from tests.contract.sandbox.salesforce_rest import (
    Rest,
    codes,
    error_of,
    fresh_org,
    rest,
    simple_salesforce,
)
from tests.fixtures.sandboxes import Crm

ALLOW = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
QUIET = {"Sforce-Auto-Assign": "FALSE"}


@pytest.fixture
def crm() -> Iterator[Crm]:
    with fresh_org() as crm:
        yield crm


@pytest.fixture
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


def test_whatever_refuses_something_names_the_vendors_page() -> None:
    modules = [*Path(sandbox.__file__).parent.glob("salesforce*.py")]
    strict = [
        module for module in modules if re.search(r"\"[A-Z]+(_[A-Z]+)+\"", module.read_text())
    ]
    page = re.compile(r"Reference|Developer Guide|Cheat Sheet|Salesforce Help|Help[, (]")

    assert len(strict) > 10
    assert [one.name for one in strict if not page.search(one.read_text())] == []


# Writing


def test_a_validation_rule_judges_the_whole_record(crm: Crm, api: Rest) -> None:
    bad = crm.create("Account", {"Name": "bad"})
    good = crm.create("Account", {"Name": "good", "Industry": "Banking"})
    rule = {"object": "Account", "field": "Industry", "operator": "blank"}
    crm.admin("validation_rule", **rule, message="Industry is needed")

    refused, saved = api.update("Account", {"id": bad, "Site": "x"}, {"id": good, "Site": "x"})

    assert refused["errors"] == [
        {
            "statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
            "message": "Industry is needed",
            "fields": ["Industry"],
        }
    ]
    assert saved["success"]
    crm.admin("no_rules")
    assert codes(api.update("Account", {"id": bad, "Site": "x"})) == ["ok"]


def test_people_in_the_crm_are_not_stopped_by_what_the_admin_endpoint_plants(crm: Crm) -> None:
    rule = {"object": "Account", "field": "Site", "operator": "=", "value": "x"}
    crm.admin("validation_rule", **rule)

    account = crm.create("Account", {"Site": "x"})

    assert account.startswith("001")


def test_a_share_of_updates_meets_a_lock_and_gets_through_in_the_end(crm: Crm, api: Rest) -> None:
    left = crm.create_many("Account", [{"Name": f"a {n}"} for n in range(200)])
    crm.settings(lock_share=0.2)
    refused = []

    for _ in range(20):
        results = api.update("Account", *({"id": each, "Site": "x"} for each in left))
        left = [one for one, code in zip(left, codes(results), strict=True) if code != "ok"]
        refused.append(len(left))
        assert set(codes(results)) <= {"ok", "UNABLE_TO_LOCK_ROW"}
        if not left:
            break

    assert left == []
    assert 20 <= refused[0] <= 65


def test_assignment_rules_give_cases_leads_and_accounts_another_owner(crm: Crm, api: Rest) -> None:
    owner = crm.create("User", {"LastName": "Queue owner"})
    crm.settings(assignment_owner=owner)
    for name in ("Account", "Case", "Lead"):
        mine = crm.create(name, {})
        quiet = crm.create(name, {})
        api.update(name, {"id": mine, "Description": "x"})
        api.update(name, {"id": quiet, "Description": "x"}, headers=QUIET)

        assert api.one(name, mine, "OwnerId")["OwnerId"] == owner
        assert api.one(name, quiet, "OwnerId")["OwnerId"] != owner
    made = api.call("POST", "sobjects/Case", json={"Subject": "new"}).json()["id"]
    assert api.one("Case", made, "OwnerId")["OwnerId"] == owner


@pytest.mark.parametrize(("blocks", "allowed"), [(False, "ok"), (True, "DUPLICATES_DETECTED")])
def test_duplicate_rules_meet_updates_too(crm: Crm, api: Rest, blocks: bool, allowed: str) -> None:
    first, second = (crm.create("Account", {"Name": "same"}) for _ in range(2))
    crm.admin("duplicate_rule", object="Account", field="Name", blocks=blocks)

    plain = api.update("Account", {"id": second, "Site": "x"})
    with_header = api.update("Account", {"id": second, "Site": "x"}, headers=ALLOW)

    assert codes(plain) == ["DUPLICATES_DETECTED"]
    assert codes(with_header) == [allowed]
    assert first != second


def test_a_workflow_saves_what_was_written_again(crm: Crm, api: Rest) -> None:
    crm.clock(fix="2026-06-01T12:00:00Z")
    crm.add_field("Account", "KPI__c", "number")
    account = crm.create("Account", {"Name": "a"})
    crm.admin("workflow", object="Account", set={"KPI__c": 0})
    crm.clock(advance=60)

    assert codes(api.update("Account", {"id": account, "KPI__c": 7})) == ["ok"]

    row = api.one("Account", account, "KPI__c", "LastModifiedById", "SystemModstamp")
    writer = api.rows("SELECT Id FROM User WHERE LastName = 'Integration'")[0]["Id"]
    assert row["KPI__c"] == 0.0
    assert row["LastModifiedById"] != writer
    assert row["SystemModstamp"] == "2026-06-01T12:01:00.000+0000"


def test_upsert_by_external_id_tells_what_was_created(crm: Crm, api: Rest) -> None:
    crm.admin("field", object="Account", name="Key__c", type="string", external_id=True)
    crm.create("Account", {"Name": "old", "Key__c": "k1"})

    def upsert(*keys: str) -> list[dict[str, object]]:
        records = [{"attributes": {"type": "Account"}, "Key__c": key, "Name": key} for key in keys]
        path = "composite/sobjects/Account/Key__c"
        answer = api.call("PATCH", path, json={"records": records})
        found: list[dict[str, object]] = answer.json()
        return found

    assert [each["created"] for each in upsert("k1", "k2")] == [False, True]
    assert codes(upsert("k3", "k3")) == ["DUPLICATE_VALUE"] * 2
    by_name = api.call("PATCH", "composite/sobjects/Account/Name", json={"records": []})
    assert error_of(by_name) == (400, "INVALID_FIELD")


def test_a_unique_field_takes_a_value_once(crm: Crm, api: Rest) -> None:
    crm.admin("field", object="Account", name="Key__c", type="string", unique=True)
    first, second = (crm.create("Account", {"Name": name}) for name in "ab")

    results = [codes(api.update("Account", {"id": i, "Key__c": "k"})) for i in (first, second)]

    assert results == [["ok"], ["DUPLICATE_VALUE"]]


def test_records_are_deleted_by_their_ids(crm: Crm, api: Rest) -> None:
    account = crm.create("Account", {"Name": "a"})
    ids = f"{account},001000000000001"

    results = api.call("DELETE", "composite/sobjects", params={"ids": ids}).json()

    assert codes(results) == ["ok", "INVALID_CROSS_REFERENCE_KEY"]


# Limits


def test_usage_rolls_over_24_hours_and_counts_other_tools(crm: Crm, api: Rest) -> None:
    crm.clock(fix="2026-06-01T12:00:00Z")
    crm.settings(daily_calls_max=1000, daily_calls_used=1000)

    refused = api.get("limits")
    crm.clock(advance=24 * 3600 + 60)
    later = api.get("limits")

    assert error_of(refused) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert "TotalRequests" in refused.text
    assert refused.headers["Sforce-Limit-Info"] == "api-usage=1001/1000"
    assert later.headers["Sforce-Limit-Info"] == "api-usage=1/1000"
    assert later.json()["DailyApiRequests"] == {"Max": 1000, "Remaining": 999}


def test_an_apps_own_allocation_shows_beside_the_orgs(crm: Crm) -> None:
    crm.settings(app_calls_max=250)
    with simple_salesforce(crm) as client:
        client.query("SELECT Id FROM Organization")

    per_app = client.api_usage["per-app-api-usage"]
    assert (per_app.used, per_app.total, per_app.name) == (1, 250, "kpisync")


def test_too_many_calls_at_once_look_different_from_too_many_a_day(crm: Crm) -> None:
    crm.admin("refuse", name="CONCURRENT_REQUESTS")
    with simple_salesforce(crm) as client:
        with pytest.raises(SalesforceRefusedRequest) as caught:
            client.query("SELECT Id FROM Organization")
        assert client.query("SELECT Id FROM Organization")["totalSize"] == 1

    assert caught.value.content[0]["errorCode"] == "REQUEST_LIMIT_EXCEEDED"
    assert "Concurrent" in caught.value.content[0]["message"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("QUERY_TIMEOUT", 400), ("QUERY_TOO_COMPLICATED", 400), ("OPERATION_TOO_LARGE", 400),
        ("API_DISABLED_FOR_ORG", 403), ("API_CURRENTLY_DISABLED", 403),
        ("INSUFFICIENT_ACCESS", 403), ("SERVER_UNAVAILABLE", 503), ("UNKNOWN_EXCEPTION", 500),
        ("QUERY_LOCATOR_EXPIRED", 400), ("INVALID_SESSION_ID", 401),
    ],
)  # fmt: skip
def test_refusals_come_when_asked_for_and_where(
    crm: Crm, api: Rest, name: str, status: int
) -> None:
    crm.admin("refuse", name=name, after=1, path="FROM Account")

    elsewhere = api.query("SELECT Id FROM Contact")
    answers = [api.query("SELECT Id FROM Account") for _ in range(3)]

    assert elsewhere.status_code == 200
    assert [each.status_code for each in answers] == [200, status, 200]
    assert error_of(answers[1]) == (status, name)


def test_a_query_over_too_many_rows_times_out_and_a_smaller_one_does_not(crm: Crm) -> None:
    for day in range(4):
        crm.create_many("Account", [{"Name": "a"}] * 5, at=f"2026-06-0{day + 1}T00:00:00Z")
    crm.settings(query_timeout_rows=10)
    half = "SELECT Id FROM Account WHERE SystemModstamp < 2026-06-03T00:00:00Z"
    with simple_salesforce(crm) as client:
        with pytest.raises(SalesforceMalformedRequest) as caught:
            client.query("SELECT Id FROM Account LIMIT 5")
        rows = client.query(half)["totalSize"]

    assert caught.value.content[0]["errorCode"] == "QUERY_TIMEOUT"
    assert rows == 10


def test_deleted_lists_at_most_so_many_ids_and_its_coverage_may_lag(crm: Crm, api: Rest) -> None:
    crm.clock(fix="2026-06-01T12:00:00Z")
    made = crm.create_many("Account", [{"Name": "a"}] * 3)
    crm.delete("Account", made)
    crm.clock(advance=4 * 3600)
    window = {"start": "2026-06-01T11:00:00Z", "end": "2026-06-01T16:00:00Z"}

    crm.settings(replication_lag=3 * 3600)
    covered = api.get("sobjects/Account/deleted/", **window).json()["latestDateCovered"]
    crm.settings(replication_ids_max=2)
    refused = api.get("sobjects/Account/deleted/", **window)

    assert covered == "2026-06-01T13:00:00.000+0000"
    assert error_of(refused) == (400, "EXCEEDED_ID_LIMIT")


def test_updated_reaches_back_30_days(api: Rest, crm: Crm) -> None:
    now = datetime.now(UTC)
    made = crm.create("Account", {"Name": "a"}, at=(now - timedelta(days=29)).isoformat())
    windows = [
        {"start": (now - timedelta(days=days)).isoformat(), "end": now.isoformat()}
        for days in (29.5, 31)
    ]

    good, old = (api.get("sobjects/Account/updated/", **window) for window in windows)

    assert good.json()["ids"] == [made]
    assert error_of(old) == (400, "INVALID_REPLICATION_DATE")


def test_a_query_follows_parents_five_levels_up_and_no_further(api: Rest) -> None:
    five = "Parent." * 5 + "Name"

    assert api.query(f"SELECT {five} FROM Account").status_code == 200
    assert error_of(api.query(f"SELECT Parent.{five} FROM Account")) == (400, "INVALID_FIELD")


def test_a_query_follows_at_most_55_relationships(crm: Crm, api: Rest) -> None:
    for number in range(56):
        name = f"Link{number}__c"
        crm.admin("field", object="Account", name=name, type="reference", to="Account")
    paths = [f"Link{number}__r.Name" for number in range(56)]

    allowed = api.query(f"SELECT {', '.join(paths[:55])} FROM Account")
    refused = api.query(f"SELECT {', '.join(paths)} FROM Account")

    assert allowed.status_code == 200
    assert error_of(refused) == (400, "MALFORMED_QUERY")


def test_answers_are_compressed_for_clients_that_take_it(crm: Crm, api: Rest) -> None:
    crm.settings(gzip=True)
    crm.create_many("Account", [{"Name": "a"}] * 50)

    answer = api.query("SELECT Id, Name FROM Account")
    plain = api.query("SELECT Id, Name FROM Account", **{"Accept-Encoding": "identity"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) < len(answer.content)
    assert "Content-Encoding" not in plain.headers
    assert len(answer.json()["records"]) == len(plain.json()["records"]) == 50


def test_a_misspelt_setting_or_key_is_refused(crm: Crm) -> None:
    with pytest.raises(AssertionError, match="no setting"):
        crm.settings(daily_call_max=1)
    with pytest.raises(AssertionError, match="unknown key"):
        crm.admin("refuse", name="QUERY_TIMEOUT", time=1)
    with pytest.raises(AssertionError, match="no refusal"):
        crm.admin("refuse", name="QUERY_TIME_OUT")
