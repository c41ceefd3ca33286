"""sinks and kpi export: the metrics table in other databases and in files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from store.engine import reading
from worker import pipeline
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.kpis import kpi_app, refuse_unknown
from worker.cli.steps import report
from worker.exporting import CannotExport, export_values
from worker.results import exit_code
from worker.runtime import Runtime
from worker.sinks import sink_states

sinks_app = typer.Typer(help="The metrics table in other databases.", no_args_is_help=True)
app.add_typer(sinks_app, name="sinks")


def chosen_sinks(runtime: Runtime, name: str | None) -> list[str]:
    """The named sink, or all of them."""
    configured = tuple(runtime.config.sinks)
    if not configured:
        raise CommandError(ExitCode.USAGE, "no `sinks` are configured (docs/metrics-table.md)")
    if name is None:
        return list(configured)
    if name not in configured:
        known = ", ".join(configured)
        raise CommandError(ExitCode.USAGE, f'there is no sink "{name}" (configured: {known})')
    return [name]


@sinks_app.command("list")
def list_sinks(context: typer.Context) -> None:
    """Every sink: when it was last brought up to date, how far it is behind."""
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        states = sink_states(conn, runtime)
    printer = session.printer
    if printer.is_json:
        printer.document(
            [
                {
                    "sink": one.sink,
                    "state": one.state,
                    "synced_at": one.synced_at,
                    "behind": one.behind,
                    "error": one.error,
                }
                for one in states
            ]
        )
        return
    printer.table(
        ("sink", "state", "up to date", "rows behind"),
        ((one.sink, one.state, one.synced_at, one.behind) for one in states),
        numbers=("rows behind",),
    )
    for one in states:
        if one.error:
            printer.fail(f"{one.sink}: {one.error}")


@sinks_app.command("sync")
def sync(
    context: typer.Context,
    sink: Annotated[str | None, typer.Argument(help="All if absent.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Copy every row again.")] = False,
) -> None:
    """Copy what changed in the metrics table since the last time."""
    session = session_of(context)
    with session.runtime() as runtime:
        results = [
            pipeline.sync_sink(runtime, name, is_full=full) for name in chosen_sinks(runtime, sink)
        ]
    report(session.printer, results)
    raise typer.Exit(exit_code(results))


@kpi_app.command("export")
def export(  # noqa: PLR0917 - each is an option of the command line
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Ends with .csv or .parquet.")],
    kpi: Annotated[str | None, typer.Option(help="One KPI's name.")] = None,
    period: Annotated[str | None, typer.Option(help="2017-Q1, 2017-03, 2017, all, now ...")] = None,
    by: Annotated[
        str | None, typer.Option(help="all (totals), owner, account, 'owner,region' ...")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="What was believed then (UTC)."
        ),
    ] = None,
) -> None:
    """The published values of a period as a CSV or Parquet file."""
    session = session_of(context)
    if kpi is not None:
        refuse_unknown("KPI", kpi, tuple(session.kpis()), "kpisync kpi list")
    with session.runtime() as runtime:
        try:
            count = export_values(
                runtime,
                file,
                kpi=kpi,
                period=period,
                dimension=by,
                at=None if at is None else at.replace(tzinfo=UTC),
            )
        except CannotExport as error:
            raise CommandError(ExitCode.FAILED, str(error)) from error
    if session.printer.is_json:
        session.printer.document({"file": str(file), "values": count})
    else:
        session.printer.text(f"{count:,} values in {file}")
