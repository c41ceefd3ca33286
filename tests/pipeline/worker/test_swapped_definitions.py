"""A KPI that means something else now: old values stay in force until the new ones are whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from config.loader import load
from store import definitions
from store.engine import database_now, open_store, reading
from store.kpis import current_values, plain
from tests.fixtures.cli import clean_environment
from worker.pipeline import compute, pull_connection
from worker.results import RunResult, State
from worker.runtime import open_runtime

OLD, NEW = "0.5", "0.8"
MONTHS = [f"2026-{month:02}" for month in range(1, 13)]


class Company:
    """Costs of a year in dollars, and the rate of the dollar."""

    def __init__(self, folder: Path, database: str) -> None:
        self.file = folder / "kpisync.yaml"
        self.engine = open_store(database)
        self._database = database
        (folder / "books").mkdir()
        lines = [f"{number},{month}-05,10" for number, month in enumerate(MONTHS)]
        text = "\n".join(["id,date,Betrag,currency", *(f"{line},USD" for line in lines)])
        (folder / "books" / "costs.csv").write_text(text + "\n")

    def configure(self, rate: str) -> None:
        self.file.write_text(f"""\
version: 1
database: {self._database}
company: {{currency: EUR, timezone: Europe/Berlin, fx: {{table: {{USD: {rate}}}}}}}
connections:
  books:
    type: files
    folder: {self.file.parent / "books"}
    streams: {{costs: {{fields: {{amount: Betrag}}}}}}
kpis: {{use: [customer], periods: [month]}}
advanced: {{step_rows: 1}}
""")

    def compute(self, *, pull: bool = False) -> RunResult:
        with open_runtime(load(self.file, {})) as runtime:
            if pull:
                pull_connection(runtime, "books")
            return compute(runtime)

    def values(self) -> set[str]:
        """What a month of the published ones costs; more than one: a mixture."""
        with reading(self.engine) as conn:
            found = [one for one in current_values(conn, kpis=["cost"]) if one.period in MONTHS]
        assert len(found) % len(MONTHS) == 0, "a month is missing"
        return {str(plain(one.value)) for one in found}


@pytest.fixture
def company(tmp_path: Path, database_url: str) -> Iterator[Company]:
    made = Company(tmp_path, database_url)
    try:
        made.configure(OLD)
        assert made.compute(pull=True).state is State.OK
        assert made.values() == {"5"}
        made.configure(NEW)
        yield made
    finally:
        made.engine.dispose()


def test_a_kill_on_the_way_leaves_the_old_values_and_the_next_computation_swaps_them_all(
    company: Company,
) -> None:
    killed = subprocess.run(
        [Path(sys.executable).with_name("kpisync"), "--config", company.file, "compute"],
        env=clean_environment()
        | {"KPISYNC_TEST": "1", "KPISYNC_CRASH_AT": "compute.before_commit:1"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    after_the_kill = company.values()
    # Its lease is another process's until it runs out; a dead one's is taken over at once here.
    result = company.compute()

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert after_the_kill == {"5"}
    assert result.state is State.OK
    assert company.values() == {"8"}


def test_whoever_reads_meanwhile_sees_the_old_values_or_the_new_ones_but_no_mixture(
    company: Company,
) -> None:
    seen: list[set[str]] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.append(company.values())

    reader = threading.Thread(target=read)
    reader.start()
    company.compute()
    is_over.set()
    reader.join()
    seen.append(company.values())

    assert {"5"} in seen
    assert seen[-1] == {"8"}
    assert all(len(one) == 1 for one in seen), [one for one in seen if len(one) > 1][:1]


def test_all_values_of_the_new_definition_begin_at_one_instant_which_the_journal_names(
    company: Company,
) -> None:
    company.compute()

    with reading(company.engine) as conn:
        begins = {one.as_of for one in current_values(conn, kpis=["cost"])}
        noted = definitions.since(conn, definitions.RATES, database_now(conn) - timedelta(hours=1))

    assert begins == {noted[-1].since}
    assert len(noted) == 2
    assert NEW in noted[-1].text
