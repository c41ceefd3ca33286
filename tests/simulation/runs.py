"""One run of a scenario under a plan, from the prepared store to the last invariant."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.simulation.crm import Crm, small_company
from tests.simulation.installation import Installation, defined, told
from tests.simulation.invariants import Rows, Watch, final_state, findings, unlike
from tests.simulation.scenarios import Scenario, full_pass_of, nothing_else, people_at_work
from tests.simulation.seeded import Server
from tests.simulation.stores import Disk
from tests.simulation.world import BEGIN, Plan, World
from worker.passes import drain
from worker.runtime import Runtime
from worker.schedule import LONGEST_RETRY

_A_DAY_BEFORE: Final = timedelta(days=1)
_QUIET: Final = timedelta(minutes=2)
"""After it every lease of a dead process has run out."""
_DRAIN: Final = timedelta(minutes=10)


@dataclass
class Outcome:
    """What became of a run."""

    effects: Sequence[str]
    """All of them, also those while it became quiet."""
    played: int
    """How many of them were the scenario's own."""
    played_until_quiet: int
    """How many there were until nothing was left to do."""
    crashes: int
    found: list[str]
    state: dict[str, Rows] = field(repr=False)
    trace: Sequence[str] = field(repr=False, default=())
    seconds: float = 0.0


class Laboratory:
    """A folder in which one run takes place after the other."""

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder)
        self._definition = defined(every="1m")
        self._crm = self._prepared()

    def _prepared(self) -> Crm:
        """The store and the CRM of a company that has been synced for a day."""
        world = World()
        world.now = BEGIN - _A_DAY_BEFORE
        crm = small_company(world)
        site = Installation(world, self.disk, crm, defined())
        site.work(full_pass_of)
        site.work(full_pass_of)
        self.disk.save()
        crm.journal.clear()
        return crm

    def site(self, world: World) -> Installation:
        """An installation as it was saved, in a world of its own."""
        self.disk.restore()
        return Installation(world, self.disk, self._crm.copy(world), self._definition)

    def run(
        self,
        scenario: Scenario,
        plan: Plan | None = None,
        *,
        expected: dict[str, Rows] | None = None,
        is_traced: bool = False,
    ) -> Outcome:
        """Play a scenario, let it become quiet, look at every promise.

        Args:
            scenario: What happens outside, and which processes work.
            plan: What befalls the processes.
            expected: The final state of the undisturbed run; None: this is it.
            is_traced: Keep a line for each effect.
        """
        begun = time.perf_counter()
        self.disk.restore()
        world = World(plan, is_traced=is_traced)
        crm = self._crm.copy(world)
        site = Installation(world, self.disk, crm, scenario.definition)
        scenario.before(crm)
        watch = Watch(site)
        world.on_commit = watch.look
        try:
            people_at_work(world, crm, scenario.people)
            scenario.play(site)
            world.run()
            played = world.count
            self._become_quiet(site, scenario.recover)
            until_quiet = world.count
            state = final_state(site)
            found = [*watch.found]
            if expected is None:
                found += [*findings(site), *self._stay_quiet(site)]
            else:
                differences = list(unlike(expected, state))
                # What equals a state that was looked at needs no second recomputation.
                found += [*differences, *findings(site, with_values=bool(differences))]
        finally:
            watch.close()
            world.on_commit = None
        return Outcome(
            effects=tuple(world.effects),
            played=played,
            played_until_quiet=until_quiet,
            crashes=world.crashes,
            found=found,
            state=state,
            trace=world.trace,
            seconds=time.perf_counter() - begun,
        )

    def run_seed(self, seed: int, *, is_traced: bool = False) -> Outcome:
        """Some minutes of server mode in which a seed decides what goes wrong.

        Args:
            seed: Any number; the same one is the same run.
            is_traced: Keep a line for each effect.
        """
        begun = time.perf_counter()
        world = World(is_traced=is_traced)
        site = self.site(world)
        server = Server(site, seed)
        watch = Watch(site)
        world.on_commit = watch.look
        try:
            server.start()
            world.run()
            played = world.count
            server.calm_down()
            world.plan = Plan()
            world.now += LONGEST_RETRY
            self._become_quiet(site, server.what_is_due)
            state = final_state(site)
            repeated = server.weather.lost_answers + world.late_writes
            found = [
                *watch.found,
                *findings(site, lost_answers=repeated, with_order=not world.late_writes),
            ]
            found += self._stay_quiet(site)
        finally:
            watch.close()
            world.on_commit = None
        return Outcome(
            effects=tuple(world.effects),
            played=played,
            played_until_quiet=played,
            crashes=world.crashes,
            found=found,
            state=state,
            trace=world.trace,
            seconds=time.perf_counter() - begun,
        )

    def _become_quiet(
        self, site: Installation, recover: Callable[[Runtime], object] = nothing_else
    ) -> None:
        """Processes work until one of them has come to the end of all there is to do."""
        ended = False

        def work(runtime: Runtime) -> None:
            nonlocal ended
            recover(runtime)
            drained = drain(runtime, _DRAIN)
            for one in drained.results:
                site.world.tell(told(one))
            if drained.is_time_up:
                raise AssertionError("it never becomes quiet")
            ended = True

        while not ended:
            site.world.now += _QUIET
            site.world.tell("a new process makes up for what is left")
            site.work(work)

    def _stay_quiet(self, site: Installation) -> list[str]:
        """I7: two more cycles without edits do nothing."""
        site.world.plan = Plan()
        before, written = final_state(site), len(site.crm.journal)
        for _ in range(2):
            self._become_quiet(site)
        found = [f"I7: {one}" for one in unlike(before, final_state(site))]
        if len(site.crm.journal) != written:
            found.append(f"I7: a cycle without edits wrote {site.crm.journal[written:]}")
        return found
