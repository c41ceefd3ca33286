"""What time alone changes: windows that moved, days that came, deals that stalled, ages.

The cells hold dated contributions, also of days to come; nothing in them changes with the
clock. What changes are published values. Of which instant they are true is remembered; a step
of publication first notes as dirty what the time since then has made wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from sqlalchemy import Connection, Select, and_, func, insert, literal, or_, select
from sqlalchemy.sql.elements import ColumnElement

from metrics import rates
from metrics.catalog import Bundle, Catalog
from metrics.contributions.terms import MICROSECONDS_PER_DAY
from metrics.definition import VELOCITY_DAYS, Bucket, Family, Part, Span
from metrics.dimensions import TOTAL_KEY, TOTAL_NAME
from metrics.expression import rating
from metrics.expression.zones import first_instant
from metrics.periods import (
    CALENDAR_KINDS,
    Kind,
    is_rolling,
    period_of,
    rolling_days,
    year_before,
)
from metrics.rates import RateBook
from store import kpis as stored
from store.conversion import day_of, instant_number, instant_of, local_day
from store.kpis import DirtyKey
from store.tables import CELLS, DIRTY_KEYS, NO_DAY

_STEP: Final = timedelta(microseconds=1)

CAME: Final = 0
"""The number of notes about cells whose day has come, in `store.kpis.clock_day`."""

BEGUN: Final[Mapping[Kind, int]] = MappingProxyType(
    {kind: place for place, kind in enumerate(CALENDAR_KINDS, start=1)}
)
"""Kind of period -> the number of notes about periods of the kind that began on a day."""


class _Moved(NamedTuple):
    """Cells whose part in some values the clock changed, and how that is noted."""

    family: str
    where: ColumnElement[bool]
    day: ColumnElement[int]


def published_at(conn: Connection) -> datetime | None:
    """The instant of which the published values are true, beside what is dirty."""
    noted = stored.fingerprints(conn).get(stored.CLOCK)
    return None if noted is None else datetime.fromisoformat(noted)


def note(
    conn: Connection,
    catalog: Catalog,
    families: Mapping[str, Family],
    book: RateBook,
    as_of: datetime,
) -> datetime:
    """Note as dirty what the clock and the rates changed since the last time.

    Args:
        conn: in `store.engine.writing`.
        catalog: what is published.
        families: those whose cells are up to date.
        book: the rates that hold now.
        as_of: now.

    Returns:
        The instant to compute for: now, or the last time's if the clock went back.
    """
    fingerprints = stored.fingerprints(conn)
    noted = fingerprints.get(stored.CLOCK)
    last = None if noted is None else datetime.fromisoformat(noted)
    now = as_of if last is None else max(as_of, last)
    moved: list[_Moved] = []
    if last is not None and now > last:
        moved += _moved_by_clock(catalog, families, last, now)
        moved += _moved_by_rates_of_today(catalog, families, book, last, now)
    moved += _moved_by_rates(families, fingerprints.get(stored.RATES), book)
    for one in moved:
        _note(conn, one)
    if now != last:
        stored.save_fingerprint(conn, stored.CLOCK, now.astimezone(UTC).isoformat())
    if fingerprints.get(stored.RATES) != book.to_text():
        stored.save_fingerprint(conn, stored.RATES, book.to_text())
    return now


def _note(conn: Connection, moved: _Moved) -> None:
    key = (literal(moved.family), CELLS.c.dimension, CELLS.c.key, moved.day)
    rows: Select[tuple[object, ...]] = (
        select(*key).where(CELLS.c.family == moved.family, moved.where).distinct()
    )
    found = rows.subquery("found")
    columns = list(DIRTY_KEYS.primary_key.columns)
    is_new = ~(
        select(DIRTY_KEYS.c.family)
        .where(*(column == place for column, place in zip(columns, found.c, strict=True)))
        .exists()
    )
    conn.execute(
        insert(DIRTY_KEYS).from_select(list(DirtyKey._fields), select(found).where(is_new))
    )


# ---------------------------------------------------------------- what the clock moves


def _moved_by_clock(
    catalog: Catalog, families: Mapping[str, Family], last: datetime, now: datetime
) -> Iterable[_Moved]:
    zone = catalog.company.timezone
    instants = instant_number(last), instant_number(now)
    days = local_day(last, zone), local_day(now, zone)
    for family in families.values():
        bundles = [one for one in catalog.bundles if family in one.families]
        if family.bucket is Bucket.INSTANT and bundles:
            is_aged = any(
                term.part is Part.AGE for one in bundles for kpi in one.kpis for term in kpi.terms
            )
            where = _passed(*instants, is_aged=is_aged)
            yield _Moved(family.name, where, literal(stored.WHOLE_GROUP))
        if days[1] > days[0]:
            yield from _moved_by_days(catalog, family, bundles, *days)


def _passed(last: int, now: int, *, is_aged: bool) -> ColumnElement[bool]:
    """Cells whose instant was passed, or which are a whole day older."""
    bucket = CELLS.c.bucket
    passed = and_(bucket >= last, bucket < now)
    if not is_aged:
        return passed
    day = literal(MICROSECONDS_PER_DAY)
    older = (now - bucket) // day != (last - bucket) // day
    return or_(passed, and_(bucket < now, older))


def _moved_by_days(
    catalog: Catalog, family: Family, bundles: Iterable[Bundle], last: int, today: int
) -> Iterable[_Moved]:
    came = _between(last + 1, today)
    rolling: list[ColumnElement[bool]] = []
    begun: dict[Kind, set[Span]] = defaultdict(set)
    for bundle in bundles:
        spans = bundle.spans_of(family.name)
        if is_rolling(bundle.kind):
            rolling.append(came)
            rolling += _left(family, spans, rolling_days(bundle.kind), last, today)
        elif Span.LAST_90D in spans:
            rolling += [came, _between(last + 1 - VELOCITY_DAYS, today - VELOCITY_DAYS)]
        elif bundle.is_calendar and bundle.is_up_to_now:
            begun[Kind(bundle.kind)] |= spans
    if rolling:
        yield _Moved(family.name, or_(*rolling), literal(stored.ROLLING))
    if family.is_clocked and not family.is_running:
        yield _Moved(family.name, came, CELLS.c.day + literal(stored.clock_day(0, CAME)))
    for kind, spans_of_kind in begun.items():
        yield from _moved_by_begun_periods(catalog, family, kind, spans_of_kind, last, today)


def _left(
    family: Family, spans: AbstractSet[Span], days: int, last: int, today: int
) -> Iterable[ColumnElement[bool]]:
    """The days that left the spans of the last so many days."""
    if Span.BEFORE in spans or (spans - {Span.UPTO} and not family.is_running):
        yield _between(last + 1 - days, today - days)
    if Span.PREVIOUS in spans:
        yield _between(last + 1 - 2 * days, today - 2 * days)
    if Span.NORM in spans:
        # Those that come to the norm have just left the window.
        yield _between(year_before(last + 1 - days), year_before(today + 1 - days) - 1)


def _moved_by_begun_periods(  # noqa: PLR0917 - between which days, of what, and for what
    catalog: Catalog, family: Family, kind: Kind, spans: Collection[Span], last: int, today: int
) -> Iterable[_Moved]:
    """Groups that may have a value for periods that began since the last time."""
    calendar = catalog.settings.calendar
    ended, running = period_of(calendar, kind, last), period_of(calendar, kind, today)
    if ended == running:
        return
    if {Span.UPTO, Span.BEFORE} & set(spans):
        where = CELLS.c.day < running.stop
    else:
        first = ended.start if Span.PREVIOUS in spans else ended.stop
        where = _between(first, running.stop - 1)
    note = stored.clock_day(ended.stop, BEGUN[kind])
    yield _Moved(family.name, where, literal(note))


def _between(first: int, last: int) -> ColumnElement[bool]:
    return CELLS.c.day.between(first, last)


def _moved_by_rates(
    families: Mapping[str, Family], before: str | None, book: RateBook
) -> Iterable[_Moved]:
    if before is None:
        return
    changed = rates.first_changes(before, book)
    for family in families.values() if changed else ():
        if family.money or family.has_money_buckets:
            where = or_(
                *(
                    and_(
                        CELLS.c.currency == currency,
                        or_(CELLS.c.day >= day, CELLS.c.day == NO_DAY),
                    )
                    for currency, day in sorted(changed.items())
                )
            )
            yield _Moved(family.name, where, CELLS.c.day)


def _moved_by_rates_of_today(
    catalog: Catalog,
    families: Mapping[str, Family],
    book: RateBook,
    last: datetime,
    now: datetime,
) -> Iterable[_Moved]:
    """Amounts of unknown days, which have the rate of today, when another one began to hold."""
    zone = catalog.company.timezone
    days = local_day(last, zone), local_day(now, zone)
    currencies = [
        currency
        for currency, spans in sorted(book.spans.items())
        if any(days[0] < since <= days[1] for since, _ in spans)
    ]
    for family in families.values() if currencies else ():
        if family.money or family.has_money_buckets:
            where = and_(CELLS.c.day == NO_DAY, CELLS.c.currency.in_(currencies))
            yield _Moved(family.name, where, CELLS.c.day)


# ---------------------------------------------------------------- what is due


def is_due(conn: Connection, catalog: Catalog, now: datetime) -> bool:
    """Whether time alone has made a published value wrong."""
    last = published_at(conn)
    if last is None or now <= last:
        return False
    due = next_change(conn, catalog, last)
    return due is not None and due <= now


def next_change(conn: Connection, catalog: Catalog, after: datetime) -> datetime | None:
    """The next instant at which a published value can change by time alone; None: never."""
    found: list[datetime] = []
    bundles = catalog.bundles
    today = local_day(after, catalog.company.timezone)
    if any(one.is_up_to_now or is_rolling(one.kind) for one in bundles):
        found.append(_beginning(catalog, today + 1))
    book = rates.load_book(conn, catalog.settings)
    dated = [since for spans in book.spans.values() for since, _ in spans if since > today]
    found += [_beginning(catalog, min(dated))] if dated else []
    for family in catalog.families.values():
        if family.bucket is Bucket.INSTANT:
            found += _next_instants(conn, catalog, family, after)
    rated = rating.next_change(conn, catalog, after)
    if rated is not None:
        found.append(instant_of(first_instant(rated, catalog.company.timezone)))
    return min((one for one in found if one > after), default=None)


def _beginning(catalog: Catalog, day: int) -> datetime:
    """The first instant of a local day."""
    date = day_of(day)
    midnight = datetime(date.year, date.month, date.day, tzinfo=catalog.company.timezone)
    return midnight.astimezone(UTC)


def _next_instants(
    conn: Connection, catalog: Catalog, family: Family, after: datetime
) -> Iterable[datetime]:
    at = instant_number(after)
    is_total = and_(CELLS.c.dimension == TOTAL_NAME, CELLS.c.key == TOTAL_KEY)
    groupings = catalog.groupings[family.name]
    of_family = CELLS.c.family == family.name
    chosen = and_(of_family, is_total) if () in groupings else of_family
    query = select(func.min(CELLS.c.bucket)).where(chosen, CELLS.c.bucket >= at)
    first = conn.execute(query).scalar_one()
    if first is not None:
        yield instant_of(first) + _STEP
    is_aged = any(
        term.part is Part.AGE
        for one in catalog.bundles
        if family in one.families
        for kpi in one.kpis
        for term in kpi.terms
    )
    if is_aged:
        since = (literal(at) - CELLS.c.bucket) % literal(MICROSECONDS_PER_DAY)
        oldest = select(func.max(since)).where(chosen, CELLS.c.bucket < at)
        farthest = conn.execute(oldest).scalar_one()
        if farthest is not None:
            yield instant_of(at + MICROSECONDS_PER_DAY - farthest)
