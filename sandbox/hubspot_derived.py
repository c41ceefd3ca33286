"""What HubSpot itself writes into a record: stage times, close dates, calculated values.

The pages of default properties say what each is; stage times hold the *latest* visit only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException

from sandbox.hubspot_pipelines import Stage, stage_property
from sandbox.hubspot_properties import as_text, instant_text, parsed_instant
from sandbox.hubspot_standard import LIFECYCLE_STAGES
from sandbox.org import Fields, Record, Value

RATES_SINCE = datetime(2020, 1, 1, tzinfo=UTC)
"""When the rates that are set without a date begin."""
MILLISECOND = timedelta(milliseconds=1)
LIFECYCLE_TYPES = ("contacts", "companies")
CLOSING: Mapping[str, str] = {"deals": "closedate", "tickets": "closed_date"}
"""Where the close date stands."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a unit of a currency is worth in the company's, from an instant on."""

    id: str
    currency: str
    rate: Decimal
    effective: datetime


@dataclass(frozen=True, slots=True)
class Money:
    """The account's currency, and what units of others are worth in it, the oldest rate first."""

    home: str
    rates: Sequence[Rate]

    def rate(self, currency: Value, at: datetime) -> Decimal | None:
        """Company currency per unit at an instant; None where the account has no rate."""
        if currency in (None, self.home):
            return Decimal(1)
        own = [one for one in self.rates if one.currency == currency]
        past = [one.rate for one in own if one.effective <= at]
        return past[-1] if past else next((one.rate for one in own), None)


def visit_times(record: Record, before: Fields, name: str, at: datetime) -> dict[str, Value]:
    """When a record entered and left the stages that property `name` held, and for how long.

    `hs_v2_date_entered_…`, `…_date_exited_…` and `…_latest_time_in_…` are of the latest visit,
    `…_cumulative_time_in_…` adds them up; times are milliseconds.
    """
    old, new = before.get(name), record[name]
    if old == new:
        return {}
    times: dict[str, Value] = {}
    if old is not None:
        times |= _left(record, str(old), at)
    if new is not None:
        times[stage_property("date_entered", str(new))] = instant_text(at)
        times[stage_property("date_exited", str(new))] = None
        if name == "lifecyclestage" and new in LIFECYCLE_STAGES:
            times[f"hs_lifecyclestage_{new}_date"] = instant_text(at)
    return times


def closing_time(
    record: Record,
    before: Fields,
    name: str,
    at: datetime,
    *,
    stages: tuple[Stage | None, Stage | None],
) -> dict[str, Value]:
    """The close date that moving to (or from) a closed stage sets, unless the write did.

    Args:
        record: The record as it is now.
        before: Its fields before the write.
        name: The property that holds the close date.
        at: When it was written.
        stages: The stage it is in now, and the one it was in.
    """
    stage, earlier = stages
    if stage is None or record[name] != before.get(name):
        return {}
    was_closed = earlier is not None and earlier.is_closed
    if stage.is_closed and not was_closed:
        return {name: instant_text(at)}
    if was_closed and not stage.is_closed and record.object_name == "tickets":
        # Re-opening clears a ticket's close date; the history of its stage tells of it.
        return {name: None}
    return {}


def calculated_of_deal(
    record: Record, stage: Stage | None, money: Money, now: datetime
) -> dict[str, Value]:
    """What HubSpot calculates of a deal; a closed one at the rate of its close date."""
    closed = stage is not None and stage.is_closed
    won = closed and stage is not None and stage.probability == 1
    close = parsed_instant(str(record["closedate"])) if closed else None
    rate = money.rate(record["deal_currency_code"], close or now)
    return {
        "hs_is_closed": as_text(closed),
        "hs_is_closed_won": as_text(won),
        "hs_is_closed_lost": as_text(closed and not won),
        "hs_deal_stage_probability": f"{stage.probability:g}" if stage else None,
        "hs_exchange_rate": f"{rate:f}" if rate is not None else None,
        "amount_in_home_currency": _product(record["amount"], rate),
        "days_to_close": _days_to_close(record) if closed else None,
    }


def calculated_of_ticket(record: Record) -> dict[str, Value]:
    """How long a ticket took to be closed and to be answered, in milliseconds."""
    return {
        "time_to_close": _milliseconds_until(record, "closed_date"),
        "time_to_first_agent_reply": _milliseconds_until(record, "first_agent_reply_date"),
    }


def calculated_of_line_item(record: Record) -> dict[str, Value]:
    """The net price: quantity times price, less the discounts."""
    try:
        quantity = Decimal(str(record["quantity"]))
        price = Decimal(str(record["price"])) - Decimal(str(record["discount"] or 0))
        share = Decimal(str(record["hs_discount_percentage"] or 0)) / 100
        net = (quantity * price * (1 - share)).normalize()
    except DecimalException:
        return {"amount": None}
    return {"amount": f"{net:f}"}


def _left(record: Record, stage: str, at: datetime) -> dict[str, Value]:
    left: dict[str, Value] = {stage_property("date_exited", stage): instant_text(at)}
    entered = parsed_instant(str(record[stage_property("date_entered", stage)]))
    if entered is not None:
        latest = max((at - entered) // MILLISECOND, 0)
        total = stage_property("cumulative_time_in", stage)
        left[stage_property("latest_time_in", stage)] = str(latest)
        left[total] = str(int(str(record[total] or 0)) + latest)
    return left


def _product(amount: Value, rate: Decimal | None) -> str | None:
    if amount is None or rate is None:
        return None
    try:
        return str(amount) if rate == 1 else f"{Decimal(str(amount)) * rate:f}"
    except DecimalException:
        return None


def _days_to_close(record: Record) -> str | None:
    closed = parsed_instant(str(record["closedate"]))
    created = parsed_instant(str(record["createdate"])) or record.created_at
    return None if closed is None else str(max((closed - created) // timedelta(days=1), 0))


def _milliseconds_until(record: Record, name: str) -> str | None:
    until = parsed_instant(str(record[name]))
    created = parsed_instant(str(record["createdate"])) or record.created_at
    return None if until is None else str((until - created) // MILLISECOND)
