"""A stream whose attempts kill their process rests, visibly, while the others go on."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from store import checkpoints
from store.engine import operating
from tests.pipeline.worker.site import Site
from worker import status
from worker.results import Kind, State
from worker.runtime import Runtime
from worker.schedule import due


def streams_due(runtime: Runtime) -> set[str]:
    return {str(step.stream) for step in due(runtime) if step.kind is Kind.PULL}


def kill_while_pulling_owners(site: Site) -> None:
    process = site.process(crash_at="pull.page_received:1")
    process.communicate(timeout=60)
    assert process.returncode == -9
    time.sleep(1.1)  # its leases run out


@pytest.fixture
def short_site(empty_site: Site) -> Site:
    """Leases end after a second."""
    return empty_site.but(advanced=f"{empty_site.advanced}, lease: 1s")


def test_three_deaths_in_a_row_quarantine_the_stream_and_no_other(short_site: Site) -> None:
    short_site.sandbox.salesforce.create_many("Account", [{"Name": "Account 0001"}])
    for deaths in range(3):
        with short_site.runtime() as runtime:
            assert "owners" in streams_due(runtime), deaths
        kill_while_pulling_owners(short_site)

    with short_site.runtime() as runtime:
        found = status.gather(runtime)
        waiting = streams_due(runtime)

    owners = next(stream for stream in found.streams if stream.stream == "owners")
    assert owners.state == "quarantined"
    assert found.has_failed
    assert any("3 attempts in a row" in sentence for sentence in found.sentences)
    assert "owners" not in waiting
    assert "accounts" in waiting


def test_quarantine_ends_by_a_pull_by_hand_or_after_an_hour(short_site: Site) -> None:
    for _ in range(3):
        kill_while_pulling_owners(short_site)
    with short_site.runtime() as runtime, operating(runtime.engine) as conn:
        before = checkpoints.load(conn, "salesforce", "owners")
        assert before.last_attempt is not None
        earlier = before.last_attempt - timedelta(minutes=61)
        checkpoints.save(conn, replace(before, last_attempt=earlier))
    with short_site.runtime() as runtime:
        assert "owners" in streams_due(runtime)

    pulled = short_site.pull("salesforce", "owners")

    assert pulled.state is State.OK
    with short_site.runtime() as runtime, operating(runtime.engine) as conn:
        assert checkpoints.load(conn, "salesforce", "owners").strikes == 0
