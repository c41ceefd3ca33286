"""How fast the incremental engine is: first load, rebuild, publication, and batches of changes.

    python bench/engine.py --deals 100000 --store sqlite
    python bench/engine.py --deals 1000000 --store postgresql --url postgresql://user@host/db

Every deal has three stage changes, every fifth of a deal an account. A batch is 1,000 deals, half
of which get another amount, a quarter another owner, a quarter a new outcome, with their stage
changes: read, staged, differenced and committed durably. Times are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select

from metrics import catalog as kpi_catalog
from metrics import values
from metrics.catalog import Catalog
from metrics.cells import commit_page
from metrics.definition import KpiSettings
from metrics.rebuild import rebuild
from metrics.verify import verify
from store.canonical import CanonicalRecord, Company, Deal, RecordRef, StageChange
from store.engine import open_store, reading, writing
from store.schema import ensure_current
from store.tables import CELLS, KPI_VALUES

PAGE = 2_000
COMPANY = Company(ZoneInfo("Europe/Berlin"), "EUR")
FIRST = datetime(2023, 1, 2, 9, tzinfo=UTC)
DAYS = 730
OWNERS, PRODUCTS, SOURCES = 200, 20, 8


def _deal(number: int, deals: int) -> Deal:
    chance = random.Random(number)  # noqa: S311 - test data
    created = FIRST + timedelta(days=chance.randrange(DAYS), seconds=chance.randrange(86_400))
    outcome = chance.choice(("won", "won", "lost", "open"))
    closed = created.date() + timedelta(days=chance.randrange(1, 120))
    return Deal(
        ref=RecordRef("crm", "deals", f"{number:015d}"),
        name=f"Deal {number}",
        account=f"crm:account-{chance.randrange(max(1, deals // 5)):012d}",
        owner=f"crm:owner-{chance.randrange(OWNERS):04d}",
        pipeline="crm:sales",
        stage=f"crm:{outcome}",
        is_closed=outcome != "open",
        is_won=outcome == "won",
        amount=Decimal(chance.randrange(100, 5_000_000)) / 100,
        probability=Decimal(chance.choice((10, 25, 50, 75))) / 100,
        product=f"Product {chance.randrange(PRODUCTS)}",
        source=f"Source {chance.randrange(SOURCES)}",
        created_at=created,
        modified_at=created,
        close_date=closed,
    )


def _changes(deal: Deal) -> list[StageChange]:
    entered = deal.created_at or FIRST
    return [
        StageChange(
            ref=RecordRef("crm", "deal_stage_changes", f"{deal.ref.native_id}-{place}"),
            deal=deal.ref.key,
            stage=stage,
            at=entered + timedelta(days=3 * place),
        )
        for place, stage in enumerate(("crm:new", "crm:offer", deal.stage or "crm:open"))
    ]


def _pages(deals: int) -> Iterator[list[CanonicalRecord]]:
    page: list[CanonicalRecord] = []
    for number in range(deals):
        deal = _deal(number, deals)
        page += [deal, *_changes(deal)]
        if len(page) >= PAGE:
            yield page
            page = []
    if page:
        yield page


def _batch(deals: int, size: int, seed: int) -> list[CanonicalRecord]:
    chance = random.Random(seed)  # noqa: S311 - test data
    changed: list[CanonicalRecord] = []
    for number in chance.sample(range(deals), size):
        deal = _deal(number, deals)
        what = chance.random()
        if what < 0.5:
            deal = replace(deal, amount=Decimal(chance.randrange(100, 5_000_000)) / 100)
        elif what < 0.75:
            deal = replace(deal, owner=f"crm:owner-{chance.randrange(OWNERS):04d}")
        else:
            day = date(2024, 12, 1) + timedelta(days=chance.randrange(30))
            won = "crm:won"
            deal = replace(deal, is_closed=True, is_won=True, stage=won, close_date=day)
        changed += [replace(deal, modified_at=None), *_changes(deal)]
    return changed


def _timed(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Bench:
    """One store under measurement."""

    def __init__(self, engine: Engine, deals: int) -> None:
        self.engine = engine
        self.deals = deals
        self.catalog: Catalog = kpi_catalog.build(KpiSettings(company=COMPANY))
        self.rows: list[tuple[str, str]] = []
        self._instant = datetime(2025, 1, 1, tzinfo=UTC)

    def note(self, what: str, figure: str) -> None:
        """One line of the table."""
        self.rows.append((what, figure))
        print(f"  {what:<44} {figure}", flush=True)

    def load(self) -> None:
        """The first load: pages without differencing, then cells and values at once."""
        pages = list(_pages(self.deals)) if self.deals <= 100_000 else _pages(self.deals)
        stored = 0.0
        for page in pages:
            stored += _timed(partial(self._commit, page, defer=True))
        records = 4 * self.deals
        self.note("store records", f"{stored:8.2f} s   {records / stored:10,.0f} records/s")
        built = _timed(self._rebuild)
        self.note("build cells", f"{built:8.2f} s   {self._count(CELLS):10,} cells")
        published = _timed(self._publish)
        count = self._count(KPI_VALUES)
        self.note("publish values", f"{published:8.2f} s   {count:10,} values")
        self.note("first load", f"{stored + built + published:8.2f} s")

    def batches(self, size: int, times: int) -> None:
        """Batches of changed deals, and the values above them."""
        commits, publishes = [], []
        for number in range(times):
            batch = _batch(self.deals, size, seed=1_000 * size + number)
            commits.append(_timed(partial(self._commit, batch)))
            publishes.append(_timed(self._publish))
        self.note(
            f"commit {size:,} deals ({4 * size:,} records)",
            f"{1000 * statistics.median(commits):8.1f} ms  (slowest {1000 * max(commits):.0f})",
        )
        self.note(f"publish after {size:,} deals", f"{1000 * statistics.median(publishes):8.1f} ms")
        again = _batch(self.deals, size, seed=1_000 * size + times - 1)
        repeated = statistics.median(_timed(lambda: self._commit(again)) for _ in range(3))
        self.note(f"the same {size:,} deals again", f"{1000 * repeated:8.1f} ms")

    def verify(self) -> None:
        """The independent recomputation."""

        def run() -> None:
            with reading(self.engine) as conn:
                outcome = verify(conn, self.catalog, as_of=self._instant)
            assert outcome.ok, outcome.differences[:3]

        self.note("verify", f"{_timed(run):8.2f} s")

    def _commit(self, page: list[CanonicalRecord], *, defer: bool = False) -> None:
        with writing(self.engine) as conn:
            commit_page(conn, self.catalog, page, [], defer=defer)

    def _rebuild(self) -> None:
        with writing(self.engine) as conn:
            rebuild(conn, self.catalog)

    def _publish(self) -> None:
        self._instant += timedelta(minutes=1)
        remaining = 1
        while remaining:
            with writing(self.engine) as conn:
                remaining = values.publish(
                    conn, self.catalog, run="bench", as_of=self._instant, limit=20_000
                ).remaining

    def _count(self, table: object) -> int:
        with reading(self.engine) as conn:
            return conn.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]  # a table


@contextlib.contextmanager
def _store(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.url:
        yield arguments.url
    elif arguments.store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'bench.db'}"
    else:
        from tests.fixtures.servers import new_database, start_postgres  # noqa: PLC0415 - only here

        with start_postgres() as server, new_database(server.url) as url:
            yield url


def main() -> None:
    """Measure one store at one size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=100_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--url", help="an empty database to use instead of a throwaway one")
    parser.add_argument("--batches", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000])
    parser.add_argument("--verify", action="store_true")
    arguments = parser.parse_args()
    with _store(arguments) as url:
        engine = open_store(url)
        ensure_current(engine)
        print(f"{arguments.deals:,} deals on {arguments.store}, Python {sys.version.split()[0]}")
        bench = Bench(engine, arguments.deals)
        bench.load()
        for size in arguments.sizes:
            bench.batches(size, arguments.batches)
        if arguments.verify:
            bench.verify()
        bench.note("peak memory of the process", f"{_memory():8.0f} MB")
        engine.dispose()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
