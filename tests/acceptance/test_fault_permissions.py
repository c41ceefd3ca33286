"""Rights that go and fields that change their type: named, nothing lost, and back by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from sandbox.hubspot_settings import ALL_SCOPES
from store.canonical import Deal
from tests.acceptance.proxies import behind_proxies, hurting
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import SEEDED, Site
from worker.results import State

SCOPE = "crm.objects.deals.read"


@pytest.fixture
def site(start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str) -> Site:
    return Site(tmp_path, start_sandbox(*SEEDED), sqlite_database)


def test_a_right_that_is_taken_away_is_named_and_the_records_stay(site: Site) -> None:
    crms = {"salesforce": site.sandbox.salesforce, "hubspot": site.sandbox.hubspot}
    for name in crms:
        site.pull(name, "deals")
    before = site.stored()["deals"]
    crms["salesforce"].settings(hide_objects=["Opportunity"])
    crms["hubspot"].settings(scopes=sorted(ALL_SCOPES - {SCOPE}))

    refused = {name: site.pull(name, "deals") for name in crms}
    others = {name: site.pull(name, "accounts") for name in crms}
    kept = site.stored()["deals"]
    crms["salesforce"].settings(show_objects=["Opportunity"])
    crms["hubspot"].settings(scopes=sorted(ALL_SCOPES))
    back = {name: site.pull(name, "deals") for name in crms}

    assert {run.state for run in refused.values()} <= {State.FAILED, State.PAUSED}
    # One object of many: that stream rests, told in `status` like every pause.
    assert "Opportunity" in str(refused["salesforce"].warnings)
    assert SCOPE in str(refused["hubspot"].error)
    assert {run.state for run in others.values()} == {State.OK}
    assert {run.state for run in back.values()} == {State.OK}, back
    assert kept == before
    assert site.stored()["deals"] == before


def retyped(field: str, kind: str) -> Callable[[bytes], bytes]:
    """What tells of a field as one of another type, wherever a CRM describes it."""

    def rewrite(answer: bytes) -> bytes:
        try:
            document = json.loads(answer)
        except ValueError:
            return answer
        listed = (
            document.get("fields", document.get("results")) if isinstance(document, dict) else 0
        )
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and one.get("name") == field and "type" in one:
                one["type"] = kind
        return json.dumps(document).encode()

    return rewrite


@pytest.mark.slow
def test_a_field_that_became_text_is_read_where_it_is_a_number_still(site: Site) -> None:
    crms = {"salesforce": ("Opportunity", "Amount"), "hubspot": ("deals", "amount")}
    deals = {}
    for name, (table, field) in crms.items():
        crm = site.sandbox.salesforce if name == "salesforce" else site.sandbox.hubspot
        whole = {one["id"] for one in crm.snapshot()[table] if not one["deleted"]}
        deals[name] = sorted(str(one) for one in whole)[:2]
        crm.edit(table, deals[name], {field: "1" if name == "hubspot" else 1})

    with behind_proxies(site.sandbox) as (seen, proxies):
        proxied = site.but(sandbox=seen)
        for name, (_, field) in crms.items():
            numeral, word = deals[name]
            values = hurting({numeral: {field: '"250.50"'}, word: {field: '"a lot"'}})
            kind = retyped(field, "string")
            proxies[name].rewrite = lambda answer, v=values, k=kind: k(v(answer))  # type: ignore[misc]  # bound now
            assert proxied.pull(name, "deals").state is State.OK

        letters = {one.ref: one for one in proxied.dead_letters()}
        amounts = {
            one.ref.native_id: one.amount for one in site.stored()["deals"] if isinstance(one, Deal)
        }

    assert letters.keys() == {f"{name}:{word}" for name, (_, word) in deals.items()}
    for name, (numeral, word) in deals.items():
        assert amounts[numeral] == Decimal("250.50")
        letter = letters[f"{name}:{word}"]
        assert letter.field == "amount"
        assert "a lot" in str(letter.raw)
        assert word not in amounts
