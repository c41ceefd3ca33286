"""HubSpot's rules of writing, kept by the sandbox."""

from __future__ import annotations

from typing import Any

import pytest
from hubspot import HubSpot
from hubspot.crm.companies import ApiException

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api


def traced(record_id: str, **properties: str) -> dict[str, Any]:
    return {"id": record_id, "properties": properties, "objectWriteTraceId": f"t{record_id}"}


@pytest.fixture
def company(sandbox: Sandbox) -> str:
    return _company(sandbox)


@pytest.fixture(scope="module")
def steady_company(steady: Sandbox) -> str:
    return _company(steady)


def _company(sandbox: Sandbox) -> str:
    sandbox.hubspot.add_field("companies", "score", "number")
    sandbox.hubspot.add_field("companies", "day", "date")
    sandbox.hubspot.add_field("companies", "moment", "datetime")
    sandbox.hubspot.add_field("companies", "is_good", "boolean")
    return sandbox.hubspot.create("companies", {"name": "A", "score": "1"})


def test_the_client_writes_a_batch_and_results_come_in_any_order(
    sandbox: Sandbox, client: HubSpot
) -> None:
    ids = sandbox.hubspot.create_many("companies", [{}] * 100)
    inputs = [traced(one, name=f"Company {one}") for one in ids]

    answer = client.crm.companies.batch_api.update({"inputs": inputs})

    assert answer.status == "COMPLETE"
    answered = [one.id for one in answer.results]
    assert sorted(ids) == sorted(answered)
    assert ids != answered
    assert f"Company {ids[0]}" == sandbox.hubspot.record("companies", ids[0])["fields"]["name"]  # type: ignore[index]  # JSON


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("score", "1,000", "INVALID_INTEGER"),
        ("score", "many", "INVALID_INTEGER"),
        ("score", " 1", "INVALID_FORMAT"),
        ("day", "1700000000000", "INVALID_DATE"),
        ("day", "2025-02-30", "INVALID_DATE"),
        ("day", "2025-01-01T01:00:00Z", "INVALID_DATE"),
        ("moment", "2025-01-01", "INVALID_LONG"),
        ("moment", "2025-01-01T00:00:00", "INVALID_LONG"),
        ("is_good", "yes", "INVALID_OPTION"),
        ("industry", "Retail", "INVALID_OPTION"),
        ("nonsense", "1", "PROPERTY_DOESNT_EXIST"),
        ("num_associated_deals", "3", "READ_ONLY_VALUE"),
        ("hs_lastmodifieddate", "1", "READ_ONLY_VALUE"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_with_its_code(  # noqa: PLR0917 - a table
    steady: Sandbox, steady_api: Api, steady_company: str, name: str, value: str, code: str
) -> None:
    path = f"/crm/v3/objects/companies/{steady_company}"

    refused = steady_api.patch(path, {"properties": {name: value, "name": "B"}})

    assert refused.status_code == 400
    body = refused.json()
    assert ("VALIDATION_ERROR", code) == (body["category"], body["errors"][0]["code"])
    assert [name] == body["errors"][0]["context"]["propertyName"]
    assert code in body["message"], "the list stands as JSON in the message too"
    assert steady.hubspot.record("companies", steady_company)["fields"]["name"] == "A"  # type: ignore[index]  # JSON


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("score", "1e3", "1e3"),
        ("score", "-.5", "-.5"),
        ("day", "2025-01-31", "2025-01-31"),
        ("day", "1738281600000", "2025-01-31"),
        ("moment", "1738281600123", "2025-01-31T00:00:00.123Z"),
        ("moment", "2025-01-31T01:00:00+01:00", "2025-01-31T00:00:00Z"),
        ("is_good", "true", "true"),
        ("industry", "RETAIL", "RETAIL"),
        ("score", "", None),
    ],
)
def test_accepted_forms_are_kept_as_hubspot_shows_them(
    steady_api: Api, steady_company: str, name: str, value: str, stored: str | None
) -> None:
    path = f"/crm/v3/objects/companies/{steady_company}"

    assert steady_api.patch(path, {"properties": {name: value}}).status_code == 200

    assert stored == steady_api.get(path, properties=name).json()["properties"][name]


@pytest.mark.parametrize("value", [None, 1, True])
def test_values_are_texts_and_null_is_refused(
    steady_api: Api, steady_company: str, value: Any
) -> None:
    refused = steady_api.patch(
        f"/crm/v3/objects/companies/{steady_company}", {"properties": {"score": value}}
    )

    assert refused.status_code == 400


def test_a_stage_has_to_belong_to_the_pipeline(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {"dealstage": "contractsent"})
    path = f"/crm/v3/objects/deals/{deal}"

    assert api.patch(path, {"properties": {"dealstage": "Closed Won"}}).status_code == 400
    assert api.patch(path, {"properties": {"dealstage": "closedwon"}}).status_code == 200


def test_without_trace_ids_one_bad_input_rejects_the_whole_batch(
    sandbox: Sandbox, api: Api, company: str
) -> None:
    other = sandbox.hubspot.create("companies", {"name": "B"})

    refused = api.update(
        "companies",
        {"id": other, "properties": {"name": "new"}},
        {"id": company, "properties": {"score": "many"}},
    )

    assert refused.status_code == 400
    assert sandbox.hubspot.journal() == []


def test_with_trace_ids_the_good_inputs_are_written_and_the_bad_ones_named(
    sandbox: Sandbox, api: Api, company: str
) -> None:
    other = sandbox.hubspot.create("companies", {"name": "B"})

    answer = api.update(
        "companies",
        traced(company, score="many"),
        traced(other, name="new"),
        traced("404", name="new"),
    )

    body = answer.json()
    assert (207, 2, [other]) == (
        answer.status_code,
        body["numErrors"],
        [one["id"] for one in body["results"]],
    )
    by_trace = {
        error["context"]["objectWriteTraceId"][0]: error["category"] for error in body["errors"]
    }
    assert {f"t{company}": "VALIDATION_ERROR", "t404": "OBJECT_NOT_FOUND"} == by_trace


def test_trace_ids_that_repeat_count_as_none(api: Api, company: str, sandbox: Sandbox) -> None:
    other = sandbox.hubspot.create("companies", {"name": "B"})
    same = {"objectWriteTraceId": "same"}

    refused = api.update(
        "companies",
        {**traced(company, score="many"), **same},
        {**traced(other, name="new"), **same},
    )

    assert refused.status_code == 400


def test_a_missing_record_is_a_207_even_without_trace_ids(api: Api, company: str) -> None:
    answer = api.update(
        "companies",
        {"id": "404", "properties": {"name": "x"}},
        {"id": company, "properties": {"name": "y"}},
    )

    assert answer.status_code == 207
    assert answer.json()["errors"][0]["context"]["ids"] == ["404"]


def test_the_same_id_twice_or_more_than_a_hundred_is_a_bad_request(
    sandbox: Sandbox, api: Api
) -> None:
    ids = sandbox.hubspot.create_many("companies", [{}] * 101)

    twice = api.update("companies", traced(ids[0], name="x"), traced(ids[0], name="y"))
    many = api.update("companies", *(traced(one, name="x") for one in ids))

    assert [twice.status_code, many.status_code] == [400, 400]
    assert sandbox.hubspot.journal() == []


def test_a_merged_away_id_is_left_out_of_a_batch_without_an_error(
    sandbox: Sandbox, api: Api
) -> None:
    one, two, three = sandbox.hubspot.create_many("companies", [{}, {}, {}])
    merged = sandbox.hubspot.merge("companies", one, [two])

    answer = api.update("companies", traced(one, name="x"), traced(three, name="x"))

    assert answer.status_code == 200
    assert [three] == [result["id"] for result in answer.json()["results"]]
    patched = api.patch(f"/crm/v3/objects/companies/{one}", {"properties": {"name": "patched"}})
    assert merged == patched.json()["id"], "a single PATCH reaches the record it lives on in"


def test_an_id_property_needs_a_unique_property(api: Api, company: str) -> None:
    refused = api.update("companies", {**traced(company, name="x"), "idProperty": "hs_object_id"})

    assert refused.status_code == 207
    assert "non-unique" in refused.json()["errors"][0]["message"]


def test_an_equal_write_moves_the_modified_date_and_is_journaled_as_redundant(
    sandbox: Sandbox, api: Api, company: str
) -> None:
    sandbox.hubspot.clock(fix="2027-01-01T00:00:00Z")
    path = f"/crm/v3/objects/companies/{company}"

    written = api.patch(path, {"properties": {"score": "1.0", "name": "B"}}).json()

    assert written["properties"]["hs_lastmodifieddate"] == "2027-01-01T00:00:00Z"
    lines = {line["field"]: line for line in sandbox.hubspot.journal()}
    assert {
        "at": "2027-01-01T00:00:00.000Z",
        "object": "companies",
        "id": company,
        "field": "score",
        "old": "1",
        "new": "1.0",
        "redundant": True,
    } == lines["score"]
    assert tuple(lines["name"][k] for k in ("old", "new", "redundant")) == ("A", "B", False)


def test_a_locked_record_is_a_423_for_itself_alone(
    sandbox: Sandbox, api: Api, company: str
) -> None:
    sandbox.hubspot.fault("lock", record=company, times=2)
    path = f"/crm/v3/objects/companies/{company}"

    assert api.patch(path, {"properties": {"name": "x"}}).status_code == 423
    batch = api.update("companies", traced(company, name="x"))
    assert (batch.status_code, batch.json()["errors"][0]["category"]) == (207, "LOCKED")
    assert api.patch(path, {"properties": {"name": "x"}}).status_code == 200


def test_a_rule_of_the_account_refuses_a_record(sandbox: Sandbox, api: Api, company: str) -> None:
    sandbox.hubspot.fault(
        "validation", record=company, field="name", message="Name needs a city", times="forever"
    )

    answer = api.update("companies", traced(company, name="x")).json()

    assert answer["errors"][0]["errors"][0]["message"] == "Name needs a city"


def test_a_batch_create_makes_records_with_their_links(client: HubSpot, api: Api) -> None:
    company = client.crm.companies.basic_api.create({"properties": {"name": "A"}}).id
    primary = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 5}
    links = [{"to": {"id": company}, "types": [primary]}]

    made = client.crm.deals.batch_api.create(
        {"inputs": [{"properties": {"dealname": "D"}, "associations": links}]}
    )

    deal = made.results[0].id
    shown = api.get(f"/crm/v4/objects/deals/{deal}/associations/companies").json()
    assert [int(company)] == [link["toObjectId"] for link in shown["results"]]
    with pytest.raises(ApiException, match="PROPERTY_DOESNT_EXIST"):
        client.crm.companies.basic_api.create({"properties": {"nonsense": "1"}})


def test_a_body_that_is_no_json_or_not_declared_as_such_is_refused(api: Api, company: str) -> None:
    path = f"/crm/v3/objects/companies/{company}"

    plain = api.send("PATCH", path, body="x", headers={"Content-Type": "text/plain"})
    broken = api.send("PATCH", path, body="{")

    assert [plain.status_code, broken.status_code] == [415, 400]
