"""Where the time of a page goes, part by part, beside a bare upsert of the same rows.

    python -m bench.engine_parts --deals 1000000 --store postgresql --size 1000

The company and the batches are those of `bench.engine`. Each statement is timed at the driver and
counted to the part of a commit that it serves; what is left is this process's own work. On
PostgreSQL statements that otherwise go out together are waited for one by one here. Shown are the
time of the clock, that of the processor (of PostgreSQL's server where the machine tells it), which
does not depend on who else uses the machine, and how long the server planned. Below stand what no
code of ours can go below: the waits for answers, the rows that are written, what is read and logged
for them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, event, func, select

from bench import engine_company as company
from bench.engine import Product, load_records, measured, vacuum
from bench.stores import copy_of, stores
from metrics import catalog as kpi_catalog
from store import records
from store.canonical import CanonicalRecord
from store.engine import open_store, reading, tidy, writing
from store.history_tables import RECORD_HISTORY
from store.tables import DIRTY_KEYS, RECORD_TABLES

WARMING: Final = 3
SERIES: Final = "36 months of one owner"
OWN_WORK: Final = "this process: records to rows, SQLAlchemy, waiting for its turn"
REST: Final = "questions: families, clock, first loads"

_RECORDS: Final = "|".join(RECORD_TABLES)
_PARTS: Final = tuple(
    (re.compile(form, re.IGNORECASE), part)
    for form, part in (
        (r"^(BEGIN|COMMIT|ROLLBACK|;$)|pg_advisory|^SET ", "transaction: begin, lock, commit"),
        (r"^(COPY|UPDATE|INSERT INTO) (temp\.)?stage_|^DELETE FROM stage_\w+ WHERE", "staging"),
        (r"^SELECT count.* FROM stage_|^ANALYZE (temp\.)?stage_", "staging"),
        (
            r"^(TRUNCATE|ANALYZE|SELECT (CASE WHEN )?EXISTS)|^DELETE FROM [\w.]+$",
            "temporary tables",
        ),
        (r"^SELECT \(?(SELECT )?count\(\*\) FROM", "temporary tables"),
        (r"record_history", "history of records"),
        (r"INTO (touched_|reached_)", "what is touched"),
        (r"INTO (touches|credit_facts)", "credits of campaigns, before and after"),
        (r"INTO (deal_facts)|DELETE FROM deal_facts", "deals, before and after"),
        (r"INTO (ticket_facts|closing_facts)", "tickets, before and after"),
        (r"INTO visit_facts", "visits to stages, before and after"),
        (r"INTO (unit_accounts|purchase_facts)", "purchases of touched accounts"),
        (r"INTO cell_deltas", "sums: what each cell moves by"),
        (r"(INTO|DELETE FROM) cells", "cells"),
        (r"INTO dirty_keys", "notes of what to publish"),
        (rf"^(INSERT INTO|UPDATE) ({_RECORDS})\b", "storing records"),
    )
)


def part_of(statement: str) -> str:
    """The part of a commit that a statement serves."""
    text = " ".join(statement.split())
    return next((part for form, part in _PARTS if form.search(text)), REST)


@dataclass
class Spent:
    """What one part of one page took: seconds."""

    statements: int = 0
    clock: float = 0.0
    server: float = 0.0
    planning: float = 0.0


class Watch:
    """Times every statement of an engine's connections while it is on."""

    def __init__(self, engine: Engine) -> None:
        self.parts: dict[str, Spent] = defaultdict(Spent)
        self.is_on = False
        self.waits = 0
        """For how many answers the product waits where nobody watches."""
        self._is_together = False
        self._part = REST
        self._server: Callable[[], float] = lambda: 0.0
        """For how long whoever runs the statements has worked."""
        if engine.dialect.name == "postgresql":
            event.listen(engine, "connect", self._follow_postgresql)
        else:
            self._server = time.process_time
            self._follow_sqlite(engine)

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """What runs inside is one page's."""
        self.parts.clear()
        self.waits = 0
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False

    @contextlib.contextmanager
    def _statement(self, text: str) -> Iterator[None]:
        if not self.is_on:
            yield
            return
        self._part = part_of(text)
        start, worked = time.perf_counter(), self._server()
        try:
            yield
        finally:
            spent = self.parts[self._part]
            spent.statements += 1
            spent.clock += time.perf_counter() - start
            spent.server += self._server() - worked
            self.waits += not self._is_together

    def _follow_sqlite(self, engine: Engine) -> None:
        running: list[contextlib.AbstractContextManager[None]] = []

        @event.listens_for(engine, "before_cursor_execute")
        def begin(_conn: object, _cursor: object, text: str, *_: object) -> None:
            running.append(self._statement(text))
            running[-1].__enter__()

        @event.listens_for(engine, "after_cursor_execute")
        def end(*_: object) -> None:
            running.pop().__exit__(None, None, None)

        @event.listens_for(engine, "commit")
        def commit(conn: Connection) -> None:
            with self._statement("COMMIT"):
                conn.connection.commit()

    def _follow_postgresql(self, driver: psycopg.Connection[Any], _entry: object) -> None:
        watch = self

        class Cursor(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
                with watch._statement(str(query)):
                    return super().execute(query, *args, **kwargs)

            @contextlib.contextmanager
            def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
                with (
                    watch._statement(str(statement)),
                    super().copy(statement, *args, **kwargs) as copy,
                ):
                    yield copy

        @contextlib.contextmanager
        def together() -> Iterator[None]:
            # One by one: in a pipeline nobody could tell what took how long.
            self._is_together = True
            self.waits += self.is_on
            yield
            self._is_together = False

        commit = driver.commit

        def timed_commit() -> None:
            with self._statement("COMMIT"):
                commit()

        driver.cursor_factory = Cursor
        driver.__dict__.update(pipeline=together, commit=timed_commit)
        process = driver.info.backend_pid
        with contextlib.suppress(OSError):
            _processor_of(process)
            self._server = lambda: _processor_of(process)
        driver.add_notice_handler(self._hear)
        driver.execute("SET client_min_messages = log")
        driver.execute("SET log_planner_stats = on")
        driver.execute("SET track_io_timing = on")
        commit()

    def _hear(self, said: psycopg.errors.Diagnostic) -> None:
        found = _ELAPSED.search(said.message_detail or "")
        if self.is_on and found is not None:
            self.parts[self._part].planning += float(found.group(1))


_ELAPSED: Final = re.compile(r"([\d.]+) s elapsed")


def _processor_of(process: int) -> float:
    """Seconds that a process of this machine has worked.

    Raises:
        OSError: the machine does not tell.
    """
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


# ---------------------------------------------------------------- one page after the other


class Parts:
    """One store, and what its pages take."""

    def __init__(self, url: str, bare: Engine, deals: int) -> None:
        engine = open_store(url)
        self._watch = Watch(engine)
        self._product = Product(engine, kpi_catalog.build(company.BREADTH))
        self._bare = bare
        self._edits = company.Edits(deals)
        self._is_postgresql = engine.dialect.name == "postgresql"
        self._pages: list[dict[str, Spent]] = []
        self._whole: list[float] = []
        self._worked: list[float] = []
        self._upserts: list[float] = []
        self._facts: dict[str, list[float]] = defaultdict(list)

    def run(self, size: int, rounds: int) -> None:
        """So many pages of so many rows, after some that warm up."""
        for number in range(-WARMING, rounds):
            with reading(self._product.engine) as conn:
                page = self._edits.batch(conn, size, seed=7_000_000 * size + number)
            upsert, _ = measured(lambda page=page: self._upsert(page))  # type: ignore[misc]  # a default of a lambda
            before = self._counts()
            with self._watch.page():
                whole, worked = measured(lambda page=page: self._product.commit(page))  # type: ignore[misc]  # a default of a lambda
            if number >= 0:
                self._pages.append(dict(self._watch.parts))
                self._whole.append(whole)
                self._worked.append(worked)
                self._upserts.append(upsert)
                for name, count in self._counts().items():
                    self._facts[name].append(count - before[name])
                self._facts["answers waited for"].append(self._watch.waits)
            self._product.publish()
            tidy(self._product.engine)
            tidy(self._bare)

    def close(self) -> None:
        """Give everything back."""
        self._product.engine.dispose()
        self._bare.dispose()

    def _upsert(self, page: Sequence[CanonicalRecord]) -> None:
        with writing(self._bare) as conn:
            records.apply(conn, records.stage(conn, page, [], company.COMPANY))

    def _counts(self) -> dict[str, float]:
        """What is counted on and on by the database."""
        with reading(self._product.engine) as conn:
            found: dict[str, Any] = {
                "rows of history written": conn.scalar(select(func.max(RECORD_HISTORY.c.id))),
                "keys noted for publication": conn.scalar(
                    select(func.count()).select_from(DIRTY_KEYS)
                ),
            }
            if self._is_postgresql:
                # What this process read is told to the others when a transaction ends.
                conn.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        if self._is_postgresql:
            with reading(self._product.engine) as conn:
                found |= conn.exec_driver_sql(_SERVER_COUNTS).mappings().one()
        return {name: float(count or 0) for name, count in found.items()}

    # ---- what was found

    def table(self) -> str:
        """Part by part, the longest first: medians."""
        rows: list[tuple[str, list[float]]] = []
        for name in {name for page in self._pages for name in page}:
            spent = [page.get(name, Spent()) for page in self._pages]
            rows.append((name, [_median(getattr(one, what) for one in spent) for what in _SHOWN]))
        rows.append((OWN_WORK, [0, self._left("clock", self._whole), self._own_processor(), 0]))
        rows.sort(key=lambda row: -row[1][1])
        rows.append(("all", [sum(figures[place] for _, figures in rows) for place in range(4)]))
        lines = ["| part | statements | ms | ms of a processor | of planning |"]
        lines.append("|---|---|---|---|---|")
        for name, (count, *seconds) in rows:
            shown = " | ".join(f"{1000 * taken:.1f}" for taken in seconds)
            lines.append(f"| {name} | {count:.0f} | {shown} |")
        lines += ["", "| beside it | |", "|---|---|"]
        lines.append(f"| the whole page, ms | {1000 * _median(self._whole):.1f} |")
        lines.append(f"| of it this process works, ms | {1000 * _median(self._worked):.1f} |")
        lines.append(f"| bare upsert of the same rows, ms | {1000 * _median(self._upserts):.1f} |")
        lines.append(f"| one answer of the database, ms | {1000 * self._latency():.3f} |")
        lines.append(f"| {SERIES}, ms | {1000 * self._series():.2f} |")
        lines += [f"| {name} | {_median(found):,.0f} |" for name, found in self._facts.items()]
        return "\n".join(lines)

    def _left(self, what: str, of: Sequence[float]) -> float:
        """What remains of each page's time without that of its statements."""
        return _median(
            whole - sum(getattr(spent, what) for spent in page.values())
            for whole, page in zip(of, self._pages, strict=True)
        )

    def _own_processor(self) -> float:
        # PostgreSQL's statements are the work of another process.
        return _median(self._worked) if self._is_postgresql else self._left("server", self._worked)

    def _latency(self) -> float:
        with reading(self._product.engine) as conn:
            return _median(
                measured(lambda: conn.exec_driver_sql("SELECT 1").scalar_one())[0]
                for _ in range(200)
            )

    def _series(self) -> float:
        self._product.read_series()
        return _median(measured(self._product.read_series)[0] for _ in range(200))


_SERVER_COUNTS: Final = """
    SELECT blks_hit AS "blocks found in the server's memory",
        blks_read AS "blocks read from outside of it",
        blk_read_time AS "of it waited for them, ms",
        (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 AS "bytes of log"
    FROM pg_stat_database WHERE datname = current_database()"""
"""Needs PostgreSQL 15."""

_SHOWN: Final = ("statements", "clock", "server", "planning")


def _median(figures: Iterable[float]) -> float:
    return statistics.median(figures)


def fill(urls: Sequence[str], deals: int) -> Engine:
    """A store with records, cells and values, and one with the records alone; the latter."""
    product = Product(load_records(urls[0], deals), kpi_catalog.build(company.BREADTH))
    bare = copy_of(product.engine, urls[1])
    product.engine = open_store(urls[0])
    product.rebuild()
    product.publish()
    if product.engine.dialect.name == "postgresql":
        vacuum(product.engine)
        vacuum(bare)
    product.engine.dispose()
    return bare


def main() -> None:
    """Measure pages of one store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=100_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--size", type=int, default=1_000, help="records of a page")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        stores(arguments.store, Path(folder)) as urls,
    ):
        bare = fill(urls, arguments.deals)
        parts = Parts(urls[0], bare, arguments.deals)
        parts.run(arguments.size, arguments.rounds)
        print(
            f"{arguments.size:,} rows into {arguments.deals:,} deals on {arguments.store}, "
            f"load {os.getloadavg()[0]:.1f}\n\n{parts.table()}"
        )
        parts.close()


if __name__ == "__main__":
    main()
