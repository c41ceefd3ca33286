"""Marketing campaigns and e-mail statistics ("Campaigns API" and "Marketing emails API" guides).

Campaigns are no CRM objects: they have ids of their own kind, no search, no modified filter,
and a property that was not asked for, or has no value, is not sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from starlette.responses import Response

from sandbox.hubspot_errors import HubSpotError, JsonObject, bad_request, not_found
from sandbox.hubspot_gate import Call, answer
from sandbox.hubspot_objects import batch_answer
from sandbox.hubspot_portal import Portal
from sandbox.hubspot_properties import as_text, instant_text, parsed_instant
from sandbox.org import Record

HUB = "marketing"
LARGEST_PAGE = 100
DEFAULT_PAGE = 50
LARGEST_BATCH = 50
FIRST_DAY = date(2006, 1, 1)
CONTACT_KINDS = ("contactFirstTouch", "contactLastTouch", "influencedContacts")
MODELS = (
    "LINEAR",
    "FIRST_INTERACTION",
    "LAST_INTERACTION",
    "FULL_PATH",
    "U_SHAPED",
    "W_SHAPED",
    "TIME_DECAY",
    "J_SHAPED",
    "INVERSE_J_SHAPED",
)
SORTS = ("hs_name", "createdAt", "updatedAt")
EMAIL_SORTS = ("name", "createdAt", "updatedAt", "createdBy", "updatedBy")
COUNTERS = (
    "sent",
    "open",
    "delivered",
    "bounce",
    "unsubscribed",
    "click",
    "reply",
    "dropped",
    "selected",
    "spamreport",
    "suppressed",
    "hardbounced",
    "softbounced",
    "pending",
    "contactslost",
    "notsent",
)
RATIOS: Mapping[str, tuple[str, str]] = {
    "clickratio": ("click", "delivered"),
    "clickthroughratio": ("click", "open"),
    "deliveredratio": ("delivered", "sent"),
    "openratio": ("open", "delivered"),
    "unsubscribedratio": ("unsubscribed", "delivered"),
    "spamreportratio": ("spamreport", "delivered"),
    "bounceratio": ("bounce", "sent"),
    "contactslostratio": ("contactslost", "delivered"),
}
INTERVALS: Mapping[str, Callable[[date], date]] = {
    "DAY": lambda day: day,
    "WEEK": lambda day: day - timedelta(days=day.weekday()),
    "MONTH": lambda day: day.replace(day=1),
    "QUARTER": lambda day: day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
    "YEAR": lambda day: day.replace(month=1, day=1),
}


def list_campaigns(call: Call) -> Response:
    """``GET campaigns``: pages of at most 100, by name or by age; `after` is opaque."""
    limit = call.whole("limit", default=DEFAULT_PAGE, most=LARGEST_PAGE)
    query = call.request.query_params
    name, sort = query.get("name", "").lower(), query.get("sort", "hs_name")
    if sort.lstrip("-") not in SORTS:
        raise bad_request(f"sort must be one of {', '.join(SORTS)}, got {sort}")
    found = [
        record
        for record in call.portal.all("campaigns")
        if name in str(record["hs_name"] or "").lower()
    ]
    found.sort(key=_sort_key(sort.lstrip("-")), reverse=sort.startswith("-"))
    start = _offset(query.get("after", ""))
    page = found[start : start + limit]
    answered: JsonObject = {
        "total": len(found),
        "results": [_campaign_json(call, record) for record in page],
    }
    if start + limit < len(found):
        after = f"c{start + limit}"
        link = str(call.request.url.include_query_params(after=after))
        answered["paging"] = {"next": {"after": after, "link": link}}
    return answer(answered)


def get_campaign(call: Call) -> Response:
    """``GET campaigns/{guid}``: with its assets."""
    record = _campaign(call)
    return answer({**_campaign_json(call, record), "assets": _all_assets(call, record)})


def batch_read(call: Call) -> Response:
    """``POST campaigns/batch/read``: up to 50, in any order; those that are none are left out."""
    portal = call.portal
    ids = dict.fromkeys(str(one.get("id")) for one in call.inputs(LARGEST_BATCH))
    records = [record for i in ids if (record := portal.find("campaigns", i)) is not None]
    results = [
        {**_campaign_json(call, record), "assets": _all_assets(call, record)}
        for record in records
        if not record.is_deleted
    ]
    portal.random.shuffle(results)
    return answer(batch_answer(portal, results, []))


def metrics(call: Call) -> Response:
    """``GET campaigns/{guid}/reports/metrics``: four counters between two days."""
    record, days = _campaign(call), _days(call)
    touches = Counter(str(it["kind"]) for it in _touches(call.portal, record, days))
    visits = [
        it
        for it in call.portal.all("campaign_visits")
        if it["campaign"] == record.id and _is_within(it["day"], days)
    ]
    return answer(
        {
            # HubSpot's word for web visits.
            "sessions": sum(int(str(it["visits"] or 0)) for it in visits),
            "newContactsFirstTouch": touches["contactFirstTouch"],
            "newContactsLastTouch": touches["contactLastTouch"],
            "influencedContacts": touches["influencedContacts"],
        }
    )


def contacts(call: Call) -> Response:
    """``GET campaigns/{guid}/reports/contacts/{kind}``: ids, paged, without dates."""
    kind = call.path("kind")
    if kind not in CONTACT_KINDS:
        raise bad_request(f"contactType must be one of {', '.join(CONTACT_KINDS)}, got {kind}")
    limit = call.whole("limit", default=LARGEST_PAGE, most=LARGEST_PAGE)
    record, days = _campaign(call), _days(call)
    found = {str(it["contact"]) for it in _touches(call.portal, record, days) if it["kind"] == kind}
    ids = sorted(found, key=int)
    start = _offset(call.request.query_params.get("after", ""))
    answered: JsonObject = {"results": [{"id": one} for one in ids[start : start + limit]]}
    if start + limit < len(ids):
        answered["paging"] = {"next": {"after": f"c{start + limit}"}}
    return answer(answered)


def revenue(call: Call) -> Response:
    """``GET campaigns/{guid}/reports/revenue``: won deals of the contacts it reached.

    The sandbox knows three ways of sharing a deal: first touch, last touch, and even parts for
    every other model.
    """
    model = call.request.query_params.get("attributionModel", "LINEAR")
    if model not in MODELS:
        raise bad_request(f"attributionModel must be one of {', '.join(MODELS)}, got {model}")
    record, days = _campaign(call), _days(call)
    people: set[str] = set()
    deals = 0
    whole, credited = Decimal(0), Decimal(0)
    for deal, touches in _won_deals(call.portal, days):
        share = _share(record.id, touches, model)
        if share:
            amount = Decimal(str(deal["amount_in_home_currency"] or 0))
            deals, whole, credited = deals + 1, whole + amount, credited + amount * share
            people |= {str(it["contact"]) for it in touches if it["campaign"] == record.id}
    return answer(
        {
            "contactsNumber": len(people),
            "dealsNumber": deals,
            "dealAmount": float(round(whole, 2)),
            "revenueAmount": float(round(credited, 2)),
            "currencyCode": call.portal.settings.company_currency,
        }
    )


def budget_totals(call: Call) -> Response:
    """``GET campaigns/{guid}/budget/totals``: items of budget and spend, and their sums."""
    record = _campaign(call)
    budget, spend = (_items(call.portal, record, name) for name in ("budget", "spend"))
    planned, spent = _sum(budget), _sum(spend)
    answered: JsonObject = {
        "currencyCode": record["hs_currency_code"] or call.portal.settings.company_currency,
        "budgetItems": [_item_json(it, order) for order, it in enumerate(budget)],
        "spendItems": [_item_json(it, order) for order, it in enumerate(spend)],
    }
    if budget:
        answered["budgetTotal"] = float(planned)
    if spend:
        answered["spendTotal"] = float(spent)
    if budget:
        answered["remainingBudget"] = float(planned - spent)
    return answer(answered)


def budget_item(call: Call) -> Response:
    """``GET campaigns/{guid}/budget/{item}``."""
    return answer(_one_item(call, "budget"))


def spend_item(call: Call) -> Response:
    """``GET campaigns/{guid}/spend/{item}``."""
    return answer(_one_item(call, "spend"))


def assets(call: Call) -> Response:
    """``GET campaigns/{guid}/assets/{kind}``: metrics only where both days are given."""
    record = _campaign(call)
    return answer({"results": _assets_of(call, record, call.path("kind"))})


def list_emails(call: Call) -> Response:
    """``GET emails``: the marketing e-mails with their names and campaigns.

    Archived ones are a list of their own, statistics come where they are asked for, and of a
    choice of properties the others are left out ("Get all marketing emails").
    """
    limit = call.whole("limit", default=LARGEST_PAGE, most=LARGEST_PAGE)
    sort = call.request.query_params.get("sort", "createdAt")
    if sort.lstrip("-") not in EMAIL_SORTS:
        raise bad_request(f"sort must be one of {', '.join(EMAIL_SORTS)}, got {sort}")
    is_archived = call.flag("archived")
    every = call.portal.all("marketing_emails", include_deleted=True)
    found = [it for it in every if it.is_deleted is is_archived]
    found.sort(key=_email_sort_key(sort.lstrip("-")), reverse=sort.startswith("-"))
    start = _offset(call.request.query_params.get("after", ""))
    answered: JsonObject = {
        "total": len(found),
        "results": [_listed_email(call, it) for it in found[start : start + limit]],
    }
    if start + limit < len(found):
        answered["paging"] = {"next": {"after": f"c{start + limit}"}}
    return answer(answered)


def get_email(call: Call) -> Response:
    """``GET emails/{id}``."""
    record = call.portal.find("marketing_emails", call.path("id"))
    if record is None or record.is_deleted:
        raise not_found(f"Email {call.path('id')} does not exist")
    return answer(_email_json(record))


def email_statistics(call: Call) -> Response:
    """``GET emails/statistics/list``: counters and ratios (per cent) of a span of time."""
    rows = list(_email_days(call))
    emails = sorted({int(str(row["email"])) for row in rows})
    return answer({"aggregate": _aggregate(rows), "campaignAggregations": {}, "emails": emails})


def email_histogram(call: Call) -> Response:
    """``GET emails/statistics/histogram``: the same by day, week, month, quarter or year."""
    interval = call.request.query_params.get("interval", "DAY")
    if interval not in INTERVALS:
        raise bad_request(f"interval must be one of {', '.join(INTERVALS)}, got {interval}")
    groups: dict[date, list[Record]] = {}
    for row in _email_days(call):
        groups.setdefault(INTERVALS[interval](_day_of(row["day"])), []).append(row)
    results = [
        {
            "interval": {
                "start": _midnight(call, day),
                "end": _midnight(call, _next(day, interval)),
            },
            "aggregations": _aggregate(groups[day]),
        }
        for day in sorted(groups)
    ]
    return answer({"total": len(results), "results": results})


def _campaign(call: Call) -> Record:
    record = call.portal.find("campaigns", call.path("guid"))
    if record is None or record.is_deleted:
        raise not_found(f"Campaign {call.path('guid')} does not exist")
    return record


def _campaign_json(call: Call, record: Record) -> JsonObject:
    sums = {
        f"hs_{name}_items_sum_amount": f"{_sum(items):f}"
        for name in ("budget", "spend")
        if (items := _items(call.portal, record, name))
    }
    values = {**record.fields, **sums}
    return {
        "id": record.id,
        "properties": {
            name: as_text(values[name]) for name in call.list_of("properties") if name in values
        },
        "createdAt": instant_text(record.created_at),
        "updatedAt": instant_text(record.state.modified_at),
        "businessUnits": [],
    }


def _sort_key(name: str) -> Callable[[Record], str]:
    if name == "createdAt":
        return lambda record: instant_text(record.created_at)
    if name == "updatedAt":
        return lambda record: instant_text(record.state.modified_at)
    return lambda record: str(record["hs_name"] or "").lower()


def _offset(after: str) -> int:
    """The cursor of a page."""
    number = after.removeprefix("c")
    if after and not number.isdecimal():
        raise bad_request(f"after is no cursor: {after}")
    return int(number or 0)


def _items(portal: Portal, campaign: Record, name: str) -> list[Record]:
    return [it for it in portal.all(f"campaign_{name}") if it["campaign"] == campaign.id]


def _sum(items: Sequence[Record]) -> Decimal:
    return sum((Decimal(str(it["amount"] or 0)) for it in items), Decimal(0))


def _item_json(item: Record, order: int) -> JsonObject:
    # Amounts are numbers here, and instants are milliseconds, unlike anywhere else.
    return {
        "id": item.id,
        "name": item["name"] or "",
        "amount": float(Decimal(str(item["amount"] or 0))),
        "order": order,
        "description": item["description"] or "",
        "createdAt": int(item.created_at.timestamp() * 1000),
        "updatedAt": int(item.state.modified_at.timestamp() * 1000),
    }


def _one_item(call: Call, name: str) -> JsonObject:
    for order, item in enumerate(_items(call.portal, _campaign(call), name)):
        if item.id == call.path("item"):
            return _item_json(item, order)
    raise not_found(f"{name} item {call.path('item')} does not exist")


def _all_assets(call: Call, campaign: Record) -> JsonObject:
    kinds = dict.fromkeys(
        str(it["kind"])
        for it in call.portal.all("campaign_assets")
        if it["campaign"] == campaign.id
    )
    return {kind: {"results": _assets_of(call, campaign, kind)} for kind in kinds}


def _assets_of(call: Call, campaign: Record, kind: str) -> list[JsonObject]:
    query = call.request.query_params
    with_metrics = "startDate" in query and "endDate" in query
    shown: list[JsonObject] = []
    for it in call.portal.all("campaign_assets"):
        if (it["campaign"], it["kind"]) == (campaign.id, kind):
            one: JsonObject = {"id": it["asset"] or it.id, "name": it["name"]}
            if with_metrics and it["metric"]:
                one["metrics"] = {str(it["metric"]): int(str(it["number"] or 0))}
            shown.append(one)
    return shown


def _days(call: Call) -> tuple[date, date]:
    query = call.request.query_params
    today = call.portal.now().date()
    return _day(query.get("startDate"), FIRST_DAY), _day(query.get("endDate"), today)


def _day(text: str | None, otherwise: date) -> date:
    if text is None:
        return otherwise
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise bad_request(f"{text} is not a date YYYY-MM-DD") from None


def _day_of(value: object) -> date:
    instant = parsed_instant(str(value))
    return instant.date() if instant is not None else date.fromisoformat(str(value))


def _is_within(value: object, days: tuple[date, date]) -> bool:
    return days[0] <= _day_of(value) <= days[1]


def _touches(portal: Portal, campaign: Record, days: tuple[date, date]) -> Iterator[Record]:
    for it in portal.all("campaign_touches"):
        if it["campaign"] == campaign.id and _is_within(
            it["at"] or instant_text(it.created_at), days
        ):
            yield it


def _won_deals(
    portal: Portal, days: tuple[date, date]
) -> Iterator[tuple[Record, Sequence[Record]]]:
    """Won deals closed on these days, with the touches of their contacts up to the close."""
    of_contact: dict[str, list[Record]] = {}
    for it in portal.all("campaign_touches"):
        if it["kind"] == "influencedContacts":
            of_contact.setdefault(str(it["contact"]), []).append(it)
    deals = {
        deal: None
        for contact in of_contact
        for deal in portal.links.of("contacts", contact, "deals")
    }
    for deal_id in deals:
        deal = portal.find("deals", deal_id)
        if deal is None or deal.is_deleted or deal["hs_is_closed_won"] != "true":
            continue
        close = str(deal["closedate"])
        if _is_within(close, days):
            people = portal.linked(deal, "contacts")
            touches = [it for one in people for it in of_contact.get(one, ())]
            yield deal, [it for it in touches if _touched_at(it) <= (parsed_instant(close) or EVER)]


EVER = datetime.max.replace(tzinfo=UTC)


def _touched_at(touch: Record) -> datetime:
    return parsed_instant(str(touch["at"])) or touch.created_at


def _share(campaign_id: str, touches: Sequence[Record], model: str) -> Decimal:
    if not touches:
        return Decimal(0)
    ordered = sorted(touches, key=_touched_at)
    if model == "FIRST_INTERACTION":
        return Decimal(ordered[0]["campaign"] == campaign_id)
    if model == "LAST_INTERACTION":
        return Decimal(ordered[-1]["campaign"] == campaign_id)
    own = sum(1 for it in ordered if it["campaign"] == campaign_id)
    return Decimal(own) / len(ordered)


def _listed_email(call: Call, record: Record) -> JsonObject:
    shown = _email_json(record)
    if call.flag("includeStats"):
        rows = [it for it in call.portal.all("email_days") if str(it["email"]) == record.id]
        shown["stats"] = _aggregate(rows)
    wanted = call.list_of("includedProperties")
    return {name: value for name, value in shown.items() if not wanted or name in {"id", *wanted}}


def _email_sort_key(name: str) -> Callable[[Record], tuple[str, int]]:
    if name == "name":
        return lambda record: (str(record["name"] or "").lower(), int(record.id))
    if name == "updatedAt":
        return lambda record: (instant_text(record.state.modified_at), int(record.id))
    return lambda record: (instant_text(record.created_at), int(record.id))


def _email_json(record: Record) -> JsonObject:
    return {
        "id": record.id,
        "name": record["name"],
        "subject": record["subject"],
        "campaign": record["campaign"],
        "state": record["state"] or "PUBLISHED",
        "isPublished": True,
        "publishDate": record["publishDate"] or instant_text(record.created_at),
        "createdAt": instant_text(record.created_at),
        "updatedAt": instant_text(record.state.modified_at),
        "archived": record.is_deleted,
    }


def _email_days(call: Call) -> Iterator[Record]:
    query = call.request.query_params
    start, end = (_instant(call, name) for name in ("startTimestamp", "endTimestamp"))
    ids = set(call.list_of("emailIds"))
    for row in call.portal.all("email_days"):
        moment = datetime.combine(_day_of(row["day"]), time(), _zone(call))
        if start <= moment < end and (not ids or str(row["email"]) in ids):
            yield row
    if "property" in query:
        raise HubSpotError(400, "property is not served by the sandbox", "VALIDATION_ERROR")


def _instant(call: Call, name: str) -> datetime:
    given = call.request.query_params.get(name, "")
    instant = parsed_instant(given)
    if instant is None:
        raise bad_request(f"{name} must be an instant in ISO 8601, got {given!r}")
    return instant


def _aggregate(rows: Sequence[Record]) -> JsonObject:
    counters = {name: sum(int(str(row[name] or 0)) for row in rows) for name in COUNTERS}
    ratios = {
        name: 100 * counters[part] / counters[whole] if counters[whole] else 0
        for name, (part, whole) in RATIOS.items()
    }
    return {"counters": counters, "ratios": ratios, "deviceBreakdown": {}, "qualifierStats": {}}


def _midnight(call: Call, day: date) -> str:
    # Recorded answers begin at the midnight of the account's zone.
    return instant_text(datetime.combine(day, time(), _zone(call)).astimezone(UTC))


def _zone(call: Call) -> ZoneInfo:
    return ZoneInfo(call.portal.settings.time_zone)


def _next(day: date, interval: str) -> date:
    """The first day of the interval after the one that begins on `day`."""
    following = day + timedelta(days=1)
    while INTERVALS[interval](following) == day:
        following += timedelta(days=1)
    return following
