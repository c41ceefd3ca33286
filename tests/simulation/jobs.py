"""What one process of a large simulation does: some runs, one after the other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.exploring import Explorer, Tally
from tests.simulation.runs import Laboratory
from tests.simulation.scenarios import scenarios
from tests.simulation.world import Stuck
from worker.observe import configure_logging


@dataclass(frozen=True)
class Job:
    """Runs that one process makes one after the other."""

    scenario: str | None = None
    first: int = 0
    """Which of the first crashes; all second ones follow."""
    has_pairs: bool = False
    seeds: range = range(0)


@dataclass
class Desk:
    """What a process works with."""

    claims: Path
    laboratory: Laboratory
    explorers: dict[str, Explorer]

    def explorer(self, name: str) -> Explorer:
        """That of a scenario, which is made once."""
        if name not in self.explorers:
            scenario = next(one for one in scenarios() if one.name == name)
            self.explorers[name] = Explorer(self.laboratory, scenario)
        return self.explorers[name]


_desks: list[Desk] = []


def move_in(folder: str) -> None:
    """A process gets a folder of its own and what it works with."""
    configure_logging(is_quiet=True)
    own = Path(tempfile.mkdtemp(dir=folder))
    _desks.append(Desk(Path(folder), Laboratory(own), {}))


def work(job: Job) -> Tally:
    """Make the runs of a job, and count what they found."""
    desk = _desks[0]
    if job.scenario is None:
        total = Tally()
        for seed in job.seeds:
            total.add(seeded(desk.laboratory, seed))
        return total
    explorer = desk.explorer(job.scenario)

    def claimed(state: bytes) -> bool:
        # A file is made once, whichever process is first.
        try:
            (desk.claims / f"{job.scenario} {state.hex()}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    return explorer.after(explorer.firsts[job.first], claimed if job.has_pairs else None)


def seeded(laboratory: Laboratory, seed: int) -> Tally:
    """The run of a seed."""
    try:
        run = laboratory.run_seed(seed)
    except (Exception, Stuck) as error:  # noqa: BLE001 - whichever it is, the other seeds are to be tried
        return Tally(runs=1, found=[f"--seed {seed}: {type(error).__name__}: {error}"])
    return Tally.of(run, f"--seed {seed}")
