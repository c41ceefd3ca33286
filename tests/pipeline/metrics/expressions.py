"""Random KPIs of a company's own, and records with fields that only it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st

from metrics.expression.definition import Written, faults_of
from store.canonical import CanonicalRecord, RecordRef, Scalar
from tests.pipeline.metrics import histories
from tests.pipeline.metrics.books import ref

OWN: Final = (
    ("x_any", None),
    ("x_at", "datetime"),
    ("x_count", "integer"),
    ("x_day", "date"),
    ("x_flag", "boolean"),
    ("x_money", "money"),
    ("x_number", "number"),
    ("x_text", "text"),
)

_OWN_VALUES: Final[Mapping[str, tuple[Scalar, ...]]] = {
    # Not only what was promised: a CRM's field may change its kind.
    "x_any": ("yes", "it's", 3, Decimal("2.5"), True, date(2024, 3, 31), histories.INSTANTS[4]),
    "x_at": (*histories.INSTANTS, "text"),
    "x_count": (0, 1, -3, 10**17, "7"),
    "x_day": (*histories.DATES, True),
    "x_flag": (True, False, "yes"),
    "x_money": (Decimal(0), Decimal("99.995"), Decimal(100), Decimal("-5.5"), Decimal("1e16")),
    "x_number": (Decimal("0.1"), Decimal("2.5000005"), Decimal(-1), 3, Decimal("1e10"), "n"),
    "x_text": ("a", "A", "it's", "", "ä" * 130, 5),
}


@st.composite
def own_fields(draw: st.DrawFn) -> dict[str, Scalar]:
    return {
        name: draw(st.sampled_from(values))
        for name, values in _OWN_VALUES.items()
        if draw(st.booleans())
    }


@st.composite
def _deals(draw: st.DrawFn) -> CanonicalRecord:
    record = draw(histories.deals())
    return replace(record, extra=draw(own_fields()))


@st.composite
def _tickets(draw: st.DrawFn) -> CanonicalRecord:
    record = draw(histories.tickets())
    return replace(record, extra=draw(own_fields()))


_RECORDS: Final = st.one_of(
    *(_deals(), _deals(), _deals(), _tickets()),
    *(histories.accounts(), histories.owners(), histories.changes(), histories.stages()),
    *(histories.campaigns(), histories.costs(), histories.contracts(), histories.rates()),
    *(histories.contacts(), histories.answers()),
)

pages = st.tuples(
    st.lists(_RECORDS, min_size=1, max_size=8),
    st.lists(
        st.builds(ref, st.sampled_from(["deals", "accounts"]), st.sampled_from(["D0", "D1", "A"])),
        max_size=1,
    ),
)

Page = tuple[list[CanonicalRecord], list[RecordRef]]

# ---------------------------------------------------------------- expressions

_STREAMS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "deals": {
        "text": ("segment", "region", "kind", "owner", "account", "x_text", "x_any", "currency"),
        "number": ("probability", "x_number"),
        "integer": ("x_count",),
        "money": ("amount", "x_money"),
        "date": ("close_date", "x_day"),
        "datetime": ("created_at", "closed_at", "x_at", "x_any"),
        "flag": ("won", "lost", "open", "closed", "is_won", "x_flag", "x_any"),
        "by": ("owner", "region", "account", "team", "channel", "x_text", "x_any", "deal"),
    },
    "tickets": {
        "text": ("category", "priority", "owner", "x_text"),
        "number": ("csat", "x_number"),
        "integer": ("x_count",),
        "money": ("x_money",),
        "date": ("x_day",),
        "datetime": ("created_at", "closed_at", "first_response_at", "x_at"),
        "flag": ("open", "closed", "is_closed", "x_flag"),
        "by": ("owner", "account", "category", "x_text", "ticket"),
    },
    "accounts": {
        "text": ("region", "owner"),
        "number": ("x_number",),
        "integer": ("employees",),
        "money": ("annual_revenue",),
        "date": ("contract_end",),
        "datetime": ("created_at",),
        "flag": ("x_flag",),
        "by": ("owner", "region", "account", "team"),
    },
    "costs": {
        "text": ("source", "campaign"),
        "number": ("x_number",),
        "integer": ("x_count",),
        "money": ("amount",),
        "date": ("date",),
        "datetime": ("created_at",),
        "flag": ("x_flag",),
        "by": ("source", "campaign", "channel"),
    },
}

_TEXTS: Final = (
    "'EMEA'",
    "'large'",
    "'new'",
    "'crm:ana'",
    "'A'",
    "'it''s'",
    "''",
    "'high'",
    '"EUR"',
)
_NUMBERS: Final = ("0", "0.1", "2.5", "2.500001", "100", "-5.5", "50%", "3")
_RATIOS: Final = ("0", "0.1", "0.333333", "50%", "1")
_AMOUNTS: Final = ("0", "12.34", "100", "50", "0.61", "-5", "20000", "33.335")
_DAYS: Final = ("2024-01-01", "2024-02-29", "'2024-03-31'", "2024-05-30")
_TODAYS: Final = ("today", "today - 30d", "today + 5d", "today - 9w")
_ORDERS: Final = ("=", "!=", "<", "<=", ">", ">=")


def _atoms(stream: str, *, has_today: bool) -> st.SearchStrategy[str]:
    fields = _STREAMS[stream]

    def field(*kinds: str) -> st.SearchStrategy[str]:
        return st.sampled_from([name for kind in kinds for name in fields[kind]])

    def made(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds(form.format, *parts)

    one = st.sampled_from
    times, orders, days = field("date", "datetime"), one(_ORDERS), one(_DAYS)
    known = field("text", "number", "money", "date", "datetime")
    todays = [made("{} {} {}", times, orders, one(_TODAYS))] * 3
    return st.one_of(
        made("{} {} {}", field("text"), one(("=", "!=")), one(_TEXTS)),
        made("{} {}in ({}, {})", field("text"), one(("", "not ")), one(_TEXTS), one(_TEXTS)),
        made("{} {} {}", field("number"), orders, one(_RATIOS)),
        made("{} {} {}", field("integer"), orders, one(_NUMBERS)),
        made("{} {} {}", field("money"), orders, one(_AMOUNTS)),
        made("{} between {} and {}", field("money"), one(_AMOUNTS), one(_AMOUNTS)),
        made("{} {} {}", times, orders, days),
        made("{} not between {} and {}", times, days, days),
        made("{} {} {}", times, orders, times),
        made("{} is {}null", known, one(("", "not "))),
        *(field("flag"), field("flag")),
        *((*todays, made("{} {} {}", one(_TODAYS), orders, times)) if has_today else ()),
    )


@st.composite
def filters(draw: st.DrawFn, stream: str, *, has_today: bool, depth: int = 2) -> str:
    """A filter over a stream's records."""
    shape = draw(st.sampled_from(["atom", "atom", "and", "or", "not"])) if depth else "atom"
    if shape == "atom":
        return draw(_atoms(stream, has_today=has_today))
    inner = filters(stream, has_today=has_today, depth=depth - 1)
    if shape == "not":
        return f"not ({draw(inner)})"
    return f"({draw(inner)}) {shape} ({draw(inner)})"


@st.composite
def _aggregates(
    draw: st.DrawFn, stream: str, functions: tuple[str, ...], *, has_today: bool
) -> str:
    fields = _STREAMS[stream]
    function = draw(st.sampled_from(functions))
    where = draw(st.none() | filters(stream, has_today=has_today, depth=1))
    suffix = "" if where is None else f"where {where}"
    if function == "count":
        return f"count({suffix})"
    if function == "distinct":
        return f"distinct({draw(st.sampled_from(fields['text']))} {suffix})"
    times = (*fields["date"], *fields["datetime"])
    spans = [f"{one} - {other}" for one in times for other in times if one != other]
    values = [*fields["number"], *fields["integer"], *fields["money"], *fields["money"]]
    value = draw(st.sampled_from([*values, draw(st.sampled_from(spans))]))
    return f"{function}({value} {suffix})"


@st.composite
def _written(draw: st.DrawFn, name: str) -> Written:
    stream = draw(st.sampled_from(["deals", "deals", "deals", *_STREAMS]))
    fields = _STREAMS[stream]
    has_today = draw(st.booleans())
    is_ratio = draw(st.booleans())
    functions = ("count", "sum", "mean") if has_today or is_ratio else _FUNCTIONS
    if is_ratio and not has_today:
        functions = (*functions, "distinct")
    figures = _aggregates(stream, functions, has_today=has_today)
    date_field = draw(st.sampled_from((*fields["date"], *fields["datetime"], None)))
    by = draw(st.lists(st.sampled_from(fields["by"]), max_size=2, unique=True))
    pair = tuple(by) if draw(st.booleans()) and len(by) == 2 else None
    return Written(
        name=name,
        label=name,
        of=stream,
        date=date_field,
        where=draw(st.one_of(*[filters(stream, has_today=has_today)] * 3, st.none())),
        numerator=draw(figures),
        denominator=draw(figures) if is_ratio else None,
        window=draw(st.sampled_from([None, None, 45])) if date_field else None,
        by=(pair,) if pair else tuple((one,) for one in by),
        own=OWN,
    )


_FUNCTIONS: Final = ("count", "sum", "mean", "median", "min", "max", "distinct")


@st.composite
def kpis(draw: st.DrawFn) -> tuple[Written, ...]:
    """A few KPIs in which nothing is wrong."""
    drawn = [draw(_written(f"own_{number}")) for number in range(draw(st.integers(1, 5)))]
    return tuple(one for one in drawn if not list(faults_of(one)))


FIRST_MOMENT: Final = datetime(2024, 6, 1, 12, tzinfo=UTC)
