"""What reading and writing cost in API calls, by the org's own log of requests."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest

from connectors.contract.copies import Copy, writer
from connectors.registry import connect
from connectors.salesforce.tally import LARGEST_PAGE
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.contract.connectors.test_salesforce_complaints_reading import (
    DEAL,
    LARGE,
    StoredOrg,
    reading_calls,
)
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox, launch
from worker.observe import configure_logging
from worker.results import State

WRITE_BATCH = 200


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    return SalesforceOrg(running.salesforce)


@pytest.fixture
def site(running: Sandbox, tmp_path: Path, sqlite_database: str) -> StoredOrg:
    configure_logging(is_quiet=True)
    return StoredOrg(
        tmp_path, running, sqlite_database, crms=("salesforce",), guard="{max_records: 20000}"
    )


def described(org: SalesforceOrg, object_name: str) -> int:
    return sum(f"sobjects/{object_name}/describe" in path for path in reading_calls(org))


def test_a_run_describes_its_object_once(site: StoredOrg, org: SalesforceOrg) -> None:
    org.add_deals(3)
    org.crm.clock(advance=86_400)
    org.crm.forget()
    first = site.pull("salesforce", "deals")
    in_full = described(org, "Opportunity")
    org.crm.forget()
    second = site.pull("salesforce", "deals", reconcile=True)

    assert (first.state, second.state) == (State.OK, State.OK)
    assert (in_full, described(org, "Opportunity")) == (1, 1)


@pytest.mark.parametrize("others", [0, 15_000])
def test_live_values_of_many_records_are_read_the_cheaper_way(
    org: SalesforceOrg, others: int
) -> None:
    org.crm.admin("add_object", name=f"Score_{others}__c", fields=[])
    org.crm.admin(
        "generate", object=f"Score_{others}__c", count=1_200 + others, fields={"Name": "Score #"}
    )
    ids = [str(row["id"]) for row in org.crm.snapshot()[f"Score_{others}__c"][:1_200]]
    target = writer(connect(org.settings()))
    org.crm.forget()

    live = target.read(f"Score_{others}__c", ids, ["Name"])

    assert [record.record_id for record in live] == ids
    # A page of all of them; or one look at how many there are, and three times 400 by id.
    assert len(queries(org)) == (4 if others else 1)


def queries(org: SalesforceOrg) -> list[str]:
    return [path for path in reading_calls(org) if "/query" in path]


def test_an_increment_of_10_000_deals_costs_a_call_a_page(org: SalesforceOrg) -> None:
    connector = connect(org.settings(tuning=LARGE))
    copy = Copy()
    copy.pull(connector, "deals")
    org.crm.clock(advance=86_400)
    fields = {**DEAL, "Name": "Deal #"}
    org.crm.admin("generate", object="Opportunity", count=10_000, fields=fields, days=0.5)
    org.crm.forget()
    made, minimum = connector.calls.made, connector.calls.minimum
    known = len(copy.records)

    copy.pull(connector, "deals")

    calls = reading_calls(org)
    pages = [path for path in calls if "/query" in path]
    assert len(copy.records) - known == 10_000
    assert len(pages) == 10_000 / LARGEST_PAGE
    # Beside them: one describe, and one look at what was deleted for good.
    assert len(calls) - len(pages) == 2
    assert connector.calls.made - made == len(calls)
    assert len(calls) <= 1.1 * (connector.calls.minimum - minimum)


@pytest.mark.slow
def test_10_000_changed_deals_cost_the_fewest_calls_from_the_pull_to_the_last_write(
    site: StoredOrg, org: SalesforceOrg, tmp_path: Path
) -> None:
    changed = 10_000
    site.with_fields()
    org.crm.admin("generate", object="Account", count=changed, fields={"Name": "Account #"})
    accounts = [row["id"] for row in org.crm.snapshot()["Account"]][-changed:]
    fields = {**DEAL, "Name": "Deal #"}
    vary = {"AccountId": accounts}
    org.crm.admin("generate", object="Opportunity", count=changed, fields=fields, vary=vary)
    deals = [str(row["id"]) for row in org.crm.snapshot()["Opportunity"]][-changed:]
    org.crm.clock(advance=86_400)
    site.pull_all("salesforce")
    site.compute()
    org.crm.clock(advance=86_400)
    org.crm.edit("Opportunity", deals, {"StageName": "Closed Won"})
    org.crm.clock(advance=3_600)
    org.crm.forget()

    pulled = site.pull("salesforce", "deals")
    site.compute()
    pushed = site.push()

    least = ceil(changed / LARGEST_PAGE) + ceil(changed / WRITE_BATCH) + 1
    assert pulled.stored == changed
    assert pushed.sent == 2 * changed
    assert len(reading_calls(org)) <= 1.1 * least
    cli = Cli(tmp_path)
    shown = [
        cli("--json", "--config", str(site.path), "runs", "show", run).json
        for run in (pulled.run, pushed.run)
    ]
    told = sum(int(one["calls"]) for one in shown)
    assert told == len(reading_calls(org))
    assert told <= 1.1 * least
