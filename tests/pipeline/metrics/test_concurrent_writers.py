from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date

import pytest
from sqlalchemy import func, select

from metrics.cells import commit_page
from store.engine import open_store, reading, writing
from store.tables import DEALS
from tests.pipeline.metrics.books import Books, deal, won

WRITERS = 3
PAGES = 8


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url)
    yield made
    made.close()


def test_writers_on_deals_of_one_account_add_up_to_what_a_rebuild_finds(
    books: Books, database_url: str
) -> None:
    start = threading.Barrier(WRITERS)
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        engine = open_store(database_url)
        try:
            start.wait()
            for page in range(PAGES):
                closed = date(2024, 1 + page, 1 + writer)
                records = [
                    won(f"D{writer}-{page}", closed, account="A", amount=1 + page),
                    won(f"D{writer}-0", closed, account="A", owner=f"o{page}"),
                    deal(f"E{writer}", account="A" if page % 2 else "B", amount=page),
                ]
                with writing(engine) as conn:
                    commit_page(conn, books.catalog, records, [])
        except BaseException as failure:
            failures.append(failure)
            raise
        finally:
            engine.dispose()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    books.publish()

    assert failures == []
    with reading(books.engine) as conn:
        stored = conn.execute(select(func.count()).select_from(DEALS)).scalar_one()
    assert stored == WRITERS * (PAGES + 1)
    assert books.number("won_count", dimension="account", key="crm:A") == WRITERS * PAGES
    assert books.number("buyers") == 1
    books.check()
