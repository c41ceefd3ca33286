"""What stays of an installation when all of its processes die, and when two such are alike.

A dead process takes along all it knew. What comes after depends on four things alone: the content
of the store, that of the CRM, what people still do there, and the time. So a crash is explored
from a snapshot of the four, without what led to it, and those with the same digest once.

What the digest leaves out, and why nothing that comes after depends on it:

- **Milliseconds.** An instant is told by its minute and by its place in the order of all instants
  of the snapshot. Whatever the product compares instants with is at least a second long (lease
  10 s, lookback 10 min, retry 1 s), and a crash is followed by minutes of quiet: no such bound
  lies within the milliseconds by which two crashes differ.
- **Leases.** A token is compared with that of a living process, of which there is none, and in the
  quiet all leases run out. That a lease which the dead held is not held for ever is looked at for
  each snapshot on its own: see `Snapshot.left_open`.
- **Runs.** The recovery of a scenario works through all steps, whatever ran before (`due`, which
  asks for the last run, is asked by random seeds alone, and each of those is played in full). That
  rows of the dead are closed is looked at as with leases, that counts add up at every snapshot.
- **Calls of each minute.** They are for quotas, of which these scenarios have none.
- **What SQLite keeps for its planner.**

`test_exploring.py` holds explorations with and without digests against each other.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

from tests.simulation.crm import Crm

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

_LEFT_OUT: Final = frozenset({"runs", "leases", "calls"})

_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?"  # as text, and in cursors
    r"|\b\d{8}T\d{6}\.\d+-[0-9a-f]{6}"  # in the name of a run
    r"|\b1[78]\d{14}\b"  # microseconds since 1970
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stays when everybody dies at an effect."""

    number: int
    """The effect."""
    now: datetime
    acts: int
    """How much of what people do is done."""
    store: bytes
    crm: Crm
    digest: bytes
    left_open: frozenset[str]
    """Leases that the dead held and runs that they had begun."""
    taken: Mapping[str, int]
    """How often each lease was taken and each kind of run begun until now."""


_OPEN: Final = """\
SELECT 'lease ' || name FROM leases WHERE holder IS NOT NULL
UNION SELECT 'run ' || kind || ' ' || coalesce(stream, writeback, '') FROM runs
WHERE state = 'running'
"""
_TAKEN: Final = """\
SELECT 'lease ' || name, token FROM leases
UNION SELECT 'run ' || kind || ' ' || coalesce(stream, writeback, ''), count(*) FROM runs
GROUP BY 1
"""


def left_open(conn: sqlite3.Connection) -> frozenset[str]:
    """Leases that are held and runs that are under way."""
    return frozenset(name for (name,) in conn.execute(_OPEN))


def taken(conn: sqlite3.Connection) -> Mapping[str, int]:
    """How often each lease was taken and each kind of run begun so far."""
    return dict(conn.execute(_TAKEN).fetchall())


def digest(conn: sqlite3.Connection, crm: Crm, acts: int, now: datetime) -> bytes:
    """The same for all states that have the same future."""
    lines = [f"now {now.isoformat()} {acts}"]
    for table in _tables(conn):
        query = f"SELECT * FROM {table}"  # noqa: S608 - names of tables
        lines += [f"{table} {row}" for row in conn.execute(query)]
    lines += crm.told()
    told = _without_milliseconds("\n".join(lines)).split("\n")
    return blake2b("\n".join(sorted(told)).encode(), digest_size=16).digest()


def _tables(conn: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return [name for (name,) in conn.execute(query) if name not in _LEFT_OUT]


def _without_milliseconds(text: str) -> str:
    instants = {one: _instant(one) for one in set(_INSTANT.findall(text))}
    places = {instant: n for n, instant in enumerate(sorted(set(instants.values())))}
    words = {
        one: f"{instant.day}. {instant.hour}:{instant.minute} no. {places[instant]}"
        for one, instant in instants.items()
    }
    return _INSTANT.sub(lambda found: words[found[0]], text)


def _instant(text: str) -> datetime:
    if text.isdecimal():
        return EPOCH + int(text) * MICROSECOND
    return datetime.fromisoformat(text.partition("-")[0] if "-" not in text[:8] else text).replace(
        tzinfo=UTC
    )
