"""Whatever is wrong gets a clear word that names place and remedy, and harms nothing else."""

from __future__ import annotations

import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox


@pytest.fixture
def configured(kpisync: Cli, sandbox: Sandbox) -> Cli:
    kpisync.configure(two_crms(sandbox))
    account = sandbox.salesforce.create("Account", {"Name": "Account 1"})
    sandbox.salesforce.create(
        "Opportunity",
        {
            "Name": "Deal 1",
            "AccountId": account,
            "StageName": "Closed Won",
            "CloseDate": "2026-03-05",
            "Amount": 100,
        },
    )
    company = sandbox.hubspot.create("companies", {"name": "Company 1"})
    sandbox.hubspot.create(
        "deals",
        {
            "dealname": "Deal 2",
            "pipeline": "default",
            "dealstage": "closedwon",
            "closedate": "2026-03-05T12:00:00Z",
            "amount": "250",
        },
        associations={"companies": [company]},
    )
    return kpisync


def test_an_unknown_key_is_named_with_its_place_and_its_nearest_right_name(kpisync: Cli) -> None:
    kpisync.configure("version: 1\ncompnay: {currency: EUR}\n")

    ended = kpisync("check", expect_exit=3)

    assert "kpisync.yaml:2:1" in ended.err
    assert 'Did you mean "company"' in ended.err


def test_a_wrong_type_and_a_missing_variable_are_told_together(kpisync: Cli) -> None:
    kpisync.configure(
        "version: 1\n"
        "company: {currency: EUR, timezone: Mars/Olympus}\n"
        "connections:\n"
        "  hubspot:\n"
        "    type: hubspot\n"
        "    every: soon\n"
        "    auth: {flow: token, token: '${NO_SUCH_KEY:?make one}'}\n"
    )

    ended = kpisync("check", expect_exit=3)

    assert "kpisync.yaml:2:" in ended.err
    assert "Mars/Olympus" in ended.err
    assert "NO_SUCH_KEY" in ended.err
    assert "make one" in ended.err
    assert "every" in ended.err


def test_an_unknown_kpi_is_found_in_the_file(kpisync: Cli, sandbox: Sandbox) -> None:
    text = two_crms(sandbox).replace("KPI_Win_Rate__c: win_rate", "KPI_Win_Rate__c: win_rat")
    kpisync.configure(text)
    line = 1 + text[: text.index("win_rat,")].count("\n")

    ended = kpisync("check", expect_exit=3)

    assert f"kpisync.yaml:{line}:" in ended.err
    assert 'Did you mean "win_rate"' in ended.err


def test_wrong_credentials_are_a_plain_sentence_and_the_secret_is_not_in_it(
    configured: Cli,
) -> None:
    secret = "pat-na1-0123456789-wrong"

    ended = configured("check", "--online", env={"HUBSPOT_TOKEN": secret}, expect_exit=1)
    pulled = configured("pull", "hubspot", env={"HUBSPOT_TOKEN": secret}, expect_exit=1)

    for words in (ended.err, pulled.err):
        assert "hubspot" in words
        assert "token" in words.lower()
        assert secret not in words
        assert "Traceback" not in words


def test_one_crm_down_leaves_the_other_alone_and_is_told(configured: Cli, sandbox: Sandbox) -> None:
    sandbox.hubspot.fault(kind="status", status=503, times=10_000)

    ended = configured("run", "--once", expect_exit=4)

    assert "hubspot" in ended.err
    assert [deal["name"] for deal in configured("dump", "records", "deals").lines] == ["Deal 1"]
    failed = configured("status", "--fail-on", "failed", expect_exit=5)
    assert "hubspot" in failed.err


def test_a_field_that_is_missing_in_the_crm_stops_the_push_with_its_name_and_the_remedy(
    configured: Cli,
) -> None:
    ended = configured("run", "--once", expect_exit=None)

    assert ended.exit_code in {1, 4, 6}
    assert "KPI_Win_Rate__c" in ended.err
    assert "kpisync setup" in ended.err
    assert len(configured("dump", "records", "deals").lines) == 2


def test_a_deal_whose_amount_is_no_number_waits_in_the_dead_letters(
    configured: Cli, sandbox: Sandbox
) -> None:
    bad = sandbox.hubspot.create(
        "deals", {"dealname": "Deal 3", "pipeline": "default", "dealstage": "closedwon"}
    )
    sandbox.hubspot.edit("deals", bad, {"amount": "abc"}, raw=True)
    configured("setup", "--yes")

    configured("run", "--once")

    (letter,) = configured("dump", "deadletters").lines
    assert letter["ref"] == f"hubspot:{bad}"
    assert letter["field"] == "amount"
    assert letter["raw"] == "abc"
    assert len(configured("dump", "records", "deals").lines) == 2

    sandbox.hubspot.edit("deals", bad, {"amount": "70"})
    configured("run", "--once")

    assert configured("dump", "deadletters").lines == []
    assert len(configured("dump", "records", "deals").lines) == 3


def test_a_stage_nobody_knows_is_named_and_the_flags_of_the_crm_decide(
    configured: Cli, sandbox: Sandbox
) -> None:
    deal = sandbox.hubspot.create(
        "deals", {"dealname": "Deal 4", "pipeline": "default", "dealstage": "closedwon"}
    )
    sandbox.hubspot.edit("deals", deal, {"dealstage": "stage_from_mars"}, raw=True)
    configured("setup", "--yes")

    ended = configured("run", "--once", expect_exit=None)

    assert "stage_from_mars" in ended.err + configured("dump", "deadletters").out
    assert {"Deal 1", "Deal 2"} <= {
        deal["name"] for deal in configured("dump", "records", "deals").lines
    }


def test_without_a_configuration_the_way_to_a_first_one_is_told(kpisync: Cli) -> None:
    ended = kpisync("status", expect_exit=3)

    assert "kpisync.yaml does not exist" in ended.err
    assert "docs/quickstart.md" in ended.err


def test_a_misspelt_command_is_a_usage_error(kpisync: Cli) -> None:
    ended = kpisync("pul", expect_exit=2)

    assert "pul" in ended.err


def test_a_withdrawn_permission_takes_no_stored_value_away(
    configured: Cli, sandbox: Sandbox
) -> None:
    (deal,) = [record["id"] for record in sandbox.salesforce.snapshot()["Opportunity"]]
    sandbox.salesforce.edit("Opportunity", deal, {"LeadSource": "Web"})
    configured("pull", "salesforce")
    sandbox.salesforce.settings(hide_fields=["Opportunity.LeadSource"])
    sandbox.salesforce.edit("Opportunity", deal, {"Name": "Renamed"})

    configured("pull", "salesforce")

    (stored,) = configured("dump", "records", "deals").lines
    assert (stored["name"], stored["source"]) == ("Renamed", "Web")
