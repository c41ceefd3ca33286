"""Deals, their stages and what they add to the cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    FromClause,
    Integer,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import ScalarSelect

from metrics.contributions.keys import key_column
from metrics.contributions.own import NOTHING, Mapped, places_of
from metrics.contributions.rows import Distinct, Facts, Grouped, Rows
from metrics.contributions.running import both_ways, presences
from metrics.contributions.terms import (
    MICROSECONDS,
    MICROSECONDS_PER_DAY,
    NO_BUCKET,
    NO_CURRENCY,
    bucket_of,
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
from metrics.dimensions import DEAL_COLUMNS, DEAL_DIMENSIONS, FREE_TEXT, LONGEST_VALUE, Grouping
from store.compiled import AnySelect
from store.identity_tables import DEAL_FALLBACKS
from store.money import USUAL_MINOR_UNITS, unusual_minor_units
from store.tables import (
    CAMPAIGNS,
    DEAL_CONTACTS,
    DEAL_STAGE_CHANGES,
    DEALS,
    IDENTITY,
    OWNERS,
    STAGES,
)

SIZE_BANDS: Final = ((1_000, "under 1k"), (10_000, "1k-10k"), (100_000, "10k-100k"))
"""Amounts below a bound, in the deal's own currency."""
LARGEST_BAND: Final = "100k and more"

# ---------------------------------------------------------------- who and what


def resolved_account(column: ColumnElement[str], identity: FromClause) -> ColumnElement[str]:
    """The account that a key stands for; null: nobody."""
    # A row without a canonical key says that nobody stands behind the account.
    return case((identity.c.ref.is_not(None), identity.c.canonical), else_=column)


def resolved(column: ColumnElement[str], identity: FromClause) -> ColumnElement[str]:
    """The record that a key stands for, of kinds of records that never stand for nobody."""
    return func.coalesce(identity.c.canonical, column)


def stands_for_itself(stream: str, key: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a record is no copy of another one that counts in its place."""
    other = IDENTITY.alias(f"other_{stream}")
    return ~exists().where(stands_for(other, stream, key)).correlate_except(other)


def stands_for(
    identity: FromClause, stream: str, column: ColumnElement[str]
) -> ColumnElement[bool]:
    """The condition under which `identity` is joined."""
    return and_(identity.c.stream == text_of(stream), identity.c.ref == column)


def shortened(column: ColumnElement[str]) -> ColumnElement[str]:
    """A free text as far as it tells groups apart."""
    return func.substr(column, one, number(LONGEST_VALUE))


# ---------------------------------------------------------------- deals


def deal_facts(
    side: int, currency: str, chosen: FromClause | None = None, mapped: Mapped = NOTHING
) -> AnySelect:
    """Live deals as they count, with account and owner resolved through `identity`.

    Args:
        side: `BEFORE`, `BOTH` or `AFTER`; a column of the result.
        currency: of amounts without one: the company's.
        chosen: keys of the deals; None: all of them.
        mapped: their fields beside the built-in dimensions, and what is read.
    """
    accounts, owners = IDENTITY.alias("account_identity"), IDENTITY.alias("owner_identity")
    people, campaigns = OWNERS.alias("deal_owners"), CAMPAIGNS.alias("deal_campaigns")
    # What a copy says where the deal itself does not; see `store.fallbacks`.
    copies = DEAL_FALLBACKS.alias("copied_values")
    owner = func.coalesce(owners.c.canonical, DEALS.c.owner)
    amount = func.coalesce(copies.c.amount, DEALS.c.amount)
    own_currency = func.coalesce(
        func.nullif(
            case((copies.c.amount.is_not(None), copies.c.currency), else_=DEALS.c.currency),
            text_of(NO_CURRENCY),
        ),
        text_of(currency),
    )
    resolved: Mapping[str, ColumnElement[str]] = {
        **{name: shortened(func.coalesce(copies.c[name], DEALS.c[name])) for name in FREE_TEXT},
        "account": resolved_account(DEALS.c.account, accounts),
        "owner": owner,
        "team": shortened(people.c.team),
        "channel": shortened(campaigns.c.channel),
        "size_band": _size_band(amount, own_currency),
        "decision_makers": _decision_makers(),
        "deal": DEALS.c.ref,
    }
    closed_day = case(
        (and_(DEALS.c.is_closed, DEALS.c.closed_day.is_(None)), day_of_last_closing()),
        else_=DEALS.c.closed_day,
    )
    return (
        select(
            DEALS.c.ref,
            number(side).label("side"),
            *(
                mapped.text(name, resolved[name] if name in resolved else DEALS.c[name]).label(name)
                for name in DEAL_DIMENSIONS
            ),
            *places_of(DEALS, mapped, copies),
            flag(DEALS.c.is_closed).label("is_closed"),
            flag(and_(DEALS.c.is_closed, DEALS.c.is_won)).label("is_won"),
            amount.label("amount"),
            case((amount.is_(None), text_of(NO_CURRENCY)), else_=own_currency).label("currency"),
            DEALS.c.probability,
            DEALS.c.close_date,
            closed_day.label("closed_day"),
            DEALS.c.created_day,
            mapped.number(
                "entered_at",
                case((~DEALS.c.is_closed, func.coalesce(_last_entry(), DEALS.c.created_at))),
            ).label("entered_at"),
            mapped.number("stages_seen", case((DEALS.c.is_closed, _stages_seen()))).label(
                "stages_seen"
            ),
        )
        .select_from(
            DEALS.outerjoin(accounts, stands_for(accounts, "accounts", DEALS.c.account))
            .outerjoin(owners, stands_for(owners, "owners", DEALS.c.owner))
            .outerjoin(people, people.c.ref == owner)
            .outerjoin(campaigns, campaigns.c.ref == DEALS.c.campaign)
            .outerjoin(copies, copies.c.ref == DEALS.c.ref)
        )
        .where(
            is_live(DEALS), stands_for_itself("deals", DEALS.c.ref), *within(DEALS.c.ref, chosen)
        )
    )


def _size_band(amount: ColumnElement[int], currency: ColumnElement[str]) -> ColumnElement[str]:
    """The size of a deal by its amount, in whole units of its own currency."""
    digits: dict[int, list[str]] = {}
    for name, units in unusual_minor_units().items():
        digits.setdefault(units, []).append(name)
    bands: list[tuple[ColumnElement[bool], ColumnElement[str]]] = []
    for bound, label in SIZE_BANDS:
        below = case(
            *(
                (currency.in_([text_of(name) for name in sorted(names)]), number(bound * 10**units))
                for units, names in sorted(digits.items())
            ),
            else_=number(bound * 10**USUAL_MINOR_UNITS),
        )
        bands.append((amount < below, text_of(label)))
    return case((amount.is_(None), None), *bands, else_=text_of(LARGEST_BAND))


def _decision_makers() -> ColumnElement[str]:
    """How many people have a part in the deal."""
    parts, persons = DEAL_CONTACTS.alias("parts"), IDENTITY.alias("part_persons")
    person = resolved(parts.c.contact, persons)
    people = (
        select(func.count(person.distinct()))
        .select_from(parts.outerjoin(persons, stands_for(persons, "contacts", parts.c.contact)))
        .where(parts.c.deal == DEALS.c.ref, is_live(parts))
        .correlate(DEALS)
        .scalar_subquery()
    )
    return cast(people, Text)


def _history_of_deal(name: str, deals: FromClause = DEALS) -> FromClause:
    """The stage changes of the deal of the enclosing SELECT, each with the stage before."""
    changes = DEAL_STAGE_CHANGES.alias(f"{name}_changes")
    before = func.lag(changes.c.stage).over(order_by=(changes.c.at, changes.c.ref))
    return (
        select(
            *(changes.c[column] for column in ("ref", "stage", "at", "at_day")),
            before.label("stage_before"),
        )
        .where(changes.c.deal == deals.c.ref, is_live(changes))
        .correlate(deals)
        .subquery(f"{name}_history")
    )


def day_of_last_closing(deals: FromClause = DEALS) -> ScalarSelect[Any]:
    """The local day on which a deal entered a closed stage last, from its stage changes.

    A closed deal without a close date counts on it. Asked for only where nothing better is known.
    """
    return _of_last_closing("at_day", deals)


def instant_of_last_closing(deals: FromClause = DEALS) -> ScalarSelect[Any]:
    """The instant at which a deal entered a closed stage last, from its stage changes."""
    return _of_last_closing("at", deals)


def _of_last_closing(column: str, deals: FromClause) -> ScalarSelect[Any]:
    history = _history_of_deal("closing", deals)
    is_current = and_(STAGES.c.ref.is_(None), history.c.stage == deals.c.stage)
    return (
        select(history.c[column])
        .select_from(history.outerjoin(STAGES, STAGES.c.ref == history.c.stage))
        .where(
            history.c.stage.is_distinct_from(history.c.stage_before),
            or_(STAGES.c.is_closed, is_current),
        )
        .order_by(history.c.at.desc(), history.c.ref.desc())
        .limit(1)
        .correlate(deals)
        .scalar_subquery()
    )


def _last_entry() -> ScalarSelect[Any]:
    """When a deal entered another stage for the last time."""
    history = _history_of_deal("entry")
    return (
        select(history.c.at)
        .where(history.c.stage.is_distinct_from(history.c.stage_before))
        .order_by(history.c.at.desc(), history.c.ref.desc())
        .limit(1)
        .correlate(DEALS)
        .scalar_subquery()
    )


def _stages_seen() -> ScalarSelect[Any]:
    """Distinct open stages in a deal's history; null without any history."""
    changes, stages = DEAL_STAGE_CHANGES.alias("seen_changes"), STAGES.alias("seen_stages")
    seen = case((and_(stages.c.ref.is_not(None), ~stages.c.is_closed), changes.c.stage))
    return (
        select(func.nullif(func.count(seen.distinct()) - flag(func.count() == zero), number(-1)))
        .select_from(changes.outerjoin(stages, stages.c.ref == changes.c.stage))
        .where(changes.c.deal == DEALS.c.ref, is_live(changes))
        .correlate(DEALS)
        .scalar_subquery()
    )


# ---------------------------------------------------------------- stages entered


def visits_of(deals: FromClause, changes: FromClause, mapped: Mapped = NOTHING) -> AnySelect:
    """Entries of deals into stages, and how the stay ended.

    Neighbouring changes to the same stage are one visit; it ends when the deal enters another
    stage, closed or open. A stage that `stages` does not describe is as open as the deal itself
    if the deal stands in it, and unknown otherwise.

    Args:
        deals: facts of one side.
        changes: stage changes, of these deals at least.
        mapped: what is read.
    """
    entries = _stage_entries(changes)
    is_described = STAGES.c.ref.is_not(None)
    is_current = func.coalesce(flag(entries.c.stage == deals.c.stage), zero) == one
    is_unknown = and_(~is_described, ~is_current)
    is_open = or_(
        and_(is_described, ~STAGES.c.is_closed),
        and_(~is_described, is_current, deals.c.is_closed == zero),
    )
    open_position = case((and_(is_described, ~STAGES.c.is_closed), STAGES.c.position))
    in_order = (entries.c.at, entries.c.ref)
    joined = (
        select(
            deals.c.side,
            *(
                mapped.text(name, entries.c.stage if name == "stage" else deals.c[name]).label(name)
                for name in DEAL_COLUMNS
            ),
            deals.c.is_won,
            deals.c.is_closed,
            entries.c.at,
            entries.c.at_day,
            entries.c.left_at,
            entries.c.left_day,
            flag(is_open).label("is_open"),
            flag(is_unknown).label("is_unknown"),
            open_position.label("position"),
            mapped.number(
                "is_reopening",
                func.lag(flag(and_(~is_open, ~is_unknown)), type_=Integer).over(
                    partition_by=deals.c.ref, order_by=in_order
                ),
            ).label("was_closed"),
            mapped.number(
                "is_advanced",
                func.max(open_position).over(partition_by=(deals.c.ref, STAGES.c.pipeline)),
            ).label("furthest"),
        )
        .select_from(
            entries.join(deals, deals.c.ref == entries.c.deal).outerjoin(
                STAGES, STAGES.c.ref == entries.c.stage
            )
        )
        .subquery("joined")
    )
    is_advanced = or_(joined.c.is_won == one, joined.c.furthest > joined.c.position)
    return select(
        joined.c.side,
        *(joined.c[name] for name in DEAL_COLUMNS),
        joined.c.left_day.label("day"),
        ((joined.c.left_at - joined.c.at) // number(MICROSECONDS)).label("seconds"),
        joined.c.at_day.label("entered_day"),
        joined.c.is_open,
        joined.c.is_unknown,
        mapped.count(
            "is_reopening", flag(and_(joined.c.is_open == one, joined.c.was_closed == one))
        ).label("is_reopening"),
        mapped.count("is_advanced", flag(is_advanced)).label("is_advanced"),
        mapped.count(
            "is_undecided",
            flag(and_(~func.coalesce(is_advanced, False), joined.c.is_closed == zero)),
        ).label("is_undecided"),
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
        return func.lead(history.c[column], type_=BigInteger).over(
            partition_by=history.c.deal, order_by=(history.c.at, history.c.ref)
        )

    return (
        select(
            *(history.c[name] for name in ("deal", "ref", "stage", "at", "at_day")),
            following("at").label("left_at"),
            following("at_day").label("left_day"),
        )
        .where(history.c.stage.is_distinct_from(history.c.stage_before))
        .subquery("entries")
    )


def stage_facts(side: int, chosen: FromClause | None = None) -> AnySelect:
    """Stages of pipelines that deals can stand in now.

    Only stages of deals have a probability: tickets' statuses have none, nor have record types.
    """
    return select(STAGES.c.ref, number(side).label("side"), STAGES.c.pipeline).where(
        is_live(STAGES),
        STAGES.c.is_active,
        ~STAGES.c.is_closed,
        STAGES.c.probability.is_not(None),
        *within(STAGES.c.ref, chosen),
    )


# ---------------------------------------------------------------- families


def deals_closed(facts: Facts, _: Family) -> Rows:
    """Closed deals on their close day."""
    deals = facts.of("deals")
    is_won = deals.c.is_won == one
    amount = func.coalesce(deals.c.amount, zero)
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.closed_day),
        measures=(
            deals.c.is_won,
            one - deals.c.is_won,
            case((is_won, amount), else_=zero),
            case((is_won, zero), else_=amount),
            flag(and_(is_won, deals.c.account.is_not(None))),
        ),
        currency=deals.c.currency,
        where=(deals.c.is_closed == one,),
    )


def deal_amounts(facts: Facts, _: Family) -> Rows:
    """Won deals on their close day; the bucket is the amount."""
    deals = facts.of("deals")
    amount = func.coalesce(deals.c.amount, zero)
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.closed_day),
        measures=(one, amount),
        currency=deals.c.currency,
        bucket=amount,
        where=(deals.c.is_won == one,),
    )


def deals_created(facts: Facts, _: Family) -> Rows:
    """All deals on their creation day."""
    deals = facts.of("deals")
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.created_day),
        measures=(one, deals.c.is_won, deals.c.is_closed),
    )


def sales_cycle(facts: Facts, family: Family) -> Rows:
    """Won deals on their close day; the bucket is the days since creation, where they count."""
    deals = facts.of("deals")
    days = deals.c.closed_day - deals.c.created_day
    is_measured = days >= zero
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.closed_day),
        measures=(
            flag(is_measured),
            case((is_measured, days), else_=zero),
            flag(days < zero),
            flag(days.is_(None)),
        ),
        bucket=bucket_of(family, days, is_measured),
        where=(deals.c.is_won == one,),
    )


def deals_open(facts: Facts, _: Family) -> Rows:
    """Open deals on their expected close day; the bucket is the probability."""
    deals = facts.of("deals")
    is_known = deals.c.probability >= zero
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.close_date),
        measures=(one, func.coalesce(deals.c.amount, zero)),
        currency=deals.c.currency,
        bucket=case((is_known, deals.c.probability), else_=number(NO_BUCKET)),
        where=(deals.c.is_closed == zero,),
    )


def deals_resting(facts: Facts, family: Family) -> Rows:
    """Open deals; the bucket is the instant after which they are stalled."""
    deals = facts.of("deals")
    stalls_at = deals.c.entered_at + number(family.window * MICROSECONDS_PER_DAY)
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.close_date),
        measures=(one, func.coalesce(deals.c.amount, zero)),
        currency=deals.c.currency,
        bucket=stalls_at,
        where=(deals.c.is_closed == zero, deals.c.entered_at.is_not(None)),
    )


def deals_aging(facts: Facts, family: Family) -> Rows:
    """Open deals; the bucket is the instant at which they entered their stage."""
    return deals_resting(facts, family)


def stages_seen(facts: Facts, _: Family) -> Rows:
    """Closed deals on their close day, with the open stages they saw."""
    deals = facts.of("deals")
    is_known = flag(deals.c.stages_seen.is_not(None))
    return Rows(
        source=deals,
        day=day_or_unknown(deals.c.closed_day),
        measures=(is_known, func.coalesce(deals.c.stages_seen, zero), one - is_known),
        where=(deals.c.is_closed == one,),
    )


def stage_visits(facts: Facts, _: Family) -> Rows:
    """Completed visits to open stages, on the day they ended."""
    visits = facts.of("visits")
    is_known = one - visits.c.is_unknown
    return Rows(
        source=visits,
        day=day_or_unknown(visits.c.day),
        measures=(is_known, is_known * visits.c.seconds, visits.c.is_unknown),
        where=(visits.c.seconds.is_not(None), or_(visits.c.is_open == one, ~(is_known == one))),
    )


def stage_times(facts: Facts, _: Family) -> Rows:
    """The same visits; the bucket is their seconds."""
    visits = facts.of("visits")
    is_known = one - visits.c.is_unknown
    return Rows(
        source=visits,
        day=day_or_unknown(visits.c.day),
        measures=(is_known, visits.c.is_unknown),
        bucket=case((is_known == one, visits.c.seconds), else_=number(NO_BUCKET)),
        where=(visits.c.seconds.is_not(None), or_(visits.c.is_open == one, ~(is_known == one))),
    )


def reopenings(facts: Facts, _: Family) -> Rows:
    """Moves from a closed to an open stage, on their day."""
    visits = facts.of("visits")
    return Rows(
        source=visits,
        day=day_or_unknown(visits.c.entered_day),
        measures=(one,),
        where=(visits.c.is_reopening == one,),
    )


def stage_entries(facts: Facts, family: Family) -> Distinct | Grouped:
    """Deals that entered an open stage, once for each period."""
    visits = facts.of("visits")
    if family.is_running:
        return Grouped(rows=lambda grouping: _entered_lately(facts, family, grouping))
    return Distinct(
        source=visits,
        member=(visits.c.deal, visits.c.stage),
        day=visits.c.entered_day,
        measures=(one, visits.c.is_advanced, visits.c.is_undecided),
        where=(visits.c.is_open == one,),
    )


def _entered_lately(facts: Facts, family: Family, grouping: Grouping) -> AnySelect:
    """Deals that entered an open stage in the last days: whatever became of them is so each day."""
    visits = facts.of("visits")
    columns = [visits.c[name] for name in grouping]
    chosen = select(
        visits.c.side,
        key_column(columns).label("key"),
        visits.c.deal.label("member"),
        visits.c.stage.label("entered"),
        visits.c.entered_day.label("day"),
        visits.c.is_advanced,
        visits.c.is_undecided,
    ).where(
        visits.c.is_open == one,
        visits.c.entered_day.is_not(None),
        *(column.is_not(None) for column in columns),
    )
    members = ("member", "entered", "is_advanced", "is_undecided")
    events = presences(both_ways(chosen.subquery("chosen"), facts), members, family.days)
    return select(
        events.c.key,
        events.c.sign.label("side"),
        events.c.day,
        events.c.delta.label("m1"),
        (events.c.delta * events.c.is_advanced).label("m2"),
        (events.c.delta * events.c.is_undecided).label("m3"),
    )


def stages_open(facts: Facts, _: Family) -> Rows:
    """Open stages."""
    stages = facts.of("stages")
    return Rows(source=stages, day=zero, measures=(one,))
