"""identity: which records of several CRMs are one customer, person or deal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from store import decisions
from store import identity as store_identity
from store.engine import reading
from store.identity_rules import MATCHED_STREAMS
from worker import identities
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.identities import Decided, Question, Undecidable

identity_app = typer.Typer(
    help="Which records of several CRMs are one customer, person or deal.", no_args_is_help=True
)
app.add_typer(identity_app, name="identity")

Record = Annotated[str, typer.Argument(help="CONNECTION:native id, as in `dump records`.")]
Stream = Annotated[
    str | None, typer.Option("--stream", help="accounts, contacts or deals, if both know the ids.")
]


@identity_app.command("review")
def review(context: typer.Context, stream: Stream = None) -> None:
    """Doubtful matches that wait for a person, and what people decided so far."""
    _check(stream)
    session = session_of(context)
    with session.runtime() as runtime:
        wanted = MATCHED_STREAMS if stream is None else (stream,)
        asked = identities.questions(runtime, wanted)
        with reading(runtime.engine) as conn:
            said = [one for one in decisions.every(conn) if one.stream in wanted]
    printer = session.printer
    if printer.is_json:
        printer.document(
            {
                "doubtful": [_question(one) for one in asked],
                "decided": [
                    {
                        "stream": one.stream,
                        "one": one.one,
                        "other": one.other,
                        "verdict": "link" if one.is_same else "split",
                        "decided_at": one.decided_at,
                    }
                    for one in said
                ],
            }
        )
        return
    if asked:
        printer.table(
            ("stream", "one", "name", "other", "name", "sure", "evidence", "why it waits"),
            (
                (
                    one.stream,
                    one.one,
                    one.one_name,
                    one.other,
                    one.other_name,
                    f"{one.score / 10:.0f}%",
                    f"{one.rule}: {one.value}",
                    one.why,
                )
                for one in asked
            ),
        )
        printer.text("kpisync identity link ONE OTHER: they are one; split ONE OTHER: they are not")
    else:
        printer.text("no match waits for a person")
    for one in said:
        verdict = "one" if one.is_same else "not one"
        printer.text(f"{one.stream} {one.one} and {one.other} are {verdict}, somebody said")


def _question(one: Question) -> dict[str, object]:
    return {**asdict(one), "score": f"{one.score / 1000:.3f}"}


@identity_app.command("link")
def link(context: typer.Context, one: Record, other: Record, stream: Stream = None) -> None:
    """Say that two records are one; it wins over every rule and lasts."""
    _decide(context, one, other, stream, is_same=True)


@identity_app.command("split")
def split(context: typer.Context, one: Record, other: Record, stream: Stream = None) -> None:
    """Say that two records are not one; it wins over every rule and lasts."""
    _decide(context, one, other, stream, is_same=False)


@identity_app.command("forget")
def forget(context: typer.Context, one: Record, other: Record, stream: Stream = None) -> None:
    """Take back what was said of two records; the rules decide again."""
    _decide(context, one, other, stream, is_same=None)


@identity_app.command("show")
def show(context: typer.Context, record: Record, stream: Stream = None) -> None:
    """Everything that stands behind a record: which records of which CRM, and why."""
    _check(stream)
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        rules = runtime.catalog.settings.identity
        company = runtime.company
        found = [
            (
                name,
                key,
                store_identity.members(conn, name, key, rules),
                identities.taken(conn, company, rules, name, key),
            )
            for name in MATCHED_STREAMS
            if stream in (None, name) and store_identity.is_known(conn, name, record)
            for key in [store_identity.stands_for(conn, name, record) or record]
        ]
    if not found:
        raise CommandError(ExitCode.USAGE, f"there is no record {record} (kpisync dump records)")
    printer = session.printer
    if printer.is_json:
        printer.document(
            [
                {
                    "stream": name,
                    "entity": key,
                    "records": [asdict(one) for one in members],
                    "taken": [asdict(one) for one in taken],
                }
                for name, key, members, taken in found
            ]
        )
        return
    for name, key, members, taken in found:
        printer.text(f"{name} {key}")
        printer.table(
            ("record", "name", "why"),
            ((one.ref, one.name, "; ".join(one.evidence)) for one in members),
        )
        if taken:
            printer.text("these values count, though they are not the record's own:")
            printer.table(
                ("field", "value", "from"), ((one.field, one.value, one.ref) for one in taken)
            )


def _check(stream: str | None) -> None:
    if stream is not None and stream not in MATCHED_STREAMS:
        raise typer.BadParameter(f"--stream is one of {', '.join(MATCHED_STREAMS)}")


def _decide(
    context: typer.Context, one: str, other: str, stream: str | None, *, is_same: bool | None
) -> None:
    _check(stream)
    session = session_of(context)
    with session.runtime() as runtime:
        try:
            decided = identities.decide(runtime, one, other, is_same=is_same, stream=stream)
        except Undecidable as fault:
            raise CommandError(ExitCode.FAILED, str(fault)) from fault
    _tell(session, decided)


def _tell(session: Session, decided: Decided) -> None:
    printer = session.printer
    if printer.is_json:
        printer.document(asdict(decided))
        return
    if not decided.stands_for:
        printer.text("remembered; nothing moves by it now")
    for record, entity in decided.stands_for.items():
        printer.text(
            f"{record} stands for itself" if entity == record else f"{record} counts as {entity}"
        )
    if decided.stands_for:
        printer.text("kpisync compute publishes the KPIs of all of them")
