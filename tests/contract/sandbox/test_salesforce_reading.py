"""Queries, pages, describe and deletions, as strict as the vendor's."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.sandbox.salesforce_rest import (
    OrgAlone,
    Rest,
    error_of,
    fresh_org,
    rest,
    simple_salesforce,
)
from tests.fixtures.sandboxes import Crm

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000\+0000\Z")


@pytest.fixture
def sandbox() -> Iterator[OrgAlone]:
    with fresh_org() as crm:
        yield OrgAlone(crm)


@pytest.fixture(scope="module")
def crm() -> Iterator[Crm]:
    """One org for the tests that only add records of their own."""
    with fresh_org() as crm:
        yield crm


@pytest.fixture(scope="module")
def api(crm: Crm) -> Iterator[Rest]:
    with rest(crm) as speaker:
        yield speaker


@pytest.fixture(scope="module")
def deals(crm: Crm) -> dict[str, str]:
    """Four opportunities of one account, told apart by their names."""
    account = crm.create("Account", {"Name": "Wanted"})
    rows = {
        "small": {"Amount": 10, "CloseDate": "2026-01-31", "StageName": "Prospecting"},
        "Large": {"Amount": 1000.5, "CloseDate": "2026-02-01", "StageName": "Closed Won"},
        "empty": {"CloseDate": "2026-03-01", "StageName": "Closed Lost"},
        "100% sure": {"Amount": -5, "CloseDate": "2026-03-02", "NextStep": "call"},
    }
    return {
        name: crm.create("Opportunity", {"Name": name, "AccountId": account, **fields})
        for name, fields in rows.items()
    }


def names(api: Rest, condition: str, order: str = "Name") -> list[str]:
    soql = (
        "SELECT Name FROM Opportunity "
        f"WHERE Account.Name = 'Wanted' AND ({condition}) ORDER BY {order}"
    )
    return [row["Name"] for row in api.rows(soql)]


# WHERE


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("Name = 'large'", ["Large"]),
        ("Name != 'LARGE' AND Amount > 0", ["small"]),
        ("Amount != 10", ["100% sure", "empty", "Large"]),
        ("NOT Amount > 10", ["100% sure", "empty", "small"]),
        ("Amount = null", ["empty"]),
        ("Amount < 1", ["100% sure"]),
        ("Amount >= 1000.5", ["Large"]),
        ("Name LIKE 'l%'", ["Large"]),
        ("Name LIKE '%0\\%%'", ["100% sure"]),
        ("StageName IN ('closed won', 'Closed Lost')", ["empty", "Large"]),
        ("StageName NOT IN ('closed won', 'Closed Lost')", ["100% sure", "small"]),
        ("NextStep NOT IN ('call')", ["empty", "Large", "small"]),
        ("NextStep = ''", ["empty", "Large", "small"]),
        ("IsWon = true OR IsClosed = false", ["100% sure", "Large", "small"]),
        ("CloseDate >= 2026-02-01 AND CloseDate < 2026-03-02", ["empty", "Large"]),
        ("RecordType.DeveloperName != 'Renewal_Test'", ["100% sure", "empty", "Large", "small"]),
        ("RecordType.DeveloperName = 'Renewal_Test'", []),
        ("SystemModstamp > 2020-01-01T00:00:00Z", ["100% sure", "empty", "Large", "small"]),
        ("CreatedDate < 2020-01-01T00:00:00Z", []),
    ],
)
def test_conditions_select_what_the_vendor_selects(
    api: Rest, deals: dict[str, str], condition: str, found: list[str]
) -> None:
    assert len(deals) == 4
    assert names(api, condition) == found


def test_ids_are_compared_with_case_and_15_characters_do(api: Rest, deals: dict[str, str]) -> None:
    long, short = deals["small"], deals["small"][:15]

    assert names(api, f"Id = '{long}'") == ["small"]
    assert names(api, f"Id IN ('{short}')") == ["small"]
    assert names(api, f"Id = '{short.swapcase()}'") == []
    assert api.rows(f"SELECT Id FROM Opportunity WHERE Id = '{short}'")[0]["Id"] == long


def test_the_case_of_an_18_character_id_is_restored_from_its_checksum(
    api: Rest, deals: dict[str, str]
) -> None:
    lost = deals["small"].lower()[:15] + deals["small"][15:]

    assert names(api, f"Id = '{lost}'") == ["small"]


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("CloseDate = 2026-01-01T00:00:00Z", "INVALID_FIELD"),
        ("SystemModstamp > 2026-01-01", "INVALID_FIELD"),
        ("SystemModstamp > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("Amount > '5'", "INVALID_FIELD"),
        ("Name = 5", "INVALID_FIELD"),
        ("IsWon = 'true'", "INVALID_FIELD"),
        ("Description = 'x'", "INVALID_FIELD"),
        ("Id = 'abc'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("Id LIKE '006%'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("IsWon > false", "INVALID_QUERY_FILTER_OPERATOR"),
        ("Nmae = 'x'", "INVALID_FIELD"),
        ("Ownr.Name = 'x'", "INVALID_FIELD"),
        ("Territory2.Name = 'x'", "INVALID_FIELD"),
        ("Name = 'x' AND IsWon = true OR IsWon = false", "MALFORMED_QUERY"),
    ],
)
def test_literals_and_operators_that_do_not_fit_are_400(
    api: Rest, condition: str, code: str
) -> None:
    assert error_of(api.query(f"SELECT Id FROM Opportunity WHERE {condition}")) == (400, code)


def test_an_unknown_column_is_named_with_its_object(api: Rest) -> None:
    answer = api.query("SELECT Id, Segment__c FROM Opportunity")

    assert error_of(answer) == (400, "INVALID_FIELD")
    assert "No such column 'Segment__c' on entity 'Opportunity'" in answer.json()[0]["message"]


@pytest.mark.parametrize("name", ["CurrencyType", "DatedConversionRate", "Survey__c", "Nonsense"])
def test_objects_the_org_lacks_are_invalid_types(api: Rest, name: str) -> None:
    assert error_of(api.query(f"SELECT Id FROM {name}")) == (400, "INVALID_TYPE")
    assert error_of(api.get(f"sobjects/{name}/describe")) == (404, "NOT_FOUND")


def test_a_single_currency_org_has_no_currency_iso_code(api: Rest) -> None:
    answer = api.query("SELECT CurrencyIsoCode FROM Opportunity")

    assert error_of(answer) == (400, "INVALID_FIELD")
    assert "CurrencyIsoCode" not in api.describe("Opportunity")


def test_a_field_selected_twice_is_refused(api: Rest) -> None:
    assert error_of(api.query("SELECT Id, Name, name FROM Account")) == (400, "INVALID_FIELD")


# Rows


def test_rows_have_the_vendors_shapes(api: Rest, deals: dict[str, str]) -> None:
    (row,) = api.rows(
        "SELECT Id, Amount, Probability, CloseDate, IsWon, NextStep, SystemModstamp, Owner.Name, "
        f"Account.Name, Account.Parent.Name FROM Opportunity WHERE Id = '{deals['Large']}'"
    )

    assert row["attributes"] == {
        "type": "Opportunity",
        "url": f"/services/data/v62.0/sobjects/Opportunity/{deals['Large']}",
    }
    assert (row["Amount"], row["Probability"], row["CloseDate"]) == (1000.5, 100.0, "2026-02-01")
    assert (row["IsWon"], row["NextStep"]) == (True, None)
    assert STAMP.match(row["SystemModstamp"])
    assert row["Owner"]["attributes"]["type"] == "User"
    assert row["Account"]["Name"] == "Wanted"
    assert row["Account"]["Parent"] is None


def test_an_empty_lookup_is_null_and_its_fields_do_not_fail(api: Rest, crm: Crm) -> None:
    lonely = crm.create("Opportunity", {"Name": "lonely"})

    (row,) = api.rows(
        f"SELECT Account.Name, Account.Owner.Name FROM Opportunity WHERE Id = '{lonely}'"
    )

    assert row["Account"] is None


def test_nulls_come_first_unless_asked_otherwise(api: Rest, deals: dict[str, str]) -> None:
    assert len(deals) == 4
    assert names(api, "Id != null", "Amount")[0] == "empty"
    assert names(api, "Id != null", "Amount DESC")[0] == "empty"
    assert names(api, "Id != null", "Amount DESC NULLS LAST") == [
        "Large", "small", "100% sure", "empty",
    ]  # fmt: skip


def test_text_is_ordered_without_regard_to_case(api: Rest, deals: dict[str, str]) -> None:
    assert len(deals) == 4
    assert names(api, "Id != null") == ["100% sure", "empty", "Large", "small"]


def test_without_order_by_rows_come_in_no_order_of_use(api: Rest, crm: Crm) -> None:
    parent = crm.create("Account", {"Name": "parent"})
    made = crm.create_many("Account", [{"Name": str(n), "ParentId": parent} for n in range(150)])

    found = [row["Id"] for row in api.rows(f"SELECT Id FROM Account WHERE ParentId = '{parent}'")]

    assert sorted(found) == sorted(made)
    assert found != made


def test_one_field_of_order_leaves_ties_open(api: Rest, crm: Crm) -> None:
    made = crm.create_many(
        "Opportunity", [{"Name": f"tie {n}"} for n in range(150)], at="2026-05-05T05:05:05Z"
    )
    base = "SELECT Id FROM Opportunity WHERE SystemModstamp = 2026-05-05T05:05:05Z ORDER BY "

    loose = [row["Id"] for row in api.rows(base + "SystemModstamp")]
    exact = [row["Id"] for row in api.rows(base + "SystemModstamp, Id")]

    assert exact == sorted(made)
    assert loose != exact


def test_keyset_pages_over_one_stamp_find_every_row_once(api: Rest, crm: Crm) -> None:
    when = "2026-04-04T04:04:04Z"
    made = crm.create_many("Account", [{"Name": f"key {n}"} for n in range(250)], at=when)
    found: list[str] = []
    last = "001000000000000AAA"
    while page := api.rows(
        f"SELECT Id FROM Account WHERE SystemModstamp = {when} AND Id > '{last}' "
        "ORDER BY Id LIMIT 100"
    ):
        found += [row["Id"] for row in page]
        last = found[-1]

    assert found == made


def test_limit_and_offset_count_and_total_size_is_of_the_whole(
    api: Rest, deals: dict[str, str]
) -> None:
    assert len(deals) == 4
    soql = "SELECT Id FROM Opportunity WHERE Account.Name = 'Wanted' ORDER BY Id"

    assert api.query(soql).json()["totalSize"] == 4
    assert api.query(f"{soql} LIMIT 3 OFFSET 2").json()["totalSize"] == 2
    assert error_of(api.query(f"{soql} LIMIT 1 OFFSET 2001")) == (
        400,
        "NUMBER_OUTSIDE_VALID_RANGE",
    )


def test_count_gives_a_number_and_no_rows(api: Rest, deals: dict[str, str]) -> None:
    assert len(deals) == 4
    answer = api.query("SELECT COUNT() FROM Opportunity WHERE Account.Name = 'Wanted'").json()

    assert answer == {"totalSize": 4, "done": True, "records": []}


# Pages and their cursors


def test_a_batch_size_is_a_hint_and_wide_rows_give_smaller_pages(api: Rest, crm: Crm) -> None:
    crm.create_many("Account", [{"Name": f"page {n}", "Site": "paged"} for n in range(1100)])
    condition = "FROM Account WHERE Site = 'paged'"
    wide = ", ".join(api.describe("Account"))

    def page_of(soql: str, size: int | None = None) -> int:
        headers = {"Sforce-Query-Options": f"batchSize={size}"} if size else {}
        return len(api.query(soql, **headers).json()["records"])

    assert page_of(f"SELECT Id {condition}") == 1100
    assert page_of(f"SELECT Id {condition}", 300) == 300
    assert page_of(f"SELECT Id {condition}", 10) == 200
    assert 200 < page_of(f"SELECT {wide} {condition}", 2000) < 1100
    assert page_of(f"SELECT Description, Parent.Description {condition}") == 200
    assert len(api.rows(f"SELECT Id {condition}")) == 1100


def test_simple_salesforce_follows_pages_with_total_size_of_the_whole(sandbox: OrgAlone) -> None:
    sandbox.salesforce.settings(page_rows=7)
    sandbox.salesforce.create_many("Account", [{"Name": f"a {n}"} for n in range(20)])

    with simple_salesforce(sandbox.salesforce) as client:
        first = client.query("SELECT Id FROM Account ORDER BY Id")
        everything = list(client.query_all_iter("SELECT Id FROM Account ORDER BY Id"))

    assert (first["totalSize"], first["done"], len(first["records"])) == (20, False, 7)
    assert len({row["Id"] for row in everything}) == 20


def test_a_cursor_belongs_to_its_token_and_expires(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.settings(page_rows=2)
    crm.create_many("Account", [{"Name": f"a {n}"} for n in range(5)])
    gone = (400, "INVALID_QUERY_LOCATOR")
    with rest(crm) as api, simple_salesforce(crm) as client, rest(crm, client.session_id) as other:
        place = api.query("SELECT Id FROM Account").json()["nextRecordsUrl"]

        assert re.fullmatch(r"/services/data/v62\.0/query/0r8\w+-2", place)
        assert error_of(other.get(place)) == gone
        assert len(api.get(place).json()["records"]) == 2
        crm.clock(advance=2 * 24 * 3600)
        assert error_of(api.get(place)) == gone
        second = api.query("SELECT Id FROM Account").json()["nextRecordsUrl"]
        crm.settings(expire_locators=True)
        assert error_of(api.get(second)) == gone


def test_an_eleventh_cursor_drops_the_oldest(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.settings(page_rows=1)
    crm.create_many("Account", [{"Name": f"a {n}"} for n in range(2)])
    with rest(crm) as api:
        places = [api.query("SELECT Id FROM Account").json()["nextRecordsUrl"] for _ in range(11)]

        assert error_of(api.get(places[0])) == (400, "INVALID_QUERY_LOCATOR")
        assert api.get(places[1]).status_code == 200


# Time


def test_stamps_are_whole_seconds(api: Rest, crm: Crm) -> None:
    made = crm.create("Account", {"Name": "precise"}, at="2026-01-02T03:04:05.678Z")

    row = api.one("Account", made, "Id", "CreatedDate", "SystemModstamp", "LastModifiedDate")

    assert row["SystemModstamp"] == "2026-01-02T03:04:05.000+0000"
    assert row["CreatedDate"] == row["LastModifiedDate"] == row["SystemModstamp"]
    assert [row["Id"]] == [
        each["Id"]
        for each in api.rows("SELECT Id FROM Account WHERE SystemModstamp = 2026-01-02T03:04:05Z")
    ]


def test_a_row_of_an_open_transaction_is_invisible_and_stamped_before(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.clock(fix="2026-06-01T12:00:00Z")
    kept = crm.create("Account", {"Name": "before"})
    late = crm.create("Account", {"Name": "late"}, commit_after=540)
    crm.edit("Account", kept, {"Name": "after"}, commit_after=540)
    with rest(crm) as api:
        assert [row["Name"] for row in api.rows("SELECT Name FROM Account")] == ["before"]
        crm.clock(advance=540)
        row = api.one("Account", late, "SystemModstamp")

        assert row["SystemModstamp"] == "2026-06-01T12:00:00.000+0000"
        assert api.one("Account", kept, "Name")["Name"] == "after"


# Opportunity history


def history(api: Rest, opportunity: str) -> list[dict[str, object]]:
    return api.rows(
        "SELECT Id, StageName, Amount, Probability, CloseDate, CreatedDate, SystemModstamp "
        f"FROM OpportunityHistory WHERE OpportunityId = '{opportunity}' ORDER BY CreatedDate, Id"
    )


def test_history_has_a_row_at_creation_and_at_each_change_that_counts(api: Rest, crm: Crm) -> None:
    deal = crm.create(
        "Opportunity", {"Name": "h", "StageName": "Prospecting"}, at="2026-01-01T00:00:00Z"
    )
    changes = [
        {"StageName": "Qualification"}, {"Amount": 5}, {"Probability": 33},
        {"CloseDate": "2027-01-01"}, {"Name": "renamed"}, {"Amount": 5},
    ]  # fmt: skip
    for day, change in enumerate(changes, start=2):
        crm.edit("Opportunity", deal, change, at=f"2026-01-{day:02d}T00:00:00Z")

    rows = history(api, deal)

    assert [row["CreatedDate"] for row in rows] == [
        f"2026-01-{day:02d}T00:00:00.000+0000" for day in range(1, 6)
    ]
    assert [row["StageName"] for row in rows] == ["Prospecting", *["Qualification"] * 4]
    assert (rows[-1]["Amount"], rows[-1]["Probability"]) == (5.0, 33.0)


def test_a_superseded_history_row_is_stamped_anew(api: Rest, crm: Crm) -> None:
    deal = crm.create("Opportunity", {"Name": "s"}, at="2026-01-01T00:00:00Z")
    (first,) = history(api, deal)
    crm.edit("Opportunity", deal, {"Amount": 1}, at="2026-02-01T00:00:00Z")
    again, second = history(api, deal)

    assert first["SystemModstamp"] == "2026-01-01T00:00:00.000+0000"
    assert again["Id"] == first["Id"]
    assert again["SystemModstamp"] == second["CreatedDate"] == "2026-02-01T00:00:00.000+0000"


def test_the_stage_decides_closed_won_and_probability(api: Rest, crm: Crm) -> None:
    deal = crm.create("Opportunity", {"Name": "d", "StageName": "Closed Won", "Amount": 50})
    fields = ("IsClosed", "IsWon", "Probability", "ForecastCategoryName", "ExpectedRevenue")

    won = api.one("Opportunity", deal, *fields)
    crm.edit("Opportunity", deal, {"StageName": "Needs Analysis"})
    reopened = api.one("Opportunity", deal, *fields)
    crm.edit("Opportunity", deal, {"StageName": "Nobody Knows"})
    unknown = api.one("Opportunity", deal, "IsClosed", "StageName")

    assert [won[name] for name in fields] == [True, True, 100.0, "Closed", 50.0]
    assert [reopened[name] for name in fields] == [False, False, 20.0, "Pipeline", 10.0]
    assert (unknown["IsClosed"], unknown["StageName"]) == (False, "Nobody Knows")


# Deletion


def test_a_soft_delete_moves_the_stamp_and_shows_in_query_all_only(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.clock(fix="2026-06-01T12:00:00Z")
    deal = crm.create("Opportunity", {"Name": "gone"})
    crm.clock(advance=60)
    crm.delete("Opportunity", deal)
    with rest(crm) as api:
        row = api.one("Opportunity", deal, "IsDeleted", "SystemModstamp")

        assert (row["IsDeleted"], row["SystemModstamp"]) == (True, "2026-06-01T12:01:00.000+0000")
        assert api.rows("SELECT Id FROM Opportunity") == []
        assert error_of(api.get(f"sobjects/Opportunity/{deal}")) == (404, "ENTITY_IS_DELETED")
        crm.clock(advance=60)
        crm.undelete("Opportunity", deal)
        back = api.one("Opportunity", deal, "IsDeleted", "SystemModstamp")
        assert (back["IsDeleted"], back["SystemModstamp"]) == (
            False,
            "2026-06-01T12:02:00.000+0000",
        )
        assert len(history(api, deal)) == 1


def test_a_hard_delete_shows_only_in_deleted(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.clock(fix="2026-06-01T12:00:30Z")
    binned, erased = (crm.create("Account", {"Name": name}) for name in ("binned", "erased"))
    crm.delete("Account", binned)
    crm.erase("Account", erased)
    crm.clock(advance=120)
    window = {"start": "2026-06-01T12:00:00+00:00", "end": "2026-06-01T12:02:00+00:00"}
    with rest(crm) as api:
        assert [r["Id"] for r in api.rows("SELECT Id FROM Account", everything=True)] == [binned]
        listed = api.get("sobjects/Account/deleted/", **window).json()
    with simple_salesforce(crm) as client:
        start, end = (datetime.fromisoformat(window[name]) for name in ("start", "end"))
        by_library = client.Account.deleted(start, end)

    assert {row["id"] for row in listed["deletedRecords"]} == {binned, erased}
    assert {row["deletedDate"] for row in listed["deletedRecords"]} == {
        "2026-06-01T12:00:30.000+0000"
    }
    assert listed["latestDateCovered"] == "2026-06-01T12:02:00.000+0000"
    assert by_library["deletedRecords"] == listed["deletedRecords"]


def test_deleted_covers_time_only_up_to_the_oldest_open_transaction(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.clock(fix="2026-06-01T12:00:30Z")
    account = crm.create("Account", {"Name": "a"})
    crm.delete("Account", account, commit_after=600)
    crm.clock(advance=300)
    window = {"start": "2026-06-01T12:00:00Z", "end": "2026-06-01T12:05:00Z"}
    with rest(crm) as api:
        early = api.get("sobjects/Account/deleted/", **window).json()
        crm.clock(advance=300)
        late = api.get("sobjects/Account/deleted/", **window).json()

    assert (early["deletedRecords"], early["latestDateCovered"]) == (
        [],
        "2026-06-01T12:00:30.000+0000",
    )
    assert late["latestDateCovered"] == "2026-06-01T12:05:00.000+0000"
    assert [row["deletedDate"] for row in late["deletedRecords"]] == [
        "2026-06-01T12:00:30.000+0000"
    ]


def test_emptying_the_bin_leaves_the_time_of_the_deletion(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.clock(fix="2026-06-01T12:00:00Z")
    account = crm.create("Account", {"Name": "a"})
    crm.delete("Account", account)
    crm.clock(advance=3600)
    crm.erase("Account", account)
    crm.clock(advance=3600)
    window = {"start": "2026-06-01T11:00:00Z", "end": "2026-06-01T14:00:00Z"}
    with rest(crm) as api:
        (row,) = api.get("sobjects/Account/deleted/", **window).json()["deletedRecords"]

        assert row == {"id": account, "deletedDate": "2026-06-01T12:00:00.000+0000"}
        assert api.rows("SELECT Id FROM Account", everything=True) == []


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (timedelta(minutes=-1), timedelta()),
        (timedelta(), timedelta(minutes=-5)),
        (timedelta(days=-16), timedelta()),
    ],
)
def test_deleted_refuses_spans_too_short_too_old_or_backwards(
    api: Rest, start: timedelta, end: timedelta
) -> None:
    now = datetime.now(UTC)
    answer = api.get(
        "sobjects/Account/deleted/", start=(now + start).isoformat(), end=(now + end).isoformat()
    )

    assert error_of(answer) == (400, "INVALID_REPLICATION_DATE")


def test_deleted_refuses_a_plus_that_was_not_encoded(api: Rest) -> None:
    raw = "sobjects/Account/deleted/?start=2026-06-01T12:00:00+00:00&end=2026-06-01T13:00:00+00:00"

    assert error_of(api.call("GET", raw)) == (400, "INVALID_REPLICATION_DATE")


def test_a_purged_deletion_log_refuses_earlier_starts(sandbox: OrgAlone) -> None:
    now = datetime.now(UTC)
    sandbox.salesforce.settings(purge_deletion_log=True)
    window = {"start": (now - timedelta(days=1)).isoformat(), "end": now.isoformat()}
    with rest(sandbox.salesforce) as api:
        answer = api.get("sobjects/Account/deleted/", **window)

    assert error_of(answer) == (400, "INVALID_REPLICATION_DATE")


def test_objects_that_are_not_replicated_have_no_deleted_list(api: Rest) -> None:
    now = datetime.now(UTC)
    window = {"start": (now - timedelta(days=1)).isoformat(), "end": now.isoformat()}

    answer = api.get("sobjects/OpportunityHistory/deleted/", **window)

    assert error_of(answer) == (400, "INVALID_TYPE_FOR_OPERATION")


def test_a_merge_marks_the_losers_and_moves_their_children(api: Rest, crm: Crm) -> None:
    winner, loser = (
        crm.create("Account", {"Name": name}, at="2026-01-01T00:00:00Z") for name in ("w", "l")
    )
    deal = crm.create(
        "Opportunity", {"Name": "child", "AccountId": loser}, at="2026-01-01T00:00:00Z"
    )
    crm.merge("Account", winner, [loser])

    lost = api.one("Account", loser, "IsDeleted", "MasterRecordId", "SystemModstamp")
    child = api.one("Opportunity", deal, "AccountId", "SystemModstamp")

    assert (lost["IsDeleted"], lost["MasterRecordId"]) == (True, winner)
    assert lost["SystemModstamp"] > "2026-01-01T00:00:00.000+0000"
    assert api.one("Account", winner, "SystemModstamp")["SystemModstamp"] > "2026-02"
    assert child["AccountId"] == winner
    assert child["SystemModstamp"] == "2026-01-01T00:00:00.000+0000"


# Objects, fields, counts


def test_describe_lists_types_and_who_may_write(api: Rest) -> None:
    fields = api.describe("Opportunity")

    assert (fields["Amount"]["type"], fields["Amount"]["precision"]) == ("currency", 18)
    assert (fields["CloseDate"]["type"], fields["SystemModstamp"]["type"]) == ("date", "datetime")
    assert fields["OwnerId"]["referenceTo"] == ["User"]
    assert fields["Amount"]["updateable"]
    assert not fields["IsWon"]["updateable"]
    assert "Closed Won" in [value["value"] for value in fields["StageName"]["picklistValues"]]
    assert "IsDeleted" not in api.describe("User")


def test_a_hidden_field_vanishes_from_describe_and_queries(sandbox: OrgAlone) -> None:
    crm = sandbox.salesforce
    crm.settings(hide_fields=["Opportunity.Amount"])
    with rest(crm) as api:
        assert "Amount" not in api.describe("Opportunity")
        assert error_of(api.query("SELECT Amount FROM Opportunity")) == (400, "INVALID_FIELD")
        crm.settings(show_fields=["Opportunity.Amount"])
        assert api.describe("Opportunity")["Amount"]["updateable"]


def test_the_standing_rows_of_a_new_org_are_there(api: Rest) -> None:
    (organization,) = api.rows(
        "SELECT Id, TimeZoneSidKey, FiscalYearStartMonth, IsSandbox FROM Organization"
    )
    stages = api.rows(
        "SELECT ApiName, IsClosed, IsWon FROM OpportunityStage WHERE IsActive = true "
        "ORDER BY SortOrder"
    )

    assert organization["Id"].startswith("00D")
    assert organization["FiscalYearStartMonth"] == 1
    assert [s["ApiName"] for s in stages if s["IsClosed"]] == ["Closed Won", "Closed Lost"]
    assert api.rows("SELECT Id FROM RecordType") == []


def test_record_counts_name_each_object(api: Rest, deals: dict[str, str]) -> None:
    listed = api.get("limits/recordCount", sObjects="Opportunity,RecordType").json()["sObjects"]
    counts = {each["name"]: each["count"] for each in listed}

    assert counts["Opportunity"] >= len(deals)
    assert counts["RecordType"] == 0


def test_one_record_is_read_by_id_with_chosen_fields(api: Rest, deals: dict[str, str]) -> None:
    row = api.get(f"sobjects/Opportunity/{deals['small'][:15]}", fields="Name,Amount").json()

    assert (row["Name"], row["Amount"]) == ("small", 10.0)
    assert set(row) == {"attributes", "Name", "Amount"}
    assert error_of(api.get("sobjects/Opportunity/006000000000000AAA")) == (404, "NOT_FOUND")
