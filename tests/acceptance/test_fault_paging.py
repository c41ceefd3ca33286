"""People who edit, delete and merge between two pages of a pull, and fields that go meanwhile.

A proxy before the CRM lets them act when the first page with records has been answered, so that
they meet the midst of a pull each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from store.canonical import Account
from tests.acceptance.proxies import behind_proxies, rows_of
from tests.fixtures.sandboxes import Crm, Sandbox
from tests.pipeline.worker.site import Site
from worker.results import State

ACCOUNTS = {"salesforce": ("Account", "Name"), "hubspot": ("companies", "name")}
ROWS = 60
OLD, NEW = {"salesforce": "Old__c", "hubspot": "old"}, {"salesforce": "New__c", "hubspot": "new"}


def after_the_first_page(act: Callable[[], None], ids: list[str]) -> Callable[[bytes], bytes]:
    """Let `act` happen once, before the first page that holds one of the records is received."""
    left = [act]

    def rewrite(answer: bytes) -> bytes:
        known = {str(row.get("Id", row.get("id"))) for row in rows_of(answer)[1]}
        if left and known & set(ids) and len(known) < ROWS:
            left.pop()()
        return answer

    return rewrite


@pytest.fixture
def site(start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str) -> Site:
    sandbox = start_sandbox("--seed", "1", "--size", "1", "--today", "2026-06-30")
    small = "retry_wait: 1s, retry_attempts: 2, page_size: 20, lookback: 1s, index_lag: 1s"
    return Site(tmp_path, sandbox, sqlite_database, advanced=small)


def crms(site: Site) -> dict[str, Crm]:
    return {"salesforce": site.sandbox.salesforce, "hubspot": site.sandbox.hubspot}


def alive(crm: Crm, name: str) -> dict[str, str]:
    """Ref -> name of every account that the CRM shows."""
    table, label = ACCOUNTS[name]
    return {
        f"{name}:{one['id']}": json.loads(json.dumps(one))["fields"][label]
        for one in crm.snapshot()[table]
        if not one["deleted"] and not one["merged_into"]
    }


def test_rows_edited_deleted_and_merged_while_paging_end_as_the_crm_has_them(site: Site) -> None:
    ids: dict[str, list[str]] = {}
    acted: list[str] = []
    for name, crm in crms(site).items():
        table, label = ACCOUNTS[name]
        ids[name] = crm.create_many(table, [{label: f"Account {n:02d}"} for n in range(ROWS)])

    def act(name: str) -> None:
        crm, (table, label), listed = crms(site)[name], ACCOUNTS[name], ids[name]
        # One of the first page and one of the last, of each kind.
        for which in (2, 58):
            crm.edit(table, listed[which], {label: f"Edited {which}"})
            crm.delete(table, listed[which - 1])
        crm.merge(table, listed[57 - 1], [listed[0]])
        crm.merge(table, listed[3], [listed[55]])
        acted.append(name)

    with behind_proxies(site.sandbox) as (seen, proxies):
        proxied = site.but(sandbox=seen)
        for name, proxy in proxies.items():
            proxy.rewrite = after_the_first_page(lambda name=name: act(name), ids[name])  # type: ignore[misc]  # bound now
            first = proxied.pull(name, "accounts")
            second = proxied.pull(name, "accounts")
            assert (first.state, second.state) == (State.OK, State.OK), (first.error, second.error)

    assert acted == ["salesforce", "hubspot"]
    for name, crm in crms(site).items():
        stored = [one for one in site.stored()["accounts"] if isinstance(one, Account)]
        there = {
            f"{name}:{one.ref.native_id}": one.name
            for one in stored
            if one.ref.connection == name and not one.deleted
        }
        assert there == alive(crm, name)


@pytest.mark.slow
def test_a_field_that_is_renamed_keeps_what_was_stored_and_is_filled_under_its_new_name(
    site: Site,
) -> None:
    """Renamed: the old name is gone, the new one holds every row's value, no row looks changed."""
    mapped = {
        name: f"streams: {{accounts: {{fields: {{segment: {field}}}}}}}"
        for name, field in OLD.items()
    }

    class Renamed(Site):
        def text(self) -> str:
            text = super().text()
            for name, section in fields.items():
                head, mark, rest = text.partition(f"  {name}:\n")
                text = head + mark + rest.replace("streams: {accounts: {}, deals: {}}", section, 1)
            return text.partition("writebacks:")[0] + text[text.index("security:") :]

    fields = dict(mapped)
    ours = Renamed(site.folder, site.sandbox, site.database, advanced=site.advanced)
    ids = {}
    for name, crm in crms(site).items():
        table, label = ACCOUNTS[name]
        crm.add_field(table, OLD[name], "text")
        ids[name] = crm.create_many(table, [{label: "A", OLD[name]: f"S{n}"} for n in range(30)])
        assert ours.pull(name, "accounts").state is State.OK
    expected = sorted(f"S{n}" for n in range(30)) * 2

    sandbox = site.sandbox
    sandbox.salesforce.settings(hide_fields=["Account.Old__c"])
    archived = requests.delete(
        f"{sandbox.hubspot.url}/crm/v3/properties/companies/old",
        headers={"Authorization": "Bearer pat-na1-sandbox"},
        timeout=30,
    )
    assert archived.status_code == 204, archived.text
    told = {name: ours.pull(name, "accounts") for name in ids}
    kept = segments(ours)
    for name, crm in crms(site).items():
        crm.add_field(ACCOUNTS[name][0], NEW[name], "text")
        for n, native in enumerate(ids[name]):
            crm.edit(ACCOUNTS[name][0], native, {NEW[name]: f"S{n}"})
    fields |= {name: section.replace(OLD[name], NEW[name]) for name, section in mapped.items()}
    ended = {name: ours.pull(name, "accounts") for name in ids}

    for name, run in told.items():
        assert run.state is State.OK, run.error
        assert any(OLD[name] in text for text in run.warnings), (name, run.warnings)
    assert sorted(kept) == sorted(expected)
    assert {run.state for run in ended.values()} == {State.OK}
    assert sorted(segments(ours)) == sorted(expected)


def segments(site: Site) -> list[str]:
    return [
        str(one.segment)
        for one in site.stored()["accounts"]
        if isinstance(one, Account) and one.segment
    ]
