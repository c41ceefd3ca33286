"""The marketing KPIs: leads, what campaigns cost, and what they brought."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from metrics.catalog.examples import campaign, contact, cost, lead, touch, won
from metrics.catalog.lifetimes import COST_DAY
from metrics.catalog.sales import CLOSE_DAY, NO_AMOUNT_CAVEAT
from metrics.definition import Direction, Kpi, Part, Span, Term, Unit, WorkedExample
from metrics.dimensions import NO_CAMPAIGN, Grouping

_BY_LEAD: Final[tuple[Grouping, ...]] = (("source",), ("owner",))
_BY_CAMPAIGN: Final[tuple[Grouping, ...]] = (("campaign",), ("channel",))
CREATION_DAY: Final = "the local day on which the lead was created"

_LEADS = (
    lead(1, converted=date(2024, 2, 1), deal=1),
    lead(2, converted=date(2024, 2, 1), account="B"),
    lead(3, converted=date(2024, 2, 1), account="C"),
    lead(4),
    won(1, amount=100, closed=date(2024, 3, 1)),
    won(2, account="B", amount=100, closed=date(2024, 3, 1)),
)
_LEADS_TEXT = (
    "Of four leads of January three were converted in February: one into a deal that was won, one "
    "into an account that bought in March, one into an account that did not"
)


def _january(result: str, value: str) -> WorkedExample:
    return WorkedExample(
        text=f"{_LEADS_TEXT}: {result}.", records=_LEADS, period="2024-01", value=Decimal(value)
    )


LEADS_CREATED: Final = Kpi(
    name="leads_created",
    label="Leads created",
    definition="Leads created in the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="leads_created",
    numerator=(Term("created"),),
    used=(Term("created"),),
    groupings=_BY_LEAD,
    by_account=False,
    counting_day=CREATION_DAY,
    caveats=("Merged and deleted leads are none: the count of an old period can fall.",),
    example=_january("4", "4"),
)

LEAD_CONVERSION_RATE: Final = Kpi(
    name="lead_conversion_rate",
    label="Lead conversion rate",
    definition=(
        "Of the leads created in the period, the share that was converted in the CRM, whenever "
        "that happened."
    ),
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.UP,
    family="leads_created",
    numerator=(Term("converted"),),
    denominator=(Term("created"),),
    used=(Term("created"),),
    groupings=_BY_LEAD,
    by_account=False,
    counting_day=CREATION_DAY,
    caveats=("Young periods look worse than they will be.",),
    example=_january("3 / 4 = 0.75", "0.75"),
)

LEAD_TO_CUSTOMER_RATE: Final = Kpi(
    name="lead_to_customer_rate",
    label="Lead to customer rate",
    definition=(
        "Of the leads created in the period, the share whose converted deal is won or, without a "
        "converted deal, whose account has a purchase on or after the lead's day."
    ),
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.UP,
    family="leads_created",
    numerator=(Term("customers"),),
    denominator=(Term("created"),),
    used=(Term("created"),),
    groupings=_BY_LEAD,
    by_account=False,
    counting_day=CREATION_DAY,
    caveats=("Young periods look worse than they will be.",),
    example=_january("2 / 4 = 0.5", "0.5"),
)

_QUALIFIED: Final = Term("qualified")

LEAD_VELOCITY_RATE: Final = Kpi(
    name="lead_velocity_rate",
    label="Lead velocity rate",
    definition=(
        "Leads qualified in the period less those of the period before, divided by those of the "
        "period before."
    ),
    unit=Unit.RATIO,
    direction=Direction.UP,
    family="leads_qualified",
    numerator=(_QUALIFIED, -_QUALIFIED.over(Span.PREVIOUS)),
    denominator=(_QUALIFIED.over(Span.PREVIOUS),),
    used=(_QUALIFIED, _QUALIFIED.over(Span.PREVIOUS)),
    has_all=False,
    groupings=_BY_LEAD,
    by_account=False,
    counting_day="the local day on which the lead was qualified",
    caveats=("The running period is compared with a whole one.",),
    example=WorkedExample(
        text="Two leads are qualified in January, three in February: (3 - 2) / 2 = 0.5.",
        records=(
            lead(1, qualified=date(2024, 1, 9)),
            lead(2, qualified=date(2024, 1, 9)),
            lead(3, qualified=date(2024, 2, 9)),
            lead(4, qualified=date(2024, 2, 9)),
            lead(5, qualified=date(2024, 2, 9)),
        ),
        period="2024-02",
        value=Decimal("0.5"),
        at=datetime(2024, 3, 1, 12, tzinfo=UTC),
    ),
)

_PRIMARY = (
    campaign("fair", cost=50),
    campaign("mail"),
    cost(1, 20, campaign="mail"),
    contact("P", account="A"),
    touch("P", "mail", date(2024, 1, 2)),
    touch("P", "fair", date(2024, 1, 8)),
    won(1, account="A", amount=100, campaign="fair"),
    won(2, account="B", amount=40),
)
_PRIMARY_TEXT = (
    "The mail (20 spent) reaches A on 2 January, the fair (cost 50) on 8 January; on the 10th A "
    "buys for 100 with the fair named on the deal, and B for 40 without any touch"
)

CAMPAIGN_COST: Final = Kpi(
    name="campaign_cost",
    label="Campaign cost",
    definition="Dated costs of campaigns; of a campaign without any, its cost field.",
    unit=Unit.MONEY,
    direction=Direction.DOWN,
    family="costs",
    numerator=(Term("amount"),),
    used=(Term("campaign_costs", Part.PRICED),),
    left_out={"no_rate": (Term("campaign_costs", Part.NO_RATE),)},
    groupings=_BY_CAMPAIGN,
    by_account=False,
    has_total=False,
    counting_day=COST_DAY,
    caveats=(
        "Dated costs replace the field.",
        "A cost field without a start date counts in `all` alone.",
    ),
    example=WorkedExample(
        text=f"{_PRIMARY_TEXT}: the fair cost 50.",
        records=_PRIMARY,
        period="2024-01",
        dimension="campaign",
        key="crm:fair",
        value=Decimal(50),
    ),
)

MODEL_WORDS: Final = {
    "first": "the first touch before the close",
    "last": "the last touch before the close",
    "linear": "all touches before the close, in equal shares",
    "primary": "the campaign that stands on the deal",
}
_TOUCHES_CAVEAT: Final = (
    "Touches are campaign memberships of the account's contacts, or of leads converted into it, up "
    "to the close; where a deal has contact roles, only those of these people. A lead that was "
    "merged touches by the memberships that its CRM hands on to the winner, as Salesforce does."
)
_NONE_CAVEAT: Final = (
    f"Deals without a touch have the campaign {NO_CAMPAIGN}: all campaigns together make the "
    "revenue."
)
# What the fair is credited with of A's 100 and of A's being won: by model.
_FAIR: Final = {"first": "0", "last": "1", "linear": "0.5", "primary": "1"}


def _attributed(model: str) -> tuple[Kpi, ...]:
    family = f"credit_{model}"
    revenue, deals = Term("amount", Part.SHARED), Term("deals", Part.SHARED)
    first_purchases = Term("first_purchases", Part.SHARED)
    cost_amount = Term("amount", family="costs")
    used = (Term("deals", Part.PRICED),)
    left_out = {
        "no_amount": (Term("deals", Part.NO_AMOUNT),),
        "no_rate": (Term("deals", Part.NO_RATE),),
    }
    caveats = (_NONE_CAVEAT,) if model == "primary" else (_TOUCHES_CAVEAT, _NONE_CAVEAT)
    words = MODEL_WORDS[model]
    share = Decimal(_FAIR[model])

    def example(text: str, value: Decimal | None, key: str = "crm:fair") -> WorkedExample:
        return WorkedExample(
            text=f"{_PRIMARY_TEXT}: {text}.",
            records=_PRIMARY,
            period="2024-01",
            dimension="campaign",
            key=key,
            value=value,
        )

    seen = "mail" if model == "first" else "fair"
    credited = Decimal(1) if model == "first" else share
    spent = Decimal(20) if seen == "mail" else Decimal(50)
    roi = (100 * credited - spent) / spent
    return (
        Kpi(
            name=f"campaign_revenue_{model}",
            label=f"Campaign revenue ({model})",
            definition=f"Won amounts, credited to {words}.",
            unit=Unit.MONEY,
            direction=Direction.UP,
            family=family,
            numerator=(revenue,),
            used=used,
            left_out=left_out,
            groupings=_BY_CAMPAIGN,
            by_account=False,
            settings=("models",),
            model=model,
            base="campaign_revenue",
            counting_day=CLOSE_DAY,
            caveats=(*caveats, NO_AMOUNT_CAVEAT),
            example=example(
                f"{100 * credited:f} of revenue to the {seen}", 100 * credited, f"crm:{seen}"
            ),
        ),
        Kpi(
            name=f"campaign_deals_{model}",
            label=f"Campaign deals ({model})",
            definition=f"Won deals, credited to {words}.",
            unit=Unit.COUNT,
            direction=Direction.UP,
            family=family,
            numerator=(deals,),
            used=(Term("deals"),),
            groupings=_BY_CAMPAIGN,
            by_account=False,
            settings=("models",),
            model=model,
            base="campaign_deals",
            counting_day=CLOSE_DAY,
            caveats=caveats,
            example=example(f"{credited:f} deals to the {seen}", credited, f"crm:{seen}"),
        ),
        Kpi(
            name=f"campaign_roi_{model}",
            label=f"Campaign return ({model})",
            definition=f"(Revenue credited to {words} - campaign cost) / campaign cost.",
            unit=Unit.RATIO,
            direction=Direction.UP,
            family=family,
            numerator=(revenue, -cost_amount),
            denominator=(cost_amount,),
            used=(Term("deals", Part.PRICED), Term("costs", Part.PRICED, family="costs")),
            left_out={
                **left_out,
                "cost_no_rate": (Term("costs", Part.NO_RATE, family="costs"),),
            },
            groupings=_BY_CAMPAIGN,
            by_account=False,
            has_total=False,
            settings=("models",),
            model=model,
            base="campaign_roi",
            counting_day=f"{CLOSE_DAY}; costs: {COST_DAY}",
            caveats=("No value without costs.", *caveats),
            example=example(
                f"({100 * credited:f} - {spent}) / {spent} = {roi:f} for the {seen}",
                roi,
                f"crm:{seen}",
            ),
        ),
        Kpi(
            name=f"campaign_cac_{model}",
            label=f"Campaign acquisition cost ({model})",
            definition=(
                f"Campaign cost divided by the first purchases of accounts, credited to {words}."
            ),
            unit=Unit.MONEY,
            direction=Direction.DOWN,
            family=family,
            numerator=(cost_amount,),
            denominator=(first_purchases,),
            used=(Term("first_purchases"), Term("costs", Part.PRICED, family="costs")),
            left_out={"cost_no_rate": (Term("costs", Part.NO_RATE, family="costs"),)},
            groupings=_BY_CAMPAIGN,
            by_account=False,
            has_total=False,
            settings=("models",),
            model=model,
            base="campaign_cac",
            counting_day=f"{CLOSE_DAY} of the first purchase; costs: {COST_DAY}",
            caveats=caveats,
            example=example(
                f"{spent} / {credited:f} = {spent / credited:f} for the {seen}",
                spent / credited,
                f"crm:{seen}",
            ),
        ),
    )


PACK: Final = (
    LEADS_CREATED,
    LEAD_CONVERSION_RATE,
    LEAD_TO_CUSTOMER_RATE,
    LEAD_VELOCITY_RATE,
    CAMPAIGN_COST,
    *(kpi for model in MODEL_WORDS for kpi in _attributed(model)),
)
"""All marketing KPIs."""
