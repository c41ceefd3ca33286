"""What the sandbox is filled with: an invented company, or the CSV files of a real one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.sandboxes import Crm, Sandbox, SandboxRefusedError, start_sandbox

TODAY = "2026-03-01"
PUBLIC_DATA = Path(
    os.environ.get(
        "KPISYNC_TEST_DATA", Path(__file__).parents[4] / "shared/data/crm_sales_opportunities"
    )
)

ACCOUNTS = """account,sector,year_established,revenue,employees,office_location,subsidiary_of
Child,retail,2001,10.5,20,Kenya,Parent
Parent,technolgy,1996,1100.04,2822,United States,
"""
PRODUCTS = "product,series,sales_price\nGTX Pro,GTX,4821\nMG Special,MG,55\n"
TEAMS = """sales_agent,manager,regional_office
Rep Uno,Boss,Central
Rep Dos,Boss,West
"""
HEADER = (
    "opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value\n"
)
PIPELINE = f"""{HEADER}\
D1,Rep Uno,GTXPro,Parent,Won,2017-01-01,2017-02-10,4514
D2,Rep Dos,MG Special,Child,Lost,2017-01-02,2017-03-05,0
D3,Rep Uno,GTX Pro,,Engaging,2017-02-01,,
D4,Rep Dos,MG Special,Parent,Prospecting,,,
"""
FILES = {
    "accounts.csv": ACCOUNTS,
    "products.csv": PRODUCTS,
    "sales_teams.csv": TEAMS,
    "sales_pipeline.csv": PIPELINE,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "data_dictionary.csv").write_bytes(b"Table,Field\r\naccounts,caf\xe9 \x92\r\n")
    return tmp_path


def live(crm: Crm, object_name: str) -> list[dict[str, Any]]:
    return [record for record in crm.snapshot().get(object_name, []) if not record["deleted"]]


def by_name(crm: Crm, object_name: str, name: str) -> dict[str, dict[str, Any]]:
    return {record["fields"][name]: record for record in live(crm, object_name)}


@pytest.fixture(scope="module")
def seeded() -> Iterator[Sandbox]:
    with start_sandbox("--seed", "7", "--today", TODAY) as sandbox:
        yield sandbox


def test_the_same_seed_makes_the_same_company(
    seeded: Sandbox, start_sandbox: Callable[..., Sandbox]
) -> None:
    again = start_sandbox("--seed", "7", "--today", TODAY)
    other = start_sandbox("--seed", "8", "--today", TODAY)

    def deals(sandbox: Sandbox) -> list[object]:
        return [record["fields"] for record in sandbox.hubspot.snapshot()["deals"]]

    def rest(sandbox: Sandbox) -> list[object]:
        portal, org = sandbox.hubspot.snapshot(), sandbox.salesforce.snapshot()
        ours = [portal[name] for name in ("contacts", "tickets", "campaign_touches", "email_days")]
        theirs = [org[name] for name in ("Lead", "Case", "CampaignMember", "Survey_Response__c")]
        return [record["fields"] for records in [*ours, *theirs] for record in records]

    assert deals(seeded) == deals(again)
    assert deals(seeded) != deals(other)
    assert rest(seeded) == rest(again)
    assert rest(seeded) != rest(other)


def test_an_invented_company_spans_two_years_and_both_crms(seeded: Sandbox) -> None:
    opportunities = seeded.salesforce.snapshot()["Opportunity"]
    deals = seeded.hubspot.snapshot()["deals"]

    assert len(opportunities) + len(deals) == 600
    assert min(len(opportunities), len(deals)) > 200
    created = sorted(str(record["created"]) for record in [*opportunities, *deals])
    assert created[0] < "2024-04-01"
    assert created[-1] < TODAY
    assert created[-1] > "2026-02-01"
    names = {record["fields"]["Name"] for record in live(seeded.salesforce, "Account")}
    assert names.isdisjoint(r["fields"]["name"] for r in live(seeded.hubspot, "companies"))


def test_an_invented_company_holds_what_real_crms_hold(seeded: Sandbox) -> None:
    deals = [record["fields"] for record in live(seeded.hubspot, "deals")]

    stages = Counter(deal["dealstage"] for deal in deals)
    assert {"prospecting", "proposal", "negotiation", "closedwon", "closedlost"} <= set(stages)
    assert 0.3 < stages["closedwon"] / (stages["closedwon"] + stages["closedlost"]) < 0.6
    assert any("amount" not in deal for deal in deals)
    assert any(deal.get("amount") == "0" for deal in deals)
    assert all("amount" in deal for deal in deals if deal["dealstage"] == "closedwon")
    assert {"ORGANIC_SEARCH", "REFERRALS"} <= {deal["hs_analytics_source"] for deal in deals}
    reopened = [
        deal for deal in deals if any(name.startswith("hs_v2_date_exited_closed") for name in deal)
    ]
    assert reopened
    records = seeded.hubspot.snapshot()["deals"]
    assert any(record["deleted"] for record in records)
    late = [r for r in records if str(r["fields"]["createdate"]) < str(r["created"])]  # type: ignore[index]  # JSON
    assert late, "some were entered days after they began"
    assert any(owner["deleted"] for owner in seeded.hubspot.snapshot()["owners"]), "one rep left"


def test_owners_have_the_same_addresses_in_both_crms(seeded: Sandbox) -> None:
    owners = {owner["fields"]["email"] for owner in seeded.hubspot.snapshot()["owners"]}  # type: ignore[index]  # JSON
    users = {user["fields"].get("Email") for user in seeded.salesforce.snapshot()["User"]}  # type: ignore[attr-defined]  # JSON

    assert owners
    assert owners <= users


def test_size_and_split_choose_how_much_goes_where(start_sandbox: Callable[..., Sandbox]) -> None:
    one = start_sandbox("--seed", "1", "--size", "40", "--split", "hubspot")

    assert len(one.hubspot.snapshot()["deals"]) == 40
    assert one.salesforce.snapshot().get("Opportunity", []) == []


def test_todays_org_shows_today(seeded: Sandbox) -> None:
    assert seeded.hubspot.clock().startswith(TODAY)


def test_a_companys_files_become_hubspot_records_with_their_history(
    folder: Path, start_sandbox: Callable[..., Sandbox]
) -> None:
    sandbox = start_sandbox("--data", str(folder), "--split", "hubspot")
    deals = by_name(sandbox.hubspot, "deals", "dealname")
    companies = by_name(sandbox.hubspot, "companies", "name")

    won = deals["D1"]["fields"]
    assert {
        "product": "GTX Pro",
        "amount": "4514",
        "dealstage": "won",
        "createdate": "2017-01-01T12:00:00Z",
        "closedate": "2017-02-10T12:00:00Z",
        "hs_v2_date_entered_engaging": "2017-01-01T12:00:00Z",
        "hs_v2_date_entered_won": "2017-02-10T12:00:00Z",
        "hs_is_closed_won": "true",
    }.items() <= won.items()
    assert deals["D2"]["fields"]["amount"] == "0", "a lost deal keeps its zero"
    assert "closedate" not in deals["D3"]["fields"]
    assert deals["D4"]["fields"]["createdate"] == "2017-03-05T12:00:00Z", "the last day in the file"
    parent = companies["Parent"]
    assert {
        "industry": "technolgy",
        "annualrevenue": "1100040000",
        "country": "United States",
        "numberofemployees": "2822",
    }.items() <= parent["fields"].items()
    assert parent["id"] == companies["Child"]["fields"]["hs_parent_company_id"]
    emails = [owner["fields"]["email"] for owner in live(sandbox.hubspot, "owners")]
    assert emails == ["rep.uno@example.com", "rep.dos@example.com"]


def test_a_companys_files_become_salesforce_records_with_their_history(
    folder: Path, start_sandbox: Callable[..., Sandbox]
) -> None:
    sandbox = start_sandbox("--data", str(folder), "--split", "salesforce")
    deals = by_name(sandbox.salesforce, "Opportunity", "Name")
    accounts = by_name(sandbox.salesforce, "Account", "Name")

    won = deals["D1"]
    assert (
        won["created"],
        won["fields"]["CloseDate"],
    ) == ("2017-01-01T12:00:00.000Z", "2017-02-10")
    assert tuple(won["fields"][name] for name in ("StageName", "Amount", "Product__c")) == (
        "Won",
        4514,
        "GTX Pro",
    )
    assert accounts["Parent"]["id"] == won["fields"]["AccountId"]
    assert deals["D2"]["fields"]["Amount"] == 0
    assert "AccountId" not in deals["D3"]["fields"]
    assert deals["D3"]["fields"]["CloseDate"] == "2017-03-05", "Salesforce wants a forecast"
    assert accounts["Parent"]["id"] == accounts["Child"]["fields"]["ParentId"]
    assert accounts["Parent"]["fields"]["AnnualRevenue"] == 1_100_040_000
    history = [
        (row["fields"]["StageName"], row["created"])
        for row in live(sandbox.salesforce, "OpportunityHistory")
        if row["fields"]["OpportunityId"] == won["id"]
    ]
    assert history == [
        ("Engaging", "2017-01-01T12:00:00.000Z"),
        ("Won", "2017-02-10T12:00:00.000Z"),
    ]


@pytest.mark.skipif(not PUBLIC_DATA.is_dir(), reason="the public data set is not at hand")
@pytest.mark.parametrize("split", ["salesforce", "hubspot", "both"])
def test_the_public_data_set_loads_without_losing_a_deal(
    start_sandbox: Callable[..., Sandbox], split: str
) -> None:
    sandbox = start_sandbox("--data", str(PUBLIC_DATA), "--split", split)
    opportunities = live(sandbox.salesforce, "Opportunity")
    deals = live(sandbox.hubspot, "deals")

    stages = Counter(str(record["fields"]["StageName"]).lower() for record in opportunities)
    stages += Counter(str(record["fields"]["dealstage"]) for record in deals)
    assert stages == {"won": 4_238, "lost": 2_473, "engaging": 1_589, "prospecting": 500}
    amounts = [record["fields"].get("Amount") for record in opportunities]
    amounts += [record["fields"].get("amount") for record in deals]
    assert sum(Decimal(str(amount)) for amount in amounts if amount is not None) == 10_005_534
    products = Counter(r["fields"].get("Product__c") for r in opportunities)
    products += Counter(r["fields"].get("product") for r in deals)
    assert products["GTX Pro"] == 1_480
    assert "GTXPro" not in products
    accounts = [*live(sandbox.salesforce, "Account"), *live(sandbox.hubspot, "companies")]
    assert len(accounts) == 85
    if split == "both":
        assert min(len(opportunities), len(deals)) > 3_000


@pytest.mark.parametrize(
    "change",
    [
        {"accounts.csv": ACCOUNTS.replace("Parent", '"The\nParent"')},
        {"accounts.csv": "\ufeff" + ACCOUNTS},
        {"sales_pipeline.csv": PIPELINE.replace("\n", "\r\n")},
        {"sales_pipeline.csv": PIPELINE + "\n\n"},
        {
            "products.csv": PRODUCTS.replace("product,", ' product ,"quoted, column",')
            .replace("\nGTX Pro,", "\nGTX Pro,x,")
            .replace("\nMG Special,", "\nMG Special,y,")
        },
    ],
    ids=["quoted newline", "byte order mark", "CRLF", "empty lines", "more columns"],
)
def test_files_of_the_same_shape_load(
    folder: Path, start_sandbox: Callable[..., Sandbox], change: Mapping[str, str]
) -> None:
    for name, text in change.items():
        (folder / name).write_bytes(text.encode())
    if "The\nParent" in change.get("accounts.csv", ""):
        text = PIPELINE.replace("Parent", '"The\nParent"')
        (folder / "sales_pipeline.csv").write_text(text, encoding="utf-8")

    sandbox = start_sandbox("--data", str(folder), "--split", "hubspot")

    assert len(sandbox.hubspot.snapshot()["deals"]) == 4


def test_latin_1_loads_with_a_warning_that_names_the_line(
    folder: Path, start_sandbox: Callable[..., Sandbox]
) -> None:
    text = ACCOUNTS.replace("Kenya", "Curaçao")
    (folder / "accounts.csv").write_bytes(text.encode("latin-1"))

    sandbox = start_sandbox("--data", str(folder), "--split", "hubspot")

    countries = {it["fields"]["country"] for it in live(sandbox.hubspot, "companies")}
    assert "Curaçao" in countries


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("accounts.csv", None, "accounts.csv: cannot be read"),
        ("accounts.csv", "", "accounts.csv:1: the file is empty"),
        ("accounts.csv", ACCOUNTS.replace("sector", "x"), "accounts.csv:1: column sector is miss"),
        ("accounts.csv", ACCOUNTS.replace("1100.04", "much"), 'csv:3: revenue "much" is not a nu'),
        ("accounts.csv", ACCOUNTS.replace(",Parent", ",Ghost"), 'csv:2: subsidiary_of "Ghost"'),
        ("accounts.csv", ACCOUNTS + "Parent,x,1,1,1,x,\n", 'csv:4: account "Parent" stands on li'),
        ("accounts.csv", ACCOUNTS[:-1] + "Child\n", "in a circle"),
        ("accounts.csv", ACCOUNTS + "short,row\n", "accounts.csv:4: 2 columns, but the header"),
        ("accounts.csv", ACCOUNTS + 'x,"open\n\n', "accounts.csv:4: "),
        ("accounts.csv", ACCOUNTS.encode("utf-16"), "accounts.csv:1: is UTF-16"),
        ("sales_teams.csv", TEAMS.replace("Rep Dos", ""), "sales_teams.csv:3: sales_agent is emp"),
        ("sales_pipeline.csv", PIPELINE.replace("2017-02-10", "10.2.17"), "csv:2: close_date"),
        ("sales_pipeline.csv", PIPELINE.replace("4514", "4,514"), "csv:2: 9 columns"),
        ("sales_pipeline.csv", PIPELINE.replace("4514", "NaN"), 'csv:2: close_value "NaN"'),
        ("sales_pipeline.csv", PIPELINE.replace("Engaging", "Engaged"), 'csv:4: deal_stage "Eng'),
        ("sales_pipeline.csv", PIPELINE.replace("GTXPro", "GTXMax"), 'csv:2: product "GTXMax"'),
        ("sales_pipeline.csv", PIPELINE.replace(",Child", ",Ghost"), 'csv:3: account "Ghost"'),
        ("sales_pipeline.csv", PIPELINE.replace("D2,Rep Dos", "D2,Who"), 'csv:3: sales_agent "W'),
        ("sales_pipeline.csv", PIPELINE.replace("D2", "D1"), 'csv:3: opportunity_id "D1" stands'),
        (
            "sales_pipeline.csv",
            PIPELINE.replace("2017-03-05", ""),
            "csv:3: close_date is empty, bu",
        ),
        (
            "sales_pipeline.csv",
            PIPELINE.replace("2017-03-05", "2016-03-05"),
            "csv:3: closed on 201",
        ),
        ("sales_pipeline.csv", HEADER, "sales_pipeline.csv: no row has a date"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_file_and_line(
    folder: Path, name: str, content: str | bytes | None, words: str
) -> None:
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        (folder / name).write_text(content, encoding="utf-8")

    with pytest.raises(SandboxRefusedError) as refused:
        start_sandbox("--data", str(folder))

    assert refused.value.code == 2
    assert words in refused.value.said
    assert "Traceback" not in refused.value.said


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxRefusedError) as refused:
        start_sandbox("--data", str(tmp_path / "nowhere"))

    assert (refused.value.code, "no such folder" in refused.value.said) == (2, True)
