"""The bottleneck of the last N days: its window and its norm move with nobody editing anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from metrics.catalog import available
from metrics.catalog.examples import entered, won
from metrics.definition import KpiSettings
from tests.pipeline.metrics.books import BERLIN, Books

NOT_ENOUGH = "not enough data"
EXAMPLE = available()["bottleneck"].example
"""Visits that ended on 5 and 6 June 2023, and longer ones that ended on 15 and 17 January 2024."""


def test_window_and_norm_of_the_bottleneck_move_day_by_day(tmp_path: Path) -> None:
    periods = ("last_90d", "last_365d")
    settings = KpiSettings(
        company=BERLIN, use=("bottleneck",), periods=(), rolling={"bottleneck": periods}
    )
    books = Books(f"sqlite:///{tmp_path}/store.db", settings)
    books.now = datetime(2024, 1, 14, 12, tzinfo=UTC)
    books.commit(*EXAMPLE.records)
    seen = []
    for day in (
        datetime(2024, 1, 15, 12, tzinfo=UTC),
        datetime(2024, 1, 17, 12, tzinfo=UTC),
        # The window of 90 days begins on the 16th, and on the 18th.
        datetime(2024, 4, 14, 12, tzinfo=UTC),
        datetime(2024, 4, 16, 12, tzinfo=UTC),
        # That of 365 days begins on 6 June, and on 7 June: the norm has the visits of June.
        datetime(2024, 6, 4, 12, tzinfo=UTC),
        datetime(2024, 6, 5, 12, tzinfo=UTC),
        datetime(2025, 1, 13, 12, tzinfo=UTC),
        datetime(2025, 1, 17, 12, tzinfo=UTC),
    ):
        books.publish(later=day - books.now)
        books.verify()
        seen.append([_words(books, period) for period in periods])
    books.check()

    assert seen == [
        ["crm:qualify", NOT_ENOUGH],
        ["crm:offer", NOT_ENOUGH],
        ["crm:offer", NOT_ENOUGH],
        [None, NOT_ENOUGH],
        [None, "crm:qualify"],
        [None, "crm:offer"],
        [None, "crm:offer"],
        [None, None],
    ]
    books.close()


def test_what_leaves_the_norm_alone_moves_the_bottleneck(tmp_path: Path) -> None:
    settings = KpiSettings(
        company=BERLIN, use=("bottleneck",), periods=(), rolling={"bottleneck": ("last_90d",)}
    )
    books = Books(f"sqlite:///{tmp_path}/store.db", settings)
    began = datetime(2024, 8, 1, 12, tzinfo=UTC)
    slower = [
        record
        for deal in range(200, 220)
        for record in (
            won(deal, stage="won"),
            entered(deal, "qualify", began),
            entered(deal, "offer", began + timedelta(days=6, hours=12)),
            entered(deal, "won", began + timedelta(days=9)),
        )
    ]
    books.commit(*EXAMPLE.records, *slower)
    books.publish(later=datetime(2024, 9, 3, 12, tzinfo=UTC) - books.now)
    before = _words(books, "last_90d")
    books.publish(later=timedelta(days=1))

    assert before == "crm:offer", "2.5 days after a norm of 1.5, beside 6.5 after 5"
    assert _words(books, "last_90d") == "crm:qualify", "2.5 days after a norm of 2"
    books.check()
    books.close()


def _words(books: Books, period: str) -> str | None:
    found = books.value("bottleneck", period)
    return None if found is None else found.words
