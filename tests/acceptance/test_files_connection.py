"""Costs from a folder beside the configuration, as an ops person keeps them."""

from __future__ import annotations

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


def test_a_file_cut_short_removes_nothing_until_a_person_says_so(books: Cli) -> None:
    books("pull")
    write(books, *(f"{n},2026-03-05,{n}" for n in range(10)))

    refused = books("pull", expect_exit=6)

    assert "--accept-vanished" in refused.err
    assert len(stored(books)) == 100
    books("pull", "books.costs", "--full", "--accept-vanished")
    assert len(stored(books)) == 10
