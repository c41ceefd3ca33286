"""Computing: stale families built again, then every dirty KPI value published."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from metrics import meaning, values
from metrics import rebuild as rebuilding
from metrics.values import Published
from store.engine import database_now
from worker import crashpoints, doubts
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

_PATIENCE: Final = timedelta(seconds=30)
"""Others compute for moments, and what they publish is what we would."""


def compute(
    runtime: Runtime,
    kpi: str | None = None,
    *,
    rebuild: bool = False,
    patience: timedelta = _PATIENCE,
) -> RunResult:
    """Bring the published KPI values up to date with the stored records.

    Args:
        runtime: What it works with.
        kpi: A KPI of the catalogue: a rebuild leaves what only others rest on; None: all.
        rebuild: Build from the stored records, not only what is stale.
        patience: How long to wait for another process that computes right now.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    result = record_run(
        runtime,
        Subject(kind=Kind.COMPUTE),
        lambda running: _compute(running, _asked_for(runtime, kpi) if rebuild else ()),
        lease_names=("compute",),
        patience=patience,
    )
    if not runtime.is_stopping:
        doubts.count_if_due(runtime)
    return result


class _Stopped(Exception):
    """Somebody asked to stop before the new definitions were in force; the old ones stay."""


def _asked_for(runtime: Runtime, kpi: str | None) -> Collection[str] | None:
    """The families to build whatever their state; None: all of them."""
    if kpi is None:
        return None
    catalog = runtime.catalog
    return {
        family
        for family in catalog.families
        if any(above.name == kpi for above in values.kpis_above(catalog, family))
    }


def _compute(running: Running, asked_for: Collection[str] | None) -> State:
    runtime = running.runtime
    try:
        _renew(running, asked_for)
    except _Stopped:
        running.is_unfinished = True
        return State.OK
    while not runtime.is_stopping:
        if _publish_some(running) == 0:
            return State.OK
    running.is_unfinished = True
    return State.OK


def _renew(running: Running, asked_for: Collection[str] | None) -> None:
    """Build what is stale; where KPIs mean something else now, publish them with it.

    Cells and values of another definition come into force together: until that transaction
    commits everybody reads the old ones, and if it never does, they stay.
    """
    runtime = running.runtime
    with running.writing() as conn:
        is_redefined = meaning.is_redefined(conn, runtime.catalog)
        families = None
        if asked_for is not None:
            families = {*asked_for, *rebuilding.stale_families(conn, runtime.catalog)}
        if families is None or families:
            rebuilding.rebuild(conn, runtime.catalog, families)
        if is_redefined:
            _swap(running, conn)
        crashpoints.reach(crashpoints.COMPUTE_BEFORE_COMMIT)
    crashpoints.reach(crashpoints.COMPUTE_AFTER_COMMIT)


def _swap(running: Running, conn: Connection) -> None:
    """Publish everything of the new definitions as of one instant, a portion at a time."""
    as_of, changed, unchanged = database_now(conn), 0, 0
    remaining = 1
    while remaining:
        if running.runtime.is_stopping:
            raise _Stopped
        published = _publish(running, conn, as_of)
        remaining = published.remaining
        changed, unchanged = changed + published.changed, unchanged + published.unchanged
    _count(running, conn, changed, unchanged)


def _publish_some(running: Running) -> int:
    """One bounded transaction; how many dirty keys remain."""
    with running.writing() as conn:
        published = _publish(running, conn, database_now(conn))
        _count(running, conn, published.changed, published.unchanged)
        crashpoints.reach(crashpoints.COMPUTE_BEFORE_COMMIT)
    crashpoints.reach(crashpoints.COMPUTE_AFTER_COMMIT)
    return published.remaining


def _publish(running: Running, conn: Connection, as_of: datetime) -> Published:
    runtime = running.runtime
    return values.publish(
        conn,
        runtime.catalog,
        run=running.run,
        as_of=as_of,
        limit=runtime.config.advanced.step_rows,
    )


def _count(running: Running, conn: Connection, changed: int, unchanged: int) -> None:
    # On a run's row a computation counts values where a pull counts records.
    running.add(
        conn,
        pulled=changed + unchanged,
        stored=changed,
        unchanged=unchanged,
        changed_values=changed,
    )
