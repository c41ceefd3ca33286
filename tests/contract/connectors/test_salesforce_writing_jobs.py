"""Salesforce, many records at once: Bulk API 2.0 ingest jobs, whatever happens to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from connectors.base import Connector, FieldType, NewField, PushOutcome, PushResult
from connectors.contract.copies import kpi_field, outcomes, writer
from connectors.errors import ConnectorError, MisconfiguredConnection
from connectors.registry import connect
from connectors.salesforce import ingest
from connectors.salesforce.entries import entries_of
from store.canonical import FieldUpdate, Scalar
from tests.contract.connectors.salesforce_org import SalesforceOrg
from tests.fixtures.sandboxes import Sandbox, launch

TEXT = "KPI_text__c"
MANY = 2_100


class Paper:
    """Notes that outlive a process."""

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self.notes.get(name)

    def put(self, name: str, text: str) -> None:
        self.notes[name] = text

    def drop(self, name: str) -> None:
        self.notes.pop(name, None)


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    started = launch()
    org = SalesforceOrg(started.salesforce)
    org.add_accounts([f"Account {number:05}" for number in range(MANY)])
    text = NewField(name=TEXT, label="Text", help_text="", type=FieldType.TEXT)
    writer(connect(org.settings())).create("Account", [kpi_field(org), text], dry_run=False)
    yield started
    started.end()


@pytest.fixture
def org(running: Sandbox) -> SalesforceOrg:
    org = SalesforceOrg(running.salesforce)
    org.crm.clear_faults()
    org.crm.settings(
        bulk={"enabled": True, "polls": 1, "held": False},
        show_fields=[f"Account.{org.kpi_field}"],
        assignment_owner=None,
    )
    org.crm.forget()
    return org


@pytest.fixture
def ids(org: SalesforceOrg) -> list[str]:
    return [str(record["id"]) for record in org.crm.snapshot()["Account"]]


@pytest.fixture
def connector(org: SalesforceOrg) -> Connector:
    return connect(org.settings())


_values = iter(range(1, 1_000))


def updates(org: SalesforceOrg, ids: Sequence[str], value: Scalar = None) -> list[FieldUpdate]:
    """New values of the KPI field, other than those that the records hold."""
    value = Decimal(next(_values)) if value is None else value
    return [org.update(record_id, value) for record_id in ids]


def held(org: SalesforceOrg, field_name: str) -> Counter[object]:
    records = org.crm.snapshot()["Account"]
    return Counter(dict(record["fields"])[field_name] for record in records)  # type: ignore[call-overload]


def jobs(org: SalesforceOrg) -> list[dict[str, object]]:
    return org.crm._list("jobs")


def calls(org: SalesforceOrg) -> list[str]:
    return [
        f"{each['method']} {str(each['path']).rpartition('/')[2]}" for each in org.crm.requests()
    ]


def redundant(org: SalesforceOrg) -> int:
    return sum(bool(each["redundant"]) for each in org.crm.journal())


def by_outcome(results: Sequence[PushResult]) -> Counter[str]:
    return Counter(result.outcome.name for result in results)


def test_many_records_cost_one_job_instead_of_many_calls(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    wanted = updates(org, ids)

    results = connector.push(wanted)

    assert [result.update for result in results] == wanted
    assert by_outcome(results) == {"WRITTEN": MANY}
    assert held(org, org.kpi_field) == {wanted[0].value: MANY}
    made = [call for call in calls(org) if "token" not in call]
    assert len(made) <= 10
    assert jobs(org)[-1]["state"] == "JobComplete"


def test_few_records_make_no_job(org: SalesforceOrg, connector: Connector, ids: list[str]) -> None:
    before = len(jobs(org))

    assert by_outcome(connector.push(updates(org, ids[:1999]))) == {"WRITTEN": 1999}

    assert len(jobs(org)) == before


def test_whoever_wants_small_batches_gets_no_job(org: SalesforceOrg) -> None:
    tuning = replace(org.settings().tuning, push_batch=50)

    capabilities = connect(org.settings(tuning=tuning)).capabilities

    assert (capabilities.push_batch, capabilities.push_bulk_from) == (50, None)


@pytest.mark.parametrize("count", [MANY, 3])
def test_null_does_clear_a_field_and_an_absent_one_keeps_its_value(
    org: SalesforceOrg, connector: Connector, ids: list[str], count: int
) -> None:
    some = ids[:count]
    connector.push([org.update(each, "kept", TEXT) for each in some] + updates(org, some))

    results = connector.push([org.update(record_id, None) for record_id in some])

    assert by_outcome(results) == {"WRITTEN": count}
    live = writer(connector).read("Account", some, [org.kpi_field, TEXT])
    assert {(one.values[org.kpi_field], one.values[TEXT]) for one in live} == {(None, "kept")}


def test_records_of_one_job_may_carry_different_fields(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    connector.push([org.update(ids[0], "stays", TEXT), *updates(org, ids[1:2], Decimal(5))])

    connector.push(
        [*updates(org, ids[:1], Decimal(6)), *(org.update(i, "new", TEXT) for i in ids[1:])]
    )

    assert (org.stored(ids[0], TEXT), org.stored(ids[0], org.kpi_field)) == ("stays", 6)
    assert (org.stored(ids[1], TEXT), org.stored(ids[1], org.kpi_field)) == ("new", 5)


def test_texts_of_every_kind_come_through_a_job_unharmed(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    texts = [
        'quotes " and, commas', "line\nbreak", "a\ttab", "U+2028 \u2028 here", "emoji \U0001f600",
        "=1+1", "#N/A", "'", "a;b", "\ufeffmark", "ü",
    ]  # fmt: skip
    wanted = [
        org.update(ids[n], texts[n] if n < len(texts) else f"t{n}", TEXT) for n in range(MANY)
    ]

    results = connector.push(wanted)

    assert by_outcome(results) == {"WRITTEN": MANY}
    live = writer(connector).read("Account", ids[: len(texts)], [TEXT])
    assert [one.values[TEXT] for one in live] == texts


def test_a_job_that_is_complete_may_have_refused_rows(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    org.crm.fault("validation", record=ids[3], message="Not: today, she said.", field="Name")
    org.crm.fault("lock", record=ids[4])
    org.crm.fault(
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        record=ids[5],
        message="Trigger Rollup: System.DmlException: UNABLE_TO_LOCK_ROW, wait",
    )
    gone = f"001{'0' * 8}9999AAA"
    wanted = updates(org, [*ids, gone])

    results = {result.update.record_id: result for result in connector.push(wanted)}

    assert by_outcome(list(results.values())) == {
        "WRITTEN": MANY - 3, "FAILED": 1, "RETRY": 2, "GONE": 1,
    }  # fmt: skip
    refused = results[ids[3]]
    assert refused.code == "FIELD_CUSTOM_VALIDATION_EXCEPTION"
    assert refused.message == "Not: today, she said. (Name)"
    assert results[ids[4]].outcome is results[ids[5]].outcome is PushOutcome.RETRY
    assert results[gone].outcome is PushOutcome.GONE


@pytest.mark.parametrize("state", ["Failed", "Aborted"])
def test_a_job_that_ends_half_way_tells_what_was_written_and_what_was_not(
    org: SalesforceOrg, connector: Connector, ids: list[str], state: str
) -> None:
    org.crm.admin("fail_jobs", kind="ingest", state=state, after_rows=800)
    wanted = updates(org, ids)

    results = connector.push(wanted)

    assert by_outcome(results) == {"WRITTEN": 800, "RETRY": MANY - 800}
    assert held(org, org.kpi_field)[wanted[0].value] == 800
    written = {r.update.record_id for r in results if r.outcome is PushOutcome.WRITTEN}
    assert written == {str(each["id"]) for each in org.crm.journal()}


def test_a_job_over_a_hidden_field_is_refused_with_salesforces_words(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    org.crm.settings(hide_fields=[f"Account.{org.kpi_field}"])

    results = connector.push(updates(org, ids))

    assert by_outcome(results) == {"FAILED": MANY}
    assert "Field name not found" in str(results[0].message)


def test_an_org_without_bulk_api_gets_calls(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    org.crm.settings(bulk={"enabled": False})

    results = connector.push(updates(org, ids))

    assert by_outcome(results) == {"WRITTEN": MANY}
    assert calls(org).count("PATCH sobjects") == -(-MANY // 200)


def test_a_large_lot_is_split_into_jobs_of_the_size_that_salesforce_takes(
    org: SalesforceOrg, connector: Connector, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MOST_BYTES", 30_000)
    org.crm.settings(bulk={"upload_bytes": 30_000})
    before = len(jobs(org))

    results = connector.push(updates(org, ids))

    org.crm.settings(bulk={"upload_bytes": 100_000_000})
    assert by_outcome(results) == {"WRITTEN": MANY}
    assert len(jobs(org)) - before == 2


def test_a_token_renewed_while_a_job_runs_does_not_end_it(
    org: SalesforceOrg, ids: list[str]
) -> None:
    waits: list[str] = []

    def revoke(reason: str, _: float) -> None:
        waits.append(reason)
        if len(waits) == 1:
            org.crm.settings(revoke_tokens=True)

    org.crm.settings(bulk={"polls": 3})
    connector = connect(replace(org.settings(), on_wait=revoke))

    assert by_outcome(connector.push(updates(org, ids))) == {"WRITTEN": MANY}
    assert waits


def test_a_job_does_not_hand_records_to_other_owners(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    other = org.crm.create(
        "User", {"LastName": "Rep 07", "Email": "rep07@sandbox.example", "IsActive": True}
    )
    org.crm.settings(assignment_owner=other)

    connector.push(updates(org, ids))

    assert held(org, "OwnerId")[other] == 0


def test_a_duplicate_rule_that_only_warns_stops_no_record_of_a_job(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    org.crm.edit("Account", ids[:3], {TEXT: "the same"})
    org.crm.edit("Account", ids[3:], {TEXT: None})
    org.crm.admin("duplicate_rule", object="Account", field=TEXT)
    org.crm.forget()

    results = connector.push(updates(org, ids))

    org.crm.edit("Account", ids[:3], {TEXT: None})
    assert by_outcome(results) == {"WRITTEN": MANY}
    assert calls(org).count("PATCH sobjects") == 1


# Lost answers


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "jobs/ingest", {"WRITTEN": MANY}),
        ("PUT", "/batches", None),
        ("PATCH", "jobs/ingest", {"WRITTEN": MANY}),
    ],
)
@pytest.mark.parametrize("kind", ["lost_answer", "disconnect", "html"])
def test_a_lost_answer_costs_no_record_and_repeats_none(
    org: SalesforceOrg,
    connector: Connector,
    ids: list[str],
    *,
    kind: str,
    method: str,
    path: str,
    expected: dict[str, int] | None,
) -> None:
    org.crm.fault(kind, method=method, path=path, **({"status": 502} if kind == "html" else {}))
    wanted = updates(org, ids)

    try:
        results = connector.push(wanted)
    except ConnectorError:
        assert expected is None
        assert held(org, org.kpi_field)[wanted[0].value] == 0
        results = connector.push(wanted)

    assert by_outcome(results) == {"WRITTEN": MANY}
    assert redundant(org) == 0


def test_results_that_are_cut_off_are_fetched_again(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    org.crm.fault("disconnect", path="successfulResults")
    org.crm.fault("status", status=503, path="failedResults")

    assert by_outcome(connector.push(updates(org, ids))) == {"WRITTEN": MANY}


def test_results_that_lack_rows_leave_these_unknown(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    body = f'"sf__Id","sf__Created","Id","{org.kpi_field}"\n"{ids[0]}","false","{ids[0]}","1"\n'
    org.crm.fault("status", status=200, path="successfulResults", body=body)

    results = connector.push(updates(org, ids))

    assert by_outcome(results) == {"WRITTEN": 1, "UNKNOWN": MANY - 1}


# Kill at any job state


@pytest.mark.parametrize("moment", ["noted", "uploaded", "waiting", "ended"])
def test_a_second_run_after_a_kill_ends_equal_and_repeats_no_write(
    org: SalesforceOrg, ids: list[str], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    paper, before = Paper(), len(jobs(org))
    wanted = updates(org, ids)
    first = connect(replace(org.settings(), notes=paper))
    org.crm.settings(bulk={"polls": 4})
    _kill(monkeypatch, moment)
    with pytest.raises(Killed):
        first.push(wanted)
    monkeypatch.undo()

    second = connect(replace(org.settings(), notes=paper))
    live = {one.record_id: one for one in writer(second).read("Account", ids, [org.kpi_field])}
    left = [each for each in wanted if live[each.record_id].values[org.kpi_field] != each.value]
    results = second.push(left)

    assert len(left) == (MANY if moment in {"noted", "uploaded"} else 0)
    assert set(outcomes(results)) <= {PushOutcome.WRITTEN}
    assert held(org, org.kpi_field) == {wanted[0].value: MANY}
    assert redundant(org) == 0
    assert paper.notes == {}
    assert all(job["state"] in {"JobComplete", "Failed", "Aborted"} for job in jobs(org)[before:])


def _kill(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    match moment:
        case "noted":
            monkeypatch.setattr("connectors.salesforce.client.SalesforceClient.upload", die)
        case "uploaded":
            monkeypatch.setattr(ingest.BulkWriter, "_complete_upload", die)
        case "waiting":
            monkeypatch.setattr(ingest.BulkWriter, "_ended", die)
        case "ended":
            monkeypatch.setattr(ingest.BulkWriter, "_results", die)


def test_an_old_job_ends_before_anything_new_is_written(
    org: SalesforceOrg, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = Paper()
    old = updates(org, ids)
    org.crm.settings(bulk={"polls": 3})
    monkeypatch.setattr(ingest.BulkWriter, "_ended", lambda *_, **__: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        connect(replace(org.settings(), notes=paper)).push(old)
    monkeypatch.undo()

    new = updates(org, ids[:5])
    connect(replace(org.settings(), notes=paper)).push(new)

    assert held(org, org.kpi_field) == {old[0].value: MANY - 5, new[0].value: 5}


def test_a_job_that_never_ends_is_aborted_and_its_records_are_tried_again(
    org: SalesforceOrg, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_PATIENCE", 0)
    org.crm.settings(bulk={"held": True})
    connector = connect(org.settings())

    results = connector.push(updates(org, ids))

    org.crm.settings(bulk={"held": False})
    assert by_outcome(results) == {"RETRY": MANY}
    assert jobs(org)[-1]["state"] == "Aborted"


# The order of writing


def test_children_of_one_parent_are_written_side_by_side() -> None:
    contacts = [FieldUpdate("c", "Contact", f"003{n:012}AAA", "K__c", 1) for n in range(6)]
    parents = {contact.record_id: f"001{n % 2:012}AAA" for n, contact in enumerate(contacts)}

    ordered = [entry.record_id for entry in entries_of(contacts, parents)]

    assert [parents[each] for each in ordered] == sorted(parents.values())


def test_the_parents_of_children_are_known_from_the_look_before_the_write(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    first, second = ids[:2]
    deals = [org.add_deals(1, account=each)[0] for each in (second, first, second)]
    live = writer(connector)

    live.read("Opportunity", deals, ["Name"])

    parents = connector._parents  # type: ignore[attr-defined]
    assert [parents[deal] for deal in deals] == [second, first, second]


# Looking at many records


def test_a_look_at_most_records_of_an_object_reads_pages_instead_of_lists_of_ids(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    connector.push(updates(org, ids, Decimal(41)))
    loser, winner = org.add_accounts(["loser", "winner"])
    org.crm.merge("Account", winner, [loser])
    org.crm.forget()

    live = writer(connector).read("Account", [*ids, loser], [org.kpi_field])

    asked = len(org.crm.requests())
    org.crm.delete("Account", winner)
    assert [one.asked_id for one in live] == [*ids, loser]
    assert live[-1].record_id == winner
    assert {one.values[org.kpi_field] for one in live[:-1]} == {Decimal(41)}
    assert asked <= 7  # by lists of 400 ids it would be more


def test_one_push_describes_its_object_once(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    writer(connector).fields("Account")
    org.crm.forget()

    for start in range(0, 1000, 200):
        writer(connector).read("Account", ids[start : start + 200], [org.kpi_field])

    assert not any("describe" in call for call in calls(org))


def test_a_field_that_goes_or_comes_after_the_description_is_noticed(
    org: SalesforceOrg, connector: Connector, ids: list[str]
) -> None:
    writer(connector).read("Account", ids[:1], [org.kpi_field])
    org.crm.settings(hide_fields=[f"Account.{org.kpi_field}"])

    with pytest.raises(MisconfiguredConnection, match=org.kpi_field):
        writer(connector).read("Account", ids[:1], [org.kpi_field])

    org.crm.settings(show_fields=[f"Account.{org.kpi_field}"])
    org.crm.add_field("Account", "KPI_later__c", "number")
    assert writer(connector).read("Account", ids[:1], [org.kpi_field, "KPI_later__c"])
