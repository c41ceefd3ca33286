"""The metrics table as a file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import update

from store.engine import database_now, operating, reading
from store.tables import KPI_VALUES
from tests.pipeline.worker.computed import computed_company, copy_of
from tests.pipeline.worker.site import Site
from worker.exporting import CannotExport, export_values


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with computed_company(tmp_path_factory.mktemp("company")) as site:
        yield site


@pytest.fixture
def computed_site(company: Site, tmp_path: Path) -> Site:
    return copy_of(company, tmp_path)


def export(site: Site, path: Path, **how: str) -> int:
    with site.runtime() as runtime:
        return export_values(runtime, path, **how)  # type: ignore[arg-type]  # only texts here


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_period_becomes_a_csv_with_exact_numbers_and_no_formulas(
    computed_site: Site, tmp_path: Path
) -> None:
    with computed_site.runtime() as runtime, operating(runtime.engine) as conn:
        of_accounts = KPI_VALUES.c.dimension == "account"
        conn.execute(update(KPI_VALUES).where(of_accounts).values(label="=HYPERLINK(1)"))

    count = export(computed_site, tmp_path / "kpis.csv", period="all", dimension="account")

    rows = read_csv(tmp_path / "kpis.csv")
    revenue = {row["key"]: row["value"] for row in rows if row["kpi"] == "revenue"}
    assert len(rows) == count
    assert sorted(revenue.values()) == ["100", "101", "102", "103", "104", "105"]
    assert {row["label"] for row in rows} == {"'=HYPERLINK(1)"}
    assert {row["period"] for row in rows} == {"all"}
    assert all(row["valid_from"].endswith("Z") and row["valid_to"] == "" for row in rows)


def test_no_cell_of_text_begins_a_formula_and_numbers_keep_their_sign(
    computed_site: Site, tmp_path: Path
) -> None:
    shown = []
    for start in ("=", "+", "-", "@", "\t", "\r"):
        with computed_site.runtime() as runtime, operating(runtime.engine) as conn:
            conn.execute(update(KPI_VALUES).values(label=f"{start}1", value=Decimal(-5)))
        export(computed_site, tmp_path / "kpis.csv", kpi="revenue")
        row = read_csv(tmp_path / "kpis.csv")[0]
        shown.append((row["label"], row["value"]))

    assert shown == [(f"'{start}1", "-5") for start in ("=", "+", "-", "@", "\t", "\r")]


def test_parquet_says_the_same_to_whoever_calculates(computed_site: Site, tmp_path: Path) -> None:
    path = tmp_path / "kpis.parquet"

    count = export(computed_site, path)

    question = (
        "SELECT count(*), sum(value) FILTER (kpi = 'revenue' AND dimension = 'all' "
        "AND period = 'all'), any_value(typeof(value)) FROM read_parquet(?)"
    )
    answer = duckdb.execute(question, [str(path)]).fetchall()
    assert answer == [(count, Decimal(615), "DECIMAL(38,18)")]


def test_what_was_believed_at_an_instant_can_be_had_later(
    computed_site: Site, tmp_path: Path
) -> None:
    with computed_site.runtime() as runtime, reading(runtime.engine) as conn:
        then = database_now(conn)
    crm = computed_site.sandbox.salesforce
    crm.edit("Opportunity", str(crm.snapshot()["Opportunity"][0]["id"]), {"Amount": 900})
    computed_site.pull_all("salesforce")
    computed_site.compute()

    for name, at in (("then", then), ("now", then + timedelta(hours=1))):
        with computed_site.runtime() as runtime:
            path = tmp_path / f"{name}.csv"
            export_values(runtime, path, kpi="revenue", period="all", dimension="all", at=at)

    values = [read_csv(tmp_path / f"{name}.csv")[0]["value"] for name in ("then", "now")]
    assert values == ["615", "1415"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    computed_site: Site, tmp_path: Path
) -> None:
    with pytest.raises(CannotExport, match=r"end it with .csv or .parquet"):
        export(computed_site, tmp_path / "kpis.xlsx")
    with pytest.raises(CannotExport, match="No such file or directory"):
        export(computed_site, tmp_path / "nowhere" / "kpis.csv")
    assert [path.name for path in tmp_path.iterdir() if "kpis." in path.name] == []
