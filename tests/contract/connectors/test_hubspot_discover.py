"""Showing people what a portal holds, before they write a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from connectors.base import DiscoveredField, Discovers, StreamSettings
from connectors.errors import MisconfiguredConnection
from connectors.hubspot.discover import SAMPLE, masked
from tests.contract.connectors.hubspot_portal import fresh, paths, portal
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

ALL = [
    f"crm.{kind}.{one}.{right}"
    for kind in ("objects", "schemas")
    for one in ("companies", "contacts", "deals", "tickets", "line_items", "custom")
    for right in ("read",)
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        crm = sandbox.hubspot
        crm.add_field("contacts", "shoe_size", "number")
        crm.admin("define_object", name="cars", label="Cars", properties=[])
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    crm = fresh(shared.hubspot)
    crm.settings(scopes=ALL)
    return crm


def field(fields: Sequence[DiscoveredField], name: str) -> DiscoveredField:
    return next(one for one in fields if one.name == name)


def test_readable_objects_are_shown_with_their_streams_and_counts(crm: Crm) -> None:
    crm.create_many("deals", [{"dealname": f"Deal {n}"} for n in range(3)])
    streams = {"deals": StreamSettings(), "costs": StreamSettings(object="p7654321_cars")}

    with portal(crm, streams=streams) as connector:
        assert isinstance(connector, Discovers)
        found = {one.name: one for one in connector.objects()}

    assert (found["deals"].stream, found["deals"].count) == ("deals", 3)
    assert found["companies"].stream == "accounts"
    assert found["contacts"].stream == "contacts"
    assert (found["p7654321_cars"].label, found["p7654321_cars"].stream) == ("Cars", "costs")
    # There is no scope for these.
    assert found.keys().isdisjoint({"orders", "feedback_submissions"})


def test_properties_are_shown_with_fill_rates_and_masked_samples(crm: Crm) -> None:
    crm.create_many(
        "contacts",
        [
            {"email": "first.last@example.com", "shoe_size": 4217, "lifecyclestage": "lead"},
            {"email": "other@example.com"},
            {},
        ],
    )

    with portal(crm) as connector:
        found = connector.discover("contacts")

    assert (found.count, found.sampled) == (3, 3)
    email, size = (field(found.fields, name) for name in ("email", "shoe_size"))
    assert email.filled == 2
    assert email.sample in {"f...@...", "f...@....com", "o...@....com"}
    assert (size.filled, size.sample, size.is_custom, size.type) == (1, "4xxx", True, "number")
    assert not email.is_custom
    stage = field(found.fields, "lifecyclestage")
    assert stage.sample == "lead"
    assert "customer" in stage.values
    assert "first.last" not in repr(found.fields)
    assert "4217" not in repr(found.fields)
    assert field(found.fields, "hs_object_id").is_custom is False


def test_the_newest_records_are_looked_at_and_no_more_than_a_batch(crm: Crm) -> None:
    crm.create_many("companies", [{"name": "old"}] * 30)
    crm.create_many("companies", [{"domain": "example.com"}] * SAMPLE)

    with portal(crm) as connector:
        found = connector.discover("companies")

    assert (found.count, found.sampled) == (30 + SAMPLE, SAMPLE)
    assert field(found.fields, "name").filled == 0
    assert field(found.fields, "domain").filled == SAMPLE


def test_stages_tell_which_are_closed_and_won(crm: Crm) -> None:
    with portal(crm) as connector:
        deals, companies = (connector.discover(name) for name in ("deals", "companies"))

    flags = {one.ref.native_id: (one.is_closed, one.is_won) for one in deals.stages}
    assert flags["appointmentscheduled"] == (False, False)
    assert flags["closedwon"] == (True, True)
    assert flags["closedlost"] == (True, False)
    assert list(companies.stages) == []


def test_nine_hundred_properties_are_looked_at_without_an_address_too_long(crm: Crm) -> None:
    """414 with 900 properties."""
    for number in range(900):
        crm.add_field("tickets", f"a_property_with_quite_a_long_name_{number:03}", "text")
    crm.create("tickets", {f"a_property_with_quite_a_long_name_{n:03}": "x" for n in range(900)})

    with portal(crm) as connector:
        found = connector.discover("tickets")

    own = [one for one in found.fields if one.name.startswith("a_property")]
    assert [one.filled for one in own] == [1] * 900
    assert {one["status"] for one in crm.requests()} <= {200, 207}


@pytest.mark.parametrize("name", ["no_such_object", "orders"])
def test_what_is_not_there_or_not_readable_is_said(crm: Crm, name: str) -> None:
    with (
        portal(crm) as connector,
        pytest.raises(MisconfiguredConnection, match=f'"{name}" cannot be looked at'),
    ):
        connector.discover(name)


def test_an_object_that_cannot_be_searched_is_listed(crm: Crm) -> None:
    crm.create("companies", {"name": "Account 0001"})
    crm.fault("status", path="companies/search", status=400, times="forever")

    with portal(crm) as connector:
        found = connector.discover("companies")

    assert (found.count, found.sampled) == (None, 1)
    assert any("objects/companies?" in one for one in paths(crm, "objects/companies"))


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("number", "1234567.50", "1xxxxxx.xx"),
        ("date", "1984-05-17", "19xx-xx-xx"),
        ("enumeration", "lead", "lead"),
        ("string", "a", "a"),
        ("string", "Some Name", "S... (9 characters)"),
        ("string", "someone@mail.example.org", "s...@....org"),
    ],
)
def test_a_sample_shows_the_form_of_a_value_and_not_the_value(
    kind: str, text: str, expected: str
) -> None:
    assert masked(kind, text) == expected
