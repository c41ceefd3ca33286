"""How one value moved: every version that was believed, and the steps between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from sqlalchemy import Connection

from metrics.verify.book import EXACT
from store.kpis import KpiValue, Place, Version, plain, versions


@dataclass(frozen=True, slots=True)
class Step:
    """From what was believed to what was believed next."""

    at: datetime
    run: str | None
    """The run that published the new value; None: nobody published one."""
    old: KpiValue | None
    new: KpiValue | None
    """None: the value ended, nobody asks for it any more."""

    @property
    def is_redefined(self) -> bool:
        """Whether the formula is another one: a break of the series."""
        return (
            self.old is not None
            and self.new is not None
            and self.old.definition != self.new.definition
        )

    def delta(self, name: str) -> Decimal | None:
        """By how much a number moved; None where one side has none."""
        return difference(self.old, self.new, name)


@dataclass(frozen=True, slots=True)
class Changes:
    """The way of a value from one instant to now."""

    steps: Sequence[Step]
    first: KpiValue | None
    """What was believed where the way begins."""
    last: KpiValue | None
    first_version: Version | None
    """The same; where no beginning is asked for, the first one there ever was."""
    last_version: Version | None


def difference(old: KpiValue | None, new: KpiValue | None, name: str) -> Decimal | None:
    """Of a number of two values; None where one side has none."""
    before, after = _number(old, name), _number(new, name)
    return None if before is None or after is None else EXACT.subtract(after, before)


def _number(value: KpiValue | None, name: str) -> Decimal | None:
    if value is None:
        return None
    match name:
        case "value":
            return value.value
        case "numerator":
            return value.numerator
        case "denominator":
            return value.denominator
        case "n":
            return Decimal(value.n)
    raise ValueError(f"a value has no {name}")


def changes(
    conn: Connection,
    place: Place,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Changes:
    """Every step of a value, the oldest first.

    Args:
        conn: in `store.engine.reading`.
        place: which value.
        since: where to begin: with what was believed then; None: with the first value.
        until: where to end: with what was believed then; None: with what is believed now.
    """
    known = versions(conn, place)
    steps = [step for step in _steps(known) if until is None or step.at <= until]
    if since is None:
        first = None
    else:
        earlier = [step for step in steps if step.at <= since]
        first = earlier[-1].new if earlier else None
        steps = [step for step in steps if step.at > since]
    last = steps[-1].new if steps else first
    return Changes(
        steps,
        first,
        last,
        first_version=next(iter(known), None) if since is None else _believed(known, since),
        last_version=_believed(known, until),
    )


def _believed(known: Sequence[Version], at: datetime | None) -> Version | None:
    """What was believed at an instant; None: now."""
    for one in known:
        has_begun = at is None or one.valid_from <= at
        if has_begun and (one.valid_to is None or (at is not None and at < one.valid_to)):
            return one
    return None


def _steps(known: Sequence[Version]) -> Iterator[Step]:
    if not known:
        return
    yield Step(known[0].valid_from, known[0].run, None, known[0].value)
    for one, other in pairwise(known):
        if one.valid_to is not None and one.valid_to < other.valid_from:
            yield Step(one.valid_to, None, one.value, None)
            yield Step(other.valid_from, other.run, None, other.value)
        else:
            yield Step(other.valid_from, other.run, one.value, other.value)
    last = known[-1]
    if last.valid_to is not None:
        yield Step(last.valid_to, None, last.value, None)


NUMBERS = ("value", "numerator", "denominator", "n")


def to_document(found: Changes) -> dict[str, object]:
    """As one JSON object."""
    return {
        "first": _facts(found.first),
        "last": _facts(found.last),
        "steps": [
            {
                "at": step.at.isoformat().replace("+00:00", "Z"),
                "run": step.run,
                "old": _facts(step.old),
                "new": _facts(step.new),
                "delta": {name: plain(step.delta(name)) for name in NUMBERS},
                "redefined": step.is_redefined,
            }
            for step in found.steps
        ],
        "delta": {name: plain(difference(found.first, found.last, name)) for name in NUMBERS},
    }


def _facts(value: KpiValue | None) -> dict[str, object] | None:
    if value is None:
        return None
    row = value.to_json()
    return {
        name: row[name]
        for name in ("value", "numerator", "denominator", "n", "left_out", "definition")
    }
