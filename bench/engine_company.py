"""A large company for `bench.engine`, written by each database itself: the same rows in all.

Of n deals there are 3 n stage changes, n tickets, n / 2 campaign members, n / 5 accounts and as
many contacts; 200 owners, 4 stages, 50 campaigns. Instants lie in the three years before 2025; the
company's zone is UTC, so that a day is a division.
"""

# ruff: noqa: S608, S311 - statements of our own, numbers without secrets

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from metrics.definition import KpiSettings, OwnSettings
from store.canonical import (
    CampaignMember,
    CanonicalRecord,
    Company,
    Deal,
    RecordRef,
    StageChange,
    Ticket,
)
from store.conversion import RecordMaker
from store.tables import RECORD_TABLES

COMPANY: Final = Company(ZoneInfo("UTC"), "EUR")
NOW: Final = datetime(2025, 1, 1, tzinfo=UTC)
OWNERS: Final = 200
CAMPAIGNS: Final = 50
_FIRST_DAY: Final = date(2022, 1, 1).toordinal() - date(1970, 1, 1).toordinal()
_DAYS: Final = 1_096
_MICROSECONDS: Final = 86_400_000_000

BREADTH: Final = KpiSettings(
    company=COMPANY,
    use=(
        *("won_count", "won_value", "win_rate", "close_rate", "open_value", "time_in_stage_days"),
        *("new_customers", "buyers", "customer_lifespan_days", "retention_rate"),
        *("campaign_revenue_linear", "tickets_created", "resolution_hours"),
    ),
    by={
        **dict.fromkeys(
            ("won_count", "won_value", "win_rate"),
            (("owner",), ("product",), ("source",), ("region",)),
        ),
        "close_rate": (("owner",), ("source",)),
        "open_value": (("owner",), ("product",)),
        "time_in_stage_days": (("stage",), ("owner", "stage")),
        "new_customers": (("owner",), ("source",)),
        "buyers": (("owner",),),
        "customer_lifespan_days": (("region",),),
        "retention_rate": (("region",),),
        "campaign_revenue_linear": (("campaign",), ("channel",)),
        "tickets_created": (("owner",), ("category",)),
        "resolution_hours": (("owner",), ("category",), ("priority",)),
    },
    own={"campaign_revenue": OwnSettings(models=("linear",))},
)
"""As many families (11 formulas) and groupings (33) as the design's figures were taken with."""

CATALOGUE: Final = KpiSettings(company=COMPANY, use=("sales", "customer", "marketing", "service"))
"""Every KPI there is, by its default groups."""


def _chance(salt: int, below: int, number: str = "n") -> str:
    """A number that looks random, the same on every database."""
    mixed = f"(({number}) * 48271 + {salt * 7_368_787 % 2_147_483_647}) % 2147483647"
    return f"((({mixed}) * 69621 % 2147483647) / 7 % {below})"


def _key(kind: str, number: str) -> str:
    return f"'crm:{kind}' || CAST(1000000000 + {number} AS TEXT)"


def _one_of(salt: int, words: Sequence[str]) -> str:
    cases = " ".join(f"WHEN {place} THEN '{word}'" for place, word in enumerate(words))
    return f"CASE {_chance(salt, len(words))} {cases} END"


def _created(salt: int, number: str = "n") -> str:
    day, second = _chance(salt, _DAYS, number), _chance(salt + 1, 86_400, number)
    return f"(({_FIRST_DAY} + {day}) * {_MICROSECONDS} + {second} * 1000000)"


def _rows(deals: int) -> Mapping[str, tuple[int, Mapping[str, str]]]:
    """Table -> how many rows, and each column as an expression of the row's number `n`."""
    accounts = max(1, deals // 5)
    outcome = _chance(3, 4)
    created = _created(1)
    created_day = f"({created} / {_MICROSECONDS})"
    close_day = f"({created_day} + 1 + {_chance(4, 120)})"
    is_closed = f"({outcome} < 3)"
    stage = (
        f"CASE WHEN {outcome} < 2 THEN 'crm:won' "
        f"WHEN {outcome} = 2 THEN 'crm:lost' ELSE 'crm:offer' END"
    )
    of_deal = "(n / 3)"
    outcome_of_deal = _chance(3, 4, of_deal)
    last_stage = f"CASE WHEN {outcome_of_deal} < 2 THEN 'crm:won' ELSE 'crm:lost' END"
    change_at = f"({_created(1, of_deal)} + (n % 3) * 259200000000 + n % 3600 * 1000000)"
    opened = _created(21)
    solved = f"({opened} + {_chance(24, 1_700_000)} * 1000000)"
    is_solved = f"({_chance(23, 7)} < 6)"
    answered = f"({opened} + {_chance(25, 90_000)} * 1000000)"
    joined = _created(31)
    return {
        "owners": (
            OWNERS,
            {
                "ref": _key("owner", "n"),
                "name": "'Rep ' || CAST(n AS TEXT)",
                "team": "'Team ' || CAST(n % 12 AS TEXT)",
                "is_active": "true",
            },
        ),
        "stages": (
            4,
            {
                "ref": "CASE n WHEN 0 THEN 'crm:new' WHEN 1 THEN 'crm:offer' "
                "WHEN 2 THEN 'crm:won' ELSE 'crm:lost' END",
                "pipeline": "'crm:sales'",
                "position": "n",
                "is_closed": "(n > 1)",
                "is_won": "(n = 2)",
                "is_active": "true",
            },
        ),
        "campaigns": (
            CAMPAIGNS,
            {
                "ref": _key("campaign", "n"),
                "channel": "'Channel ' || CAST(n % 6 AS TEXT)",
                "start_date": f"{_FIRST_DAY} + n * 20",
                "cost": "100000 + n * 7919",
            },
        ),
        "accounts": (
            accounts,
            {
                "ref": _key("account", "n"),
                "name": "'Account ' || CAST(n AS TEXT)",
                "owner": _key("owner", _chance(41, OWNERS)),
                "region": _one_of(42, ("EMEA", "AMER", "APAC")),
            },
        ),
        "contacts": (
            accounts,
            {"ref": _key("contact", "n"), "account": _key("account", "n")},
        ),
        "deals": (
            deals,
            {
                "ref": _key("deal", "n"),
                "created_at": created,
                "created_day": created_day,
                "modified_at": created,
                "name": "'Deal ' || CAST(n AS TEXT)",
                "account": _key("account", _chance(5, accounts)),
                "owner": _key("owner", _chance(6, OWNERS)),
                "pipeline": "'crm:sales'",
                "stage": stage,
                "is_closed": is_closed,
                "is_won": f"({outcome} < 2)",
                "amount": f"(1 + {_chance(7, 50_000)}) * 100",
                "close_date": close_day,
                "closed_day": f"CASE WHEN {is_closed} THEN {close_day} END",
                "probability": f"(1 + {_chance(8, 4)}) * 200000",
                "kind": _one_of(9, ("new", "new", "upsell")),
                "source": _one_of(10, [f"Source {number}" for number in range(8)]),
                "campaign": f"CASE WHEN {_chance(11, 3)} = 0 "
                f"THEN {_key('campaign', _chance(12, CAMPAIGNS))} END",
                "product": _one_of(13, [f"Product {number}" for number in range(20)]),
                "region": _one_of(14, ("EMEA", "AMER", "APAC")),
            },
        ),
        "deal_stage_changes": (
            3 * deals,
            {
                "ref": _key("change", "n"),
                "created_at": change_at,
                "created_day": f"{change_at} / {_MICROSECONDS}",
                "modified_at": change_at,
                "deal": _key("deal", of_deal),
                "stage": f"CASE WHEN n % 3 = 0 THEN 'crm:new' "
                f"WHEN n % 3 = 1 OR {outcome_of_deal} = 3 THEN 'crm:offer' ELSE {last_stage} END",
                "at": change_at,
                "at_day": f"{change_at} / {_MICROSECONDS}",
            },
        ),
        "tickets": (
            deals,
            {
                "ref": _key("ticket", "n"),
                "created_at": opened,
                "created_day": f"{opened} / {_MICROSECONDS}",
                "modified_at": opened,
                "account": _key("account", _chance(26, accounts)),
                "owner": _key("owner", _chance(27, OWNERS)),
                "category": _one_of(28, ("billing", "login", "delivery", "other")),
                "priority": _one_of(29, ("high", "normal", "low")),
                "is_closed": is_solved,
                "closed_at": f"CASE WHEN {is_solved} THEN {solved} END",
                "closed_day": f"CASE WHEN {is_solved} THEN {solved} / {_MICROSECONDS} END",
                "first_response_at": answered,
                "first_response_day": f"{answered} / {_MICROSECONDS}",
            },
        ),
        "campaign_members": (
            deals // 2,
            {
                "ref": _key("member", "n"),
                "created_at": joined,
                "created_day": f"{joined} / {_MICROSECONDS}",
                "campaign": _key("campaign", _chance(33, CAMPAIGNS)),
                "contact": _key("contact", _chance(34, accounts)),
                "at": joined,
                "at_day": f"{joined} / {_MICROSECONDS}",
            },
        ),
    }


def inserts(deals: int, database: str) -> list[str]:
    """One INSERT for each table of a company with so many deals.

    Args:
        deals: how many.
        database: ``sqlite``, ``postgresql`` or ``duckdb``.
    """
    statements = []
    for table, (rows, columns) in _rows(deals).items():
        names = ", ".join(f'"{name}"' for name in ("deleted", *columns))
        values = ", ".join(["false", *columns.values()])
        if database == "sqlite":
            numbers = (
                "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL "
                f"SELECT n + 1 FROM numbers WHERE n < {rows - 1}) "
            )
            source = "numbers"
        else:
            numbers, source = "", f"generate_series(CAST(0 AS BIGINT), {rows - 1}) AS numbers(n)"
        statements.append(f"{numbers}INSERT INTO {table} ({names}) SELECT {values} FROM {source}")
    return statements


# ---------------------------------------------------------------- batches


class Edits:
    """Batches of changed and new records, as a busy hour brings them."""

    def __init__(self, deals: int) -> None:
        self._deals = deals
        self._new = 0

    def batch(self, conn: Connection, size: int, seed: int) -> list[CanonicalRecord]:
        """So many records of a page.

        45 % deals (half of them with another amount, a quarter with another owner, a quarter just
        won), 15 % stage changes, 35 % tickets (half of them just solved, a quarter with another
        operator, a quarter new), 5 % new campaign members.

        Args:
            conn: of a store that holds the company.
            size: how many.
            seed: another one, another batch.
        """
        chance = random.Random(seed)
        deals = self._some(conn, "deals", "deal", 45 * size // 100, chance)
        tickets = self._some(conn, "tickets", "ticket", 26 * size // 100, chance)
        page: list[CanonicalRecord] = [self._edited(chance, deal) for deal in deals]
        page += [self._solved(chance, ticket) for ticket in tickets]
        moved = [deal for deal in page[: len(deals)] if isinstance(deal, Deal)]
        page += [self._moved(chance, chance.choice(moved)) for _ in range(15 * size // 100)]
        page += [self._joined(chance) for _ in range(5 * size // 100)]
        page += [self._opened(chance) for _ in range(size - len(page))]
        return page

    def _some(
        self, conn: Connection, stream: str, kind: str, count: int, chance: random.Random
    ) -> list[CanonicalRecord]:
        table, maker = RECORD_TABLES[stream], RecordMaker(stream, COMPANY)
        keys = [
            f"crm:{kind}{1_000_000_000 + number}"
            for number in chance.sample(range(self._deals), count)
        ]
        found: list[CanonicalRecord] = []
        for start in range(0, count, 500):
            query = select(table).where(table.c.ref.in_(keys[start : start + 500]))
            found += [maker.record(row) for row in conn.execute(query).mappings()]
        chance.shuffle(found)
        return found

    def _owner(self, chance: random.Random) -> str:
        return f"crm:owner{1_000_000_000 + chance.randrange(OWNERS)}"

    def _edited(self, chance: random.Random, deal: CanonicalRecord) -> CanonicalRecord:
        assert isinstance(deal, Deal)
        what = chance.random()
        if what < 0.5:
            return replace(deal, amount=Decimal(1 + chance.randrange(50_000)), modified_at=None)
        if what < 0.75:
            return replace(deal, owner=self._owner(chance), modified_at=None)
        day = date(2024, 12, 1) + timedelta(days=chance.randrange(31))
        won = replace(deal, is_closed=True, is_won=True, stage="crm:won", close_date=day)
        return replace(won, modified_at=None)

    def _solved(self, chance: random.Random, ticket: CanonicalRecord) -> CanonicalRecord:
        assert isinstance(ticket, Ticket)
        if chance.random() < 1 / 3:
            return replace(ticket, owner=self._owner(chance), modified_at=None)
        at = NOW - timedelta(seconds=chance.randrange(86_400))
        return replace(ticket, is_closed=True, closed_at=at, modified_at=None)

    def _number(self) -> int:
        self._new += 1
        return 5_000_000_000 + self._new

    def _moved(self, chance: random.Random, deal: Deal) -> CanonicalRecord:
        return StageChange(
            ref=RecordRef("crm", "deal_stage_changes", f"change{self._number()}"),
            deal=deal.ref.key,
            stage=deal.stage or "crm:offer",
            at=NOW - timedelta(seconds=chance.randrange(86_400)),
        )

    def _joined(self, chance: random.Random) -> CanonicalRecord:
        contact = chance.randrange(max(1, self._deals // 5))
        return CampaignMember(
            ref=RecordRef("crm", "campaign_members", f"member{self._number()}"),
            campaign=f"crm:campaign{1_000_000_000 + chance.randrange(CAMPAIGNS)}",
            contact=f"crm:contact{1_000_000_000 + contact}",
            at=NOW - timedelta(seconds=chance.randrange(86_400 * 90)),
        )

    def _opened(self, chance: random.Random) -> CanonicalRecord:
        return Ticket(
            ref=RecordRef("crm", "tickets", f"ticket{self._number()}"),
            created_at=NOW - timedelta(seconds=chance.randrange(86_400)),
            account=f"crm:account{1_000_000_000 + chance.randrange(max(1, self._deals // 5))}",
            owner=self._owner(chance),
            category="login",
            priority="normal",
        )
