"""What is stored of connections, streams and KPIs that the configuration does not name any more.

Taking a stream out of the file deletes nothing: its records stay and count until somebody says
otherwise. So they are listed, can be removed, and no org is read under a second name while its
records lie there under the first: everything would count twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from sqlalchemy import Connection

from connectors.errors import ConnectorError
from metrics import cells
from store import checkpoints, deadletters, definitions, records
from store.canonical import RecordRef
from store.engine import reading, writing
from store.errors import RecordsStoredAlready
from worker.runtime import Runtime

_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Leftover:
    """A stream that nobody reads any more."""

    connection: str
    stream: str
    records: int
    """Live ones that are stored of it."""
    is_of_connection: bool
    """Its whole connection is gone from the configuration."""


def leftovers(runtime: Runtime, conn: Connection) -> list[Leftover]:
    """Every stream that was read once and is not configured now.

    Args:
        runtime: whose configuration counts.
        conn: in `store.engine.reading`.
    """
    configured = {name: _streams(runtime, name) for name in runtime.config.connections}
    return [
        Leftover(
            one.connection,
            one.stream,
            records.count(conn, one.stream, one.connection),
            one.connection not in configured,
        )
        for one in checkpoints.every(conn)
        if one.stream not in configured.get(one.connection, ())
    ]


def _streams(runtime: Runtime, connection: str) -> frozenset[str]:
    """What is read of a connection, implied streams included."""
    named = frozenset(runtime.config.connections[connection].streams)
    with suppress(ConnectorError):
        return named | {one.name for one in runtime.connector(connection).streams()}
    return named


def sentences(found: Sequence[Leftover]) -> Iterator[str]:
    """What people are told of leftovers that still count."""
    counted = [one for one in found if one.records]
    for connection, some in groupby(counted, key=lambda one: one.connection):
        streams = list(some)
        is_whole = streams[0].is_of_connection
        for words, target in (
            [(", ".join(f"{one.stream} {one.records:,}" for one in streams), connection)]
            if is_whole
            else [(f"{one.records:,}", f"{connection}.{one.stream}") for one in streams]
        ):
            yield (
                f"{target}: not in the configuration any more; its stored records ({words}) stay "
                f"and count. Name it again, or remove them: kpisync state forget {target}"
            )


def left_kpis(runtime: Runtime, conn: Connection) -> list[str]:
    """KPIs that had values once and are not kept now; what they were stays on record."""
    kept = {kpi.name for kpi in runtime.catalog.kpis}
    known = {one.name for one in definitions.in_force(conn)}
    return sorted(known - kept - {definitions.RATES})


def sentence_of_kpis(left: Sequence[str]) -> Iterator[str]:
    """What people are told of KPIs that are not kept any more."""
    if left:
        yield (
            f"not in the configuration any more: {', '.join(left)}; no value of theirs is kept up, "
            "and what they were stays (kpisync kpi values --as-of DATE)"
        )


def ensure_not_twice(runtime: Runtime, connection: str, stream: str) -> None:
    """Refuse to read what is stored under the name of a connection that is gone.

    Raises:
        RecordsStoredAlready: Records of the same org lie there under another name.
    """
    with reading(runtime.engine) as conn:
        org_id = checkpoints.pinned_org(conn, connection)
        twins = [] if org_id is None else checkpoints.pinned_to(conn, org_id)
        for twin in twins:
            is_gone = twin != connection and twin not in runtime.config.connections
            if is_gone and records.count(conn, stream, twin):
                raise RecordsStoredAlready(connection, twin, str(org_id))


def forget(runtime: Runtime, connection: str, stream: str | None = None) -> int:
    """Remove the records of a leftover; the KPIs follow like those of any deletion.

    Args:
        runtime: what it works with.
        connection: of the leftover.
        stream: one of its streams; None: all that nobody reads.

    Returns:
        How many live records went.

    Raises:
        Busy: somebody is reading it at this moment.
        StoreError: the database is away, or the cells contradict the records.
    """
    with reading(runtime.engine) as conn:
        found = [
            one
            for one in leftovers(runtime, conn)
            if one.connection == connection and stream in {None, one.stream}
        ]
    for one in found:
        with runtime.leases.hold(f"pull:{one.connection}.{one.stream}"):
            _remove(runtime, one)
    if any(one.is_of_connection for one in found) and stream is None:
        with writing(runtime.engine) as conn:
            checkpoints.unpin_org(conn, connection)
    return sum(one.records for one in found)


def _remove(runtime: Runtime, leftover: Leftover) -> None:
    connection, stream = leftover.connection, leftover.stream
    with reading(runtime.engine) as conn:
        stored = records.iterate(
            conn, stream, runtime.company, connection=connection, include_deleted=False
        )
        refs: list[RecordRef] = [record.ref for record in stored]
    for start in range(0, len(refs), _AT_ONCE):
        with writing(runtime.engine) as conn:
            cells.commit_page(conn, runtime.catalog, [], refs[start : start + _AT_ONCE])
    with writing(runtime.engine) as conn:
        letters = [
            letter.id
            for letter in deadletters.every(conn)
            if (letter.connection, letter.stream) == (connection, stream)
        ]
        deadletters.drop(conn, letters)
        checkpoints.reset(conn, connection, stream)
