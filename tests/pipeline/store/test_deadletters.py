"""Dead letters: each rejected record once, until it is cured."""

from __future__ import annotations

from sqlalchemy import Engine

from store import deadletters
from store.canonical import RecordRef, RejectedRecord
from store.deadletters import DeadLetter
from store.engine import operating, reading, writing


def rejected(native_id: str, field: str | None = "amount", code: str = "nan") -> RejectedRecord:
    return RejectedRecord(
        ref=RecordRef("salesforce", "deals", native_id),
        field=field,
        reason=f"{field} is wrong",
        code=code,
        raw="NaN\0" + "x" * 5_000,
    )


def letters(store: Engine) -> list[DeadLetter]:
    with reading(store) as conn:
        return deadletters.every(conn)


def test_a_record_rejected_again_stays_one_letter_with_more_attempts(store: Engine) -> None:
    for _ in range(3):
        with writing(store) as conn:
            deadletters.record_rejected(conn, [rejected("A"), rejected("B", None)])

    first, second = letters(store)

    assert (
        first.ref,
        first.field,
        first.direction,
        first.attempts,
    ) == ("salesforce:A", "amount", "pull", 3)
    assert (second.ref, second.field, second.attempts) == ("salesforce:B", None, 3)
    assert first.first_seen < first.last_seen
    assert first.raw is not None
    assert first.raw.startswith("NaN\ufffdxx")
    assert len(first.raw) <= 2_000


def test_another_fault_of_the_same_record_replaces_the_reason(store: Engine) -> None:
    with writing(store) as conn:
        deadletters.record_rejected(conn, [rejected("A", "amount", "nan")])
    with writing(store) as conn:
        deadletters.record_rejected(conn, [rejected("A", "close_date", "no_date")])

    (letter,) = letters(store)

    assert (letter.field, letter.code, letter.attempts) == ("close_date", "no_date", 2)


def test_a_record_rejected_twice_in_a_page_is_one_attempt(store: Engine) -> None:
    with writing(store) as conn:
        deadletters.record_rejected(conn, [rejected("A", "amount"), rejected("A", "stage")])

    assert [(letter.field, letter.attempts) for letter in letters(store)] == [("stage", 1)]


def test_a_record_that_maps_now_leaves(store: Engine) -> None:
    mapped = [RecordRef("salesforce", "deals", f"{number}") for number in range(1200)]
    with writing(store) as conn:
        assert deadletters.clear_mapped(conn, "salesforce", "deals", mapped) == 0
        deadletters.record_rejected(conn, [rejected("7"), rejected("1100"), rejected("sick")])
        deadletters.park(conn, mapped[7], "KPI__c", "locked", "LOCKED", "1")

        cleared = deadletters.clear_mapped(conn, "salesforce", "deals", mapped)

    assert cleared == 2
    assert [(letter.ref, letter.direction) for letter in letters(store)] == [
        ("salesforce:7", "push"),
        ("salesforce:sick", "pull"),
    ]


def test_a_refused_write_is_parked_by_field_and_leaves_when_written(store: Engine) -> None:
    account = RecordRef("salesforce", "accounts", "001")
    with operating(store) as conn:
        for _ in range(2):
            deadletters.park(conn, account, "KPI_A__c", "a rule forbids it", "VALIDATION", "12.5")
        deadletters.park(conn, account, "KPI_B__c", "no access", "FIELD", "1")
        assert deadletters.counts(conn) == {("push", "salesforce", "accounts"): 2}
        deadletters.unpark(conn, account, "KPI_B__c")

    (letter,) = letters(store)

    assert (letter.field, letter.attempts, letter.raw) == ("KPI_A__c", 2, "12.5")
    with operating(store) as conn:
        assert deadletters.drop(conn, [letter.id, 999]) == 1
    assert letters(store) == []


def test_many_rejected_records_are_noted_in_one_go(store: Engine) -> None:
    with writing(store) as conn:
        deadletters.record_rejected(conn, [rejected(f"{number}") for number in range(2000)])
        deadletters.record_rejected(conn, [])

    assert len(letters(store)) == 2000
