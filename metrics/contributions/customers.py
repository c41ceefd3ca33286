"""Purchases, contracts and what accounts add to the cells as customers.

These families are functions of all purchases of an account: an increment reads the purchases of
every account of which one moved, those that did not on the side `BOTH`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import FromClause, Integer, and_, case, func, or_, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from metrics import period_sql
from metrics.contributions.keys import key_column
from metrics.contributions.rows import Distinct, Facts, Grouped, Rows
from metrics.contributions.running import both_ways, changes_over_last_days
from metrics.contributions.sales import resolved_account, shortened, stands_for
from metrics.contributions.terms import (
    day_or_unknown,
    flag,
    is_live,
    number,
    one,
    text_of,
    within,
    zero,
)
from metrics.definition import Family
from metrics.dimensions import DEAL_COLUMNS, Grouping
from metrics.periods import LAST_DAY, Kind
from store.compiled import AnySelect
from store.identity_tables import ACCOUNT_FALLBACKS
from store.tables import ACCOUNTS, CONTRACTS, IDENTITY, NO_DAY

UPSELL: Final = "upsell"
"""The kind of deals that sell more to a customer."""


def purchases_of(deals: FromClause) -> AnySelect:
    """The deals that are purchases."""
    names = ("ref", "side", *DEAL_COLUMNS, "closed_day")
    return select(*(deals.c[name] for name in names)).where(deals.c.is_won == one)


def buyer_of(purchases: FromClause) -> tuple[ColumnElement[str], ColumnElement[int]]:
    """Whom a purchase belongs to.

    One without an account stands for itself, counted apart. The second column keeps it from an
    account of the same key: some CRMs number every kind of record on its own.
    """
    return (
        func.coalesce(purchases.c.account, purchases.c.ref),
        flag(purchases.c.account.is_not(None)),
    )


def contract_facts(side: int, chosen: FromClause | None = None) -> AnySelect:
    """Live contracts of known accounts, as spans of days, with what the account is."""
    identity, owners = IDENTITY.alias("contract_identity"), IDENTITY.alias("contract_owners")
    accounts = ACCOUNTS.alias("contract_accounts")
    # What a copy of the account says where it does not; see `store.fallbacks`.
    copies = ACCOUNT_FALLBACKS.alias("copied_accounts")
    account = resolved_account(CONTRACTS.c.account, identity)
    owner = func.coalesce(copies.c.owner, accounts.c.owner)
    stop = func.coalesce(CONTRACTS.c.end_date, number(LAST_DAY))
    return (
        select(
            CONTRACTS.c.ref,
            number(side).label("side"),
            account.label("account"),
            func.coalesce(owners.c.canonical, owner).label("owner"),
            shortened(func.coalesce(copies.c.region, accounts.c.region)).label("region"),
            shortened(func.coalesce(copies.c.segment, accounts.c.segment)).label("segment"),
            CONTRACTS.c.start_date.label("start_day"),
            stop.label("stop_day"),
        )
        .select_from(
            CONTRACTS.outerjoin(identity, stands_for(identity, "accounts", CONTRACTS.c.account))
            .outerjoin(accounts, accounts.c.ref == account)
            .outerjoin(copies, copies.c.ref == account)
            .outerjoin(owners, stands_for(owners, "owners", owner))
        )
        .where(
            is_live(CONTRACTS),
            CONTRACTS.c.start_date < stop,
            account.is_not(None),
            *within(CONTRACTS.c.ref, chosen),
        )
    )


# ---------------------------------------------------------------- families


def first_purchases(facts: Facts, _: Family) -> Rows:
    """Of each account the first purchase by (day, unknown ones last; ref), before and after."""
    rows = both_ways(facts.of("purchases"), facts)
    place = func.row_number().over(
        partition_by=(rows.c.sign, *buyer_of(rows)),
        order_by=(flag(rows.c.closed_day.is_(None)), rows.c.closed_day, rows.c.ref),
    )
    ranked = select(
        rows.c.sign.label("side"),
        *(rows.c[name] for name in DEAL_COLUMNS),
        rows.c.closed_day,
        place.label("place"),
    ).subquery("ranked")
    has_account = flag(ranked.c.account.is_not(None))
    return Rows(
        source=ranked,
        day=day_or_unknown(ranked.c.closed_day),
        measures=(has_account, one - has_account),
        where=(ranked.c.place == one,),
    )


def buyers(facts: Facts, family: Family) -> Distinct | Grouped:
    """Distinct accounts with a purchase."""
    return _distinct_buyers(facts, family, is_upsell=False)


def upsellers(facts: Facts, family: Family) -> Distinct | Grouped:
    """Distinct accounts with a purchase of the kind that sells more to a customer."""
    return _distinct_buyers(facts, family, is_upsell=True)


def _distinct_buyers(facts: Facts, family: Family, *, is_upsell: bool) -> Distinct | Grouped:
    purchases = facts.of("purchases")
    chosen = (purchases.c.kind == text_of(UPSELL),) if is_upsell else ()
    if family.is_running:
        return Grouped(rows=lambda grouping: _present(facts, family, grouping, chosen))
    buyer, has_account = buyer_of(purchases)
    return Distinct(
        source=purchases,
        member=(buyer, has_account),
        day=purchases.c.closed_day,
        measures=(has_account, one - has_account),
        where=chosen,
    )


def _dated(
    facts: Facts,
    grouping: Grouping,
    where: Sequence[ColumnElement[bool]] = (),
    *,
    is_account_needed: bool,
) -> FromClause:
    """Purchases of known days, with the group they lie in and their neighbours in it."""
    conditions = tuple(str(condition) for condition in where)
    about = ("dated purchases", grouping, conditions, is_account_needed)
    return facts.once(
        *about,
        find=lambda: _dated_purchases(facts, grouping, where, is_account_needed=is_account_needed),
    )


def _dated_purchases(
    facts: Facts,
    grouping: Grouping,
    where: Sequence[ColumnElement[bool]],
    *,
    is_account_needed: bool,
) -> AnySelect:
    purchases = facts.of("purchases")
    columns = [purchases.c[name] for name in grouping]
    buyer, has_account = buyer_of(purchases)
    chosen = (
        select(
            purchases.c.side,
            purchases.c.ref,
            key_column(columns).label("key"),
            buyer.label("buyer"),
            has_account.label("has_account"),
            purchases.c.closed_day,
        )
        .where(purchases.c.closed_day.is_not(None), *(column.is_not(None) for column in columns))
        .where(*where, *((purchases.c.account.is_not(None),) if is_account_needed else ()))
        .subquery("chosen")
    )
    rows = both_ways(chosen, facts)
    unit = (rows.c.sign, rows.c.key, rows.c.buyer, rows.c.has_account)
    in_order = (rows.c.closed_day, rows.c.ref)
    return select(
        rows.c.sign,
        rows.c.key,
        rows.c.buyer,
        rows.c.has_account,
        rows.c.closed_day.label("day"),
        func.lag(rows.c.closed_day, type_=Integer)
        .over(partition_by=unit, order_by=in_order)
        .label("before"),
        func.lead(rows.c.closed_day, type_=Integer)
        .over(partition_by=unit, order_by=in_order)
        .label("after"),
    )


def _events(dated: FromClause, window: int, names: Sequence[str]) -> AnySelect:
    """Where being a buyer of the last `window` days begins and ends."""
    # Each row twice, rather than two passes over rows whose neighbours are dear to find.
    edges = union_all(select(one.label("delta")), select(number(-1))).subquery("edges")
    is_begin = edges.c.delta == one
    begins = or_(dated.c.before.is_(None), dated.c.day - dated.c.before > number(window))
    ends = or_(dated.c.after.is_(None), dated.c.after - dated.c.day > number(window))
    return select(
        dated.c.sign,
        *(dated.c[name] for name in names),
        case((is_begin, dated.c.day), else_=dated.c.day + number(window)).label("day"),
        edges.c.delta,
    ).select_from(dated.join(edges, or_(and_(is_begin, begins), and_(~is_begin, ends))))


def _present(
    facts: Facts, family: Family, grouping: Grouping, where: Sequence[ColumnElement[bool]]
) -> AnySelect:
    """Buyers of the last days: each begins to be one on a day and ends on another."""
    dated = _dated(facts, grouping, where, is_account_needed=False)
    # In the last N days means: on one of N days, today included; it is over N days later.
    events = _events(dated, family.days, ("key", "has_account")).subquery("events")
    return select(
        events.c.key,
        events.c.sign.label("side"),
        events.c.day,
        (events.c.delta * events.c.has_account).label("m1"),
        (events.c.delta * (one - events.c.has_account)).label("m2"),
    )


def lifespans(facts: Facts, _: Family) -> Grouped:
    """Each purchase with the days since the account's one before it."""

    def rows(grouping: Grouping) -> AnySelect:
        dated = _dated(facts, grouping, is_account_needed=True)
        return select(
            dated.c.key,
            dated.c.sign.label("side"),
            dated.c.day,
            flag(dated.c.before.is_(None)).label("m1"),
            func.coalesce(dated.c.day - dated.c.before, zero).label("m2"),
        )

    return Grouped(rows=rows)


def undated_buyers(facts: Facts, _: Family) -> Grouped:
    """Accounts that bought in a group, nobody knows when: none of their purchases has a day."""

    def rows(grouping: Grouping) -> AnySelect:
        purchases = facts.of("purchases")
        columns = [purchases.c[name] for name in grouping]
        chosen = (
            select(
                purchases.c.side,
                key_column(columns).label("key"),
                purchases.c.account,
                purchases.c.closed_day,
            )
            .where(purchases.c.account.is_not(None), *(one.is_not(None) for one in columns))
            .subquery("chosen")
        )
        bought = both_ways(chosen, facts)
        unit = (bought.c.key, bought.c.sign, bought.c.account)
        buyers = (
            select(*unit[:2])
            .group_by(*unit)
            .having(func.count(bought.c.closed_day) == zero)
            .subquery("undated")
        )
        return select(
            buyers.c.key,
            buyers.c.sign.label("side"),
            number(NO_DAY).label("day"),
            one.label("m1"),
        )

    return Grouped(rows=rows)


def activity(facts: Facts, family: Family) -> Grouped:
    """Accounts that begin or cease to be active, and whether they were when the period began.

    Active on day D is who bought in the `window` days before it: a purchase makes active from
    the next day on. An event stands on the day before the state it leads to, so that the events
    of a period's days lead from its first day to the day after its last.
    """

    def rows(grouping: Grouping) -> AnySelect:
        dated = _dated(facts, grouping, is_account_needed=True)
        events = facts.once(
            *("activity", grouping, family.window),
            find=lambda: _events(dated, family.window, ("key", "buyer")),
        )
        return _since_period_start(events, facts, family)

    return Grouped(rows=rows)


def contract_activity(facts: Facts, family: Family) -> Grouped:
    """The same for accounts with a running contract: on D is who has one with start <= D < end."""

    def rows(grouping: Grouping) -> AnySelect:
        contracts = facts.of("contracts")
        columns = [contracts.c[name] for name in grouping]
        chosen = (
            select(
                contracts.c.side,
                contracts.c.ref,
                key_column(columns).label("key"),
                contracts.c.account.label("buyer"),
                contracts.c.start_day,
                contracts.c.stop_day,
            )
            .where(*(column.is_not(None) for column in columns))
            .subquery("chosen")
        )
        spans = both_ways(chosen, facts)
        unit, in_order = (
            (spans.c.sign, spans.c.key, spans.c.buyer),
            (spans.c.start_day, spans.c.ref),
        )
        joined = select(
            spans.c.sign,
            spans.c.key,
            spans.c.buyer,
            spans.c.start_day,
            func.max(spans.c.stop_day)
            .over(partition_by=unit, order_by=in_order, rows=(None, -1))
            .label("stopped_before"),
            func.max(spans.c.stop_day)
            .over(partition_by=unit, order_by=in_order, rows=(None, 0))
            .label("stops"),
            func.lead(spans.c.start_day, type_=Integer)
            .over(partition_by=unit, order_by=in_order)
            .label("next_start"),
        ).subquery("joined")
        others = (joined.c.sign, joined.c.key, joined.c.buyer)
        begins = select(*others, (joined.c.start_day - one).label("day"), one.label("delta")).where(
            or_(joined.c.stopped_before.is_(None), joined.c.start_day > joined.c.stopped_before)
        )
        ends = select(
            *others, (joined.c.stops - one).label("day"), number(-1).label("delta")
        ).where(
            or_(joined.c.next_start.is_(None), joined.c.next_start > joined.c.stops),
            joined.c.stops < number(LAST_DAY),
        )
        return _since_period_start(union_all(begins, ends).subquery("events"), facts, family)

    return Grouped(rows=rows)


def _since_period_start(events: FromClause, facts: Facts, family: Family) -> AnySelect:
    if family.is_running:
        return changes_over_last_days(events, family.days)
    if family.kind is None:
        raise ValueError(f"{family.name} stands for no kind of period")
    start = period_sql.start_of(facts.calendar, Kind(family.kind), events.c.day)
    first = func.first_value(events.c.delta, type_=Integer).over(
        partition_by=(events.c.sign, events.c.key, events.c.buyer, start),
        order_by=events.c.day,
    )
    known = select(
        events.c.key, events.c.sign, events.c.day, events.c.delta, first.label("first")
    ).subquery("known")
    was_active = known.c.first == number(-1)
    return select(
        known.c.key,
        known.c.sign.label("side"),
        known.c.day,
        known.c.delta.label("m1"),
        case((was_active, -known.c.delta), else_=zero).label("m2"),
        case((was_active, zero), else_=known.c.delta).label("m3"),
    )
