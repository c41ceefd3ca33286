"""What people said of two records: the same, or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from sqlalchemy import Connection, delete, insert, or_, select

from store.canonical import Key
from store.engine import database_now
from store.identity_rules import Decision
from store.tables import IDENTITY_DECISIONS

_KEYS_AT_ONCE: Final = 250


@dataclass(frozen=True, slots=True)
class DatedDecision(Decision):
    """With the instant at which it was made."""

    decided_at: datetime


def decide(conn: Connection, stream: str, one: Key, other: Key, *, is_same: bool) -> None:
    """Remember what a person says; it replaces what was said of the two before."""
    forget(conn, stream, one, other)
    conn.execute(
        insert(IDENTITY_DECISIONS),
        {
            "stream": stream,
            "one": min(one, other),
            "other": max(one, other),
            "is_same": is_same,
            "decided_at": database_now(conn),
        },
    )


def forget(conn: Connection, stream: str, one: Key, other: Key) -> bool:
    """Take back what was said of two records; whether there was anything."""
    table = IDENTITY_DECISIONS
    gone = delete(table).where(
        table.c.stream == stream,
        table.c.one == min(one, other),
        table.c.other == max(one, other),
    )
    return conn.execute(gone).rowcount > 0


def every(conn: Connection, stream: str | None = None) -> list[DatedDecision]:
    """All decisions, by stream and records."""
    table = IDENTITY_DECISIONS
    query = select(table).order_by(table.c.stream, table.c.one, table.c.other)
    if stream is not None:
        query = query.where(table.c.stream == stream)
    return [_decision(row) for row in conn.execute(query).mappings()]


def about(conn: Connection, stream: str, refs: Iterable[Key]) -> list[DatedDecision]:
    """Decisions that name any of these records."""
    table = IDENTITY_DECISIONS
    of_stream = table.c.stream == stream
    if conn.execute(select(table.c.one).where(of_stream).limit(1)).first() is None:
        return []
    return [
        _decision(row)
        for keys in _portions(refs)
        for row in conn.execute(
            select(table).where(of_stream, or_(table.c.one.in_(keys), table.c.other.in_(keys)))
        ).mappings()
    ]


def newest_first(decisions: Iterable[DatedDecision]) -> list[DatedDecision]:
    """In the order in which they win over each other."""
    in_order = sorted(decisions, key=lambda one: (one.one, one.other))
    return sorted(in_order, key=lambda one: one.decided_at, reverse=True)


def _decision(row: object) -> DatedDecision:
    return DatedDecision(**dict(row))  # type: ignore[call-overload]  # a row of the table


def _portions(refs: Iterable[Key]) -> Iterator[list[Key]]:
    remaining = iter(refs)
    while portion := list(islice(remaining, _KEYS_AT_ONCE)):
        yield portion
