"""A write-back that a guard, the canary or an undone run has stopped, until a person has looked."""

from __future__ import annotations

from decimal import Decimal

import pytest

from store import holds
from store.engine import reading
from tests.pipeline.worker.site import Site
from tests.pipeline.worker.test_pushing import accounts_with_deals, revenue_in_crm
from worker import pipeline, status
from worker.results import RunResult, State


@pytest.fixture
def pushed_site(empty_site: Site) -> Site:
    """Thirty accounts whose KPIs stand in the CRM."""
    accounts_with_deals(empty_site, 30)
    assert empty_site.full_pass().exit_code == 0
    empty_site.sandbox.salesforce.forget()
    return empty_site


def refresh(site: Site) -> None:
    """What happened in the CRM is stored and counted, and nothing is written."""
    site.pull_all("salesforce")
    site.compute()


def inflate(site: Site, factor: int) -> None:
    """Every amount times a factor, as a wrong import would do it."""
    for deal in site.sandbox.salesforce.snapshot()["Opportunity"]:
        amount = deal["fields"]["Amount"]  # type: ignore[index]
        site.sandbox.salesforce.edit("Opportunity", str(deal["id"]), {"Amount": amount * factor})
    refresh(site)
    site.sandbox.salesforce.forget()


def applied(site: Site, *, accepts_guard: bool = False) -> RunResult:
    with site.runtime() as runtime:
        plan = pipeline.plan_writeback(runtime, "account_kpis")
        return pipeline.apply_plan(runtime, plan, is_fresh=True, accepts_guard=accepts_guard)


def hold_of(site: Site) -> holds.Hold | None:
    with site.runtime() as runtime, reading(runtime.engine) as conn:
        return holds.held(conn, "account_kpis")


def test_a_runaway_writes_nothing_and_stands_still_until_a_person_has_looked(
    pushed_site: Site,
) -> None:
    inflate(pushed_site, 1000)

    refused = pushed_site.push()
    again = pushed_site.push()
    on_yes = applied(pushed_site)
    with pushed_site.runtime() as runtime:
        told = status.gather(runtime)
    writes_before = pushed_site.writes()
    accepted = applied(pushed_site, accepts_guard=True)

    assert [one.state for one in (refused, again, on_yes)] == [State.REFUSED] * 3
    assert "30 of 30 values move by a factor of 10 or more" in str(refused.error)
    assert "held since" in str(again.error)
    assert told.has_failed
    assert any("account_kpis: held since" in sentence for sentence in told.sentences)
    assert writes_before == []
    assert (accepted.state, accepted.sent) == (State.OK, 30)
    assert hold_of(pushed_site) is None


def test_a_hold_outlives_its_cause_until_a_person_says_yes(pushed_site: Site) -> None:
    inflate(pushed_site, 1000)
    pushed_site.push()
    for deal in pushed_site.sandbox.salesforce.snapshot()["Opportunity"]:
        amount = deal["fields"]["Amount"]  # type: ignore[index]
        pushed_site.sandbox.salesforce.edit(
            "Opportunity", str(deal["id"]), {"Amount": amount // 1000 + 1}
        )
    refresh(pushed_site)

    still = pushed_site.push()
    released = applied(pushed_site)

    assert still.state is State.REFUSED
    assert (released.state, released.sent) == (State.OK, 30)
    assert pushed_site.push().state is State.OK


def test_who_changes_the_limits_has_looked(pushed_site: Site) -> None:
    inflate(pushed_site, 1000)
    pushed_site.push()

    changed = pushed_site.but(guard="{max_records: 5000, max_jump: 2000}").push()

    assert (changed.state, changed.sent) == (State.OK, 30)


def test_a_source_that_suddenly_shrank_stops_the_write_back(pushed_site: Site) -> None:
    crm = pushed_site.sandbox.salesforce
    deals = [str(deal["id"]) for deal in crm.snapshot()["Opportunity"]]
    crm.delete("Opportunity", deals[:12])
    refresh(pushed_site)
    crm.forget()

    refused = pushed_site.push()

    assert refused.state is State.REFUSED
    assert "the stored deals fell from 30 to 18" in str(refused.error)
    assert pushed_site.writes() == []


def test_a_stage_that_is_suddenly_lost_stops_the_write_back(pushed_site: Site) -> None:
    crm = pushed_site.sandbox.salesforce
    deals = [str(deal["id"]) for deal in crm.snapshot()["Opportunity"]]
    crm.edit("Opportunity", deals, {"StageName": "Closed Lost"})
    refresh(pushed_site)
    crm.forget()

    refused = pushed_site.push()

    assert refused.state is State.REFUSED
    assert "KPI_Revenue__c: 30 of 30 values move" in str(refused.error)
    assert pushed_site.writes() == []


def test_a_plan_in_a_file_is_void_where_the_kpi_moved(pushed_site: Site) -> None:
    crm = pushed_site.sandbox.salesforce
    deals = [str(deal["id"]) for deal in crm.snapshot()["Opportunity"]]
    crm.edit("Opportunity", deals[0], {"Amount": 110})
    crm.edit("Opportunity", deals[1], {"Amount": 320})
    refresh(pushed_site)
    plan = pushed_site.plan()
    crm.edit("Opportunity", deals[1], {"Amount": 330})
    refresh(pushed_site)

    result = pushed_site.apply(plan)

    assert (result.state, result.sent, result.skipped) == (State.OK, 1, 1)
    assert any("the KPI has moved" in warning for warning in result.warnings)
    assert {110, 101} <= set(revenue_in_crm(pushed_site).values())
    assert 320 not in revenue_in_crm(pushed_site).values()


def test_quiet_hours_put_scheduled_writes_off_and_stop_no_person(pushed_site: Site) -> None:
    crm = pushed_site.sandbox.salesforce
    crm.edit("Account", next(iter(pushed_site.kpi_fields())), {"KPI_Revenue__c": 1})
    quiet = _Quiet(pushed_site.folder, pushed_site.sandbox, pushed_site.database, pushed_site.crms)

    on_schedule = quiet.push()
    by_hand = applied(quiet)

    assert on_schedule.state is State.WAITING
    assert "quiet hours" in on_schedule.warnings[0]
    assert (by_hand.state, by_hand.sent) == (State.OK, 1)


class _Quiet(Site):
    """Quiet all day but for one minute."""

    def text(self) -> str:
        return super().text().replace("    approve:", '    quiet: "00:01-00:00"\n    approve:', 1)


# ---------------------------------------------------------------- undoing


def revert(site: Site, run: str) -> RunResult:
    with site.runtime() as runtime:
        return pipeline.revert_run(runtime, run, pipeline.plan_revert(runtime, run))


def test_an_undone_run_leaves_what_stood_there_before_and_is_not_redone(empty_site: Site) -> None:
    accounts = accounts_with_deals(empty_site, 6)
    crm = empty_site.sandbox.salesforce
    crm.edit("Account", accounts[0], {"KPI_Revenue__c": 12.5, "KPI_Win_Rate__c": 33})
    refresh(empty_site)
    before = empty_site.kpi_fields()
    run = empty_site.push().run

    undone = revert(empty_site, run)
    fields = empty_site.kpi_fields()
    next_pass = empty_site.push()
    again = revert(empty_site, run)

    assert (undone.state, undone.sent, undone.kept) == (State.OK, 12, 0)
    assert fields == before
    assert next_pass.state is State.WAITING
    assert "was undone by a person" in next_pass.warnings[0]
    assert (again.state, again.sent) == (State.OK, 0)
    assert empty_site.kpi_fields() == before
    assert applied(empty_site).sent == 12


def test_a_field_that_a_person_edited_since_is_left_alone(pushed_site: Site) -> None:
    run = next(run.run for run in pushed_site.runs() if run.kind == "push")
    edited = next(iter(pushed_site.kpi_fields()))
    pushed_site.sandbox.salesforce.edit("Account", edited, {"KPI_Revenue__c": 777})

    undone = revert(pushed_site, run)

    held = pushed_site.kpi_fields()
    assert (undone.sent, undone.kept) == (59, 1)
    assert held.pop(edited)["KPI_Revenue__c"] == 777
    assert {value for fields in held.values() for value in fields.values()} <= {None}


def test_an_undone_run_can_be_redone(pushed_site: Site) -> None:
    after = pushed_site.kpi_fields()
    run = next(run.run for run in pushed_site.runs() if run.kind == "push")

    redone = revert(pushed_site, revert(pushed_site, run).run)

    assert (redone.state, redone.sent) == (State.OK, 60)
    assert pushed_site.kpi_fields() == after


def test_what_was_never_written_cannot_be_undone(pushed_site: Site) -> None:
    nothing = pushed_site.push().run

    with pytest.raises(pipeline.CannotRevert, match="has written nothing"):
        revert(pushed_site, nothing)
    with pytest.raises(pipeline.CannotRevert, match="there is no run"):
        revert(pushed_site, "20260101T000000")


def test_hubspots_texts_come_back_as_they_were(
    site: Site,
) -> None:
    company = next(record_id for record_id in site.kpi_fields() if not record_id.startswith("001"))
    site.sandbox.hubspot.edit("companies", company, {"kpi_revenue": "28.50"})
    outcome = site.full_pass()
    run = next(one.run for one in outcome.results if one.writeback == "company_kpis")
    assert site.kpi_fields()[company]["kpi_revenue"] != "28.50"

    revert(site, run)

    assert site.kpi_fields()[company]["kpi_revenue"] == "28.50"


# ---------------------------------------------------------------- others who write


def test_a_field_that_another_tool_rewrites_three_times_is_frozen_and_named(
    pushed_site: Site,
) -> None:
    crm = pushed_site.sandbox.salesforce
    contested = next(iter(pushed_site.kpi_fields()))
    sent = []
    for _ in range(4):
        crm.edit("Account", contested, {"KPI_Revenue__c": 5})
        sent.append(pushed_site.push().sent)

    with pushed_site.runtime() as runtime:
        told = status.gather(runtime)

    assert sent == [1, 1, 0, 0]
    assert revenue_in_crm(pushed_site)[contested] == 5
    assert any(
        f"KPI_Revenue__c of Account {contested} is frozen" in sentence
        for sentence in told.sentences
    )
    assert [edit.outcome for edit in pushed_site.plan().edits] == ["frozen"]


def test_a_look_at_drift_names_the_edit_and_counts_it_once(pushed_site: Site) -> None:
    crm = pushed_site.sandbox.salesforce
    edited = next(iter(pushed_site.kpi_fields()))
    crm.edit("Account", edited, {"KPI_Revenue__c": 5})

    with pushed_site.runtime() as runtime:
        looks = [pipeline.watch_writeback(runtime, "account_kpis") for _ in range(5)]
    with pushed_site.runtime() as runtime:
        told = status.gather(runtime).sentences
    restored = pushed_site.push()

    assert any(f"KPI_Revenue__c of Account {edited} was changed in the CRM" in one for one in told)
    assert all(look.state is State.OK for look in looks)
    assert f"Account {edited}: KPI_Revenue__c holds 5.0, we wrote 100" in looks[0].warnings[0]
    assert (looks[0].pulled, looks[0].stored, looks[0].unchanged) == (60, 1, 59)
    assert restored.sent == 1


def test_a_plan_counts_fields_and_names_edits_and_moves(pushed_site: Site) -> None:
    crm = pushed_site.sandbox.salesforce
    records = list(pushed_site.kpi_fields())
    crm.edit("Account", records[0], {"KPI_Revenue__c": 5})
    deal = crm.snapshot()["Opportunity"][1]
    crm.edit("Opportunity", str(deal["id"]), {"Amount": 400})
    refresh(pushed_site)

    with pushed_site.runtime() as runtime:
        plan = pipeline.plan_writeback(runtime, "account_kpis", with_reasons=True)

    revenue, win_rate = plan.fields
    assert (revenue.changed, revenue.first, revenue.same) == (2, 0, 28)
    assert (win_rate.changed, win_rate.same) == (0, 30)
    assert [(edit.record, edit.ours, edit.held) for edit in plan.edits] == [
        (records[0], Decimal(100), Decimal(5))
    ]
    assert [move.record for move in plan.moves] == [records[0], deal["fields"]["AccountId"]]  # type: ignore[index]
    assert "it rested on n = 1, now on n = 1" in plan.moves[1].why
    assert (plan.calls, plan.reads) == (1, 2)
    # Three calls of those that the sandbox's org allows in a day.
    assert plan.quota_share is not None
    assert 0 < plan.quota_share < Decimal("0.001")
