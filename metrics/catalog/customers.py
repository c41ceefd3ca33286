"""The customer KPIs: a purchase is a won deal, a customer is an account with a purchase."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Final

from metrics.catalog.examples import won
from metrics.catalog.sales import CLOSE_DAY, NO_AMOUNT_CAVEAT, RESTATED_CAVEAT, unpriced
from metrics.definition import (
    Direction,
    Kpi,
    OwnSettings,
    Part,
    Product,
    Ratio,
    Span,
    Term,
    Total,
    Unit,
    WorkedExample,
)
from metrics.dimensions import Grouping

_PURCHASES = (
    won(1, account="A", amount=100),
    won(2, account="A", amount=50, closed=date(2024, 2, 5)),
    won(3, account="A", amount=20, closed=date(2024, 2, 20)),
    won(4, account="B", amount=30, closed=date(2024, 2, 10)),
    won(5, amount=5, closed=date(2024, 2, 11)),
)
_PURCHASES_TEXT = (
    "Account A buys for 100 in January and for 50 and 20 in February, B for 30 in February; a "
    "February deal over 5 has no account"
)
NO_ACCOUNT_CAVEAT: Final = (
    "Purchases without an account belong to no customer; left_out says how many (no_account)."
)


def _february(result: str, value: int | str) -> WorkedExample:
    return WorkedExample(
        text=f"{_PURCHASES_TEXT}. In February: {result}.",
        records=_PURCHASES,
        period="2024-02",
        value=Decimal(value),
    )


REVENUE: Final = Kpi(
    name="revenue",
    label="Revenue",
    definition="Sum of the amounts of all purchases of the period, in the company's currency.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won_amount"),),
    used=(Term("won", Part.PRICED),),
    left_out=unpriced("won"),
    counting_day=CLOSE_DAY,
    caveats=(
        "Booked with the deal, not recognised over time: not the revenue of the accounts.",
        NO_AMOUNT_CAVEAT,
        RESTATED_CAVEAT,
    ),
    example=_february("50 + 20 + 30 + 5 = 105", 105),
)

PURCHASES: Final = Kpi(
    name="purchases",
    label="Purchases",
    definition="Won deals of the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(Term("won"),),
    used=(Term("won"),),
    counting_day=CLOSE_DAY,
    caveats=(RESTATED_CAVEAT,),
    example=_february("4", 4),
)

BUYERS: Final = Kpi(
    name="buyers",
    label="Buyers",
    definition="Distinct accounts with a purchase in the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="buyers",
    numerator=(Term("buyers"),),
    used=(Term("buyers"),),
    left_out={"no_account": (Term("anonymous"),)},
    counting_day=CLOSE_DAY,
    caveats=(
        (
            "Not additive: an account that buys in two months is one buyer of the quarter, and "
            "one that buys from two owners is a buyer of both."
        ),
        NO_ACCOUNT_CAVEAT,
    ),
    example=_february("A and B, 2; one purchase is left out", 2),
)

NEW_CUSTOMERS: Final = Kpi(
    name="new_customers",
    label="New customers",
    definition="Accounts whose first purchase ever falls in the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="first_purchases",
    numerator=(Term("customers"),),
    used=(Term("customers"),),
    left_out={"no_account": (Term("anonymous"),)},
    counting_day="the close day of the account's first purchase (same day: the lower id)",
    caveats=(
        "Groups are those of the first purchase: its owner, product, source.",
        NO_ACCOUNT_CAVEAT,
    ),
    example=_february("only B is new, A bought before: 1", 1),
)

BY_MARKET: Final[tuple[Grouping, ...]] = (("segment",), ("region",))
"""What customers are told apart by, unless the settings say otherwise."""
_BY_SELLER: Final[tuple[Grouping, ...]] = (("owner",), ("product",))

_UPSELLS = (
    won(1, account="A", amount=100),
    won(2, account="A", amount=50, closed=date(2024, 2, 5), kind="upsell"),
    won(3, account="B", amount=30, closed=date(2024, 2, 10)),
    won(4, account="C", amount=30),
)
_UPSELLS_TEXT = "A, B and C buy; in February A buys more (an upsell) and B for the first time"


def _upsell(result: str, value: str) -> WorkedExample:
    return WorkedExample(
        text=f"{_UPSELLS_TEXT}: {result}.",
        records=_UPSELLS,
        period="2024-02",
        value=Decimal(value),
    )


UPSELL_CUSTOMERS: Final = Kpi(
    name="upsell_customers",
    label="Upsell customers",
    definition="Distinct accounts with a won deal of the kind upsell in the period.",
    unit=Unit.COUNT,
    direction=Direction.UP,
    family="upsellers",
    numerator=(Term("buyers"),),
    used=(Term("buyers"),),
    left_out={"no_account": (Term("anonymous"),)},
    groupings=_BY_SELLER,
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=(
        "Which deals are upsells is configured by the mapping of `kind`.",
        NO_ACCOUNT_CAVEAT,
    ),
    example=_upsell("1", "1"),
)

_EVER: Final = (
    Term("customers", family="lifespans", span=Span.UPTO),
    # They bought by the end of all times, but by that of no other period that anybody knows of.
    Term("customers", family="undated_buyers", span=Span.UPTO),
)


def _of_customers(kpi: Kpi, own: OwnSettings) -> Kpi:
    if own.of != "customers":
        return kpi
    return replace(kpi, denominator=_EVER, used=_EVER, left_out={})


UPSELL_RATE: Final = Kpi(
    name="upsell_rate",
    label="Upsell rate",
    definition=(
        "Accounts with a won upsell in the period divided by the accounts with any won deal in it "
        "(`of: customers`: by all accounts that ever bought by the period's end)."
    ),
    unit=Unit.RATIO,
    is_share=True,
    direction=Direction.UP,
    family="upsellers",
    numerator=(Term("buyers"),),
    denominator=(Term("buyers", family="buyers"),),
    used=(Term("buyers", family="buyers"),),
    left_out={"no_account": (Term("anonymous", family="buyers"),)},
    settings=("of",),
    resolve=_of_customers,
    groupings=_BY_SELLER,
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=(NO_ACCOUNT_CAVEAT,),
    example=_upsell("1 of 2 buyers, 0.5", "0.5"),
)

# ---------------------------------------------------------------- what a purchase is worth

_REVENUE: Final = Term("won_amount", family="deals_closed")
_PRICED: Final = Term("won", Part.PRICED, family="deals_closed")
_BY_ACCOUNT: Final = Term("won_by_account", family="deals_closed")
_BUYERS: Final = Term("buyers", family="buyers")
_UNPRICED: Final = {
    "no_amount": (Term("won", Part.NO_AMOUNT, family="deals_closed"),),
    "no_rate": (Term("won", Part.NO_RATE, family="deals_closed"),),
}
_NO_ACCOUNT: Final = {"no_account": (Term("anonymous", family="buyers"),)}

_PURCHASE_VALUE: Final = Ratio(Total((_REVENUE,)), Total((_PRICED,)))
_FREQUENCY: Final = Ratio(Total((_BY_ACCOUNT,)), Total((_BUYERS,)))
CUSTOMER_VALUE_OF: Final = Product((_PURCHASE_VALUE, _FREQUENCY))


def _purchase_value(name: str, label: str) -> Kpi:
    return Kpi(
        name=name,
        label=label,
        definition="Revenue of the period divided by its purchases that have an amount.",
        unit=Unit.MONEY,
        direction=Direction.UP,
        family="deals_closed",
        numerator=(Term("won_amount"),),
        denominator=(Term("won", Part.PRICED),),
        used=(Term("won", Part.PRICED),),
        left_out=unpriced("won"),
        groupings=BY_MARKET,
        by_account=False,
        counting_day=CLOSE_DAY,
        caveats=(NO_AMOUNT_CAVEAT,),
        example=_february("105 / 4 = 26.25", "26.25"),
    )


AVG_PURCHASE_VALUE: Final = _purchase_value("avg_purchase_value", "Average purchase value")
AVG_ORDER_VALUE: Final = _purchase_value("avg_order_value", "Average order value")

PURCHASE_FREQUENCY: Final = Kpi(
    name="purchase_frequency",
    label="Purchase frequency",
    definition="Purchases with an account divided by the accounts that bought, in the period.",
    unit=Unit.RATIO,
    direction=Direction.UP,
    family="deals_closed",
    numerator=(_BY_ACCOUNT,),
    denominator=(_BUYERS,),
    used=(_BY_ACCOUNT,),
    left_out=_NO_ACCOUNT,
    groupings=BY_MARKET,
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=(NO_ACCOUNT_CAVEAT,),
    example=_february("3 purchases by 2 accounts, 1.5", "1.5"),
)

CUSTOMER_VALUE: Final = Kpi(
    name="customer_value",
    label="Customer value",
    definition="Average purchase value x purchase frequency, without rounding between.",
    unit=Unit.MONEY,
    direction=Direction.UP,
    family="deals_closed",
    composed=CUSTOMER_VALUE_OF,
    used=(_BY_ACCOUNT,),
    left_out={**_UNPRICED, **_NO_ACCOUNT},
    groupings=BY_MARKET,
    by_account=False,
    counting_day=CLOSE_DAY,
    caveats=(NO_AMOUNT_CAVEAT, NO_ACCOUNT_CAVEAT),
    example=_february("26.25 x 1.5 = 39.375", "39.375"),
)

PACK: Final = (
    REVENUE,
    PURCHASES,
    BUYERS,
    NEW_CUSTOMERS,
    UPSELL_CUSTOMERS,
    UPSELL_RATE,
    AVG_PURCHASE_VALUE,
    AVG_ORDER_VALUE,
    PURCHASE_FREQUENCY,
    CUSTOMER_VALUE,
)
"""The KPIs of purchases; those of lifetimes are in `metrics.catalog.lifetimes`."""
