"""What a running full pull has seen: at its end, live records that it did not see have vanished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_, delete, exists, func, select

from store.canonical import RecordRef
from store.conversion import cleaned_text, ref_of
from store.records import of_connection
from store.tables import RECORD_TABLES, SEEN_REFS
from store.upsert import upsert


def start(conn: Connection, connection: str, stream: str) -> None:
    """Begin a full pull: nothing is seen yet."""
    clear(conn, connection, stream)


def add(conn: Connection, connection: str, stream: str, refs: Iterable[RecordRef]) -> None:
    """Note records as seen; in the transaction of their page."""
    upsert(
        conn,
        SEEN_REFS,
        [
            {"connection": connection, "stream": stream, "ref": cleaned_text(key)}
            for key in sorted({ref.key for ref in refs})
        ],
        replacing=(),
    )


def vanished(conn: Connection, connection: str, stream: str) -> Sequence[RecordRef]:
    """Live stored records of the stream that were not seen, by key."""
    stored = RECORD_TABLES[stream]
    is_seen = exists().where(
        SEEN_REFS.c.connection == connection,
        SEEN_REFS.c.stream == stream,
        SEEN_REFS.c.ref == stored.c.ref,
    )
    query = (
        select(stored.c.ref)
        .where(of_connection(stored.c.ref, connection), ~stored.c.deleted, ~is_seen)
        .order_by(stored.c.ref)
    )
    return [ref_of(key, stream) for key in conn.execute(query).scalars()]


def count(conn: Connection, connection: str, stream: str) -> int:
    """How many records of the stream were seen so far."""
    query = (
        select(func.count())
        .select_from(SEEN_REFS)
        .where(and_(SEEN_REFS.c.connection == connection, SEEN_REFS.c.stream == stream))
    )
    return conn.execute(query).scalar_one()


def clear(conn: Connection, connection: str, stream: str) -> None:
    """Forget what was seen."""
    conn.execute(
        delete(SEEN_REFS).where(SEEN_REFS.c.connection == connection, SEEN_REFS.c.stream == stream)
    )
