"""What is explored once for all crashes that leave the same is what each of them comes to."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from store import outbox
from tests.simulation.exploring import Once
from tests.simulation.runs import Laboratory, Recorder
from tests.simulation.scenarios import Scenario, scenarios
from tests.simulation.snapshots import Snapshot
from tests.simulation.world import Crashes

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}
KINDS = {
    "paging": {"commit", "committed", "call read", "call write", "done write"},
    "writing": {"commit", "committed", "call read", "call look", "call write", "done write"},
    "taking over": {"commit", "call read", "call ids", "call gone", "call write", "done write"},
}
"""Effects without which a scenario would be about something else."""


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    found = Laboratory(tmp_path_factory.mktemp("exploring"))
    yield found
    found.disk.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_each_kind_of_effect_that_it_is_about(
    laboratory: Laboratory, name: str
) -> None:
    calm = laboratory.run(SCENARIOS[name])

    seen = {" ".join(effect.split()[:2]) for effect in calm.effects[: calm.played]}

    assert KINDS[name] <= seen


@pytest.mark.timeout(600)  # some dozens of runs; a busy machine takes its time
def test_crashes_with_the_same_digest_end_alike_whether_they_break_a_promise_or_not(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(laboratory, SCENARIOS["writing"], monkeypatch, singles=5, firsts=4, seconds=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["paging", "writing"])
def test_all_crashes_with_the_same_digest_end_alike(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    compare(laboratory, SCENARIOS[name], monkeypatch, singles=1000, firsts=1000, seconds=12)


def compare(
    laboratory: Laboratory,
    scenario: Scenario,
    monkeypatch: pytest.MonkeyPatch,
    *,
    singles: int,
    firsts: int,
    seconds: int,
) -> None:
    """Hold crashes that are played from the begin against the one that stands for them.

    With a fault planted that only some crashes bring to light.
    """
    monkeypatch.setattr(outbox, "mark_sending", lambda _conn, _ids: None)
    chance = Random(7)  # noqa: S311 - the same crashes every time
    calm = laboratory.run(scenario)
    seen = Recorder(Once())
    laboratory.run(scenario, expected=calm.state, recorder=seen)
    stands_for = {one.digest: one for one in seen.snapshots}
    verdicts: set[bool] = set()

    points = range(1, calm.played + 1)
    found_at = [number for number in points if calm.effects[number - 1].startswith("done")][:2]
    for number in sorted({*found_at, *chance.sample(points, min(singles, len(points)))}):
        once = laboratory.run(scenario, Crashes(number), expected=calm.state)
        like = laboratory.resume(scenario, stands_for[seen.digests[number]], expected=calm.state)
        assert (once.state, bool(once.found)) == (like.state, bool(like.found)), number
        verdicts.add(bool(once.found))

    assert verdicts == {True, False}
    explored = Once()
    kept: dict[bytes, Snapshot] = {}
    begin = chance.randrange(max(1, len(seen.snapshots) - firsts))
    for first in seen.snapshots[begin : begin + firsts]:
        behind = Recorder(explored, after=first.number)
        laboratory.resume(scenario, first, expected=calm.state, recorder=behind)
        kept |= {one.digest: one for one in behind.snapshots}
        known = [number for number, state in behind.digests.items() if state in behind.known]
        for number in chance.sample(known, min(seconds, len(known))):
            state = kept[behind.digests[number]]
            plan = Crashes(first.number, number)
            twice = laboratory.run(scenario, plan, expected=calm.state)
            like = laboratory.resume(scenario, state, expected=calm.state, crashes=2)
            assert twice.crashes == 2
            assert (twice.state, bool(twice.found)) == (like.state, bool(like.found)), number
