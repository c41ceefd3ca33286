"""The smaller things that are remembered: seen references, approvals, heartbeats."""

from __future__ import annotations

import os

from sqlalchemy import Engine

from store import approvals, heartbeats, records, seen
from store.canonical import Company, Deal, RecordRef
from store.engine import operating, reading, writing


def ref(native_id: str, connection: str = "salesforce") -> RecordRef:
    return RecordRef(connection, "deals", native_id)


def test_live_records_that_a_full_pull_did_not_see_have_vanished(
    store: Engine, company: Company
) -> None:
    page = [Deal(ref=ref(name)) for name in ("A", "B", "C", "gone")]
    page += [Deal(ref=ref("A", "hubspot")), Deal(ref=ref("dead"), deleted=True)]
    with writing(store) as conn:
        records.apply(conn, records.stage(conn, page, [], company))
        seen.add(conn, "salesforce", "deals", [ref("gone")])

        seen.start(conn, "salesforce", "deals")
        seen.add(conn, "salesforce", "deals", [ref("A"), ref("B"), ref("A")])
        seen.add(conn, "salesforce", "deals", [ref("B"), ref("new")])
        seen.add(conn, "salesforce", "deals", [])
        seen.add(conn, "salesforce", "accounts", [ref("C")])

        assert [ref("C"), ref("gone")] == list(seen.vanished(conn, "salesforce", "deals"))
        assert seen.count(conn, "salesforce", "deals") == 3
        seen.clear(conn, "salesforce", "deals")
        assert seen.count(conn, "salesforce", "deals") == 0
        assert seen.count(conn, "salesforce", "accounts") == 1


def test_an_approval_is_of_one_definition(store: Engine) -> None:
    with operating(store) as conn:
        assert not approvals.is_approved(conn, "health", "one")
        approvals.approve(conn, "health", "one")
        assert approvals.is_approved(conn, "health", "one")
        assert not approvals.is_approved(conn, "health", "two")
        approvals.approve(conn, "health", "two")

    with reading(store) as conn:
        assert not approvals.is_approved(conn, "health", "one")
        assert not approvals.is_approved(conn, "other", "two")


def test_a_process_beats_and_says_goodbye(store: Engine) -> None:
    for _ in range(2):
        with operating(store) as conn:
            heartbeats.beat(conn, "worker")
            heartbeats.beat(conn, "beat")

    with reading(store) as conn:
        beat, worker = heartbeats.every(conn)
    assert ("beat", "worker", os.getpid()) == (beat.role, worker.role, worker.pid)
    assert worker.started_at < worker.seen_at
    assert 0 <= worker.silent_seconds < 5

    with operating(store) as conn:
        heartbeats.forget(conn, "worker")
        assert [one.role for one in heartbeats.every(conn)] == ["beat"]
        heartbeats.forget(conn, "beat")


def test_a_new_process_with_an_old_id_begins_a_new_life(store: Engine) -> None:
    with operating(store) as conn:
        heartbeats.beat(conn, "worker")
        (old,) = heartbeats.every(conn)
        heartbeats._begun.clear()  # as in a process that just started

        heartbeats.beat(conn, "worker")
        (new,) = heartbeats.every(conn)

    assert old.started_at < new.started_at
