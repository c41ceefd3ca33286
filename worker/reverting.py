"""Undoing a run: what stood in the fields before, where they still hold what we wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from metrics.fitting import FieldPlan
from metrics.plans import KEPT, Change, GuardVerdict, Plan, shown
from metrics.writeback import BLANK, CHANGE, WritebackSpec
from store import outbox, runs
from store.canonical import Scalar
from store.engine import reading
from store.outbox import OutboxRow
from worker.answers import same_value
from worker.planning import push_batch, read_live
from worker.pushing import run_push
from worker.results import RunResult
from worker.runtime import Runtime

_PATIENCE: Final = timedelta(seconds=30)


class CannotRevert(Exception):
    """There is nothing that this run could be undone with."""


def plan_revert(runtime: Runtime, run: str) -> Plan:
    """What undoing a run would put back, field by field, by what the CRM shows now.

    A field that somebody, or a later run, has changed since keeps what it holds.

    Args:
        runtime: What it works with.
        run: A run that wrote, as `apply` and `runs list` name it.

    Raises:
        CannotRevert: It is no such run, it wrote nothing, or its history is no longer kept.
        ConnectorError: The CRM cannot be read.
        StoreUnavailable: The database is away.
    """
    rows = _written(runtime, run)
    spec = _spec_of(runtime, rows)
    names = sorted({row.field for row in rows})
    live = {
        one.asked_id: one.values
        for one in read_live(runtime, spec, sorted({row.record_id for row in rows}), names)
        if one.record_id == one.asked_id
    }
    changes = tuple(_changes(rows, live, run))
    records = {change.record for change in changes if change.kind != KEPT}
    first = min(len(records), runtime.config.advanced.canary)
    batch = push_batch(runtime, spec)
    return Plan(
        writeback=spec.name,
        connection=spec.connection,
        object=spec.object,
        matched=len(live),
        unmatched=len({row.record_id for row in rows} - live.keys()),
        deleted=0,
        changes=changes,
        calls=-(-first // batch) + -(-(len(records) - first) // batch),
        quota_share=None,
        guard=GuardVerdict(ok=True),
        as_of=_earliest(rows),
    )


def revert_run(
    runtime: Runtime, run: str, plan: Plan, *, patience: timedelta = _PATIENCE
) -> RunResult:
    """Put back what a run replaced; the write-back then stands still until a person has looked.

    Args:
        runtime: What it works with.
        run: The run that is undone.
        plan: What `plan_revert` said; a field that changes meanwhile is left alone.
        patience: How long to wait for another process that writes to the same connection.

    Raises:
        CannotRevert: It is no such run, it wrote nothing, or its history is no longer kept.
        StoreUnavailable: The database is away; what was committed stays.
    """
    spec = _spec_of(runtime, _written(runtime, run))
    return run_push(runtime, spec, lambda push: push.write_revert(plan, run), patience)


def _written(runtime: Runtime, run: str) -> Sequence[OutboxRow]:
    with reading(runtime.engine) as conn:
        known = runs.get(conn, run)
        rows = outbox.sent_by(conn, run)
    if known is None:
        raise CannotRevert(f'there is no run "{run}" (kpisync runs list)')
    if rows:
        return rows
    if known.sent:
        kept = runtime.config.advanced.keep_outbox
        raise CannotRevert(
            f"what run {run} replaced is no longer known: settled writes are kept for "
            f"{kept.days} days (advanced.keep_outbox)"
        )
    raise CannotRevert(f"run {run} has written nothing: there is nothing to undo")


def _spec_of(runtime: Runtime, rows: Sequence[OutboxRow]) -> WritebackSpec:
    """The write-back of a run; one that is configured otherwise by now is undone all the same."""
    first = rows[0]
    if first.connection not in runtime.config.connections:
        raise CannotRevert(
            f'the connection "{first.connection}" is not configured any more: nothing can be '
            "written there"
        )
    capabilities = runtime.connector(first.connection).capabilities
    configured = runtime.writebacks.get(first.writeback)
    return WritebackSpec(
        name=first.writeback,
        connection=first.connection,
        object=first.object,
        stream=capabilities.object_streams.get(first.object, ""),
        fields=tuple(FieldPlan(name, "", "") for name in dict.fromkeys(row.field for row in rows)),
        stamp=None,
        match=None if configured is None else configured.match,
    )


def _changes(
    rows: Sequence[OutboxRow], live: Mapping[str, Mapping[str, Scalar]], run: str
) -> Iterator[Change]:
    for row in rows:
        if row.record_id not in live:
            continue
        held = live[row.record_id].get(row.field)
        before, ours = outbox.decode(row.old), outbox.decode(row.value)
        if same_value(held, before):
            continue  # it is back already
        if not same_value(held, ours):
            why = f"holds {shown(held)}, which run {run} did not write: left alone"
            yield Change(row.record_id, row.field, held, held, KEPT, why)
            continue
        kind = BLANK if before in {None, ""} else CHANGE
        why = f"undoes run {run}: back to {'nothing' if kind == BLANK else shown(before)}"
        yield Change(row.record_id, row.field, held, before, kind, why)


def _earliest(rows: Sequence[OutboxRow]) -> datetime:
    return min(row.as_of for row in rows)
