"""What users of other tools complain about, as symptoms that must not appear (reading)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.base import FieldSource, ListsIds, StreamSettings
from connectors.contract.copies import Copy, stream_of
from connectors.contract.org import QUICK
from connectors.errors import CrmUnavailable, MalformedAnswer, QuotaExhausted
from connectors.registry import connect
from store.canonical import Account, Deal
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Fields, Sandbox
from tests.pipeline.worker.site import Site
from worker.observe import configure_logging
from worker.results import State

LARGE = replace(QUICK, page_size=None)
"""Pages as large as Salesforce allows."""
DEAL: Fields = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2026-12-31", "Amount": 5}


@pytest.fixture
def org(sandbox: Sandbox) -> SalesforceOrg:
    return SalesforceOrg(sandbox.salesforce)


@dataclass(frozen=True)
class StoredOrg(Site):
    """An installation that reads Salesforce alone, with streams of one's own."""

    streams: str = "{accounts: {}, deals: {}}"

    def text(self) -> str:
        before, _, after = super().text().partition("    streams: ")
        return f"{before}    streams: {self.streams}\n{after.partition(chr(10))[2]}"


@pytest.fixture
def stored(sandbox: Sandbox, tmp_path: Path, sqlite_database: str) -> Callable[[str], StoredOrg]:
    """Installations on the sandbox, by their streams."""
    configure_logging(is_quiet=True)

    def site(streams: str) -> StoredOrg:
        made = StoredOrg(tmp_path, sandbox, sqlite_database, crms=("salesforce",), streams=streams)
        made.with_fields()
        return made

    return site


def reading_calls(org: SalesforceOrg) -> list[str]:
    """Calls of the API so far, without logins."""
    entries = org.crm.requests()
    return [str(one["path"]) for one in entries if "/services/data" in str(one["path"])]


# ---------------------------------------------------------------- rows that never come


def test_rows_committed_minutes_after_they_were_stamped_are_not_lost(org: SalesforceOrg) -> None:
    connector = connect(org.settings())
    copy = Copy()
    org.crm.clock(advance=3600)
    late = org.add_accounts(["late"], commit_after=600)
    org.crm.clock(advance=540)
    copy.pull(connector, "accounts")
    assert copy.names() == set()
    org.crm.clock(advance=120)

    copy.pull(connector, "accounts")

    assert set(copy.live) == set(late)


def test_more_rows_of_one_second_than_a_page_are_neither_skipped_nor_read_for_ever(
    org: SalesforceOrg,
) -> None:
    fields = {"Name": "Account #"}
    org.crm.admin("generate", object="Account", count=5000, fields=fields, days=0)
    org.crm.clock(advance=86_400)
    org.crm.settings(page_rows=200)
    settings = org.settings(
        tuning=replace(QUICK, page_size=600), streams={"accounts": StreamSettings(api="rest")}
    )
    copy, read = Copy(), 0

    for stop in [1, 2, 3, 5, 7, 100]:
        connector = connect(settings)
        before = len(copy.records)
        copy.pull(connector, "accounts", pages=stop)
        read += len(copy.records) - before

    org.crm.forget()
    undisturbed = Copy()
    undisturbed.pull(connect(settings), "accounts")

    assert copy.complete_until is not None
    assert len(copy.records) == read == 5000
    assert undisturbed.records == copy.records
    assert len(reading_calls(org)) < 50


def test_a_full_load_that_lost_rows_on_the_way_is_a_failed_run(
    stored: Callable[[str], StoredOrg], org: SalesforceOrg
) -> None:
    contact = org.crm.create("Contact", {"LastName": "Contact 1"})
    deals = org.add_deals(30)
    roles = [{"OpportunityId": deal, "ContactId": contact} for deal in deals]
    org.crm.create_many("OpportunityContactRole", roles)
    org.crm.clock(advance=86_400)
    # 7 of 30 rows, and an answer that says that this is all.
    short = _short_answer(org, rows=7)
    how = {"status": 200, "path": "ORDER BY", "body": short}
    org.crm.fault("status", **how, times="forever")
    site = stored("{deals: {}}")

    result = site.pull("salesforce", "deal_contacts")

    assert result.state is State.FAILED
    assert "30" in str(result.error)


def _short_answer(org: SalesforceOrg, *, rows: int) -> str:
    records = [
        {
            "Id": row["id"],
            "SystemModstamp": str(row["modified"]).replace("Z", "+0000"),
            "CreatedDate": str(row["created"]).replace("Z", "+0000"),
            "IsDeleted": False,
            "Role": None,
            "IsPrimary": False,
            **{name: value for name, value in _fields_of(row).items() if name.endswith("Id")},
        }
        for row in org.crm.snapshot()["OpportunityContactRole"][:rows]
    ]
    return json.dumps({"totalSize": rows, "done": True, "records": records})


def _fields_of(row: dict[str, object]) -> dict[str, object]:
    fields = row["fields"]
    assert isinstance(fields, dict)
    return fields


@pytest.mark.parametrize("code", ["QUERY_TIMEOUT", "QUERY_TOO_COMPLICATED", "OPERATION_TOO_LARGE"])
def test_a_query_that_runs_too_long_is_no_success_with_no_rows(
    org: SalesforceOrg, code: str
) -> None:
    names = [f"Account {number}" for number in range(40)]
    org.add_accounts(names)
    org.crm.clock(advance=86_400)
    heavy = json.dumps([{"errorCode": code, "message": "too much"}])
    settings = org.settings(streams={"accounts": StreamSettings(api="rest")})
    org.crm.fault("status", status=400, path="ORDER", body=heavy, times=3)
    split = Copy()
    split.pull(connect(settings), "accounts")
    before = split.cursor
    org.crm.fault("status", status=400, path="ORDER", body=heavy, times="forever")

    with pytest.raises(CrmUnavailable, match=code):
        split.pull(connect(settings), "accounts")

    assert split.names() == set(names)
    assert split.cursor == before


# ---------------------------------------------------------------- what is gone, stale, hidden


def test_campaign_members_removed_without_a_trace_do_not_stay_for_ever(
    stored: Callable[[str], StoredOrg], org: SalesforceOrg
) -> None:
    campaign = org.crm.create("Campaign", {"Name": "Campaign 1"})
    contacts = org.crm.create_many("Contact", [{"LastName": f"Contact {n}"} for n in range(12)])
    rows = [{"CampaignId": campaign, "ContactId": contact} for contact in contacts]
    members = org.crm.create_many("CampaignMember", rows)
    site = stored("{campaign_members: {}}")
    site.pull("salesforce", "campaign_members")
    org.crm.erase("CampaignMember", members[:3])
    org.crm.settings(purge_deletion_log=True)

    increment = site.pull("salesforce", "campaign_members")
    still = site.count("campaign_members")
    org.crm.forget()
    reconciled = site.pull("salesforce", "campaign_members", reconcile=True)

    assert (increment.stored, still) == (0, 12)
    assert reconciled.state is State.OK
    assert site.count("campaign_members") == 9
    listing = [one for one in org.crm.requests() if "SELECT+Id+FROM" in str(one["query"])]
    assert listing


def test_formulas_that_change_without_a_trace_do_not_go_stale(org: SalesforceOrg) -> None:
    (account,) = org.add_accounts(["Parent"])
    org.crm.admin("field", object="Account", name="Tier__c", type="string")
    formula = {"path": "Account.Tier__c"}
    org.crm.admin("field", object="Opportunity", name="Tier__c", type="string", formula=formula)
    deal = org.crm.create("Opportunity", {**DEAL, "AccountId": account})
    fields = {"x_tier": FieldSource("Tier__c"), "region": FieldSource("Account.Tier__c")}
    settings = org.settings(streams={"deals": StreamSettings(fields=fields)})
    org.crm.clock(advance=86_400)
    copy = Copy()
    copy.pull(connect(settings), "deals")
    org.crm.edit("Account", account, {"Tier__c": "gold"})

    org.crm.clock(advance=3600)
    copy.pull(connect(settings), "deals")
    early = copy.records[deal]
    org.crm.clock(advance=86_400)
    copy.pull(connect(settings), "deals")

    late = copy.records[deal]
    assert isinstance(early, Deal)
    assert isinstance(late, Deal)
    assert (early.extra["x_tier"], late.extra["x_tier"], late.region) == (None, "gold", "gold")
    (warning,) = [text for text in set(copy.warnings) if "Tier__c" in text]
    assert "read again every" in warning


def test_a_plan_warns_of_formulas_and_parents_fields_behind_what_it_writes(
    stored: Callable[[str], StoredOrg], org: SalesforceOrg
) -> None:
    (account,) = org.add_accounts(["Parent"])
    org.crm.admin("field", object="Account", name="Tier__c", type="string")
    formula = {"roll_up": {"object": "OpportunityLineItem", "link": "OpportunityId",
                           "function": "sum", "of": "TotalPrice"}}  # fmt: skip
    org.crm.admin("field", object="Opportunity", name="Sum__c", type="currency", formula=formula)
    org.crm.create("Opportunity", {**DEAL, "StageName": "Closed Won", "AccountId": account})
    site = stored("{accounts: {}, deals: {fields: {amount: Sum__c, region: Account.Tier__c}}}")
    site.pull_all("salesforce")
    site.compute()

    plan = site.plan()

    (note,) = plan.notes
    assert "KPI_Revenue__c" in note
    assert "KPI_Win_Rate__c" not in note  # counts deals, not amounts
    assert "Opportunity.Sum__c" in note
    assert "advanced.sweep" in note
    assert plan.to_json()["notes"] == [note]
    regional = site.but(
        more="", streams="{accounts: {}, deals: {fields: {region: Account.Tier__c}}}"
    )
    regional.pull_all("salesforce")
    regional.compute()
    assert regional.plan().notes == ()


def test_a_column_whose_permission_is_lost_is_not_silently_emptied(
    stored: Callable[[str], StoredOrg], org: SalesforceOrg
) -> None:
    org.crm.create("Account", {"Name": "Account 1", "Industry": "Energy"})
    site = stored("{accounts: {}, deals: {}}")
    site.pull("salesforce", "accounts")
    org.crm.settings(hide_fields=["Account.Industry", "Opportunity.Amount"])
    org.crm.clock(advance=3600)
    org.crm.create("Account", {"Name": "Account 2"})

    accounts = site.pull("salesforce", "accounts")
    deals = site.pull("salesforce", "deals")

    known = {one.industry for one in site.stored()["accounts"] if isinstance(one, Account)}
    assert "Energy" in known
    assert any("Account.Industry" in text for text in accounts.warnings)
    assert deals.state is State.PAUSED
    assert any("Opportunity.Amount" in text for text in deals.warnings)


def test_a_new_field_is_there_at_the_next_run_and_filled_for_all_rows(
    stored: Callable[[str], StoredOrg], org: SalesforceOrg
) -> None:
    ids = org.add_accounts([f"Account {number}" for number in range(20)])
    # Beyond the overlap that every increment reads again.
    org.crm.clock(advance=86_400)
    site = stored("{accounts: {fields: {segment: Segment__c}}}")
    first = site.pull("salesforce", "accounts")
    org.crm.add_field("Account", "Segment__c", "text")
    org.crm.admin("put_silently", object="Account", ids=ids, fields={"Segment__c": "SMB"})

    second = site.pull("salesforce", "accounts")

    assert any("Segment__c" in text for text in first.warnings)
    assert second.state is State.OK
    segments = [one.segment for one in site.stored()["accounts"] if isinstance(one, Account)]
    assert segments == ["SMB"] * 20


# ---------------------------------------------------------------- transport


def test_objects_with_700_fields_are_read_by_pages_and_by_job_alike(org: SalesforceOrg) -> None:
    names = [f"A_field_with_quite_a_long_name_{number:03}__c" for number in range(700)]
    columns = [{"name": name, "type": "string"} for name in names]
    day = {"name": "Day__c", "type": "date"}
    sums = {"name": "Sum__c", "type": "currency"}
    org.crm.admin("add_object", name="Wide__c", fields=[day, sums, *columns])
    for row in range(3):
        own = {name: f"{row} {name}" for name in names[row::3]}
        org.crm.create("Wide__c", {"Day__c": "2026-05-04", "Sum__c": row, **own})
    found: dict[str, Copy] = {}
    for api in ("rest", "bulk"):
        fields = {f"x_{name}": FieldSource(name) for name in names}
        fields |= {"date": FieldSource("Day__c"), "amount": FieldSource("Sum__c")}
        costs = StreamSettings(object="Wide__c", api=api, fields=fields)
        found[api] = Copy()
        found[api].pull(connect(org.settings(tuning=LARGE, streams={"costs": costs})), "costs")

    assert found["rest"].records == found["bulk"].records
    assert len(found["rest"].records) == 3
    (first, *_) = found["rest"].records.values()
    assert sum(value is not None for value in first.extra.values()) in {233, 234}


@pytest.mark.parametrize("page_size", [None, 200])
def test_a_token_renewed_while_paging_loses_and_doubles_nothing(
    org: SalesforceOrg, page_size: int | None
) -> None:
    names = {f"Account {number}" for number in range(900)}
    org.add_accounts(sorted(names))
    org.crm.clock(advance=86_400)
    org.crm.settings(page_rows=200, rotate_tokens=True)
    connector = connect(org.settings(tuning=replace(QUICK, page_size=page_size)))
    read: list[str] = []

    for number, page in enumerate(connector.pull(stream_of(connector, "accounts"), None)):
        read += [record.ref.native_id for record in page.records]
        if number == 1:
            org.crm.settings(revoke_tokens=True)

    logins = [one for one in org.crm.requests() if "oauth2/token" in str(one["path"])]
    assert len(read) == len(set(read)) == 900
    assert len(logins) == 2


@pytest.mark.parametrize("path", ["ORDER", "jobs/query/"])
def test_a_server_that_never_answers_is_an_error_in_time_and_the_next_pull_goes_on(
    org: SalesforceOrg, path: str
) -> None:
    org.add_accounts(["Account 1"])
    api = "rest" if path == "ORDER" else "bulk"
    tuning = replace(QUICK, read_timeout=timedelta(seconds=1), retry_attempts=1)
    settings = org.settings(tuning=tuning, streams={"accounts": StreamSettings(api=api)})
    org.crm.fault("hang", path=path, seconds=8)
    copy = Copy()

    with pytest.raises(CrmUnavailable, match="in time"):
        copy.pull(connect(settings), "accounts")
    copy.pull(connect(settings), "accounts")

    assert copy.names() == {"Account 1"}


def test_reading_stops_at_its_share_of_the_quota_and_goes_on_from_the_same_row(
    org: SalesforceOrg,
) -> None:
    names = {f"Account {number}" for number in range(900)}
    org.add_accounts(sorted(names))
    org.crm.clock(advance=86_400)
    org.crm.settings(daily_calls_max=1000, daily_calls_used=895)
    copy = Copy()

    with pytest.raises(QuotaExhausted, match="calls"):
        copy.pull(connect(org.settings()), "accounts")
    before = len(copy.records)
    org.crm.settings(daily_calls_used=0)
    copy.pull(connect(org.settings()), "accounts")

    assert 0 < before < 900
    assert copy.names() == names


# ---------------------------------------------------------------- rates


class RatedOrg(StoredOrg):
    """An installation whose rates are those of the org."""

    def text(self) -> str:
        return super().text().replace("currency: USD,", "currency: USD, fx: {from: salesforce},")


def test_a_rate_that_was_deleted_converts_nothing_any_more(
    org: SalesforceOrg, sandbox: Sandbox, tmp_path: Path, sqlite_database: str
) -> None:
    configure_logging(is_quiet=True)
    org.crm.settings(multi_currency={"corporate": "USD", "rates": {"EUR": 0.8}, "dated": True})
    days = [
        org.crm.create(
            "DatedConversionRate", {"IsoCode": "EUR", "StartDate": day, "ConversionRate": rate}
        )
        for day, rate in (("2026-01-01", 2), ("2026-07-01", 1.6))
    ]
    site = RatedOrg(tmp_path, sandbox, sqlite_database, crms=("salesforce",))
    site.with_fields()
    assert site.pull("salesforce", "rates").stored == 2

    org.crm.admin("erase", object="DatedConversionRate", id=days[1])
    result = site.pull("salesforce", "rates")

    assert (result.state, result.stored, result.unchanged) == (State.OK, 1, 1)


# ---------------------------------------------------------------- answers that lie


@pytest.mark.parametrize("times", [1, "forever"])
def test_a_page_that_names_itself_as_the_next_is_asked_again_before_it_is_a_fault(
    org: SalesforceOrg, times: int | str
) -> None:
    fields = {"Name": "Account #"}
    org.crm.admin("generate", object="Account", count=1800, fields=fields, days=30)
    org.crm.clock(advance=86_400)
    org.crm.settings(page_rows=200)
    settings = org.settings(tuning=LARGE)
    loop = json.dumps(
        {
            "totalSize": 1800,
            "done": False,
            "records": [],
            "nextRecordsUrl": "/services/data/v62.0/query/0r8000000000001-200",
        }
    )
    org.crm.fault("status", status=200, path="query/0r8", body=loop, times=times)
    copy = Copy()

    if times == "forever":
        with pytest.raises(MalformedAnswer, match="again and again"):
            copy.pull(connect(settings), "accounts")
        assert copy.complete_until is None
    else:
        copy.pull(connect(settings), "accounts")
        assert len(copy.records) == 1800


def test_pages_that_bring_fewer_rows_than_the_query_has_are_not_believed(
    org: SalesforceOrg,
) -> None:
    names = {f"Account {number}" for number in range(450)}
    org.add_accounts(sorted(names))
    org.crm.clock(advance=86_400)
    org.crm.settings(page_rows=200)
    end = json.dumps({"totalSize": 450, "done": True, "records": []})
    org.crm.fault("status", status=200, path="query/0r8", body=end)
    copy = Copy()

    copy.pull(connect(org.settings(tuning=LARGE)), "accounts")

    assert copy.names() == names


# ---------------------------------------------------------------- edits and calls


def test_a_second_edit_of_a_record_is_seen_as_the_first_was(org: SalesforceOrg) -> None:
    (account,) = org.add_accounts(["first"])
    connector, copy = connect(org.settings()), Copy()
    seen = []
    for name in ("second", "third"):
        copy.pull(connector, "accounts")
        org.rename_account(account, name)
        copy.pull(connector, "accounts")
        seen.append(copy.names())

    assert seen == [{"second"}, {"third"}]


def test_reconciliation_names_what_the_crm_itself_deleted(org: SalesforceOrg) -> None:
    ids = org.add_accounts([f"Account {number}" for number in range(10)])
    org.crm.delete("Account", ids[0])
    org.crm.erase("Account", ids[1])
    org.crm.clock(advance=3600)
    connector = connect(org.settings())
    assert isinstance(connector, ListsIds)
    stream = stream_of(connector, "accounts")

    pages = list(connector.ids(stream) or ())
    fetched = connector.fetch(stream, [ref for page in pages for ref in page.refs][:2])

    assert {ref.native_id for page in pages for ref in page.refs} == set(ids[2:])
    assert {ref.native_id for page in pages for ref in page.explained} == set(ids[:2])
    assert len(fetched.records) == 2
