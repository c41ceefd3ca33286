"""Building cells from all stored records: the same statements as an increment, without a limit."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, delete, insert

from metrics import file_costs, identities, local_days, working_hours
from metrics.catalog import Catalog
from metrics.contributions import all_facts, everything
from metrics.contributions.own import Mapped
from metrics.contributions.summing import Kept, cells_of_all, together
from metrics.contributions.tables import CELL_COLUMNS, FACTS, TEMPORARY, columns_of
from metrics.contributions.terms import AFTER
from metrics.definition import Family
from metrics.expression import upkeep
from metrics.families import sources_of
from metrics.periods import Calendar
from store import kpis, temporary
from store.compiled import text_of
from store.engine import database_now, is_postgresql
from store.tables import ACCOUNTS, CELLS, DEAL_STAGE_CHANGES, DEALS, IDENTITY, STAGES

_READ_BY_PAGES: Final = (DEALS, DEAL_STAGE_CHANGES, ACCOUNTS, STAGES, IDENTITY, CELLS)


def stale_families(conn: Connection, catalog: Catalog) -> tuple[str, ...]:
    """Families whose cells are missing, or were built with other definitions or settings."""
    built = kpis.fingerprints(conn)
    return tuple(name for name, wanted in catalog.fingerprints.items() if built.get(name) != wanted)


def rebuild(
    conn: Connection,
    catalog: Catalog,
    families: Collection[str] | None = None,
    *,
    at: datetime | None = None,
) -> None:
    """Build the cells of families from the stored records and mark all their values dirty.

    Args:
        conn: in `store.engine.writing`.
        catalog: which cells are wanted.
        families: names of families; None: all of the catalogue.
        at: the instant of the transaction (aware); None: by the database's clock.

    Raises:
        StoreError: the settings do not fit the stored records.
    """
    company = catalog.company
    local_days.renew(conn, company)
    working_hours.renew(conn, catalog.settings)
    file_costs.renew(conn, catalog, at=at or database_now(conn))
    identities.renew(conn, catalog, is_whole=families is None)
    kpis.drop_families(conn, kpis.families_with_traces(conn) - catalog.families.keys())
    calendar, for_postgresql = catalog.settings.calendar, is_postgresql(conn)
    names = sorted(catalog.families if families is None else families)
    gather(conn, catalog, [catalog.families[name] for name in names])
    for kept in together((catalog.families[name] for name in names), catalog.groupings):
        for family, _ in kept:
            conn.execute(delete(CELLS).where(CELLS.c.family == family.name))
        conn.exec_driver_sql(_build(kept, calendar, for_postgresql))
    for name in names:
        kpis.save_fingerprint(conn, name, catalog.fingerprints[name])
        kpis.note_whole_family(conn, name)
    temporary.prepare(conn, TEMPORARY)  # which empties them
    if for_postgresql:
        # Most often a first load went before, of which the planner knows nothing yet: until
        # autovacuum comes, every page would read whole tables.
        conn.exec_driver_sql(f"ANALYZE {', '.join(table.name for table in _READ_BY_PAGES)}")


def gather(conn: Connection, catalog: Catalog, families: Collection[Family]) -> None:
    """Put the facts of the whole store into temporary tables, once for all families.

    Args:
        conn: may make temporary tables.
        catalog: the families are of it.
        families: whose facts.
    """
    temporary.prepare(conn, TEMPORARY)
    sources = {source for family in families for source in sources_of(family)}
    custom = [family.name for family in families if family.source == "custom"]
    if custom:
        upkeep.prepare(conn, catalog, custom)
        upkeep.note(conn, catalog, custom, AFTER, only_touched=False)
    is_postgres = is_postgresql(conn)

    def mapped(source: str) -> Mapped:
        return Mapped(catalog.mapped_fields(source), is_postgres, catalog.columns_read.get(source))

    for source, facts in everything(catalog.company.currency, sources, mapped):
        table = FACTS[source]
        statement = insert(table).from_select(columns_of(table), facts)
        stored = conn.exec_driver_sql(text_of(statement, is_postgresql(conn)))
        temporary.analyze(conn, table.name, max(stored.rowcount, 0))


@lru_cache(maxsize=512)
def _build(kept: tuple[Kept, ...], calendar: Calendar, for_postgresql: bool) -> str:
    cells = cells_of_all(kept, all_facts(calendar))
    return text_of(insert(CELLS).from_select(CELL_COLUMNS, cells), for_postgresql)
