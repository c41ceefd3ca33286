"""Pushing: values into CRM fields through the outbox, with intent and read-back.

A row is marked ``sending`` and committed before its call; only its answer, or what the CRM is
seen to hold afterwards, settles it. Whoever finds ``sending`` rows of a dead process reads them
back before anything is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil
from typing import Final

from sqlalchemy import Connection, select

from connectors.base import LiveRecord, PushOutcome, PushResult
from metrics.rebuild import stale_families
from metrics.writeback import KEPT, Plan, WritebackSpec
from store import approvals, checkpoints, deadletters, outbox
from store.canonical import FieldUpdate, RecordRef, Scalar
from store.deadletters import DeadLetter
from store.engine import database_now, operating, reading
from store.outbox import FAILED, SENT, VOID, OutboxRow
from store.tables import RECORD_TABLES
from worker import crashpoints
from worker.planning import DAY, field_names, fingerprint, plan_writeback, portions, push_batch
from worker.pulling import recognise_org, stream_names
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

MOST_ATTEMPTS: Final = 5
_SHRINK: Final = 4
"""Batches of records that were refused for now become smaller by this factor."""

_PATIENCE: Final = timedelta(seconds=30)

_ALL_ROWS: Final = 1_000_000_000

_EDITED: Final = "changed_since_plan"
_ALREADY: Final = "already_equal"
_GONE: Final = "gone"


def push_writeback(
    runtime: Runtime, name: str, *, approved: bool = False, patience: timedelta = _PATIENCE
) -> RunResult:
    """Bring the fields of one write-back up to the published values.

    Args:
        runtime: What it works with.
        name: A configured write-back.
        approved: A person has agreed to what will be written.
        patience: How long to wait for another process that writes to the same connection.

    Raises:
        StoreUnavailable: The database is away; what was committed stays.
    """
    spec = runtime.writebacks[name]
    return _run(runtime, spec, lambda push: push.plan_and_write(is_approved=approved), patience)


def apply_plan(runtime: Runtime, plan: Plan, *, patience: timedelta = _PATIENCE) -> RunResult:
    """Write what a plan says and what still differs; a person has agreed to it.

    Raises:
        KeyError: The plan's write-back is not configured (any more).
        StoreUnavailable: The database is away; what was committed stays.
    """
    spec = runtime.writebacks[plan.writeback]
    return _run(runtime, spec, lambda push: push.write_plan(plan, is_approved=True), patience)


def _run(
    runtime: Runtime,
    spec: WritebackSpec,
    body: Callable[[_Push], State],
    patience: timedelta,
) -> RunResult:
    return record_run(
        runtime,
        Subject(kind=Kind.PUSH, connection=spec.connection, writeback=spec.name),
        lambda running: body(_Push(running, spec)),
        # One writer per org as well: two write-backs would race for its quota and row locks.
        lease_names=(f"push:{spec.name}", f"push-org:{spec.connection}"),
        patience=patience,
    )


class _Push:
    """One push of one write-back."""

    def __init__(self, running: Running, spec: WritebackSpec) -> None:
        self._running = running
        self._runtime = running.runtime
        self._engine = running.runtime.engine
        self._spec = spec
        self._connector = self._runtime.connector(spec.connection)
        self._target = self._runtime.target(spec.connection)
        self._names = field_names(spec)
        self._batch = push_batch(self._runtime, spec)
        self._sent: list[OutboxRow] = []
        self._doubtful: set[int] = set()
        """Rows that were sent again because no answer came; a second silence is enough."""
        self._parked: dict[str, dict[str, str]] = {}
        """Record id -> the values, by field, that the CRM refused for good before."""

    # ------------------------------------------------------------ the whole

    def plan_and_write(self, *, is_approved: bool) -> State:
        """Plan by what the CRM shows now, and write it if it may be written."""
        obstacle = self._obstacle()
        if obstacle is not None:
            return obstacle
        self._resume()
        plan = plan_writeback(self._runtime, self._spec.name)
        return self._write(plan, is_approved=is_approved)

    def write_plan(self, plan: Plan, *, is_approved: bool) -> State:
        """Write a plan that was made earlier."""
        obstacle = self._obstacle()
        if obstacle is not None:
            return obstacle
        strangers = plan.strangers(self._spec)
        if strangers:
            self._running.error = (
                f"this plan was made for another definition of the write-back (it names "
                f"{', '.join(strangers)}); nothing was written: make a new one with `kpisync plan`"
            )
            return State.REFUSED
        self._resume()
        return self._write(plan, is_approved=is_approved)

    def _write(self, plan: Plan, *, is_approved: bool) -> State:
        self._add(kept=sum(change.kind == KEPT for change in plan.changes))
        self._add(minimum_calls=1 + ceil(plan.matched / self._batch))
        updates = self._without_parked(plan.updates())
        if not plan.guard.ok:
            self._running.error = (
                f"a guard stopped this write-back and nothing was written: {plan.guard.reason}"
            )
            return State.REFUSED
        if not updates:
            self._void_leftovers()
            return State.OK
        if not self._may_write(is_approved=is_approved):
            count = len(updates)
            self._running.warn(
                f"{count:,} values wait for a person's yes: look with `kpisync plan "
                f"{self._spec.name}`, write with `kpisync apply`"
            )
            return State.WAITING
        self._enqueue(updates, plan.as_of)
        return self._send_all()

    # ------------------------------------------------------------ whether to write at all

    def _obstacle(self) -> State | None:
        connection = self._spec.connection
        with reading(self._engine) as conn:
            pause = checkpoints.paused(conn, connection, for_writing=True)
            unread = self._unread_streams(conn)
            is_stale = bool(stale_families(conn, self._runtime.catalog))
        if pause is not None:
            until, reason = pause
            self._running.warn(
                f"{connection} is paused until {until:%Y-%m-%d %H:%M:%S} UTC: {reason}"
            )
            return State.PAUSED
        if unread:
            self._running.warn(
                f"nothing is written before everything was read once; still missing: "
                f"{', '.join(unread)} (kpisync pull {connection})"
            )
            return State.WAITING
        if is_stale:
            self._running.warn("nothing is written before the KPIs are computed (kpisync compute)")
            return State.WAITING
        recognise_org(self._runtime, connection)
        return None

    def _unread_streams(self, conn: Connection) -> list[str]:
        """Streams whose first pull has not ended: KPIs over half of the deals are wrong numbers."""
        connection = self._spec.connection
        return [
            stream
            for stream in stream_names(self._runtime, connection)
            if checkpoints.load(conn, connection, stream).complete_until is None
        ]

    def _may_write(self, *, is_approved: bool) -> bool:
        rule = self._runtime.config.writebacks[self._spec.name].approve
        mark = fingerprint(self._runtime, self._spec)
        if is_approved:
            with operating(self._engine) as conn:
                approvals.approve(conn, self._spec.name, mark)
            return True
        if rule == "never":
            return True
        with reading(self._engine) as conn:
            return rule == "first_time" and approvals.is_approved(conn, self._spec.name, mark)

    def _without_parked(self, updates: Sequence[FieldUpdate]) -> list[FieldUpdate]:
        """Leave out values that the CRM has refused for good before."""
        with reading(self._engine) as conn:
            # Once a day it is asked again: a rule or an old fault of the record may be gone.
            since = database_now(conn) - DAY
            recent = [letter for letter in deadletters.every(conn) if letter.last_seen > since]
            parked = [
                letter
                for letter in recent
                if _is_of(letter, self._spec) and not _was_edited_since(conn, letter)
            ]
        self._parked = _parked_values(parked, self._spec)
        # A record in which anything is new is tried again as a whole.
        fresh = {
            update.record_id
            for update in updates
            if update.field != self._spec.stamp
            and self._parked.get(update.record_id, {}).get(update.field)
            != outbox.encode(update.value)
        }
        wanted = [update for update in updates if update.record_id in fresh]
        left_out = len(updates) - len(wanted)
        if left_out:
            self._running.warn(
                f"{left_out:,} values that the CRM refused before are not sent again; "
                "see `kpisync deadletters list`"
            )
        return wanted

    # ------------------------------------------------------------ after a crash

    def _resume(self) -> None:
        """Settle what a dead process was sending by what the CRM holds now."""
        with reading(self._engine) as conn:
            rows = outbox.sending(conn, self._spec.name)
        for some in _by_records(rows, self._batch):
            live = self._live(some)
            arrived = [row.id for row in some if _holds(live, row)]
            gone = [row.id for row in some if row.record_id not in live]
            settled = {*arrived, *gone}
            with operating(self._engine) as conn:
                self._running.guard(conn)
                outbox.settle(conn, arrived, SENT, code="read_back")
                outbox.settle(conn, gone, VOID, code=_GONE)
                outbox.back_to_pending(conn, [row.id for row in some if row.id not in settled])
                self._running.add(conn, sent=len(arrived), skipped=len(gone))

    def _void_leftovers(self) -> None:
        """What an earlier push left waiting is either in the new plan or not wanted any more."""
        with operating(self._engine) as conn:
            self._running.guard(conn)
            outbox.void_pending(conn, self._spec.name)

    def _enqueue(self, updates: Sequence[FieldUpdate], as_of: datetime | None) -> None:
        with operating(self._engine) as conn:
            self._running.guard(conn)
            outbox.void_pending(conn, self._spec.name)
            when = as_of or database_now(conn)
            outbox.enqueue(conn, self._spec.name, self._running.run, updates, as_of=when)

    # ------------------------------------------------------------ sending

    def _send_all(self) -> State:
        with reading(self._engine) as conn:
            rows = outbox.pending_records(conn, self._spec.name, _ALL_ROWS)
        label = f"{self._spec.name}: writing {self._spec.object}"
        self._runtime.progress.start(label, len(rows))
        try:
            canary, rest = self._split_canary(rows)
            again = self._send(canary, self._batch, label)
            if not self._is_canary_well():
                return State.REFUSED
            again += self._send(rest, self._batch, label)
            self._send_again(again, label)
        finally:
            self._runtime.progress.finish(label)
        if self._runtime.is_stopping and self._is_anything_left():
            self._running.error = "stopped on request before the end; the next push goes on"
            return State.INTERRUPTED
        return self._outcome()

    def _is_anything_left(self) -> bool:
        with reading(self._engine) as conn:
            return bool(outbox.pending_records(conn, self._spec.name, 1))

    def _split_canary(
        self, rows: Sequence[OutboxRow]
    ) -> tuple[Sequence[OutboxRow], Sequence[OutboxRow]]:
        size = self._runtime.config.advanced.canary
        records = list(_by_records(rows, size)) if size else [()]
        first = records[0] if records else ()
        return first, rows[len(first) :]

    def _send(self, rows: Sequence[OutboxRow], batch: int, label: str) -> list[OutboxRow]:
        """Send rows in batches; returns those to be sent again."""
        again: list[OutboxRow] = []
        for some in _by_records(rows, batch):
            if self._runtime.is_stopping:
                break
            again += self._send_batch(some)
            self._runtime.progress.advance(label, len(some))
        return again

    def _send_again(self, rows: list[OutboxRow], label: str) -> None:
        batch = self._batch
        wait = self._runtime.config.advanced.retry_wait.total_seconds()
        longest = self._runtime.config.advanced.retry_wait_max.total_seconds()
        while rows and not self._runtime.is_stopping:
            self._runtime.progress.say(f"{self._spec.name}: {len(rows)} values are tried again")
            self._runtime.rest(min(wait, longest))
            wait *= 2
            batch = max(1, batch // _SHRINK)
            rows = self._send(rows, batch, label)

    def _send_batch(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """One call with everything around it; returns the rows to be sent again."""
        wanted = self._claim(rows)
        if not wanted:
            return []
        crashpoints.reach(crashpoints.OUTBOX_CLAIMED)
        crashpoints.reach(crashpoints.OUTBOX_BEFORE_CALL)
        results = self._connector.push([row.to_update() for row in wanted])
        crashpoints.reach(crashpoints.OUTBOX_AFTER_CALL)
        answers = self._answers(wanted, results)
        crashpoints.reach(crashpoints.OUTBOX_BEFORE_SETTLE)
        with operating(self._engine) as conn:
            self._running.guard(conn)
            again = self._settle(conn, answers)
            self._running.add(conn, minimum_calls=1)
        crashpoints.reach(crashpoints.OUTBOX_AFTER_SETTLE)
        return again

    def _claim(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Look at the records once more, drop what need not or must not be sent, mark the rest."""
        live = self._live(rows)
        wanted: list[OutboxRow] = []
        dropped: dict[str, list[OutboxRow]] = {}
        for _, of_record in groupby(rows, key=lambda row: row.record_id):
            verdicts = self._verdicts(live, list(of_record))
            for row, reason in verdicts:
                if reason is None:
                    wanted.append(row)
                else:
                    dropped.setdefault(reason, []).append(row)
        with operating(self._engine) as conn:
            self._running.guard(conn)
            for reason, some in dropped.items():
                outbox.settle(conn, [row.id for row in some], VOID, code=reason)
            outbox.mark_sending(conn, [row.id for row in wanted])
            self._running.add(conn, skipped=len(rows) - len(wanted))
        for row in dropped.get(_EDITED, ()):
            self._running.warn(
                f"{row.object} {row.record_id}: {row.field} was changed in the CRM after the "
                "plan was made; it is left alone until the next plan"
            )
        return wanted

    def _verdicts(
        self, live: Mapping[str, LiveRecord], rows: Sequence[OutboxRow]
    ) -> list[tuple[OutboxRow, str | None]]:
        """For each row of one record why it is not to be sent, or None."""
        stamp = self._spec.stamp
        verdicts = [(row, _reason_to_drop(live, row)) for row in rows if row.field != stamp]
        # A stamp tells of the values beside it: it goes where they go.
        is_written = any(reason is None for _, reason in verdicts)
        is_gone = rows[0].record_id not in live
        reason_of_stamp = None if is_written else _GONE if is_gone else _ALREADY
        return [
            *verdicts,
            *((row, reason_of_stamp) for row in rows if row.field == stamp),
        ]

    def _answers(self, rows: Sequence[OutboxRow], results: Sequence[PushResult]) -> list[_Answer]:
        """One answer for each row; silence is read back before it counts as anything."""
        by_place = {(result.update.record_id, result.update.field): result for result in results}
        answers: list[_Answer] = []
        silent: list[OutboxRow] = []
        for row in rows:
            result = by_place.get((row.record_id, row.field))
            if result is None or result.outcome is PushOutcome.UNKNOWN:
                silent.append(row)
            else:
                answers.append(_Answer(row, result.outcome, result.code, result.message))
        if silent:
            live = self._live(silent)
            answers += [_seen(live, row) for row in silent]
        return answers

    def _settle(self, conn: Connection, answers: Sequence[_Answer]) -> list[OutboxRow]:
        """Write down what became of each row; returns those to be sent again."""
        written = [answer.row for answer in answers if answer.outcome is PushOutcome.WRITTEN]
        gone = [answer.row for answer in answers if answer.outcome is PushOutcome.GONE]
        again = [answer for answer in answers if self._is_worth_another_try(answer)]
        failed = [
            answer
            for answer in answers
            if answer not in again and answer.outcome not in {PushOutcome.WRITTEN, PushOutcome.GONE}
        ]
        outbox.settle(conn, [row.id for row in written], SENT)
        outbox.settle(conn, [row.id for row in gone], VOID, code=_GONE)
        outbox.back_to_pending(conn, [answer.row.id for answer in again])
        self._park(conn, failed)
        for record_id in {row.record_id for row in written} & self._parked.keys():
            deadletters.unpark(conn, self._ref(record_id))
        self._running.add(conn, sent=len(written), failed=len(failed), skipped=len(gone))
        self._sent += written
        self._doubtful |= {a.row.id for a in again if a.outcome is PushOutcome.UNKNOWN}
        return [replace(answer.row, attempts=answer.row.attempts + 1) for answer in again]

    def _is_worth_another_try(self, answer: _Answer) -> bool:
        if answer.outcome is PushOutcome.UNKNOWN:
            # One identical resend; a second silence is for a person to look at.
            return answer.row.id not in self._doubtful
        return answer.outcome is PushOutcome.RETRY and answer.row.attempts + 1 < MOST_ATTEMPTS

    def _park(self, conn: Connection, failed: Sequence[_Answer]) -> None:
        """One dead letter a record, in the CRM's words, with every value it refused there."""
        for record_id, some in groupby(failed, key=lambda answer: answer.row.record_id):
            answers = list(some)
            for answer in answers:
                outbox.settle(conn, [answer.row.id], FAILED, code=answer.code, error=answer.message)
            refused = self._parked.get(record_id, {}) | {
                answer.row.field: answer.row.value for answer in answers
            }
            ref = self._ref(record_id)
            code = answers[0].code or answers[0].outcome.value
            reason = answers[0].message or "the CRM gave no reason"
            raw = json.dumps(refused, sort_keys=True)
            deadletters.park(conn, ref, None, reason, code, raw)
            self._parked[record_id] = refused

    # ------------------------------------------------------------ the canary

    def _is_canary_well(self) -> bool:
        """Read back what was sent first; when the CRM holds something else, the rest stays here."""
        if not self._sent:
            return True
        live = self._live(self._sent)
        strange = [
            row
            for row in self._sent
            if row.field != self._spec.stamp and row.record_id in live and not _holds(live, row)
        ]
        if not strange:
            return True
        first = strange[0]
        held = live[first.record_id].values.get(first.field)
        self._running.error = (
            f"{len(strange)} of the first {len(self._sent)} values were accepted but read back "
            f"differently ({first.object} {first.record_id}: {first.field} was written as "
            f"{outbox.decode(first.value)} and holds {held}); the rest was not written. Look for a "
            "workflow or another tool that changes this field."
        )
        self._void_leftovers()
        return False

    # ------------------------------------------------------------ small things

    def _outcome(self) -> State:
        failed = self._running.counts["failed"]
        if not failed:
            return State.OK
        self._running.error = (
            f"the CRM refused {failed:,} values; see them with `kpisync deadletters list`"
        )
        return State.PARTLY_FAILED if self._running.counts["sent"] else State.FAILED

    def _live(self, rows: Iterable[OutboxRow]) -> dict[str, LiveRecord]:
        """What these records hold now, by id; those that are gone or merged away are missing."""
        ids = sorted({row.record_id for row in rows})
        if not ids:
            return {}
        found = self._target.read(self._spec.object, ids, self._names)
        return {one.asked_id: one for one in found if one.record_id == one.asked_id}

    def _add(self, **counts: int) -> None:
        with operating(self._engine) as conn:
            self._running.add(conn, **counts)

    def _ref(self, record_id: str) -> RecordRef:
        return RecordRef(self._spec.connection, self._spec.stream, record_id)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one row."""

    row: OutboxRow
    outcome: PushOutcome
    code: str | None = None
    message: str | None = None


def _seen(live: Mapping[str, LiveRecord], row: OutboxRow) -> _Answer:
    """What the CRM's present state says of a row that got no answer."""
    if row.record_id not in live:
        return _Answer(row, PushOutcome.GONE)
    if _holds(live, row):
        return _Answer(row, PushOutcome.WRITTEN)
    return _Answer(
        row, PushOutcome.UNKNOWN, "no_answer", "the CRM gave no answer and does not hold the value"
    )


def _by_records(rows: Sequence[OutboxRow], size: int) -> Iterator[list[OutboxRow]]:
    """Rows in pieces of at most `size` whole records; rows of a record stand together."""
    records = [list(some) for _, some in groupby(rows, key=lambda row: row.record_id)]
    for piece in portions(records, size):
        yield [row for record in piece for row in record]


def _is_of(letter: DeadLetter, spec: WritebackSpec) -> bool:
    place = (letter.direction, letter.connection, letter.stream)
    return place == (deadletters.PUSH, spec.connection, spec.stream)


def _was_edited_since(conn: Connection, letter: DeadLetter) -> bool:
    """Whether the record changed after the CRM refused us: the obstacle may have been in it."""
    table = RECORD_TABLES[letter.stream]
    modified = conn.execute(
        select(table.c.modified_at).where(table.c.ref == letter.ref)
    ).scalar_one_or_none()
    return modified is not None and modified > letter.last_seen.timestamp() * 1_000_000


def _parked_values(letters: Iterable[DeadLetter], spec: WritebackSpec) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for letter in letters:
        record_id = letter.ref.removeprefix(f"{spec.connection}:")
        try:
            values = json.loads(letter.raw or "")
        except ValueError:
            # Cut because it was very long: then these values are tried once more each time.
            values = {}
        found[record_id] = values
    return found


def _reason_to_drop(live: Mapping[str, LiveRecord], row: OutboxRow) -> str | None:
    """Why a row need not or must not be sent, by what its record holds just before the call."""
    record = live.get(row.record_id)
    if record is None:
        return _GONE
    held = record.values.get(row.field)
    if same_value(held, outbox.decode(row.value)):
        return _ALREADY
    return None if same_value(held, outbox.decode(row.old)) else _EDITED


def same_value(one: Scalar, other: Scalar) -> bool:
    """Whether two values are one to a CRM, which keeps neither empty texts nor parts of seconds."""
    if one in {None, ""} or other in {None, ""}:
        return one in {None, ""} and other in {None, ""}
    if isinstance(one, datetime) and isinstance(other, datetime):
        return abs(one - other) < timedelta(seconds=1)
    return one == other


def _holds(live: Mapping[str, LiveRecord], row: OutboxRow) -> bool:
    record = live.get(row.record_id)
    return record is not None and same_value(record.values.get(row.field), outbox.decode(row.value))
