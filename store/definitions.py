"""What each KPI meant and which rates held, from when on: a journal of definitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from store.history_tables import KPI_DEFINITIONS

RATES: Final = "rates"
"""The name under which the rates of the configuration stand."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One entry."""

    name: str
    since: datetime
    run: str | None
    text: str
    """A JSON object."""


def note(
    conn: Connection, definitions: Mapping[str, str], *, since: datetime, run: str | None
) -> None:
    """Note those definitions that are not the last ones of their name.

    Args:
        conn: in `store.engine.writing`.
        definitions: name -> JSON object with sorted keys.
        since: from when on values are published with them.
        run: the run that publishes them.
    """
    last = {one.name: one.text for one in in_force(conn)}
    fresh = [
        {"name": name, "since": since, "run": run, "definition": text}
        for name, text in sorted(definitions.items())
        if last.get(name) != text
    ]
    if fresh:
        conn.execute(insert(KPI_DEFINITIONS), fresh)


def in_force(conn: Connection, at: datetime | None = None) -> list[Definition]:
    """The definitions of an instant; None: the last ones."""
    table = KPI_DEFINITIONS
    newest = select(func.max(table.c.id)).group_by(table.c.name)
    if at is not None:
        newest = newest.where(table.c.since <= at)
    return _read(conn, table.c.id.in_(newest))


def since(conn: Connection, name: str, after: datetime) -> list[Definition]:
    """The definitions of a name that came into force later than an instant, in order."""
    table = KPI_DEFINITIONS
    return _read(conn, table.c.name == name, table.c.since > after)


def purge(conn: Connection, before: datetime) -> int:
    """Forget what was not in force any more at an instant; returns how many."""
    kept = [one.name for one in in_force(conn, before)]
    table = KPI_DEFINITIONS
    newest = select(func.max(table.c.id)).where(table.c.since <= before, table.c.name.in_(kept))
    old = delete(table).where(
        table.c.since <= before, table.c.id.not_in(newest.group_by(table.c.name))
    )
    return conn.execute(old).rowcount


def _read(conn: Connection, *conditions: ColumnElement[bool]) -> list[Definition]:
    table = KPI_DEFINITIONS
    query = select(table).where(*conditions).order_by(table.c.id)
    return [Definition(row.name, row.since, row.run, row.definition) for row in conn.execute(query)]
