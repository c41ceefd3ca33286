"""DuckDB as another engine: what it makes of the records equals cells and values, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from metrics.verify import duck
from metrics.verify.duck import DuckVerification
from store.canonical import Lead
from store.engine import reading, writing
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from store.tables import CELLS, KPI_VALUES
from tests.pipeline.metrics.books import Books, account, deal, entered, key, owner, ref, stage, won
from tests.pipeline.metrics.histories import Page, pages
from tests.pipeline.metrics.test_explain import seeded_company
from tests.pipeline.metrics.test_incremental import EVERYTHING
from tests.pipeline.metrics.test_incremental import _empty as emptied

pytest.importorskip("duckdb")

PLAIN = replace(EVERYTHING, match_owners_by_email=False)
SMALL = replace(
    PLAIN,
    use=("sales", "service", "cost", "email_open_rate"),
    skip=(),
    periods=("month",),
    by={},
    own={},
    rolling={},
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    made = Books(f"sqlite:///{tmp_path_factory.mktemp('duck')}/store.db", PLAIN)
    yield made
    made.close()


def verified(books: Books) -> DuckVerification:
    with reading(books.engine) as conn:
        return duck.verify(conn, books.catalog, as_of=books.now)


@pytest.fixture
def company(database_url: str) -> Iterator[Books]:
    books = Books(database_url, SMALL)
    books.commit(*seeded_company(7, deals=50))
    books.commit(
        account("C1", merged_into="C2"),
        account("C2", merged_into="C1"),
        account("gone", deleted=True),
        stage("late", is_closed=True),
        won("circle", account="C1", amount="0.01", currency="JPY"),
        won("of nobody", account="gone", product='a,"b\\'),
        won("undated", None, stage="late"),
        entered("undated", "late", books.now - timedelta(days=100)),
        deal("empty", region="", currency=""),
    )
    books.commit(deleted=[ref("deals", "D1")])
    books.publish()
    yield books
    books.close()


def test_people_and_customers_of_two_crms_are_left_to_python_and_called_no_difference(
    sqlite_database: str,
) -> None:
    rules = IdentityRules(
        {
            "accounts": StreamRules(
                (MatchRule("domain", "domain website", (("*", "domain"),)),), ("crm", "other")
            )
        }
    )
    books = Books(
        sqlite_database,
        replace(SMALL, use=("marketing",), match_owners_by_email=True, matching=rules),
    )
    books.commit(
        owner("ana", email="ana@example.com"),
        owner("other:ana", email="ana@example.com"),
        replace(account("A"), domain="customer.example"),
        replace(account("other:A"), domain="customer.example"),
        *(
            Lead(ref=ref("leads", name), owner=key(by), source="web", created_at=books.now)
            for name, by in (("L1", "ana"), ("L2", "other:ana"))
        ),
    )
    books.publish()

    found = verified(books)
    books.close()

    assert found.differences == []
    assert found.cells > 0


def test_duckdb_makes_the_stored_cells_and_values_and_finds_a_wrong_one_of_each_in_its_place(
    company: Books,
) -> None:
    sound = verified(company)
    with writing(company.engine) as conn:
        conn.execute(
            update(CELLS)
            .where(CELLS.c.family == "deals_closed", CELLS.c.dimension == "owner")
            .where(CELLS.c.key == "crm:rep1")
            .values(m1=CELLS.c.m1 + 1)
        )
        conn.execute(
            update(KPI_VALUES)
            .where(KPI_VALUES.c.kpi == "won_value", KPI_VALUES.c.period == "all")
            .where(KPI_VALUES.c.dimension == "all")
            .values(value=1)
        )

    found = verified(company).differences

    assert sound.differences == []
    assert sound.cells > 500
    assert sound.values > 1_000
    assert {"win_rate", "won_count", "weighted_pipeline", "completion_rate"} <= sound.kpis
    assert {"time_in_stage_days_p90", "reopened_count", "stages_per_deal"} <= sound.kpis
    assert sound.in_python.isdisjoint(sound.kpis)
    assert "stage_conversion" in sound.words(99)
    assert {(one.kpi, one.dimension) for one in found} == {
        ("cells of deals_closed", "owner"),
        ("won_value", "all"),
    }
    assert {one.key for one in found} == {"crm:rep1", "*"}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(history=st.lists(pages, min_size=2, max_size=6))
def test_after_any_history_duckdb_finds_cells_and_values_as_they_are(
    everything: Books, history: list[Page]
) -> None:
    emptied(everything)
    for page in history:
        everything.commit(*page[0], deleted=page[1])
    everything.publish()

    assert verified(everything).differences == []
