"""The kept cells beside those that a rebuild would make, cell by cell.

Cells are moved by differences, and a value is computed from them when one of its cells moves. So
a cell that something spoilt shows in no value until long after. What the SELECTs of a rebuild
mean is not questioned here, only whether the cells are what they give: the values are compared
with a program that knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, delete, insert, select

from metrics.catalog import Catalog
from metrics.contributions import all_facts
from metrics.contributions.summing import cells_of_all, together
from metrics.contributions.tables import CELL_COLUMNS, CELL_DELTAS, TEMPORARY
from metrics.definition import Family, Kpi
from metrics.periods import Kind, is_rolling, period_of
from metrics.rebuild import gather, stale_families
from metrics.verify.comparing import OF_CELLS, Difference, words_of_cell
from store import temporary
from store.compiled import text_of
from store.engine import is_postgresql
from store.tables import CELLS, NO_DAY

_KEY: Final = ("family", "dimension", "key", "day", "currency", "bucket")


def compare_cells(
    conn: Connection, catalog: Catalog, kpis: Sequence[Kpi]
) -> tuple[int, list[Difference]]:
    """Make the cells of some KPIs again, beside the kept ones, and compare them.

    Args:
        conn: in ``store.engine.reading(..., makes_tables=True)``.
        catalog: what is kept.
        kpis: whose cells; families that wait for their rebuild are left out.

    Returns:
        How many cells were compared, and those that differ.
    """
    above = _first_above(catalog, kpis)
    for stale in stale_families(conn, catalog):
        above.pop(stale, None)
    families = [catalog.families[name] for name in sorted(above)]
    calendar, for_postgresql = catalog.settings.calendar, is_postgresql(conn)
    gather(conn, catalog, families)
    compared, found = 0, list[Difference]()
    for kept in together(families, catalog.groupings):
        cells = cells_of_all(kept, all_facts(calendar))
        made = insert(CELL_DELTAS).from_select(CELL_COLUMNS, cells)
        conn.exec_driver_sql(text_of(made, for_postgresql))
        compared += conn.exec_driver_sql("SELECT count(*) FROM cell_deltas").scalar_one()
        found += _differing(conn, catalog, [family for family, _ in kept], above)
        conn.execute(delete(CELL_DELTAS))
    temporary.prepare(conn, TEMPORARY)  # which empties them
    return compared, found


def _first_above(catalog: Catalog, kpis: Sequence[Kpi]) -> dict[str, tuple[Kpi, str]]:
    """Family -> a KPI that is made of its cells, and for which kind of periods."""
    found: dict[str, tuple[Kpi, str]] = {}
    for kpi in kpis:
        for kind in sorted(catalog.kinds_of(kpi), key=_is_without_end):
            for family in catalog.families_of(kpi, kind):
                found.setdefault(family.name, (kpi, str(kind)))
    return found


def _is_without_end(kind: str) -> bool:
    return kind == Kind.ALL


def _differing(
    conn: Connection,
    catalog: Catalog,
    families: Sequence[Family],
    above: dict[str, tuple[Kpi, str]],
) -> Iterator[Difference]:
    names = [family.name for family in families]
    kept = {row[: len(_KEY)]: row[len(_KEY) :] for row in _only_in(conn, CELLS, CELL_DELTAS, names)}
    made = {row[: len(_KEY)]: row[len(_KEY) :] for row in _only_in(conn, CELL_DELTAS, CELLS, names)}
    for place in sorted(kept.keys() | made.keys()):
        name, dimension, key, day, currency, _ = place
        kpi, kind = above[name]
        family = catalog.families[name]
        both = kept.get(place), made.get(place)
        one, other = (words_of_cell(family.measures, sums, currency) for sums in both)
        n = max(sums[0] for sums in both if sums is not None)
        period = _period_of(catalog, family, kind, day)
        yield Difference(f"{kpi.name}{OF_CELLS}", period, dimension, key, one, other, n)


def _only_in(
    conn: Connection, one: Table, other: Table, families: Sequence[str]
) -> list[tuple[Any, ...]]:
    def cells(table: Table) -> Select[Any]:
        columns = (table.c[name] for name in CELL_COLUMNS)
        return select(*columns).where(table.c.family.in_(families))

    return [tuple(row) for row in conn.execute(cells(one).except_(cells(other)))]


def _period_of(catalog: Catalog, family: Family, kind: str, day: int) -> str:
    """The smallest period of a KPI that reads a cell."""
    if kind == Kind.NOW or is_rolling(kind):
        return kind
    if day == NO_DAY or kind == Kind.ALL:
        return str(Kind.ALL)
    smallest = Kind(kind) if family.kind is not None or family.is_running else Kind.DAY
    return period_of(catalog.settings.calendar, smallest, day).label
