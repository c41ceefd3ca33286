"""Every crash of three scenarios, in one process: each run ends as the undisturbed one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.simulation.exploring import Explorer, Once, Tally
from tests.simulation.installation import CONNECTION, WRITEBACK
from tests.simulation.runs import Laboratory
from tests.simulation.scenarios import scenarios
from tests.simulation.world import Crashes, World
from worker.passes import perform
from worker.results import Kind
from worker.schedule import LONGEST_RETRY, Step, due

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}
SEEDS = {f"{first} to {first + 9}": range(first, first + 10) for first in range(1, 60, 10)}

STEPS = {"paging": 1, "writing": 8, "taking over": 20}
"""Each so many-th first crash, with all second ones; `make simulate` tries them all."""


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    found = Laboratory(tmp_path_factory.mktemp("laboratory"))
    yield found
    found.disk.close()


@pytest.fixture(scope="module")
def explorer_of(laboratory: Laboratory) -> Callable[[str], Explorer]:
    return cache(lambda name: Explorer(laboratory, SCENARIOS[name]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_undisturbed_run_keeps_every_promise(
    explorer_of: Callable[[str], Explorer], name: str
) -> None:
    assert explorer_of(name).calm.found == []
    assert explorer_of(name).calm.crashes == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_at_any_effect_changes_nothing_in_the_end(
    explorer_of: Callable[[str], Explorer], name: str
) -> None:
    total = Tally()

    for first in explorer_of(name).firsts:
        total.add(explorer_of(name).after(first))

    assert total.found == []
    assert total.singles == explorer_of(name).calm.played
    assert total.runs > 20


@pytest.mark.timeout(900)  # hundreds of runs; a busy machine takes its time
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_crashes_one_after_the_other_change_nothing_in_the_end(
    explorer_of: Callable[[str], Explorer], name: str
) -> None:
    total, once = Tally(), Once()

    for first in explorer_of(name).firsts[:: STEPS[name]]:
        total.add(explorer_of(name).after(first, once))

    assert [*total.found, *total.never_closed()] == []
    assert total.runs > 40


def test_the_same_crashes_are_the_same_run(laboratory: Laboratory) -> None:
    scenario = SCENARIOS["taking over"]

    one, other = (laboratory.run(scenario, Crashes(40, 90), is_traced=True) for _ in range(2))

    assert len(one.trace) > 100
    assert one.trace == other.trace
    assert one.state == other.state


@pytest.mark.parametrize("seeds", SEEDS.values(), ids=SEEDS)
def test_some_minutes_of_server_mode_keep_every_promise(
    laboratory: Laboratory, seeds: range
) -> None:
    for seed in seeds:
        run = laboratory.run_seed(seed)

        assert len(run.effects) > 200
        assert run.found == [], f"seed {seed}"


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
