"""What others complain of when tools write to HubSpot or share its limits; each by its symptom.

The numbers name the public threads of other tools.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from connectors.base import Cursor, FieldSource, FieldType, NewField, PushOutcome
from connectors.errors import AuthenticationFailed
from tests.contract.connectors.hubspot_portal import (
    QUICK,
    Pulled,
    fresh,
    paths,
    portal,
    pull,
    stream_of,
    update,
)
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Crm, Fields, Sandbox, start_sandbox


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        sandbox.hubspot.add_field("companies", "kpi_count", "number")
        sandbox.hubspot.add_field("companies", "kpi_day", "date")
        sandbox.hubspot.add_field("companies", "kpi_text", "text")
        sandbox.hubspot.add_field("deals", "renewal_day", "date")
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


def companies(crm: Crm, count: int) -> list[str]:
    return crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(count)])


def test_429_storms_and_the_same_pages_come_again(crm: Crm) -> None:
    """Pipedream 4209, hubspot-api-python 117: after a kill nothing is read twice.

    That four workers keep to the limits is shown in `test_hubspot_limits`.
    """
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    ids = crm.create_many("companies", [{"name": "Account"}] * 60, at=hour_ago)
    since = datetime.now(UTC) - timedelta(days=1)
    body = {"message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}
    crm.fault("status", path="/search", status=429, body=body, after=2)
    tuning = replace(QUICK, page_size=10)
    cursor: Cursor | None = None
    before = Pulled()

    with portal(crm, tuning=tuning) as killed:
        for number, page in enumerate(killed.pull(stream_of(killed, "accounts"), since)):
            before.add(page)
            cursor = page.resume_at
            if number == 2:
                break
    searched = len(paths(crm, "/search"))
    crm.forget()
    with portal(crm, tuning=tuning) as resumed:
        after = pull(resumed, "accounts", cursor)

    assert before.ids("accounts") | after.ids("accounts") == set(ids)
    assert before.ids("accounts").isdisjoint(after.ids("accounts"))
    assert len(before.ids("accounts")) == 30
    assert searched <= 5
    # Three more pages, and the overlap of the minutes between the two pulls.
    assert len(paths(crm, "/search")) <= 5


def test_one_bad_record_sinks_a_hundred(crm: Crm) -> None:
    """Airbyte PR 76340, Ingestr 1203: 1 of 250 invalid, 249 written, that one by id."""
    ids = companies(crm, 250)
    values = {one: "not a number" if one == ids[120] else 1 for one in ids}

    with portal(crm) as connector:
        results = connector.push([update(one, "kpi_count", value) for one, value in values.items()])

    failed = [one for one in results if one.outcome is not PushOutcome.WRITTEN]
    assert [(one.update.record_id, one.outcome) for one in failed] == [
        (ids[120], PushOutcome.FAILED)
    ]
    assert "not a number was not a valid number" in str(failed[0].message)
    held = [one for one in crm.snapshot()["companies"] if _fields(one).get("kpi_count") == "1"]
    assert len(held) == 249
    assert len(paths(crm, "batch/update")) == 3


def test_writes_to_merged_records_are_lost(crm: Crm, kpisync: Cli) -> None:
    """Airbyte 11178: the KPI lands on the new id, and no old id is written to again."""
    first, second = companies(crm, 2)
    for company_id, amount in ((first, 100), (second, 30)):
        won: Fields = {
            "dealname": "Deal",
            "dealstage": "closedwon",
            "amount": amount,
            "closedate": "2026-11-01T12:00:00Z",
        }
        deal = crm.create("deals", won)
        crm.associate("deals", deal, "companies", [company_id], primary=True)
    kpisync.configure(
        f"""
version: 1
database: sqlite:///kpisync.db
company: {{name: Acme, timezone: UTC, currency: USD}}
security: {{allow_hosts: [127.0.0.1]}}
connections:
  web:
    type: hubspot
    base_url: "{crm.url}"
    auth: {{flow: token, token: pat-na1-sandbox}}
    every: 15m
kpis: {{use: [sales, customer]}}
writebacks:
  health:
    to: web.companies
    every: 1h
    fields: {{kpi_count: revenue}}
    guard: {{max_changed: 100%}}
"""
    )
    # Old enough that the next window does not overlap: only the merge tells that links moved.
    crm.clock(advance=7_200)
    kpisync("run", "--once")
    kpisync("apply", "health", "--yes")
    assert {one["id"] for one in crm.journal()} == {first, second}

    lives_on = crm.merge("companies", first, [second])
    crm.forget()
    kpisync("run", "--once")

    assert _fields(crm.record("companies", lives_on))["kpi_count"] == "130"
    assert {one["id"] for one in crm.journal()} == {lives_on}


def test_a_dead_grant_is_asked_about_for_ever(crm: Crm) -> None:
    """Airbyte's BEHAVIOR notes: a refused token stops the run at once, with words."""
    with portal(crm, token="pat-na1-revoked") as connector:
        for stream in ("owners", "stages", "deals"):
            with pytest.raises(AuthenticationFailed, match="Create a service key"):
                pull(connector, stream)

    assert len(crm.requests()) == 2


def test_unable_to_update_by_a_non_unique_property(crm: Crm) -> None:
    """Segment 3957, hubspot-api-nodejs 548: updates go by record id, without an idProperty."""
    (record_id,) = companies(crm, 1)
    crm.fault("status", path="batch/update", body_contains="idProperty", status=400)

    with portal(crm) as connector:
        (result,) = connector.push([update(record_id, "kpi_count", 1)])

    assert result.outcome is PushOutcome.WRITTEN


def test_a_read_only_missing_or_mistyped_target_shows_only_when_writing_fails(crm: Crm) -> None:
    """Segment 3957: `setup` and the fields of the object name it before anything is written."""
    wanted = [
        NewField(name=name, label=name, help_text="A KPI", type=FieldType.NUMBER)
        for name in ("kpi_text", "hs_object_id", "kpi_missing")
    ]

    with portal(crm) as connector:
        results = connector.create("companies", wanted, dry_run=True)
        fields = connector.fields("companies")

    assert [(one.field, one.outcome) for one in results] == [
        ("kpi_text", "conflict"),
        ("hs_object_id", "conflict"),
        ("kpi_missing", "would_create"),
    ]
    assert not fields["hs_object_id"].writable
    assert fields["kpi_text"].type is FieldType.TEXT
    assert "kpi_missing" not in fields
    assert crm.journal() == []


@pytest.mark.parametrize("zone", ["US/Pacific", "Asia/Tokyo"])
def test_dates_a_day_off_and_not_midnight(crm: Crm, zone: str) -> None:
    """Segment docs 6320: a `date` is the same calendar day, read and written, in every zone."""
    crm.settings(time_zone=zone)
    (record_id,) = companies(crm, 1)
    deal_id = crm.create("deals", {"renewal_day": "2026-03-01", "dealname": "Deal"})

    with portal(crm, zone=zone, fields={"x_day": FieldSource("renewal_day")}) as connector:
        (result,) = connector.push([update(record_id, "kpi_day", date(2026, 3, 1))])
        (live,) = connector.read("companies", [record_id], ["kpi_day"])
        deal = pull(connector, "deals").one("deals", deal_id)

    assert result.outcome is PushOutcome.WRITTEN
    assert _fields(crm.record("companies", record_id))["kpi_day"] == "2026-03-01"
    assert live.values == {"kpi_day": date(2026, 3, 1)}
    assert deal.extra["x_day"] == date(2026, 3, 1)


def _fields(record: dict[str, object]) -> dict[str, object]:
    fields = record["fields"]
    assert isinstance(fields, dict)
    return fields
