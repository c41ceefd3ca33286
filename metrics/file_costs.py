"""Costs of files beside the configuration, kept with the other costs so that all count alike."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select

from metrics.catalog import Catalog
from metrics.contributions.marketing import FILE_CONNECTION
from store import kpis as stored
from store import record_history
from store.conversion import RowMaker, columns_of
from store.loading import load
from store.records import of_connection
from store.tables import COSTS

BOOKKEEPING: str = "file_costs"


def renew(conn: Connection, catalog: Catalog, *, at: datetime) -> None:
    """Replace the stored costs of files if the files say something else than before.

    Args:
        conn: in `store.engine.writing`.
        catalog: whose settings hold the costs.
        at: the instant of the transaction, for the history of records.
    """
    wanted = catalog.costs_digest
    if stored.fingerprints(conn).get(BOOKKEEPING) == wanted:
        return
    are_of_files = of_connection(COSTS.c.ref, FILE_CONNECTION)
    before = {
        row["ref"]: dict(row) for row in conn.execute(select(COSTS).where(are_of_files)).mappings()
    }
    conn.execute(delete(COSTS).where(are_of_files))
    columns = columns_of("costs")
    rows = RowMaker("costs", catalog.company).rows(catalog.settings.costs)
    load(conn, COSTS.name, columns, rows)
    after = [dict(zip(columns, row, strict=True)) for row in rows]
    record_history.note_replaced(
        conn, "costs", before, {str(row["ref"]): row for row in after}, at=at
    )
    stored.save_fingerprint(conn, BOOKKEEPING, wanted)
