"""One installation of the product on a sandbox: its configuration, its steps, its traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from config.loader import load
from config.models import Config
from metrics import values
from metrics.writeback import Plan
from store import checkpoints, deadletters, outbox, records, runs
from store.canonical import RECORD_TYPES
from store.engine import operating, reading
from tests.fixtures.sandboxes import Sandbox
from worker import pipeline
from worker.pipeline import PassResult, RunResult
from worker.runtime import Runtime, open_runtime

SEEDED = ("--seed", "3", "--size", "40", "--today", "2026-06-30", "--split", "both")
"""A small company in both CRMs, the same one every time."""

SALESFORCE = """\
  salesforce:
    type: salesforce
    base_url: {url}
    auth: {{flow: client_credentials, domain: sandbox.my, client_id: sandbox-client,
           client_secret: "${{SF_SECRET:-sandbox-secret}}"}}
    every: {every}
    streams: {{accounts: {{}}, deals: {{}}}}
"""

HUBSPOT = """\
  hubspot:
    type: hubspot
    base_url: {url}
    auth: {{flow: token, token: "${{HS_TOKEN:-pat-na1-sandbox}}"}}
    every: {every}
    streams: {{accounts: {{}}, deals: {{}}}}
"""

ACCOUNT_KPIS = """\
  account_kpis:
    to: salesforce.Account
    every: {every}
    fields: {{KPI_Revenue__c: revenue, KPI_Win_Rate__c: win_rate}}
    approve: {approve}
    guard: {guard}
"""

COMPANY_KPIS = """\
  company_kpis:
    to: hubspot.companies
    every: {every}
    fields: {{kpi_revenue: revenue, kpi_win_rate: win_rate}}
    approve: {approve}
    guard: {guard}
"""


@dataclass(frozen=True)
class Site:
    """An installation; `but` makes another one that differs in some points."""

    folder: Path
    sandbox: Sandbox
    database: str
    crms: tuple[str, ...] = ("salesforce", "hubspot")
    broker: str = ""
    every: str = "1h"
    approve: str = "never"
    guard: str = "{max_records: 5000}"
    advanced: str = "retry_wait: 1s, retry_attempts: 2, connect_timeout: 2s, read_timeout: 5s"
    periods: str = "[year]"
    more: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def but(self, **differences: Any) -> Site:
        return replace(self, **differences)

    # ------------------------------------------------------------ configuration

    @property
    def path(self) -> Path:
        """The configuration file, written anew."""
        path = self.folder / "kpisync.yaml"
        path.write_text(self.text(), encoding="utf-8")
        return path

    def text(self) -> str:
        connections = ""
        writebacks = ""
        if "salesforce" in self.crms:
            connections += SALESFORCE.format(url=self.sandbox.salesforce.url, every=self.every)
            writebacks += ACCOUNT_KPIS.format(
                every=self.every, approve=self.approve, guard=self.guard
            )
        if "hubspot" in self.crms:
            connections += HUBSPOT.format(url=self.sandbox.hubspot.url, every=self.every)
            writebacks += COMPANY_KPIS.format(
                every=self.every, approve=self.approve, guard=self.guard
            )
        return (
            f"version: 1\ndatabase: {self.database}\nbroker: '{self.broker}'\n"
            "company: {name: Test Company, currency: USD, timezone: Europe/Berlin}\n"
            f"connections:\n{connections}"
            f"kpis: {{use: [sales, customer], periods: {self.periods}}}\n"
            f"writebacks:\n{writebacks}"
            "security: {allow_hosts: [127.0.0.1]}\n"
            f"advanced: {{{self.advanced}}}\n{self.more}"
        )

    def config(self) -> Config:
        return load(self.path, dict(self.environment))

    @contextmanager
    def runtime(self, **how: Any) -> Iterator[Runtime]:
        with open_runtime(self.config(), **how) as runtime:
            yield runtime

    # ------------------------------------------------------------ steps

    def set_up(self) -> Site:
        """Create the KPI fields in the CRMs."""
        with self.runtime() as runtime:
            for name in runtime.writebacks:
                pipeline.setup_writeback(runtime, name, dry_run=False)
        return self

    def with_fields(self) -> Site:
        """KPI fields that an admin has created by hand."""
        if "salesforce" in self.crms:
            self.sandbox.salesforce.add_field("Account", "KPI_Revenue__c", "number")
            self.sandbox.salesforce.add_field("Account", "KPI_Win_Rate__c", "percent")
        if "hubspot" in self.crms:
            self.sandbox.hubspot.add_field("companies", "kpi_revenue", "number")
            self.sandbox.hubspot.add_field("companies", "kpi_win_rate", "number")
        return self

    def full_pass(self) -> PassResult:
        with self.runtime() as runtime:
            return pipeline.full_pass(runtime)

    def pull(self, connection: str, stream: str, **how: Any) -> RunResult:
        with self.runtime() as runtime:
            return pipeline.pull_stream(runtime, connection, stream, **how)

    def pull_all(self, connection: str) -> list[RunResult]:
        with self.runtime() as runtime:
            return pipeline.pull_connection(runtime, connection)

    def compute(self) -> RunResult:
        with self.runtime() as runtime:
            return pipeline.compute(runtime)

    def plan(self, writeback: str = "account_kpis") -> Plan:
        with self.runtime() as runtime:
            return pipeline.plan_writeback(runtime, writeback)

    def apply(self, plan: Plan) -> RunResult:
        with self.runtime() as runtime:
            return pipeline.apply_plan(runtime, plan)

    def push(self, writeback: str = "account_kpis", **how: Any) -> RunResult:
        with self.runtime() as runtime:
            return pipeline.push_writeback(runtime, writeback, **how)

    # ------------------------------------------------------------ processes

    def process(self, crash_at: str | None = None) -> subprocess.Popen[str]:
        """One whole pass in a process of its own."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("KPISYNC_")
        } | dict(self.environment)
        if crash_at:
            environment |= {"KPISYNC_TEST": "1", "KPISYNC_CRASH_AT": crash_at}
        return subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.worker.one_pass", str(self.path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    # ------------------------------------------------------------ what it left behind

    def stored(self) -> dict[str, list[object]]:
        """Every record of every stream."""
        with self.runtime() as runtime, reading(runtime.engine) as conn:
            return {
                stream: [
                    replace(record, modified_at=None)
                    for record in records.iterate(conn, stream, runtime.company)
                ]
                for stream in RECORD_TYPES
            }

    def count(self, stream: str, connection: str | None = None) -> int:
        with self.runtime() as runtime, reading(runtime.engine) as conn:
            return records.count(conn, stream, connection)

    def values(self) -> dict[tuple[str, str, str, str], Decimal | None]:
        """Every published value."""
        with self.runtime() as runtime, reading(runtime.engine) as conn:
            return {
                (one.kpi, one.period, one.dimension, one.key): one.value
                for one in values.current(conn, runtime.catalog)
            }

    def pushed(self) -> dict[tuple[str, str], str]:
        """What we believe to have written into accounts: (record id, field) -> value."""
        with self.runtime() as runtime, reading(runtime.engine) as conn:
            return dict(outbox.last_pushed(conn, "salesforce", "Account"))

    def runs(self) -> list[runs.Run]:
        with self.runtime() as runtime, reading(runtime.engine) as conn:
            return runs.every(conn)

    def dead_letters(self) -> list[deadletters.DeadLetter]:
        with self.runtime() as runtime, reading(runtime.engine) as conn:
            return deadletters.every(conn)

    def resume(self, connection: str) -> None:
        """End a pause by hand."""
        with self.runtime() as runtime, operating(runtime.engine) as conn:
            checkpoints.resume(conn, connection)

    def kpi_fields(self) -> dict[str, dict[str, object]]:
        """The KPI fields of every account and company, as the CRMs hold them."""
        found: dict[str, dict[str, object]] = {}
        for crm, name in (
            (self.sandbox.salesforce, "Account"),
            (self.sandbox.hubspot, "companies"),
        ):
            for record in crm.snapshot().get(name, []):
                found[str(record["id"])] = _kpis_of(record)
        return found

    def redundant_writes(self) -> list[dict[str, object]]:
        return [
            entry
            for crm in (self.sandbox.salesforce, self.sandbox.hubspot)
            for entry in crm.journal()
            if entry["redundant"]
        ]

    def writes(self) -> list[dict[str, object]]:
        """Every value that was written into an account or company."""
        return [
            entry
            for crm in (self.sandbox.salesforce, self.sandbox.hubspot)
            for entry in crm.journal()
            if entry["object"] in {"Account", "companies"}
        ]


def _kpis_of(record: Mapping[str, object]) -> dict[str, object]:
    flat = json.loads(json.dumps(record))
    fields = flat.get("fields") or flat.get("properties") or flat
    return {name: fields[name] for name in sorted(fields) if name.lower().startswith("kpi_")}
