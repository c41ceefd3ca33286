from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metrics.definition import KpiSettings
from metrics.explain import explain
from metrics.expression.definition import Written
from store.engine import reading, writing
from store.kpis import Place
from store.tables import CELLS, DIRTY_KEYS, FAMILIES, IDENTITY, KPI_VALUES, RECORD_TABLES
from tests.pipeline.metrics.books import BERLIN, Books
from tests.pipeline.metrics.expressions import Page, kpis, pages

EXAMPLES = int(os.environ.get("KPISYNC_TEST_EXAMPLES", "6"))
"""More for a campaign of one's own."""

EXPLAINED = 3
"""Values of each history whose records are counted again, more or less."""


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, KpiSettings(company=BERLIN, use=()))
    yield made
    made.close()


def _begin(books: Books, custom: tuple[Written, ...]) -> None:
    with writing(books.engine) as conn:
        for table in (
            *RECORD_TABLES.values(),
            *(IDENTITY, CELLS, DIRTY_KEYS, KPI_VALUES, FAMILIES),
        ):
            conn.execute(table.delete())
    books.configure(
        KpiSettings(
            company=BERLIN,
            use=(),
            periods=("week", "month"),
            rates={"JPY": Decimal("0.0061"), "USD": Decimal("0.5")},
            rates_from="crm",
            match_owners_by_email=True,
            custom=custom,
        )
    )
    books.rebuild()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(
    custom=kpis(),
    history=st.lists(pages, min_size=1, max_size=5),
    publishing=st.lists(st.sampled_from(["not at all", "a step", "wholly", "days later"])),
)
def test_any_custom_kpi_over_any_history_equals_a_rebuild_and_an_evaluation_record_by_record(
    books: Books, custom: tuple[Written, ...], history: list[Page], publishing: list[str]
) -> None:
    _begin(books, custom)

    for page, how in itertools.zip_longest(history, publishing[: len(history)]):
        books.commit(*page[0], deleted=page[1])
        if how == "a step":
            books.publish_some(limit=3)
        elif how == "wholly":
            books.publish(limit=50)
        elif how == "days later":
            books.publish(later=timedelta(days=13, hours=5))
    books.publish()

    books.check()
    for value in list(books.current().values())[:: max(1, len(books.current()) // EXPLAINED)]:
        place = Place(value.kpi, value.dimension, value.key, value.period)
        with reading(books.engine) as conn:
            assert explain(conn, books.catalog, place).is_proven
