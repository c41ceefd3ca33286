"""All single crashes and all pairs of a scenario, each distinct state that they leave once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.simulation.runs import Laboratory, Outcome, Recorder
from tests.simulation.scenarios import Scenario
from tests.simulation.snapshots import Snapshot
from tests.simulation.world import Crashes

Claim = Callable[[bytes], bool]
"""Whether a state is to be explored by whoever asks; each one only once."""

First = Snapshot | int
"""What the first crash left, or its effect if somebody lived on."""


@dataclass
class Tally:
    """What was looked at, and what was found."""

    singles: int = 0
    """Single crashes whose end is known now."""
    pairs: int = 0
    """Pairs of crashes whose end is known now."""
    runs: int = 0
    """Those that were played to the end; the others left what one of these had left."""
    crashes: int = 0
    effects: int = 0
    processor_seconds: float = 0.0
    found: list[str] = field(default_factory=list)
    left_open: dict[bytes, frozenset[str]] = field(default_factory=dict)
    """Of states that were not played: what they left open, which their like must close."""
    closed: dict[bytes, frozenset[str]] = field(default_factory=dict)
    """What was taken again after each state that was played."""

    @classmethod
    def of(cls, run: Outcome, label: str) -> Tally:
        """That of one run, called by what plays it again."""
        return cls(
            runs=1,
            crashes=run.crashes,
            effects=len(run.effects),
            processor_seconds=run.processor_seconds,
            found=[f"{label}: {'; '.join(run.found[:3])}"] if run.found else [],
        )

    def add(self, other: Tally) -> None:
        """Count another one in."""
        self.singles += other.singles
        self.pairs += other.pairs
        self.runs += other.runs
        self.crashes += other.crashes
        self.effects += other.effects
        self.processor_seconds += other.processor_seconds
        self.found += other.found
        for state, names in other.left_open.items():
            self.left_open[state] = self.left_open.get(state, frozenset()) | names
        self.closed |= other.closed

    def never_closed(self) -> Iterator[str]:
        """Leases and runs that nobody would have taken up again."""
        for state, names in self.left_open.items():
            for name in sorted(names - self.closed[state]):
                yield f"I13: {name}, left by the dead, is never taken up again"


class Once:
    """A claim that the first one to ask gets."""

    def __init__(self) -> None:
        self._claimed: set[bytes] = set()

    def __call__(self, state: bytes) -> bool:
        """Whether nobody has asked before."""
        is_news = state not in self._claimed
        self._claimed.add(state)
        return is_news


class Explorer:
    """All that can become of a scenario when processes die."""

    def __init__(self, laboratory: Laboratory, scenario: Scenario) -> None:
        self._laboratory = laboratory
        self._scenario = scenario
        seen = Recorder(Once(), is_for_scenario=True)
        self.calm = laboratory.run(scenario, recorder=seen)
        self.firsts: list[First] = sorted([*seen.snapshots, *seen.others], key=number_of)
        """Every first crash that leaves something else than another."""
        self._alike = seen.alike

    def after(self, first: First, claim: Claim | None = None) -> Tally:
        """The end of a first crash; with a claim also those of all second ones behind it."""
        seen = Recorder(claim or (lambda _: False), after=number_of(first))
        once = self._crashed(first, seen if claim else None)
        total = self._tally(once, number_of(first))
        total.singles = self._alike[first.digest if isinstance(first, Snapshot) else first]
        total.pairs = total.singles * seen.points
        total.left_open |= seen.known
        total.found += [f"{self._label(number_of(first))}: {one}" for one in seen.found[:3]]
        if isinstance(first, Snapshot):
            total.closed[first.digest] = _closed(first.taken, once.taken)
        for second in seen.snapshots:
            twice = self._laboratory.resume(
                self._scenario, second, expected=self.calm.state, crashes=2
            )
            total.add(self._tally(twice, number_of(first), second.number))
            total.closed[second.digest] = _closed(second.taken, twice.taken)
        return total

    def _crashed(self, first: First, recorder: Recorder | None) -> Outcome:
        if isinstance(first, Snapshot):
            return self._laboratory.resume(
                self._scenario, first, expected=self.calm.state, recorder=recorder
            )
        return self._laboratory.run(
            self._scenario, Crashes(first), expected=self.calm.state, recorder=recorder
        )

    def _tally(self, run: Outcome, *crashes: int) -> Tally:
        return Tally.of(run, self._label(*crashes))

    def _label(self, *crashes: int) -> str:
        return f"--scenario '{self._scenario.name}' " + " ".join(f"--crash {n}" for n in crashes)


def number_of(first: First) -> int:
    """The effect of a crash."""
    return first.number if isinstance(first, Snapshot) else first


def _closed(before: Mapping[str, int], after: Mapping[str, int]) -> frozenset[str]:
    return frozenset(name for name, times in after.items() if times > before.get(name, 0))
