"""How values are made of the sums that DuckDB gives: which of them, and divided by what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

Term: TypeAlias = tuple[str, str, str, int]
"""Family, measure, part and sign. Parts: all, priced, no_amount, no_rate, money, weighable,
no_weight, weighted."""


@dataclass(frozen=True, slots=True)
class Value:
    """One KPI."""

    top: tuple[Term, ...]
    n: tuple[Term, ...]
    bottom: tuple[Term, ...] | None = None
    left_out: Mapping[str, tuple[Term, ...]] = field(default_factory=lambda: MappingProxyType({}))
    divisor: int = 1
    factor: int = 1
    percent: int | None = None

    @property
    def terms(self) -> tuple[Term, ...]:
        """Every sum it takes."""
        left_out = (term for terms in self.left_out.values() for term in terms)
        return (*self.top, *self.n, *(self.bottom or ()), *left_out)

    @property
    def families(self) -> tuple[str, ...]:
        """The families whose sums it takes."""
        return tuple(dict.fromkeys(term[0] for term in self.terms))


def _terms(text: str, family: str) -> tuple[Term, ...]:
    """``won lost:money -detractors other.closed``: measures, with part, sign or other family."""
    found = []
    for word in text.split():
        sign = -1 if word.startswith("-") else 1
        named, _, part = word.removeprefix("-").partition(":")
        other, _, measure = named.rpartition(".")
        found.append((other or family, measure, part or "all", sign))
    return tuple(found)


def _value(
    family: str,
    top: str,
    n: str,
    bottom: str | None = None,
    *,
    divisor: int = 1,
    factor: int = 1,
    percent: int | None = None,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Value:
    return Value(
        top=_terms(top, family),
        n=_terms(n, family),
        bottom=None if bottom is None else _terms(bottom, family),
        left_out={reason: _terms(text, family) for reason, text in left_out.items()},
        divisor=divisor,
        factor=factor,
        percent=percent,
    )


_WON: Final = {"no_amount": "won:no_amount", "no_rate": "won:no_rate"}
_LOST: Final = {"no_amount": "lost:no_amount", "no_rate": "lost:no_rate"}
_BOTH: Final = {
    "no_amount": "won:no_amount lost:no_amount",
    "no_rate": "won:no_rate lost:no_rate",
}
_OPEN: Final = {"no_amount": "open:no_amount", "no_rate": "open:no_rate"}
_UNKNOWN_STAGE: Final = {"unknown_stage": "unknown"}
_UNDATED: Final = {"negative_duration": "negative", "no_date": "undated"}

VALUES: Final[Mapping[str, Value]] = MappingProxyType(
    {
        "won_count": _value("deals_closed", "won", "won"),
        "lost_count": _value("deals_closed", "lost", "lost"),
        "closed_count": _value("deals_closed", "won lost", "won lost"),
        "lost_reasons": _value("deals_closed", "lost", "lost"),
        "win_rate": _value("deals_closed", "won", "won lost", "won lost"),
        "won_value": _value("deals_closed", "won_amount:money", "won:priced", left_out=_WON),
        "lost_value": _value("deals_closed", "lost_amount:money", "lost:priced", left_out=_LOST),
        "avg_deal_value": _value(
            "deals_closed", "won_amount:money", "won:priced", "won:priced", left_out=_WON
        ),
        "win_rate_value": _value(
            "deals_closed",
            "won_amount:money",
            "won:priced lost:priced",
            "won_amount:money lost_amount:money",
            left_out=_BOTH,
        ),
        "purchases": _value("deals_closed", "won", "won"),
        "revenue": _value("deals_closed", "won_amount:money", "won:priced", left_out=_WON),
        **dict.fromkeys(
            ("avg_purchase_value", "avg_order_value"),
            _value("deals_closed", "won_amount:money", "won:priced", "won:priced", left_out=_WON),
        ),
        "new_customers": _value(
            "first_purchases", "customers", "customers", left_out={"no_account": "anonymous"}
        ),
        "stage_visits": _value("stage_visits", "visits", "visits", left_out=_UNKNOWN_STAGE),
        "time_in_stage_days": _value(
            *("stage_visits", "seconds", "visits", "visits"),
            divisor=86_400,
            left_out=_UNKNOWN_STAGE,
        ),
        **{
            f"time_in_stage_days_{name}": _value(
                *("stage_times", "visits", "visits"),
                divisor=86_400,
                percent=percent,
                left_out=_UNKNOWN_STAGE,
            )
            for name, percent in (("median", 50), ("p90", 90))
        },
        "reopened_count": _value("reopenings", "reopened", "reopened"),
        "stages_per_deal": _value(
            *("stages_seen", "stages", "deals", "deals"),
            left_out={"no_history": "without_history"},
        ),
        "cost": _value(
            "costs", "amount:money", "costs:priced", left_out={"no_rate": "costs:no_rate"}
        ),
        "campaign_cost": _value(
            *("costs", "amount:money", "campaign_costs:priced"),
            left_out={"no_rate": "campaign_costs:no_rate"},
        ),
        **{
            f"email_{name}_rate": _value(
                *(f"email_{events}", "events", "delivered", "delivered"),
                left_out={"incomplete": "incomplete"},
            )
            for name, events in (
                ("open", "opens"),
                ("click", "clicks"),
                ("unsubscribe", "unsubscribes"),
                ("bounce", "bounces"),
            )
        },
        "deals_created": _value("deals_created", "created", "created"),
        "close_rate": _value("deals_created", "won", "created", "created"),
        "closed_of_created": _value("deals_created", "closed", "created", "created"),
        "sales_cycle_days": _value(
            "sales_cycle", "days", "measured", "measured", left_out=_UNDATED
        ),
        "sales_cycle_days_median": _value(
            "sales_cycle", "days", "measured", percent=50, left_out=_UNDATED
        ),
        "open_count": _value("deals_open", "open", "open"),
        "open_value": _value("deals_open", "amount:money", "open:priced", left_out=_OPEN),
        "weighted_pipeline": _value(
            "deals_open",
            "amount:weighted",
            "open:weighable",
            left_out={**_OPEN, "no_probability": "open:no_weight"},
        ),
        "leads_created": _value("leads_created", "created", "created"),
        "lead_conversion_rate": _value("leads_created", "converted", "created", "created"),
        "tickets_created": _value("tickets_created", "created", "created"),
        "ticket_recurrence_rate": _value("tickets_created", "recurrent", "created", "created"),
        "tickets_closed": _value("tickets_closed", "closed", "closed"),
        "tickets_backlog": _value("tickets_open", "open", "open"),
        "completion_rate": _value("tickets_created", "tickets_closed.closed", "created", "created"),
        "resolution_hours": _value(
            "resolution", "seconds", "measured", "measured", divisor=3_600, left_out=_UNDATED
        ),
        "resolution_hours_median": _value(
            "resolution", "seconds", "measured", divisor=3_600, percent=50, left_out=_UNDATED
        ),
        "resolution_hours_p90": _value(
            "resolution", "seconds", "measured", divisor=3_600, percent=90, left_out=_UNDATED
        ),
        "first_response_hours": _value(
            "first_response", "seconds", "measured", "measured", divisor=3_600, left_out=_UNDATED
        ),
        "nps": _value(
            "answers",
            "promoters -detractors",
            "promoters passives detractors",
            "promoters passives detractors",
            factor=100,
            left_out={"invalid": "invalid"},
        ),
        "nps_promoters": _value("answers", "promoters", "promoters"),
        "nps_passives": _value("answers", "passives", "passives"),
        "nps_detractors": _value("answers", "detractors", "detractors"),
        "nps_responses": _value(
            "answers", "promoters passives detractors", "promoters passives detractors"
        ),
        "nps_invalid": _value("answers", "invalid", "invalid"),
    }
)
"""KPI -> how it is made."""
