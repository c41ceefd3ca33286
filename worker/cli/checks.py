"""check: the configuration file, and with --online everything behind it."""

from __future__ import annotations

from typing import Annotated

import typer

from config.errors import ConfigurationError
from config.models import Config
from worker import pipeline
from worker.alerting import channel_problems
from worker.cli.app import CommandError, Session, app, foreign_owners, session_of
from worker.cli.exits import ExitCode
from worker.cli.findings import (
    Format,
    FoundProblem,
    as_document,
    as_sarif,
    of_connection,
    of_file,
)
from worker.cli.output import Printer
from worker.feeds import unfed_problems
from worker.runtime import Runtime


@app.command()
def check(
    context: typer.Context,
    *,
    online: Annotated[
        bool, typer.Option("--online", help="Log in and look at objects, fields and rights too.")
    ] = False,
    output: Annotated[
        Format | None,
        typer.Option("--format", help="text (default), json, or sarif for code scanners."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings about the file are errors.")
    ] = False,
) -> None:
    """Find every problem before the CRMs or your colleagues do."""
    session = session_of(context)
    _refuse_foreign_packages()
    found = _problems_of_file(session, is_strict=strict)
    code = ExitCode.CONFIGURATION_INVALID if _has_errors(found) else ExitCode.FINE
    if online and code is ExitCode.FINE:
        found += _problems_online(session)
        code = ExitCode.FAILED if _has_errors(found) else ExitCode.FINE
    _tell(session.printer, found, output or ("json" if session.is_json else "text"))
    if output in {None, "text"} and code is ExitCode.FINE and not session.is_json:
        what = "configuration and connections are" if online else "the configuration is"
        session.printer.say(f"{what} fine")
    raise typer.Exit(code)


def _refuse_foreign_packages() -> None:
    if claimed := foreign_owners():
        names = "; ".join(f"{name} by {', '.join(owners)}" for name, owners in claimed.items())
        raise CommandError(
            ExitCode.FAILED,
            f"other installed packages claim names of kpisync: {names}. Install kpisync into an "
            "environment of its own.",
        )


def _problems_of_file(session: Session, *, is_strict: bool) -> list[FoundProblem]:
    try:
        config, warnings = session.read()
        found = of_file(warnings, are_errors=is_strict) + of_file(channel_problems(config))
        with session.runtime(config) as runtime:
            return found + _unfed(config, runtime)
    except ConfigurationError as invalid:
        return of_file(invalid.problems)


def _unfed(config: Config, runtime: Runtime) -> list[FoundProblem]:
    objects = {
        name: runtime.connector(name).capabilities.stream_objects for name in config.connections
    }
    # Never an error: a pack is used for what can be had of it.
    return of_file(unfed_problems(config, runtime.catalog, objects), are_errors=False)


def _problems_online(session: Session) -> list[FoundProblem]:
    config: Config = session.read()[0]
    with session.runtime(config) as runtime:
        return [
            one
            for name in config.connections
            for one in of_connection(
                name,
                config.locate(("connections", name)),
                pipeline.check_connection(runtime, name),
            )
        ]


def _has_errors(found: list[FoundProblem]) -> bool:
    return any(one.is_error for one in found)


def _tell(printer: Printer, found: list[FoundProblem], output: Format) -> None:
    if output == "json":
        printer.document(as_document(found))
        return
    if output == "sarif":
        printer.document(as_sarif(found))
        return
    for one in found:
        tell = printer.fail if one.is_error else printer.warn
        if one.rule == "connection":
            tell(f"{one.connection}: {one.place}: {one.message} {one.remedy}")
        else:
            mark = "" if one.is_error else "warning: "
            lines = [f"{mark}{one.at}  {one.place}".rstrip(), f"  {one.message}"]
            tell("\n".join([*lines, *([f"  {one.remedy}"] if one.remedy else [])]))
