from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import func, select, tuple_, update

from metrics.cell_audit import compare_cells
from metrics.definition import KpiSettings
from metrics.explain.counterexample import smallest
from metrics.expression.definition import Written
from metrics.verify import OF_CELLS, Verification
from store.canonical import Ticket
from store.engine import reading
from store.tables import CELLS
from tests.pipeline.metrics.books import BERLIN, Books, account, deal, entered, ref, stage, won


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    own = Written(
        name="middle",
        label="Middle",
        of="deals",
        date="close_date",
        numerator="median(amount where won)",
    )
    packs = ("sales", "customer", "service")
    made = Books(
        database_url, KpiSettings(company=BERLIN, use=packs, periods=("month",), custom=(own,))
    )
    noon = datetime(2024, 2, 1, 12, tzinfo=UTC)
    made.commit(
        account("A"),
        stage("offer"),
        stage("done", is_closed=True),
        won("D1", stage="done"),
        won("D2", date(2024, 5, 20), stage="done", source="web"),
        deal("D3", stage="offer", source="fair", probability="0.5"),
        entered("D1", "offer", noon),
        entered("D1", "done", datetime(2024, 3, 10, 12, tzinfo=UTC)),
        Ticket(
            ref=ref("tickets", "T1"),
            account="crm:A",
            created_at=noon,
            is_closed=True,
            closed_at=datetime(2024, 2, 3, 12, tzinfo=UTC),
        ),
    )
    made.publish()
    yield made
    made.close()


def test_of_every_family_a_cell_that_something_spoilt_is_found_before_any_value_shows_it(
    books: Books,
) -> None:
    place = [CELLS.c[name] for name in ("family", "dimension", "key", "day", "currency", "bucket")]
    row = func.row_number().over(partition_by=CELLS.c.family, order_by=place).label("place")
    with reading(books.engine, makes_tables=True) as conn:
        every = conn.execute(select(func.count()).select_from(CELLS)).scalar_one()
        compared, before = compare_cells(conn, books.catalog, books.catalog.kpis)
        ranked = select(*place, row).subquery()
        spoilt = conn.execute(
            select(*(ranked.c[one.name] for one in place)).where(ranked.c.place == 1)
        ).all()
        conn.execute(update(CELLS).where(tuple_(*place).in_(spoilt)).values(n=CELLS.c.n + 1))

        _, found = compare_cells(conn, books.catalog, books.catalog.kpis)
        example = smallest(conn, books.catalog, Verification(False, 0, found))

    books.verify()
    assert (compared, before) == (every, [])
    assert len(spoilt) > 20
    assert len(found) == len(spoilt)
    assert all(one.kpi.endswith(OF_CELLS) for one in found)
    assert example is not None
    assert [line.name for line in example.lines] == ["deals crm:D1"]


def test_a_cell_that_is_missing_and_one_too_many_are_found(books: Books) -> None:
    of_first = (CELLS.c.family == "deals_closed", CELLS.c.dimension == "owner")
    with reading(books.engine, makes_tables=True) as conn:
        conn.execute(update(CELLS).where(*of_first).values(key="crm:nobody"))

        _, found = compare_cells(conn, books.catalog, books.catalog.kpis)

    assert {(one.key, one.stored is None, one.recomputed is None) for one in found} == {
        ("crm:nobody", False, True),
        ("crm:ana", True, False),
    }
