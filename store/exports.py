"""The metrics table as rows for a file: what is believed now, or was at an instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, or_, select

from store.tables import KPI_VALUES

COLUMNS: Final = tuple(
    column.name for column in KPI_VALUES.columns if column.name not in {"id", "run"}
)
"""Columns of an export, in their order."""

_STREAMED: Final = 5_000


def rows(
    conn: Connection,
    *,
    kpi: str | None = None,
    period: str | None = None,
    dimension: str | None = None,
    at: datetime | None = None,
) -> Iterator[Mapping[str, Any]]:
    """Values sorted by (KPI, period, dimension, key).

    Args:
        conn: in `store.engine.reading`.
        kpi: only this one.
        period: only this label.
        dimension: only this one; ``all`` for totals.
        at: an instant: what was believed then; None: what is believed now.
    """
    query = select(*(KPI_VALUES.c[name] for name in COLUMNS))
    for column, wanted in (("kpi", kpi), ("period", period), ("dimension", dimension)):
        if wanted is not None:
            query = query.where(KPI_VALUES.c[column] == wanted)
    if at is None:
        query = query.where(KPI_VALUES.c.valid_to.is_(None))
    else:
        query = query.where(
            KPI_VALUES.c.valid_from <= at,
            or_(KPI_VALUES.c.valid_to.is_(None), KPI_VALUES.c.valid_to > at),
        )
    query = query.order_by(*(KPI_VALUES.c[name] for name in ("kpi", "period", "dimension", "key")))
    result = conn.execute(query, execution_options={"yield_per": _STREAMED})
    for row in result.mappings():
        yield dict(row)
