"""Every crash of three scenarios, in one process: each run ends as the undisturbed one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import pytest

from tests.simulation.enumerating import crash_points, pairs
from tests.simulation.installation import CONNECTION, WRITEBACK
from tests.simulation.runs import Laboratory, Outcome
from tests.simulation.scenarios import Scenario, scenarios
from tests.simulation.world import Crashes, World
from worker.passes import perform
from worker.results import Kind
from worker.schedule import LONGEST_RETRY, Step, due

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}
PAIRS = 2
"""Of each scenario; `make simulate` tries them all."""

SEEDS = (17, 105, 126, 130, 137)

STEPS = {"paging": 5, "writing": 5, "taking over": 14}
"""Each so many-th crash; `make simulate` tries them all."""


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    found = Laboratory(tmp_path_factory.mktemp("laboratory"))
    yield found
    found.disk.close()


@pytest.fixture(scope="module")
def undisturbed(laboratory: Laboratory) -> Mapping[str, Outcome]:
    return {name: laboratory.run(one) for name, one in SCENARIOS.items()}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_an_undisturbed_run_keeps_every_promise(
    undisturbed: Mapping[str, Outcome], scenario: Scenario
) -> None:
    assert undisturbed[scenario.name].found == []
    assert undisturbed[scenario.name].crashes == 0


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_crash_at_some_effect_changes_nothing_in_the_end(
    laboratory: Laboratory, undisturbed: Mapping[str, Outcome], scenario: Scenario
) -> None:
    calm = undisturbed[scenario.name]

    for number in crash_points(calm)[:: STEPS[scenario.name]]:
        run = laboratory.run(scenario, Crashes(number), expected=calm.state)

        assert (run.crashes, run.found) == (1, []), f"a crash at effect {number}"


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_two_crashes_one_after_the_other_change_nothing_in_the_end(
    laboratory: Laboratory, undisturbed: Mapping[str, Outcome], scenario: Scenario
) -> None:
    calm = undisturbed[scenario.name]
    chance = Random(7)  # noqa: S311 - the same pairs every time
    firsts = chance.sample(crash_points(calm), PAIRS)

    for first in firsts:
        once = laboratory.run(scenario, Crashes(first), expected=calm.state)
        second = chance.choice(pairs(once, first))
        run = laboratory.run(scenario, Crashes(first, second), expected=calm.state)

        assert (run.crashes, run.found) == (2, []), f"crashes at {first} and {second}"


def test_the_same_crashes_are_the_same_run(laboratory: Laboratory) -> None:
    scenario = SCENARIOS["taking over"]

    one, other = (laboratory.run(scenario, Crashes(40, 90), is_traced=True) for _ in range(2))

    assert len(one.trace) > 100
    assert one.trace == other.trace
    assert one.state == other.state


@pytest.mark.parametrize("seed", SEEDS)
def test_some_minutes_of_server_mode_keep_every_promise(laboratory: Laboratory, seed: int) -> None:
    run = laboratory.run_seed(seed)

    assert len(run.effects) > 300
    assert run.found == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_crash_at_any_effect_changes_nothing_in_the_end(
    laboratory: Laboratory, undisturbed: Mapping[str, Outcome], scenario: Scenario
) -> None:
    calm = undisturbed[scenario.name]

    for number in range(1, calm.played + 1):
        run = laboratory.run(scenario, Crashes(number), expected=calm.state)

        assert (run.crashes, run.found) == (1, []), f"a crash at effect {number}"


def test_a_seed_is_the_same_run_every_time(laboratory: Laboratory) -> None:
    one, other = (laboratory.run_seed(17, is_traced=True) for _ in range(2))

    assert len(one.trace) > 300
    assert one.trace == other.trace


def test_a_comparison_whose_process_died_is_due_again_within_minutes(
    laboratory: Laboratory,
) -> None:
    world = World(Crashes(4))
    site = laboratory.site(world)
    step = Step(Kind.DRIFT, CONNECTION, writeback=WRITEBACK)
    found: list[Step] = []

    site.work(lambda runtime: perform(runtime, step))
    world.now += LONGEST_RETRY
    site.work(lambda runtime: found.extend(due(runtime)))

    assert world.crashes == 1
    assert any(one.is_same(step) for one in found)
