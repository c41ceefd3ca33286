"""Some minutes of server mode by a seed: workers at a bell, bad weather, deaths and freezes."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Final

import structlog

from store.errors import StoreError
from tests.simulation.bell import SWEEP, Bell, Message
from tests.simulation.installation import Installation, told
from tests.simulation.weather import People, Weather
from tests.simulation.world import BEGIN, Chance
from worker.passes import answer, perform
from worker.runtime import Runtime
from worker.schedule import due

LASTS: Final = timedelta(seconds=150)
_SWEEP_SECONDS: Final = 10
_IDLE_SECONDS: Final = 1
_MOST_ROWS: Final = 4
"""So few that pulls stop early and ring for their rest."""


class Server:
    """Two workers, a beat, people and weather."""

    def __init__(self, site: Installation, seed: int) -> None:
        self.site = site
        self._chance = Random(f"{seed} outside")  # noqa: S311 - chance that can be replayed
        self.weather = Weather(site.world, self._chance)
        self.bell = Bell(site.world, self._chance, trouble=0.1)
        site.wire = self.weather
        site.world.plan = Chance(seed)
        site.on_death = self.bell.give_back
        site.restart = lambda: timedelta(seconds=self._chance.choice((1, 5, 20)))
        self._people = People(site.crm, self._chance)

    def start(self) -> None:
        """Everybody begins."""
        world = self.site.world
        world.start("beat", self._beat)
        world.start("people", self._work)
        for place in ("one", "two"):
            self.site.start(place, self._serve, is_supervised=True)

    def calm_down(self) -> None:
        """No more trouble from outside."""
        self.weather.trouble = 0.0
        self.site.crm.locked.clear()

    @staticmethod
    def what_is_due(runtime: Runtime) -> None:
        """What a worker would still have done, such as a comparison whose process has died."""
        for step in due(runtime):
            perform(runtime, step)

    @property
    def _is_over(self) -> bool:
        return self.site.world.now - BEGIN >= LASTS

    def _beat(self) -> None:
        while not self._is_over:
            self.bell.post(SWEEP)
            self.site.world.sleep(_SWEEP_SECONDS)

    def _work(self) -> None:
        while not self._is_over:
            self.site.world.sleep(self._chance.choice((0.003, 0.02, 0.5, 7, 15)))
            self._people.act()
            self.site.world.tell("people at work")

    def _serve(self, runtime: Runtime) -> None:
        """What a child of a worker does: one message after the other."""
        world = self.site.world
        process = world.current.process
        assert process is not None
        while not self._is_over:
            taken = self.bell.take(process)
            if taken is None:
                world.sleep(_IDLE_SECONDS)
                continue
            try:
                self._answer(runtime, taken[0])
            except StoreError as error:
                # As the tasks do: the next ring finds the work.
                structlog.get_logger("simulation").info("put off", reason=str(error))
            self.bell.done(process)

    def _answer(self, runtime: Runtime, message: Message) -> None:
        if message is SWEEP:
            for step in due(runtime):
                self.bell.ring(step)
            return
        result = answer(runtime, message, self.bell.ring, max_rows=_MOST_ROWS)
        if result is not None:
            self.site.world.tell(told(result))
