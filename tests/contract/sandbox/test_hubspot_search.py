"""HubSpot's rules of searching, kept by the sandbox."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hubspot import HubSpot

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api

UNLIMITED = 1_000_000


def filters(*one_group: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"filters": list(one_group)}]


def where(name: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if value is None else {"value": value}
    return {"propertyName": name, "operator": operator, **given, **more}


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    sandbox.hubspot.settings(search_per_second=UNLIMITED, burst=UNLIMITED)
    return sandbox


@pytest.fixture(scope="module")
def known(steady: Sandbox) -> dict[str, str]:
    records: dict[str, dict[str, Any]] = {
        "a": {"dealname": "Alpha One", "amount": "10.0", "dealstage": "contractsent"},
        "b": {"dealname": "Beta Two", "amount": "20", "dealstage": "closedwon"},
        "c": {"dealname": "Gamma Three", "dealstage": "closedlost"},
    }
    return {steady.hubspot.create("deals", fields): name for name, fields in records.items()}


def test_the_client_searches_a_window_of_modified_dates(sandbox: Sandbox, client: HubSpot) -> None:
    days = [
        sandbox.hubspot.create("deals", {"dealname": f"D{n}"}, at=f"2025-01-0{n}T00:00:00Z")
        for n in range(1, 6)
    ]
    low, high = "1735776000000", "2025-01-04T00:00:00Z"  # 2 January, in both accepted forms

    page = client.crm.deals.search_api.do_search(
        {
            "filterGroups": filters(
                where("hs_lastmodifieddate", "GTE", low), where("hs_lastmodifieddate", "LT", high)
            ),
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": ["dealname"],
            "limit": 1,
        }
    )

    assert page.total == 2
    assert [days[1]] == [deal.id for deal in page.results]
    assert page.paging.next.after == "1"


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (where("amount", "EQ", "10"), "a"),
        (where("amount", "NEQ", "10"), "bc"),
        (where("amount", "GT", "9"), "ab"),
        (where("amount", "BETWEEN", "9", highValue="15"), "a"),
        (where("amount", "HAS_PROPERTY"), "ab"),
        (where("amount", "NOT_HAS_PROPERTY"), "c"),
        (where("dealname", "EQ", "ALPHA one"), "a"),
        (where("dealname", "IN", values=["alpha one", "beta two"]), "ab"),
        (where("dealname", "IN", values=["Alpha one"]), ""),
        (where("dealname", "CONTAINS_TOKEN", "t*"), "bc"),
        (where("dealstage", "IN", values=["closedwon"]), "b"),
        (where("dealstage", "EQ", "CLOSEDWON"), ""),
        (where("dealstage", "NOT_IN", values=["closedwon", "contractsent"]), "c"),
        (where("hs_is_closed_won", "EQ", "true"), "b"),
    ],
    ids=str,
)
def test_operators_find_what_hubspot_finds(
    known: dict[str, str], steady_api: Api, one: dict[str, Any], expected: str
) -> None:
    found = steady_api.found("deals", filterGroups=filters(one))

    assert expected == "".join(sorted(known[one_id] for one_id in found))


def test_groups_are_alternatives(sandbox: Sandbox, api: Api) -> None:
    ids = sandbox.hubspot.create_many("deals", [{"amount": n} for n in range(4)])
    groups = [*filters(where("amount", "EQ", "0")), *filters(where("amount", "EQ", "3"))]

    assert {ids[0], ids[3]} == set(api.found("deals", filterGroups=groups))


def test_deals_are_found_by_their_company(sandbox: Sandbox, api: Api) -> None:
    mine, _ = sandbox.hubspot.create_many("deals", [{}, {}])
    company = sandbox.hubspot.create("companies", {})
    sandbox.hubspot.associate("deals", mine, "companies", [company])

    assert [mine] == api.found(
        "deals", filterGroups=filters(where("associations.company", "EQ", company))
    )


ONE = where("amount", "EQ", "1")


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"after": "ten"},
        {"limit": 100, "after": "9901"},
        {"limit": 10, "after": "10000"},
        {"filterGroups": [{"filters": [ONE]}] * 6},
        {"filterGroups": [{"filters": [ONE] * 7}]},
        {"filterGroups": [{"filters": [ONE] * 5}] * 4},
        {"sorts": [{"propertyName": "amount"}, {"propertyName": "dealname"}]},
        {"sorts": [{"propertyName": "amount", "direction": "UP"}]},
        {"filterGroups": filters(where("amount", "LIKE", "1"))},
        {"filterGroups": filters(where("amount", "EQ", "1,000"))},
        {"filterGroups": filters(where("hs_lastmodifieddate", "GTE", "yesterday"))},
        {"filterGroups": filters(where("amount", "EQ"))},
        {"filterGroups": filters(where("dealname", "IN"))},
        {"filterGroups": "all"},
    ],
    ids=str,
)
def test_a_search_that_breaks_a_rule_is_a_bad_request(
    steady_api: Api, body: dict[str, Any]
) -> None:
    assert steady_api.search("deals", **body).status_code == 400


@pytest.mark.parametrize("part", ["filterGroups", "sorts"])
def test_unknown_properties_are_refused_where_a_read_would_ignore_them(
    steady_api: Api, part: str
) -> None:
    one = where("nonsense", "EQ", "1")
    body = {part: filters(one) if part == "filterGroups" else [{"propertyName": "nonsense"}]}

    refused = steady_api.search("deals", **body)

    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == "PROPERTY_DOESNT_EXIST"
    assert steady_api.search("deals", properties=["nonsense"]).status_code == 200


def test_ten_thousand_results_are_the_end_although_the_total_is_larger(
    sandbox: Sandbox, api: Api
) -> None:
    sandbox.hubspot.create_many("deals", [{}] * 10_050, at="2025-05-05T05:05:05Z")

    last = api.search("deals", limit=200, after="9800").json()
    beyond = api.search("deals", limit=200, after=last["paging"]["next"]["after"])

    assert (
        last["total"],
        len(last["results"]),
        last["paging"]["next"]["after"],
    ) == (10_050, 200, "10000")
    assert beyond.status_code == 400


def test_equal_stamps_are_walked_by_id_within_a_window(sandbox: Sandbox, api: Api) -> None:
    stamp = "2025-05-05T05:05:05Z"
    ids = sandbox.hubspot.create_many("deals", [{}] * 1_050, at=stamp)

    found: list[str] = []
    while page := api.found(
        "deals",
        filterGroups=filters(
            where("hs_lastmodifieddate", "GTE", stamp),
            where("hs_object_id", "GT", found[-1] if found else "0"),
        ),
        sorts=[{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        limit=200,
    ):
        found += page

    assert ids == found


def test_ties_come_in_no_promised_order(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.create_many("deals", [{"amount": "1"}] * 30, at="2025-05-05T05:05:05Z")
    sorts = [{"propertyName": "hs_lastmodifieddate", "direction": "DESCENDING"}]

    orders = {tuple(api.found("deals", sorts=sorts, limit=30)) for _ in range(5)}

    assert len(orders) == 5


def test_sorting_orders_numbers_as_numbers(sandbox: Sandbox, api: Api) -> None:
    nine, ten, none = sandbox.hubspot.create_many("deals", [{"amount": 9}, {"amount": 10}, {}])

    def order(direction: str) -> list[str]:
        return api.found("deals", sorts=[{"propertyName": "amount", "direction": direction}])

    assert [nine, ten, none] == order("ASCENDING")
    assert [ten, nine, none] == order("DESCENDING")


def test_the_index_trails_writes_by_the_lag(sandbox: Sandbox, api: Api) -> None:
    old = sandbox.hubspot.create("deals", {"amount": "1"})
    sandbox.hubspot.lag(60)
    new = sandbox.hubspot.create("deals", {"amount": "1"})
    sandbox.hubspot.edit("deals", old, {"amount": "2"})
    one = filters(where("amount", "EQ", "1"))

    assert [old] == api.found("deals", filterGroups=one)
    assert {old, new} == {r["id"] for r in api.get("/crm/v3/objects/deals").json()["results"]}
    sandbox.hubspot.clock(advance=61)
    assert [new] == api.found("deals", filterGroups=one)


def test_archived_and_merged_records_are_never_found(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.lag(60)
    archived, one, two = sandbox.hubspot.create_many("deals", [{}, {}, {}])
    sandbox.hubspot.clock(advance=61)
    assert {archived, one, two} == set(api.found("deals"))
    sandbox.hubspot.delete("deals", archived)
    sandbox.hubspot.merge("deals", one, [two])

    assert api.found("deals") == [], "at once, and the merged one is not indexed yet"


def test_a_change_committed_late_bears_the_stamp_of_its_writing(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.clock(fix="2025-06-01T12:00:00Z")
    late = sandbox.hubspot.create("deals", {}, commit_after=300)

    before = api.found("deals")
    sandbox.hubspot.clock(advance=301)
    after = api.search("deals").json()["results"]

    assert before == []
    assert [(late, "2025-06-01T12:00:00Z")] == [(r["id"], r["updatedAt"]) for r in after]


def test_calculated_properties_may_be_null_in_search_and_right_in_batch(
    sandbox: Sandbox, api: Api
) -> None:
    deal = sandbox.hubspot.create("deals", {"dealstage": "closedwon"})
    sandbox.hubspot.settings(stale_calculated=True)
    names = ["hs_is_closed", "dealstage"]

    searched = api.search("deals", properties=names).json()["results"][0]["properties"]
    body = {"inputs": [{"id": deal}], "properties": names}
    read = api.post("/crm/v3/objects/deals/batch/read", body).json()["results"][0]["properties"]

    assert (searched["hs_is_closed"], searched["dealstage"]) == (None, "closedwon")
    assert read["hs_is_closed"] == "true"


def test_a_search_over_twelve_thousand_deals_is_quick(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.create_many("deals", [{}] * 12_000, at="2025-05-05T05:05:05Z")

    began = time.monotonic()
    api.found(
        "deals",
        filterGroups=filters(where("hs_lastmodifieddate", "GTE", "2025-01-01T00:00:00Z")),
        sorts=[{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        limit=200,
    )

    assert time.monotonic() - began < 2


def test_a_record_stands_in_the_window_of_its_last_change_alone(sandbox: Sandbox, api: Api) -> None:
    first = sandbox.hubspot.create("deals", {}, at="2025-01-01T00:00:00Z")
    moved = sandbox.hubspot.create("deals", {}, at="2025-01-01T00:00:00Z")
    assert len(api.found("deals", limit=10)) == 2
    sandbox.hubspot.edit("deals", moved, {"amount": "1"}, at="2025-02-01T00:00:00Z")

    def changed_in(month: int) -> list[str]:
        low, high = f"2025-0{month}-01T00:00:00Z", f"2025-0{month + 1}-01T00:00:00Z"
        name = "hs_lastmodifieddate"
        return api.found(
            "deals", filterGroups=filters(where(name, "GTE", low), where(name, "LT", high))
        )

    assert (changed_in(1), changed_in(2), changed_in(3)) == ([first], [moved], [])


@pytest.mark.parametrize(
    ("operator", "places", "wanted"),
    [
        ("GT", [1], [2, 3, 4]),
        ("GTE", [1], [1, 2, 3, 4]),
        ("LT", [2], [0, 1]),
        ("LTE", [2], [0, 1, 2]),
        ("BETWEEN", [1, 3], [1, 2, 3]),
        ("EQ", [4], [4]),
    ],
)
def test_ids_are_found_by_their_range(
    steady: Sandbox, steady_api: Api, operator: str, places: list[int], wanted: list[int]
) -> None:
    ids = steady.hubspot.create_many("tickets", [{"subject": operator} for _ in range(5)])
    bounds: dict[str, Any] = {"value": ids[places[0]]}
    if len(places) > 1:
        bounds["highValue"] = ids[places[1]]
    both = [
        where("subject", "EQ", operator),
        {"propertyName": "hs_object_id", "operator": operator, **bounds},
    ]
    sort = [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]

    found = steady_api.found("tickets", filterGroups=filters(*both), sorts=sort, limit=100)

    assert found == [ids[place] for place in wanted]


def test_a_bulk_job_stamps_all_alike_and_a_walk_by_id_gets_through(
    sandbox: Sandbox, api: Api
) -> None:
    ids = sandbox.hubspot.create_many("contacts", [{} for _ in range(1_050)])
    sandbox.hubspot.edit("contacts", ids, {"company": "C"}, at="2025-06-01T00:00:00Z")
    sandbox.hubspot.clock(fix="2025-06-02T00:00:00Z")
    name, found = "lastmodifieddate", ["0"]

    while True:
        page = api.search(
            "contacts",
            filterGroups=filters(
                where(name, "GTE", "2025-01-01T00:00:00Z"), where("hs_object_id", "GT", found[-1])
            ),
            sorts=[{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            limit=200,
        ).json()["results"]
        if not page:
            break
        found += [one["id"] for one in page]

    assert found[1:] == ids
