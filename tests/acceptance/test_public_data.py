"""The public data set of a hardware seller: known figures, through each CRM and half and half."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from tests.fixtures.cli import Cli

ROOT = Path(__file__).parents[2]
DATA = Path(
    os.environ.get("KPISYNC_TEST_DATA", ROOT.parent / "shared" / "data" / "crm_sales_opportunities")
)
QUARTERS = ("2017-Q1", "2017-Q2", "2017-Q3", "2017-Q4")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not DATA.is_dir(),
        reason="the public data set is not part of the repository: name its folder with "
        "KPISYNC_TEST_DATA (accounts.csv, products.csv, sales_teams.csv, sales_pipeline.csv)",
    ),
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("salesforce", marks=pytest.mark.slow),
        pytest.param("hubspot", marks=pytest.mark.slow),
        "both",
    ],
)
def company(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Company:
    folder = tmp_path_factory.mktemp(f"demo-{request.param}")
    cli = Cli(folder)
    ended = cli(
        "demo", "--data", str(DATA), "--crm", request.param, "--folder", str(folder), seconds=580
    )
    return Company(cli, ended.out)


class Company:
    """What is left after the demo: its words, and the store to ask."""

    def __init__(self, cli: Cli, words: str) -> None:
        self.words = words
        self.rows = cli("kpi", "values", "--json").json

    def value(self, kpi: str, period: str = "all", by: str = "all", label: str | None = None):
        found = [
            row
            for row in self.rows
            if (row["kpi"], row["period"], row["dimension"]) == (kpi, period, by)
            and (label is None or row["label"] == label)
        ]
        assert len(found) == 1, (kpi, period, by, label, found)
        return Decimal(found[0]["value"])


def test_deals_won_and_lost_by_quarter(company: Company) -> None:
    assert [company.value("won_count", quarter) for quarter in QUARTERS] == [531, 1254, 1257, 1196]
    assert [company.value("lost_count", quarter) for quarter in QUARTERS] == [116, 778, 790, 789]


def test_win_rates_are_ratios_of_sums(company: Company) -> None:
    rates = [round(company.value("win_rate", quarter), 4) for quarter in QUARTERS]

    assert [str(rate) for rate in rates] == ["0.8207", "0.6171", "0.6141", "0.6025"]
    assert round(company.value("win_rate"), 4) == Decimal("0.6315")


def test_money_and_days_over_all_time(company: Company) -> None:
    assert company.value("won_value") == 10_005_534
    assert round(company.value("avg_deal_value"), 2) == Decimal("2360.91")
    assert round(company.value("sales_cycle_days"), 2) == Decimal("51.78")


def test_the_product_that_the_file_writes_two_ways_is_one_product(company: Company) -> None:
    days = {
        label: round(company.value("sales_cycle_days", by="product", label=label), 2)
        for label in ("GTK 500", "GTX Pro")
    }

    assert days == {"GTK 500": Decimal("64.07"), "GTX Pro": Decimal("48.33")}
    assert company.value("won_count", by="product", label="GTX Pro") == 729


def test_the_top_seller_is_one_person_however_many_crms_know_them(company: Company) -> None:
    won = [row for row in company.rows if (row["kpi"], row["period"]) == ("won_count", "all")]
    sellers = [row for row in won if row["dimension"] == "owner"]
    seller = max(sellers, key=lambda row: Decimal(row["value"]))["label"]

    assert company.value("won_count", by="owner", label=seller) == 349
    assert company.value("lost_count", by="owner", label=seller) == 204
    assert company.value("won_value", by="owner", label=seller) == 1_153_214


def test_the_second_pass_finds_nothing_to_do(company: Company) -> None:
    assert "second pass: 0 writes, 0 changed values" in company.words
    assert ", 0 differ" in company.words
