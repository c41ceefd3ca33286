"""Exchange rates that the portal itself converts by.

https://developers.hubspot.com/docs/api-reference/latest/account/settings/multicurrency/guide
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final

from connectors.base import Page
from connectors.hubspot.client import HubSpotClient, Json
from connectors.hubspot.derived import instant
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.paths import EXCHANGE_RATES
from connectors.hubspot.pull import whole
from connectors.hubspot.walk import Circle
from store.canonical import Company, Rate, RecordRef

PAGE: Final = 100


def pull_rates(client: HubSpotClient, company: Company, minimum: Minimum) -> Iterator[Page]:
    """Every rate to the company's currency, present and past."""
    circle = Circle(client.connection, "exchange rates")
    records: list[Rate] = []
    others: set[str] = set()
    began: datetime | None = None
    after: str | None = None
    while True:
        query = [("limit", str(PAGE)), *([("after", after)] if after else [])]
        answer = client.resource(EXCHANGE_RATES, query, is_sound=circle.is_new)
        minimum.add_whole()
        began = began or answer.at
        for row in answer.results:
            if row.get("toCurrencyCode") == company.currency:
                records += _rate(client.connection, row, company)
            else:
                others.add(str(row.get("toCurrencyCode")))
        after = answer.after
        circle.enter(after)
        if after is None:
            break
    yield Page(
        records=records,
        resume_at=whole(began),
        complete_until=began,
        warnings=[_of_no_use(others, company)] if others else [],
    )


def _of_no_use(currencies: set[str], company: Company) -> str:
    return (
        f"HubSpot's rates to {', '.join(sorted(currencies))} are of no use: the company's currency"
        f" is {company.currency}."
    )


def _rate(connection: str, row: Json, company: Company) -> Iterator[Rate]:
    at = instant(row.get("effectiveAt") or row.get("createdAt"))
    rate = row.get("conversionRate")
    if at is None or rate is None:
        return
    yield Rate(
        ref=RecordRef(connection, Rate.STREAM, str(row["id"])),
        created_at=instant(row.get("createdAt")),
        modified_at=instant(row.get("updatedAt")),
        currency=str(row["fromCurrencyCode"]),
        date=at.astimezone(company.timezone).date(),
        rate=Decimal(str(rate)),
    )
