"""The KPIs there are, and the ones a company keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Final

from metrics.catalog import customers, sales
from metrics.definition import Family, Kpi, KpiSettings
from metrics.dimensions import TOTAL, Grouping, checked_grouping, name_of
from metrics.families import family_of
from metrics.periods import Kind, kind_named
from store.canonical import Company

PACKS: Final[Mapping[str, tuple[Kpi, ...]]] = MappingProxyType(
    {"sales": sales.PACK, "customer": customers.PACK}
)
"""Name of a pack -> its KPIs."""

PLANNED_PACKS: Final = ("marketing", "service")
"""Packs that the configuration may not name yet."""

DEFAULT_GROUPINGS: Final[tuple[Grouping, ...]] = (
    ("owner",),
    ("pipeline",),
    ("product",),
    ("source",),
)
BY_ACCOUNT: Final[Grouping] = ("account",)
"""Kept by default, too, but published for ``all`` and ``now`` only."""

STAGE_GROUPINGS: Final[tuple[Grouping, ...]] = (
    ("stage",),
    ("pipeline", "stage"),
    ("owner", "stage"),
)


def available() -> Mapping[str, Kpi]:
    """Every built-in KPI by name."""
    return MappingProxyType({kpi.name: kpi for pack in PACKS.values() for kpi in pack})


@dataclass(frozen=True)
class Catalog:
    """The KPIs that a company keeps: for which periods, by which groups."""

    settings: KpiSettings
    kpis: tuple[Kpi, ...]
    """Sorted by name."""
    kinds: tuple[Kind, ...]
    """Calendar kinds of periods, without ``all`` and ``now``."""

    @property
    def company(self) -> Company:
        """Whose zone and currency the values are in."""
        return self.settings.company

    def kpi(self, name: str) -> Kpi:
        """A kept KPI by name.

        Raises:
            KeyError: it is not kept.
        """
        return self._by_name[name]

    def kinds_of(self, kpi: Kpi) -> tuple[Kind, ...]:
        """The kinds of periods a KPI is published for."""
        return (Kind.NOW,) if kpi.is_instant else (*self.kinds, Kind.ALL)

    def groupings_of(self, kpi: Kpi, kind: Kind) -> tuple[Grouping, ...]:
        """What a KPI is grouped by in periods of a kind; the total first."""
        implied = self.settings.implied.get(kpi.name, ())
        configured = self.settings.by.get(kpi.name)
        groupings: list[Grouping] = [TOTAL]
        if configured is None:
            groupings += DEFAULT_GROUPINGS
            if kpi.is_by_stage:
                groupings += STAGE_GROUPINGS
            if kind in (Kind.ALL, Kind.NOW):
                groupings.append(BY_ACCOUNT)
        else:
            groupings += configured
        return tuple(dict.fromkeys([*groupings, *implied]))

    @cached_property
    def families(self) -> Mapping[str, Family]:
        """The families whose cells the KPIs need, by name."""
        found = {
            family.name: family
            for kpi in self.kpis
            for kind in self.kinds_of(kpi)
            for family in [family_of(kpi, kind)]
        }
        return MappingProxyType(dict(sorted(found.items())))

    @cached_property
    def groupings(self) -> Mapping[str, tuple[Grouping, ...]]:
        """Family -> the groupings its cells are kept in, sorted."""
        found: dict[str, set[Grouping]] = {name: set() for name in self.families}
        for kpi in self.kpis:
            for kind in self.kinds_of(kpi):
                found[family_of(kpi, kind).name].update(self.groupings_of(kpi, kind))
        return MappingProxyType({name: tuple(sorted(kept)) for name, kept in found.items()})

    @cached_property
    def dimensions(self) -> frozenset[str]:
        """The single dimensions that occur in any grouping."""
        return frozenset(
            dimension
            for groupings in self.groupings.values()
            for grouping in groupings
            for dimension in grouping
        )

    def published(self, family: str, kind: Kind, dimension: str) -> tuple[Kpi, ...]:
        """The KPIs that a family's cells of one dimension give for periods of a kind."""
        return self._published.get((family, kind, dimension), ())

    def kinds_published(self, family: str, dimension: str) -> tuple[Kind, ...]:
        """The kinds of periods for which a family's cells of one dimension give values."""
        return self._kinds_published.get((family, dimension), ())

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """Family -> everything its cells depend on but the records: other cells are stale."""
        settings = self.settings
        return MappingProxyType(
            {
                name: _digest(
                    family.formula,
                    family.version,
                    family.measures,
                    self.groupings[name],
                    settings.company.timezone.key,
                    settings.company.currency,
                    settings.match_owners_by_email,
                    # Only families that cut time themselves depend on how it is cut.
                    None
                    if family.kind is None
                    else (settings.week_starts, settings.fiscal_year_starts),
                )
                for name, family in self.families.items()
            }
        )

    @cached_property
    def publication_fingerprint(self) -> str:
        """Everything the published values depend on but the cells."""
        settings = self.settings
        return _digest(
            [
                (
                    kpi.formula,
                    str(kpi.unit),
                    [
                        (
                            str(kind),
                            [name_of(grouping) for grouping in self.groupings_of(kpi, kind)],
                        )
                        for kind in self.kinds_of(kpi)
                    ],
                )
                for kpi in self.kpis
            ],
            sorted((currency, str(rate)) for currency, rate in settings.rates.items()),
            settings.company.currency,
            settings.week_starts,
            settings.fiscal_year_starts,
        )

    @cached_property
    def _by_name(self) -> Mapping[str, Kpi]:
        return {kpi.name: kpi for kpi in self.kpis}

    @cached_property
    def _kinds_published(self) -> Mapping[tuple[str, str], tuple[Kind, ...]]:
        found: dict[tuple[str, str], tuple[Kind, ...]] = {}
        for family, kind, dimension in self._published:
            found[family, dimension] = (*found.get((family, dimension), ()), kind)
        return found

    @cached_property
    def _published(self) -> Mapping[tuple[str, Kind, str], tuple[Kpi, ...]]:
        found: dict[tuple[str, Kind, str], tuple[Kpi, ...]] = {}
        for kpi in self.kpis:
            for kind in self.kinds_of(kpi):
                family = family_of(kpi, kind).name
                for grouping in self.groupings_of(kpi, kind):
                    place = (family, kind, name_of(grouping))
                    found[place] = (*found.get(place, ()), kpi)
        return found


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ---------------------------------------------------------------- from the configuration


def build(settings: KpiSettings) -> Catalog:
    """The catalogue of a configuration.

    Raises:
        ValueError: it names a KPI, a pack, a period or a dimension that does not exist (yet).
    """
    known = available()
    chosen = {kpi.name for name in settings.use for kpi in _used(name, known)}
    for name in settings.skip:
        chosen.discard(_known("kpis.skip", name, known).name)
    for place, groupings in (("kpis.settings", settings.by), ("writebacks", settings.implied)):
        for name, wanted in groupings.items():
            _known(place, name, known)
            for grouping in wanted:
                checked_grouping(f"{place}.{name}.by", grouping)
    for currency, rate in settings.rates.items():
        if not rate.is_finite() or rate <= 0:
            raise ValueError(f"company.fx: the rate of {currency} is {rate}; a rate is above 0")
    # In the order of `Kind`, whatever the configuration's: nothing may depend on that.
    named = {kind_named(period) for period in settings.periods}
    catalog = Catalog(
        settings=settings,
        kpis=tuple(known[name] for name in sorted(chosen)),
        kinds=tuple(kind for kind in Kind if kind in named),
    )
    _ = settings.calendar  # refuses impossible weekdays and months
    return catalog


def _used(name: str, known: Mapping[str, Kpi]) -> Iterable[Kpi]:
    if name in PLANNED_PACKS:
        raise ValueError(
            f'kpis.use: the pack "{name}" is not supported yet; there are {", ".join(PACKS)}'
        )
    return PACKS[name] if name in PACKS else [_known("kpis.use", name, known, also=PACKS)]


def _known(place: str, name: str, known: Mapping[str, Kpi], *, also: Iterable[str] = ()) -> Kpi:
    if name in known:
        return known[name]
    near = get_close_matches(name, [*known, *also], n=1)
    hint = f' did you mean "{near[0]}"?' if near else " `kpisync kpi list` shows them all."
    raise ValueError(f'{place}: there is no KPI "{name}";{hint}')
