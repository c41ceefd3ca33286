"""What an ops person types when something is wrong, or to see that nothing is."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import redis

from tests.acceptance.yaml_texts import two_crms
from tests.chaos.inside import Inside
from tests.chaos.storm import with_fields
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


@pytest.mark.slow
def test_what_ops_look_at_names_what_failed_how_long_it_took_and_what_comes_next(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    kpisync = Inside(tmp_path)
    with_fields(sandbox)
    kpisync.configure(two_crms(sandbox))
    kpisync("run", "--once")
    sandbox.hubspot.fault("status", status=503, times="forever", path="deals")
    kpisync("pull", "hubspot", expect_exit=4)

    status = kpisync("status")
    document = kpisync("status", "--json").json
    listed = kpisync("runs", "list", "--json").json
    failed = next(run for run in listed if run["state"] == "failed")
    shown = kpisync("runs", "show", str(failed["run"]))

    assert "next: pull hubspot by " in status.out
    assert "write back account_kpis by " in status.out
    assert "API calls in the last 24 hours" in status.out
    assert "hubspot.deals: hubspot: HubSpot has a fault of its own (503)" in status.err
    assert [one["by"] for one in document["next"]] == sorted(one["by"] for one in document["next"])
    for run in listed:
        assert run["seconds"] >= 0
        if run["kind"] == "pull":
            assert run["pulled"] == run["stored"] + run["unchanged"] + run["dead"]
    assert "error  hubspot: HubSpot has a fault of its own (503)" in shown.out
    assert "seconds  " in shown.out
    assert kpisync("status", "--fail-on", "failed", expect_exit=5).exit_code == 5


def test_doctor_refuses_a_broker_that_may_evict(
    kpisync: Cli, sandbox: Sandbox, redis_url: str
) -> None:
    kpisync.configure(two_crms(sandbox, broker=redis_url))
    kpisync("db", "upgrade")
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            evicting = kpisync("doctor", expect_exit=1)
        finally:
            client.config_set("maxmemory-policy", "noeviction")

    assert "maxmemory-policy is allkeys-lru: set it to noeviction" in evicting.out
    assert "no sign of life: start `kpisync worker`" in evicting.out
