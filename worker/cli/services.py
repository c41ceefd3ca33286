"""worker, beat, health, db, schema, debug: processes and their surroundings."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from config.schema import json_schema
from store import schema as store_schema
from store.engine import open_store
from worker.cli import health as heartbeat
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode

LOOPBACK = "127.0.0.1"
WEB_PORT = 8080

db_app = typer.Typer(help="The database schema.", no_args_is_help=True)
debug_app = typer.Typer(help="For tests and rehearsal.", no_args_is_help=True)
app.add_typer(db_app, name="db")
app.add_typer(debug_app, name="debug")


@db_app.command("upgrade")
def upgrade(context: typer.Context) -> None:
    """Bring the database to the newest schema; safe to repeat."""
    session = session_of(context)
    engine = open_store(session.load().database)
    before = store_schema.current_revision(engine)
    store_schema.upgrade(engine)
    after = store_schema.current_revision(engine)
    engine.dispose()
    session.printer.say(
        f"the database is at revision {after}"
        + ("" if before == after else f" (was {before or 'empty'})")
    )


@db_app.command("current")
def current(context: typer.Context) -> None:
    """Show the schema's revision and the newest one."""
    session = session_of(context)
    engine = open_store(session.load().database)
    revision = store_schema.current_revision(engine)
    engine.dispose()
    head = store_schema.head_revision()
    if session.is_json:
        session.printer.document({"current": revision, "head": head})
    else:
        session.printer.text(f"{revision or 'empty'} (newest: {head})")
    raise typer.Exit(ExitCode.FINE if revision == head else ExitCode.FAILED)


@app.command("schema")
def show_schema(context: typer.Context) -> None:
    """The configuration's JSON Schema, for editors."""
    session_of(context).printer.document(json_schema())


@app.command()
def worker(
    context: typer.Context,
    concurrency: Annotated[int, typer.Option(help="Processes that work side by side.")] = 2,
    queues: Annotated[
        str | None, typer.Option("-Q", "--queues", help="Only these (comma between); else all.")
    ] = None,
) -> None:
    """Server mode: take work from the broker until SIGTERM."""
    _become_celery(context, "worker", concurrency=concurrency, queues=queues)


@app.command()
def beat(context: typer.Context) -> None:
    """Server mode: ring for what is due until SIGTERM."""
    _become_celery(context, "beat")


def _become_celery(
    context: typer.Context,
    role: str,
    *,
    concurrency: int | None = None,
    queues: str | None = None,
) -> None:
    session = session_of(context)
    config = session.load()
    if not config.broker:
        raise CommandError(
            ExitCode.CONFIGURATION_INVALID,
            f"`broker` is empty, so there is nothing for a {role} to listen to. Set it to a Redis "
            "URL (KPISYNC_BROKER_URL), or use embedded mode: kpisync run",
        )
    # Celery's children must find the same file, wherever they start.
    os.environ["KPISYNC_CONFIG"] = str(session.config_path.absolute())
    os.environ["KPISYNC_LOG_FORMAT"] = session.log_format
    from worker.app import run_beat, run_worker  # noqa: PLC0415 - Celery is slow to import

    sys.exit(run_beat() if role == "beat" else run_worker(concurrency=concurrency, queues=queues))


@app.command()
def web(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Loopback unless KPISYNC_WEB_TOKEN is set.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535)] = WEB_PORT,
) -> None:
    """Health, metrics and webhooks over HTTP, until SIGTERM."""
    from worker.reloading import LiveRuntime  # noqa: PLC0415
    from worker.runtime import open_runtime  # noqa: PLC0415
    from worker.web import NotProtectedError, serve  # noqa: PLC0415 - the web stack is slow to import

    session = session_of(context)
    with session.runtime(is_service=True) as runtime:
        live = LiveRuntime(session.config_path, open_runtime(runtime.config))
        try:
            serve(runtime, host, port, lambda: live.current)
        except NotProtectedError as error:
            raise CommandError(ExitCode.USAGE, str(error)) from None


@app.command()
def doctor(context: typer.Context) -> None:
    """This machine: database, schema, clock, disk, Redis and its policies, heartbeats."""
    from worker.doctor import examine  # noqa: PLC0415

    session = session_of(context)
    findings = list(examine(session.load()))
    printer = session.printer
    if printer.is_json:
        printer.document([asdict(finding) for finding in findings])
    else:
        printer.table(
            ("", "what", "seen"),
            (("ok" if one.is_fine else "!!", one.what, one.words) for one in findings),
        )
    is_fine = all(finding.is_fine for finding in findings)
    raise typer.Exit(ExitCode.FINE if is_fine else ExitCode.FAILED)


@app.command()
def health(context: typer.Context, role: str) -> None:
    """Whether a worker, beat, web or loop of this host is alive: exit 0 or 1, by its heartbeat."""
    session = session_of(context)
    if role not in heartbeat.ROLES:
        raise typer.BadParameter(f"{role} is none of {', '.join(heartbeat.ROLES)}")
    fault = heartbeat.answer(role, session.config_path, session.environment)
    if fault is not None:
        raise CommandError(ExitCode.FAILED, fault)


@debug_app.command("crash-points")
def crash_points(context: typer.Context) -> None:
    """The names KPISYNC_CRASH_AT knows, one per line."""
    from worker.crashpoints import POINTS  # noqa: PLC0415

    for point in POINTS:
        session_of(context).printer.text(point)
