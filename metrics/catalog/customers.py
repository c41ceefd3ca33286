"""The customer KPIs: a purchase is a won deal, a customer is an account with a purchase."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final

from metrics.catalog.examples import won
from metrics.catalog.sales import CLOSE_DAY, NO_AMOUNT_CAVEAT, RESTATED_CAVEAT, unpriced
from metrics.definition import Direction, Kpi, Part, Term, Unit, WorkedExample

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


def _february(result: str, value: int) -> WorkedExample:
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

PACK: Final = (REVENUE, PURCHASES, BUYERS, NEW_CUSTOMERS)
