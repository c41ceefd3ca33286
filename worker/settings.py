"""From configured values to what connectors, KPIs and write-backs are built with.

Faults that only show here, because the catalogue or a connector must be asked, are configuration
problems like all others: with file, line and column, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from pydantic import SecretStr

from config.errors import Path, Problem, did_you_mean
from config.models import Config, WrittenKpi
from config.scalars import month_number, weekday_number
from connectors.base import (
    Capabilities,
    ConnectionSettings,
    FieldSource,
    StreamSettings,
    Tuning,
)
from metrics.catalog import Catalog, available, build
from metrics.definition import Kpi, KpiSettings
from metrics.periods import CALENDAR_KINDS, Kind, kind_of
from metrics.writeback import FieldPlan, Guard, WritebackSpec
from store.canonical import Company

DIMENSION_OF_STREAM: Final[Mapping[str, str]] = {"accounts": "account"}
"""Canonical stream -> the dimension whose keys are its records."""


def company_of(config: Config) -> Company:
    """Whose books are kept."""
    return Company(timezone=config.company.timezone, currency=config.company.currency)


def secrets_of(config: Config) -> set[str]:
    """Every text that must never be shown."""
    found: set[str] = set()
    for connection in config.connections.values():
        for name in type(connection.auth).model_fields:
            value = getattr(connection.auth, name)
            if isinstance(value, SecretStr):
                found.add(value.get_secret_value())
    found.update(
        secret.get_secret_value()
        for secret in config.alerts.channels.values()
        if isinstance(secret, SecretStr)
    )
    return found


# ---------------------------------------------------------------- connections


def connection_settings(
    config: Config, name: str, *, on_wait: Callable[[str, float], None]
) -> ConnectionSettings:
    """What the connector of a connection is given."""
    section = config.connections[name]
    return ConnectionSettings(
        name=name,
        type=section.type,
        auth=section.auth.resolved(),
        company=company_of(config),
        streams={
            stream: StreamSettings(
                object=one.object,
                where=one.where,
                pipelines=one.pipelines,
                fields={
                    field: FieldSource(
                        source=source.source,
                        type=source.type,
                        values=source.canonical_values(),
                        required=source.required,
                    )
                    for field, source in one.fields.items()
                },
            )
            for stream, one in section.streams.items()
        },
        base_url=section.base_url,
        api_version=section.api_version,
        tuning=_tuning(config),
        limits_storage=str(config.broker) or "memory://",
        on_wait=on_wait,
    )


def _tuning(config: Config) -> Tuning:
    advanced = config.advanced
    return Tuning(
        lookback=advanced.lookback,
        connect_timeout=advanced.connect_timeout,
        read_timeout=advanced.read_timeout,
        total_timeout=advanced.total_timeout,
        retry_attempts=advanced.retry_attempts,
        retry_wait=advanced.retry_wait,
        retry_wait_max=advanced.retry_wait_max,
        page_size=advanced.page_size,
        push_batch=advanced.push_batch,
    )


# ---------------------------------------------------------------- KPIs


def kpi_settings(config: Config) -> KpiSettings:
    """What the catalogue is built with."""
    by = {name: one.by for name, one in config.kpis.settings.items() if one.by is not None}
    return KpiSettings(
        company=company_of(config),
        use=tuple(config.kpis.use),
        skip=tuple(config.kpis.skip),
        periods=tuple(config.kpis.periods),
        by=by,
        implied=_implied_groupings(config),
        rates=dict(config.company.fx.table),
        match_owners_by_email=bool(config.identity.owners.match),
        week_starts=weekday_number(config.company.week_starts),
        fiscal_year_starts=month_number(config.company.fiscal_year_starts),
    )


def _implied_groupings(config: Config) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Record grains that write-backs to records need."""
    names = {
        written.kpi
        for writeback in config.writebacks.values()
        for written in writeback.fields.values()
    }
    return dict.fromkeys(sorted(names & set(available())), (("account",),))


def catalog_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the ``kpis`` section, as far as the catalogue can tell."""
    known = available()
    names = tuple(known)
    for index, name in enumerate(config.kpis.skip):
        if name not in known:
            yield _unknown_kpi(config, ("kpis", "skip", index), name, names)
    settings = kpi_settings(config)
    for name, one in config.kpis.settings.items():
        if name not in known:
            path: Path = ("kpis", "settings", name)
            message = f'There is no KPI "{name}".'
            yield config.problem(path, message, did_you_mean(name, names), key=True)
        elif one.by is not None:
            alone = replace(settings, use=(name,), skip=(), by={name: one.by}, implied={})
            yield from _build_problem(config, alone, ("kpis", "settings", name, "by"))


def built_catalog(config: Config) -> tuple[Catalog | None, list[Problem]]:
    """The catalogue, or why there is none."""
    problems = list(catalog_problems(config))
    if problems:
        return None, problems
    settings = kpi_settings(config)
    problems.extend(_build_problem(config, settings, ("kpis",)))
    return (None, problems) if problems else (build(settings), [])


def _build_problem(config: Config, settings: KpiSettings, path: Path) -> Iterator[Problem]:
    try:
        build(settings)
    except ValueError as error:
        yield config.problem(path, _sentence(str(error)))


def _unknown_kpi(config: Config, path: Path, name: str, known: tuple[str, ...]) -> Problem:
    return config.problem(path, f'There is no KPI "{name}".', did_you_mean(name, known))


# ---------------------------------------------------------------- write-backs


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
        stream = self._stream()
        fields = tuple(self._field(field, written) for field, written in section.fields.items())
        plans = tuple(field for field in fields if field is not None)
        if self.problems or stream is None:
            return None
        return WritebackSpec(
            name=self._name,
            connection=section.connection,
            object=section.object,
            stream=stream,
            fields=plans,
            stamp=section.stamp,
            guard=Guard(
                max_records=section.guard.max_records,
                max_changed=section.guard.max_changed,
                never_blank=section.guard.never_blank,
            ),
            on_edit=section.on_edit,
        )

    def _stream(self) -> str | None:
        writable = self._capabilities.object_streams
        stream = writable.get(self._section.object)
        if stream is None:
            self._note(
                ("to",),
                f'"{self._section.object}" of connection "{self._section.connection}" cannot be '
                "written.",
                did_you_mean(self._section.object, tuple(writable)),
            )
        elif stream not in DIMENSION_OF_STREAM:
            self._note(
                ("to",),
                f"KPIs for single {stream} are not supported yet.",
                f"Write to records of: {', '.join(DIMENSION_OF_STREAM)}.",
            )
            return None
        return stream

    def _field(self, field: str, written: WrittenKpi) -> FieldPlan | None:
        place = ("fields", field)
        kpi = available().get(written.kpi)
        if kpi is None:
            hint = did_you_mean(written.kpi, tuple(available()))
            return self._note(place, f'There is no KPI "{written.kpi}".', hint)
        if written.kpi not in {one.name for one in self._catalog.kpis}:
            return self._note(
                place,
                f'The KPI "{written.kpi}" is not kept.',
                "Add its pack to kpis.use, or take it out of kpis.skip.",
            )
        if written.by is not None:
            return self._note(
                (*place, "by"), "A dimension beside the record is not supported yet.", "Remove it."
            )
        period = self._period(place, kpi, written.period)
        return None if period is None else FieldPlan(field=field, kpi=written.kpi, period=period)

    def _period(self, place: Path, kpi: Kpi, period: str | None) -> str | None:
        if period is None:
            return Kind.NOW.value if kpi.is_instant else Kind.ALL.value
        if kpi.is_instant != (period == Kind.NOW):
            only = "now" if kpi.is_instant else "a period, not now"
            return self._note((*place, "period"), f'"{kpi.name}" has {only}.', "")
        if period in {Kind.ALL, Kind.NOW}:
            return period
        return self._calendar_period(place, period)

    def _calendar_period(self, place: Path, period: str) -> str | None:
        kept = self._config.kpis.periods
        try:
            kind = Kind(period) if period in set(CALENDAR_KINDS) else kind_of(period)
        except ValueError:
            return self._note(
                (*place, "period"),
                f'The period "{period}" is not supported yet.',
                f"Write one of: all, now, {', '.join(kept)}, or a label such as 2026-Q1.",
            )
        if kind.value not in kept:
            return self._note(
                (*place, "period"),
                f'Values of the period "{kind}" are not kept.',
                f"Add {kind} to kpis.periods.",
            )
        return period

    def _note(self, path: Path, message: str, hint: str) -> None:
        whole = ("writebacks", self._name, *path)
        self.problems.append(self._config.problem(whole, message, hint))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
