"""The families: which sums are kept together in the store's cells.

The SELECT of each formula is in `metrics.contributions`. Families that depend on settings (a
window, a clock), or on a kind of period, are made for them, each under a name of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from metrics.definition import Bucket, Family, Kpi, OwnSettings, Term
from metrics.dimensions import (
    CONTRACT_DIMENSIONS,
    COST_DIMENSIONS,
    CREDIT_DIMENSIONS,
    DEAL_DIMENSIONS,
    EMAIL_DIMENSIONS,
    LEAD_DIMENSIONS,
    STAGE_DIMENSIONS,
    SURVEY_DIMENSIONS,
    TICKET_DIMENSIONS,
    Grouping,
    places_in,
)
from metrics.periods import is_rolling, rolling_days

ACTIVE_DAYS: Final = 90
"""How long a customer stays active after a purchase, unless set."""
STALLED_DAYS: Final = 30
"""After how many days without a stage change a deal is stalled, unless set."""

_CREDIT: Final = ("deals", "amount", "first_purchases")


def _family(
    formula: str,
    *measures: str,
    source: str,
    dimensions: tuple[str, ...] = DEAL_DIMENSIONS,
    also: tuple[str, ...] = (),
    money: tuple[str, ...] = (),
    bucket: Bucket = Bucket.NONE,
    is_by_kind: bool = False,
    is_clocked: bool = False,
    version: int = 1,
) -> Family:
    return Family(
        name=formula,
        formula=formula,
        version=version,
        measures=measures,
        source=source,
        also=also,
        dimensions=dimensions,
        money=frozenset(money),
        bucket=bucket,
        is_by_kind=is_by_kind,
        is_clocked=is_clocked,
    )


_FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        family.formula: family
        for family in (
            _family(
                "deals_closed",
                *("won", "lost", "won_amount", "lost_amount", "won_by_account"),
                source="deals",
                money=("won_amount", "lost_amount"),
                version=2,
            ),
            replace(
                _family(
                    "deal_amounts",
                    *("won", "amount"),
                    source="deals",
                    money=("amount",),
                    bucket=Bucket.VALUE,
                ),
                has_money_buckets=True,
            ),
            _family("deals_created", "created", "won", "closed", source="deals"),
            _family(
                "sales_cycle",
                *("measured", "days", "negative", "undated"),
                source="deals",
                bucket=Bucket.VALUE,
                version=3,
            ),
            _family(
                "deals_open",
                *("open", "amount"),
                source="deals",
                money=("amount",),
                bucket=Bucket.PROBABILITY,
            ),
            *(
                _family(
                    formula,
                    *("open", "amount"),
                    source="deals",
                    money=("amount",),
                    bucket=Bucket.INSTANT,
                )
                for formula in ("deals_resting", "deals_aging")
            ),
            _family("stages_seen", "deals", "stages", "without_history", source="deals"),
            _family("stage_visits", "visits", "seconds", "unknown", source="visits", version=2),
            _family("stage_times", "visits", "unknown", source="visits", bucket=Bucket.VALUE),
            _family("reopenings", "reopened", source="visits"),
            _family(
                "stage_entries",
                *("entered", "advanced", "undecided"),
                source="visits",
                is_by_kind=True,
            ),
            _family(
                "stages_open",
                "stages",
                source="stages",
                dimensions=STAGE_DIMENSIONS,
                version=2,
            ),
            _family("first_purchases", "customers", "anonymous", source="purchases", version=2),
            _family(
                "buyers", "buyers", "anonymous", source="purchases", is_by_kind=True, version=2
            ),
            _family("upsellers", "buyers", "anonymous", source="purchases", is_by_kind=True),
            _family("lifespans", "customers", "days", source="purchases"),
            _family("undated_buyers", "customers", source="purchases"),
            _family(
                "activity",
                *("change", "lost", "gained"),
                source="purchases",
                is_by_kind=True,
                is_clocked=True,
            ),
            _family(
                "contract_activity",
                *("change", "lost", "gained"),
                source="contracts",
                dimensions=CONTRACT_DIMENSIONS,
                is_by_kind=True,
                is_clocked=True,
            ),
            _family(
                "leads_created",
                *("created", "converted", "customers"),
                source="leads",
                dimensions=LEAD_DIMENSIONS,
                version=2,
            ),
            _family("leads_qualified", "qualified", source="leads", dimensions=LEAD_DIMENSIONS),
            _family(
                "costs",
                *("costs", "amount", "campaign_costs"),
                source="costs",
                dimensions=COST_DIMENSIONS,
                money=("amount",),
            ),
            *(
                _family(
                    f"email_{events}",
                    *("events", "delivered", "incomplete"),
                    source="emails",
                    dimensions=EMAIL_DIMENSIONS,
                )
                for events in ("opens", "clicks", "unsubscribes", "bounces")
            ),
            _family(
                "email_deliveries",
                *("delivered", "incomplete"),
                source="emails",
                dimensions=EMAIL_DIMENSIONS,
            ),
            *(
                _family(
                    f"credit_{model}",
                    *_CREDIT,
                    version=2,
                    source="deals" if model == "primary" else "credits",
                    also=("purchases",) if model == "primary" else (),
                    dimensions=CREDIT_DIMENSIONS,
                    money=("amount",),
                    bucket=Bucket.SHARES,
                )
                for model in ("first", "last", "linear", "primary")
            ),
            _family(
                "tickets_created",
                *("created", "recurrent"),
                source="tickets",
                dimensions=TICKET_DIMENSIONS,
            ),
            _family("tickets_closed", "closed", source="tickets", dimensions=TICKET_DIMENSIONS),
            _family("tickets_open", "open", source="tickets", dimensions=TICKET_DIMENSIONS),
            *(
                _family(
                    formula,
                    *("measured", "seconds", "negative", "undated"),
                    source="tickets",
                    dimensions=TICKET_DIMENSIONS,
                    bucket=Bucket.VALUE,
                    version=2,
                )
                for formula in ("resolution", "first_response")
            ),
            _family(
                "closings",
                *("closed", "reopened"),
                source="closings",
                dimensions=TICKET_DIMENSIONS,
                is_by_kind=True,
            ),
            _family(
                "answers",
                *("promoters", "passives", "detractors", "invalid"),
                source="surveys",
                dimensions=SURVEY_DIMENSIONS,
            ),
        )
    }
)

_MEASURED: Final = frozenset({"sales_cycle", "resolution", "first_response"})
"""Formulas whose values are asked for in their order by some KPIs, and only as sums by others."""

NEIGHBOURLY: Final = frozenset({"tickets_created"})
"""Formulas of row-wise families in which a record counts by others of its account."""


def sources_of(family: Family) -> frozenset[str]:
    """The facts a family reads."""
    return frozenset({family.source, *family.also})


ALWAYS_READ: Final = frozenset(
    {"owner", "stage", "pipeline", "kind", "account", "campaign", "deal"}
)
"""Dimensions that facts carry whether values are grouped by them or not."""

_READ_BY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "deals_resting": ("entered_at",),
        "deals_aging": ("entered_at",),
        "stages_seen": ("stages_seen",),
        "reopenings": ("is_reopening",),
        "stage_entries": ("is_advanced", "is_undecided"),
        "credit_first": ("place",),
        "credit_last": ("place_from_last",),
        "tickets_created": ("is_recurrent",),
    }
)
"""Formula -> the columns that it alone reads and that are dear to find."""

_MADE_OF: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"deals": ("visits", "purchases", "credits"), "tickets": ("closings",)}
)
"""Source -> the sources whose facts are made of its own."""


def columns_read(
    families: Mapping[str, Family], groupings: Mapping[str, Sequence[Grouping]]
) -> Mapping[str, frozenset[str]]:
    """Source -> the columns of its facts that families read, beside those that all carry.

    What nobody groups by need not be looked up for every record.

    Args:
        families: those that are kept, by name.
        groupings: of each the groupings of its cells.
    """
    own: dict[str, set[str]] = {}
    for name, family in families.items():
        read = {place for one in groupings[name] for place in places_in(one, family.mapped)}
        read.update(_READ_BY.get(family.formula, ()))
        if family.is_business_hours:
            read.add("work")
        for source in sources_of(family):
            own.setdefault(source, set()).update(read)
    return MappingProxyType(
        {
            source: frozenset(ALWAYS_READ).union(
                own.get(source, ()), *(own.get(made, ()) for made in _MADE_OF.get(source, ()))
            )
            for source in {*own, *_MADE_OF}
        }
    )


def dimensions_of(
    kpi: Kpi, fields: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> tuple[str, ...]:
    """What a KPI can be grouped by: what all of its families can.

    Args:
        kpi: a KPI.
        fields: stream -> its mapped fields, which it can be grouped by, too.
    """
    if kpi.custom is not None:
        return kpi.custom.dimensions
    families = {term.family or kpi.family for term in kpi.terms} | {kpi.family}
    allowed = [set(_FAMILIES[formula].dimensions) for formula in sorted(families)]
    common = set.intersection(*allowed)
    built_in = tuple(name for name in _FAMILIES[kpi.family].dimensions if name in common)
    others = fields.get(mapped_stream_of(kpi) or "", ())
    return built_in + tuple(name for name in others if name not in built_in)


_MAPPED_STREAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "deals": "deals",
        "visits": "deals",
        "purchases": "deals",
        "credits": "deals",
        "tickets": "tickets",
        "closings": "tickets",
        "leads": "leads",
        "surveys": "survey_responses",
    }
)


def mapped_stream_of(kpi: Kpi) -> str | None:
    """The stream whose mapped fields a built-in KPI can be grouped by: that of all its families."""
    formulas = {term.family or kpi.family for term in kpi.terms} | {kpi.family}
    streams = {stream_of_source(_FAMILIES[formula].source) for formula in formulas}
    return streams.pop() if len(streams) == 1 else None


def stream_of_source(source: str) -> str | None:
    """The stream whose mapped fields facts of a source carry; None: they carry none."""
    return _MAPPED_STREAMS.get(source)


def family_of(formula: str, kind: str, own: OwnSettings, *, has_percentile: bool = False) -> Family:
    """The family whose cells give a term's sums for periods of a kind.

    Args:
        formula: as the term names it.
        kind: the kind of period.
        own: the settings of the KPI that asks.
        has_percentile: whether that KPI is one of values in their order.
    """
    family = _FAMILIES[formula]
    if formula in _MEASURED and not has_percentile:
        # A sum over a year need not read a cell for each second that a ticket was open.
        family = replace(family, bucket=Bucket.NONE)
    elif formula in _MEASURED:
        family = replace(family, name=f"{formula}_values")
    if formula == "activity":
        days = own.window or ACTIVE_DAYS
        family = replace(family, name=f"{formula}_{days}d", window=days)
    elif formula == "deals_resting":
        days = STALLED_DAYS if own.stalled_days is None else own.stalled_days
        family = replace(family, name=f"{formula}_{days}d", window=days)
    elif formula in {"resolution", "first_response"} and own.clock == "business_hours":
        family = replace(family, name=f"{family.name}_business", is_business_hours=True)
    elif formula == "answers" and own.answers == "latest":
        family = replace(family, name=f"{formula}_latest", is_latest=True)
    elif formula == "costs" and own.costs:
        origins = tuple(sorted(own.costs))
        family = replace(family, name=f"{formula}_{'_'.join(origins)}", origins=origins)
    if not family.is_by_kind:
        return family
    family = replace(family, name=f"{family.name}_{kind}", kind=kind)
    if is_rolling(kind):
        return replace(family, days=rolling_days(kind), is_running=True, is_clocked=True)
    return family


def has_rolling(kpi: Kpi) -> bool:
    """Whether all of a KPI's families can be had for the last N days."""
    if kpi.custom is not None:
        return not kpi.is_instant
    families = [_FAMILIES[term.family or kpi.family] for term in kpi.terms]
    return all(not one.is_by_kind or one.formula in _ROLLING for one in families)


_ROLLING: Final = frozenset(
    {"buyers", "upsellers", "activity", "contract_activity", "stage_entries", "closings"}
)


def families_of_terms(kpi: Kpi) -> dict[Term, str]:
    """Each term's formula."""
    return {term: term.family or kpi.family for term in kpi.terms}
