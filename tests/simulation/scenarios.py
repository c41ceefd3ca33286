"""Three days in the life of an installation, each a few records and a few seconds long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import Final

from tests.simulation.crm import ACCOUNTS, DEALS, SPOILT, Crm
from tests.simulation.installation import CONNECTION, WRITEBACK, Definition, Installation, defined
from tests.simulation.world import BEGIN, World
from worker.passes import full_pass, perform
from worker.results import Kind
from worker.runtime import Runtime
from worker.schedule import Step

Act = tuple[int, Callable[[Crm], None]]
"""(milliseconds after the begin, what somebody does in the CRM)."""


def nothing_else(runtime: Runtime) -> None:
    """Nothing needs to be done beside what is due."""
    del runtime


@dataclass(frozen=True)
class Scenario:
    """What happens outside, and which processes work."""

    name: str
    before: Callable[[Crm], None]
    """Edits since the last pull."""
    people: Sequence[Act]
    """Edits while it works."""
    play: Callable[[Installation], None]
    """Starts the processes."""
    definition: Definition
    recover: Callable[[Runtime], object] = nothing_else
    """What a process does that makes up for a dead one, before it works until nothing is due."""


# ---------------------------------------------------------------- edits while paging


def _edited(crm: Crm) -> None:
    crm.edit(DEALS, "d1", amount=Decimal(150), account="a3")
    crm.edit(DEALS, "d2", stage="won")
    crm.edit(DEALS, "d5", amount=SPOILT)
    crm.edit(ACCOUNTS, "a3", name="Account 0003, renamed")


def _made_late(crm: Crm) -> None:
    crm.make(
        DEALS,
        "d7",
        late=timedelta(milliseconds=60),
        name="Deal 0007",
        account="a1",
        owner="u2",
        stage="won",
        amount=Decimal("70.07"),
        day="2026-06-14",
    )


_WHILE_PAGING: Final[Sequence[Act]] = (
    (3, lambda crm: crm.merge("a1", "a2")),
    (17, _made_late),
    (26, lambda crm: crm.edit(ACCOUNTS, "a4", owner="u2")),
    (38, lambda crm: crm.delete(DEALS, "d4")),
    (40, lambda crm: crm.edit(DEALS, "d3", amount=Decimal(330))),
    (43, lambda crm: crm.edit(DEALS, "d5", amount=Decimal(555))),
    (47, lambda crm: crm.edit(DEALS, "d6", stage="lost", amount=SPOILT)),
)


def _one_pass(site: Installation) -> None:
    site.start("one", full_pass_of)


def full_pass_of(runtime: Runtime) -> None:
    """As `kpisync run --once`."""
    full_pass(runtime)


# ---------------------------------------------------------------- writing back


def _sold(crm: Crm) -> None:
    for number in range(1, 7):
        crm.edit(DEALS, f"d{number}", amount=Decimal(1000 + number), stage="won")
    crm.refusing.add("a3")
    crm.locked["a4"] = 2


_WHILE_WRITING: Final[Sequence[Act]] = (
    (60, lambda crm: crm.edit(ACCOUNTS, "a2", kpi_revenue=Decimal(7))),
)


# ---------------------------------------------------------------- taking over


def _redefined(crm: Crm) -> None:
    crm.erase(DEALS, "d2")
    crm.erase(ACCOUNTS, "a5")
    crm.edit(DEALS, "d1", amount=Decimal(101))
    crm.delete(DEALS, "d3")


def _two_workers(site: Installation) -> None:
    def second(runtime: Runtime) -> None:
        _reconcile(runtime)
        perform(runtime, Step(Kind.COMPUTE))
        perform(runtime, Step(Kind.PUSH, CONNECTION, writeback=WRITEBACK))

    site.start("one", full_pass_of)
    site.start("two", second, after=timedelta(milliseconds=30))


def _reconcile(runtime: Runtime) -> None:
    """The full refresh, which compares all ids."""
    for stream in ("accounts", "deals"):
        perform(runtime, Step(Kind.PULL, CONNECTION, stream, is_full=True))


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All three."""
    usual = defined()
    return (
        Scenario("paging", _edited, _WHILE_PAGING, _one_pass, usual),
        Scenario("writing", _sold, _WHILE_WRITING, _one_pass, usual),
        Scenario(
            "taking over",
            _redefined,
            ((35, lambda crm: crm.edit(DEALS, "d6", amount=Decimal(606))),),
            _two_workers,
            defined(periods="month, quarter", deals="where: amount"),
            _reconcile,
        ),
    )


@dataclass
class People:
    """Those who work in the CRM meanwhile, each act at its time."""

    acts: Sequence[Act]
    done: int = 0
    """So many of them are done."""

    def work(self, world: World, crm: Crm) -> None:
        """Let them do what is left to do."""

        def in_turn() -> None:
            while self.done < len(self.acts):
                milliseconds, act = self.acts[self.done]
                due = BEGIN + timedelta(milliseconds=milliseconds) - world.now
                if due > timedelta(0):
                    world.sleep(due.total_seconds())
                act(crm)
                self.done += 1
                world.tell("people at work")

        world.start("people", in_turn)
