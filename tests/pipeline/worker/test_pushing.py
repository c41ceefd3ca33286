"""Write-back: only what was planned, only what still differs, and never silently."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from decimal import Decimal

import pytest

from metrics.writeback import Plan
from store import leases, outbox
from store.engine import operating, reading
from tests.pipeline.worker.site import Site
from worker.results import State
from worker.status import gather


def accounts_with_deals(site: Site, count: int, *, amount: int = 100) -> list[str]:
    """So many accounts, each with one deal won for a sum of its own."""
    crm = site.sandbox.salesforce
    accounts = crm.create_many("Account", [{"Name": f"Account {n:04d}"} for n in range(count)])
    crm.create_many(
        "Opportunity",
        [
            {
                "Name": f"Deal {n:04d}",
                "AccountId": account,
                "StageName": "Closed Won",
                "CloseDate": "2026-03-02",
                "Amount": amount + n,
            }
            for n, account in enumerate(accounts)
        ],
    )
    return accounts


@pytest.fixture
def computed_site(empty_site: Site) -> Site:
    """Six accounts whose KPIs are computed and not written yet."""
    accounts_with_deals(empty_site, 6)
    empty_site.pull_all("salesforce")
    empty_site.compute()
    return empty_site


def revenue_in_crm(site: Site) -> dict[str, object]:
    return {record_id: fields["KPI_Revenue__c"] for record_id, fields in site.kpi_fields().items()}


def test_a_push_waits_for_approval_and_the_first_yes_is_remembered(computed_site: Site) -> None:
    site = computed_site.but(approve="first_time")

    waiting = site.push()
    with site.runtime() as runtime:
        told = gather(runtime).sentences
    applied = site.apply(site.plan())
    site.sandbox.salesforce.edit("Account", next(iter(site.kpi_fields())), {"KPI_Revenue__c": 1})
    later = site.push()

    assert (waiting.state, waiting.sent) == (State.WAITING, 0)
    assert any("waiting: 12 values wait for a person's yes" in one for one in told)
    assert "kpisync apply" in waiting.warnings[0]
    assert (applied.state, applied.sent) == (State.OK, 12)
    assert (later.state, later.sent) == (State.OK, 1)


def test_a_yes_counts_for_later_passes_even_where_nothing_differs_now(computed_site: Site) -> None:
    assert computed_site.push().sent == 12
    site = computed_site.but(approve="first_time")

    nothing = site.apply(site.plan())
    site.sandbox.salesforce.edit("Account", next(iter(site.kpi_fields())), {"KPI_Revenue__c": 1})
    later = site.push()

    assert (nothing.state, nothing.sent) == (State.OK, 0)
    assert (later.state, later.sent) == (State.OK, 1)


def test_always_means_each_time(computed_site: Site) -> None:
    site = computed_site.but(approve="always")
    site.apply(site.plan())
    site.sandbox.salesforce.edit("Account", next(iter(site.kpi_fields())), {"KPI_Revenue__c": 1})

    assert site.push().state is State.WAITING
    assert site.push(approved=True).state is State.OK


def test_a_changed_definition_must_be_approved_again(computed_site: Site) -> None:
    site = computed_site.but(approve="first_time")
    site.apply(site.plan())
    site.sandbox.salesforce.add_field("Account", "KPI_Purchases__c", "number")
    path = site.path
    changed = path.read_text(encoding="utf-8").replace(
        "KPI_Win_Rate__c: win_rate", "KPI_Purchases__c: purchases"
    )

    class Changed(Site):
        def text(self) -> str:
            return changed

    pushed = Changed(site.folder, site.sandbox, site.database).push()

    assert pushed.state is State.WAITING


def test_a_persons_edit_between_plan_and_apply_survives(computed_site: Site) -> None:
    plan = computed_site.plan()
    edited = plan.changes[0].record
    computed_site.sandbox.salesforce.edit("Account", edited, {"KPI_Revenue__c": 777})

    applied = computed_site.apply(plan)

    held = revenue_in_crm(computed_site)
    assert held.pop(edited) == 777
    assert set(held.values()) == {100, 101, 102, 103, 104, 105} - {_planned(plan, edited)}
    assert (applied.sent, applied.skipped) == (11, 1)
    assert any(edited in warning for warning in applied.warnings)


def test_what_already_stands_there_is_not_sent(computed_site: Site) -> None:
    plan = computed_site.plan()
    same = plan.changes[0].record
    computed_site.sandbox.salesforce.edit(
        "Account", same, {"KPI_Revenue__c": int(Decimal(str(_planned(plan, same))))}
    )

    applied = computed_site.apply(plan)

    assert (applied.state, applied.sent, applied.skipped) == (State.OK, 11, 1)
    assert applied.warnings == ()
    assert computed_site.redundant_writes() == []


def test_a_plan_survives_its_file(computed_site: Site) -> None:
    plan = Plan.from_json(json.loads(json.dumps(computed_site.plan().to_json())))

    assert computed_site.apply(plan).sent == 12


def test_a_plan_for_other_fields_is_refused(computed_site: Site) -> None:
    document = json.loads(json.dumps(computed_site.plan().to_json()))
    stranger = Plan.from_json({**document, "plan": None} | _renamed(document))

    applied = computed_site.apply(stranger)

    assert applied.state is State.REFUSED
    assert "Website" in str(applied.error)
    assert computed_site.writes() == []


def test_a_guard_stops_everything(computed_site: Site) -> None:
    refused = computed_site.but(guard="{max_records: 5}").push()

    assert refused.state is State.REFUSED
    assert "max_records" in str(refused.error)
    assert computed_site.writes() == []
    assert _outbox(computed_site) == []


def test_one_record_that_is_refused_stops_no_other(empty_site: Site) -> None:
    accounts = accounts_with_deals(empty_site, 250)
    empty_site.sandbox.salesforce.fault(
        "validation", record=accounts[123], message="Revenue is frozen", times="forever"
    )

    first = empty_site.full_pass().results[-1]
    calls = write_calls(empty_site)
    second = empty_site.full_pass().results[-1]

    letters = empty_site.dead_letters()
    assert (first.state, first.sent, first.failed) == (State.PARTLY_FAILED, 498, 2)
    assert [letter.ref for letter in letters] == [f"salesforce:{accounts[123]}"]
    assert "Revenue is frozen" in letters[0].reason
    assert (letters[0].raw, letters[0].attempts) == ("KPI_Revenue__c: 223, KPI_Win_Rate__c: 100", 1)
    # The canary of 20, then 230 records in calls of 200.
    assert calls == 3
    # It is not knocked at again as long as the value is the same.
    assert (second.state, second.sent, second.failed) == (State.OK, 0, 0)
    assert "deadletters" in second.warnings[0]

    empty_site.sandbox.salesforce.clear_faults()
    empty_site.sandbox.salesforce.create(
        "Opportunity",
        {
            "Name": "Another",
            "AccountId": accounts[123],
            "StageName": "Closed Won",
            "CloseDate": "2026-03-03",
            "Amount": 5,
        },
    )
    repaired = empty_site.full_pass().results[-1]

    assert repaired.state is State.OK
    assert empty_site.dead_letters() == []


def test_a_locked_record_is_tried_again(computed_site: Site) -> None:
    locked = next(iter(computed_site.kpi_fields()))
    computed_site.sandbox.salesforce.fault("lock", record=locked, times=2)

    pushed = computed_site.push()

    assert (pushed.state, pushed.sent, pushed.failed) == (State.OK, 12, 0)


def test_an_answer_lost_on_the_wire_is_read_back(computed_site: Site) -> None:
    computed_site.sandbox.salesforce.fault("lost_answer", path="composite/sobjects", method="PATCH")

    pushed = computed_site.push()

    assert (pushed.state, pushed.sent) == (State.OK, 12)
    assert len(computed_site.writes()) == 12
    assert computed_site.redundant_writes() == []


def write_calls(site: Site) -> int:
    return sum(
        request["method"] == "PATCH" or "batch/update" in str(request["path"])
        for crm in (site.sandbox.salesforce, site.sandbox.hubspot)
        for request in crm.requests()
    )


def test_without_a_canary_records_cost_the_fewest_calls_there_can_be(empty_site: Site) -> None:
    accounts_with_deals(empty_site, 201)
    site = empty_site.but(advanced=f"{empty_site.advanced}, canary: 0")
    site.pull_all("salesforce")
    site.compute()
    plan = site.plan()

    pushed = site.push()

    assert (plan.calls, write_calls(site)) == (2, 2)
    (run,) = [run for run in site.runs() if run.run == pushed.run]
    # Two writes, a look before each and one for the plan, and the descriptions of the fields.
    assert run.calls == pushed.calls >= 2 + 2 + 1


def test_a_workflow_that_touches_every_written_record_makes_no_loop(computed_site: Site) -> None:
    site = computed_site
    sent = []
    for round_ in range(3):
        sent.append(site.full_pass().total("sent"))
        touched = list(site.kpi_fields())
        site.sandbox.salesforce.edit("Account", touched, {"Description": f"touched {round_}"})

    assert sent == [12, 0, 0]
    assert len(site.writes()) == 12


def test_a_crm_that_goes_away_while_we_push_is_resumed_without_a_second_write(
    computed_site: Site,
) -> None:
    computed_site.sandbox.salesforce.fault(
        "status", path="composite/sobjects", method="PATCH", status=503, times="forever"
    )
    broken = computed_site.push()
    computed_site.sandbox.salesforce.clear_faults()

    whole = computed_site.push()

    assert broken.state in {State.FAILED, State.PARTLY_FAILED}
    assert whole.state is State.OK
    assert len(computed_site.writes()) == 12
    assert computed_site.redundant_writes() == []


def test_an_account_that_goes_before_the_call_is_left_out(computed_site: Site) -> None:
    plan = computed_site.plan()
    gone = plan.changes[0].record
    computed_site.sandbox.salesforce.delete("Account", gone)

    applied = computed_site.apply(plan)

    assert (applied.state, applied.sent, applied.skipped) == (State.OK, 10, 2)


def test_nothing_is_written_before_everything_was_read_once(empty_site: Site) -> None:
    accounts_with_deals(empty_site, 2)
    for stream in ("owners", "stages", "accounts", "deals"):
        empty_site.pull("salesforce", stream)
    empty_site.compute()

    pushed = empty_site.push()

    assert pushed.state is State.WAITING
    assert "deal_stage_changes" in pushed.warnings[0]
    assert empty_site.writes() == []


def test_one_writer_at_a_time_for_an_org(computed_site: Site) -> None:
    with computed_site.runtime() as runtime, operating(runtime.engine) as conn:
        leases.acquire(conn, "push-org:salesforce", "somebody", timedelta(minutes=1))

    pushed = computed_site.push(patience=timedelta(0))

    assert pushed.state is State.SKIPPED
    assert computed_site.writes() == []


def test_an_account_whose_deals_all_went_falls_to_zero(computed_site: Site) -> None:
    computed_site.push()
    deal = next(
        record
        for record in computed_site.sandbox.salesforce.snapshot()["Opportunity"]
        if record["fields"]["Name"] == "Deal 0003"  # type: ignore[index]
    )
    computed_site.sandbox.salesforce.delete("Opportunity", str(deal["id"]))

    computed_site.full_pass()

    fields = computed_site.kpi_fields()[deal["fields"]["AccountId"]]
    assert fields["KPI_Revenue__c"] == 0
    # A ratio of nothing is no value; never_blank keeps what stood there.
    assert fields["KPI_Win_Rate__c"] == 100


def _planned(plan: Plan, record: str) -> object:
    return next(
        change.new
        for change in plan.changes
        if (change.record, change.field) == (record, "KPI_Revenue__c")
    )


def _renamed(document: dict[str, object]) -> dict[str, object]:
    """The plan with another field in it, under an id that fits."""
    changes = json.loads(json.dumps(document["changes"]).replace("KPI_Revenue__c", "Website"))
    body = {**document, "changes": changes}
    return {"changes": changes, "plan": _id_of(body)}


def _id_of(document: dict[str, object]) -> str:
    content = {name: value for name, value in document.items() if name != "plan"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _outbox(site: Site) -> list[outbox.OutboxRow]:
    with site.runtime() as runtime, reading(runtime.engine) as conn:
        return outbox.every(conn)
