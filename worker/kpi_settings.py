"""What the configuration says of KPIs, as the catalogue takes it, and every fault in it.

Files that the KPI sections name (exchange rates, holidays, costs) lie beside the configuration;
what is wrong in them is told with file and line like any other fault.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, time
from decimal import Decimal, InvalidOperation
from pathlib import Path as FilePath
from typing import Final, TypeVar

from config.errors import Path, Problem, did_you_mean
from config.models import Config, WrittenKpi
from config.models import KpiSettings as KpiSection
from config.scalars import month_number, weekday_number
from metrics.catalog import Catalog, available, build, setting_names
from metrics.contributions.marketing import FIELD, FILE, FILE_CONNECTION, STREAM
from metrics.definition import DatedRate, Kpi, KpiSettings, OwnSettings, WorkingHours
from metrics.dimensions import Grouping
from metrics.families import dimensions_of, has_rolling
from metrics.periods import Kind, is_rolling, kind_of
from store.canonical import Company, Cost, RecordRef
from worker.custom_kpis import custom_problems, grouping_fields, known_kpis, written_kpis
from worker.identity_settings import identity_rules
from worker.targets import target_problems
from worker.writeback_settings import dimension_of_target, period_of_field

T = TypeVar("T")

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RATE_COLUMNS: Final = ("currency", "date", "rate")
_COST_COLUMNS: Final = ("date", "amount")


class _Fault(Exception):
    """Something that the configuration or a file of it says cannot be."""

    def __init__(self, path: Path, message: str, hint: str = "") -> None:
        super().__init__(path, message, hint)
        self.path = path
        self.message = message
        self.hint = hint


# ---------------------------------------------------------------- all of it


def kpi_settings(config: Config) -> KpiSettings:
    """What the catalogue is built with; what cannot be read is left out (see `kpi_problems`)."""
    company = Company(timezone=config.company.timezone, currency=config.company.currency)
    by = {name: one.by for name, one in config.kpis.settings.items() if one.by is not None}
    return KpiSettings(
        company=company,
        use=tuple(config.kpis.use),
        skip=tuple(config.kpis.skip),
        periods=tuple(config.kpis.periods),
        by={name: groupings for name, groupings in by.items() if name in available()},
        custom=written_kpis(config),
        fields=grouping_fields(config),
        implied={
            name: tuple(dict.fromkeys(one for one, _ in wanted))
            for name, wanted in _implied(config).items()
        },
        implied_kinds=_implied_kinds(config),
        rolling=_rolling(config),
        own={name: own_settings(one) for name, one in config.kpis.settings.items()},
        rates=dict(config.company.fx.table),
        dated_rates=_or_nothing(_rates_of_file, config),
        rates_from=config.company.fx.source,
        costs=_or_nothing(_costs_of_files, config),
        working_hours=_or_none(_working_hours, config),
        match_owners_by_email=bool(config.identity.owners.match),
        matching=identity_rules(config),
        week_starts=weekday_number(config.company.week_starts),
        fiscal_year_starts=month_number(config.company.fiscal_year_starts),
    )


def _implied(config: Config) -> dict[str, list[tuple[Grouping, str]]]:
    """KPI -> groupings that write-backs carry, each with the kind of period it is needed for."""
    known = known_kpis(config)
    fields = grouping_fields(config)
    found: dict[str, list[tuple[Grouping, str]]] = {}
    for section in config.writebacks.values():
        target = dimension_of_target(config, section)
        for written in section.fields.values():
            kpi = known.get(written.kpi)
            dimension = written.by or target
            # Of a dimension that the KPI has not the write-back itself complains.
            if kpi is None or dimension is None or dimension not in dimensions_of(kpi, fields):
                continue
            found.setdefault(kpi.name, []).append(((dimension,), _kind(kpi, written)))
    for name, sections in config.targets.items():
        kpi = known.get(name)
        for one in sections:
            if kpi is not None and one.by is not None and one.by in dimensions_of(kpi):
                found.setdefault(name, []).append(((one.by,), _kind_of(str(one.period))))
    return found


def _kind(kpi: Kpi, written: WrittenKpi) -> str:
    return _kind_of(period_of_field(kpi, written))


def _kind_of(period: str) -> str:
    return period if period in set(Kind) else str(kind_of(period))


def _implied_kinds(config: Config) -> dict[tuple[str, Grouping], frozenset[str]]:
    found: dict[tuple[str, Grouping], set[str]] = {}
    for name, wanted in _implied(config).items():
        for grouping, kind in wanted:
            found.setdefault((name, grouping), set()).add(kind)
    return {place: frozenset(kinds) for place, kinds in found.items()}


def _rolling(config: Config) -> dict[str, tuple[str, ...]]:
    """KPI -> the rolling periods that write-backs ask for."""
    known = known_kpis(config)
    found: dict[str, dict[str, None]] = {}
    for section in config.writebacks.values():
        for written in section.fields.values():
            kpi = known.get(written.kpi)
            if kpi is not None and has_rolling_periods(kpi):
                period = period_of_field(kpi, written)
                if is_rolling(period):
                    found.setdefault(kpi.name, {})[period] = None
    for name, sections in config.targets.items():
        kpi = known.get(name)
        for target in sections:
            if kpi is not None and has_rolling_periods(kpi) and is_rolling(str(target.period)):
                found.setdefault(name, {})[str(target.period)] = None
    for name, one in config.kpis.settings.items():
        if one.window is not None and name in known and "window" not in known[name].settings:
            found.setdefault(name, {})[f"last_{one.window.days}d"] = None
    return {name: tuple(periods) for name, periods in found.items()}


def has_rolling_periods(kpi: Kpi) -> bool:
    """Whether a KPI can be had for the last N days."""
    return not kpi.is_instant and has_rolling(kpi)


def own_settings(section: KpiSection) -> OwnSettings:
    """One KPI's settings beside its groupings."""
    return OwnSettings(
        window=None if section.window is None else section.window.days,
        models=tuple(section.models),
        clock=section.clock,
        of=section.of,
        lifespan=section.lifespan,
        margin=section.margin,
        stalled_days=section.stalled_days,
        answers=section.answers,
        costs=tuple(dict.fromkeys(_origin(cost) for cost in section.costs)),
    )


def _origin(cost: str | Mapping[str, str]) -> str:
    return FILE if isinstance(cost, Mapping) else cost


def _or_nothing(read: Callable[[Config], tuple[T, ...]], config: Config) -> tuple[T, ...]:
    try:
        return read(config)
    except _Fault:
        return ()


def _or_none(read: Callable[[Config], T], config: Config) -> T | None:
    try:
        return read(config)
    except _Fault:
        return None


# ---------------------------------------------------------------- what is wrong


def kpi_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the KPI sections, as far as the catalogue and their files can tell."""
    known = available()
    names = tuple(known)
    for index, name in enumerate(config.kpis.skip):
        if name not in known:
            yield _unknown_kpi(config, ("kpis", "skip", index), name, names)
    yield from custom_problems(config)
    yield from _file_problems(config)
    yield from _rolling_problems(config)
    settings = kpi_settings(config)
    taken = setting_names()
    for name, one in config.kpis.settings.items():
        path: Path = ("kpis", "settings", name)
        if name not in taken:
            message = f'There is no KPI "{name}".'
            yield config.problem(path, message, did_you_mean(name, tuple(taken)), key=True)
            continue
        yield from _setting_problems(config, path, name, one)
        if one.by is not None and name in known:
            alone = replace(
                settings, use=(name,), skip=(), by={name: one.by}, implied={}, rolling={}, custom=()
            )
            yield from _build_problem(config, alone, (*path, "by"))


def _rolling_problems(config: Config) -> Iterator[Problem]:
    known = known_kpis(config)
    for name, section in config.writebacks.items():
        for field, written in section.fields.items():
            kpi = known.get(written.kpi)
            period = None if kpi is None else period_of_field(kpi, written)
            if kpi is None or period is None or not is_rolling(period):
                continue
            if not has_rolling_periods(kpi):
                path: Path = ("writebacks", name, "fields", field)
                message = f'"{kpi.name}" cannot be had for the last days.'
                yield config.problem(path, message, "Name a calendar period such as year.")


def _setting_problems(config: Config, path: Path, name: str, one: KpiSection) -> Iterator[Problem]:
    taken = setting_names()[name]
    kpi = available().get(name)
    for setting in sorted(one.model_fields_set - {"by"}):
        if setting in taken:
            continue
        if setting == "window" and kpi is not None and has_rolling_periods(kpi):
            continue
        others = sorted(other for other, known in setting_names().items() if setting in known)
        hint = f"It is a setting of {', '.join(others[:6])}." if others else ""
        message = f'"{name}" has no setting "{setting}".'
        yield config.problem((*path, setting), message, hint, key=True)
    if one.window is not None and (one.window.days < 1 or one.window.seconds):
        message = f"A window of {one.window} is not a number of days."
        yield config.problem((*path, "window"), message, "Write it like 90d.")
    for index, cost in enumerate(one.costs):
        if isinstance(cost, str) and cost not in {FIELD, STREAM}:
            message = f'"{cost}" is no source of costs.'
            hint = f"Use {FIELD}, {STREAM} or {{file: costs.csv}}."
            yield config.problem((*path, "costs", index), message, hint)
    if one.clock == "business_hours" and "business_hours" not in config.company.model_fields_set:
        message = "company.business_hours says nothing yet."
        hint = "Write days, open and close there."
        yield config.problem((*path, "clock"), message, hint)


def _file_problems(config: Config) -> Iterator[Problem]:
    for read in (_rates_of_file, _costs_of_files, _working_hours):
        try:
            read(config)
        except _Fault as fault:
            yield config.problem(fault.path, fault.message, fault.hint)
    source = config.company.fx.source
    if source is not None and source not in config.connections:
        message = f'There is no connection "{source}".'
        hint = did_you_mean(source, tuple(config.connections))
        yield config.problem(("company", "fx", "from"), message, hint)


def built_catalog(config: Config) -> tuple[Catalog | None, list[Problem]]:
    """The catalogue, or why there is none."""
    problems = list(kpi_problems(config))
    if problems:
        return None, problems
    settings = kpi_settings(config)
    problems.extend(_build_problem(config, settings, ("kpis",)))
    if problems:
        return None, problems
    catalog = build(settings)
    problems.extend(target_problems(config, catalog))
    return (None, problems) if problems else (catalog, [])


def _build_problem(config: Config, settings: KpiSettings, path: Path) -> Iterator[Problem]:
    try:
        build(settings)
    except ValueError as error:
        yield config.problem(path, _sentence(str(error)))


def _unknown_kpi(config: Config, path: Path, name: str, known: tuple[str, ...]) -> Problem:
    return config.problem(path, f'There is no KPI "{name}".', did_you_mean(name, known))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


# ---------------------------------------------------------------- hours of work


def _working_hours(config: Config) -> WorkingHours:
    section = config.company.business_hours
    place: Path = ("company", "business_hours")
    opens = _time((*place, "open"), section.open)
    closes = _time((*place, "close"), section.close)
    if opens >= closes:
        raise _Fault((*place, "close"), "Work ends before it begins.", "Write close after open.")
    return WorkingHours(
        weekdays=_weekdays((*place, "days"), section.days),
        opens=opens,
        closes=closes,
        holidays=frozenset(_holidays(config, (*place, "holidays"), section.holidays)),
    )


def _time(path: Path, text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise _Fault(path, f'"{text}" is no time of the day.', 'Write it like "09:00".') from None


def _weekdays(path: Path, text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            hint = "Write them like mon-fri, or mon,wed,fri."
            raise _Fault(path, f'"{text}" are no days of the week.', hint)
        start, stop = _DAYS.index(first), _DAYS.index(last or first)
        found.update(day % 7 for day in range(start, stop + 1 + (7 if stop < start else 0)))
    return frozenset(found)


def _holidays(config: Config, path: Path, name: str | None) -> Iterator[date]:
    if name is None:
        return
    for number, row in _lines(config, path, name):
        if number == 1 and row[:1] and not row[0][:1].isdigit():
            continue  # a heading
        if row and row[0].strip():
            yield _date(path, name, number, row[0])


# ---------------------------------------------------------------- rates and costs


def _rates_of_file(config: Config) -> tuple[DatedRate, ...]:
    name = config.company.fx.file
    if name is None:
        return ()
    path: Path = ("company", "fx", "file")
    found: list[DatedRate] = []
    for number, row in _rows(config, path, name, _RATE_COLUMNS):
        rate = _number(path, name, number, row["rate"])
        if rate <= 0:
            raise _Fault(path, f"{name}, line {number}: a rate is above 0, not {rate}.")
        since = _date(path, name, number, row["date"])
        found.append(DatedRate(currency=row["currency"].strip().upper(), since=since, rate=rate))
    return tuple(found)


def _costs_of_files(config: Config) -> tuple[Cost, ...]:
    found: dict[str, list[Cost]] = {}
    for kpi, section in config.kpis.settings.items():
        for index, cost in enumerate(section.costs):
            if isinstance(cost, Mapping):
                path: Path = ("kpis", "settings", kpi, "costs", index)
                name = cost.get("file")
                if name is None or len(cost) > 1:
                    raise _Fault(path, "A source of costs is a file.", "Write {file: costs.csv}.")
                found.setdefault(name, _costs_of(config, path, name))
    return tuple(cost for costs in found.values() for cost in costs)


def _costs_of(config: Config, path: Path, name: str) -> list[Cost]:
    return [
        Cost(
            ref=RecordRef(FILE_CONNECTION, "costs", f"{name}:{number}"),
            date=_date(path, name, number, row["date"]),
            amount=_number(path, name, number, row["amount"]),
            currency=(row.get("currency") or "").strip().upper() or None,
            campaign=(row.get("campaign") or "").strip() or None,
            source=(row.get("source") or "").strip() or None,
            category=(row.get("category") or "").strip() or None,
        )
        for number, row in _rows(config, path, name, _COST_COLUMNS)
    ]


# ---------------------------------------------------------------- files


def _lines(config: Config, path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    beside = FilePath(config.locate(path).file).parent / name
    try:
        with beside.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate(csv.reader(file), start=1)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _Fault(path, f'"{name}" cannot be read: {reason}.', f"Looked at {beside}.") from None


def _rows(
    config: Config, path: Path, name: str, required: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    heading: list[str] = []
    for number, row in _lines(config, path, name):
        if not heading:
            heading = [column.strip().lower() for column in row]
            missing = [column for column in required if column not in heading]
            if missing:
                message = f'"{name}" has no column {missing[0]}.'
                raise _Fault(path, message, f"Its first line names: {', '.join(required)}.")
        elif any(cell.strip() for cell in row):
            if len(row) < len(heading):
                raise _Fault(path, f"{name}, line {number}: {len(row)} columns are too few.")
            yield number, dict(zip(heading, row, strict=False))


def _date(path: Path, name: str, number: int, text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        message = f'{name}, line {number}: "{text[:40]}" is no date.'
        raise _Fault(path, message, "Write it like 2026-01-31.") from None


def _number(path: Path, name: str, number: int, text: str) -> Decimal:
    try:
        found = Decimal(text.strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        message = f'{name}, line {number}: "{text[:40]}" is no number.'
        raise _Fault(path, message, "Write it like 1234.56.")
    return found
