"""Pushing: values into CRM fields through the outbox, with intent and read-back.

A row is marked ``sending`` and committed before its call; only its answer, or what the CRM is
seen to hold afterwards, settles it. Whoever finds ``sending`` rows of a dead process reads them
back before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import ceil
from typing import Final

from sqlalchemy import Connection

from connectors.base import LiveRecord, PushOutcome, PushResult
from metrics.rebuild import stale_families
from metrics.writeback import (
    KEPT,
    RESTORED,
    GuardVerdict,
    Plan,
    WritebackSpec,
)
from store import approvals, checkpoints, deadletters, holds, outbox, rewrites, targets
from store.canonical import FieldUpdate, RecordRef
from store.deadletters import DeadLetter
from store.engine import database_now, operating, reading
from store.outbox import FAILED, SENT, VOID, OutboxRow
from worker import crashpoints
from worker.answers import (
    ALREADY,
    EDITED,
    GONE,
    Answer,
    as_people_write_it,
    by_records,
    holds_value,
    is_of,
    is_wanted,
    reason_to_drop,
    rest_of,
    seen_now,
    was_edited_since,
    without,
)
from worker.planning import (
    DAY,
    TOTAL,
    field_names,
    fingerprint,
    guard_fingerprint,
    plan_writeback,
    push_batch,
)
from worker.pulling import recognise_org, stream_names
from worker.results import Kind, RunResult, State
from worker.running import Running, Subject, record_run
from worker.runtime import Runtime

MOST_ATTEMPTS: Final = 5
_SHRINK: Final = 4
"""Batches of records that were refused for now become smaller by this factor."""

_PATIENCE: Final = timedelta(seconds=30)

_ALL_ROWS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person has agreed to; nobody was asked for a push on schedule."""

    is_given: bool = False
    """The plan may be written."""
    accepts_guard: bool = False
    """Even though a guard finds the amounts unusual: the person has looked."""


NOBODY: Final = Consent()
PERSON: Final = Consent(is_given=True)


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
    consent = PERSON if approved else NOBODY
    return run_push(runtime, spec, lambda push: push.plan_and_write(consent), patience)


def apply_plan(
    runtime: Runtime,
    plan: Plan,
    *,
    is_fresh: bool = False,
    accepts_guard: bool = False,
    patience: timedelta = _PATIENCE,
) -> RunResult:
    """Write what a plan says and what still differs; a person has agreed to it.

    Args:
        runtime: What it works with.
        plan: What was agreed to.
        is_fresh: It was made just now: the KPI values behind it are not compared again.
        accepts_guard: The person has seen what the guard says, and agrees for this time.
        patience: How long to wait for another process that writes to the same connection.

    Raises:
        KeyError: The plan's write-back is not configured (any more).
        StoreUnavailable: The database is away; what was committed stays.
    """
    spec = runtime.writebacks[plan.writeback]
    consent = Consent(is_given=True, accepts_guard=accepts_guard)
    return run_push(
        runtime, spec, lambda push: push.write_plan(plan, consent, is_fresh=is_fresh), patience
    )


def run_push(
    runtime: Runtime,
    spec: WritebackSpec,
    body: Callable[[Push], State],
    patience: timedelta = _PATIENCE,
) -> RunResult:
    """Write under the leases of the write-back and of its org, as a run."""
    return record_run(
        runtime,
        Subject(kind=Kind.PUSH, connection=spec.connection, writeback=spec.name),
        lambda running: body(Push(running, spec)),
        # One writer per org as well: two write-backs would race for its quota and row locks.
        lease_names=(f"push:{spec.name}", f"push-org:{spec.connection}"),
        patience=patience,
    )


class Push:
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
        self._parked: dict[str, DeadLetter] = {}
        """Record id -> the letter about what the CRM refused there for good before."""

    # ------------------------------------------------------------ the whole

    def plan_and_write(self, consent: Consent) -> State:
        """Plan by what the CRM shows now, and write it if it may be written."""
        obstacle = self._obstacle(consent)
        if obstacle is not None:
            return obstacle
        self._resume()
        stop = self._hold(consent)
        if stop is not None:
            return stop
        return self._write(plan_writeback(self._runtime, self._spec.name), consent)

    def write_plan(self, plan: Plan, consent: Consent, *, is_fresh: bool) -> State:
        """Write a plan that was made earlier."""
        obstacle = self._obstacle(consent) or self._fault_of(plan)
        if obstacle is not None:
            return obstacle
        self._resume()
        if not is_fresh:
            plan = self._still_true(plan, plan_writeback(self._runtime, self._spec.name))
        return self._write(plan, consent)

    def write_revert(self, plan: Plan, reverted: str) -> State:
        """Put back what stood in fields before a run wrote them, and let nothing undo that."""
        obstacle = self._pause()
        if obstacle is not None:
            return obstacle
        recognise_org(self._runtime, self._spec.connection)
        self._resume()
        self._add(kept=sum(change.kind == KEPT for change in plan.changes))
        updates = plan.updates()
        if not updates:
            return State.OK
        reason = (
            f"run {reverted} was undone by a person; nothing is written on schedule until somebody "
            f"has looked: kpisync plan {self._spec.name}, then kpisync apply {self._spec.name}"
        )
        with operating(self._engine) as conn:
            self._running.guard(conn)
            self._set_hold(conn, holds.REVERT, reason)
            self._queue(conn, updates, plan.as_of, is_exact=True)
        return self._send_all()

    def _fault_of(self, plan: Plan) -> State | None:
        """Whether a plan from a file cannot be written at all (any more)."""
        strangers = plan.strangers(self._spec)
        if strangers:
            self._running.error = (
                f"this plan was made for another definition of the write-back (it names "
                f"{', '.join(strangers)}); nothing was written: make a new one with `kpisync plan`"
            )
            return State.REFUSED
        with reading(self._engine) as conn:
            age = database_now(conn) - (plan.made_at or database_now(conn))
        if age > DAY:
            self._running.error = (
                f"this plan was made {plan.made_at:%Y-%m-%d %H:%M} UTC, and plans are valid for a "
                "day; nothing was written: make a new one with `kpisync plan`"
            )
            return State.REFUSED
        return None

    def _still_true(self, plan: Plan, now: Plan) -> Plan:
        """The plan without values that have moved since, judged by today's guard."""
        stamp = self._spec.stamp
        moved = {
            (change.record, change.field)
            for change in plan.changes
            if change.field != stamp and change.kind != KEPT and not is_wanted(now.wanted, change)
        }
        left = [change for change in plan.changes if (change.record, change.field) not in moved]
        written = {change.record for change in left if change.field != stamp}
        kept = tuple(c for c in left if c.field != stamp or c.record in written)
        if moved:
            self._running.warn(
                f"{len(moved):,} planned values are void, for the KPI has moved since the plan was "
                "made; the next plan has the new ones"
            )
            self._add(skipped=len(moved))
        return replace(plan, changes=kept, guard=now.guard, counts=now.counts, edits=now.edits)

    def _write(self, plan: Plan, consent: Consent) -> State:
        self._add(kept=sum(change.kind == KEPT for change in plan.changes))
        self._add(minimum_calls=1 + ceil(plan.matched / self._batch))
        frozen = self._note_edits(plan)
        if not plan.guard.ok and not (consent.accepts_guard and plan.guard.may_accept):
            return self._refuse(plan.guard)
        updates = self._without_parked(without(plan.updates(), frozen, self._spec.stamp))
        if consent.is_given:
            self._release()
            self._approve()
        if not updates:
            self._void_leftovers()
            self._mark(plan)
            return State.OK
        if not self._may_write(consent):
            count = len(updates)
            self._running.warn(
                f"{count:,} values wait for a person's yes: look with `kpisync plan "
                f"{self._spec.name}`, write with `kpisync apply`"
            )
            return State.WAITING
        self._enqueue(updates, plan.as_of)
        state = self._send_all()
        if state in {State.OK, State.PARTLY_FAILED}:
            self._mark(plan)
        return state

    # ------------------------------------------------------------ standing still

    def _hold(self, consent: Consent) -> State | None:
        """Whether the write-back stands still until a person has looked."""
        with reading(self._engine) as conn:
            held = holds.held(conn, self._spec.name)
        if held is None or consent.is_given:
            return None
        is_revert = held.kind == holds.REVERT
        if not is_revert and held.fingerprint != guard_fingerprint(self._runtime, self._spec):
            # Whoever changed the definition or the limits has looked.
            self._release()
            return None
        since = held.held_at.astimezone(UTC)
        if is_revert:
            self._running.warn(f"held since {since:%Y-%m-%d %H:%M} UTC: {held.reason}")
            return State.WAITING
        self._running.error = (
            f"held since {since:%Y-%m-%d %H:%M} UTC, nothing was written: {held.reason} Look with "
            f"`kpisync plan {self._spec.name}`; `kpisync apply {self._spec.name}` lets it go on"
        )
        return State.REFUSED

    def _refuse(self, verdict: GuardVerdict) -> State:
        reason = f"a guard stopped this write-back and nothing was written: {verdict.reason}"
        if verdict.may_accept:
            reason += (
                " Once a person has looked: `kpisync apply "
                f"{self._spec.name} --accept-guard` writes it all the same."
            )
        self._running.error = reason
        with operating(self._engine) as conn:
            self._running.guard(conn)
            outbox.void_pending(conn, self._spec.name)
            self._set_hold(conn, holds.GUARD, verdict.reason or reason)
        return State.REFUSED

    def _set_hold(self, conn: Connection, kind: str, reason: str) -> None:
        # A run of a write-back that is no longer configured can be undone, too.
        configured = self._runtime.writebacks.get(self._spec.name)
        mark = guard_fingerprint(self._runtime, configured) if configured else ""
        holds.hold(conn, self._spec.name, kind, reason, mark, self._running.run)

    def _release(self) -> None:
        with operating(self._engine) as conn:
            self._running.guard(conn)
            holds.release(conn, self._spec.name)

    def _mark(self, plan: Plan) -> None:
        """Remember what stood behind the values: the next pass is measured by it."""
        with operating(self._engine) as conn:
            self._running.guard(conn)
            holds.set_mark(conn, self._spec.name, self._running.run, plan.counts)

    def _note_edits(self, plan: Plan) -> frozenset[tuple[str, str]]:
        """Count fields that others rewrite; returns those that are left alone from now on."""
        edited = [
            rewrites.Replaced(edit.record, edit.field, outbox.encode(edit.held))
            for edit in plan.edits
            if edit.outcome in {RESTORED, KEPT}
        ]
        if not edited:
            return frozenset()
        spec = self._spec
        with operating(self._engine) as conn:
            self._running.guard(conn)
            frozen = rewrites.note(conn, spec.name, spec.connection, spec.object, edited)
        for one in frozen:
            self._running.warn(
                f"{one.object} {one.record_id}: others have rewritten {one.field} {one.times} "
                f"times (now {one.held}); it is left alone until `kpisync writebacks unfreeze "
                f"{spec.name}`: find the workflow or tool that changes it"
            )
        return frozenset((one.record_id, one.field) for one in frozen)

    # ------------------------------------------------------------ whether to write at all

    def _obstacle(self, consent: Consent) -> State | None:
        connection = self._spec.connection
        with reading(self._engine) as conn:
            unread = self._unread_streams(conn)
            is_stale = bool(stale_families(conn, self._runtime.catalog))
            now = database_now(conn)
        pause = self._pause()
        if pause is not None:
            return pause
        if unread:
            self._running.warn(
                f"nothing is written before everything was read once; still missing: "
                f"{', '.join(unread)} ({_pull_of(unread, connection)})"
            )
            return State.WAITING
        if is_stale:
            self._running.warn("nothing is written before the KPIs are computed (kpisync compute)")
            return State.WAITING
        quiet = self._spec.quiet
        local = now.astimezone(self._runtime.company.timezone)
        if quiet is not None and not consent.is_given and quiet.covers(local.time()):
            self._running.warn(f"nothing is written on schedule in the quiet hours ({quiet})")
            return State.WAITING
        recognise_org(self._runtime, connection)
        return None

    def _pause(self) -> State | None:
        connection = self._spec.connection
        with reading(self._engine) as conn:
            pause = checkpoints.paused(conn, connection, for_writing=True)
        if pause is None:
            return None
        until, reason = pause
        self._running.warn(f"{connection} is paused until {until:%Y-%m-%d %H:%M:%S} UTC: {reason}")
        return State.PAUSED

    def _unread_streams(self, conn: Connection) -> list[str]:
        """Streams whose first pull has not ended: KPIs over half of the deals are wrong numbers."""
        return [
            stream if connection == self._spec.connection else f"{connection}.{stream}"
            for connection in self._sources()
            for stream in stream_names(self._runtime, connection)
            if checkpoints.load(conn, connection, stream).complete_until is None
        ]

    def _sources(self) -> tuple[str, ...]:
        """The connections whose records are counted in the values that are written."""
        own = self._spec.connection
        identity = self._runtime.config.identity
        parts = (identity.accounts, identity.contacts, identity.deals, identity.owners)
        is_shared = any(part.match for part in parts)
        has_totals = any(self._spec.dimension_of(plan) == TOTAL for plan in self._spec.fields)
        if not is_shared and not has_totals:
            return (own,)
        return (own, *(name for name in self._runtime.config.connections if name != own))

    def _approve(self) -> None:
        """Remember a person's yes, for the passes to come even where nothing differs now."""
        mark = fingerprint(self._runtime, self._spec)
        with operating(self._engine) as conn:
            approvals.approve(conn, self._spec.name, mark)

    def _may_write(self, consent: Consent) -> bool:
        rule = self._runtime.config.writebacks[self._spec.name].approve
        if consent.is_given or rule == "never":
            return True
        mark = fingerprint(self._runtime, self._spec)
        with reading(self._engine) as conn:
            return rule == "first_time" and approvals.is_approved(conn, self._spec.name, mark)

    def _without_parked(self, updates: Sequence[FieldUpdate]) -> list[FieldUpdate]:
        """Leave out values that the CRM has refused for good before."""
        with reading(self._engine) as conn:
            now = database_now(conn)
            letters = [one for one in deadletters.every(conn) if is_of(one, self._spec)]
            self._parked = {self._native_id(letter): letter for letter in letters}
            refused = outbox.refused_values(conn, self._spec.name) if letters else {}
            resting = {
                self._native_id(letter)
                for letter in letters
                if letter.last_seen > now - rest_of(letter) and not was_edited_since(conn, letter)
            }
        # A record in which anything is new is tried again as a whole.
        fresh = {
            update.record_id
            for update in updates
            if update.field != self._spec.stamp
            and (
                update.record_id not in resting
                or refused.get(update.record_id, {}).get(update.field)
                != outbox.encode(update.value)
            )
        }
        wanted = [update for update in updates if update.record_id in fresh]
        left_out = len(updates) - len(wanted)
        if left_out:
            self._running.warn(
                f"{left_out:,} values that the CRM refused before are not sent again; "
                "see `kpisync deadletters list`"
            )
        return wanted

    def _native_id(self, letter: DeadLetter) -> str:
        return letter.ref.removeprefix(f"{self._spec.connection}:")

    # ------------------------------------------------------------ after a crash

    def _resume(self) -> None:
        """Settle what a dead process was sending by what the CRM holds now."""
        with reading(self._engine) as conn:
            rows = outbox.sending(conn, self._spec.name)
        for some in by_records(rows, self._batch):
            live = self._live(some)
            arrived = [row.id for row in some if holds_value(live, row)]
            gone = [row.id for row in some if row.record_id not in live]
            settled = {*arrived, *gone}
            with operating(self._engine) as conn:
                self._running.guard(conn)
                outbox.settle(conn, arrived, SENT, code="read_back")
                outbox.settle(conn, gone, VOID, code=GONE)
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
            self._queue(conn, updates, as_of)

    def _queue(
        self,
        conn: Connection,
        updates: Sequence[FieldUpdate],
        as_of: datetime | None,
        *,
        is_exact: bool = False,
    ) -> None:
        name = self._spec.name
        outbox.void_pending(conn, name)
        when = as_of or database_now(conn)
        outbox.enqueue(conn, name, self._running.run, updates, as_of=when, is_exact=is_exact)

    # ------------------------------------------------------------ sending

    def _send_all(self) -> State:
        rows = self._rows_in_order()
        label = f"{self._spec.name}: writing {self._spec.object}"
        self._runtime.progress.start(label, len(rows))
        try:
            canary, rest = self._split_canary(rows)
            again = self._send(canary, self._batch, label)
            if not self._is_canary_well():
                return State.REFUSED
            again += self._send(rest, self._lot(rest), label)
            self._send_again(again, label)
        finally:
            self._runtime.progress.finish(label)
        if self._runtime.is_stopping and self._is_anything_left():
            self._running.error = "stopped on request before the end; the next push goes on"
            return State.INTERRUPTED
        return self._outcome()

    def _rows_in_order(self) -> list[OutboxRow]:
        """What waits, records of one parent beside each other: their writes lock its row."""
        stream = self._spec.stream
        with reading(self._engine) as conn:
            rows = outbox.pending_records(conn, self._spec.name, _ALL_ROWS)
            parents = targets.parents(conn, stream, self._spec.connection) if stream else {}
        return sorted(rows, key=lambda row: (parents.get(row.record_id, ""), row.record_id))

    def _lot(self, rows: Sequence[OutboxRow]) -> int:
        """Records to hand over in one piece: a batch, or enough for a job of the CRM."""
        can = self._connector.capabilities
        records = len({row.record_id for row in rows})
        is_tuned = self._runtime.config.advanced.push_batch is not None
        if can.push_bulk_from is None or is_tuned or records < can.push_bulk_from:
            return self._batch
        return can.push_bulk_batch or records

    def _is_anything_left(self) -> bool:
        with reading(self._engine) as conn:
            return bool(outbox.pending_records(conn, self._spec.name, 1))

    def _split_canary(
        self, rows: Sequence[OutboxRow]
    ) -> tuple[Sequence[OutboxRow], Sequence[OutboxRow]]:
        size = self._runtime.config.advanced.canary
        records = list(by_records(rows, size)) if size else [()]
        first = records[0] if records else ()
        return first, rows[len(first) :]

    def _send(self, rows: Sequence[OutboxRow], batch: int, label: str) -> list[OutboxRow]:
        """Send rows in batches; returns those to be sent again."""
        again: list[OutboxRow] = []
        for some in by_records(rows, batch):
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
        # Frozen since the rows were marked, we would write over what another process wrote.
        self._running.ensure_held()
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
        for row in dropped.get(EDITED, ()):
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
        verdicts = [(row, reason_to_drop(live, row)) for row in rows if row.field != stamp]
        # A stamp tells of the values beside it: it goes where they go.
        is_written = any(reason is None for _, reason in verdicts)
        is_gone = rows[0].record_id not in live
        reason_of_stamp = None if is_written else GONE if is_gone else ALREADY
        return [
            *verdicts,
            *((row, reason_of_stamp) for row in rows if row.field == stamp),
        ]

    def _answers(self, rows: Sequence[OutboxRow], results: Sequence[PushResult]) -> list[Answer]:
        """One answer for each row; silence is read back before it counts as anything."""
        by_place = {(result.update.record_id, result.update.field): result for result in results}
        answers: list[Answer] = []
        silent: list[tuple[OutboxRow, PushResult | None]] = []
        for row in rows:
            result = by_place.get((row.record_id, row.field))
            if result is None or result.outcome is PushOutcome.UNKNOWN:
                silent.append((row, result))
            else:
                answers.append(Answer(row, result.outcome, result.code, result.message))
        if silent:
            live = self._live(row for row, _ in silent)
            answers += [seen_now(live, row, result) for row, result in silent]
        return answers

    def _settle(self, conn: Connection, answers: Sequence[Answer]) -> list[OutboxRow]:
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
        outbox.settle(conn, [row.id for row in gone], VOID, code=GONE)
        outbox.back_to_pending(conn, [answer.row.id for answer in again])
        self._park(conn, failed)
        for record_id in {row.record_id for row in written} & self._parked.keys():
            deadletters.unpark(conn, self._ref(record_id))
        self._running.add(conn, sent=len(written), failed=len(failed), skipped=len(gone))
        self._sent += written
        self._doubtful |= {a.row.id for a in again if a.outcome is PushOutcome.UNKNOWN}
        return [replace(answer.row, attempts=answer.row.attempts + 1) for answer in again]

    def _is_worth_another_try(self, answer: Answer) -> bool:
        if answer.outcome is PushOutcome.UNKNOWN:
            # One identical resend; a second silence is for a person to look at.
            return answer.row.id not in self._doubtful
        return answer.outcome is PushOutcome.RETRY and answer.row.attempts + 1 < MOST_ATTEMPTS

    def _park(self, conn: Connection, failed: Sequence[Answer]) -> None:
        """One dead letter a record, in the CRM's words, with what it refused there."""
        by_record = sorted(failed, key=lambda answer: (answer.row.record_id, answer.row.field))
        for record_id, some in groupby(by_record, key=lambda answer: answer.row.record_id):
            answers = list(some)
            for answer in answers:
                outbox.settle(conn, [answer.row.id], FAILED, code=answer.code, error=answer.message)
            ref = self._ref(record_id)
            attempts = max(answer.row.attempts for answer in answers) + 1
            told = [answer.row for answer in answers if answer.row.field != self._spec.stamp]
            field, raw = as_people_write_it(told or [answer.row for answer in answers])
            before = self._parked.get(record_id)
            if before is not None and before.field != field:
                # A record stands there once, with its latest reason.
                deadletters.unpark(conn, ref)
                attempts += before.attempts
            code = answers[0].code or answers[0].outcome.value
            reason = answers[0].message or "the CRM gave no reason"
            deadletters.park(conn, ref, field, reason, code, raw, attempts=attempts)

    # ------------------------------------------------------------ the canary

    def _is_canary_well(self) -> bool:
        """Read back what was sent first; when the CRM holds something else, the rest stays here."""
        if not self._sent:
            return True
        live = self._live(self._sent)
        strange = [
            row
            for row in self._sent
            if row.field != self._spec.stamp
            and row.record_id in live
            and not holds_value(live, row)
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
        with operating(self._engine) as conn:
            self._running.guard(conn)
            outbox.void_pending(conn, self._spec.name)
            self._set_hold(conn, holds.CANARY, self._running.error)
        return False

    # ------------------------------------------------------------ small things

    def _outcome(self) -> State:
        failed = self._running.counts["failed"]
        if not failed:
            return State.OK
        self._running.error = (
            f"the CRM did not take {failed:,} values; see them with `kpisync deadletters list`"
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
        return RecordRef(self._spec.connection, self._spec.letter_stream, record_id)


def _pull_of(unread: Sequence[str], connection: str) -> str:
    """The command that reads these streams; one without another connection's name is of this."""
    behind = {name.rpartition(".")[0] or connection for name in unread}
    return f"kpisync pull {behind.pop()}" if len(behind) == 1 else "kpisync pull"
