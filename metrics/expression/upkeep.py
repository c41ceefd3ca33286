"""What records add to the families of custom KPIs, worked out by bound statements.

An increment asks for the records that a page touches, before and after; a rebuild for all of
them. Either way the rows go into one temporary table and from there the way of all families.

Rates that decide which records count, or what a summed amount is worth, are those that were
noted last (`metrics.expression.rating`): both sides of an increment see the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Text,
    and_,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.tables import CUSTOM_DIMENSIONS, CUSTOM_FACTS, TOUCHED_CUSTOM
from metrics.contributions.terms import AFTER, NO_CURRENCY, flag
from metrics.expression import rating, tree, zones
from metrics.expression.compiling import Records, Setting, thresholds
from metrics.expression.definition import FamilyPart
from metrics.expression.fields import Field
from metrics.rates import IN_MILLIONTHS, IN_UNITS
from store import temporary
from store.compiled import AnySelect, Parameters, bound_text_of
from store.engine import is_postgresql
from store.own_fields import LARGEST
from store.tables import MEASURES, NO_DAY

if TYPE_CHECKING:
    from metrics.catalog import Catalog

_ALWAYS: Final = -(2**62)
"""The bucket of what holds from the beginning of time on."""
_BEGINNING: Final = -10_000_000
"""A day before all others."""
_SECONDS_PER_DAY: Final = 86_400
_MICROSECONDS: Final = 1_000_000

_COLUMNS: Final = (
    *("family", "side", "day", "currency", "bucket"),
    *MEASURES,
    *CUSTOM_DIMENSIONS,
)


def prepare(conn: Connection, catalog: Catalog, families: Collection[str]) -> None:
    """Let statements on this connection know the company's zone and the rates.

    Args:
        conn: in `store.engine.writing`.
        catalog: what is kept.
        families: names of custom families.
    """
    zones.prepare(conn, catalog.company.timezone)
    rating.prepare(conn, catalog, families)


def note(
    conn: Connection,
    catalog: Catalog,
    families: Collection[str],
    side: int,
    *,
    only_touched: bool,
) -> None:
    """Add the rows of some families to the temporary facts.

    Args:
        conn: after `prepare`.
        catalog: what is kept.
        families: names of custom families.
        side: of the rows.
        only_touched: only of the records that a page touches.
    """
    today = rating.noted_day(conn, catalog)
    for name in sorted(families):
        part = catalog.custom_parts[name]
        setting = Setting(
            stream=part.custom.stream,
            currency=catalog.company.currency,
            today=today,
            slots=catalog.money_slots,
            for_postgresql=is_postgresql(conn),
        )
        dimensions = catalog.families[name].dimensions
        for text, values in _texts(_Asked(part, setting, dimensions, side, only_touched)):
            conn.exec_driver_sql(text, values)
    count = f"SELECT count(*) FROM {CUSTOM_FACTS.name}"  # noqa: S608 - our own name
    temporary.analyze(conn, CUSTOM_FACTS.name, conn.exec_driver_sql(count).scalar_one())


def statements_of(
    part: FamilyPart, setting: Setting, dimensions: tuple[str, ...]
) -> list[AnySelect]:
    """The SELECTs that a rebuild runs for one family."""
    return _rows(_Asked(part, setting, dimensions, AFTER, only_touched=False))


# ---------------------------------------------------------------- the rows of one family


@dataclass(frozen=True, slots=True)
class _Asked:
    part: FamilyPart
    setting: Setting
    dimensions: tuple[str, ...]
    side: int
    only_touched: bool


@lru_cache(maxsize=512)
def _texts(asked: _Asked) -> tuple[tuple[str, Parameters], ...]:
    # Composed once: composing takes several times as long as running, page by page.
    return tuple(
        bound_text_of(
            insert(CUSTOM_FACTS).from_select(list(_COLUMNS), rows), asked.setting.for_postgresql
        )
        for rows in _rows(asked)
    )


def _rows(asked: _Asked) -> list[AnySelect]:
    """The SELECTs of one family: one, or one for each day on which time alone moves it."""
    records = Records(asked.setting)
    part = asked.part
    if part.is_distinct:
        return [_distinct(asked, records)]
    if not part.custom.depends_on_today:
        return [_plain(asked, records)]
    return list(_dated(asked, records))


def _plain(asked: _Asked, records: Records) -> AnySelect:
    beginning = literal(_BEGINNING, Integer())
    counts = {
        role: _holds(records, condition, beginning) for role, condition in asked.part.conditions
    }
    value = _value(asked.part, records)
    measures = _measures(asked.part, counts, value)
    bucket: ColumnElement[int] = literal(0, BigInteger())
    if asked.part.is_ranked:
        bucket = func.coalesce(value.number, 0)
    return _select(asked, records, or_(*counts.values()), value.currency, bucket, measures)


def _distinct(asked: _Asked, records: Records) -> AnySelect:
    ((_, condition),) = asked.part.conditions
    field = asked.part.aggregates[0].value
    if not isinstance(field, Field):
        raise TypeError("members are the values of a field")
    member = records.dimension(field.name, None)
    holds = _holds(records, condition, literal(_BEGINNING, Integer()))
    return _select(
        asked,
        records,
        and_(holds, member.is_not(None)),
        member,
        literal(0, BigInteger()),
        {"members": literal(1, Integer())},
    )


def _dated(asked: _Asked, records: Records) -> Iterator[AnySelect]:
    """What holds from the beginning on, and by how much each later day differs from the one before.

    Each day on which a comparison with today changes is looked at from both sides. Two
    comparisons may change on one day, which counts once.
    """
    part = asked.part
    days = thresholds(records, [condition for _, condition in part.conditions])
    value = _value(part, records)
    before_all = literal(_BEGINNING, Integer())
    first = {role: _holds(records, condition, before_all) for role, condition in part.conditions}
    yield _select(
        asked,
        records,
        or_(*first.values()),
        value.currency,
        literal(_ALWAYS, BigInteger()),
        _measures(part, first, value),
    )
    for place, day in enumerate(days):
        before = {role: _holds(records, one, day - 1) for role, one in part.conditions}
        after = {role: _holds(records, one, day) for role, one in part.conditions}
        lost, gained = _measures(part, before, value), _measures(part, after, value)
        differs = or_(*(before[role].is_distinct_from(after[role]) for role in before))
        is_first = and_(true(), *(day.is_distinct_from(other) for other in days[:place]))
        yield _select(
            asked,
            records,
            and_(day.is_not(None), differs, is_first),
            value.currency,
            # An instant is over from the next microsecond on.
            zones.midnight(day) - 1,
            {name: gained[name] - lost[name] for name in gained},
        )


def _holds(
    records: Records, condition: tree.Condition | None, today: ColumnElement[int]
) -> ColumnElement[bool]:
    """Whether a condition is true; unknown is not."""
    if condition is None:
        return true()
    return func.coalesce(records.condition(condition, today), literal(False))


@dataclass(frozen=True)
class _Value:
    """What is summed or ranked of a record."""

    number: ColumnElement[int] | None
    currency: ColumnElement[str]
    """In which the number is; empty where there is none."""
    is_negative: ColumnElement[bool] | None = None


def _value(part: FamilyPart, records: Records) -> _Value:
    value = part.value
    if value is None:
        return _Value(None, literal(NO_CURRENCY, Text()))
    if isinstance(value, tree.Span):
        seconds = _seconds(value, records)
        is_kept = and_(seconds >= 0, seconds <= literal(LARGEST, BigInteger()))
        number: ColumnElement[int] = case((is_kept, seconds))
        return _Value(number, _named(number, literal(IN_UNITS, Text())), seconds < 0)
    number = records.bounded_number(value)
    if part.is_money:
        return _Value(number, _named(number, records.coded_currency()))
    is_whole = value.type == "integer"
    unit = literal(IN_UNITS if is_whole else IN_MILLIONTHS, Text())
    return _Value(number, _named(number, unit))


def _seconds(span: tree.Span, records: Records) -> ColumnElement[int]:
    if span.is_of_days:
        days = cast(records.day(span.end) - records.day(span.start), BigInteger)
        return days * _SECONDS_PER_DAY
    length = records.instant(span.end) - records.instant(span.start)
    # Below zero, where a division would round the other way, nothing is counted.
    backwards = literal(-1, BigInteger())
    return case((length < 0, backwards), else_=cast(length, BigInteger) // _MICROSECONDS)


def _named(number: ColumnElement[int], unit: ColumnElement[str]) -> ColumnElement[str]:
    return case((number.is_not(None), unit), else_=literal(NO_CURRENCY, Text()))


def _measures(
    part: FamilyPart, counts: Mapping[str, ColumnElement[bool]], value: _Value
) -> dict[str, ColumnElement[int]]:
    zero: ColumnElement[int] = literal(0, BigInteger())
    valued = [
        counts[role]
        for role, one in (("above", part.above), ("below", part.below))
        if one is not None and one.value is not None
    ]
    is_valued = or_(*valued) if valued else None
    found: dict[str, ColumnElement[int]] = {}
    if is_valued is not None:
        found["valued"] = flag(is_valued)
        if value.is_negative is not None:
            found["negative"] = flag(and_(is_valued, value.is_negative))
    amount = zero if value.number is None else func.coalesce(value.number, 0)
    if part.is_ranked:
        return {**found, "amount": amount}
    for role, one in (("above", part.above), ("below", part.below)):
        if one is not None:
            found[role] = flag(counts[role])
            if one.value is not None:
                found[f"{role}_sum"] = case((counts[role], amount), else_=zero)
    return found


def _select(  # noqa: PLR0917 - the columns of a row
    asked: _Asked,
    records: Records,
    where: ColumnElement[bool],
    currency: ColumnElement[str],
    bucket: ColumnElement[int],
    measures: Mapping[str, ColumnElement[int]],
) -> AnySelect:
    custom = asked.part.custom
    day: ColumnElement[int] = literal(NO_DAY, Integer())
    if custom.date is not None:
        day = func.coalesce(records.counting_day(custom.date), NO_DAY)
    names = asked.part.measures
    sums = [
        cast(measures[names[place]], BigInteger)
        if place < len(names) and names[place] in measures
        else literal(0, BigInteger())
        for place in range(len(MEASURES))
    ]
    dimensions: list[ColumnElement[str]] = [
        records.dimension(name, custom.grain) for name in asked.dimensions
    ]
    dimensions += [cast(None, Text)] * (len(CUSTOM_DIMENSIONS) - len(dimensions))
    is_touched = (
        (records.table.c.ref.in_(select(TOUCHED_CUSTOM.c.ref)),) if asked.only_touched else ()
    )
    return (
        select(
            literal(asked.part.name, Text()),
            literal(asked.side, Integer()),
            day,
            currency,
            bucket,
            *sums,
            *dimensions,
        )
        .select_from(records.source())
        .where(records.exist(), where, *is_touched)
    )
