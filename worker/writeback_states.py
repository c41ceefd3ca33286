"""How every write-back stands: its last run, what holds it up, which fields are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from metrics.fitting import KEEP
from store import holds, rewrites, runs
from store.engine import database_now
from worker.results import Kind, State
from worker.runtime import Runtime

HELD: Final = "held"
NEVER: Final = "never run"

_RECENT: Final = timedelta(days=7)
_NAMED: Final = 10
"""Frozen or edited fields that are told one by one; all others as a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WritebackState:
    """How a write-back stands."""

    writeback: str
    to: str
    state: str
    """Of its last run, or `held`."""
    hold: holds.Hold | None
    frozen: Sequence[rewrites.Rewritten]
    edited: Sequence[rewrites.Rewritten]
    """Fields that others changed within the last week, frozen ones aside."""
    on_edit: str
    last_run: runs.Run | None

    def to_json(self) -> dict[str, object]:
        """For other programs."""
        hold = self.hold
        return {
            "writeback": self.writeback,
            "to": self.to,
            "state": self.state,
            "hold": hold
            and {"kind": hold.kind, "reason": hold.reason, "since": hold.held_at, "run": hold.run},
            "frozen": [
                {
                    "record": one.record_id,
                    "field": one.field,
                    "times": one.times,
                    "held": one.held,
                    "since": one.frozen_at,
                }
                for one in self.frozen
            ],
            "edited": [
                {
                    "record": one.record_id,
                    "field": one.field,
                    "times": one.times,
                    "held": one.held,
                    "seen": one.last_seen,
                }
                for one in self.edited
            ],
            "last_run": self.last_run and self.last_run.run,
        }

    def sentences(self) -> list[str]:
        """What of it needs a person."""
        found: list[str] = []
        if self.hold is not None:
            look = f"kpisync plan {self.writeback}; kpisync apply {self.writeback} lets it go on"
            found.append(
                f"write-back {self.writeback}: held since {self.hold.held_at:%Y-%m-%d %H:%M} UTC, "
                f"nothing is written: {self.hold.reason} Look with {look}"
            )
        elif self.last_run is not None and self.last_run.error:
            last = self.last_run
            found.append(f"write-back {self.writeback}: {last.state}: {last.error}")
        elif self.last_run is not None and self.last_run.state == State.WAITING:
            why = "; ".join(self.last_run.warnings)
            found.append(f"write-back {self.writeback}: waiting: {why}")
        found.extend(
            f"write-back {self.writeback}: {one.field} of {one.object} {one.record_id} is frozen, "
            f"others have rewritten it {one.times} times (it holds {one.held}): "
            f"kpisync writebacks unfreeze {self.writeback}"
            for one in self.frozen[:_NAMED]
        )
        fate = "kept (on_edit: keep)" if self.on_edit == KEEP else "restored by the push"
        found.extend(
            f"write-back {self.writeback}: {one.field} of {one.object} {one.record_id} was changed "
            f"in the CRM to {one.held} (seen {one.last_seen:%Y-%m-%d %H:%M} UTC): {fate}"
            for one in self.edited[:_NAMED]
        )
        for fields, what in ((self.frozen, "are frozen"), (self.edited, "were changed in the CRM")):
            more = len(fields) - _NAMED
            if more > 0:
                found.append(f"write-back {self.writeback}: {more:,} more fields {what}")
        return found


def writeback_states(conn: Connection, runtime: Runtime) -> list[WritebackState]:
    """How every configured write-back stands."""
    held = {one.writeback: one for one in holds.every(conn)}
    since = database_now(conn) - _RECENT
    counted = rewrites.every(conn)
    newest: dict[str, runs.Run] = {}
    for run in runs.every(conn):
        if run.kind == Kind.PUSH and run.writeback:
            newest.setdefault(run.writeback, run)
    return [
        WritebackState(
            writeback=name,
            to=spec.to,
            state=HELD if name in held else newest[name].state if name in newest else NEVER,
            hold=held.get(name),
            frozen=[one for one in counted if one.writeback == name and one.frozen_at],
            edited=[
                one
                for one in counted
                if one.writeback == name and not one.frozen_at and one.last_seen > since
            ],
            on_edit=spec.on_edit,
            last_run=newest.get(name),
        )
        for name, spec in runtime.writebacks.items()
    ]
