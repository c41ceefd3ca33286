"""What each record and account adds to the cells, as SQL, by subject.

Every SELECT reads *facts*: deals, tickets, leads ... (with accounts and owners resolved to the
entities they stand for), each on a side. A rebuild reads the facts of the whole store, all on
the side `AFTER`; an increment reads those of what a page touches, on the side `BEFORE` as they
were and `AFTER` as they are. The statements above the facts are the same, so an increment and a
rebuild cannot disagree about what counts.

A family's place is one function in the module of its subject, named as its formula.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from metrics.contributions import custom, customers, emails, marketing, sales, service
from metrics.contributions.own import NOTHING, Mapped
from metrics.contributions.rows import Contribution, Facts
from metrics.contributions.tables import FACTS
from metrics.contributions.terms import AFTER
from metrics.periods import Calendar
from store.compiled import AnySelect
from store.tables import DEAL_STAGE_CHANGES, TICKET_STATUS_CHANGES

__all__ = ["CONTRIBUTIONS", "all_facts", "everything", "moved"]

CONTRIBUTIONS: Final[Mapping[str, Contribution]] = MappingProxyType(
    {
        contribution.__name__: contribution
        for contribution in (
            sales.deals_closed,
            sales.deal_amounts,
            sales.deals_created,
            sales.sales_cycle,
            sales.deals_open,
            sales.deals_resting,
            sales.deals_aging,
            sales.stages_seen,
            sales.stage_visits,
            sales.stage_times,
            sales.reopenings,
            sales.stage_entries,
            sales.stages_open,
            customers.first_purchases,
            customers.buyers,
            customers.upsellers,
            customers.lifespans,
            customers.undated_buyers,
            customers.activity,
            customers.contract_activity,
            marketing.leads_created,
            marketing.leads_qualified,
            marketing.costs,
            emails.email_opens,
            emails.email_clicks,
            emails.email_unsubscribes,
            emails.email_bounces,
            emails.email_deliveries,
            marketing.credit_first,
            marketing.credit_last,
            marketing.credit_linear,
            marketing.credit_primary,
            service.tickets_created,
            service.tickets_closed,
            service.tickets_open,
            service.resolution,
            service.first_response,
            service.closings,
            service.answers,
            custom.custom,
        )
    }
)
"""Formula of a family -> what the facts amount to in it."""


def everything(
    currency: str, sources: Collection[str], mapped: Callable[[str], Mapped] = lambda _: NOTHING
) -> Iterator[tuple[str, AnySelect]]:
    """The SELECTs of the facts of the whole store; each may read the ones before.

    Args:
        currency: of amounts without one: the company's.
        sources: the facts that are wanted.
        mapped: of a source, the fields beside its built-in dimensions, and what is read.
    """
    deals, tickets = FACTS["deals"], FACTS["tickets"]
    wanted: Mapping[str, Callable[[], AnySelect]] = {
        "deals": partial(sales.deal_facts, AFTER, currency, mapped=mapped("deals")),
        "tickets": partial(service.ticket_facts, AFTER, mapped=mapped("tickets")),
        "visits": partial(sales.visits_of, deals, DEAL_STAGE_CHANGES, mapped("visits")),
        "purchases": partial(customers.purchases_of, deals),
        "credits": partial(marketing.credits_of, deals, mapped=mapped("credits")),
        "closings": partial(service.closings_of, tickets, TICKET_STATUS_CHANGES),
        "leads": partial(marketing.lead_facts, AFTER, mapped=mapped("leads")),
        "surveys": partial(service.survey_facts, AFTER, mapped=mapped("surveys")),
        "costs": partial(marketing.cost_facts, AFTER, currency),
        "emails": partial(emails.email_facts, AFTER),
        "contracts": partial(customers.contract_facts, AFTER),
        "stages": partial(sales.stage_facts, AFTER),
    }
    needed = set(sources)
    if needed & {"visits", "purchases", "credits"}:
        needed.add("deals")
    if "closings" in needed:
        needed.add("tickets")
    for source, select in wanted.items():
        if source in needed:
            yield source, select()


def all_facts(calendar: Calendar) -> Facts:
    """The facts of a rebuild, once `everything` stands in the temporary tables."""
    return Facts(FACTS, is_difference=False, calendar=calendar)


def moved(calendar: Calendar) -> Facts:
    """The facts of an increment."""
    return Facts(FACTS, is_difference=True, calendar=calendar)
