"""The KPIs there are, and the ones a company keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias, cast

from metrics.catalog import emails, lifetimes, marketing, service, stages
from metrics.definition import (
    Bucket,
    Family,
    Kpi,
    KpiSettings,
    OwnSettings,
    Span,
    Term,
    Unit,
)
from metrics.dimensions import OWN_PLACES, TOTAL, Grouping, checked_grouping, name_of
from metrics.expression.definition import (
    MOST_DIMENSIONS,
    CustomKpi,
    FamilyPart,
    Written,
    kpi_of,
    understood,
)
from metrics.expression.tree import money_compared
from metrics.families import (
    columns_read,
    dimensions_of,
    family_of,
    has_rolling,
    mapped_stream_of,
    stream_of_source,
)
from metrics.periods import Kind, is_rolling, kind_named
from store.canonical import Company

PACKS: Final[Mapping[str, tuple[Kpi, ...]]] = MappingProxyType(
    {
        "sales": stages.PACK,
        "customer": lifetimes.PACK,
        "marketing": (*marketing.PACK, *emails.PACK),
        "service": service.PACK,
    }
)
"""Name of a pack -> its KPIs."""

MODELS: Final = ("first", "last", "linear", "primary")
DEFAULT_MODELS: Final = ("primary",)

DEFAULT_GROUPINGS: Final[tuple[Grouping, ...]] = (
    ("owner",),
    ("pipeline",),
    ("product",),
    ("source",),
)
BY_ACCOUNT: Final[Grouping] = ("account",)
"""Kept by default, too, but published for ``all`` and ``now`` only."""


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

    def own(self, kpi: Kpi) -> OwnSettings:
        """What the settings say of a KPI: itself, then its sisters, then the common name."""
        return self._own[kpi.name]

    def kinds_of(self, kpi: Kpi) -> tuple[str, ...]:
        """The kinds of periods a KPI is published for."""
        if kpi.is_instant:
            return (str(Kind.NOW),)
        rolling = tuple(dict.fromkeys(self.settings.rolling.get(kpi.name, ())))
        if kpi.window is not None:
            return tuple(dict.fromkeys((f"last_{kpi.window}d", *sorted(rolling))))
        fixed = tuple(str(kind) for kind in self.kinds)
        return (*fixed, *((str(Kind.ALL),) if kpi.has_all else ()), *sorted(rolling))

    def groupings_of(self, kpi: Kpi, kind: str) -> tuple[Grouping, ...]:
        """What a KPI is grouped by in periods of a kind; the total first."""
        kinds = self.settings.implied_kinds
        implied = [
            grouping
            for grouping in self.settings.implied.get(kpi.name, ())
            if kind in kinds.get((kpi.name, grouping), (kind,))
        ]
        configured = self.settings.by.get(kpi.name)
        groupings: list[Grouping] = [TOTAL] if kpi.has_total else []
        if configured is None:
            groupings += DEFAULT_GROUPINGS if kpi.groupings is None else kpi.groupings
            if kpi.by_account and kind in (Kind.ALL, Kind.NOW):
                groupings.append(BY_ACCOUNT)
        else:
            groupings += configured
        return tuple(dict.fromkeys([*groupings, *implied]))

    def family_of(self, kpi: Kpi, term: Term, kind: str) -> Family:
        """The family whose cells give a term's sums in periods of a kind."""
        return self.family(kpi, term.family or kpi.family, kind)

    def family(self, kpi: Kpi, formula: str, kind: str) -> Family:
        """The family of a formula, as a KPI's settings want it, for periods of a kind."""
        if kpi.custom is not None:
            return self._custom_families[formula]
        family = family_of(formula, kind, self.own(kpi), has_percentile=kpi.percentile is not None)
        mapped = self.mapped_fields(family.source)
        return replace(family, mapped=mapped) if mapped else family

    @cached_property
    def columns_read(self) -> Mapping[str, frozenset[str]]:
        """Source of facts -> which of their columns the families read."""
        return columns_read(self.families, self.groupings)

    def mapped_fields(self, source: str) -> tuple[str, ...]:
        """The mapped fields by which families of a source are grouped, each in its place."""
        stream = stream_of_source(source)
        return () if stream is None else self.mapped_by_stream.get(stream, ())

    @cached_property
    def mapped_by_stream(self) -> Mapping[str, tuple[str, ...]]:
        """Stream -> the mapped fields by which built-in KPIs are grouped."""
        found: dict[str, set[str]] = {}
        for kpi in self.kpis:
            stream = None if kpi.custom is not None else mapped_stream_of(kpi)
            if stream is not None:
                named = {
                    name
                    for kind in self.kinds_of(kpi)
                    for grouping in self.groupings_of(kpi, kind)
                    for name in grouping
                }
                found.setdefault(stream, set()).update(named.difference(dimensions_of(kpi)))
        return {stream: tuple(sorted(names)) for stream, names in found.items() if names}

    @cached_property
    def custom_parts(self) -> Mapping[str, FamilyPart]:
        """The families of custom KPIs by name, as their expressions say."""
        return {
            part.name: part
            for kpi in self.kpis
            if kpi.custom is not None
            for part in kpi.custom.parts
        }

    @cached_property
    def _custom_families(self) -> Mapping[str, Family]:
        return {
            name: part.family(self._custom_dimensions(self.kpi(part.custom.name)))
            for name, part in self.custom_parts.items()
        }

    def _custom_dimensions(self, kpi: Kpi) -> tuple[str, ...]:
        groupings = [one for kind in self.kinds_of(kpi) for one in self.groupings_of(kpi, kind)]
        return tuple(sorted({name for grouping in groupings for name in grouping}))

    @cached_property
    def money_slots(self) -> tuple[Decimal, ...]:
        """The amounts that custom KPIs compare with, each in its place."""
        amounts = {
            atom.literal
            for part in self.custom_parts.values()
            for _, condition in part.conditions
            for atom in money_compared(condition)
            if isinstance(atom.literal, Decimal)
        }
        return tuple(sorted(amounts))

    def families_of(self, kpi: Kpi, kind: str) -> tuple[Family, ...]:
        """Every family that a KPI reads in periods of a kind."""
        return self._families_of[kpi.name, kind]

    @cached_property
    def _families_of(self) -> Mapping[tuple[str, str], tuple[Family, ...]]:
        return {
            (kpi.name, kind): tuple(
                self.family(kpi, formula, kind)
                for formula in sorted({term.family or kpi.family for term in kpi.terms})
            )
            for kpi in self.kpis
            for kind in self.kinds_of(kpi)
        }

    def is_plain(self, kpi: Kpi, kind: str) -> bool:
        """Whether its values are sums, or one ratio of sums, over one family and each period."""
        families = self.families_of(kpi, kind)
        return (
            kpi.composed is None
            and kpi.percentile is None
            and kpi.unit is not Unit.TEXT
            and len(families) == 1
            and not families[0].is_clocked
            and families[0].bucket not in {Bucket.INSTANT, Bucket.MEMBER}
            and all(term.span is Span.PERIOD for term in kpi.terms)
            and not is_rolling(kind)
        )

    @cached_property
    def families(self) -> Mapping[str, Family]:
        """The families whose cells the KPIs need, by name."""
        found = {
            family.name: family
            for kpi in self.kpis
            for kind in self.kinds_of(kpi)
            for family in self.families_of(kpi, kind)
        }
        return MappingProxyType(dict(sorted(found.items())))

    @cached_property
    def sources(self) -> frozenset[str]:
        """The facts that the families read."""
        return frozenset(
            source for family in self.families.values() for source in (family.source, *family.also)
        )

    @cached_property
    def groupings(self) -> Mapping[str, tuple[Grouping, ...]]:
        """Family -> the groupings its cells are kept in, sorted."""
        found: dict[str, set[Grouping]] = {name: set() for name in self.families}
        for kpi in self.kpis:
            for kind in self.kinds_of(kpi):
                for family in self.families_of(kpi, kind):
                    found[family.name].update((*self.groupings_of(kpi, kind), *kpi.inner))
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

    def published(self, family: str, kind: str, dimension: str) -> tuple[Kpi, ...]:
        """The KPIs that a family's cells of one dimension give for periods of a kind."""
        return self._published.get((family, kind, dimension), ())

    def kinds_published(self, family: str, dimension: str) -> tuple[str, ...]:
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
                    settings.identity.fingerprint,
                    family.window,
                    family.is_business_hours and str(settings.working_hours),
                    family.is_latest,
                    family.origins,
                    family.meaning,
                    self._places_used(family),
                    family.source == "costs" and self.costs_digest,
                    # Only families that cut time themselves depend on how it is cut.
                    None
                    if family.kind is None
                    else (settings.week_starts, settings.fiscal_year_starts),
                )
                for name, family in self.families.items()
            }
        )

    def _places_used(self, family: Family) -> list[str | None]:
        """The mapped fields of a family's groupings, each in its place: places may move."""
        used = {name for grouping in self.groupings[family.name] for name in grouping}
        return [name if name in used else None for name in family.mapped]

    @cached_property
    def publication_fingerprint(self) -> str:
        """Everything the published values depend on but the cells."""
        settings = self.settings
        return _digest(
            [
                (
                    kpi.formula,
                    str(kpi.unit),
                    repr(self.own(kpi)),
                    [
                        (
                            kind,
                            [name_of(grouping) for grouping in self.groupings_of(kpi, kind)],
                        )
                        for kind in self.kinds_of(kpi)
                    ],
                )
                for kpi in self.kpis
            ],
            settings.company.currency,
            settings.week_starts,
            settings.fiscal_year_starts,
        )

    @cached_property
    def meaning_digest(self) -> str:
        """Everything the published values depend on but the records."""
        settings = self.settings
        return _digest(
            self.publication_fingerprint,
            sorted(self.fingerprints.items()),
            sorted((name, str(rate)) for name, rate in settings.rates.items()),
            [repr(rate) for rate in settings.dated_rates],
            settings.rates_from,
        )

    @cached_property
    def costs_digest(self) -> str:
        """Of the costs that files tell."""
        return _digest([repr(cost) for cost in self.settings.costs])

    @cached_property
    def _by_name(self) -> Mapping[str, Kpi]:
        return {kpi.name: kpi for kpi in self.kpis}

    @cached_property
    def _own(self) -> Mapping[str, OwnSettings]:
        return {kpi.name: _own_settings(kpi, self.settings) for kpi in self.kpis}

    @cached_property
    def _kinds_published(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for family, kind, dimension in self._published:
            found[family, dimension] = (*found.get((family, dimension), ()), kind)
        return found

    @cached_property
    def _published(self) -> Mapping[tuple[str, str, str], tuple[Kpi, ...]]:
        found: dict[tuple[str, str, str], tuple[Kpi, ...]] = {}
        for kpi in self.kpis:
            for kind in self.kinds_of(kpi):
                if not self.is_plain(kpi, kind):
                    continue
                (family,) = self.families_of(kpi, kind)
                for grouping in self.groupings_of(kpi, kind):
                    place = (family.name, kind, name_of(grouping))
                    found[place] = (*found.get(place, ()), kpi)
        return found

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """The KPIs and kinds of periods that are not plain, those that read the same together."""
        found: dict[tuple[object, ...], list[Kpi]] = {}
        for kpi in self.kpis:
            for kind in self.kinds_of(kpi):
                if self.is_plain(kpi, kind):
                    continue
                reads = frozenset(
                    (self.family_of(kpi, term, kind).name, term.span) for term in kpi.terms
                )
                dimensions = tuple(name_of(grouping) for grouping in self.groupings_of(kpi, kind))
                apart = kpi.name if kpi.percentile is not None or kpi.unit is Unit.TEXT else ""
                found.setdefault((kind, reads, dimensions, apart), []).append(kpi)
        return tuple(
            Bundle(
                kind=kpis_of[0],
                kpis=tuple(kpis),
                families=tuple(
                    {
                        family.name: family
                        for kpi in kpis
                        for family in self.families_of(kpi, kpis_of[0])
                    }.values()
                ),
                reads=kpis_of[1],
                dimensions=frozenset(kpis_of[2]),
            )
            for kpis_of, kpis in ((cast("_BundleKey", key), kpis) for key, kpis in found.items())
        )

    def bundles_above(self, family: str, dimension: str) -> tuple[Bundle, ...]:
        """The bundles that read a family's cells of one dimension."""
        return self._bundles_above.get((family, dimension), ())

    @cached_property
    def _bundles_above(self) -> Mapping[tuple[str, str], tuple[Bundle, ...]]:
        found: dict[tuple[str, str], tuple[Bundle, ...]] = {}
        for bundle in self.bundles:
            for family in bundle.families:
                for dimension in bundle.dimensions:
                    place = (family.name, dimension)
                    found[place] = (*found.get(place, ()), bundle)
        return found


_BundleKey: TypeAlias = tuple[str, frozenset[tuple[str, Span]], tuple[str, ...], str]


@dataclass(frozen=True, eq=False)
class Bundle:
    """KPIs of one kind of period that are computed from the same sums in the same groups."""

    kind: str
    kpis: tuple[Kpi, ...]
    families: tuple[Family, ...]
    reads: frozenset[tuple[str, Span]]
    """Name of a family and which of its days."""
    dimensions: frozenset[str]

    @property
    def is_calendar(self) -> bool:
        """Whether its periods are those of the calendar, and not single ones."""
        return self.kind not in (Kind.ALL, Kind.NOW) and not is_rolling(self.kind)

    @cached_property
    def is_up_to_now(self) -> bool:
        """Whether periods that have not begun have no value."""
        has_clock = any(family.is_clocked for family in self.families)
        return has_clock or any(span is not Span.PERIOD for _, span in self.reads)

    def spans_of(self, family: str) -> frozenset[Span]:
        """Which days of a family it reads."""
        return frozenset(span for name, span in self.reads if name == family)


def _own_settings(kpi: Kpi, settings: KpiSettings) -> OwnSettings:
    """Each setting from the KPI itself, else from its sisters, else from their common name."""
    known = available()
    sisters = sorted(
        name for name, one in known.items() if kpi.base is not None and one.base == kpi.base
    )
    names = [kpi.name, *sisters, *((kpi.base,) if kpi.base else ())]
    found = [settings.own[name] for name in names if name in settings.own]
    chosen = {
        name: next(
            (value for one in found if (value := getattr(one, name)) not in (None, ())), None
        )
        for name in OwnSettings.__dataclass_fields__
        if name in kpi.settings
    }
    return OwnSettings(**{name: value for name, value in chosen.items() if value is not None})


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ---------------------------------------------------------------- from the configuration


def build(settings: KpiSettings) -> Catalog:
    """The catalogue of a configuration.

    Raises:
        ValueError: it names a KPI, a pack, a period or a dimension that does not exist (yet).
    """
    known = {**available(), **custom_kpis(settings)}
    chosen = {kpi.name for name in settings.use for kpi in _used(name, known)}
    chosen |= {one.name for one in settings.custom}
    for name in settings.skip:
        chosen.discard(_known("kpis.skip", name, known).name)
    chosen = {name for name in chosen if _is_on(known[name], settings)}
    _refuse_impossible(settings, known)
    # In the order of `Kind`, whatever the configuration's: nothing may depend on that.
    named = {kind_named(period) for period in settings.periods}
    catalog = Catalog(
        settings=settings,
        kpis=tuple(_resolved(known[name], settings) for name in sorted(chosen)),
        kinds=tuple(kind for kind in Kind if kind in named),
    )
    _ = settings.calendar  # refuses impossible weekdays and months
    _refuse_too_many(catalog)
    return catalog


def _refuse_impossible(settings: KpiSettings, known: Mapping[str, Kpi]) -> None:
    for place, groupings in (("kpis.settings", settings.by), ("writebacks", settings.implied)):
        for name, wanted in groupings.items():
            kpi = _known(place, name, known)
            for grouping in wanted:
                known_dimensions = dimensions_of(kpi, settings.fields)
                checked_grouping(f"{place}.{name}.by", grouping, known_dimensions)
    for name, periods in settings.rolling.items():
        kpi = _resolved(_known("writebacks", name, known), settings)
        if periods and (kpi.is_instant or not has_rolling(kpi)):
            raise ValueError(f'"{name}" cannot be had for rolling periods such as {periods[0]}')
    for currency, rate in settings.rates.items():
        if not rate.is_finite() or rate <= 0:
            raise ValueError(f"company.fx: the rate of {currency} is {rate}; a rate is above 0")


def _refuse_too_many(catalog: Catalog) -> None:
    for stream, names in catalog.mapped_by_stream.items():
        if len(names) > len(OWN_PLACES):
            raise ValueError(
                f"KPIs are grouped by more than {len(OWN_PLACES)} mapped fields of {stream}: "
                f"{', '.join(names)}"
            )
    for name in catalog.custom_parts:
        if len(catalog.families[name].dimensions) > MOST_DIMENSIONS:
            raise ValueError(
                f"{name.removeprefix('custom_')} is grouped by more than {MOST_DIMENSIONS} "
                "different dimensions"
            )


def custom_kpis(settings: KpiSettings) -> Mapping[str, Kpi]:
    """The KPIs of the company's own by name.

    Raises:
        ValueError: an expression cannot be, or the name is taken.
    """
    taken = available()
    found: dict[str, Kpi] = {}
    for written in settings.custom:
        if written.name in taken or written.name in PACKS:
            raise ValueError(f'kpis.custom: "{written.name}" is the name of a built-in KPI')
        found[written.name] = kpi_of(_understood(written))
    return MappingProxyType(found)


@lru_cache(maxsize=256)
def _understood(written: Written) -> CustomKpi:
    return understood(written)


def _resolved(kpi: Kpi, settings: KpiSettings) -> Kpi:
    return kpi if kpi.resolve is None else kpi.resolve(kpi, _own_settings(kpi, settings))


def _is_on(kpi: Kpi, settings: KpiSettings) -> bool:
    if kpi.model is None:
        return True
    return kpi.model in (_own_settings(kpi, settings).models or DEFAULT_MODELS)


def _used(name: str, known: Mapping[str, Kpi]) -> Iterable[Kpi]:
    return PACKS[name] if name in PACKS else [_known("kpis.use", name, known, also=PACKS)]


def _known(place: str, name: str, known: Mapping[str, Kpi], *, also: Iterable[str] = ()) -> Kpi:
    if name in known:
        return known[name]
    near = get_close_matches(name, [*known, *also], n=1)
    hint = f' did you mean "{near[0]}"?' if near else " `kpisync kpi list` shows them all."
    raise ValueError(f'{place}: there is no KPI "{name}";{hint}')


def remedy_of_unkept(kpi: Kpi, settings: KpiSettings) -> str:
    """How a KPI that the settings leave out can be had, in words."""
    pack = next(
        (name for name, kpis in PACKS.items() if kpi.name in {one.name for one in kpis}), ""
    )
    if kpi.name in settings.skip:
        return f"Take {kpi.name} out of kpis.skip."
    if not {pack, kpi.name} & set(settings.use):
        return f"Add {pack} to kpis.use."
    if kpi.model is None:
        return "Look at kpis.use and kpis.skip."
    models = ", ".join((*(_own_settings(kpi, settings).models or DEFAULT_MODELS), kpi.model))
    return f"Add its model: kpis.settings.{kpi.base}.models: [{models}]."


def setting_names() -> Mapping[str, frozenset[str]]:
    """Every name that ``kpis.settings`` may hold -> the settings it takes beside ``by``."""
    found: dict[str, set[str]] = {}
    for kpi in available().values():
        found.setdefault(kpi.name, set()).update(kpi.settings)
        if kpi.model is not None and kpi.base is not None:
            found.setdefault(kpi.base, set()).update(kpi.settings)
    return {name: frozenset(settings) for name, settings in found.items()}
