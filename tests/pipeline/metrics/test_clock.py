"""What time alone changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from metrics import clock
from metrics.catalog import PACKS, build
from metrics.catalog.examples import answer, contract, lead
from metrics.definition import Bucket, DatedRate, KpiSettings, OwnSettings
from store.canonical import CanonicalRecord, Contract, Lead, SurveyResponse, Ticket
from store.engine import reading
from tests.pipeline.metrics.books import (
    BERLIN,
    Books,
    account,
    deal,
    entered,
    key,
    lost,
    ref,
    stage,
    won,
)
from tests.pipeline.metrics.test_incremental import EVERYTHING

CLOCKED = (
    *("retention_rate", "churn_rate", "contract_retention_rate", "contract_churn_rate"),
    *("customers_start", "customers_end", "customers_new_or_back", "customers_lost"),
    *("stalled_count", "stalled_value", "is_stalled", "stage_age_days", "pipeline_velocity"),
    *("customer_lifespan_days", "cltv", "ltv_cac", "upsell_rate", "bottleneck"),
    *("nps_change", "lead_velocity_rate"),
)
"""Every KPI that the clock moves, beside those asked for over the last days."""
ROLLING = ("won_value", "buyers", "stage_conversion", "reopen_rate", "sales_cycle_days_median")
SETTINGS = KpiSettings(
    company=BERLIN,
    use=(*CLOCKED, *ROLLING, "open_value"),
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
    catalog = build(replace(SETTINGS, use=tuple(PACKS)))

    clocked = {
        kpi.name
        for bundle in catalog.bundles
        for kpi in bundle.kpis
        if bundle.is_up_to_now or any(one.bucket is Bucket.INSTANT for one in bundle.families)
    }

    assert clocked == {*CLOCKED, "buyers", "stage_conversion", "reopen_rate"}


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_year_of_days_over_every_kpi_costs_what_changes(sqlite_database: str) -> None:
    books = Books(sqlite_database, EVERYTHING)
    books.now = NOON
    chance = random.Random(20240101)  # noqa: S311 - test data
    books.commit(*_random_company(chance, 120))
    books.publish()
    touched = changed = checks = 0

    rest = 0
    for day in range(366):
        seconds = chance.randrange(1, 86_400)
        done = books.publish(later=timedelta(seconds=rest + seconds))
        rest = 86_400 - seconds
        touched, changed = touched + done.changed + done.unchanged, changed + done.changed
        if day % 30 == 0:
            books.check()
            checks += 1
    values = len(books.current())
    books.close()

    print(  # noqa: T201 - the figure is asked for
        f"\n{values} values; {checks} instants checked; in 366 moves of the clock {touched} values "
        f"were computed, of which {changed} changed"
    )
    assert changed > values / 10
    assert touched < changed * 5 / 4


def _random_company(chance: random.Random, count: int) -> list[CanonicalRecord]:
    """Records of all streams, of two years around the one that passes."""

    def instant() -> datetime:
        return NOON + timedelta(seconds=chance.randrange(-400 * 86_400, 400 * 86_400))

    made: list[CanonicalRecord] = [
        stage("new"),
        stage("offer"),
        stage("won", is_closed=True),
        *(account(f"A{number}") for number in range(count // 8)),
    ]
    for number in range(count):
        owner, of = f"o{chance.randrange(6)}", f"A{chance.randrange(count // 8)}"
        created, closes = instant(), instant().date()
        outcome = chance.choice((won, won, lost, None))
        fields = {
            "account": of,
            "owner": owner,
            "amount": chance.randrange(1, 9_000),
            "currency": chance.choice((None, "USD", "JPY")),
            "created": created,
            "stage": "won" if outcome else chance.choice(("new", "offer")),
            "pipeline": "sales",
        }
        if outcome is None:
            made.append(deal(f"D{number}", close_date=closes, **fields))  # type: ignore[arg-type]  # fields of `deal`
        else:
            made.append(outcome(f"D{number}", closes, **fields))
        made.append(entered(f"D{number}", "new", created))
        made.append(entered(f"D{number}", "offer", created + timedelta(days=9)))
        if number % 4 == 0:
            made += _others(chance, number, of, owner, instant)
    return made


def _others(
    chance: random.Random, number: int, of: str, owner: str, instant: Callable[[], datetime]
) -> list[CanonicalRecord]:
    start = instant().date()
    return [
        Contract(
            ref=ref("contracts", f"V{number}"),
            account=key(of),
            start_date=start,
            end_date=start + timedelta(days=chance.randrange(20, 400)),
        ),
        Ticket(
            ref=ref("tickets", f"T{number}"),
            account=key(of),
            owner=key(owner),
            category=chance.choice(("billing", "login")),
            created_at=instant(),
            is_closed=number % 8 == 0,
            closed_at=NOON + timedelta(days=410),
        ),
        Lead(
            ref=ref("leads", f"L{number}"),
            created_at=instant(),
            qualified_at=instant(),
            source="web",
            owner=key(owner),
        ),
        SurveyResponse(
            ref=ref("survey_responses", f"S{number}"),
            kind="nps",
            score=Decimal(chance.randrange(11)),
            submitted_at=instant(),
            account=key(of),
        ),
    ]


def test_a_rate_that_begins_to_hold_moves_amounts_without_a_day_at_its_midnight(
    sqlite_database: str,
) -> None:
    """An open deal that nobody expects to close on a day has the rate of today."""
    settings = replace(SETTINGS, use=("open_value",), rolling={}, own={})
    books = Books(sqlite_database, settings)
    books.now = NOON
    books.commit(deal("D1", amount=10, currency="USD"))
    books.publish()
    before = books.number("open_value", "now")

    with reading(books.engine) as conn:
        following = clock.next_change(conn, books.catalog, books.now)
    assert following == datetime(2024, 4, 9, 22, tzinfo=UTC)
    books.publish(later=following - books.now - timedelta(microseconds=1))
    just_before = books.number("open_value", "now")
    books.publish(later=timedelta(microseconds=1))

    assert (before, just_before, books.number("open_value", "now")) == (5, 5, 9)
    books.check()
    books.close()
