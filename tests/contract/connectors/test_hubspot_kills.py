"""A worker killed in the midst of any call to HubSpot: the next pass ends as if nothing had been.

The kills are real: the sandbox leaves one call unanswered, and the process that waits for it is
ended by SIGKILL. What must be there afterwards is what an installation reads that begins anew.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.contract.connectors.test_salesforce_complaints_reading import StoredOrg
from tests.fixtures.sandboxes import Crm, launch
from tests.pipeline.worker.site import Site
from worker.observe import configure_logging

COMPANIES = 7
STREAMS = "{accounts: {}, contacts: {}, deals: {}}"
WRITING = "batch/update"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Companies with deals and people, read in pages of four and written in three calls."""
    configure_logging(is_quiet=True)
    with launch() as sandbox:
        folder = tmp_path_factory.mktemp("kills")
        made = StoredOrg(
            folder,
            sandbox,
            f"sqlite:///{folder}/kpisync.db",
            crms=("hubspot",),
            guard="{max_records: 5000, max_jump: 1000000, max_changed: 100%}",
            streams=STREAMS,
        ).with_fields()
        crm = sandbox.hubspot
        crm.settings(burst=100_000, search_per_second=1_000)
        companies = crm.create_many("companies", [{"name": f"C{n}"} for n in range(COMPANIES)])
        for number, company in enumerate(companies):
            linked = {"companies": [company]}
            crm.create("contacts", {"email": f"p{number}@x.example"}, associations=linked)
            for stage in ("closedwon", "contractsent"):
                fields = {"dealname": "D", "dealstage": stage, "amount": "1"}
                crm.create("deals", fields, associations=linked)
        made = made.but(advanced=f"{made.advanced}, page_size: 4, push_batch: 3, canary: 0")
        assert made.full_pass().exit_code == 0
        yield made


def busy_day(crm: Crm, amount: int) -> None:
    """Every deal, some links and the archive change; every company's revenue is another."""
    deals = [str(one["id"]) for one in crm.snapshot()["deals"] if not one["deleted"]]
    contacts = [str(one["id"]) for one in crm.snapshot()["contacts"]]
    crm.edit("deals", deals, {"amount": str(amount)})
    # Another one each time: HubSpot itself forgets all but the last twenty stages of a deal.
    moving = deals[amount % len(deals)]
    crm.edit("deals", moving, {"dealstage": "presentationscheduled"})
    crm.edit("deals", moving, {"dealstage": "closedwon"})
    crm.associate("deals", deals[0], "contacts", [contacts[amount % len(contacts)]])
    crm.edit("contacts", contacts, {"company": str(amount)})
    crm.delete("deals", crm.create("deals", {"dealname": "gone", "dealstage": "contractsent"}))
    crm.forget()


def killed_at_call(site: Site, number: int, path: str = "", kind: str = "hang") -> bool:
    """Kill a whole pass while it waits for the answer to its n-th call; False: it made fewer."""
    crm = site.sandbox.hubspot
    crm.fault(kind, path=path, after=number - 1, seconds=60)
    process = site.process()
    try:
        while process.poll() is None and _is_still_calling(crm, number, path):
            time.sleep(0.02)
        # Now the call is on its way, or nothing stands between it and the wire.
        time.sleep(0.1)
        process.kill()
        said, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:  # pragma: no cover - a machine that stands still
        process.kill()
        raise
    finally:
        crm.clear_faults()
    assert process.returncode in {-signal.SIGKILL, 0}, said
    return process.returncode == -signal.SIGKILL


def _is_still_calling(crm: Crm, number: int, path: str) -> bool:
    answered = [one for one in crm.requests() if path in str(one["path"])]
    return len(answered) < number - 1


def assert_as_undisturbed(site: Site) -> None:
    """Nothing is lost, nothing is left open, nothing was written twice."""
    again = site.full_pass()
    anew = site.but(database=f"sqlite:///{site.folder}/anew-{next(_numbers)}.db", approve="always")
    anew.full_pass()

    assert again.exit_code == 0
    assert live(site) == live(anew)
    assert told(site) == told(anew)
    assert [one for one in site.plan("company_kpis").changes if one.kind != "kept"] == []
    assert site.redundant_writes() == []
    writes = [(one["id"], one["field"], one["new"]) for one in site.writes()]
    assert len(writes) == len(set(writes))
    assert site.dead_letters() == []


def told(site: Site) -> dict[tuple[str, str, str, str], Decimal]:
    """The values of groups that are not empty: what was once there stays as zero or nothing."""
    return {key: value for key, value in site.values().items() if value}


def live(site: Site) -> dict[str, list[object]]:
    return {
        stream: [one for one in found if not getattr(one, "deleted", False)]
        for stream, found in site.stored().items()
    }


@pytest.mark.parametrize(
    ("path", "number"),
    [
        pytest.param("associations/deals/contacts", 2, marks=pytest.mark.slow, id="links"),
        pytest.param(WRITING, 2, id="write"),
    ],
)
def test_killed_in_the_midst_of_a_call_the_next_pass_ends_like_an_undisturbed_one(
    site: Site, path: str, number: int
) -> None:
    busy_day(site.sandbox.hubspot, 100 + next(_numbers))

    assert killed_at_call(site, number, path)

    assert_as_undisturbed(site)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_in_the_midst_of_each_call_of_a_pass_nothing_is_lost_or_written_twice(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every page, search, batch read, link read, archive and write batch of the pass is one."""
    killed = 0
    for number in itertools.count(1):
        busy_day(site.sandbox.hubspot, 1000 + number)
        if not killed_at_call(site, number):
            break
        killed += 1
        assert_as_undisturbed(site)
    with capsys.disabled():
        print(f"\n{killed} kills, one in each call of a pass")  # noqa: T201 - a figure to quote
    assert killed > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_after_each_batch_was_written_and_before_its_answer_nothing_is_written_twice(
    site: Site,
) -> None:
    killed = 0
    for number in itertools.count(1):
        busy_day(site.sandbox.hubspot, 5000 + number)
        if not killed_at_call(site, number, WRITING, kind="slow"):
            break
        killed += 1
        assert_as_undisturbed(site)
    assert killed >= 3
