from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from metrics.catalog import MODELS, available
from metrics.definition import Kpi, KpiSettings, OwnSettings
from metrics.values import KpiValue
from store.canonical import Company
from tests.pipeline.metrics.books import (
    BERLIN,
    Books,
    account,
    deal,
    entered,
    lost,
    stage,
    won,
)

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
KPIS = [kpi for _, kpi in sorted(available().items())]


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database)
    yield made
    made.check()
    made.close()


@pytest.mark.parametrize("kpi", KPIS, ids=[kpi.name for kpi in KPIS])
def test_the_worked_example_of_a_kpi_gives_its_value_vanishes_and_comes_back(
    sqlite_database: str, kpi: Kpi
) -> None:
    models = {} if kpi.base is None else {kpi.base: OwnSettings(models=MODELS)}
    books = Books(sqlite_database, KpiSettings(company=BERLIN, use=(kpi.name,), own=models))
    example = kpi.example
    books.now = (example.at or books.now) - timedelta(minutes=1)

    def seen(later: timedelta = timedelta(seconds=1)) -> KpiValue:
        books.publish(later=later)
        found = books.value(kpi.name, example.period, example.dimension, example.key)
        assert found is not None
        return found

    books.commit(*example.records)
    first = seen(timedelta(minutes=1))
    books.commit(deleted=[record.ref for record in example.records])
    gone = seen()
    books.commit(*example.records)
    again = seen()

    assert (first.value, first.words) == (example.value, example.words)
    # No denominator, no value; a count or a sum of nothing is nothing.
    assert (gone.value, gone.n) == (0 if kpi.empties_to_zero else None, 0)
    assert replace(again, as_of=first.as_of) == first
    books.check()
    books.close()


# ---------------------------------------------------------------- no denominator, unknown amounts


def test_a_rate_of_nothing_is_no_value_and_no_row(books: Books) -> None:
    books.commit(deal("D1"))
    books.publish()

    assert books.value("win_rate") is None
    assert books.value("avg_deal_value") is None
    assert books.value("won_count") is None


def test_won_deals_without_amounts_have_a_count_but_no_average(books: Books) -> None:
    books.commit(won("D1", amount=None), won("D2", amount=None))
    books.publish()

    average = books.value("avg_deal_value")
    assert average is not None
    assert (average.value, average.n, average.left_out) == (None, 0, {"no_amount": 2})
    assert books.number("won_value") == 0
    assert books.number("won_count") == 2


def test_lost_deals_worth_nothing_leave_the_rate_by_value_without_denominator(books: Books) -> None:
    books.commit(lost("D1", amount=0))
    books.publish()

    by_value = books.value("win_rate_value")
    assert by_value is not None
    assert (by_value.value, by_value.denominator, by_value.n) == (None, 0, 1)
    assert books.number("win_rate") == 0


def test_means_of_a_year_come_from_its_sums_and_not_from_its_months(books: Books) -> None:
    books.commit(
        won("D1", date(2024, 1, 5), amount=100),
        won("D2", date(2024, 2, 5), amount=10),
        won("D3", date(2024, 2, 6), amount=10),
    )
    books.publish()

    assert books.number("avg_deal_value", "2024-01") == 100
    assert books.number("avg_deal_value", "2024-02") == 10
    assert books.number("avg_deal_value", "2024-Q1") == 40


def test_quotients_are_rounded_once_half_up_at_28_digits(books: Books) -> None:
    books.commit(won("D1"), lost("D2"), lost("D3"))
    books.publish()

    rate = books.value("win_rate")
    assert rate is not None
    assert rate.to_json()["value"] == "0.3333333333333333333333333333"
    assert (rate.to_json()["numerator"], rate.to_json()["denominator"]) == ("1", "3")


def test_a_manager_rate_comes_from_the_sums_of_the_team(sqlite_database: str) -> None:
    books = Books(
        sqlite_database,
        KpiSettings(company=BERLIN, by={"win_rate_value": (("region",), ("owner", "region"))}),
    )

    books.commit(
        won("D1", owner="ana", region="EMEA", amount=4000),
        lost("D2", owner="ben", region="EMEA", amount=3000),
        lost("D3", owner="ben", region="North, far", amount=1),
    )
    books.publish()

    rate = books.number("win_rate_value", dimension="region", key="EMEA")
    assert rate is not None
    assert round(rate, 4) == Decimal("0.5714")
    assert books.number("win_rate_value", dimension="owner,region", key="crm:ana,EMEA") == 1
    label = books.value("win_rate_value", dimension="owner,region", key="crm:ben,North\\, far")
    assert label is not None
    assert label.label == "crm:ben, North, far"
    books.close()


# ---------------------------------------------------------------- moves, deletions, re-openings


def test_a_deal_that_changes_owner_takes_its_past_along(books: Books) -> None:
    books.commit(won("D1", owner="ana", amount=100), won("D2", owner="ben", amount=1))
    books.publish()

    books.commit(won("D1", owner="ben", amount=100))
    books.publish()

    assert books.number("won_value", dimension="owner", key="crm:ana") == 0
    assert books.number("avg_deal_value", dimension="owner", key="crm:ana") is None
    assert books.number("won_value", dimension="owner", key="crm:ben") == 101
    assert books.number("won_value", "2024-03", "owner", "crm:ben") == 101


def test_a_reopened_deal_leaves_the_closed_numbers_until_it_is_closed_again(books: Books) -> None:
    books.commit(won("D1", date(2024, 3, 10)))
    books.publish()

    books.commit(deal("D1", close_date=date(2024, 5, 1)))
    books.publish()
    reopened = books.current()
    books.commit(lost("D1", date(2024, 5, 2)))
    books.publish()

    assert reopened["won_count", "all", "all", "*"].value == 0
    assert reopened["win_rate", "all", "all", "*"].value is None
    assert reopened["open_count", "now", "all", "*"].value == 1
    assert books.number("lost_count", "2024-05") == 1
    assert books.number("open_count", "now") == 0


def test_a_deleted_deal_does_not_exist_until_it_comes_back(books: Books) -> None:
    first = won("D1", amount=70)
    books.commit(first)
    books.publish()

    books.commit(deleted=[first.ref])
    books.publish()
    gone = books.number("revenue")
    books.commit(first)
    books.publish()

    assert gone == 0
    assert books.number("revenue") == 70


def test_a_merged_deal_counts_as_its_winner_only(books: Books) -> None:
    books.commit(won("D1", amount=70), won("D2", amount=70, merged_into="D1"))
    books.publish()

    assert books.number("won_count") == 1


def test_a_deal_that_is_won_but_not_closed_is_open(books: Books) -> None:
    books.commit(deal("D1", is_won=True))
    books.publish()

    assert books.number("open_count", "now") == 1
    assert books.value("won_count") is None


# ---------------------------------------------------------------- days


@pytest.mark.parametrize(
    ("zone", "month"),
    [("Europe/Berlin", "2024-04"), ("America/Los_Angeles", "2024-03"), ("Asia/Tokyo", "2024-04")],
)
def test_an_instant_belongs_to_the_local_day_it_falls_on(
    sqlite_database: str, zone: str, month: str
) -> None:
    books = Books(sqlite_database, KpiSettings(company=Company(ZoneInfo(zone), "EUR")))
    before_midnight_utc = datetime(2024, 3, 31, 22, 30, tzinfo=UTC)

    books.commit(deal("D1", is_closed=True, closed_at=before_midnight_utc))
    books.commit(deal("D2", created=before_midnight_utc))
    books.publish()

    assert books.number("lost_count", month) == 1
    assert books.number("deals_created", month) == 1
    books.check()
    books.close()


def test_a_date_without_time_never_shifts(sqlite_database: str) -> None:
    for number, zone in enumerate(("Pacific/Kiritimati", "Pacific/Pago_Pago")):
        company = Company(ZoneInfo(zone), "EUR")
        books = Books(f"{sqlite_database}{number}", KpiSettings(company=company, periods=("day",)))

        books.commit(won("D1", date(2024, 1, 1)))
        books.publish()

        assert books.number("won_count", "2024-01-01") == 1
        books.close()


def test_days_of_23_and_25_hours_are_one_day_each(sqlite_database: str) -> None:
    books = Books(sqlite_database, KpiSettings(company=BERLIN, periods=("day",)))
    first_minute = datetime(2024, 3, 30, 23, tzinfo=UTC)  # 00:00 in Berlin, the clock then jumps
    last_minute = datetime(2024, 3, 31, 21, 59, tzinfo=UTC)
    autumn = datetime(2024, 10, 26, 22, tzinfo=UTC)

    books.commit(
        deal("D1", created=first_minute),
        deal("D2", created=last_minute),
        deal("D3", created=autumn),
        deal("D4", created=autumn + timedelta(hours=24, minutes=59)),
    )
    books.publish()

    assert books.number("deals_created", "2024-03-31") == 2
    assert books.number("deals_created", "2024-10-27") == 2
    books.close()


def test_a_closed_deal_without_any_close_date_counts_only_in_all(books: Books) -> None:
    books.commit(won("D1", None))
    books.publish()

    counted = {period for kpi, period, *_ in books.current() if kpi in {"won_count", "buyers"}}
    assert counted == {"all"}
    cycle = books.value("sales_cycle_days")
    assert cycle is not None
    assert (cycle.value, cycle.left_out) == (None, {"no_date": 1})


def test_a_closed_deal_without_a_close_date_counts_when_it_last_entered_a_closed_stage(
    books: Books,
) -> None:
    books.commit(stage("open"), stage("won", is_closed=True), won("D1", None, stage="won"))
    books.publish()
    assert books.value("won_count", "2024-05") is None

    books.commit(
        entered("D1", "open", datetime(2024, 4, 1, 12, tzinfo=UTC)),
        entered("D1", "won", datetime(2024, 4, 20, 12, tzinfo=UTC)),
        entered("D1", "open", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        entered("D1", "won", datetime(2024, 5, 7, 12, tzinfo=UTC)),
        entered("D1", "won", datetime(2024, 6, 7, 12, tzinfo=UTC)),
    )
    books.publish()

    assert books.number("won_count", "2024-05") == 1
    assert books.value("won_count", "2024-06") is None

    books.commit(stage("won", is_closed=False))
    books.publish()

    assert books.number("won_count", "2024-05") == 0
    assert books.number("won_count", "all") == 1


def test_negative_cycles_are_left_out_and_counted_apart(books: Books) -> None:
    books.commit(won("D1", date(2024, 1, 1)), won("D2", date(2024, 1, 12)))
    books.publish()

    cycle = books.value("sales_cycle_days")
    assert cycle is not None
    assert (cycle.value, cycle.n, cycle.left_out) == (10, 1, {"negative_duration": 1})


# ---------------------------------------------------------------- currencies


def test_a_currency_without_a_rate_is_an_unknown_amount(sqlite_database: str) -> None:
    settings = KpiSettings(company=BERLIN, rates={"USD": Decimal("0.92"), "JPY": Decimal("0.0061")})
    books = Books(sqlite_database, settings)

    books.commit(
        won("D1", amount=100),
        won("D2", amount=100, currency="USD"),
        won("D3", amount=1000, currency="JPY"),
        won("D4", amount=100, currency="XTS"),
        won("D5", amount=None),
    )
    books.publish()
    value = books.value("won_value")
    books.configure(replace(settings, rates={"USD": Decimal(1)}))
    books.publish()
    revalued = books.value("won_value")

    assert value is not None
    assert revalued is not None
    assert value.value == 100 + 92 + Decimal("6.1")
    assert (value.n, value.left_out) == (3, {"no_amount": 1, "no_rate": 1})
    assert value.currency == "EUR"
    assert (revalued.value, revalued.left_out) == (200, {"no_amount": 1, "no_rate": 2})
    assert books.number("won_count") == 5
    books.check()
    books.close()


def test_minor_units_follow_the_currency(sqlite_database: str) -> None:
    books = Books(sqlite_database, KpiSettings(company=Company(ZoneInfo("Asia/Kuwait"), "KWD")))

    books.commit(won("D1", amount="1.234"), won("D2", amount="0.001"))
    books.publish()

    assert books.number("revenue") == Decimal("1.235")
    books.check()
    books.close()


def test_sums_of_large_amounts_are_exact(books: Books) -> None:
    amounts = ["9999999999999.99", "0.01", "9999999999999.98", "123456789.01"]
    books.commit(*(won(f"D{number}", amount=amount) for number, amount in enumerate(amounts)))
    books.publish()

    assert books.number("revenue") == sum(map(Decimal, amounts))


# ---------------------------------------------------------------- open deals


def test_deals_without_a_probability_are_left_out_of_the_weighted_pipeline(books: Books) -> None:
    books.commit(
        deal("D1", amount=1000, probability="0.333333"),
        deal("D2", amount=1000),
        deal("D3", amount=None, probability="0.5"),
        deal("D4", amount=1000, probability="0"),
    )
    books.publish()

    weighted = books.value("weighted_pipeline", "now")
    assert weighted is not None
    assert weighted.value == Decimal("333.333")
    assert weighted.left_out == {"no_amount": 1, "no_probability": 1}
    assert weighted.n == 2
    assert books.number("open_value", "now") == 3000


# ---------------------------------------------------------------- stage visits


def test_neighbouring_changes_to_one_stage_are_one_visit(books: Books) -> None:
    books.commit(
        *(stage("new"), stage("offer"), deal("D1", stage="offer")),
        entered("D1", "new", NOON),
        entered("D1", "new", NOON + timedelta(days=1)),
        entered("D1", "offer", NOON + timedelta(days=3)),
    )
    books.publish()

    assert books.number("stage_visits") == 1
    assert books.number("time_in_stage_days", dimension="stage", key="crm:new") == 3


def test_changes_of_one_instant_follow_each_other_by_their_ids(books: Books) -> None:
    books.commit(
        *(stage("new"), stage("offer"), deal("D1", stage="won")),
        entered("D1", "new", NOON, name="C0"),
        entered("D1", "offer", NOON + timedelta(days=1), name="C3"),
        entered("D1", "new", NOON + timedelta(days=1), name="C2"),
        entered("D1", "won", NOON + timedelta(days=3), name="C1"),
    )
    books.publish()

    assert books.number("stage_visits", dimension="stage", key="crm:new") == 1
    assert books.number("time_in_stage_days", dimension="stage", key="crm:new") == 1
    assert books.number("time_in_stage_days", dimension="stage", key="crm:offer") == 2


def test_time_spent_closed_is_no_visit(books: Books) -> None:
    books.commit(
        *(stage("new"), stage("won", is_closed=True), deal("D1", stage="new")),
        entered("D1", "new", NOON),
        entered("D1", "won", NOON + timedelta(days=2)),
        entered("D1", "new", NOON + timedelta(days=9)),
    )
    books.publish()

    assert books.number("stage_visits") == 1
    assert books.value("stage_visits", dimension="stage", key="crm:won") is None


def test_visits_to_a_stage_nobody_knows_are_left_out_until_it_is_described(books: Books) -> None:
    books.commit(
        *(stage("new"), deal("D1", stage="new")),
        entered("D1", "old", NOON),
        entered("D1", "new", NOON + timedelta(days=1)),
    )
    books.publish()
    unknown = books.value("time_in_stage_days")
    books.commit(stage("old"))
    books.publish()

    assert unknown is not None
    assert (unknown.value, unknown.left_out) == (None, {"unknown_stage": 1})
    assert books.number("time_in_stage_days") == 1


def test_a_stage_that_becomes_a_closed_one_takes_its_visits_out(books: Books) -> None:
    books.commit(
        *(stage("new"), stage("parked"), deal("D1", stage="parked")),
        entered("D1", "new", NOON),
        entered("D1", "parked", NOON + timedelta(days=1)),
        entered("D1", "new", NOON + timedelta(days=2)),
        entered("D1", "parked", NOON + timedelta(days=3)),
    )
    books.publish()

    books.commit(stage("parked", is_closed=True))
    books.publish()

    assert books.number("stage_visits") == 2
    assert books.number("stage_visits", dimension="stage", key="crm:parked") == 0


def test_a_visit_is_measured_in_whole_seconds(books: Books) -> None:
    books.commit(
        *(stage("new"), stage("offer"), deal("D1", stage="offer")),
        entered("D1", "new", NOON),
        entered("D1", "offer", NOON + timedelta(seconds=432, microseconds=999_999)),
    )
    books.publish()

    assert books.number("time_in_stage_days") == Decimal("0.005")


def test_a_stage_change_that_moves_to_another_deal_moves_the_visits_of_both(books: Books) -> None:
    books.commit(
        *(stage("new"), stage("offer"), deal("D1", owner="ana"), deal("D2", owner="ben")),
        entered("D1", "new", NOON, name="C1"),
        entered("D1", "offer", NOON + timedelta(days=1), name="C2"),
        entered("D2", "new", NOON, name="C3"),
    )
    books.publish()

    books.commit(entered("D2", "offer", NOON + timedelta(days=1), name="C2"))
    books.publish()

    assert books.number("stage_visits", dimension="owner", key="crm:ana") == 0
    assert books.number("stage_visits", dimension="owner", key="crm:ben") == 1


# ---------------------------------------------------------------- customers


def test_an_account_is_one_buyer_in_every_period_however_often_it_buys(books: Books) -> None:
    books.commit(
        won("D1", date(2024, 1, 5), account="A"),
        won("D2", date(2024, 1, 6), account="A", owner="ben"),
        won("D3", date(2024, 2, 6), account="A"),
        won("D4", date(2024, 2, 7), account="B"),
        won("D5", date(2024, 2, 8), account=None),
    )
    books.publish()

    assert books.number("buyers", "2024-01") == 1
    assert books.number("buyers", "2024-02") == 2
    assert books.number("buyers", "2024-Q1") == 2
    assert books.number("buyers", "2024-01", "owner", "crm:ben") == 1
    february = books.value("buyers", "2024-02")
    assert february is not None
    assert february.left_out == {"no_account": 1}


def test_of_two_first_purchases_on_one_day_the_lower_id_counts(books: Books) -> None:
    books.commit(
        won("D2", account="A", owner="ben"),
        won("D1", account="A", owner="ana"),
        won("D0", None, account="A", owner="eve"),
    )
    books.publish()

    assert books.number("new_customers") == 1
    assert books.number("new_customers", dimension="owner", key="crm:ana") == 1
    assert books.value("new_customers", dimension="owner", key="crm:eve") is None


def test_a_first_purchase_that_vanishes_makes_the_next_one_the_first(books: Books) -> None:
    first = won("D1", date(2024, 1, 5))
    books.commit(first, won("D2", date(2024, 2, 5)))
    books.publish()

    books.commit(deleted=[first.ref])
    books.publish()

    assert books.number("new_customers", "2024-01") == 0
    assert books.number("new_customers", "2024-02") == 1


def test_an_account_and_a_deal_with_the_same_key_are_two_things(books: Books) -> None:
    # HubSpot numbers deals and companies each on their own.
    books.commit(won("1", account=None), won("2", account="1"), account("1"))
    books.publish()

    buyers = books.value("buyers")
    assert buyers is not None
    assert (buyers.value, buyers.left_out) == (1, {"no_account": 1})


def test_a_bottleneck_needs_twenty_visits_now_and_before_and_people_see_its_name(
    books: Books,
) -> None:
    records = available()["bottleneck"].example.records
    renamed = replace(stage("offer"), label="Offer made")
    books.now = datetime(2024, 2, 1, tzinfo=UTC)
    books.commit(*records, renamed)
    books.publish()

    found = books.value("bottleneck", "2024-01")
    too_few = books.value("bottleneck", "2023-06")
    assert found is not None
    assert too_few is not None
    assert (found.words, found.named, found.n) == ("crm:offer", "Offer made", 40)
    assert (too_few.words, too_few.named) == ("not enough data", None)

    books.commit(deleted=[record.ref for record in records if record.ref.native_id == "D119"])
    books.publish()
    fewer = books.value("bottleneck", "2024-01")
    assert fewer is not None
    assert fewer.words == "not enough data"
