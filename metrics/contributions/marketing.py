"""Leads, what campaigns cost, and the purchases that are credited to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import FromClause, Text, and_, case, cast, exists, func, or_, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from metrics.contributions.customers import buyer_of
from metrics.contributions.own import NOTHING, Mapped, places_of
from metrics.contributions.rows import Facts, Rows
from metrics.contributions.running import both_ways
from metrics.contributions.sales import (
    day_of_last_closing,
    instant_of_last_closing,
    resolved,
    resolved_account,
    shortened,
    stands_for,
    stands_for_itself,
)
from metrics.contributions.terms import (
    NO_CURRENCY,
    day_or_unknown,
    flag,
    is_live,
    no_text,
    number,
    one,
    text_of,
    within,
    zero,
)
from metrics.definition import Family
from metrics.dimensions import DEAL_COLUMNS, NO_CAMPAIGN
from store.compiled import AnySelect
from store.tables import (
    CAMPAIGN_MEMBERS,
    CAMPAIGNS,
    CONTACTS,
    COSTS,
    DEAL_CONTACTS,
    DEALS,
    IDENTITY,
    LEADS,
    OWNERS,
)

FILE: Final = "file"
FIELD: Final = "campaigns.cost"
STREAM: Final = "costs"
FILE_CONNECTION: Final = "file"
"""The connection that costs of files are stored under."""


# ---------------------------------------------------------------- leads


def lead_facts(side: int, chosen: FromClause | None = None, mapped: Mapped = NOTHING) -> AnySelect:
    """Live leads and what has become of them."""
    owners, accounts = IDENTITY.alias("lead_owners"), IDENTITY.alias("lead_accounts")
    people = OWNERS.alias("lead_people")
    owner = func.coalesce(owners.c.canonical, LEADS.c.owner)
    account = resolved_account(LEADS.c.converted_account, accounts)
    won_deal, copies = DEALS.alias("converted_deals"), IDENTITY.alias("lead_deals")
    # A deleted deal does not exist: then the purchases of the account decide, as without any.
    is_customer = case(
        (is_live(won_deal), flag(and_(won_deal.c.is_closed, won_deal.c.is_won))),
        (_has_purchase(account), one),
        else_=zero,
    )
    return (
        select(
            LEADS.c.ref,
            number(side).label("side"),
            shortened(LEADS.c.source).label("source"),
            owner.label("owner"),
            shortened(people.c.team).label("team"),
            *places_of(LEADS, mapped),
            LEADS.c.created_day,
            LEADS.c.qualified_day,
            flag(LEADS.c.qualified_at.is_not(None)).label("is_qualified"),
            flag(LEADS.c.converted_at.is_not(None)).label("is_converted"),
            is_customer.label("is_customer"),
        )
        .select_from(
            LEADS.outerjoin(owners, stands_for(owners, "owners", LEADS.c.owner))
            .outerjoin(people, people.c.ref == owner)
            .outerjoin(accounts, stands_for(accounts, "accounts", LEADS.c.converted_account))
            .outerjoin(copies, stands_for(copies, "deals", LEADS.c.converted_deal))
            .outerjoin(won_deal, won_deal.c.ref == resolved(LEADS.c.converted_deal, copies))
        )
        .where(is_live(LEADS), *within(LEADS.c.ref, chosen))
    )


def _has_purchase(account: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether an account bought on or after the lead's day, under any of its keys."""
    own, other = DEALS.alias("own_purchases"), DEALS.alias("other_purchases")
    names, itself = IDENTITY.alias("other_names"), IDENTITY.alias("own_name")

    def is_purchase(deals: FromClause) -> ColumnElement[bool]:
        won = and_(is_live(deals), deals.c.is_closed, deals.c.is_won)
        won = and_(won, stands_for_itself("deals", deals.c.ref))
        closed_day = case(
            (deals.c.closed_day.is_(None), day_of_last_closing(deals)), else_=deals.c.closed_day
        )
        return and_(won, closed_day >= LEADS.c.created_day)

    is_itself = ~exists().where(stands_for(itself, "accounts", account)).correlate_except(itself)
    under_own = (
        exists().where(own.c.account == account, is_purchase(own), is_itself).correlate_except(own)
    )
    under_other = (
        exists()
        .where(
            names.c.stream == text_of("accounts"),
            names.c.canonical == account,
            other.c.account == names.c.ref,
            is_purchase(other),
        )
        .correlate_except(names, other)
    )
    return and_(account.is_not(None), or_(under_own, under_other))


def leads_created(facts: Facts, _: Family) -> Rows:
    """Leads on their creation day, with what has become of them."""
    leads = facts.of("leads")
    return Rows(
        source=leads,
        day=day_or_unknown(leads.c.created_day),
        measures=(one, leads.c.is_converted, leads.c.is_customer),
    )


def leads_qualified(facts: Facts, _: Family) -> Rows:
    """Qualified leads on the day of their qualification."""
    leads = facts.of("leads")
    return Rows(
        source=leads,
        day=day_or_unknown(leads.c.qualified_day),
        measures=(one,),
        where=(leads.c.is_qualified == one,),
    )


# ---------------------------------------------------------------- costs


def cost_facts(
    side: int,
    currency: str,
    chosen_costs: FromClause | None = None,
    chosen_campaigns: FromClause | None = None,
) -> AnySelect:
    """Dated costs, and the cost fields of campaigns without any, on their start day."""
    campaigns, dated = CAMPAIGNS.alias("cost_campaigns"), COSTS.alias("dated_costs")

    def own_currency(table: FromClause) -> ColumnElement[str]:
        return func.coalesce(func.nullif(table.c.currency, text_of(NO_CURRENCY)), text_of(currency))

    is_file = func.substr(COSTS.c.ref, one, number(len(FILE_CONNECTION) + 1)) == text_of(
        f"{FILE_CONNECTION}:"
    )
    spent = (
        select(
            COSTS.c.ref,
            number(side).label("side"),
            COSTS.c.campaign,
            shortened(campaigns.c.channel).label("channel"),
            shortened(COSTS.c.source).label("source"),
            shortened(COSTS.c.category).label("category"),
            COSTS.c.date.label("day"),
            COSTS.c.amount,
            own_currency(COSTS).label("currency"),
            case((is_file, text_of(FILE)), else_=text_of(STREAM)).label("origin"),
        )
        .select_from(COSTS.outerjoin(campaigns, campaigns.c.ref == COSTS.c.campaign))
        .where(is_live(COSTS), COSTS.c.amount.is_not(None), *within(COSTS.c.ref, chosen_costs))
    )
    has_dated = exists().where(is_live(dated), dated.c.campaign == CAMPAIGNS.c.ref)
    planned = select(
        CAMPAIGNS.c.ref,
        number(side).label("side"),
        CAMPAIGNS.c.ref.label("campaign"),
        shortened(CAMPAIGNS.c.channel).label("channel"),
        no_text().label("source"),
        no_text().label("category"),
        CAMPAIGNS.c.start_date.label("day"),
        CAMPAIGNS.c.cost.label("amount"),
        own_currency(CAMPAIGNS).label("currency"),
        text_of(FIELD).label("origin"),
    ).where(
        is_live(CAMPAIGNS),
        CAMPAIGNS.c.cost.is_not(None),
        ~has_dated,
        *within(CAMPAIGNS.c.ref, chosen_campaigns),
    )
    return select(union_all(spent, planned).subquery("spendings"))


def costs(facts: Facts, family: Family) -> Rows:
    """Costs on their day."""
    rows = facts.of("costs")
    wanted = [text_of(origin) for origin in family.origins]
    if FIELD in family.origins and STREAM not in family.origins:
        # What a campaign cost is its dated costs, where there are any.
        is_wanted = or_(
            rows.c.origin.in_(wanted),
            and_(rows.c.campaign.is_not(None), rows.c.origin == text_of(STREAM)),
        )
    else:
        is_wanted = rows.c.origin.in_(wanted)
    return Rows(
        source=rows,
        day=day_or_unknown(rows.c.day),
        measures=(one, rows.c.amount, flag(rows.c.campaign.is_not(None))),
        currency=rows.c.currency,
        where=(is_wanted,) if wanted else (),
    )


# ---------------------------------------------------------------- credits


def credits_of(
    deals: FromClause, touches: FromClause | None = None, mapped: Mapped = NOTHING
) -> AnySelect:
    """Won deals, once for each touch of their account's people up to the close.

    Args:
        deals: facts of one side, of all purchases of their accounts or of none.
        touches: `touches_of` their accounts, in a table; None: those of all accounts.
        mapped: what is read.
    """
    won = _ranked_purchases(deals)
    if touches is None:
        touches = touches_of().subquery("touches")
    roles, other_roles = DEAL_CONTACTS.alias("roles"), DEAL_CONTACTS.alias("any_roles")
    closing = DEALS.alias("closing")
    has_roles = exists().where(is_live(other_roles), other_roles.c.deal == won.c.ref)
    persons = IDENTITY.alias("role_persons")
    is_in_role = exists(
        select(one)
        .select_from(roles.outerjoin(persons, stands_for(persons, "contacts", roles.c.contact)))
        .where(
            is_live(roles),
            roles.c.deal == won.c.ref,
            resolved(roles.c.contact, persons) == touches.c.person,
        )
        .correlate(won, touches)
    )
    # A close that is a day lasts all that day long, one that is an instant ends there.
    is_in_time = or_(
        and_(won.c.close_date.is_not(None), touches.c.at_day <= won.c.closed_day),
        and_(won.c.close_date.is_(None), touches.c.at <= closing.c.closed_at),
        and_(
            won.c.close_date.is_(None),
            closing.c.closed_at.is_(None),
            touches.c.at <= instant_of_last_closing(closing),
        ),
    )
    joined = (
        select(*won.c, touches.c.campaign.label("touched_by"), touches.c.at, touches.c.member)
        .select_from(
            # The deal is looked up again only where its facts do not say when it was closed.
            won.outerjoin(
                closing, closing.c.ref == case((won.c.close_date.is_(None), won.c.ref))
            ).outerjoin(
                touches,
                and_(touches.c.account == won.c.account, is_in_time, or_(~has_roles, is_in_role)),
            )
        )
        .subquery("joined")
    )
    campaigns = CAMPAIGNS.alias("touching_campaigns")
    of_deal = joined.c.ref
    touched: dict[str, ColumnElement[Any]] = {
        "campaign": func.coalesce(joined.c.touched_by, text_of(NO_CAMPAIGN)),
        "channel": shortened(campaigns.c.channel),
    }
    shares = func.count(joined.c.member).over(partition_by=of_deal)
    return select(
        joined.c.ref,
        joined.c.side,
        *(
            mapped.text(name, touched[name] if name in touched else joined.c[name]).label(name)
            for name in DEAL_COLUMNS
        ),
        joined.c.closed_day,
        joined.c.amount,
        joined.c.currency,
        case((shares == zero, one), else_=shares).label("shares"),
        mapped.count(
            "place",
            func.row_number().over(partition_by=of_deal, order_by=(joined.c.at, joined.c.member)),
        ).label("place"),
        mapped.count(
            "place_from_last",
            func.row_number().over(
                partition_by=of_deal, order_by=(joined.c.at.desc(), joined.c.member.desc())
            ),
        ).label("place_from_last"),
        flag(joined.c.purchase_place == one).label("is_first_purchase"),
        flag(joined.c.account.is_not(None)).label("has_account"),
    ).select_from(joined.outerjoin(campaigns, campaigns.c.ref == joined.c.touched_by))


def _ranked_purchases(deals: FromClause) -> FromClause:
    place = func.row_number().over(
        partition_by=buyer_of(deals),
        order_by=(flag(deals.c.closed_day.is_(None)), deals.c.closed_day, deals.c.ref),
    )
    names = ("ref", "side", *DEAL_COLUMNS, "close_date", "closed_day", "amount", "currency")
    return (
        select(*(deals.c[name] for name in names), place.label("purchase_place"))
        .where(deals.c.is_won == one)
        .subquery("won")
    )


def touches_of(chosen_accounts: FromClause | None = None) -> AnySelect:
    """When contacts of an account, or leads converted into it, were touched by a campaign.

    A contact that several CRMs know is one person, of the account of the record that stands for
    the others; where that has none, of the account of the record that was touched.

    Args:
        chosen_accounts: keys of accounts whose people are looked at; None: of all.
    """
    members = {name: CAMPAIGN_MEMBERS.alias(f"{name}_members") for name in _TOUCHED}
    copies, persons = IDENTITY.alias("contact_copies"), CONTACTS.alias("copied_contacts")
    own = IDENTITY.alias("copied_persons")
    of_lead = IDENTITY.alias("lead_persons")

    def touched(
        name: str,
        source: FromClause,
        people: FromClause,
        account: ColumnElement[str],
        person: ColumnElement[str],
        *conditions: ColumnElement[bool],
    ) -> AnySelect:
        identity = IDENTITY.alias(f"{name}_accounts")
        return (
            select(
                # With a type, which an expression has none of: SQLite makes no index for a join
                # on it otherwise, and reads all touches for each deal.
                cast(resolved_account(account, identity), Text).label("account"),
                person.label("person"),
                members[name].c.campaign,
                members[name].c.at,
                members[name].c.at_day,
                members[name].c.ref.label("member"),
            )
            .select_from(source.outerjoin(identity, stands_for(identity, "accounts", account)))
            .where(
                is_live(members[name]),
                # A person who is a customer is folded into the account, and touched all the same.
                or_(is_live(people), people.c.merged_into == account),
                account.is_not(None),
                *conditions,
                *within(account, chosen_accounts),
            )
        )

    is_copy = and_(copies.c.stream == text_of("contacts"), copies.c.canonical == CONTACTS.c.ref)
    is_lead = and_(
        members["lead"].c.lead == LEADS.c.ref,
        # Not as a condition that an index of members serves: leads are chosen first.
        flag(members["lead"].c.contact.is_(None)) == one,
    )
    of_all = union_all(
        touched(
            "contact",
            CONTACTS.join(members["contact"], members["contact"].c.contact == CONTACTS.c.ref),
            CONTACTS,
            CONTACTS.c.account,
            CONTACTS.c.ref,
            stands_for_itself("contacts", CONTACTS.c.ref),
        ),
        touched(
            "copy",
            CONTACTS.join(copies, is_copy).join(
                members["copy"], members["copy"].c.contact == copies.c.ref
            ),
            CONTACTS,
            CONTACTS.c.account,
            CONTACTS.c.ref,
        ),
        touched(
            "strayed",
            CONTACTS.join(own, stands_for(own, "contacts", CONTACTS.c.ref))
            .join(persons, persons.c.ref == own.c.canonical)
            .join(members["strayed"], members["strayed"].c.contact == CONTACTS.c.ref),
            CONTACTS,
            CONTACTS.c.account,
            own.c.canonical,
            persons.c.account.is_(None),
        ),
        touched(
            "lead",
            LEADS.join(members["lead"], is_lead).outerjoin(
                of_lead, stands_for(of_lead, "contacts", LEADS.c.converted_contact)
            ),
            LEADS,
            LEADS.c.converted_account,
            resolved(LEADS.c.converted_contact, of_lead),
        ),
    )
    return select(of_all.subquery("touches_of_all"))


_TOUCHED: Final = ("contact", "copy", "strayed", "lead")


def _credited(
    facts: Facts,
    chosen: Callable[[FromClause], tuple[ColumnElement[bool], ...]],
    *,
    is_shared: bool,
) -> Rows:
    rows = facts.of("credits")
    amount = func.coalesce(rows.c.amount, zero)
    return Rows(
        source=rows,
        day=day_or_unknown(rows.c.closed_day),
        measures=(
            one,
            amount,
            flag(and_(rows.c.is_first_purchase == one, rows.c.has_account == one)),
        ),
        currency=rows.c.currency,
        bucket=rows.c.shares if is_shared else one,
        where=chosen(rows),
    )


def credit_first(facts: Facts, _: Family) -> Rows:
    """All of a purchase to the first touch."""
    return _credited(facts, lambda rows: (rows.c.place == one,), is_shared=False)


def credit_last(facts: Facts, _: Family) -> Rows:
    """All of a purchase to the last touch."""
    return _credited(facts, lambda rows: (rows.c.place_from_last == one,), is_shared=False)


def credit_linear(facts: Facts, _: Family) -> Rows:
    """An equal share of a purchase to each touch."""
    return _credited(facts, lambda _: (), is_shared=True)


def credit_primary(facts: Facts, _: Family) -> Rows:
    """All of a purchase to the campaign that stands on the deal."""
    won, purchases = facts.of("deals"), both_ways(facts.of("purchases"), facts)
    amounts = select(
        won.c.side,
        *_with_campaign(won),
        won.c.closed_day,
        won.c.currency,
        one.label("n_deals"),
        func.coalesce(won.c.amount, zero).label("won_amount"),
        zero.label("n_first"),
    ).where(won.c.is_won == one)
    place = func.row_number().over(
        partition_by=(purchases.c.sign, *buyer_of(purchases)),
        order_by=(
            flag(purchases.c.closed_day.is_(None)),
            purchases.c.closed_day,
            purchases.c.ref,
        ),
    )
    ranked = select(*purchases.c, place.label("place")).subquery("ranked")
    firsts = select(
        ranked.c.sign,
        *_with_campaign(ranked),
        ranked.c.closed_day,
        text_of(NO_CURRENCY),
        zero,
        zero,
        flag(ranked.c.account.is_not(None)),
    ).where(ranked.c.place == one)
    rows = union_all(amounts, firsts).subquery("credited")
    return Rows(
        source=rows,
        day=day_or_unknown(rows.c.closed_day),
        measures=(rows.c.n_deals, rows.c.won_amount, rows.c.n_first),
        currency=rows.c.currency,
        bucket=one,
    )


def _with_campaign(deals: FromClause) -> list[ColumnElement[Any]]:
    unnamed = func.coalesce(deals.c.campaign, text_of(NO_CAMPAIGN)).label("campaign")
    return [unnamed if name == "campaign" else deals.c[name] for name in DEAL_COLUMNS]
