"""What time and rates alone change in a company's own KPIs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from metrics import clock
from metrics.definition import KpiSettings
from metrics.expression.definition import Written
from store.canonical import Rate
from store.engine import reading
from tests.pipeline.metrics.books import BERLIN, FIRST_INSTANT, Books, deal, ref, won

OWN = (
    Written(
        name="overdue",
        label="Overdue",
        of="deals",
        numerator="count(where open and close_date < today)",
        by=(("owner",),),
    ),
    Written(
        name="large",
        label="Large",
        of="deals",
        date="close_date",
        numerator="count(where amount >= 50)",
    ),
    Written(name="worth", label="Worth", of="deals", date="created_at", numerator="sum(amount)"),
)


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    settings = KpiSettings(company=BERLIN, use=(), rates_from="crm", custom=OWN)
    made = Books(database_url, settings)
    yield made
    made.close()


def rate(name: str, since: date, worth: str) -> Rate:
    return Rate(ref=ref("rates", name), currency="USD", date=since, rate=Decimal(worth))


def counted(books: Books, kpi: str, period: str = "all") -> Decimal | None:
    """A value of the total; a group without records has no row and counts as 0."""
    found = books.value(kpi, period)
    return Decimal(0) if found is None else found.value


def due_at(books: Books, at: datetime) -> bool:
    with reading(books.engine) as conn:
        return clock.is_due(conn, books.catalog, at)


def test_today_moves_at_local_midnight_and_moves_only_what_it_makes_wrong(books: Books) -> None:
    books.commit(
        deal("D1", owner="ana", close_date=date(2024, 6, 2)),
        deal("D2", owner="ben", close_date=date(2024, 6, 30)),
        deal("D3", owner="cem", close_date=None),
    )
    midnight = datetime(2024, 6, 2, 22, tzinfo=UTC)
    books.publish(later=midnight - timedelta(microseconds=1) - FIRST_INSTANT)
    before = counted(books, "overdue", "now")
    with reading(books.engine) as conn:
        announced = clock.next_change(conn, books.catalog, books.now)

    is_early, is_due = due_at(books, midnight - timedelta(microseconds=1)), due_at(books, midnight)
    moved = books.publish(later=timedelta(microseconds=1))

    assert (before, announced, is_early, is_due) == (Decimal(0), midnight, False, True)
    assert books.number("overdue", "now") == 1
    assert books.number("overdue", "now", "owner", "crm:ana") == 1
    assert (moved.changed, moved.unchanged) == (2, 0)
    books.check()


def test_a_new_rate_decides_anew_which_deals_are_large_and_what_they_are_worth(
    books: Books,
) -> None:
    books.commit(rate("R1", date(2024, 1, 1), "0.4"))
    books.commit(won("D1", date(2024, 3, 10), amount=100, currency="USD"))
    books.publish()
    before = [counted(books, name) for name in ("large", "worth")]

    books.commit(rate("R2", date(2024, 3, 1), "0.5"))
    books.publish()
    after = [counted(books, name) for name in ("large", "worth")]
    books.check()
    books.commit(rate("R3", date(2024, 3, 11), "9"))
    books.publish()

    assert before == [0, 40]
    assert after == [1, 50]
    assert [counted(books, name) for name in ("large", "worth")] == after
    books.check()


def test_a_changed_expression_is_built_anew_and_keeps_what_was_reported(books: Books) -> None:
    books.commit(won("D1", date(2024, 3, 10), amount=60), won("D2", date(2024, 3, 10), amount=40))
    books.publish()
    before = books.value("large")

    changed = tuple(
        Written(name=one.name, label=one.label, of=one.of, date=one.date, numerator="count()")
        if one.name == "large"
        else one
        for one in OWN
    )
    books.configure(KpiSettings(company=BERLIN, use=(), rates_from="crm", custom=changed))
    books.rebuild()
    books.publish()
    after = books.value("large")

    assert before is not None
    assert after is not None
    assert [before.value, after.value] == [1, 2]
    assert before.definition != after.definition
    books.check()
