"""Invents a company of two years: the same one for the same seed, size and day.

It holds what real CRMs hold: deals that skip stages, were re-opened, have no amount or no
account, were entered late or deleted, and a rep who left; leads that came to nothing, campaigns
that cost more than they brought, tickets that were re-opened, and customers who left.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from sandbox.company import Account, Company, Deal, Rep, StageVisit
from sandbox.org import StageSpec
from sandbox.seed_marketing import with_marketing
from sandbox.seed_service import with_service

DAYS = 730
GROWTH = 1.3
WIN_SHARE = 0.45
STAGE_KEPT_SHARE = 0.9
REOPENED_SHARE = 0.04
WON_AFTER_REOPENING_SHARE = 0.5
NO_AMOUNT_SHARE = 0.06
ZERO_AMOUNT_SHARE = 0.06
"""Of lost deals."""
NO_ACCOUNT_SHARE = 0.03
CLOSED_LATE_SHARE = 0.05
ENTERED_LATE_SHARE = 0.03
DELETED_SHARE = 0.01
"""Of closed deals."""
STALLED_SHARE = 0.06
"""Of all deals: nobody ever closes them."""
REPEAT_SHARE = 0.3
SUBSIDIARY_SHARE = 0.1
MEAN_DAYS_IN_STAGE = 16
DEALS_PER_ACCOUNT = 8
DEALS_PER_REP = 60
FEWEST_REPS = 6

OPEN_STAGES = ("Prospecting", "Qualification", "Proposal", "Negotiation")
WON, LOST = "Closed Won", "Closed Lost"
STAGES = (
    StageSpec("Prospecting", is_closed=False, is_won=False, probability=0.1),
    StageSpec("Qualification", is_closed=False, is_won=False, probability=0.25),
    StageSpec("Proposal", is_closed=False, is_won=False, probability=0.5),
    StageSpec("Negotiation", is_closed=False, is_won=False, probability=0.75),
    StageSpec(WON, is_closed=True, is_won=True, probability=1.0),
    StageSpec(LOST, is_closed=True, is_won=False, probability=0.0),
)
PRODUCTS = (("Basic", 900), ("Plus", 2_400), ("Pro", 6_500), ("Max", 18_000))
SOURCES = ("web", "referral", "paid", "email", "phone")
INDUSTRIES = ("Finance", "Manufacturing", "Retail", "Technology", "Healthcare")
COUNTRIES = ("Germany", "France", "United States", "Japan", "Brazil")
LOST_REASONS = ("Price", "Timing", "Competitor", "No decision")


def make_company(*, seed: int, deals: int, today: date) -> Company:
    """A company with that many deals, ending the day before `today`."""
    chance = random.Random(seed)  # noqa: S311 - invents data, guards nothing
    reps = _reps(max(FEWEST_REPS, deals // DEALS_PER_REP))
    accounts = _accounts(chance, max(1, deals // DEALS_PER_ACCOUNT), reps)
    sales = Company(
        stages=STAGES,
        reps=reps,
        accounts=accounts,
        deals=[_deal(chance, number, reps, accounts, today) for number in range(1, deals + 1)],
        last_day=today - timedelta(days=1),
    )
    return with_service(with_marketing(sales, seed=seed), seed=seed)


def _reps(count: int) -> list[Rep]:
    return [
        Rep(f"Rep {n:02}", "Rep", f"{n:02}", f"rep.{n:02}@example.com", is_active=n < count)
        for n in range(1, count + 1)
    ]


def _accounts(chance: random.Random, count: int, reps: Sequence[Rep]) -> list[Account]:
    accounts: list[Account] = []
    for number in range(1, count + 1):
        parent = (
            chance.choice(accounts).name if accounts and _is(chance, SUBSIDIARY_SHARE) else None
        )
        accounts.append(
            Account(
                name=f"Account {number:04}",
                industry=chance.choice(INDUSTRIES),
                country=chance.choice(COUNTRIES),
                annual_revenue=Decimal(chance.randint(5, 4_000)) * 100_000,
                employees=chance.randint(5, 9_000),
                parent=parent,
                domain=f"account-{number:04}.example",
                owner=chance.choice(reps).name,
            )
        )
    return accounts


def _deal(
    chance: random.Random,
    number: int,
    reps: Sequence[Rep],
    accounts: Sequence[Account],
    today: date,
) -> Deal:
    end = datetime.combine(today, time(), UTC)
    # The company grows: more deals were begun lately than at first.
    days_ago = 1 + int((DAYS - 1) * chance.random() ** GROWTH)
    created = _working_hour(chance, end - timedelta(days=days_ago))
    visits = [visit for visit in _visits(chance, created) if visit.at < end]
    if _is(chance, STALLED_SHARE):
        visits = [visit for visit in visits if visit.stage not in (WON, LOST)]
    is_closed = visits[-1].stage in (WON, LOST)
    product, price = chance.choice(PRODUCTS)
    amount = _amount(chance, price, visits[-1].stage)
    # Some deals are closed in the CRM days after they were closed in fact.
    late = timedelta(days=chance.randint(1, 9) if _is(chance, CLOSED_LATE_SHARE) else 0)
    forecast = visits[-1].at + timedelta(days=chance.randint(10, 120))
    deleted = is_closed and _is(chance, DELETED_SHARE)
    entered_late = _is(chance, ENTERED_LATE_SHARE)
    return Deal(
        name=f"Deal {number:05}",
        owner=chance.choice(reps).name,
        visits=visits,
        account=None if _is(chance, NO_ACCOUNT_SHARE) else chance.choice(accounts).name,
        product=product,
        amount=amount,
        close_date=max((visits[-1].at - late if is_closed else forecast).date(), created.date()),
        is_repeat_business=_is(chance, REPEAT_SHARE),
        source=chance.choice(SOURCES),
        lost_reason=chance.choice(LOST_REASONS) if visits[-1].stage == LOST else None,
        created_as=created - timedelta(days=20) if entered_late else None,
        deleted_at=visits[-1].at + timedelta(hours=1) if deleted else None,
    )


def _visits(chance: random.Random, created: datetime) -> list[StageVisit]:
    visits = [StageVisit(created, OPEN_STAGES[0])]
    wins = _is(chance, WIN_SHARE)
    # A lost deal may be lost anywhere on the way; a won one may have skipped a stage.
    last_open = len(OPEN_STAGES) if wins else chance.randint(1, len(OPEN_STAGES))
    for stage in OPEN_STAGES[1:last_open]:
        if _is(chance, STAGE_KEPT_SHARE):
            visits.append(StageVisit(_later(chance, visits[-1].at), stage))
    visits.append(StageVisit(_later(chance, visits[-1].at), WON if wins else LOST))
    if _is(chance, REOPENED_SHARE):
        visits.append(StageVisit(_later(chance, visits[-1].at), OPEN_STAGES[-1]))
        again = WON if _is(chance, WON_AFTER_REOPENING_SHARE) else LOST
        visits.append(StageVisit(_later(chance, visits[-1].at), again))
    return visits


def _amount(chance: random.Random, price: int, stage: str) -> Decimal | None:
    if stage != WON and _is(chance, NO_AMOUNT_SHARE):
        return None
    if stage == LOST and _is(chance, ZERO_AMOUNT_SHARE):
        return Decimal(0)
    return Decimal(price * chance.randint(60, 250)) / 100


def _is(chance: random.Random, share: float) -> bool:
    return chance.random() < share


def _later(chance: random.Random, after: datetime) -> datetime:
    return _working_hour(
        chance, after + timedelta(days=1 + chance.expovariate(1 / MEAN_DAYS_IN_STAGE))
    )


def _working_hour(chance: random.Random, day: datetime) -> datetime:
    moment = time(chance.randint(7, 16), chance.randint(0, 59), chance.randint(0, 59), tzinfo=UTC)
    return datetime.combine(day.date(), moment)
