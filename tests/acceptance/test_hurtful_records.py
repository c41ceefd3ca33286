"""Two hundred records that hurt, of each CRM: each is kept or named, the rest of its page is there.

A proxy before the sandbox puts into one field of each record what a vendor's database, somebody's
import or a broken gateway may hold, as the bytes of an answer: no client library could send it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.acceptance.proxies import behind_proxies, hurting
from tests.fixtures.cli import Cli, Ended
from tests.fixtures.recorder import Recorder
from tests.fixtures.sandboxes import Sandbox, launch

RAW: dict[str, str] = {
    "a zero byte": r'"a\u0000b"',
    "half a character": r'"\ud800x"',
    "not a number": "NaN",
    "infinity": "Infinity",
    "less than infinity": "-Infinity",
    "1e400": "1e400",
    "1e-400": "1e-400",
    "5,000 digits": "9" * 5_000,
    "twenty thousand brackets": "[" * 20_000 + "]" * 20_000,
    "an object": '{"a": {"b": null}}',
    "a list": "[1, [2], {}]",
    "a truth value": "true",
    "nothing": '""',
    "letters": '"abc"',
    "a year before the calendar": '"1500-01-01"',
    "the last day of all": '"9999-12-31T23:59:59.999+0000"',
    "a day that is none": '"2024-02-30"',
    "a leap second": '"2016-12-31T23:59:60.000+0000"',
    "minus nothing": "-0.0",
    "other digits": r'"\u0663\u0664"',
    "a comma for a point": '"12,5"',
    "text from right to left": r'"\u202eabc\u001b[31m"',
    "a formula": r'"=HYPERLINK(\"x\")"',
}
UNREADABLE = {"not a number", "infinity", "less than infinity", "5,000 digits"} | {
    "twenty thousand brackets"
}
LONG = '"' + "x" * 10_000_000 + '"'

FIELDS = {
    "salesforce": (
        *("Name", "Amount", "CloseDate", "CreatedDate", "StageName", "OwnerId", "AccountId"),
        *("Probability", "IsWon"),
    ),
    "hubspot": (
        *("dealname", "amount", "closedate", "createdate", "dealstage", "hubspot_owner_id"),
        *("dealtype", "hs_deal_stage_probability", "hs_is_closed_won"),
    ),
}
GOOD = 50

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
database: "sqlite:///kpisync.db"
company: {{name: Test Company, currency: USD, timezone: Europe/Berlin}}
connections:
  salesforce:
    type: salesforce
    base_url: {salesforce}
    auth: {{flow: client_credentials, domain: sandbox.my, client_id: sandbox-client,
           client_secret: sandbox-secret}}
    streams: {{deals: {{}}}}
  hubspot:
    type: hubspot
    base_url: {hubspot}
    auth: {{flow: token, token: pat-na1-sandbox}}
    streams: {{deals: {{}}}}
kpis: {{use: [sales], periods: [year]}}
security: {{allow_hosts: [127.0.0.1]}}
"""


def _hurts(crm: str) -> list[tuple[str, str, str]]:
    """(field, words, raw JSON) for each record that hurts."""
    every = [
        (field, words, raw)
        for field, (words, raw) in product(FIELDS[crm], RAW.items())
        # HubSpot sends a record's creation time whatever is asked for: it is always readable.
        if field != "createdate" or words not in UNREADABLE
    ]
    return [*every, (FIELDS[crm][0], "ten million letters", LONG)]


class Company:
    """Both CRMs behind proxies, and what is stored of them."""

    def __init__(self, cli: Cli, sandbox: Sandbox, proxies: dict[str, Recorder]) -> None:
        self.cli = cli
        self.proxies = proxies
        self.wounds: dict[str, dict[str, tuple[str, str, str]]] = {}
        self.good: dict[str, list[str]] = {}
        self._fill(sandbox)

    def _fill(self, sandbox: Sandbox) -> None:
        stage = {"StageName": "Closed Won", "CloseDate": "2026-03-05", "Amount": 100}
        deal = {"dealstage": "closedwon", "pipeline": "default", "amount": "100"}
        hurts = {crm: _hurts(crm) for crm in self.proxies}
        total = {crm: len(listed) + GOOD for crm, listed in hurts.items()}
        ids = {
            "salesforce": sandbox.salesforce.create_many(
                "Opportunity", [{"Name": f"Deal {n}", **stage} for n in range(total["salesforce"])]
            ),
            "hubspot": sandbox.hubspot.create_many(
                "deals", [{"dealname": f"Deal {n}", **deal} for n in range(total["hubspot"])]
            ),
        }
        for crm, proxy in self.proxies.items():
            self.good[crm] = ids[crm][len(hurts[crm]) :]
            self.wounds[crm] = dict(zip(ids[crm], hurts[crm], strict=False))
            raw = {ref: {field: text} for ref, (field, _, text) in self.wounds[crm].items()}
            proxy.rewrite = hurting(raw)

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.rewrite = bytes

    def stored(self) -> set[str]:
        return {line["ref"].split(":")[1] for line in self.cli("dump", "records", "deals").lines}

    def letters(self) -> list[dict[str, object]]:
        return [one for one in self.cli("dump", "deadletters").lines if one["stream"] == "deals"]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder: Path = tmp_path_factory.mktemp("hurtful")
    sandbox = launch("--seed", "1", "--size", "1")
    try:
        with behind_proxies(sandbox) as (seen, proxies):
            cli = Cli(folder)
            cli.configure(CONFIG.format(salesforce=seen.salesforce.url, hubspot=seen.hubspot.url))
            yield Company(cli, sandbox, proxies)
    finally:
        sandbox.end()


@pytest.fixture(scope="module")
def pulled(company: Company) -> Ended:
    return company.cli("pull", expect_exit=None)


@pytest.mark.parametrize("crm", ["salesforce", "hubspot"])
def test_the_rest_of_their_pages_is_stored(company: Company, pulled: Ended, crm: str) -> None:
    assert pulled.exit_code in {0, 4}, pulled.err[-2000:]
    assert "Traceback" not in pulled.err
    assert "unexpected" not in pulled.err
    assert len(company.wounds[crm]) >= 200
    assert set(company.good[crm]) <= company.stored()


@pytest.mark.parametrize("crm", ["salesforce", "hubspot"])
@pytest.mark.usefixtures("pulled")
def test_each_is_stored_or_waits_with_its_reason(company: Company, crm: str) -> None:
    stored = company.stored()
    letters = [one for one in company.letters() if one["connection"] == crm]
    waiting = {str(one["ref"]).split(":")[1] for one in letters}

    lost = {
        native: wound[:2]
        for native, wound in company.wounds[crm].items()
        if native not in stored and native not in waiting
    }
    assert lost == {}
    assert len(letters) == len(waiting), "a record stands twice in the dead letters"
    assert not [one for one in letters if not one["reason"] or not one["connection"]]


@pytest.mark.usefixtures("pulled")
def test_nothing_that_cannot_be_told_became_a_number(company: Company) -> None:
    for line in company.cli("dump", "records", "deals").lines:
        if line["amount"] is not None:
            assert abs(float(line["amount"])) < 1e17, line["ref"]


@pytest.mark.usefixtures("pulled")
def test_runs_add_up_and_values_can_be_verified(company: Company) -> None:
    for run in company.cli("dump", "runs").lines:
        assert run["pulled"] == run["stored"] + run["unchanged"] + run["dead"], run
    company.cli("compute")
    assert company.cli("verify", "--json").json["ok"]


@pytest.mark.usefixtures("pulled")
def test_once_repaired_all_are_there_and_no_letter_is_left(company: Company) -> None:
    company.heal()

    company.cli("deadletters", "retry", "--all")

    assert company.letters() == []
    for crm in company.proxies:
        assert set(company.wounds[crm]) <= company.stored()
