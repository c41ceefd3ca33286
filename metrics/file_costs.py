"""Costs of files beside the configuration, kept with the other costs so that all count alike."""

from __future__ import annotations

from sqlalchemy import Connection, delete

from metrics.catalog import Catalog
from metrics.contributions.marketing import FILE_CONNECTION
from store import kpis as stored
from store.conversion import RowMaker, columns_of
from store.loading import load
from store.records import of_connection
from store.tables import COSTS

BOOKKEEPING: str = "file_costs"


def renew(conn: Connection, catalog: Catalog) -> None:
    """Replace the stored costs of files if the files say something else than before."""
    wanted = catalog.costs_digest
    if stored.fingerprints(conn).get(BOOKKEEPING) == wanted:
        return
    conn.execute(delete(COSTS).where(of_connection(COSTS.c.ref, FILE_CONNECTION)))
    rows = RowMaker("costs", catalog.company).rows(catalog.settings.costs)
    load(conn, COSTS.name, columns_of("costs"), rows)
    stored.save_fingerprint(conn, BOOKKEEPING, wanted)
