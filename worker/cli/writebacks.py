"""setup, plan, apply: creating KPI fields, showing what would be written, writing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from metrics.writeback import Change, Plan
from worker import pipeline
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.output import Printer, as_json, write_json_file
from worker.cli.steps import report
from worker.results import exit_code
from worker.runtime import Runtime

CHANGES_SHOWN = 15


def chosen(runtime: Runtime, name: str | None) -> list[str]:
    """The named write-back, or all of them."""
    if name is None:
        if not runtime.writebacks:
            raise CommandError(
                ExitCode.USAGE, "no `writebacks` are configured (docs/configuration.md)"
            )
        return list(runtime.writebacks)
    if name not in runtime.writebacks:
        known = ", ".join(runtime.writebacks) or "none"
        raise CommandError(ExitCode.USAGE, f'there is no write-back "{name}" (configured: {known})')
    return [name]


@app.command()
def setup(
    context: typer.Context,
    writeback: Annotated[str | None, typer.Argument(help="All if absent.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Create the KPI fields of a write-back in its CRM."""
    session = session_of(context)
    printer = session.printer
    with session.runtime() as runtime:
        names = chosen(runtime, writeback)
        found = {name: pipeline.setup_writeback(runtime, name, dry_run=True) for name in names}
        missing = sum(
            result.outcome == "would_create" for results in found.values() for result in results
        )
        if not dry_run and missing:
            if not yes:
                show_setup(printer, found)
                typer.confirm(f"Create {missing} field(s)?", abort=True, err=True)
            found = {name: pipeline.setup_writeback(runtime, name, dry_run=False) for name in names}
    if printer.is_json:
        printer.document(
            {
                name: [
                    {"field": result.field, "outcome": result.outcome, "note": result.note}
                    for result in results
                ]
                for name, results in found.items()
            }
        )
    else:
        show_setup(printer, found)
    outcomes = {result.outcome for results in found.values() for result in results}
    raise typer.Exit(ExitCode.PARTLY_FAILED if outcomes & {"conflict", "manual"} else ExitCode.FINE)


def show_setup(printer: Printer, found: pipeline.SetupResults) -> None:
    """What setup did, or would do, about each field; what is said of many fields stands once."""
    notes: dict[str, list[str]] = {}
    for results in found.values():
        for result in results:
            if result.note:
                notes.setdefault(result.note, []).append(result.field)
    printer.table(
        ("write-back", "field", "outcome"),
        (
            (name, result.field, result.outcome.replace("_", " "))
            for name, results in found.items()
            for result in results
        ),
    )
    for note, fields in notes.items():
        printer.text(f"{', '.join(fields)}: {note}")


@app.command()
def plan(
    context: typer.Context,
    writeback: Annotated[str | None, typer.Argument(help="All if absent.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Keep the plan for `kpisync apply FILE`.")
    ] = None,
    is_exit_code_wanted: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 when there are changes.")
    ] = False,
) -> None:
    """Show what a write-back would change: old -> new per record, cost, guard verdict."""
    session = session_of(context)
    with session.runtime() as runtime:
        plans = [pipeline.plan_writeback(runtime, name) for name in chosen(runtime, writeback)]
    if output is not None:
        write_plans(output, plans)
    printer = session.printer
    if printer.is_json:
        printer.document(one_or_all([one.to_json() for one in plans]))
    else:
        for one in plans:
            show_plan(printer, one)
    if not all(one.guard.ok for one in plans):
        raise typer.Exit(ExitCode.REFUSED)
    has_changes = any(written(one) for one in plans)
    raise typer.Exit(
        ExitCode.CHANGES_PLANNED if is_exit_code_wanted and has_changes else ExitCode.FINE
    )


def written(one: Plan) -> list[Change]:
    """The changes that would reach the CRM."""
    return [change for change in one.changes if change.kind != "kept"]


def show_plan(printer: Printer, one: Plan) -> None:
    """A plan as an admin reads it."""
    changes = written(one)
    kinds = [f"{sum(c.kind == kind for c in one.changes)} {word}" for kind, word in PLAN_WORDS]
    printer.text(
        f"{one.writeback} -> {one.to}: {one.matched} records matched, {one.unmatched} not found in "
        f"the CRM, {one.deleted} deleted; {', '.join(kinds)}; {one.calls} API calls"
    )
    if changes:
        printer.table(
            ("record", "field", "old", "new", "why"),
            (
                (c.record, c.field, as_json(c.old), as_json(c.new), c.why)
                for c in changes[:CHANGES_SHOWN]
            ),
            numbers=("old", "new"),
        )
        if len(changes) > CHANGES_SHOWN:
            printer.text(f"... and {len(changes) - CHANGES_SHOWN:,} more")
    if not one.guard.ok:
        printer.fail(f"blocked by a guard: {one.guard.reason}")


PLAN_WORDS = (
    ("change", "values change"),
    ("fill", "first values"),
    ("blank", "blanked"),
    ("kept", "kept"),
)


def write_plans(path: Path, plans: Sequence[Plan]) -> None:
    """Keep plans in a file.

    Raises:
        CommandError: when it cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8") as stream:
            write_json_file(stream, one_or_all([one.to_json() for one in plans]))
    except OSError as error:
        raise CommandError(
            ExitCode.FAILED, f"the plan cannot be kept in {path}: {error.strerror}"
        ) from error


def one_or_all(documents: Sequence[object]) -> object:
    """One document as it is, several as a list."""
    return documents[0] if len(documents) == 1 else list(documents)


def read_plans(path: Path) -> list[Plan]:
    """Plans kept by ``kpisync plan -o``.

    Raises:
        CommandError: when the file is missing or is no plan.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        documents = found if isinstance(found, list) else [found]
        return [Plan.from_json(document) for document in documents]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CommandError(
            ExitCode.FAILED,
            f"{path} cannot be read as a plan ({type(error).__name__}); "
            "make one with: kpisync plan -o FILE",
        ) from error


@app.command()
def apply(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A plan file; else a fresh plan.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Write what the plan says and what still differs from the CRM's own value."""
    session = session_of(context)
    printer = session.printer
    with session.runtime() as runtime:
        plans = (
            read_plans(file)
            if file
            else [pipeline.plan_writeback(runtime, name) for name in chosen(runtime, None)]
        )
        if not yes:
            confirm(session, plans)
        results = [pipeline.apply_plan(runtime, one) for one in plans]
    if printer.is_json:
        documents = [
            {
                "run": result.run,
                "writeback": result.writeback,
                "state": result.state,
                "written": result.sent,
                "skipped": result.skipped,
                "failed": result.failed,
                "kept": result.kept,
                "calls": result.calls,
                "error": result.error,
            }
            for result in results
        ]
        printer.document(one_or_all(documents))
    else:
        report(printer, results)
    raise typer.Exit(exit_code(results))


def confirm(session: Session, plans: Sequence[Plan]) -> None:
    """Show the plans and ask."""
    changes = sum(len(written(one)) for one in plans)
    if not changes:
        return
    for one in plans:
        show_plan(session.printer, one)
    typer.confirm(f"Write {changes:,} values?", abort=True, err=True)
