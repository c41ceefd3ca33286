"""Salesforce alone: sessions, cursors, windows, deletions and limits of its queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from connectors.base import FieldSource, PushOutcome, StreamSettings
from connectors.contract.copies import Copy, outcomes, stream_of
from connectors.contract.org import QUICK
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    OrgChanged,
    QuotaExhausted,
    RateLimited,
)
from connectors.registry import connect
from connectors.salesforce.connector import SalesforceConnector
from store.canonical import Deal, Stage
from tests.contract.connectors.salesforce_org import CLIENT, SalesforceOrg
from tests.fixtures.sandboxes import Crm, Sandbox, launch

TOKEN = {"flow": "token", "access_token": "sandbox-token"}
NAMES = [f"Account {number:04}" for number in range(450)]


@pytest.fixture
def org(sandbox: Sandbox) -> SalesforceOrg:
    return SalesforceOrg(sandbox.salesforce)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """One sandbox for tests that leave nothing behind."""
    started = launch()
    org = SalesforceOrg(started.salesforce)
    org.add_deals(1, account=org.add_accounts(["Account 0001"])[0])
    yield started
    started.end()


@pytest.fixture
def quiet_org(running: Sandbox) -> SalesforceOrg:
    """An org with one account and one deal, of which nothing has been asked yet."""
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.forget()
    return org


def paths(crm: Crm, part: str) -> list[str]:
    """Addresses served so far that contain a part, with their queries."""
    every = [f"{entry['path']}?{entry['query']}" for entry in crm.requests()]
    return [path for path in every if part in path]


def faulty_query(org: SalesforceOrg, answer: object, **how: object) -> None:
    """Serve this answer to the next keyset query."""
    org.crm.fault(
        "status", **{"status": 200, "path": "ORDER BY", "body": json.dumps(answer), **how}
    )


# ---------------------------------------------------------------- sessions


def test_a_token_revoked_between_pages_is_renewed_once(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    connector = connect(org.settings())
    copy = Copy()

    for number, page in enumerate(connector.pull(stream_of(connector, "accounts"), None)):
        copy.take(page)
        if number == 0:
            org.crm.settings(revoke_tokens=True)

    assert copy.names() == set(NAMES)
    assert len(paths(org.crm, "oauth2/token")) == 2


@pytest.mark.parametrize("body", ["<html>No</html>", '{"error": "invalid_session"}', "[]"])
def test_a_token_that_is_always_refused_is_not_renewed_for_ever(
    quiet_org: SalesforceOrg, body: str
) -> None:
    connector = connect(quiet_org.settings())
    quiet_org.crm.fault("status", status=401, times="forever", path="/services/data", body=body)

    with pytest.raises(AuthenticationFailed, match="fresh token"):
        Copy().pull(connector, "accounts")

    assert len(paths(quiet_org.crm, "oauth2/token")) == 2


def test_a_ready_token_reads(quiet_org: SalesforceOrg) -> None:
    quiet_org.add_accounts(["Account 0001"])
    auth = {**TOKEN, "instance_url": "https://acme.my.salesforce.com"}
    copy = Copy()

    copy.pull(connect(quiet_org.settings(auth=auth)), "accounts")

    assert copy.names() == {"Account 0001"}
    assert paths(quiet_org.crm, "oauth2/token") == []


def test_a_refused_ready_token_says_what_to_do(quiet_org: SalesforceOrg) -> None:
    auth = {**TOKEN, "access_token": "wrong-secret", "instance_url": "acme.my.salesforce.com"}

    report = connect(quiet_org.settings(auth=auth)).check()

    assert "auth.access_token" in report.problems[0].message
    assert "wrong-secret" not in repr(report)


@pytest.mark.parametrize("domain", ["", "login", "https://test.salesforce.com"])
def test_client_credentials_without_my_domain_are_explained_without_a_call(
    quiet_org: SalesforceOrg, domain: str
) -> None:
    report = connect(quiet_org.settings(auth={**CLIENT, "domain": domain})).check()

    assert "My Domain" in report.problems[0].message
    assert quiet_org.crm.requests() == []


def test_a_login_that_fails_for_now_is_tried_again(quiet_org: SalesforceOrg) -> None:
    quiet_org.crm.fault("html", status=502, path="oauth2/token")

    assert connect(quiet_org.settings()).check().is_ok


def test_a_login_page_in_place_of_a_token_is_no_wrong_password(quiet_org: SalesforceOrg) -> None:
    quiet_org.crm.fault("html", status=200, path="oauth2/token", times="forever")

    with pytest.raises(MalformedAnswer, match=r"auth\.domain"):
        Copy().pull(connect(quiet_org.settings()), "accounts")


def test_the_login_itself_tells_the_org(quiet_org: SalesforceOrg) -> None:
    connector = connect(quiet_org.settings())
    assert isinstance(connector, SalesforceConnector)

    org_id = connector.org_id()

    assert org_id is not None
    assert (org_id[:3], len(org_id), connector.calls.made) == ("00D", 18, 1)
    assert connector.check().org_id == org_id


def test_a_redirect_is_not_followed(quiet_org: SalesforceOrg) -> None:
    elsewhere = {"Location": f"{quiet_org.crm.url}/elsewhere"}
    quiet_org.crm.fault("status", status=302, headers=elsewhere, path="describe", times="forever")

    with pytest.raises(MisconfiguredConnection, match="another address"):
        Copy().pull(connect(quiet_org.settings()), "accounts")

    assert paths(quiet_org.crm, "elsewhere") == []


def test_a_cursor_of_another_org_is_refused(org: SalesforceOrg) -> None:
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    org.crm.settings(org_id="00DxX0000000999")

    with pytest.raises(OrgChanged, match="00DxX0000000999"):
        copy.pull(connect(org.settings()), "accounts")


# ---------------------------------------------------------------- pages and queries


def test_pages_smaller_than_asked_for_are_followed(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    org.crm.settings(page_rows=70)
    copy = Copy()

    pages = copy.pull(connect(org.settings()), "accounts")

    assert copy.names() == set(NAMES)
    assert pages > 6


def test_a_query_that_salesforce_forgot_goes_on_from_the_last_row(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    org.crm.settings(page_rows=70)
    connector = connect(org.settings())
    read: list[str] = []

    for page in connector.pull(stream_of(connector, "accounts"), None):
        read.extend(record.ref.native_id for record in page.records)
        org.crm.settings(expire_locators=True)

    assert len(read) == len(set(read)) == 450


def test_a_tie_is_drained_after_any_kill(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES, at=org.crm.clock(advance=-3600))
    org.crm.clock(advance=3600)
    org.crm.settings(page_rows=90)
    copy = Copy()

    while copy.complete_until is None:
        copy.pull(connect(org.settings()), "accounts", pages=1)

    assert copy.names() == set(NAMES)


def test_a_row_edited_while_we_read_is_not_missed(org: SalesforceOrg) -> None:
    ids = org.add_accounts(NAMES)
    org.crm.clock(advance=3600)
    connector = connect(org.settings())
    copy = Copy()

    for number, page in enumerate(connector.pull(stream_of(connector, "accounts"), None)):
        copy.take(page)
        if number == 0:
            for last in ids[-3:]:
                org.rename_account(last, f"moved {last}")

    assert set(copy.records) == set(ids)
    assert {f"moved {last}" for last in ids[-3:]} < copy.names()


def test_a_query_that_is_too_heavy_is_split(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    heavy = [{"errorCode": "QUERY_TIMEOUT", "message": "Your query ran too long."}]
    faulty_query(org, heavy, status=400, times=3)
    copy = Copy()

    copy.pull(connect(org.settings()), "accounts")

    assert copy.names() == set(NAMES)


def test_a_query_that_stays_too_heavy_is_a_fault_not_no_rows(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    heavy = [{"errorCode": "QUERY_TIMEOUT", "message": "Your query ran too long."}]
    faulty_query(org, heavy, status=400, times="forever")

    paged = {"accounts": StreamSettings(api="rest")}

    with pytest.raises(CrmUnavailable, match="where"):
        Copy().pull(connect(org.settings(streams=paged)), "accounts")


def test_fewer_rows_than_salesforce_counts_are_not_complete(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    org.crm.clock(advance=86_400)
    faulty_query(org, {"totalSize": 0, "done": True, "records": []}, times="forever")

    with pytest.raises(MalformedAnswer, match="450"):
        Copy().pull(connect(org.settings()), "accounts")


COLUMNS = (
    "AnnualRevenue BillingCountry CreatedDate CurrencyIsoCode IsDeleted IsPersonAccount"
    " MasterRecordId Industry Name NumberOfEmployees OwnerId ParentId Type Website"
)
ROW = dict.fromkeys(COLUMNS.split()) | {
    "Id": "001000000000001AAA",
    "SystemModstamp": "2026-01-02T00:00:00.000+0000",
}
EARLIER = ROW | {"Id": "001000000000002AAA", "SystemModstamp": "2026-01-01T00:00:00.000+0000"}
NAMELESS = {name: value for name, value in ROW.items() if name != "Name"}


@pytest.mark.parametrize(
    "answer",
    [
        {"totalSize": 2, "done": True, "records": [ROW, EARLIER]},
        {"totalSize": 1, "done": True, "records": [{"Id": "001000000000001AAA"}]},
        {"totalSize": 1, "done": True, "records": [NAMELESS]},
        {"totalSize": 2, "done": True, "records": [ROW, None]},
        {"totalSize": 2, "done": True, "records": [ROW, {"Name": "Account 0001"}]},
        {"totalSize": 1, "done": True},
        {"totalSize": 1, "records": [ROW]},
        {"totalSize": 1, "done": False, "records": [ROW]},
        {"totalSize": 1, "done": False, "records": [ROW], "nextRecordsUrl": "https://x.example/"},
        {"totalSize": 1, "done": False, "records": [ROW], "nextRecordsUrl": "@x.example/services"},
        [],
        "no",
    ],
)
def test_an_answer_that_cannot_be_trusted_is_refused(
    quiet_org: SalesforceOrg, answer: object
) -> None:
    faulty_query(quiet_org, answer, times="forever")

    with pytest.raises(MalformedAnswer):
        Copy().pull(connect(quiet_org.settings()), "accounts")


def test_a_whole_answer_is_believed(quiet_org: SalesforceOrg) -> None:
    faulty_query(quiet_org, {"totalSize": 1, "done": True, "records": [ROW]})
    copy = Copy()

    copy.pull(connect(quiet_org.settings()), "accounts")

    assert "001000000000001AAA" in copy.records


def test_a_column_that_does_not_come_is_not_taken_for_null(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    answer = {"totalSize": 1, "done": True, "records": [NAMELESS]}
    faulty_query(org, answer, times="forever")

    with pytest.raises(MalformedAnswer, match="rows lack Name"):
        Copy().pull(connect(org.settings()), "accounts")


def test_many_columns_are_read_in_several_queries(org: SalesforceOrg) -> None:
    names = [f"A_rather_long_name_of_a_field_{number:03}__c" for number in range(320)]
    for name in names:
        org.crm.add_field("Account", name, "text")
    (account, other) = org.add_accounts(["Account 0001", "Account 0002"])
    org.crm.edit("Account", account, {names[0]: "first", names[-1]: "last"})
    mapping = {f"x_{name}": FieldSource(name) for name in names}
    settings = org.settings(streams={"accounts": StreamSettings(fields=mapping)})
    copy = Copy()

    copy.pull(connect(settings), "accounts")

    extra = copy.records[account].extra
    assert (extra[f"x_{names[0]}"], extra[f"x_{names[-1]}"]) == ("first", "last")
    assert len(copy.records[other].extra) == 320
    assert max(len(path) for path in paths(org.crm, "SELECT")) < 16_384


def test_own_filter_is_added(org: SalesforceOrg) -> None:
    org.add_accounts(["in", "out"])
    where = StreamSettings(where="Name = 'in' OR Name = 'also in'")
    copy = Copy()

    copy.pull(connect(org.settings(streams={"accounts": where})), "accounts")

    assert copy.names() == {"in"}


def test_a_wrong_filter_is_named_by_its_place(quiet_org: SalesforceOrg) -> None:
    where = StreamSettings(where="Nonsense = 'in'")
    connector = connect(quiet_org.settings(streams={"accounts": where}))

    problems = connector.check().problems

    assert [problem.place for problem in problems if problem.is_error] == [
        "connections.salesforce.streams.accounts.where"
    ]
    with pytest.raises(MisconfiguredConnection, match="where"):
        Copy().pull(connector, "accounts")


def test_a_column_hidden_between_two_pages_does_not_stop_the_stream(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    connector = connect(org.settings())
    copy = Copy()

    for number, page in enumerate(connector.pull(stream_of(connector, "accounts"), None)):
        copy.take(page)
        if number == 0:
            org.crm.settings(hide_fields=["Account.Industry"])

    assert copy.names() == set(NAMES)
    assert [text for text in copy.warnings if "Account.Industry" in text]


# ---------------------------------------------------------------- limits


def test_retry_after_is_honoured(quiet_org: SalesforceOrg) -> None:
    waits: list[float] = []
    tuning = replace(QUICK, retry_wait_max=timedelta(seconds=5))
    settings = replace(
        quiet_org.settings(tuning=tuning), on_wait=lambda _reason, seconds: waits.append(seconds)
    )
    quiet_org.crm.fault("status", status=503, headers={"Retry-After": "1"}, path="describe")

    Copy().pull(connect(settings), "accounts")

    assert [round(seconds) for seconds in waits] == [1]


def test_a_long_wait_is_handed_to_the_caller(quiet_org: SalesforceOrg) -> None:
    quiet_org.crm.fault("status", status=503, headers={"Retry-After": "600"}, path="describe")

    with pytest.raises(RateLimited) as caught:
        Copy().pull(connect(quiet_org.settings()), "accounts")

    assert caught.value.wait_seconds == 600


def test_reading_stops_before_the_orgs_calls_are_used_up(org: SalesforceOrg) -> None:
    org.add_accounts(NAMES)
    connector = connect(org.settings())
    copy = Copy()
    copy.pull(connector, "accounts", pages=1)
    org.crm.settings(daily_calls_max=100, daily_calls_used=90)
    before = connector.calls.made

    with pytest.raises(QuotaExhausted, match="90%"):
        copy.pull(connector, "accounts")
    with pytest.raises(QuotaExhausted):
        copy.pull(connector, "accounts")

    assert connector.calls.made == before + 1
    assert outcomes(connector.push([org.update("001000000000001AAA", 1)])) == [PushOutcome.GONE]


def test_a_crm_that_is_down_is_asked_as_often_as_configured(quiet_org: SalesforceOrg) -> None:
    waits: list[str] = []
    settings = replace(
        quiet_org.settings(base_url="http://127.0.0.1:9"),
        on_wait=lambda reason, _seconds: waits.append(reason),
    )
    connector = connect(settings)

    with pytest.raises(CrmUnavailable):
        Copy().pull(connector, "accounts")

    assert (len(waits), connector.calls.made) == (4, 5)


# ---------------------------------------------------------------- deletions and late commits


def test_the_bin_is_read_as_deleted_records(org: SalesforceOrg) -> None:
    kept, deleted = org.add_accounts(["kept", "deleted"])
    org.delete_account(deleted)
    copy = Copy()

    copy.pull(connect(org.settings()), "accounts")

    assert {key: record.deleted for key, record in copy.records.items()} == {
        kept: False,
        deleted: True,
    }


def test_a_row_stamped_nine_minutes_before_its_commit_is_not_lost(org: SalesforceOrg) -> None:
    org.crm.clock(fix=True)
    org.crm.clock(advance=-540)
    stamped = org.crm.clock(advance=0)
    org.crm.clock(advance=540)
    org.add_accounts(["late"], at=stamped, commit_after=30)
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    before = copy.names()
    org.crm.clock(advance=60)

    copy.pull(connect(org.settings()), "accounts")

    assert before == set()
    assert copy.names() == {"late"}


def test_a_purged_log_of_deletions_is_a_warning(org: SalesforceOrg) -> None:
    org.add_accounts(["Account 0001"])
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    org.crm.clock(advance=7200)
    org.crm.settings(purge_deletion_log=True)

    copy.pull(connect(org.settings()), "accounts")

    assert copy.complete_until is not None
    assert [text for text in copy.warnings if "deleted for good" in text]


def test_deletions_too_many_for_one_answer_are_asked_for_in_halves(org: SalesforceOrg) -> None:
    ids = org.add_accounts([f"Account {number}" for number in range(14)])
    org.crm.clock(advance=7200)
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    for record_id in ids[:12]:
        org.crm.clock(advance=300)
        org.crm.erase("Account", record_id)
    org.crm.settings(replication_ids_max=5)
    org.crm.clock(advance=3600)

    copy.pull(connect(org.settings()), "accounts")

    assert set(copy.live) == set(ids[12:])
    assert len(paths(org.crm, "/deleted/")) > 3


def test_a_first_load_has_no_hidden_start_date(org: SalesforceOrg) -> None:
    org.add_accounts(["old"], at="2001-02-03T04:05:06Z")
    copy = Copy()

    copy.pull(connect(org.settings()), "accounts")

    assert copy.names() == {"old"}


def test_a_record_deleted_and_taken_back_is_live(org: SalesforceOrg) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    org.crm.clock(advance=3600)
    org.delete_account(account)
    org.crm.undelete("Account", account)
    org.crm.clock(advance=3600)

    copy.pull(connect(org.settings()), "accounts")

    assert set(copy.live) == {account}


def test_the_log_of_deletions_is_no_proof(org: SalesforceOrg) -> None:
    live, erased = org.add_accounts(["live", "erased"])
    org.crm.clock(advance=3600)
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    org.crm.clock(advance=3600)
    org.crm.erase("Account", erased)
    covered = org.crm.clock(advance=3600)
    told = [{"id": each, "deletedDate": covered} for each in (live, erased)]
    log = {"deletedRecords": told, "earliestDateAvailable": covered, "latestDateCovered": covered}
    org.crm.fault("status", status=200, path="/deleted/", body=json.dumps(log))

    copy.pull(connect(org.settings()), "accounts")

    assert set(copy.live) == {live}


def test_deletions_told_late_are_asked_for_again(org: SalesforceOrg) -> None:
    kept, erased = org.add_accounts(["kept", "erased"])
    copy = Copy()
    copy.pull(connect(org.settings()), "accounts")
    covered = org.crm.clock(advance=3600)
    org.crm.erase("Account", erased)
    org.crm.clock(advance=3600)
    log = {"deletedRecords": [], "earliestDateAvailable": covered, "latestDateCovered": covered}
    org.crm.fault("status", status=200, path="/deleted/", body=json.dumps(log))
    copy.pull(connect(org.settings()), "accounts")
    before = set(copy.live)
    org.crm.clock(advance=3600)

    copy.pull(connect(org.settings()), "accounts")

    assert before == {kept, erased}
    assert set(copy.live) == {kept}


def test_a_clock_set_back_opens_no_gap(org: SalesforceOrg) -> None:
    copy = Copy()
    org.crm.clock(advance=7200)
    copy.pull(connect(org.settings()), "accounts")
    org.crm.clock(advance=-7200)
    org.add_accounts(["in the gap"])
    org.crm.clock(advance=60)

    copy.pull(connect(org.settings()), "accounts")

    assert copy.names() == {"in the gap"}


def test_an_unreadable_cursor_names_the_way_out(quiet_org: SalesforceOrg) -> None:
    copy = Copy()
    copy.pull(connect(quiet_org.settings()), "accounts")
    assert copy.cursor is not None
    copy.cursor = type(copy.cursor)(copy.cursor.replace("done", "elsewhere"))

    with pytest.raises(MisconfiguredConnection, match="--full"):
        copy.pull(connect(quiet_org.settings()), "accounts")


# ---------------------------------------------------------------- meaning


def test_deals_mean_what_salesforce_means(org: SalesforceOrg) -> None:
    (open_deal, won) = org.add_deals(2)
    org.crm.edit("Opportunity", open_deal, {"Type": "Existing Customer - Upgrade"})
    org.crm.edit("Opportunity", open_deal, {"StageName": "Qualification"})
    org.crm.edit("Opportunity", won, {"Type": "Something else", "CloseDate": "2026-03-29"})
    org.win(won)
    copy, stages = Copy(), Copy()

    copy.pull(connect(org.settings()), "deals")
    stages.pull(connect(org.settings()), "stages")

    first, second = copy.records[open_deal], copy.records[won]
    assert isinstance(first, Deal)
    assert isinstance(second, Deal)
    assert (first.kind, second.kind) == ("upsell", "other")
    assert (first.probability, second.probability) == (Decimal("0.1"), Decimal(1))
    assert second.close_date == date(2026, 3, 29)
    assert first.closed_at is None
    assert second.closed_at is not None
    assert first.pipeline == "salesforce:default"
    stage = stages.records["Closed Won"]
    assert isinstance(stage, Stage)
    assert second.stage == stage.ref.key
    assert (stage.is_closed, stage.is_won, stage.position) == (True, True, 9)


def test_parent_fields_are_read_by_their_path(org: SalesforceOrg) -> None:
    (account,) = org.add_accounts(["Account 0001"])
    org.crm.edit("Account", account, {"Industry": "Mining"})
    (with_account, without) = org.add_deals(1, account=account) + org.add_deals(1)
    mapping = {"segment": FieldSource("account.industry")}
    copy = Copy()

    copy.pull(connect(org.settings(streams={"deals": StreamSettings(fields=mapping)})), "deals")

    assert {key: getattr(deal, "segment", "") for key, deal in copy.records.items()} == {
        with_account: "Mining",
        without: None,
    }


def test_surveys_without_an_object_are_refused_by_their_place(quiet_org: SalesforceOrg) -> None:
    connector = connect(quiet_org.settings(streams={"survey_responses": StreamSettings()}))

    with pytest.raises(MisconfiguredConnection, match=r"survey_responses\.object.*score"):
        connector.streams()
