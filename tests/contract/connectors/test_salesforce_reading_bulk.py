"""Bulk API 2.0 queries: chosen by their cost, resumable in any state, equal to pages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from connectors.base import FieldSource, StreamSettings, Tuning
from connectors.contract.copies import Copy, stream_of
from connectors.contract.org import QUICK
from connectors.errors import CrmUnavailable, MalformedAnswer
from connectors.registry import connect
from connectors.salesforce import bulk, bulkread
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Crm, Sandbox, launch

LARGE: Tuning = replace(QUICK, page_size=None)
"""Pages as large as Salesforce allows."""
_NUMBERS = itertools.count(1)
AWKWARD = 'say "hi", they said\r\nnew line\nlone\rreturn; NUL\x00 sep\u2028end, \N{GRINNING FACE}'


class MarkedOrg(SalesforceOrg):
    """One test's own accounts in a sandbox that the tests share."""

    mark = ""

    def add_accounts(self, names: Sequence[str], **how: object) -> list[str]:
        rows = [{"Name": name, "Site": self.mark} for name in names]
        return self.crm.create_many("Account", rows, **how)


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> Iterator[MarkedOrg]:
    org = MarkedOrg(running.salesforce)
    org.mark = f"test {next(_NUMBERS)}"
    org.crm.forget()
    yield org
    org.crm.clear_faults()
    org.crm.settings(bulk={"enabled": True, "polls": 1, "held": False, "empty_body": False})


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PART_ROWS", 90)


def settings_of(org: MarkedOrg, api: str | None) -> dict[str, StreamSettings]:
    return {"accounts": StreamSettings(api=api, where=f"Site = '{org.mark}'")}


def pulled(org: MarkedOrg, api: str | None) -> Copy:
    copy = Copy()
    copy.pull(connect(org.settings(tuning=LARGE, streams=settings_of(org, api))), "accounts")
    return copy


def grown(org: MarkedOrg, count: int, *, days: float = 30) -> None:
    """Many accounts, settled long ago."""
    fields = {"Name": "Account #", "Site": org.mark}
    org.crm.admin("generate", object="Account", count=count, fields=fields, days=days)
    org.crm.clock(advance=86_400)


def jobs_of(crm: Crm) -> int:
    return len([one for one in crm.requests() if is_creation(one)])


def is_creation(entry: dict[str, object]) -> bool:
    return entry["method"] == "POST" and str(entry["path"]).endswith("jobs/query")


# ---------------------------------------------------------------- which way


@pytest.mark.parametrize(("rows", "jobs"), [(9_000, 0), (11_000, 1)])
def test_a_first_load_takes_a_job_where_pages_would_cost_more(
    org: MarkedOrg, rows: int, jobs: int
) -> None:
    grown(org, rows)

    copy = pulled(org, None)

    assert len(copy.records) == rows
    assert jobs_of(org.crm) == jobs


@pytest.mark.parametrize(("api", "jobs"), [("rest", 0), ("bulk", 1)])
def test_the_configuration_chooses_the_way(org: MarkedOrg, api: str, jobs: int) -> None:
    grown(org, 450)

    assert len(pulled(org, api).records) == 450

    assert jobs_of(org.crm) == jobs


def test_an_increment_of_many_rows_takes_a_job_too(org: MarkedOrg) -> None:
    copy = pulled(org, None)
    org.crm.clock(advance=86_400)
    grown(org, 11_000, days=0.5)

    copy.pull(connect(org.settings(tuning=LARGE, streams=settings_of(org, None))), "accounts")

    assert len(copy.records) == 11_000
    assert jobs_of(org.crm) == 1


def test_an_org_without_bulk_is_read_in_pages_and_says_so(org: MarkedOrg) -> None:
    grown(org, 450)
    org.crm.settings(bulk={"enabled": False})

    copy = pulled(org, "bulk")

    assert len(copy.records) == 450
    assert any("read in pages instead" in warning for warning in copy.warnings)


def test_a_query_too_heavy_for_pages_is_left_to_a_job(org: MarkedOrg) -> None:
    grown(org, 450)
    heavy = json.dumps([{"errorCode": "QUERY_TIMEOUT", "message": "Your query ran too long."}])
    org.crm.fault("status", status=400, path="ORDER BY", body=heavy, times="forever")

    assert len(pulled(org, None).records) == 450


# ---------------------------------------------------------------- what comes


def test_rows_are_the_same_by_pages_and_by_job(org: MarkedOrg) -> None:
    (account,) = org.add_accounts(["Parent"])
    org.crm.add_field("Opportunity", "Note__c", "text")
    org.crm.add_field("Opportunity", "Flag__c", "boolean")
    org.crm.add_field("Opportunity", "When__c", "datetime")
    own: dict[str, str | float | bool] = {
        "Note__c": AWKWARD, "Flag__c": True, "When__c": "2026-05-04T10:00:00Z",
        "Amount": 12.5, "AccountId": account,
    }  # fmt: skip
    base: dict[str, str | float | bool] = {
        "Name": "Deal",
        "StageName": "Prospecting",
        "CloseDate": "2026-12-31",
    }
    org.crm.create_many("Opportunity", [{**base, **own}, base])
    org.crm.delete("Opportunity", org.crm.create("Opportunity", {**base, "Name": "Deleted"}))
    fields = {
        "x_note": "Note__c", "x_flag": "Flag__c", "x_when": "When__c",
        "x_parent": "Account.Name", "x_parent_owner": "Account.Owner.Name",
    }  # fmt: skip
    found: dict[str, Copy] = {}
    for api in ("rest", "bulk"):
        mapping = {name: FieldSource(source) for name, source in fields.items()}
        deals = StreamSettings(api=api, fields=mapping)
        found[api] = Copy()
        found[api].pull(connect(org.settings(streams={"deals": deals})), "deals")

    assert found["bulk"].records == found["rest"].records
    assert len(found["bulk"].records) == 3
    extras = [record.extra for record in found["bulk"].records.values()]
    assert AWKWARD in [extra.get("x_note") for extra in extras]
    assert "Parent" in [extra.get("x_parent") for extra in extras]


@pytest.mark.parametrize("empty_body", [False, True])
def test_a_job_without_rows_is_complete(org: MarkedOrg, *, empty_body: bool) -> None:
    org.crm.settings(bulk={"empty_body": empty_body})

    copy = pulled(org, "bulk")

    assert (copy.records, copy.complete_until is not None) == ({}, True)


@pytest.mark.usefixtures("small_parts")
def test_a_result_of_several_parts_is_taken_part_by_part(org: MarkedOrg) -> None:
    grown(org, 450)

    copy = pulled(org, "bulk")

    results = [one for one in org.crm.requests() if str(one["path"]).endswith("/results")]
    assert (len(copy.records), len(results)) == (450, 5)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("locator", ["same", "first"])
def test_parts_that_lead_in_a_circle_are_asked_again_and_then_a_fault(
    org: MarkedOrg, locator: str
) -> None:
    grown(org, 200)
    header = "Id,SystemModstamp\n"
    looping = {"Sforce-NumberOfRecords": "0", "Sforce-Locator": locator}
    how = {"status": 200, "path": "/results", "body": header, "headers": looping}
    org.crm.fault("status", **how, times="forever")

    with pytest.raises(MalformedAnswer):
        pulled(org, "bulk")

    org.crm.clear_faults()
    assert len(pulled(org, "bulk").records) == 200


def test_a_part_with_fewer_rows_than_it_says_is_fetched_again(org: MarkedOrg) -> None:
    grown(org, 200)
    short = {"Sforce-NumberOfRecords": "200", "Sforce-Locator": "null"}
    org.crm.fault("status", status=200, path="/results", body="", headers=short, times=2)

    assert len(pulled(org, "bulk").records) == 200


# ---------------------------------------------------------------- any state, any kill


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("polls", [0, 1, 3])
def test_a_pull_killed_at_any_step_goes_on_with_the_same_job(org: MarkedOrg, polls: int) -> None:
    grown(org, 450)
    org.crm.settings(bulk={"polls": polls})
    copy = Copy()
    copy.pull(
        connect(org.settings(tuning=LARGE, streams=settings_of(org, "bulk"))), "accounts", pages=1
    )

    for _ in range(30):
        # One step of a new process each time; what changed since is read in pages.
        connector = connect(org.settings(tuning=LARGE, streams=settings_of(org, None)))
        copy.pull(connector, "accounts", pages=1)
        if copy.complete_until is not None:
            break

    assert copy.complete_until is not None
    assert len(copy.records) == 450
    assert jobs_of(org.crm) == 1
    assert copy.records == pulled(org, "rest").records


def test_a_job_is_known_before_its_first_look(
    org: MarkedOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown(org, 450)
    monkeypatch.setattr(bulkread, "PATIENCE", timedelta(seconds=0.2))
    org.crm.settings(bulk={"held": True})
    copy = Copy()
    by_job = org.settings(tuning=LARGE, streams=settings_of(org, "bulk"))
    copy.pull(connect(by_job), "accounts", pages=1)
    looks = [one for one in org.crm.requests() if "/jobs/query/" in str(one["path"])]
    with pytest.raises(CrmUnavailable, match="has not finished"):
        copy.pull(connect(org.settings(tuning=LARGE, streams=settings_of(org, None))), "accounts")
    org.crm.settings(bulk={"held": False})

    copy.pull(connect(org.settings(tuning=LARGE, streams=settings_of(org, None))), "accounts")

    assert looks == []
    assert (len(copy.records), jobs_of(org.crm)) == (450, 1)


@pytest.mark.parametrize("state", ["Failed", "Aborted"])
def test_a_job_that_fails_is_begun_anew(org: MarkedOrg, state: str) -> None:
    grown(org, 450)
    org.crm.admin("fail_jobs", kind="query", state=state, message="QUERY_TIMEOUT: too long")

    copy = pulled(org, "bulk")

    assert len(copy.records) == 450
    assert jobs_of(org.crm) == 2
    assert any("A new one is begun" in warning for warning in copy.warnings)


def test_an_object_too_large_to_be_counted_is_read_by_a_job(org: MarkedOrg) -> None:
    grown(org, 450)
    heavy = json.dumps([{"errorCode": "QUERY_TIMEOUT", "message": "Your query ran too long."}])
    org.crm.fault("status", status=400, path="COUNT", body=heavy, times="forever")

    copy = pulled(org, None)

    assert (len(copy.records), jobs_of(org.crm)) == (450, 1)
    assert any("nobody can say" in warning for warning in copy.warnings)


def test_where_jobs_always_fail_pages_are_read_unless_jobs_are_asked_for(org: MarkedOrg) -> None:
    grown(org, 11_000)
    org.crm.admin("fail_jobs", kind="query", times=3, message="InternalServerError : unlucky")

    copy = pulled(org, None)

    assert len(copy.records) == 11_000
    assert any("read in pages instead" in warning for warning in copy.warnings)


def test_jobs_that_always_fail_are_a_fault_not_no_rows(org: MarkedOrg) -> None:
    grown(org, 450)
    org.crm.admin("fail_jobs", kind="query", times=3, message="QUERY_TIMEOUT: too long")

    with pytest.raises(CrmUnavailable, match="QUERY_TIMEOUT"):
        pulled(org, "bulk")


def test_a_job_that_is_gone_when_the_worker_comes_back_is_begun_anew(org: MarkedOrg) -> None:
    grown(org, 450)
    settings = org.settings(tuning=LARGE, streams=settings_of(org, "bulk"))
    copy = Copy()
    copy.pull(connect(settings), "accounts", pages=1)
    org.crm.clock(advance=8 * 86_400)

    copy.pull(connect(settings), "accounts")

    assert len(copy.records) == 450
    # The lost one, the new one, and one for what changed since.
    assert jobs_of(org.crm) == 3


def test_a_token_revoked_while_a_job_runs_is_renewed(org: MarkedOrg) -> None:
    grown(org, 450)
    connector = connect(org.settings(tuning=LARGE, streams=settings_of(org, "bulk")))
    copy = Copy()

    for number, page in enumerate(connector.pull(stream_of(connector, "accounts"), None)):
        copy.take(page)
        if number == 0:
            org.crm.settings(revoke_tokens=True)

    assert len(copy.records) == 450


def test_rows_edited_while_a_job_runs_are_not_missed(org: MarkedOrg) -> None:
    ids = org.add_accounts([f"Account {number}" for number in range(50)])
    org.crm.clock(advance=86_400)
    connector = connect(org.settings(tuning=LARGE, streams=settings_of(org, "bulk")))
    copy = Copy()

    for number, page in enumerate(connector.pull(stream_of(connector, "accounts"), None)):
        copy.take(page)
        if number == 0:
            org.rename_account(ids[0], "renamed")
            org.crm.clock(advance=60)

    assert set(copy.live) == set(ids)
    assert "renamed" in copy.names()
