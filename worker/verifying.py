"""Verifying: values recomputed from the records and compared; a share of them each night.

A share is some of the KPIs, chosen by the local date alone, so that after `verify_nights` nights
all have had their turn. A KPI that differed is looked at every night until it agrees again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from metrics import cell_audit
from metrics.definition import Kpi
from metrics.explain.counterexample import Counterexample, smallest
from metrics.verify import OF_CELLS, Verification, duck, verified_together, verify
from store import kpis, notes, runs
from store.engine import database_now, operating, reading
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

_NOTE: Final = ("", "verify.differing")
"""The note that names the KPIs which differ, and says how."""

_PATIENCE: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifying has found so far."""

    at: datetime | None
    """The last nightly round; None: there was none."""
    state: str | None
    values: int
    """How many it compared."""
    differing: str | None
    """Which values do not agree with the records, in words; None: none is known."""


def verify_share(runtime: Runtime) -> RunResult:
    """Compare tonight's share of the values with the records.

    Raises:
        StoreUnavailable: The database is away.
    """
    return record_run(
        runtime,
        Subject(kind=Kind.VERIFY),
        _verify_share,
        lease_names=("verify",),
        patience=_PATIENCE,
    )


def share_of(runtime: Runtime, now: datetime) -> list[Sequence[Kpi]]:
    """The KPIs whose night it is, those together that read the same records."""
    together = verified_together(runtime.catalog.kpis)
    nights = runtime.config.advanced.verify_nights
    day = now.astimezone(runtime.company.timezone).date().toordinal()
    return [kpis for place, kpis in enumerate(together) if place % nights == day % nights]


def _verify_share(running: Running) -> State:
    runtime = running.runtime
    with reading(runtime.engine, makes_tables=True) as conn:
        now = database_now(conn)
        if kpis.count_dirty_keys(conn):
            running.error = "changes came in meanwhile; it is tried again when they are computed"
            return State.INTERRUPTED
        differed = _differing_kpis(conn)
        groups = share_of(runtime, now)
        tonight = {kpi.name for group in groups for kpi in group}
        again = [kpi for kpi in runtime.catalog.kpis if kpi.name in differed - tonight]
        found: list[Verification] = []
        for group in [*groups, *([again] if again else [])]:
            if runtime.is_stopping:
                return State.INTERRUPTED
            found.append(_share(conn, runtime, now, group))
        whole = Verification(
            ok=all(one.ok for one in found),
            checked=sum(one.checked for one in found),
            days=sum(one.days for one in found),
            cells=sum(one.cells for one in found),
            differences=[difference for one in found for difference in one.differences],
        )
        words = None if whole.ok else in_words(whole, smallest(conn, runtime.catalog, whole))
    remember(runtime, whole, words)
    differing = len(whole.differences)
    with operating(runtime.engine) as conn:
        running.add(conn, pulled=whole.checked, unchanged=whole.checked - differing, dead=differing)
    running.error = words
    return State.OK if whole.ok else State.PARTLY_FAILED


def _share(conn: Connection, runtime: Runtime, now: datetime, kpis: Sequence[Kpi]) -> Verification:
    catalog = runtime.catalog
    return _with_cells(
        conn, runtime, kpis, verify(conn, catalog, as_of=now, kpis=kpis, with_others=False)
    )


def _with_cells(
    conn: Connection, runtime: Runtime, kpis: Sequence[Kpi], found: Verification
) -> Verification:
    """The same with every cell compared that these KPIs are made of."""
    cells, wrong = cell_audit.compare_cells(conn, runtime.catalog, kpis)
    differences = [*found.differences, *wrong]
    return replace(found, ok=not differences, differences=differences, cells=found.cells + cells)


@dataclass(frozen=True, slots=True)
class Everything:
    """One comparison of everything."""

    verification: Verification
    by_duckdb: duck.DuckVerification | None
    """What of it DuckDB has compared; None: it was not asked."""


def verify_everything(conn: Connection, runtime: Runtime, *, with_duckdb: bool) -> Everything:
    """Compare every value with the records, by plain Python where DuckDB does not reach.

    Args:
        conn: in ``store.engine.reading(..., makes_tables=True)``.
        runtime: what it works with.
        with_duckdb: let DuckDB compare the cells and values that it covers.

    Raises:
        NoDuckDb: it is not installed.
    """
    now, catalog = database_now(conn), runtime.catalog
    if not with_duckdb:
        found = verify(conn, catalog, as_of=now)
        return Everything(_with_cells(conn, runtime, catalog.kpis, found), None)
    by_duckdb = duck.verify(conn, catalog, as_of=now)
    others = [kpi for kpi in catalog.kpis if kpi.name not in by_duckdb.kpis]
    rest = _with_cells(conn, runtime, others, verify(conn, catalog, as_of=now, kpis=others))
    differences = [*by_duckdb.differences, *rest.differences]
    whole = replace(
        rest,
        ok=not differences,
        checked=by_duckdb.values + rest.checked,
        differences=differences,
        cells=by_duckdb.cells + rest.cells,
    )
    return Everything(whole, by_duckdb)


def remember(runtime: Runtime, found: Verification, words: str | None) -> None:
    """Keep what differs until it agrees again; `status` and alerts tell of it."""
    with operating(runtime.engine) as conn:
        if words is None:
            notes.drop(conn, *_NOTE)
        else:
            names = sorted({one.kpi.removesuffix(OF_CELLS) for one in found.differences})
            notes.put(conn, *_NOTE, json.dumps({"kpis": names, "words": words}))


def verified_so_far(conn: Connection) -> Verified:
    """What the nightly rounds have found."""
    noted = notes.get(conn, *_NOTE)
    last = runs.latest(conn, Kind.VERIFY)
    return Verified(
        at=None if last is None else last.started,
        state=None if last is None else last.state,
        values=0 if last is None else last.pulled,
        differing=None if noted is None else json.loads(noted)["words"],
    )


def in_words(found: Verification, example: Counterexample | None) -> str:
    """Differences as one sentence with the remedy."""
    shown = "" if example is None else f"; the smallest: {example.words}"
    return (
        f"{len(found.differences):,} of {found.checked:,} values do not agree with the records"
        f"{shown}. `kpisync verify` shows all, `kpisync compute --rebuild` mends them; tell us"
    )


def _differing_kpis(conn: Connection) -> set[str]:
    noted = notes.get(conn, *_NOTE)
    return set() if noted is None else set(json.loads(noted)["kpis"])
