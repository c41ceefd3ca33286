"""A company's own KPIs and its targets on the command line, and every example of their page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.loader import load
from metrics.expression.checking import Checker
from metrics.expression.faults import ExpressionFault
from metrics.expression.fields import fields_of
from tests.fixtures.cli import Cli
from worker.kpi_settings import built_catalog

PAGE = (Path(__file__).parents[3] / "docs" / "custom-kpis.md").read_text(encoding="utf-8")

BASE = """\
version: 1
company: {currency: EUR, timezone: Europe/Berlin, fx: {table: {USD: 0.5}}}
connections:
  books:
    type: files
    folder: books
    streams: {deals: {fields: {arr: {from: ARR, type: money}}}, tickets: {}, accounts: {}}
"""

OWN = """\
kpis:
  use: [sales]
  custom:
    enterprise_win_rate:
      label: Enterprise win rate, rolling 90 days
      of: deals
      date: closed_at
      where: segment = 'Enterprise' and amount >= 25000
      numerator: count(where won)
      denominator: count(where won or lost)
      window: 90d
      by: [owner, region]
      format: percent
    recurring:
      of: deals
      date: close_date
      value: sum(arr where won)
      by: [account]
targets:
  enterprise_win_rate: {period: last_90d, at_least: 60%, warn_at: 55%, owner: Head of sales}
  recurring: {period: quarter, at_least: 100}
"""


def _deals(today: datetime) -> str:
    recent, old = (f"{today - timedelta(days=days):%Y-%m-%d}" for days in (5, 95))
    columns = "id,owner,account,pipeline,stage,is_closed,is_won,amount,currency,close_date"
    rows = [
        f"1,ana,A,p,s,true,true,25000,EUR,{recent},Enterprise,EMEA,100.50",
        f"2,ana,A,p,s,true,false,50000,USD,{recent},Enterprise,EMEA,",
        f"3,ben,B,p,s,true,true,49998,USD,{recent},Enterprise,APAC,5",
        f"4,ben,B,p,s,true,true,99000,EUR,{old},Enterprise,APAC,7",
        f"5,ben,B,p,s,true,true,99000,EUR,{recent},Small,APAC,7",
        f"6,ben,B,p,s,true,true,99000,XTS,{recent},Enterprise,APAC,9",
        f"7,ben,B,p,s,false,false,99000,EUR,{recent},Enterprise,APAC,9",
    ]
    return "\n".join([f"{columns},segment,region,ARR", *rows])


@pytest.fixture
def books(kpisync: Cli) -> Cli:
    kpisync.configure(BASE + OWN)
    (kpisync.folder / "books").mkdir()
    text = _deals(datetime.now(UTC))
    (kpisync.folder / "books" / "deals.csv").write_text(text)
    for name in ("tickets", "accounts"):
        (kpisync.folder / "books" / f"{name}.csv").write_text("id,name,owner,is_closed\n")
    return kpisync


def test_the_enterprise_win_rate_from_the_file_to_its_records(books: Cli) -> None:
    books("run", "--once")
    asked = ("kpi", "values", "--kpi", "enterprise_win_rate", "--json")
    values = {(row["dimension"], row["key"]): row for row in books(*asked).json}
    found = books("explain", "enterprise_win_rate", "--json").json
    shown = books("kpi", "show", "enterprise_win_rate").out
    verified = books("verify", "--json").json
    status = books("status", "--fail-on", "target", "--json", expect_exit=5).json

    total = values["all", "*"]
    assert (total["value"], total["numerator"], total["denominator"]) == ("0.5", "1", "2")
    assert (total["label"], total["unit"], total["n"]) == ("Total", "ratio", 2)
    assert set(values) == {("all", "*"), ("owner", "books:ana"), ("region", "EMEA")}
    assert {line["ref"] for line in found["records"]} == {"books:1", "books:2"}
    assert found["proven"]
    assert "where segment = 'Enterprise' and amount >= 25000" in shown
    assert verified["ok"]
    assert (total["target"], total["state"]) == ("0.6", "missed")
    assert total["attainment"].startswith("0.8333")
    by_kpi = {one["kpi"]: one for one in status["targets"]}
    assert by_kpi["enterprise_win_rate"]["owner"] == "Head of sales"
    assert by_kpi["recurring"]["state"] == "on"


def test_faults_of_own_kpis_and_targets_are_told_all_at_once_with_their_places(
    kpisync: Cli,
) -> None:
    kpisync.configure(
        BASE
        + """\
kpis:
  use: [sales]
  custom:
    win_rate: {of: deals, value: count()}
    mine:
      of: deals
      where: "segmet = 'x'"
      numerator: sum(amont)
      window: 90d
    nothing: {of: leads}
"""
    )
    own = kpisync("check", expect_exit=3).err
    kpisync.configure(
        BASE
        + """\
kpis: {use: [sales], periods: [month]}
targets:
  win_rat: {period: month, at_least: 5%}
  win_rate: {period: quarter, at_least: 28%}
  lost_count: {period: month, at_least: 28}
  won_count: {period: month, at_least: 5, warn_at: 6, by: ownr}
  won_value: {period: month}
"""
    )
    targets = kpisync("check", expect_exit=3).err

    for words in (
        'kpisync.yaml:11:5  kpis.custom\n  "win_rate" is the name of a built-in KPI.',
        'kpisync.yaml:14:14  kpis.custom.mine.where\n  Column 1: "segmet"',
        'Did you mean "segment"?',
        'kpisync.yaml:15:18  kpis.custom.mine.numerator\n  Column 5: "amont"',
        "Nobody says what is counted.",
        "No connection reads leads",
    ):
        assert words in own, own
    for words in (
        'There is no KPI "win_rat".\n  Did you mean "win_rate"?',
        "Add quarter to kpis.periods.",
        '"lost_count" gets better the other way.',
        "A value is at risk below its target, not beyond it.",
        "A target says at_least or at_most, one of the two.",
    ):
        assert words in targets, targets


def _blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_configurations_on_the_page_have_no_fault(tmp_path: Path) -> None:
    kpis, targets, alerts = _blocks()
    path = tmp_path / "kpisync.yaml"
    used = kpis.replace("kpis:\n", "kpis:\n  use: [sales, service]\n", 1)
    path.write_text(BASE + used + targets + alerts)

    catalog, problems = built_catalog(load(path, {}))

    assert [str(problem) for problem in problems] == []
    assert catalog is not None
    assert len([kpi for kpi in catalog.kpis if kpi.custom]) == 6


def test_the_expressions_on_the_page_can_be_read() -> None:
    own = {"is_active": "boolean"}
    deals, tickets = (Checker(of, fields_of(of, own)) for of in ("deals", "tickets"))
    tables = re.findall(r"^\| .* \|$", PAGE[PAGE.index("## Figures") :], flags=re.MULTILINE)
    figures = [text for row in tables for text in re.findall(r"`(\w+\([^`]*\))`", row)]
    section = PAGE[PAGE.index("## Conditions") : PAGE.index("- A field is")]
    conditions = re.findall(r"`([^`]+)`", section)

    assert len(figures) > 8
    assert len(conditions) == 20
    for text in figures:
        _read_by_either(text, deals.aggregate, tickets.aggregate)
    for text in conditions:
        _read_by_either(text, deals.filter, tickets.filter)


def _read_by_either(text: str, *ways: object) -> None:
    faults = []
    for read in ways:
        try:
            read(text)  # type: ignore[operator]  # a method of a checker
        except ExpressionFault as fault:
            faults.append(fault)
    assert len(faults) < len(ways), f"{text}: {faults}"
