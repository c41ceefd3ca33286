"""The families: which sums are kept together in the store's cells.

The SELECT of each formula is in `metrics.contributions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from metrics.definition import Family, Kpi
from metrics.periods import Kind

DEALS_CLOSED: Final = Family(
    name="deals_closed",
    formula="deals_closed",
    version=1,
    measures=("won", "lost", "won_amount", "lost_amount"),
    money=frozenset({"won_amount", "lost_amount"}),
)
"""Closed deals on their close day."""

DEALS_CREATED: Final = Family(
    name="deals_created",
    formula="deals_created",
    version=1,
    measures=("created", "won", "closed"),
)
"""All deals on their creation day, with what has become of them."""

SALES_CYCLE: Final = Family(
    name="sales_cycle",
    formula="sales_cycle",
    version=1,
    measures=("measured", "days", "negative", "undated"),
)
"""Won deals on their close day, with the days since creation."""

STAGE_VISITS: Final = Family(
    name="stage_visits",
    formula="stage_visits",
    version=1,
    measures=("visits", "seconds", "unknown"),
)
"""Completed visits to open stages on the day they ended; ``stage`` is the visited one."""

DEALS_OPEN: Final = Family(
    name="deals_open",
    formula="deals_open",
    version=1,
    measures=("open", "amount"),
    money=frozenset({"amount"}),
    has_buckets=True,
)
"""Open deals on their expected close day; the bucket is the probability."""

FIRST_PURCHASES: Final = Family(
    name="first_purchases",
    formula="first_purchases",
    version=1,
    measures=("customers", "anonymous"),
)
"""The first won deal of each account, on its close day."""

_BUYERS: Final = "buyers"


def buyers(kind: Kind) -> Family:
    """Distinct accounts with a won deal, for each period of a kind, on the period's first day."""
    return Family(
        name=f"{_BUYERS}_{kind}",
        formula=_BUYERS,
        version=1,
        measures=("buyers", "anonymous"),
        kind=kind,
    )


_ADDITIVE: Final[Mapping[str, Family]] = MappingProxyType(
    {
        family.formula: family
        for family in (
            DEALS_CLOSED,
            DEALS_CREATED,
            SALES_CYCLE,
            STAGE_VISITS,
            DEALS_OPEN,
            FIRST_PURCHASES,
        )
    }
)


def family_of(kpi: Kpi, kind: Kind) -> Family:
    """The family whose cells give a KPI's values for periods of a kind."""
    return buyers(kind) if kpi.family == _BUYERS else _ADDITIVE[kpi.family]
