"""check: the configuration file, and with --online everything behind it."""

from __future__ import annotations

from typing import Annotated

import typer

from connectors.base import Problem
from worker import pipeline
from worker.cli.app import CommandError, app, foreign_owners, session_of
from worker.cli.exits import ExitCode


@app.command()
def check(
    context: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", help="Log in and look at objects, fields and rights too.")
    ] = False,
) -> None:
    """Find every problem before the CRMs or your colleagues do."""
    session = session_of(context)
    printer = session.printer
    if claimed := foreign_owners():
        names = "; ".join(f"{name} by {', '.join(owners)}" for name, owners in claimed.items())
        raise CommandError(
            ExitCode.FAILED,
            f"other installed packages claim names of kpisync: {names}. Install kpisync into an "
            "environment of its own.",
        )
    problems: dict[str, list[Problem]] = {}
    with session.runtime() as runtime:
        if online:
            problems = {
                name: list(pipeline.check_connection(runtime, name))
                for name in runtime.config.connections
            }
    errors = sum(problem.is_error for found in problems.values() for problem in found)
    if printer.is_json:
        printer.document(
            {
                "ok": not errors,
                "problems": [
                    {
                        "connection": name,
                        "place": problem.place,
                        "message": problem.message,
                        "remedy": problem.remedy,
                        "error": problem.is_error,
                    }
                    for name, found in problems.items()
                    for problem in found
                ],
            }
        )
    else:
        for name, found in problems.items():
            for problem in found:
                tell = printer.fail if problem.is_error else printer.warn
                tell(f"{name}: {problem.place}: {problem.message} {problem.remedy}")
        what = "configuration and connections are" if online else "the configuration is"
        if not errors:
            printer.say(f"{what} fine")
    raise typer.Exit(ExitCode.FAILED if errors else ExitCode.FINE)
