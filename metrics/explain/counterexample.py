"""The smallest value that does not agree with its records, with those records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from metrics import clock
from metrics.catalog import Catalog
from metrics.explain import Line, listing_at
from metrics.explain.document import exact
from metrics.verify import OF_CELLS, Difference, Verification
from store.engine import database_now
from store.kpis import Place


@dataclass(frozen=True, slots=True)
class Counterexample:
    """One value that differs."""

    difference: Difference
    lines: Sequence[Line]
    """The records that are counted or left out; of a KPI that is made of others, those of all."""

    @property
    def words(self) -> str:
        """Place, both values and the records, in one line."""
        one = self.difference
        named = ", ".join(line.name for line in self.lines[:_NAMED])
        more = len(self.lines) - _NAMED
        return (
            f"{one.kpi} {one.period} {one.dimension}={one.key}: stored {one.stored or 'nothing'}, "
            f"recomputed {one.recomputed or 'nothing'}, from {named or 'no record'}"
            + (f" and {more:,} more" if more > 0 else "")
        )

    def to_json(self) -> dict[str, object]:
        """For other programs."""
        one = self.difference
        return {
            "kpi": one.kpi,
            "period": one.period,
            "dimension": one.dimension,
            "key": one.key,
            "stored": one.stored,
            "recomputed": one.recomputed,
            "records": [
                {
                    "record": line.name,
                    "numerator": exact(line.numerator),
                    "denominator": exact(line.denominator),
                    "left_out": dict(line.left_out),
                }
                for line in self.lines
            ],
        }


_NAMED = 5


def smallest(conn: Connection, catalog: Catalog, found: Verification) -> Counterexample | None:
    """Of the values that differ the one with the fewest records; None: all agree.

    Args:
        conn: the snapshot in which they were compared.
        catalog: what is kept.
        found: the comparison.
    """
    kept = {kpi.name for kpi in catalog.kpis}
    known = [one for one in found.differences if one.kpi.removesuffix(OF_CELLS) in kept]
    if not known:
        # Only cells as DuckDB makes them, or values of KPIs that are not kept.
        others = sorted(found.differences, key=lambda other: (other.n, other.kpi, other.key))
        return Counterexample(others[0], ()) if others else None
    one = min(
        known, key=lambda other: (other.n, other.kpi, other.dimension, other.key, other.period)
    )
    now = clock.published_at(conn) or database_now(conn)
    place = Place(one.kpi.removesuffix(OF_CELLS), one.dimension, one.key, one.period)
    return Counterexample(one, listing_at(conn, catalog, place, now))
