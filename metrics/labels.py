"""Names for people beside the keys of groups, as records are called today."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sqlalchemy import Column, Connection, FromClause, Select, and_, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from metrics.catalog import Catalog
from metrics.dimensions import (
    LABELLED,
    TOTAL_NAME,
    grouping_named,
    name_of,
    values_of,
)
from store import kpis as stored
from store.identity_tables import ACCOUNT_FALLBACKS, CONTACT_FALLBACKS
from store.kpis import DirtyKey
from store.records import STAGE
from store.tables import (
    ACCOUNTS,
    CAMPAIGNS,
    CONTACTS,
    DEALS,
    OWNERS,
    RECORD_TABLES,
    STAGES,
    TICKETS,
)

TOTAL_LABEL: Final = "Total"

_KEYS_AT_ONCE: Final = 500

_SOURCES: Final[dict[str, tuple[Column[str], Column[str]]]] = {
    "owner": (OWNERS.c.ref, OWNERS.c.name),
    "account": (ACCOUNTS.c.ref, ACCOUNTS.c.name),
    "campaign": (CAMPAIGNS.c.ref, CAMPAIGNS.c.name),
    "stage": (STAGES.c.ref, STAGES.c.label),
    "pipeline": (STAGES.c.pipeline, STAGES.c.pipeline_label),
    "deal": (DEALS.c.ref, DEALS.c.name),
    "ticket": (TICKETS.c.ref, TICKETS.c.subject),
    "contact": (CONTACTS.c.ref, CONTACTS.c.name),
}
"""Dimension -> where its keys and their names stand."""

_COPIES: Final = {"account": ACCOUNT_FALLBACKS, "contact": CONTACT_FALLBACKS}
"""Dimension -> names of copies that count instead."""


class Labels:
    """The labels of groups, read once for each key."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._names: dict[str, dict[str, str]] = {dimension: {} for dimension in LABELLED}
        self._combined: dict[tuple[str, str], str] = {}

    def load(self, groups: Iterable[tuple[str, str]]) -> None:
        """Read the names that the labels of these (dimension, key) need."""
        wanted: dict[str, set[str]] = defaultdict(set)
        self._combined.clear()
        for dimension, key in dict.fromkeys(groups):
            grouping = grouping_named(dimension)
            for name, value in zip(grouping, values_of(grouping, key), strict=False):
                if name in _SOURCES:
                    wanted[name].add(value)
        for name, keys in wanted.items():
            self._read(name, keys - self._names[name].keys())

    def _read(self, dimension: str, keys: Iterable[str]) -> None:
        key_column, name_column = _SOURCES[dimension]
        source: FromClause = key_column.table
        name: ColumnElement[str] = name_column
        if dimension in _COPIES:
            copies = _COPIES[dimension]
            source = source.outerjoin(copies, copies.c.ref == key_column)
            name = func.coalesce(copies.c.name, name_column)
        for portion in _portions(keys):
            query = (
                select(key_column, name)
                .select_from(source)
                .where(key_column.in_(portion), name.is_not(None))
                .order_by(key_column, name)
            )
            self._names[dimension].update((row[0], row[1]) for row in self._conn.execute(query))

    def of(self, dimension: str, key: str) -> str:
        """The label of a group; a key without a name is its own."""
        if dimension == TOTAL_NAME:
            return TOTAL_LABEL
        names = self._names.get(dimension)
        if names is not None:
            return names.get(key, key)
        if "," not in dimension:
            return key
        known = self._combined.get((dimension, key))
        if known is None:
            grouping = grouping_named(dimension)
            known = self._combined[dimension, key] = ", ".join(
                self._names.get(name, {}).get(value, value)
                for name, value in zip(grouping, values_of(grouping, key), strict=True)
            )
        return known


def stage_names(conn: Connection, keys: Iterable[str]) -> dict[str, str]:
    """What people call stages, by key; those without a name are left out."""
    names = Labels(conn)
    names.load(("stage", key) for key in keys)
    return {key: name for key in keys if (name := names.of("stage", key)) != key}


# ---------------------------------------------------------------- renaming


def note_renamed(conn: Connection, catalog: Catalog, streams: Sequence[str]) -> None:
    """Note which labels a staged, not yet applied page makes wrong."""
    for dimension, (key_column, name_column) in _SOURCES.items():
        stream = key_column.table.name
        if stream in streams and dimension in catalog.dimensions:
            renamed = _renamed(stream, key_column.name, name_column.name)
            stored.note_renamed(conn, dimension, renamed)


def _renamed(stream: str, key: str, name: str) -> Select[tuple[str]]:
    staged: FromClause = STAGE[stream]
    table = RECORD_TABLES[stream]
    return (
        select(staged.c[key])
        .select_from(staged.outerjoin(table, table.c.ref == staged.c.ref))
        .where(
            staged.c.is_changed,
            staged.c[key].is_not(None),
            or_(
                staged.c[name].is_distinct_from(table.c[name]),
                and_(table.c[key].is_distinct_from(staged.c[key])),
            ),
        )
    )


def renew(conn: Connection, catalog: Catalog, renamed: Sequence[DirtyKey]) -> None:
    """Give the current values above renamed records their new labels."""
    if not renamed:
        return
    kpis = [kpi.name for kpi in catalog.kpis]
    keys: dict[str, set[str]] = defaultdict(set)
    for note in renamed:
        keys[note.dimension].add(note.key)
    groupings = {grouping for kept in catalog.groupings.values() for grouping in kept}
    names = Labels(conn)
    for grouping in sorted(groupings):
        if not keys.keys() & set(grouping):
            continue
        dimension = name_of(grouping)
        groups = (
            sorted(keys[dimension])
            if len(grouping) == 1
            else _groups_with(conn, kpis, grouping, keys)
        )
        names.load((dimension, group) for group in groups)
        stored.set_labels(
            conn, kpis, dimension, {group: names.of(dimension, group) for group in groups}
        )


def _groups_with(
    conn: Connection, kpis: Sequence[str], grouping: tuple[str, ...], keys: dict[str, set[str]]
) -> list[str]:
    return [
        group
        for group in stored.keys_of_dimension(conn, kpis, name_of(grouping))
        if any(
            value in keys.get(name, ())
            for name, value in zip(grouping, values_of(grouping, group), strict=True)
        )
    ]


def _portions(keys: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while portion := list(islice(remaining, _KEYS_AT_ONCE)):
        yield portion
