"""The sales KPIs, said once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Final

from metrics.verify.book import Book, Number, View
from metrics.verify.reading import Reader, named
from metrics.verify.recipes import Ask, Recipe, Result, linear, median, percentile, ratio
from store.canonical import Deal, Stage

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)

# ---------------------------------------------------------------- reading


def read_created(reader: Reader, book: Book) -> None:
    """All deals on their creation day."""
    for deal, dimensions in reader.deals():
        is_won = deal.is_closed and deal.is_won
        day = reader.local_day(deal.created_at)
        book.add("created", day, dimensions, all=1, won=int(is_won), closed=int(deal.is_closed))


def read_closed(reader: Reader, book: Book) -> None:
    """Closed deals on their close day."""
    for deal, dimensions in reader.deals():
        if deal.is_closed:
            outcome = "won" if deal.is_won else "lost"
            day = reader.closed_day(deal)
            money = reader.money(deal.amount, deal.currency, day)
            figures = {f"{outcome}_{name}": number for name, number in money.items()}
            if deal.is_won and dimensions["account"] is not None:
                figures["won_by_account"] = 1
            book.add("closed", day, dimensions, **{outcome: 1}, **figures)
            if deal.is_won and "money" in money:
                book.value("closed", day, dimensions, money["money"])


def read_cycles(reader: Reader, book: Book) -> None:
    """Won deals on their close day, with the days since creation."""
    for deal, dimensions, closed in reader.won():
        created = reader.local_day(deal.created_at)
        if created is None or closed is None:
            book.add("cycle", closed, dimensions, undated=1)
        elif closed < created:
            book.add("cycle", closed, dimensions, negative=1)
        else:
            days = (closed - created).days
            book.add("cycle", closed, dimensions, measured=1, days=days)
            book.value("cycle", closed, dimensions, days)


def read_open(reader: Reader, book: Book) -> None:
    """Open deals on their expected close day, and since when they stand in their stage."""
    for deal, dimensions in reader.deals():
        if deal.is_closed:
            continue
        figures: dict[str, Number] = {
            "all": 1,
            **reader.money(deal.amount, deal.currency, deal.close_date),
        }
        if "priced" in figures and (deal.probability is None or deal.probability < 0):
            figures["without_probability"] = 1
        elif "priced" in figures and deal.probability is not None:
            figures["weighable"] = 1
            figures["weighted"] = Fraction(figures["money"]) * Fraction(deal.probability)
        book.add("open", deal.close_date, dimensions, **figures)
        entries = reader.entries(deal)
        since = entries[-1][0] if entries else deal.created_at
        if since is not None:
            book.unit("open", dimensions, deal.ref.key, (since, figures))


def read_visits(reader: Reader, book: Book) -> None:
    """Completed visits, moves back, and who entered what."""
    for deal, dimensions in reader.deals():
        entries = reader.entries(deal)
        for (at, stage), (left_at, _) in pairwise(entries):
            is_closed = reader.is_closed(stage, deal)
            if is_closed:
                continue
            seconds = (left_at - at) // _SECOND
            day, there = reader.local_day(left_at), {**dimensions, "stage": stage}
            if is_closed is None:
                book.add("visits", day, there, unknown=1)
            else:
                book.add("visits", day, there, visits=1, seconds=seconds)
                book.value("visits", day, there, seconds)
        for (_, left), (at, stage) in pairwise(entries):
            if reader.is_closed(left, deal) and reader.is_closed(stage, deal) is False:
                day = reader.local_day(at)
                book.add("reopened", day, {**dimensions, "stage": stage}, moves=1)
        _read_entries(reader, book, deal, dimensions, entries)


def _read_entries(
    reader: Reader,
    book: Book,
    deal: Deal,
    dimensions: Mapping[str, str | None],
    entries: list[tuple[datetime, str]],
) -> None:
    seen = [
        known
        for _, stage in entries
        if (known := reader.stages.get(stage)) is not None and not known.is_closed
    ]
    for at, stage in entries:
        if reader.is_closed(stage, deal) is not False:
            continue
        known = reader.stages.get(stage)
        is_won = deal.is_closed and deal.is_won
        is_advanced = is_won or (known is not None and any(_is_later(o, known) for o in seen))
        book.member(
            "entries",
            reader.local_day(at),
            {**dimensions, "stage": stage},
            f"{deal.ref.key} {stage}",
            entered=1,
            advanced=int(is_advanced),
            undecided=int(not is_advanced and not deal.is_closed),
        )


def _is_later(other: Stage, stage: Stage) -> bool:
    if other.pipeline != stage.pipeline or other.position is None or stage.position is None:
        return False
    return other.position > stage.position


def read_seen(reader: Reader, book: Book) -> None:
    """Closed deals, with the distinct open stages of their history."""
    for deal, dimensions in reader.deals():
        if deal.is_closed:
            history = reader.entries(deal)
            stages = {
                stage
                for _, stage in history
                if (known := reader.stages.get(stage)) is not None and not known.is_closed
            }
            day = reader.closed_day(deal)
            if history:
                book.add("seen", day, dimensions, deals=1, stages=len(stages))
            else:
                book.add("seen", day, dimensions, without_history=1)


def read_stages(reader: Reader, book: Book) -> None:
    """Active open stages of deals: those of tickets have no probability."""
    for stage in reader.live(Stage):
        if stage.is_active and not stage.is_closed and stage.probability is not None:
            dimensions = {"pipeline": stage.pipeline, "record": named(stage)}
            book.add("stages", reader.today, dimensions, stages=1)


READERS: Final[Mapping[str, Callable[[Reader, Book], None]]] = {
    "created": read_created,
    "closed": read_closed,
    "cycle": read_cycles,
    "open": read_open,
    "visits": read_visits,
    "reopened": read_visits,
    "entries": read_visits,
    "seen": read_seen,
    "stages": read_stages,
}

# ---------------------------------------------------------------- recipes

WON_UNPRICED: Final = {"no_amount": "won_without_amount", "no_rate": "won_without_rate"}
_LOST_UNPRICED: Final = {"no_amount": "lost_without_amount", "no_rate": "lost_without_rate"}
_CLOSED_UNPRICED: Final = {
    "no_amount": "won_without_amount lost_without_amount",
    "no_rate": "won_without_rate lost_without_rate",
}
_OPEN_UNPRICED: Final = {"no_amount": "without_amount", "no_rate": "without_rate"}
_CYCLE_LEFT_OUT: Final = {"negative_duration": "negative", "no_date": "undated"}


def _waiting(view: View, ask: Ask) -> list[tuple[bool, Mapping[str, Number]]]:
    days = 30 if ask.own.stalled_days is None else ask.own.stalled_days
    return [
        (ask.now_at - since > days * _DAY, figures)
        for items in view.page("open").units.values()
        for since, figures in items
    ]


def _stalled_count(view: View, ask: Ask) -> Result:
    waiting = _waiting(view, ask)
    stalled = Fraction(sum(is_stalled for is_stalled, _ in waiting))
    return Result(len(waiting), stalled, stalled)


def _stalled_value(view: View, ask: Ask) -> Result:
    waiting = _waiting(view, ask)
    amounts = [Fraction(figures.get("money", 0)) for is_stalled, figures in waiting if is_stalled]
    missing = {
        reason: sum(int(figures.get(name, 0)) for is_stalled, figures in waiting if is_stalled)
        for reason, name in (("no_amount", "without_amount"), ("no_rate", "without_rate"))
    }
    total = sum(amounts, Fraction(0))
    used = sum(int(figures.get("priced", 0)) for _, figures in waiting)
    return Result(used, total, total, left_out=missing)


def _stage_age(view: View, ask: Ask) -> Result:
    ages = [
        max(0, (ask.now_at - since) // _DAY)
        for items in view.page("open").units.values()
        for since, _ in items
    ]
    total = Fraction(sum(ages))
    return Result(len(ages), total, total)


def _conversion(view: View, _: Ask) -> Result:
    members = view.members("entries").values()
    sums = {
        name: sum(flags[name] for flags in members) for name in ("entered", "advanced", "undecided")
    }
    return ratio(
        sums["entered"], sums["advanced"], sums["entered"], {"undecided": sums["undecided"]}
    )


def _velocity(view: View, _: Ask) -> Result:
    def recent(subject: str, names: str) -> Fraction:
        return Fraction(view.total(subject, names, "last_90d"))

    open_count = view.count("open", "all")
    won, closed = recent("closed", "won"), recent("closed", "won lost")
    money, priced = recent("closed", "won_money"), recent("closed", "won_priced")
    measured, days = recent("cycle", "measured"), recent("cycle", "days")
    if not (closed and priced and measured and days):
        return Result(open_count)
    return Result(open_count, open_count * won / closed * money / priced / (days / measured))


def _bottleneck(view: View, _: Ask) -> Result:
    n, best = 0, None
    inner = (*view.grouping, "stage")
    for key in view.book.pages["visits"].get(inner, {}):
        if view.grouping and not key.startswith(
            "".join("\\" + c if c in "\\," else c for c in view.key) + ","
        ):
            continue
        stage = _unescaped(key, len(inner))
        page = view.sibling(inner, key)
        values = page.ranked("visits")
        start = _year_before(view.period.start)
        past = sorted(
            value
            for day, some in page.page("visits").values.items()
            if day is not None and start <= day < view.period.start
            for value in some
        )
        n += len(values)
        now, norm = median(values), median(past)
        if len(values) < 20 or len(past) < 20 or now is None or not norm:  # noqa: PLR2004 - enough
            continue
        rank = (-now / norm, stage)
        if best is None or rank < best:
            best = rank
    return Result(n, words=("not enough data" if best is None else best[1]) if n else None)


def _unescaped(key: str, length: int) -> str:
    if length == 1:
        return key
    parts, escaped = [""], False
    for letter in key:
        if escaped:
            parts[-1] += letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == ",":
            parts.append("")
        else:
            parts[-1] += letter
    return parts[-1]


def _year_before(day: int) -> int:
    that = date.fromordinal(day)
    try:
        return that.replace(year=that.year - 1).toordinal()
    except ValueError:
        return date(that.year - 1, 2, 28).toordinal()


_VISITS_LEFT_OUT: Final = {"unknown_stage": "unknown"}

RECIPES: Final[Mapping[str, Recipe]] = {
    "won_count": linear("closed", "won", n="won"),
    "lost_count": linear("closed", "lost", n="lost"),
    "closed_count": linear("closed", "won lost", n="won lost"),
    "won_value": linear("closed", "won_money", n="won_priced", left_out=WON_UNPRICED),
    "lost_value": linear("closed", "lost_money", n="lost_priced", left_out=_LOST_UNPRICED),
    "win_rate": linear("closed", "won", over="won lost", n="won lost"),
    "win_rate_value": linear(
        "closed",
        "won_money",
        over="won_money lost_money",
        n="won_priced lost_priced",
        left_out=_CLOSED_UNPRICED,
    ),
    "avg_deal_value": linear(
        "closed", "won_money", over="won_priced", n="won_priced", left_out=WON_UNPRICED
    ),
    "avg_deal_value_median": percentile("closed", 50, "closed", WON_UNPRICED),
    "lost_reasons": linear("closed", "lost", n="lost"),
    "deals_created": linear("created", "all", n="all"),
    "close_rate": linear("created", "won", over="all", n="all"),
    "closed_of_created": linear("created", "closed", over="all", n="all"),
    "sales_cycle_days": linear(
        "cycle", "days", over="measured", n="measured", left_out=_CYCLE_LEFT_OUT
    ),
    "sales_cycle_days_median": percentile("cycle", 50, "cycle", _CYCLE_LEFT_OUT),
    "time_in_stage_days": linear(
        "visits",
        "seconds",
        over="visits",
        n="visits",
        left_out=_VISITS_LEFT_OUT,
        divisor=86_400,
    ),
    "time_in_stage_days_median": percentile("visits", 50, "visits", _VISITS_LEFT_OUT, 86_400),
    "time_in_stage_days_p90": percentile("visits", 90, "visits", _VISITS_LEFT_OUT, 86_400),
    "stage_visits": linear("visits", "visits", n="visits", left_out=_VISITS_LEFT_OUT),
    "stage_count": linear("stages", "stages", n="stages"),
    "stages_per_deal": linear(
        "seen", "stages", over="deals", n="deals", left_out={"no_history": "without_history"}
    ),
    "reopened_count": linear("reopened", "moves", n="moves"),
    "stage_conversion": Recipe(("entries",), _conversion),
    "bottleneck": Recipe(("visits",), _bottleneck, is_up_to_now=True),
    "open_count": linear("open", "all", n="all"),
    "open_value": linear("open", "money", n="priced", left_out=_OPEN_UNPRICED),
    "weighted_pipeline": linear(
        "open",
        "weighted",
        n="weighable",
        left_out={**_OPEN_UNPRICED, "no_probability": "without_probability"},
    ),
    "stalled_count": Recipe(("open",), _stalled_count),
    "stalled_value": Recipe(("open",), _stalled_value),
    "is_stalled": Recipe(("open",), _stalled_count),
    "stage_age_days": Recipe(("open",), _stage_age),
    "pipeline_velocity": Recipe(("open", "closed", "cycle"), _velocity),
}
