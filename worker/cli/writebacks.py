"""setup, plan, apply: creating KPI fields, showing what would be written, writing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from metrics.plans import UnreadablePlanError
from metrics.writeback import KEPT, Change, Plan
from store import holds, rewrites
from store.engine import operating, reading
from worker import pipeline
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.output import Printer, as_json, write_json_file
from worker.cli.steps import report
from worker.results import RunResult, exit_code
from worker.runtime import Runtime
from worker.writeback_states import writeback_states

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
                ask(f"Create {missing} field(s)?", "nothing was created")
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
        plans = [
            pipeline.plan_writeback(runtime, name, with_reasons=True)
            for name in chosen(runtime, writeback)
        ]
        held = _held(runtime)
    if output is not None:
        write_plans(output, plans)
    printer = session.printer
    if printer.is_json:
        printer.document(one_or_all([one.to_json() for one in plans]))
    else:
        for one in plans:
            show_plan(printer, one)
            if one.writeback in held:
                printer.warn(f"held: {held[one.writeback]}")
    if not all(one.guard.ok for one in plans):
        raise typer.Exit(ExitCode.REFUSED)
    has_changes = any(written(one) for one in plans)
    raise typer.Exit(
        ExitCode.CHANGES_PLANNED if is_exit_code_wanted and has_changes else ExitCode.FINE
    )


def _held(runtime: Runtime) -> dict[str, str]:
    with reading(runtime.engine) as conn:
        return {one.writeback: one.reason for one in holds.every(conn)}


def written(one: Plan) -> list[Change]:
    """The changes that would reach the CRM."""
    return [change for change in one.changes if change.kind != KEPT]


def show_plan(printer: Printer, one: Plan) -> None:
    """A plan as an admin reads it: how much, what, the largest moves, edits, cost, verdict."""
    changes = written(one)
    kinds = [f"{sum(c.kind == kind for c in one.changes)} {word}" for kind, word in PLAN_WORDS]
    printer.text(
        f"{one.writeback} -> {one.to}: {one.matched} records matched, {one.unmatched} not found in "
        f"the CRM, {one.deleted} deleted; {', '.join(kinds)}; {cost(one)}"
    )
    if one.fields:
        columns = ("changed", "first", "same", "blanked", "kept")
        printer.table(
            ("field", "kpi", "period", *columns),
            (
                (f.field, f.kpi, f.period, f.changed, f.first, f.same, f.blanked, f.kept)
                for f in one.fields
            ),
            numbers=columns,
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
    if one.moves:
        printer.table(
            ("largest moves", "field", "old", "new", "reason"),
            ((m.record, m.field, as_json(m.old), as_json(m.new), m.why) for m in one.moves),
            numbers=("old", "new"),
        )
    _show_edits(printer, one)
    for note in one.notes:
        printer.warn(note)
    if not one.guard.ok:
        printer.fail(f"blocked by a guard: {one.guard.reason}")


def _show_edits(printer: Printer, one: Plan) -> None:
    for edit in one.edits[:CHANGES_SHOWN]:
        printer.warn(
            f"{edit.record}: {edit.field} was changed in the CRM from {as_json(edit.ours)} to "
            f"{as_json(edit.held)} after we wrote it: {edit.outcome}"
        )
    if len(one.edits) > CHANGES_SHOWN:
        printer.warn(f"... and {len(one.edits) - CHANGES_SHOWN:,} more fields that somebody edited")


def cost(one: Plan) -> str:
    """What writing costs: calls, looks before and after, share of a day's quota."""
    share = "" if one.quota_share is None else f", {one.quota_share * 100:.2f} % of a day's calls"
    looks = f" and {one.reads} to look before and after" if one.reads else ""
    return f"{one.calls} API calls to write{looks}{share}"


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


def read_plans(path: Path, writebacks: Collection[str] = ()) -> list[Plan]:
    """Plans kept by ``kpisync plan -o``.

    Raises:
        CommandError: when the file is missing or is no plan; a name that is neither file nor
            write-back is told what the configured `writebacks` are.
    """
    if not path.exists():
        known = ", ".join(writebacks) or "none"
        raise CommandError(
            ExitCode.USAGE,
            f'there is neither a write-back nor a plan file "{path}" (configured: {known})',
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        documents = found if isinstance(found, list) else [found]
        return [Plan.from_json(document) for document in documents]
    except UnreadablePlanError as error:
        raise CommandError(ExitCode.FAILED, f"{path}: {error}: kpisync plan -o FILE") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CommandError(
            ExitCode.FAILED,
            f"{path} cannot be read as a plan ({type(error).__name__}); "
            "make one with: kpisync plan -o FILE",
        ) from error


@app.command()
def apply(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(help="A plan file, or a write-back; else all, planned anew.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    revert: Annotated[
        str | None,
        typer.Option("--revert", metavar="RUN", help="Undo a run where its values still stand."),
    ] = None,
    accept_guard: Annotated[
        bool,
        typer.Option(
            "--accept-guard", help="Yes, what the guard finds unusual has been looked at."
        ),
    ] = False,
) -> None:
    """Write what the plan says and what still differs from the CRM's own value."""
    session = session_of(context)
    with session.runtime() as runtime:
        if revert is not None:
            results = [_revert(session, runtime, revert, is_agreed=yes)]
        elif file is not None and file not in runtime.writebacks:
            plans = read_plans(Path(file), runtime.writebacks)
            _agree(session, plans, is_agreed=yes)
            results = [
                pipeline.apply_plan(runtime, one, accepts_guard=accept_guard) for one in plans
            ]
        else:
            names = chosen(runtime, file)
            plans = [pipeline.plan_writeback(runtime, n, with_reasons=not yes) for n in names]
            _agree(session, plans, is_agreed=yes)
            results = [
                pipeline.apply_plan(runtime, one, is_fresh=yes, accepts_guard=accept_guard)
                for one in plans
            ]
    _show_applied(session.printer, results)
    raise typer.Exit(exit_code(results))


def _agree(session: Session, plans: Sequence[Plan], *, is_agreed: bool) -> None:
    if not is_agreed:
        confirm(session, plans)


def _revert(session: Session, runtime: Runtime, run: str, *, is_agreed: bool) -> RunResult:
    try:
        plan = pipeline.plan_revert(runtime, run)
    except pipeline.CannotRevert as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    kept = [change for change in plan.changes if change.kind == KEPT]
    for change in kept[:CHANGES_SHOWN]:
        session.printer.warn(f"{change.record}: {change.field} {change.why}")
    if len(kept) > CHANGES_SHOWN:
        session.printer.warn(f"... and {len(kept) - CHANGES_SHOWN:,} more fields are left alone")
    _agree(session, [plan], is_agreed=is_agreed)
    return pipeline.revert_run(runtime, run, plan)


def _show_applied(printer: Printer, results: Sequence[RunResult]) -> None:
    if not printer.is_json:
        report(printer, results)
        for result in results:
            printer.text(
                f"{result.writeback}: {result.sent:,} written, {result.skipped:,} skipped, "
                f"{result.failed:,} failed, {result.kept:,} kept, {result.calls:,} API calls"
                + (f"; undo with: kpisync apply --revert {result.run}" if result.sent else "")
            )
        return
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
            "warnings": list(result.warnings),
        }
        for result in results
    ]
    printer.document(one_or_all(documents))


def confirm(session: Session, plans: Sequence[Plan]) -> None:
    """Show the plans and ask."""
    changes = sum(len(written(one)) for one in plans)
    if not changes:
        return
    for one in plans:
        show_plan(session.printer, one)
    ask(f"Write {changes:,} values?", "nothing was written")


def ask(question: str, otherwise: str) -> None:
    """Go on only after a yes.

    Raises:
        CommandError: the answer is no, or nobody is there to give one.
    """
    try:
        is_agreed = typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        raise CommandError(
            ExitCode.FAILED, f"nobody answered, {otherwise}; --yes says so beforehand"
        ) from None
    if not is_agreed:
        raise CommandError(ExitCode.FAILED, otherwise)


# ---------------------------------------------------------------- how they stand

writebacks_app = typer.Typer(help="How write-backs stand.", no_args_is_help=True)
app.add_typer(writebacks_app, name="writebacks")


@writebacks_app.command("list")
def list_writebacks(context: typer.Context) -> None:
    """Every write-back: its last run, what holds it up, how many of its fields are frozen."""
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        states = writeback_states(conn, runtime)
    printer = session.printer
    if printer.is_json:
        printer.document([one.to_json() for one in states])
        return
    printer.table(
        ("write-back", "to", "state", "frozen", "last run"),
        (
            (one.writeback, one.to, one.state, len(one.frozen), one.last_run and one.last_run.run)
            for one in states
        ),
        numbers=("frozen",),
    )
    for one in states:
        for sentence in one.sentences():
            printer.warn(sentence)


@writebacks_app.command("compare")
def compare_writebacks(
    context: typer.Context,
    writeback: Annotated[str | None, typer.Argument(help="All if absent.")] = None,
) -> None:
    """Compare the written fields with the CRM now: who has changed what since."""
    session = session_of(context)
    with session.runtime() as runtime:
        results = [pipeline.watch_writeback(runtime, name) for name in chosen(runtime, writeback)]
    report(session.printer, results)
    raise typer.Exit(exit_code(results))


@writebacks_app.command("unfreeze")
def unfreeze(
    context: typer.Context,
    writeback: str,
    record: Annotated[str | None, typer.Option(help="Only this record's id.")] = None,
    field: Annotated[str | None, typer.Option(help="Only this field.")] = None,
) -> None:
    """Write fields again that were left alone because others kept rewriting them."""
    session = session_of(context)
    with session.runtime() as runtime:
        (name,) = chosen(runtime, writeback)
        with operating(runtime.engine) as conn:
            count = rewrites.forget(conn, name, record_id=record, field=field)
    session.printer.say(f"{count:,} fields of {name} are counted anew")
