"""Faults of the configuration that only show when KPIs and connectors are known."""

from __future__ import annotations

import pytest

from config.errors import ConfigurationError
from tests.pipeline.worker.site import Site


def problems(site: Site) -> str:
    with pytest.raises(ConfigurationError) as caught, site.runtime():
        pass
    return str(caught.value)


def line_of(site: Site, text: str) -> int:
    lines = site.path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def changed(site: Site, old: str, new: str) -> Site:
    class Changed(Site):
        def text(self) -> str:
            return super().text().replace(old, new)

    assert old in site.text()
    return Changed(site.folder, site.sandbox, site.database, crms=site.crms)


def test_an_unknown_kpi_in_a_write_back_names_its_place_and_the_nearest(empty_site: Site) -> None:
    site = changed(empty_site, "KPI_Win_Rate__c: win_rate", "KPI_Win_Rate__c: winrate")

    said = problems(site)

    assert f"kpisync.yaml:{line_of(site, 'winrate')}:" in said
    assert "writebacks.account_kpis.fields.KPI_Win_Rate__c" in said
    assert 'Did you mean "win_rate"?' in said


def test_every_fault_comes_at_once(empty_site: Site) -> None:
    site = changed(
        empty_site,
        "kpis: {use: [sales, customer], periods: [year]}",
        "kpis: {use: [sales], skip: [win_rat], periods: [year], settings: {revenu: {by: [owner]},"
        " open_value: {by: [planet]}}}",
    )

    said = problems(site)

    assert "win_rat" in said
    assert "revenu" in said
    assert "planet" in said


def test_a_kpi_that_is_not_kept_cannot_be_written(empty_site: Site) -> None:
    said = problems(changed(empty_site, "use: [sales, customer]", "use: [sales]"))

    assert '"revenue" is not kept' in said
    assert "kpis.use" in said


def test_a_period_that_is_not_kept_cannot_be_written(empty_site: Site) -> None:
    said = problems(changed(empty_site, "_c: win_rate", "_c: {kpi: win_rate, period: quarter}"))

    assert "Add quarter to kpis.periods" in said


def test_no_database_and_no_crm_is_touched_before_it_is_needed(empty_site: Site) -> None:
    empty_site.sandbox.salesforce.forget()

    with empty_site.runtime() as runtime:
        assert set(runtime.writebacks) == {"account_kpis"}

    assert empty_site.sandbox.salesforce.requests() == []
    assert not (empty_site.folder / "kpisync.db").exists()


def test_the_running_year_is_written_and_falls_to_zero_with_the_next(empty_site: Site) -> None:
    site = changed(
        empty_site, "KPI_Revenue__c: revenue", "KPI_Revenue__c: {kpi: revenue, period: year}"
    )
    with site.runtime() as runtime:
        (revenue, _) = runtime.writebacks["account_kpis"].fields

    assert revenue.period == "year"
