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
from store.tables import IDENTITY_DECISION_LOG, IDENTITY_DECISIONS

_KEYS_AT_ONCE: Final = 250


@dataclass(frozen=True, slots=True)
class DatedDecision(Decision):
    """With the instant at which it was made."""

    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said at an instant, and may have taken back since."""

    stream: str
    one: Key
    other: Key
    is_same: bool | None
    """None: what was said before is taken back."""
    at: datetime

    @property
    def words(self) -> str:
        """As a sentence that goes without its subject."""
        if self.is_same is None:
            return f"what a person said of {self.one} and {self.other} was taken back"
        word = "one" if self.is_same else "two"
        return f"a person said that {self.one} and {self.other} are {word}"


def decide(
    conn: Connection,
    stream: str,
    one: Key,
    other: Key,
    *,
    is_same: bool,
    at: datetime | None = None,
) -> None:
    """Remember what a person says; it replaces what was said of the two before.

    Args:
        conn: in `store.engine.writing`.
        stream: of the two records.
        one: the one.
        other: the other.
        is_same: whether they are one.
        at: when it is said; None: now.
    """
    at = at or database_now(conn)
    first, second = sorted((one, other))
    _drop(conn, stream, first, second)
    said = {"stream": stream, "one": first, "other": second, "is_same": is_same}
    conn.execute(insert(IDENTITY_DECISIONS), {**said, "decided_at": at})
    conn.execute(insert(IDENTITY_DECISION_LOG), {**said, "at": at})


def forget(
    conn: Connection, stream: str, one: Key, other: Key, *, at: datetime | None = None
) -> bool:
    """Take back what was said of two records; whether there was anything."""
    first, second = sorted((one, other))
    if not _drop(conn, stream, first, second):
        return False
    said = {"stream": stream, "one": first, "other": second, "is_same": None}
    conn.execute(insert(IDENTITY_DECISION_LOG), {**said, "at": at or database_now(conn)})
    return True


def _drop(conn: Connection, stream: str, first: Key, second: Key) -> bool:
    table = IDENTITY_DECISIONS
    gone = delete(table).where(
        table.c.stream == stream, table.c.one == first, table.c.other == second
    )
    return conn.execute(gone).rowcount > 0


def said_between(conn: Connection, after: datetime, until: datetime) -> list[Said]:
    """Everything that was said later than one instant and not later than another, in order."""
    log = IDENTITY_DECISION_LOG
    query = select(log).where(log.c.at > after, log.c.at <= until).order_by(log.c.at, log.c.id)
    return [
        Said(row.stream, row.one, row.other, row.is_same, row.at) for row in conn.execute(query)
    ]


def as_of(conn: Connection, stream: str, at: datetime) -> list[DatedDecision]:
    """The decisions about a stream's records that held at an instant."""
    log = IDENTITY_DECISION_LOG
    query = select(log).where(log.c.stream == stream, log.c.at <= at).order_by(log.c.at, log.c.id)
    held: dict[tuple[Key, Key], DatedDecision] = {}
    for row in conn.execute(query):
        held.pop((row.one, row.other), None)
        if row.is_same is not None:
            held[row.one, row.other] = DatedDecision(
                stream, row.one, row.other, row.is_same, row.at
            )
    return list(held.values())


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
