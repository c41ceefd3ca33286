"""What records add to the cells of custom KPIs: worked out beforehand, one row for each."""

from __future__ import annotations

from sqlalchemy import select

from metrics.contributions.rows import Facts, Rows
from metrics.contributions.terms import text_of
from metrics.definition import Family
from store.tables import MEASURES


def custom(facts: Facts, family: Family) -> Rows:
    """The rows of one family; what they mean is in `metrics.expression`."""
    rows = facts.of("custom")
    measures = MEASURES[: len(family.measures)]
    chosen = (
        select(
            *(rows.c[name] for name in ("side", "day", "currency", "bucket", *measures)),
            *(
                rows.c[f"d{number}"].label(name)
                for number, name in enumerate(family.dimensions, start=1)
            ),
        )
        .where(rows.c.family == text_of(family.name))
        .subquery("custom_rows")
    )
    return Rows(
        source=chosen,
        day=chosen.c.day,
        measures=tuple(chosen.c[name] for name in measures),
        currency=chosen.c.currency,
        bucket=chosen.c.bucket,
    )
