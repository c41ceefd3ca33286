"""How many doubtful matches wait for a person: counted after computations, told by `status`.

To see them all records that share a value are looked at, which takes a second for most companies
and half a minute for a million accounts. So they are counted beside the work, never by somebody
who only asks how things are, and where it takes long
it takes a twentieth of the time at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, or_, select

from store import identity, notes
from store.engine import database_now, reading, writing
from store.identity_rules import MATCHED_STREAMS
from store.tables import IDENTITY_DECISIONS, RUNS
from worker.runtime import Runtime

_NOTE: Final = ("identity", "doubtful")
_SHARE: Final = 20
"""Counting takes at most this part of the time."""
_QUICK_SECONDS: Final = 0.3
"""What is counted as fast as that is counted whenever something has changed."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Matches that wait for a person."""

    counts: Mapping[str, int]
    """Stream -> how many."""
    counted_at: datetime
    seconds: float
    """That counting took."""
    is_current: bool
    """Whether nothing that could matter has changed since."""

    @property
    def total(self) -> int:
        """Of all streams."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, object]:
        """The shape other programs read."""
        return {
            "matches": dict(self.counts),
            "counted_at": self.counted_at,
            "is_current": self.is_current,
        }


def is_matching(runtime: Runtime) -> bool:
    """Whether anything is matched at all."""
    rules = runtime.catalog.settings.identity
    return any(rules.of(stream) for stream in MATCHED_STREAMS)


def noted(conn: Connection, runtime: Runtime) -> Doubtful | None:
    """What was counted last; None: nothing was, or by other rules."""
    text = notes.get(conn, *_NOTE)
    if text is None:
        return None
    said = json.loads(text)
    if said["rules"] != runtime.catalog.settings.identity.fingerprint:
        return None
    counted_at = datetime.fromisoformat(said["counted_at"])
    return Doubtful(
        counts=said["counts"],
        counted_at=counted_at,
        seconds=said["seconds"],
        is_current=not said["is_stale"] and not _has_changed(conn, counted_at),
    )


def sentences(conn: Connection, runtime: Runtime) -> Iterator[str]:
    """What a person should know about them."""
    if not is_matching(runtime):
        return
    found = noted(conn, runtime)
    if found is None:
        yield (
            "identity: doubtful matches are not counted yet; kpisync compute counts them, "
            "kpisync identity review shows them"
        )
    elif found.total:
        listed = ", ".join(
            f"{count} of {stream}" for stream, count in found.counts.items() if count
        )
        verb = "match waits" if found.total == 1 else "matches wait"
        since = (
            ""
            if found.is_current
            else f", counted at {found.counted_at:%Y-%m-%d %H:%M} UTC; records have changed since"
        )
        yield (
            f"identity: {found.total} doubtful {verb} for a person ({listed}{since}): "
            "kpisync identity review"
        )


def count_if_due(runtime: Runtime) -> None:
    """Count anew, unless the last count still holds or the one before it was too recent.

    Raises:
        StoreUnavailable: The database is away.
    """
    if not is_matching(runtime):
        return
    with reading(runtime.engine) as conn:
        last, now = noted(conn, runtime), database_now(conn)
    if last is not None and last.is_current:
        return
    rest = 0.0 if last is None or last.seconds <= _QUICK_SECONDS else _SHARE * last.seconds
    if last is None or now - last.counted_at >= timedelta(seconds=rest):
        _count(runtime)


def note_decision(conn: Connection) -> None:
    """Remember in a person's transaction that the last count holds no more."""
    text = notes.get(conn, *_NOTE)
    if text is not None:
        notes.put(conn, *_NOTE, json.dumps({**json.loads(text), "is_stale": True}))


def _count(runtime: Runtime) -> None:
    rules = runtime.catalog.settings.identity
    began = time.monotonic()
    with reading(runtime.engine) as conn:
        counted_at = database_now(conn)
        counts = {
            stream: len(identity.doubts(conn, stream, rules.of(stream)))
            for stream in MATCHED_STREAMS
            if rules.of(stream)
        }
    seconds = time.monotonic() - began
    with writing(runtime.engine) as conn:
        note_count(conn, runtime, counts, counted_at=counted_at, seconds=seconds)


def note_count(
    conn: Connection,
    runtime: Runtime,
    counts: Mapping[str, int],
    *,
    counted_at: datetime | None = None,
    seconds: float,
) -> None:
    """Remember a count.

    Args:
        conn: in `store.engine.writing`.
        runtime: by whose rules it was counted.
        counts: stream -> how many wait.
        counted_at: before anything was looked at (aware); None: now.
        seconds: that counting took.
    """
    said = {
        "counts": dict(counts),
        "counted_at": (counted_at or database_now(conn)).isoformat(),
        "seconds": round(seconds, 3),
        "rules": runtime.catalog.settings.identity.fingerprint,
        "is_stale": False,
    }
    notes.put(conn, *_NOTE, json.dumps(said))


def _has_changed(conn: Connection, since: datetime) -> bool:
    run, said = RUNS.c, IDENTITY_DECISIONS.c
    moved = select(func.count()).where(
        run.stream.in_(MATCHED_STREAMS),
        run.stored > 0,
        or_(run.ended.is_(None), run.ended >= since),
    )
    decided = select(func.count()).where(said.decided_at >= since)
    return bool(conn.execute(moved).scalar_one() or conn.execute(decided).scalar_one())
