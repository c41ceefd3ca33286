"""The KPIs of marketing e-mails."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

from metrics.catalog.examples import campaign, email, won
from metrics.catalog.sales import CLOSE_DAY, NO_AMOUNT_CAVEAT
from metrics.definition import Direction, Kpi, OwnSettings, Part, Term, Unit, WorkedExample
from metrics.dimensions import Grouping

_BY_CAMPAIGN: Final[tuple[Grouping, ...]] = (("campaign",),)
_DAY: Final = "the day of the statistics"
_COUNTED_BY_SOURCE: Final = (
    "Counted as the source counts: map its unique opens and clicks, where it has them."
)

_SPRING = (
    campaign("spring"),
    email(
        "news",
        campaign="spring",
        delivered=160,
        opens=40,
        clicks=8,
        unsubscribes=2,
        bounces=4,
    ),
    email(
        "reminder",
        campaign="spring",
        delivered=40,
        opens=20,
        clicks=2,
        unsubscribes=0,
        bounces=1,
    ),
    email("lost", campaign="spring", delivered=1_000),
    won(1, account="A", amount=500, campaign="spring"),
)
_SPRING_TEXT = (
    "Of 200 e-mails of January that arrived 60 were opened, 10 clicked and 2 unsubscribed from, 5 "
    "more bounced; nothing is known of what became of another 1,000"
)


def _rate(name: str, events: str, happened: str, value: str) -> Kpi:
    example = WorkedExample(
        text=f"{_SPRING_TEXT}: {happened} / 200 = {value}.",
        records=_SPRING,
        period="2024-01",
        value=Decimal(value),
    )
    is_good = name in {"open", "click"}
    return Kpi(
        name=f"email_{name}_rate",
        label=f"E-mail {name} rate",
        definition=f"{events.capitalize()} divided by delivered e-mails.",
        unit=Unit.RATIO,
        is_share=True,
        direction=Direction.UP if is_good else Direction.DOWN,
        family=f"email_{events}",
        numerator=(Term("events"),),
        denominator=(Term("delivered"),),
        used=(Term("delivered"),),
        left_out={"incomplete": (Term("incomplete"),)},
        groupings=_BY_CAMPAIGN,
        by_account=False,
        counting_day=_DAY,
        caveats=_CAVEATS[name],
        example=example,
    )


_CAVEATS: Final = {
    "open": (
        _COUNTED_BY_SOURCE,
        "Mail programs that load pictures by themselves count as opens.",
    ),
    "click": (_COUNTED_BY_SOURCE,),
    "unsubscribe": (),
    "bounce": (
        "Bounced e-mails are not among the delivered ones they are divided by: it can exceed 1.",
    ),
}

_DELIVERED: Final = Term("delivered", family="email_deliveries")


def _credited(kpi: Kpi, own: OwnSettings) -> Kpi:
    if len(own.models) > 1:
        raise ValueError(
            f"{kpi.name}: one model of attribution at a time, not {', '.join(own.models)}"
        )
    (model,) = own.models or ("primary",)
    family = f"credit_{model}"
    return replace(
        kpi,
        family=family,
        numerator=(Term("amount", Part.SHARED),),
        left_out={
            "no_amount": (Term("deals", Part.NO_AMOUNT),),
            "no_rate": (Term("deals", Part.NO_RATE),),
            "incomplete": (Term("incomplete", family="email_deliveries"),),
        },
    )


_REVENUE: Final = Kpi(
    name="email_revenue_per_delivered",
    label="Revenue per delivered e-mail",
    definition=(
        "Revenue credited to a campaign divided by its delivered e-mails; which deals a campaign "
        "is credited with is told by the setting `models` (one of them; primary)."
    ),
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="credit_primary",
    denominator=(_DELIVERED,),
    used=(_DELIVERED,),
    groupings=(("campaign",), ("channel",)),
    by_account=False,
    has_total=False,
    settings=("models",),
    resolve=_credited,
    counting_day=f"{CLOSE_DAY}; e-mails: {_DAY}",
    caveats=(
        "A campaign may win deals by other means than its e-mails.",
        "No value of campaigns without e-mails.",
        NO_AMOUNT_CAVEAT,
    ),
    example=WorkedExample(
        text=(
            "A campaign has 1,200 e-mails delivered in January and stands on a deal won for 500: "
            "500 / 1,200 = 0.4167."
        ),
        records=_SPRING,
        period="2024-01",
        dimension="campaign",
        key="crm:spring",
        value=Decimal("0.4166666666666666666666666667"),
    ),
)

PACK: Final = (
    _rate("open", "opens", "60", "0.3"),
    _rate("click", "clicks", "10", "0.05"),
    _rate("unsubscribe", "unsubscribes", "2", "0.01"),
    _rate("bounce", "bounces", "5", "0.025"),
    _credited(_REVENUE, OwnSettings()),
)
"""All KPIs of e-mails."""
