"""Six hours without the CRM: looked at all the while, caught up afterwards, by nobody's hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Column

from store import outbox
from store.engine import operating, reading
from store.tables import METADATA, UtcDateTime
from tests.fixtures.sandboxes import Sandbox, start_sandbox
from tests.pipeline.worker.site import Site
from worker import status
from worker.passes import perform
from worker.runtime import Runtime
from worker.schedule import due

QUARTER = timedelta(minutes=15)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "answer",
    [{"kind": "status", "status": 503}, {"kind": "disconnect"}],
    ids=["503", "no connection"],
)
def test_six_hours_of_crm_outage_are_caught_up_without_a_person(
    tmp_path: Path, postgres_database: str, answer: dict[str, object]
) -> None:
    with start_sandbox(*("--seed", "3", "--size", "40", "--today", "2026-06-30")) as sandbox:
        site = Site(tmp_path, sandbox, postgres_database, every="5m").with_fields()
        site = site.but(advanced="retry_wait: 1s, retry_attempts: 1, lookback: 1s, index_lag: 1s")
        assert site.full_pass().exit_code == 0
        account = _sell(sandbox, 1111)
        attempts = 0

        with site.runtime() as runtime:
            _pass_time(runtime, postgres_database, QUARTER)
            for name in ("streams", "write-back"):
                # At first the CRM still takes reads: what is computed then cannot be written.
                _go_down(sandbox, answer, "" if name == "write-back" else "composite")
                attempts += _work(runtime)
                _pass_time(runtime, postgres_database, QUARTER)
            for _ in range(24):
                attempts += _work(runtime)
                found = status.gather(runtime)
                _pass_time(runtime, postgres_database, QUARTER)
            assert found.has_failed
            assert any(stream.state in {"failed", "late"} for stream in found.streams)
            later = _sell(sandbox, 2222)
            for crm in (sandbox.salesforce, sandbox.hubspot):
                crm.clear_faults()

            for _ in range(4):
                _work(runtime)
                _pass_time(runtime, postgres_database, timedelta(minutes=5))

            assert attempts > 24
            assert _revenue(sandbox, account) == 1111
            assert _revenue(sandbox, later) == 2222
            with reading(runtime.engine) as conn:
                counts = outbox.counts(conn)
            assert not counts[outbox.PENDING]
            assert not counts[outbox.SENDING]
            assert not status.gather(runtime).has_failed
        assert site.redundant_writes() == []


def _work(runtime: Runtime) -> int:
    """Everything that is due, as worker and loop do it; how many steps."""
    done = 0
    while steps := due(runtime):
        for step in steps:
            perform(runtime, step)
            done += 1
        if done > 60:
            break
    return done


def _pass_time(runtime: Runtime, database: str, span: timedelta) -> None:
    """Let everything that is written down have happened so much earlier."""
    with operating(runtime.engine):
        pass
    with psycopg.connect(database, autocommit=True) as conn:
        for table in METADATA.sorted_tables:
            columns: list[Column[object]] = [
                column for column in table.columns if isinstance(column.type, UtcDateTime)
            ]
            if columns and table.name != "kpi_values":
                moved = ", ".join(f"{one.name} = {one.name} - %(span)s" for one in columns)
                conn.execute(
                    f"UPDATE {table.name} SET {moved}",  # type: ignore[arg-type]  # noqa: S608 - our own names
                    {"span": span},
                )


def _go_down(sandbox: Sandbox, answer: dict[str, object], path: str) -> None:
    for crm in (sandbox.salesforce, sandbox.hubspot):
        crm.clear_faults()
        crm.fault(**answer, times="forever", path=path)  # type: ignore[arg-type]  # a kind and its words


def _sell(sandbox: Sandbox, amount: int) -> str:
    account = sandbox.salesforce.create("Account", {"Name": f"Account of {amount}"})
    sandbox.salesforce.create(
        "Opportunity",
        {
            "Name": f"Deal of {amount}",
            "AccountId": account,
            "StageName": "Closed Won",
            "CloseDate": "2026-06-01",
            "Amount": amount,
        },
    )
    return account


def _revenue(sandbox: Sandbox, account: str) -> Decimal:
    held = sandbox.salesforce.record("Account", account)["fields"]
    assert isinstance(held, dict)
    return Decimal(str(held["KPI_Revenue__c"]))
