"""`discover` on a Salesforce connection: what there is to map, without showing a person's data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.base import Connector, Discovers
from connectors.errors import MisconfiguredConnection
from connectors.registry import connect
from connectors.salesforce.discover import SAMPLE, masked
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Sandbox, launch


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    org = SalesforceOrg(started.salesforce)
    org.crm.add_field("Account", "Segment__c", "choice", choices=["small", "large"])
    org.crm.create_many(
        "Account",
        [
            {"Name": f"Account {number:04}", "Segment__c": "small" if number % 4 == 0 else None}
            for number in range(300)
        ],
    )
    org.add_deals(3)
    org.crm.forget()
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.forget()
    return org


@pytest.fixture
def connector(org: SalesforceOrg) -> Discovers:
    connector: Connector = connect(org.settings())
    assert isinstance(connector, Discovers)
    return connector


def test_objects_are_listed_with_their_streams_and_numbers(connector: Discovers) -> None:
    objects = {one.name: one for one in connector.objects()}

    assert (objects["Account"].stream, objects["Account"].count) == ("accounts", 300)
    assert objects["Opportunity"].stream == "deals"
    assert objects["Opportunity"].count == 3


def test_fields_are_shown_with_fill_rates_options_and_masked_samples(
    org: SalesforceOrg, connector: Discovers
) -> None:
    one = connector.discover("Account")
    fields = {field.name: field for field in one.fields}

    assert (one.name, one.stream, one.count, one.sampled) == ("Account", "accounts", 300, SAMPLE)
    segment = fields["Segment__c"]
    assert segment.is_custom
    assert segment.filled == SAMPLE / 4
    assert set(segment.values) == {"small", "large"}
    assert segment.sample == "small"
    assert fields["Name"].filled == SAMPLE
    assert "Account 0" not in str(fields["Name"].sample)
    assert len(org.crm.requests()) <= 8


def test_stages_are_shown_with_what_is_closed_and_won(connector: Discovers) -> None:
    stages = {stage.ref.native_id: stage for stage in connector.discover("Opportunity").stages}

    assert stages["Closed Won"].is_won
    assert stages["Closed Lost"].is_closed
    assert not stages["Closed Lost"].is_won
    assert not stages["Prospecting"].is_closed
    assert connector.discover("Account").stages == ()


def test_an_object_that_nobody_sees_is_told(connector: Discovers) -> None:
    with pytest.raises(MisconfiguredConnection, match="Nothing__c"):
        connector.discover("Nothing__c")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("string", "Berta Beispiel", "B... (14 characters)"),
        ("email", "berta@sandbox.example", "b...@....example"),
        ("phone", "+49 30 1234567", "+... (14 characters)"),
        ("currency", "12345.60", "1xxxx.xx"),
        ("date", "1984-05-06", "19xx-xx-xx"),
        ("reference", "001000000000001AAA", "001..."),
        ("picklist", "Customer", "Customer"),
        ("boolean", True, "True"),
    ],
)
def test_a_sample_shows_the_form_of_a_value_and_not_the_value(
    kind: str, value: object, shown: str
) -> None:
    assert masked(kind, value) == shown


def test_an_object_of_many_fields_is_looked_at_in_several_queries(
    org: SalesforceOrg, connector: Discovers
) -> None:
    org.crm.admin(
        "add_object",
        name="Wide__c",
        fields=[
            {"name": f"A_field_with_a_long_name_{number:03}__c", "type": "double"}
            for number in range(300)
        ],
    )
    org.crm.create_many(
        "Wide__c",
        [
            {"A_field_with_a_long_name_299__c": 7, "A_field_with_a_long_name_000__c": n}
            for n in (1, 2)
        ],
    )

    one = connector.discover("Wide__c")

    filled = {field.name: field.filled for field in one.fields}
    assert one.sampled == 2
    assert filled["A_field_with_a_long_name_000__c"] == 2
    assert filled["A_field_with_a_long_name_299__c"] == 2
    assert filled["A_field_with_a_long_name_150__c"] == 0
    assert all(request["status"] == 200 for request in org.crm.requests())
