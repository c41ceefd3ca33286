"""One machine for a whole installation: its time, its processes, and who of them goes on.

Processes are threads of which exactly one runs. They stop at *effects*: the places at which
something outside of a process changes or is looked at (a transaction, a call, a message). There
the scheduler decides from the seed alone who goes on, who freezes and who dies, so that the same
seed is the same run.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

BEGIN: Final = datetime(2026, 6, 15, 9, 0, tzinfo=UTC)
TICK: Final = timedelta(milliseconds=1)
"""What an effect takes: no two have the same instant."""

_LONGEST: Final = timedelta(days=3)
_MOST_EFFECTS: Final = 5_000


class Vanished(BaseException):
    """Unwinds the stack of a process that has died; nothing it still tries has an effect."""


class Stuck(BaseException):
    """The run does not come to an end; no step may take it for a fault of its own."""


@dataclass(eq=False)
class Process:
    """An operating system process: what it knows dies with it."""

    name: str
    on_death: Callable[[], None] | None = None
    """What its supervisor does then."""
    is_dead: bool = False
    frozen_until: datetime | None = None


@dataclass(frozen=True)
class Fate:
    """What happens to a process at an effect."""

    is_end: bool = False
    freeze: timedelta | None = None


GOES_ON: Final = Fate()
DIES: Final = Fate(is_end=True)


class Plan:
    """What the run has in store for processes; this one is kind."""

    def fate(self, number: int, what: str) -> Fate:
        """The fate of the process at the effect of this number (from 1)."""
        del number, what
        return GOES_ON

    def goes_next(self, ready: list[Actor], current: Actor | None) -> Actor:
        """Who of those that are ready goes on: people first, then whoever is at it."""
        outside = next((one for one in ready if one.process is None), None)
        if outside is not None:
            return outside
        return current if current is not None and current in ready else ready[0]


class Crashes(Plan):
    """Processes die at the effects of these numbers."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = frozenset(numbers)

    def fate(self, number: int, what: str) -> Fate:
        """Death, or nothing."""
        del what
        return DIES if number in self._numbers else GOES_ON


@dataclass(eq=False)
class Actor:
    """A thread of a process."""

    name: str
    body: Callable[[], None]
    process: Process | None
    """None: somebody outside, such as people at work."""
    wakes_at: datetime
    go: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False
    waits_for_writer: bool = False
    is_writing: bool = False
    """In a call that writes: the request, or the count of calls right before it."""
    thread: threading.Thread | None = None


class World:
    """Time and processes."""

    def __init__(self, plan: Plan | None = None, *, is_traced: bool = False) -> None:
        self.plan = plan or Plan()
        self.now = BEGIN
        self.born = time.process_time()
        """Seconds of processor time that this process had used before."""
        self.count = 0
        """Effects of processes so far."""
        self.effects: list[str] = []
        """What they were, in their order."""
        self.trace: list[str] = []
        self.crashes = 0
        self.writer: Actor | None = None
        """Who is in the one write transaction."""
        self.database_ahead = timedelta(0)
        """How far the database's clock is ahead of the world's."""
        self.late_writes = 0
        """Calls that write and were cut in two by a freeze, by whoever may have lost its lease."""
        self.freezes = 0
        self.on_commit: Callable[[], None] | None = None
        """Looks at the store after each commit."""
        self.on_effect: Callable[[str], None] | None = None
        """Looks at what there is right before each effect of a process."""
        self.failures: list[BaseException] = []
        self._is_traced = is_traced
        self._actors: list[Actor] = []
        self._current: Actor | None = None
        self._over = threading.Event()

    # ------------------------------------------------------------ who there is

    def start(
        self,
        name: str,
        body: Callable[[], None],
        process: Process | None = None,
        after: timedelta = timedelta(0),
    ) -> Actor:
        """Somebody begins to work after a while."""
        actor = Actor(name, body, process, self.now + after)
        self._actors.append(actor)
        return actor

    @property
    def current(self) -> Actor:
        """Who runs now."""
        assert self._current is not None
        return self._current

    @property
    def is_anybody_here(self) -> bool:
        """Whether somebody other than the current actor is still at work."""
        return any(not one.is_over and one is not self._current for one in self._actors)

    @property
    def is_last_process(self) -> bool:
        """Whether no process lives or is about to begin but the current one."""
        return all(
            one.is_over
            or one.process is None
            or one.process.is_dead
            or one.process is self.current.process
            for one in self._actors
        )

    def run(self) -> None:
        """Let everybody work until all are done.

        Raises:
            Stuck: They never are.
            BaseException: What an actor ended with that was not its death.
        """
        self._over.clear()
        first = self._chosen(None)
        if first is None:
            return
        self._hand_over(first)
        if not self._over.wait(120):
            raise Stuck("a process waits for something outside of the simulation")
        self._current = None
        self._actors = [one for one in self._actors if not one.is_over]
        if self.failures:
            raise self.failures[0]

    def dismiss(self, actor: Actor) -> None:
        """What an actor did is not wanted any more; it ends when it wakes up, which is now."""
        if actor.thread is None:
            actor.is_over = True
        elif not actor.waits_for_writer:
            actor.wakes_at = self.now

    def kill(self, process: Process) -> None:
        """A process ends as by SIGKILL."""
        process.is_dead = True
        process.frozen_until = None
        for one in self._actors:
            if one.process is process and not one.is_over:
                # It unwinds without any effect as soon as it is its turn.
                one.wakes_at = self.now
                one.waits_for_writer = False
        if process.on_death is not None:
            process.on_death()

    # ------------------------------------------------------------ effects

    def effect(self, what: str) -> None:
        """The current actor is about to do something that others can see.

        Raises:
            Vanished: It dies here, or is dead already.
        """
        actor = self.current
        self.ensure_alive()
        self.now += TICK
        process = actor.process
        if process is not None:
            self.count += 1
            self.effects.append(what)
            if self.on_effect is not None:
                self.on_effect(what)
            if self.count > _MOST_EFFECTS:
                raise Stuck(f"{_MOST_EFFECTS} effects and no end")
            fate = self.plan.fate(self.count, what)
            self.tell(f"#{self.count} {what}", fate)
            if fate.is_end:
                self.crashes += 1
                self.kill(process)
                raise Vanished
            if fate.freeze is not None:
                self.freezes += 1
                # Nobody can take back a request that is on its way, or all but sent: what stands
                # between the last look at the lease and the CRM is beyond any look.
                self.late_writes += actor.is_writing
                process.frozen_until = self.now + fate.freeze
        self.step_aside()

    def tell(self, what: str, fate: Fate = GOES_ON) -> None:
        """Write a line into the trace."""
        if not self._is_traced:
            return
        suffix = " DIES" if fate.is_end else f" FREEZES {fate.freeze}" if fate.freeze else ""
        who = self._current.name if self._current else "-"
        self.trace.append(f"{self.now:%d %H:%M:%S.%f}"[:-3] + f" {who:<10} {what}{suffix}")

    def step_aside(self) -> None:
        """Others may go on here.

        Raises:
            Vanished: The process has died meanwhile.
        """
        actor = self.current
        chosen = self._chosen(actor)
        if chosen is not None and chosen is not actor:
            self._hand_over(chosen)
            self._park(actor)
        self.ensure_alive()

    def sleep(self, seconds: float) -> None:
        """Time passes for the current actor.

        Raises:
            Vanished: Its process has died meanwhile.
        """
        self.ensure_alive()
        self.current.wakes_at = self.now + timedelta(seconds=seconds)
        self.step_aside()

    def ensure_alive(self) -> None:
        """The dead do nothing.

        Raises:
            Vanished: The current actor is dead.
        """
        process = self.current.process
        if process is not None and process.is_dead:
            raise Vanished

    # ------------------------------------------------------------ the one writer

    def become_writer(self, patience: timedelta) -> bool:
        """Wait for the one write transaction of the store; False when it took too long."""
        actor = self.current
        deadline = self.now + patience
        while self.writer is not None:
            if self.now >= deadline:
                return False
            actor.waits_for_writer, actor.wakes_at = True, deadline
            self.step_aside()
            actor.waits_for_writer = False
        self.writer = actor
        return True

    def stop_writing(self) -> None:
        """The write transaction is over."""
        self.writer = None
        for one in self._actors:
            if one.waits_for_writer:
                one.wakes_at = self.now

    # ------------------------------------------------------------ whose turn it is

    def _chosen(self, current: Actor | None) -> Actor | None:
        """Who goes on; time passes when nobody is ready. None: all are done."""
        alive = [one for one in self._actors if not one.is_over]
        if not alive:
            return None
        earliest = min(_ready_at(one) for one in alive)
        if earliest > self.now:
            self.now = earliest
            if self.now - BEGIN > _LONGEST:
                raise Stuck(f"{_LONGEST} have passed and no end")
        ready = [one for one in alive if _ready_at(one) <= self.now]
        return self.plan.goes_next(ready, current)

    def _hand_over(self, actor: Actor) -> None:
        self._current = actor
        if actor.thread is None:
            actor.thread = threading.Thread(target=self._lives, args=(actor,), daemon=True)
            actor.thread.start()
        else:
            actor.go.set()

    def _park(self, actor: Actor) -> None:
        actor.go.wait()
        actor.go.clear()

    def _lives(self, actor: Actor) -> None:
        try:
            self.ensure_alive()
            actor.body()
        except Vanished:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told by `run`
            self.failures.append(error)
        actor.is_over = True
        if self.writer is actor:
            self.stop_writing()
        try:
            chosen = self._chosen(actor)
        except Stuck as error:
            self.failures.append(error)
            chosen = None
        if chosen is None:
            self._over.set()
        else:
            self._hand_over(chosen)


def _ready_at(actor: Actor) -> datetime:
    frozen = actor.process.frozen_until if actor.process else None
    return max(actor.wakes_at, frozen) if frozen else actor.wakes_at


class SimulatedClock:
    """`worker.ports.Clock` of a process in a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        """The world's time."""
        return self._world.now

    def monotonic(self) -> float:
        """Seconds since the world began."""
        return (self._world.now - BEGIN).total_seconds()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let time pass."""
        if not event.is_set():
            self._world.sleep(seconds)
        return event.is_set()

    @contextmanager
    def beside(self, seconds: float, work: Callable[[], None]) -> Iterator[None]:
        """Another thread of the same process, as long as the block lasts."""
        world = self._world
        is_wanted = True

        def now_and_then() -> None:
            while is_wanted:
                work()
                world.sleep(seconds)

        actor = world.start(
            f"{world.current.name}'",
            now_and_then,
            world.current.process,
            after=timedelta(seconds=seconds),
        )
        try:
            yield
        finally:
            is_wanted = False
            world.dismiss(actor)


class Chance(Plan):
    """Whatever a seed brings."""

    def __init__(
        self,
        seed: int,
        *,
        deaths: float = 0.02,
        freezes: float = 0.015,
        switches: float = 0.2,
        until: int = 600,
    ) -> None:
        self.random = random.Random(seed)  # noqa: S311 - chance that can be replayed
        self._deaths = deaths
        self._freezes = freezes
        self._switches = switches
        self._until = until

    def fate(self, number: int, what: str) -> Fate:
        """Death, a freeze of up to three minutes, or nothing; nothing but good from some effect."""
        del what
        if number > self._until:
            return GOES_ON
        drawn = self.random.random()
        if drawn < self._deaths:
            return DIES
        if drawn < self._deaths + self._freezes:
            return Fate(freeze=timedelta(seconds=self.random.choice((1, 20, 50, 90, 180))))
        return GOES_ON

    def goes_next(self, ready: list[Actor], current: Actor | None) -> Actor:
        """Mostly whoever is at it, now and then another."""
        if current is not None and current in ready and self.random.random() > self._switches:
            return current
        return self.random.choice(ready)
