"""Small records for worked examples: only what matters is said, the rest stays empty."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypedDict, Unpack

from store.canonical import Deal, RecordRef, Stage, StageChange

CONNECTION = "crm"


class Fields(TypedDict, total=False):
    """What an example may say of a deal."""

    amount: int
    probability: str
    account: str
    stage: str
    created: date
    closed: date


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
    )


def stage(name: str, *, is_closed: bool = False) -> Stage:
    """A stage of the one pipeline."""
    return Stage(
        ref=RecordRef(CONNECTION, "stages", name),
        pipeline=f"{CONNECTION}:sales",
        label=name,
        is_closed=is_closed,
    )


def entered(deal: int, name: str, at: datetime) -> StageChange:
    """A deal entered a stage."""
    return StageChange(
        ref=RecordRef(CONNECTION, "deal_stage_changes", f"D{deal}-{at:%Y%m%d%H%M%S}"),
        deal=f"{CONNECTION}:D{deal}",
        stage=f"{CONNECTION}:{name}",
        at=at,
    )
