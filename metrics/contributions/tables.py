"""The temporary tables of an increment: what a page touches, and the facts before and after."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

from metrics.dimensions import (
    CONTRACT_DIMENSIONS,
    COST_DIMENSIONS,
    DEAL_COLUMNS,
    EMAIL_DIMENSIONS,
    LEAD_COLUMNS,
    STAGE_DIMENSIONS,
    SURVEY_COLUMNS,
    TICKET_COLUMNS,
)
from store import temporary
from store.tables import KEY, MEASURES

_METADATA: Final = MetaData()


def _refs(name: str) -> Table:
    return temporary.table(name, _METADATA, Column("ref", KEY, primary_key=True))


def _facts(
    name: str,
    dimensions: tuple[str, ...],
    *columns: Column[Any],
    ref: bool = True,
    is_unique: bool = False,
) -> Table:
    key = (Column("ref", KEY, primary_key=is_unique, nullable=False),) if ref else ()
    return temporary.table(
        name,
        _METADATA,
        *key,
        Column("side", Integer, primary_key=is_unique, nullable=False),
        *_keys(dimensions),
        *columns,
    )


def _keys(names: tuple[str, ...]) -> list[Column[Any]]:
    return [Column(name, KEY) for name in names]


def _measures() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in MEASURES]


def _flag(name: str) -> Column[Any]:
    # 0 or 1: a boolean cannot be summed on PostgreSQL.
    return Column(name, Integer, nullable=False)


TOUCHED_DEALS: Final = _refs("touched_deals")
"""Deals that an increment looks at, before and after; so are the other touched ones."""
TOUCHED_CREDITS: Final = _refs("touched_credits")
"""Deals whose campaigns are looked at."""
TOUCHED_TICKETS: Final = _refs("touched_tickets")
TOUCHED_LEADS: Final = _refs("touched_leads")
TOUCHED_SURVEYS: Final = _refs("touched_surveys")
TOUCHED_CAMPAIGNS: Final = _refs("touched_campaigns")
TOUCHED_COSTS: Final = _refs("touched_costs")
TOUCHED_EMAILS: Final = _refs("touched_emails")
TOUCHED_CONTRACTS: Final = _refs("touched_contracts")
TOUCHED_STAGES: Final = _refs("touched_stages")

REACHED_ACCOUNTS: Final = temporary.table(
    "reached_accounts",
    _METADATA,
    Column("purpose", Text, primary_key=True),
    Column("ref", KEY, primary_key=True),
)
"""Every key that stands, before or after, for an account that a page reaches."""

UNIT_ACCOUNTS: Final = temporary.table(
    "unit_accounts", _METADATA, Column("raw", KEY, primary_key=True)
)
"""Every key that stands for an account whose purchases moved."""

MOVED_KEYS: Final = temporary.table(
    "moved_keys",
    _METADATA,
    Column("stream", Text, primary_key=True),
    Column("ref", KEY, primary_key=True),
    Column("canonical", KEY),
)
"""Records that stand for somebody else now."""

DEAL_FACTS: Final = _facts(
    "deal_facts",
    DEAL_COLUMNS,
    _flag("is_closed"),
    _flag("is_won"),
    Column("amount", BigInteger),
    Column("currency", Text, nullable=False),
    Column("probability", BigInteger),
    Column("close_date", Integer),
    Column("closed_day", Integer),
    Column("created_day", Integer),
    # Of open deals: when the current stage was entered.
    Column("entered_at", BigInteger),
    # Of closed deals: distinct open stages in their history; null without one.
    Column("stages_seen", Integer),
    is_unique=True,
)

VISIT_FACTS: Final = _facts(
    "visit_facts",
    DEAL_COLUMNS,
    Column("day", Integer),
    Column("seconds", BigInteger),
    Column("entered_day", Integer),
    _flag("is_open"),
    _flag("is_unknown"),
    _flag("is_reopening"),
    _flag("is_advanced"),
    _flag("is_undecided"),
    ref=False,
)
"""Entries into stages; the deal's dimensions, but the stage is the one entered. The day and the
seconds are those of leaving, null while the deal stands there."""

PURCHASE_FACTS: Final = _facts("purchase_facts", DEAL_COLUMNS, Column("closed_day", Integer))
"""Won deals of the touched accounts; those that did not change stand on the side `BOTH`."""

CREDIT_FACTS: Final = _facts(
    "credit_facts",
    DEAL_COLUMNS,
    Column("closed_day", Integer),
    Column("amount", BigInteger),
    Column("currency", Text, nullable=False),
    Column("shares", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    Column("place_from_last", Integer, nullable=False),
    _flag("is_first_purchase"),
    _flag("has_account"),
)
"""Won deals, once for each campaign touch of theirs, or once without any."""

TOUCHES: Final = temporary.table(
    "touches",
    _METADATA,
    Column("account", KEY, nullable=False, index=True),
    Column("member", KEY, nullable=False),
    Column("person", KEY),
    Column("campaign", KEY),
    Column("at", BigInteger),
    Column("at_day", Integer),
)
"""Campaign touches of the people of reached accounts, as they stand now."""

TICKET_FACTS: Final = _facts(
    "ticket_facts",
    TICKET_COLUMNS,
    Column("created_day", Integer),
    Column("created_at", BigInteger),
    _flag("is_closed"),
    Column("closed_at", BigInteger),
    Column("closed_day", Integer),
    Column("first_response_at", BigInteger),
    Column("first_response_day", Integer),
    # Microseconds of work from the beginning of time to these instants.
    Column("created_work", BigInteger),
    Column("closed_work", BigInteger),
    Column("first_response_work", BigInteger),
    _flag("is_recurrent"),
)

CLOSING_FACTS: Final = _facts(
    "closing_facts", TICKET_COLUMNS, Column("day", Integer), _flag("was_reopened")
)
"""Each time a ticket was closed."""

LEAD_FACTS: Final = _facts(
    "lead_facts",
    LEAD_COLUMNS,
    Column("created_day", Integer),
    Column("qualified_day", Integer),
    _flag("is_qualified"),
    _flag("is_converted"),
    _flag("is_customer"),
)

SURVEY_FACTS: Final = _facts(
    "survey_facts",
    SURVEY_COLUMNS,
    Column("day", Integer),
    Column("score", BigInteger),
    _flag("is_valid"),
    _flag("is_latest"),
)

COST_FACTS: Final = _facts(
    "cost_facts",
    COST_DIMENSIONS,
    Column("day", Integer),
    Column("amount", BigInteger),
    Column("currency", Text, nullable=False),
    Column("origin", Text, nullable=False),
)

EMAIL_FACTS: Final = _facts(
    "email_facts",
    EMAIL_DIMENSIONS,
    Column("day", Integer),
    # Null where nobody knows.
    *(
        Column(name, BigInteger)
        for name in ("delivered", "opens", "clicks", "unsubscribes", "bounces")
    ),
)

CONTRACT_FACTS: Final = _facts(
    "contract_facts", CONTRACT_DIMENSIONS, Column("start_day", Integer), Column("stop_day", Integer)
)

STAGE_FACTS: Final = _facts("stage_facts", STAGE_DIMENSIONS)

TOUCHED_CUSTOM: Final = _refs("touched_custom")
"""Records of any stream that custom KPIs count."""

CUSTOM_DIMENSIONS: Final = tuple(f"d{number}" for number in range(1, 13))

CUSTOM_FACTS: Final = temporary.table(
    "custom_facts",
    _METADATA,
    Column("family", Text, nullable=False),
    Column("side", Integer, nullable=False),
    *_keys(CUSTOM_DIMENSIONS),
    Column("day", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("bucket", BigInteger, nullable=False),
    *_measures(),
)
"""What each record adds to the families of custom KPIs."""

CELL_DELTAS: Final = temporary.table(
    "cell_deltas",
    _METADATA,
    Column("family", Text, nullable=False),
    Column("dimension", Text, nullable=False),
    Column("key", KEY, nullable=False),
    Column("day", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("bucket", BigInteger, nullable=False),
    Column("n", BigInteger, nullable=False),
    *_measures(),
)
"""By how much each cell moves."""

FACTS: Final = {
    "deals": DEAL_FACTS,
    "visits": VISIT_FACTS,
    "purchases": PURCHASE_FACTS,
    "credits": CREDIT_FACTS,
    "tickets": TICKET_FACTS,
    "closings": CLOSING_FACTS,
    "leads": LEAD_FACTS,
    "surveys": SURVEY_FACTS,
    "costs": COST_FACTS,
    "emails": EMAIL_FACTS,
    "contracts": CONTRACT_FACTS,
    "stages": STAGE_FACTS,
    "custom": CUSTOM_FACTS,
}
"""Source -> its facts before and after."""

TOUCHED: Final = (
    TOUCHED_DEALS,
    TOUCHED_CREDITS,
    TOUCHED_TICKETS,
    TOUCHED_LEADS,
    TOUCHED_SURVEYS,
    TOUCHED_CAMPAIGNS,
    TOUCHED_COSTS,
    TOUCHED_EMAILS,
    TOUCHED_CONTRACTS,
    TOUCHED_STAGES,
    TOUCHED_CUSTOM,
)

TEMPORARY: Final = (
    *TOUCHED,
    REACHED_ACCOUNTS,
    UNIT_ACCOUNTS,
    MOVED_KEYS,
    TOUCHES,
    *FACTS.values(),
    CELL_DELTAS,
)

CELL_COLUMNS: Final = ("family", "dimension", "key", "day", "currency", "bucket", "n", *MEASURES)


def columns_of(table: Table) -> tuple[str, ...]:
    """The columns of a table, in their order."""
    return tuple(column.name for column in table.columns)
