"""Values on records of every kind: users, objects of one's own, the company's total everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from connectors.base import FindsRecords
from connectors.errors import MisconfiguredConnection
from tests.fixtures.sandboxes import Crm
from tests.pipeline.worker.computed import computed_company, copy_of
from tests.pipeline.worker.site import Site
from worker import pipeline
from worker.results import State


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with computed_company(tmp_path_factory.mktemp("company")) as site:
        crm = site.sandbox.salesforce
        for name, kind in (
            ("KPI_Won__c", "number"),
            ("KPI_Rate__c", "percent"),
            ("KPI_Class__c", "text"),
        ):
            crm.add_field("User", name, kind)
        crm.add_field("Opportunity", "KPI_Stalled__c", "number")
        crm.add_field("Account", "KPI_Year__c", "number")
        crm.add_field("Account", "KPI_Owner_Rate__c", "text")
        crm.add_field("Account", "KPI_Total__c", "number")
        crm.admin(
            "add_object",
            name="Scorecard__c",
            label="Scorecard",
            fields=[
                {"name": "Account_Ref__c", "type": "string"},
                {"name": "KPI_Revenue__c", "type": "double"},
            ],
        )
        crm.create_many(
            "Opportunity",
            [
                {"Name": f"Open {n}", "StageName": "Prospecting", "CloseDate": "2027-03-02"}
                for n in range(2)
            ],
        )
        yield site


@pytest.fixture
def computed_site(company: Site, tmp_path: Path) -> Site:
    return copy_of(company, tmp_path)


class _Writing(Site):
    """A site with one write-back of its own."""

    @classmethod
    def of(cls, site: Site, writeback: str) -> _Writing:
        return cls(**{**site.__dict__, "more": writeback})

    def text(self) -> str:
        whole = super().text()
        head, _, rest = whole.partition("writebacks:\n")
        tail = rest[rest.index("security:") :].replace(self.more, "")
        return f"{head}writebacks:\n{self.more}{tail}"


def fields_of(crm: Crm, object_name: str) -> dict[str, dict[str, object]]:
    return {
        str(record["id"]): {**record["fields"]}  # type: ignore[dict-item]
        for record in crm.snapshot()[object_name]
    }


def test_a_users_own_numbers_stand_on_the_user(computed_site: Site) -> None:
    site = _Writing.of(
        computed_site,
        "  reps:\n    to: salesforce.User\n    approve: never\n"
        "    fields:\n      KPI_Won__c: won_count\n      KPI_Rate__c: win_rate\n"
        "      KPI_Class__c: {kpi: win_rate, band: {low: 0, mid: 20%, high: 40%}}\n",
    )

    pushed = site.push("reps")

    assert (pushed.state, pushed.sent) == (State.OK, 3)
    users = fields_of(site.sandbox.salesforce, "User")
    assert [
        (user["KPI_Won__c"], user["KPI_Rate__c"], user["KPI_Class__c"])
        for user in users.values()
        if user.get("KPI_Won__c") is not None
    ] == [(6, 100, "high")]
    assert site.push("reps").sent == 0


def test_an_account_shows_its_owners_rate_and_the_companys_total(computed_site: Site) -> None:
    site = _Writing.of(
        computed_site,
        "  context:\n    to: salesforce.Account\n    approve: never\n"
        "    fields:\n      KPI_Owner_Rate__c: {kpi: win_rate, by: owner, show: words}\n"
        "      KPI_Total__c: {kpi: revenue, by: all}\n",
    )

    pushed = site.push("context")

    assert (pushed.state, pushed.sent) == (State.OK, 12)
    accounts = fields_of(site.sandbox.salesforce, "Account")
    assert {(one["KPI_Owner_Rate__c"], one["KPI_Total__c"]) for one in accounts.values()} == {
        ("100.0 % (6 of 6)", 615)
    }


def test_records_of_an_object_of_ones_own_are_matched_by_a_field(computed_site: Site) -> None:
    crm = computed_site.sandbox.salesforce
    accounts = sorted(fields_of(crm, "Account"))
    cards = crm.create_many(
        "Scorecard__c",
        [
            {"Account_Ref__c": accounts[0]},
            {"Account_Ref__c": accounts[1]},
            {"Account_Ref__c": accounts[1]},
            {"Account_Ref__c": "nobody"},
            {},
        ],
    )
    site = _Writing.of(
        computed_site,
        "  cards:\n    to: salesforce.Scorecard__c\n    approve: never\n"
        "    match: {field: Account_Ref__c, to: account}\n"
        "    fields: {KPI_Revenue__c: revenue}\n",
    )

    pushed = site.push("cards")

    assert (pushed.state, pushed.sent) == (State.OK, 3)
    held = fields_of(crm, "Scorecard__c")
    assert [held[card].get("KPI_Revenue__c") for card in cards] == [100, 101, 101, None, None]
    assert site.push("cards").sent == 0


def test_single_deals_and_rolling_periods(computed_site: Site) -> None:
    site = _Writing.of(
        computed_site,
        "  deals:\n    to: salesforce.Opportunity\n    approve: never\n"
        "    fields: {KPI_Stalled__c: is_stalled}\n"
        "  accounts:\n    to: salesforce.Account\n    approve: never\n"
        "    fields: {KPI_Year__c: {kpi: revenue, period: last_365d}}\n",
    )
    site.pull_all("salesforce")
    site.compute()

    pushed = [site.push(name) for name in ("deals", "accounts")]

    crm = site.sandbox.salesforce
    assert [(one.state, one.sent) for one in pushed] == [(State.OK, 2), (State.OK, 6)]
    stalled = [deal.get("KPI_Stalled__c") for deal in fields_of(crm, "Opportunity").values()]
    assert [value for value in stalled if value is not None] == [0, 0]
    years = {account["KPI_Year__c"] for account in fields_of(crm, "Account").values()}
    assert years == set(range(100, 106))
    assert [site.push(name).sent for name in ("deals", "accounts")] == [0, 0]


def test_hubspots_records_are_found_by_a_property_page_by_page(computed_site: Site) -> None:
    crm = computed_site.sandbox.hubspot
    ids = crm.create_many("companies", [{"name": f"{n}", "domain": f"d{n}"} for n in range(120)])
    crm.create("companies", {"name": "without a domain"})

    with computed_site.but(crms=("salesforce", "hubspot")).runtime() as runtime:
        connector = runtime.connector("hubspot")
        assert isinstance(connector, FindsRecords)
        found = [one for page in connector.find("companies", "domain") for one in page]
        with pytest.raises(MisconfiguredConnection, match='no property "nobody"'):
            list(connector.find("companies", "nobody"))

    assert dict(found) == {record_id: f"d{n}" for n, record_id in enumerate(ids)}


FAULTS = {
    "an object that nobody knows": (
        "to: salesforce.Scorecard__c, fields: {KPI_Revenue__c: revenue}",
        "match: {field: Account__c, to: account}",
    ),
    "a match for records that are known by their ids": (
        "to: salesforce.Account, match: {field: Id, to: account}, fields: {KPI__c: revenue}",
        "its records are known by their ids",
    ),
    "a dimension that accounts do not have": (
        "to: salesforce.Account, fields: {KPI__c: {kpi: revenue, by: regio}}",
        'Did you mean "region"?',
    ),
    "a period that the KPI does not have": (
        "to: salesforce.Account, fields: {KPI__c: {kpi: revenue, period: month}}",
        "Add month to kpis.periods",
    ),
    "single records that the KPI says nothing of": (
        "to: salesforce.Case, fields: {KPI__c: revenue}",
        'no values of "revenue" by ticket',
    ),
    "words twice": (
        "to: salesforce.Account, fields: {KPI__c: {kpi: revenue, show: words, band: {a: 0}}}",
        "A band is words already",
    ),
    "a range of a field that is not written": (
        "to: salesforce.Account, guard: {range: {KP__c: [0, 1]}}, fields: {KPI__c: revenue}",
        'Did you mean "KPI__c"?',
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_matched_is_told_with_its_place(name: str, computed_site: Site) -> None:
    writeback, said = FAULTS[name]
    site = _Writing.of(computed_site, f"  x: {{{writeback}}}\n")

    with pytest.raises(ConfigurationError) as refused, site.runtime():
        pass

    assert "writebacks.x." in str(refused.value)
    assert said in str(refused.value)


def test_zero_where_there_is_no_value_reaches_records_that_never_had_one(
    computed_site: Site,
) -> None:
    crm = computed_site.sandbox.salesforce
    crm.add_field("Account", "KPI_Open__c", "number")
    site = _Writing.of(
        computed_site,
        "  open:\n    to: salesforce.Account\n    approve: never\n"
        "    fields: {KPI_Open__c: {kpi: open_count, empty: 0}}\n",
    )

    with site.runtime() as runtime:
        first = pipeline.push_writeback(runtime, "open")
        second = pipeline.push_writeback(runtime, "open")
    held = [fields.get("KPI_Open__c") for fields in fields_of(crm, "Account").values()]

    assert set(held) == {0}
    assert (first.sent, second.sent) == (len(held), 0)
