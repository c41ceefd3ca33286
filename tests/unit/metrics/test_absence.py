from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from metrics.absence import why_none
from metrics.catalog import available, build
from metrics.definition import KpiSettings
from store.canonical import Company

CATALOG = build(
    KpiSettings(
        company=Company(ZoneInfo("Europe/Berlin"), "EUR"),
        use=("sales", "marketing"),
        skip=("won_count",),
        periods=("month",),
    )
)


@pytest.mark.parametrize(
    ("kpi", "period", "by", "words"),
    [
        ("won_count", None, None, '"won_count" is not kept. Take won_count out of kpis.skip.'),
        ("nps", None, None, '"nps" is not kept. Add service to kpis.use.'),
        ("campaign_roi_last", None, None, "kpis.settings.campaign_roi.models: [primary, last]."),
        ("win_rate", "2017Q1", None, '"2017Q1" is not a period'),
        ("win_rate", "last_90d", None, "kpis.settings.KPI.window"),
        ("win_rate", "2017-Q1", None, "kpis.periods can name it. Kept are: month, all."),
        ("win_rate", "quarter", None, "Values by quarter are not kept"),
        ("win_rate", "now", None, 'There are no values for "now"'),
        ("open_count", "2017-03", None, "Kept are: now."),
        ("win_rate", "2017-03", "account", "kpis.settings.win_rate.by can name it"),
        (None, "2017-03", "region", "kpis.settings.KPI.by can name it"),
        ("win_rate", "2017-03", "owner", "No record stands behind such a value"),
    ],
)
def test_an_empty_answer_says_why(
    kpi: str | None, period: str | None, by: str | None, words: str
) -> None:
    asked = None if kpi is None else available()[kpi]

    assert words in why_none(CATALOG, asked, period, by)
