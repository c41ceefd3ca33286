"""What is remembered of KPIs beside their cells: fingerprints, dirty keys, published values."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    union,
    update,
)

from store import temporary
from store.compiled import in_written_order, rows_of, text_of
from store.engine import database_now, is_postgresql
from store.loading import load
from store.tables import CELLS, DIRTY_KEYS, FAMILIES, KEY, KPI_VALUES

WHOLE_FAMILY: Final = ""
"""The dimension of a dirty key that means every value above the family."""

WHOLE_GROUP: Final = -2_000_000_001
"""The day of a dirty key that means every period of the group."""

ROLLING: Final = -2_000_000_002
"""The day of a dirty key that means the group's periods that move with the clock."""

_CLOCK_DAYS: Final = 1_000_000_000
_DAYS_OF_KIND: Final = 20_000_000


def clock_day(day: int, kind: int) -> int:
    """The day of a dirty key that means: of this day only what time alone moves.

    Args:
        day: days since 1970, of years 1 to 9999.
        kind: a number from 0 on, which tells such notes apart.
    """
    return _CLOCK_DAYS + kind * _DAYS_OF_KIND + _DAYS_OF_KIND // 2 + day


def of_clock(day: int) -> tuple[int, int] | None:
    """What `clock_day` was made of; None: it is no day of that kind."""
    if day < _CLOCK_DAYS:
        return None
    kind, rest = divmod(day - _CLOCK_DAYS, _DAYS_OF_KIND)
    return rest - _DAYS_OF_KIND // 2, kind


LABELS: Final = "label"
"""The family of dirty keys that mean: this record has another name."""

CLOCK: Final = "clock"
"""The bookkeeping entry that says of which instant the published values are true."""

RATES: Final = "rates"
"""The bookkeeping entry that says with which rates values were published."""

HOURS: Final = "working_hours"
"""The bookkeeping entry that says for which hours of work the days are worked out."""

MEANING: Final = "meaning"
"""The bookkeeping entry that says which definitions the journal of definitions ends with."""

IDENTITY: Final = "identity"
"""The bookkeeping entry that says by which rules it was worked out who stands for whom."""

CUSTOM_RATES: Final = "custom_rates"
"""The bookkeeping entry that says with which rates the families of custom KPIs are kept."""

BOOKKEEPING: Final = frozenset(
    {
        *("publication", "local_days", CLOCK, RATES, HOURS, MEANING, "file_costs", IDENTITY),
        CUSTOM_RATES,
    }
)
"""Names in the table of families that stand for no cells."""


_METADATA: Final = MetaData()

_TAKEN: Final = temporary.table(
    "taken_keys", _METADATA, *(Column(c.name, c.type) for c in DIRTY_KEYS.columns)
)

PLACES: Final = temporary.table(
    "value_places",
    _METADATA,
    Column("place", Integer, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    # Null: every period of the group.
    Column("period", Text),
    Column("start", Integer, nullable=False),
    Column("stop", Integer, nullable=False),
)
"""Groups and periods whose values are being computed."""


class DirtyKey(NamedTuple):
    """A cell that moved since the values above it were published."""

    family: str
    dimension: str
    key: str
    day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiValue:
    """One published value, as other programs see it."""

    kpi: str
    period: str
    dimension: str
    key: str
    label: str | None
    value: Decimal | None
    """In `unit`; None: there is no value."""
    numerator: Decimal | None
    denominator: Decimal | None
    """None of counts and sums."""
    n: int
    """Records used."""
    left_out: Mapping[str, int]
    """Reason -> records left out."""
    unit: str
    currency: str | None
    as_of: datetime
    definition: str
    """Name and formula version: ``win_rate@1``."""
    words: str | None = None
    """The value where the unit is text."""
    named: str | None = None
    """What people call the record that `words` is the key of."""

    def to_json(self) -> dict[str, object]:
        """The row as in `kpi values --json`: numbers at full precision, as strings."""
        return {
            "kpi": self.kpi,
            "period": self.period,
            "dimension": self.dimension,
            "key": self.key,
            "label": self.label,
            "value": plain(self.value) if self.words is None else self.words,
            "numerator": plain(self.numerator),
            "denominator": plain(self.denominator),
            "n": self.n,
            "left_out": dict(self.left_out),
            "unit": self.unit,
            "currency": self.currency,
            "as_of": self.as_of.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "definition": self.definition,
        }


def plain(number: Decimal | None) -> str | None:
    """A number as text without exponent and without trailing zeros, the same on both stores."""
    if number is None:
        return None
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# ---------------------------------------------------------------- fingerprints


def fingerprints(conn: Connection) -> dict[str, str]:
    """What the cells of each family, and the bookkeeping entries, were built with."""
    return {row.family: row.fingerprint for row in conn.execute(select(FAMILIES))}


def save_fingerprint(conn: Connection, family: str, fingerprint: str) -> None:
    """Remember what a family was built with, now."""
    forget_fingerprints(conn, [family])
    row = {"family": family, "fingerprint": fingerprint, "built_at": database_now(conn)}
    conn.execute(insert(FAMILIES), row)


def forget_fingerprints(conn: Connection, families: Collection[str]) -> None:
    """The cells of these families are stale from now on."""
    if families:
        conn.execute(delete(FAMILIES).where(FAMILIES.c.family.in_(sorted(families))))


# ---------------------------------------------------------------- dirty keys


def note_whole_family(conn: Connection, family: str) -> None:
    """Every value above a family is to be computed again."""
    conn.execute(delete(DIRTY_KEYS).where(DIRTY_KEYS.c.family == family))
    conn.execute(insert(DIRTY_KEYS), DirtyKey(family, WHOLE_FAMILY, "", 0)._asdict())


def spread_whole_families(conn: Connection, kpis_of: Mapping[str, Sequence[str]]) -> None:
    """Turn each note about a whole family into one about each group that has cells or values.

    Args:
        conn: in `store.engine.writing`.
        kpis_of: family -> names of the KPIs above it.
    """
    marked = select(DIRTY_KEYS.c.family).where(DIRTY_KEYS.c.dimension == WHOLE_FAMILY)
    for family in list(conn.execute(marked).scalars()):
        if family not in kpis_of:
            continue
        whole = (literal(WHOLE_GROUP).label("day"),)
        name = literal(family).label("family")
        groups = union(
            select(name, CELLS.c.dimension, CELLS.c.key, *whole).where(CELLS.c.family == family),
            select(name, KPI_VALUES.c.dimension, KPI_VALUES.c.key, *whole).where(
                KPI_VALUES.c.kpi.in_(list(kpis_of[family])), KPI_VALUES.c.valid_to.is_(None)
            ),
        )
        conn.execute(delete(DIRTY_KEYS).where(DIRTY_KEYS.c.family == family))
        conn.execute(insert(DIRTY_KEYS).from_select(list(DirtyKey._fields), groups))


def take_dirty_keys(
    conn: Connection, families: Collection[str], limit: int | None
) -> list[DirtyKey]:
    """Dirty keys of these families, sorted by family and group, at most `limit`.

    They are remembered on this connection for `settle_taken_keys`.
    """
    temporary.prepare(conn, [_TAKEN])
    chosen = (
        select(DIRTY_KEYS)
        .where(DIRTY_KEYS.c.family.in_(sorted(families)))
        .order_by(*DIRTY_KEYS.primary_key.columns)
        .limit(limit)
    )
    conn.execute(insert(_TAKEN).from_select(list(DirtyKey._fields), chosen))
    taken = [DirtyKey(*row) for row in conn.execute(select(_TAKEN))]
    temporary.analyze(conn, _TAKEN.name, len(taken))
    return sorted(taken)


def settle_taken_keys(conn: Connection) -> None:
    """Forget the dirty keys that were taken: the values above them are up to date."""
    places = tuple_(*DIRTY_KEYS.primary_key.columns)
    conn.execute(delete(DIRTY_KEYS).where(places.in_(select(_TAKEN))))


def count_dirty_keys(conn: Connection, families: Collection[str] | None = None) -> int:
    """How many dirty keys there are (of these families)."""
    query = select(func.count()).select_from(DIRTY_KEYS)
    if families is not None:
        query = query.where(DIRTY_KEYS.c.family.in_(sorted(families)))
    return conn.execute(query).scalar_one()


def families_with_traces(conn: Connection) -> set[str]:
    """The families that have cells or dirty keys, whether anything needs them or not."""
    found: set[str] = set()
    for table in (CELLS, DIRTY_KEYS):
        after = ""
        while True:
            # From one name to the next through the index, not through all rows.
            query = select(func.min(table.c.family)).where(table.c.family > after)
            following = conn.execute(query).scalar_one()
            if following is None:
                break
            found.add(following)
            after = following
    return found - {LABELS}


def drop_families(conn: Connection, families: Collection[str]) -> None:
    """Remove cells, dirty keys and fingerprints of families that nothing needs any more."""
    for name in sorted(families):
        conn.execute(delete(CELLS).where(CELLS.c.family == name))
        conn.execute(delete(DIRTY_KEYS).where(DIRTY_KEYS.c.family == name))
    forget_fingerprints(conn, families)


# ---------------------------------------------------------------- published values


class Content(NamedTuple):
    """What makes a published value: if any of it changes, the old value is over."""

    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None
    n: int
    left_out: str
    """JSON object with sorted keys."""
    unit: str
    currency: str | None
    definition: str
    words: str | None = None


class Place(NamedTuple):
    """Where a value stands."""

    kpi: str
    dimension: str
    key: str
    period: str


class Current(NamedTuple):
    """A value that is believed now."""

    id: int
    valid_from: datetime | str
    """An instant; on SQLite as it is stored."""
    label: str | None
    content: Content


class NewValue(NamedTuple):
    """A value to be believed from now on, instead of the current one, if there is one."""

    place: Place
    content: Content
    label: str | None
    replaces: Current | None


_CURRENT: Final = KPI_VALUES.c.valid_to.is_(None)
_CONTENT_COLUMNS: Final = tuple(KPI_VALUES.c[name] for name in Content._fields)
_PLACE_COLUMNS: Final = tuple(KPI_VALUES.c[name] for name in Place._fields)
_VALUE_COLUMNS: Final = tuple(
    KPI_VALUES.c[field.name] for field in fields(KpiValue) if field.name != "named"
)
_NOTHING_LEFT_OUT: Final = "{}"


def has_values(conn: Connection) -> bool:
    """Whether any value is believed now."""
    # In the order of the index of current values: not a walk through all that ever was.
    query = select(KPI_VALUES.c.id).where(_CURRENT).order_by(*_PLACE_COLUMNS).limit(1)
    return conn.execute(query).first() is not None


def set_places(conn: Connection, rows: Sequence[tuple[str, str, str | None, int, int]]) -> None:
    """Fill the temporary table `PLACES`: (dimension, key, period, start, stop), numbered."""
    temporary.prepare(conn, [PLACES])
    numbered = [(number, *row) for number, row in enumerate(rows)]
    load(conn, PLACES.name, tuple(column.name for column in PLACES.columns), numbered)
    temporary.analyze(conn, PLACES.name, len(rows))


def current_at_places(
    conn: Connection, kpis: Sequence[str], *, whole: bool
) -> dict[Place, Current]:
    """The current values of these KPIs in the groups of `PLACES`.

    Args:
        conn: in any transaction.
        kpis: names.
        whole: in all periods of the groups that name none; otherwise in the named periods.
    """
    text = _at_places(tuple(kpis), whole, is_postgresql(conn))
    # id, valid_from, label, then the place, then the content with its three numbers
    return {
        Place._make(row[3:7]): Current(
            row[0],
            row[1],
            row[2],
            Content(_exact(row[7]), _exact(row[8]), _exact(row[9]), *row[10:]),
        )
        for row in rows_of(conn, text)
    }


def _exact(number: Any) -> Decimal | None:
    return Decimal(number) if type(number) is str else number


@lru_cache(maxsize=512)
def _at_places(kpis: tuple[str, ...], is_whole_group: bool, for_postgresql: bool) -> str:
    is_period = (
        PLACES.c.period.is_(None) if is_whole_group else PLACES.c.period == KPI_VALUES.c.period
    )
    columns = (
        KPI_VALUES.c.id,
        KPI_VALUES.c.valid_from,
        KPI_VALUES.c.label,
        *_PLACE_COLUMNS,
        *_CONTENT_COLUMNS,
    )
    query = select(*columns).join_from(
        PLACES,
        KPI_VALUES,
        and_(
            KPI_VALUES.c.kpi.in_(kpis),
            KPI_VALUES.c.dimension == PLACES.c.dimension,
            KPI_VALUES.c.key == PLACES.c.key,
            is_period,
            _CURRENT,
        ),
    )
    return in_written_order(text_of(query, for_postgresql), for_postgresql)


def write_values(
    conn: Connection, values: Sequence[NewValue], *, run: str | None, as_of: datetime
) -> None:
    """Close what these values replace and insert them.

    A value becomes true at `as_of`, but always later than the one it replaces, whatever the
    clocks say.
    """
    closing: dict[datetime, list[int]] = defaultdict(list)
    number, instant = _writers(conn)
    rows = []
    for new in values:
        since = as_of
        if new.replaces is not None:
            since = max(as_of, _instant(new.replaces.valid_from) + timedelta(microseconds=1))
            closing[since].append(new.replaces.id)
        value, numerator, denominator, *rest = new.content
        numbers = (number(value), number(numerator), number(denominator))
        written = instant(since)
        rows.append((*new.place, new.label, *numbers, *rest, written, written, run))
    for since, ids in closing.items():
        _close(conn, ids, instant(since))
    columns = (*Place._fields, "label", *Content._fields, "as_of", "valid_from", "run")
    load(conn, KPI_VALUES.name, columns, rows)


def _close(conn: Connection, ids: Sequence[int], ends: object) -> None:
    if is_postgresql(conn):
        statement = "UPDATE kpi_values SET valid_to = %s WHERE id = ANY(%s)"
        conn.exec_driver_sql(statement, (ends, list(ids)))
    else:
        statement = "UPDATE kpi_values SET valid_to = ? WHERE id = ?"
        conn.exec_driver_sql(statement, [(ends, one) for one in ids])


def _instant(stored: datetime | str) -> datetime:
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored


def analyze_first_values(conn: Connection) -> None:
    """Tell PostgreSQL's planner about the values of a first publication.

    Later growth is autovacuum's business; until it comes for the first time, the planner would
    take the table for empty.
    """
    if not is_postgresql(conn):
        return
    known = "SELECT reltuples > 0 FROM pg_class WHERE oid = 'kpi_values'::regclass"
    if not conn.exec_driver_sql(known).scalar_one() and has_values(conn):
        conn.exec_driver_sql("ANALYZE kpi_values")


def close_values(conn: Connection, places: Iterable[tuple[str, str, str]], as_of: datetime) -> int:
    """End current values without a successor: nobody asks for them any more.

    Args:
        conn: in `store.engine.writing`.
        places: (KPI, dimension, period).
        as_of: when they end.

    Returns:
        How many ended.
    """
    ended = 0
    is_later = KPI_VALUES.c.valid_from >= as_of
    # With its type: SQLite would keep the bare instant without its zone.
    ends = literal(as_of, KPI_VALUES.c.valid_to.type)
    for kpi, dimension, period in places:
        statement = (
            update(KPI_VALUES)
            .where(
                _CURRENT,
                KPI_VALUES.c.kpi == kpi,
                KPI_VALUES.c.dimension == dimension,
                KPI_VALUES.c.period == period,
            )
            .values(valid_to=case((is_later, KPI_VALUES.c.valid_from), else_=ends))
        )
        ended += conn.execute(statement).rowcount
    return ended


def kinds_of_current_values(conn: Connection) -> list[tuple[str, str, str]]:
    """Every (KPI, dimension, period) that has a current value."""
    query = (
        select(KPI_VALUES.c.kpi, KPI_VALUES.c.dimension, KPI_VALUES.c.period)
        .where(_CURRENT)
        .distinct()
    )
    return [(row.kpi, row.dimension, row.period) for row in conn.execute(query)]


def current_values(
    conn: Connection,
    *,
    kpis: Sequence[str] | None = None,
    period: str | None = None,
    dimension: str | None = None,
    key: str | None = None,
    at: datetime | None = None,
    is_wanted: Callable[[str], bool] | None = None,
) -> list[KpiValue]:
    """Values sorted by (KPI, period, dimension, key).

    Args:
        conn: in any transaction.
        kpis: names; None: of every KPI.
        period: only this label.
        dimension: only this one.
        key: only of this group.
        at: an instant: what was believed then; None: what is believed now.
        is_wanted: which labels of periods; None: all.
    """
    query: Select[Any] = select(*_VALUE_COLUMNS).where(_CURRENT if at is None else _believed(at))
    if kpis is not None:
        query = query.where(KPI_VALUES.c.kpi.in_(kpis))
    if period is not None:
        query = query.where(KPI_VALUES.c.period == period)
    if dimension is not None:
        query = query.where(KPI_VALUES.c.dimension == dimension)
    if key is not None:
        query = query.where(KPI_VALUES.c.key == key)
    # All at once: row by row the driver takes longer than the database.
    rows = conn.execute(query).all()
    if is_wanted is not None:
        # Before values are made of them, which takes longer than reading them.
        rows = [row for row in rows if is_wanted(row[_PERIOD])]
    values = [_value_of(*row) for row in rows]
    # Not by the database, whose order depends on its language.
    return sorted(values, key=lambda value: (value.kpi, value.period, value.dimension, value.key))


def _believed(at: datetime) -> ColumnElement[bool]:
    ends = KPI_VALUES.c.valid_to
    return and_(KPI_VALUES.c.valid_from <= at, or_(ends.is_(None), ends > at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A value, and for how long it was believed."""

    value: KpiValue
    valid_from: datetime
    valid_to: datetime | None
    """None: it is believed now."""
    run: str | None
    """The run that published it."""


def versions(conn: Connection, place: Place) -> list[Version]:
    """Everything that was ever believed of one place, the oldest first."""
    kept = (KPI_VALUES.c.valid_from, KPI_VALUES.c.valid_to, KPI_VALUES.c.run)
    query = (
        select(*kept, *_VALUE_COLUMNS)
        .where(*(KPI_VALUES.c[name] == wanted for name, wanted in place._asdict().items()))
        .order_by(KPI_VALUES.c.valid_from, KPI_VALUES.c.id)
    )
    return [
        Version(value=_value_of(*values), valid_from=valid_from, valid_to=valid_to, run=run)
        for valid_from, valid_to, run, *values in conn.execute(query).all()
    ]


_VALUE_NAMES: Final = tuple(column.name for column in _VALUE_COLUMNS)
_PERIOD: Final = _VALUE_NAMES.index("period")


def _value_of(*columns: Any) -> KpiValue:
    """A value from `_VALUE_COLUMNS`, by their places: a row asked for names takes twice as long."""
    named = dict(zip(_VALUE_NAMES, columns, strict=True))
    text = named["left_out"]
    named["left_out"] = {} if text == _NOTHING_LEFT_OUT else json.loads(text)
    return KpiValue(**named)


# ---------------------------------------------------------------- labels


def note_renamed(conn: Connection, dimension: str, renamed: Select[Any]) -> None:
    """Records have another name: the labels of values above them are to be renewed.

    Args:
        conn: in `store.engine.writing`.
        dimension: whose keys these records are.
        renamed: their keys.
    """
    keys = renamed.subquery("renamed")
    key = keys.c[0]
    rows = select(literal(LABELS), literal(dimension), key, literal(0)).where(
        ~select(DIRTY_KEYS.c.key)
        .where(
            DIRTY_KEYS.c.family == LABELS,
            DIRTY_KEYS.c.dimension == dimension,
            DIRTY_KEYS.c.key == key,
        )
        .exists()
    )
    conn.execute(insert(DIRTY_KEYS).from_select(list(DirtyKey._fields), rows.distinct()))


def set_labels(
    conn: Connection, kpis: Sequence[str], dimension: str, labels: Mapping[str, str | None]
) -> None:
    """Give current values of these groups another label, in place: a name is no value.

    Args:
        conn: in `store.engine.writing`.
        kpis: all KPIs that have values.
        dimension: the whole dimension name.
        labels: key -> label.
    """
    if not labels:
        return
    statement = (
        update(KPI_VALUES)
        .where(
            _CURRENT,
            KPI_VALUES.c.kpi.in_(kpis),
            KPI_VALUES.c.dimension == dimension,
            KPI_VALUES.c.key == bindparam("a_key"),
        )
        .values(label=bindparam("a_label"))
    )
    for key, label in labels.items():
        conn.execute(statement, {"a_key": key, "a_label": label})


def keys_of_dimension(conn: Connection, kpis: Sequence[str], dimension: str) -> list[str]:
    """The keys under which a dimension has current values."""
    query = (
        select(KPI_VALUES.c.key)
        .where(_CURRENT, KPI_VALUES.c.kpi.in_(kpis), KPI_VALUES.c.dimension == dimension)
        .distinct()
    )
    return sorted(conn.execute(query).scalars())


# ---------------------------------------------------------------- many rows at once


def _writers(
    conn: Connection,
) -> tuple[Callable[[Decimal | None], object], Callable[[datetime], object]]:
    """How this store takes exact numbers and instants past SQLAlchemy; see `store.tables`."""
    if is_postgresql(conn):
        return lambda number: number, lambda instant: instant
    return plain, lru_cache(maxsize=8)(_iso)


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
