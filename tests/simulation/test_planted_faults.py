"""The simulation is worth something: each planted fault of the product is found by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Connection

from connectors.base import Page
from store import checkpoints, deadletters, leases, outbox
from store.engine import operating
from tests.simulation.crm import DEALS, Crm
from tests.simulation.installation import Installation
from tests.simulation.runs import Laboratory, Outcome
from tests.simulation.scenarios import Scenario, full_pass_of, scenarios
from tests.simulation.world import GOES_ON, Crashes, Fate, Plan
from worker import pulling, pushing, running
from worker.results import State

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    found = Laboratory(tmp_path_factory.mktemp("planted"))
    yield found
    found.disk.close()


class Frozen(Plan):
    """The first process freezes just before the first effect of a kind."""

    def __init__(self, before: str, effects: Sequence[str]) -> None:
        self._at = next(n for n, what in enumerate(effects) if what.startswith(before))

    def fate(self, number: int, what: str) -> Fate:
        del what
        return Fate(freeze=timedelta(minutes=3)) if number == self._at else GOES_ON


def _frozen_and_replaced(site: Installation) -> None:
    """The second process begins when the first one's leases have run out."""
    site.start("one", full_pass_of)
    site.start("two", full_pass_of, after=timedelta(seconds=60))


def _another_amount(crm: Crm) -> None:
    crm.edit(DEALS, "d4", amount=Decimal(4004))


OVERTAKEN = replace(
    SCENARIOS["writing"],
    name="overtaken",
    people=((30_000, _another_amount),),
    play=_frozen_and_replaced,
)


def frozen_before_a_call(laboratory: Laboratory) -> Outcome:
    calm = laboratory.run(OVERTAKEN)
    assert calm.found == []
    return laboratory.run(OVERTAKEN, Frozen("call write", calm.effects), expected=calm.state)


def crashed(laboratory: Laboratory, scenario: Scenario, before: str) -> Outcome:
    """A crash right before the first effect of a kind; one that needs no fault is survived."""
    calm = laboratory.run(scenario)
    at = next(n for n, what in enumerate(calm.effects, start=1) if what.startswith(before))
    return laboratory.run(scenario, Crashes(at), expected=calm.state)


# ---------------------------------------------------------------- what is kept without a fault


def test_a_worker_frozen_between_mark_and_call_writes_nothing_when_it_wakes_up(
    laboratory: Laboratory,
) -> None:
    run = frozen_before_a_call(laboratory)

    assert run.found == []


# ---------------------------------------------------------------- planted


def test_a_worker_that_does_not_look_at_its_lease_before_a_call_is_found(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.Running, "ensure_held", lambda _: None)

    run = frozen_before_a_call(laboratory)

    assert any(one.startswith(("I6", "I10")) for one in run.found)


def test_a_checkpoint_that_is_committed_before_its_records_is_found(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pulling._Pull._commit

    def hasty(pull: pulling._Pull, page: Page) -> State:
        before = pull._checkpoint
        with operating(pull._runtime.engine) as conn:
            checkpoints.save(conn, pull._advanced(page))
        pull._checkpoint = before
        return honest(pull, page)

    monkeypatch.setattr(pulling._Pull, "_commit", hasty)
    scenario = SCENARIOS["paging"]
    calm = laboratory.run(scenario)
    page = calm.effects.index("call read deals") + 1

    run = laboratory.run(scenario, Crashes(page + 2), expected=calm.state)

    assert calm.effects[page : page + 3] == ("commit", "committed", "commit")
    assert any(one.startswith(("I1:", "undisturbed: deals")) for one in run.found)


def test_values_that_are_sent_before_they_are_marked_are_found(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "mark_sending", lambda _conn, _ids: None)

    run = crashed(laboratory, SCENARIOS["writing"], "done write")

    assert any(one.startswith(("I13", "undisturbed", "I5", "I6")) for one in run.found)


def test_values_that_are_sent_again_without_being_read_back_are_found(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(push: pushing.Push) -> None:
        with operating(push._engine) as conn:
            rows = outbox.sending(conn, push._spec.name)
            outbox.back_to_pending(conn, [row.id for row in rows])
        push._send(rows, 2, "")

    monkeypatch.setattr(pushing.Push, "_resume", blind)
    monkeypatch.setattr(pushing, "reason_to_drop", lambda _live, _row: None)

    run = crashed(laboratory, SCENARIOS["writing"], "done write")

    assert any(one.startswith("I6") for one in run.found)


def test_a_lease_whose_token_nobody_looks_at_is_found(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(conn: Connection, lease: leases.Lease) -> None:
        del conn, lease

    monkeypatch.setattr(leases, "ensure", trusting)
    monkeypatch.setattr(leases, "is_held", lambda _conn, _lease: True)

    run = frozen_before_a_call(laboratory)

    assert any(one.startswith(("I6", "I10")) for one in run.found)


def test_letters_of_records_that_can_be_read_again_are_found(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "clear_mapped", lambda *_: 0)

    run = laboratory.run(SCENARIOS["paging"])

    assert any(one.startswith("I9") for one in run.found)
