"""Invents what customers ask for and think: tickets, survey answers, contracts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sandbox.company import Answer, Company, Contract, Ticket, TicketVisit

NEW, WAITING, CLOSED = "new", "waiting", "closed"
TICKETS_PER_DEAL = 0.5
REPLIED_SHARE = 0.85
CLOSED_SHARE = 0.88
REOPENED_SHARE = 0.08
CLOSED_AGAIN_SHARE = 0.8
MEAN_HOURS_TO_REPLY = 5
MEAN_HOURS_TO_CLOSE = 40
ANSWERS_PER_DEAL = 0.25
PERSON_UNKNOWN_SHARE = 0.1
SCORES = (0, 3, 5, 6, 6, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10)
CONTRACT_MONTHS = (6, 12, 12, 12, 24)
RENEWAL_SHARE = 0.7
CATEGORIES = ("problem", "problem", "question", "wish")
PRIORITIES = ("low", "medium", "medium", "high")
ORIGINS = ("email", "email", "phone", "web")
DAYS = 730


def with_service(company: Company, *, seed: int) -> Company:
    """The company with its customers' tickets, survey answers and contracts."""
    chance = random.Random(f"{seed}/service")  # noqa: S311 - invents data, guards nothing
    bought = _first_purchases(company)
    people: dict[str, list[str]] = {}
    for person in company.people:
        if person.account is not None:
            people.setdefault(person.account, []).append(person.name)
    return replace(
        company,
        tickets=_tickets(chance, company, people),
        answers=_answers(chance, company, bought, people),
        contracts=_contracts(chance, company, bought),
    )


def _first_purchases(company: Company) -> dict[str, date]:
    """When each account first bought something."""
    won = {stage.name for stage in company.stages if stage.is_won}
    first: dict[str, date] = {}
    for deal in company.deals:
        if deal.account and deal.visits[-1].stage in won and deal.deleted_at is None:
            day = deal.visits[-1].at.date()
            first[deal.account] = min(first.get(deal.account, day), day)
    return dict(sorted(first.items()))


def _tickets(
    chance: random.Random, company: Company, people: Mapping[str, Sequence[str]]
) -> list[Ticket]:
    end = datetime.combine(company.last_day, time(), UTC) + timedelta(days=1)
    count = int(len(company.deals) * TICKETS_PER_DEAL)
    return [_ticket(chance, number, company, people, end) for number in range(1, count + 1)]


def _ticket(
    chance: random.Random,
    number: int,
    company: Company,
    people: Mapping[str, Sequence[str]],
    end: datetime,
) -> Ticket:
    account = chance.choice(company.accounts).name
    opened = _some_time(chance, end - timedelta(days=chance.randint(1, DAYS - 1)))
    replied = opened + timedelta(hours=0.1 + chance.expovariate(1 / MEAN_HOURS_TO_REPLY))
    visits = [it for it in _visits(chance, opened, replied) if it.at < end]
    is_unknown = not people.get(account) or chance.random() < PERSON_UNKNOWN_SHARE
    has_reply = chance.random() < REPLIED_SHARE and replied < end
    return Ticket(
        subject=f"Ticket {number:05}",
        account=account,
        person=None if is_unknown else chance.choice(people[account]),
        owner=chance.choice(company.reps).name,
        category=chance.choice(CATEGORIES),
        priority=chance.choice(PRIORITIES),
        origin=chance.choice(ORIGINS),
        visits=visits,
        first_reply=_whole_second(replied) if has_reply else None,
    )


def _visits(chance: random.Random, opened: datetime, replied: datetime) -> list[TicketVisit]:
    visits = [TicketVisit(opened, NEW), TicketVisit(_whole_second(replied), WAITING)]
    if chance.random() >= CLOSED_SHARE:
        return visits
    closed = _later(chance, replied)
    visits.append(TicketVisit(closed, CLOSED))
    if chance.random() < REOPENED_SHARE:
        reopened = _later(chance, closed)
        visits.append(TicketVisit(reopened, WAITING))
        if chance.random() < CLOSED_AGAIN_SHARE:
            visits.append(TicketVisit(_later(chance, reopened), CLOSED))
    return visits


def _answers(
    chance: random.Random,
    company: Company,
    bought: Mapping[str, date],
    people: Mapping[str, Sequence[str]],
) -> list[Answer]:
    """Customers are asked some weeks after they bought."""
    customers = [account for account in bought if people.get(account)]
    answers: list[Answer] = []
    for _ in range(int(len(company.deals) * ANSWERS_PER_DEAL) if customers else 0):
        account = chance.choice(customers)
        days = (company.last_day - bought[account]).days
        day = bought[account] + timedelta(days=chance.randint(0, max(days, 0)))
        at = _some_time(chance, datetime.combine(day, time(), UTC))
        answers.append(Answer(chance.choice(people[account]), account, at, chance.choice(SCORES)))
    return sorted(answers, key=lambda answer: answer.at)


def _contracts(
    chance: random.Random, company: Company, bought: Mapping[str, date]
) -> list[Contract]:
    """A customer signs when first buying, and renews more often than not."""
    contracts: list[Contract] = []
    for account, starts in bought.items():
        months = chance.choice(CONTRACT_MONTHS)
        amount = Decimal(chance.randint(10, 200)) * 100
        begins = starts
        while begins <= company.last_day:
            contracts.append(Contract(account, begins, months, amount))
            begins = _months_later(begins, months)
            if chance.random() >= RENEWAL_SHARE:
                break
    return contracts


def _months_later(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return day.replace(year=day.year + years, month=month + 1, day=min(day.day, 28))


def _some_time(chance: random.Random, day: datetime) -> datetime:
    moment = time(chance.randint(6, 20), chance.randint(0, 59), chance.randint(0, 59), tzinfo=UTC)
    return datetime.combine(day.date(), moment)


def _later(chance: random.Random, after: datetime) -> datetime:
    return _whole_second(after + timedelta(hours=1 + chance.expovariate(1 / MEAN_HOURS_TO_CLOSE)))


def _whole_second(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)
