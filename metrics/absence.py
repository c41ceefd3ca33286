"""Why there is no such value, in words: an empty answer would pass for a fact."""

from __future__ import annotations

from metrics.catalog import Catalog, remedy_of_unkept
from metrics.definition import Kpi
from metrics.dimensions import TOTAL_NAME, name_of
from metrics.periods import Kind, is_rolling, kind_of


def why_none(catalog: Catalog, kpi: Kpi | None, period: str | None, dimension: str | None) -> str:
    """What keeps values from being there.

    Args:
        catalog: what is kept.
        kpi: the one asked for; None: all of them.
        period: a label or a kind; None: any.
        dimension: as values are grouped; None: any.
    """
    kept = {one.name: one for one in catalog.kpis}
    if kpi is not None and kpi.name not in kept:
        return f'"{kpi.name}" is not kept. {remedy_of_unkept(kpi, catalog.settings)}'
    asked = list(kept.values()) if kpi is None else [kept[kpi.name]]
    kinds = list(dict.fromkeys(kind for one in asked for kind in catalog.kinds_of(one)))
    if period is not None:
        try:
            kind = period if period in set(Kind) else str(kind_of(period))
        except ValueError:
            return (
                f'"{period}" is not a period; periods are called 2017-Q1, 2017-03, 2017, all, now.'
            )
        if kind not in kinds:
            return _not_kept(kind, kinds)
        kinds = [kind]
    groupings = dict.fromkeys(
        name_of(grouping)
        for one in asked
        for kind in kinds
        if kind in catalog.kinds_of(one)
        for grouping in catalog.groupings_of(one, kind)
    )
    if dimension is not None and dimension not in groupings:
        where = "kpis.settings.KPI.by" if kpi is None else f"kpis.settings.{kpi.name}.by"
        return (
            f"Values by {dimension} are not kept there; {where} can name it. "
            f"Kept are: {', '.join(groupings) or TOTAL_NAME}."
        )
    return "No record stands behind such a value; kpisync status shows what has been read."


def _not_kept(kind: str, kinds: list[str]) -> str:
    kept = f"Kept are: {', '.join(kinds)}."
    if is_rolling(kind):
        return (
            f"Values of {kind} are kept where a write-back, a target or kpis.settings.KPI.window "
            f"names these days. {kept}"
        )
    if kind in (Kind.NOW, Kind.ALL):
        return f'There are no values for "{kind}". {kept}'
    return f"Values by {kind} are not kept; kpis.periods can name it. {kept}"
