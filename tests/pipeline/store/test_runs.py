"""The history of runs."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from store import runs
from store.engine import operating, reading, writing


def test_a_run_counts_and_ends(store: Engine) -> None:
    with operating(store) as conn:
        run = runs.start(conn, "pull", connection="salesforce", stream="deals")
    with writing(store) as conn:
        runs.add(conn, run, pulled=200, stored=150, unchanged=49, dead=1)
    with writing(store) as conn:
        runs.add(conn, run, pulled=10, stored=10)
        runs.add(conn, run)
    with operating(store) as conn:
        runs.finish(conn, run, "partly_failed", "one record was rejected", ["Größe unknown"])

    with reading(store) as conn:
        found = runs.get(conn, run)
    assert found is not None
    assert (found.pulled, found.stored, found.unchanged, found.dead) == (210, 160, 49, 1)
    assert found.pulled == found.stored + found.unchanged + found.dead
    assert (found.state, found.error) == ("partly_failed", "one record was rejected")
    assert found.warnings == ("Größe unknown",)
    assert found.ended is not None
    assert found.ended >= found.started


def test_runs_are_listed_latest_first_and_their_ids_sort_by_start(store: Engine) -> None:
    ids = []
    for _ in range(3):
        with operating(store) as conn:
            ids.append(runs.start(conn, "compute"))

    with reading(store) as conn:
        assert sorted(ids) == ids
        assert ids[::-1] == [run.run for run in runs.every(conn)]
        assert ids[:0:-1] == [run.run for run in runs.every(conn, limit=2)]
        assert runs.get(conn, "nobody") is None


def test_a_count_that_does_not_exist_is_refused(store: Engine) -> None:
    with operating(store) as conn, pytest.raises(KeyError):
        runs.add(conn, runs.start(conn, "compute"), nonsense=1)


def test_unfinished_runs_of_a_retaken_lease_are_interrupted_and_stay_so(store: Engine) -> None:
    with operating(store) as conn:
        dead = runs.start(conn, "pull", connection="salesforce", stream="deals")
        neighbour = runs.start(conn, "pull", connection="salesforce", stream="accounts")
        whole = runs.start(conn, "full")
        computing = runs.start(conn, "compute")
        writeback = runs.start(conn, "push", writeback="health")
    with operating(store) as conn:
        first = runs.interrupt_unfinished(conn, connection="salesforce", stream="deals")
        again = runs.interrupt_unfinished(conn, connection="salesforce", stream="deals")
        computed = runs.interrupt_unfinished(conn, kind="compute")
        runs.finish(conn, dead, "ok")

    assert (first, again, computed) == (1, 0, 1)
    with reading(store) as conn:
        states = {run.run: run.state for run in runs.every(conn)}
        interrupted = runs.get(conn, dead)
    assert {
        dead: "interrupted",
        computing: "interrupted",
        neighbour: "running",
        whole: "running",
        writeback: "running",
    } == states
    assert interrupted is not None
    assert interrupted.ended is not None
