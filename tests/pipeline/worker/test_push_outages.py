"""HubSpot fails while values are written: what is said of it, and how it goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.deadletters import DeadLetter
from tests.fixtures.sandboxes import launch
from tests.pipeline.worker.site import Site
from worker.results import State

RECORDS = 6
WRITING = "batch/update"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Six companies with one won deal each, read and written once."""
    folder = tmp_path_factory.mktemp("outages")
    with launch() as sandbox:
        guard = "{max_records: 5000, max_jump: 1000000}"
        made = Site(
            folder, sandbox, f"sqlite:///{folder}/kpisync.db", crms=("hubspot",), guard=guard
        )
        made = made.but(advanced=f"{made.advanced}, canary: 0").with_fields()
        crm = sandbox.hubspot
        companies = crm.create_many("companies", [{"name": f"C{n}"} for n in range(RECORDS)])
        for company in companies:
            deal = {"dealname": "D", "dealstage": "closedwon", "amount": "1"}
            crm.create("deals", deal, associations={"companies": [company]})
        assert made.full_pass().exit_code == 0
        yield made


def move_to(site: Site, amount: int) -> Site:
    """Every company's revenue is so much from now on, stored and counted, not yet written."""
    crm = site.sandbox.hubspot
    crm.clear_faults()
    deals = [str(deal["id"]) for deal in crm.snapshot()["deals"]]
    crm.edit("deals", deals, {"amount": str(amount)})
    assert site.pull("hubspot", "deals").state is State.OK
    site.compute()
    crm.forget()
    return site


def letters(site: Site) -> list[DeadLetter]:
    return [one for one in site.dead_letters() if one.direction == "push"]


def revenues(site: Site) -> set[object]:
    return {str(fields["kpi_revenue"]) for fields in site.kpi_fields().values()}


def push(site: Site) -> State:
    return site.push("company_kpis").state


def test_writes_that_fail_for_long_are_parked_in_hubspots_words_and_go_on_with_the_next_pass(
    site: Site,
) -> None:
    crm = move_to(site, 20).sandbox.hubspot
    crm.fault("status", path=WRITING, status=500, body={"message": "Oops."}, times="forever")

    failed = push(site)
    parked = letters(site)
    crm.clear_faults()
    again = push(site)

    assert failed is State.FAILED
    assert {(one.code, one.field) for one in parked} == {("no_answer", "kpi_revenue")}
    assert len(parked) == RECORDS
    assert all("(500): Oops." in one.reason for one in parked)
    assert all("the record does not hold the value" in one.reason for one in parked)
    assert again is State.OK
    assert revenues(site) == {"20"}
    assert letters(site) == []
    assert site.redundant_writes() == []


def test_records_that_an_answer_leaves_out_are_looked_up_and_parked_and_not_sent_without_end(
    site: Site,
) -> None:
    crm = move_to(site, 30).sandbox.hubspot
    body = {"status": "COMPLETE", "results": []}
    crm.fault("status", path=WRITING, status=200, body=body, times="forever")

    first = push(site)
    parked = letters(site)
    calls = len([one for one in crm.requests() if WRITING in str(one["path"])])
    second = push(site)
    later = len([one for one in crm.requests() if WRITING in str(one["path"])])

    assert (first, second) == (State.FAILED, State.OK)
    assert {one.code for one in parked} == {"left_out"}
    assert all("leaves the record out" in one.reason for one in parked)
    assert all("the record does not hold the value" in one.reason for one in parked)
    assert later == calls
    assert any(one["path"] and "batch/read" in str(one["path"]) for one in crm.requests())


def test_a_whole_outage_parks_nothing_and_the_next_pass_after_it_writes(site: Site) -> None:
    crm = move_to(site, 40).sandbox.hubspot
    crm.fault("status", path="/crm/", status=503, body={"message": "Down."}, times="forever")

    down = [push(site), push(site)]
    parked = letters(site)
    crm.clear_faults()
    again = push(site)

    assert set(down) <= {State.FAILED, State.PAUSED}
    assert [one for one in parked if one.code != "left_out"] == []
    assert again is State.OK
    assert revenues(site) == {"40"}
    assert letters(site) == []
    assert site.redundant_writes() == []
