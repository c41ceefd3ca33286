"""`check --online` on the fields of write-backs, with the installed command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox

CONFIG = """\
version: 1
database: sqlite:///{folder}/kpisync.db
company: {{name: Test Company, currency: USD, timezone: Europe/Berlin}}
connections:
  salesforce:
    type: salesforce
    base_url: {url}
    auth: {{flow: client_credentials, domain: acme.my, client_id: sandbox-client,
           client_secret: "${{SF_SECRET:-sandbox-secret}}"}}
    streams: {{accounts: {{}}, deals: {{}}}}
kpis: {{use: [sales, customer]}}
writebacks:
  account_kpis:
    to: salesforce.Account
    fields:
      KPI_Good__c: win_rate
      KPI_Plain__c: win_rate
      KPI_Short__c: win_rate
      KPI_Tick__c: revenue
      KPI_Formula__c: revenue
      KPI_Missing__c: revenue
security: {{allow_hosts: [127.0.0.1]}}
"""


@pytest.fixture
def configured(sandbox: Sandbox, kpisync: Cli, tmp_path: Path) -> Cli:
    crm = sandbox.salesforce
    for name, kind, more in (
        ("KPI_Good__c", "percent", {"precision": 5, "scale": 1}),
        ("KPI_Plain__c", "double", {"precision": 8, "scale": 4}),
        ("KPI_Short__c", "double", {"precision": 8, "scale": 0}),
        ("KPI_Tick__c", "boolean", {}),
        ("KPI_Formula__c", "double", {"formula": {"days_since": "CreatedDate"}}),
    ):
        crm.admin("field", object="Account", name=name, type=kind, **more)
    kpisync.configure(CONFIG.format(folder=tmp_path, url=crm.url))
    return kpisync


def test_fields_to_be_written_are_checked_with_place_and_remedy(configured: Cli) -> None:
    ended = configured("check", "--online", "--json", expect_exit=1)

    problems = {
        each["place"].removeprefix("writebacks.account_kpis.fields."): each
        for each in ended.json["problems"]
        if each["place"].startswith("writebacks.")
    }
    assert set(problems) == {"KPI_Short__c", "KPI_Tick__c", "KPI_Formula__c", "KPI_Missing__c"}
    assert all(each["error"] and each["remedy"] for each in problems.values())
    assert "0 digits after the point" in problems["KPI_Short__c"]["message"]
    assert "checkbox" in problems["KPI_Tick__c"]["message"]
    assert "may not be written" in problems["KPI_Formula__c"]["message"]
    assert "is not a field of Account" in problems["KPI_Missing__c"]["message"]


def test_setup_leaves_fields_that_fit_and_names_those_that_cannot(configured: Cli) -> None:
    ended = configured("setup", "account_kpis", "--dry-run", "--json", expect_exit=None)

    outcomes = {each["field"]: each["outcome"] for each in ended.json["account_kpis"]}
    assert outcomes["KPI_Plain__c"] == "present"
    assert outcomes["KPI_Missing__c"] == "would_create"
    assert outcomes["KPI_Formula__c"] == outcomes["KPI_Tick__c"] == "conflict"
