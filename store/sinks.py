"""The metrics table in other databases: what is there, what is missing, how far it has come.

A row of the metrics table is named by its group, its period and the instant from which it was
believed. Copying a row twice leaves one: whatever is interrupted is simply done again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    MetaData,
    Row,
    Table,
    and_,
    delete,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.schema import CreateSchema

from store.engine import database_now, is_postgresql
from store.tables import KPI_VALUES, RUNS, SINK_POSITIONS
from store.upsert import upsert

PLACE: Final = ("kpi", "period", "dimension", "key", "valid_from")
"""Names a row, whichever store it came from."""

_COLUMNS: Final = tuple(column.name for column in KPI_VALUES.columns)
_STREAMED: Final = 5_000


# ---------------------------------------------------------------- positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the metrics table has been copied to one sink."""

    fingerprint: str
    last_id: int
    computed: str
    synced_at: datetime


def position_of(conn: Connection, sink: str) -> Position | None:
    """Where a sink stands; None: nothing was copied yet."""
    query = select(SINK_POSITIONS).where(SINK_POSITIONS.c.sink == sink)
    row = conn.execute(query).first()
    if row is None:
        return None
    return Position(
        fingerprint=row.fingerprint,
        last_id=row.last_id,
        computed=row.computed,
        synced_at=row.synced_at,
    )


def set_position(
    conn: Connection, sink: str, *, fingerprint: str, last_id: int, computed: str
) -> None:
    """Remember how far a sink has come, once what it holds is committed there."""
    row = {
        "sink": sink,
        "fingerprint": fingerprint,
        "last_id": last_id,
        "computed": computed,
        "synced_at": database_now(conn),
    }
    upsert(conn, SINK_POSITIONS, [row], replacing=tuple(row)[1:])


# ---------------------------------------------------------------- the store's side


def computed(conn: Connection) -> str:
    """Names the state of the metrics table: while it is the same, no row has changed."""
    query = (
        select(RUNS.c.run, RUNS.c.ended)
        .where(RUNS.c.kind == "compute")
        .order_by(RUNS.c.run.desc())
        .limit(1)
    )
    row = conn.execute(query).first()
    if row is None:
        return ""
    return f"{row.run} {row.ended.isoformat() if row.ended else 'running'}"


def newest_id(conn: Connection) -> int:
    """The id of the newest row; 0 for an empty table."""
    newest: int = conn.execute(select(func.coalesce(func.max(KPI_VALUES.c.id), 0))).scalar_one()
    return newest


def rows_after(conn: Connection, last_id: int, limit: int) -> list[dict[str, Any]]:
    """The next rows by id."""
    query = select(KPI_VALUES).where(KPI_VALUES.c.id > last_id).order_by(KPI_VALUES.c.id)
    return [dict(row) for row in conn.execute(query.limit(limit)).mappings()]


def rows_by_id(conn: Connection, ids: Collection[int]) -> list[dict[str, Any]]:
    """Rows by id; those that do not exist are left out."""
    query = select(KPI_VALUES).where(KPI_VALUES.c.id.in_(list(ids)))
    return [dict(row) for row in conn.execute(query).mappings()]


# ---------------------------------------------------------------- the sink's side


def table_of(name: str, schema: str | None) -> Table:
    """The metrics table as it stands in a sink."""
    return Table(
        name,
        MetaData(schema=schema),
        Column("id", BigInteger),
        *(
            Column(column.name, column.type, nullable=column.name not in PLACE)
            for column in KPI_VALUES.columns
            if column.name != "id"
        ),
    )


def prepare(conn: Connection, table: Table) -> None:
    """Make the table, or extend the one that is there; nothing is ever taken away."""
    look = inspect(conn)
    # IF NOT EXISTS would ask for the right to create schemas even where there is nothing to do.
    if table.schema is not None and is_postgresql(conn) and not look.has_schema(table.schema):
        conn.execute(CreateSchema(table.schema, if_not_exists=True))
    if not look.has_table(table.name, schema=table.schema):
        table.create(conn)
    else:
        there = {column["name"] for column in look.get_columns(table.name, schema=table.schema)}
        for column in table.columns:
            if column.name not in there:
                _add_column(conn, table, column)
    index = Index(
        f"ux_{table.name}"[:50] + "_place", *(table.c[name] for name in PLACE), unique=True
    )
    index.create(conn, checkfirst=True)
    table.indexes.discard(index)


def _add_column(conn: Connection, table: Table, column: Column[Any]) -> None:
    preparer = conn.dialect.identifier_preparer
    kind = column.type.compile(conn.dialect)
    name = preparer.quote(column.name)
    conn.exec_driver_sql(f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN {name} {kind}")


def is_empty(conn: Connection, table: Table) -> bool:
    """Whether the table holds no row."""
    return conn.execute(select(table.c.id).limit(1)).first() is None


def put(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or bring those that are there up to date."""
    upsert(
        conn,
        table,
        rows,
        replacing=[name for name in _COLUMNS if name not in PLACE],
        on=PLACE,
    )


def end(conn: Connection, table: Table, places: Iterable[tuple[Any, ...]], at: datetime) -> None:
    """Close rows that no store answers for any more."""
    for place in places:
        since = max(at, place[PLACE.index("valid_from")])
        conn.execute(update(table).where(_is(table, place)).values(valid_to=since))


def remove(conn: Connection, table: Table, places: Sequence[tuple[Any, ...]]) -> None:
    """Take rows out of a sink that keeps current values alone."""
    for place in places:
        conn.execute(delete(table).where(_is(table, place)))


def remove_replaced(conn: Connection, table: Table) -> None:
    """Take all rows out that are not current, where history is no longer wanted."""
    conn.execute(delete(table).where(table.c.valid_to.is_not(None)))


def _is(table: Table, place: tuple[Any, ...]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == part for name, part in zip(PLACE, place, strict=True)))


# ---------------------------------------------------------------- comparing


@dataclass(frozen=True, slots=True)
class Gap:
    """Where the current rows of a sink differ from the store's."""

    fetch: tuple[int, ...]
    """Ids of rows that are to be brought over (again)."""
    strangers: tuple[tuple[Any, ...], ...]
    """Places of open rows that the store does not know."""
    closed: tuple[tuple[int, tuple[Any, ...]], ...]
    """Ids and places of open rows that are closed in the store."""


def gaps(store: Connection, sink: Connection, table: Table, upto: int) -> Iterator[Gap]:
    """Compare the open rows of both sides, both in the order of their ids.

    Args:
        store: in a snapshot.
        sink: in a transaction.
        table: the sink's table.
        upto: rows of the store with a larger id are not there yet.
    """
    ours = _open_rows(store, KPI_VALUES, upto)
    theirs = _open_rows(sink, table, None)
    one, other = next(ours, None), next(theirs, None)
    fetch: list[int] = []
    closed: list[tuple[int, tuple[Any, ...]]] = []
    strangers: list[tuple[Any, ...]] = []
    while one is not None or other is not None:
        if len(fetch) + len(closed) + len(strangers) >= _STREAMED:
            yield Gap(tuple(fetch), tuple(strangers), tuple(closed))
            fetch, closed, strangers = [], [], []
        if other is None or (one is not None and one.id < other.id):
            fetch.append(one.id)  # type: ignore[union-attr]  # not both are None
            one = next(ours, None)
        elif one is None or other.id < one.id:
            closed.append((other.id, _place(other)))
            other = next(theirs, None)
        else:
            if _place(one) != _place(other):
                strangers.append(_place(other))
                fetch.append(one.id)
            elif one.label != other.label:
                fetch.append(one.id)
            one, other = next(ours, None), next(theirs, None)
    yield Gap(tuple(fetch), tuple(strangers), tuple(closed))


def _open_rows(conn: Connection, table: Table, upto: int | None) -> Iterator[Row[Any]]:
    columns = (table.c.id, *(table.c[name] for name in PLACE), table.c.label)
    query = select(*columns).where(table.c.valid_to.is_(None)).order_by(table.c.id)
    if upto is not None:
        query = query.where(table.c.id <= upto)
    yield from conn.execute(query, execution_options={"yield_per": _STREAMED})


def _place(row: Row[Any]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in PLACE)
