"""How fast the incremental engine is, with its peers in the same run.

    python -m bench.engine --deals 100000 --store sqlite
    python -m bench.engine --deals 1000000 --store postgresql --results FILE

The company is that of `bench.engine_company`: n deals, 3 n stage changes, n tickets ... A batch of
100 rows is 100 changed records in all: deals, stage changes, tickets, campaign members. By default
the engine keeps 11 families in 33 groupings (`engine_company.BREADTH`), as the design's figures
were taken; ``--breadth catalogue`` keeps every KPI by its default groups.

In each round one and the same batch goes through the product (commit with all cells, durably; then
publication), through a bare upsert of the same code into a store without KPIs, and through the
peers. Times are medians of the rounds, of the wall and, with "cpu", of the processor (of SQLite and
DuckDB, which run in this process): on a shared machine the latter and the ratios are what counts.
What takes minutes is measured less often: the product's own rebuild once, when the store is filled,
and REFRESH as often as ``--refreshes`` says.

Every figure is appended to the results as soon as it is measured: a run that is stopped keeps them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, Table, func, select

from bench import engine_company as company
from bench.engine_peers import DuckDb, Views
from bench.stores import copy_of, stores
from metrics import catalog as kpi_catalog
from metrics import values
from metrics.catalog import Catalog
from metrics.cells import commit_page
from metrics.periods import Kind
from metrics.rebuild import rebuild
from store import records
from store.canonical import CanonicalRecord
from store.engine import is_postgresql, open_store, reading, tidy, writing
from store.schema import ensure_current
from store.tables import CELLS, KPI_VALUES, RECORD_TABLES

REFRESHED_SIZE: Final = 1_000
"""The size of batch after which the whole recomputations of minutes are made, too."""
TAIL_SIZE: Final = 100
BREADTHS: Final = {"design": company.BREADTH, "catalogue": company.CATALOGUE}


def _timed(what: Callable[[], object]) -> float:
    return measured(what)[0]


def measured(what: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the wall and of the processor."""
    start, worked = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - start, time.process_time() - worked


def load_records(url: str, deals: int) -> Engine:
    """A store that holds the company's records: indexes are built after the rows."""
    engine = open_store(url)
    ensure_current(engine)
    indexes = [index for table in RECORD_TABLES.values() for index in table.indexes]
    database = "sqlite" if url.startswith("sqlite") else "postgresql"
    with engine.connect() as conn, conn.begin():
        for index in indexes:
            index.drop(conn, checkfirst=True)
        driver = conn.connection.driver_connection
        assert driver is not None
        for statement in company.inserts(deals, database):
            # Past SQLAlchemy, to which a percent sign is no percent sign.
            driver.execute(statement)
        for index in indexes:
            index.create(conn)
        if is_postgresql(conn):
            conn.exec_driver_sql("ANALYZE")
    return engine


def vacuum(engine: Engine) -> None:
    """Let PostgreSQL tidy up after a first load."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
        conn.exec_driver_sql("VACUUM (ANALYZE)")


class Results:
    """The figures of one run: shown, and appended to a file as soon as they are measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._file: Path | None = arguments.results
        self._run = {
            **{name: getattr(arguments, name) for name in ("deals", "store", "breadth", "rounds")},
            "run": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": sys.version.split()[0],
        }

    def add(self, what: str, figure: float) -> None:
        """Keep one figure."""
        load = round(os.getloadavg()[0], 1)
        print(f"  {what:<44} {figure:14,.4f}   load {load}", flush=True)
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps({**self._run, "load": load, what: figure}) + "\n")


class Product:
    """A store with records, cells and values."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self.engine = engine
        self.catalog = catalog
        self._instant = company.NOW

    def commit(self, page: Sequence[CanonicalRecord]) -> None:
        """A page with all its cells."""
        with writing(self.engine) as conn:
            commit_page(conn, self.catalog, page, [])

    def rebuild(self) -> None:
        """All cells from all records."""
        with writing(self.engine) as conn:
            rebuild(conn, self.catalog)

    def publish(self) -> None:
        """Every dirty value."""
        self._instant += timedelta(seconds=1)
        remaining = 1
        while remaining:
            with writing(self.engine) as conn:
                remaining = values.publish(
                    conn, self.catalog, run="bench", as_of=self._instant, limit=20_000
                ).remaining

    def read_series(self) -> None:
        """Three years of months of one owner."""
        with reading(self.engine) as conn:
            found = values.current(
                conn,
                self.catalog,
                kpi="won_value",
                period=str(Kind.MONTH),
                dimension="owner",
                key=f"crm:owner{1_000_000_000}",
            )
        assert found, "nobody of that name has won anything"

    def count(self, table: Table) -> int:
        """How many rows."""
        with reading(self.engine) as conn:
            return conn.execute(select(func.count()).select_from(table)).scalar_one()

    def cells(self) -> set[tuple[object, ...]]:
        """All cells, as `DuckDb.cells` gives them."""
        columns = [column for column in CELLS.columns if column.name != "m6"]
        with reading(self.engine) as conn:
            return {tuple(row) for row in conn.execute(select(*columns))}


class Bench:
    """One store under measurement, with its peers."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, urls: Sequence[str]) -> None:
        self._deals: int = arguments.deals
        self._rounds: int = arguments.rounds
        self._refreshes: int = arguments.refreshes
        self._results = Results(arguments)
        self._edits = company.Edits(self._deals)
        self._catalog = kpi_catalog.build(BREADTHS[arguments.breadth])
        self._has_peers = arguments.breadth == "design" and not arguments.alone
        self._is_postgresql = arguments.store == "postgresql"
        self._duckdb: DuckDb | None = None
        self._views: Views | None = None
        self._folder, self._urls = folder, urls

    def run(self, sizes: Sequence[int], tail: int) -> None:
        """Everything; the figures are in seconds, or what their names say."""
        self._load()
        for size in sizes:
            self._batches(size)
        if tail:
            self._tail(tail)
        self._read()
        self._note("peak memory, MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    def close(self) -> None:
        """Give everything back."""
        for engine in (self._product.engine, self._bare):
            engine.dispose()
        for peer in (self._duckdb, self._views):
            if peer is not None:
                peer.close()

    def _note(self, what: str, figure: float) -> None:
        self._results.add(what, figure)

    # ---- first load

    def _load(self) -> None:
        start = time.perf_counter()
        engine = load_records(self._urls[0], self._deals)
        self._product = Product(engine, self._catalog)
        self._note("write records", time.perf_counter() - start)
        self._bare = copy_of(engine, self._urls[1])
        wall, worked = measured(self._product.rebuild)
        self._note("own rebuild of all cells", wall)
        if not self._is_postgresql:  # whose work is another process's
            self._note("own rebuild of all cells, cpu", worked)
        self._note("cells", self._product.count(CELLS))
        self._note("publish all values", _timed(self._product.publish))
        self._note("values", self._product.count(KPI_VALUES))
        if self._has_peers and not self._is_postgresql:
            self._duckdb = DuckDb(self._folder / "peer.duckdb", self._deals)
            self._duckdb.compute()
            self._note("cells of DuckDB", self._duckdb.count())
        if self._has_peers and self._is_postgresql:
            self._views = Views(self._urls[0], self._catalog)
            self._note("first REFRESH", _timed(self._views.refresh))
        if self._is_postgresql:
            # What autovacuum does within a minute in production.
            vacuum(self._product.engine)
            vacuum(self._bare)

    # ---- batches

    def _batches(self, size: int) -> None:
        times: dict[str, list[float]] = {}
        for number in range(-1, self._rounds):  # the first one warms up
            batch = self._batch(size, number)
            for name, what in self._contenders(batch, size, number).items():
                wall, worked = measured(what)
                if number >= 0:
                    times.setdefault(name, []).append(wall)
                if number >= 0 and not self._is_postgresql:
                    times.setdefault(f"{name}, cpu", []).append(worked)
            tidy(self._product.engine)
            tidy(self._bare)
        for name, taken_all in times.items():
            self._note(f"{size} rows: {name}", statistics.median(taken_all))

    def _batch(self, size: int, number: int) -> list[CanonicalRecord]:
        with reading(self._product.engine) as conn:
            return self._edits.batch(conn, size, seed=1_000 * size + number)

    def _contenders(
        self, batch: Sequence[CanonicalRecord], size: int, number: int
    ) -> dict[str, Callable[[], object]]:
        found: dict[str, Callable[[], object]] = {
            "bare upsert": lambda: self._upsert(batch),
            "commit": lambda: self._product.commit(batch),
            "publish": self._product.publish,
            "the same again": lambda: self._product.commit(batch),
        }
        duckdb, views = self._duckdb, self._views
        if duckdb is not None:
            found["DuckDB upsert + full"] = lambda: duckdb.apply(batch)
        if size == REFRESHED_SIZE and views is not None and 0 <= number < self._refreshes:
            found["REFRESH"] = views.refresh
        return found

    def _upsert(self, batch: Sequence[CanonicalRecord]) -> None:
        with writing(self._bare) as conn:
            staged = records.stage(conn, batch, [], company.COMPANY)
            records.apply(conn, staged)

    def _tail(self, count: int) -> None:
        taken = []
        for number in range(count):
            batch = self._batch(TAIL_SIZE, 10_000 + number)
            taken.append(_timed(lambda page=batch: self._product.commit(page)))  # type: ignore[misc]  # a default of a lambda
            tidy(self._product.engine)
        taken.sort()
        self._note(f"{count} batches: median", statistics.median(taken))
        self._note(f"{count} batches: p99", taken[int(0.99 * count) - 1])
        self._note(f"{count} batches: p99/median", taken[int(0.99 * count) - 1] / taken[count // 2])

    def _read(self) -> None:
        self._product.publish()
        self._product.read_series()
        taken = [_timed(self._product.read_series) for _ in range(50)]
        self._note("monthly series of one owner", statistics.median(taken))

    def check(self) -> None:
        """The same cells by an increment and by the peer.

        Raises:
            AssertionError: they differ.
        """
        if self._duckdb is not None:
            ours, theirs = self._product.cells(), self._duckdb.cells()
            some = sorted(map(str, ours ^ theirs))[:4]
            assert ours == theirs, (len(ours - theirs), len(theirs - ours), some)


def main() -> None:
    """Measure one store at one size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=100_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--breadth", choices=tuple(BREADTHS), default="design")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--refreshes", type=int, default=1, help="rounds with REFRESH")
    parser.add_argument("--tail", type=int, default=200, help="batches for the slowest hundredth")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--check", action="store_true", help="compare cells with the peer's")
    parser.add_argument("--results", type=Path, help="a file of JSON lines to append to")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        stores(arguments.store, Path(folder)) as urls,
    ):
        print(f"{arguments.deals:,} deals on {arguments.store}, {arguments.breadth}", flush=True)
        bench = Bench(arguments, Path(folder), urls)
        bench.run(arguments.sizes, arguments.tail)
        if arguments.check:
            bench.check()
        bench.close()


if __name__ == "__main__":
    main()
