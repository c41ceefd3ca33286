"""What time alone changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from metrics import clock
from metrics.catalog import PACKS, build
from metrics.catalog.examples import answer, contract, lead
from metrics.definition import Bucket, DatedRate, KpiSettings, OwnSettings
from store.engine import reading
from tests.pipeline.metrics.books import BERLIN, Books, deal, entered, stage, won

ROLLING = ("won_value", "buyers", "stage_conversion", "reopen_rate", "sales_cycle_days_median")
SETTINGS = KpiSettings(
    company=BERLIN,
    use=tuple(PACKS),
    periods=("month", "quarter"),
    rolling={
        **dict.fromkeys(ROLLING, ("last_30d",)),
        "cltv": ("last_365d",),
        "retention_rate": ("last_60d",),
        "customers_start": ("last_60d",),
        "customers_lost": ("last_60d",),
        "contract_churn_rate": ("last_60d",),
    },
    own={"upsell_rate": OwnSettings(of="customers")},
    dated_rates=(
        DatedRate(currency="USD", since=date(2024, 1, 1), rate=Decimal("0.5")),
        DatedRate(currency="USD", since=date(2024, 4, 10), rate=Decimal("0.9")),
    ),
)
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database, SETTINGS)
    made.now = NOON
    yield made
    made.close()


def _company(books: Books) -> None:
    books.commit(
        stage("offer"),
        won("D1", date(2023, 12, 5), account="A", amount=100),
        won("D2", date(2024, 2, 20), account="A", amount=50),
        won("D3", date(2024, 1, 2), account="B", amount=30),
        won("D4", date(2024, 8, 1), account="B", amount=30),
        deal("D5", stage="offer", created=NOON),
        entered("D5", "offer", NOON),
        deal("D6", stage="offer", created=NOON + timedelta(days=3), currency="USD"),
        lead(1, qualified=date(2024, 1, 9)),
        lead(2, qualified=date(2024, 2, 9)),
        answer(1, "9"),
        answer(2, "3", day=date(2024, 2, 3)),
        contract(1, "A", date(2023, 6, 1), date(2024, 2, 1)),
        contract(2, "A", date(2024, 2, 15), None),
        contract(3, "B", date(2024, 1, 20), date(2024, 6, 1)),
        *(
            change
            for number in range(20)
            for change in (
                entered(f"E{number}", "offer", NOON - timedelta(days=40)),
                entered(f"E{number}", "won", NOON - timedelta(days=30)),
                entered(f"F{number}", "offer", NOON),
                entered(f"F{number}", "won", NOON + timedelta(days=20 + number)),
            )
        ),
        *(deal(f"{name}{number}", stage="won") for name in "EF" for number in range(20)),
    )


def test_every_value_that_the_clock_can_move_is_among_those_looked_at() -> None:
    catalog = build(SETTINGS)

    clocked = {
        kpi.name
        for bundle in catalog.bundles
        for kpi in bundle.kpis
        if bundle.is_up_to_now or any(one.bucket is Bucket.INSTANT for one in bundle.families)
    }

    assert clocked == {
        *("retention_rate", "churn_rate", "contract_retention_rate", "contract_churn_rate"),
        *("customers_start", "customers_end", "customers_new_or_back", "customers_lost"),
        *("stalled_count", "stalled_value", "is_stalled", "stage_age_days", "pipeline_velocity"),
        *("customer_lifespan_days", "cltv", "ltv_cac", "upsell_rate", "bottleneck"),
        *("nps_change", "lead_velocity_rate"),
        *("buyers", "stage_conversion", "reopen_rate"),
    }


def test_a_year_without_edits_is_at_every_instant_what_a_recomputation_finds(books: Books) -> None:
    _company(books)
    books.publish()

    for step in (timedelta(hours=7), timedelta(days=1), timedelta(days=29, minutes=1)):
        for _ in range(2):
            books.publish(later=step)
            books.check()
    while books.now < NOON + timedelta(days=366):
        books.publish(later=timedelta(days=61))
        books.check()

    assert books.number("is_stalled", "now", "deal", "crm:D5") == 1
    assert books.number("retention_rate", "2024-Q2") == 0


def test_values_change_at_the_instant_that_was_foretold_and_not_before(books: Books) -> None:
    _company(books)
    books.publish()
    changes = 0

    for _ in range(40):
        with reading(books.engine) as conn:
            following = clock.next_change(conn, books.catalog, books.now)
        assert following is not None
        just_before = books.publish(later=following - books.now - timedelta(microseconds=1))
        assert just_before.changed == 0, following
        changes += books.publish(later=timedelta(microseconds=1)).changed

    books.check()
    assert changes > 0


def test_a_deal_is_stalled_after_thirty_days_and_not_at_them(books: Books) -> None:
    books.commit(deal("D5", stage="offer", created=NOON))
    books.publish(later=timedelta(days=30))
    at_thirty = books.number("stalled_count", "now")
    books.publish(later=timedelta(microseconds=1))

    assert at_thirty == 0
    assert books.number("stalled_count", "now") == 1


def test_a_rolling_window_loses_a_day_at_local_midnight(books: Books) -> None:
    # Not at the end of a month, which would look at every group anyway.
    books.commit(won("D1", date(2024, 1, 10), amount=100))
    books.publish(later=datetime(2024, 2, 8, 22, 59, tzinfo=UTC) - books.now)
    last_evening = books.number("won_value", "last_30d")
    books.publish(later=timedelta(minutes=1))

    assert last_evening == 100
    assert books.number("won_value", "last_30d") == 0
    assert books.number("buyers", "last_30d") == 0


def test_work_of_a_clock_move_is_proportional_to_what_changes(books: Books) -> None:
    books.commit(*(won(f"D{n}", date(2024, 1, 2), account=f"A{n}", amount=1) for n in range(50)))
    books.publish()

    quiet = books.publish(later=timedelta(minutes=5))
    midnight = books.publish(later=timedelta(days=1))

    assert quiet.changed + quiet.unchanged == 0
    assert midnight.changed + midnight.unchanged < 40


def test_a_new_rate_changes_the_values_of_its_currency_from_its_day_on(
    sqlite_database: str,
) -> None:
    def rate(day: date, value: str) -> DatedRate:
        return DatedRate(currency="USD", since=day, rate=Decimal(value))

    january, march = rate(date(2024, 1, 1), "0.5"), rate(date(2024, 3, 1), "2")
    settings = KpiSettings(company=BERLIN, use=("won_value",), dated_rates=(january,))
    books = Books(sqlite_database, settings)
    books.commit(
        won("D1", date(2023, 6, 1), amount=10, currency="USD"),
        won("D2", date(2024, 2, 29), amount=10, currency="USD"),
        won("D3", date(2024, 3, 1), amount=10, currency="USD"),
        won("D4", date(2024, 3, 1), amount=10, currency="XTS"),
        won("D5", date(2024, 3, 1), amount=10),
    )
    books.publish()
    before = books.number("won_value", "2024-03")

    books.configure(KpiSettings(company=BERLIN, use=("won_value",), dated_rates=(january, march)))
    books.publish()

    assert before == 15
    assert books.number("won_value", "2023-06") == 5, "before the first rate the first one applies"
    assert books.number("won_value", "2024-02") == 5
    assert books.number("won_value", "2024-03") == 30
    missing = books.value("won_value", "2024-03")
    assert missing is not None
    assert missing.left_out == {"no_rate": 1}
    books.check()
    books.close()
