"""Write-backs from the configuration, every fault with its place in the file, all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from config.errors import Path, Problem, did_you_mean
from config.models import Config, Writeback, WrittenKpi
from connectors.base import Capabilities
from metrics.catalog import Catalog, available, remedy_of_unkept
from metrics.definition import Kpi
from metrics.dimensions import name_of
from metrics.fitting import NUMBER, WORDS, Range
from metrics.guards import declared_range
from metrics.periods import CALENDAR_KINDS, Kind, kind_of
from metrics.writeback import FieldPlan, Guard, Match, Quiet, WritebackSpec
from store.tables import RECORD_TABLES

T = TypeVar("T")

DIMENSIONS: Final[Mapping[str, str]] = {
    "accounts": "account",
    "contacts": "contact",
    "deals": "deal",
    "tickets": "ticket",
    "campaigns": "campaign",
    "owners": "owner",
}
"""Streams whose single records can carry KPI values, and the dimension of their keys."""

STREAMS: Final[Mapping[str, str]] = {dimension: stream for stream, dimension in DIMENSIONS.items()}

_USUAL_OBJECTS: Final[Mapping[str, str]] = {
    "Account": "account",
    "Contact": "contact",
    "Opportunity": "deal",
    "Case": "ticket",
    "Campaign": "campaign",
    "User": "owner",
    "companies": "account",
    "contacts": "contact",
    "deals": "deal",
    "tickets": "ticket",
    "campaigns": "campaign",
}
"""Which records the CRMs' own objects hold, before any connector can be asked."""

_PERIODS: Final = "Write all, now, a kind such as quarter, a label such as 2026-Q1, or last_90d."

_TOTAL: Final = "all"
_YEARLY: Final = "last_365d"
_OF_A_YEAR: Final = frozenset(
    {
        "cltv",
        "customer_value",
        "avg_purchase_value",
        "avg_order_value",
        "purchase_frequency",
        "customer_lifespan_days",
    }
)
"""CLTV and its inputs, which are taken over the last year unless a period is named."""


def dimension_of_target(config: Config, section: Writeback) -> str | None:
    """The dimension whose values a write-back's records carry; None: unknown so far."""
    if section.match is not None:
        return section.match.to
    connection = config.connections.get(section.connection)
    if connection is not None:
        for stream, one in connection.streams.items():
            if one.object == section.object:
                return DIMENSIONS.get(stream)
    return _USUAL_OBJECTS.get(section.object)


def dimension_of(section: Writeback, stream: str | None) -> str | None:
    """The dimension of a write-back whose target is known by now."""
    return section.match.to if section.match is not None else DIMENSIONS.get(stream or "")


def period_of_field(kpi: Kpi, written: WrittenKpi) -> str:
    """The period of a written value: as configured, else what suits the KPI."""
    if written.period is not None:
        return str(written.period)
    if kpi.is_instant:
        return str(Kind.NOW)
    if kpi.window is not None:
        return f"last_{kpi.window}d"
    return _YEARLY if kpi.name in _OF_A_YEAR else str(Kind.ALL)


class _Fault(Exception):
    """Something in a write-back that cannot work."""

    def __init__(self, path: Path, message: str, hint: str = "") -> None:
        super().__init__(path, message, hint)
        self.path = path
        self.message = message
        self.hint = hint


class WritebackReader:
    """Reads one write-back of the configuration, noting everything that is wrong with it."""

    def __init__(
        self, config: Config, name: str, *, catalog: Catalog, capabilities: Capabilities
    ) -> None:
        self._config = config
        self._name = name
        self._section = config.writebacks[name]
        self._catalog = catalog
        self._capabilities = capabilities
        self.problems: list[Problem] = []

    def spec(self) -> WritebackSpec | None:
        """The write-back, or None when there are problems."""
        section = self._section
        match = self._noted(self._match)
        stream = self._noted(self._stream)
        self._noted(self._check_ranges)
        fields = [
            self._noted(partial(self._field, field, written, stream))
            for field, written in section.fields.items()
        ]
        if self.problems or stream is None:
            return None
        guard = section.guard
        return WritebackSpec(
            name=self._name,
            connection=section.connection,
            object=section.object,
            stream=stream,
            fields=tuple(field for field in fields if field is not None),
            stamp=section.stamp,
            guard=Guard(
                max_records=guard.max_records,
                max_changed=guard.max_changed,
                never_blank=guard.never_blank,
                max_shrink=guard.max_shrink,
                max_jump=guard.max_jump,
            ),
            on_edit=section.on_edit,
            match=match,
            quiet=None if section.quiet is None else Quiet(*section.quiet),
        )

    def _noted(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except _Fault as fault:
            whole = ("writebacks", self._name, *fault.path)
            self.problems.append(self._config.problem(whole, fault.message, fault.hint))
            return None

    # ------------------------------------------------------------ which records

    def _match(self) -> Match | None:
        section = self._section.match
        if section is None:
            return None
        if section.of is not None and section.of not in self._config.connections:
            known = tuple(self._config.connections)
            raise _Fault(
                ("match", "of"),
                f'There is no connection "{section.of}".',
                did_you_mean(section.of, known),
            )
        if section.same is not None and section.to not in STREAMS:
            raise _Fault(
                ("match", "same"),
                f'"{section.to}" is no kind of record: its values stand in the field as they are.',
                f"Leave it out, or match one of: {', '.join(STREAMS)}.",
            )
        return Match(
            field=section.field,
            to=section.to,
            connection=section.of or self._section.connection,
            same=section.same,
        )

    def _stream(self) -> str:
        """The stream of the target's records; empty where a match names them."""
        writable = self._capabilities.object_streams
        section = self._section
        stream = writable.get(section.object, "")
        if section.match is not None:
            return "" if stream not in DIMENSIONS else self._refuse_match(stream)
        if not stream:
            hint = did_you_mean(section.object, tuple(writable))
            raise _Fault(
                ("to",),
                f'kpisync does not know which records of "{section.connection}" are '
                f'"{section.object}".',
                f"{hint} For an object of your own say how its records are matched: "
                "match: {field: Account__c, to: account}.",
            )
        if stream not in DIMENSIONS:
            raise _Fault(
                ("to",),
                f"There are no KPIs of single {stream}.",
                f"Write to records of: {', '.join(DIMENSIONS)}.",
            )
        return stream

    def _refuse_match(self, stream: str) -> str:
        raise _Fault(
            ("match",),
            f'"{self._section.object}" holds {stream}: its records are known by their ids.',
            "Leave the match out.",
        )

    # ------------------------------------------------------------ which values

    def _field(self, field: str, written: WrittenKpi, stream: str | None) -> FieldPlan:
        place = ("fields", field)
        known = {**available(), **{kept.name: kept for kept in self._catalog.kpis}}
        kpi = known.get(written.kpi)
        if kpi is None:
            hint = did_you_mean(written.kpi, tuple(known))
            raise _Fault(place, f'There is no KPI "{written.kpi}".', hint)
        if kpi.name not in {kept.name for kept in self._catalog.kpis}:
            raise _Fault(
                place,
                f'The KPI "{kpi.name}" is not kept.',
                remedy_of_unkept(kpi, self._catalog.settings),
            )
        kpi = self._catalog.kpi(kpi.name)
        period_place = (*place, "period")
        period = period_of_field(kpi, written)
        if kpi.is_instant != (period == Kind.NOW):
            kept = "is true of now alone" if kpi.is_instant else "has periods, not now"
            raise _Fault(period_place, f'"{kpi.name}" {kept}.', "Leave the period out.")
        self._check_period(period_place, kpi, period)
        self._check_dimension((*place, "by"), written, stream)
        self._check_groups((*place, "by"), kpi, written.by or dimension_of(self._section, stream))
        is_text = str(kpi.unit) == "text"
        self._check_words(place, written, is_text=is_text)
        return FieldPlan(
            field=field,
            kpi=kpi.name,
            period=period,
            digits=self._section.round.get(field),
            empty=Decimal(0) if kpi.empties_to_zero and not is_text else None,
            by=written.by,
            show=written.show or (WORDS if is_text else NUMBER),
            bands=tuple(sorted(written.band.items(), key=lambda band: band[1])),
            when_empty=written.empty,
            range=self._range(field, kpi),
        )

    def _check_dimension(self, place: Path, written: WrittenKpi, stream: str | None) -> None:
        """A value of another dimension needs to be found from the record."""
        by = written.by
        if by is None or by == _TOTAL or by == dimension_of(self._section, stream):
            return
        if not stream:
            raise _Fault(
                place,
                "Records that are matched by a field carry what the match names, or the total.",
                "Leave it out, or write by: all.",
            )
        columns = tuple(column.name for column in RECORD_TABLES[stream].columns)
        connection = self._config.connections[self._section.connection]
        own = {
            field
            for name, one in connection.streams.items()
            if name == stream
            for field in one.fields
        }
        if by not in columns and by not in own:
            raise _Fault(
                place,
                f'{stream} have no field "{by}" by which their value could be found.',
                did_you_mean(by, (*columns, *own)),
            )

    def _check_groups(self, place: Path, kpi: Kpi, dimension: str | None) -> None:
        kept = {
            name_of(grouping)
            for kind in self._catalog.kinds_of(kpi)
            for grouping in self._catalog.groupings_of(kpi, kind)
        }
        if dimension is not None and dimension not in kept:
            raise _Fault(
                place,
                f'There are no values of "{kpi.name}" by {dimension}.',
                f"It is kept by: {', '.join(sorted(kept))}.",
            )

    def _check_words(self, place: Path, written: WrittenKpi, *, is_text: bool) -> None:
        if written.band and written.show is not None:
            raise _Fault(
                (*place, "show"), "A band is words already.", "Leave one of show and band out."
            )
        if written.band and is_text:
            raise _Fault(
                (*place, "band"), f'"{written.kpi}" is words: it has no bands.', "Leave them out."
            )
        if len(set(written.band.values())) < len(written.band):
            raise _Fault(
                (*place, "band"), "Two bands begin at the same value.", "Give each its own."
            )

    def _check_ranges(self) -> None:
        for field in self._section.guard.range:
            if field not in self._section.fields:
                raise _Fault(
                    ("guard", "range", field),
                    f'"{field}" is not written by this write-back.',
                    did_you_mean(field, tuple(self._section.fields)),
                )

    def _range(self, field: str, kpi: Kpi) -> Range:
        bounds = self._section.guard.range.get(field)
        return declared_range(kpi) if bounds is None else Range(*bounds)

    def _check_period(self, place: Path, kpi: Kpi, period: str) -> None:
        try:
            kind = str(Kind(period)) if period in set(Kind) else str(kind_of(period))
        except ValueError:
            raise _Fault(place, f'"{period}" is not a period.', _PERIODS) from None
        kept = tuple(str(one) for one in self._catalog.kinds_of(kpi))
        if kind in kept:
            return
        if kind in CALENDAR_KINDS and kind not in self._config.kpis.periods:
            raise _Fault(
                place,
                f'Values of the period "{kind}" are not kept.',
                f"Add {kind} to kpis.periods.",
            )
        raise _Fault(
            place,
            f'"{kpi.name}" has no values for the period "{period}".',
            f"It has them for: {', '.join(kept)}.",
        )
