"""kpi list/show/values and verify: what the numbers mean, what they are, whether they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Annotated, Final

import typer

from config.errors import did_you_mean
from metrics import values as published
from metrics.absence import why_none
from metrics.confidence import Interval, interval_of, is_small
from metrics.definition import Direction, Kpi
from metrics.dimensions import DIMENSIONS, TOTAL_NAME
from metrics.explain.counterexample import Counterexample, smallest
from metrics.explain.document import exact
from metrics.families import dimensions_of
from metrics.targets import Judge, Judged
from metrics.values import KpiValue
from metrics.verify import Verification
from metrics.verify.duck import NoDuckDb
from store.engine import reading
from store.kpis import count_dirty_keys
from worker import pipeline, verifying
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.output import Printer, as_json
from worker.drift import DriftReport
from worker.feeds import Freshness, freshness
from worker.targets import STATES, judge_of, share, shown

kpi_app = typer.Typer(help="The catalogue and the values.", no_args_is_help=True)
app.add_typer(kpi_app, name="kpi")

DIFFERENCES_SHOWN = 20
ENGINES = ("python", "duckdb")

INSTANT_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
"""How an instant (UTC) may be written on the command line."""


def instant_of(given: datetime | None) -> datetime | None:
    """An option's instant, which is meant in UTC."""
    return None if given is None else given.replace(tzinfo=UTC)


def _as_object(kpi: Kpi, fields: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    return {
        "kpi": kpi.name,
        "label": kpi.label,
        "definition": kpi.definition,
        "unit": str(kpi.unit),
        "direction": str(kpi.direction),
        "caveats": list(kpi.caveats),
        "version": kpi.version,
        "formula": kpi.formula,
        "counts_on": kpi.counting_day,
        "dimensions": list(dimensions_of(kpi, fields)),
        "settings": list(kpi.settings),
        "left_out": sorted(kpi.left_out),
        "example": kpi.example.text,
    }


_BETTER: Final = {
    Direction.UP: "higher",
    Direction.DOWN: "lower",
    Direction.NEUTRAL: "neither",
}


@kpi_app.command("list")
def list_kpis(context: typer.Context) -> None:
    """Every KPI there is, one line each."""
    session = session_of(context)
    printer = session.printer
    kpis = [kpi for _, kpi in sorted(session.kpis().items())]
    if printer.is_json:
        printer.document([_as_object(kpi, session.grouping_fields()) for kpi in kpis])
        return
    printer.table(
        ("kpi", "label", "unit", "better", "formula", "definition"),
        (
            (kpi.name, kpi.label, kpi.unit, _BETTER[kpi.direction], kpi.formula, kpi.definition)
            for kpi in kpis
        ),
    )


@kpi_app.command("show")
def show_kpi(context: typer.Context, name: str) -> None:
    """One KPI: its definition, its unit, what to beware of, a worked example."""
    session = session_of(context)
    printer = session.printer
    known = session.kpis()
    if name not in known:
        raise CommandError(
            ExitCode.USAGE, f'there is no KPI "{name}" (kpisync kpi list shows them all)'
        )
    kpi = known[name]
    if printer.is_json:
        printer.document(_as_object(kpi, session.grouping_fields()))
        return
    printer.text(f"{kpi.name} - {kpi.label}  [{kpi.unit}, formula {kpi.name}@{kpi.version}]")
    printer.text(f"  {kpi.definition}")
    when = f"Counts on: {kpi.counting_day}." if kpi.counting_day else "True of now."
    printer.text(f"  Better: {_BETTER[kpi.direction]}. {when}")
    printer.text(f"  Groups: {', '.join(dimensions_of(kpi, session.grouping_fields()))}")
    if kpi.settings:
        printer.text(f"  Settings: {', '.join(kpi.settings)}")
    for caveat in kpi.caveats:
        printer.text(f"  Beware: {caveat}")
    if kpi.custom is None:
        printer.text(f"  Example: {kpi.example.text}")


@kpi_app.command("values")
def show_values(
    context: typer.Context,
    kpi: Annotated[str | None, typer.Option(help="One KPI's name.")] = None,
    period: Annotated[str | None, typer.Option(help="2017-Q1, 2017-03, 2017, all, now …")] = None,
    by: Annotated[
        str | None, typer.Option(help="all (totals), owner, product, account, 'owner,region' …")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=INSTANT_FORMATS, help="What was believed then (UTC)."),
    ] = None,
) -> None:
    """The published values."""
    session = session_of(context)
    known = session.kpis()
    if kpi is not None and as_of is None:
        refuse_unknown("KPI", kpi, tuple(known), "kpisync kpi list")
    if by is not None and as_of is None:
        refuse_unknown_dimensions(by, session)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        catalog = runtime.catalog
        rows = published.current(
            conn, catalog, kpi=kpi, period=period, dimension=by, at=instant_of(as_of)
        )
        if kpi is not None and not rows:
            # One that was taken out of the configuration still has its past.
            refuse_unknown("KPI", kpi, tuple(known), "kpisync kpi list")
        names = sorted({row.kpi for row in rows})
        # How fresh the records were in the past nobody knows any more.
        fresh = {} if as_of else freshness(runtime, conn, catalog, names)
        judge = judge_of(conn, runtime.config, catalog, at=instant_of(as_of))
    printer = session.printer
    kpis = {one.name: one for one in catalog.kpis}
    if printer.is_json:
        printer.document(
            [
                {**with_honesty(row, kpis.get(row.kpi), fresh), **judge.of(row).to_json()}
                for row in rows
            ]
        )
        return
    if not rows:
        printer.warn(why_none(catalog, None if kpi is None else known[kpi], period, by))
        return
    print_values(printer, rows, kpis, judge)
    for sentence in sentences_of(fresh):
        printer.warn(sentence)


def refuse_unknown(what: str, name: str, known: Sequence[str], where: str) -> None:
    """An empty answer to a misspelt question would pass for a fact.

    Raises:
        CommandError: the name is not known.
    """
    if name not in known:
        raise CommandError(
            ExitCode.USAGE, f'there is no {what} "{name}". {did_you_mean(name, known)} ({where})'
        )


def with_honesty(
    row: KpiValue, kpi: Kpi | None, fresh: Mapping[str, Freshness]
) -> dict[str, object]:
    """A value as an object, with what tells how far it can be trusted."""
    interval = interval_of(kpi, row)
    return {
        **row.to_json(),
        **({} if row.named is None else {"value_label": row.named}),
        "small_sample": is_small(row),
        "interval": None if interval is None else interval.to_json(),
        **(fresh[row.kpi].to_json() if row.kpi in fresh else {}),
    }


def sentences_of(fresh: Mapping[str, Freshness]) -> list[str]:
    """One sentence for each stream whose lateness makes values old."""
    behind: dict[str, list[str]] = {}
    for kpi, one in fresh.items():
        for stream in one.late:
            behind.setdefault(stream, []).append(kpi)
    return [
        f"{stream} is late (kpisync status says why): "
        + (f"{len(kpis)} KPIs rest" if len(kpis) > 1 else f"{kpis[0]} rests")
        + " on records that may be old"
        for stream, kpis in sorted(behind.items())
    ]


def refuse_unknown_dimensions(by: str, session: Session) -> None:
    """The same of what values are grouped by.

    Raises:
        CommandError: a dimension is not known.
    """
    custom = (kpi for kpi in session.kpis().values() if kpi.custom is not None)
    own = {name for kpi in custom for name in dimensions_of(kpi)}
    own.update(name for names in session.grouping_fields().values() for name in names)
    known = tuple(dict.fromkeys((TOTAL_NAME, *DIMENSIONS, *sorted(own))))
    for name in by.split(","):
        refuse_unknown("dimension", name, known, "docs/kpis.md")


def print_values(
    printer: Printer,
    rows: Sequence[KpiValue],
    kpis: Mapping[str, Kpi] | None = None,
    judge: Judge | None = None,
) -> None:
    """The values as a table for people; of shares with the interval they lie in."""
    known = kpis or {}
    # Columns of targets only where there are any: most tables are wide enough.
    judged = [] if judge is None else [judge.of(row) for row in rows]
    has_targets = any(one.target is not None for one in judged)
    columns = ("target", "attained", "pace", "state") if has_targets else ()
    printer.table(
        ("kpi", "period", "by", "of", "value", "unit", *columns, *_BESIDE),
        (
            (
                row.kpi,
                row.period,
                row.dimension,
                row.label or row.key,
                display(row),
                row.currency or row.unit,
                *(_beside_target(judged[place]) if has_targets else ()),
                _within(interval_of(known.get(row.kpi), row)),
                row.n,
                "small sample" if row.denominator is not None and is_small(row) else "",
                ", ".join(f"{reason} {count}" for reason, count in row.left_out.items()),
            )
            for place, row in enumerate(rows)
        ),
        numbers=("value", "attained", "pace", "n"),
    )


_BESIDE: Final = ("95 % within", "n", "", "left out")


def _beside_target(judged: Judged) -> tuple[str, ...]:
    target = judged.target
    if target is None:
        return ("", "", "", "")
    sign = ">=" if target.is_at_least else "<="
    wanted = f"{sign} {shown(target.value)}"
    return (wanted, share(judged.attainment), shown(judged.pace), STATES[judged.state])


def _within(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.2f}-{interval.high:.2f}"


def display(row: KpiValue) -> str:
    """A value as people read it: rounded half-up, a dash where there is none."""
    if row.words is not None:
        return row.named or row.words
    if row.value is None:
        return "-"
    digits = 4 if row.unit == "ratio" else 2
    if row.unit == "count" and row.value == row.value.to_integral_value():
        digits = 0
    # Not by the format, which rounds a half to the even digit.
    shown = row.value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _WIDE)
    return f"{shown:.4f}" if row.unit == "ratio" else f"{shown:,f}"


_WIDE: Final = Context(prec=60)


@app.command()
def verify(
    context: typer.Context,
    is_online: Annotated[
        bool, typer.Option("--online", help="Also compare the CRM fields with what was written.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            help="python, or duckdb for cells and values of sums, and python for the rest."
        ),
    ] = "python",
) -> None:
    """Recompute everything from the stored records and compare with the stored values."""
    session = session_of(context)
    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine knows {' and '.join(ENGINES)}, not {engine}")
    with session.runtime() as runtime:
        with reading(runtime.engine, makes_tables=True) as conn:
            try:
                everything = verifying.verify_everything(
                    conn, runtime, with_duckdb=engine == "duckdb"
                )
            except NoDuckDb as error:
                raise CommandError(ExitCode.FAILED, str(error)) from None
            verification = everything.verification
            waiting = count_dirty_keys(conn)
            example = smallest(conn, runtime.catalog, verification)
        if not waiting:
            words = None if verification.ok else verifying.in_words(verification, example)
            verifying.remember(runtime, verification, words)
        names = runtime.writebacks if is_online else ()
        reports = [pipeline.compare_live(runtime, name) for name in names]
    is_ok = verification.ok and all(report.ok for report in reports)
    printer = session.printer
    if printer.is_json:
        document: dict[str, object] = {
            "ok": is_ok,
            "checked": verification.checked,
            "days": verification.days,
            "cells": verification.cells,
            "differences": [
                {
                    "kpi": difference.kpi,
                    "period": difference.period,
                    "dimension": difference.dimension,
                    "key": difference.key,
                    "stored": difference.stored,
                    "recomputed": difference.recomputed,
                }
                for difference in verification.differences
            ],
            "smallest": None if example is None else example.to_json(),
        }
        if everything.by_duckdb is not None:
            document["duckdb"] = everything.by_duckdb.to_json()
        if is_online:
            document["online"] = [report.to_json() for report in reports]
        printer.document(document)
    else:
        if everything.by_duckdb is not None:
            printer.say(everything.by_duckdb.words(len(runtime.catalog.kpis)))
        _show_verification(printer, verification, waiting, example)
        for report in reports:
            _show_comparison(printer, report)
    raise typer.Exit(ExitCode.FINE if is_ok else ExitCode.FAILED)


def _show_verification(
    printer: Printer, verification: Verification, waiting: int, example: Counterexample | None
) -> None:
    if verification.ok:
        printer.text(
            f"{verification.checked:,} values recomputed, {verification.days:,} days of cells and "
            f"{verification.cells:,} cells, all equal"
        )
        return
    count = len(verification.differences)
    printer.fail(f"{count:,} of {verification.checked:,} values differ; the first:")
    if waiting:
        printer.warn(
            f"{waiting:,} changes are pulled and not computed yet: `kpisync compute` first, or the"
            " values cannot be equal."
        )
    printer.table(
        ("kpi", "period", "by", "key", "stored", "recomputed"),
        (
            (d.kpi, d.period, d.dimension, d.key, d.stored, d.recomputed)
            for d in verification.differences[:DIFFERENCES_SHOWN]
        ),
    )
    if example is not None:
        printer.text(f"the smallest: {example.words}")
        printer.table(
            ("record", "numerator", "denominator", "left out"),
            (
                (
                    line.name,
                    exact(line.numerator),
                    exact(line.denominator),
                    ", ".join(f"{reason} {count}" for reason, count in line.left_out.items()),
                )
                for line in example.lines[:DIFFERENCES_SHOWN]
            ),
            numbers=("numerator", "denominator"),
        )


def _show_comparison(printer: Printer, report: DriftReport) -> None:
    name = report.writeback
    if report.ok:
        printer.text(f"{name}: {report.checked:,} CRM fields hold what was written")
        return
    count = len(report.differences)
    printer.fail(f"{name}: {count:,} of {report.checked:,} CRM fields hold something else:")
    printer.table(
        ("record", "field", "written", "held"),
        (
            (one.record, one.field, as_json(one.ours), as_json(one.held))
            for one in report.differences[:DIFFERENCES_SHOWN]
        ),
    )
