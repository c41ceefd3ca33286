"""The marketing KPIs, said once more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import date, datetime
from fractions import Fraction
from typing import Final, NamedTuple

from metrics.verify.book import Book, Number, View
from metrics.verify.customers import COST_SUBJECTS, cost_of
from metrics.verify.reading import Reader, cut, exists, named
from metrics.verify.recipes import Ask, Make, Recipe, Result, linear, ratio
from store.canonical import CampaignMember, Contact, Deal, Lead

# ---------------------------------------------------------------- leads


def read_leads(reader: Reader, book: Book) -> None:
    """Leads with what has become of them."""
    known_deals = {deal.ref.key for deal, _ in reader.deals()}
    won_deals: set[str] = set()
    bought: dict[str, list[date]] = defaultdict(list)
    for deal, dimensions, closed in reader.won():
        won_deals.add(deal.ref.key)
        account = dimensions["account"]
        if account is not None and closed is not None:
            bought[account].append(closed)
    for lead in reader.live(Lead):
        owner = reader.owner(lead.owner)
        dimensions = {
            "source": cut(lead.source),
            "owner": owner,
            "team": reader.team(owner),
            "record": named(lead),
            **reader.mapped(lead),
        }
        created = reader.local_day(lead.created_at)
        deal_of_lead = None
        if lead.converted_deal is not None:
            deal_of_lead = reader.deal(lead.converted_deal)
        if deal_of_lead in known_deals:
            is_customer = deal_of_lead in won_deals
        else:
            days = bought.get(reader.account(lead.converted_account) or "", ())
            is_customer = created is not None and any(day >= created for day in days)
        book.add(
            "leads",
            created,
            dimensions,
            created=1,
            converted=int(lead.converted_at is not None),
            customers=int(is_customer),
        )
        if lead.qualified_at is not None:
            book.add("qualified", reader.local_day(lead.qualified_at), dimensions, leads=1)


def _velocity(view: View, _: Ask) -> Result:
    now = view.count("qualified", "leads")
    earlier = view.count("qualified", "leads", "previous")
    return ratio(now + earlier, now - earlier, earlier)


# ---------------------------------------------------------------- credit


class _Touch(NamedTuple):
    at: datetime
    member: str
    day: date | None
    campaign: str
    person: str | None


def _touches(reader: Reader) -> Mapping[str, list[_Touch]]:
    """Account -> when its people were touched, in order."""
    contacts = {
        contact.ref.key: contact
        for contact in reader.all(Contact)
        if exists(contact) or contact.merged_into == contact.account is not None
    }
    leads = {lead.ref.key: lead for lead in reader.live(Lead)}
    found: dict[str, list[_Touch]] = defaultdict(list)
    for member in reader.live(CampaignMember):
        account = person = None
        if member.contact is not None:
            person = reader.person(member.contact)
            account = _account_of(contacts, person, member.contact)
        elif member.lead is not None and (lead := leads.get(member.lead)) is not None:
            account, person = lead.converted_account, reader.person(lead.converted_contact)
        resolved = reader.account(account)
        if resolved is not None:
            day = reader.local_day(member.at)
            found[resolved].append(_Touch(member.at, member.ref.key, day, member.campaign, person))
    return {account: sorted(touches) for account, touches in found.items()}


def _account_of(contacts: Mapping[str, Contact], person: str | None, touched: str) -> str | None:
    """Of the record that stands for a person; where that has none, of the one that was touched."""
    for key in (person, touched):
        contact = contacts.get(key or "")
        if contact is not None and contact.account is not None:
            return contact.account
    return None


def read_credits(reader: Reader, book: Book) -> None:
    """Won deals, credited to campaigns by each model."""
    touches = _touches(reader)
    firsts = _first_deals(reader)
    for deal, dimensions, closed in reader.won():
        account = dimensions["account"]
        counted = [
            touch
            for touch in touches.get(account or "", ())
            if _is_before_close(touch, deal, reader)
            and (not reader.roles.get(deal.ref.key) or touch.person in reader.roles[deal.ref.key])
        ]
        shares: dict[str, list[tuple[str | None, Fraction]]] = {
            "primary": [(deal.campaign, Fraction(1))],
            "first": [(touch.campaign, Fraction(1)) for touch in counted[:1]],
            "last": [(touch.campaign, Fraction(1)) for touch in counted[-1:]],
            "linear": [(touch.campaign, Fraction(1, len(counted))) for touch in counted],
        }
        money = reader.money(deal.amount, deal.currency, closed)
        for model, credited in shares.items():
            for campaign, share in credited or [(None, Fraction(1))]:
                figures: dict[str, Number] = {
                    "deals": share,
                    "touches": 1,
                    "money": Fraction(money.get("money", 0)) * share,
                    **{name: count for name, count in money.items() if name != "money"},
                }
                if deal.ref.key in firsts:
                    figures |= {"first_purchases": share, "first_touches": 1}
                book.add(
                    f"credit {model}",
                    closed,
                    {**dimensions, **_campaign(reader, campaign)},
                    **figures,
                )


def _campaign(reader: Reader, campaign: str | None) -> dict[str, str | None]:
    known = reader.campaigns.get(campaign or "")
    return {
        "campaign": campaign or "(none)",
        "channel": None if known is None else cut(known.channel),
    }


def _first_deals(reader: Reader) -> set[str]:
    first: dict[str, tuple[bool, date, str]] = {}
    for deal, dimensions, closed in reader.won():
        account = dimensions["account"]
        rank = (closed is None, closed or date.max, deal.ref.key)
        if account is not None and (account not in first or rank < first[account]):
            first[account] = rank
    return {key for _, _, key in first.values()}


def _is_before_close(touch: _Touch, deal: Deal, reader: Reader) -> bool:
    if deal.close_date is not None:
        return touch.day is not None and touch.day <= deal.close_date
    closed_at = deal.closed_at or reader.last_closing(deal)
    return closed_at is not None and touch.at <= closed_at


READERS: Final[Mapping[str, Callable[[Reader, Book], None]]] = {
    "leads": read_leads,
    "qualified": read_leads,
    **{f"credit {model}": read_credits for model in ("first", "last", "linear", "primary")},
}


def unpriced(view: View, subject: str) -> dict[str, int]:
    """Credited deals that are missing from a sum of money, by reason."""
    return {
        "no_amount": view.count(subject, "without_amount"),
        "no_rate": view.count(subject, "without_rate"),
    }


def _revenue(subject: str) -> Make:
    def make(view: View, _: Ask) -> Result:
        money = Fraction(view.total(subject, "money"))
        n = view.count(subject, "priced")
        return Result(n, money, money, left_out=unpriced(view, subject))

    return make


def _deals(subject: str) -> Make:
    def make(view: View, _: Ask) -> Result:
        deals = Fraction(view.total(subject, "deals"))
        return Result(view.count(subject, "touches"), deals, deals)

    return make


def _roi(subject: str) -> Make:
    def make(view: View, ask: Ask) -> Result:
        money, cost = Fraction(view.total(subject, "money")), cost_of(view, ask, "money")
        n = view.count(subject, "priced") + int(cost_of(view, ask, "priced"))
        left_out = {
            **unpriced(view, subject),
            "cost_no_rate": int(cost_of(view, ask, "without_rate")),
        }
        return ratio(n, money - cost, cost, left_out)

    return make


def _cac(subject: str) -> Make:
    def make(view: View, ask: Ask) -> Result:
        n = view.count(subject, "first_touches") + int(cost_of(view, ask, "priced"))
        left_out = {"cost_no_rate": int(cost_of(view, ask, "without_rate"))}
        first = Fraction(view.total(subject, "first_purchases"))
        return ratio(n, cost_of(view, ask, "money"), first, left_out)

    return make


def _campaign_cost(view: View, _: Ask) -> Result:
    money = Fraction(view.total("costs", "money"))
    left_out = {"no_rate": view.count("costs", "campaign_without_rate")}
    return Result(view.count("costs", "campaign_priced"), money, money, left_out=left_out)


_MAKES: Final[Mapping[str, tuple[Callable[[str], Make], tuple[str, ...]]]] = {
    "campaign_revenue": (_revenue, ()),
    "campaign_deals": (_deals, ()),
    "campaign_roi": (_roi, COST_SUBJECTS),
    "campaign_cac": (_cac, COST_SUBJECTS),
}

RECIPES: Final[Mapping[str, Recipe]] = {
    "leads_created": linear("leads", "created", n="created"),
    "lead_conversion_rate": linear("leads", "converted", over="created", n="created"),
    "lead_to_customer_rate": linear("leads", "customers", over="created", n="created"),
    "lead_velocity_rate": Recipe(("qualified",), _velocity, is_up_to_now=True),
    "campaign_cost": Recipe(COST_SUBJECTS, _campaign_cost),
    **{
        f"{name}_{model}": Recipe((f"credit {model}", *others), make(f"credit {model}"))
        for name, (make, others) in _MAKES.items()
        for model in ("first", "last", "linear", "primary")
    },
}
