"""Random histories over the store: after each step every value is what a recomputation finds.

One run in CI is short. For a long one, with its progress on the terminal:

    KPISYNC_TEST_BATCHES=500 pytest -m slow -s tests/pipeline/metrics/test_histories.py
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select

from metrics.cells import commit_page
from metrics.contributions import CONTRIBUTIONS
from metrics.definition import OwnSettings
from metrics.expression.definition import Written
from metrics.rebuild import rebuild
from metrics.touching import STREAMS
from store.canonical import CanonicalRecord
from store.engine import open_store, reading, writing
from store.tables import DIRTY_KEYS, METADATA
from tests.pipeline.metrics.books import FIRST_INSTANT, Books, cells_of
from tests.pipeline.metrics.histories import Page, deletions, pages, records
from tests.pipeline.metrics.test_incremental import EVERYTHING

BATCHES = int(os.environ.get("KPISYNC_TEST_BATCHES", "500"))
SEED = int(os.environ.get("KPISYNC_TEST_SEED", "20240601"))
STEPS = 14

CUSTOM = (
    Written(
        name="large_share",
        label="Share of large deals",
        of="deals",
        date="close_date",
        where="is_closed",
        numerator="count(where amount > 50)",
        denominator="count()",
        by=(("owner",),),
    ),
    Written(
        name="late_value",
        label="Value of late deals",
        of="deals",
        where="not is_closed and close_date < today - 30d",
        numerator="sum(amount)",
    ),
    Written(
        name="middle_of_region",
        label="Median of one region",
        of="deals",
        date="close_date",
        where="region = 'EMEA'",
        numerator="median(amount)",
    ),
    Written(
        name="lines_value",
        label="Value of lines",
        of="deal_lines",
        numerator="sum(total)",
        by=(("product",),),
    ),
    Written(
        name="accounts_with_tickets",
        label="Accounts with tickets",
        of="tickets",
        date="created_at",
        numerator="distinct(account)",
        by=(("category",),),
    ),
)
SETTINGS = replace(
    EVERYTHING,
    custom=CUSTOM,
    own={**EVERYTHING.own, "upsell_rate": OwnSettings(of="customers")},
)
OTHER_RATES = replace(SETTINGS, rates={"JPY": Decimal("0.5"), "XTS": Decimal(3)})

histories = st.lists(st.one_of(records, records, records, deletions), min_size=2, max_size=14)


class Histories(RuleBasedStateMachine):
    """A store, and everything that may happen to it."""

    books: ClassVar[Books]
    url: ClassVar[str]
    committed: ClassVar[int] = 0
    """Batches so far, over all examples."""
    started: ClassVar[float]

    def __init__(self) -> None:
        super().__init__()
        self._last: Page | None = None
        _empty(self.books)
        self.books.configure(SETTINGS)
        self.books.now = FIRST_INSTANT
        self.books.rebuild()

    # ---- what happens

    @rule(page=pages)
    def a_page_comes(self, page: Page) -> None:
        self._commit(page)

    @rule(history=histories, cuts=st.lists(st.integers(0, 14), max_size=4))
    def a_history_comes_in_any_pages(self, history: list[object], cuts: list[int]) -> None:
        edges = [0, *sorted(min(cut, len(history)) for cut in cuts), len(history)]
        for first, last in itertools.pairwise(edges):
            some = history[first:last]
            kept = [one for one in some if isinstance(one, CanonicalRecord)]
            gone = [one for one in some if not isinstance(one, CanonicalRecord)]
            self._commit((kept, gone))  # type: ignore[arg-type]  # what is no record is a reference

    @rule()
    def the_last_page_comes_again(self) -> None:
        assume(self._last is not None)
        assert self._last is not None
        with reading(self.books.engine) as conn:
            before = cells_of(conn)
        kept, gone = self._last

        self.books.commit(*kept, deleted=gone)

        with reading(self.books.engine) as conn:
            assert before == cells_of(conn)
            dirty = conn.execute(select(func.count()).select_from(DIRTY_KEYS)).scalar_one()
        assert dirty == 0, "a page that came twice made values dirty"

    @rule(one=pages, other=pages)
    def two_writers_come_at_once(self, one: Page, other: Page) -> None:
        self._last = None
        failures: list[BaseException] = []
        start = threading.Barrier(2)

        def write(page: Page) -> None:
            engine = open_store(self.url)
            try:
                start.wait()
                with writing(engine) as conn:
                    commit_page(conn, self.books.catalog, page[0], page[1])
            except BaseException as failure:
                failures.append(failure)
                raise
            finally:
                engine.dispose()

        writers = [threading.Thread(target=write, args=(page,)) for page in (one, other)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert failures == []
        self._count(2)

    @rule(hours=st.sampled_from([1, 25, 24 * 31 + 5, 24 * 92]))
    def time_passes(self, hours: int) -> None:
        self.books.publish(later=timedelta(hours=hours))

    @rule(page=pages, limit=st.integers(1, 20))
    def a_publication_is_left_unfinished(self, page: Page, limit: int) -> None:
        self._commit(page)
        self.books.publish_some(limit)

    @rule(page=pages)
    def the_first_load_of_a_stream_comes_late(self, page: Page) -> None:
        self.books.commit(*page[0], deleted=page[1], defer=True)
        self._last = page
        self._count(1)
        self.books.rebuild()

    @rule(is_other=st.booleans())
    def other_rates_are_configured(self, is_other: bool) -> None:
        self.books.configure(OTHER_RATES if is_other else SETTINGS)
        self.books.rebuild()

    @rule(place=st.integers(0, 200))
    def a_family_is_built_anew(self, place: int) -> None:
        self.books.check()  # so that it is seen which of both ways is wrong
        names = sorted(self.books.catalog.families)
        with writing(self.books.engine) as conn:
            rebuild(conn, self.books.catalog, [names[place % len(names)]])

    # ---- what must be true

    @invariant()
    def every_value_is_what_a_recomputation_finds(self) -> None:
        self.books.publish()
        self.books.verify()

    def teardown(self) -> None:
        """At the end of a history the cells are those of a rebuild, too."""
        self.books.check()

    # ---- how it goes

    def _commit(self, page: Page) -> None:
        self.books.commit(*page[0], deleted=page[1])
        self._last = page
        self._count(1)

    @classmethod
    def _count(cls, batches: int) -> None:
        cls.committed += batches
        if cls.committed % 20 < batches:
            taken = time.monotonic() - cls.started
            sys.stderr.write(f"\r{cls.committed} batches, {taken:.0f} s ")


def _empty(books: Books) -> None:
    with writing(books.engine) as conn:
        for table in reversed(METADATA.sorted_tables):
            conn.execute(table.delete())


@pytest.fixture
def machine(database_url: str) -> Iterator[type[Histories]]:
    books = Books(database_url, SETTINGS)
    attributes = {"books": books, "url": database_url, "committed": 0, "started": time.monotonic()}
    yield type("HistoriesOfOneStore", (Histories,), attributes)
    books.close()


def _run(machine: type[Histories], *, examples: int, steps: int, number: int) -> None:
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )


def test_histories_hold_every_stream_and_every_formula_there_is(machine: type[Histories]) -> None:
    made: set[str] = set()

    @seed(1)
    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(some=st.lists(records, min_size=20, max_size=20))
    def make(some: list[CanonicalRecord]) -> None:
        made.update(record.STREAM for record in some)

    make()

    kept = {family.formula for family in machine.books.catalog.families.values()}
    read = {stream for streams in STREAMS.values() for stream in streams}
    assert kept >= set(CONTRIBUTIONS), "histories do not keep every formula"
    assert made >= read, "histories do not hold every stream that is read"


def test_after_each_step_of_a_short_history_every_value_is_exact(machine: type[Histories]) -> None:
    _run(machine, examples=1, steps=6, number=SEED)


@pytest.mark.slow
@pytest.mark.timeout(0)  # as long as so many batches take
def test_after_each_step_of_long_histories_every_value_is_exact(machine: type[Histories]) -> None:
    number = SEED
    while machine.committed < BATCHES:
        _run(machine, examples=8, steps=STEPS, number=number)
        number += 1
    sys.stderr.write(f"\n{machine.committed} batches on {machine.url.split(':')[0]}\n")
