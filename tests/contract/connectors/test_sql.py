"""Queries on a database, SQLite and PostgreSQL alike."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, create_engine, text

from connectors.base import ConnectionSettings, Page, StreamSettings, Tuning
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MisconfiguredConnection,
    RequestRefused,
)
from connectors.sql.connector import SqlConnector
from connectors.sql.places import Place
from store.canonical import Company, RecordRef

BERLIN = Company(timezone=ZoneInfo("Europe/Berlin"), currency="EUR")
ORDERS = "SELECT id, label AS name, total AS amount, paid AS close_date, 'won' AS stage FROM orders"
BEGUN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite_database", "postgres_database"])
def shop(request: pytest.FixtureRequest) -> Iterator[Engine]:
    url = request.getfixturevalue(request.param).replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    instant = "TIMESTAMP" if engine.dialect.name == "sqlite" else "TIMESTAMPTZ"
    with engine.begin() as conn:
        conn.execute(
            text(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, label TEXT, total NUMERIC(12, 2),"
                f" paid DATE, changed {instant})"
            )
        )
    yield engine
    engine.dispose()


def put(shop: Engine, number: int, total: str = "10.00", minutes: int = 0) -> None:
    changed = (BEGUN + timedelta(minutes=minutes)).strftime("%Y-%m-%d %H:%M:%S")
    changed += "" if shop.dialect.name == "sqlite" else "+00:00"
    with shop.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO orders VALUES (:n, :label, :total, '2026-03-05', :changed)"
                " ON CONFLICT (id) DO UPDATE SET total = :total, changed = :changed"
            ),
            {"n": number, "label": f"Order {number}", "total": total, "changed": changed},
        )


def connector(shop: Engine, query: str = ORDERS, **options: str) -> SqlConnector:
    page_size = int(options.pop("page_size", "2000"))
    total = timedelta(seconds=int(options.pop("total_seconds", "300")))
    return SqlConnector(
        ConnectionSettings(
            name="shop",
            type="sql",
            auth={"url": shop.url.render_as_string(hide_password=False)},
            company=BERLIN,
            streams={"deals": StreamSettings(options={"query": query, "key": "id"} | options)},
            tuning=Tuning(
                page_size=page_size, connect_timeout=timedelta(seconds=2), total_timeout=total
            ),
        )
    )


def pages(reader: SqlConnector, since: object = None) -> list[Page]:
    (stream,) = reader.streams()
    try:
        return list(reader.pull(stream, since))  # type: ignore[arg-type]  # cursors are texts
    finally:
        reader.close()


def keys(found: list[Page]) -> list[str]:
    return [record.ref.key for page in found for record in page.records]


def test_columns_that_are_named_like_fields_map_themselves(shop: Engine) -> None:
    put(shop, 7, "1234.50")

    (deal,) = pages(connector(shop))[0].records

    assert deal.ref.key == "shop:7"
    assert (deal.name, Decimal(deal.amount), str(deal.close_date)) == (
        "Order 7",
        Decimal("1234.5"),
        "2026-03-05",
    )
    assert deal.stage == "shop:won"


def test_an_increment_reads_from_its_cursor_with_an_overlap(shop: Engine) -> None:
    query = ORDERS.replace(" FROM", ", changed FROM")
    for number in range(5):
        put(shop, number, minutes=10 * number)
    first = pages(connector(shop, query, cursor="changed"))
    put(shop, 1, "99.00", minutes=60)

    second = pages(connector(shop, query, cursor="changed"), first[-1].resume_at)

    assert keys(first) == [f"shop:{n}" for n in range(5)]
    # The last quarter of an hour again, for rows that were committed late.
    assert keys(second) == ["shop:3", "shop:4", "shop:1"]


def test_more_rows_of_one_instant_than_a_page_are_each_read_once(shop: Engine) -> None:
    query = ORDERS.replace(" FROM", ", changed FROM")
    for number in range(25):
        put(shop, number)

    found = pages(connector(shop, query, cursor="changed", page_size="10"))

    assert [len(page.records) for page in found] == [10, 10, 5]
    assert len(set(keys(found))) == 25


def test_without_a_cursor_every_pull_sees_all_rows(shop: Engine) -> None:
    put(shop, 1)

    (page,) = pages(connector(shop))

    assert page.resume_at is None
    assert page.complete_until is not None


def test_keys_can_be_listed_and_rows_fetched_by_them(shop: Engine) -> None:
    query = ORDERS.replace(" FROM", ", changed FROM")
    for number in range(3):
        put(shop, number)
    reader = connector(shop, query, cursor="changed")
    (stream,) = reader.streams()

    listed = [ref.key for page in reader.ids(stream) or () for ref in page.refs]
    fetched = reader.fetch(
        stream, [RecordRef("shop", "deals", "2"), RecordRef("shop", "deals", "9")]
    )
    reader.close()

    assert sorted(listed) == ["shop:0", "shop:1", "shop:2"]
    assert [record.ref.key for record in fetched.records] == ["shop:2"]


@pytest.mark.parametrize("query", ["DELETE FROM orders", "SELECT 1; DROP TABLE orders"])
def test_what_is_no_single_select_is_refused_when_it_is_configured(
    shop: Engine, query: str
) -> None:
    with pytest.raises(MisconfiguredConnection, match="one SELECT"):
        connector(shop, query)


def test_a_select_that_writes_is_refused_by_the_database(shop: Engine) -> None:
    if shop.dialect.name == "sqlite":
        query = "WITH gone AS (SELECT 1 AS id) SELECT id FROM gone"
        assert pages(connector(shop, query.replace("SELECT id", "SELECT id, 'x' AS stage")))
        return
    put(shop, 1)
    query = "WITH gone AS (DELETE FROM orders RETURNING id) SELECT id FROM gone"

    with pytest.raises((RequestRefused, CrmUnavailable)):
        pages(connector(shop, query))
    with shop.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM orders")).scalar_one() == 1


def test_check_names_a_column_that_is_not_there(shop: Engine) -> None:
    reader = connector(shop, ORDERS, cursor="changed")

    (problem,) = reader.check().problems
    reader.close()

    assert 'no column "changed"' in problem.message


def test_a_database_that_is_away_is_unavailable_and_no_password_is_shown() -> None:
    away = create_engine("postgresql+psycopg://reader:hunter2@127.0.0.1:1/shop")

    with pytest.raises(CrmUnavailable) as caught:
        pages(connector(away))

    assert "hunter2" not in str(caught.value)


CHANGED = ORDERS.replace(" FROM", ", changed FROM")
NUMBERED = ORDERS.replace(" FROM", ", id AS number FROM")


def unset(shop: Engine, *numbers: int) -> None:
    """As if these had never been changed."""
    with shop.begin() as conn:
        for number in numbers:
            conn.execute(text("UPDATE orders SET changed = NULL WHERE id = :n"), {"n": number})


def test_rows_without_a_cursor_value_come_with_every_pull_and_somebody_is_told(
    shop: Engine,
) -> None:
    for number in range(30):
        put(shop, number, minutes=number * 60)
    unset(shop, *range(5, 29))

    first = pages(connector(shop, CHANGED, cursor="changed", page_size="10"))
    put(shop, 5, "99.00", minutes=2_000)
    unset(shop, 0)
    second = pages(connector(shop, CHANGED, cursor="changed", page_size="10"), first[-1].resume_at)

    assert sorted(keys(first)) == sorted(f"shop:{n}" for n in range(30))
    assert [page.complete_until is not None for page in first] == [False] * (len(first) - 1) + [
        True
    ]
    assert "24 row(s) of the query of streams.deals have no changed" in first[-1].warnings[0]
    assert "shop:5" in keys(second), "it has a value now"
    assert {f"shop:{n}" for n in (0, *range(6, 29))} <= set(keys(second))


def test_where_no_row_has_a_cursor_value_every_pull_reads_all_of_them(shop: Engine) -> None:
    for number in range(3):
        put(shop, number)
    unset(shop, 0, 1, 2)

    found = pages(connector(shop, CHANGED, cursor="changed", page_size="2"))

    assert sorted(keys(found)) == ["shop:0", "shop:1", "shop:2"]
    assert {page.resume_at for page in found} == {None}, "the next one is a pull of everything"


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_pull_that_stopped_goes_on_exactly_there_though_all_rows_are_of_one_instant(
    shop: Engine, stop_after: int
) -> None:
    for number in range(8):
        put(shop, number)
    unset(shop, 5, 6, 7)
    reader = connector(shop, CHANGED, cursor="changed", page_size="2")
    (stream,) = reader.streams()

    begun = list(itertools.islice(reader.pull(stream, None), stop_after))
    rest = pages(reader, begun[-1].resume_at)

    assert sorted(keys(begun) + keys(rest)) == [f"shop:{n}" for n in range(8)]


def test_a_number_as_cursor_overlaps_by_rows_until_it_is_known_when_it_was_reached(
    shop: Engine,
) -> None:
    for number in (1, 2, 5, 6):
        put(shop, number)
    first = pages(connector(shop, NUMBERED, cursor="number"))
    # Numbered before the others, and committed after they were read.
    put(shop, 3)
    put(shop, 7)

    second = pages(connector(shop, NUMBERED, cursor="number"), first[-1].resume_at)

    assert keys(first) == [f"shop:{n}" for n in (1, 2, 5, 6)]
    assert {"shop:3", "shop:7"} <= set(keys(second))


def test_a_number_whose_time_is_known_is_not_read_below(shop: Engine) -> None:
    now, lookback = datetime.now(UTC), timedelta(minutes=15)
    for number in range(1, 7):
        put(shop, number)
    place = Place(value=Decimal(2))
    for value, minutes in ((3, 60), (4, 40), (5, 20)):
        at = now - timedelta(minutes=minutes)
        place = replace(place, value=Decimal(value)).ended(begun=at, now=at, lookback=lookback)

    found = pages(connector(shop, NUMBERED, cursor="number"), place.text())

    assert place.back(lookback) == Place(value=Decimal(4)), "20 minutes ago all of them were there"
    assert keys(found) == ["shop:4", "shop:5", "shop:6"]


@pytest.mark.parametrize("seed", range(20))
def test_no_row_that_is_committed_within_the_lookback_is_ever_missed(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    lookback, clock = timedelta(minutes=15), datetime(2026, 3, 1, tzinfo=UTC)
    end = clock + timedelta(hours=6)
    # Numbers in the order of their making, each visible some time later.
    rows = [
        (number, clock + timedelta(seconds=number * 40 + chance.randrange(0, 900)))
        for number in range(500)
    ]
    place: Place | None = None
    seen: set[int] = set()
    while clock < end:
        begin = place and place.back(lookback)
        begun = clock
        if place is not None and begin is None:
            below = sorted((n for n, at in rows if at <= clock and n <= place.value), reverse=True)
            begin = Place(value=Decimal(below[60])) if len(below) > 60 else None
        for number in sorted(n for n, at in rows if at <= clock):
            if begin is None or number >= begin.value:
                seen.add(number)
                place = replace(place or Place(value=Decimal(0)), value=Decimal(number))
        clock += timedelta(seconds=chance.choice((1, 5, 60, 300)))
        if place is not None:
            place = place.ended(begun=begun, now=clock, lookback=lookback)
            assert len(place.trail) <= 14
            place = Place.read(place.text())
        clock += timedelta(seconds=chance.choice((1, 30, 600, 3_000)))

    committed = {number for number, at in rows if at <= begun}
    assert committed <= seen


def test_more_rows_than_a_page_without_a_cursor_are_each_read_once(shop: Engine) -> None:
    for number in range(25):
        put(shop, number)

    found = pages(connector(shop, page_size="10"))

    assert [len(page.records) for page in found] == [10, 10, 5]
    assert len(set(keys(found))) == 25
    assert [page.complete_until is not None for page in found] == [False, False, True]


def test_rows_without_a_key_of_their_own_are_set_aside(shop: Engine) -> None:
    for number in range(3):
        put(shop, number)
    query = ORDERS.replace("SELECT id", "SELECT CASE WHEN id = 0 THEN NULL ELSE 7 END AS id")

    found = pages(connector(shop, query))

    assert keys(found) == ["shop:7"]
    reasons = sorted(letter.reason for page in found for letter in page.rejected)
    assert len(reasons) == 2
    assert "has no id" in reasons[0] + reasons[1]
    assert "has the id 7 of another row" in reasons[0] + reasons[1]


def test_a_comment_at_the_end_of_a_query_hurts_nothing(shop: Engine) -> None:
    put(shop, 1)

    assert keys(pages(connector(shop, ORDERS + " -- paid ones"))) == ["shop:1"]


# ---------------------------------------------------------------- databases as they are


@pytest.mark.parametrize("instant", ["changed", "CAST(changed AS TEXT)", "CAST(changed AS DATE)"])
def test_a_row_of_next_year_hides_nothing_that_changes_until_then(
    shop: Engine, instant: str
) -> None:
    if "DATE" in instant and shop.dialect.name == "sqlite":
        instant = "date(changed)"
    put(shop, 1, minutes=600_000)
    put(shop, 2, minutes=5_000_000)
    reader = connector(
        shop, f"{ORDERS.removesuffix(' FROM orders')}, {instant} AS at FROM orders", cursor="at"
    )
    *_, last = pages(reader)
    now_minutes = int((datetime.now(UTC) - BEGUN).total_seconds() // 60)
    put(shop, 3, minutes=now_minutes + 1)

    again = pages(reader, last.resume_at)

    assert "lies in the future" in last.warnings[-1]
    assert {"shop:2", "shop:3"} <= set(keys(again))
    third = pages(reader, again[-1].resume_at)
    assert keys(third) == keys(again)


def test_a_query_without_any_row_leaves_it_to_a_person_what_is_gone(shop: Engine) -> None:
    assert pages(connector(shop))[-1].doubt == "the query returned no row at all"
    put(shop, 1)
    assert pages(connector(shop))[-1].doubt == ""


def test_what_only_a_database_has_fails_no_row_or_its_own(postgres_database: str) -> None:
    url = postgres_database.replace("postgresql://", "postgresql+psycopg://")
    shop = create_engine(url)
    with shop.begin() as conn:
        conn.execute(text("CREATE TABLE o (id CHAR(5), owner UUID, at TIMESTAMP, day DATE)"))
        conn.execute(
            text(
                "INSERT INTO o VALUES (NULL, NULL, 'infinity', NULL),"
                " ('a', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff', '2026-03-01', '2026-03-01'),"
                " ('b', NULL, 'infinity', 'infinity'), ('c', NULL, '2026-03-02', '2026-03-02')"
            )
        )
    query = "SELECT id, id AS name, owner, day AS close_date, 'x' AS stage, at FROM o"
    reader = connector(shop, query, cursor="at", page_size="1")

    found = pages(reader)
    again = pages(reader, found[-1].resume_at)
    (stream,) = reader.streams()
    listed = [ref.native_id for page in reader.ids(stream) or () for ref in page.refs]

    assert keys(found) == ["shop:a", "shop:c"]
    assert [getattr(record, "owner", None) for page in found for record in page.records] == [
        "shop:6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        None,
    ]
    refused = [(one.ref.native_id, one.field) for page in again for one in page.rejected]
    assert ("b", "close_date") in refused
    assert listed == ["a", "b", "c"]
    reader.close()
    shop.dispose()


def test_a_query_that_never_ends_is_ended(postgres_database: str) -> None:
    url = postgres_database.replace("postgresql://", "postgresql+psycopg://")
    shop = create_engine(url)
    reader = connector(shop, "SELECT pg_sleep(600) IS NULL AS id, 'x' AS stage", total_seconds="1")

    with pytest.raises(CrmUnavailable, match=r"did not end within 1 s.*advanced\.total_timeout"):
        pages(reader)
    shop.dispose()


def test_what_a_person_must_mend_is_told_from_what_passes(
    postgres_database: str, tmp_path: Path
) -> None:
    url = postgres_database.replace("postgresql://", "postgresql+psycopg://")
    nobody = create_engine(url.replace("postgres@", "nobody@"))
    absent = create_engine(f"sqlite:///{tmp_path / 'absent.db'}")
    (tmp_path / "empty.db").touch()
    empty = create_engine(f"sqlite:///{tmp_path / 'empty.db'}")

    with pytest.raises(AuthenticationFailed, match=r"refuses the login.*Correct auth\.url"):
        pages(connector(nobody))
    with pytest.raises(CrmUnavailable, match="there is no database file"):
        pages(connector(absent))
    with pytest.raises(RequestRefused, match="no such table"):
        pages(connector(empty))
    assert not (tmp_path / "absent.db").exists()
