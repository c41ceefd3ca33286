"""Write-backs from the configuration, every fault with its place in the file, all at once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from config.errors import Path, Problem, did_you_mean
from config.models import Config, WrittenKpi
from connectors.base import Capabilities
from metrics.catalog import Catalog, available
from metrics.periods import Kind, kind_of
from metrics.writeback import FieldPlan, Guard, WritebackSpec

T = TypeVar("T")

WRITABLE_STREAMS: Final = ("accounts",)
"""Streams whose single records can carry KPI values."""


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
        stream = self._noted(self._stream)
        fields = [
            self._noted(partial(self._field, field, written))
            for field, written in section.fields.items()
        ]
        if self.problems or stream is None:
            return None
        return WritebackSpec(
            name=self._name,
            connection=section.connection,
            object=section.object,
            stream=stream,
            fields=tuple(field for field in fields if field is not None),
            stamp=section.stamp,
            guard=Guard(
                max_records=section.guard.max_records,
                max_changed=section.guard.max_changed,
                never_blank=section.guard.never_blank,
            ),
            on_edit=section.on_edit,
        )

    def _noted(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except _Fault as fault:
            whole = ("writebacks", self._name, *fault.path)
            self.problems.append(self._config.problem(whole, fault.message, fault.hint))
            return None

    def _stream(self) -> str:
        writable = self._capabilities.object_streams
        section = self._section
        stream = writable.get(section.object)
        if stream is None:
            raise _Fault(
                ("to",),
                f'"{section.object}" of connection "{section.connection}" cannot be written.',
                did_you_mean(section.object, tuple(writable)),
            )
        if stream not in WRITABLE_STREAMS:
            raise _Fault(
                ("to",),
                f"KPIs of single {stream} are not supported yet.",
                f"Write to records of: {', '.join(WRITABLE_STREAMS)}.",
            )
        return stream

    def _field(self, field: str, written: WrittenKpi) -> FieldPlan:
        place = ("fields", field)
        kpi = available().get(written.kpi)
        if kpi is None:
            hint = did_you_mean(written.kpi, tuple(available()))
            raise _Fault(place, f'There is no KPI "{written.kpi}".', hint)
        if kpi not in self._catalog.kpis:
            raise _Fault(
                place,
                f'The KPI "{kpi.name}" is not kept.',
                "Add its pack to kpis.use, or take it out of kpis.skip.",
            )
        period_place = (*place, "period")
        period = written.period or (Kind.NOW if kpi.is_instant else Kind.ALL)
        if kpi.is_instant != (period == Kind.NOW):
            kept = "is true of now alone" if kpi.is_instant else "has periods, not now"
            raise _Fault(period_place, f'"{kpi.name}" {kept}.', "Leave the period out.")
        self._check_period(period_place, period)
        return FieldPlan(
            field=field,
            kpi=kpi.name,
            period=str(period),
            digits=self._section.round.get(field),
            empty=Decimal(0) if kpi.empties_to_zero else None,
        )

    def _check_period(self, place: Path, period: str) -> None:
        kept = self._config.kpis.periods
        try:
            kind = Kind(period) if period in set(Kind) else kind_of(period)
        except ValueError:
            raise _Fault(
                place,
                f'The period "{period}" is not supported yet.',
                f"Write one of: all, now, {', '.join(kept)}, or a label such as 2026-Q1.",
            ) from None
        if kind not in {Kind.ALL, Kind.NOW, *kept}:
            raise _Fault(
                place,
                f'Values of the period "{kind}" are not kept.',
                f"Add {kind} to kpis.periods.",
            )
