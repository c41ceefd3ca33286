"""What became of marketing e-mails, as a source counts it."""

from __future__ import annotations

from sqlalchemy import FromClause, and_, func, select

from metrics.contributions.rows import Facts, Rows
from metrics.contributions.sales import shortened
from metrics.contributions.terms import day_or_unknown, flag, is_live, number, one, within, zero
from metrics.definition import Family
from store.compiled import AnySelect
from store.tables import CAMPAIGNS, EMAIL_STATISTICS


def email_facts(side: int, chosen: FromClause | None = None) -> AnySelect:
    """Live statistics of e-mails, with the channel of their campaign."""
    campaigns = CAMPAIGNS.alias("email_campaigns")
    told = EMAIL_STATISTICS
    return (
        select(
            told.c.ref,
            number(side).label("side"),
            told.c.campaign,
            shortened(campaigns.c.channel).label("channel"),
            shortened(told.c.email).label("email"),
            told.c.date.label("day"),
            told.c.delivered,
            told.c.opens,
            told.c.clicks,
            told.c.unsubscribes,
            told.c.bounces,
        )
        .select_from(told.outerjoin(campaigns, campaigns.c.ref == told.c.campaign))
        .where(is_live(told), *within(told.c.ref, chosen))
    )


def _events(facts: Facts, name: str) -> Rows:
    """Events and deliveries of those statistics that tell both; the others are counted apart."""
    rows = facts.of("emails")
    events, delivered = rows.c[name], rows.c.delivered
    is_complete = flag(and_(events.is_not(None), delivered.is_not(None)))
    return Rows(
        source=rows,
        day=day_or_unknown(rows.c.day),
        measures=(
            is_complete * func.coalesce(events, zero),
            is_complete * func.coalesce(delivered, zero),
            one - is_complete,
        ),
    )


def email_opens(facts: Facts, _: Family) -> Rows:
    """Opens beside deliveries."""
    return _events(facts, "opens")


def email_clicks(facts: Facts, _: Family) -> Rows:
    """Clicks beside deliveries."""
    return _events(facts, "clicks")


def email_unsubscribes(facts: Facts, _: Family) -> Rows:
    """Unsubscribes beside deliveries."""
    return _events(facts, "unsubscribes")


def email_bounces(facts: Facts, _: Family) -> Rows:
    """Bounces beside deliveries."""
    return _events(facts, "bounces")


def email_deliveries(facts: Facts, _: Family) -> Rows:
    """Deliveries alone."""
    rows = facts.of("emails")
    return Rows(
        source=rows,
        day=day_or_unknown(rows.c.day),
        measures=(
            func.coalesce(rows.c.delivered, zero),
            flag(rows.c.delivered.is_(None)),
        ),
    )
