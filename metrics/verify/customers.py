"""The customer KPIs, said once more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from fractions import Fraction
from typing import Any, Final

from metrics.verify.book import Book, View
from metrics.verify.periods import NEVER
from metrics.verify.reading import Reader, cut, named
from metrics.verify.recipes import Ask, Make, Recipe, Result, linear, ratio
from metrics.verify.sales import WON_UNPRICED
from store.canonical import Campaign, Contract, Cost

# ---------------------------------------------------------------- reading


def read_purchases(reader: Reader, book: Book) -> None:
    """Who bought when, group by group."""
    for deal, dimensions, closed in reader.won():
        account = dimensions["account"]
        if account is None:
            book.member("buyers", closed, dimensions, f"deal {deal.ref.key}", anonymous=1)
            if dimensions["kind"] == "upsell":
                book.member("upsells", closed, dimensions, f"deal {deal.ref.key}", anonymous=1)
            continue
        book.member("buyers", closed, dimensions, account, buyers=1)
        if dimensions["kind"] == "upsell":
            book.member("upsells", closed, dimensions, account, buyers=1)
        if closed is not None:
            book.unit("active", dimensions, account, closed.toordinal())
            book.add("active", closed, dimensions, purchases=0)


def read_first_purchases(reader: Reader, book: Book) -> None:
    """The first purchase of each account."""
    for day, dimensions, account in first_purchases(reader):
        if account is None:
            book.add("first", day, dimensions, anonymous=1)
        else:
            book.add("first", day, dimensions, accounts=1)


def first_purchases(
    reader: Reader,
) -> Iterable[tuple[date | None, Mapping[str, str | None], str | None]]:
    """Day, groups and account of each account's first purchase, and of each without account."""
    first: dict[str, tuple[tuple[bool, date, str], Mapping[str, str | None]]] = {}
    for deal, dimensions, closed in reader.won():
        account = dimensions["account"]
        rank = (closed is None, closed or date.max, deal.ref.key)
        if account is None:
            yield closed, dimensions, None
        elif account not in first or rank < first[account][0]:
            first[account] = (rank, dimensions)
    for account, ((has_no_day, day, _), dimensions) in first.items():
        yield None if has_no_day else day, dimensions, account


def read_contracts(reader: Reader, book: Book) -> None:
    """Whose contracts run from when to when."""
    for contract in reader.live(Contract):
        account = reader.account(contract.account)
        if account is None or contract.start_date is None:
            continue
        start = contract.start_date.toordinal()
        stop = NEVER if contract.end_date is None else contract.end_date.toordinal()
        if start >= stop:
            continue
        known = reader.customer(account)
        dimensions = {
            "account": account,
            "owner": None if known is None else reader.owner(known.owner),
            "region": None if known is None else cut(known.region),
            "segment": None if known is None else cut(known.segment),
            "record": named(contract),
        }
        book.unit("contracts", dimensions, account, (start, stop))
        # On the day before it starts a period can end, at whose end it runs.
        day_before = date.fromordinal(max(1, start - 1))
        book.add("contracts", day_before, dimensions, contracts=0)


def read_costs(reader: Reader, book: Book) -> None:
    """What was spent on which day, for which campaign."""
    with_costs: set[str] = set()
    for cost in reader.live(Cost):
        if cost.campaign is not None:
            with_costs.add(cost.campaign)
        origin = "file" if cost.ref.connection == "file" else "costs"
        campaign = reader.campaigns.get(cost.campaign or "")
        dimensions = {
            "campaign": cost.campaign,
            "channel": None if campaign is None else cut(campaign.channel),
            "source": cut(cost.source),
            "category": cut(cost.category),
            "record": named(cost),
        }
        money = reader.money(cost.amount, cost.currency, cost.date)
        of_campaign = {f"campaign_{name}": money[name] for name in money if name != "money"}
        figures = {**money, **(of_campaign if cost.campaign is not None else {})}
        for subject in ("costs", f"costs of {origin}"):
            book.add(subject, cost.date, dimensions, **figures)
        if origin == "costs" and cost.campaign is not None:
            book.add("costs of campaigns", cost.date, dimensions, **figures)
    for campaign in reader.live(Campaign):
        if campaign.cost is None or campaign.ref.key in with_costs:
            continue
        day = campaign.start_date
        money = reader.money(campaign.cost, campaign.currency, day)
        figures = {
            **money,
            **{f"campaign_{name}": money[name] for name in money if name != "money"},
        }
        dimensions = {
            "campaign": campaign.ref.key,
            "channel": cut(campaign.channel),
            "source": None,
            "category": None,
            "record": named(campaign),
        }
        for subject in ("costs", "costs of campaigns.cost"):
            book.add(subject, day, dimensions, **figures)


READERS: Final[Mapping[str, Callable[[Reader, Book], None]]] = {
    "buyers": read_purchases,
    "upsells": read_purchases,
    "active": read_purchases,
    "first": read_first_purchases,
    "contracts": read_contracts,
    "costs": read_costs,
    "costs of file": read_costs,
    "costs of costs": read_costs,
    "costs of campaigns": read_costs,
    "costs of campaigns.cost": read_costs,
}

COST_SUBJECTS: Final = (
    "costs",
    "costs of file",
    "costs of costs",
    "costs of campaigns",
    "costs of campaigns.cost",
)

# ---------------------------------------------------------------- recipes


def _buyers(view: View, subject: str) -> tuple[int, int]:
    members = view.members(subject).values()
    return (
        sum(flags.get("buyers", 0) for flags in members),
        sum(flags.get("anonymous", 0) for flags in members),
    )


def _count_buyers(subject: str) -> Make:
    def make(view: View, _: Ask) -> Result:
        buyers, anonymous = _buyers(view, subject)
        return Result(
            buyers, Fraction(buyers), Fraction(buyers), left_out={"no_account": anonymous}
        )

    return make


def _ever(view: View) -> list[list[int]]:
    """Of each account that bought by the period's end its purchase days up to then."""
    stop = view.period.stop
    found = (
        sorted(day for day in days if day < stop) for days in view.page("active").units.values()
    )
    return [days for days in found if days]


def _upsell_rate(view: View, ask: Ask) -> Result:
    upsellers, _ = _buyers(view, "upsells")
    if ask.own.of == "customers":
        if view.period.start > view.today:
            # Who will have bought by then nobody knows.
            return Result(0)
        # Who bought on a day that nobody knows bought by the end of all times.
        is_of_all = view.period.is_everything
        customers = _buyers(view, "buyers")[0] if is_of_all else len(_ever(view))
        return ratio(customers, upsellers, customers)
    buyers, anonymous = _buyers(view, "buyers")
    return ratio(buyers, upsellers, buyers, {"no_account": anonymous})


def _value_parts(view: View) -> tuple[int, dict[str, int], Fraction | None]:
    """Records used, left out, and the customer value."""
    purchases = view.count("closed", "won_by_account")
    buyers, anonymous = _buyers(view, "buyers")
    left_out = {
        **{reason: view.count("closed", name) for reason, name in WON_UNPRICED.items()},
        "no_account": anonymous,
    }
    money, priced = view.total("closed", "won_money"), view.count("closed", "won_priced")
    if not priced or not buyers:
        return purchases, left_out, None
    return purchases, left_out, Fraction(money) / priced * purchases / buyers


def _frequency(view: View, _: Ask) -> Result:
    purchases = view.count("closed", "won_by_account")
    buyers, anonymous = _buyers(view, "buyers")
    return ratio(purchases, purchases, buyers, {"no_account": anonymous})


def _customer_value(view: View, _: Ask) -> Result:
    n, left_out, value = _value_parts(view)
    return Result(n, value, left_out=left_out)


def _lifespan_days(view: View, ask: Ask) -> tuple[int, Fraction | None]:
    """Accounts used, and their mean lifespan in days."""
    if ask.own.lifespan == "churn":
        at_start, gained, lost = _changes(view, ask)
        if lost < 10:  # noqa: PLR2004 - fewer losses say too little
            return at_start + gained, None
        return at_start + gained, Fraction(at_start, lost) * view.period.years * Fraction(1461, 4)
    lives = _ever(view)
    if not lives:
        return 0, None
    return len(lives), Fraction(sum(days[-1] - days[0] for days in lives), len(lives))


def _lifespan(view: View, ask: Ask) -> Result:
    n, days = _lifespan_days(view, ask)
    if ask.own.lifespan == "churn":
        return Result(n, days)
    lives = _ever(view)
    return ratio(n, sum(one[-1] - one[0] for one in lives), len(lives))


def _cltv_of(view: View, ask: Ask) -> tuple[int, dict[str, int], Fraction | None]:
    n, left_out, value = _value_parts(view)
    _, days = _lifespan_days(view, ask)
    period_days = view.period.years * Fraction(1461, 4)
    if value is None or days is None or not period_days:
        return n, left_out, None
    margin = Fraction(1) if ask.own.margin is None else Fraction(ask.own.margin)
    return n, left_out, value * days / period_days * margin


def _cltv(view: View, ask: Ask) -> Result:
    n, left_out, value = _cltv_of(view, ask)
    return Result(n, value, left_out=left_out)


def cost_of(view: View, ask: Ask, names: str) -> Fraction:
    """The costs that the settings let count."""
    wanted = set(ask.own.costs)
    if not wanted:
        return Fraction(view.total("costs", names))
    found = sum(
        (Fraction(view.total(f"costs of {origin}", names)) for origin in wanted), Fraction(0)
    )
    if "campaigns.cost" in wanted and "costs" not in wanted:
        found += Fraction(view.total("costs of campaigns", names))
    return found


def _cac_of(view: View, ask: Ask) -> tuple[Fraction, int]:
    return cost_of(view, ask, "money"), view.count("first", "accounts")


def _costs(view: View, ask: Ask) -> Result:
    money = cost_of(view, ask, "money")
    left_out = {"no_rate": int(cost_of(view, ask, "without_rate"))}
    return Result(int(cost_of(view, ask, "priced")), money, money, left_out=left_out)


def _cac(view: View, ask: Ask) -> Result:
    money, new = _cac_of(view, ask)
    n = int(cost_of(view, ask, "priced")) + new
    return ratio(n, money, new, {"no_rate": int(cost_of(view, ask, "without_rate"))})


def _with_cost(left_out: dict[str, int], view: View, ask: Ask) -> dict[str, int]:
    return {**left_out, "cost_no_rate": int(cost_of(view, ask, "without_rate"))}


def _ltv_cac(view: View, ask: Ask) -> Result:
    n, left_out, value = _cltv_of(view, ask)
    money, new = _cac_of(view, ask)
    left_out = _with_cost(left_out, view, ask)
    if value is None or not money or not new:
        return Result(n, left_out=left_out)
    return Result(n, value / (money / new), left_out=left_out)


def _payback(view: View, ask: Ask) -> Result:
    n, left_out, _ = _value_parts(view)
    left_out = _with_cost(left_out, view, ask)
    money, new = _cac_of(view, ask)
    buyers, _anonymous = _buyers(view, "buyers")
    months = view.period.years * 12
    margin = Fraction(1) if ask.own.margin is None else Fraction(ask.own.margin)
    revenue = Fraction(view.total("closed", "won_money"))
    if not (new and buyers and months and revenue and margin):
        return Result(n, left_out=left_out)
    return Result(n, money / new / (revenue / buyers / months * margin), left_out=left_out)


# ---------------------------------------------------------------- coming and going


def _changes(view: View, ask: Ask) -> tuple[int, int, int]:
    """Accounts active at the start; gained; lost."""
    window = ask.own.window or 90

    def is_active(days: list[Any], on: int) -> bool:
        return any(on - window <= day < on for day in days)

    return _compared(view, "active", is_active)


def _contract_changes(view: View, _: Ask) -> tuple[int, int, int]:
    return _compared(
        view, "contracts", lambda spans, on: any(start <= on < stop for start, stop in spans)
    )


def _compared(
    view: View, subject: str, is_active: Callable[[list[Any], int], bool]
) -> tuple[int, int, int]:
    first, after = view.period.start, min(view.period.stop, view.today + 1)
    at_start = gained = lost = 0
    for items in view.page(subject).units.values():
        was, is_now = is_active(items, first), is_active(items, after)
        at_start += was
        gained += is_now and not was
        lost += was and not is_now
    return at_start, gained, lost


def _coming(
    changes: Callable[[View, Ask], tuple[int, int, int]],
    choose: Callable[[int, int, int], int],
    *,
    is_rate: bool = False,
) -> Make:
    def make(view: View, ask: Ask) -> Result:
        at_start, gained, lost = changes(view, ask)
        chosen = choose(at_start, gained, lost)
        if is_rate:
            return ratio(at_start + gained, chosen, at_start)
        return Result(at_start + gained, Fraction(chosen), Fraction(chosen))

    return make


def _now(*subjects: str, make: Make) -> Recipe:
    return Recipe(subjects, make, is_up_to_now=True)


_VALUED: Final = ("closed", "buyers", "active")

RECIPES: Final[Mapping[str, Recipe]] = {
    "revenue": linear("closed", "won_money", n="won_priced", left_out=WON_UNPRICED),
    "purchases": linear("closed", "won", n="won"),
    "avg_purchase_value": linear(
        "closed", "won_money", over="won_priced", n="won_priced", left_out=WON_UNPRICED
    ),
    "avg_order_value": linear(
        "closed", "won_money", over="won_priced", n="won_priced", left_out=WON_UNPRICED
    ),
    "buyers": Recipe(("buyers",), _count_buyers("buyers")),
    "upsell_customers": Recipe(("upsells",), _count_buyers("upsells")),
    "upsell_rate": Recipe(("upsells", "buyers", "active"), _upsell_rate),
    "new_customers": linear(
        "first", "accounts", n="accounts", left_out={"no_account": "anonymous"}
    ),
    "purchase_frequency": Recipe(("closed", "buyers"), _frequency),
    "customer_value": Recipe(("closed", "buyers"), _customer_value),
    "customer_lifespan_days": _now("active", make=_lifespan),
    "cltv": _now(*_VALUED, make=_cltv),
    "cost": Recipe(COST_SUBJECTS, _costs),
    "cac": Recipe((*COST_SUBJECTS, "first"), _cac),
    "ltv_cac": _now(*_VALUED, *COST_SUBJECTS, "first", make=_ltv_cac),
    "payback_months": Recipe((*_VALUED, *COST_SUBJECTS, "first"), _payback),
    "customers_start": _now("active", make=_coming(_changes, lambda start, _, __: start)),
    "customers_end": _now(
        "active", make=_coming(_changes, lambda start, gained, lost: start + gained - lost)
    ),
    "customers_new_or_back": _now("active", make=_coming(_changes, lambda _, gained, __: gained)),
    "customers_lost": _now("active", make=_coming(_changes, lambda _, __, lost: lost)),
    "retention_rate": _now(
        "active", make=_coming(_changes, lambda start, _, lost: start - lost, is_rate=True)
    ),
    "churn_rate": _now("active", make=_coming(_changes, lambda _, __, lost: lost, is_rate=True)),
    "contract_retention_rate": _now(
        "contracts",
        make=_coming(_contract_changes, lambda start, _, lost: start - lost, is_rate=True),
    ),
    "contract_churn_rate": _now(
        "contracts", make=_coming(_contract_changes, lambda _, __, lost: lost, is_rate=True)
    ),
}
