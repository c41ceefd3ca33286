"""The history of what was done: one row for each execution, with its counts."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, insert, select, update

from store.conversion import cleaned_text
from store.engine import database_now
from store.tables import RUNS

RUNNING: Final = "running"
INTERRUPTED: Final = "interrupted"

COUNTS: Final = (
    *("pulled", "stored", "unchanged", "dead", "cleaned"),
    *("sent", "failed", "calls", "minimum_calls"),
)
"""What a run counts; pulled = stored + unchanged + dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a pull, a computation or a write-back."""

    run: str
    """Its id; ids sort by start."""
    kind: str
    """One of pull, compute, push, full."""
    connection: str | None
    stream: str | None
    writeback: str | None
    state: str
    """One of running, ok, partly_failed, failed, refused, paused, interrupted."""
    started: datetime
    ended: datetime | None
    pulled: int
    stored: int
    unchanged: int
    dead: int
    cleaned: int
    sent: int
    failed: int
    calls: int
    minimum_calls: int
    error: str | None
    warnings: tuple[str, ...]


def start(
    conn: Connection,
    kind: str,
    *,
    connection: str | None = None,
    stream: str | None = None,
    writeback: str | None = None,
) -> str:
    """Begin a run and return its id."""
    now = database_now(conn)
    run = f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(3)}"
    conn.execute(
        insert(RUNS).values(
            run=run,
            kind=kind,
            connection=connection,
            stream=stream,
            writeback=writeback,
            state=RUNNING,
            started=now,
        )
    )
    return run


def add(conn: Connection, run: str, **counts: int) -> None:
    """Add to a run's counts, in the transaction of the work they count.

    Args:
        conn: a writing connection.
        run: the run's id.
        **counts: any of `COUNTS`.
    """
    if not counts:
        return
    sums = {RUNS.c[name]: RUNS.c[name] + number for name, number in counts.items()}
    conn.execute(update(RUNS).where(RUNS.c.run == run).values(sums))


def finish(
    conn: Connection,
    run: str,
    state: str,
    error: str | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """End a run in its final state; one that was marked interrupted meanwhile stays so."""
    conn.execute(
        update(RUNS)
        .where(RUNS.c.run == run, RUNS.c.state == RUNNING)
        .values(
            state=state,
            ended=database_now(conn),
            # What a CRM said may stand in them, and no store takes half a character.
            error=None if error is None else cleaned_text(error),
            warnings=json.dumps([cleaned_text(one) for one in warnings], ensure_ascii=False)
            if warnings
            else None,
        )
    )


def get(conn: Connection, run: str) -> Run | None:
    """A run by its id."""
    row = conn.execute(select(RUNS).where(RUNS.c.run == run)).mappings().first()
    return None if row is None else _run(dict(row))


def every(conn: Connection, limit: int | None = None) -> list[Run]:
    """Runs, the latest first."""
    query = select(RUNS).order_by(RUNS.c.started.desc(), RUNS.c.run.desc()).limit(limit)
    return [_run(dict(row)) for row in conn.execute(query).mappings()]


def latest(conn: Connection, kind: str) -> Run | None:
    """The newest run of a kind that has ended."""
    ended = select(RUNS).where(RUNS.c.kind == kind, RUNS.c.state != RUNNING)
    row = conn.execute(ended.order_by(RUNS.c.run.desc()).limit(1)).mappings().first()
    return None if row is None else _run(dict(row))


def first_start(conn: Connection) -> datetime | None:
    """When the oldest run began; None: nothing ever ran."""
    return conn.execute(select(func.min(RUNS.c.started))).scalar_one_or_none()


def interrupt_unfinished(
    conn: Connection,
    *,
    connection: str | None = None,
    stream: str | None = None,
    writeback: str | None = None,
    kind: str | None = None,
) -> int:
    """Mark runs that never ended, once their lease was taken over; returns how many.

    Args:
        conn: a writing connection of the lease's new holder.
        connection: of the run; None stands for runs without one.
        stream: likewise.
        writeback: likewise.
        kind: only runs of this kind; needed to tell computations from whole passes.
    """
    query = update(RUNS).where(
        RUNS.c.state == RUNNING,
        RUNS.c.connection.is_not_distinct_from(connection),
        RUNS.c.stream.is_not_distinct_from(stream),
        RUNS.c.writeback.is_not_distinct_from(writeback),
    )
    if kind is not None:
        query = query.where(RUNS.c.kind == kind)
    ended = query.values(
        state=INTERRUPTED,
        ended=database_now(conn),
        error="the process ended before the run did; the next run went on from its checkpoint",
    )
    return conn.execute(ended).rowcount


def _run(row: Mapping[str, object]) -> Run:
    values = dict(row)
    warnings = values["warnings"]
    values["warnings"] = tuple(json.loads(warnings)) if isinstance(warnings, str) else ()
    return Run(**values)  # type: ignore[arg-type]  # the columns are the fields
