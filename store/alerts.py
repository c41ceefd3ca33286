"""What people were told is wrong, until it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, select

from store.engine import database_now
from store.tables import ALERTS
from store.upsert import upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One trouble that was told."""

    rule: str
    subject: str
    words: str
    channels: tuple[str, ...]
    since: datetime
    """When it was first told."""
    told_at: datetime
    """When it was last told."""


def every(conn: Connection) -> list[Told]:
    """All troubles that were told and are not over, by rule and subject."""
    query = select(ALERTS).order_by(ALERTS.c.rule, ALERTS.c.subject)
    return [
        Told(
            rule=row.rule,
            subject=row.subject,
            words=row.words,
            channels=tuple(row.channels.split(",")),
            since=row.since,
            told_at=row.told_at,
        )
        for row in conn.execute(query)
    ]


def tell(conn: Connection, rule: str, subject: str, words: str, channels: Sequence[str]) -> None:
    """Remember that a trouble was told just now."""
    now = database_now(conn)
    row = {
        "rule": rule,
        "subject": subject,
        "words": words,
        "channels": ",".join(channels),
        "since": now,
        "told_at": now,
    }
    upsert(conn, ALERTS, [row], replacing=("words", "channels", "told_at"))


def forget(conn: Connection, rule: str, subject: str) -> None:
    """A trouble is over, and that was told too."""
    conn.execute(delete(ALERTS).where(_of(rule, subject)))


def _of(rule: str, subject: str) -> ColumnElement[bool]:
    return (ALERTS.c.rule == rule) & (ALERTS.c.subject == subject)
