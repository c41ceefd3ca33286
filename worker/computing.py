"""Computing: stale families built again, then every dirty KPI value published."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from metrics import rebuild as rebuilding
from metrics import values
from store.engine import database_now, writing
from worker import crashpoints
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

_PATIENCE: Final = timedelta(seconds=30)
"""Others compute for moments, and what they publish is what we would."""


def compute(
    runtime: Runtime, *, rebuild: bool = False, patience: timedelta = _PATIENCE
) -> RunResult:
    """Bring the published KPI values up to date with the stored records.

    Args:
        runtime: What it works with.
        rebuild: Build everything from the stored records, not only what is stale.
        patience: How long to wait for another process that computes right now.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    return record_run(
        runtime,
        Subject(kind=Kind.COMPUTE),
        lambda running: _compute(running, is_whole=rebuild),
        lease_names=("compute",),
        patience=patience,
    )


def _compute(running: Running, *, is_whole: bool) -> State:
    runtime = running.runtime
    with writing(runtime.engine) as conn:
        running.guard(conn)
        stale = None if is_whole else rebuilding.stale_families(conn, runtime.catalog)
        if stale is None or stale:
            rebuilding.rebuild(conn, runtime.catalog, stale)
        crashpoints.reach(crashpoints.COMPUTE_BEFORE_COMMIT)
    crashpoints.reach(crashpoints.COMPUTE_AFTER_COMMIT)
    while not runtime.is_stopping:
        if _publish_some(running) == 0:
            return State.OK
    running.is_unfinished = True
    return State.OK


def _publish_some(running: Running) -> int:
    """One bounded transaction; how many dirty keys remain."""
    runtime = running.runtime
    with writing(runtime.engine) as conn:
        running.guard(conn)
        published = values.publish(
            conn,
            runtime.catalog,
            run=running.run,
            as_of=database_now(conn),
            limit=runtime.config.advanced.step_rows,
        )
        # On a run's row a computation counts values where a pull counts records.
        running.add(
            conn,
            pulled=published.changed + published.unchanged,
            stored=published.changed,
            unchanged=published.unchanged,
            changed_values=published.changed,
        )
        crashpoints.reach(crashpoints.COMPUTE_BEFORE_COMMIT)
    crashpoints.reach(crashpoints.COMPUTE_AFTER_COMMIT)
    return published.remaining
