"""report: one HTML page of what the KPIs say; it loads nothing, runs nothing, fits into a mail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from metrics import values as published
from metrics.catalog import PACKS
from metrics.confidence import interval_of, is_small
from metrics.definition import Kpi
from metrics.dimensions import TOTAL_NAME
from metrics.periods import kind_of
from store.engine import database_now, reading
from store.kpis import KpiValue
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.kpis import display
from worker.runtime import Runtime
from worker.status import Status, gather

_CALENDAR: Final = ("month", "fiscal_month", "quarter", "fiscal_quarter", "week", "year", "day")
"""Kinds of periods, the most telling for a page first."""
_MOST_BARS: Final = 13
_HEIGHT: Final = 40
_OWN: Final = "Own KPIs"
_UNITS: Final = {"count": "", "text": "", "ratio": ""}
"""Units that go without saying."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One period of a small chart; pixels from the top left."""

    x: int
    y: float
    height: float
    title: str
    is_running: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One KPI as the page shows it."""

    kpi: str
    label: str
    definition: str
    caveats: Sequence[str]
    value: str
    unit: str
    period: str
    n: int | None
    within: str
    marks: Sequence[str]
    bars: Sequence[Bar] = field(default=())

    @property
    def said(self) -> str:
        """The chart in words."""
        return "; ".join(bar.title for bar in self.bars)


@dataclass(frozen=True, slots=True)
class Section:
    """A pack of KPIs."""

    title: str
    cards: Sequence[Card]


@app.command()
def report(
    context: typer.Context,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
) -> None:
    """One HTML page: every KPI's total with its last periods, and how fresh the records are."""
    session = session_of(context)
    with session.runtime() as runtime:
        page = page_of(runtime)
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise CommandError(ExitCode.FAILED, f"{output} cannot be written: {reason}.") from None
    session.printer.say(f"written to {output}")


def page_of(runtime: Runtime) -> str:
    """The page, with the totals of every configured KPI."""
    with reading(runtime.engine) as conn:
        now = database_now(conn)
        rows = published.current(conn, runtime.catalog, dimension=TOTAL_NAME)
    status = gather(runtime)
    company = runtime.config.company
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        company=company.name,
        made_at=_local(now, company.timezone),
        timezone=company.timezone.key,
        currency=company.currency,
        sections=list(_sections(runtime.catalog.kpis, rows)),
        sentences=status.sentences,
        streams=_streams(status),
    )


def _local(instant: datetime, zone: ZoneInfo) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M}"


def _streams(status: Status) -> list[dict[str, object]]:
    return [
        {
            "name": f"{one.connection}.{one.stream}",
            "state": one.state,
            "checkpoint": f"{one.checkpoint:%Y-%m-%d %H:%M}" if one.checkpoint else "never",
            "rejects": one.rejects,
        }
        for one in status.streams
    ]


def _sections(kpis: Iterable[Kpi], rows: Sequence[KpiValue]) -> Iterable[Section]:
    configured = {kpi.name: kpi for kpi in kpis}
    of = {name: list(some) for name, some in groupby(rows, key=lambda row: row.kpi)}
    packs: dict[str, list[str]] = {
        pack.capitalize(): [kpi.name for kpi in members] for pack, members in PACKS.items()
    }
    packs[_OWN] = [name for name, kpi in configured.items() if kpi.custom is not None]
    for title, names in packs.items():
        cards = [
            _card(configured[name], of[name]) for name in names if name in configured and name in of
        ]
        if cards:
            yield Section(title, cards)


def _card(kpi: Kpi, rows: Sequence[KpiValue]) -> Card:
    by_kind: dict[str, list[KpiValue]] = {}
    for row in rows:
        by_kind.setdefault(kind_of(row.period), []).append(row)
    kind = next((one for one in _CALENDAR if one in by_kind), None)
    series = sorted(by_kind[kind], key=lambda row: row.period)[-_MOST_BARS:] if kind else []
    shown = _shown(by_kind, series)
    interval = interval_of(kpi, shown)
    return Card(
        kpi=kpi.name,
        label=kpi.label,
        definition=kpi.definition,
        caveats=kpi.caveats,
        value=_said(kpi, shown),
        unit="" if kpi.is_share else _UNITS.get(shown.unit, shown.currency or str(shown.unit)),
        period=shown.period,
        n=shown.n,
        within=""
        if interval is None
        else f"{_percent(interval.low)} and {_percent(interval.high)}",
        marks=list(_marks(shown)),
        bars=_bars(kpi, series),
    )


def _said(kpi: Kpi, row: KpiValue) -> str:
    """The value for people: a share in percent."""
    return _percent(row.value) if kpi.is_share and row.value is not None else display(row)


def _percent(share: Decimal) -> str:
    return f"{(share * 100).quantize(Decimal('0.1'), ROUND_HALF_UP)} %"


def _shown(by_kind: Mapping[str, Sequence[KpiValue]], series: Sequence[KpiValue]) -> KpiValue:
    """What stands in large: what holds now, else the last complete period, else all time."""
    if "now" in by_kind:
        return by_kind["now"][0]
    if len(series) > 1:
        return series[-2]
    return next(iter(series), None) or next(iter(by_kind.values()))[0]


def _marks(row: KpiValue) -> Iterable[str]:
    if row.value is not None and row.denominator is not None and is_small(row):
        yield f"small sample: {row.n}"
    if row.left_out:
        yield "left out: " + ", ".join(f"{why} {count}" for why, count in row.left_out.items())


def _bars(kpi: Kpi, series: Sequence[KpiValue]) -> list[Bar]:
    """Heights from the axis at zero to the largest; without a value there is no bar."""
    numbers = [row.value for row in series if row.value is not None]
    if len(numbers) <= 1 or not any(numbers):
        return []
    top, bottom = max(*numbers, Decimal(0)), min(*numbers, Decimal(0))
    scale = _HEIGHT / float(top - bottom)
    return [
        Bar(
            x=place * 10 + 1,
            y=round(float(top - max(row.value, Decimal(0))) * scale, 2),
            height=round(max(abs(float(row.value)) * scale, 0.5), 2),
            title=f"{row.period}: {_said(kpi, row)}",
            is_running=place == len(series) - 1,
        )
        for place, row in enumerate(series)
        if row.value is not None
    ]
