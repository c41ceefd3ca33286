"""The stage that holds deals up most, against its own past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction

from metrics.catalog import Bundle
from metrics.definition import Kpi
from metrics.dimensions import grouping_named, name_of, values_of
from metrics.formulas import Formula
from metrics.periods import year_before
from metrics.series import Group, Place, Series
from store.kpis import Content

ENOUGH: int = 20
"""Visits that a stage needs, in the period and before, to be compared with itself."""

NOT_ENOUGH: str = "not enough data"


def bottlenecks(
    series: Series, bundle: Bundle, places: Sequence[Place]
) -> Iterator[tuple[Place, Kpi, Content | None, Formula]]:
    """Of each place the open stage whose median is the largest multiple of that of the year before.

    Args:
        series: reads the cells.
        bundle: of the one KPI.
        places: groups of all deals, or of the owner's or pipeline's ones.
    """
    (kpi,) = bundle.kpis
    (family,) = bundle.families
    formula = Formula(kpi, {}, "")
    stages = _stages_of(series, family.name, {place.group for place in places})
    asked: list[tuple[int, str, bool]] = []
    ranges: list[tuple[object, ...]] = []
    for number, place in enumerate(places):
        for stage, group in stages.get(place.group, ()):
            for is_norm, days in (
                (False, (place.period.start, place.period.stop)),
                (True, (year_before(place.period.start), place.period.start)),
            ):
                ranges.append((len(asked), *group, *days))
                asked.append((number, stage, is_norm))
    medians: dict[tuple[int, str, bool], tuple[int, Fraction | None]] = {
        asked[number]: found for number, found in series.medians(family, kpi, ranges).items()
    }
    for number, place in enumerate(places):
        worst: tuple[Fraction, str, int] | None = None
        n = 0
        for stage, _ in stages.get(place.group, ()):
            count, median = medians.get((number, stage, False), (0, None))
            before, norm = medians.get((number, stage, True), (0, None))
            n += count
            if count < ENOUGH or before < ENOUGH or median is None or not norm:
                continue
            excess = median / norm
            if worst is None or (-excess, stage) < (-worst[0], worst[1]):
                worst = (excess, stage, count)
        content = formula.of_words(NOT_ENOUGH if worst is None else worst[1], n) if n else None
        yield place, kpi, content, formula


def _stages_of(
    series: Series, family: str, groups: set[Group]
) -> dict[Group, list[tuple[str, Group]]]:
    """The stages that deals of a group passed, each with the group of its own cells."""
    found: dict[Group, list[tuple[str, Group]]] = defaultdict(list)
    for dimension in {group.dimension for group in groups}:
        inner = (*grouping_named(dimension), "stage")
        for key in series.keys_of(family, name_of(inner)):
            *outer, stage = values_of(inner, key)
            group = Group(dimension, outer[0] if outer else "*")
            if group in groups:
                found[group].append((stage, Group(name_of(inner), key)))
    return found
