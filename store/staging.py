"""The temporary tables a page is staged in, and the statements that compare and apply it.

Statements are built once for each stream: composing one of thirty columns costs more than
running it. Every one drives from the small temporary table to the large stored one.
"""

# ruff: noqa: S608 - every name in these statements is one of the schema's own

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    Delete,
    Insert,
    MetaData,
    Table,
    Update,
    and_,
    case,
    delete,
    exists,
    false,
    insert,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from store import temporary
from store.compiled import text_of
from store.conversion import columns_of
from store.tables import KEY, RECORD_TABLES

_METADATA: Final = MetaData()

IS_CHANGED: Final = "is_changed"
IS_CURRENT: Final = "is_current"


def _stage_table(stream: str) -> Table:
    mirrored = (
        Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable)
        for column in RECORD_TABLES[stream].columns
    )
    marks: tuple[Column[Any], ...] = (
        Column(IS_CHANGED, Boolean(create_constraint=False), nullable=False, server_default=true()),
        # Equal to the stored row in its modification time too; null while its version is older.
        Column(IS_CURRENT, Boolean(create_constraint=False), server_default=false()),
    )
    return temporary.table(f"stage_{stream}", _METADATA, *mirrored, *marks)


STAGE: Final[Mapping[str, Table]] = MappingProxyType(
    {stream: _stage_table(stream) for stream in RECORD_TABLES}
)
"""Canonical stream -> temporary table: the columns of its record table and `is_changed`."""

STAGE_REFS: Final = temporary.table("stage_refs", _METADATA, Column("ref", KEY, primary_key=True))


@lru_cache(maxsize=128)
def comparing(stream: str, for_postgresql: bool) -> tuple[str, ...]:
    """The statements that mark what is stored as it is, and drop what is older."""
    statements = (_find_unchanged(stream), _drop_older(stream))
    return tuple(text_of(statement, for_postgresql) for statement in statements)


def _find_unchanged(stream: str) -> Update:
    """Mark the rows that are equal to the stored ones, and those that are older."""
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    equal = and_(
        *(
            stored.c[column].is_not_distinct_from(staged.c[column])
            for column in columns_of(stream)
            if column not in {"ref", "modified_at"}
        )
    )
    is_older = stored.c.modified_at > staged.c.modified_at
    same_time = stored.c.modified_at.is_not_distinct_from(staged.c.modified_at)
    return (
        update(staged)
        .where(stored.c.ref == staged.c.ref, or_(is_older, equal))
        .values({IS_CHANGED: false(), IS_CURRENT: case((is_older, null()), else_=same_time)})
    )


def _drop_older(stream: str) -> Delete:
    """Take the rows out that `_find_unchanged` found older than the stored ones."""
    staged = STAGE[stream]
    return delete(staged).where(staged.c[IS_CURRENT].is_(None))


@lru_cache(maxsize=64)
def mark_deleted(stream: str) -> Update:
    """Mark the page's own rows that `STAGE_REFS` names."""
    staged = STAGE[stream]
    return (
        update(staged)
        .where(staged.c.ref.in_(select(STAGE_REFS.c.ref)))
        .values({"deleted": true(), IS_CHANGED: true(), IS_CURRENT: false()})
    )


@lru_cache(maxsize=64)
def add_deleted(stream: str) -> Insert:
    """Stage the stored rows that `STAGE_REFS` names, as deleted."""
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    columns = columns_of(stream)
    values = [true() if column == "deleted" else stored.c[column] for column in columns]
    rows = select(*values).where(
        stored.c.ref.in_(select(STAGE_REFS.c.ref)),
        ~exists().where(staged.c.ref == stored.c.ref),
    )
    return insert(staged).from_select([*columns], rows)


@lru_cache(maxsize=128)
def applying(stream: str, for_postgresql: bool) -> tuple[str, ...]:
    """The statements that insert the staged rows, or replace what is stored under their keys."""
    return _apply_on_postgresql(stream) if for_postgresql else _apply_on_sqlite(stream)


def _apply_on_postgresql(stream: str) -> tuple[str]:
    staged, stored = STAGE[stream], RECORD_TABLES[stream]
    columns = columns_of(stream)
    rows = select(*(staged.c[column] for column in columns)).where(~staged.c[IS_CURRENT])
    upsert = postgresql.insert(stored).from_select([*columns], rows)
    replace = upsert.on_conflict_do_update(
        index_elements=[stored.c.ref],
        set_={column: upsert.excluded[column] for column in columns if column != "ref"},
    )
    return (text_of(replace, for_postgresql=True),)


def _apply_on_sqlite(stream: str) -> tuple[str, ...]:
    """Update, then insert: half the time of an upsert.

    SQLite rewrites the entries of every index whose column is assigned, equal or not. So the
    columns without an index go in one statement, the indexed ones follow for the rows in which
    one of them differs. All drive from the small table to the large one.
    """
    table, stage = RECORD_TABLES[stream], f"temp.{STAGE[stream].name}"
    indexed = {column.name for index in table.indexes for column in index.columns}
    columns = [column for column in columns_of(stream) if column != "ref"]
    plain = [column for column in columns if column not in indexed]
    in_order = [column for column in columns if column in indexed]
    listed = ", ".join(f'"{column}"' for column in columns)
    differs = " OR ".join(f't."{column}" IS NOT s."{column}"' for column in in_order)
    written = f"SELECT ref FROM {stage} WHERE NOT {IS_CURRENT}"
    moved = f"""
        SELECT s.ref FROM {stage} s CROSS JOIN {table} t
        WHERE s.{IS_CHANGED} AND t.ref = s.ref AND ({differs})"""
    new = f"""
        SELECT s.ref, {listed} FROM {stage} s WHERE s.{IS_CHANGED}
        AND NOT EXISTS (SELECT 1 FROM {table} t WHERE t.ref = s.ref)"""
    statements = [_assign(table.name, stage, plain, written)]
    if in_order:
        statements.append(_assign(table.name, stage, in_order, moved))
    statements.append(f"INSERT INTO {table} (ref, {listed}) {new}")
    return tuple(statements)


def _assign(table: str, stage: str, columns: Sequence[str], refs: str) -> str:
    listed = ", ".join(f'"{column}"' for column in columns)
    return f"""
        UPDATE {table} SET ({listed}) =
        (SELECT {listed} FROM {stage} s WHERE s.ref = {table}.ref) WHERE ref IN ({refs})"""
