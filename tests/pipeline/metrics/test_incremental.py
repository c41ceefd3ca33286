from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metrics.definition import KpiSettings
from store.canonical import CanonicalRecord, RecordRef
from store.engine import writing
from store.tables import (
    ACCOUNTS,
    CELLS,
    DEAL_STAGE_CHANGES,
    DEALS,
    DIRTY_KEYS,
    FAMILIES,
    IDENTITY,
    KPI_VALUES,
    OWNERS,
    STAGES,
)
from tests.pipeline.metrics.books import (
    BERLIN,
    Books,
    account,
    deal,
    entered,
    owner,
    ref,
    stage,
)

EVERYTHING = KpiSettings(
    company=BERLIN,
    periods=("day", "week", "month", "quarter", "year", "fiscal_quarter"),
    fiscal_year_starts=2,
    rates={"USD": Decimal("0.921234567890123456789012345"), "JPY": Decimal("0.0061")},
    match_owners_by_email=True,
    by={
        "buyers": (("owner",), ("account",), ("product", "region")),
        "new_customers": (("owner",), ("product",)),
        "win_rate": (("owner",), ("owner", "region"), ("account",)),
        "weighted_pipeline": (("stage",), ("owner",)),
    },
)

DEAL_NAMES = [f"D{number}" for number in range(6)]
ACCOUNT_NAMES = ["A", "B", "C", "hub:A", "hub:D0"]
OWNER_NAMES = ["ana", "ben", "hub:ana"]
STAGE_NAMES = ["new", "offer", "won", "odd"]
INSTANTS = [
    datetime(2023, 12, 31, 22, 59, tzinfo=UTC),
    datetime(2023, 12, 31, 23, 30, tzinfo=UTC),
    datetime(2024, 1, 31, 12, tzinfo=UTC),
    datetime(2024, 3, 31, 0, 30, tzinfo=UTC),
    datetime(2024, 3, 31, 1, 30, 0, 5, tzinfo=UTC),
]
DATES = [date(2023, 12, 31), date(2024, 1, 1), date(2024, 2, 29), date(2024, 3, 31)]

EXAMPLES = int(os.environ.get("KPISYNC_TEST_EXAMPLES", "12"))
"""More for a campaign of one's own."""

USED_RECORDS = (DEALS, DEAL_STAGE_CHANGES, ACCOUNTS, OWNERS, STAGES)

outcomes = st.sampled_from(["open", "won", "lost"])


@st.composite
def deals(draw: st.DrawFn) -> CanonicalRecord:
    outcome = draw(outcomes)
    amount = draw(st.sampled_from([None, 0, 1, 100, "12.34", -5]))
    return deal(
        draw(st.sampled_from(DEAL_NAMES)),
        account=draw(st.sampled_from([None, *ACCOUNT_NAMES])),
        owner=draw(st.sampled_from([None, *OWNER_NAMES])),
        stage=draw(st.sampled_from([None, *STAGE_NAMES])),
        pipeline=draw(st.sampled_from([None, "sales"])),
        is_closed=outcome != "open",
        is_won=outcome == "won",
        amount=amount,
        currency=draw(st.sampled_from([None, "", "EUR", "USD", "JPY", "XTS"])),
        created=draw(st.sampled_from([None, *INSTANTS])),
        close_date=draw(st.sampled_from([None, *DATES])),
        closed_at=draw(st.sampled_from([None, *INSTANTS])),
        probability=draw(st.sampled_from([None, "0", "0.1", "0.333333"])),
        product=draw(st.sampled_from([None, "pump", "a,b", "a\\,b"])),
        region=draw(st.sampled_from([None, "EMEA", ""])),
        deleted=draw(st.booleans()) and draw(st.booleans()),
        merged_into=draw(st.sampled_from([None, None, None, None, "D5"])),
    )


@st.composite
def accounts(draw: st.DrawFn) -> CanonicalRecord:
    return account(
        draw(st.sampled_from(ACCOUNT_NAMES)),
        label=draw(st.sampled_from([None, "Renamed"])),
        deleted=draw(st.booleans()),
        merged_into=draw(st.sampled_from([None, None, *ACCOUNT_NAMES, "gone"])),
    )


@st.composite
def owners(draw: st.DrawFn) -> CanonicalRecord:
    return owner(
        draw(st.sampled_from(OWNER_NAMES)),
        email=draw(st.sampled_from([None, "ana@example.com", " ANA@example.com", "b@example.com"])),
    )


@st.composite
def changes(draw: st.DrawFn) -> CanonicalRecord:
    at = draw(st.sampled_from(INSTANTS))
    return entered(
        draw(st.sampled_from(DEAL_NAMES)),
        draw(st.sampled_from(STAGE_NAMES)),
        at,
        name=f"C{draw(st.integers(0, 9))}",
        deleted=draw(st.booleans()) and draw(st.booleans()),
    )


@st.composite
def stages(draw: st.DrawFn) -> CanonicalRecord:
    return stage(draw(st.sampled_from(STAGE_NAMES[:3])), is_closed=draw(st.booleans()))


records = st.one_of(deals(), deals(), deals(), changes(), changes(), accounts(), owners(), stages())
deletions = st.one_of(
    st.sampled_from([ref("deals", name) for name in DEAL_NAMES]),
    st.sampled_from([ref("accounts", name) for name in ACCOUNT_NAMES]),
    st.sampled_from([ref("deal_stage_changes", f"C{number}") for number in range(10)]),
)
Page = tuple[list[CanonicalRecord], list[RecordRef]]
pages = st.tuples(st.lists(records, max_size=8), st.lists(deletions, max_size=2))


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, EVERYTHING)
    yield made
    made.close()


def _empty(books: Books) -> None:
    with writing(books.engine) as conn:
        for table in (*USED_RECORDS, IDENTITY, CELLS, DIRTY_KEYS, KPI_VALUES, FAMILIES):
            conn.execute(table.delete())
    books.rebuild()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(
    history=st.lists(pages, min_size=1, max_size=6),
    publishing=st.lists(st.sampled_from(["not at all", "a step", "wholly"])),
)
def test_any_history_of_pages_leaves_cells_and_values_as_a_rebuild_makes_them(
    books: Books, history: list[Page], publishing: list[str]
) -> None:
    _empty(books)

    for page, how in itertools.zip_longest(history, publishing[: len(history)]):
        books.commit(*page[0], deleted=page[1])
        if how == "a step":
            books.publish_some(limit=5)
        elif how == "wholly":
            books.publish(limit=50)
    books.publish()

    books.check()
