"""What became of the values of a push, row by row, by what the CRM answered or holds now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, select

from connectors.base import LiveRecord, PushOutcome, PushResult
from metrics.plans import shown
from metrics.writeback import Change, WritebackSpec, equal_values
from store import deadletters, outbox
from store.canonical import FieldUpdate, Scalar
from store.deadletters import DeadLetter
from store.outbox import OutboxRow
from store.tables import RECORD_TABLES
from worker.planning import portions

EDITED: Final = "changed_since_plan"
ALREADY: Final = "already_equal"
GONE: Final = "gone"
NO_ANSWER: Final = "no_answer"
OF_THE_CRM: Final = frozenset({NO_ANSWER, "not_sent"})
"""Codes of values that were not refused: the CRM was away, or failed before it looked at them."""

_REST: Final = timedelta(days=1)
_REST_AFTER_OUTAGE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one row."""

    row: OutboxRow
    outcome: PushOutcome
    code: str | None = None
    message: str | None = None


def seen_now(
    live: Mapping[str, LiveRecord], row: OutboxRow, result: PushResult | None = None
) -> Answer:
    """What the CRM's present state says of a row of which no answer tells that it was written."""
    if row.record_id not in live:
        return Answer(row, PushOutcome.GONE)
    if holds_value(live, row):
        return Answer(row, PushOutcome.WRITTEN)
    code = (result and result.code) or NO_ANSWER
    said = (result and result.message) or "The CRM gave no answer."
    words = f"{said} Read back, the record does not hold the value."
    return Answer(row, PushOutcome.UNKNOWN, code, words)


def by_records(rows: Sequence[OutboxRow], size: int) -> Iterator[list[OutboxRow]]:
    """Rows in pieces of at most `size` whole records; rows of a record stand together."""
    records = [list(some) for _, some in groupby(rows, key=lambda row: row.record_id)]
    for piece in portions(records, size):
        yield [row for record in piece for row in record]


def is_of(letter: DeadLetter, spec: WritebackSpec) -> bool:
    """Whether a letter is about a record of this write-back's target."""
    place = (letter.direction, letter.connection, letter.stream)
    return place == (deadletters.PUSH, spec.connection, spec.letter_stream)


def rest_of(letter: DeadLetter) -> timedelta:
    """How long a record is left alone after its letter was written last.

    What the CRM refused is asked again once a day: a rule or an old fault of the record may be
    gone. After an outage the next pass goes on; a record at which the CRM fails for longer than a
    day is tried once an hour.
    """
    if letter.code.lower() not in OF_THE_CRM:
        return _REST
    is_lasting = letter.last_seen - letter.first_seen >= _REST
    return _REST_AFTER_OUTAGE if is_lasting else timedelta(0)


def was_edited_since(conn: Connection, letter: DeadLetter) -> bool:
    """Whether the record changed after the CRM refused us: the obstacle may have been in it."""
    table = RECORD_TABLES.get(letter.stream)
    if table is None:
        return False
    modified = conn.execute(
        select(table.c.modified_at).where(table.c.ref == letter.ref)
    ).scalar_one_or_none()
    return modified is not None and modified > letter.last_seen.timestamp() * 1_000_000


def as_people_write_it(rows: Sequence[OutboxRow]) -> tuple[str | None, str]:
    """The field at fault, where it is one, and what was refused."""
    values = {row.field: str(shown(outbox.decode(row.value))) for row in rows}
    if len(values) == 1:
        ((field, value),) = values.items()
        return field, value
    return None, ", ".join(f"{field}: {value}" for field, value in values.items())


def without(
    updates: Sequence[FieldUpdate], frozen: frozenset[tuple[str, str]], stamp: str | None
) -> list[FieldUpdate]:
    """Updates of fields that are not frozen; a stamp alone is not worth a write."""
    left = [one for one in updates if (one.record_id, one.field) not in frozen]
    written = {one.record_id for one in left if one.field != stamp}
    return [one for one in left if one.record_id in written]


def is_wanted(wanted: Mapping[tuple[str, str], Scalar], change: Change) -> bool:
    """Whether a planned value is still what should stand there."""
    place = (change.record, change.field)
    if place in wanted:
        return equal_values(wanted[place], change.new)
    # Nothing is published for it (any more): then it was planned as what an empty group is worth.
    return change.new is None or equal_values(change.new, 0)


def reason_to_drop(live: Mapping[str, LiveRecord], row: OutboxRow) -> str | None:
    """Why a row need not or must not be sent, by what its record holds just before the call."""
    record = live.get(row.record_id)
    if record is None:
        return GONE
    held = record.values.get(row.field)
    if same_value(held, outbox.decode(row.value)):
        return ALREADY
    return None if same_value(held, outbox.decode(row.old)) else EDITED


def same_value(one: Scalar, other: Scalar) -> bool:
    """Whether two values are one to a CRM, which keeps neither empty texts nor parts of seconds."""
    if one in {None, ""} or other in {None, ""}:
        return one in {None, ""} and other in {None, ""}
    if isinstance(one, datetime) and isinstance(other, datetime):
        return abs(one - other) < timedelta(seconds=1)
    return one == other


def holds_value(live: Mapping[str, LiveRecord], row: OutboxRow) -> bool:
    """Whether a record holds the value of a row now."""
    record = live.get(row.record_id)
    return record is not None and same_value(record.values.get(row.field), outbox.decode(row.value))
