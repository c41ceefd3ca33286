"""Costs from a folder beside the configuration, as an ops person keeps them."""

from __future__ import annotations

import sqlite3

import pytest

from tests.fixtures.cli import Cli

YAML = """\
version: 1
company: {currency: EUR, timezone: Europe/Berlin}
connections:
  books:
    type: files
    folder: books
    streams:
      costs: {fields: {amount: Betrag}}
"""


@pytest.fixture
def books(kpisync: Cli) -> Cli:
    kpisync.configure(YAML)
    (kpisync.folder / "books").mkdir()
    write(kpisync, *(f"{n},2026-03-05,{n}" for n in range(100)))
    return kpisync


def write(books: Cli, *lines: str) -> None:
    text = "id,date,Betrag\n" + "\n".join(lines) + "\n"
    (books.folder / "books" / "costs.csv").write_text(text)


def stored(books: Cli) -> set[str]:
    return {row["ref"] for row in books("dump", "records", "costs").lines if not row["deleted"]}


def test_rows_come_change_and_go_with_their_file(books: Cli) -> None:
    assert books("check", "--online").exit_code == 0
    books("pull")
    assert len(stored(books)) == 100

    write(books, *(f"{n},2026-03-05,{n + (n == 7)}" for n in range(95)))
    books("pull")

    assert len(stored(books)) == 95
    changed = next(
        row for row in books("dump", "records", "costs").lines if row["ref"] == "books:7"
    )
    assert changed["amount"] == "8.00"


def test_a_line_that_is_mended_leaves_the_dead_letters(books: Cli) -> None:
    write(books, "1,2026-03-05,1", "2,2026-03-05", "3,2026-03-05,drei")
    books("pull")
    assert {letter["code"] for letter in books("dump", "deadletters").lines} == {
        "wrong_cells",
        "not_a_number",
    }

    write(books, "1,2026-03-05,1", "2,2026-03-05,2", "3,2026-03-05,3")
    books("pull")

    assert books("dump", "deadletters").lines == []
    assert stored(books) == {"books:1", "books:2", "books:3"}


@pytest.mark.slow
def test_a_file_cut_short_removes_nothing_until_a_person_says_so(books: Cli) -> None:
    books("pull")
    write(books, *(f"{n},2026-03-05,{n}" for n in range(10)))

    refused = books("pull", expect_exit=6)

    assert "--accept-vanished" in refused.err
    assert len(stored(books)) == 100
    books("pull", "books.costs", "--full", "--accept-vanished")
    assert len(stored(books)) == 10


@pytest.mark.slow
def test_files_that_only_add_rows_remove_none_at_a_full_pull_either(books: Cli) -> None:
    books.configure(YAML.replace("costs: {", "costs: {snapshot: false, "))
    books("pull")
    write(books, *(f"{n},2026-03-05,{n}" for n in range(98, 103)))

    books("pull", "--full")

    assert stored(books) == {f"books:{n}" for n in range(103)}


SQL_YAML = """\
version: 1
company: {currency: EUR, timezone: Europe/Berlin}
connections:
  shop:
    type: sql
    auth: {url: "${SHOP_URL}"}
    streams:
      deals:
        query: >
          SELECT number, total AS amount, paid_on AS close_date, 1 AS is_won, 1 AS is_closed,
                 'paid' AS stage, customer, changed FROM orders
        key: number
        cursor: changed
        fields: {account: {from: customer, of: salesforce}}
"""


@pytest.mark.slow
def test_orders_of_a_database_come_change_and_go(kpisync: Cli) -> None:
    kpisync.configure(SQL_YAML)
    database = kpisync.folder / "shop.db"
    kpisync.environment["SHOP_URL"] = f"sqlite:///{database}"
    with sqlite3.connect(database) as shop:
        shop.execute("CREATE TABLE orders (number, total, paid_on, customer, changed)")
        rows = [(n, f"{n}.50", "2026-03-05", "001A", "2026-03-05 10:00:00") for n in range(9)]
        shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
    kpisync("check", "--online")
    kpisync("pull")
    with sqlite3.connect(database) as shop:
        shop.execute("UPDATE orders SET total = 99, changed = '2026-03-06 10:00:00' WHERE number=3")
        shop.execute("DELETE FROM orders WHERE number = 4")

    kpisync("pull")
    kpisync("pull", "--full")

    deals = {row["ref"]: row for row in kpisync("dump", "records", "deals").lines}
    live = {ref for ref, deal in deals.items() if not deal["deleted"]}
    assert live == {f"shop:{n}" for n in range(9) if n != 4}
    assert (deals["shop:3"]["amount"], deals["shop:3"]["account"]) == ("99.00", "salesforce:001A")
