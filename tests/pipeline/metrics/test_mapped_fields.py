"""Fields of the company's own mapping as what built-in KPIs are grouped by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from metrics.catalog import build
from metrics.definition import KpiSettings
from store.canonical import Scalar
from tests.pipeline.metrics.books import BERLIN, Books, won

BY_TIER = KpiSettings(
    company=BERLIN,
    use=("won_count", "new_customers"),
    by={"won_count": (("tier",), ("owner", "tier")), "new_customers": (("tier",),)},
    fields={"deals": ("area", "tier")},
)


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    made = Books(database_url, BY_TIER)
    yield made
    made.check()
    made.close()


def sold(name: str, **extra: Scalar):  # type: ignore[no-untyped-def]
    return replace(won(name, account=name), extra=extra)


def test_whatever_a_field_holds_tells_groups_apart(books: Books) -> None:
    values: list[Scalar] = ["gold", "a,b", 7, Decimal("7.50"), True, date(2024, 2, 29), "x" * 130]
    books.commit(*(sold(f"D{n}", tier=value) for n, value in enumerate(values)), sold("D9"))
    books.publish()

    current = books.current()
    keys = {place[3] for place in current if place[:3] == ("won_count", "all", "tier")}
    assert keys == {"gold", "a,b", "7", "7.5", "true", "2024-02-29", "x" * 120}
    assert books.number("won_count", "all", "owner,tier", "crm:ana,a\\,b") == 1
    assert books.number("new_customers", "2024-03", "tier", "gold") == 1
    assert books.number("won_count") == 8, "a deal without the field is in no group of it"


def test_an_edit_of_the_field_alone_moves_the_record_to_its_new_group(books: Books) -> None:
    books.commit(sold("D1", tier="gold"), sold("D2", tier="gold"))
    books.publish()
    books.commit(sold("D1", tier="iron"))
    books.publish()

    assert books.number("won_count", "all", "tier", "gold") == 1
    assert books.number("new_customers", "all", "tier", "iron") == 1


def test_a_field_that_takes_the_place_of_another_makes_its_cells_stale(books: Books) -> None:
    books.commit(sold("D1", tier="gold", area="north"))
    books.publish()

    books.configure(replace(BY_TIER, by={**BY_TIER.by, "new_customers": (("area",),)}))
    books.rebuild()
    books.commit(sold("D2", tier="gold", area="south"))
    books.publish()

    assert books.number("won_count", "all", "tier", "gold") == 2
    assert books.number("new_customers", "all", "area", "south") == 1


def test_fields_that_are_not_mapped_and_more_than_four_are_refused() -> None:
    names = ("a", "b", "c", "d", "e")
    many = replace(BY_TIER, by={"won_count": tuple((name,) for name in names)})

    with pytest.raises(ValueError, match=r'won_count\.by: "a" is not a dimension'):
        build(many)
    with pytest.raises(ValueError, match="more than 4 mapped fields of deals: a, b, c, d, e"):
        build(replace(many, fields={"deals": names}))
