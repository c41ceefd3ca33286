"""Insert or replace, on both stores with one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from store.engine import is_postgresql


def upsert(
    conn: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    replacing: Collection[str],
    adding: Collection[str] = (),
    on: Collection[str] = (),
) -> None:
    """Insert rows; where the key is taken, change the row that has it.

    Args:
        conn: a writing connection.
        table: where.
        rows: values by column name, the same columns in each.
        replacing: columns that take the new value; none (and no `adding`): the old row stays.
        adding: columns to which the new value is added.
        on: columns of the unique index that decides; empty means the primary key.
    """
    if not rows:
        return
    statement: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(table) if is_postgresql(conn) else sqlite.insert(table)
    )
    key = [table.c[name] for name in on] or list(table.primary_key.columns)
    changes: dict[str, Any] = {name: statement.excluded[name] for name in replacing}
    changes |= {name: table.c[name] + statement.excluded[name] for name in adding}
    if changes:
        conn.execute(statement.on_conflict_do_update(index_elements=key, set_=changes), rows)
    else:
        conn.execute(statement.on_conflict_do_nothing(index_elements=key), rows)
