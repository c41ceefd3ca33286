"""Full pulls: what has vanished is removed, unless it is too much to be true."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.loader import load
from store import checkpoints, records
from store.engine import reading
from tests.pipeline.worker.site import Site
from worker import pipeline
from worker.results import State
from worker.runtime import Runtime, open_runtime


@pytest.fixture
def stocked_site(empty_site: Site) -> Site:
    """A hundred accounts, all pulled."""
    empty_site.sandbox.salesforce.create_many(
        "Account", [{"Name": f"Account {n:04d}"} for n in range(100)]
    )
    empty_site.pull("salesforce", "accounts")
    return empty_site


def account_ids(site: Site) -> list[str]:
    return [str(record["id"]) for record in site.sandbox.salesforce.snapshot()["Account"]]


def test_records_erased_without_a_trace_leave_with_the_next_full_pull(stocked_site: Site) -> None:
    stocked_site.sandbox.salesforce.erase("Account", account_ids(stocked_site)[:20])

    increment = stocked_site.pull("salesforce", "accounts")
    full = stocked_site.pull("salesforce", "accounts", full=True)

    assert increment.stored == 0
    assert (full.state, full.stored) == (State.OK, 20)
    assert full.pulled == full.stored + full.unchanged + full.dead
    assert stocked_site.count("accounts") == 80


def test_too_many_at_once_are_not_believed_until_a_person_says_so(stocked_site: Site) -> None:
    stocked_site.sandbox.salesforce.erase("Account", account_ids(stocked_site)[:21])

    refused = stocked_site.pull("salesforce", "accounts", full=True)
    still_refused = stocked_site.pull("salesforce", "accounts")
    with stocked_site.runtime() as runtime, reading(runtime.engine) as conn:
        checkpoint = checkpoints.load(conn, "salesforce", "accounts")
    stored_meanwhile = stocked_site.count("accounts")
    accepted = stocked_site.pull("salesforce", "accounts", full=True, accept_vanished=True)

    assert refused.state is State.REFUSED
    assert "--accept-vanished" in str(refused.error)
    # The next ordinary pull does not hush it up.
    assert still_refused.state is State.REFUSED
    assert checkpoint.state == "waiting"
    assert checkpoint.error == still_refused.error
    assert stored_meanwhile == 100
    assert accepted.state is State.OK
    assert stocked_site.count("accounts") == 79


def test_what_came_back_is_believed_by_a_new_full_pull(stocked_site: Site) -> None:
    ids = account_ids(stocked_site)
    stocked_site.sandbox.salesforce.delete("Account", ids[:30])
    assert stocked_site.pull("salesforce", "accounts", full=True).state is State.OK
    stocked_site.sandbox.salesforce.undelete("Account", ids[:30])

    again = stocked_site.pull("salesforce", "accounts", full=True)

    assert again.state is State.OK
    assert stocked_site.count("accounts") == 100


def test_deletions_the_crm_reports_do_not_count_as_vanished(stocked_site: Site) -> None:
    stocked_site.sandbox.salesforce.delete("Account", account_ids(stocked_site)[:60])

    pulled = stocked_site.pull("salesforce", "accounts", full=True)

    assert pulled.state is State.OK
    assert stocked_site.count("accounts") == 40


def test_a_pull_in_steps_ends_where_one_in_one_go_does(stocked_site: Site) -> None:
    small_pages = stocked_site.but(advanced=f"{stocked_site.advanced}, page_size: 10")
    # Beyond the overlap that every increment reads again.
    stocked_site.sandbox.salesforce.clock(advance=3600)

    results = [small_pages.pull("salesforce", "accounts", full=True, max_rows=25)]
    while results[-1].is_unfinished and len(results) < 10:
        results.append(small_pages.pull("salesforce", "accounts", max_rows=25))

    assert [result.is_unfinished for result in results] == [True, True, True, False]
    assert sum(result.pulled for result in results) == 100
    assert small_pages.count("accounts") == 100


def test_a_since_date_never_skips_what_lies_before_it(stocked_site: Site) -> None:
    stocked_site.sandbox.salesforce.create("Account", {"Name": "Account 0100"})

    ahead = stocked_site.pull("salesforce", "accounts", since=datetime.now(UTC) + timedelta(days=1))

    assert ahead.stored == 1
    assert "--since" in ahead.warnings[0]


def test_what_an_erased_deal_brought_along_leaves_with_it(empty_site: Site) -> None:
    site = empty_site.but(crms=("hubspot",))
    crm = site.sandbox.hubspot
    kept, erased = crm.create_many(
        "deals", [{"dealname": name, "dealstage": "appointmentscheduled"} for name in "AB"]
    )
    (person,) = crm.create_many("contacts", [{"email": "a@b.example"}])
    for deal_id in (kept, erased):
        crm.associate("deals", deal_id, "contacts", [person])
    site.pull("hubspot", "deals")
    crm.erase("deals", [erased])

    site.pull("hubspot", "deals", full=True)

    assert site.count("deals") == 1
    assert site.count("deal_contacts") == 1
    assert site.count("deal_stage_changes") == 1


@pytest.fixture
def costs(tmp_path: Path, migrated_sqlite: str) -> Iterator[Runtime]:
    """The runtime of a folder with three costs, all pulled."""
    (tmp_path / "kpisync.yaml").write_text(
        f'version: 1\ndatabase: "{migrated_sqlite}"\ncompany: {{currency: EUR}}\n'
        "connections:\n  books: {type: files, folder: ., streams: {costs: {}}}\n"
    )
    (tmp_path / "costs.csv").write_text(f"{COSTS}2,2026-03-05,2\n3,2026-03-05,3\n")
    with open_runtime(load(tmp_path / "kpisync.yaml", {})) as runtime:
        assert pipeline.pull_stream(runtime, "books", "costs").stored == 3
        yield runtime


COSTS = "id,date,amount\n1,2026-03-05,1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{COSTS}2,2026-03-05\n3;2026-03-05;3\n", "2 stored costs are missing, but 2 line(s)"),
        ("id,date,amount\n", "3 stored costs are missing, but the files hold no row at all"),
    ],
)
def test_rows_of_a_file_are_not_gone_while_it_cannot_be_read_or_holds_none(
    costs: Runtime, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "costs.csv").write_text(text)

    refused = [pipeline.pull_stream(costs, "books", "costs") for _ in range(2)]

    assert [one.state for one in refused] == [State.REFUSED, State.REFUSED]
    assert all(words in str(one.error) for one in refused)
    with reading(costs.engine) as conn:
        assert records.count(conn, "costs", "books") == 3
    accepted = pipeline.pull_stream(costs, "books", "costs", full=True, accept_vanished=True)
    assert accepted.state is State.OK
    with reading(costs.engine) as conn:
        assert records.count(conn, "costs", "books") == (1 if "2026" in text else 0)


def test_a_line_that_never_was_a_row_holds_up_no_other(costs: Runtime, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(
        f"{COSTS}2,2026-03-05,9\n3,2026-03-05,x\nTotal\n4,2026-03-05,4\n"
    )

    pulled = pipeline.pull_stream(costs, "books", "costs")

    assert (pulled.state, pulled.stored, pulled.dead) == (State.OK, 2, 2)
