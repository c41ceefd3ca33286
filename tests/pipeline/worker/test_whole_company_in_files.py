"""A company that lives in files alone: read, counted, scheduled, and left alone while unchanged."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest

from config.loader import load
from metrics import values
from store import records
from store.engine import reading
from worker import pipeline
from worker.firings import upcoming
from worker.results import RunResult, State
from worker.runtime import Runtime, open_runtime

CONFIGURATION = """\
version: 1
database: "{database}"
company: {{name: Test Company, currency: EUR, timezone: Europe/Berlin}}
connections:
  books:
    type: files
    folder: books
    every: 90m
    full_refresh: "0 3 * * sun"
    streams:
      accounts: {{}}
      contacts: {{}}
      campaigns: {{}}
      campaign_members: {{}}
      deals: {{fields: {{tier: {{from: Tier, type: text}}}}, decimal: ","}}
      costs: {{object: "spent/*.csv", key: [number]}}
kpis:
  use: [sales, customer, marketing]
  settings:
    won_value: {{by: [tier]}}
    campaign_revenue: {{models: [first]}}
    cac: {{costs: [costs]}}
"""

FILES = {
    "accounts.csv": "id,name,region\nA1,Acme,North\nA2,Zebra,South\n",
    "contacts.jsonl": '{"id": "P1", "name": "Person 1", "account": "A1"}\n',
    "campaigns.csv": "id;name;channel\nC1;Spring fair;Fair\n",
    "campaign_members.csv": "id,campaign,contact,at\nM1,C1,P1,2026-02-01T10:00:00Z\n",
    "deals.csv": (
        "id;account;stage;is_closed;is_won;amount;close_date;created_at;Tier\n"
        "D1;A1;won;yes;yes;1.200,50;2026-03-05;2026-02-03T09:00:00Z;gold\n"
        "D2;A2;won;yes;yes;800;2026-03-06;2026-02-03T09:00:00Z;iron\n"
        "D3;A2;lost;yes;no;50;2026-03-07;2026-02-03T09:00:00Z;iron\n"
    ),
    "spent/march.csv": "number,date,amount\n1,2026-03-01,300\n",
    "spent/april.csv": "number,date,amount\n2,2026-04-01,abc\n",
}


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    (tmp_path / "books" / "spent").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "books" / name).write_text(text, encoding="utf-8")
    path = tmp_path / "kpisync.yaml"
    path.write_text(CONFIGURATION.format(database=database_url), encoding="utf-8")
    with open_runtime(load(path, dict(os.environ))) as runtime:
        yield runtime


def read(runtime: Runtime, *streams: str) -> list[RunResult]:
    return [
        result
        for stream in streams or (None,)
        for result in pipeline.pull_connection(runtime, "books", stream=stream)
    ]


def number(runtime: Runtime, kpi: str, dimension: str, key: str) -> Decimal | None:
    with reading(runtime.engine) as conn:
        (found,) = (
            row.value
            for row in values.current(conn, runtime.catalog)
            if (row.kpi, row.period, row.dimension, row.key) == (kpi, "all", dimension, key)
        )
    return found


def test_a_whole_company_in_files_is_counted_and_left_alone_while_nothing_changes(
    runtime: Runtime, tmp_path: Path
) -> None:
    first = read(runtime)
    pipeline.compute(runtime)

    assert [result.state for result in first] == [State.OK] * 6
    assert sum(result.dead for result in first) == 1, "the line whose amount is no number"
    assert number(runtime, "won_value", "tier", "gold") == Decimal("1200.50")
    assert number(runtime, "revenue", "account", "books:A2") == 800
    assert number(runtime, "campaign_revenue_first", "campaign", "books:C1") == Decimal("1200.50")
    assert number(runtime, "cac", "all", "*") == 150

    # Files that were written a moment ago are not trusted by their times yet.
    time.sleep(2.1)
    again, idle = read(runtime), read(runtime)

    assert [(one.stored, one.unchanged) for one in again] == [
        (0, one.stored + one.unchanged) for one in first
    ]
    assert [one.pulled for one in idle] == [0] * 6, "files that are as they were are not read"

    deals = tmp_path / "books" / "deals.csv"
    deals.write_text(FILES["deals.csv"].replace("D2;A2;won;yes;yes;800", "D2;A2;won;yes;yes;900"))
    changed = read(runtime)
    pipeline.compute(runtime)

    assert {one.stream: one.stored for one in changed if one.pulled} == {"deals": 1}
    assert number(runtime, "revenue", "account", "books:A2") == 900


def test_a_file_that_was_cut_short_is_asked_about_again_though_it_does_not_change(
    runtime: Runtime, tmp_path: Path
) -> None:
    accounts = tmp_path / "books" / "accounts.csv"
    accounts.write_text("id,name\n" + "".join(f"A{n},Account {n:04}\n" for n in range(100)))
    read(runtime, "accounts")
    accounts.write_text("id,name\nA1,Account 0001\n")
    time.sleep(2.1)

    asked = [read(runtime, "accounts")[0] for _ in range(3)]

    assert [one.state for one in asked] == [State.REFUSED] * 3
    assert "--accept-vanished" in (asked[-1].error or "")
    with reading(runtime.engine) as conn:
        assert records.count(conn, "accounts", "books") == 100
    (accepted,) = pipeline.pull_connection(
        runtime, "books", stream="accounts", full=True, accept_vanished=True
    )
    assert accepted.state is State.OK
    with reading(runtime.engine) as conn:
        assert records.count(conn, "accounts", "books") == 1


def test_files_have_schedules_like_any_connection(runtime: Runtime) -> None:
    start = datetime(2026, 11, 21, 12, tzinfo=UTC)

    found = [(one.what, one.at) for one in islice(upcoming(runtime.config, start), 12)]

    assert ("pull books", start + timedelta(minutes=90)) in found
    assert ("reconcile books", datetime(2026, 11, 22, 2, tzinfo=UTC)) in found
