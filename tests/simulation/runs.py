"""One run of a scenario under a plan, from the prepared store to the last invariant."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.simulation.crm import Crm, small_company
from tests.simulation.installation import Definition, Installation, defined, told
from tests.simulation.invariants import (
    Rows,
    Watch,
    final_state,
    findings,
    runs_that_do_not_add_up,
    unlike,
)
from tests.simulation.scenarios import People, Scenario, full_pass_of, nothing_else
from tests.simulation.seeded import Server
from tests.simulation.snapshots import Snapshot, digest, left_open, taken
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
    taken: Mapping[str, int] = field(repr=False, default_factory=dict)
    """How often each lease was taken and each kind of run begun."""
    processor_seconds: float = 0.0


class Recorder:
    """Keeps what a crash at each effect would leave behind, once for all that leave the same."""

    def __init__(
        self,
        is_news: Callable[[bytes], bool],
        *,
        after: int = 0,
        is_for_scenario: bool = False,
    ) -> None:
        """Look at the effects between two.

        Args:
            is_news: Whether a state with this digest is to be kept.
            after: The effect of the last crash.
            is_for_scenario: Not at those while it becomes quiet afterwards.
        """
        self.snapshots: list[Snapshot] = []
        self.others: list[int] = []
        """Effects at which not everybody would die: what the living know is in no snapshot."""
        self.points = 0
        """Effects that were looked at."""
        self.alike: Counter[bytes | int] = Counter()
        """How many effects a state, or an effect at which others live on, stands for."""
        self.digests: dict[int, bytes] = {}
        """What each of them would leave, if it were the death of all."""
        self.known: dict[bytes, frozenset[str]] = {}
        """What states left open that were no news."""
        self.found: list[str] = []
        self._is_news = is_news
        self._after = after
        self.is_for_scenario = is_for_scenario
        self._believed: object = None
        self._last: bytes | int = b""

    def look(self, site: Installation, people: People, watch: Watch) -> None:
        """A process is about to have an effect."""
        world = site.world
        if world.count <= self._after:
            return
        self.points += 1
        crm = site.crm.copy(world)
        is_last = world.is_last_process
        who = None if is_last else world.current.process
        lasting = (watch.version, crm.rows, crm.journal, crm.refusing, crm.locked)
        if (who, people.done, lasting) == self._believed:
            self._is_like_the_last(world.count)
            return
        self._believed = (who, people.done, lasting)
        if not is_last:
            self.others.append(world.count)
            self._last = world.count
            self.alike[world.count] += 1
            return
        found = digest(watch.conn, crm, people.done, world.now)
        self._last = found
        self._is_like_the_last(world.count)
        self.found += runs_that_do_not_add_up(watch.conn)
        open_now = left_open(watch.conn)
        if not self._is_news(found):
            self.known[found] = self.known.get(found, frozenset()) | open_now
            return
        self.snapshots.append(
            Snapshot(
                number=world.count,
                now=world.now,
                acts=people.done,
                store=watch.conn.serialize(),
                crm=crm,
                digest=found,
                left_open=open_now,
                taken=taken(watch.conn),
            )
        )

    def _is_like_the_last(self, number: int) -> None:
        self.alike[self._last] += 1
        if isinstance(self._last, bytes):
            self.digests[number] = self._last


class Laboratory:
    """A folder in which one run takes place after the other."""

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder)
        self._definition = defined(every="1m")
        self._crm = self._prepared()
        self._store = self.disk.content()

    def _prepared(self) -> Crm:
        """The store and the CRM of a company that has been synced for a day."""
        world = World()
        world.now = BEGIN - _A_DAY_BEFORE
        crm = small_company(world)
        site = Installation(world, self.disk, crm, defined())
        site.work(full_pass_of)
        site.work(full_pass_of)
        crm.journal.clear()
        return crm

    def site(self, world: World, definition: Definition | None = None) -> Installation:
        """An installation as it was saved, in a world of its own."""
        self.disk.restore(self._store)
        crm = self._crm.copy(world)
        return Installation(world, self.disk, crm, definition or self._definition)

    def run(
        self,
        scenario: Scenario,
        plan: Plan | None = None,
        *,
        expected: dict[str, Rows] | None = None,
        recorder: Recorder | None = None,
        is_traced: bool = False,
    ) -> Outcome:
        """Play a scenario, let it become quiet, look at every promise.

        Args:
            scenario: What happens outside, and which processes work.
            plan: What befalls the processes.
            expected: The final state of the undisturbed run; None: this is it.
            recorder: Looks at every effect.
            is_traced: Keep a line for each effect.
        """
        world = World(plan, is_traced=is_traced)
        site = self.site(world, scenario.definition)
        scenario.before(site.crm)
        people = People(scenario.people)
        people.work(world, site.crm)
        scenario.play(site)
        return self._to_the_end(scenario, site, people, expected, recorder)

    def resume(
        self,
        scenario: Scenario,
        snapshot: Snapshot,
        *,
        expected: dict[str, Rows],
        crashes: int = 1,
        recorder: Recorder | None = None,
        is_traced: bool = False,
    ) -> Outcome:
        """Go on where everybody has died: what `run` does that crashes there, without its begin."""
        world = World(is_traced=is_traced)
        world.now, world.count, world.crashes = snapshot.now, snapshot.number, crashes
        self.disk.restore(snapshot.store)
        crm = snapshot.crm.copy(world)
        site = Installation(world, self.disk, crm, scenario.definition)
        people = People(scenario.people, snapshot.acts)
        people.work(world, crm)
        return self._to_the_end(scenario, site, people, expected, recorder)

    def _to_the_end(
        self,
        scenario: Scenario,
        site: Installation,
        people: People,
        expected: dict[str, Rows] | None,
        recorder: Recorder | None,
    ) -> Outcome:
        world = site.world
        with Watch(site) as watch:
            if recorder is not None:
                world.on_effect = lambda _: recorder.look(site, people, watch)
            world.run()
            played = world.count
            if recorder is not None and recorder.is_for_scenario:
                world.on_effect = None
            self._become_quiet(site, scenario.recover)
            until_quiet = world.count
            world.on_effect = None
            state = final_state(site)
            found = [*watch.found]
            if expected is None:
                found += [*findings(site), *self._stay_quiet(site)]
            else:
                differences = list(unlike(expected, state))
                # What equals a state that was looked at needs no second recomputation.
                found += [*differences, *findings(site, with_values=bool(differences))]
            outcome = _outcome(world, found, state, played=played, until_quiet=until_quiet)
            outcome.taken = taken(watch.conn)
        return outcome

    def run_seed(self, seed: int, *, is_traced: bool = False) -> Outcome:
        """Some minutes of server mode in which a seed decides what goes wrong.

        Args:
            seed: Any number; the same one is the same run.
            is_traced: Keep a line for each effect.
        """
        world = World(is_traced=is_traced)
        site = self.site(world)
        server = Server(site, seed)
        with Watch(site) as watch:
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
                *self._stay_quiet(site),
            ]
        return _outcome(world, found, state, played=played, until_quiet=played)

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


def _outcome(
    world: World, found: list[str], state: dict[str, Rows], *, played: int, until_quiet: int
) -> Outcome:
    return Outcome(
        effects=tuple(world.effects),
        played=played,
        played_until_quiet=until_quiet,
        crashes=world.crashes,
        found=found,
        state=state,
        trace=world.trace,
        processor_seconds=time.process_time() - world.born,
    )
