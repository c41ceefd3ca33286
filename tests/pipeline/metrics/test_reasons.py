"""Why a value is another one now: the records that moved it, with differences that add up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from metrics.definition import DatedRate, KpiSettings, OwnSettings
from metrics.explain import reasons as reasoning
from metrics.explain.changes import changes
from metrics.explain.reasons import Reasons, reasons
from store import record_history
from store.canonical import Cost, Rate
from store.engine import reading, writing
from store.history_tables import RECORD_HISTORY
from store.kpis import Place
from store.tables import KPI_VALUES
from tests.pipeline.metrics.books import (
    BERLIN,
    Books,
    account,
    deal,
    lost,
    owner,
    ref,
    won,
)
from tests.pipeline.metrics.histories import Page, pages
from tests.pipeline.metrics.test_incremental import EVERYTHING
from tests.pipeline.metrics.test_incremental import _empty as emptied

SETTINGS = KpiSettings(company=BERLIN, rates={"USD": Decimal("0.9")})


@pytest.fixture
def stored_books(database_url: str) -> Iterator[Books]:
    """On each of the databases."""
    made = Books(database_url, SETTINGS)
    yield made
    made.close()


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(f"sqlite:///{tmp_path}/store.db", SETTINGS)
    yield made
    made.close()


def why(
    books: Books,
    kpi: str,
    period: str = "all",
    dimension: str = "all",
    group: str = "*",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Reasons:
    place = Place(kpi, dimension, group, period)
    with reading(books.engine) as conn:
        found = changes(conn, place, since=since, until=until)
        assert found.last_version is not None
        return reasons(
            conn,
            books.catalog,
            place,
            first=found.first_version,
            last=found.last_version,
            since=since,
        )


def told(found: Reasons) -> list[tuple[str, str | None, object]]:
    return [(one.kind, one.key, one.delta.value) for one in found.reasons]


def assert_adds_up(found: Reasons) -> None:
    for name in reasoning.NUMBERS:
        whole = getattr(found.delta, name)
        assert sum(getattr(one.delta, name) for one in found.reasons) == whole, name


def test_each_kind_of_change_is_named_with_its_record_its_fields_and_what_it_did(
    stored_books: Books,
) -> None:
    books = stored_books
    created = datetime(2024, 1, 2, 12, tzinfo=UTC)
    books.commit(
        account("A"),
        won("edited", amount=100),
        won("deleted", amount=20),
        won("merged", amount=3),
        won("dollars", amount=1_000, currency="USD"),
        won("left alone", amount=7),
        lost("won later", amount=50),
    )
    books.publish()
    then = books.now
    books.commit(won("edited", amount=260))
    books.commit(deleted=[ref("deals", "deleted")])
    books.commit(won("merged", amount=3, merged_into="edited"))
    books.commit(won("late", amount=11, created=created))
    books.commit(won("new", amount=2, created=books.now + timedelta(seconds=1)))
    books.commit(won("won later", amount=50), won("next quarter", date(2024, 4, 2), amount=9))
    books.publish()

    found = why(books, "won_value", "2024-Q1", since=then)

    assert told(found) == [
        ("edited", "crm:edited", 160),
        ("deleted", "crm:deleted", -20),
        ("merged", "crm:merged", -3),
        ("late_arrival", "crm:late", 11),
        ("new", "crm:new", 2),
        ("edited", "crm:won later", 50),
    ]
    assert [one.delta.n for one in found.reasons] == [0, -1, -1, 1, 1, 1]
    edit = found.reasons[0]
    assert edit.fields == [("amount", Decimal(100), Decimal(260))]
    assert (edit.run, edit.label) == ("pulled", "edited")
    assert found.is_complete
    assert_adds_up(found)


def test_an_account_that_is_merged_a_team_that_is_renamed_and_a_deal_that_moves_are_the_reasons(
    books: Books,
) -> None:
    books.configure(replace(SETTINGS, by={"won_value": (("team",), ("account",)), "buyers": ()}))
    books.rebuild()
    books.commit(
        account("A"),
        account("B"),
        replace(owner("ana"), team="north"),
        won("D1", amount=10, account="A"),
        won("D2", amount=5, account="B"),
    )
    books.publish()
    then = books.now
    books.commit(replace(owner("ana"), team="south"))
    books.commit(account("B", merged_into="A"))
    books.commit(won("D1", amount=10, account="B"))
    books.commit(won("D3", amount=1, account="C"), won("D4", amount=0, account="D"))
    books.publish()

    south = why(books, "won_value", dimension="team", group="south", since=then)
    north = why(books, "won_value", dimension="team", group="north", since=then)
    buyers = why(books, "buyers", since=then)

    assert told(south) == [
        ("edited", "crm:ana", 15),
        ("late_arrival", "crm:D3", 1),
        ("late_arrival", "crm:D4", 0),
    ]
    assert south.reasons[0].fields == [("team", "north", "south")]
    assert told(north) == [("edited", "crm:ana", -15)]
    assert told(buyers) == [
        ("merged", "crm:B", -1),
        ("late_arrival", "crm:D3", 1),
        ("late_arrival", "crm:D4", 1),
    ]
    for found in (south, north, buyers):
        assert found.is_complete
        assert_adds_up(found)


def test_rates_definitions_and_the_clock_have_lines_of_their_own(books: Books) -> None:
    books.configure(replace(SETTINGS, rolling={"won_count": ("last_30d",)}))
    books.rebuild()
    day = books.now.date()
    books.commit(
        won("dollars", amount=100, currency="USD"),
        won("recent", day - timedelta(days=20), amount=1),
        deal("open", amount=5, created=books.now - timedelta(days=20)),
    )
    books.publish()
    then = books.now
    books.publish(later=timedelta(days=15))
    books.configure(
        replace(
            books.catalog.settings,
            rates={},
            dated_rates=(DatedRate(currency="USD", since=date(2024, 1, 1), rate=Decimal("0.8")),),
            own={
                "stalled": OwnSettings(stalled_days=60),
                "stalled_count": OwnSettings(stalled_days=60),
            },
        )
    )
    books.rebuild()
    books.publish()

    value = why(books, "won_value", since=then)
    rolled = why(books, "won_count", "last_30d", since=then)
    stalled = why(books, "stalled_count", "now", since=then)
    stalled_later = why(books, "stalled_count", "now", since=then + timedelta(days=15))

    assert told(value) == [("rates", None, -10)]
    assert ("dated", [], [["USD", "2024-01-01", "0.8"]]) in value.reasons[0].fields
    assert told(rolled) == [("clock", None, -1)]
    assert told(stalled) == []
    assert [kind for kind, _, _ in told(stalled_later)] == ["definition"]
    assert ("settings.stalled_days", None, 60) in stalled_later.reasons[0].fields
    for found in (value, rolled, stalled, stalled_later):
        assert found.is_complete
        assert_adds_up(found)


def test_rates_of_a_crm_and_streams_that_are_read_for_the_first_time_are_reasons(
    books: Books,
) -> None:
    books.configure(replace(SETTINGS, rates={}, rates_from="crm"))
    books.rebuild()

    def rate(value: str) -> Rate:
        return Rate(
            ref=ref("rates", "usd"), currency="USD", date=date(2024, 1, 1), rate=Decimal(value)
        )

    books.commit(rate("0.5"), won("D1", amount=100, currency="USD"))
    books.publish()
    then = books.now
    books.commit(rate("0.6"))
    books.commit(won("hub:D1", amount=8), won("hub:D2", amount=9), defer=True)
    books.rebuild()
    books.publish()

    found = why(books, "won_value", since=then)

    assert told(found) == [("first_load", None, 17), ("edited", "crm:usd", 10)]
    assert found.reasons[0].words == "first read: hub.deals"
    assert found.reasons[1].fields == [("rate", Decimal("0.5"), Decimal("0.6"))]
    assert_adds_up(found)


def test_what_is_forgotten_has_a_line_of_its_own_and_the_rest_still_adds_up(books: Books) -> None:
    books.commit(won("D1", amount=100))
    books.publish()
    then = books.now
    books.commit(won("D1", amount=150))
    books.publish()
    with writing(books.engine) as conn:
        record_history.purge(conn, timedelta(days=1))
    books.commit(won("D1", amount=155))
    books.publish()

    found = why(books, "won_value", since=then)

    assert told(found) == [("unknown", None, 50), ("edited", "crm:D1", 5)]
    assert "are forgotten (advanced.keep_history)" in found.reasons[0].words
    assert not found.is_complete
    assert_adds_up(found)


def test_a_neighbourhood_that_is_too_large_is_told_record_by_record(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.explain.world.MOST_RECORDS", 2)
    books.commit(*(won(f"D{number}", amount=10) for number in range(4)))
    books.publish()
    then = books.now
    books.commit(*(won(f"D{number}", amount=11) for number in range(4)))
    books.commit(won("D2", amount=15))
    books.publish()

    found = why(books, "won_value", since=then)

    assert [(kind, value) for kind, _, value in told(found)] == [
        ("several", value) for value in (1, 1, 5, 1)
    ]
    assert found.reasons[2].words == "2 changes together"
    assert_adds_up(found)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(history=st.lists(pages, min_size=3, max_size=7), seed=st.integers(0, 1_000))
def test_after_any_history_the_reasons_of_any_value_add_up_and_nothing_is_unknown(
    everything: Books, history: list[Page], seed: int
) -> None:
    assert_history_is_explained(everything, history, seed, 25)


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(history=st.lists(pages, min_size=3, max_size=5), seed=st.integers(0, 1_000))
def test_after_some_histories_the_reasons_of_a_value_add_up_and_nothing_is_unknown(
    everything: Books, history: list[Page], seed: int
) -> None:
    assert_history_is_explained(everything, history, seed, 10)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    made = Books(f"sqlite:///{tmp_path_factory.mktemp('reasons')}/store.db", EVERYTHING)
    yield made
    made.close()


def assert_history_is_explained(books: Books, history: list[Page], seed: int, sample: int) -> None:
    emptied(books)
    with writing(books.engine) as conn:
        for table in (RECORD_HISTORY, KPI_VALUES):
            conn.execute(delete(table))
    chance = random.Random(seed)  # noqa: S311 - no secret
    for page in history:
        books.commit(*page[0], deleted=page[1])
        books.publish(later=timedelta(days=31) if seed % 2 else timedelta(minutes=1))
    columns = [KPI_VALUES.c[name] for name in Place._fields]
    with reading(books.engine) as conn:
        moved = select(*columns).group_by(*columns).having(func.count() > 1).order_by(*columns)
        places = [Place(*row) for row in conn.execute(moved)]
        for place in chance.sample(places, min(sample, len(places))):
            known = changes(conn, place)
            whole = [step.at for step in known.steps]
            since = chance.choice(whole[:-1])
            found = changes(conn, place, since=since)
            assert found.last_version is not None
            explained = reasons(
                conn, books.catalog, place, first=found.first_version, last=found.last_version
            )
            assert_adds_up(explained)
            assert [one for one in explained.reasons if one.kind == reasoning.UNKNOWN] == [], place


def test_a_cost_of_a_file_that_is_not_told_any_more_is_a_reason(books: Books) -> None:
    def cost(name: str, amount: int) -> Cost:
        return Cost(ref=ref("costs", f"file:{name}"), date=date(2024, 2, 1), amount=Decimal(amount))

    costs = (cost("a", 10), cost("b", 4))
    settings = replace(SETTINGS, use=("customer",), costs=costs)
    books.configure(settings)
    books.rebuild()
    books.publish()
    then = books.now
    books.now += timedelta(seconds=1)
    books.configure(replace(settings, costs=(costs[0], cost("c", 1))))
    books.rebuild()
    books.publish()

    found = why(books, "cost", since=then)

    assert sorted(told(found)) == [("new", "file:c", 1), ("removed", "file:b", -4)]
    assert_adds_up(found)


def test_a_period_that_began_since_has_its_value_by_the_clock_alone(books: Books) -> None:
    books.commit(account("A"), won("D1", date(2024, 5, 20)))
    books.publish()
    then = books.now
    books.publish(later=timedelta(days=40))

    found = why(books, "customers_start", "2024-07", since=then)

    assert told(found) == [("clock", None, Decimal(1))]
    assert found.is_complete
    assert_adds_up(found)
