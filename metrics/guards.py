"""The guards of a write-back: what looks wrong stops it before anything is written.

Two sorts of reasons. *Faults* are values that cannot be: not a number, out of range, too long for
the field. Nobody can accept them; their cause must go. *Limits* are amounts that are unusual: a
person who has looked may accept them for one time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median
from typing import Final

from metrics.definition import Kpi, Unit
from metrics.fitting import ANYTHING, Range, WritebackSpec, rounded_to
from metrics.plans import GuardVerdict

FEW: Final = 5
"""Fewer moves than this say nothing about all the others."""
FEW_BEHIND: Final = 10
"""From fewer records nothing can shrink suspiciously."""
FEW_PAST_MOVES: Final = 20
"""A history of fewer moves is none."""

_JUMPING_SHARE: Final = Decimal("0.5")
"""Of the records holding a value: some really grow tenfold or lose their only deal, most do not."""

UNFOUNDED: Final = "unfounded"
"""Under this name it is remembered how many records held a value with nothing behind it."""

_ZERO: Final = Decimal(0)
_ONE: Final = Decimal(1)

_POINTS: Final[Mapping[str, Range]] = {
    "nps": Range(Decimal(-100), Decimal(100)),
    "nps_change": Range(Decimal(-200), Decimal(200)),
}
_NO_SHARES: Final = ("purchase_frequency", "ltv_cac", "stages_per_deal", "completion_rate")
"""Ratios of different things: never below nothing, but often above one."""
_FREE: Final = ("lead_velocity_rate", "win_rate_value", "campaign_roi")
"""Ratios that may be anything: of changes, or of sums in which credits count."""


def declared_range(kpi: Kpi) -> Range:
    """What a KPI can be, in its own unit."""
    if kpi.custom is not None:
        return Range(_ZERO) if kpi.custom.is_never_negative else ANYTHING
    if kpi.name in _POINTS:
        return _POINTS[kpi.name]
    if kpi.unit in {Unit.COUNT, Unit.DAYS} or str(kpi.unit) == "hours":
        return Range(_ZERO)
    if kpi.unit is not Unit.RATIO or kpi.name.startswith(_FREE):
        return ANYTHING
    return Range(_ZERO) if kpi.name in _NO_SHARES else Range(_ZERO, _ONE)


@dataclass(frozen=True, slots=True)
class FieldMove:
    """One of our values that would become another one."""

    old: Decimal
    new: Decimal

    @property
    def size(self) -> Decimal:
        """How far it moves."""
        return abs(self.new - self.old)

    def is_jump(self, factor: int) -> bool:
        """Whether it moves by a factor; to nothing or across zero is any factor."""
        if not self.old or self.old == self.new:
            return False
        if not self.new or (self.new > 0) != (self.old > 0):
            return True
        ratio = abs(self.new / self.old)
        return ratio >= factor or ratio * factor <= 1


@dataclass(slots=True)
class Observed:
    """What a comparison saw, as far as guards care."""

    written: set[str] = field(default_factory=set)
    """Records that would be written."""
    holders: set[str] = field(default_factory=set)
    """Records that hold a value in one of our fields."""
    replaced: set[str] = field(default_factory=set)
    """Of those: records of which a value would be replaced or blanked."""
    unfounded: int = 0
    """Of those: records of which a value has nothing behind it any more."""
    holding_in: dict[str, int] = field(default_factory=dict)
    """Field -> records that hold a value in it."""
    moves: dict[str, list[FieldMove]] = field(default_factory=dict)
    """Field -> moves of the values that we wrote ourselves."""

    @property
    def holding(self) -> int:
        """How many records hold a value in one of our fields."""
        return len(self.holders)


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the values, now and when the write-back last ended well."""

    now: Mapping[str, int] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    past_moves: Mapping[str, Decimal] = field(default_factory=dict)
    """Field -> the median move of the values it was given before."""


def verdict(
    spec: WritebackSpec,
    seen: Observed,
    problems: Sequence[str],
    *,
    replaced_today: AbstractSet[str],
    behind: Behind,
) -> GuardVerdict:
    """Whether what was seen may be written, and if not, why."""
    limits = [
        *_amounts(spec, seen, replaced_today, behind),
        *_jumps(spec, seen, behind),
        *_shrunk(spec, behind),
    ]
    reasons = [*problems, *limits]
    if not reasons:
        return GuardVerdict(ok=True)
    return GuardVerdict(ok=False, reason=". ".join(reasons) + ".", may_accept=not problems)


def _amounts(
    spec: WritebackSpec, seen: Observed, replaced_today: AbstractSet[str], behind: Behind
) -> Iterator[str]:
    guard, place = spec.guard, f"writebacks.{spec.name}.guard"
    # Deals close and keep their last value: only what lost its ground since then is news.
    unfounded = max(0, seen.unfounded - behind.before.get(UNFOUNDED, 0))
    written = len(seen.written)
    if guard.max_records is not None and written > guard.max_records:
        yield (
            f"{written:,} records would be written, {place}.max_records allows "
            f"{guard.max_records:,}: if the plan is right, raise it"
        )
    if guard.max_changed is not None and seen.holding:
        is_more = bool(replaced_today and seen.replaced - replaced_today)
        in_a_day = len(seen.replaced | replaced_today) if is_more else 0
        # What was blanked, merged or deleted since held a value when we replaced it.
        held_today = len(seen.holders | replaced_today)
        for count, of, what in (
            (len(seen.replaced), seen.holding, "would get another value or lose it"),
            (in_a_day, held_today, "would have got another value or lost it within 24 hours"),
            (unfounded, seen.holding, "hold a value that has nothing behind it any more"),
        ):
            if Decimal(count) > guard.max_changed * of:
                yield (
                    f"{count:,} of {of:,} records with values "
                    f"({_share(count, of)}) {what}, {place}.max_changed allows "
                    f"{as_percent(guard.max_changed)}: look at what changed in the CRM; if the "
                    "plan is right, raise it"
                )
    elif (
        guard.max_shrink is not None
        and unfounded >= FEW
        and unfounded > guard.max_shrink * seen.holding
    ):
        yield (
            f"{unfounded:,} of {seen.holding:,} records "
            f"({_share(unfounded, seen.holding)}) hold a value that has nothing behind it any "
            f"more, {place}.max_shrink allows {as_percent(guard.max_shrink)}: look at what "
            "happened to the records that are counted"
        )


def _jumps(spec: WritebackSpec, seen: Observed, behind: Behind) -> Iterator[str]:
    factor = spec.guard.max_jump
    if factor is None:
        return
    place = f"writebacks.{spec.name}.guard.max_jump"
    for plan in spec.fields:
        moves = seen.moves.get(plan.field, [])
        holding = seen.holding_in.get(plan.field, 0)
        # A running period that has just begun starts from nothing: that is no jump.
        if plan.field in spec.rolled or len(moves) < FEW:
            continue
        jumping = [move for move in moves if move.is_jump(factor)]
        if len(jumping) >= FEW and len(jumping) > _JUMPING_SHARE * holding:
            first = jumping[0]
            yield (
                f"{plan.field}: {len(jumping):,} of {holding:,} values move by a factor of "
                f"{factor} or more at once ({_plain(first.old)} -> {_plain(first.new)}, for "
                f"instance), {place}: look for a wrong unit, currency or stage; if the plan is "
                "right, accept it"
            )
            continue
        usual = behind.past_moves.get(plan.field)
        if usual and len(moves) > _JUMPING_SHARE * holding:
            now = median(move.size for move in moves)
            if now >= factor * usual:
                yield (
                    f"{plan.field}: {len(moves):,} values move by {_plain(now)} in the middle, in "
                    f"earlier passes it was {_plain(usual)}, {place} allows a factor of {factor}: "
                    "look at what changed in the CRM; if the plan is right, accept it"
                )


def _shrunk(spec: WritebackSpec, behind: Behind) -> Iterator[str]:
    most = spec.guard.max_shrink
    if most is None:
        return
    rolled = {f"{kind}:{name}" for name in spec.rolled for kind in ("values", "records behind")}
    for what, before in sorted(behind.before.items()):
        now = behind.now.get(what)
        if what in rolled or what == UNFOUNDED or now is None or before < FEW_BEHIND:
            continue
        if Decimal(before - now) > most * before:
            yield (
                f"{_named(what)} fell from {before:,} to {now:,} since the last pass that ended "
                f"well ({_share(before - now, before)} less), writebacks.{spec.name}.guard."
                f"max_shrink allows {as_percent(most)}: look for lost permissions, a changed "
                "filter or deletions; if they are really gone, accept it"
            )


def _named(what: str) -> str:
    kind, _, name = what.partition(":")
    match kind:
        case "values":
            return f"the records with a value for {name}"
        case "records behind":
            return f"the records counted in {name}"
        case _:
            return f"the stored {name}"


def _share(count: int, whole: int) -> str:
    return as_percent(Decimal(count) / whole)


def as_percent(ratio: Decimal) -> str:
    """A ratio as people write it: ``12.5%``."""
    return f"{_plain(rounded_to(ratio * 100, 1))}%"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
