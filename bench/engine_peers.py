"""What the engine is compared with: the same cells by other means.

DuckDB upserts a batch into a file of its own and computes every cell anew, with statements written
for it by hand (grouping sets, only the columns that are read, no merged records): it has less to do
than the product. PostgreSQL refreshes materialized views of the product's own statements.
"""

# ruff: noqa: S608 - statements of our own

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from sqlalchemy import Connection, Engine, Table

from bench import engine_company as company
from metrics.catalog import Catalog
from metrics.contributions import all_facts, everything
from metrics.contributions.summing import cells_of
from metrics.contributions.tables import FACTS
from metrics.families import sources_of
from store.canonical import CanonicalRecord
from store.compiled import text_of
from store.conversion import RowMaker, columns_of
from store.engine import open_store, writing
from store.tables import RECORD_TABLES

_TYPES: Final = {"Text": "TEXT", "BigInteger": "BIGINT", "Integer": "INTEGER", "Boolean": "BOOLEAN"}
_STREAMS: Final = (
    *("owners", "stages", "campaigns", "accounts", "contacts", "deals", "deal_stage_changes"),
    *("tickets", "campaign_members"),
)
_CELLS: Final = "family, dimension, key, day, currency, bucket, n, m1, m2, m3, m4, m5"


class DuckDb:
    """A file with the same records, and a table of cells that is computed as a whole."""

    def __init__(self, file: Path, deals: int) -> None:
        self._conn = duckdb.connect(str(file))
        self._conn.execute("SET integer_division = true")
        for stream in _STREAMS:
            self._create(RECORD_TABLES[stream])
        for statement in company.inserts(deals, "duckdb"):
            self._conn.execute(statement)
        self._conn.execute("CHECKPOINT")

    def _create(self, table: Table) -> None:
        columns = ", ".join(
            f'"{column.name}" {_TYPES[type(column.type).__name__]}'
            f"{' PRIMARY KEY' if column.primary_key else ''}"
            for column in table.columns
        )
        self._conn.execute(f"CREATE TABLE {table.name} ({columns})")

    def apply(self, records: Sequence[CanonicalRecord]) -> None:
        """Upsert a batch and compute every cell, durably."""
        by_stream: dict[str, list[CanonicalRecord]] = defaultdict(list)
        for record in records:
            by_stream[record.STREAM].append(record)
        self._conn.execute("BEGIN")
        for stream, some in by_stream.items():
            names = columns_of(stream)
            rows = RowMaker(stream, company.COMPANY).rows(some)
            batch = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
            self._conn.register("batch", batch)
            self._conn.execute(f"INSERT OR REPLACE INTO {stream} BY NAME SELECT * FROM batch")
            self._conn.unregister("batch")
        self.compute()
        self._conn.execute("COMMIT")

    def compute(self) -> None:
        """Every cell."""
        for place, statement in enumerate(_STATEMENTS):
            how = "CREATE OR REPLACE TABLE cells AS" if place == 0 else "INSERT INTO cells"
            self._conn.execute(f"{how} SELECT {_CELLS} FROM ({statement})")

    def cells(self) -> set[tuple[object, ...]]:
        """All of them."""
        return set(self._conn.execute(f"SELECT {_CELLS} FROM cells").fetchall())

    def count(self) -> int:
        """How many cells there are."""
        row = self._conn.execute("SELECT count(*) FROM cells").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Close the file."""
        self._conn.close()


def _grouped(  # noqa: PLR0917 - the parts of one SELECT
    family: str,
    source: str,
    groupings: Sequence[tuple[str, ...]],
    day: str,
    measures: Sequence[str],
    currency: str = "''",
    bucket: str = "0",
    n: str = "count(*)",
) -> str:
    """A family's cells in all groupings by one pass of grouping sets."""
    names = sorted({name for grouping in groupings for name in grouping})
    sets = ", ".join(f"({', '.join([*grouping, 'd', 'c', 'b'])})" for grouping in groupings)
    whens, keys = [], []
    for grouping in groupings:
        if not grouping:
            continue
        inside = " AND ".join(
            f"GROUPING({name}) = {0 if name in grouping else 1}" for name in names
        )
        key = " || ',' || ".join(grouping)
        whens.append(f"WHEN {inside} THEN '{','.join(grouping)}'")
        keys.append(f"WHEN {inside} THEN {key}")
    dimension = f"CASE {' '.join(whens)} ELSE 'all' END" if whens else "'all'"
    key = f"CASE {' '.join(keys)} ELSE '*' END" if keys else "'*'"
    sums = [*measures, *["0"] * (5 - len(measures))]
    listed = ", ".join(f"CAST({measure} AS BIGINT) m{i + 1}" for i, measure in enumerate(sums))
    return f"""
        SELECT '{family}' AS family, {dimension} AS dimension, {key} AS key, d AS day,
               c AS currency, b AS bucket, CAST({n} AS BIGINT) AS n, {listed}
        FROM (SELECT *, {day} AS d, {currency} AS c, CAST({bucket} AS BIGINT) AS b
              FROM ({source}))
        GROUP BY GROUPING SETS ({sets})
        HAVING key IS NOT NULL"""


_PURCHASES = (
    "SELECT ref, account, owner, product, source, region, closed_day FROM deals WHERE is_won"
)
_START = "date_diff('day', DATE '1970-01-01', date_trunc('{kind}', DATE '1970-01-01' + {day}))"


def _dated(key: str) -> str:
    return f"""
        SELECT {key} AS key, account, closed_day AS day,
               lag(closed_day) OVER w AS before, lead(closed_day) OVER w AS after
        FROM ({_PURCHASES}) WINDOW w AS (PARTITION BY {key}, account ORDER BY closed_day, ref)"""


def _activity(kind: str, dimension: str, key: str) -> str:
    dated = _dated(key)
    start = _START.format(kind=kind, day="day")
    return f"""
        WITH dated AS ({dated}),
        events AS (
            SELECT key, account, day, 1 AS delta FROM dated
            WHERE before IS NULL OR day - before > 90
            UNION ALL
            SELECT key, account, day + 90, -1 FROM dated WHERE after IS NULL OR after - day > 90),
        known AS (
            SELECT *, first_value(delta) OVER (
                PARTITION BY key, account, {start} ORDER BY day) AS first FROM events)
        SELECT 'activity_90d_{kind}' AS family, '{dimension}' AS dimension, key, day,
               '' AS currency, 0 AS bucket, count(*) AS n, sum(delta) AS m1,
               sum(CASE WHEN first = -1 THEN -delta ELSE 0 END) AS m2,
               sum(CASE WHEN first = -1 THEN 0 ELSE delta END) AS m3, 0 AS m4, 0 AS m5
        FROM known GROUP BY key, day"""


def _lifespans(dimension: str, key: str) -> str:
    return f"""
        SELECT 'lifespans' AS family, '{dimension}' AS dimension, key, day, '' AS currency,
               0 AS bucket, count(*) AS n, sum(CAST(before IS NULL AS INT)) AS m1,
               sum(coalesce(day - before, 0)) AS m2, 0 AS m3, 0 AS m4, 0 AS m5
        FROM ({_dated(key)}) GROUP BY key, day"""


def _buyers(kind: str, dimension: str, key: str) -> str:
    start = _START.format(kind=kind, day="closed_day") if kind != "all" else "-2000000000"
    return f"""
        SELECT 'buyers_{kind}' AS family, '{dimension}' AS dimension, key, start AS day,
               '' AS currency, 0 AS bucket, count(DISTINCT account) AS n,
               count(DISTINCT account) AS m1, 0 AS m2, 0 AS m3, 0 AS m4, 0 AS m5
        FROM (SELECT {key} AS key, account, {start} AS start FROM ({_PURCHASES}))
        GROUP BY key, start"""


_VISITS = """
    SELECT d.owner, e.stage, e.left_day AS day, (e.left_at - e.at) / 1000000 AS seconds
    FROM (
        SELECT deal, stage, lead("at") OVER w AS left_at, lead(at_day) OVER w AS left_day, "at"
        FROM (
            SELECT deal, ref, stage, "at", at_day,
                   lag(stage) OVER (PARTITION BY deal ORDER BY "at", ref) AS before
            FROM deal_stage_changes)
        WHERE stage IS DISTINCT FROM before
        WINDOW w AS (PARTITION BY deal ORDER BY "at", ref)) e
    JOIN deals d ON d.ref = e.deal JOIN stages s ON s.ref = e.stage
    WHERE NOT s.is_closed AND e.left_at IS NOT NULL"""

_CREDITS = """
    WITH touches AS (
        SELECT d.ref, d.closed_day, d.amount, m.campaign, c.channel
        FROM deals d
        JOIN contacts p ON p.account = d.account
        JOIN campaign_members m ON m.contact = p.ref
        LEFT JOIN campaigns c ON c.ref = m.campaign
        WHERE d.is_won AND m.at_day <= d.closed_day),
    firsts AS (
        SELECT ref FROM deals WHERE is_won
        QUALIFY row_number() OVER (PARTITION BY account ORDER BY closed_day, ref) = 1)
    SELECT t.*, count(*) OVER (PARTITION BY t.ref) AS shares, (f.ref IS NOT NULL) AS is_first
    FROM touches t LEFT JOIN firsts f ON f.ref = t.ref
    UNION ALL
    SELECT d.ref, d.closed_day, d.amount, '(none)', NULL, 1, f.ref IS NOT NULL
    FROM deals d LEFT JOIN firsts f ON f.ref = d.ref
    WHERE d.is_won AND NOT EXISTS (SELECT 1 FROM touches t WHERE t.ref = d.ref)"""

_RESOLVED = """
    SELECT owner, category, priority, closed_day,
           (closed_at - created_at) / 1000000 AS seconds FROM tickets
    WHERE is_closed AND closed_at IS NOT NULL"""

_RECURRENT = """
    SELECT owner, category, created_day, coalesce(created_at - lag(created_at) OVER (
        PARTITION BY account, category ORDER BY created_at) <= 2592000000000, false) AS is_again
    FROM tickets"""

_STATEMENTS: Final = (
    _grouped(
        "deals_closed",
        "SELECT * FROM deals WHERE is_closed",
        ((), ("owner",), ("product",), ("source",), ("region",)),
        "closed_day",
        (
            "sum(CAST(is_won AS INT))",
            "sum(CAST(NOT is_won AS INT))",
            "sum(CASE WHEN is_won THEN amount ELSE 0 END)",
            "sum(CASE WHEN is_won THEN 0 ELSE amount END)",
            "sum(CAST(is_won AS INT))",
        ),
        "'EUR'",
    ),
    _grouped(
        "deals_created",
        "SELECT * FROM deals",
        ((), ("owner",), ("source",)),
        "created_day",
        ("count(*)", "sum(CAST(is_won AS INT))", "sum(CAST(is_closed AS INT))"),
    ),
    _grouped(
        "deals_open",
        "SELECT * FROM deals WHERE NOT is_closed",
        ((), ("owner",), ("product",)),
        "close_date",
        ("count(*)", "sum(amount)"),
        "'EUR'",
        "probability",
    ),
    _grouped(
        "stage_visits",
        _VISITS,
        ((), ("stage",), ("owner", "stage")),
        "day",
        ("count(*)", "sum(seconds)"),
    ),
    _grouped(
        "first_purchases",
        f"""{_PURCHASES}
            QUALIFY row_number() OVER (PARTITION BY account ORDER BY closed_day, ref) = 1""",
        ((), ("owner",), ("source",)),
        "closed_day",
        ("count(*)",),
    ),
    *(
        _buyers(kind, *group)
        for kind in ("month", "quarter", "year", "all")
        for group in (("all", "'*'"), ("owner", "owner"))
    ),
    *(_lifespans(*group) for group in (("all", "'*'"), ("region", "region"))),
    *(
        _activity(kind, *group)
        for kind in ("month", "quarter", "year")
        for group in (("all", "'*'"), ("region", "region"))
    ),
    _grouped(
        "credit_linear",
        _CREDITS,
        ((), ("campaign",), ("channel",)),
        "closed_day",
        ("count(*)", "sum(amount)", "sum(CAST(is_first AS INT))"),
        "'EUR'",
        "shares",
    ),
    _grouped(
        "tickets_created",
        _RECURRENT,
        ((), ("owner",), ("category",)),
        "created_day",
        ("count(*)", "sum(CAST(is_again AS INT))"),
    ),
    _grouped(
        "resolution",
        _RESOLVED,
        ((), ("owner",), ("category",), ("priority",)),
        "closed_day",
        ("count(*)", "sum(seconds)"),
    ),
)


class Views:
    """Materialized views of the facts and of each family's cells in the product's database."""

    def __init__(self, url: str, catalog: Catalog) -> None:
        # Connections of its own: on the product's the temporary tables go before the views.
        self._engine: Engine = open_store(url)
        sources = {source for family in catalog.families.values() for source in sources_of(family)}
        self._names: list[str] = []
        with writing(self._engine) as conn:
            for source, facts in everything(catalog.company.currency, sources):
                # Under the name that the statements of the families read.
                self._create(conn, FACTS[source].name, text_of(facts, for_postgresql=True))
            for name, family in catalog.families.items():
                cells = cells_of(
                    family, catalog.groupings[name], all_facts(catalog.settings.calendar)
                )
                self._create(conn, f"view_{name}", text_of(cells, for_postgresql=True))

    def _create(self, conn: Connection, name: str, text: str) -> None:
        conn.exec_driver_sql(f"CREATE MATERIALIZED VIEW public.{name} AS {text} WITH NO DATA")
        self._names.append(name)

    def refresh(self) -> None:
        """All of them, in one transaction."""
        with writing(self._engine) as conn:
            for name in self._names:
                conn.exec_driver_sql(f"REFRESH MATERIALIZED VIEW public.{name}")

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()
