"""Writing to HubSpot: each update accounted for, whatever the answer leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from connectors.base import FieldType, NewField, PushOutcome, PushResult, StreamSettings
from connectors.errors import AuthenticationFailed, PermissionMissing, QuotaExhausted
from connectors.hubspot.connector import HubSpotConnector
from store.canonical import FieldUpdate, Scalar
from tests.contract.connectors.hubspot_portal import (
    QUICK,
    SCOPES,
    fresh,
    paths,
    portal,
    pull,
    update,
)
from tests.fixtures.sandboxes import Crm, Sandbox, start_sandbox

FIELDS = {
    "kpi_value": "number",
    "kpi_count": "number",
    "kpi_day": "date",
    "kpi_at": "datetime",
    "kpi_flag": "boolean",
    "kpi_text": "text",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with start_sandbox() as sandbox:
        for name, kind in FIELDS.items():
            sandbox.hubspot.add_field("companies", name, kind)
        yield sandbox


@pytest.fixture
def crm(shared: Sandbox) -> Crm:
    return fresh(shared.hubspot)


@pytest.fixture
def connector(crm: Crm) -> Iterator[HubSpotConnector]:
    with portal(crm) as connector:
        yield connector


def companies(crm: Crm, count: int) -> list[str]:
    return crm.create_many("companies", [{"name": f"Account {n:04}"} for n in range(count)])


def held(crm: Crm, record_id: str) -> dict[str, object]:
    fields = crm.record("companies", record_id)["fields"]
    assert isinstance(fields, dict)
    return {name: value for name, value in fields.items() if name in FIELDS}


def by_record(results: list[PushResult]) -> dict[str, PushOutcome]:
    return {result.update.record_id: result.outcome for result in results}


def push(connector: HubSpotConnector, *updates: FieldUpdate) -> list[PushResult]:
    results = list(connector.push(updates))
    assert [result.update for result in results] == list(updates)
    return results


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("kpi_value", Decimal("1234567.50"), "1234567.50"),
        ("kpi_value", Decimal("1E+3"), "1000"),
        ("kpi_value", Decimal("0.0000001"), "0.0000001"),
        ("kpi_count", 0, "0"),
        ("kpi_day", date(2026, 3, 1), "2026-03-01"),
        ("kpi_at", datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "2026-03-01T12:30:00Z"),
        ("kpi_flag", True, "true"),
        ("kpi_text", "Grüße; 50%", "Grüße; 50%"),
    ],
)
def test_every_type_is_written_and_read_back_as_it_was(
    crm: Crm, connector: HubSpotConnector, name: str, value: Scalar, text: str
) -> None:
    (record_id,) = companies(crm, 1)

    (result,) = push(connector, update(record_id, name, value))

    assert result.outcome is PushOutcome.WRITTEN, result
    assert held(crm, record_id) == {name: text}
    (live,) = connector.read("companies", [record_id], [name])
    assert live.values == {name: value}


def test_none_clears_without_a_null(crm: Crm, connector: HubSpotConnector) -> None:
    (record_id,) = companies(crm, 1)
    push(connector, update(record_id, "kpi_value", Decimal(1)))

    (result,) = push(connector, update(record_id, "kpi_value", None))

    assert result.outcome is PushOutcome.WRITTEN
    assert held(crm, record_id) == {}


def test_the_fields_of_a_record_travel_together(crm: Crm, connector: HubSpotConnector) -> None:
    (record_id,) = companies(crm, 1)

    push(
        connector,
        update(record_id, "kpi_value", Decimal(1)),
        update(record_id, "kpi_count", 2),
    )

    assert held(crm, record_id) == {"kpi_value": "1", "kpi_count": "2"}
    assert len(paths(crm, "batch/update")) == 1


# ---------------------------------------------------------------- refusals


def test_a_bad_value_keeps_no_other_field_of_its_record_out(
    crm: Crm, connector: HubSpotConnector
) -> None:
    first, second = companies(crm, 2)

    results = push(
        connector,
        update(first, "kpi_value", "not a number"),
        update(first, "kpi_count", 2),
        update(second, "kpi_count", 3),
    )

    assert [result.outcome for result in results] == [
        PushOutcome.FAILED,
        PushOutcome.WRITTEN,
        PushOutcome.WRITTEN,
    ]
    assert results[0].code == "INVALID_INTEGER"
    assert "not a number" in str(results[0].message)
    assert held(crm, first) == {"kpi_count": "2"}
    assert len(paths(crm, "batch/update")) == 2


@pytest.mark.parametrize(
    ("name", "code"),
    [("no_such_property", "PROPERTY_DOESNT_EXIST"), ("hs_object_id", "READ_ONLY_VALUE")],
)
def test_an_impossible_property_is_named_and_costs_one_more_call(
    crm: Crm, connector: HubSpotConnector, name: str, code: str
) -> None:
    ids = companies(crm, 100)

    results = push(
        connector,
        *(update(one, name, Decimal(1)) for one in ids),
        *(update(one, "kpi_count", 1) for one in ids),
    )

    assert {(result.outcome, result.code) for result in results[:100]} == {
        (PushOutcome.FAILED, code)
    }
    assert {result.outcome for result in results[100:]} == {PushOutcome.WRITTEN}
    assert len(paths(crm, "batch/update")) == 2


def test_a_batch_that_is_refused_as_a_whole_is_halved_until_the_bad_one_stands_alone(
    crm: Crm, connector: HubSpotConnector
) -> None:
    """What HubSpot does where it knows no trace ids, and with 409."""
    ids = companies(crm, 16)
    crm.fault(
        "status",
        path="batch/update",
        body_contains=f'"{ids[5]}"',
        status=409,
        body={"status": "error", "category": "CONFLICT", "message": "Somebody else has it."},
        times="forever",
    )

    results = push(connector, *(update(one, "kpi_count", 1) for one in ids))

    outcomes = by_record(results)
    assert outcomes.pop(ids[5]) is PushOutcome.FAILED
    assert set(outcomes.values()) == {PushOutcome.WRITTEN}
    assert "Somebody else has it." in str(results[5].message)
    assert len(paths(crm, "batch/update")) <= 12


def test_a_generic_400_for_whatever_is_sent_costs_four_calls_and_parks_all_in_hubspots_words(
    crm: Crm, connector: HubSpotConnector
) -> None:
    """Halving down to single records would cost 199."""
    ids = companies(crm, 100)
    body = {"status": "error", "message": "No writes today.", "correlationId": "c1"}
    crm.fault("status", path="batch/update", status=400, body=body, times="forever")

    results = push(connector, *(update(one, "kpi_count", 1) for one in ids))

    assert len(paths(crm, "batch/update")) == 4
    assert {(one.outcome, one.code) for one in results} == {(PushOutcome.FAILED, "http_400")}
    assert all("No writes today." in str(one.message) for one in results)
    assert sum("was not tried alone" in str(one.message) for one in results) == 97


def test_many_bad_records_that_nobody_names_cost_a_bounded_number_of_calls(
    crm: Crm, connector: HubSpotConnector
) -> None:
    ids = companies(crm, 100)
    for bad in ids[1:80:2]:
        body = {"message": "One of them is bad."}
        crm.fault(
            "status", path="batch/update", body_contains=f'"{bad}"', status=400, body=body,
            times="forever",
        )  # fmt: skip

    results = push(connector, *(update(one, "kpi_count", 1) for one in ids))

    outcomes = by_record(results)
    written = {one for one in ids if held(crm, one) == {"kpi_count": "1"}}
    assert len(paths(crm, "batch/update")) <= 32
    assert {one for one, it in outcomes.items() if it is PushOutcome.WRITTEN} == written
    assert not written & set(ids[1:80:2])
    assert set(outcomes.values()) == {PushOutcome.WRITTEN, PushOutcome.FAILED}


@pytest.mark.parametrize("how", ["trace", "id", "index"])
def test_an_error_of_a_refused_batch_that_names_its_input_settles_at_once(
    crm: Crm, connector: HubSpotConnector, how: str
) -> None:
    ids = companies(crm, 16)
    bad = ids[5]
    ways: dict[str, dict[str, object]] = {
        "trace": {"context": {"objectWriteTraceId": [f"kpisync-{bad}"]}},
        "id": {"context": {"ids": [bad]}},
        "index": {"in": "inputs[5].properties"},
    }
    body = {"message": "Refused.", "errors": [{"message": "Bad record.", **ways[how]}]}
    crm.fault(
        "status", path="batch/update", body_contains=f'"{bad}"', status=400, body=body,
        times="forever",
    )  # fmt: skip

    outcomes = by_record(push(connector, *(update(one, "kpi_count", 1) for one in ids)))

    assert outcomes.pop(bad) is PushOutcome.FAILED
    assert set(outcomes.values()) == {PushOutcome.WRITTEN}
    assert len(paths(crm, "batch/update")) == 2


def test_a_property_refused_for_the_whole_batch_is_left_out_for_all(
    crm: Crm, connector: HubSpotConnector
) -> None:
    ids = companies(crm, 8)
    entry = {
        "message": 'Property "kpi_value" does not exist',
        "code": "PROPERTY_DOESNT_EXIST",
        "context": {"propertyName": ["kpi_value"]},
    }
    crm.fault(
        "status",
        path="batch/update",
        body_contains="kpi_value",
        status=400,
        body={"category": "VALIDATION_ERROR", "message": "no", "errors": [entry]},
        times="forever",
    )

    results = push(
        connector,
        *(update(one, name, 1) for one in ids for name in ("kpi_value", "kpi_count")),
    )

    assert [result.outcome for result in results] == [
        PushOutcome.FAILED,
        PushOutcome.WRITTEN,
    ] * 8
    assert len(paths(crm, "batch/update")) == 2


def test_a_record_that_is_gone_a_locked_one_and_a_merged_one_are_told_apart(
    crm: Crm, connector: HubSpotConnector
) -> None:
    good, gone, locked, merged, winner = companies(crm, 5)
    crm.delete("companies", gone)
    crm.fault("lock", record=locked)
    lives_on = crm.merge("companies", winner, [merged])

    outcomes = by_record(
        push(connector, *(update(one, "kpi_count", 1) for one in (good, gone, locked, merged)))
    )

    assert outcomes == {
        good: PushOutcome.WRITTEN,
        gone: PushOutcome.GONE,
        locked: PushOutcome.RETRY,
        merged: PushOutcome.UNKNOWN,
    }
    live = connector.read("companies", [good, gone, merged], ["kpi_count"])
    assert {(one.asked_id, one.record_id) for one in live} == {(good, good), (merged, lives_on)}


@pytest.mark.parametrize("kind", ["lost_answer", "cut_json"])
def test_an_answer_lost_on_the_way_is_unknown_and_not_sent_again(
    crm: Crm, connector: HubSpotConnector, kind: str
) -> None:
    (record_id,) = companies(crm, 1)
    crm.fault(kind, path="batch/update")

    (result,) = push(connector, update(record_id, "kpi_count", 1))

    assert result.outcome is PushOutcome.UNKNOWN
    assert held(crm, record_id) == {"kpi_count": "1"}
    assert len(paths(crm, "batch/update")) == 1


@pytest.mark.parametrize("status", [500, 502, 504])
def test_after_a_server_error_an_update_is_unknown(
    crm: Crm, connector: HubSpotConnector, status: int
) -> None:
    (record_id,) = companies(crm, 1)
    crm.fault("html", path="batch/update", status=status)

    (result,) = push(connector, update(record_id, "kpi_count", 1))

    assert result.outcome is PushOutcome.UNKNOWN
    assert len(paths(crm, "batch/update")) == 1


def test_a_rate_limit_is_waited_out_and_the_write_sent(
    crm: Crm, connector: HubSpotConnector
) -> None:
    (record_id,) = companies(crm, 1)
    crm.fault(
        "status",
        path="batch/update",
        status=429,
        body={"message": "You have reached your secondly limit."},
        headers={"Retry-After": "0.2"},
    )

    (result,) = push(connector, update(record_id, "kpi_count", 1))

    assert result.outcome is PushOutcome.WRITTEN
    assert len(paths(crm, "batch/update")) == 2


def test_a_dead_token_stops_a_push_before_anything_is_written(crm: Crm) -> None:
    (record_id,) = companies(crm, 1)
    with (
        portal(crm, token="pat-na1-wrong") as connector,
        pytest.raises(AuthenticationFailed) as caught,
    ):
        connector.push([update(record_id, "kpi_count", 1)])

    assert "pat-na1-wrong" not in str(caught.value)


def test_a_quota_that_ends_in_the_midst_leaves_the_rest_to_be_sent(crm: Crm) -> None:
    ids = companies(crm, 3)
    body = {"message": "You have reached your daily limit.", "policyName": "DAILY"}
    crm.fault("status", path="batch/update", after=1, status=429, body=body, times="forever")

    with portal(crm, tuning=replace(QUICK, push_batch=1)) as connector:
        outcomes = by_record(push(connector, *(update(one, "kpi_count", 1) for one in ids)))
        with pytest.raises(QuotaExhausted):
            connector.push([update(ids[1], "kpi_count", 1)])

    assert list(outcomes.values()) == [
        PushOutcome.WRITTEN,
        PushOutcome.RETRY,
        PushOutcome.RETRY,
    ]
    assert len(paths(crm, "batch/update")) == 3


def test_our_own_write_comes_back_as_an_unchanged_record(
    crm: Crm, connector: HubSpotConnector
) -> None:
    crm.clock(fix="2026-11-22T05:00:00+00:00")
    (record_id,) = companies(crm, 1)
    first = pull(connector, "accounts")
    crm.clock(fix="2026-11-22T06:00:00+00:00")
    push(connector, update(record_id, "kpi_count", 1))

    echo = pull(connector, "accounts", first.cursor)

    before, after = (one.one("accounts", record_id) for one in (first, echo))
    assert before.modified_at != after.modified_at
    assert before == replace(after, modified_at=before.modified_at)


# ---------------------------------------------------------------- reading back and setup


def test_250_records_are_read_back_in_three_calls(crm: Crm, connector: HubSpotConnector) -> None:
    ids = companies(crm, 250)
    connector.fields("companies")
    crm.forget()

    live = connector.read("companies", ids, ["name", "kpi_count"])

    assert [one.record_id for one in live] == ids
    assert len(crm.requests()) == 3


def test_a_live_value_that_is_not_what_its_property_promises_stays_text(
    crm: Crm, connector: HubSpotConnector
) -> None:
    record_id = crm.create("companies", {"kpi_value": "n/a"})

    (live,) = connector.read("companies", [record_id], ["kpi_value"])

    assert live.values == {"kpi_value": "n/a"}


def new_field(name: str, kind: FieldType = FieldType.NUMBER) -> NewField:
    return NewField(name=name, label=name.upper(), help_text="A KPI", type=kind)


def test_every_type_of_kpi_field_can_be_created(connector: HubSpotConnector) -> None:
    kinds = [kind for kind in FieldType if kind is not FieldType.OTHER]
    wanted = [new_field(f"new_{kind}", kind) for kind in kinds]

    created = connector.create("companies", wanted, dry_run=False)
    again = connector.create("companies", wanted, dry_run=False)

    assert {result.outcome for result in created} == {"created"}, created
    assert {result.outcome for result in again} == {"present"}, again
    fields = connector.fields("companies")
    assert {kind: fields[f"new_{kind}"].type for kind in kinds} == {kind: kind for kind in kinds}
    assert all(fields[f"new_{kind}"].writable for kind in kinds)


def test_a_rehearsal_changes_nothing(crm: Crm, connector: HubSpotConnector) -> None:
    (result,) = connector.create("companies", [new_field("kpi_rehearsed")], dry_run=True)

    assert result.outcome == "would_create"
    assert {one["method"] for one in crm.requests()} == {"GET"}


def test_a_field_of_another_type_is_a_conflict(connector: HubSpotConnector) -> None:
    results = connector.create(
        "companies",
        [new_field("kpi_text"), new_field("KPI_Win__c"), new_field("hs_object_id")],
        dry_run=False,
    )

    assert [result.outcome for result in results] == ["conflict"] * 3
    assert "type string" in results[0].note
    assert "small letters" in results[1].note
    assert "read-only" in results[2].note


def test_without_the_scope_a_person_is_told_what_to_create(crm: Crm) -> None:
    crm.settings(scopes=[scope for scope in SCOPES if "schemas" not in scope])

    with portal(crm) as connector:
        (result,) = connector.create(
            "companies", [new_field("kpi_by_hand", FieldType.CURRENCY)], dry_run=False
        )

    assert result.outcome == "manual"
    assert "crm.schemas.companies.write" in result.note
    assert "kpi_by_hand" in result.note


def test_a_property_that_appears_meanwhile_is_compared_not_overwritten(
    crm: Crm, connector: HubSpotConnector
) -> None:
    path = "properties/companies"
    crm.fault("status", path=path, method="GET", status=200, body={"results": []})

    (result,) = connector.create("companies", [new_field("kpi_text")], dry_run=False)

    assert result.outcome == "conflict"
    assert "type string" in result.note


# ---------------------------------------------------------------- check


def test_check_names_every_missing_scope_and_the_stream_it_stops(crm: Crm) -> None:
    crm.settings(scopes=["crm.objects.deals.read", "crm.schemas.deals.read"])

    with portal(crm) as connector:
        report = connector.check()
        with pytest.raises(PermissionMissing, match=r"crm\.objects\.owners\.read"):
            pull(connector, "owners")

    assert report.org_id == "7654321"
    assert {problem.place: problem.message for problem in report.problems}.keys() == {
        "connections.web.streams.owners",
        "connections.web.streams.accounts",
        "connections.web.streams.deal_lines",
    }
    assert all("scope" in problem.message for problem in report.problems)
    assert not report.is_ok


def test_check_warns_where_portal_and_company_mean_another_day_or_money(crm: Crm) -> None:
    crm.settings(time_zone="Asia/Tokyo", company_currency="JPY")

    with portal(crm, zone="Europe/Berlin", currency="EUR") as connector:
        report = connector.check()

    assert {problem.place for problem in report.problems} == {
        "company.timezone",
        "company.currency",
    }
    assert report.is_ok


def test_zones_with_two_names_are_no_difference(crm: Crm) -> None:
    crm.settings(time_zone="US/Pacific")

    with portal(crm, zone="America/Los_Angeles") as connector:
        assert not connector.check().problems


# ---------------------------------------------------------------- every object


@pytest.mark.parametrize("object_name", ["contacts", "deals", "tickets", "cars"])
def test_kpi_properties_are_set_up_written_and_read_back_on_every_object(
    crm: Crm, object_name: str
) -> None:
    named = object_name
    if object_name == "cars":
        named = str(crm.admin("define_object", name="cars", properties=[])["full_name"])
    crm.settings(
        scopes=[
            f"crm.{kind}.{one}.{right}"
            for kind in ("objects", "schemas")
            for one in ("contacts", "deals", "tickets", "custom")
            for right in ("read", "write")
        ]
    )
    streams = {"accounts": StreamSettings(), "costs": StreamSettings(object=named)}
    record_id = crm.create(object_name, {})
    wanted = new_field(f"kpi_of_{object_name}")

    with portal(crm, streams=streams) as connector:
        (made,) = connector.create(named, [wanted], dry_run=False)
        result, *_ = push(connector, update(record_id, wanted.name, Decimal("0.25"), named))
        (live,) = connector.read(named, [record_id], [wanted.name])

        assert named in connector.capabilities.object_streams
    assert made.outcome == "created", made
    assert result.outcome is PushOutcome.WRITTEN, result
    assert live.values == {wanted.name: Decimal("0.25")}


def test_a_choice_takes_its_options_and_another_word_is_told(crm: Crm) -> None:
    crm.add_field("companies", "kpi_band", "choice", choices=["red", "green"])
    (record_id,) = companies(crm, 1)

    with portal(crm) as connector:
        (good,) = push(connector, update(record_id, "kpi_band", "green"))
        (bad,) = push(connector, update(record_id, "kpi_band", "purple"))
        (live,) = connector.read("companies", [record_id], ["kpi_band"])
        (there,) = connector.create(
            "companies", [new_field("kpi_band", FieldType.TEXT)], dry_run=False
        )

        assert connector.fields("companies")["kpi_band"].type is FieldType.TEXT
    assert good.outcome is PushOutcome.WRITTEN, good
    assert (bad.outcome, bad.code) == (PushOutcome.FAILED, "INVALID_OPTION")
    assert "purple" in str(bad.message)
    assert live.values == {"kpi_band": "green"}
    assert there.outcome == "present"


# ---------------------------------------------------------------- answers that say otherwise


def updated(*results: dict[str, object]) -> dict[str, object]:
    return {"status": "COMPLETE", "results": list(results), "startedAt": "", "completedAt": ""}


def test_a_value_that_hubspot_drops_in_silence_is_not_taken_as_written(crm: Crm) -> None:
    first, second = companies(crm, 2)
    body = updated(
        {"id": first, "properties": {"kpi_count": "7.0"}},
        {"id": second, "properties": {"kpi_count": "3"}},
    )
    crm.fault("status", path="batch/update", status=200, body=body)

    with portal(crm) as connector:
        connector.fields("companies")
        results = push(connector, *(update(one, "kpi_count", 7) for one in (first, second)))

    assert [(one.outcome, one.code) for one in results] == [
        (PushOutcome.WRITTEN, None),
        (PushOutcome.UNKNOWN, "not_kept"),
    ]


def test_an_answer_under_another_id_is_matched_by_its_trace_and_not_taken_as_written(
    crm: Crm, connector: HubSpotConnector
) -> None:
    (record_id,) = companies(crm, 1)
    body = updated({"id": "99", "objectWriteTraceId": f"kpisync-{record_id}", "properties": {}})
    crm.fault("status", path="batch/update", status=200, body=body)

    (result,) = push(connector, update(record_id, "kpi_count", 7))

    assert (result.outcome, result.code) == (PushOutcome.UNKNOWN, "merged")
    assert "99" in str(result.message)


def test_a_record_among_results_and_errors_is_not_taken_as_written(
    crm: Crm, connector: HubSpotConnector
) -> None:
    (record_id,) = companies(crm, 1)
    error = {"message": "Half done.", "category": "NEW_CATEGORY", "context": {"ids": [record_id]}}
    body = {**updated({"id": record_id}), "numErrors": 1, "errors": [error]}
    crm.fault("status", path="batch/update", status=207, body=body)

    (result,) = push(connector, update(record_id, "kpi_count", 7))

    assert (result.outcome, result.code) == (PushOutcome.RETRY, "NEW_CATEGORY")
    assert result.message == "Half done."


def test_a_record_that_is_named_twice_goes_out_once(crm: Crm, connector: HubSpotConnector) -> None:
    (record_id,) = companies(crm, 1)

    results = push(connector, update(record_id, "kpi_count", 1), update(record_id, "kpi_count", 2))

    assert {result.outcome for result in results} == {PushOutcome.WRITTEN}
    assert held(crm, record_id) == {"kpi_count": "2"}


def test_an_error_that_does_not_say_whose_it_is_is_traced_to_its_record(
    crm: Crm, connector: HubSpotConnector
) -> None:
    ids = companies(crm, 8)
    error = {"message": "One of them has no owner.", "category": "VALIDATION_ERROR"}
    body = {**updated(), "numErrors": 1, "errors": [error]}
    crm.fault(
        "status",
        path="batch/update",
        body_contains=f'"{ids[3]}"',
        status=207,
        body=body,
        times="forever",
    )

    results = push(connector, *(update(one, "kpi_count", 1) for one in ids))

    outcomes = by_record(results)
    assert outcomes.pop(ids[3]) is PushOutcome.FAILED
    assert set(outcomes.values()) == {PushOutcome.WRITTEN}
    assert results[3].message == "One of them has no owner."


def test_all_of_hubspots_words_about_a_value_are_kept(
    crm: Crm, connector: HubSpotConnector
) -> None:
    (record_id,) = companies(crm, 1)
    errors = [
        {"message": words, "category": "VALIDATION_ERROR", "context": {"ids": [record_id]}}
        for words in ("The account is frozen.", "It has no owner.", "x" * 1_000)
    ]
    crm.fault("status", path="batch/update", status=207, body={**updated(), "errors": errors})

    (result,) = push(connector, update(record_id, "kpi_count", 1))

    assert (result.outcome, result.code) == (PushOutcome.FAILED, "VALIDATION_ERROR")
    assert result.message == f"The account is frozen.; It has no owner.; {'x' * 1_000}"


def test_a_rule_for_people_refuses_a_write_under_dated_paths_and_is_told(crm: Crm) -> None:
    """From 2026-09 on conditionally required properties hold for the API, too."""
    good, bad = companies(crm, 2)
    rule = {"when": "kpi_text", "has": ["churned"], "needs": ["kpi_day"]}
    crm.settings(required={"companies": [rule]})

    with portal(crm, api_version="2026-09") as connector:
        results = push(
            connector, update(good, "kpi_text", "active"), update(bad, "kpi_text", "churned")
        )

    assert [one.outcome for one in results] == [PushOutcome.WRITTEN, PushOutcome.FAILED]
    assert "kpi_day" in str(results[1].message)
