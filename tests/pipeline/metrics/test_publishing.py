from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert, select, update

from metrics import values
from metrics.definition import KpiSettings
from metrics.rebuild import stale_families
from metrics.verify import verify
from store import kpis
from store.canonical import Company
from store.engine import reading, writing
from store.errors import StoreError
from store.tables import CELLS, DEALS, KPI_VALUES
from tests.pipeline.metrics.books import (
    BERLIN,
    FIRST_INSTANT,
    Books,
    account,
    deal,
    entered,
    owner,
    stage,
    won,
)

DEFAULT = KpiSettings(company=BERLIN)
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
STAGES = ("new", "offer")


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database)
    yield made
    made.close()


@pytest.fixture
def both(database_url: str) -> Iterator[Books]:
    """Once on each store, where what is tested reads or writes in its own way there."""
    made = Books(database_url)
    yield made
    made.close()


def history(books: Books, kpi: str) -> list[tuple[object, ...]]:
    query = (
        select(KPI_VALUES.c.value, KPI_VALUES.c.valid_from, KPI_VALUES.c.valid_to)
        .where(KPI_VALUES.c.kpi == kpi, KPI_VALUES.c.dimension == "all")
        .where(KPI_VALUES.c.period == "all")
        .order_by(KPI_VALUES.c.valid_from)
    )
    with reading(books.engine) as conn:
        return [tuple(row) for row in conn.execute(query)]


def test_what_was_believed_before_stays_readable(both: Books) -> None:
    both.commit(won("D1", amount=10))
    both.publish()
    first = both.now
    both.commit(won("D1", amount=25))
    both.publish()

    assert history(both, "revenue") == [(10, first, both.now), (25, both.now, None)]


def test_values_that_did_not_change_are_not_written_again(books: Books) -> None:
    books.commit(won("D1", amount=10))
    books.publish()
    before = books.current()

    books.commit(won("D1", amount=10), account("B"))
    nothing = books.publish()
    books.commit(won("D1", amount=11))
    some = books.publish()

    assert nothing.changed == 0
    assert books.dirty_keys() == 0
    assert some.unchanged > 0
    assert books.value("won_count") == before["won_count", "all", "all", "*"]


def test_a_value_becomes_true_later_than_the_one_before_whatever_the_clock_says(
    books: Books,
) -> None:
    books.commit(won("D1", amount=10))
    books.publish()
    books.commit(won("D1", amount=20))
    books.now -= timedelta(days=1)
    books.publish()

    (_, first, until), (_, since, end) = history(books, "revenue")
    assert isinstance(first, datetime)
    assert until == since == first + timedelta(microseconds=1)
    assert end is None


def test_a_page_that_comes_twice_changes_nothing(books: Books) -> None:
    page = [won("D1"), stage("new"), account("A"), owner("ana")]
    first = books.commit(*page)
    books.publish()

    again = books.commit(*page)

    assert (first.changed, again.changed) == (4, 0)
    assert books.dirty_keys() == 0


def test_a_change_of_no_consequence_makes_nothing_dirty(books: Books) -> None:
    books.commit(won("D1"))
    books.publish()

    staged = books.commit(replace(won("D1"), forecast_category="Commit"))

    assert staged.changed == 1
    assert books.dirty_keys() == 0


def test_publishing_in_small_steps_gives_the_same_values(both: Books) -> None:
    both.commit(*(won(f"D{number}", account=f"A{number % 5}") for number in range(20)))
    both.publish(limit=3)

    assert both.number("won_count") == 20
    both.check()


def test_a_page_between_two_steps_of_a_first_publication_is_not_counted_twice(
    books: Books,
) -> None:
    books.commit(*(won(f"D{number}", account=f"A{number}") for number in range(5)))
    with writing(books.engine) as conn:
        first = values.publish(conn, books.catalog, run="run", as_of=books.now, limit=1)
    books.commit(won("D5", account="A1"), won("D6", account="A6"))

    books.publish()

    assert first.remaining > 0
    assert books.number("won_count") == 7
    assert books.number("won_count", "2024-03") == 7
    books.check()


def test_labels_are_the_names_of_today(books: Books) -> None:
    books.commit(won("D1"), owner("ana", label="Rep 07"), stage("new"), account("A", label="Acme"))
    books.publish()
    before = books.value("won_count", dimension="owner", key="crm:ana")

    books.commit(owner("ana", label="Rep 07 (left)"), account("A", label="Acme Inc"))
    renamed = books.publish()

    assert before is not None
    assert before.label == "Rep 07"
    assert renamed.changed == 0
    after = books.value("won_count", dimension="owner", key="crm:ana")
    assert after == replace(before, label="Rep 07 (left)")
    by_account = books.value("won_count", dimension="account", key="crm:A")
    assert by_account is not None
    assert by_account.label == "Acme Inc"
    assert books.dirty_keys() == 0


def test_labels_of_combined_groups_are_renewed_too(both: Books) -> None:
    both.commit(
        *(stage("new"), stage("offer"), owner("ana", label="Rep 07")),
        won("D1", stage="offer"),
        *(entered("D1", name, NOON + timedelta(days=day)) for day, name in enumerate(STAGES)),
    )
    both.publish()

    both.commit(stage("new", pipeline=None), owner("ana", label="Rep 08"))
    both.publish()

    value = both.value("stage_visits", dimension="owner,stage", key="crm:ana,crm:new")
    assert value is not None
    assert value.label == "Rep 08, Stage new"


def test_the_json_of_a_value_is_what_other_programs_read(both: Books) -> None:
    both.commit(won("D1", amount="10.50"), won("D2", amount=None), owner("ana", label="Rep 07"))
    both.publish()

    value = both.value("avg_deal_value", "2024-Q1", "owner", "crm:ana")

    assert value is not None
    assert value.to_json() == {
        "kpi": "avg_deal_value",
        "period": "2024-Q1",
        "dimension": "owner",
        "key": "crm:ana",
        "label": "Rep 07",
        "value": "10.5",
        "numerator": "10.5",
        "denominator": "1",
        "n": 1,
        "left_out": {"no_amount": 1},
        "unit": "money",
        "currency": "EUR",
        "as_of": "2024-06-01T12:01:00Z",
        "definition": "avg_deal_value@1",
    }
    assert both.now == FIRST_INSTANT + timedelta(minutes=1)


def test_values_can_be_read_by_label_and_by_kind_of_period(books: Books) -> None:
    books.commit(won("D1"))
    books.publish()

    with reading(books.engine) as conn:
        by_label = values.current(conn, books.catalog, kpi="won_count", period="2024-Q1")
        by_kind = values.current(
            conn, books.catalog, kpi="won_count", period="quarter", dimension="all"
        )

    assert {value.period for value in by_label} == {"2024-Q1"}
    assert [value.period for value in by_kind] == ["2024-Q1"]


# ---------------------------------------------------------------- first loads and settings


def test_a_first_load_is_built_once_at_its_end(books: Books) -> None:
    books.commit(won("D1"), stage("new"), defer=True)
    with reading(books.engine) as conn:
        stale = stale_families(conn, books.catalog)
    books.commit(won("D2"), defer=True)
    books.rebuild()
    books.publish()

    moved_by_deals = {"deals_closed", "buyers_month", "first_purchases", "stage_visits"}
    assert moved_by_deals <= set(stale) < set(books.catalog.families)
    assert books.number("won_count") == 2
    books.check()


def test_a_first_load_of_accounts_leaves_the_cells_of_deals_in_force(books: Books) -> None:
    books.commit(won("D1"))

    books.commit(account("A"), account("B"), defer=True)

    with reading(books.engine) as conn:
        stale = stale_families(conn, books.catalog)
    assert {name.partition("_")[0] for name in stale} == {"contract"}
    books.rebuild()
    books.publish()
    books.check()


def test_another_grouping_makes_families_stale_and_is_published_after_a_rebuild(
    books: Books,
) -> None:
    books.commit(replace(won("D1"), type="Renewal"))
    books.publish()

    books.configure(replace(DEFAULT, by={"won_count": (("type",),)}))
    with reading(books.engine) as conn:
        stale = stale_families(conn, books.catalog)
    books.rebuild()
    books.publish()

    assert stale == ("deals_closed",)
    assert books.number("won_count", dimension="type", key="Renewal") == 1
    assert books.value("won_count", dimension="owner", key="crm:ana") is None
    assert books.number("win_rate", dimension="owner", key="crm:ana") == 1
    books.check()


def test_settings_that_return_do_not_bring_old_cells_back(books: Books) -> None:
    books.commit(won("D1", region="EMEA"))
    books.configure(replace(DEFAULT, by={"won_count": (("region",),)}))
    books.commit(won("D2", region="EMEA"))

    books.configure(DEFAULT)
    books.rebuild()
    books.publish()

    assert books.number("won_count", dimension="owner", key="crm:ana") == 2
    books.check()


def test_a_kpi_that_is_skipped_ends_and_one_that_returns_is_right(both: Books) -> None:
    both.commit(won("D1", amount=5))
    both.publish()
    both.configure(replace(DEFAULT, skip=("buyers", "revenue")))
    both.rebuild()
    ended = both.publish()
    both.commit(won("D2", account="B", amount=6))
    both.publish()
    remaining = {kpi for kpi, *_ in both.current()}

    both.configure(DEFAULT)
    both.rebuild()
    both.publish()

    assert ended.changed > 0
    assert not {"buyers", "revenue"} & remaining
    assert both.number("buyers") == 2
    assert [value for value, *_ in history(both, "revenue")] == [5, 11]
    both.check()


def test_what_is_dirty_above_a_family_that_nobody_needs_any_more_is_forgotten(
    books: Books,
) -> None:
    books.publish()
    books.commit(won("D1"))

    books.configure(replace(DEFAULT, skip=("buyers", "sales_cycle_days")))
    books.rebuild()
    books.publish()

    assert books.dirty_keys() == 0
    books.check()


def test_another_time_zone_moves_the_local_days(both: Books) -> None:
    late = datetime(2024, 1, 31, 23, 30, tzinfo=UTC)
    both.commit(deal("D1", created=late, is_closed=True, closed_at=late))
    both.publish()
    in_berlin = both.number("deals_created", "2024-02")

    both.configure(replace(DEFAULT, company=Company(ZoneInfo("America/New_York"), "EUR")))
    both.rebuild()
    both.publish()

    assert in_berlin == 1
    assert both.number("deals_created", "2024-01") == 1
    assert both.number("deals_created", "2024-02") == 0
    assert both.number("lost_count", "2024-01") == 1
    both.check()


def test_a_currency_with_other_digits_is_refused_with_a_remedy(books: Books) -> None:
    books.commit(won("D1", amount=5))

    books.configure(replace(DEFAULT, company=Company(ZoneInfo("Europe/Berlin"), "JPY")))

    with pytest.raises(StoreError, match=r"changed from EUR to JPY.*Start with an empty database"):
        books.rebuild()


# ---------------------------------------------------------------- what must not happen


def test_a_text_that_is_too_long_for_an_index_is_told_apart_by_its_beginning(both: Books) -> None:
    texts = [chr(0x10000 + number) * 5_000 for number in range(3)]
    by = {"win_rate": (("product",), ("product", "source", "region"))}
    both.configure(replace(DEFAULT, by=by))
    both.rebuild()

    both.commit(won("D1", product=texts[0], source=texts[1], region=texts[2]))
    both.publish()

    assert both.number("win_rate", dimension="product", key=texts[0][:120]) == 1
    both.check()


def test_verify_names_a_value_that_does_not_agree_with_the_records(books: Books) -> None:
    books.commit(won("D1", amount=5))
    books.publish()
    with writing(books.engine) as conn:
        conn.execute(update(DEALS).values(amount=600))

    with reading(books.engine) as conn:
        outcome = verify(conn, books.catalog, as_of=books.now)

    assert not outcome.ok
    wrong = {
        (difference.kpi, difference.stored, difference.recomputed)
        for difference in outcome.differences
        if (difference.period, difference.dimension) == ("all", "all")
    }
    assert ("revenue", "5 (n 1, revenue@1)", "6 (n 1, revenue@1)") in wrong
    assert "won_count" not in {kpi for kpi, *_ in wrong}


def test_verify_finds_values_that_are_missing_and_values_nobody_asked_for(books: Books) -> None:
    books.commit(won("D1"))
    books.publish()
    with writing(books.engine) as conn:
        conn.execute(
            update(KPI_VALUES)
            .where(KPI_VALUES.c.kpi == "won_count", KPI_VALUES.c.dimension == "all")
            .where(KPI_VALUES.c.period == "all")
            .values(kpi="unheard_of")
        )

    with reading(books.engine) as conn:
        outcome = verify(conn, books.catalog, as_of=books.now)

    found = {(found.kpi, found.stored is None) for found in outcome.differences}
    assert found == {("won_count", True), ("unheard_of", False)}


def test_cells_that_contradict_the_records_are_refused_and_say_what_mends_them(
    both: Books,
) -> None:
    first = won("D1")
    both.commit(first)
    with writing(both.engine) as conn:
        conn.execute(update(CELLS).values(m1=CELLS.c.m1 + 1))

    with pytest.raises(StoreError, match="run `kpisync compute --rebuild`"):
        both.commit(deleted=[first.ref])

    with reading(both.engine) as conn:
        assert conn.execute(select(DEALS.c.deleted)).scalar_one() in (False, 0)


def test_values_wait_while_their_family_is_stale(books: Books) -> None:
    books.commit(won("D1"))
    books.publish()
    books.commit(won("D2"), defer=True)

    waiting = books.publish()

    assert waiting.changed == 0
    assert books.number("won_count") == 1


def test_an_unknown_family_of_another_version_is_dropped_at_the_next_rebuild(books: Books) -> None:
    row = dict.fromkeys((column.name for column in CELLS.columns), 0)
    row |= {"family": "of_old", "dimension": "all", "key": "*", "currency": "", "n": 1}
    with writing(books.engine) as conn:
        conn.execute(insert(CELLS), row)

    books.configure(replace(DEFAULT, match_owners_by_email=True))
    books.rebuild()

    with reading(books.engine) as conn:
        assert conn.execute(select(CELLS).where(CELLS.c.family == "of_old")).all() == []


# ---------------------------------------------------------------- however often it is computed


def believed(books: Books, kpi: str, dimension: str, key: str) -> list[Decimal | None]:
    """Every value that was believed of something true now, the oldest first."""
    with reading(books.engine) as conn:
        found = kpis.versions(conn, kpis.Place(kpi, dimension, key, "now"))
    return [version.value.value for version in found]


def test_history_does_not_depend_on_how_often_it_was_computed(tmp_path: Path) -> None:
    """One deal rests for three days while another changes every day."""
    often, seldom = (
        Books(f"sqlite:///{tmp_path / name}.db", KpiSettings(company=BERLIN, use=("sales",)))
        for name in ("often", "seldom")
    )
    try:
        for one in (often, seldom):
            one.commit(deal("resting", amount=10), deal("busy", amount=1))
            one.publish()
        for day in range(1, 4):
            for one in (often, seldom):
                one.commit(deal("busy", amount=day + 1))
            for _ in range(5):
                often.publish(later=timedelta(hours=4))
            seldom.publish(later=timedelta(hours=20))

        open_value = [believed(one, "open_value", "all", "*") for one in (often, seldom)]
        resting = [believed(one, "is_stalled", "deal", "crm:resting") for one in (often, seldom)]
        assert open_value == [[11, 12, 13, 14]] * 2
        assert resting == [[1]] * 2
        for one in (often, seldom):
            one.check()
    finally:
        often.close()
        seldom.close()
