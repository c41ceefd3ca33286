"""The way of a value through the outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine

from store import outbox
from store.canonical import FieldUpdate, Scalar
from store.engine import operating, reading, writing
from store.outbox import OutboxRow

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


def update(
    record_id: str, field: str = "KPI__c", value: Scalar = Decimal("1.50"), old: Scalar = None
) -> FieldUpdate:
    return FieldUpdate("salesforce", "Account", record_id, field, value, old)


def enqueue(store: Engine, *updates: FieldUpdate, run: str = "r1", name: str = "health") -> int:
    with writing(store) as conn:
        return outbox.enqueue(conn, name, run, updates, AS_OF)


def rows(store: Engine, state: str | None = None) -> list[OutboxRow]:
    with reading(store) as conn:
        return [row for row in outbox.every(conn) if state in {None, row.state}]


def test_a_value_is_queued_sent_and_remembered(store: Engine) -> None:
    change = update("001A", value=Decimal("28.50"), old=Decimal(20))
    assert enqueue(store, change) == 1

    with operating(store) as conn:
        (row,) = outbox.pending_records(conn, "health", 10)
        outbox.mark_sending(conn, [row.id])
    with operating(store) as conn:
        assert [row.id] == [one.id for one in outbox.sending(conn, "health")]
        outbox.settle(conn, [row.id], "sent")

    (sent,) = rows(store)
    assert (sent.state, sent.attempts, sent.value, sent.old) == ("sent", 1, "28.5", "20")
    assert sent.sent_at is not None
    assert change == sent.to_update()
    with reading(store) as conn:
        assert outbox.last_pushed(conn, "salesforce", "Account") == {("001A", "KPI__c"): "28.5"}
        assert outbox.last_pushed(conn, "salesforce", "Contact") == {}


def test_a_newer_value_replaces_the_one_that_waits(store: Engine) -> None:
    enqueue(store, update("A", value=1), update("B", value=1))
    queued = enqueue(store, update("A", value=2), update("A", value=3), run="r2", name="other")

    assert queued == 1
    assert [(row.record_id, row.value, row.writeback) for row in rows(store, "pending")] == [
        ("A", "3", "other"),
        ("B", "1", "health"),
    ]


def test_a_field_that_is_being_sent_is_not_queued_beside(store: Engine) -> None:
    enqueue(store, update("A", value=1))
    with operating(store) as conn:
        outbox.mark_sending(conn, [row.id for row in outbox.pending_records(conn, "health", 1)])

    queued = enqueue(store, update("A", value=2), update("B", value=2), name="other")

    assert queued == 1
    assert [(row.record_id, row.value, row.state) for row in rows(store)] == [
        ("A", "1", "sending"),
        ("B", "2", "pending"),
    ]


def test_portions_hold_whole_records_in_order(store: Engine) -> None:
    enqueue(store, *(update(record_id, field) for record_id in "CAB" for field in ("y", "x")))

    with reading(store) as conn:
        portion = outbox.pending_records(conn, "health", 2)

    assert [(row.record_id, row.field) for row in portion] == [
        ("A", "x"),
        ("A", "y"),
        ("B", "x"),
        ("B", "y"),
    ]


def test_what_did_not_arrive_goes_back_and_only_that(store: Engine) -> None:
    enqueue(store, update("A"), update("B"))
    with operating(store) as conn:
        first, second = outbox.pending_records(conn, "health", 2)
        outbox.mark_sending(conn, [first.id, second.id])
        outbox.settle(conn, [first.id], "failed", "ROW_LOCKED", "the row was locked")
        outbox.back_to_pending(conn, [first.id, second.id])
        outbox.mark_sending(conn, [first.id])

    by_record = {row.record_id: row for row in rows(store)}
    assert (
        by_record["A"].state,
        by_record["A"].code,
        by_record["A"].error,
    ) == ("failed", "ROW_LOCKED", "the row was locked")
    assert (by_record["B"].state, by_record["B"].attempts) == ("pending", 1)
    with reading(store) as conn:
        assert outbox.last_pushed(conn, "salesforce", "Account") == {}
        assert outbox.counts(conn) == {"pending": 1, "sending": 0, "failed": 1}


def test_a_refused_value_counts_once_and_until_a_later_one_has_arrived(store: Engine) -> None:
    for run in ("r1", "r2"):
        enqueue(store, update("A"), update("B"), run=run)
        with operating(store) as conn:
            ids = [row.id for row in outbox.pending_records(conn, "health", 2)]
            outbox.mark_sending(conn, ids)
            outbox.settle(conn, ids, "failed", "RULE", "not this")
    enqueue(store, update("A"), run="r3")
    with operating(store) as conn:
        twice_refused = outbox.counts(conn)["failed"]
        (arrived,) = outbox.pending_records(conn, "health", 2)
        outbox.mark_sending(conn, [arrived.id])
        outbox.settle(conn, [arrived.id], "sent")
        after = outbox.counts(conn)["failed"]

    assert (twice_refused, after) == (2, 1)


def test_what_stood_there_before_our_first_write_is_kept(store: Engine) -> None:
    for run, value, old in (("r1", 1, "by hand"), ("r2", 2, 1), ("r3", None, 2)):
        enqueue(store, update("A", value=value, old=old), run=run)
        with operating(store) as conn:
            ids = [row.id for row in outbox.pending_records(conn, "health", 1)]
            outbox.mark_sending(conn, ids)
            outbox.settle(conn, ids, "sent")

    with reading(store) as conn:
        kept = conn.exec_driver_sql("SELECT value, before, run FROM pushed_values").all()
        assert [row.run for row in outbox.of_run(conn, "r3")] == ["r3"]
    assert kept == [("null", '"by hand"', "r3")]


def test_a_replaced_plan_voids_what_waits(store: Engine) -> None:
    enqueue(store, update("A"), update("B"))
    enqueue(store, update("C"), name="other")
    with operating(store) as conn:
        outbox.mark_sending(conn, [outbox.pending_records(conn, "health", 1)[0].id])

        assert outbox.void_pending(conn, "health") == 1

    assert [row.state for row in rows(store)] == ["sending", "void", "pending"]


def test_old_settled_rows_are_purged_and_open_ones_never(store: Engine) -> None:
    enqueue(store, update("A"), update("B"), update("C"), update("D"))
    with operating(store) as conn:
        a, b, c, _ = outbox.pending_records(conn, "health", 4)
        outbox.mark_sending(conn, [a.id, b.id, c.id])
        outbox.settle(conn, [a.id], "sent")
        outbox.settle(conn, [b.id], "failed")

        kept_for_long = outbox.purge(conn, timedelta(days=30_000))
        purged = outbox.purge(conn, timedelta(0))

    assert (kept_for_long, purged) == (0, 2)
    assert [row.state for row in rows(store)] == ["sending", "pending"]


def test_many_rows_settle_in_one_go(store: Engine) -> None:
    enqueue(store, *(update(f"{number:05d}") for number in range(1_500)))

    with operating(store) as conn:
        ids = [row.id for row in outbox.pending_records(conn, "health", 2_000)]
        outbox.mark_sending(conn, ids)
        outbox.settle(conn, ids, "sent")

    assert {"sent"} == {row.state for row in rows(store)}
    with reading(store) as conn:
        assert len(outbox.last_pushed(conn, "salesforce", "Account")) == 1_500
