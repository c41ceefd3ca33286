"""From the configuration's KPI sections, and the files beside it, to the catalogue."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal
from pathlib import Path

import pytest

from config.loader import load
from connectors.base import Capabilities
from worker.kpi_settings import built_catalog, kpi_settings
from worker.writeback_settings import WritebackReader

BASE = """\
version: 1
connections:
  sf:
    type: salesforce
    auth: {flow: token, access_token: "${TOKEN}", instance_url: "https://acme.my.salesforce.com"}
"""
COMPANY = """\
company:
  currency: EUR
  fx: {file: fx.csv}
  business_hours: {days: mon-fri, open: "09:00", close: "17:30", holidays: holidays.csv}
"""
KPIS = """\
kpis:
  use: [sales, customer, marketing, service]
  settings:
    retention_rate: {window: 60d}
    campaign_revenue: {models: [first, linear]}
    cac: {costs: [campaigns.cost, {file: costs.csv}]}
    resolution_hours: {clock: business_hours, by: [owner]}
    upsell_rate: {of: customers}
    cltv: {lifespan: churn, margin: 0.4}
    stalled_count: {stalled_days: 14}
    nps: {answers: latest}
    won_value: {window: 90d}
"""
TWO_MODELS = """\
kpis:
  use: [marketing]
  settings: {email_revenue_per_delivered: {models: [first, last]}}
"""
WRITEBACK = """\
writebacks:
  health:
    to: sf.Account
    fields: {KPI_A__c: {kpi: win_rate, period: last_90d}, KPI_B__c: customer_value}
"""


def _config(folder: Path, text: str):  # type: ignore[no-untyped-def]
    (folder / "kpisync.yaml").write_text(BASE + text)
    (folder / "fx.csv").write_text("currency,date,rate\nUSD,2024-01-01,0.92\nUSD,2024-06-01,0.9\n")
    (folder / "holidays.csv").write_text("date,name\n2024-12-25,a feast\n")
    (folder / "costs.csv").write_text("date,amount,source\n2024-01-09,1200.50,ads\n")
    return load(folder / "kpisync.yaml", {"TOKEN": "secret"})


def test_settings_and_files_reach_the_catalogue(tmp_path: Path) -> None:
    config = _config(tmp_path, COMPANY + KPIS + WRITEBACK)

    catalog, problems = built_catalog(config)
    settings = kpi_settings(config)

    assert problems == []
    assert catalog is not None
    assert [rate.rate for rate in settings.dated_rates] == [Decimal("0.92"), Decimal("0.9")]
    assert [(cost.amount, cost.source) for cost in settings.costs] == [(Decimal("1200.50"), "ads")]
    hours = settings.working_hours
    assert hours is not None
    assert (hours.opens, hours.closes) == (time(9), time(17, 30))
    assert hours.holidays == {date(2024, 12, 25)}
    assert {"activity_60d_month", "deals_resting_14d", "answers_latest"} <= set(catalog.families)
    assert "resolution_business" in catalog.families
    names = {kpi.name for kpi in catalog.kpis}
    assert {"campaign_revenue_first", "campaign_revenue_linear", "campaign_roi_primary"} <= names
    assert "campaign_revenue_primary" not in names
    assert catalog.kinds_of(catalog.kpi("won_value"))[-1] == "last_90d"


def test_a_write_back_keeps_the_records_it_carries_for_its_period_alone(tmp_path: Path) -> None:
    catalog, problems = built_catalog(
        _config(tmp_path, KPIS.partition("  settings")[0] + WRITEBACK)
    )

    assert problems == []
    assert catalog is not None
    win_rate, value = catalog.kpi("win_rate"), catalog.kpi("customer_value")
    assert ("account",) in catalog.groupings_of(win_rate, "last_90d")
    assert ("account",) not in catalog.groupings_of(win_rate, "month")
    assert ("account",) in catalog.groupings_of(value, "last_365d")
    assert ("account",) not in catalog.groupings_of(value, "all")


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("kpis: {settings: {win_rat: {by: [owner]}}}\n", "kpis.settings", "There is no KPI"),
        (
            "kpis: {settings: {win_rate: {clock: clock}}}\n",
            "settings.win_rate",
            'no setting "clock"',
        ),
        ("kpis: {settings: {cac: {by: [owner]}}}\n", "cac.by", "not a dimension"),
        ("kpis: {settings: {cac: {costs: [everything]}}}\n", "costs[0]", "no source of costs"),
        ("kpis: {settings: {cac: {costs: [{file: none.csv}]}}}\n", "costs[0]", "cannot be read"),
        ("company: {fx: {file: none.csv}}\n", "company.fx.file", "cannot be read"),
        ("company: {fx: {file: holidays.csv}}\n", "company.fx.file", "no column currency"),
        ("company: {fx: {from: nobody}}\n", "company.fx.from", "no connection"),
        ("company: {business_hours: {days: mon-bri}}\n", "business_hours.days", "no days"),
        ("company: {business_hours: {open: nine}}\n", "business_hours.open", "no time"),
        (
            "kpis: {settings: {resolution_hours: {clock: business_hours}}}\n",
            "resolution_hours.clock",
            "says nothing yet",
        ),
        (
            TWO_MODELS,
            "kpis",
            "one model of attribution at a time, not first, last",
        ),
        (
            WRITEBACK.replace("win_rate", "open_count"),
            "writebacks.health.fields.KPI_A__c",
            "cannot be had for the last days",
        ),
    ],
)
def test_what_cannot_be_is_told_at_its_place(
    tmp_path: Path, text: str, path: str, words: str
) -> None:
    catalog, problems = built_catalog(_config(tmp_path, text))

    assert catalog is None
    assert any(path in found.path and words in found.message for found in problems), problems


def test_a_kpi_with_settings_of_its_own_can_be_written_and_one_without_its_model_says_so(
    tmp_path: Path,
) -> None:
    fields = "{KPI_A__c: {kpi: cltv, by: account}, KPI_B__c: {kpi: campaign_revenue_linear}}"
    text = f"{KPIS}writebacks: {{health: {{to: sf.Account, fields: {fields}}}}}\n"
    text = text.replace("lifespan: churn, ", "").replace("[first, linear]", "[first]")
    config = _config(tmp_path, COMPANY + text)
    catalog, problems = built_catalog(config)
    assert catalog is not None, problems
    accounts = Capabilities(
        push_batch=1,
        sees_deletions=True,
        stream_objects={"accounts": "Account"},
        object_streams={"Account": "accounts"},
    )

    reader = WritebackReader(config, "health", catalog=catalog, capabilities=accounts)
    reader.spec()

    (problem,) = reader.problems
    assert problem.path.endswith("KPI_B__c")
    assert problem.hint == "Add its model: kpis.settings.campaign_revenue.models: [first, linear]."
