from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from metrics.definition import KpiSettings
from store import identity, records
from store.canonical import Account, Owner
from store.identity_rules import IdentityRules
from store.tables import IDENTITY
from tests.pipeline.metrics.books import BERLIN, Books, account, owner, won

NAMES = ["A", "B", "C", "D", "hub:A"]


@pytest.fixture
def books(sqlite_database: str) -> Iterator[Books]:
    made = Books(sqlite_database)
    yield made
    made.close()


@pytest.fixture
def either(database_url: str) -> Iterator[Books]:
    """Books in either store."""
    made = Books(database_url)
    yield made
    made.close()


def test_purchases_of_a_merged_account_count_under_its_winner_through_the_whole_chain(
    books: Books,
) -> None:
    books.commit(won("D1", account="A"), won("D2", account="B"), won("D3", account="C"))

    books.commit(account("A", deleted=True, merged_into="B"))
    books.commit(account("B", deleted=True, merged_into="C"), account("C"))
    books.publish()

    assert books.number("buyers") == 1
    assert books.number("purchases", dimension="account", key="crm:C") == 3
    assert books.value("purchases", dimension="account", key="crm:A") is None
    books.check()


def test_a_purchase_of_the_winner_meets_the_earlier_ones_of_the_merged_account(
    books: Books,
) -> None:
    books.commit(won("D1", date(2024, 1, 5), account="A", owner="ana"))
    books.commit(account("A", deleted=True, merged_into="B"), account("B"))

    books.commit(won("D2", date(2024, 1, 6), account="B", owner="ben"))
    books.publish()

    assert books.number("buyers", "2024-01") == 1
    assert books.number("new_customers") == 1
    assert books.number("new_customers", dimension="owner", key="crm:ana") == 1
    assert books.value("new_customers", dimension="owner", key="crm:ben") is None
    books.check()


def test_an_account_that_loses_its_winner_stands_for_itself_again(books: Books) -> None:
    books.commit(won("D1", account="A"), won("D2", account="B"))
    books.commit(account("A", merged_into="B"))
    books.publish()

    books.commit(account("A"))
    books.publish()

    assert books.number("purchases", dimension="account", key="crm:A") == 1
    assert books.number("purchases", dimension="account", key="crm:B") == 1
    assert books.number("buyers") == 2
    books.check()


def test_a_deleted_account_forms_no_group_until_it_is_undeleted(books: Books) -> None:
    books.commit(won("D1", account="A"), account("A"))
    books.publish()

    books.commit(deleted=[account("A").ref])
    books.publish()
    gone = books.current()
    books.commit(account("A", label="A is back"))
    books.publish()

    assert gone["buyers", "all", "all", "*"].value == 0
    assert gone["buyers", "all", "all", "*"].left_out == {"no_account": 1}
    assert gone["won_count", "all", "account", "crm:A"].value == 0
    assert gone["won_count", "all", "all", "*"].value == 1
    assert books.number("buyers") == 1
    books.check()


def test_accounts_merged_in_a_circle_are_one_account(books: Books) -> None:
    books.commit(won("D1", account="A"), won("D2", account="B"))

    books.commit(account("A", merged_into="B"), account("B", merged_into="A"))
    books.publish()

    assert books.number("buyers") == 1
    books.check()


def test_owners_with_one_email_are_one_owner_only_if_wanted(
    sqlite_database: str, tmp_path: Path
) -> None:
    matching = KpiSettings(company=BERLIN, match_owners_by_email=True)
    apart = Books(sqlite_database)
    together = Books(f"sqlite:///{tmp_path / 'together.db'}", matching)
    page = [
        owner("ana", email="ana@example.com"),
        owner("hub:7", email=" Ana@Example.com"),
        won("D1", owner="ana"),
        won("D2", owner="hub:7"),
    ]

    for books in (apart, together):
        books.commit(*page)
        books.publish()
        books.check()

    assert apart.number("won_count", dimension="owner", key="hub:7") == 1
    assert together.number("won_count", dimension="owner", key="crm:ana") == 2
    assert together.value("won_count", dimension="owner", key="hub:7") is None
    apart.close()
    together.close()


def test_owners_of_one_connection_with_one_email_stay_two(sqlite_database: str) -> None:
    books = Books(sqlite_database, KpiSettings(company=BERLIN, match_owners_by_email=True))

    books.commit(
        owner("ana", email="shared@example.com"),
        owner("ben", email="shared@example.com"),
        won("D1", owner="ana"),
        won("D2", owner="ben"),
    )
    books.publish()

    assert books.number("won_count", dimension="owner", key="crm:ana") == 1
    assert books.number("won_count", dimension="owner", key="crm:ben") == 1
    books.check()
    books.close()


accounts = st.builds(
    account,
    st.sampled_from(NAMES),
    deleted=st.booleans(),
    merged_into=st.sampled_from([None, *NAMES, "gone"]),
)
owners = st.builds(
    owner,
    st.sampled_from(NAMES),
    email=st.sampled_from([None, "", "a@x.org", "A@x.org ", "b@x.org"]),
)
pages = st.lists(st.lists(st.one_of(accounts, owners), max_size=4), max_size=6)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=pages, is_matching=st.booleans())
def test_who_stands_for_whom_does_not_depend_on_the_order_of_pages(
    either: Books, history: list[list[Account | Owner]], is_matching: bool
) -> None:
    query = select(IDENTITY.c.stream, IDENTITY.c.ref, IDENTITY.c.canonical)
    rules = IdentityRules(owners_by_email=is_matching)
    with either.engine.connect() as conn, conn.begin() as transaction:
        for page in history:
            staged = records.stage(conn, page, [], BERLIN)
            resolution = identity.resolve_page(conn, staged.streams, rules)
            records.apply(conn, staged)
            identity.save(conn, resolution)
        by_pages = {tuple(row) for row in conn.execute(query)}
        conn.execute(delete(IDENTITY))
        identity.rebuild(conn, rules)
        at_once = {tuple(row) for row in conn.execute(query)}
        transaction.rollback()

    assert by_pages == at_once
