"""What an admin types to switch a write-back on, to stop it, to let it go on and to undo it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import Site
from tests.pipeline.worker.test_pushing import accounts_with_deals


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_admin_who_has_been_burnt_before(sandbox: Sandbox, kpisync: Cli, tmp_path: Path) -> None:
    sinks = f"sinks: {{bi: {{type: sqlite, url: 'sqlite:///{tmp_path}/bi.db'}}}}\n"
    site = Site(
        tmp_path,
        sandbox,
        f"sqlite:///{tmp_path}/kpisync.db",
        crms=("salesforce",),
        approve="first_time",
        more=sinks,
    ).with_fields()
    accounts_with_deals(site, 8)
    kpisync.configure(site.text())

    waiting = kpisync("run", "--once")
    planned = kpisync("plan", "account_kpis", "--exit-code", "-o", "plan.json", expect_exit=10)
    unanswered = kpisync("apply", "account_kpis", expect_exit=1)
    misspelt = kpisync("apply", "acount_kpis", "--yes", expect_exit=2)
    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    plan["changes"][0]["new"] = "900"
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    forged = kpisync("apply", "plan.json", "--yes", expect_exit=1)
    applied = kpisync("apply", "account_kpis", "--yes", "--json")
    run = applied.json["run"]

    assert "wait for a person's yes" in waiting.err
    assert "16 first values" in planned.out
    assert "nobody answered, nothing was written; --yes" in unanswered.err
    assert '"acount_kpis" (configured: account_kpis)' in misspelt.err
    assert "plan.json: the plan was changed after it was made; make a new one" in forged.err
    assert "2 to look before and after" in planned.out
    assert applied.json["written"] == 16

    crm = sandbox.salesforce
    deals = [str(deal["id"]) for deal in crm.snapshot()["Opportunity"]]
    crm.edit("Opportunity", deals, {"Amount": 5_000_000})
    stopped = kpisync("run", "--once", expect_exit=6)
    told = kpisync("status", "--fail-on", "failed", "--json", expect_exit=5).json
    refused = kpisync("apply", "--yes", expect_exit=6)
    looked = kpisync("apply", "--yes", "--accept-guard", "--json")

    assert "8 of 8 values move by a factor of 10 or more" in stopped.err
    assert told["held"][0]["hold"]["kind"] == "guard"
    assert told["sinks"][0]["state"] == "ok"
    assert "--accept-guard" in refused.err
    assert looked.json["written"] == 8

    undone = kpisync("apply", "--revert", looked.json["run"], "--yes", "--json")
    again = kpisync("apply", "--revert", looked.json["run"], "--yes", "--json")

    assert (undone.json["written"], again.json["written"]) == (8, 0)
    assert {fields["KPI_Revenue__c"] for fields in site.kpi_fields().values()} == set(
        range(100, 108)
    )
    assert "there is no run" in kpisync("apply", "--revert", "nobody", expect_exit=2).err
    assert run != looked.json["run"]
