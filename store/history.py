"""What a value was when we last wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, or_, select

from store.tables import KPI_VALUES, PUSHED_VALUES


@dataclass(frozen=True, slots=True)
class PastValue:
    """A value that was believed at some instant."""

    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None
    n: int


def pushed_at(
    conn: Connection, connection: str, object_name: str, record_id: str, field: str
) -> datetime | None:
    """When we last wrote into a field; None: never."""
    query = select(PUSHED_VALUES.c.pushed_at).where(
        PUSHED_VALUES.c.connection == connection,
        PUSHED_VALUES.c.object == object_name,
        PUSHED_VALUES.c.record_id == record_id,
        PUSHED_VALUES.c.field == field,
    )
    return conn.execute(query).scalar_one_or_none()


def value_at(
    conn: Connection, place: tuple[str, str, str, str], instant: datetime
) -> PastValue | None:
    """What was believed at an instant.

    Args:
        conn: in any transaction.
        place: KPI, period, dimension and key.
        instant: aware.
    """
    kpi, period, dimension, key = place
    query = (
        select(KPI_VALUES.c.value, KPI_VALUES.c.numerator, KPI_VALUES.c.denominator, KPI_VALUES.c.n)
        .where(
            KPI_VALUES.c.kpi == kpi,
            KPI_VALUES.c.period == period,
            KPI_VALUES.c.dimension == dimension,
            KPI_VALUES.c.key == key,
            KPI_VALUES.c.valid_from <= instant,
            or_(KPI_VALUES.c.valid_to.is_(None), KPI_VALUES.c.valid_to > instant),
        )
        .order_by(KPI_VALUES.c.valid_from.desc())
        .limit(1)
    )
    row = conn.execute(query).first()
    return None if row is None else PastValue(*row)
