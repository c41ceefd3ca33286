"""One customer in two CRMs: matched, doubted, decided by a person, explained and written back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IDENTITY = """\
identity:
  accounts:
    match:
      - {same: hubspot.salesforceaccountid = salesforce.Id}
      - {domain: website, ignore: [gmail.com]}
    prefer: salesforce
  deals: {match: [{same: hubspot.hs_salesforceopportunityid = salesforce.Id}], prefer: salesforce}
"""


class Customers:
    """Acme in both CRMs with a copied deal; Zebra and Quokka, which share a website."""

    def __init__(self, sandbox: Sandbox) -> None:
        crm, hub = sandbox.salesforce, sandbox.hubspot
        acme = crm.create("Account", {"Name": "Acme Pumps", "Website": "https://www.acme.com"})
        zebra = crm.create("Account", {"Name": "Zebra GmbH", "Website": "zebra.de"})
        original = self._opportunity(sandbox, acme, 100)
        self._opportunity(sandbox, zebra, 50)
        acme_there = hub.create(
            "companies",
            {"name": "Acme Europe", "domain": "eu-acme.com", "salesforceaccountid": acme[:15]},
        )
        quokka = hub.create("companies", {"name": "Quokka AG", "domain": "www.zebra.de"})
        self._deal(sandbox, acme_there, 100, hs_salesforceopportunityid=original)
        self._deal(sandbox, acme_there, 250)
        self._deal(sandbox, quokka, 30)
        self.acme, self.zebra = f"salesforce:{acme}", f"salesforce:{zebra}"
        self.acme_there, self.quokka = f"hubspot:{acme_there}", f"hubspot:{quokka}"

    @staticmethod
    def _opportunity(sandbox: Sandbox, account: str, amount: int) -> str:
        return sandbox.salesforce.create(
            "Opportunity",
            {
                "Name": f"Deal of {amount}",
                "AccountId": account,
                "StageName": "Closed Won",
                "CloseDate": "2026-03-05",
                "Amount": amount,
            },
        )

    @staticmethod
    def _deal(sandbox: Sandbox, company: str, amount: int, **more: str) -> None:
        fields = {"dealname": f"Deal of {amount}", "pipeline": "default", "amount": str(amount)}
        closed = {"dealstage": "closedwon", "closedate": "2026-03-05T12:00:00Z"}
        sandbox.hubspot.create(
            "deals", {**fields, **closed, **more}, associations={"companies": [company]}
        )


@pytest.fixture
def customers(kpisync: Cli, sandbox: Sandbox) -> Customers:
    kpisync.configure(two_crms(sandbox) + IDENTITY)
    made = Customers(sandbox)
    kpisync("pull")
    kpisync("compute")
    return made


def revenue(kpisync: Cli) -> dict[str, Decimal]:
    rows = kpisync(
        "kpi", "values", "--kpi", "revenue", "--period", "all", "--by", "account", "--json"
    ).json
    return {row["key"]: Decimal(row["value"]) for row in rows if row["value"] != "0"}


def everything(kpisync: Cli) -> dict[tuple[str, ...], Any]:
    names = ("kpi", "period", "dimension", "key")
    rows = kpisync("dump", "kpis", "--ndjson").lines
    return {
        tuple(row[name] for name in names): (row["value"], row["n"]) for row in rows if row["n"]
    }


def test_one_customer_in_two_crms_from_the_rules_to_both_records(
    kpisync: Cli, sandbox: Sandbox, customers: Customers
) -> None:
    by_rules, before = revenue(kpisync), everything(kpisync)
    asked = kpisync("identity", "review", "--json").json
    linked = kpisync("identity", "link", customers.quokka, customers.zebra, "--json").json
    kpisync("compute")
    by_person = revenue(kpisync)
    explained = kpisync(
        "explain", "revenue", "--period", "all", "--by", f"account={customers.quokka}", "--json"
    ).json
    kpisync("identity", "forget", customers.zebra, customers.quokka)
    kpisync("compute")
    again = everything(kpisync)

    assert by_rules == {customers.acme: 350, customers.zebra: 50, customers.quokka: 30}
    assert before["revenue", "all", "all", "*"][0] == "430"
    assert [(one["one"], one["other"], one["value"]) for one in asked["doubtful"]] == [
        (customers.quokka, customers.zebra, "zebra.de")
    ]
    assert linked["stands_for"] == {customers.quokka: customers.zebra}
    assert by_person == {customers.acme: 350, customers.zebra: 80}
    (behind,) = explained["entities"]
    assert behind["entity"] == customers.zebra
    assert [one["ref"] for one in behind["records"]] == [customers.zebra, customers.quokka]
    assert again == before

    # What a person splits stays apart, whatever is read again.
    kpisync("identity", "split", customers.acme, customers.acme_there)
    kpisync("pull", "--full")
    kpisync("compute")

    assert revenue(kpisync) == {
        customers.acme: 100,
        customers.acme_there: 250,
        customers.zebra: 50,
        customers.quokka: 30,
    }
    entities = {one["ref"]: one["entity"] for one in kpisync("dump", "records", "deals").lines}
    assert sum(ref != entity for ref, entity in entities.items()) == 1
    moved = {place for place, value in everything(kpisync).items() if before.get(place) != value}
    moved_keys = {key for _, _, dimension, key in moved if dimension == "account"}
    assert moved_keys == {customers.acme, customers.acme_there}
    assert kpisync("verify", "--json").json["ok"]

    # Together again, the customer's value stands on both records.
    kpisync("identity", "forget", customers.acme_there, customers.acme)
    kpisync("compute")
    kpisync("setup", "--yes")
    for name in ("account_kpis", "company_kpis"):
        kpisync("plan", name, "-o", f"{name}.json")
        kpisync("apply", f"{name}.json", "--yes")

    there = sandbox.salesforce.record("Account", customers.acme.partition(":")[2])["fields"]
    here = sandbox.hubspot.record("companies", customers.acme_there.partition(":")[2])["fields"]
    assert isinstance(there, dict)
    assert isinstance(here, dict)
    assert Decimal(str(there["KPI_Revenue__c"])) == Decimal(str(here["kpi_revenue"])) == 350


def test_a_decision_that_cannot_be_made_says_why(kpisync: Cli, customers: Customers) -> None:
    unknown = kpisync("identity", "link", "hubspot:1", customers.zebra, expect_exit=1)
    kpisync("identity", "split", customers.quokka, customers.zebra)
    kpisync("identity", "forget", customers.zebra, customers.quokka)
    nothing = kpisync("identity", "forget", customers.zebra, customers.quokka, expect_exit=1)

    assert "there is no record hubspot:1" in unknown.err
    assert "nobody decided" in nothing.err
