"""Invents whom the company knows and how it came to know them: people, leads, campaigns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sandbox.company import Campaign, Company, Deal, EmailDay, Person, Touch

CONTACTS_PER_ACCOUNT = 2
LEAD_SHARE = 0.2
"""Of deals: they began as a lead."""
OTHER_LEADS_PER_DEAL = 0.35
"""Leads that never became a deal."""
QUALIFIED_SHARE = 0.4
LOST_LEAD_SHARE = 0.5
MEAN_DAYS_TO_QUALIFY = 9
DEALS_PER_CAMPAIGN = 75
FEWEST_CAMPAIGNS = 4
TOUCHED_LEAD_SHARE = 0.75
MOST_DAYS_TO_TOUCH_LEAD = 10
CAMPAIGNS_OF_CONTACT = (0, 3)
RESPONSE_SHARE = 0.3
DAYS_OF_CAMPAIGN = (40, 150)
MOST_DEAL_CONTACTS = 3
CHANNELS = ("email", "event", "webinar", "ads")
SOURCES = ("web", "referral", "paid", "email", "phone")
DAYS = 730


def with_marketing(company: Company, *, seed: int) -> Company:
    """The company with the people it deals with, its leads and its campaigns."""
    chance = random.Random(f"{seed}/marketing")  # noqa: S311 - invents data, guards nothing
    contacts = _contacts(chance, company)
    converted = _converted_leads(chance, company)
    others = _other_leads(chance, company)
    people = [*contacts, *converted, *others]
    campaigns = _campaigns(chance, company, people)
    return replace(
        company,
        people=people,
        campaigns=campaigns,
        deal_people=_deal_people(chance, company, contacts, converted),
        deal_campaigns=_deal_campaigns(campaigns, converted),
    )


def _contacts(chance: random.Random, company: Company) -> list[Person]:
    since = _beginning(company)
    return [
        _person(
            number,
            owner=account.owner or company.reps[0].name,
            created=_at_work(chance, since + timedelta(days=chance.randint(0, 25))),
            domain=account.domain,
            account=account.name,
            source=chance.choice(SOURCES),
        )
        for number, account in enumerate(
            (it for it in company.accounts for _ in range(CONTACTS_PER_ACCOUNT)), start=1
        )
    ]


def _converted_leads(chance: random.Random, company: Company) -> list[Person]:
    """A lead for every fifth deal, converted when the deal was created."""
    first = len(company.accounts) * CONTACTS_PER_ACCOUNT + 1
    domains = {account.name: account.domain for account in company.accounts}
    chosen = [it for it in company.deals if it.account and chance.random() < LEAD_SHARE]
    return [
        _converted(chance, number, deal, domains[str(deal.account)])
        for number, deal in enumerate(chosen, start=first)
    ]


def _converted(chance: random.Random, number: int, deal: Deal, domain: str | None) -> Person:
    converted_at = deal.visits[0].at
    days = 2 + chance.expovariate(1 / MEAN_DAYS_TO_QUALIFY)
    lead_at = _at_work(chance, converted_at - timedelta(days=2 * days))
    qualified_at = min(_at_work(chance, converted_at - timedelta(days=days)), converted_at)
    person = _person(
        number,
        owner=deal.owner,
        created=lead_at,
        domain=domain,
        account=deal.account,
        source=deal.source,
    )
    return replace(
        person,
        company=deal.account,
        lead_at=lead_at,
        qualified_at=max(qualified_at, lead_at),
        converted_at=converted_at,
        deal=deal.name,
    )


def _other_leads(chance: random.Random, company: Company) -> list[Person]:
    """Leads that became nothing, or nothing yet; they work at companies nobody sells to."""
    count = int(len(company.deals) * OTHER_LEADS_PER_DEAL)
    end = datetime.combine(company.last_day, time(), UTC)
    people: list[Person] = []
    for number in range(1, count + 1):
        lead_at = _at_work(chance, end - timedelta(days=chance.randint(1, DAYS - 1)))
        waits = timedelta(days=1 + chance.expovariate(1 / MEAN_DAYS_TO_QUALIFY))
        qualified_at = _at_work(chance, lead_at + waits)
        is_qualified = chance.random() < QUALIFIED_SHARE and qualified_at < end
        people.append(
            Person(
                name=f"Lead {number:05}",
                first_name="Lead",
                last_name=f"{number:05}",
                email=f"lead.{number:05}@prospect-{number:05}.example",
                owner=chance.choice(company.reps).name,
                created=lead_at,
                company=f"Prospect {number:05}",
                source=chance.choice(SOURCES),
                lead_at=lead_at,
                qualified_at=qualified_at if is_qualified else None,
                is_lost=chance.random() < LOST_LEAD_SHARE,
            )
        )
    return people


@dataclass(frozen=True, slots=True)
class _Plan:
    """When and how a campaign is to run."""

    number: int
    starts: date
    ends: date
    channel: str


def _campaigns(chance: random.Random, company: Company, people: Sequence[Person]) -> list[Campaign]:
    count = max(FEWEST_CAMPAIGNS, len(company.deals) // DEALS_PER_CAMPAIGN)
    plans: list[_Plan] = []
    for number in range(1, count + 1):
        starts = company.last_day - timedelta(days=int(DAYS * (count - number + 0.5) / count))
        ends = starts + timedelta(days=chance.randint(*DAYS_OF_CAMPAIGN))
        plans.append(_Plan(number, starts, ends, CHANNELS[number % len(CHANNELS)]))
    touches = _touches(chance, company, plans, people)
    return [_campaign(chance, company, plan, touches[plan.number]) for plan in plans]


def _campaign(
    chance: random.Random, company: Company, plan: _Plan, touches: Sequence[Touch]
) -> Campaign:
    cost = Decimal(chance.randint(8, 60)) * 100 + Decimal(len(touches) * chance.randint(3, 9))
    return Campaign(
        name=f"Campaign {plan.number:03}",
        channel=plan.channel,
        starts=plan.starts,
        ends=plan.ends,
        cost=cost,
        budget=(cost * chance.randint(80, 150) / 100).quantize(Decimal(1)),
        is_over=plan.ends <= company.last_day,
        touches=touches,
        email_days=_email_days(chance, company, plan) if plan.channel == "email" else (),
        visits=len(touches) * chance.randint(2, 12),
    )


def _touches(
    chance: random.Random, company: Company, plans: Sequence[_Plan], people: Sequence[Person]
) -> dict[int, list[Touch]]:
    """Whom each campaign reached: leads as they came, contacts at some time or other."""
    touches: dict[int, list[Touch]] = {plan.number: [] for plan in plans}
    for person in people:
        if person.lead_at is not None:
            if chance.random() < TOUCHED_LEAD_SHARE:
                plan = _running(plans, person.lead_at.date()) or chance.choice(plans)
                _touch(chance, company, plan, person, touches)
            continue
        for plan in chance.sample(plans, chance.randint(*CAMPAIGNS_OF_CONTACT)):
            _touch(chance, company, plan, person, touches)
    return touches


def _running(plans: Sequence[_Plan], day: date) -> _Plan | None:
    return next((plan for plan in plans if plan.starts <= day <= plan.ends), None)


def _touch(
    chance: random.Random,
    company: Company,
    plan: _Plan,
    person: Person,
    touches: dict[int, list[Touch]],
) -> None:
    # Nobody is reached before the CRM knows the person, nor after the last day.
    first = max(plan.starts, person.created.date() + timedelta(days=1))
    last = min(plan.ends, company.last_day)
    if first <= last:
        span = (last - first).days
        most = min(span, MOST_DAYS_TO_TOUCH_LEAD) if person.lead_at else span
        day = first + timedelta(days=chance.randint(0, most))
        at = _at_work(chance, datetime.combine(day, time(), UTC))
        touches[plan.number].append(Touch(person.name, at, chance.random() < RESPONSE_SHARE))


def _email_days(chance: random.Random, company: Company, plan: _Plan) -> list[EmailDay]:
    days: list[EmailDay] = []
    for offset in range(0, (plan.ends - plan.starts).days + 1, 7):
        day = plan.starts + timedelta(days=offset)
        if day > company.last_day:
            break
        sent = chance.randint(150, 600)
        delivered = sent - chance.randint(0, sent // 20)
        opened = int(delivered * chance.uniform(0.15, 0.4))
        clicked = int(opened * chance.uniform(0.05, 0.25))
        days.append(EmailDay(day, sent, delivered, opened, clicked, chance.randint(0, 4)))
    return days


def _deal_people(
    chance: random.Random,
    company: Company,
    contacts: Sequence[Person],
    converted: Sequence[Person],
) -> dict[str, Sequence[str]]:
    at_account: dict[str, list[str]] = {}
    for person in contacts:
        at_account.setdefault(str(person.account), []).append(person.name)
    leads = {str(person.deal): person.name for person in converted}
    people: dict[str, Sequence[str]] = {}
    for deal in company.deals:
        known = at_account.get(str(deal.account), [])
        others = chance.sample(known, min(len(known), chance.randint(0, MOST_DEAL_CONTACTS)))
        first = [leads[deal.name]] if deal.name in leads else []
        if first or others:
            people[deal.name] = [*first, *others]
    return people


def _deal_campaigns(campaigns: Sequence[Campaign], converted: Sequence[Person]) -> dict[str, str]:
    """The last campaign that reached the lead before it was converted."""
    reached: dict[str, tuple[datetime, str]] = {}
    converted_at = {person.name: person.converted_at for person in converted}
    for campaign in campaigns:
        for touch in campaign.touches:
            until = converted_at.get(touch.person)
            latest = reached.get(touch.person)
            if until and touch.at <= until and (latest is None or touch.at > latest[0]):
                reached[touch.person] = (touch.at, campaign.name)
    return {
        str(person.deal): reached[person.name][1] for person in converted if person.name in reached
    }


def _person(
    number: int,
    *,
    owner: str,
    created: datetime,
    domain: str | None,
    account: str | None,
    source: str | None,
) -> Person:
    return Person(
        name=f"Contact {number:05}",
        first_name="Contact",
        last_name=f"{number:05}",
        email=f"contact.{number:05}@{domain or 'unknown.example'}",
        owner=owner,
        created=created,
        account=account,
        source=source,
    )


def _beginning(company: Company) -> datetime:
    """Accounts are known this long before the first deal."""
    first = min((deal.visits[0].at for deal in company.deals), default=None)
    end = datetime.combine(company.last_day, time(), UTC)
    return (first or end) - timedelta(days=30)


def _at_work(chance: random.Random, day: datetime) -> datetime:
    moment = time(chance.randint(7, 16), chance.randint(0, 59), chance.randint(0, 59), tzinfo=UTC)
    return datetime.combine(day.date(), moment)
