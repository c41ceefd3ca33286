"""A share of the values is verified each night; what differs is told until it agrees again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from config.loader import load
from config.models import AlertRule
from metrics.explain.counterexample import smallest
from metrics.verify import verified_together, verify
from store import record_history, runs
from store.engine import operating, reading
from store.history_tables import RECORD_HISTORY
from store.kpis import DirtyKey
from store.tables import CELLS, DIRTY_KEYS, KPI_VALUES, RUNS
from tests.fixtures.cli import Cli
from worker.alerting import EVERY_KIND, _troubles
from worker.passes import perform
from worker.pipeline import compute, pull_connection, verify_share
from worker.results import Kind, State
from worker.runtime import Runtime, open_runtime
from worker.schedule import Step, due
from worker.status import gather
from worker.verifying import share_of

YAML = """\
version: 1
company: {currency: EUR, timezone: Europe/Berlin}
connections:
  books:
    type: files
    folder: books
    every: 30d
    streams:
      costs: {fields: {amount: Betrag}}
kpis: {use: [customer], periods: [month]}
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "costs.csv").write_text(
        "id,date,Betrag\n1,2026-03-05,10.50\n2,2026-03-31,4\n3,2026-04-01,7\n"
    )
    (tmp_path / "kpisync.yaml").write_text(YAML)
    with open_runtime(load(tmp_path / "kpisync.yaml", {})) as made:
        pull_connection(made, "books")
        compute(made)
        yield made


def spoil(runtime: Runtime) -> None:
    """One value becomes wrong."""
    with operating(runtime.engine) as conn:
        conn.execute(
            update(KPI_VALUES)
            .where(KPI_VALUES.c.kpi == "cost", KPI_VALUES.c.period == "2026-04")
            .values(value=8)
        )


def time_passes(runtime: Runtime, by: timedelta = timedelta(days=1)) -> None:
    """Everything that ran, ran so much earlier."""
    with operating(runtime.engine) as conn:
        for run in runs.every(conn):
            conn.execute(update(RUNS).where(RUNS.c.run == run.run).values(started=run.started - by))


def test_cells_of_two_days_that_are_wrong_by_the_same_amount_are_found_though_the_month_is_right(
    runtime: Runtime,
) -> None:
    with operating(runtime.engine) as conn:
        of_total = (CELLS.c.family == "costs") & (CELLS.c.dimension == "all")
        days = conn.execute(select(CELLS.c.day).where(of_total).order_by(CELLS.c.day)).scalars()
        for day, cents in zip(list(days)[:2], (100, -100), strict=True):
            moved = {"m2": CELLS.c.m2 + cents}
            conn.execute(update(CELLS).where(of_total, CELLS.c.day == day).values(moved))

    with reading(runtime.engine) as conn:
        found = verify(conn, runtime.catalog, as_of=datetime.now(UTC))
        example = smallest(conn, runtime.catalog, found)

    of_cost = [one for one in found.differences if one.kpi.startswith("cost")]
    assert {(one.kpi, one.period) for one in of_cost} >= {
        ("cost (cells)", "2026-03-05"),
        ("cost (cells)", "2026-03-31"),
    }
    assert all(one.kpi.endswith("(cells)") for one in found.differences)
    assert example is not None
    assert [line.name for line in example.lines] == ["costs books:1"]


def test_every_kpi_has_its_night_and_the_date_alone_decides_which(runtime: Runtime) -> None:
    first = datetime(2026, 5, 4, 1, tzinfo=UTC)
    nights = [share_of(runtime, first + timedelta(days=day)) for day in range(7)]

    assert share_of(runtime, first) == nights[0] == share_of(runtime, first + timedelta(days=7))
    together = verified_together(runtime.catalog.kpis)
    assert sorted(map(str, together)) == sorted(str(group) for night in nights for group in night)
    assert sum(bool(night) for night in nights) > 1


def test_the_share_is_due_at_night_once_and_not_while_something_waits(runtime: Runtime) -> None:
    verifies = Step(Kind.VERIFY)
    assert verifies not in due(runtime)
    time_passes(runtime)
    assert verifies in due(runtime)
    with operating(runtime.engine) as conn:
        family = next(iter(runtime.catalog.families))
        conn.execute(insert(DIRTY_KEYS), DirtyKey(family, "all", "*", 1)._asdict())
    assert verifies not in due(runtime)
    assert verify_share(runtime).state is State.INTERRUPTED
    compute(runtime)
    # A share that was cut off, by whatever, is tried again the same night.
    assert verifies not in due(runtime)
    time_passes(runtime, timedelta(minutes=16))
    assert verifies in due(runtime)

    result = perform(runtime, verifies)

    assert result.state is State.OK
    assert verifies not in due(runtime)


def test_a_difference_is_told_with_its_smallest_case_until_it_agrees_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = verified_together(runtime.catalog.kpis)
    (costs,) = [group for group in together if any(kpi.name == "cost" for kpi in group)]
    others = next(group for group in together if group is not costs)
    spoil(runtime)

    def tonight(*groups: object) -> None:
        monkeypatch.setattr("worker.verifying.share_of", lambda *_: list(groups))

    tonight(costs)
    found = verify_share(runtime)
    status = gather(runtime)
    (trouble,) = _troubles(AlertRule(when="difference", to=()), status, {}, datetime.now(UTC))

    assert found.state is State.PARTLY_FAILED
    assert "the smallest: cost 2026-04 all=*" in (found.error or "")
    assert "from costs books:3" in (found.error or "")
    assert status.has_failed
    assert status.verified.differing == found.error == trouble.words
    assert "difference" in EVERY_KIND

    tonight(others)
    assert verify_share(runtime).state is State.PARTLY_FAILED
    compute(runtime, rebuild=True)
    assert verify_share(runtime).state is State.OK
    assert not gather(runtime).has_failed
    assert (
        json.loads(json.dumps(gather(runtime).to_json()["verified"], default=str))["differing"]
        is None
    )


def test_changes_of_long_ago_are_forgotten_once_a_day(runtime: Runtime) -> None:
    old = {"stream": "costs", "ref": "books:1", "at": 0, "kind": "edited", "former": "{}"}
    with operating(runtime.engine) as conn:
        conn.execute(insert(RECORD_HISTORY), old)

    perform(runtime, Step(Kind.COMPUTE))
    with operating(runtime.engine) as conn:
        assert record_history.changes(conn, ["costs"], datetime(1970, 1, 1, tzinfo=UTC)) == []
        conn.execute(insert(RECORD_HISTORY), old)
    perform(runtime, Step(Kind.COMPUTE))

    with reading(runtime.engine) as conn:
        since = record_history.known_since(conn)
        left = record_history.changes(conn, ["costs"], datetime(1969, 1, 1, tzinfo=UTC))
    assert since is not None
    assert timedelta(days=399) < datetime.now(UTC) - since < timedelta(days=401)
    assert len(left) == 1


def test_verify_ends_with_1_and_the_smallest_counterexample_and_its_records(
    runtime: Runtime, kpisync: Cli
) -> None:
    spoil(runtime)

    told = kpisync("verify", expect_exit=1)
    document = kpisync("verify", "--json", expect_exit=1).json
    status = kpisync("status", "--fail-on", "failed", expect_exit=5)

    assert "the smallest: cost 2026-04 all=*: stored 8" in told.out
    assert document["smallest"]["records"] == [
        {"record": "costs books:3", "numerator": "7", "denominator": None, "left_out": {}}
    ]
    assert "do not agree with the records" in status.out + status.err
