"""Write-back: which CRM fields would change, why, and whether that may happen.

Pure: published values, field descriptions and live records come in, a `Plan` comes out. Three
rules hold whatever comes in: a value that the field already holds is never in a plan, only the
fields that the write-back names are, and whatever looks wrong stops the whole write-back with a
sentence that says what it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from metrics.fitting import (
    KEEP,
    NUMERIC,
    RESTORE,
    STAMP,
    Desired,
    FieldPlan,
    Guard,
    LiveLike,
    PublishedValue,
    TargetLike,
    Wanted,
    WritebackSpec,
    desired,
    rounded_to,
)
from metrics.plans import (
    BLANK,
    CHANGE,
    FILL,
    KEPT,
    KINDS,
    Change,
    GuardVerdict,
    Plan,
    UnreadablePlanError,
    shown,
)
from store.canonical import Scalar
from store.scalars import decode

__all__ = [
    "BLANK",
    "CHANGE",
    "FILL",
    "KEEP",
    "KEPT",
    "KINDS",
    "RESTORE",
    "Change",
    "Desired",
    "FieldPlan",
    "Guard",
    "GuardVerdict",
    "LiveLike",
    "Plan",
    "PublishedValue",
    "TargetLike",
    "UnreadablePlanError",
    "Wanted",
    "WritebackSpec",
    "desired",
    "make_plan",
]


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
    replaced_today: AbstractSet[str] = frozenset(),
    daily_calls: int | None = None,
    timezone: tzinfo = UTC,
) -> Plan:
    """Compare what should stand in the CRM with what does.

    Args:
        spec: The write-back; its periods are labels, `all` or `now`.
        values: Current published values; those the write-back does not name are passed over.
        targets: The object's fields by name.
        live: What the records hold now. Records without a value are left alone, except that a
            field we once filled is brought to what an empty group is worth.
        pushed: (record id, field) -> the last value we wrote, as JSON text.
        deleted_ids: Records known as deleted or merged away: never written.
        push_batch: Records in one write call.
        replaced_today: Records of which we replaced or blanked a value in the last 24 hours.
        daily_calls: Calls the CRM allows in a day, where known.
        timezone: Decides the day of a stamp that is a date.
    """
    wanted = desired(spec, values, targets)
    deleted = frozenset(deleted_ids)
    comparison = _Comparison(spec, targets, wanted, pushed, timezone)
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
    calls = -(-len(comparison.written) // max(push_batch, 1))
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
        guard=_verdict(spec, comparison, wanted.problems, replaced_today),
        as_of=max(
            (one.source.as_of for one in _each(wanted.by_record) if one.source), default=None
        ),
    )


def _each(by_record: Mapping[str, Mapping[str, Wanted]]) -> Iterator[Wanted]:
    for fields in by_record.values():
        yield from fields.values()


class _Comparison:
    """Collects the changes of one write-back, record by record."""

    def __init__(
        self,
        spec: WritebackSpec,
        targets: Mapping[str, TargetLike],
        wanted: Desired,
        pushed: Mapping[tuple[str, str], str],
        timezone: tzinfo,
    ) -> None:
        self._spec = spec
        self._targets = targets
        self._wanted = wanted.by_record
        self._unfit = wanted.unfit
        self._pushed = pushed
        self._timezone = timezone
        self.changes: list[Change] = []
        self.written: set[str] = set()
        self.holding = 0
        """Records that hold a value in one of our fields."""
        self.replaced: set[str] = set()
        """Of those: records of which a value would be replaced or blanked."""
        self.unfounded = 0
        """Of those: records of which a value has nothing behind it any more."""

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
            change = self._change(record.record_id, plan, held, wanted)
            if change is not None:
                changes.append(change)
        self._count(record, changes, is_unfounded=is_unfounded)
        if any(change.kind != KEPT for change in changes):
            self.written.add(record.record_id)
            changes.extend(self._stamp(record))
        self.changes.extend(changes)

    def _what_for(self, record_id: str, plan: FieldPlan) -> Wanted | None:
        """What a field should hold; None: we have nothing to say about it."""
        wanted = self._wanted.get(record_id, {}).get(plan.field)
        if wanted is not None:
            return wanted
        target = self._targets.get(plan.field)
        if target is None or not target.writable or target.type not in NUMERIC:
            return None
        if self._last(record_id, plan.field) is None or (record_id, plan.field) in self._unfit:
            return None
        return Wanted(plan.empty, None)

    def _last(self, record_id: str, name: str) -> Scalar:
        """The last value we wrote there, or None."""
        text = self._pushed.get((record_id, name))
        return None if text is None else decode(text)

    def _change(
        self, record_id: str, plan: FieldPlan, held: Scalar, wanted: Wanted
    ) -> Change | None:
        new = wanted.value
        if _equal(held, new):
            return None
        last = self._last(record_id, plan.field)
        is_edited = last is not None and not _equal(held, last)
        if is_edited and self._spec.on_edit == KEEP:
            why = f"edited in the CRM after we wrote {_text(last)}: kept (on_edit: keep)"
            return Change(record_id, plan.field, held, held, KEPT, why)
        name = plan.kpi if plan.period in {"all", "now"} else f"{plan.kpi} of {plan.period}"
        if new is None:
            if self._spec.guard.never_blank:
                why = f"{name} has no value any more: the field keeps its own (never_blank)"
                return Change(record_id, plan.field, held, held, KEPT, why)
            why = f"{name} has no value any more"
            return Change(record_id, plan.field, held, None, BLANK, why)
        kind = FILL if held is None else CHANGE
        why = _why(name, held, wanted, last, is_edited=is_edited)
        return Change(record_id, plan.field, held, new, kind, why)

    def _count(self, record: LiveLike, changes: Sequence[Change], *, is_unfounded: bool) -> None:
        is_holding = any(
            _held(record.values.get(plan.field)) is not None for plan in self._spec.fields
        )
        self.holding += is_holding
        if any(change.kind in {CHANGE, BLANK} for change in changes):
            self.replaced.add(record.record_id)
        self.unfounded += is_unfounded

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
        if not _equal(held, new):
            kind = FILL if held is None else CHANGE
            why = "as of when the values beside it are"
            yield Change(record.record_id, name, held, new, kind, why)


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


# ---------------------------------------------------------------- the guard


def _verdict(
    spec: WritebackSpec,
    seen: _Comparison,
    problems: Sequence[str],
    replaced_today: AbstractSet[str],
) -> GuardVerdict:
    reasons = [*problems, *_limits_passed(spec, seen, replaced_today)]
    return GuardVerdict(not reasons, ". ".join(reasons) + "." if reasons else None)


def _limits_passed(
    spec: WritebackSpec, seen: _Comparison, replaced_today: AbstractSet[str]
) -> Iterator[str]:
    guard, place = spec.guard, f"writebacks.{spec.name}.guard"
    written = len(seen.written)
    if guard.max_records is not None and written > guard.max_records:
        yield (
            f"{written:,} records would be written, {place}.max_records allows "
            f"{guard.max_records:,}: if the plan is right, raise it"
        )
    if guard.max_changed is None or not seen.holding:
        return
    is_more = bool(replaced_today and seen.replaced - replaced_today)
    in_a_day = len(seen.replaced | replaced_today) if is_more else 0
    for count, what in (
        (len(seen.replaced), "would get another value or lose it"),
        (in_a_day, "would have got another value or lost it within 24 hours"),
        (seen.unfounded, "hold a value that has nothing behind it any more"),
    ):
        if Decimal(count) > guard.max_changed * seen.holding:
            yield (
                f"{count:,} of {seen.holding:,} records with values ({_percent(count, seen)}) "
                f"{what}, {place}.max_changed allows {_as_percent(guard.max_changed)}: look at "
                "what changed in the CRM; if the plan is right, raise it"
            )


def _percent(count: int, seen: _Comparison) -> str:
    return _as_percent(Decimal(count) / seen.holding)


def _as_percent(ratio: Decimal) -> str:
    number = rounded_to(ratio * 100, 1)
    return f"{number.normalize():f}%"


# ---------------------------------------------------------------- values


def _held(value: Scalar) -> Scalar:
    """What a field holds; an empty text is nothing, as CRMs see it."""
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value)  # it equals no number
    return None if value == "" else value


def _equal(one: Scalar, other: Scalar) -> bool:
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
