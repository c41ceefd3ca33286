"""The KPIs of e-mails, said once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

from metrics.verify.book import Book, View
from metrics.verify.marketing import unpriced
from metrics.verify.reading import Reader, cut, named
from metrics.verify.recipes import Ask, Recipe, Result, linear, ratio
from store.canonical import EmailStatistics

_EVENTS: Final = ("opens", "clicks", "unsubscribes", "bounces")


def read_emails(reader: Reader, book: Book) -> None:
    """What is known of each e-mail and day."""
    for told in reader.live(EmailStatistics):
        campaign = reader.campaigns.get(told.campaign or "")
        dimensions = {
            "campaign": told.campaign,
            "channel": None if campaign is None else cut(campaign.channel),
            "email": cut(told.email),
            "record": named(told),
        }
        known = {
            "opens": told.opens,
            "clicks": told.clicks,
            "unsubscribes": told.unsubscribes,
            "bounces": told.bounces,
        }
        for name, events in known.items():
            if events is None or told.delivered is None:
                figures = {"incomplete": 1}
            else:
                figures = {"events": events, "delivered": told.delivered}
            book.add(f"email {name}", told.date, dimensions, **figures)
        if told.delivered is None:
            book.add("emails", told.date, dimensions, incomplete=1)
        else:
            book.add("emails", told.date, dimensions, delivered=told.delivered)


def _revenue(view: View, ask: Ask) -> Result:
    (model,) = ask.own.models or ("primary",)
    money = Fraction(view.total(f"credit {model}", "money"))
    delivered = view.count("emails", "delivered")
    left_out = {
        **unpriced(view, f"credit {model}"),
        "incomplete": view.count("emails", "incomplete"),
    }
    return ratio(delivered, money, delivered, left_out)


READERS: Final[Mapping[str, Callable[[Reader, Book], None]]] = {
    "emails": read_emails,
    **{f"email {name}": read_emails for name in _EVENTS},
}

RECIPES: Final[Mapping[str, Recipe]] = {
    **{
        f"email_{name}_rate": linear(
            f"email {events}",
            "events",
            over="delivered",
            n="delivered",
            left_out={"incomplete": "incomplete"},
        )
        for name, events in (
            ("open", "opens"),
            ("click", "clicks"),
            ("unsubscribe", "unsubscribes"),
            ("bounce", "bounces"),
        )
    },
    "email_revenue_per_delivered": Recipe(
        ("emails", *(f"credit {model}" for model in ("first", "last", "linear", "primary"))),
        _revenue,
    ),
}
