"""The customer KPIs of time: how long customers stay, what they are worth, what they cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from metrics.catalog import customers
from metrics.catalog.customers import BY_MARKET, CUSTOMER_VALUE_OF, NO_ACCOUNT_CAVEAT
from metrics.catalog.examples import contract, cost, won
from metrics.catalog.sales import CLOSE_DAY, NO_AMOUNT_CAVEAT
from metrics.definition import (
    AtLeast,
    Days,
    Direction,
    Fixed,
    Formula,
    Kpi,
    Months,
    OwnSettings,
    Part,
    Product,
    Ratio,
    Span,
    Sum,
    Term,
    Total,
    Unit,
    WorkedExample,
)
from metrics.dimensions import Grouping
from store.canonical import CanonicalRecord

FEWEST_LOSSES: Final = 10
"""Below it a churn rate says too little to estimate a lifespan from."""

_BY_SPENDING: Final[tuple[Grouping, ...]] = (("campaign",), ("channel",), ("source",))

# ---------------------------------------------------------------- coming and going

ACTIVE_CAVEAT: Final = (
    "Active on a day is who bought in the 90 days before it (`window`), that day not included."
)
RUNNING_CAVEAT: Final = "The running period ends today: its value moves with the clock."
_SPAN_DAYS: Final = "the period's first day and the day after its last"


def _events(family: str) -> dict[str, Sum]:
    start = (Term("change", family=family, span=Span.BEFORE),)
    return {
        "start": start,
        "end": (Term("change", family=family, span=Span.UPTO),),
        "gained": (Term("gained", family=family),),
        "lost": (Term("lost", family=family),),
        "seen": (*start, Term("gained", family=family)),
    }


_ACTIVE: Final = _events("activity")
_UNDER_CONTRACT: Final = _events("contract_activity")


def _bought(count: int, first: int, *days: date) -> tuple[CanonicalRecord, ...]:
    return tuple(
        won(1_000 * place + number, account=f"A{number}", amount=1, closed=day)
        for number in range(first, first + count)
        for place, day in enumerate(days)
    )


_YEAR_EXAMPLE: Final[tuple[CanonicalRecord, ...]] = (
    # 200 are active on 1 April; 190 of them buy again, 10 do not; 30 are new.
    *_bought(190, 0, date(2024, 2, 1), date(2024, 6, 1)),
    *_bought(10, 190, date(2024, 2, 1)),
    *_bought(30, 200, date(2024, 6, 1)),
)
_YEAR_TEXT: Final = (
    "200 customers are active on 1 April; 10 of them are not on 1 July, and 30 others are"
)
_AFTER_YEAR: Final = datetime(2024, 7, 2, 12, tzinfo=UTC)


def _count(  # noqa: PLR0917 - the columns of a table
    name: str, label: str, which: str, words: str, value: int, up: Direction
) -> Kpi:
    return Kpi(
        name=name,
        label=label,
        definition=words,
        unit=Unit.COUNT,
        direction=up,
        family="activity",
        numerator=_ACTIVE[which],
        used=_ACTIVE["seen"],
        has_all=False,
        groupings=BY_MARKET,
        by_account=False,
        settings=("window",),
        base="retention",
        counting_day=_SPAN_DAYS,
        caveats=(ACTIVE_CAVEAT, RUNNING_CAVEAT, NO_ACCOUNT_CAVEAT),
        example=_quarter(f"{value}", str(value)),
    )


def _quarter(result: str, value: str) -> WorkedExample:
    return WorkedExample(
        text=f"{_YEAR_TEXT}. Second quarter: {result}.",
        records=_YEAR_EXAMPLE,
        period="2024-Q2",
        value=Decimal(value),
        at=_AFTER_YEAR,
    )


CUSTOMERS_START: Final = _count(
    "customers_start",
    "Customers at the start",
    "start",
    "Accounts that are active on the period's first day.",
    200,
    Direction.UP,
)
CUSTOMERS_END: Final = _count(
    "customers_end",
    "Customers at the end",
    "end",
    "Accounts that are active on the day after the period's last.",
    220,
    Direction.UP,
)
CUSTOMERS_NEW_OR_BACK: Final = _count(
    "customers_new_or_back",
    "Customers new or back",
    "gained",
    "Accounts that are active at the period's end and were not at its start.",
    30,
    Direction.UP,
)
CUSTOMERS_LOST: Final = _count(
    "customers_lost",
    "Customers lost",
    "lost",
    "Accounts that were active at the period's start and are not at its end.",
    10,
    Direction.DOWN,
)


def _kept_of(events: dict[str, Sum]) -> Sum:
    return (*events["end"], *(-term for term in events["gained"]))


def _share(
    name: str, label: str, words: str, above: Sum, example: WorkedExample, *, is_contract: bool
) -> Kpi:
    events = _UNDER_CONTRACT if is_contract else _ACTIVE
    return Kpi(
        name=name,
        label=label,
        definition=words,
        unit=Unit.RATIO,
        is_share=True,
        direction=Direction.UP if "retention" in name else Direction.DOWN,
        family="contract_activity" if is_contract else "activity",
        numerator=above,
        denominator=events["start"],
        used=events["seen"],
        has_all=False,
        groupings=BY_MARKET,
        by_account=False,
        settings=() if is_contract else ("window",),
        base=None if is_contract else "retention",
        counting_day=_SPAN_DAYS,
        caveats=(
            ("Contracts without an account or a start count nowhere; one without an end runs on.",)
            if is_contract
            else (ACTIVE_CAVEAT, NO_ACCOUNT_CAVEAT)
        )
        + (RUNNING_CAVEAT,),
        example=example,
    )


RETENTION_RATE: Final = _share(
    "retention_rate",
    "Retention rate",
    "Of the accounts active on the period's first day, the share that is active at its end.",
    _kept_of(_ACTIVE),
    _quarter("(220 - 30) / 200 = 0.95", "0.95"),
    is_contract=False,
)
CHURN_RATE: Final = _share(
    "churn_rate",
    "Churn rate",
    "Of the accounts active on the period's first day, the share that is not at its end.",
    _ACTIVE["lost"],
    _quarter("10 / 200 = 0.05", "0.05"),
    is_contract=False,
)

_CONTRACTS = (
    contract(1, "A", date(2023, 1, 1), date(2025, 1, 1)),
    contract(2, "B", date(2023, 1, 1), date(2024, 5, 1)),
    contract(3, "C", date(2024, 5, 1), None),
)
_CONTRACTS_TEXT = "Contracts of A and B run on 1 April; B's ends on 1 May, when C's begins"


def _contract_quarter(result: str) -> WorkedExample:
    return WorkedExample(
        text=f"{_CONTRACTS_TEXT}. Second quarter: {result}.",
        records=_CONTRACTS,
        period="2024-Q2",
        value=Decimal("0.5"),
        at=_AFTER_YEAR,
    )


CONTRACT_RETENTION_RATE: Final = _share(
    "contract_retention_rate",
    "Contract retention rate",
    (
        "Of the accounts with a running contract on the period's first day, the share that has "
        "one on the day after its last (start <= day < end)."
    ),
    _kept_of(_UNDER_CONTRACT),
    _contract_quarter("1 / 2 = 0.5"),
    is_contract=True,
)
CONTRACT_CHURN_RATE: Final = _share(
    "contract_churn_rate",
    "Contract churn rate",
    (
        "Of the accounts with a running contract on the period's first day, the share that has "
        "none on the day after its last."
    ),
    _UNDER_CONTRACT["lost"],
    _contract_quarter("1 / 2 = 0.5"),
    is_contract=True,
)

# ---------------------------------------------------------------- lifetimes

_LIVED: Final = Term("days", family="lifespans", span=Span.UPTO)
_EVER: Final = Term("customers", family="lifespans", span=Span.UPTO)
_MEAN_LIFESPAN: Final = Ratio(Total((_LIVED,)), Total((_EVER,)))
_CHURN_LIFESPAN: Final = AtLeast(
    support=_ACTIVE["lost"],
    minimum=FEWEST_LOSSES,
    of=Product((Ratio(Total(_ACTIVE["start"]), Total(_ACTIVE["lost"])), Days())),
)


def _lifespan(own: OwnSettings) -> Formula:
    return _CHURN_LIFESPAN if own.lifespan == "churn" else _MEAN_LIFESPAN


def _cltv_of(own: OwnSettings) -> Formula:
    margin = Fixed(Fraction(1) if own.margin is None else Fraction(own.margin))
    return Product((CUSTOMER_VALUE_OF, Ratio(_lifespan(own), Days()), margin))


_LIFESPANS = (
    won(1, account="A", amount=100),
    won(2, account="A", amount=50, closed=date(2024, 1, 20)),
    won(3, account="B", amount=30, closed=date(2024, 1, 15)),
)


def _by_churn(kpi: Kpi, own: OwnSettings) -> Kpi:
    if own.lifespan != "churn":
        return kpi
    return replace(kpi, composed=_lifespan(own), used=_ACTIVE["seen"], has_all=False)


CUSTOMER_LIFESPAN_DAYS: Final = Kpi(
    name="customer_lifespan_days",
    label="Customer lifespan",
    definition=(
        "Mean number of days from the first to the last purchase, over all accounts that bought by "
        "the period's end (`lifespan: churn`: the period's length divided by its churn rate)."
    ),
    unit=Unit.DAYS,
    direction=Direction.UP,
    family="lifespans",
    composed=_MEAN_LIFESPAN,
    used=(_EVER,),
    groupings=BY_MARKET,
    by_account=False,
    settings=("lifespan", "window"),
    base="cltv",
    resolve=_by_churn,
    counting_day="the period's end",
    caveats=(
        "An account with one purchase has 0 days.",
        "Purchases of unknown days and those without an account count nowhere.",
        f"By churn there is no value under {FEWEST_LOSSES} losses.",
    ),
    example=WorkedExample(
        text="A buys on 10 and 20 January, B once: (10 + 0) / 2 = 5 days.",
        records=_LIFESPANS,
        period="2024-01",
        value=Decimal(5),
    ),
)

_VALUE_USED: Final = (Term("won_by_account", family="deals_closed"),)
_VALUE_LEFT_OUT: Final = {
    "no_amount": (Term("won", Part.NO_AMOUNT, family="deals_closed"),),
    "no_rate": (Term("won", Part.NO_RATE, family="deals_closed"),),
    "no_account": (Term("anonymous", family="buyers"),),
}


def _resolved_cltv(kpi: Kpi, own: OwnSettings) -> Kpi:
    return replace(kpi, composed=_cltv_of(own))


CLTV: Final = Kpi(
    name="cltv",
    label="Customer lifetime value",
    definition=(
        "Customer value x customer lifespan in periods of the period's own length (a year has "
        "365.25 days, a quarter a 4th, a month a 12th of it) x margin."
    ),
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_closed",
    composed=_cltv_of(OwnSettings()),
    used=_VALUE_USED,
    left_out=_VALUE_LEFT_OUT,
    has_all=False,
    groupings=BY_MARKET,
    by_account=False,
    settings=("lifespan", "margin", "window"),
    base="cltv",
    resolve=_resolved_cltv,
    counting_day=CLOSE_DAY,
    caveats=(
        "A projection: it takes for granted that customers go on as they did.",
        "Of a single account it is its own customer value times its own lifespan.",
        "Accounts with one purchase have a lifespan of 0 days and pull it down.",
        NO_AMOUNT_CAVEAT,
    ),
    example=WorkedExample(
        text=(
            "In January A buys twice, B once, for 180 in all: customer value 60 x 1.5 = 90; "
            "lifespan 5 days of 30.4375 in a month: 90 x 5 / 30.4375 = 14.78."
        ),
        records=_LIFESPANS,
        period="2024-01",
        value=Decimal("14.78439425051334702258726899"),
    ),
)

# ---------------------------------------------------------------- what customers cost

_COST: Final = Term("amount", family="costs")
_PRICED_COSTS: Final = Term("costs", Part.PRICED, family="costs")
_NO_RATE: Final = {"no_rate": (Term("costs", Part.NO_RATE, family="costs"),)}
_NEW: Final = Term("customers", family="first_purchases")
_CAC: Final = Ratio(Total((_COST,)), Total((_NEW,)))
COST_DAY: Final = "the day of the cost; of a campaign's cost field the campaign's first day"

_SPENT = (
    cost(1, 60_000),
    cost(2, 30_000),
    *_bought(30, 0, date(2024, 1, 15)),
)
_SPENT_TEXT = "90,000 are spent in January, when 30 accounts buy for the first time"

COST: Final = Kpi(
    name="cost",
    label="Acquisition cost",
    definition=(
        "Sum of all dated costs of the period: those of campaigns, of the costs stream and of "
        "cost files."
    ),
    unit=Unit.MONEY,
    direction=Direction.DOWN,
    family="costs",
    numerator=(Term("amount"),),
    used=(Term("costs", Part.PRICED),),
    left_out={"no_rate": (Term("costs", Part.NO_RATE),)},
    groupings=_BY_SPENDING,
    by_account=False,
    settings=("costs",),
    base="cltv",
    counting_day=COST_DAY,
    caveats=("Dated costs of a campaign replace its cost field.",),
    example=WorkedExample(
        text=f"{_SPENT_TEXT}: 90,000.",
        records=_SPENT,
        period="2024-01",
        value=Decimal(90_000),
    ),
)

CAC: Final = Kpi(
    name="cac",
    label="Customer acquisition cost",
    definition="All dated acquisition costs of the period divided by its new customers.",
    unit=Unit.MONEY,
    direction=Direction.DOWN,
    family="costs",
    composed=_CAC,
    used=(_PRICED_COSTS, _NEW),
    left_out=_NO_RATE,
    groupings=_BY_SPENDING,
    by_account=False,
    settings=("costs",),
    base="cltv",
    counting_day=f"{COST_DAY}; new customers: the close day of the first purchase",
    caveats=(
        "Costs without new customers have no value; new customers without costs cost 0.",
        "Money spent today may win customers months later.",
    ),
    example=WorkedExample(
        text=f"{_SPENT_TEXT}: 3,000 each.",
        records=_SPENT,
        period="2024-01",
        value=Decimal(3_000),
    ),
)


def _resolved_ratio(kpi: Kpi, own: OwnSettings) -> Kpi:
    return replace(kpi, composed=Ratio(_cltv_of(own), _CAC))


_LIFESPANS_AND_COST = (*_LIFESPANS, cost(1, 20))

LTV_CAC: Final = Kpi(
    name="ltv_cac",
    label="CLTV : CAC",
    definition="Customer lifetime value divided by customer acquisition cost.",
    unit=Unit.RATIO,
    direction=Direction.UP,
    family="deals_closed",
    composed=Ratio(_cltv_of(OwnSettings()), _CAC),
    used=_VALUE_USED,
    left_out={**_VALUE_LEFT_OUT, "cost_no_rate": _NO_RATE["no_rate"]},
    has_all=False,
    groupings=(),
    by_account=False,
    settings=("lifespan", "margin", "costs", "window"),
    base="cltv",
    resolve=_resolved_ratio,
    counting_day=CLOSE_DAY,
    caveats=("No value without costs: the ratio to nothing says nothing.",),
    example=WorkedExample(
        text="CLTV is 14.78, and 20 spent on two new customers make a CAC of 10: 1.478.",
        records=_LIFESPANS_AND_COST,
        period="2024-01",
        value=Decimal("1.478439425051334702258726899"),
    ),
)


def _payback_of(own: OwnSettings) -> Formula:
    margin = Fixed(Fraction(1) if own.margin is None else Fraction(own.margin))
    revenue = Total((Term("won_amount", family="deals_closed"),))
    buyers = Total((Term("buyers", family="buyers"),))
    monthly = Ratio(Ratio(revenue, buyers), Months())
    return Ratio(_CAC, Product((monthly, margin)))


PAYBACK_MONTHS: Final = Kpi(
    name="payback_months",
    label="Payback, in months",
    definition=(
        "Customer acquisition cost divided by (revenue per buyer and month x margin): the months "
        "after which a new customer has paid for itself."
    ),
    unit=Unit.COUNT,
    direction=Direction.DOWN,
    family="deals_closed",
    composed=_payback_of(OwnSettings()),
    used=_VALUE_USED,
    left_out={**_VALUE_LEFT_OUT, "cost_no_rate": _NO_RATE["no_rate"]},
    has_all=False,
    groupings=(),
    by_account=False,
    settings=("margin", "costs"),
    base="cltv",
    resolve=lambda kpi, own: replace(kpi, composed=_payback_of(own)),
    counting_day=CLOSE_DAY,
    caveats=("Revenue is booked with the deal, not recognised over time.",),
    example=WorkedExample(
        text="20 spent on 2 new customers, 180 revenue of 2 buyers in a month: 10 / 90 = 0.11.",
        records=_LIFESPANS_AND_COST,
        period="2024-01",
        value=Decimal("0.1111111111111111111111111111"),
    ),
)

PACK: Final = (
    *customers.PACK,
    CUSTOMER_LIFESPAN_DAYS,
    CLTV,
    COST,
    CAC,
    LTV_CAC,
    PAYBACK_MONTHS,
    CUSTOMERS_START,
    CUSTOMERS_END,
    CUSTOMERS_NEW_OR_BACK,
    CUSTOMERS_LOST,
    RETENTION_RATE,
    CHURN_RATE,
    CONTRACT_RETENTION_RATE,
    CONTRACT_CHURN_RATE,
)
"""All customer KPIs."""
