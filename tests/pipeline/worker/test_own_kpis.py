"""A company's own KPI on the records of its CRM and in a sink."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import Decimal

from tests.pipeline.worker.site import Site
from tests.pipeline.worker.test_pushing import accounts_with_deals
from worker import pipeline

KPIS = """\
kpis:
  use: [sales, customer]
  periods: [year]
  custom:
    large_won: {of: deals, date: close_date, where: amount >= 103, value: sum(amount where won)}
    large_rate:
      of: deals
      date: closed_at
      numerator: count(where won and amount >= 103)
      denominator: count(where won or lost)
"""


@dataclass(frozen=True)
class OwnSite(Site):
    """The usual site, whose write-back carries two KPIs of its own."""

    def text(self) -> str:
        return (
            super()
            .text()
            .replace("kpis: {use: [sales, customer], periods: [year]}\n", KPIS)
            .replace("KPI_Revenue__c: revenue", "KPI_Revenue__c: large_won")
            .replace("KPI_Win_Rate__c: win_rate", "KPI_Win_Rate__c: large_rate")
        )


def test_own_kpis_are_written_to_accounts_and_copied_to_a_sink(empty_site: Site) -> None:
    sink = empty_site.folder / "bi.db"
    site = OwnSite(
        folder=empty_site.folder,
        sandbox=empty_site.sandbox,
        database=empty_site.database,
        crms=empty_site.crms,
        more=f'sinks: {{bi: {{type: sqlite, url: "sqlite:///{sink}", table: kpi_values}}}}\n',
    )
    accounts = accounts_with_deals(site, 6)
    site.pull_all("salesforce")
    site.compute()

    site.push()
    with site.runtime() as runtime:
        pipeline.sync_sink(runtime, "bi")

    written = site.kpi_fields()
    assert [written[one].get("KPI_Revenue__c") for one in accounts] == [
        None,
        None,
        None,
        103,
        104,
        105,
    ]
    assert [written[one].get("KPI_Win_Rate__c") for one in accounts] == [0, 0, 0, 100, 100, 100]
    with sqlite3.connect(sink) as conn:
        query = "SELECT sum(value) FROM kpi_values WHERE kpi = 'large_won' AND dimension = 'all'"
        ((total,),) = conn.execute(query + " AND period = 'all'")
    assert Decimal(total) == 312
