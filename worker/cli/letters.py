"""deadletters: what could not be read or written, tried again or let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from store import deadletters
from store.deadletters import DeadLetter
from store.engine import operating, reading
from store.records import ref_of
from worker import pipeline
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.steps import report
from worker.results import RunResult
from worker.runtime import Runtime

letters_app = typer.Typer(help="Records and writes that were rejected.", no_args_is_help=True)
app.add_typer(letters_app, name="deadletters")

Ids = Annotated[list[int] | None, typer.Argument(help="Numbers from `deadletters list`.")]
Everything = Annotated[bool, typer.Option("--all", help="Every letter there is.")]


@letters_app.command("list")
def list_letters(context: typer.Context) -> None:
    """Every rejected record and write with its reason."""
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        letters = deadletters.every(conn)
    printer = session.printer
    if printer.is_json:
        printer.document([asdict(letter) for letter in letters])
        return
    printer.table(
        ("id", "direction", "record", "field", "reason", "value", "tries"),
        (
            (
                letter.id,
                letter.direction,
                f"{letter.stream} {letter.ref}",
                letter.field,
                letter.reason,
                letter.raw,
                letter.attempts,
            )
            for letter in letters
        ),
    )


@letters_app.command("retry")
def retry_letters(context: typer.Context, ids: Ids = None, everything: Everything = False) -> None:
    """Read rejected records again now; let refused writes be tried by the next write-back."""
    session = session_of(context)
    with session.runtime() as runtime:
        letters = _chosen(runtime, ids, everything=everything)
        results = _read_again(runtime, letters)
        writes = [letter.id for letter in letters if letter.direction == deadletters.PUSH]
        with operating(runtime.engine) as conn:
            deadletters.drop(conn, writes)
            left = len(deadletters.every(conn))
    if results:
        report(session.printer, results)
    if writes:
        session.printer.say(f"{len(writes):,} refused writes are tried by the next `kpisync apply`")
    session.printer.say(f"{left:,} dead letters are left")
    raise typer.Exit(pipeline.exit_code(results))


@letters_app.command("drop")
def drop_letters(context: typer.Context, ids: Ids = None, everything: Everything = False) -> None:
    """Forget letters; a record that still cannot be mapped returns when it is next read."""
    session = session_of(context)
    with session.runtime() as runtime:
        letters = _chosen(runtime, ids, everything=everything)
        with operating(runtime.engine) as conn:
            dropped = deadletters.drop(conn, [letter.id for letter in letters])
    session.printer.say(f"{dropped:,} dead letters forgotten")


def _chosen(
    runtime: Runtime, ids: Sequence[int] | None, *, everything: bool
) -> Sequence[DeadLetter]:
    if bool(ids) == everything:
        raise typer.BadParameter("name letters by their numbers, or say --all")
    with reading(runtime.engine) as conn:
        letters = deadletters.every(conn)
    if everything:
        return letters
    wanted = set(ids or ())
    if unknown := wanted - {letter.id for letter in letters}:
        raise CommandError(
            ExitCode.USAGE,
            f"there is no dead letter {min(unknown)} (kpisync deadletters list shows them)",
        )
    return [letter for letter in letters if letter.id in wanted]


def _read_again(runtime: Runtime, letters: Sequence[DeadLetter]) -> list[RunResult]:
    """By the stream that reads them: what rides along on its pages comes with their owner."""
    places: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        if letter.direction == deadletters.PULL:
            places.setdefault((letter.connection, letter.stream), []).append(letter)
    results: list[RunResult] = []
    for (connection, stream), some in places.items():
        if connection not in runtime.config.connections:
            continue
        if stream in pipeline.stream_names(runtime, connection):
            refs = [ref_of(letter.ref, stream) for letter in some]
            results.append(pipeline.fetch_again(runtime, connection, stream, refs))
        else:
            results += [
                pipeline.pull_stream(runtime, connection, one.name, full=True)
                for one in runtime.connector(connection).streams()
                if stream in one.yields
            ]
    return results
