"""Tickets, their closings, surveys and what they add to the cells."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, FromClause, Integer, and_, case, func, or_, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.keys import key_column
from metrics.contributions.own import NOTHING, Mapped, places_of
from metrics.contributions.rows import Distinct, Facts, Grouped, Rows
from metrics.contributions.running import both_ways, presences
from metrics.contributions.sales import resolved as resolved_key
from metrics.contributions.sales import resolved_account, shortened, stands_for
from metrics.contributions.terms import (
    MICROSECONDS,
    MICROSECONDS_PER_DAY,
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
from metrics.dimensions import TICKET_COLUMNS, TICKET_DIMENSIONS, Grouping
from store.compiled import AnySelect
from store.tables import (
    IDENTITY,
    OWNERS,
    SURVEY_RESPONSES,
    TICKETS,
    WORKING_DAYS,
)

RECURRENCE_DAYS: Final = 30
NPS: Final = "nps"
_MILLION: Final = 1_000_000
_PROMOTER: Final = 9
_PASSIVE: Final = 7
_BEST: Final = 10


# ---------------------------------------------------------------- tickets


def ticket_facts(
    side: int, chosen: FromClause | None = None, mapped: Mapped = NOTHING
) -> AnySelect:
    """Live tickets as they count, with account and owner resolved.

    Args:
        side: `BEFORE` or `AFTER`; a column of the result.
        chosen: keys of tickets: all those of an account, or none; None: all of them.
        mapped: their fields beside the built-in dimensions, and what is read.
    """
    accounts, owners = IDENTITY.alias("ticket_accounts"), IDENTITY.alias("ticket_owners")
    contacts = IDENTITY.alias("ticket_contacts")
    people = OWNERS.alias("ticket_people")
    owner = func.coalesce(owners.c.canonical, TICKETS.c.owner)
    days = {name: WORKING_DAYS.alias(f"{name}_hours") for name in _WORKED}
    account = resolved_account(TICKETS.c.account, accounts)
    category = shortened(TICKETS.c.category)
    before = func.lag(TICKETS.c.created_at, type_=BigInteger).over(
        partition_by=(account, category), order_by=(TICKETS.c.created_at, TICKETS.c.ref)
    )
    resolved = {
        "owner": owner,
        "team": shortened(people.c.team),
        "account": account,
        "contact": resolved_key(TICKETS.c.contact, contacts),
        "category": category,
        "type": shortened(TICKETS.c.type),
        "priority": shortened(TICKETS.c.priority),
        "ticket": TICKETS.c.ref,
    }
    sources = (
        TICKETS.outerjoin(accounts, stands_for(accounts, "accounts", TICKETS.c.account))
        .outerjoin(owners, stands_for(owners, "owners", TICKETS.c.owner))
        .outerjoin(contacts, stands_for(contacts, "contacts", TICKETS.c.contact))
        .outerjoin(people, people.c.ref == owner)
    )
    for name, table in days.items():
        sources = sources.outerjoin(table, table.c.day == TICKETS.c[f"{name}_day"])
    is_recent = TICKETS.c.created_at - before <= number(RECURRENCE_DAYS * MICROSECONDS_PER_DAY)
    is_recurrent = and_(
        account.is_not(None), TICKETS.c.category.is_not(None), TICKETS.c.created_at.is_not(None)
    )
    return (
        select(
            TICKETS.c.ref,
            number(side).label("side"),
            *(
                mapped.text(name, resolved[name] if name in resolved else TICKETS.c[name]).label(
                    name
                )
                for name in TICKET_DIMENSIONS
            ),
            *places_of(TICKETS, mapped),
            TICKETS.c.created_day,
            TICKETS.c.created_at,
            flag(TICKETS.c.is_closed).label("is_closed"),
            TICKETS.c.closed_at,
            TICKETS.c.closed_day,
            TICKETS.c.first_response_at,
            TICKETS.c.first_response_day,
            *(
                mapped.number("work", _worked(TICKETS.c[f"{name}_at"], table)).label(f"{name}_work")
                for name, table in days.items()
            ),
            mapped.count("is_recurrent", flag(and_(is_recurrent, is_recent))).label("is_recurrent"),
        )
        .select_from(sources)
        .where(is_live(TICKETS), *within(TICKETS.c.ref, chosen))
    )


_WORKED: Final = ("created", "closed", "first_response")


def _worked(at: ColumnElement[int], day: FromClause) -> ColumnElement[int]:
    """Microseconds of work up to an instant on a day."""
    return day.c.worked_before + case(
        (at <= day.c.opens_at, zero),
        (at >= day.c.closes_at, day.c.closes_at - day.c.opens_at),
        else_=at - day.c.opens_at,
    )


def closings_of(tickets: FromClause, changes: FromClause) -> AnySelect:
    """Each time a ticket was closed, and whether it was opened again afterwards.

    A closed ticket without a closing in its history was closed once, when it says.
    """
    in_order = (changes.c.at, changes.c.ref)
    is_closed = flag(changes.c.is_closed)
    history = (
        select(
            changes.c.ticket,
            changes.c.at_day,
            is_closed.label("is_closed"),
            func.lag(is_closed, type_=Integer)
            .over(partition_by=changes.c.ticket, order_by=in_order)
            .label("was_closed"),
            func.min(is_closed)
            .over(partition_by=changes.c.ticket, order_by=in_order, rows=(1, None))
            .label("stays_closed"),
        )
        .where(is_live(changes))
        .subquery("history")
    )
    closing = and_(history.c.is_closed == one, func.coalesce(history.c.was_closed, zero) == zero)
    was_reopened = or_(
        tickets.c.is_closed == zero, func.coalesce(history.c.stays_closed, one) == zero
    )
    dimensions = [tickets.c[name] for name in TICKET_COLUMNS]
    told = (
        select(
            tickets.c.ref,
            tickets.c.side,
            *dimensions,
            history.c.at_day.label("day"),
            flag(was_reopened).label("was_reopened"),
        )
        .select_from(history.join(tickets, tickets.c.ref == history.c.ticket))
        .where(closing)
    )
    other = select(changes.c.ticket).where(is_live(changes), changes.c.is_closed)
    untold = select(
        tickets.c.ref,
        tickets.c.side,
        *dimensions,
        tickets.c.closed_day.label("day"),
        zero.label("was_reopened"),
    ).where(tickets.c.is_closed == one, tickets.c.ref.not_in(other))
    return select(union_all(told, untold).subquery("closings"))


# ---------------------------------------------------------------- surveys


def survey_facts(
    side: int, chosen: FromClause | None = None, mapped: Mapped = NOTHING
) -> AnySelect:
    """Live answers to the question of recommendation.

    Args:
        side: `BEFORE` or `AFTER`; a column of the result.
        chosen: keys of answers: all those of a person, or none; None: all of them.
        mapped: their fields beside the built-in dimensions.
    """
    surveys, accounts = SURVEY_RESPONSES, IDENTITY.alias("survey_accounts")
    contacts = IDENTITY.alias("survey_contacts")
    person = resolved_key(surveys.c.contact, contacts)
    is_valid = and_(
        surveys.c.score % number(_MILLION) == zero,
        surveys.c.score >= zero,
        surveys.c.score <= number(_BEST * _MILLION),
    )
    place = func.row_number().over(
        partition_by=(
            func.coalesce(person, surveys.c.ref),
            flag(surveys.c.contact.is_not(None)),
            flag(is_valid),
        ),
        order_by=(surveys.c.submitted_at.desc(), surveys.c.ref.desc()),
    )
    return (
        select(
            surveys.c.ref,
            number(side).label("side"),
            resolved_account(surveys.c.account, accounts).label("account"),
            shortened(surveys.c.category).label("category"),
            person.label("contact"),
            *places_of(surveys, mapped),
            surveys.c.submitted_day.label("day"),
            surveys.c.score,
            flag(is_valid).label("is_valid"),
            flag(place == one).label("is_latest"),
        )
        .select_from(
            surveys.outerjoin(
                accounts, stands_for(accounts, "accounts", surveys.c.account)
            ).outerjoin(contacts, stands_for(contacts, "contacts", surveys.c.contact))
        )
        .where(
            is_live(surveys),
            or_(surveys.c.kind.is_(None), surveys.c.kind == text_of(NPS)),
            *within(surveys.c.ref, chosen),
        )
    )


# ---------------------------------------------------------------- families


def tickets_created(facts: Facts, _: Family) -> Rows:
    """All tickets on their creation day."""
    tickets = facts.of("tickets")
    return Rows(
        source=tickets,
        day=day_or_unknown(tickets.c.created_day),
        measures=(one, tickets.c.is_recurrent),
    )


def tickets_closed(facts: Facts, _: Family) -> Rows:
    """Tickets that are closed now, on their closing day."""
    tickets = facts.of("tickets")
    return Rows(
        source=tickets,
        day=day_or_unknown(tickets.c.closed_day),
        measures=(one,),
        where=(tickets.c.is_closed == one,),
    )


def tickets_open(facts: Facts, _: Family) -> Rows:
    """Tickets that are open now."""
    tickets = facts.of("tickets")
    return Rows(source=tickets, day=zero, measures=(one,), where=(tickets.c.is_closed == zero,))


def resolution(facts: Facts, family: Family) -> Rows:
    """Tickets that are closed now; the bucket is the seconds since creation, where they count."""
    tickets = facts.of("tickets")
    seconds, is_negative = _seconds(tickets, "closed", family)
    return _durations(
        family, tickets, tickets.c.closed_day, seconds, is_negative, (tickets.c.is_closed == one,)
    )


def first_response(facts: Facts, family: Family) -> Rows:
    """Tickets with a public reply, on its day; the bucket as of resolutions."""
    tickets = facts.of("tickets")
    seconds, is_negative = _seconds(tickets, "first_response", family)
    return _durations(
        family,
        tickets,
        tickets.c.first_response_day,
        seconds,
        is_negative,
        (tickets.c.first_response_at.is_not(None),),
    )


def _seconds(
    tickets: FromClause, end: str, family: Family
) -> tuple[ColumnElement[int], ColumnElement[bool]]:
    """From creation to an end, by the family's clock, and whether the end came first."""
    clock = "work" if family.is_business_hours else "at"
    micros = tickets.c[f"{end}_{clock}"] - tickets.c[f"created_{clock}"]
    is_negative = tickets.c[f"{end}_at"] < tickets.c.created_at
    # Integer division rounds towards zero; negative ones are not used.
    return case((is_negative, None), else_=micros // number(MICROSECONDS)), is_negative


def _durations(  # noqa: PLR0917 - what the two kinds of durations differ in
    family: Family,
    source: FromClause,
    day: ColumnElement[int],
    seconds: ColumnElement[int],
    is_negative: ColumnElement[bool],
    where: tuple[ColumnElement[bool], ...],
) -> Rows:
    is_measured = seconds.is_not(None)
    return Rows(
        source=source,
        day=day_or_unknown(day),
        measures=(
            flag(is_measured),
            case((is_measured, seconds), else_=zero),
            flag(is_negative),
            flag(and_(seconds.is_(None), ~func.coalesce(is_negative, False))),
        ),
        bucket=bucket_of(family, seconds, is_measured),
        where=where,
    )


def closings(facts: Facts, family: Family) -> Distinct | Grouped:
    """Tickets that were closed in a period, once for each."""
    rows = facts.of("closings")
    if family.is_running:
        return Grouped(rows=lambda grouping: _closed_lately(facts, family, grouping))
    return Distinct(
        source=rows,
        member=(rows.c.ref,),
        day=rows.c.day,
        measures=(one, rows.c.was_reopened),
    )


def _closed_lately(facts: Facts, family: Family, grouping: Grouping) -> AnySelect:
    """Tickets closed in the last days, and those of them with a closing that did not last."""
    rows = facts.of("closings")
    columns = [rows.c[name] for name in grouping]
    chosen = select(
        rows.c.side,
        rows.c.ref,
        key_column(columns).label("key"),
        rows.c.day,
        rows.c.was_reopened,
    ).where(rows.c.day.is_not(None), *(column.is_not(None) for column in columns))
    closed = both_ways(chosen.subquery("chosen"), facts)
    reopened = select(closed).where(closed.c.was_reopened == one).subquery("reopened")

    def counted(found: FromClause, *, is_closed: bool) -> AnySelect:
        events = presences(found, ("ref",), family.days)
        measures = (events.c.delta, zero) if is_closed else (zero, events.c.delta)
        return select(
            events.c.key,
            events.c.sign.label("side"),
            events.c.day,
            *(measure.label(name) for name, measure in zip(("m1", "m2"), measures, strict=True)),
        )

    both = union_all(counted(closed, is_closed=True), counted(reopened, is_closed=False))
    return select(both.subquery("counted"))


def answers(facts: Facts, family: Family) -> Rows:
    """Answers on their day, by what they amount to."""
    surveys = facts.of("surveys")
    score, is_valid = surveys.c.score, surveys.c.is_valid == one
    is_promoter = and_(is_valid, score >= number(_PROMOTER * _MILLION))
    is_detractor = and_(is_valid, score < number(_PASSIVE * _MILLION))
    chosen = or_(surveys.c.is_latest == one, surveys.c.is_valid == zero)
    return Rows(
        source=surveys,
        day=day_or_unknown(surveys.c.day),
        measures=(
            flag(is_promoter),
            flag(and_(is_valid, ~is_promoter, ~is_detractor)),
            flag(is_detractor),
            one - surveys.c.is_valid,
        ),
        where=(chosen,) if family.is_latest else (),
    )
