"""What an ops person types when something is wrong, or to see that nothing is."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox


@pytest.fixture
def configured(kpisync: Cli, sandbox: Sandbox) -> Cli:
    kpisync.configure(two_crms(sandbox))
    return kpisync


@pytest.fixture
def bad_deal(configured: Cli, sandbox: Sandbox) -> str:
    """A deal in the dead letters, for its amount is no number."""
    bad = sandbox.hubspot.create(
        "deals", {"dealname": "Deal 3", "pipeline": "default", "dealstage": "closedwon"}
    )
    sandbox.hubspot.edit("deals", bad, {"amount": "abc"}, raw=True)
    configured("pull", "hubspot")
    return str(bad)


def test_a_repaired_record_leaves_the_dead_letters_by_a_retry(
    configured: Cli, sandbox: Sandbox, bad_deal: str
) -> None:
    (letter,) = configured("deadletters", "list", "--json").json
    sandbox.hubspot.edit("deals", bad_deal, {"amount": "70"})

    ended = configured("deadletters", "retry", str(letter["id"]))

    assert "0 dead letters are left" in ended.err
    (deal,) = configured("dump", "records", "deals").lines
    assert deal["amount"] == "70.00"


def test_a_record_that_is_still_bad_stays_with_one_more_try(configured: Cli, bad_deal: str) -> None:
    configured("deadletters", "retry", "--all")

    (letter,) = configured("deadletters", "list", "--json").json
    assert letter["ref"] == f"hubspot:{bad_deal}"
    assert letter["attempts"] == 2


def test_a_record_that_was_deleted_since_leaves_the_dead_letters(
    configured: Cli, sandbox: Sandbox, bad_deal: str
) -> None:
    sandbox.hubspot.delete("deals", [bad_deal])

    configured("deadletters", "retry", "--all")

    assert configured("deadletters", "list", "--json").json == []


@pytest.mark.usefixtures("bad_deal")
def test_dropping_asks_for_numbers_or_all(configured: Cli) -> None:
    assert configured("deadletters", "drop", expect_exit=2).err
    assert "no dead letter 99" in configured("deadletters", "drop", "99", expect_exit=2).err

    configured("deadletters", "drop", "--all")

    assert configured("deadletters", "list", "--json").json == []


def test_schedule_lists_the_next_firings_in_order(configured: Cli) -> None:
    firings = configured("schedule", "--next", "12", "--json").json

    instants = [datetime.fromisoformat(one["at"]) for one in firings]
    assert len(firings) == 12
    assert instants == sorted(instants)
    assert {one["what"] for one in firings} >= {"pull salesforce", "pull hubspot"}


def test_a_connection_rests_when_told_and_goes_on_when_told(configured: Cli) -> None:
    configured("state", "set", "hubspot", "--rest", "2h")

    rested = configured("pull", "hubspot")
    states = {one["state"] for one in configured("status", "--json").json["streams"]}
    configured("state", "set", "hubspot", "--resume")
    configured("pull", "hubspot")

    assert "a person asked for it" in rested.err
    assert states <= {"paused"}
    assert {one["state"] for one in configured("status", "--json").json["streams"]} == {"ok"}
