"""Bulk API 2.0: query and ingest jobs, their states, parts and results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import requests
from simple_salesforce.exceptions import SalesforceOperationError

from tests.contract.sandbox.salesforce_rest import (
    Rest,
    error_of,
    fresh_org,
    rest,
    simple_salesforce,
)
from tests.fixtures.sandboxes import Crm

AWKWARD = 'a "quoted", comma\nand a line\r\nbreak \u2028 \U0001f600 \x00 end'


@pytest.fixture(scope="module")
def crm() -> Iterator[Crm]:
    with fresh_org() as crm:
        yield crm


@pytest.fixture(scope="module")
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


@pytest.fixture
def fresh() -> Iterator[Rest]:
    with fresh_org() as crm, rest(crm) as speaker:
        yield speaker


def start_query(api: Rest, soql: str, **more: str) -> str:
    answer = create_query(api, soql, **more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def create_query(api: Rest, soql: str, **more: str) -> requests.Response:
    return api.call("POST", "jobs/query", json={"operation": "query", "query": soql, **more})


def state_of(api: Rest, job: str, kind: str = "query") -> str:
    return str(api.get(f"jobs/{kind}/{job}").json()["state"])


def finished(api: Rest, job: str, kind: str = "query") -> dict[str, Any]:
    for _ in range(5):
        facts: dict[str, Any] = api.get(f"jobs/{kind}/{job}").json()
        if facts["state"] in {"JobComplete", "Failed", "Aborted"}:
            return facts
    raise AssertionError(facts)


def table(content: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter))


def parts_of(api: Rest, job: str, size: int) -> list[requests.Response]:
    parts = [api.get(f"jobs/query/{job}/results", maxRecords=str(size))]
    while (locator := parts[-1].headers["Sforce-Locator"]) != "null":
        again = {"maxRecords": str(size), "locator": locator}
        parts.append(api.get(f"jobs/query/{job}/results", **again))
    return parts


def start_ingest(api: Rest, content: str | bytes | None, **job: str) -> str:
    wanted = {"object": "Account", "operation": "update", "contentType": "CSV", **job}
    answer = api.call("POST", "jobs/ingest", json=wanted)
    assert answer.status_code == 200, answer.text
    job_id = str(answer.json()["id"])
    if content is not None:
        assert put(api, job_id, content).status_code == 201
        assert close(api, job_id).json()["state"] == "UploadComplete"
    return job_id


def put(api: Rest, job: str, content: str | bytes) -> requests.Response:
    data = content if isinstance(content, bytes) else content.encode()
    headers = {"Content-Type": "text/csv"}
    return api.call("PUT", f"jobs/ingest/{job}/batches", data=data, headers=headers)


def close(api: Rest, job: str, state: str = "UploadComplete") -> requests.Response:
    return api.call("PATCH", f"jobs/ingest/{job}", json={"state": state})


def results(api: Rest, job: str, which: str) -> list[list[str]]:
    answer = api.get(f"jobs/ingest/{job}/{which}")
    assert answer.status_code == 200, answer.text
    return table(answer.content.decode())


def as_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


# Query jobs


def test_a_query_job_moves_from_state_to_state_as_it_is_asked(api: Rest) -> None:
    answer = create_query(api, "SELECT Id FROM Organization")
    job = answer.json()["id"]

    states = [answer.json()["state"], *(state_of(api, job) for _ in range(3))]

    assert job.startswith("750")
    assert states == ["UploadComplete", "InProgress", "JobComplete", "JobComplete"]


def test_results_before_the_end_are_refused(api: Rest) -> None:
    job = start_query(api, "SELECT Id FROM Organization")

    assert error_of(api.get(f"jobs/query/{job}/results")) == (400, "INVALIDJOBSTATE")


def test_results_come_in_parts_with_a_header_each_and_end_with_null(fresh: Rest) -> None:
    made = fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(25)])
    job = start_query(fresh, "SELECT Id, Name FROM Account")
    assert finished(fresh, job)["numberRecordsProcessed"] == 25

    parts = parts_of(fresh, job, 10)

    tables = [table(part.content.decode()) for part in parts]
    ids = [row[0] for rows in tables for row in rows[1:]]
    assert [part.headers["Sforce-NumberOfRecords"] for part in parts] == ["10", "10", "5"]
    assert [rows[0] for rows in tables] == [["Id", "Name"]] * 3
    assert sorted(ids) == sorted(made)
    assert ids != sorted(ids)


def test_a_locator_can_be_read_again_and_shows_the_same_rows(fresh: Rest) -> None:
    made = fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(6)])
    job = start_query(fresh, "SELECT Id, Name FROM Account")
    finished(fresh, job)
    locator = fresh.get(f"jobs/query/{job}/results", maxRecords="3").headers["Sforce-Locator"]
    first = fresh.get(f"jobs/query/{job}/results", locator=locator)
    fresh.crm.edit("Account", made, {"Name": "changed"})

    again = fresh.get(f"jobs/query/{job}/results", locator=locator)

    assert again.content == first.content
    assert error_of(fresh.get(f"jobs/query/{job}/results", locator="nonsense"))[0] == 400


def test_the_server_may_give_smaller_parts_than_asked_for(fresh: Rest) -> None:
    fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(5)])
    fresh.crm.settings(bulk={"part_rows": 2})
    job = start_query(fresh, "SELECT Id FROM Account")
    finished(fresh, job)

    assert len(parts_of(fresh, job, 1000)) == 3


def test_cells_hold_whatever_the_field_holds(fresh: Rest) -> None:
    crm = fresh.crm
    crm.create("Account", {"Name": "n", "Description": AWKWARD}, at="2026-01-02T03:04:05Z")
    soql = "SELECT Description, Site, SystemModstamp, AnnualRevenue, IsDeleted FROM Account"
    job = start_query(fresh, soql)
    finished(fresh, job)

    content = fresh.get(f"jobs/query/{job}/results").content.decode()

    assert table(content)[1] == [AWKWARD, "", "2026-01-02T03:04:05.000Z", "", "false"]
    assert content.startswith('"Description","Site",')


def test_a_query_job_reads_as_of_its_work_not_of_its_creation(fresh: Rest) -> None:
    job = start_query(fresh, "SELECT Id FROM Account")
    fresh.crm.create("Account", {"Name": "late"})

    assert finished(fresh, job)["numberRecordsProcessed"] == 1


def test_order_and_limit_are_kept(fresh: Rest) -> None:
    fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(30)])
    job = start_query(fresh, "SELECT Id FROM Account ORDER BY Id LIMIT 20")
    finished(fresh, job)

    (part,) = parts_of(fresh, job, 100)

    ids = [row[0] for row in table(part.content.decode())[1:]]
    assert ids == sorted(ids)
    assert len(ids) == 20


def test_query_all_shows_the_bin_and_parent_columns_have_dotted_names(fresh: Rest) -> None:
    crm = fresh.crm
    account = crm.create("Account", {"Name": "parent"})
    deal = crm.create("Opportunity", {"Name": "d", "AccountId": account})
    crm.delete("Opportunity", deal)
    soql = "SELECT Id, Account.Name, IsDeleted FROM Opportunity"
    live, everything = start_query(fresh, soql), start_query(fresh, soql, operation="queryAll")
    for job in (live, everything):
        finished(fresh, job)

    found = table(fresh.get(f"jobs/query/{everything}/results").content.decode())

    assert found == [["Id", "Account.Name", "IsDeleted"], [deal, "parent", "true"]]
    none = fresh.get(f"jobs/query/{live}/results")
    assert table(none.content.decode()) == [["Id", "Account.Name", "IsDeleted"]]
    assert (none.headers["Sforce-NumberOfRecords"], none.headers["Sforce-Locator"]) == ("0", "null")
    crm.settings(bulk={"empty_body": True})
    assert fresh.get(f"jobs/query/{live}/results").content == b""


def test_delimiter_and_line_ending_are_as_declared(fresh: Rest) -> None:
    fresh.crm.create("Account", {"Name": "a,b"})
    job = start_query(
        fresh, "SELECT Name, Site FROM Account", columnDelimiter="SEMICOLON", lineEnding="CRLF"
    )
    finished(fresh, job)

    content = fresh.get(f"jobs/query/{job}/results").content

    assert content == b'"Name";"Site"\r\n"a,b";""\r\n'


@pytest.mark.parametrize(
    ("soql", "code"),
    [
        ("SELECT COUNT() FROM Account", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT Id FROM Account LIMIT 5 OFFSET 5", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT BillingAddress FROM Account", "FUNCTIONALITY_NOT_ENABLED"),
        ("SELECT Name FROM Account GROUP BY Name", "MALFORMED_QUERY"),
        ("SELECT Id, (SELECT Id FROM Opportunities) FROM Account", "MALFORMED_QUERY"),
        ("SELECT Nothing FROM Account", "INVALID_FIELD"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE"),
        ("SELECT ApiName FROM CaseStatus", "INVALIDENTITY"),
        ("", "MALFORMED_QUERY"),
    ],
)
def test_what_bulk_cannot_query_is_refused_at_once(api: Rest, soql: str, code: str) -> None:
    assert error_of(create_query(api, soql)) == (400, code)


def test_jobs_are_listed_aborted_and_deleted(fresh: Rest) -> None:
    first, second = (start_query(fresh, "SELECT Id FROM Account") for _ in range(2))
    finished(fresh, first)

    aborted = fresh.call("PATCH", f"jobs/query/{second}", json={"state": "Aborted"})
    again = fresh.call("PATCH", f"jobs/query/{second}", json={"state": "Aborted"})
    listed = fresh.get("jobs/query").json()
    deleted = fresh.call("DELETE", f"jobs/query/{first}")

    assert aborted.json()["state"] == "Aborted"
    assert error_of(again) == (400, "INVALIDJOBSTATE")
    assert [job["state"] for job in listed["records"]] == ["JobComplete", "Aborted"]
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error_of(fresh.get(f"jobs/query/{first}")) == (404, "NOT_FOUND")


def test_results_are_kept_for_seven_days(fresh: Rest) -> None:
    job = start_query(fresh, "SELECT Id FROM Account")
    finished(fresh, job)
    fresh.crm.clock(advance=7 * 24 * 3600)

    assert fresh.get(f"jobs/query/{job}").status_code == 404


def test_a_job_outlives_the_session_that_made_it(fresh: Rest) -> None:
    job = start_query(fresh, "SELECT Id FROM Account")
    fresh.crm.settings(revoke_tokens=True)
    assert fresh.get(f"jobs/query/{job}").status_code == 401

    with simple_salesforce(fresh.crm) as client:
        assert client.restful(f"jobs/query/{job}")["state"] == "InProgress"


def test_held_jobs_move_by_the_admin_alone(fresh: Rest) -> None:
    fresh.crm.settings(bulk={"held": True})
    job = start_query(fresh, "SELECT Id FROM Account")

    before = [state_of(fresh, job) for _ in range(3)]
    fresh.crm.admin("job", id=job, state="InProgress")
    between = state_of(fresh, job)
    fresh.crm.admin("job", id="last", state="JobComplete")

    assert before == ["UploadComplete"] * 3
    assert (between, state_of(fresh, job)) == ("InProgress", "JobComplete")


def test_states_can_last_some_questions_some_time_or_none(fresh: Rest) -> None:
    crm = fresh.crm
    crm.settings(bulk={"polls": 2})
    slow = start_query(fresh, "SELECT Id FROM Account")
    by_polls = [state_of(fresh, slow) for _ in range(4)]
    crm.settings(bulk={"polls": 0})
    quick = state_of(fresh, start_query(fresh, "SELECT Id FROM Account"))
    crm.settings(bulk={"polls": 1, "seconds": 60})
    timed = start_query(fresh, "SELECT Id FROM Account")
    early = state_of(fresh, timed)
    crm.clock(advance=61)

    assert by_polls == ["UploadComplete", "InProgress", "InProgress", "JobComplete"]
    assert quick == "JobComplete"
    assert (early, state_of(fresh, timed)) == ("UploadComplete", "InProgress")


def test_a_planned_failure_ends_the_next_job_with_its_message(fresh: Rest) -> None:
    fresh.crm.admin("fail_jobs", kind="query", message="QUERY_TIMEOUT : ran too long")
    failed, good = (start_query(fresh, "SELECT Id FROM Account") for _ in range(2))

    facts = finished(fresh, failed)

    assert (facts["state"], facts["errorMessage"]) == ("Failed", "QUERY_TIMEOUT : ran too long")
    assert finished(fresh, good)["state"] == "JobComplete"


def test_the_days_query_jobs_are_limited_and_counted(fresh: Rest) -> None:
    fresh.crm.settings(bulk={"query_jobs_max": 1})
    start_query(fresh, "SELECT Id FROM Account")

    assert create_query(fresh, "SELECT Id FROM Account").status_code == 400
    assert fresh.get("limits").json()["DailyBulkV2QueryJobs"] == {"Max": 1, "Remaining": 0}


def test_an_org_may_have_bulk_switched_off(fresh: Rest) -> None:
    fresh.crm.settings(bulk={"enabled": False})

    assert error_of(create_query(fresh, "SELECT Id FROM Account")) == (400, "FEATURENOTENABLED")


def test_simple_salesforce_queries_by_bulk(fresh: Rest) -> None:
    fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(5)])
    fresh.crm.settings(bulk={"polls": 0})
    with simple_salesforce(fresh.crm) as client:
        soql = "SELECT Name FROM Account"
        parts = list(client.bulk2.Account.query(soql, max_records=2, wait=0.05))
        fresh.crm.admin("fail_jobs", kind="query")
        with pytest.raises(SalesforceOperationError):
            list(client.bulk2.Account.query(soql, wait=0.05))

    names = [name for part in parts for (name,) in table(part)[1:]]
    assert sorted(names) == [f"a {n}" for n in range(5)]


# Ingest jobs


def test_an_ingest_job_updates_rows_and_tells_each_outcome_in_no_order(fresh: Rest) -> None:
    made = fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(40)])
    gone = fresh.crm.create("Account", {"Name": "gone"})
    fresh.crm.delete("Account", gone)
    rows = [[each, f"site {n}"] for n, each in enumerate([*made, gone])]

    job = start_ingest(fresh, as_csv(["Id", "Site"], rows))
    facts = finished(fresh, job, "ingest")

    header, *good = results(fresh, job, "successfulResults")
    assert facts["state"] == "JobComplete"
    assert (facts["numberRecordsProcessed"], facts["numberRecordsFailed"]) == (41, 1)
    assert header == ["sf__Id", "sf__Created", "Id", "Site"]
    assert {(row[0], row[1], row[2]) for row in good} == {(each, "false", each) for each in made}
    assert [row[0] for row in good] != made
    failed_header, failed = results(fresh, job, "failedResults")
    assert failed_header == ["sf__Id", "sf__Error", "Id", "Site"]
    assert failed == [gone, "ENTITY_IS_DELETED:entity is deleted: --", gone, "site 40"]
    for spelling in ("unprocessedrecords", "unprocessedRecords"):
        assert results(fresh, job, spelling) == [["Id", "Site"]]
    assert fresh.one("Account", made[3], "Site")["Site"] == "site 3"


def test_an_empty_cell_keeps_and_not_available_clears(fresh: Rest) -> None:
    crm = fresh.crm
    keep, clear = (crm.create("Account", {"Name": n, "Site": "s", "Rating": "Hot"}) for n in "ab")
    content = as_csv(["Id", "Site", "Rating"], [[keep, "", "Cold"], [clear, "#N/A", ""]])

    job = start_ingest(fresh, content)

    assert finished(fresh, job, "ingest")["numberRecordsFailed"] == 0
    kept, cleared = (fresh.one("Account", each, "Site", "Rating") for each in (keep, clear))
    assert (kept["Site"], kept["Rating"]) == ("s", "Cold")
    assert (cleared["Site"], cleared["Rating"]) == (None, "Hot")


def test_awkward_text_survives_the_round_trip(fresh: Rest) -> None:
    account = fresh.crm.create("Account", {"Name": "a"})

    job = start_ingest(fresh, as_csv(["Id", "Description"], [[account, AWKWARD]]))

    assert finished(fresh, job, "ingest")["numberRecordsFailed"] == 0
    assert fresh.one("Account", account, "Description")["Description"] == AWKWARD


@pytest.mark.parametrize(
    ("content", "declared", "message"),
    [
        ("Id,Site\r\n001000000000001,s\r\n", "LF", "LineEnding is invalid on user data"),
        ("Id,Site\n001000000000001,s\n", "CRLF", "LineEnding is invalid on user data"),
        ("\ufeffId,Site\n001000000000001,s\n", "LF", "Field name not found : \ufeffId"),
        ("Id,Nothing\n001000000000001,s\n", "LF", "Field name not found : Nothing"),
        ("Site\ns\n", "LF", "Field name not found : Id"),
        ("Id,Site\n001000000000001\n", "LF", "Failed to parse CSV"),
    ],
)
def test_data_that_is_not_as_declared_fails_the_job(
    api: Rest, content: str, declared: str, message: str
) -> None:
    job = start_ingest(api, content, lineEnding=declared)

    facts = finished(api, job, "ingest")

    assert facts["state"] == "Failed"
    assert message in facts["errorMessage"]
    assert facts["numberRecordsProcessed"] == 0


def test_data_that_is_not_utf_8_fails_the_job(api: Rest) -> None:
    job = start_ingest(api, "Id,Site\n001000000000001,ä\n".encode("latin-1"))

    assert "UTF-8" in finished(api, job, "ingest")["errorMessage"]


def test_a_failed_job_leaves_partial_work_and_the_three_lists_add_up(fresh: Rest) -> None:
    made = fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(10)])
    fresh.crm.admin("fail_jobs", kind="ingest", after_rows=4, message="InternalServerError : x")
    content = as_csv(["Id", "NumberOfEmployees"], [[each, "5"] for each in made[:9]] + [["", "1"]])

    job = start_ingest(fresh, content)
    facts = finished(fresh, job, "ingest")

    lists = ("successfulResults", "failedResults", "unprocessedrecords")
    counts = [len(results(fresh, job, which)) - 1 for which in lists]
    assert (facts["state"], facts["numberRecordsProcessed"]) == ("Failed", 4)
    assert counts == [4, 0, 6]
    written = fresh.rows("SELECT Id FROM Account WHERE NumberOfEmployees = 5")
    assert len(written) == 4


def test_an_aborted_job_keeps_what_it_had_done(fresh: Rest) -> None:
    made = fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(6)])
    fresh.crm.settings(bulk={"held": True})
    job = start_ingest(fresh, as_csv(["Id", "Site"], [[each, "s"] for each in made]))
    fresh.crm.admin("job", id=job, rows=2)
    between = state_of(fresh, job, "ingest")

    aborted = close(fresh, job, "Aborted").json()

    assert between == "InProgress"
    assert (aborted["state"], aborted["numberRecordsProcessed"]) == ("Aborted", 2)
    assert len(results(fresh, job, "unprocessedrecords")) == 5


def test_each_transaction_of_200_refuses_an_id_that_stands_twice(fresh: Rest) -> None:
    account = fresh.crm.create("Account", {"Name": "a"})

    job = start_ingest(fresh, as_csv(["Id", "Site"], [[account, "x"], [account[:15], "y"]]))
    finished(fresh, job, "ingest")

    _, *failed = results(fresh, job, "failedResults")
    assert [row[1].split(":")[0] for row in failed] == ["DUPLICATE_VALUE"] * 2


def test_values_that_do_not_fit_fail_their_row_alone(fresh: Rest) -> None:
    good, bad = (fresh.crm.create("Account", {"Name": name}) for name in "ab")
    content = as_csv(["Id", "NumberOfEmployees"], [[good, "5"], [bad, "many"]])

    job = start_ingest(fresh, content)
    finished(fresh, job, "ingest")

    _, failed = results(fresh, job, "failedResults")
    assert failed[1].startswith("INVALID_TYPE_ON_FIELD_IN_RECORD:")
    assert fresh.one("Account", good, "NumberOfEmployees")["NumberOfEmployees"] == 5


def test_batches_that_share_parents_lock_them_and_sorted_ones_do_not(fresh: Rest) -> None:
    crm = fresh.crm
    crm.settings(bulk={"batch_rows": 10, "parent_lock_share": 1})
    accounts = [crm.create("Account", {"Name": name}) for name in "ab"]
    deals = [crm.create("Opportunity", {"AccountId": accounts[n % 2]}) for n in range(20)]
    by_account = deals[::2] + deals[1::2]

    refused = []
    for order in (deals, by_account):
        content = as_csv(["Id", "NextStep"], [[each, "x"] for each in order])
        job = start_ingest(fresh, content, object="Opportunity")
        refused.append(finished(fresh, job, "ingest")["numberRecordsFailed"])

    assert refused == [20, 0]


def test_upsert_by_external_id_creates_and_updates(fresh: Rest) -> None:
    crm = fresh.crm
    crm.admin("field", object="Account", name="Key__c", type="string", external_id=True)
    crm.create("Account", {"Name": "old", "Key__c": "k1"})
    content = as_csv(["Key__c", "Name"], [["k1", "renamed"], ["k2", "new"]])

    job = start_ingest(fresh, content, operation="upsert", externalIdFieldName="Key__c")
    finished(fresh, job, "ingest")

    _, *good = results(fresh, job, "successfulResults")
    assert sorted((row[1], row[3]) for row in good) == [("false", "renamed"), ("true", "new")]
    rows = fresh.rows("SELECT Name FROM Account ORDER BY Name")
    assert [row["Name"] for row in rows] == ["new", "renamed"]


def test_data_is_uploaded_once_and_only_while_the_job_is_open(fresh: Rest) -> None:
    account = fresh.crm.create("Account", {"Name": "a"})
    content = as_csv(["Id", "Site"], [[account, "s"]])
    job = start_ingest(fresh, None)
    opened = state_of(fresh, job, "ingest")
    put(fresh, job, content)

    second = put(fresh, job, content)
    early = fresh.get(f"jobs/ingest/{job}/successfulResults")
    close(fresh, job)
    late = put(fresh, job, content)

    assert opened == "Open"
    assert second.status_code == early.status_code == late.status_code == 400
    assert error_of(close(fresh, job)) == (400, "INVALIDJOBSTATE")


def test_an_upload_above_the_limit_is_413(fresh: Rest) -> None:
    fresh.crm.settings(bulk={"upload_bytes": 100})
    job = start_ingest(fresh, None)

    assert put(fresh, job, "Id\n" + "x" * 100).status_code == 413


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"object": "Nothing"}, "INVALIDENTITY"),
        ({"operation": "replace"}, "INVALIDJOB"),
        ({"operation": "upsert"}, "INVALIDJOB"),
        ({"operation": "upsert", "externalIdFieldName": "Name"}, "INVALID_FIELD"),
        ({"contentType": "JSON"}, "INVALIDJOB"),
        ({"lineending": "LF"}, "JSON_PARSER_ERROR"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(api: Rest, job: dict[str, str], code: str) -> None:
    answer = api.call(
        "POST", "jobs/ingest", json={"object": "Account", "operation": "update"} | job
    )

    assert error_of(answer) == (400, code)


def test_a_job_in_progress_cannot_be_deleted(fresh: Rest) -> None:
    job = start_ingest(fresh, None)

    assert error_of(fresh.call("DELETE", f"jobs/ingest/{job}")) == (400, "INVALIDJOBSTATE")
    close(fresh, job, "Aborted")
    assert fresh.call("DELETE", f"jobs/ingest/{job}").status_code == 204


def test_simple_salesforce_updates_by_bulk(fresh: Rest) -> None:
    made = fresh.crm.create_many("Account", [{"Name": f"a {n}"} for n in range(3)])
    fresh.crm.settings(bulk={"polls": 0})
    with simple_salesforce(fresh.crm) as client:
        records = [{"Id": each, "Site": "by library"} for each in made]
        (done,) = client.bulk2.Account.update(records=records, wait=0.05)
        successes = client.bulk2.Account.get_successful_records(done["job_id"])
        unprocessed = client.bulk2.Account.get_unprocessed_records(done["job_id"])

    assert (done["numberRecordsProcessed"], done["numberRecordsFailed"]) == (3, 0)
    assert len(table(successes)) == 4
    assert len(table(unprocessed)) == 1
