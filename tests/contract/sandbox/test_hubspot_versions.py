"""Dated paths beside the legacy ones: the same bodies, and what only the new version does."""

from __future__ import annotations

import pytest

from tests.fixtures.sandboxes import Sandbox

from .conftest import Api

TWINS = [
    ("/crm/v3/objects/contacts", "/crm/objects/2026-09/contacts"),
    ("/crm/v3/objects/0-5", "/crm/objects/2026-09/0-5"),
    ("/crm/v3/properties/tickets", "/crm/properties/2026-09/tickets"),
    ("/crm/v3/properties/deals/groups", "/crm/properties/2026-09/deals/groups"),
    ("/crm/v3/pipelines/tickets", "/crm/pipelines/2026-09/tickets"),
    ("/crm/v3/owners", "/crm/owners/2026-09"),
    ("/crm/v3/schemas", "/crm-object-schemas/2026-09/schemas"),
    ("/account-info/v3/details", "/account-info/2026-09/details"),
    ("/marketing/v3/campaigns", "/marketing/campaigns/2026-09"),
    ("/marketing/v3/emails", "/marketing/emails/2026-09"),
    (
        "/crm/v4/associations/deals/contacts/labels",
        "/crm/associations/2026-09/deals/contacts/labels",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _filled(steady: Sandbox) -> None:
    crm = steady.hubspot
    crm.clock(fix="2026-01-01T00:00:00Z")
    contact, ticket = crm.create("contacts", {"email": "a@x.example"}), crm.create("tickets", {})
    crm.create("deals", {"dealname": "D"})
    crm.create("owners", {"email": "rep.01@example.com"})
    crm.create("campaigns", {"hs_name": "Spring"})
    crm.associate("contacts", contact, "tickets", [ticket])


@pytest.mark.parametrize(("legacy", "dated"), TWINS, ids=[dated for _, dated in TWINS])
def test_a_dated_path_answers_like_its_legacy_twin(
    steady_api: Api, legacy: str, dated: str
) -> None:
    old, new, newest = (
        steady_api.get(path) for path in (legacy, dated.replace("2026-09", "2026-03"), dated)
    )

    assert old.status_code == 200
    assert old.json() == new.json() == newest.json()


def test_searches_batches_and_writes_have_dated_twins(steady_api: Api) -> None:
    (found,) = steady_api.post("/crm/objects/2026-09/contacts/search", {}).json()["results"]
    inputs = [{"id": found["id"], "properties": {"company": "C"}}]

    updated = steady_api.post("/crm/objects/2026-09/contacts/batch/update", {"inputs": inputs})
    read = steady_api.post(
        "/crm/objects/2026-09/contacts/batch/read",
        {"inputs": [{"id": found["id"]}], "properties": ["company"]},
    )
    links = steady_api.post(
        "/crm/associations/2026-09/contacts/tickets/batch/read", {"inputs": [{"id": found["id"]}]}
    )

    assert updated.status_code == 200
    assert read.json()["results"][0]["properties"]["company"] == "C"
    assert len(links.json()["results"][0]["to"]) == 1


def test_the_links_of_one_record_have_no_dated_twin(steady_api: Api) -> None:
    (contact,) = steady_api.get("/crm/v3/objects/contacts").json()["results"]
    tail = f"objects/{{}}contacts/{contact['id']}/associations/tickets"

    assert steady_api.get("/crm/v4/" + tail.format("")).status_code == 200
    assert steady_api.get("/crm/" + tail.format("2026-09/")).status_code == 404


def test_rules_for_people_bind_the_api_from_2026_09_on(sandbox: Sandbox, api: Api) -> None:
    sandbox.hubspot.settings(
        required={
            "deals": [
                {"at_creation": True, "needs": ["dealname"]},
                {"when": "dealstage", "has": ["closedlost"], "needs": ["closed_lost_reason"]},
            ]
        }
    )
    deal = sandbox.hubspot.create("deals", {"dealname": "D", "dealstage": "contractsent"})

    def lose(version: str, **more: str) -> int:
        body = {"properties": {"dealstage": "closedlost", **more}}
        return api.patch(f"/crm/{version}/deals/{deal}", body).status_code

    created = api.post("/crm/objects/2026-09/deals", {"properties": {"amount": "1"}})
    assert (created.status_code, created.json()["errors"][0]["context"]) == (
        400,
        {"propertyName": ["dealname"]},
    )
    assert api.post("/crm/objects/2026-03/deals", {"properties": {}}).status_code == 201
    assert lose("objects/2026-09") == 400
    assert lose("objects/2026-09", closed_lost_reason="Price") == 200
    assert lose("v3/objects") == 200
    harmless = {"properties": {"amount": "5"}}
    assert api.patch(f"/crm/objects/2026-09/deals/{deal}", harmless).status_code == 200
