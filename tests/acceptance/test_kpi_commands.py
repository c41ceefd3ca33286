"""What the command line says of KPIs: how far values can be trusted, and which will have none."""

from __future__ import annotations

import sqlite3
from contextlib import closing

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
      deals: {fields: {pipeline: art, stage: art, tier: Tier}}
      tickets: {fields: {owner: id, status: id}}
  archive:
    type: files
    folder: archive
    streams:
      deals: {fields: {pipeline: art, stage: art}}
kpis:
  use: [sales, marketing, service]
  periods: [year]
  settings: {win_rate: {by: [tier]}}
"""
DEAL = "{number},2026-02-01T12:00:00Z,sold,true,{won},2026-03-05,10.5,gold"


@pytest.fixture
def books(kpisync: Cli) -> Cli:
    kpisync.configure(YAML)
    folder = kpisync.folder / "books"
    folder.mkdir()
    deals = [DEAL.format(number=n, won=str(n < 10).lower()) for n in range(20)]
    heading = "id,created_at,art,is_closed,is_won,close_date,amount,Tier"
    (folder / "deals.csv").write_text("\n".join([heading, *deals]) + "\n")
    (folder / "tickets.csv").write_text("id,is_closed,created_at\nT1,false,2026-02-01T12:00:00Z\n")
    return kpisync


def test_beside_a_value_stands_how_far_it_can_be_trusted(books: Cli) -> None:
    books("pull", "books")
    books("compute")
    (books.folder / "books" / "tickets.csv").unlink()
    books("pull", "books.tickets", expect_exit=None)

    rows = {row["kpi"]: row for row in books("kpi", "values", "--period", "all", "--json").json}
    text = books("kpi", "values", "--period", "all", "--by", "tier")

    late = books("kpi", "values", "--period", "all", "--kpi", "tickets_created")
    rate, mean, tickets = rows["win_rate"], rows["avg_deal_value"], rows["tickets_created"]
    assert rate["interval"] == {"low": "0.299298", "high": "0.700702", "level": "0.95"}
    assert (rate["small_sample"], mean["small_sample"], tickets["small_sample"]) == (
        *(False, True),
        True,
    )
    assert mean["interval"] is None
    assert (rate["late"], tickets["late"]) == (["archive.deals"], ["books.tickets"])
    assert tickets["complete_until"] is not None
    assert rate["complete_until"] is None, "the archive was never read"
    (line,) = [line for line in text.out.splitlines() if "gold" in line]
    assert "0.30-0.70" in line
    assert "books.tickets is late" in late.err


def test_check_names_kpis_that_will_have_no_value_and_who_could_give_them(books: Cli) -> None:
    found = books("check", "--json").json["problems"]

    assert not any(problem["error"] for problem in found)
    told = {
        problem["message"].split(":")[0].removeprefix("No connection reads "): problem
        for problem in found
    }
    assert set(told) == {*("costs or campaigns", "email_statistics", "leads", "survey_responses")}
    answers = told["survey_responses"]
    assert "nps, nps_change, nps_detractors" in answers["message"]
    assert "connections.books.streams" in answers["remedy"]
    assert "kpis.skip" in answers["remedy"]
    assert answers["place"] == "kpis.use"


def test_the_catalogue_says_what_a_number_means_and_which_way_is_better(books: Cli) -> None:
    listed = books("kpi", "list").out
    shown = books("kpi", "show", "email_bounce_rate").out
    document = books("kpi", "show", "email_bounce_rate", "--json").json

    (line,) = [line for line in listed.splitlines() if line.startswith("email_bounce_rate ")]
    for words in ("E-mail bounce rate", "ratio", "lower", "email_bounce_rate@1", "divided by"):
        assert words in line
    assert "Beware: Bounced e-mails are not among the delivered ones" in shown
    assert {"label", "definition", "unit", "direction", "caveats", "version"} <= document.keys()
    assert document["dimensions"] == ["campaign", "channel", "email"]


def _records_in_cells(books: Cli, plant: str = "") -> dict[str, int]:
    with closing(sqlite3.connect(books.folder / "kpisync.db")) as store, store:
        if plant:
            assert store.execute(plant).rowcount > 0
        return dict(store.execute("SELECT family, sum(n) FROM cells GROUP BY family"))


def test_one_kpi_is_rebuilt_without_the_others(books: Cli) -> None:
    books("pull")
    books("compute")
    right = _records_in_cells(books)
    wrong = _records_in_cells(books, "UPDATE cells SET n = n + 1")

    books("compute", "tickets_created", "--rebuild")

    after = _records_in_cells(books)
    rebuilt = {family for family in right if after[family] == right[family]}
    assert rebuilt
    assert rebuilt != right.keys()
    assert all(after[family] == wrong[family] for family in right.keys() - rebuilt)
    assert "win_rate" in books("compute", "win_rat", expect_exit=2).err
