"""What each deal, stage visit and account adds to the cells, as SQL.

Every SELECT reads *facts*: deals (with account and owner resolved to the entities they stand
for), stage visits and purchases, each on a side. A rebuild reads the facts of the whole store,
all on the side `AFTER`; an increment reads a few that stand in temporary tables, on the side
`BEFORE` as they were and `AFTER` as they are. The statements above the facts are the same, so an
increment and a rebuild cannot disagree about what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    FromClause,
    Integer,
    MetaData,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import CTE, CompoundSelect, ScalarSelect

from metrics import period_sql
from metrics.definition import Family
from metrics.dimensions import (
    DEAL_DIMENSIONS,
    FREE_TEXT,
    LONGEST_VALUE,
    TOTAL_KEY,
    Grouping,
    name_of,
)
from metrics.periods import Calendar, Kind
from store import temporary
from store.compiled import AnySelect
from store.tables import (
    DEAL_STAGE_CHANGES,
    DEALS,
    IDENTITY,
    KEY,
    MEASURES,
    NO_DAY,
    STAGES,
)

BEFORE: Final = -1
BOTH: Final = 0
AFTER: Final = 1

NO_CURRENCY: Final = ""
NO_BUCKET: Final = -1

MICROSECONDS: Final = 1_000_000

# ---------------------------------------------------------------- temporary tables

_METADATA: Final = MetaData()


def _dimension_columns() -> list[Column[Any]]:
    return [Column(dimension, KEY) for dimension in DEAL_DIMENSIONS]


def _measure_columns() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in MEASURES]


TOUCHED_DEALS: Final = temporary.table(
    "touched_deals", _METADATA, Column("ref", KEY, primary_key=True)
)
"""Deals that an increment looks at, before and after."""

DEAL_FACTS: Final = temporary.table(
    "deal_facts",
    _METADATA,
    Column("ref", KEY, primary_key=True),
    Column("side", Integer, primary_key=True),
    *_dimension_columns(),
    # 0 or 1: a boolean cannot be summed on PostgreSQL.
    Column("is_closed", Integer, nullable=False),
    Column("is_won", Integer, nullable=False),
    Column("amount", BigInteger),
    Column("currency", Text, nullable=False),
    Column("probability", BigInteger),
    Column("close_date", Integer),
    Column("closed_day", Integer),
    Column("created_day", Integer),
)

VISIT_FACTS: Final = temporary.table(
    "visit_facts",
    _METADATA,
    Column("side", Integer, nullable=False),
    *_dimension_columns(),
    Column("day", Integer),
    Column("seconds", BigInteger, nullable=False),
    Column("is_unknown", Integer, nullable=False),
)
"""The deal's dimensions, but the stage is the visited one."""

PURCHASE_FACTS: Final = temporary.table(
    "purchase_facts",
    _METADATA,
    Column("ref", KEY, nullable=False),
    Column("side", Integer, nullable=False),
    *_dimension_columns(),
    Column("closed_day", Integer),
)
"""Won deals of the touched accounts; those that did not change stand on the side `BOTH`."""

UNIT_ACCOUNTS: Final = temporary.table(
    "unit_accounts", _METADATA, Column("raw", KEY, primary_key=True)
)
"""Every key that stands for a touched account."""

MOVED_KEYS: Final = temporary.table(
    "moved_keys",
    _METADATA,
    Column("stream", Text, primary_key=True),
    Column("ref", KEY, primary_key=True),
)
"""Records that stand for somebody else now."""

CELL_DELTAS: Final = temporary.table(
    "cell_deltas",
    _METADATA,
    Column("family", Text, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("day", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("bucket", BigInteger, nullable=False),
    Column("n", BigInteger, nullable=False),
    *_measure_columns(),
)
"""By how much each cell moves."""

TEMPORARY: Final = (
    TOUCHED_DEALS,
    DEAL_FACTS,
    VISIT_FACTS,
    PURCHASE_FACTS,
    UNIT_ACCOUNTS,
    MOVED_KEYS,
    CELL_DELTAS,
)

CELL_COLUMNS: Final = ("family", "dimension", "key", "day", "currency", "bucket", "n", *MEASURES)
DEAL_COLUMNS: Final = tuple(column.name for column in DEAL_FACTS.columns)
VISIT_COLUMNS: Final = tuple(column.name for column in VISIT_FACTS.columns)
PURCHASE_COLUMNS: Final = tuple(column.name for column in PURCHASE_FACTS.columns)


# ---------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class Facts:
    """Where the family statements read from."""

    deals: FromClause
    visits: FromClause
    purchases: FromClause
    is_difference: bool
    """Whether there is a side before, against which most of the side after cancels."""


MOVED: Final = Facts(
    deals=DEAL_FACTS, visits=VISIT_FACTS, purchases=PURCHASE_FACTS, is_difference=True
)
"""The facts of an increment."""


def everything(currency: str) -> Facts:
    """The facts of the whole store; `currency` is that of amounts without one."""
    deals = deal_facts(AFTER, currency).subquery("deals_now")
    return Facts(
        deals=deals,
        visits=visits_of(deals, DEAL_STAGE_CHANGES).subquery("visits_now"),
        purchases=purchases_of(deals).subquery("purchases_now"),
        is_difference=False,
    )


_zero: Final = literal_column("0", Integer)
_one: Final = literal_column("1", Integer)


def _number(value: int) -> ColumnElement[int]:
    # Constants of ours stand in the statement, so that it is prepared once for all.
    return literal_column(str(value), Integer)


def _text(value: str) -> ColumnElement[str]:
    quoted = value.replace("'", "''")
    return literal_column(f"'{quoted}'", Text)


_no_currency: Final = _text(NO_CURRENCY)


def _sum(value: ColumnElement[int]) -> ColumnElement[int]:
    # PostgreSQL sums a bigint to a numeric.
    return cast(func.sum(value), BigInteger)


def _is(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, _one), else_=_zero)


def is_live(table: FromClause) -> ColumnElement[bool]:
    """Deleted records do not exist, merged ones count as their winner."""
    return and_(~table.c.deleted, table.c.merged_into.is_(None))


def deal_facts(side: int, currency: str) -> AnySelect:
    """Live deals as they count, with account and owner resolved through `identity`.

    Args:
        side: `BEFORE`, `BOTH` or `AFTER`; a column of the result.
        currency: of amounts without one: the company's.
    """
    accounts, owners = IDENTITY.alias("account_identity"), IDENTITY.alias("owner_identity")
    resolved: Mapping[str, ColumnElement[str]] = {
        **{name: func.substr(DEALS.c[name], _one, _number(LONGEST_VALUE)) for name in FREE_TEXT},
        # A row without a canonical key says that nobody stands behind the account.
        "account": case((accounts.c.ref.is_not(None), accounts.c.canonical), else_=DEALS.c.account),
        "owner": func.coalesce(owners.c.canonical, DEALS.c.owner),
    }
    account_of_deal = and_(
        accounts.c.stream == _text("accounts"), accounts.c.ref == DEALS.c.account
    )
    owner_of_deal = and_(owners.c.stream == _text("owners"), owners.c.ref == DEALS.c.owner)
    own = func.nullif(DEALS.c.currency, _text(NO_CURRENCY))
    own_or_default = func.coalesce(own, _text(currency))
    return (
        select(
            DEALS.c.ref,
            _number(side).label("side"),
            *(resolved.get(name, DEALS.c[name]).label(name) for name in DEAL_DIMENSIONS),
            _is(DEALS.c.is_closed).label("is_closed"),
            _is(and_(DEALS.c.is_closed, DEALS.c.is_won)).label("is_won"),
            DEALS.c.amount,
            case((DEALS.c.amount.is_(None), _text(NO_CURRENCY)), else_=own_or_default).label(
                "currency"
            ),
            DEALS.c.probability,
            DEALS.c.close_date,
            case(
                (and_(DEALS.c.is_closed, DEALS.c.closed_day.is_(None)), _day_of_last_closing()),
                else_=DEALS.c.closed_day,
            ).label("closed_day"),
            DEALS.c.created_day,
        )
        .select_from(DEALS.outerjoin(accounts, account_of_deal).outerjoin(owners, owner_of_deal))
        .where(is_live(DEALS))
    )


def _day_of_last_closing() -> ScalarSelect[Any]:
    """The local day on which a deal entered a closed stage last, from its stage changes.

    A closed deal without a close date counts on it. Written for the deal of the enclosing
    SELECT, which asks for it only where nothing better is known.
    """
    changes = DEAL_STAGE_CHANGES.alias("closings")
    before = func.lag(changes.c.stage).over(order_by=(changes.c.at, changes.c.ref))
    history = (
        select(
            *(changes.c[name] for name in ("ref", "stage", "at", "at_day")),
            before.label("stage_before"),
        )
        .where(changes.c.deal == DEALS.c.ref, is_live(changes))
        .correlate(DEALS)
        .subquery("closing_history")
    )
    is_current = and_(STAGES.c.ref.is_(None), history.c.stage == DEALS.c.stage)
    return (
        select(history.c.at_day)
        .select_from(history.outerjoin(STAGES, STAGES.c.ref == history.c.stage))
        .where(
            history.c.stage.is_distinct_from(history.c.stage_before),
            or_(STAGES.c.is_closed, is_current),
        )
        .order_by(history.c.at.desc(), history.c.ref.desc())
        .limit(1)
        .correlate(DEALS)
        .scalar_subquery()
    )


def purchases_of(deals: FromClause) -> AnySelect:
    """The deals that are purchases."""
    return select(*(deals.c[name] for name in PURCHASE_COLUMNS)).where(deals.c.is_won == _one)


def visits_of(deals: FromClause, changes: FromClause) -> AnySelect:
    """Completed visits of deals to stages that are open, or of which nobody knows.

    Neighbouring changes to the same stage are one visit; it ends when the deal enters another
    stage, closed or open. A stage that `stages` does not describe is as open as the deal itself
    if the deal stands in it, and unknown otherwise.

    Args:
        deals: facts of one side.
        changes: stage changes, of these deals at least.
    """
    entries = _stage_entries(changes)
    is_described = STAGES.c.ref.is_not(None)
    is_current = func.coalesce(_is(entries.c.stage == deals.c.stage), _zero) == _one
    is_unknown = and_(~is_described, ~is_current)
    is_open = or_(
        and_(is_described, ~STAGES.c.is_closed),
        and_(~is_described, is_current, deals.c.is_closed == _zero),
    )
    dimensions = (
        (entries.c.stage if name == "stage" else deals.c[name]).label(name)
        for name in DEAL_DIMENSIONS
    )
    return (
        select(
            deals.c.side,
            *dimensions,
            entries.c.left_day.label("day"),
            ((entries.c.left_at - entries.c.at) // _number(MICROSECONDS)).label("seconds"),
            _is(is_unknown).label("is_unknown"),
        )
        .select_from(
            entries.join(deals, deals.c.ref == entries.c.deal).outerjoin(
                STAGES, STAGES.c.ref == entries.c.stage
            )
        )
        .where(entries.c.left_at.is_not(None), or_(is_unknown, is_open))
    )


def _stage_entries(changes: FromClause) -> FromClause:
    """When each deal entered a stage other than the one it stood in, and when it left it."""
    before = func.lag(changes.c.stage).over(
        partition_by=changes.c.deal, order_by=(changes.c.at, changes.c.ref)
    )
    history = (
        select(
            *(changes.c[name] for name in ("deal", "ref", "stage", "at", "at_day")),
            before.label("stage_before"),
        )
        .where(is_live(changes))
        .subquery("history")
    )

    def following(column: str) -> ColumnElement[int]:
        return func.lead(history.c[column]).over(
            partition_by=history.c.deal, order_by=(history.c.at, history.c.ref)
        )

    return (
        select(
            *(history.c[name] for name in ("deal", "stage", "at")),
            following("at").label("left_at"),
            following("at_day").label("left_day"),
        )
        .where(history.c.stage.is_distinct_from(history.c.stage_before))
        .subquery("entries")
    )


# ---------------------------------------------------------------- families


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Contributions before they are summed: each has a sign, a day and its dimensions."""

    source: FromClause
    """Has a column `side` and one for each dimension."""
    day: ColumnElement[int]
    measures: tuple[ColumnElement[int], ...]
    currency: ColumnElement[str] = _no_currency
    bucket: ColumnElement[int] = _zero
    where: tuple[ColumnElement[bool], ...] = ()


def _day_or_unknown(day: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(day, _number(NO_DAY))


def _deals_closed(facts: Facts) -> Rows:
    deals = facts.deals
    is_won = deals.c.is_won == _one
    amount = func.coalesce(deals.c.amount, _zero)
    return Rows(
        source=deals,
        day=_day_or_unknown(deals.c.closed_day),
        measures=(
            deals.c.is_won,
            _one - deals.c.is_won,
            case((is_won, amount), else_=_zero),
            case((is_won, _zero), else_=amount),
        ),
        currency=deals.c.currency,
        where=(deals.c.is_closed == _one,),
    )


def _deals_created(facts: Facts) -> Rows:
    deals = facts.deals
    return Rows(
        source=deals,
        day=_day_or_unknown(deals.c.created_day),
        measures=(_one, deals.c.is_won, deals.c.is_closed),
    )


def _sales_cycle(facts: Facts) -> Rows:
    deals = facts.deals
    days = deals.c.closed_day - deals.c.created_day
    is_measured = days >= _zero
    return Rows(
        source=deals,
        day=_day_or_unknown(deals.c.closed_day),
        measures=(
            _is(is_measured),
            case((is_measured, days), else_=_zero),
            _is(days < _zero),
            _is(days.is_(None)),
        ),
        where=(deals.c.is_won == _one,),
    )


def _stage_visits(facts: Facts) -> Rows:
    visits = facts.visits
    is_known = _one - visits.c.is_unknown
    return Rows(
        source=visits,
        day=_day_or_unknown(visits.c.day),
        measures=(is_known, is_known * visits.c.seconds, visits.c.is_unknown),
    )


def _deals_open(facts: Facts) -> Rows:
    deals = facts.deals
    is_known = deals.c.probability >= _zero
    return Rows(
        source=deals,
        day=_day_or_unknown(deals.c.close_date),
        measures=(_one, func.coalesce(deals.c.amount, _zero)),
        currency=deals.c.currency,
        bucket=case((is_known, deals.c.probability), else_=_number(NO_BUCKET)),
        where=(deals.c.is_closed == _zero,),
    )


def _first_purchases(facts: Facts) -> Rows:
    """Of each account the first purchase by (day, unknown ones last; ref), before and after."""
    sides = (BEFORE, AFTER) if facts.is_difference else (AFTER,)
    ranked = union_all(*(_ranked(facts.purchases, side) for side in sides)).subquery("ranked")
    has_account = _is(ranked.c.account.is_not(None))
    return Rows(
        source=ranked,
        day=_day_or_unknown(ranked.c.closed_day),
        measures=(has_account, _one - has_account),
        where=(ranked.c.place == _one,),
    )


def _ranked(purchases: FromClause, side: int) -> AnySelect:
    place = func.row_number().over(
        partition_by=_buyer(purchases),
        order_by=(
            _is(purchases.c.closed_day.is_(None)),
            purchases.c.closed_day,
            purchases.c.ref,
        ),
    )
    return select(
        _number(side).label("side"),
        *(purchases.c[name] for name in DEAL_DIMENSIONS),
        purchases.c.closed_day,
        place.label("place"),
    ).where(purchases.c.side.in_((_number(side), _number(BOTH))))


def _buyer(purchases: FromClause) -> tuple[ColumnElement[str], ColumnElement[int]]:
    # A purchase without an account stands for itself, counted apart. The second column keeps
    # it from an account of the same key: some CRMs number every kind of record on its own.
    return (
        func.coalesce(purchases.c.account, purchases.c.ref),
        _is(purchases.c.account.is_not(None)),
    )


_ROWS: Final[Mapping[str, Callable[[Facts], Rows]]] = MappingProxyType(
    {
        "deals_closed": _deals_closed,
        "deals_created": _deals_created,
        "sales_cycle": _sales_cycle,
        "stage_visits": _stage_visits,
        "deals_open": _deals_open,
        "first_purchases": _first_purchases,
    }
)


# ---------------------------------------------------------------- cells


def cells_of(
    family: Family, groupings: Sequence[Grouping], facts: Facts, calendar: Calendar
) -> CompoundSelect[*tuple[Any, ...]]:
    """The cells that facts amount to, or by which they move them; columns `CELL_COLUMNS`."""
    if family.kind is not None:
        return union_all(
            *(_distinct_cells(family, grouping, facts, calendar) for grouping in groupings)
        )
    netted = _netted(family, groupings, facts)
    return union_all(*(_summed_cells(family, grouping, netted) for grouping in groupings))


def _netted(family: Family, groupings: Sequence[Grouping], facts: Facts) -> CTE:
    """The contributions summed over everything that tells them apart; what cancels is gone."""
    rows = _ROWS[family.formula](facts)
    sign = rows.source.c.side
    used = sorted({name for grouping in groupings for name in grouping})
    sums = dict(zip(MEASURES, rows.measures, strict=False))
    signed = (
        select(
            *(rows.source.c[name] for name in used),
            rows.day.label("day"),
            rows.currency.label("currency"),
            rows.bucket.label("bucket"),
            sign.label("n"),
            *((sign * measure).label(name) for name, measure in sums.items()),
        )
        .where(*rows.where)
        .subquery("signed")
    )
    apart = [signed.c[name] for name in (*used, "day", "currency", "bucket")]
    if facts.is_difference:
        added = {name: _sum(signed.c[name]) for name in ("n", *sums)}
        statement = (
            select(*apart, *(value.label(name) for name, value in added.items()))
            .group_by(*apart)
            .having(_is_any_not_zero(added.values()))
        )
    else:
        # Nothing can cancel: one sum, that of each grouping, is enough.
        statement = select(signed)
    return statement.cte(f"net_{family.name}").prefix_with("MATERIALIZED")


def _is_any_not_zero(values: Iterable[ColumnElement[int]]) -> ColumnElement[bool]:
    return or_(*(value != _zero for value in values))


def _summed_cells(family: Family, grouping: Grouping, netted: CTE) -> AnySelect:
    columns = [netted.c[name] for name in grouping]
    apart = [netted.c.day, netted.c.currency, netted.c.bucket]
    sums = {name: _sum(netted.c[name]) for name in ("n", *MEASURES[: len(family.measures)])}
    return (
        select(
            *_names(family, grouping, _key(columns)),
            *apart,
            *(sums.get(name, _zero).label(name) for name in ("n", *MEASURES)),
        )
        .where(*(column.is_not(None) for column in columns))
        .group_by(*columns, *apart)
        .having(_is_any_not_zero(sums.values()))
    )


def _distinct_cells(
    family: Family, grouping: Grouping, facts: Facts, calendar: Calendar
) -> AnySelect:
    """Accounts that are buyers after but not before, less those that were and are no more."""
    purchases = facts.purchases
    columns = [purchases.c[name] for name in grouping]
    buyer, has_account = _buyer(purchases)
    is_dated = family.kind is not None and family.kind is not Kind.ALL
    start = (
        period_sql.start_of(calendar, family.kind, purchases.c.closed_day)
        if is_dated and family.kind is not None
        else _number(NO_DAY)
    )
    bought = (
        select(
            buyer.label("buyer"),
            has_account.label("has_account"),
            _key(columns).label("key"),
            start.label("start"),
            purchases.c.side,
        )
        .where(*(column.is_not(None) for column in columns))
        .where(*((purchases.c.closed_day.is_not(None),) if is_dated else ()))
        .subquery("bought")
    )
    was = func.max(_is(bought.c.side <= _zero))
    is_now = func.max(_is(bought.c.side >= _zero))
    apart = [bought.c[name] for name in ("key", "start", "has_account", "buyer")]
    buyers = (
        select(*apart[:3], (is_now - was).label("sign"))
        .group_by(*apart)
        .having(is_now != was)
        .subquery("buyers")
    )
    sums = {
        "n": _sum(buyers.c.sign),
        "m1": _sum(buyers.c.sign * buyers.c.has_account),
        "m2": _sum(buyers.c.sign * (_one - buyers.c.has_account)),
    }
    return (
        select(
            *_names(family, grouping, buyers.c.key),
            buyers.c.start.label("day"),
            _text(NO_CURRENCY).label("currency"),
            _zero.label("bucket"),
            *(sums.get(name, _zero).label(name) for name in ("n", *MEASURES)),
        )
        .group_by(buyers.c.key, buyers.c.start)
        .having(_is_any_not_zero(sums.values()))
    )


def _names(
    family: Family, grouping: Grouping, key: ColumnElement[str]
) -> tuple[ColumnElement[str], ...]:
    return (
        _text(family.name).label("family"),
        _text(name_of(grouping)).label("dimension"),
        key.label("key"),
    )


def _key(columns: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    """The same text as `metrics.dimensions.key_of`."""
    if not columns:
        return _text(TOTAL_KEY)
    if len(columns) == 1:
        return columns[0]
    backslash, comma = "\\", ","
    escaped: list[ColumnElement[str]] = []
    for column in columns:
        doubled = func.replace(column, _text(backslash), _text(2 * backslash))
        escaped.append(func.replace(doubled, _text(comma), _text(backslash + comma)))
    key: ColumnElement[str] = escaped[0]
    for part in escaped[1:]:
        key = key.op("||", return_type=Text())(_text(",")).op("||", return_type=Text())(part)
    return key
