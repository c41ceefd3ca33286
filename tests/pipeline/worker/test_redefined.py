"""Rows that were mapped by other rules are read anew: two definitions never mix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox

pytestmark = pytest.mark.timeout(180)

STREAM = "deals: {object: deals}"


@pytest.fixture
def pulled(kpisync: Cli, sandbox: Sandbox) -> Cli:
    sandbox.hubspot.create(
        "deals",
        {
            "dealname": "Deal",
            "pipeline": "default",
            "dealstage": "closedwon",
            "closedate": "2024-01-31T23:30:00Z",
            "description": "new",
        },
    )
    configure(kpisync, sandbox, "product: dealname")
    kpisync("pull", "hubspot")
    # Well beyond the overlap: an increment alone would not see the deal again.
    sandbox.hubspot.clock(advance=86_400)
    kpisync("pull", "hubspot")
    return kpisync


def configure(kpisync: Cli, sandbox: Sandbox, field: str, zone: str = "Europe/Berlin") -> Path:
    text = two_crms(sandbox).replace(STREAM, f"deals: {{object: deals, fields: {{{field}}}}}")
    return kpisync.configure(text.replace("Europe/Berlin", zone))


def deal(kpisync: Cli) -> dict[str, object]:
    (found,) = kpisync("dump", "records", "deals").lines
    return found


def test_a_changed_mapping_reaches_rows_that_did_not_change(pulled: Cli, sandbox: Sandbox) -> None:
    assert deal(pulled)["product"] == "Deal"
    configure(pulled, sandbox, "product: description")

    ended = pulled("pull", "hubspot")

    assert deal(pulled)["product"] == "new"
    assert "everything is read anew" in ended.err


def test_another_company_zone_moves_days_that_the_connector_cut(
    pulled: Cli, sandbox: Sandbox
) -> None:
    assert deal(pulled)["close_date"] == "2024-02-01"
    configure(pulled, sandbox, "product: dealname", zone="America/Los_Angeles")

    pulled("pull", "hubspot")

    assert deal(pulled)["close_date"] == "2024-01-31"


def test_an_unchanged_definition_reads_increments_only(pulled: Cli) -> None:
    ended = pulled("pull", "hubspot", "--json")

    (deals,) = [run for run in ended.json["runs"] if run["stream"] == "deals"]
    assert deals["pulled"] == 0
    assert deals["warnings"] == []


def test_a_field_that_can_be_read_again_is_filled_in_all_rows(
    kpisync: Cli, sandbox: Sandbox
) -> None:
    crm = sandbox.salesforce
    crm.create(
        "Opportunity",
        {
            "Name": "Deal",
            "StageName": "Closed Won",
            "CloseDate": "2024-03-05",
            "LeadSource": "Web",
        },
    )
    crm.settings(hide_fields=["Opportunity.LeadSource"])
    kpisync.configure(two_crms(sandbox))
    kpisync("pull", "salesforce")
    assert deal(kpisync)["source"] is None
    crm.clock(advance=86_400)
    crm.settings(show_fields=["Opportunity.LeadSource"])

    kpisync("pull", "salesforce")

    assert deal(kpisync)["source"] == "Web"


def test_a_first_pull_from_a_date_on_stays_one(kpisync: Cli, sandbox: Sandbox) -> None:
    sandbox.hubspot.create("deals", {"dealname": "Early", "pipeline": "default"})
    sandbox.hubspot.clock(advance=30 * 86_400)
    late = sandbox.hubspot.clock(advance=0)[:10]
    sandbox.hubspot.create("deals", {"dealname": "Late", "pipeline": "default"})
    configure(kpisync, sandbox, "product: dealname")

    kpisync("pull", "hubspot.deals", "--since", late)
    kpisync("pull", "hubspot.deals")

    assert [row["name"] for row in kpisync("dump", "records", "deals").lines] == ["Late"]


def test_verify_tells_what_is_not_computed_yet(pulled: Cli, sandbox: Sandbox) -> None:
    pulled("compute")
    sandbox.hubspot.create("deals", {"dealname": "Another", "dealstage": "closedwon"})
    pulled("pull", "hubspot")

    before = pulled("verify", expect_exit=1).err
    pulled("compute")
    after = pulled("verify").err

    assert "not computed yet: `kpisync compute` first" in before
    assert "not computed" not in after
