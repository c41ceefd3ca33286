"""Tables of what was: former states of records, and what KPIs meant."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text

from store.tables import KEY, METADATA, ROW_ID, UtcDateTime

RECORD_HISTORY: Final = Table(
    "record_history",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("stream", Text, nullable=False),
    Column("ref", KEY, nullable=False),
    # Microseconds since 1970, as in the record tables.
    Column("at", BigInteger, nullable=False),
    # first_seen, edited, deleted, undeleted, merged, moved or removed.
    Column("kind", Text, nullable=False),
    Column("run", Text),
    # JSON object: changed column -> what it held before; null: there was no such record.
    Column("former", Text),
    Index("ix_record_history_at", "stream", "at"),
)
"""Each change of a stored record, with what its changed columns held before."""

FIRST_LOADS: Final = Table(
    "first_loads",
    METADATA,
    Column("connection", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("began", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("is_over", Boolean(create_constraint=False), nullable=False),
)
"""When a stream was read for the first time: its records have no rows of being first seen."""

KPI_DEFINITIONS: Final = Table(
    "kpi_definitions",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    # Of a KPI, or `rates`.
    Column("name", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("run", Text),
    # JSON object: what its values depend on beside the records.
    Column("definition", Text, nullable=False),
    Index("ix_kpi_definitions_name", "name", "since"),
)
"""What each KPI meant, and which rates held, from when on."""
