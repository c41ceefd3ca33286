"""pull, compute, run, drain: the steps by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from worker import loop, pipeline
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.kpis import refuse_unknown
from worker.cli.output import Printer
from worker.reloading import LiveRuntime
from worker.results import Kind, RunResult, State, exit_code
from worker.runtime import Runtime


def run_as_object(result: RunResult) -> dict[str, object]:
    """A run as other programs read it."""
    return {
        "run": result.run,
        "kind": result.kind,
        "connection": result.connection,
        "stream": result.stream,
        "writeback": result.writeback,
        "state": result.state,
        "pulled": result.pulled,
        "stored": result.stored,
        "unchanged": result.unchanged,
        "dead": result.dead,
        "cleaned": result.cleaned,
        "sent": result.sent,
        "failed": result.failed,
        "calls": result.calls,
        "minimum_calls": result.minimum_calls,
        "changed_values": result.changed_values,
        "error": result.error,
        "warnings": list(result.warnings),
    }


def subject_of(result: RunResult) -> str:
    """What a run was about, in a word."""
    if result.connection and result.stream:
        return f"{result.connection}.{result.stream}"
    return result.writeback or result.connection or "all KPIs"


LONGEST_SECONDS = 30 * 24 * 3600
COUNTS = ("pulled", "stored", "unchanged", "dead", "values", "sent", "failed", "calls")


def shown_counts(result: RunResult) -> Iterator[str]:
    """The counts that mean something for this kind of step; a zero is not worth ink."""
    counts = {
        Kind.PULL: (result.pulled, result.stored, result.unchanged, result.dead, 0, 0, 0),
        Kind.COMPUTE: (0, 0, 0, 0, result.changed_values, 0, 0),
        Kind.PUSH: (0, 0, 0, 0, 0, result.sent, result.failed),
        Kind.DRIFT: (result.pulled, 0, result.unchanged, 0, 0, 0, 0),
        Kind.SINK: (0, 0, 0, 0, 0, result.sent, result.failed),
        Kind.VERIFY: (result.pulled, 0, result.unchanged, 0, 0, 0, 0),
    }[result.kind]
    return (f"{count:,}" if count else "" for count in (*counts, result.calls))


def report(printer: Printer, results: Sequence[RunResult]) -> None:
    """Show runs: counts in a table, faults and warnings as sentences."""
    if printer.is_json:
        printer.document({"runs": [run_as_object(result) for result in results]})
    elif not printer.is_quiet:
        printer.table(
            ("step", "of", "state", *COUNTS),
            (
                (result.kind, subject_of(result), result.state, *shown_counts(result))
                for result in results
            ),
            numbers=COUNTS,
        )
    for result in results:
        for warning in result.warnings:
            printer.warn(f"{subject_of(result)}: {warning}")
        if result.error:
            printer.fail(f"{subject_of(result)}: {result.error}")
        if result.dead:
            printer.warn(
                f"{subject_of(result)}: {result.dead} record(s) could not be read and wait in the "
                "dead letters (kpisync dump deadletters)"
            )


def _targets(runtime: Runtime, target: str | None) -> list[tuple[str, str | None]]:
    if target is None:
        return [(name, None) for name in runtime.config.connections]
    connection, _, stream = target.partition(".")
    if connection not in runtime.config.connections:
        known = ", ".join(runtime.config.connections)
        raise CommandError(
            ExitCode.USAGE, f'there is no connection "{connection}" (configured: {known})'
        )
    streams = pipeline.stream_names(runtime, connection)
    if stream and stream not in streams:
        raise CommandError(
            ExitCode.USAGE,
            f'connection "{connection}" has no stream "{stream}" (it has: {", ".join(streams)})',
        )
    return [(connection, stream or None)]


@app.command()
def pull(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="CONN or CONN.STREAM; all if absent.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read everything again and remove what has vanished.")
    ] = False,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC.")
    ] = None,
    accept_vanished: Annotated[
        bool,
        typer.Option("--accept-vanished", help="Yes, the records that vanished are really gone."),
    ] = False,
) -> None:
    """Read what changed in the CRMs since the last pull."""
    session = session_of(context)
    with session.runtime() as runtime:
        results: list[RunResult] = []
        for connection, stream in _targets(runtime, target):
            results += pipeline.pull_connection(
                runtime,
                connection,
                stream=stream,
                full=full,
                since=since.replace(tzinfo=UTC) if since else None,
                accept_vanished=accept_vanished,
            )
    report(session.printer, results)
    raise typer.Exit(exit_code(results))


@app.command()
def compute(
    context: typer.Context,
    kpi: Annotated[
        str | None, typer.Argument(help="With --rebuild: only what this KPI rests on.")
    ] = None,
    *,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="From the stored records, not from the changes.")
    ] = False,
) -> None:
    """Bring the KPI values up to date with the stored records."""
    session = session_of(context)
    with session.runtime() as runtime:
        if kpi is not None:
            known = tuple(one.name for one in runtime.catalog.kpis)
            refuse_unknown("configured KPI", kpi, known, "kpisync kpi list")
        result = pipeline.compute(runtime, kpi, rebuild=rebuild)
    report(session.printer, [result])
    raise typer.Exit(exit_code([result]))


@app.command()
def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One whole pass, then end.")] = False,
) -> None:
    """Embedded mode: pull, compute and push on the configured schedules, without a broker."""
    session = session_of(context)
    with session.runtime(is_service=not once) as runtime:
        if not once:
            live = LiveRuntime(session.config_path, runtime, runtime.progress)
            try:
                loop.run_forever(live)
            finally:
                live.close()
            return
        outcome = pipeline.full_pass(runtime)
    report(session.printer, outcome.results)
    raise typer.Exit(outcome.exit_code)


@app.command()
def drain(
    context: typer.Context,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 300.0,
) -> None:
    """Work until nothing is due: every stream once, then KPIs, then write-backs."""
    if not 0 < timeout <= LONGEST_SECONDS:
        raise typer.BadParameter(f"--timeout is a number of seconds up to {LONGEST_SECONDS:,}")
    session = session_of(context)
    with session.runtime() as runtime:
        outcome = pipeline.drain(runtime, timeout=timedelta(seconds=timeout))
    report(session.printer, outcome.results)
    if outcome.is_time_up:
        session.printer.fail(f"time was up after {timeout:g} s with work still due")
        raise typer.Exit(ExitCode.FAILED)
    is_paused = any(result.state is State.PAUSED for result in outcome.results)
    code = outcome.exit_code or (ExitCode.PARTLY_FAILED if is_paused else ExitCode.FINE)
    # Something failed, but everything that could be done was done.
    raise typer.Exit(ExitCode.PARTLY_FAILED if code == ExitCode.FAILED else code)
