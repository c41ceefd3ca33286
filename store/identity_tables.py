"""What copies of a record say where the preferred one says nothing, or is not to be asked first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from store.identity_rules import ACCOUNTS, CONTACTS, DEALS
from store.tables import KEY, METADATA


def _fallbacks(name: str, *columns: Column[object]) -> Table:
    return Table(
        name,
        METADATA,
        Column("ref", KEY, primary_key=True),
        *columns,
        # All fields of the company's own mapping together, where any of them is a copy's.
        Column("extra", Text),
    )


def _texts(*names: str) -> tuple[Column[object], ...]:
    return tuple(Column(name, Text) for name in names)


DEAL_FALLBACKS: Final = _fallbacks(
    "deal_fallbacks",
    Column("amount", BigInteger),
    # The currency is that of the amount.
    *_texts("currency", "product", "source", "type", "kind", "region", "segment", "lost_reason"),
)
ACCOUNT_FALLBACKS: Final = _fallbacks(
    "account_fallbacks",
    *_texts("name", "domain"),
    Column("owner", KEY),
    Column("parent", KEY),
    *_texts("type", "industry", "segment", "region", "country"),
    Column("employees", BigInteger),
    Column("annual_revenue", BigInteger),
    # Of that revenue.
    *_texts("currency"),
    Column("contract_end", Integer),
)
CONTACT_FALLBACKS: Final = _fallbacks(
    "contact_fallbacks",
    *_texts("name", "email"),
    Column("owner", KEY),
    *_texts("source", "lifecycle_stage"),
    Column("nps_score", BigInteger),
)

FALLBACKS: Final[Mapping[str, Table]] = MappingProxyType(
    {ACCOUNTS: ACCOUNT_FALLBACKS, CONTACTS: CONTACT_FALLBACKS, DEALS: DEAL_FALLBACKS}
)
"""Stream -> records that stand for copies of theirs: values of copies that count instead of their
own. A value that is null here is the record's own."""

MONEY: Final[Mapping[str, str]] = MappingProxyType({ACCOUNTS: "annual_revenue", DEALS: "amount"})
"""Stream -> the field that brings its currency along."""
