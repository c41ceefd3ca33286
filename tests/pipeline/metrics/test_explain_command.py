from __future__ import annotations

import csv
from decimal import Decimal

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
kpis:
  use: [customer]
  periods: [month]
"""


@pytest.fixture
def books(kpisync: Cli) -> Cli:
    kpisync.configure(YAML)
    (kpisync.folder / "books").mkdir()
    write(kpisync, "1,2026-03-05,10.50", "2,2026-03-31,4", "3,2026-04-01,7")
    kpisync("pull")
    kpisync("compute")
    return kpisync


def write(books: Cli, *lines: str) -> None:
    text = "id,date,Betrag\n" + "\n".join(lines) + "\n"
    (books.folder / "books" / "costs.csv").write_text(text)


def test_explain_lists_what_a_month_cost_and_writes_it_to_a_file(books: Cli) -> None:
    document = books("explain", "cost", "--period", "2026-03", "--json").json
    books("explain", "cost", "--period", "2026-03", "--csv", "march.csv")

    with (books.folder / "march.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert document["value"] == "14.5"
    assert document["proven"]
    assert document["window"]["until_utc"] == "2026-03-31T22:00:00Z"
    assert document["run"] in {run["run"] for run in books("dump", "runs").lines}
    assert [one["stream"] for one in document["checkpoints"]] == ["costs"]
    assert [line["ref"] for line in document["records"]] == ["books:1", "books:2"]
    assert [row["ref"] for row in rows] == ["books:1", "books:2"]
    assert sum(Decimal(row["numerator"]) for row in rows) == Decimal("14.5")


def test_explain_shows_how_a_value_moved_and_what_was_reported_before(books: Cli) -> None:
    before = books("kpi", "values", "--kpi", "cost", "--period", "2026-03", "--json").json[0]
    write(books, "1,2026-03-05,10.50", "2,2026-03-31,5", "3,2026-04-01,7", "4,2026-03-30,2")
    books("pull")
    books("compute")

    asked = ("explain", "cost", "--period", "2026-03", "--changes")
    found = books(*asked, "--csv", "why.csv", "--json").json
    people = books(*asked)
    too_early = books(*asked, "--until", "2020-01-01", expect_exit=1)
    with (books.folder / "why.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    earlier = books(
        *("kpi", "values", "--kpi", "cost", "--period", "2026-03", "--by", "all", "--json"),
        *("--as-of", "2020-01-01"),
    ).json

    assert before["value"] == "14.5"
    assert [step["delta"]["value"] for step in found["steps"]] == [None, "3"]
    assert found["last"]["value"] == "17.5"
    assert [
        (one["ref"], one["what"], one["delta"]["value"]) for one in found["why"]["reasons"]
    ] == [
        ("books:2", "edited", "1"),
        ("books:4", "new", "2"),
    ]
    assert found["why"]["reasons"][0]["fields"] == [{"field": "amount", "old": "4", "new": "5"}]
    assert found["why"]["complete"]
    assert [(row["ref"], row["value"]) for row in rows] == [("books:2", "1"), ("books:4", "2")]
    assert "amount: 4 -> 5" in people.out
    assert "sum of all: value 3" in people.out
    assert "no value of cost" in too_early.err
    assert earlier == []


def test_explain_proposes_what_could_have_been_meant(books: Cli) -> None:
    misspelt = books("explain", "costs", expect_exit=2)
    no_key = books("explain", "cost", "--by", "campaign", expect_exit=2)
    no_value = books("explain", "cost", "--period", "2031-01", expect_exit=1)

    assert "cost" in misspelt.err
    assert "--by takes DIMENSION=KEY" in no_key.err
    assert "Its periods: 2026-03, 2026-04, all" in no_value.err
