"""Embedded and server mode: the installed command and real processes, from CRM to CRM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli, clean_environment
from tests.fixtures.sandboxes import Sandbox, start_sandbox
from tests.fixtures.servers import RedisServer, start_postgres

pytestmark = pytest.mark.timeout(300)

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES = YAML(typ="safe").load(COMPOSE.read_text(encoding="utf-8"))["services"]


@pytest.fixture
def company() -> Iterator[Sandbox]:
    with start_sandbox("--seed", "11", "--size", "120") as sandbox:
        yield sandbox


def test_a_first_push_waits_for_a_person_and_the_next_ones_do_not(
    kpisync: Cli, company: Sandbox
) -> None:
    kpisync.configure(two_crms(company, approve="first_time"))
    kpisync("setup", "--yes")

    kpisync("run", "--once")

    assert company.salesforce.journal() == fields_created_only(company.salesforce.journal())
    assert kpisync("status", "--json").json["writebacks"]["account_kpis"] == "waiting"
    kpisync("apply", "--yes")
    assert crm_values(company) == store_values(kpisync)
    assert sum(run["sent"] for run in kpisync("run", "--once", "--json").json["runs"]) == 0


def test_a_changed_deal_reaches_the_crm_fields_in_one_pass(kpisync: Cli, company: Sandbox) -> None:
    kpisync.configure(two_crms(company))
    kpisync("setup", "--yes")
    kpisync("run", "--once")
    account = company.salesforce.create("Account", {"Name": "Late Account"})
    company.salesforce.create(
        "Opportunity",
        {
            "Name": "Late deal",
            "AccountId": account,
            "StageName": "Closed Won",
            "CloseDate": "2026-02-03",
            "Amount": 1234,
        },
    )

    kpisync("run", "--once")

    assert Decimal(crm_values(company)[account]["KPI_Revenue__c"]) == 1234
    assert crm_values(company) == store_values(kpisync)
    assert kpisync("verify", "--json").json["ok"] is True


def test_server_mode_with_every_command_of_the_compose_file_does_the_same(
    kpisync: Cli, company: Sandbox
) -> None:
    with ExitStack() as stack:
        database = stack.enter_context(start_postgres())
        broker = stack.enter_context(composed_redis())
        kpisync.configure(two_crms(company, database=database.url, broker=broker.url))
        ready = SERVICES["db"]["healthcheck"]["test"][1].split()
        assert run_in(database.binaries, *ready, "--host", "127.0.0.1", port=database.port) == 0

        kpisync(*SERVICES["migrate"]["command"])
        kpisync("setup", "--yes")
        with ExitStack() as workers:
            for name in ("worker", "beat"):
                workers.enter_context(serving(kpisync, *SERVICES[name]["command"]))
            wait_until(lambda: crm_values(company) and store_values(kpisync) == crm_values(company))
            for name in ("worker", "beat"):
                kpisync(*health_check(name))

        kpisync(*health_check("worker"), expect_exit=1)
        assert kpisync("verify", "--json").json["ok"] is True
    redundant = [
        entry
        for crm in (company.salesforce, company.hubspot)
        for entry in crm.journal()
        if entry["redundant"]
    ]
    assert redundant == []


def health_check(service: str) -> list[str]:
    """The arguments of kpisync in a service's health check."""
    how, command, *arguments = SERVICES[service]["healthcheck"]["test"]
    assert (how, command) == ("CMD", "kpisync")
    return arguments


def run_in(binaries: Path, command: str, *arguments: str, port: int) -> int:
    return subprocess.run(
        [binaries / command, *arguments, "--port", str(port)], capture_output=True, check=False
    ).returncode


class ComposedRedis(RedisServer):
    """The broker as the compose file starts it, on a free port in a folder of its own."""

    def command(self) -> list[str]:
        binary, *_ = super().command()
        _, *arguments = SERVICES["redis"]["command"]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [binary, *arguments, *place]


@contextmanager
def composed_redis() -> Iterator[RedisServer]:
    server = ComposedRedis()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def store_values(kpisync: Cli) -> dict[str, dict[str, str]]:
    """Account id -> field -> value of the store, rounded as the fields are."""
    values: dict[str, dict[str, str]] = {}
    for row in kpisync("kpi", "values", "--by", "account", "--period", "all", "--json").json:
        connection, _, native = row["key"].partition(":")
        field = {
            ("salesforce", "win_rate"): "KPI_Win_Rate__c",
            ("salesforce", "revenue"): "KPI_Revenue__c",
            ("hubspot", "win_rate"): "kpi_win_rate",
            ("hubspot", "revenue"): "kpi_revenue",
        }.get((connection, row["kpi"]))
        if field and row["value"] is not None:
            value = Decimal(row["value"])
            if field == "KPI_Win_Rate__c":
                value *= 100
            places = Decimal("0.0001") if field == "kpi_win_rate" else Decimal("0.01")
            values.setdefault(native, {})[field] = normal(value.quantize(places, "ROUND_HALF_UP"))
    return values


def crm_values(company: Sandbox) -> dict[str, dict[str, str]]:
    """Account id -> field -> value that the CRM holds."""
    found: dict[str, dict[str, str]] = {}
    for crm, name in ((company.salesforce, "Account"), (company.hubspot, "companies")):
        for record in crm.snapshot()[name]:
            fields = {
                field: normal(Decimal(str(value)))
                for field, value in record["fields"].items()
                if field.lower().removesuffix("__c") in {"kpi_win_rate", "kpi_revenue"}
                and value not in (None, "")
            }
            if fields:
                found[record["id"]] = fields
    return found


def normal(value: Decimal) -> str:
    return format(value.normalize(), "f")


def fields_created_only(journal):
    return [entry for entry in journal if not str(entry["field"]).lower().startswith("kpi_")]


@contextmanager
def serving(kpisync: Cli, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    log = kpisync.folder / f"{arguments[-1]}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("kpisync"), *arguments],
            cwd=kpisync.folder,
            env=clean_environment() | kpisync.environment,
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process
            assert process.poll() is None, log.read_text()
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
                assert process.wait(35) == 0, log.read_text()


def wait_until(is_done: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline, "not done in time"
        time.sleep(1)
