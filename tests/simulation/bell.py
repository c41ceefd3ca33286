"""The broker: a bell whose messages are lost, doubled, late and out of order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final

from tests.simulation.world import Process, World
from worker.schedule import Step

SWEEP: Final = None
"""The message that asks to look at what is due."""

Message = Step | None


@dataclass
class Bell:
    """Messages on their way."""

    world: World
    chance: Random
    trouble: float = 0.0
    """The share of messages that something happens to."""
    _waiting: list[tuple[datetime, Message]] = field(default_factory=list)
    _held: dict[Process, Message] = field(default_factory=dict)

    def ring(self, message: Message) -> None:
        """Send a message; it may never arrive, twice, or late."""
        self.world.effect(f"ring {message.label if message else 'sweep'}")
        self.post(message)

    def post(self, message: Message) -> None:
        """Send a message, as nobody who can die."""
        times, late = 1, timedelta(0)
        if self.chance.random() < self.trouble:
            times, late = self.chance.choice(
                ((0, timedelta(0)), (2, timedelta(0)), (1, timedelta(seconds=40)))
            )
        self._waiting += [(self.world.now + late, message)] * times

    def take(self, process: Process) -> tuple[Message] | None:
        """Some message that has arrived; None: there is none."""
        arrived = [place for place, (at, _) in enumerate(self._waiting) if at <= self.world.now]
        if not arrived:
            return None
        _, message = self._waiting.pop(self.chance.choice(arrived))
        self._held[process] = message
        return (message,)

    def done(self, process: Process) -> None:
        """The message is acknowledged: after the work, not before it."""
        self._held.pop(process, None)

    def give_back(self, process: Process) -> None:
        """Its process has died: it is delivered again, at once or when it is missed."""
        if process in self._held:
            late = timedelta(seconds=self.chance.choice((0, 60)))
            self._waiting.append((self.world.now + late, self._held.pop(process)))
