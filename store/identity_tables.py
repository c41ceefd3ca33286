"""What copies of a record say where the preferred one says nothing."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Table, Text

from store.tables import KEY, METADATA

DEAL_FALLBACKS: Final = Table(
    "deal_fallbacks",
    METADATA,
    Column("ref", KEY, primary_key=True),
    Column("amount", BigInteger),
    # Of that amount.
    Column("currency", Text),
    *(
        Column(name, Text)
        for name in ("product", "source", "type", "kind", "region", "segment", "lost_reason")
    ),
)
"""Deals that stand for copies of theirs: values of copies that count instead of their own."""
