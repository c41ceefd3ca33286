"""Targets: from the configuration to what values are measured by, and how they stand now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

from sqlalchemy import Connection

from config.errors import Path, Problem, did_you_mean
from config.models import Config
from config.models import Target as TargetSection
from metrics import clock
from metrics.catalog import Catalog, remedy_of_unkept
from metrics.dimensions import TOTAL_KEY, TOTAL_NAME, name_of
from metrics.periods import CALENDAR_KINDS, Kind, is_rolling, kind_of
from metrics.targets import Judge, Judged, State, Target, direction_fits
from store.conversion import local_day
from store.engine import database_now
from store.kpis import current_values
from worker.custom_kpis import known_kpis

_ZERO: Final = Decimal(0)


def targets_of(config: Config) -> list[Target]:
    """Every target of the configuration that says a value."""
    found: list[Target] = []
    for kpi, sections in config.targets.items():
        for section in sections:
            value = section.at_least if section.at_least is not None else section.at_most
            if value is not None:
                found.append(
                    Target(
                        kpi=kpi,
                        period=str(section.period),
                        value=value,
                        is_at_least=section.at_least is not None,
                        warn_at=section.warn_at,
                        dimension=section.by or TOTAL_NAME,
                        key=TOTAL_KEY if section.by is None else section.key,
                        owner=section.owner,
                    )
                )
    return found


def judge_of(
    conn: Connection, config: Config, catalog: Catalog, *, at: datetime | None = None
) -> Judge:
    """What measures values, as of the instant of which they are true.

    Args:
        conn: in any transaction.
        config: whose targets.
        catalog: what is kept.
        at: another instant to look from.
    """
    now = at or clock.published_at(conn) or database_now(conn)
    return Judge(
        targets=targets_of(config),
        kpis={kpi.name: kpi for kpi in catalog.kpis},
        calendar=catalog.settings.calendar,
        today=local_day(now, catalog.company.timezone),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """How one target stands in the period that is watched."""

    target: Target
    period: str
    key: str
    label: str | None
    number: Decimal | None
    """The value that is judged; of a group without records 0 where nothing counts as 0."""
    judged: Judged

    @property
    def subject(self) -> str:
        """The target in words, the same from period to period."""
        place = (
            "" if self.target.dimension == TOTAL_NAME else f" {self.target.dimension}={self.key}"
        )
        return f"{self.target.kpi}{place} ({self.target.period})"

    @property
    def is_missed(self) -> bool:
        """Whether somebody should be told."""
        return self.judged.state is State.MISSED

    @property
    def words(self) -> str:
        """How it stands, in words."""
        judged, target = self.judged, self.target
        wanted = f"{'at least' if target.is_at_least else 'at most'} {_short(target.value)}"
        when = self.period if self.period == Kind.NOW else f"in {self.period}"
        of_whom = "" if not self.label or self.key == TOTAL_KEY else f" of {self.label}"
        has_pace = judged.pace is not None and judged.pace != self.number
        pace = f", at this pace {_short(judged.pace)}" if has_pace else ""
        who = "" if target.owner is None else f"; {target.owner} answers for it"
        return f"{target.kpi}{of_whom} {when}: {_short(self.number)}, wanted {wanted}{pace}{who}"

    def to_json(self) -> dict[str, object]:
        """The shape other programs read."""
        return {
            "kpi": self.target.kpi,
            "period": self.period,
            "dimension": self.target.dimension,
            "key": self.key,
            "label": self.label,
            "value": None if self.number is None else format(self.number, "f"),
            "direction": "at_least" if self.target.is_at_least else "at_most",
            "warn_at": None if self.target.warn_at is None else format(self.target.warn_at, "f"),
            "owner": self.target.owner,
            **self.judged.to_json(),
        }


STATES: Final[Mapping[State, str]] = {
    State.ON: "on",
    State.AT_RISK: "at risk",
    State.MISSED: "missed",
    State.NO_VALUE: "no value",
    State.NO_TARGET: "no target",
}
"""How people read them."""


def share(attainment: Decimal | None) -> str:
    """An attainment as a percentage."""
    return "-" if attainment is None else f"{attainment * 100:.1f} %"


def shown(number: Decimal | None) -> str:
    """A number as people read it; a dash where there is none."""
    return "-" if number is None else _short(number)


def _short(number: Decimal | None) -> str:
    if number is None:
        return "no value"
    short = number.quantize(_TEN_THOUSANDTH, ROUND_HALF_UP, _WIDE).normalize(_WIDE)
    return f"{short:,f}"


_TEN_THOUSANDTH: Final = Decimal("0.0001")
_WIDE: Final = Context(prec=60)


def standings(conn: Connection, config: Config, catalog: Catalog) -> list[Standing]:
    """How every target stands in its running period.

    A target of every group stands once for each group with a value.
    """
    judge = judge_of(conn, config, catalog)
    kept = {kpi.name: kpi for kpi in catalog.kpis}
    found: list[Standing] = []
    for target in judge.targets:
        kpi = kept.get(target.kpi)
        if kpi is None:
            continue
        period = target.watched_period(judge.calendar, judge.today)
        values = [
            value
            for value in current_values(
                conn, kpis=[target.kpi], period=period, dimension=target.dimension
            )
            if target.key in {None, value.key}
        ]
        if not values and target.key is not None:
            # A group without records has no row; its counts and sums are 0.
            number = None if not kpi.empties_to_zero else _ZERO
            judged = judge.judged(target, kpi, period, number)
            found.append(Standing(target, period, target.key, None, number, judged))
        for one in values:
            judged = judge.of(one)
            # A target of one group counts instead of the one for all groups.
            if judged.target == target:
                found.append(Standing(target, period, one.key, one.label, one.value, judged))
    return found


def is_any_missed(found: Sequence[Standing]) -> bool:
    """Whether a target is missed."""
    return any(one.is_missed for one in found)


# ---------------------------------------------------------------- what is wrong


def target_problems(config: Config, catalog: Catalog) -> Iterator[Problem]:
    """Everything that is wrong with the targets."""
    known = known_kpis(config)
    kept = {kpi.name for kpi in catalog.kpis}
    for name, sections in config.targets.items():
        path: Path = ("targets", name)
        kpi = known.get(name)
        if kpi is None:
            hint = did_you_mean(name, tuple(known))
            yield config.problem(path, f'There is no KPI "{name}".', hint, key=True)
            continue
        if name not in kept:
            hint = remedy_of_unkept(kpi, catalog.settings)
            yield config.problem(path, f'The KPI "{name}" is not kept.', hint, key=True)
            continue
        if str(kpi.unit) == "text":
            message = f'"{name}" is a name and reaches no number.'
            yield config.problem(path, message, key=True)
            continue
        for index, section in enumerate(sections):
            yield from _section_problems(config, catalog, name, _path(config, name, index), section)


def _path(config: Config, name: str, index: int) -> Path:
    is_list = len(config.targets[name]) > 1
    return ("targets", name, index) if is_list else ("targets", name)


def _section_problems(
    config: Config, catalog: Catalog, name: str, path: Path, section: TargetSection
) -> Iterator[Problem]:
    kpi = catalog.kpi(name)
    if (section.at_least is None) == (section.at_most is None):
        message = "A target says at_least or at_most, one of the two."
        yield config.problem(path, message, "Write at_least: 28%.", key=True)
        return
    is_at_least = section.at_least is not None
    part = "at_least" if is_at_least else "at_most"
    if not direction_fits(kpi, is_at_least=is_at_least):
        other = "at_most" if is_at_least else "at_least"
        message = f'"{name}" gets better the other way.'
        yield config.problem((*path, part), message, f"Write {other}.", key=True)
    value = section.at_least if section.at_least is not None else section.at_most
    warn = section.warn_at
    if value is not None and warn is not None and (warn > value if is_at_least else warn < value):
        side = "below" if is_at_least else "above"
        message = f"A value is at risk {side} its target, not beyond it."
        yield config.problem((*path, "warn_at"), message, f"Write a number {side} {value:f}.")
    if section.key is not None and section.by is None:
        message = "The key of which dimension?"
        yield config.problem((*path, "key"), message, "Add by: owner, or another.", key=True)
    kinds = catalog.kinds_of(kpi)
    kind = _kind_of(str(section.period))
    if kind not in kinds:
        message = f'There are no values of "{name}" for {section.period}.'
        hint = f"It is kept for: {', '.join(kinds)}."
        if kind in CALENDAR_KINDS and not kpi.is_instant and kpi.window is None:
            hint = f"Add {kind} to kpis.periods."
        yield config.problem((*path, "period"), message, hint)
        return
    kept = {name_of(grouping) for grouping in catalog.groupings_of(kpi, kind)}
    if section.by is not None and section.by not in kept:
        message = f'There are no values of "{name}" by {section.by}.'
        hint = f"It is kept by: {', '.join(sorted(kept))}."
        yield config.problem((*path, "by"), message, hint)


def _kind_of(period: str) -> str:
    if period in set(Kind) or is_rolling(period):
        return period
    return str(kind_of(period))
