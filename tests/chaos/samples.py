"""What is looked at while a storm blows: how far the store is, and how large processes grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg

from tests.chaos.people import ACCOUNTS, DEALS
from tests.chaos.service import Service
from tests.fixtures.sandboxes import Sandbox

MOST_MEMORY_MB = 512.0
MOST_FILES = 80
"""Open files of one process: some sockets to each server and CRM, pipes of the pool."""
MOST_SESSIONS = 25
"""Sessions of PostgreSQL for two workers with two children each, beat and their pulses."""


@dataclass
class Samples:
    """The largest of everything that was seen."""

    database: str
    lookback: timedelta
    memory_mb: float = 0.0
    files: int = 0
    sessions: int = 0
    looks: int = 0
    behind_checkpoint: list[str] = field(default_factory=list)
    """Broken promises of I4."""

    def take(self, services: list[Service]) -> None:
        """How large each process is, and how many sessions the database has."""
        for service in services:
            self.memory_mb = max(self.memory_mb, service.memory_mb())
            self.files = max(self.files, service.open_files())

    def look(self, sandbox: Sandbox, *, but: set[str]) -> None:
        """I4: what the CRMs held up to the checkpoint less the lookback is in the store.

        Args:
            sandbox: The CRMs.
            but: Records that came back with an old date: only a look at the ids finds them.
        """
        with asking(self.database) as conn:
            row = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kpisync'"
                " AND datname = current_database()"
            ).fetchone()
            self.sessions = max(self.sessions, row[0] if row else 0)
            until = {
                (one[0], one[1]): one[2]
                for one in conn.execute(
                    "SELECT connection, stream, complete_until FROM checkpoints"
                )
                if one[2] is not None
            }
        held = {
            (name, stream): crm.snapshot()[objects[name]]
            for name, crm in (("salesforce", sandbox.salesforce), ("hubspot", sandbox.hubspot))
            for stream, objects in (("accounts", ACCOUNTS), ("deals", DEALS))
        }
        # Read last: whatever the checkpoint covered then is still there.
        with asking(self.database) as conn:
            stored = {
                stream: {
                    row[0]: row[1]
                    for row in conn.execute(f"SELECT ref, modified_at FROM {stream}")  # noqa: S608 - our own two names
                }
                for stream in ("accounts", "deals")
            }
            letters = {
                row[0] for row in conn.execute("SELECT ref FROM dead_letters WHERE ref IS NOT NULL")
            }
        self.looks += 1
        for (name, stream), complete in until.items():
            if (name, stream) in held:
                edge = complete - self.lookback
                there = {f"{name}:{one['id']}": one for one in held[name, stream]}
                for ref in letters | but:
                    there.pop(ref, None)
                self.behind_checkpoint += behind(stream, there, stored[stream], edge)


def behind(
    stream: str,
    held: Mapping[str, Mapping[str, object]],
    stored: Mapping[str, int | None],
    edge: datetime,
) -> Iterator[str]:
    for ref, one in held.items():
        modified = datetime.fromisoformat(str(one["modified"]))
        if modified > edge or one["deleted"] or one["merged_into"]:
            continue
        if ref not in stored:
            yield f"I4: {stream} {ref} of {modified} is not in the store, complete to {edge}"
        elif (seen := stored[ref]) is not None and seen < int(modified.timestamp() * 1_000_000):
            yield f"I4: {stream} {ref} of {modified} is older in the store, complete to {edge}"


@contextmanager
def asking(database: str) -> Iterator[psycopg.Connection]:
    """A session of our own, for single questions."""
    with psycopg.connect(database, autocommit=True, connect_timeout=5) as conn:
        yield conn
