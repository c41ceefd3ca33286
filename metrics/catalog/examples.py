"""Small records for worked examples: only what matters is said, the rest stays empty."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypedDict, Unpack

from store.canonical import (
    Campaign,
    CampaignMember,
    Contact,
    Contract,
    Cost,
    Deal,
    DealContact,
    EmailStatistics,
    Lead,
    RecordRef,
    Stage,
    StageChange,
    SurveyResponse,
    Ticket,
    TicketStatusChange,
)

CONNECTION = "crm"


class Fields(TypedDict, total=False):
    """What an example may say of a deal."""

    amount: int
    probability: str
    account: str
    stage: str
    created: date
    closed: date
    kind: str
    campaign: str
    lost_reason: str
    owner: str


def won(number: int, **fields: Unpack[Fields]) -> Deal:
    """A won deal, closed on 10 January 2024 and created on 1 January unless said otherwise."""
    return _deal(number, fields, is_closed=True, is_won=True)


def lost(number: int, **fields: Unpack[Fields]) -> Deal:
    """A lost deal with the days of `won`."""
    return _deal(number, fields, is_closed=True)


def still_open(number: int, **fields: Unpack[Fields]) -> Deal:
    """An open deal, expected to close on 10 January 2024."""
    return _deal(number, fields)


def _deal(number: int, fields: Fields, *, is_closed: bool = False, is_won: bool = False) -> Deal:
    created = fields.get("created", date(2024, 1, 1))
    return Deal(
        ref=RecordRef(CONNECTION, "deals", f"D{number}"),
        created_at=datetime(created.year, created.month, created.day, 12, tzinfo=UTC),
        is_closed=is_closed,
        is_won=is_won,
        amount=Decimal(fields["amount"]) if "amount" in fields else None,
        probability=Decimal(fields["probability"]) if "probability" in fields else None,
        account=f"{CONNECTION}:{fields['account']}" if "account" in fields else None,
        stage=f"{CONNECTION}:{fields['stage']}" if "stage" in fields else None,
        close_date=fields.get("closed", date(2024, 1, 10)),
        kind=fields.get("kind"),
        campaign=_key(fields.get("campaign")),
        lost_reason=fields.get("lost_reason"),
        owner=_key(fields.get("owner")),
    )


def _key(name: str | None) -> str | None:
    return None if name is None else f"{CONNECTION}:{name}"


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def stage(
    name: str,
    *,
    is_closed: bool = False,
    position: int | None = None,
    is_active: bool = True,
    probability: str | None = "0.5",
) -> Stage:
    """A stage of the one pipeline; without a probability one of tickets."""
    return Stage(
        ref=RecordRef(CONNECTION, "stages", name),
        pipeline=f"{CONNECTION}:sales",
        label=name,
        is_closed=is_closed,
        position=position,
        is_active=is_active,
        probability=None if probability is None else Decimal(probability),
    )


def entered(deal: int, name: str, at: datetime) -> StageChange:
    """A deal entered a stage."""
    return StageChange(
        ref=RecordRef(CONNECTION, "deal_stage_changes", f"D{deal}-{at:%Y%m%d%H%M%S}"),
        deal=f"{CONNECTION}:D{deal}",
        stage=f"{CONNECTION}:{name}",
        at=at,
    )


def ticket(
    number: int,
    *,
    created: datetime = datetime(2024, 1, 8, 9, tzinfo=UTC),
    closed: datetime | None = None,
    replied: datetime | None = None,
    account: str | None = None,
    category: str | None = None,
    is_closed: bool | None = None,
) -> Ticket:
    """A ticket, created on Monday 8 January 2024 at 9 unless said otherwise."""
    return Ticket(
        ref=RecordRef(CONNECTION, "tickets", f"T{number}"),
        created_at=created,
        is_closed=closed is not None if is_closed is None else is_closed,
        closed_at=closed,
        first_response_at=replied,
        account=_key(account),
        category=category,
    )


def ticket_status(number: int, at: datetime, *, is_closed: bool) -> TicketStatusChange:
    """A ticket was closed or opened again."""
    return TicketStatusChange(
        ref=RecordRef(CONNECTION, "ticket_status_changes", f"T{number}-{at:%Y%m%d%H%M%S}"),
        ticket=f"{CONNECTION}:T{number}",
        status="closed" if is_closed else "open",
        is_closed=is_closed,
        at=at,
    )


def answer(
    number: int, score: str, *, day: date = date(2024, 1, 10), contact: str | None = None
) -> SurveyResponse:
    """An answer to the question of recommendation."""
    return SurveyResponse(
        ref=RecordRef(CONNECTION, "survey_responses", f"S{number}"),
        kind="nps",
        score=Decimal(score),
        submitted_at=_noon(day),
        contact=_key(contact),
    )


def lead(
    number: int,
    *,
    created: date = date(2024, 1, 5),
    qualified: date | None = None,
    converted: date | None = None,
    account: str | None = None,
    deal: int | None = None,
) -> Lead:
    """A lead, created on 5 January 2024 unless said otherwise."""
    return Lead(
        ref=RecordRef(CONNECTION, "leads", f"L{number}"),
        created_at=_noon(created),
        qualified_at=None if qualified is None else _noon(qualified),
        converted_at=None if converted is None else _noon(converted),
        converted_account=_key(account),
        converted_deal=None if deal is None else f"{CONNECTION}:D{deal}",
    )


def campaign(name: str, *, cost: int | None = None, start: date = date(2024, 1, 1)) -> Campaign:
    """A campaign."""
    return Campaign(
        ref=RecordRef(CONNECTION, "campaigns", name),
        name=name,
        cost=None if cost is None else Decimal(cost),
        start_date=start,
    )


def cost(
    number: int, amount: int, *, day: date = date(2024, 1, 10), campaign: str | None = None
) -> Cost:
    """Money spent on a day."""
    return Cost(
        ref=RecordRef(CONNECTION, "costs", f"K{number}"),
        date=day,
        amount=Decimal(amount),
        campaign=_key(campaign),
    )


def email(
    name: str,
    *,
    campaign: str | None = None,
    day: date = date(2024, 1, 10),
    delivered: int | None = None,
    opens: int | None = None,
    clicks: int | None = None,
    unsubscribes: int | None = None,
    bounces: int | None = None,
) -> EmailStatistics:
    """What became of an e-mail on a day."""
    return EmailStatistics(
        ref=RecordRef(CONNECTION, "email_statistics", f"{name}-{day}"),
        email=name,
        campaign=_key(campaign),
        date=day,
        delivered=delivered,
        opens=opens,
        clicks=clicks,
        unsubscribes=unsubscribes,
        bounces=bounces,
    )


def contact(name: str, *, account: str) -> Contact:
    """A person at an account."""
    return Contact(ref=RecordRef(CONNECTION, "contacts", name), name=name, account=_key(account))


def touch(contact: str, campaign: str, day: date) -> CampaignMember:
    """A campaign reached a person at noon of a day."""
    return CampaignMember(
        ref=RecordRef(CONNECTION, "campaign_members", f"{contact}-{campaign}-{day}"),
        campaign=f"{CONNECTION}:{campaign}",
        contact=_key(contact),
        at=_noon(day),
    )


def role(deal: int, contact: str) -> DealContact:
    """A person's part in a deal."""
    return DealContact(
        ref=RecordRef(CONNECTION, "deal_contacts", f"D{deal}-{contact}"),
        deal=f"{CONNECTION}:D{deal}",
        contact=f"{CONNECTION}:{contact}",
    )


def contract(number: int, account: str, start: date, end: date | None) -> Contract:
    """A running obligation."""
    return Contract(
        ref=RecordRef(CONNECTION, "contracts", f"C{number}"),
        account=_key(account),
        start_date=start,
        end_date=end,
    )
