"""Looking at a HubSpot connection before anything is read or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import pytest

from connectors.base import CheckReport, DailyCalls, FieldSource, Problem, StreamSettings
from tests.contract.connectors.hubspot_portal import fresh, paths, portal, pull
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

READ = (
    "crm.objects.companies.read",
    "crm.objects.contacts.read",
    "crm.objects.deals.read",
    "crm.objects.line_items.read",
    "crm.objects.owners.read",
)
OAUTH = {
    "flow": "refresh_token",
    "client_id": "sandbox-app",
    "client_secret": "sandbox-app-secret",
    "refresh_token": "refresh-of-check",
}
TOKEN_INFO = "access-token-info"
WORDS = [
    "companies",
    "contacts",
    "deals",
    "tickets",
    "line_items",
    "products",
    "orders",
    "subscriptions",
    "invoices",
    "feedback_submissions",
    "custom",
]
ALL_SCOPES = [
    *(f"crm.{kind}.{word}.read" for kind in ("objects", "schemas") for word in WORDS),
    "crm.objects.owners.read",
    "marketing.campaigns.read",
    "settings.currencies.read",
    "multi-currency-read",
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        crm = sandbox.hubspot
        crm.add_field("deals", "first_seen", "date")
        crm.add_field("deals", "size", "text")
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    crm = fresh(shared.hubspot)
    crm.settings(refresh_tokens=[OAUTH["refresh_token"]], rotate_refresh_tokens=False, rates={})
    crm.settings(scopes=list(READ))
    return crm


def granted(crm: Crm, *scopes: str) -> None:
    """What HubSpot says of a static token that is asked about."""
    body = {"userId": 1, "hubId": 7654321, "appId": 2, "scopes": list(scopes)}
    crm.fault("status", path=TOKEN_INFO, status=200, body=body, times="forever")


def looked(
    crm: Crm,
    *,
    fields: Mapping[str, FieldSource] | None = None,
    written: Sequence[str] | None = None,
    auth: Mapping[str, str] | None = None,
    daily_calls: DailyCalls | None = None,
    gives_rates: bool = False,
    rated: frozenset[str] | None = frozenset(),
    currency: str = "USD",
) -> CheckReport:
    with portal(
        crm,
        fields=fields,
        auth=auth,
        daily_calls=daily_calls,
        written_objects=None if written is None else frozenset(written),
        gives_rates=gives_rates,
        rated=rated,
        currency=currency,
    ) as connector:
        return connector.check()


def of_auth(report: CheckReport) -> list[Problem]:
    return [one for one in report.problems if one.place == "connections.web.auth"]


# ---------------------------------------------------------------- scopes


def test_a_connection_with_what_it_needs_and_no_more_has_no_problem(crm: Crm) -> None:
    granted(crm, *READ, "crm.objects.companies.write", "oauth")

    report = looked(crm, written=["companies"])

    assert list(report.problems) == []
    assert report.org_id == "7654321"


def test_scopes_that_nothing_needs_are_named_as_a_warning(crm: Crm) -> None:
    granted(crm, *READ, "crm.objects.contacts.write", "automation", "files")

    report = looked(crm, written=[])

    (problem,) = of_auth(report)
    assert "automation, crm.objects.contacts.write, files" in problem.message
    assert not problem.is_error
    assert report.is_ok


def test_a_right_to_write_what_nobody_is_asked_about_is_not_judged(crm: Crm) -> None:
    granted(crm, *READ, "crm.objects.companies.write", "crm.schemas.companies.write")

    assert of_auth(looked(crm)) == []


@pytest.mark.parametrize(
    ("object_name", "scope"),
    [("companies", "crm.objects.companies.write"), ("2-77", "crm.objects.custom.write")],
)
def test_a_write_back_without_its_scope_is_an_error_before_any_write(
    crm: Crm, object_name: str, scope: str
) -> None:
    granted(crm, *READ)

    report = looked(crm, written=[object_name])

    (problem,) = of_auth(report)
    assert scope in problem.message
    assert problem.is_error


def test_a_token_of_an_app_tells_its_scopes_with_the_login(crm: Crm) -> None:
    crm.settings(scopes=[*READ, "files"])

    report = looked(crm, auth=OAUTH)

    (problem,) = of_auth(report)
    assert "files" in problem.message
    assert paths(crm, TOKEN_INFO) == []


def test_a_token_that_nothing_is_told_about_is_judged_by_what_it_may_read(crm: Crm) -> None:
    report = looked(crm, written=["companies"])

    assert of_auth(report) == []
    assert report.is_ok


def test_a_missing_scope_switches_an_optional_stream_off_and_stops_a_needed_one(crm: Crm) -> None:
    crm.settings(scopes=[scope for scope in READ if "companies" not in scope])
    streams = {"deals": StreamSettings(), "tickets": StreamSettings(), "accounts": StreamSettings()}

    with portal(crm, streams=streams) as connector:
        report = connector.check()

    found = {one.place: one for one in report.problems}
    assert found["connections.web.streams.accounts"].is_error
    assert "crm.objects.companies.read" in found["connections.web.streams.accounts"].message
    assert not found["connections.web.streams.tickets"].is_error
    assert "tickets" in found["connections.web.streams.tickets"].message


# ---------------------------------------------------------------- properties


def test_a_source_of_the_wrong_type_is_named(crm: Crm) -> None:
    fields = {
        "amount": FieldSource("first_seen"),
        "x_size": FieldSource("size", "number"),
        "x_gone": FieldSource("no_such_property"),
        "region": FieldSource("size"),
    }

    report = looked(crm, fields=fields)

    found = {one.place.rpartition(".")[2]: one for one in report.problems}
    assert found.keys() == {"amount", "x_size", "x_gone"}
    assert found["amount"].is_error
    assert "never fits" in found["amount"].message
    assert not found["x_size"].is_error
    assert "dead letters" in found["x_size"].message
    assert "no_such_property" in found["x_gone"].message


def test_a_computed_source_is_named(crm: Crm) -> None:
    report = looked(crm, fields={"x_days": FieldSource("hs_is_closed_won", "boolean")})

    (problem,) = report.problems
    assert "computed by HubSpot" in problem.message
    assert not problem.is_error


# ---------------------------------------------------------------- money and quota


def test_a_portal_with_several_currencies_wants_rates(crm: Crm) -> None:
    crm.settings(rates={"EUR": 1.1, "JPY": 0.007})

    (problem,) = looked(crm).problems

    assert "EUR, JPY beside USD" in problem.message
    assert not problem.is_error


def test_rates_from_a_table_file_or_other_connection_are_rates(crm: Crm) -> None:
    crm.settings(rates={"EUR": 1.1, "JPY": 0.007})

    (problem,) = looked(crm, rated=frozenset({"EUR"})).problems

    assert "JPY beside USD" in problem.message
    assert "EUR" not in problem.message
    assert not looked(crm, rated=frozenset({"EUR", "JPY"})).problems
    assert not looked(crm, rated=None).problems


def test_rates_to_another_currency_than_the_companys_are_an_error(crm: Crm) -> None:
    crm.settings(company_currency="EUR", rates={"USD": 0.9})

    report = looked(crm, gives_rates=True)

    problem = next(one for one in report.problems if one.is_error)
    assert problem.place == "company.currency"
    assert "say nothing about the company's USD" in problem.message


def test_a_day_that_is_nearly_used_up_is_said(crm: Crm) -> None:
    usage = {"results": [{"currentUsage": 950, "usageLimit": 1000, "resetsAt": "2026-11-23"}]}
    crm.fault("status", path="api-usage", status=200, body=usage, times="forever")

    (problem,) = looked(crm).problems

    assert "only 50 are left" in problem.message


def test_a_share_of_a_day_that_has_no_limit_is_said(crm: Crm) -> None:
    report = looked(crm, auth=OAUTH, daily_calls=DailyCalls(share=Decimal("0.2")))

    assert "connections.web.limits.daily_calls" in {one.place for one in report.problems}
    assert report.is_ok


# ---------------------------------------------------------------- faults


def test_an_outage_is_said_once_and_not_for_every_stream(crm: Crm) -> None:
    crm.fault("html", path="/crm/", status=502, times="forever")

    report = looked(crm)

    (problem,) = report.problems
    assert problem.place == "connections.web"


def test_a_token_that_may_not_see_the_account_still_knows_its_portal(crm: Crm) -> None:
    body = {"category": "MISSING_SCOPES", "message": "no"}
    crm.fault("status", path="account-info", status=403, body=body, times="forever")
    granted(crm, *READ)

    with portal(crm) as connector:
        report = connector.check()
        assert connector.org_id() == "7654321"

    assert report.org_id == "7654321"
    assert report.is_ok
    assert "time zone and currencies stay unknown" in report.problems[0].message


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("version", ["v3", "2026-09"])
def test_every_stream_can_be_read_under_every_version_of_the_paths(crm: Crm, version: str) -> None:
    names = [
        "accounts",
        "contacts",
        "leads",
        "deals",
        "deal_lines",
        "tickets",
        "survey_responses",
        "contracts",
        "campaigns",
    ]
    crm.settings(scopes=ALL_SCOPES)
    full_name = str(
        crm.admin("define_object", name=f"costs_{version[-2:]}", properties=[])["full_name"]
    )
    crm.add_field(f"costs_{version[-2:]}", "day", "date")
    crm.add_field(f"costs_{version[-2:]}", "spent", "money")
    costs = StreamSettings(
        object=full_name,
        fields={"date": FieldSource("day"), "amount": FieldSource("spent")},
    )
    streams = {**{name: StreamSettings() for name in names}, "costs": costs}

    with portal(crm, streams=streams, api_version=version, gives_rates=True) as connector:
        report = connector.check()
        for stream in connector.streams():
            pull(connector, stream.name)
        connector.objects()
        connector.discover(full_name)

    assert [one for one in report.problems if one.is_error] == []
    asked = {str(one["path"]) for one in crm.requests() if TOKEN_INFO not in str(one["path"])}
    parts = {"v3": ("/v3/", "/v4/")}.get(version, (f"/{version}",))
    assert [path for path in asked if not any(part in path for part in parts)] == []
    # Not every object has pipelines, not every portal tells of tokens, and the library knows the
    # newer of two addresses of schemas.
    may_be_refused = ("pipelines", "schemas", TOKEN_INFO)
    refused = {str(one["path"]) for one in crm.requests() if one["status"] not in {200, 207}}
    assert [path for path in refused if not any(part in path for part in may_be_refused)] == []
