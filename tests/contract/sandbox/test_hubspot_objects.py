"""What the portal keeps besides companies and deals, seen through HubSpot's own client."""

from __future__ import annotations

import pytest
from hubspot import HubSpot
from hubspot.crm.contacts import ApiException as ContactsApiException
from hubspot.crm.objects import ApiException as ObjectsApiException

from tests.fixtures.sandboxes import Sandbox

from .conftest import TOKEN, Api

STAGES = "createdate,subject,closed_date,time_to_close,hs_v2_date_entered_4,hs_v2_date_exited_4"


@pytest.fixture(scope="module")
def steady_client(steady: Sandbox) -> HubSpot:
    return HubSpot(access_token=TOKEN, host=steady.hubspot.url, base_url=steady.hubspot.url)


def read(api: Api, kind: str, record_id: str, names: str) -> dict[str, str | None]:
    answer = api.get(f"/crm/v3/objects/{kind}/{record_id}", properties=names)
    assert answer.status_code == 200, answer.text
    properties: dict[str, str | None] = answer.json()["properties"]
    return properties


# ---------------------------------------------------------------- contacts


def test_a_contact_keeps_when_it_entered_each_lifecycle_stage(
    steady: Sandbox, steady_client: HubSpot
) -> None:
    crm = steady.hubspot
    contact = crm.create(
        "contacts",
        {"email": "first@one.example", "lifecyclestage": "lead"},
        at="2025-01-01T00:00:00Z",
    )
    crm.edit("contacts", contact, {"lifecyclestage": "customer"}, at="2025-01-03T00:00:00Z")

    names = [
        "hs_lifecyclestage_lead_date",
        "hs_v2_date_entered_lead",
        "hs_v2_date_exited_lead",
        "hs_v2_latest_time_in_lead",
        "hs_v2_date_entered_customer",
        "hs_lifecyclestage_opportunity_date",
        "lastmodifieddate",
    ]
    read_back = steady_client.crm.contacts.basic_api.get_by_id(contact, properties=names)

    assert [read_back.properties[name] for name in names] == [
        "2025-01-01T00:00:00Z",
        "2025-01-01T00:00:00Z",
        "2025-01-03T00:00:00Z",
        str(2 * 24 * 3600 * 1000),
        "2025-01-03T00:00:00Z",
        None,
        "2025-01-03T00:00:00Z",
    ]


def test_contacts_have_no_hs_lastmodifieddate(steady_api: Api) -> None:
    sort = [{"propertyName": "hs_lastmodifieddate", "direction": "ASCENDING"}]

    refused = steady_api.search("contacts", sorts=sort)

    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == "PROPERTY_DOESNT_EXIST"
    sort[0]["propertyName"] = "lastmodifieddate"
    assert steady_api.search("contacts", sorts=sort).status_code == 200


def test_a_lifecycle_stage_never_goes_back_through_the_api(
    steady: Sandbox, steady_api: Api
) -> None:
    contact = steady.hubspot.create("contacts", {"lifecyclestage": "opportunity"})

    answer = steady_api.update(
        "contacts", {"id": contact, "properties": {"lifecyclestage": "lead", "company": "C"}}
    )

    assert answer.status_code == 200, "dropped silently"
    kept = read(steady_api, "contacts", contact, "lifecyclestage,company")
    assert (kept["lifecyclestage"], kept["company"]) == ("opportunity", "C")
    steady_api.update("contacts", {"id": contact, "properties": {"lifecyclestage": "customer"}})
    assert read(steady_api, "contacts", contact, "lifecyclestage")["lifecyclestage"] == "customer"


def test_a_lifecycle_stage_of_ones_own_has_dates_too(steady: Sandbox, steady_api: Api) -> None:
    steady.hubspot.add_field("contacts", "lifecyclestage", "choice", choices=["71234"])
    contact = steady.hubspot.create(
        "contacts", {"lifecyclestage": "71234"}, at="2025-05-01T00:00:00Z"
    )

    assert (
        read(steady_api, "contacts", contact, "hs_v2_date_entered_71234")[
            "hs_v2_date_entered_71234"
        ]
        == "2025-05-01T00:00:00Z"
    )


def test_an_email_address_belongs_to_one_contact(
    steady: Sandbox, steady_client: HubSpot, steady_api: Api
) -> None:
    contact = steady.hubspot.create("contacts", {"email": "Taken@one.example"})
    contacts = steady_client.crm.contacts

    with pytest.raises(ContactsApiException, match=f"Existing ID: {contact}") as refused:
        contacts.basic_api.create({"properties": {"email": "taken@ONE.example"}})

    assert refused.value.status == 409
    found = contacts.batch_api.read(
        {"idProperty": "email", "properties": ["email"], "inputs": [{"id": "taken@one.example"}]}
    )
    assert [one.id for one in found.results] == [contact]
    named = "/crm/v3/objects/contacts/taken@one.example"
    assert steady_api.get(named, idProperty="email").json()["id"] == contact
    assert steady_api.get(named, idProperty="company").status_code == 400
    refused_read = steady_api.post(
        "/crm/v3/objects/contacts/batch/read", {"idProperty": "company", "inputs": [{"id": "C"}]}
    )
    assert refused_read.status_code == 400


def test_upsert_tells_new_from_known_and_one_conflict_refuses_all(
    steady: Sandbox, steady_client: HubSpot, steady_api: Api
) -> None:
    known = steady.hubspot.create("contacts", {"email": "known@two.example"})
    steady.hubspot.create("contacts", {"email": "other@two.example"})

    def upsert(*emails: str, **changes: str) -> list[dict[str, object]]:
        return [
            {"id": email, "idProperty": "email", "properties": dict(changes)} for email in emails
        ]

    done = steady_client.crm.contacts.batch_api.upsert(
        {"inputs": upsert("known@two.example", "new@two.example", company="C")}
    )
    refused = steady_api.post(
        "/crm/v3/objects/contacts/batch/upsert",
        {"inputs": upsert("known@two.example", email="other@two.example", company="D")},
    )

    assert {one.properties.get("email") or "known": one.new for one in done.results} == {
        "known": False,
        "new@two.example": True,
    }
    assert (refused.status_code, refused.json()["category"]) == (409, "CONFLICT")
    traced = [
        {**one, "objectWriteTraceId": str(place)}
        for place, one in enumerate(upsert("known@two.example", email="other@two.example"))
    ]
    whole = steady_api.post("/crm/v3/objects/contacts/batch/upsert", {"inputs": traced})
    assert whole.status_code == 409, "trace ids do not help here"
    assert read(steady_api, "contacts", known, "company")["company"] == "C"
    by_id = [{"id": known, "idProperty": "hs_object_id", "properties": {}}]
    misuse = steady_api.post("/crm/v3/objects/contacts/batch/upsert", {"inputs": by_id})
    assert misuse.status_code == 400
    assert "non-unique property" in misuse.json()["message"]


def test_contacts_keep_forty_five_values_of_a_property_and_the_rest_twenty(
    sandbox: Sandbox, api: Api
) -> None:
    contact = sandbox.hubspot.create("contacts", {"company": "0"})
    ticket = sandbox.hubspot.create("tickets", {"subject": "0"})
    for number in range(1, 60):
        sandbox.hubspot.edit("contacts", contact, {"company": str(number)})
        sandbox.hubspot.edit("tickets", ticket, {"subject": str(number)})

    def depth(kind: str, record_id: str, name: str) -> list[str]:
        path = f"/crm/v3/objects/{kind}/{record_id}"
        past = api.get(path, propertiesWithHistory=name).json()["propertiesWithHistory"][name]
        return [one["value"] for one in past]

    assert depth("contacts", contact, "company") == [str(n) for n in range(59, 14, -1)]
    assert depth("tickets", ticket, "subject") == [str(n) for n in range(59, 39, -1)]


# ---------------------------------------------------------------- tickets


def test_closing_a_ticket_stamps_it_and_reopening_clears_the_stamp(
    steady: Sandbox, steady_api: Api
) -> None:
    crm = steady.hubspot
    ticket = crm.create(
        "tickets", {"subject": "T", "hs_pipeline_stage": "1"}, at="2025-02-01T08:00:00Z"
    )
    crm.edit("tickets", ticket, {"hs_pipeline_stage": "4"}, at="2025-02-01T10:00:00Z")
    closed = read(steady_api, "tickets", ticket, STAGES)
    crm.edit("tickets", ticket, {"hs_pipeline_stage": "3"}, at="2025-02-02T10:00:00Z")
    reopened = read(steady_api, "tickets", ticket, STAGES)

    assert (closed["closed_date"], closed["time_to_close"]) == ("2025-02-01T10:00:00Z", "7200000")
    assert (reopened["closed_date"], reopened["time_to_close"]) == (None, None)
    assert reopened["hs_v2_date_exited_4"] == "2025-02-02T10:00:00Z"
    history = steady_api.get(
        f"/crm/v3/objects/tickets/{ticket}", propertiesWithHistory="hs_pipeline_stage"
    ).json()["propertiesWithHistory"]["hs_pipeline_stage"]
    assert [one["value"] for one in history] == ["3", "4", "1"]


def test_the_first_reply_is_found_by_the_properties_api_and_counted_in_milliseconds(
    steady: Sandbox, steady_api: Api
) -> None:
    listed = steady_api.get("/crm/v3/properties/tickets").json()["results"]
    reply = next(one["name"] for one in listed if one["name"].endswith("_reply_date"))
    ticket = steady.hubspot.create("tickets", {"subject": "T"}, at="2025-02-01T08:00:00Z")
    steady.hubspot.edit("tickets", ticket, {reply: "2025-02-01T08:30:00Z"})

    name = f"time_to_{reply.removesuffix('_date')}"
    assert read(steady_api, "tickets", ticket, name)[name] == str(30 * 60 * 1000)
    refused = steady_api.patch(
        f"/crm/v3/objects/tickets/{ticket}", {"properties": {reply: "2025-02-01T09:30:00Z"}}
    )
    assert refused.json()["errors"][0]["code"] == "READ_ONLY_VALUE"


def test_a_tickets_stage_says_its_state(steady_client: HubSpot, steady_api: Api) -> None:
    (pipeline,) = steady_client.crm.pipelines.pipelines_api.get_all("tickets").results

    assert pipeline.id == "0"
    assert pipeline.stages[-1].metadata == {"isClosed": "true", "ticketState": "CLOSED"}
    refused = steady_api.post(
        "/crm/v3/objects/tickets", {"properties": {"hs_pipeline_stage": "closedwon"}}
    )
    assert refused.json()["errors"][0]["code"] == "INVALID_OPTION"
    assert steady_api.get("/crm/v3/pipelines/contacts").status_code == 400


def test_an_odd_stage_id_gives_its_dates_a_name_with_a_number(steady_api: Api) -> None:
    stages = steady_api.get("/crm/v3/pipelines/orders").json()["results"][0]["stages"]
    names = {one["name"] for one in steady_api.get("/crm/v3/properties/orders").json()["results"]}

    word = stages[0]["id"].replace("-", "_")
    found = [name for name in names if name.startswith(f"hs_v2_date_entered_{word}_")]
    assert len(found) == 1
    assert found[0].rpartition("_")[2].isdecimal()


# ---------------------------------------------------------------- line items, products, orders


def test_a_line_items_net_price_is_calculated(steady: Sandbox, steady_api: Api) -> None:
    item = steady.hubspot.create(
        "line_items", {"quantity": "3", "price": "10.50", "hs_discount_percentage": "10"}
    )

    assert read(steady_api, "line_items", item, "amount")["amount"] == "28.35"
    refused = steady_api.patch(
        f"/crm/v3/objects/line_items/{item}", {"properties": {"amount": "1"}}
    )
    assert refused.json()["errors"][0]["code"] == "READ_ONLY_VALUE"


def test_line_items_orders_and_products_are_read_through_the_generic_api(
    steady: Sandbox, steady_client: HubSpot
) -> None:
    crm, generic = steady.hubspot, steady_client.crm.objects
    product = crm.create("products", {"name": "P", "price": "5"})
    order = crm.create("orders", {"hs_order_name": "O", "hs_total_price": "50"})

    by_id = generic.basic_api.get_by_id("0-7", product, properties=["price"])
    page = generic.search_api.do_search(
        "0-123", {"properties": ["hs_total_price", "hs_createdate"], "limit": 10}
    )

    assert by_id.properties["price"] == "5"
    assert [one.properties["hs_total_price"] for one in page.results if one.id == order] == ["50"]
    with pytest.raises(ObjectsApiException, match="createdate"):
        generic.search_api.do_search(
            "orders", {"sorts": [{"propertyName": "createdate", "direction": "ASCENDING"}]}
        )


# ---------------------------------------------------------------- survey answers


def test_survey_answers_can_only_be_read(
    steady: Sandbox, steady_client: HubSpot, steady_api: Api
) -> None:
    answer = steady.hubspot.create(
        "feedback_submissions",
        {"hs_survey_type": "NPS", "hs_value": "9", "hs_response_group": "PROMOTER"},
    )

    shown = steady_client.crm.objects.feedback_submissions.basic_api.get_by_id(
        answer, properties=["hs_value", "hs_survey_type"]
    )

    assert (shown.properties["hs_value"], shown.properties["hs_survey_type"]) == ("9", "NPS")
    path = f"/crm/v3/objects/feedback_submissions/{answer}"
    assert steady_api.patch(path, {"properties": {}}).status_code == 405


def test_an_account_without_service_hub_has_no_survey_answers(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(absent_hubs=["service", "marketing"])

    assert api.get("/crm/v3/objects/feedback_submissions").status_code == 403
    assert api.search("feedback_submissions").status_code == 403
    assert api.get("/marketing/v3/campaigns").status_code == 403
    assert api.get("/crm/v3/objects/tickets").status_code == 200, "the rest goes on"


# ---------------------------------------------------------------- custom objects


def test_a_custom_object_is_read_by_its_id_and_by_its_full_name(
    steady: Sandbox, steady_client: HubSpot, steady_api: Api
) -> None:
    crm = steady.hubspot
    made = crm.admin(
        "define_object",
        name="contract",
        label="Contract",
        properties=[{"name": "value", "type": "money"}, {"name": "ends", "type": "date"}],
    )
    contract = crm.create("contract", {"value": "100", "ends": "2025-12-31"})
    company = crm.create("companies", {"name": "C"})
    crm.associate("contract", contract, "companies", [company])

    for name in (made["type_id"], made["full_name"], "p_contract"):
        shown = steady_client.crm.objects.basic_api.get_by_id(
            name, contract, properties=["value", "ends"]
        )
        assert (shown.properties["value"], shown.properties["ends"]) == ("100", "2025-12-31")
    schemas = steady_client.crm.schemas.core_api.get_all().results
    assert [(one.name, one.object_type_id) for one in schemas] == [("contract", made["type_id"])]
    links = steady_api.post(
        f"/crm/v4/associations/{made['type_id']}/companies/batch/read",
        {"inputs": [{"id": contract}]},
    ).json()["results"]
    assert [one["toObjectId"] for one in links[0]["to"]] == [int(company)]
    assert links[0]["to"][0]["associationTypes"][0]["category"] == "USER_DEFINED"
    assert steady_api.get("/crm/v3/objects/contract").status_code == 400, "not by its bare name"


def test_a_custom_object_can_be_defined_through_the_api(steady_api: Api) -> None:
    body = {
        "name": "subscription_plan",
        "labels": {"singular": "Plan", "plural": "Plans"},
        "requiredProperties": [],
        "searchableProperties": [],
        "primaryDisplayProperty": "plan",
        "secondaryDisplayProperties": [],
        "associatedObjects": ["COMPANY"],
        "properties": [{"name": "plan", "label": "Plan", "type": "string", "fieldType": "text"}],
    }

    made = steady_api.post("/crm/v3/schemas", body).json()

    created = steady_api.post(
        f"/crm/v3/objects/{made['objectTypeId']}", {"properties": {"plan": "Gold"}}
    )
    assert created.status_code == 201
    assert created.json()["properties"]["plan"] == "Gold"
    assert steady_api.post("/crm/v3/schemas", body).status_code == 409


# ---------------------------------------------------------------- links


def test_labels_tell_apart_the_ways_in_which_records_belong_together(
    steady: Sandbox, steady_api: Api, steady_client: HubSpot
) -> None:
    crm = steady.hubspot
    crm.admin("label", **{"from": "deals", "to": "contacts", "label": "Decision maker"})
    deal = crm.create("deals", {"dealname": "D"})
    boss, other = crm.create_many("contacts", [{}, {}])
    crm.associate("deals", deal, "contacts", [boss], label="Decision maker")
    crm.associate("deals", deal, "contacts", [other])

    known = steady_client.crm.associations.v4.schema.definitions_api.get_all("deals", "contacts")
    read_back = steady_api.post(
        "/crm/v4/associations/deals/contacts/batch/read", {"inputs": [{"id": deal}]}
    ).json()["results"][0]["to"]

    assert {(one.category, one.label) for one in known.results} == {
        ("USER_DEFINED", "Decision maker"),
        ("HUBSPOT_DEFINED", None),
    }
    labels = {
        one["toObjectId"]: [it["label"] for it in one["associationTypes"]] for one in read_back
    }
    assert labels == {int(boss): ["Decision maker", None], int(other): [None]}


def test_a_contact_has_one_primary_company_and_a_company_is_that_of_many(
    steady: Sandbox, steady_api: Api
) -> None:
    crm = steady.hubspot
    one, two = crm.create_many("companies", [{"name": "One"}, {"name": "Two"}])
    first, second = crm.create_many("contacts", [{}, {}])
    crm.associate("contacts", first, "companies", [one], primary=True)
    crm.associate("contacts", second, "companies", [one], primary=True)
    crm.associate("companies", two, "contacts", [first], primary=True)

    companies = [
        read(steady_api, "contacts", contact, "associatedcompanyid")["associatedcompanyid"]
        for contact in (first, second)
    ]

    assert companies == [two, one]
    count = read(steady_api, "companies", one, "num_associated_contacts")
    assert count["num_associated_contacts"] == "2", "no longer primary, yet associated"


# ---------------------------------------------------------------- merges and erasure


def test_before_2025_the_winner_of_a_merge_kept_its_id(sandbox: Sandbox, api: Api) -> None:
    crm = sandbox.hubspot
    crm.settings(merge_keeps_winner=True)
    winner, loser = crm.create_many("contacts", [{"email": "a@x.example"}, {"company": "C"}])

    merged = api.post(
        "/crm/v3/objects/contacts/merge", {"primaryObjectId": winner, "objectIdToMerge": loser}
    ).json()

    assert merged["id"] == winner
    shown = read(api, "contacts", loser, "email,company,hs_merged_object_ids")
    assert (shown["email"], shown["company"], shown["hs_merged_object_ids"]) == (
        "a@x.example",
        "C",
        loser,
    )
    listed = [one["id"] for one in api.get("/crm/v3/objects/contacts").json()["results"]]
    assert listed == [winner]


@pytest.mark.parametrize("keeps_winner", [True, False])
def test_a_merge_moves_links_and_addresses(
    sandbox: Sandbox, api: Api, client: HubSpot, keeps_winner: bool
) -> None:
    crm = sandbox.hubspot
    crm.settings(merge_keeps_winner=keeps_winner)
    winner, loser = crm.create_many(
        "contacts", [{"email": "a@x.example"}, {"email": "b@x.example"}]
    )
    one, other = crm.create_many("companies", [{"name": "One"}, {"name": "Other"}])
    deals = crm.create_many("deals", [{}, {}])
    for deal in deals:
        crm.associate("deals", deal, "companies", [other], primary=True)
        crm.associate("deals", deal, "contacts", [loser])

    person, company = crm.merge("contacts", winner, [loser]), crm.merge("companies", one, [other])

    assert ((person, company) == (winner, one)) is keeps_winner
    kept = read(api, "contacts", person, "email,hs_additional_emails")
    assert (kept["email"], kept["hs_additional_emails"]) == ("a@x.example", "b@x.example")
    for to, expected in (("companies", company), ("contacts", person)):
        links = client.crm.associations.v4.batch_api.get_page(
            "deals", to, {"inputs": [{"id": deal} for deal in deals]}
        )
        assert [int(it.to[0].to_object_id) for it in links.results] == [int(expected)] * 2
    primaries = api.post(
        "/crm/v4/associations/deals/companies/batch/read",
        {"inputs": [{"id": deal} for deal in deals]},
    ).json()["results"]
    labels = [it["to"][0]["associationTypes"][0]["label"] for it in primaries]
    assert labels == ["Primary", "Primary"]


def test_a_privacy_deletion_leaves_no_trace(sandbox: Sandbox, api: Api) -> None:
    contact = sandbox.hubspot.create("contacts", {"email": "gone@x.example"})

    erased = api.post(
        "/crm/v3/objects/contacts/gdpr-delete",
        {"objectId": "gone@x.example", "idProperty": "email"},
    )

    assert erased.status_code == 204
    path = "/crm/v3/objects/contacts"
    assert api.get(f"{path}/{contact}").status_code == 404
    assert api.get(path, archived="true").json()["results"] == []
    assert api.found("contacts") == []


def test_the_client_archives_one_and_many(sandbox: Sandbox, client: HubSpot, api: Api) -> None:
    one, two, stays = sandbox.hubspot.create_many("tickets", [{}, {}, {}])

    client.crm.tickets.basic_api.archive(one)
    client.crm.tickets.batch_api.archive({"inputs": [{"id": two}, {"id": one}]})

    listed = api.get("/crm/v3/objects/tickets").json()["results"]
    archived = api.get("/crm/v3/objects/tickets", archived="true").json()["results"]
    assert [it["id"] for it in listed] == [stays]
    assert [it["id"] for it in archived] == [one, two]
