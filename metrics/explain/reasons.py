"""Why a value is another one now: the changes between two of its versions, each with its effect.

The records are put back as they were when the first version was published, and counted; then one
thing after the other is let happen: the definition, the clock, the rates, first loads, and every
change of a record in the order of time. After each the value is worked out again by the program
that `kpisync verify` uses. The differences add up to the whole difference, because each begins
where the one before ended; what nothing kept explains stands in a line of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final, TypeAlias

from sqlalchemy import Connection

from metrics import meaning
from metrics.catalog import Catalog
from metrics.definition import Kpi, KpiSettings
from metrics.dimensions import grouping_named
from metrics.explain import groupings_beside, label_of
from metrics.explain.ledger import Entry, Ledger, told_again
from metrics.explain.past import PastReader, WorldReader
from metrics.explain.window import period_named
from metrics.explain.world import EVERYBODYS, Name, World
from metrics.verify import readers_of, recipe_of
from metrics.verify.book import EXACT, Book, View
from metrics.verify.periods import Calendar
from metrics.verify.reading import Reader
from metrics.verify.recipes import Ask, Result, rounded
from store import decisions, definitions, record_history
from store.canonical import CanonicalRecord, Scalar
from store.kpis import KpiValue, Place, Version
from store.record_history import Change

DEFINITION: Final = "definition"
CLOCK: Final = "clock"
RATES: Final = "rates"
FIRST_LOAD: Final = "first_load"
DECISION: Final = "decision"
LATE: Final = "late_arrival"
NEW: Final = "new"
SEVERAL: Final = "several"
UNKNOWN: Final = "unknown"

MOST_DECISIONS: Final = 50
"""More than that between two versions are told in one line: each is a reading of all records."""

NUMBERS: Final = ("value", "numerator", "denominator", "n")


@dataclass(frozen=True, slots=True)
class Worth:
    """A value at one point of the story; what is missing counts as 0 in a difference."""

    value: Decimal | None = None
    numerator: Decimal | None = None
    denominator: Decimal | None = None
    n: int = 0

    @classmethod
    def of(cls, value: KpiValue | None) -> Worth:
        """A published one; None: there was none."""
        if value is None:
            return cls()
        return cls(value.value, value.numerator, value.denominator, value.n)

    @classmethod
    def made(cls, result: Result) -> Worth:
        """One that was worked out, in the published form."""
        if not result.n and not any((result.left_out or {}).values()):
            # Of a group without records nothing is published, or that it emptied.
            return cls()
        return cls(
            rounded(result.value),
            rounded(result.numerator),
            rounded(result.denominator),
            result.n,
        )

    def minus(self, other: Worth) -> Delta:
        """From another one to this one."""
        return Delta(
            value=_difference(other.value, self.value),
            numerator=_difference(other.numerator, self.numerator),
            denominator=_difference(other.denominator, self.denominator),
            n=self.n - other.n,
        )


def _difference(before: Decimal | None, after: Decimal | None) -> Decimal:
    return EXACT.subtract(after or Decimal(0), before or Decimal(0))


@dataclass(frozen=True, slots=True)
class Delta:
    """By how much the numbers moved."""

    value: Decimal
    numerator: Decimal
    denominator: Decimal
    n: int

    @property
    def is_nothing(self) -> bool:
        """Whether nothing moved."""
        return not (self.value or self.numerator or self.denominator or self.n)


FieldChange: TypeAlias = tuple[str, object, object]
"""Name, old and new value."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that happened, and what it did to the value."""

    kind: str
    """One of the kinds above, or of `store.record_history`."""
    at: datetime | None
    delta: Delta
    after: Worth
    """The value once it had happened."""
    words: str = ""
    run: str | None = None
    stream: str | None = None
    key: str | None = None
    label: str | None = None
    fields: Sequence[FieldChange] = ()


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a value moved from one version to another one."""

    first: Version | None
    last: Version | None
    reasons: Sequence[Reason]
    idle: int
    """Changes of records in its neighbourhood that did not move it."""

    @property
    def is_complete(self) -> bool:
        """Whether every difference has its reason."""
        return all(one.kind != UNKNOWN for one in self.reasons)

    @property
    def delta(self) -> Delta:
        """The whole difference."""
        first, last = (None if one is None else one.value for one in (self.first, self.last))
        return Worth.of(last).minus(Worth.of(first))


def reasons(
    conn: Connection,
    catalog: Catalog,
    place: Place,
    *,
    first: Version | None,
    last: Version,
    since: datetime | None = None,
) -> Reasons:
    """Why a value is what it is in one version and not what it was in another one.

    Args:
        conn: in `store.engine.reading`.
        catalog: what is kept.
        place: which value.
        first: what was believed before; None: nothing.
        last: what was believed afterwards.
        since: where nothing was believed before: from when on to look.
    """
    begins = first.valid_from if first is not None else since
    if begins is None or first == last:
        return Reasons(first, last, (), 0)
    story = _Story(conn, catalog, place, begins, last.valid_from)
    story.begin(Worth.of(None if first is None else first.value))
    story.let_time_pass()
    story.let_rates_change()
    story.let_loads_come()
    story.let_records_change()
    story.let_people_decide()
    story.end(Worth.of(last.value))
    return Reasons(first, last, story.reasons, story.idle)


Entries: TypeAlias = Mapping[str, Sequence[Entry]]
"""Name of a record (stream and key) -> what it says."""


class _Story:
    """One value from one instant to another."""

    def __init__(
        self,
        conn: Connection,
        catalog: Catalog,
        place: Place,
        begins: datetime,
        ends: datetime,
    ) -> None:
        self.reasons: list[Reason] = []
        self.idle = 0
        self._conn = conn
        self._catalog = catalog
        self._kpi: Kpi = catalog.kpi(place.kpi)
        self._place = place
        self._begins = begins
        self._ends = ends
        self._now = begins
        self._decided_by = begins
        self._settings = self._settings_at(begins)
        self._grouping = grouping_named(place.dimension)
        self._recipe = recipe_of(self._kpi)
        self._groupings = groupings_beside(self._kpi, self._grouping)
        self._entries: dict[str, Sequence[Entry]] = {}
        self._asked: set[str] = set()
        self._faithful: dict[Name, bool] = {}
        self._moving: set[str] = set()
        self._still: Book | None = None
        self._worth = Worth()

    # ---- the chapters

    def begin(self, published: Worth) -> None:
        """Count the records as they were.

        What differs from what was published, differs by the definition, or nobody knows why.
        """
        self._worth = published
        self._entries = self._read_at(self._begins)
        worth = self._made()
        if worth.minus(published).is_nothing:
            return
        changed = definitions.since(self._conn, self._place.kpi, self._begins)
        if changed:
            before = {
                one.name: one.text for one in definitions.in_force(self._conn, self._begins)
            }.get(self._place.kpi)
            fields = [] if before is None else meaning.differences(before, changed[-1].text)
            words = "its definition or settings changed" if before else "it was not kept before"
            self._add(
                DEFINITION,
                worth,
                at=changed[0].since,
                words=words,
                fields=fields,
                run=changed[0].run,
            )
        else:
            self._add(UNKNOWN, worth, at=self._begins, words=self._why_unknown())

    def let_time_pass(self) -> None:
        """The clock alone: windows move, ages grow, days come."""
        self._now = self._ends
        self._entries = self._read_at(self._begins)
        words = f"time passed from {_instant(self._begins)} to {_instant(self._ends)}"
        self._add(CLOCK, self._made(), at=self._ends, words=words)

    def let_rates_change(self) -> None:
        """The rates of the configuration; those of a CRM are records."""
        settings = self._settings_at(self._ends)
        if settings == self._settings:
            return
        entries = definitions.since(self._conn, definitions.RATES, self._begins)
        entry = next((one for one in reversed(entries) if one.since <= self._ends), None)
        before = {one.name: one.text for one in definitions.in_force(self._conn, self._begins)}
        fields = (
            []
            if entry is None
            else meaning.differences(before.get(definitions.RATES, "{}"), entry.text)
        )
        self._settings = settings
        self._entries = self._read_at(self._begins)
        self._add(
            RATES,
            self._made(),
            at=None if entry is None else entry.since,
            run=None if entry is None else entry.run,
            words="the configured rates changed",
            fields=fields,
        )

    def let_loads_come(self) -> None:
        """Whole streams that were read for the first time."""
        loads = [
            load
            for load in record_history.loads(self._conn)
            if load.stream in self._asked and self._begins < load.began <= self._ends
        ]
        if loads:
            self._entries = self._read_at(self._begins, with_loads=True)
            names = ", ".join(f"{load.connection}.{load.stream}" for load in loads)
            self._add(
                FIRST_LOAD,
                self._made(),
                at=max(load.ended for load in loads),
                words=f"first read: {names}",
            )

    def let_records_change(self) -> None:
        """Every change of a record that can matter, in the order of time."""
        final = self._read_at(self._ends)
        moved = [
            name for name in self._entries.keys() | final.keys() if self._is_other(name, final)
        ]
        self._moving, self._still = set(moved), None
        later = record_history.changes(self._conn, self._asked, self._begins)
        within = [change for change in later if change.at <= self._ends]
        world = World(self._conn, self._catalog.company, self._asked, later)
        if moved:
            world.gather(_name(name) for name in moved)
        known = world.names()
        if not world.is_cut:
            for change in within:
                if (change.stream, change.key) in known:
                    self._let_change(world, change)
        self._settle(final, within)

    def let_people_decide(self) -> None:
        """What people said of identities, one thing after the other, of the records at the end."""
        said = [
            one
            for one in decisions.said_between(self._conn, self._begins, self._ends)
            if one.stream in self._asked
        ]
        if len(said) > MOST_DECISIONS:
            words = f"{len(said)} decisions about which records are the same"
            self._hear(self._ends, at=said[-1].at, words=words)
            return
        for one in said:
            self._hear(one.at, at=one.at, words=one.words, stream=one.stream, key=one.one)

    def _hear(
        self,
        decided_by: datetime,
        *,
        at: datetime,
        words: str,
        stream: str | None = None,
        key: str | None = None,
    ) -> None:
        self._decided_by = decided_by
        self._entries = self._read_at(self._ends)
        self._moving = set()
        self._add(DECISION, self._made(), at=at, words=words, stream=stream, key=key)

    def end(self, published: Worth) -> None:
        """What is left, which should be nothing."""
        self._add(UNKNOWN, published, at=self._ends, words=self._why_unknown())

    # ---- one change

    def _let_change(self, world: World, change: Change) -> None:
        members = world.component((change.stream, change.key))
        is_faithful = self._is_faithful(world, change, members)
        before, after = world.change(change)
        if not is_faithful:
            return
        fresh = self._read(self._within(world, members))
        moved = [name for name in _names(members) if self._is_other(name, fresh)]
        self._move(fresh, moved)
        if not moved or not self._tell(change, before, after, self._made()):
            self.idle += 1

    def _is_faithful(self, world: World, change: Change, members: Sequence[Name]) -> bool:
        """Whether a neighbourhood, read alone, says what it says among all the others."""
        mark = ("", "") if change.stream in EVERYBODYS else min(members)
        if mark not in self._faithful:
            alone = self._read(self._within(world, members))
            self._faithful[mark] = not any(self._is_other(name, alone) for name in _names(members))
        return self._faithful[mark]

    def _within(self, world: World, members: Sequence[Name]) -> WorldReader:
        return WorldReader(
            self._conn,
            self._catalog,
            self._settings,
            now=self._now,
            decided_by=self._decided_by,
            world=world.given(members),
        )

    def _is_other(self, name: str, entries: Entries) -> bool:
        return _said(entries.get(name, ())) != _said(self._entries.get(name, ()))

    def _tell(
        self,
        change: Change,
        before: CanonicalRecord | None,
        after: CanonicalRecord | None,
        worth: Worth,
    ) -> bool:
        kind, words = change.kind, ""
        if kind == record_history.FIRST_SEEN:
            created = None if after is None else after.created_at
            is_late = created is not None and created <= self._begins
            kind = LATE if is_late else NEW
            words = f"created {_instant(created)}" if is_late else ""
        return self._add(
            kind,
            worth,
            at=change.at,
            run=change.run,
            stream=change.stream,
            key=change.key,
            label=label_of(after or before),
            fields=_fields(change, before, after),
            words=words,
        )

    def _settle(self, final: Entries, within: Sequence[Change]) -> None:
        """What the records say at the end, where following the changes did not lead there."""
        rest = [name for name in self._entries.keys() | final.keys() if self._is_other(name, final)]
        of_record: dict[str, list[Change]] = defaultdict(list)
        for change in within:
            of_record[f"{change.stream} {change.key}"].append(change)
        for name in sorted(rest, key=lambda one: (one not in of_record, one)):
            self._move(final, [name])
            stream, key = _name(name)
            known = of_record.get(name, [])
            self._add(
                SEVERAL if known else UNKNOWN,
                self._made(),
                at=known[-1].at if known else self._ends,
                run=known[-1].run if known else None,
                stream=stream,
                key=key,
                words=f"{len(known)} changes together" if known else self._why_unknown(),
            )

    # ---- counting

    def _made(self) -> Worth:
        settings = self._settings
        calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)
        today = self._now.astimezone(self._catalog.company.timezone).date()
        period = period_named(self._place.period, today, calendar)
        if self._recipe.is_up_to_now and period.start > today.toordinal():
            return Worth()  # a period has no such value before it begins
        book = self._book()
        view = View(book, self._grouping, self._place.key, period, today.toordinal(), calendar)
        return Worth.made(
            self._recipe.make(view, Ask(settings, self._catalog.own(self._kpi), self._now))
        )

    def _book(self) -> Book:
        """What all records say; most of it once, for few of them change."""
        if self._still is None:
            still = (
                entry
                for name, entries in self._entries.items()
                if name not in self._moving
                for entry in entries
            )
            self._still = told_again(still, self._recipe.subjects, self._groupings)
        book = self._still.copy()
        for name in sorted(self._moving & self._entries.keys()):
            for entry in self._entries[name]:
                entry.write(book)
        return book

    def _move(self, entries: Entries, names: Iterable[str]) -> None:
        """Let these records say something else from now on."""
        fresh = set(names) - self._moving
        if fresh:
            self._moving |= fresh
            self._still = None
        for name in names:
            self._entries[name] = entries.get(name, ())

    def _read_at(self, at: datetime, *, with_loads: bool = False) -> dict[str, Sequence[Entry]]:
        reader = PastReader(
            self._conn,
            self._catalog,
            self._settings,
            now=self._now,
            at=at,
            decided_by=self._decided_by,
            with_loads=with_loads,
        )
        found = self._read(reader)
        self._asked |= reader.asked
        self._still = None
        return found

    def _read(self, reader: Reader) -> dict[str, Sequence[Entry]]:
        ledger = Ledger(self._grouping, self._place.key)
        for read in readers_of(self._kpi):
            read(reader, ledger)
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in ledger.entries:
            found[entry.record].append(entry)
        return dict(found)

    def _settings_at(self, at: datetime) -> KpiSettings:
        """The settings of today with the rates of then."""
        noted = {one.name: one.text for one in definitions.in_force(self._conn, at)}
        if definitions.RATES not in noted:
            return self._catalog.settings
        fixed, dated, kept_by = meaning.rates_of(noted[definitions.RATES])
        return replace(self._catalog.settings, rates=fixed, dated_rates=dated, rates_from=kept_by)

    # ---- telling

    def _add(
        self,
        kind: str,
        worth: Worth,
        *,
        at: datetime | None,
        words: str = "",
        run: str | None = None,
        stream: str | None = None,
        key: str | None = None,
        label: str | None = None,
        fields: Sequence[FieldChange] = (),
    ) -> bool:
        """Go on with another value; whether it differs from the one before."""
        delta = worth.minus(self._worth)
        self._worth = worth
        if not delta.is_nothing:
            self.reasons.append(
                Reason(kind, at, delta, worth, words, run, stream, key, label, fields)
            )
        return not delta.is_nothing

    def _why_unknown(self) -> str:
        known_since = record_history.known_since(self._conn)
        if known_since is not None and self._begins < known_since:
            return (
                f"changes before {_instant(known_since)} are forgotten (advanced.keep_history): "
                "what they did cannot be told apart"
            )
        for load in record_history.loads(self._conn):
            if load.stream in self._asked and load.began <= self._begins < load.ended:
                return (
                    f"{load.connection}.{load.stream} was being read for the first time then: "
                    "which of its records had come is not known"
                )
        return "nothing that is kept explains it; see kpisync verify"


def _said(entries: Iterable[Entry]) -> list[tuple[object, ...]]:
    """What entries say, so that it can be compared."""
    return [entry.said for entry in entries]


def _names(members: Iterable[Name]) -> set[str]:
    return {f"{stream} {key}" for stream, key in members}


def _name(name: str) -> Name:
    stream, key = name.split(" ", 1)
    return stream, key


def _fields(
    change: Change, before: CanonicalRecord | None, after: CanonicalRecord | None
) -> list[FieldChange]:
    if before is None or after is None or change.former is None:
        return []
    found: list[FieldChange] = []
    for name in change.former:
        if name == "deleted":
            continue  # the kind of the change says it
        if name == "extra":
            found += _extra_fields(before.extra, after.extra)
        else:
            found.append((name, getattr(before, name), getattr(after, name)))
    return found


def _extra_fields(
    before: Mapping[str, Scalar], after: Mapping[str, Scalar]
) -> Iterator[FieldChange]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _instant(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"
