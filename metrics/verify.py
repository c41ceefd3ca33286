"""A second opinion: every value worked out again from the stored records, in plain Python.

Nothing here is shared with the SQL that keeps the cells: records are read one by one, nothing is
rounded before the end, and what a KPI means is written down a second time. If the two disagree,
one of them is wrong, and nobody should believe either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from sys import intern
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import Connection

from metrics.catalog import Catalog
from metrics.definition import Kpi
from store import records
from store.canonical import Account, CanonicalRecord, Deal, Owner, Stage, StageChange
from store.kpis import KpiValue, current_values, kinds_of_current_values, plain

_ROUNDED: Final = Context(prec=28, rounding=ROUND_HALF_UP)
_EXACT: Final = Context(prec=200)
_SECOND: Final = timedelta(seconds=1)

Number: TypeAlias = int | Decimal
Figures: TypeAlias = defaultdict[str, Number]
Dimensions: TypeAlias = Mapping[str, str | None]
Group: TypeAlias = tuple[str, str, str]
"""Dimension, key, period."""
_R = TypeVar("_R", bound=CanonicalRecord)


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored value that does not agree with the records."""

    kpi: str
    period: str
    dimension: str
    key: str
    stored: str | None
    recomputed: str | None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of comparing every value."""

    ok: bool
    checked: int
    differences: list[Difference]


def verify(conn: Connection, catalog: Catalog, *, as_of: datetime) -> Verification:  # noqa: ARG001 - nothing is rolling yet, but callers already say for when
    """Recompute every value of every kept KPI and compare it with the stored one, exactly.

    Args:
        conn: in `store.engine.reading`, so that records and values are of one instant.
        catalog: what is kept.
        as_of: the instant the values are compared for.
    """
    reader = _Reader(conn, catalog)
    checked = 0
    differences: list[Difference] = []
    # One subject after the other: the groups of all of them at once would fill the memory.
    for subject in sorted({recipe.subject for recipe in RECIPES.values()}):
        kpis = [kpi for kpi in catalog.kpis if RECIPES[kpi.name].subject == subject]
        recomputed = _recompute(reader, catalog, subject, kpis)
        stored = _stored(conn, [kpi.name for kpi in kpis])
        checked += len(recomputed.keys() | stored.keys())
        differences += _differences(stored, recomputed)
    unknown = {kpi for kpi, _, _ in kinds_of_current_values(conn)} - {
        kpi.name for kpi in catalog.kpis
    }
    stored = _stored(conn, sorted(unknown))
    differences += _differences(stored, {})
    return Verification(
        ok=not differences,
        checked=checked + len(stored),
        differences=sorted(differences, key=lambda found: (found.kpi, found.dimension, found.key)),
    )


Place: TypeAlias = tuple[str, str, str, str]
"""KPI, dimension, key, period."""


def _stored(conn: Connection, kpis: Sequence[str]) -> dict[Place, _Facts]:
    return {
        (value.kpi, value.dimension, value.key, value.period): _facts_of(value)
        for value in current_values(conn, kpis=kpis)
    }


def _differences(
    stored: Mapping[Place, _Facts], recomputed: Mapping[Place, _Facts]
) -> Iterator[Difference]:
    for place in stored.keys() | recomputed.keys():
        one, other = stored.get(place), recomputed.get(place)
        if not _agree(one, other):
            kpi, dimension, key, period = place
            yield Difference(kpi, period, dimension, key, _words(one), _words(other))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is compared of a value."""

    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None
    n: int
    left_out: tuple[tuple[str, int], ...]
    currency: str | None
    definition: str

    @property
    def is_empty(self) -> bool:
        """No record stands behind it: a group that emptied is like one that never was."""
        return not self.n and not self.left_out and not self.value and not self.numerator


def _facts_of(value: KpiValue) -> _Facts:
    return _Facts(
        value=value.value,
        numerator=value.numerator,
        denominator=value.denominator,
        n=value.n,
        left_out=tuple(sorted(value.left_out.items())),
        currency=value.currency,
        definition=value.definition,
    )


def _agree(stored: _Facts | None, recomputed: _Facts | None) -> bool:
    if stored is None or recomputed is None:
        one = stored or recomputed
        # A recomputed value always has records: only a stored one can be an emptied group.
        return one is stored and one is not None and one.is_empty
    return stored == recomputed


def _words(facts: _Facts | None) -> str | None:
    if facts is None:
        return None
    parts = [f"n {facts.n}", *(f"{reason} {count}" for reason, count in facts.left_out)]
    if facts.denominator is not None:
        parts.insert(0, f"{plain(facts.numerator)} / {plain(facts.denominator)}")
    return f"{plain(facts.value) or 'no value'} ({', '.join(parts)}, {facts.definition})"


# ---------------------------------------------------------------- what a KPI means, once more


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A KPI over the figures of one subject."""

    subject: str
    numerator: Callable[[Figures], Number]
    denominator: Callable[[Figures], Number] | None
    n: Callable[[Figures], Number]
    left_out: Mapping[str, Callable[[Figures], Number]]
    divisor: int


def _recipe(
    subject: str,
    numerator: str,
    *,
    over: str | None = None,
    n: str,
    left_out: Mapping[str, str] | None = None,
    divisor: int = 1,
) -> _Recipe:
    return _Recipe(
        subject=subject,
        numerator=_adding(numerator),
        denominator=None if over is None else _adding(over),
        n=_adding(n),
        left_out={reason: _adding(names) for reason, names in (left_out or {}).items()},
        divisor=divisor,
    )


def _adding(names: str) -> Callable[[Figures], Number]:
    wanted = names.split()
    return lambda figures: _sum([figures[name] for name in wanted])


def _sum(numbers: Iterable[Number]) -> Number:
    total: Number = 0
    for number in numbers:
        total = _plus(total, number)
    return total


def _plus(one: Number, other: Number) -> Number:
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return _EXACT.add(one, other)


_WON_UNPRICED: Final = {"no_amount": "won_without_amount", "no_rate": "won_without_rate"}
_LOST_UNPRICED: Final = {"no_amount": "lost_without_amount", "no_rate": "lost_without_rate"}
_CLOSED_UNPRICED: Final = {
    "no_amount": "won_without_amount lost_without_amount",
    "no_rate": "won_without_rate lost_without_rate",
}
_OPEN_UNPRICED: Final = {"no_amount": "without_amount", "no_rate": "without_rate"}

RECIPES: Final[Mapping[str, _Recipe]] = {
    "won_count": _recipe("closed", "won", n="won"),
    "lost_count": _recipe("closed", "lost", n="lost"),
    "closed_count": _recipe("closed", "won lost", n="won lost"),
    "won_value": _recipe("closed", "won_money", n="won_priced", left_out=_WON_UNPRICED),
    "lost_value": _recipe("closed", "lost_money", n="lost_priced", left_out=_LOST_UNPRICED),
    "win_rate": _recipe("closed", "won", over="won lost", n="won lost"),
    "win_rate_value": _recipe(
        "closed",
        "won_money",
        over="won_money lost_money",
        n="won_priced lost_priced",
        left_out=_CLOSED_UNPRICED,
    ),
    "avg_deal_value": _recipe(
        "closed", "won_money", over="won_priced", n="won_priced", left_out=_WON_UNPRICED
    ),
    "revenue": _recipe("closed", "won_money", n="won_priced", left_out=_WON_UNPRICED),
    "purchases": _recipe("closed", "won", n="won"),
    "deals_created": _recipe("created", "all", n="all"),
    "close_rate": _recipe("created", "won", over="all", n="all"),
    "closed_of_created": _recipe("created", "closed", over="all", n="all"),
    "sales_cycle_days": _recipe(
        "cycle",
        "days",
        over="measured",
        n="measured",
        left_out={"negative_duration": "negative", "no_date": "undated"},
    ),
    "time_in_stage_days": _recipe(
        "visits",
        "seconds",
        over="visits",
        n="visits",
        left_out={"unknown_stage": "unknown"},
        divisor=86_400,
    ),
    "stage_visits": _recipe("visits", "visits", n="visits", left_out={"unknown_stage": "unknown"}),
    "open_count": _recipe("open", "all", n="all"),
    "open_value": _recipe("open", "money", n="priced", left_out=_OPEN_UNPRICED),
    "weighted_pipeline": _recipe(
        "open",
        "weighted",
        n="weighable",
        left_out={**_OPEN_UNPRICED, "no_probability": "without_probability"},
    ),
    "buyers": _recipe("buyers", "accounts", n="accounts", left_out={"no_account": "anonymous"}),
    "new_customers": _recipe(
        "first", "accounts", n="accounts", left_out={"no_account": "anonymous"}
    ),
}
"""KPI -> its recipe."""


# ---------------------------------------------------------------- recomputing


def _recompute(
    reader: _Reader, catalog: Catalog, subject: str, kpis: Sequence[Kpi]
) -> dict[Place, _Facts]:
    book = _Book(catalog, kpis)
    reader.read(subject, book)
    facts: dict[Place, _Facts] = {}
    wanted = {kpi.name: set(_places_of(catalog, kpi)) for kpi in kpis}
    for (dimension, key, period), figures in book.figures().items():
        place = (_kind_of_label(period), dimension)
        for kpi in kpis:
            if place not in wanted[kpi.name]:
                continue
            found = _value(kpi, RECIPES[kpi.name], figures, catalog.company.currency)
            if found is not None:
                facts[kpi.name, dimension, key, period] = found
    return facts


def _places_of(catalog: Catalog, kpi: Kpi) -> Iterator[tuple[str, str]]:
    for kind in catalog.kinds_of(kpi):
        for grouping in catalog.groupings_of(kpi, kind):
            yield str(kind), ",".join(grouping) or "all"


def _value(kpi: Kpi, recipe: _Recipe, figures: Figures, currency: str) -> _Facts | None:
    n = int(recipe.n(figures))
    left_out = {reason: int(count(figures)) for reason, count in recipe.left_out.items()}
    left_out = {reason: count for reason, count in left_out.items() if count}
    if not n and not left_out:
        return None
    numerator = Decimal(recipe.numerator(figures))
    divisor = Decimal(recipe.divisor)
    denominator = None if recipe.denominator is None else Decimal(recipe.denominator(figures))
    if denominator is None:
        value: Decimal | None = _ROUNDED.divide(numerator, divisor)
    elif denominator:
        value = _ROUNDED.divide(numerator, _EXACT.multiply(denominator, divisor))
    else:
        value = None
    return _Facts(
        value=value,
        numerator=_ROUNDED.divide(numerator, divisor),
        denominator=None if denominator is None else _ROUNDED.plus(denominator),
        n=n,
        left_out=tuple(sorted(left_out.items())),
        currency=currency if kpi.unit == "money" else None,
        definition=f"{kpi.name}@{kpi.version}",
    )


class _Book:
    """Figures of one subject, group by group and day by day, then period by period."""

    def __init__(self, catalog: Catalog, kpis: Sequence[Kpi]) -> None:
        self._settings = catalog.settings
        self._kinds: dict[tuple[str, ...], set[str]] = {}
        for kpi in kpis:
            for kind in catalog.kinds_of(kpi):
                for grouping in catalog.groupings_of(kpi, kind):
                    self._kinds.setdefault(grouping, set()).add(str(kind))
        self._days: dict[tuple[str, ...], dict[tuple[str, date | None], Figures]] = {
            grouping: {} for grouping in self._kinds
        }
        self._members: set[tuple[Group, str]] = set()

    def add(self, day: date | None, dimensions: Dimensions, figures: Mapping[str, Number]) -> None:
        """Add a record's figures to all its groups."""
        for grouping, days in self._days.items():
            key = _key([dimensions[name] for name in grouping])
            if key is not None:
                _add(days.setdefault((key, day), defaultdict(int)), figures)

    def count_once(self, day: date | None, dimensions: Dimensions, member: str) -> None:
        """Count a member once in each group and period, however often it comes."""
        for grouping, kinds in self._kinds.items():
            key = _key([dimensions[name] for name in grouping])
            for kind in kinds:
                period = self._label(kind, day)
                if key is not None and period is not None:
                    self._members.add(((",".join(grouping) or "all", key, period), member))

    def figures(self) -> dict[Group, Figures]:
        """What the days of each period add up to."""
        found: dict[Group, Figures] = {}
        for grouping, days in self._days.items():
            dimension = ",".join(grouping) or "all"
            for (key, day), figures in days.items():
                for kind in self._kinds[grouping]:
                    period = self._label(kind, day)
                    if period is not None:
                        group = (dimension, key, period)
                        _add(found.setdefault(group, defaultdict(int)), figures)
        for group, _ in self._members:
            _add(found.setdefault(group, defaultdict(int)), {"accounts": 1})
        return found

    def _label(self, kind: str, day: date | None) -> str | None:
        return _label(kind, day, self._settings.week_starts, self._settings.fiscal_year_starts)


def _add(sums: Figures, figures: Mapping[str, Number]) -> None:
    for name, number in figures.items():
        sums[name] = _plus(sums[name], number)


def _key(values: Sequence[str | None]) -> str | None:
    if any(value is None for value in values):
        return None
    texts = [value or "" for value in values]
    if not texts:
        return "*"
    if len(texts) == 1:
        return texts[0]
    return ",".join(
        "".join("\\" + letter if letter in "\\," else letter for letter in text) for text in texts
    )


# ---------------------------------------------------------------- reading


class _Reader:
    """Reads the deals and writes what they amount to into a book."""

    def __init__(self, conn: Connection, catalog: Catalog) -> None:
        self._conn = conn
        self._company = catalog.company
        self._settings = catalog.settings
        self._accounts = {account.ref.key: account for account in self._all(Account)}
        self._owners = {owner.ref.key: owner for owner in self._all(Owner)}
        self._is_closed = {stage.ref.key: stage.is_closed for stage in self._all(Stage)}
        self._same_owner = self._matched_owners()
        self._history: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for change in self._all(StageChange):
            if _exists(change):
                self._history[change.deal].append((change.at, intern(change.stage)))
        for changes in self._history.values():
            # They came sorted by key: of one instant they keep that order.
            changes.sort(key=itemgetter(0))

    def _all(self, record_type: type[_R]) -> Iterator[_R]:
        for record in records.iterate(self._conn, record_type.STREAM, self._company):
            if isinstance(record, record_type):
                yield record

    def _deals(self) -> Iterator[tuple[Deal, Dimensions]]:
        for deal in self._all(Deal):
            if _exists(deal):
                yield deal, self._dimensions(deal)

    def _won(self) -> Iterator[tuple[Deal, Dimensions, date | None]]:
        for deal, dimensions in self._deals():
            if deal.is_closed and deal.is_won:
                yield deal, dimensions, self._closed_day(deal)

    def read(self, subject: str, book: _Book) -> None:
        """Go through all deals for one subject."""
        readers: Mapping[str, Callable[[_Book], None]] = {
            "created": self._read_created,
            "closed": self._read_closed,
            "cycle": self._read_cycles,
            "visits": self._read_visits,
            "open": self._read_open,
            "buyers": self._read_buyers,
            "first": self._read_first_purchases,
        }
        readers[subject](book)

    def _read_created(self, book: _Book) -> None:
        for deal, dimensions in self._deals():
            is_won = deal.is_closed and deal.is_won
            figures = {"all": 1, "won": int(is_won), "closed": int(deal.is_closed)}
            book.add(self._local_day(deal.created_at), dimensions, figures)

    def _read_closed(self, book: _Book) -> None:
        for deal, dimensions in self._deals():
            if deal.is_closed:
                outcome = "won" if deal.is_won else "lost"
                money = {f"{outcome}_{name}": number for name, number in self._money(deal).items()}
                book.add(self._closed_day(deal), dimensions, {outcome: 1, **money})

    def _read_cycles(self, book: _Book) -> None:
        for deal, dimensions, closed in self._won():
            book.add(closed, dimensions, _cycle(self._local_day(deal.created_at), closed))

    def _read_open(self, book: _Book) -> None:
        for deal, dimensions in self._deals():
            if deal.is_closed:
                continue
            figures: dict[str, Number] = {"all": 1, **self._money(deal)}
            if "priced" in figures and (deal.probability is None or deal.probability < 0):
                figures["without_probability"] = 1
            elif "priced" in figures and deal.probability is not None:
                figures["weighable"] = 1
                figures["weighted"] = _EXACT.multiply(Decimal(figures["money"]), deal.probability)
            book.add(deal.close_date, dimensions, figures)

    def _read_buyers(self, book: _Book) -> None:
        for _, dimensions, closed in self._won():
            account = dimensions["account"]
            if account is None:
                book.add(closed, dimensions, {"anonymous": 1})
            else:
                book.count_once(closed, dimensions, account)

    def _read_first_purchases(self, book: _Book) -> None:
        first: dict[str, tuple[tuple[bool, date, str], Dimensions]] = {}
        for deal, dimensions, closed in self._won():
            account = dimensions["account"]
            rank = (closed is None, closed or date.max, deal.ref.key)
            if account is None:
                book.add(closed, dimensions, {"anonymous": 1})
            elif account not in first or rank < first[account][0]:
                first[account] = (rank, dimensions)
        for (has_no_day, day, _), dimensions in first.values():
            book.add(None if has_no_day else day, dimensions, {"accounts": 1})

    def _money(self, deal: Deal) -> dict[str, Number]:
        if deal.amount is None:
            return {"without_amount": 1}
        if not deal.currency or deal.currency == self._company.currency:
            return {"money": deal.amount, "priced": 1}
        rate = self._settings.rates.get(deal.currency)
        if rate is None:
            return {"without_rate": 1}
        return {"money": _EXACT.multiply(deal.amount, rate), "priced": 1}

    def _closed_day(self, deal: Deal) -> date | None:
        known = deal.close_date or self._local_day(deal.closed_at)
        if known is not None:
            return known
        closings = [at for at, stage in self._entries(deal) if self._is_closed_stage(stage, deal)]
        return self._local_day(closings[-1]) if closings else None

    def _read_visits(self, book: _Book) -> None:
        for deal, dimensions in self._deals():
            for (at, stage), (left_at, _) in pairwise(self._entries(deal)):
                is_closed = self._is_closed_stage(stage, deal)
                if is_closed:
                    continue
                seconds = (left_at - at) // _SECOND
                book.add(
                    self._local_day(left_at),
                    {**dimensions, "stage": stage},
                    {"unknown": 1} if is_closed is None else {"visits": 1, "seconds": seconds},
                )

    def _entries(self, deal: Deal) -> list[tuple[datetime, str]]:
        """When the deal entered a stage other than the one it stood in, and which."""
        entries: list[tuple[datetime, str]] = []
        for at, stage in self._history.get(deal.ref.key, ()):
            if not entries or entries[-1][1] != stage:
                entries.append((at, stage))
        return entries

    def _is_closed_stage(self, stage: str, deal: Deal) -> bool | None:
        """None: nobody knows."""
        known = self._is_closed.get(stage)
        return deal.is_closed if known is None and stage == deal.stage else known

    def _dimensions(self, deal: Deal) -> Dimensions:
        return {
            "owner": None if deal.owner is None else self._owner(deal.owner),
            "account": None if deal.account is None else self._account(deal.account),
            "pipeline": deal.pipeline,
            "stage": deal.stage,
            "product": _cut(deal.product),
            "source": _cut(deal.source),
            "type": _cut(deal.type),
            "kind": _cut(deal.kind),
            "region": _cut(deal.region),
            "segment": _cut(deal.segment),
            "campaign": deal.campaign,
        }

    # ---- who stands for whom

    def _account(self, key: str) -> str | None:
        last = _last_winner(key, self._accounts)
        account = self._accounts.get(last)
        is_gone = account is not None and account.deleted and account.merged_into is None
        return None if is_gone else last

    def _owner(self, key: str) -> str:
        last = _last_winner(key, self._owners)
        return self._same_owner.get(last, last)

    def _matched_owners(self) -> Mapping[str, str]:
        if not self._settings.match_owners_by_email:
            return {}
        by_email: dict[str, set[str]] = defaultdict(set)
        for key in self._owners:
            owner = self._owners.get(_last_winner(key, self._owners))
            if owner is not None and owner.email and owner.email.strip():
                by_email[owner.email.strip().lower()].add(owner.ref.key)
        return {
            key: min(keys)
            for keys in by_email.values()
            if len({key.split(":")[0] for key in keys}) > 1
            for key in keys
        }

    def _local_day(self, instant: datetime | None) -> date | None:
        return None if instant is None else instant.astimezone(self._company.timezone).date()


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:120]


def _exists(record: CanonicalRecord) -> bool:
    return not record.deleted and record.merged_into is None


def _last_winner(key: str, known: Mapping[str, CanonicalRecord]) -> str:
    seen = [key]
    while (record := known.get(seen[-1])) is not None and record.merged_into is not None:
        if record.merged_into in seen:
            return min(seen[seen.index(record.merged_into) :])
        seen.append(record.merged_into)
    return seen[-1]


def _cycle(created: date | None, closed: date | None) -> Mapping[str, Number]:
    if created is None or closed is None:
        return {"undated": 1}
    days = (closed - created).days
    return {"negative": 1} if days < 0 else {"measured": 1, "days": days}


# ---------------------------------------------------------------- periods, once more


@lru_cache(maxsize=65_536)
def _label(kind: str, day: date | None, week_starts: int, fiscal_start: int) -> str | None:
    if kind in ("all", "now"):
        return kind
    if day is None:
        return None
    if kind.startswith("fiscal_"):
        return _fiscal_label(kind, day, fiscal_start)
    match kind:
        case "day":
            return day.isoformat()
        case "week":
            return _week_label(day, week_starts)
        case "month":
            return day.isoformat()[:7]
        case "quarter":
            return f"{day.year:04d}-Q{(day.month + 2) // 3}"
    return f"{day.year:04d}"


def _week_label(day: date, week_starts: int) -> str:
    fourth = day.toordinal() - (day.weekday() - week_starts) % 7 + 3
    year, week, _ = date.fromordinal(min(fourth, date.max.toordinal())).isocalendar()
    return f"{year:04d}-W{week:02d}"


def _fiscal_label(kind: str, day: date, fiscal_start: int) -> str:
    # Month 1 of the fiscal year is the month in which it starts.
    month = (day.month - fiscal_start) % 12 + 1
    ends_next_year = fiscal_start != 1 and day.month >= fiscal_start
    year = f"FY{day.year + ends_next_year:04d}"
    match kind:
        case "fiscal_month":
            return f"{year}-M{month:02d}"
        case "fiscal_quarter":
            return f"{year}-Q{(month + 2) // 3}"
    return year


def _kind_of_label(label: str) -> str:
    if label in ("all", "now"):
        return label
    is_fiscal = label.startswith("FY")
    _, _, rest = label.partition("-")
    if not rest:
        kind = "year"
    elif rest[0] == "Q":
        kind = "quarter"
    elif rest[0] == "W":
        kind = "week"
    else:
        kind = "day" if "-" in rest else "month"
    return f"fiscal_{kind}" if is_fiscal else kind


def missing_recipes(kpis: Iterable[str]) -> list[str]:
    """KPIs that nobody has written down a second time."""
    return sorted(set(kpis) - RECIPES.keys())
