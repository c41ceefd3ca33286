from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.dialects import postgresql, sqlite

from metrics.catalog import build
from metrics.contributions.tables import CUSTOM_FACTS
from metrics.definition import KpiSettings, Unit
from metrics.expression import tree
from metrics.expression.checking import Checker
from metrics.expression.compiling import Setting
from metrics.expression.definition import Written, faults_of, kpi_of, understood
from metrics.expression.faults import ExpressionFault
from metrics.expression.fields import STREAMS, Type, fields_of
from metrics.expression.parsing import DEEPEST, LONGEST, MOST_PARTS
from metrics.expression.upkeep import statements_of
from tests.pipeline.metrics.books import BERLIN
from tests.pipeline.metrics.expressions import kpis

OWN = {"arr": "money", "tier": None, "score": "number", "signed": "date"}
DEALS = Checker("deals", fields_of("deals", OWN))
TICKETS = Checker("tickets", fields_of("tickets", {}))


def written(**changes: object) -> Written:
    usual: dict[str, object] = {
        "name": "mine",
        "label": "Mine",
        "of": "deals",
        "date": "closed_at",
        "numerator": "count(where won)",
        "own": tuple(OWN.items()),
    }
    return Written(**{**usual, **changes})  # type: ignore[arg-type]  # as the names say


def fault_in(text: str) -> ExpressionFault:
    with pytest.raises(ExpressionFault) as caught:
        (DEALS.aggregate if text.startswith("=") else DEALS.filter)(text.removeprefix("="))
    return caught.value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("won", "is_closed and is_won"),
        ("lost", "(is_closed and not is_won)"),
        ("not open", "not (not is_closed)"),
        ("amount between 5 and 10", "(amount >= 5 and amount <= 10)"),
        ("region in ('EMEA', 'APAC')", "(region = 'EMEA' or region = 'APAC')"),
        ("region not in ('EMEA', 'APAC')", "not (region = 'EMEA' or region = 'APAC')"),
        ("region != 'EMEA'", "not region = 'EMEA'"),
        ("5 < amount", "amount > 5"),
        ("AMOUNT > 5".lower(), "amount > 5 "),
        ("won AND NOT lost", "won and not lost"),
        ('region = "it\'s"', "region = 'it''s'"),
        ("probability >= 50%", "probability >= 0.5"),
        ("close_date >= '2026-01-31'", "close_date >= 2026-01-31"),
        ("today - 2w <= close_date", "close_date >= today - 14d"),
        ("region is not null", "not region is null"),
        ("is_won == true and region <> 'x'", "is_won and region != 'x'"),
    ],
)
def test_two_ways_to_say_one_thing(one: str, other: str) -> None:
    assert DEALS.filter(one) == DEALS.filter(other)


def test_and_binds_closer_than_or_and_not_closer_than_both() -> None:
    assert DEALS.filter("not won and lost or open") == DEALS.filter("((not won) and lost) or open")


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("segmnt = 'Enterprise'", 1, '"segmnt" is not a field of deals. Did you mean "segment"?'),
        ("won and amont > 5", 9, 'Did you mean "amount"?'),
        ("wonn", 1, 'Did you mean "won"?'),
        ("amount >= 'many'", 11, "amount >= 100"),
        ("region > 'A'", 10, "Use =, != or in."),
        ("amount", 1, '"amount" is money and says neither yes nor no.'),
        ("close_date > 2026-02-30", 14, "There is no day 2026-02-30."),
        ("close_date > 'soon'", 14, "Write it like 2026-01-31."),
        ("amount > today", 1, '"amount" is money, no date.'),
        ("probability > 50", 15, "Write 50%"),
        ("amount > close_date", 10, "they cannot be compared"),
        ("tier > 5", 8, "Nobody says whether"),
        ("modified_at > today", 1, "is not a field of deals"),
        ("5 > 4", 3, "Nothing of the record is compared here."),
        ("amount >=", 10, "It ends too early."),
        ("amount >= 5 5", 13, '"5" cannot stand here.'),
        ("region = 'open", 10, "A text is not closed."),
        ("region = 'x'; drop table deals", 13, '";" cannot stand here.'),
        ("amount > $5", 10, '"$" cannot stand here.'),
        ("won\nand amont > 5", 9, "amont"),
        ("=cuont()", 1, 'Did you mean "count"?'),
        ("=sum(region)", 5, "sum takes numbers"),
        ("=sum(tier)", 5, "{from: ..., type: money}"),
        ("=sum()", 1, "sum of what?"),
        ("=count(amount)", 7, "takes no field"),
        ("=distinct(amount)", 10, "distinct(account)"),
        ("=mean(close_date)", 6, "closed_at - created_at"),
        ("region = 'x\x00y'", 10, "no field can hold"),
        ("=count(where won", 16, "It ends too early."),
        ("=sum(amount) / count()", 13, '"/" cannot stand here.'),
    ],
)
def test_a_fault_names_its_column_and_proposes(text: str, column: int, words: str) -> None:
    fault = fault_in(text)

    assert (fault.column, words in str(fault)) == (column, True), str(fault)


@pytest.mark.parametrize(
    "text",
    [
        "won or " * (LONGEST // 7) + "won",
        "(" * (DEEPEST + 1) + "won" + ")" * (DEEPEST + 1),
        "not " * (DEEPEST + 1) + "won",
        " or ".join(["won"] * (MOST_PARTS + 1)),
        f"region in ({', '.join(['1'] * MOST_PARTS)})".replace("1", "'x'"),
        "amount > " + "9" * 25,
        "close_date > today - 99999d",
        "(" * 100_000,
        "'" * 100_001,
    ],
)
def test_what_is_too_long_too_deep_or_too_large_is_refused_at_once(text: str) -> None:
    assert fault_in(text).hint or fault_in(text).message


@given(st.text(max_size=80))
def test_any_text_is_an_expression_or_a_fault(text: str) -> None:
    columns = [column_of_fault(read, text) for read in (DEALS.filter, DEALS.aggregate)]

    assert all(column is None or 1 <= column <= len(text) + 1 for column in columns)


def column_of_fault(read: Callable[[str], object], text: str) -> int | None:
    try:
        read(text)
    except ExpressionFault as fault:
        return fault.column
    return None


INJECTIONS = (
    "x' or '1'='1",
    "x'; drop table deals; --",
    "%(name)s :name ? %s {0}",
    "\\' or 1=1 --",
    '" || (select 1) || "',
)


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("for_postgresql", [True, False])
def test_values_are_only_ever_bound(text: str, for_postgresql: bool) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    custom = understood(written(where=f"region = {quoted} or tier in ({quoted}, 'y')"))

    setting = Setting(
        stream="deals", currency="EUR", today=1, slots=(), for_postgresql=for_postgresql
    )
    dialect = postgresql.dialect() if for_postgresql else sqlite.dialect()  # type: ignore[no-untyped-call]  # a dialect's constructor
    (rows,) = statements_of(custom.parts[0], setting, ("region", "tier"))
    compiled = (
        insert(CUSTOM_FACTS).from_select(list(CUSTOM_FACTS.c.keys()), rows).compile(dialect=dialect)
    )

    assert text not in str(compiled)
    assert "tier" not in str(compiled).split("FROM")[0].replace(text, "")
    assert list(compiled.params.values()).count(text) == 2


@pytest.mark.parametrize(
    ("changes", "part", "words"),
    [
        ({"numerator": "median(amount)", "denominator": "count()"}, "numerator", "of a ratio"),
        (
            {"where": "close_date < today", "numerator": "median(amount)"},
            "numerator",
            "cannot be kept exact",
        ),
        (
            {"numerator": "distinct(account where created_at > today - 30d)"},
            "numerator",
            "Use window: 90d",
        ),
        ({"numerator": "sum(amount)", "format": "percent"}, "format", "money"),
        ({"numerator": "count()", "format": "hours"}, "format", "It may be: number."),
        (
            {"numerator": "mean(closed_at - created_at)", "denominator": "sum(amount)"},
            "numerator",
            "cannot be divided by money",
        ),
        ({"date": "amount"}, "date", "is no date"),
        ({"date": "closed"}, "date", 'Did you mean "closed_at"?'),
        ({"date": None, "window": 90}, "window", "Name a date."),
        ({"by": (("ownr",),)}, "by", 'Did you mean "owner"?'),
        ({"by": (("owner", "owner"),)}, "by", "named twice"),
        ({"of": "deal"}, "of", 'Did you mean "deals"?'),
        (
            {"where": " or ".join(f"close_date = today - {day}d" for day in range(6))},
            "where",
            "today stands here more than",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(
    changes: dict[str, object], part: str, words: str
) -> None:
    faults = list(faults_of(written(**changes)))

    assert [fault.part for fault in faults] == [part]
    assert words in str(faults[0])


def test_all_parts_with_a_fault_are_told_at_once() -> None:
    broken = written(date="x", where="y", numerator="z()", denominator="count(", by=(("q",),))

    assert [fault.part for fault in faults_of(broken)] == [
        *("date", "where", "numerator", "denominator", "by")
    ]


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({}, Unit.COUNT),
        ({"denominator": "count()"}, Unit.RATIO),
        ({"numerator": "sum(amount)"}, Unit.MONEY),
        ({"numerator": "sum(amount)", "denominator": "distinct(account)"}, Unit.MONEY),
        ({"numerator": "sum(amount where won)", "denominator": "sum(amount)"}, Unit.RATIO),
        ({"numerator": "median(arr)"}, Unit.MONEY),
        ({"numerator": "mean(score)"}, Unit.POINTS),
        ({"numerator": "mean(closed_at - created_at)"}, Unit.HOURS),
        ({"numerator": "mean(close_date - created_at)"}, Unit.DAYS),
        ({"numerator": "mean(closed_at - created_at)", "format": "days"}, Unit.DAYS),
    ],
)
def test_a_value_has_the_unit_of_what_is_counted(changes: dict[str, object], unit: Unit) -> None:
    assert kpi_of(understood(written(**changes))).unit is unit


def test_another_expression_is_another_definition_another_label_or_unused_field_is_not() -> None:
    versions = [
        understood(written(**changes)).version
        for changes in (
            {},
            {"label": "Other words"},
            {"by": (("owner",),)},
            {"own": (("arr", "number"),)},
            {"where": "amount > 5"},
            {"where": "amount > 6"},
            {"numerator": "count(where lost)"},
            {"numerator": "sum(arr)"},
            {"numerator": "sum(arr)", "own": (("arr", "number"),)},
        )
    ]

    assert versions[:4] == [versions[0]] * 4
    assert len(set(versions)) == 6


def test_a_name_of_a_built_in_kpi_is_taken() -> None:
    with pytest.raises(ValueError, match="is the name of a built-in KPI"):
        build(KpiSettings(company=BERLIN, custom=(written(name="win_rate"),)))


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_has_fields_that_can_be_counted_and_grouped_by(stream: str) -> None:
    fields = fields_of(stream, {})

    kpi = kpi_of(understood(Written(name="n", label="n", of=stream, numerator="count()")))

    assert Type.UNSAID not in {field.type for field in fields.values()}
    assert kpi.is_instant
    assert kpi.custom is not None
    assert kpi.custom.dimensions


def test_amounts_are_bound_as_whole_minor_units() -> None:
    condition = DEALS.filter("amount >= 0.005 and arr < -1e2".replace("-1e2", "-100"))

    assert [atom.literal for atom in tree.money_compared(condition)] == [
        Decimal("0.005"),
        Decimal(-100),
    ]


@settings(max_examples=20, deadline=None)
@given(kpis())
def test_random_kpis_of_the_other_tests_are_understood(custom: tuple[Written, ...]) -> None:
    build(KpiSettings(company=BERLIN, use=(), custom=custom))
