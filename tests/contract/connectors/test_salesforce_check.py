"""`check` on a Salesforce connection: everything that will go wrong, each with place and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.base import ConnectionSettings, FieldSource, Problem, StreamSettings
from connectors.registry import connect
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.contract.connectors.test_salesforce_complaints_reading import StoredOrg
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox, launch
from worker.checking import check_connection


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    started.salesforce.add_field("Opportunity", "Region_Name__c", "text")
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.settings(
        show_fields=["Opportunity.Amount", "Account.Industry"],
        show_objects=["Campaign", "CampaignMember"],
        may_customize=False,
    )
    return org


def found(
    org: SalesforceOrg, streams: Mapping[str, StreamSettings] | None = None
) -> dict[str, Problem]:
    report = connect(org.settings(streams=streams)).check()
    return {
        problem.place.removeprefix("connections.salesforce."): problem
        for problem in report.problems
    }


def of_deals(**fields: FieldSource) -> Mapping[str, StreamSettings]:
    return {"accounts": StreamSettings(), "deals": StreamSettings(fields=fields)}


def test_a_column_that_would_be_silently_null_is_an_error_naming_object_field_and_permission(
    org: SalesforceOrg,
) -> None:
    org.crm.settings(hide_fields=["Opportunity.Amount", "Account.Industry"])

    problems = found(org)

    amount = problems["streams.deals.fields.amount"]
    assert amount.is_error
    assert "Opportunity.Amount" in amount.message
    assert "field-level security" in amount.remedy
    assert not problems["streams.accounts.fields.industry"].is_error


def test_check_ends_with_an_error_where_a_column_would_be_silently_null(
    org: SalesforceOrg, running: Sandbox, tmp_path: Path
) -> None:
    site = StoredOrg(tmp_path, running, f"sqlite:///{tmp_path}/none.db", crms=("salesforce",))
    site.with_fields()
    cli = Cli(tmp_path)
    said = cli("--config", str(site.path), "check", "--online", expect_exit=0).out
    org.crm.settings(hide_fields=["Opportunity.Amount"])

    ended = cli("--config", str(site.path), "check", "--online", expect_exit=1)

    assert "Opportunity.Amount" not in said
    assert "Opportunity.Amount" in f"{ended.out}{ended.err}"
    assert "field-level security" in f"{ended.out}{ended.err}"


@pytest.mark.parametrize("required", [True, False])
def test_a_hidden_field_that_the_configuration_maps_is_an_error_where_it_is_required(
    org: SalesforceOrg, *, required: bool
) -> None:
    org.crm.settings(hide_fields=["Opportunity.Type"])

    problem = found(org, of_deals(kind=FieldSource("Type", required=required)))[
        "streams.deals.fields.kind"
    ]

    assert problem.is_error is required
    assert "Opportunity.Type" in problem.message
    assert ("keeps what is stored" in problem.message) is not required
    assert "field-level security" in problem.remedy


def test_a_source_of_the_wrong_type_is_told(org: SalesforceOrg) -> None:
    problems = found(
        org,
        of_deals(
            amount=FieldSource("CloseDate"),
            probability=FieldSource("Region_Name__c"),
            region=FieldSource("Region_Name__c"),
        ),
    )

    assert problems["streams.deals.fields.amount"].is_error
    assert "never fits" in problems["streams.deals.fields.amount"].message
    assert not problems["streams.deals.fields.probability"].is_error
    assert "streams.deals.fields.region" not in problems


def test_a_calculated_source_is_told(org: SalesforceOrg) -> None:
    problem = found(org, of_deals(x_parent=FieldSource("Account.Industry")))[
        "streams.deals.fields.x_parent"
    ]

    assert not problem.is_error
    assert "Account.Industry" in problem.message


def test_rights_that_are_not_needed_are_told(org: SalesforceOrg) -> None:
    org.crm.settings(may_customize=True)

    (problem,) = [
        each for each in connect(org.settings()).check().problems if "Customize" in each.message
    ]

    assert problem.place == "connections.salesforce.auth"
    assert not problem.is_error
    assert "Take it from" in problem.remedy


def test_whoever_writes_onto_users_needs_to_manage_them(org: SalesforceOrg) -> None:
    def says_too_much(settings: ConnectionSettings) -> bool:
        return any("Manage Users" in each.message for each in connect(settings).check().problems)

    assert says_too_much(org.settings())
    assert not says_too_much(replace(org.settings(), written_objects=frozenset({"User"})))


def test_several_currencies_without_rates_are_told(sandbox: Sandbox) -> None:
    org = SalesforceOrg(sandbox.salesforce)
    assert "streams" not in found(org)
    org.crm.settings(multi_currency={"corporate": "EUR", "rates": {"USD": 1.1}})

    problem = found(org)["streams"]
    assert "USD" in problem.message
    assert "company.fx" in problem.remedy
    for told in ({"gives_rates": True}, {"rated": None}, {"rated": frozenset({"USD"})}):
        given = connect(replace(org.settings(), **told)).check()
        assert not any("currenc" in each.message for each in given.problems)


def test_an_object_without_licence_is_told_as_such(org: SalesforceOrg) -> None:
    org.crm.settings(hide_objects=["Campaign"])

    problem = found(org, {"deals": StreamSettings(), "campaigns": StreamSettings()})[
        "streams.campaigns"
    ]

    assert "Marketing User" in problem.remedy


class MarketingOrg(StoredOrg):
    """An installation that keeps the KPIs of marketing."""

    def text(self) -> str:
        settings = "settings: {campaign_revenue: {models: [linear]}}"
        return (
            super()
            .text()
            .replace("use: [sales, customer]", f"{settings}, use: [sales, customer, marketing]")
        )


def test_a_missing_licence_names_the_kpis_that_will_be_absent(
    org: SalesforceOrg, running: Sandbox, tmp_path: Path
) -> None:
    org.crm.settings(hide_objects=["CampaignMember", "Campaign"])
    site = MarketingOrg(
        tmp_path,
        running,
        f"sqlite:///{tmp_path}/none.db",
        crms=("salesforce",),
        streams="{deals: {}, campaigns: {}, campaign_members: {}}",
    )

    with site.runtime() as runtime:
        problems = {one.place: one for one in check_connection(runtime, "salesforce")}

    members = problems["connections.salesforce.streams.campaign_members"]
    assert not members.is_error
    assert "campaign_revenue_linear" in members.message
    assert "win_rate" not in members.message
    assert "cac" in problems["connections.salesforce.streams.campaigns"].message


def test_a_faulty_filter_is_told_with_its_place(org: SalesforceOrg) -> None:
    problem = found(org, {"deals": StreamSettings(where="Amont > 5")})["streams.deals.where"]

    assert problem.is_error
    assert "Amont" in problem.message


def test_a_quota_that_is_nearly_used_up_is_told(org: SalesforceOrg) -> None:
    org.crm.settings(daily_calls_max=1000, daily_calls_used=500)
    connector = connect(org.settings())
    assert not any("API calls" in each.message for each in connector.check().problems)

    org.crm.settings(daily_calls_used=960)
    problems = connect(org.settings()).check().problems
    org.crm.settings(daily_calls_max=100_000, daily_calls_used=0)

    assert any("API calls" in each.message for each in problems)


@pytest.mark.parametrize("version", ["99.0", "30.0"])
def test_a_version_that_the_org_does_not_serve_is_one_problem(
    org: SalesforceOrg, version: str
) -> None:
    report = connect(replace(org.settings(), api_version=version)).check()

    (problem,) = report.problems
    assert problem.place == "connections.salesforce.api_version"
    assert 'api_version: "62.0"' in problem.remedy


def test_a_good_connection_has_no_errors(org: SalesforceOrg) -> None:
    report = connect(org.settings()).check()

    assert report.is_ok
    assert report.org_id is not None
