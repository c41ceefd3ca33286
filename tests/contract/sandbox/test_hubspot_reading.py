"""HubSpot's rules of reading, kept by the sandbox; driven by HubSpot's own client."""

from __future__ import annotations

import pytest
import requests
from hubspot import HubSpot
from hubspot.crm.deals import ApiException

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api


def test_a_list_comes_in_pages_in_the_order_of_the_ids(sandbox: Sandbox, client: HubSpot) -> None:
    ids = sandbox.hubspot.create_many("deals", [{"dealname": f"D{n}"} for n in range(25)])

    api = client.crm.deals.basic_api
    first = api.get_page(limit=10)
    second = api.get_page(limit=10, after=first.paging.next.after)
    third = api.get_page(limit=10, after=second.paging.next.after)

    pages = [[deal.id for deal in page.results] for page in (first, second, third)]
    assert [ids[:10], ids[10:20], ids[20:]] == pages
    assert third.paging is None
    assert first.paging.next.after == ids[10], "the cursor is the id of the next record"


def test_only_the_properties_asked_for_come_and_unknown_names_are_ignored(
    sandbox: Sandbox, client: HubSpot
) -> None:
    sandbox.hubspot.create("deals", {"dealname": "D", "amount": "12.50"})

    page = client.crm.deals.basic_api.get_page(properties=["amount", "closedate", "nonsense"])

    properties = page.results[0].properties
    expected = {"amount", "closedate", "createdate", "hs_lastmodifieddate", "hs_object_id"}
    assert expected == set(properties)
    assert properties["amount"] == "12.50"
    assert properties["closedate"] is None


@pytest.mark.parametrize("query", [{"limit": 101}, {"limit": 0}, {"limit": "ten"}, {"after": "x"}])
def test_a_list_page_has_a_hundred_records_at_most(
    steady_api: Api, query: dict[str, object]
) -> None:
    answer = steady_api.get("/crm/v3/objects/deals", **query)

    assert answer.status_code == 400
    assert answer.json()["category"] == "VALIDATION_ERROR"


def test_a_list_page_with_history_has_fifty_records_at_most(steady_api: Api) -> None:
    refused = steady_api.get("/crm/v3/objects/deals", limit=51, propertiesWithHistory="dealstage")
    served = steady_api.get("/crm/v3/objects/deals", limit=50, propertiesWithHistory="dealstage")

    assert [refused.status_code, served.status_code] == [400, 200]


def test_archived_records_stand_only_in_the_archived_list_and_keep_their_modified_date(
    sandbox: Sandbox, client: HubSpot
) -> None:
    gone = sandbox.hubspot.create("deals", {"dealname": "gone"})
    kept = sandbox.hubspot.create("deals", {"dealname": "kept"})
    before = client.crm.deals.basic_api.get_by_id(gone).updated_at
    sandbox.hubspot.delete("deals", gone)

    api = client.crm.deals.basic_api
    archived = api.get_page(archived=True).results

    assert [kept] == [deal.id for deal in api.get_page().results]
    assert [(gone, True)] == [(deal.id, deal.archived) for deal in archived]
    assert archived[0].updated_at == before
    assert archived[0].archived_at > before
    with pytest.raises(ApiException, match="404"):
        api.get_by_id(gone)
    assert api.get_by_id(gone, archived=True).id == gone


def test_the_archived_list_forgets_after_ninety_days(sandbox: Sandbox, api: Api) -> None:
    gone = sandbox.hubspot.create("deals", {})
    sandbox.hubspot.delete("deals", gone)
    path = "/crm/v3/objects/deals"
    assert len(api.get(path, archived="true").json()["results"]) == 1

    sandbox.hubspot.clock(advance=91 * 86_400)

    assert api.get(path, archived="true").json()["results"] == []


def test_an_erased_record_leaves_no_trace(sandbox: Sandbox, api: Api) -> None:
    gone = sandbox.hubspot.create("deals", {})
    sandbox.hubspot.erase("deals", gone)

    assert api.get("/crm/v3/objects/deals").json()["results"] == []
    assert api.get("/crm/v3/objects/deals", archived="true").json()["results"] == []
    assert api.get(f"/crm/v3/objects/deals/{gone}").status_code == 404


def test_a_batch_read_reports_unknown_ids_and_answers_in_any_order(
    sandbox: Sandbox, client: HubSpot
) -> None:
    ids = sandbox.hubspot.create_many("deals", [{"dealname": f"D{n}"} for n in range(40)])
    inputs = [{"id": one} for one in [*ids, "404"]]

    answer = client.crm.deals.batch_api.read({"inputs": inputs, "properties": ["dealname"]})

    assert answer.num_errors == 1
    assert answer.errors[0].category == "OBJECT_NOT_FOUND"
    assert answer.errors[0].context == {"ids": ["404"]}
    answered = [deal.id for deal in answer.results]
    assert sorted(answered) == sorted(ids)
    assert answered != ids


def test_a_batch_read_takes_a_hundred_inputs_and_fifty_with_history(
    sandbox: Sandbox, api: Api
) -> None:
    ids = sandbox.hubspot.create_many("deals", [{"dealstage": "contractsent"}] * 101)
    path = "/crm/v3/objects/deals/batch/read"

    def status(count: int, **more: object) -> int:
        inputs = [{"id": one} for one in ids[:count]]
        return api.post(path, {"inputs": inputs, **more}).status_code

    assert [status(100), status(101)] == [200, 400]
    history = {"propertiesWithHistory": ["dealstage"]}
    assert [status(50, **history), status(51, **history)] == [200, 400]


def test_the_history_of_a_stage_is_newest_first_and_names_a_clearing_with_an_empty_text(
    sandbox: Sandbox, client: HubSpot
) -> None:
    deal = sandbox.hubspot.create(
        "deals", {"dealstage": "appointmentscheduled", "amount": "5"}, at="2025-01-01T10:00:00Z"
    )
    sandbox.hubspot.edit("deals", deal, {"dealstage": "closedwon"}, at="2025-01-03T10:00:00Z")
    sandbox.hubspot.edit("deals", deal, {"amount": None}, at="2025-01-04T10:00:00Z")

    answer = client.crm.deals.batch_api.read(
        {
            "inputs": [{"id": deal}],
            "properties": [],
            "propertiesWithHistory": ["dealstage", "amount"],
        }
    )

    history = answer.results[0].properties_with_history
    stages = [(v.value, v.timestamp.isoformat()) for v in history["dealstage"]]
    assert stages == [
        ("closedwon", "2025-01-03T10:00:00+00:00"),
        ("appointmentscheduled", "2025-01-01T10:00:00+00:00"),
    ]
    assert [v.value for v in history["amount"]] == ["", "5"]


def test_an_unknown_object_type_is_a_bad_request(steady_api: Api) -> None:
    assert steady_api.get("/crm/v3/objects/dealz").status_code == 400
    assert steady_api.get("/crm/v3/objects/0-3").status_code == 200


def test_dated_paths_answer_like_the_legacy_ones(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {"dealname": "D"})
    pairs = [
        (f"/crm/v3/objects/deals/{deal}", f"/crm/objects/2026-09/deals/{deal}"),
        ("/crm/v3/properties/deals", "/crm/properties/2026-09/deals"),
        ("/crm/v3/pipelines/deals", "/crm/pipelines/2026-03/deals"),
        ("/crm/v3/owners", "/crm/owners/2026-09"),
        ("/account-info/v3/details", "/account-info/2026-09/details"),
    ]

    for legacy, dated in pairs:
        assert api.get(legacy).json() == api.get(dated).json(), dated
    assert api.get(f"/crm/objects/2019-01/deals/{deal}").status_code == 404


def test_reading_the_links_of_one_record_has_no_dated_path(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {})

    legacy = api.get(f"/crm/v4/objects/deals/{deal}/associations/companies")
    dated = api.get(f"/crm/objects/2026-09/deals/{deal}/associations/companies")

    assert [legacy.status_code, dated.status_code] == [200, 404]


def test_a_merge_makes_a_new_record_and_the_old_ids_answer_with_it(
    sandbox: Sandbox, api: Api, client: HubSpot
) -> None:
    winner = sandbox.hubspot.create("companies", {"name": "Winner"})
    loser = sandbox.hubspot.create("companies", {"name": "Loser", "domain": "loser.example"})
    deal = sandbox.hubspot.create("deals", {})
    sandbox.hubspot.associate("deals", deal, "companies", [loser], primary=True)

    merged = sandbox.hubspot.merge("companies", winner, [loser])

    assert merged not in (winner, loser)
    for old in (winner, loser):
        one = client.crm.companies.basic_api.get_by_id(
            old, properties=["name", "domain", "hs_merged_object_ids"]
        )
        assert (merged, "Winner") == (one.id, one.properties["name"])
        assert one.properties["domain"] == "loser.example"
        assert f"{winner};{loser}" == one.properties["hs_merged_object_ids"]
    assert [merged] == [one["id"] for one in api.get("/crm/v3/objects/companies").json()["results"]]
    batch = api.post("/crm/v3/objects/companies/batch/read", {"inputs": [{"id": winner}]})
    assert (batch.status_code, batch.json()["results"]) == (200, []), "left out without a word"
    links = api.get(f"/crm/v4/objects/deals/{deal}/associations/companies").json()["results"]
    assert [int(merged)] == [link["toObjectId"] for link in links]


def test_merged_records_are_in_the_archived_list_only_if_the_portal_shows_them(
    sandbox: Sandbox, api: Api
) -> None:
    ids = sandbox.hubspot.create_many("companies", [{"name": "A"}, {"name": "B"}])
    sandbox.hubspot.merge("companies", ids[0], ids[1:])

    hidden = api.get("/crm/v3/objects/companies", archived="true").json()["results"]
    sandbox.hubspot.settings(archived_shows_merged=True)
    shown = api.get("/crm/v3/objects/companies", archived="true").json()["results"]

    assert hidden == []
    assert ids == [one["id"] for one in shown]


def test_what_hubspot_calculates_follows_stage_and_amount(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(rates={"EUR": "1.1"})
    deal = sandbox.hubspot.create(
        "deals",
        {"amount": "200", "deal_currency_code": "EUR", "dealstage": "qualifiedtobuy"},
        at="2025-03-01T00:00:00Z",
    )
    names = (
        "hs_is_closed,hs_is_closed_won,hs_deal_stage_probability,amount_in_home_currency,"
        "closedate,days_to_close"
    )

    def shown() -> list[object]:
        properties = api.get(f"/crm/v3/objects/deals/{deal}", properties=names).json()["properties"]
        return [properties[name] for name in names.split(",")]

    assert shown() == ["false", "false", "0.4", "220.0", None, None]
    sandbox.hubspot.edit("deals", deal, {"dealstage": "closedwon"}, at="2025-03-11T00:00:00Z")
    assert shown() == ["true", "true", "1", "220.0", "2025-03-11T00:00:00Z", "10"]
    sandbox.hubspot.edit("deals", deal, {"dealstage": "closedlost"})
    assert shown()[:3] == ["true", "false", "0"]


def test_links_of_one_record_say_which_company_is_primary(
    sandbox: Sandbox, client: HubSpot
) -> None:
    deal = sandbox.hubspot.create("deals", {})
    first, second = sandbox.hubspot.create_many("companies", [{"name": "A"}, {"name": "B"}])
    sandbox.hubspot.associate("deals", deal, "companies", [first])
    sandbox.hubspot.associate("deals", deal, "companies", [second], primary=True)

    page = client.crm.associations.v4.basic_api.get_page("deals", deal, "companies")

    types = {
        str(link.to_object_id): [(it.type_id, it.label) for it in link.association_types]
        for link in page.results
    }
    assert {first: [(341, None)], second: [(5, "Primary"), (341, None)]} == types


def test_a_record_without_links_is_an_error_of_a_207(sandbox: Sandbox, api: Api) -> None:
    linked, alone = sandbox.hubspot.create_many("deals", [{}, {}])
    company = sandbox.hubspot.create("companies", {})
    sandbox.hubspot.associate("deals", linked, "companies", [company], primary=True)
    sandbox.hubspot.fault("SERVICE_UNAVAILABLE", record=linked, on="associations")
    body = {"inputs": [{"id": linked}, {"id": alone}]}
    path = "/crm/v4/associations/deals/companies/batch/read"

    unknown = api.post(path, body)
    known = api.post(path, body)

    assert [unknown.status_code, known.status_code] == [207, 207]
    assert {"SERVICE_UNAVAILABLE", "OBJECT_NOT_FOUND"} == {
        error["category"] for error in unknown.json()["errors"]
    }
    (error,) = known.json()["errors"]
    assert error["subCategory"] == "crm.associations.NO_ASSOCIATIONS_FOUND"
    assert [alone] == error["context"]["fromObjectId"]
    (result,) = known.json()["results"]
    assert int(company) == result["to"][0]["toObjectId"], "a number, whatever the spec says"


def test_the_batch_read_of_links_is_paged_per_record(sandbox: Sandbox, client: HubSpot) -> None:
    company, small = sandbox.hubspot.create_many("companies", [{}, {}])
    deals = sandbox.hubspot.create_many("deals", [{}] * 230)
    sandbox.hubspot.associate("companies", company, "deals", deals)
    sandbox.hubspot.associate("companies", small, "deals", deals[:1])
    read = client.crm.associations.v4.batch_api.get_page

    found: list[str] = []
    inputs = [{"id": company}, {"id": small}]
    calls = 0
    while inputs:
        calls += 1
        answer = read("companies", "deals", {"inputs": inputs})
        inputs = []
        for result in answer.results:
            if result._from.id == company:
                found += [str(link.to_object_id) for link in result.to]
            if result.paging:
                inputs.append({"id": result._from.id, "after": result.paging.next.after})

    assert deals == found
    assert calls == 3


def test_a_link_change_moves_no_modified_date(sandbox: Sandbox, api: Api) -> None:
    deal = sandbox.hubspot.create("deals", {})
    company = sandbox.hubspot.create("companies", {})
    before = api.get(f"/crm/v3/objects/deals/{deal}").json()["updatedAt"]

    sandbox.hubspot.associate("deals", deal, "companies", [company])
    linked = api.get(f"/crm/v3/objects/deals/{deal}", associations="companies").json()
    sandbox.hubspot.associate("deals", deal, "companies", [company], remove=True)
    unlinked = api.get(f"/crm/v3/objects/deals/{deal}", associations="companies").json()

    assert [company] == [one["id"] for one in linked["associations"]["companies"]["results"]]
    assert unlinked["associations"] == {}
    assert [before, before] == [linked["updatedAt"], unlinked["updatedAt"]]


def test_a_url_beyond_sixteen_thousand_characters_is_414_in_html(steady_api: Api) -> None:
    names = [f"property_number_{n:04}" for n in range(900)]

    answer: requests.Response = steady_api.get("/crm/v3/objects/deals", properties=names)

    assert answer.status_code == 414
    assert answer.headers["content-type"].startswith("text/html")
