"""Write-back: which CRM fields would change, why, and whether that may happen.

Pure: published values, field descriptions and live records come in, a `Plan` comes out. Three
rules hold whatever comes in: a value that the field already holds is never in a plan, only the
fields that the write-back names are, and whatever looks wrong stops the whole write-back with a
sentence that says what it saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Final

from metrics.fitting import (
    CLEAR,
    KEEP,
    NUMERIC,
    RESTORE,
    STAMP,
    ZERO,
    Desired,
    FieldPlan,
    Guard,
    LiveLike,
    Match,
    Places,
    PublishedValue,
    Quiet,
    Range,
    TargetLike,
    Wanted,
    WritebackSpec,
    desired,
    rounded_for,
    rounded_to,
)
from metrics.guards import UNFOUNDED, Behind, FieldMove, Observed, verdict
from metrics.plans import (
    BLANK,
    CHANGE,
    FILL,
    KEPT,
    KINDS,
    Change,
    Edit,
    FieldCount,
    GuardVerdict,
    Move,
    Plan,
    UnreadablePlanError,
    shown,
)
from store.canonical import Scalar
from store.scalars import decode

__all__ = [
    "BLANK",
    "CHANGE",
    "CLEAR",
    "FILL",
    "KEEP",
    "KEPT",
    "KINDS",
    "RESTORE",
    "ZERO",
    "Behind",
    "Change",
    "Desired",
    "Edit",
    "FieldCount",
    "FieldPlan",
    "Guard",
    "GuardVerdict",
    "LiveLike",
    "Match",
    "Move",
    "Places",
    "Plan",
    "PublishedValue",
    "Quiet",
    "Range",
    "TargetLike",
    "UnreadablePlanError",
    "Wanted",
    "WritebackSpec",
    "desired",
    "equal_values",
    "make_plan",
]

MOVES_SHOWN: Final = 10

RESTORED: Final = "restored"
FROZEN: Final = "frozen"


# ---------------------------------------------------------------- the plan


def make_plan(
    spec: WritebackSpec,
    *,
    values: Sequence[PublishedValue],
    targets: Mapping[str, TargetLike],
    live: Iterable[LiveLike],
    pushed: Mapping[tuple[str, str], str],
    deleted_ids: Iterable[str],
    push_batch: int,
    canary: int = 0,
    places: Places | None = None,
    replaced_today: AbstractSet[str] = frozenset(),
    frozen: AbstractSet[tuple[str, str]] = frozenset(),
    behind: Behind = Behind(),  # noqa: B008 - frozen
    daily_calls: int | None = None,
    timezone: tzinfo = UTC,
) -> Plan:
    """Compare what should stand in the CRM with what does.

    Args:
        spec: The write-back; its periods are labels, `all`, `now` or rolling.
        values: Current published values; those the write-back does not name are passed over.
        targets: The object's fields by name.
        live: What the records hold now. Records without a value are left alone, except that a
            field we once filled is brought to what an empty group is worth, and one that is to
            be 0 where there is no value becomes 0.
        pushed: (record id, field) -> the last value we wrote, as JSON text.
        deleted_ids: Records known as deleted or merged away: never written.
        push_batch: Records in one write call.
        canary: Records in the call before all others.
        places: Which records carry which groups' values, where the keys do not say it.
        replaced_today: Records of which we replaced or blanked a value in the last 24 hours.
        frozen: (record id, field) in which others keep replacing what we write.
        behind: How much is stored behind the values, now and before.
        daily_calls: Calls the connection may make in a day, where known.
        timezone: Decides the day of a stamp that is a date.
    """
    wanted = desired(spec, values, targets, places)
    deleted = frozenset(deleted_ids)
    comparison = _Comparison(spec, targets, wanted, pushed, timezone, frozen)
    seen: set[str] = set()
    gone: set[str] = set(wanted.by_record.keys() & deleted)
    for record in sorted(live, key=lambda one: one.asked_id):
        if record.asked_id in seen or record.asked_id in gone:
            continue
        if record.record_id != record.asked_id or record.asked_id in deleted:
            gone.add(record.asked_id)  # the winner has a value of its own
            continue
        seen.add(record.asked_id)
        comparison.compare(record)
    matched = len(seen & wanted.by_record.keys())
    calls = _calls(len(comparison.seen.written), push_batch, canary)
    counts = {
        **behind.now,
        **_counted(spec, wanted),
        UNFOUNDED: comparison.seen.unfounded,
    }
    whole = Behind(counts, behind.before, behind.past_moves)
    return Plan(
        writeback=spec.name,
        connection=spec.connection,
        object=spec.object,
        matched=matched,
        unmatched=len(wanted.by_record.keys() - seen - gone),
        deleted=len(gone & wanted.by_record.keys()),
        changes=tuple(comparison.changes),
        calls=calls,
        quota_share=_share(calls, daily_calls) if daily_calls else None,
        guard=verdict(
            spec, comparison.seen, wanted.problems, replaced_today=replaced_today, behind=whole
        ),
        as_of=max(
            (one.source.as_of for one in _each(wanted.by_record) if one.source), default=None
        ),
        fields=comparison.field_counts(),
        edits=tuple(comparison.edits),
        moves=_largest(comparison.changes, wanted),
        counts=counts,
        wanted={
            (record, name): one.value
            for record, fields in wanted.by_record.items()
            for name, one in fields.items()
        },
    )


def _each(by_record: Mapping[str, Mapping[str, Wanted]]) -> Iterator[Wanted]:
    for fields in by_record.values():
        yield from fields.values()


def _calls(records: int, batch: int, canary: int) -> int:
    first = min(records, canary)
    size = max(batch, 1)
    return -(-first // size) + -(-(records - first) // size)


def _counted(spec: WritebackSpec, wanted: Desired) -> dict[str, int]:
    """How many records have a value for each field, and how many records are behind those."""
    filled: Counter[str] = Counter()
    behind: Counter[str] = Counter()
    for fields in wanted.by_record.values():
        for name, one in fields.items():
            if one.value is not None and one.source is not None:
                filled[name] += 1
                behind[name] += one.source.n
    return {
        f"{what}:{plan.field}": counts[plan.field]
        for plan in spec.fields
        for what, counts in (("values", filled), ("records behind", behind))
    }


def _largest(changes: Sequence[Change], wanted: Desired) -> tuple[Move, ...]:
    replaced = [
        change
        for change in changes
        if change.kind in {CHANGE, BLANK} and not isinstance(change.new, datetime)
    ]
    replaced.sort(key=_size_of_move, reverse=True)
    return tuple(
        Move(
            change.record,
            change.field,
            change.old,
            change.new,
            change.why,
            _group_of(wanted.by_record.get(change.record, {}).get(change.field)),
        )
        for change in replaced[:MOVES_SHOWN]
    )


def _group_of(wanted: Wanted | None) -> tuple[str, str] | None:
    if wanted is None or wanted.source is None:
        return None
    return wanted.source.dimension, wanted.source.key


def _size_of_move(change: Change) -> tuple[Decimal, Decimal]:
    old, new = _number(change.old) or Decimal(0), _number(change.new) or Decimal(0)
    largest = max(abs(old), abs(new))
    size = abs(new - old)
    return (size / largest if largest else Decimal(0), size)


class _Comparison:
    """Collects the changes of one write-back, record by record."""

    def __init__(  # noqa: PLR0917 - private, and called once
        self,
        spec: WritebackSpec,
        targets: Mapping[str, TargetLike],
        wanted: Desired,
        pushed: Mapping[tuple[str, str], str],
        timezone: tzinfo,
        frozen: AbstractSet[tuple[str, str]],
    ) -> None:
        self._spec = spec
        self._targets = targets
        self._wanted = wanted.by_record
        self._unfit = wanted.unfit
        self._pushed = pushed
        self._timezone = timezone
        self._frozen = frozen
        self._tallies: dict[str, Counter[str]] = {plan.field: Counter() for plan in spec.fields}
        self.changes: list[Change] = []
        self.edits: list[Edit] = []
        self.seen = Observed()

    def field_counts(self) -> tuple[FieldCount, ...]:
        """What would happen in each field."""
        return tuple(
            FieldCount(
                field=plan.field,
                kpi=plan.kpi,
                period=plan.period,
                changed=self._tallies[plan.field][CHANGE],
                first=self._tallies[plan.field][FILL],
                same=self._tallies[plan.field]["same"],
                blanked=self._tallies[plan.field][BLANK],
                kept=self._tallies[plan.field][KEPT],
            )
            for plan in self._spec.fields
        )

    def compare(self, record: LiveLike) -> None:
        """Note what would change in one record."""
        changes: list[Change] = []
        is_unfounded = False
        for plan in self._spec.fields:
            wanted = self._what_for(record.record_id, plan)
            if wanted is None:
                continue
            held = _held(record.values.get(plan.field))
            # Without a row nothing has happened yet (a new quarter, say): that is no loss.
            is_lost = wanted.value is None and wanted.source is not None
            is_unfounded = is_unfounded or (is_lost and held is not None)
            change = self._change(record.record_id, plan, held, self._or_zero(plan, wanted))
            self._tallies[plan.field][change.kind if change else "same"] += 1
            if change is not None:
                changes.append(change)
        self._count(record, changes, is_unfounded=is_unfounded)
        if any(change.kind != KEPT for change in changes):
            self.seen.written.add(record.record_id)
            changes.extend(self._stamp(record))
        self.changes.extend(changes)

    def _what_for(self, record_id: str, plan: FieldPlan) -> Wanted | None:
        """What a field should hold; None: we have nothing to say about it."""
        wanted = self._wanted.get(record_id, {}).get(plan.field)
        if wanted is not None:
            return wanted
        target = self._targets.get(plan.field)
        if target is None or not target.writable:
            return None
        if not plan.is_text and target.type not in NUMERIC:
            return None
        if (record_id, plan.field) in self._unfit:
            return None
        if self._last(record_id, plan.field) is None and plan.when_empty != ZERO:
            return None
        if plan.empty is None:
            return Wanted(None, None)
        return Wanted(rounded_for(plan.empty, plan, target), None)

    def _or_zero(self, plan: FieldPlan, wanted: Wanted) -> Wanted:
        """Where a field has it so, no value is written as 0."""
        target = self._targets.get(plan.field)
        if wanted.value is not None or plan.when_empty != ZERO or target is None:
            return wanted
        return Wanted(rounded_for(Decimal(0), plan, target), wanted.source)

    def _last(self, record_id: str, name: str) -> Scalar:
        """The last value we wrote there, or None."""
        text = self._pushed.get((record_id, name))
        return None if text is None else decode(text)

    def _change(
        self, record_id: str, plan: FieldPlan, held: Scalar, wanted: Wanted
    ) -> Change | None:
        new = wanted.value
        if equal_values(held, new):
            return None
        last = self._last(record_id, plan.field)
        is_edited = last is not None and not equal_values(held, last)
        kept = self._why_kept(record_id, plan, held, wanted, last if is_edited else None)
        if kept is not None:
            return Change(record_id, plan.field, held, held, KEPT, kept)
        name = _name_of(plan)
        if new is None:
            return Change(record_id, plan.field, held, None, BLANK, f"{name} has no value any more")
        if last is not None and not is_edited:
            self._note_move(plan, held, new)
        kind = FILL if held is None else CHANGE
        why = _why(name, held, wanted, last, is_edited=is_edited)
        return Change(record_id, plan.field, held, new, kind, why)

    def _why_kept(
        self, record_id: str, plan: FieldPlan, held: Scalar, wanted: Wanted, edited_from: Scalar
    ) -> str | None:
        """Why a field keeps what it holds; None: it does not."""
        is_edited = edited_from is not None
        if (record_id, plan.field) in self._frozen:
            if is_edited:
                self._note_edit(record_id, plan, edited_from, held, FROZEN)
            return (
                "others have replaced what we wrote there three times: left alone until "
                f"`kpisync writebacks unfreeze {self._spec.name}`"
            )
        if is_edited and self._spec.on_edit == KEEP:
            self._note_edit(record_id, plan, edited_from, held, KEPT)
            return f"edited in the CRM after we wrote {_text(edited_from)}: kept (on_edit: keep)"
        is_empty = wanted.value is None or (wanted.source is None and plan.when_empty == KEEP)
        default = KEEP if self._spec.guard.never_blank else CLEAR
        if is_empty and (plan.when_empty or default) == KEEP:
            rule = "empty: keep" if plan.when_empty else "never_blank"
            return f"{_name_of(plan)} has no value any more: the field keeps its own ({rule})"
        if is_edited:
            self._note_edit(record_id, plan, edited_from, held, RESTORED)
        return None

    def _note_edit(
        self, record_id: str, plan: FieldPlan, ours: Scalar, held: Scalar, outcome: str
    ) -> None:
        self.edits.append(Edit(record_id, plan.field, ours, held, outcome))

    def _note_move(self, plan: FieldPlan, held: Scalar, new: Scalar) -> None:
        old, number = _number(held), _number(new)
        if old is not None and number is not None:
            self.seen.moves.setdefault(plan.field, []).append(FieldMove(old, number))

    def _count(self, record: LiveLike, changes: Sequence[Change], *, is_unfounded: bool) -> None:
        holding = [
            plan.field
            for plan in self._spec.fields
            if _held(record.values.get(plan.field)) is not None
        ]
        if holding:
            self.seen.holders.add(record.record_id)
        for name in holding:
            self.seen.holding_in[name] = self.seen.holding_in.get(name, 0) + 1
        if any(change.kind in {CHANGE, BLANK} for change in changes):
            self.seen.replaced.add(record.record_id)
        self.seen.unfounded += is_unfounded

    def _stamp(self, record: LiveLike) -> Iterator[Change]:
        name = self._spec.stamp
        target = self._targets.get(name) if name else None
        if name is None or target is None or target.type not in STAMP or not target.writable:
            return
        instants = [
            wanted.source.as_of
            for wanted in self._wanted.get(record.record_id, {}).values()
            if wanted.source is not None
        ]
        if not instants:
            return
        instant = max(instants).astimezone(UTC).replace(microsecond=0)
        new: Scalar = (
            instant.astimezone(self._timezone).date() if target.type == "date" else instant
        )
        held = _held(record.values.get(name))
        if not equal_values(held, new):
            kind = FILL if held is None else CHANGE
            why = "as of when the values beside it are"
            yield Change(record.record_id, name, held, new, kind, why)


def _name_of(plan: FieldPlan) -> str:
    return plan.kpi if plan.period in {"all", "now"} else f"{plan.kpi} of {plan.period}"


def _why(name: str, held: Scalar, wanted: Wanted, last: Scalar, *, is_edited: bool) -> str:
    new = _text(wanted.value)
    if wanted.source is None:
        return f"no records are behind {name} any more: {_text(held)} -> {new}"
    basis = f"from {wanted.source.n:,} record{'' if wanted.source.n == 1 else 's'}"
    if is_edited:
        was = "emptied" if held is None else f"changed to {_text(held)}"
        return f"the field was {was} in the CRM: {name} is {new}, {basis}"
    if held is None:
        return f"first value: {name} is {new}, {basis}"
    if last is None:
        return f"{name} is {new}, {basis}; what the field holds was not written by us"
    return f"new data moved {name}: {_text(held)} -> {new}, {basis}"


# ---------------------------------------------------------------- values


def _held(value: Scalar) -> Scalar:
    """What a field holds; an empty text is nothing, as CRMs see it."""
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value)  # it equals no number
    return None if value == "" else value


def equal_values(one: Scalar, other: Scalar) -> bool:
    """Numbers by their value (12.5 = 12.50), instants by the second, the rest as they are."""
    one, other = _held(one), _held(other)
    if one is None or other is None:
        return one is other
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.replace(microsecond=0) == other.replace(microsecond=0)
    left, right = _number(one), _number(other)
    if left is not None and right is not None:
        return left == right
    return type(one) is type(other) and one == other


def _number(value: Scalar) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    return None


def _text(value: Scalar) -> str:
    text = shown(value)
    return "nothing" if text is None else str(text)


def _share(calls: int, daily_calls: int) -> Decimal:
    return rounded_to(Decimal(calls) / daily_calls, 4)
