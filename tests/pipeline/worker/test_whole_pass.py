"""A whole pass on real CRMs (the sandbox) and real databases."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import SEEDED, Site
from worker.results import State


def test_a_second_pass_changes_nothing_and_writes_nothing(
    start_sandbox: Callable[..., Sandbox], tmp_path: Path, database_url: str
) -> None:
    site = Site(tmp_path, start_sandbox(*SEEDED), database_url).set_up()

    first = site.full_pass()
    second = site.full_pass()

    assert first.exit_code == 0
    assert first.total("sent") == 10
    assert second.exit_code == 0
    assert (second.total("stored"), second.total("changed_values"), second.total("sent")) == (
        0,
        0,
        0,
    )
    assert len(site.writes()) == 10


def test_crm_fields_hold_the_published_values(site: Site) -> None:
    site.full_pass()

    fields = site.kpi_fields()
    revenue = {
        key.partition(":")[2]: value
        for (kpi, period, dimension, key), value in site.values().items()
        if (kpi, period, dimension) == ("revenue", "all", "account")
    }
    held = {
        record_id: Decimal(str(values.get("KPI_Revenue__c", values.get("kpi_revenue"))))
        for record_id, values in fields.items()
        if record_id in revenue
    }
    assert held == revenue
    assert len(held) == 5


def test_every_run_ends_and_its_counts_add_up(site: Site) -> None:
    site.full_pass()
    site.full_pass()

    for run in site.runs():
        assert run.state == "ok", run
        assert run.ended is not None
        assert run.pulled == run.stored + run.unchanged + run.dead
        if run.kind == "pull":
            assert 0 < run.minimum_calls <= run.calls


def test_a_stream_that_fails_leaves_the_others_going(site: Site) -> None:
    site.sandbox.salesforce.fault("status", path="OpportunityHistory", status=500, times="forever")

    broken = site.full_pass()
    site.sandbox.salesforce.clear_faults()
    whole = site.full_pass()

    states = {
        result.stream or result.writeback or "compute": result.state for result in broken.results
    }
    assert broken.exit_code == 4
    assert states["deal_stage_changes"] is State.FAILED
    assert states["deals"] is State.OK
    # Its connection was not read completely: no KPI of half the data reaches the CRM.
    assert states["account_kpis"] is State.WAITING
    said = [one for result in broken.results for one in result.warnings]
    assert any("missing: deal_stage_changes (kpisync pull salesforce)" in one for one in said)
    assert states["company_kpis"] is State.OK
    assert whole.exit_code == 0
    assert whole.total("sent") == 6


def test_an_exhausted_quota_pauses_its_connection_alone(site: Site) -> None:
    site.sandbox.salesforce.fault(
        "status",
        path="/query",
        status=403,
        body='[{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests exceeded."}]',
        times="forever",
    )

    first = site.full_pass()
    site.sandbox.salesforce.clear_faults()
    site.sandbox.salesforce.forget()
    second = site.full_pass()

    by_crm = {(r.connection, r.state) for r in first.results if r.stream}
    assert by_crm == {("salesforce", State.PAUSED), ("hubspot", State.OK)}
    assert first.exit_code == 0
    assert any("paused until" in warning for r in first.results for warning in r.warnings)
    assert {r.state for r in second.results if r.connection == "salesforce"} == {State.PAUSED}
    # Nobody calls before the time has come.
    assert site.sandbox.salesforce.requests() == []

    site.resume("salesforce")
    assert {r.state for r in site.full_pass().results} == {State.OK}


def test_a_wait_too_long_to_sleep_through_is_a_pause_however_short(site: Site) -> None:
    """A limit that asks for more than `retry_wait_max` and less than a minute is no failure."""
    impatient = site.but(crms=("hubspot",), advanced="retry_wait: 1s, retry_wait_max: 2s")
    body = {"message": "You have reached your ten_secondly_rolling limit."}
    impatient.sandbox.hubspot.fault("status", path="objects/deals", status=429, body=body)

    first = impatient.full_pass()

    assert State.FAILED not in {result.state for result in first.results}
    assert State.PAUSED in {result.state for result in first.results}


def test_wrong_credentials_fail_with_a_remedy_and_without_the_secret(site: Site) -> None:
    broken = site.but(environment={"SF_SECRET": "a-wrong-secret-value"}).full_pass()

    errors = [r.error for r in broken.results if r.connection == "salesforce" and r.stream]
    assert broken.exit_code == 4
    assert all(error and "kpisync check --online" in error for error in errors)
    assert "a-wrong-secret-value" not in repr(broken)


def test_another_org_behind_the_same_name_is_refused(
    site: Site, start_sandbox: Callable[..., Sandbox]
) -> None:
    site.full_pass()
    other = start_sandbox("--seed", "9", "--size", "5", "--today", "2026-06-30")
    other.hubspot.settings(portal_id=1234567)

    elsewhere = site.but(sandbox=other).full_pass()

    refused = [r for r in elsewhere.results if r.connection == "hubspot" and r.stream]
    assert {r.state for r in refused} == {State.FAILED}
    assert all("state reset hubspot --org" in str(r.error) for r in refused)
    assert site.count("deals", "hubspot") > 0
