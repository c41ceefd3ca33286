"""Small records for worked examples: only what matters is said, the rest stays empty."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from store.canonical import Deal, RecordRef, Stage, StageChange

CONNECTION = "crm"


def won(number: int, **fields: object) -> Deal:
    """A won deal, closed on 10 January 2024 and created on 1 January unless said otherwise."""
    return _deal(number, is_closed=True, is_won=True, **fields)


def lost(number: int, **fields: object) -> Deal:
    """A lost deal with the days of `won`."""
    return _deal(number, is_closed=True, **fields)


def still_open(number: int, **fields: object) -> Deal:
    """An open deal, expected to close on 10 January 2024."""
    return _deal(number, **fields)


def _deal(
    number: int,
    *,
    is_closed: bool = False,
    is_won: bool = False,
    amount: int | None = None,
    probability: str | None = None,
    account: str | None = None,
    stage: str | None = None,
    created: date = date(2024, 1, 1),
    closed: date = date(2024, 1, 10),
) -> Deal:
    return Deal(
        ref=RecordRef(CONNECTION, "deals", f"D{number}"),
        created_at=datetime(created.year, created.month, created.day, 12, tzinfo=UTC),
        is_closed=is_closed,
        is_won=is_won,
        amount=None if amount is None else Decimal(amount),
        probability=None if probability is None else Decimal(probability),
        account=account and f"{CONNECTION}:{account}",
        stage=stage and f"{CONNECTION}:{stage}",
        close_date=closed,
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
