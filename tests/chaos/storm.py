"""One storm: people work, CRMs fail, processes are killed; then it is quiet and all is looked at.

``python -m tests.chaos.storm --seeds 50 --kills 20`` replays any of them by its seed.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.checker import Look, findings
from tests.chaos.people import People
from tests.fixtures.cli import Cli, clean_environment
from tests.fixtures.sandboxes import Crm, Sandbox, launch
from worker.crashpoints import POINTS

SECRETS = ("sandbox-secret", "pat-na1-storm-secret")
WRITTEN = {
    "salesforce": {"KPI_Revenue__c": ("revenue", 1), "KPI_Win_Rate__c": ("win_rate", 100)},
    "hubspot": {"kpi_revenue": ("revenue", 1), "kpi_win_rate": ("win_rate", 1)},
}

YAML = """\
version: 1
database: "{database}"
company: {{name: Storm, currency: USD, timezone: Europe/Berlin}}
connections:
  salesforce:
    type: salesforce
    base_url: {salesforce}
    auth: {{flow: client_credentials, domain: sandbox.my, client_id: sandbox-client,
           client_secret: "${{SF_SECRET}}"}}
    every: 1s
    streams: {{accounts: {{}}, deals: {{}}}}
  hubspot:
    type: hubspot
    base_url: {hubspot}
    auth: {{flow: token, token: "${{HS_TOKEN}}"}}
    every: 1s
    streams: {{accounts: {{}}, deals: {{}}}}
kpis: {{use: [sales, customer], periods: [quarter, year]}}
writebacks:
  account_kpis:
    to: salesforce.Account
    every: 1s
    approve: never
    fields: {{KPI_Revenue__c: revenue, KPI_Win_Rate__c: win_rate}}
    guard: {{max_records: 5000, max_changed: 100%, max_shrink: 100%, max_jump: null}}
  company_kpis:
    to: hubspot.companies
    every: 1s
    approve: never
    fields: {{kpi_revenue: revenue, kpi_win_rate: win_rate}}
    guard: {{max_records: 5000, max_changed: 100%, max_shrink: 100%, max_jump: null}}
security: {{allow_hosts: [127.0.0.1]}}
advanced: {{page_size: 20, push_batch: 10, retry_wait: 1s, retry_attempts: 3, read_timeout: 3s,
           connect_timeout: 2s, canary: 5}}
"""

FAULTS = (
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 500},
    {
        "kind": "status",
        "status": 401,
        "body": [{"errorCode": "INVALID_SESSION_ID", "message": "x"}],
    },
    {"kind": "html"},
    {"kind": "html", "status": 200},
    {"kind": "empty"},
    {"kind": "cut_json"},
    {"kind": "disconnect"},
    {"kind": "lost_answer"},
    {"kind": "hang", "seconds": 5},
)
LOSING = {"lost_answer", "hang", "cut_json", "empty", "html"}
"""Faults after which nobody knows whether a write took effect."""


@dataclass
class Storm:
    """One seed's worth of trouble."""

    seed: int
    kills: int
    folder: Path
    size: int = 24
    is_loud: bool = False
    killed: int = 0
    finished: int = 0
    faults: int = 0
    lost_answers: int = 0
    said: list[str] = field(default_factory=list)

    def blow(self) -> list[str]:
        """Everything that was broken at the end."""
        chance = random.Random(self.seed)  # noqa: S311 - chance that can be replayed
        sandbox = launch(
            *("--seed", str(self.seed), "--size", str(self.size)),
            *("--today", "2026-06-30", "--split", "both"),
        )
        try:
            cli = prepared(self.folder, sandbox)
            self._rounds(chance, cli, sandbox)
            for crm in (sandbox.salesforce, sandbox.hubspot):
                crm.clear_faults()
            # The log of deletions tells whole minutes: what went with its parent is in it later.
            sandbox.salesforce.clock(advance=60)
            self._come_to_rest(cli)
            return findings(
                Look(
                    cli,
                    sandbox,
                    WRITTEN,
                    # A batch has ten records with two fields each.
                    lost_answers=self.lost_answers * 20,
                    secrets=SECRETS,
                )
            )
        finally:
            sandbox.end()

    def _rounds(self, chance: random.Random, cli: Cli, sandbox: Sandbox) -> None:
        people = People(sandbox, self.seed)
        while self.killed < self.kills:
            people.work(chance.randrange(0, 5))
            if chance.random() < 0.35:
                self._break_something(chance, sandbox)
            self._run(chance, cli)

    def _break_something(self, chance: random.Random, sandbox: Sandbox) -> None:
        crm: Crm = chance.choice((sandbox.salesforce, sandbox.hubspot))
        what: dict[str, object] = dict(chance.choice(FAULTS))
        self.faults += 1
        self.lost_answers += what["kind"] in LOSING
        crm.fault(**what, after=chance.randrange(0, 8))  # type: ignore[arg-type]  # a kind and its words

    def _run(self, chance: random.Random, cli: Cli) -> None:
        """A whole cycle in a process that, mostly, does not live to its end."""
        environment = clean_environment() | cli.environment
        how = chance.random()
        if how < 0.5:
            point = f"{chance.choice(POINTS)}:{chance.randrange(1, 8)}"
            environment |= {"KPISYNC_TEST": "1", "KPISYNC_CRASH_AT": point}
        process = subprocess.Popen(
            [Path(sys.executable).with_name("kpisync"), "drain", "--timeout", "60"],
            cwd=cli.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if 0.5 <= how < 0.9:
            time.sleep(chance.uniform(0.6, 3.0))
            process.kill()
        said, _ = process.communicate(timeout=120)
        self.said.append(said)
        self.killed += process.returncode == -signal.SIGKILL
        self.finished += process.returncode >= 0
        if self.is_loud:
            print(f"  {self.killed:>4} killed  exit {process.returncode}")  # noqa: T201

    def _come_to_rest(self, cli: Cli) -> None:
        """Cycles without trouble until one leaves nothing to do."""
        for _ in range(6):
            ended = cli("drain", "--timeout", "120", expect_exit=None)
            if ended.exit_code == 0:
                return
            time.sleep(1.0)
        raise AssertionError(f"it never came to rest: {ended.out}\n{ended.err}")


def prepared(folder: Path, sandbox: Sandbox) -> Cli:
    """A configured installation beside a sandbox whose limits do not slow it down."""
    sandbox.hubspot.settings(
        tokens=[SECRETS[1]], burst=100_000, search_per_second=10_000, daily=10_000_000
    )
    cli = Cli(folder, {"SF_SECRET": SECRETS[0], "HS_TOKEN": SECRETS[1]})
    cli.configure(
        YAML.format(
            database=f"sqlite:///{folder}/kpisync.db",
            salesforce=sandbox.salesforce.url,
            hubspot=sandbox.hubspot.url,
        )
    )
    with_fields(sandbox)
    return cli


def with_fields(sandbox: Sandbox) -> None:
    """The KPI fields, as an admin has created them."""
    sandbox.salesforce.add_field("Account", "KPI_Revenue__c", "number")
    sandbox.salesforce.add_field("Account", "KPI_Win_Rate__c", "percent")
    sandbox.hubspot.add_field("companies", "kpi_revenue", "number")
    sandbox.hubspot.add_field("companies", "kpi_win_rate", "number")


def main() -> int:
    """Storms one after another; the exit code says whether any promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    broken = killed = faults = finished = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            storm = Storm(seed, arguments.kills, Path(folder))
            began = time.monotonic()
            found = storm.blow()
        killed, faults = killed + storm.killed, faults + storm.faults
        finished += storm.finished
        broken += bool(found)
        print(  # noqa: T201 - a program for the terminal
            f"seed {seed}: {storm.killed} killed, {storm.finished} finished, {storm.faults} faults,"
            f" {time.monotonic() - began:.0f} s: {'; '.join(found[:5]) or 'all promises kept'}",
            flush=True,
        )
    print(f"{killed} killed, {finished} finished, {faults} faults; {broken} storms broke a promise")  # noqa: T201
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
