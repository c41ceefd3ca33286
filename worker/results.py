"""What a step tells its caller: the same facts its row in ``runs`` keeps, and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a run did."""

    PULL = "pull"
    COMPUTE = "compute"
    PUSH = "push"
    DRIFT = "drift"
    """A look at whether the fields of a write-back still hold what we wrote."""
    SINK = "sink"
    """A copy of the metrics table to another place."""
    VERIFY = "verify"
    """A share of the values, recomputed from the records and compared."""


class State(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    OK = "ok"
    PARTLY_FAILED = "partly_failed"
    FAILED = "failed"
    REFUSED = "refused"
    """A guard said no; nothing was done."""
    PAUSED = "paused"
    """The CRM allows no more calls until a known time."""
    INTERRUPTED = "interrupted"
    """Its process ended or lost its lease; what was committed stays."""
    WAITING = "waiting"
    """A write-back that a person must approve first."""
    SKIPPED = "skipped"
    """Another process does the same right now; no row is kept of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One step's outcome. Counts of a pull are records, those of a push are field values."""

    run: str = ""
    """Its row in ``runs``; empty when nothing was begun."""
    kind: Kind
    connection: str | None = None
    stream: str | None = None
    writeback: str | None = None
    state: State
    pulled: int = 0
    """stored + unchanged + dead."""
    stored: int = 0
    unchanged: int = 0
    dead: int = 0
    cleaned: int = 0
    changed_values: int = 0
    """KPI values that became others."""
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    """Planned values that were not sent: already there, changed by somebody, or gone."""
    kept: int = 0
    """Blanks that `never_blank` withheld."""
    calls: int = 0
    minimum_calls: int = 0
    error: str | None = None
    """One sentence naming place, fault and remedy."""
    warnings: tuple[str, ...] = ()
    is_unfinished: bool = False
    """The step stopped early on purpose; calling it again goes on from there."""


@dataclass(frozen=True, slots=True)
class PassResult:
    """Several steps, one after the other."""

    results: tuple[RunResult, ...]
    is_time_up: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code a command ends with."""
        return 1 if self.is_time_up else exit_code(self.results)

    def total(self, count: str) -> int:
        """The sum of one count over all steps.

        Args:
            count: An attribute of ``RunResult``, such as ``sent``.
        """
        return sum(int(getattr(result, count)) for result in self.results)


def exit_code(results: Iterable[RunResult]) -> int:
    """0 fine, 1 everything failed, 4 some of it, 6 a guard refused."""
    states: Sequence[State] = [result.state for result in results]
    if State.REFUSED in states:
        return 6
    failures = sum(state in {State.FAILED, State.INTERRUPTED} for state in states)
    if failures and failures == len(states):
        return 1
    return 4 if failures or State.PARTLY_FAILED in states else 0
