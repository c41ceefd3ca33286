from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metrics.definition import KpiSettings, OwnSettings, WorkingHours
from store.engine import writing
from store.tables import (
    CELLS,
    DIRTY_KEYS,
    FAMILIES,
    IDENTITY,
    KPI_VALUES,
    RECORD_TABLES,
    WORKING_DAYS,
)
from tests.pipeline.metrics.books import BERLIN, Books
from tests.pipeline.metrics.histories import Page, pages

ALL_MODELS = OwnSettings(models=("first", "last", "linear", "primary"))
WORK = WorkingHours(
    weekdays=frozenset(range(5)),
    opens=time(9),
    closes=time(17, 30),
    holidays=frozenset({date(2024, 1, 1), date(2024, 3, 29)}),
)

EVERYTHING = KpiSettings(
    company=BERLIN,
    use=("sales", "customer", "marketing", "service"),
    periods=("week", "month", "fiscal_quarter"),
    fiscal_year_starts=2,
    rates={"JPY": Decimal("0.0061")},
    rates_from="crm",
    working_hours=WORK,
    match_owners_by_email=True,
    own={
        "campaign_revenue": ALL_MODELS,
        "campaign_deals": ALL_MODELS,
        "campaign_roi": ALL_MODELS,
        "campaign_cac": ALL_MODELS,
        "retention_rate": OwnSettings(window=40),
        "resolution_hours": OwnSettings(clock="business_hours"),
        "cltv": OwnSettings(margin=Decimal("0.3")),
        "email_revenue_per_delivered": OwnSettings(models=("linear",)),
    },
    by={
        "buyers": (("owner",), ("account",), ("product", "region")),
        "win_rate": (("team",), ("owner", "region"), ("account",)),
        "weighted_pipeline": (("stage",), ("owner",)),
        "campaign_revenue_linear": (("channel",), ("campaign", "owner")),
        "tickets_created": (("team",), ("account", "category")),
        "nps": (("contact",), ("account",), ("kind",)),
        "won_value": (("tier",), ("owner", "tier")),
        "new_customers": (("owner",), ("product",), ("tier",)),
        "time_in_stage_days_median": (("stage", "tier"),),
        "campaign_deals_linear": (("tier",),),
        "campaign_revenue_primary": (("tier",),),
        "retention_rate": (("tier",),),
        "resolution_hours": (("line",), ("status",)),
        "reopen_rate": (("line",),),
        "leads_created": (("status",),),
    },
    fields={
        "deals": ("tier",),
        "tickets": ("line", "status"),
        "leads": ("status",),
        "survey_responses": ("kind",),
    },
    rolling={
        "won_value": ("last_90d",),
        "buyers": ("last_30d", "last_90d"),
        "cltv": ("last_365d",),
        "nps_change": ("last_90d",),
        "lead_velocity_rate": ("last_30d",),
        "sales_cycle_days_median": ("last_90d",),
        "retention_rate": ("last_30d",),
        "customers_lost": ("last_90d",),
        "contract_churn_rate": ("last_30d",),
        "stage_conversion": ("last_90d",),
        "reopen_rate": ("last_90d",),
    },
)

EXAMPLES = int(os.environ.get("KPISYNC_TEST_EXAMPLES", "8"))
"""More for a campaign of one's own."""


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, EVERYTHING)
    yield made
    made.close()


def _empty(books: Books) -> None:
    with writing(books.engine) as conn:
        for table in (
            *RECORD_TABLES.values(),
            *(IDENTITY, CELLS, DIRTY_KEYS, KPI_VALUES, FAMILIES, WORKING_DAYS),
        ):
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
    publishing=st.lists(st.sampled_from(["not at all", "a step", "wholly", "days later"])),
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
        elif how == "days later":
            books.publish(later=timedelta(days=31, hours=5))
    books.publish()

    books.check()
