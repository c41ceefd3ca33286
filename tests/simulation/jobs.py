"""What one process of a large simulation does: some runs, one after the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.enumerating import pairs
from tests.simulation.runs import Laboratory, Outcome
from tests.simulation.scenarios import Scenario, scenarios
from tests.simulation.world import Crashes, Stuck
from worker.observe import configure_logging


@dataclass(frozen=True)
class Job:
    """Runs that one process makes one after the other."""

    scenario: int | None = None
    first: int = 0
    """The effect of the first crash; all second ones follow."""
    has_pairs: bool = False
    seeds: range = range(0)


@dataclass(frozen=True)
class Tally:
    """What a job has found."""

    runs: int = 0
    crashes: int = 0
    effects: int = 0
    found: tuple[str, ...] = ()


_laboratories: list[Laboratory] = []
_calm: dict[int, Outcome] = {}
_scenarios: list[Scenario] = []


def move_in(folder: str) -> None:
    """A process gets a folder of its own and what it works with."""
    configure_logging(is_quiet=True)
    _laboratories.append(Laboratory(Path(tempfile.mkdtemp(dir=folder))))
    _scenarios.extend(scenarios())


def work(job: Job) -> Tally:
    """Make the runs of a job, and count what they found."""
    if job.scenario is None:
        total = Tally()
        for seed in job.seeds:
            total = added(total, _seeded(seed))
        return total
    scenario = _scenarios[job.scenario]
    laboratory = _laboratories[0]
    if job.scenario not in _calm:
        _calm[job.scenario] = laboratory.run(scenario)
    calm = _calm[job.scenario]
    once = laboratory.run(scenario, Crashes(job.first), expected=calm.state)
    total = _tally(once, f"{scenario.name}, crash at {job.first}")
    for second in pairs(once, job.first) if job.has_pairs else ():
        twice = laboratory.run(scenario, Crashes(job.first, second), expected=calm.state)
        label = f"{scenario.name}, crashes at {job.first} and {second}"
        total = added(total, _tally(twice, label))
    return total


def _seeded(seed: int) -> Tally:
    try:
        run = _laboratories[0].run_seed(seed)
    except (Exception, Stuck) as error:  # noqa: BLE001 - whichever it is, the other seeds are to be tried
        return Tally(runs=1, found=(f"seed {seed}: {type(error).__name__}: {error}",))
    return _tally(run, f"seed {seed}")


def _tally(run: Outcome, label: str) -> Tally:
    found = (f"{label}: {'; '.join(run.found[:3])}",) if run.found else ()
    return Tally(1, run.crashes, len(run.effects), found)


def added(one: Tally, other: Tally) -> Tally:
    """Both together."""
    return Tally(
        one.runs + other.runs,
        one.crashes + other.crashes,
        one.effects + other.effects,
        one.found + other.found,
    )
