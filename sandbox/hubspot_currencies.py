"""The account's currencies and their exchange rates ("Multicurrency" guide)."""

from __future__ import annotations

from starlette.responses import Response

from sandbox.hubspot_derived import RATES_SINCE, Rate
from sandbox.hubspot_errors import JsonObject, bad_request, not_found
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_properties import instant_text

LARGEST_PAGE = 100


def list_rates(call: Call) -> Response:
    """``GET exchange-rates``: all of them, past ones too, in pages."""
    limit = call.whole("limit", default=LARGEST_PAGE, most=LARGEST_PAGE)
    query = call.request.query_params
    wanted = query.get("fromCurrencyCode", ""), query.get("toCurrencyCode", "")
    home = call.portal.settings.company_currency
    found = [
        one
        for one in call.portal.rates()
        if wanted[0] in ("", one.currency) and wanted[1] in ("", home)
    ]
    after = query.get("after", "0")
    if not after.isdecimal():
        raise bad_request(f"after is no cursor: {after}")
    end = int(after) + limit
    answered: JsonObject = {"results": [_json(one, home) for one in found[int(after) : end]]}
    if end < len(found):
        answered["paging"] = {"next": {"after": str(end)}}
    return answer(answered)


def current_rates(call: Call) -> Response:
    """``GET exchange-rates/current``: the one in force for each currency."""
    now = call.portal.now()
    latest = {one.currency: one for one in call.portal.rates() if one.effective <= now}
    home = call.portal.settings.company_currency
    return answer({"results": [_json(one, home) for one in latest.values()]})


def one_rate(call: Call) -> Response:
    """``GET exchange-rates/{id}``."""
    for one in call.portal.rates():
        if one.id == call.path("id"):
            return answer(_json(one, call.portal.settings.company_currency))
    raise not_found(f"Exchange rate {call.path('id')} does not exist")


def company_currency(call: Call) -> Response:
    """``GET company-currency``."""
    return answer(
        {"id": call.portal.settings.company_currency, "createdAt": instant_text(RATES_SINCE)}
    )


def _json(one: Rate, home: str) -> JsonObject:
    stamp = instant_text(one.effective)
    return {
        "id": one.id,
        "fromCurrencyCode": one.currency,
        "toCurrencyCode": home,
        "conversionRate": float(one.rate),
        "effectiveAt": stamp,
        "createdAt": stamp,
        "updatedAt": stamp,
        "visibleInUI": True,
    }
