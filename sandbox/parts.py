"""Which part of a company stands in which CRM."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from sandbox.company import Answer, Company, Contract, Deal, Person, Ticket

FIRST, SECOND, BOTH = 0, 1, 2
"""Where a record stands: in Salesforce alone, in HubSpot alone, in both."""


def half(company: Company, which: int) -> Company:
    """Every second family of accounts with all that is theirs, and every second of the rest."""
    return _part(company, which, _standing(company, crms=2).__getitem__, _no_copies)


@dataclass(frozen=True, slots=True)
class Overlap:
    """One company in two CRMs: each record in one of them or in both."""

    first: Company
    second: Company
    copied_deals: Collection[str]
    """Deals that the integration copied: both CRMs have them, with each other's id."""
    shared_people: Collection[str]
    linked_accounts: Collection[str]
    """Accounts in both CRMs that the integration knows; the others share a domain alone."""
    domains: Mapping[str, str]
    """Accounts whose second record has another domain -> that domain."""
    doubles: Mapping[str, str]
    """Accounts that the second CRM has twice -> the domain of the double."""


def overlap(company: Company) -> Overlap:
    """Every third family of accounts is in both CRMs, with a third of its deals.

    Creation dates entered by hand are left out: only HubSpot would take them.
    """
    company = replace(company, deals=[replace(deal, created_as=None) for deal in company.deals])
    where = _standing(company, crms=3).__getitem__
    shared = [it.name for it in company.accounts if where(it.name) == BOTH]
    deals = [it for it in company.deals if it.account and where(it.account) == BOTH]
    copied = {deal.name for place, deal in enumerate(deals) if place % 3 == BOTH}
    # A person known to both is a lead in Salesforce alone, and a contact in HubSpot.
    people = {it.name for it in company.people if it.account and where(it.account) == BOTH}

    def deal_place(deal: Deal, place: int) -> int:
        return BOTH if deal.name in copied else place % 2

    domains = {it.name: it.domain for it in company.accounts if it.domain}
    # Every fifth is known by its domain alone; of the others every fifth moved to another one.
    linked = {name for place, name in enumerate(shared) if place % 5 != 1}
    moved = {name for place, name in enumerate(shared) if place % 5 == 0}
    second = _part(company, SECOND, where, deal_place)
    return Overlap(
        _part(company, FIRST, where, deal_place),
        replace(second, people=[_as_copy(it) if it.name in people else it for it in second.people]),
        copied,
        people,
        linked,
        {name: f"eu-{domains[name]}" for name in shared if name in moved and name in domains},
        {name: f"us-{domains[name]}" for name in shared[:1] if name in domains},
    )


def _as_copy(person: Person) -> Person:
    """A person whose lead is kept in the other CRM: here it is a contact and no more."""
    return replace(person, lead_at=None, qualified_at=None, converted_at=None, is_lost=False)


DealPlace: TypeAlias = Callable[[Deal, int], int]
T = TypeVar("T", Deal, Person, Ticket, Answer, Contract)


def _no_copies(deal: Deal, place: int) -> int:  # noqa: ARG001 - the shape of a `DealPlace`
    return place % 2


def _part(
    company: Company, which: int, where: Callable[[str], int], deal_place: DealPlace
) -> Company:
    """What stands in CRM `which`; things of an account in both alternate between the two."""

    def stands(account: str | None, place: int) -> int:
        found = BOTH if account is None else where(account)
        return place % 2 if found == BOTH else found

    def deal_stands(deal: Deal, place: int) -> int:
        if deal.account is None or where(deal.account) != BOTH:
            return stands(deal.account, place)
        return deal_place(deal, place)

    def person_stands(person: Person, place: int) -> int:
        if person.account is not None and where(person.account) == BOTH:
            return BOTH
        return stands(person.account, place)

    here = (which, BOTH)
    people = [it for it, place in _counted(company.people) if person_stands(it, place) in here]
    known = {person.name for person in people}
    return replace(
        company,
        accounts=[it for it in company.accounts if where(it.name) in here],
        deals=[it for it, place in _counted(company.deals) if deal_stands(it, place) in here],
        people=people,
        campaigns=[
            replace(it, touches=[touch for touch in it.touches if touch.person in known])
            for place, it in enumerate(company.campaigns)
            if place % 2 == which
        ],
        tickets=[it for it, p in _counted(company.tickets) if stands(it.account, p) == which],
        answers=[it for it, p in _counted(company.answers) if stands(it.account, p) == which],
        contracts=[it for it, p in _counted(company.contracts) if stands(it.account, p) == which],
    )


def _counted(items: Sequence[T]) -> Iterator[tuple[T, int]]:
    """Each with its place among those that have an account, or among those that have none."""
    places = {True: itertools.count(), False: itertools.count()}
    for it in items:
        yield it, next(places[it.account is None])


def _standing(company: Company, *, crms: int) -> dict[str, int]:
    """Account -> where it stands; a family stays together, families take turns."""
    parents = {account.name: account.parent for account in company.accounts}
    roots = {name: _root(name, parents) for name in parents}
    turns = {root: place % crms for place, root in enumerate(sorted(set(roots.values())))}
    return {name: turns[root] for name, root in roots.items()}


def _root(name: str, parents: Mapping[str, str | None]) -> str:
    parent = parents[name]
    return name if parent is None else _root(parent, parents)
