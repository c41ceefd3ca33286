"""Drift: do the fields still hold what we wrote, and who changed them if not.

A pass that only reads. What it finds is named in `status` and in the next plan; a field that
others keep replacing is frozen (see `store.rewrites`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from connectors.base import LiveRecord
from metrics.plans import shown
from metrics.writeback import KEEP, WritebackSpec, equal_values
from store import outbox, rewrites
from store.canonical import Scalar
from store.engine import operating, reading
from worker.planning import field_names, portions
from worker.pulling import recognise_org
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

_AT_ONCE: Final = 2_000
_NAMED: Final = 10
"""Edits that are told one by one; all others as a number."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that holds something else than we wrote."""

    record: str
    field: str
    ours: Scalar
    held: Scalar


@dataclass(slots=True)
class DriftReport:
    """What one comparison of a write-back's fields with the CRM found."""

    writeback: str
    checked: int = 0
    """Fields of records that exist."""
    gone: int = 0
    """Fields of records that do not exist any more."""
    differences: list[Difference] = field(default_factory=list)
    frozen: list[rewrites.Rewritten] = field(default_factory=list)
    """Fields that are left alone from now on."""

    @property
    def ok(self) -> bool:
        """Every field holds what we wrote."""
        return not self.differences

    def to_json(self) -> dict[str, object]:
        """For other programs."""
        return {
            "writeback": self.writeback,
            "checked": self.checked,
            "gone": self.gone,
            "differences": [
                {
                    "record": one.record,
                    "field": one.field,
                    "ours": shown(one.ours),
                    "held": shown(one.held),
                }
                for one in self.differences
            ],
        }


def compare_live(runtime: Runtime, name: str) -> DriftReport:
    """Compare every field that a write-back has written with what the CRM holds now.

    Raises:
        ConnectorError: The CRM cannot be read.
        StoreUnavailable: The database is away.
    """
    spec = runtime.writebacks[name]
    names = [one for one in field_names(spec) if one != spec.stamp]
    with reading(runtime.engine) as conn:
        pushed = outbox.last_pushed(conn, spec.connection, spec.object)
        sending = {(row.record_id, row.field) for row in outbox.sending(conn, name)}
    by_record: dict[str, dict[str, Scalar]] = {}
    for (record_id, one), value in pushed.items():
        if one in names and (record_id, one) not in sending:
            by_record.setdefault(record_id, {})[one] = outbox.decode(value)
    report = DriftReport(name)
    for some in portions(sorted(by_record), _AT_ONCE):
        if runtime.is_stopping:
            break
        live = runtime.target(spec.connection).read(spec.object, some, names)
        _compare(report, {one: by_record[one] for one in some}, live)
    return report


def _compare(
    report: DriftReport,
    ours: Mapping[str, Mapping[str, Scalar]],
    live: Sequence[LiveRecord],
) -> None:
    held = {one.asked_id: one.values for one in live if one.record_id == one.asked_id}
    for record_id, fields in ours.items():
        if record_id not in held:
            report.gone += len(fields)
            continue
        report.checked += len(fields)
        for name, value in fields.items():
            found = held[record_id].get(name)
            if not equal_values(found, value):
                report.differences.append(Difference(record_id, name, value, found))


def watch_writeback(runtime: Runtime, name: str) -> RunResult:
    """One periodic pass: compare, count what others rewrote, freeze what they keep rewriting.

    Raises:
        StoreUnavailable: The database is away.
    """
    spec = runtime.writebacks[name]
    return record_run(
        runtime,
        Subject(kind=Kind.DRIFT, connection=spec.connection, writeback=name),
        lambda running: _watch(running, spec),
        # Not while it writes: what is on its way would look like somebody's edit.
        lease_names=(f"push:{name}",),
    )


def _watch(running: Running, spec: WritebackSpec) -> State:
    runtime = running.runtime
    recognise_org(runtime, spec.connection)
    report = compare_live(runtime, spec.name)
    with operating(runtime.engine) as conn:
        running.guard(conn)
        report.frozen = rewrites.note(
            conn,
            spec.name,
            spec.connection,
            spec.object,
            [
                rewrites.Replaced(one.record, one.field, outbox.encode(one.held))
                for one in report.differences
            ],
        )
        running.add(
            conn,
            pulled=report.checked,
            unchanged=report.checked - len(report.differences),
            stored=len(report.differences),
        )
    running.warn(*sentences(report, spec))
    return State.INTERRUPTED if runtime.is_stopping else State.OK


def sentences(report: DriftReport, spec: WritebackSpec) -> list[str]:
    """What was found, for people."""
    fate = "kept (on_edit: keep)" if spec.on_edit == KEEP else "restored by the next push"
    found = [
        f"{spec.object} {one.record}: {one.field} holds {shown(one.held)}, we wrote "
        f"{shown(one.ours)}; {fate}"
        for one in report.differences[:_NAMED]
    ]
    more = len(report.differences) - len(found)
    if more > 0:
        found.append(f"{more:,} more fields of {spec.to} hold something else than we wrote")
    found.extend(
        f"{one.object} {one.record_id}: others have rewritten {one.field} {one.times} times; it is "
        f"left alone until `kpisync writebacks unfreeze {spec.name}`"
        for one in report.frozen
    )
    return found
