"""Write-backs that write nothing until a person has looked, and how much stood behind others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, select

from store.engine import database_now
from store.tables import WRITEBACK_HOLDS, WRITEBACK_MARKS
from store.upsert import upsert

GUARD: Final = "guard"
CANARY: Final = "canary"
REVERT: Final = "revert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a write-back stands still."""

    writeback: str
    kind: str
    """guard, canary or revert."""
    reason: str
    fingerprint: str
    """Of the definition and the guard that were in force."""
    run: str
    held_at: datetime


def hold(  # noqa: PLR0917 - in the order of a sentence
    conn: Connection, writeback: str, kind: str, reason: str, fingerprint: str, run: str
) -> None:
    """Let a write-back stand still; the first reason of one kind keeps its instant.

    Args:
        conn: in `store.engine.operating`.
        writeback: its name.
        kind: guard, canary or revert.
        reason: one sentence for people.
        fingerprint: of the definition and the guard in force.
        run: the run that stops it.
    """
    before = held(conn, writeback)
    is_known = before is not None and before.kind == kind
    upsert(
        conn,
        WRITEBACK_HOLDS,
        [
            {
                "writeback": writeback,
                "kind": kind,
                "reason": reason,
                "fingerprint": fingerprint,
                "run": run,
                "held_at": before.held_at if before and is_known else database_now(conn),
            }
        ],
        replacing=("kind", "reason", "fingerprint", "run", "held_at"),
    )


def held(conn: Connection, writeback: str) -> Hold | None:
    """Why a write-back stands still, if it does."""
    query = select(WRITEBACK_HOLDS).where(WRITEBACK_HOLDS.c.writeback == writeback)
    row = conn.execute(query).mappings().first()
    return None if row is None else Hold(**row)


def every(conn: Connection) -> list[Hold]:
    """All holds, by write-back."""
    query = select(WRITEBACK_HOLDS).order_by(WRITEBACK_HOLDS.c.writeback)
    return [Hold(**row) for row in conn.execute(query).mappings()]


def release(conn: Connection, writeback: str) -> bool:
    """A person has looked: it may write again. Returns whether it stood still."""
    ended = delete(WRITEBACK_HOLDS).where(WRITEBACK_HOLDS.c.writeback == writeback)
    return conn.execute(ended).rowcount > 0


# ---------------------------------------------------------------- marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """When a write-back last ended well, and how much stood behind its values then."""

    marked_at: datetime
    counts: Mapping[str, int]


def set_mark(conn: Connection, writeback: str, run: str, counts: Mapping[str, int]) -> None:
    """Remember how much stood behind a write-back that ended well."""
    row = {
        "writeback": writeback,
        "run": run,
        "marked_at": database_now(conn),
        "counts": json.dumps(dict(counts), sort_keys=True),
    }
    upsert(conn, WRITEBACK_MARKS, [row], replacing=("run", "marked_at", "counts"))


def mark_of(conn: Connection, writeback: str) -> Mark | None:
    """The mark of a write-back; None: it has never ended well."""
    query = select(WRITEBACK_MARKS.c.marked_at, WRITEBACK_MARKS.c.counts).where(
        WRITEBACK_MARKS.c.writeback == writeback
    )
    row = conn.execute(query).first()
    return None if row is None else Mark(marked_at=row.marked_at, counts=json.loads(row.counts))
