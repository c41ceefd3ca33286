from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from metrics.catalog import MODELS, PACKS, available, build
from metrics.definition import KpiSettings, OwnSettings, Unit
from metrics.periods import Kind
from metrics.verify import missing_recipes
from store.canonical import Company
from store.tables import MEASURES

BERLIN = Company(ZoneInfo("Europe/Berlin"), "EUR")
DEFAULT = KpiSettings(company=BERLIN)
ALL_MODELS = {
    name: OwnSettings(models=MODELS)
    for name in ("campaign_revenue", "campaign_deals", "campaign_roi", "campaign_cac")
}


def test_every_kpi_is_written_down_a_second_time_for_verify() -> None:
    assert missing_recipes(available()) == []


def test_every_kpi_explains_itself() -> None:
    for kpi in available().values():
        assert kpi.label, kpi.name
        assert kpi.definition.endswith("."), kpi.name
        assert str(kpi.example), kpi.name
        assert kpi.unit in Unit


def test_families_fit_into_a_cell_and_name_what_kpis_use() -> None:
    catalog = build(replace(DEFAULT, use=tuple(PACKS), own=ALL_MODELS))

    for kpi in catalog.kpis:
        for kind in catalog.kinds_of(kpi):
            for term in kpi.terms:
                family = catalog.family_of(kpi, term, kind)
                assert term.measure in family.measures, (kpi.name, term)
                assert len(family.measures) <= len(MEASURES)
                for grouping in catalog.groupings_of(kpi, kind):
                    assert set(grouping) <= set(family.dimensions), (kpi.name, grouping)


def test_accounts_are_published_for_all_and_now_only_unless_named() -> None:
    default = build(DEFAULT)
    named = build(replace(DEFAULT, by={"win_rate": (("account",),)}))

    win_rate = default.kpi("win_rate")

    assert ("account",) in default.groupings_of(win_rate, Kind.ALL)
    assert ("account",) not in default.groupings_of(win_rate, Kind.MONTH)
    assert ("account",) in named.groupings_of(win_rate, Kind.MONTH)
    assert ("owner",) not in named.groupings_of(win_rate, Kind.MONTH)
    assert () in named.groupings_of(win_rate, Kind.MONTH)


def test_what_a_write_back_needs_comes_beside_what_is_configured() -> None:
    catalog = build(
        replace(DEFAULT, by={"win_rate": (("owner",),)}, implied={"win_rate": (("account",),)})
    )

    groupings = catalog.groupings_of(catalog.kpi("win_rate"), Kind.ALL)

    assert groupings == ((), ("owner",), ("account",))


def test_time_in_stage_is_grouped_by_stage() -> None:
    catalog = build(DEFAULT)

    groupings = catalog.groupings_of(catalog.kpi("time_in_stage_days"), Kind.MONTH)

    assert {("stage",), ("pipeline", "stage"), ("owner", "stage")} <= set(groupings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use": ("saels",)}, 'kpis.use: there is no KPI "saels"; did you mean "sales"?'),
        ({"skip": ("winrate",)}, 'kpis.skip: there is no KPI "winrate"; did you mean "win_rate"?'),
        ({"periods": ("last_90d",)}, '"last_90d" is not a period'),
        ({"rolling": {"open_count": ("last_90d",)}}, "cannot be had for rolling periods"),
        ({"by": {"npss": ()}}, 'there is no KPI "npss"'),
        ({"by": {"win_rate": (("priority",),)}}, 'win_rate.by: "priority" is not a dimension'),
        ({"by": {"cac": (("owner",),)}}, 'cac.by: "owner" is not a dimension'),
        ({"rates": {"USD": Decimal(0)}}, "a rate is above 0"),
        ({"week_starts": 9}, "weekday"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(change: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("?", r"\?")):
        build(replace(DEFAULT, **change))  # type: ignore[arg-type]  # fields of the settings


def test_single_kpis_can_be_used_and_skipped() -> None:
    catalog = build(replace(DEFAULT, use=("customer", "win_rate"), skip=("revenue",)))

    names = {kpi.name for kpi in catalog.kpis}
    assert {"buyers", "new_customers", "purchases", "win_rate"} <= names
    assert not {"revenue", "lost_count"} & names


def test_the_order_of_the_configuration_changes_nothing() -> None:
    one = build(replace(DEFAULT, periods=("year", "month"), use=("customer", "sales")))
    other = build(replace(DEFAULT, periods=("month", "year"), use=("sales", "customer")))

    assert one.fingerprints == other.fingerprints
    assert one.publication_fingerprint == other.publication_fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"company": Company(ZoneInfo("Asia/Tokyo"), "EUR")},
        {"company": Company(ZoneInfo("Europe/Berlin"), "USD")},
        {"match_owners_by_email": True},
        {"by": {"win_rate": (("type",),)}},
    ],
)
def test_what_cells_depend_on_is_in_their_fingerprint(change: dict[str, object]) -> None:
    changed = build(replace(DEFAULT, **change))  # type: ignore[arg-type]  # fields of the settings

    assert build(DEFAULT).fingerprints["deals_closed"] != changed.fingerprints["deals_closed"]


@pytest.mark.parametrize(
    "change",
    [{"skip": ("win_rate",)}, {"periods": ("month",)}],
)
def test_what_values_depend_on_is_in_their_fingerprint(change: dict[str, object]) -> None:
    changed = build(replace(DEFAULT, **change))  # type: ignore[arg-type]  # fields of the settings

    assert build(DEFAULT).publication_fingerprint != changed.publication_fingerprint
    assert build(DEFAULT).fingerprints["deals_closed"] == changed.fingerprints["deals_closed"]


def test_how_a_week_starts_makes_only_families_stale_that_cut_weeks() -> None:
    weekly = replace(DEFAULT, periods=("week",))
    from_sunday = replace(weekly, week_starts=6)

    before, after = build(weekly).fingerprints, build(from_sunday).fingerprints

    assert before["buyers_week"] != after["buyers_week"]
    assert before["deals_closed"] == after["deals_closed"]
