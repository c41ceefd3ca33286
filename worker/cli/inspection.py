"""status, runs, state, schedule, dump: what happened and what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Annotated

import typer
from sqlalchemy import Connection

from config.scalars import read_duration
from metrics import values as published
from store import checkpoints, deadletters, identity, outbox, records, runs
from store.canonical import RECORD_TYPES, CanonicalRecord, Company, Scalar
from store.engine import database_now, operating, reading, writing
from store.identity_evidence import is_matched
from worker import leftovers
from worker import status as operations
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.kpis import with_honesty
from worker.cli.output import Printer
from worker.firings import next_of_each, upcoming
from worker.holding import Busy
from worker.runtime import Runtime
from worker.targets import STATES, Standing, share, shown

runs_app = typer.Typer(help="The history of what ran.", no_args_is_help=True)
state_app = typer.Typer(help="Where each stream stands.", no_args_is_help=True)
dump_app = typer.Typer(help="Everything out, sorted, for programs.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(dump_app, name="dump")
app.add_typer(state_app, name="state")

FAIL_ON = {"stale", "failed", "target"}


@app.command()
def status(
    context: typer.Context,
    fail_on: Annotated[str, typer.Option(help="stale, failed, target (comma between).")] = "",
) -> None:
    """Freshness, lag and everything that failed, in plain words."""
    wanted = {word.strip() for word in fail_on.split(",") if word.strip()}
    if unknown := wanted - FAIL_ON:
        raise typer.BadParameter(
            f"--fail-on knows {', '.join(sorted(FAIL_ON))}, not {unknown.pop()}"
        )
    session = session_of(context)
    with session.runtime() as runtime:
        found = operations.gather(runtime)
        coming = next_of_each(runtime.config, datetime.now(UTC))
    printer = session.printer
    if printer.is_json:
        printer.document(
            found.to_json() | {"next": [{"what": one.what, "by": one.at} for one in coming]}
        )
    else:
        printer.table(
            ("stream", "state", "complete until", "last success", "lag s", "rejects"),
            (
                (
                    f"{stream.connection}.{stream.stream}",
                    stream.state,
                    stream.checkpoint,
                    stream.last_success,
                    stream.lag_seconds,
                    stream.rejects,
                )
                for stream in found.streams
            ),
            numbers=("lag s", "rejects"),
        )
        waiting = ", ".join(f"{count} {state}" for state, count in found.outbox.items())
        printer.text(f"dirty keys: {found.dirty_keys}; outbox: {waiting}")
        verified = found.verified
        if verified.at is not None:
            printer.text(
                f"verified: {verified.values:,} values at {verified.at:%Y-%m-%d %H:%M} UTC "
                f"({verified.state})"
            )
        for quota in found.quota:
            printer.text(_quota_line(quota))
        _show_targets(printer, found.targets)
        zone = runtime.company.timezone
        days = (f"{one.what} by {one.at.astimezone(zone):%a %H:%M}" for one in coming)
        printer.text(f"next: {'; '.join(days)}")
        for sentence in found.sentences:
            printer.warn(sentence)
    is_hit = {
        "failed": found.has_failed,
        "stale": found.is_stale,
        "target": found.has_missed_target,
    }
    if any(is_hit[word] for word in wanted):
        raise typer.Exit(ExitCode.FAIL_ON_HIT)


def _show_targets(printer: Printer, targets: Sequence[Standing]) -> None:
    if not targets:
        return
    printer.table(
        ("target", "of", "period", "value", "wanted", "attained", "pace", "state", "owner"),
        (
            (
                one.target.kpi,
                one.label or one.key,
                one.period,
                shown(one.number),
                f"{'>=' if one.target.is_at_least else '<='} {shown(one.target.value)}",
                share(one.judged.attainment),
                shown(one.judged.pace),
                STATES[one.judged.state],
                one.target.owner or "",
            )
            for one in targets
        ),
        numbers=("value", "attained", "pace"),
    )


def _quota_line(quota: operations.Quota) -> str:
    usage = quota.usage
    line = f"{usage.connection}: {usage.total:,} API calls in the last 24 hours"
    if quota.allowed is not None:
        line += f" of {quota.allowed:,} allowed"
    if usage.org_limit is not None:
        line += f"; the whole org {usage.org_calls:,} of {usage.org_limit:,}"
    return line


@runs_app.command("list")
def list_runs(
    context: typer.Context, limit: Annotated[int, typer.Option(help="Newest first.")] = 50
) -> None:
    """The newest runs with their counts."""
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        found = runs.every(conn, limit=limit)
    printer = session.printer
    if printer.is_json:
        printer.document([run_row(run) | {"seconds": _seconds(run)} for run in found])
        return
    numbers = ("pulled", "stored", "dead", "sent", "failed", "calls")
    printer.table(
        ("run", "kind", "of", "state", "started", "seconds", *numbers),
        (
            (
                run.run,
                run.kind,
                run.writeback or ".".join(filter(None, (run.connection, run.stream))),
                run.state,
                run.started.isoformat(timespec="seconds"),
                _seconds(run),
                *(getattr(run, name) for name in numbers),
            )
            for run in found
        ),
        numbers=("seconds", *numbers),
    )


def _seconds(run: runs.Run) -> float | None:
    """How long it took; None: it is under way, or its process died."""
    return round((run.ended - run.started).total_seconds(), 1) if run.ended else None


def run_row(run: runs.Run) -> dict[str, object]:
    """A run with the columns of interfaces other programs read."""
    return asdict(run)


@runs_app.command("show")
def show_run(context: typer.Context, run: str) -> None:
    """One run, whole."""
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        found = runs.get(conn, run)
    if found is None:
        raise CommandError(ExitCode.USAGE, f'there is no run "{run}" (kpisync runs list)')
    printer = session.printer
    if printer.is_json:
        printer.document(run_row(found) | {"seconds": _seconds(found)})
        return
    for name, value in (run_row(found) | {"seconds": _seconds(found)}).items():
        printer.text(f"{name:>14}  {value if value is not None else '-'}")


Ndjson = Annotated[bool, typer.Option("--ndjson", help="One JSON object a line (the default).")]


@dump_app.command("records")
def dump_records(context: typer.Context, stream: str, ndjson: Ndjson = True) -> None:
    """Canonical records of a stream, deleted and merged ones with their marks."""
    if stream not in RECORD_TYPES:
        known = ", ".join(RECORD_TYPES)
        raise CommandError(ExitCode.USAGE, f'there is no stream "{stream}" (there are: {known})')
    _dump(context, lambda runtime, conn: _record_rows(conn, stream, runtime.company), ndjson=ndjson)


def _record_rows(conn: Connection, stream: str, company: Company) -> Iterator[dict[str, object]]:
    winners = records.last_winners(conn, stream)
    entities = identity.all_standing_for(conn, stream)
    for record in records.iterate(conn, stream, company, include_deleted=True):
        key = record.ref.key
        row = {**record_row(record), "merged_into": winners.get(key)}
        # The record that counts in its place: itself, most often; nobody behind a deleted one.
        yield {**row, "entity": entities.get(key, key)} if is_matched(stream) else row


def _kpi_rows(runtime: Runtime, conn: Connection) -> Iterator[dict[str, object]]:
    kpis = {kpi.name: kpi for kpi in runtime.catalog.kpis}
    for row in published.current(conn, runtime.catalog):
        yield with_honesty(row, kpis.get(row.kpi), {})


@dump_app.command("kpis")
def dump_kpis(context: typer.Context, ndjson: Ndjson = True) -> None:
    """Every current KPI value."""
    _dump(
        context,
        _kpi_rows,
        ndjson=ndjson,
    )


@dump_app.command("outbox")
def dump_outbox(context: typer.Context, ndjson: Ndjson = True) -> None:
    """Field updates: waiting, under way, settled."""
    _dump(context, lambda _, conn: map(outbox_row, outbox.every(conn)), ndjson=ndjson)


@dump_app.command("deadletters")
def dump_deadletters(context: typer.Context, ndjson: Ndjson = True) -> None:
    """Rejected records and writes."""
    _dump(context, lambda _, conn: map(asdict, deadletters.every(conn)), ndjson=ndjson)


@dump_app.command("runs")
def dump_runs(context: typer.Context, ndjson: Ndjson = True) -> None:
    """Every run with its counts."""
    _dump(context, lambda _, conn: map(run_row, runs.every(conn)), ndjson=ndjson)


def _dump(
    context: typer.Context,
    rows: Callable[[Runtime, Connection], Iterator[dict[str, object]]],
    *,
    ndjson: bool,
) -> None:
    session = session_of(context)
    is_document = session.is_json and not ndjson
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        if is_document:
            session.printer.document(list(rows(runtime, conn)))
        else:
            session.printer.lines(rows(runtime, conn))


def record_row(record: CanonicalRecord) -> dict[str, object]:
    """A record with its canonical field names, own fields beside them."""
    row: dict[str, Scalar | object] = {
        column.name: getattr(record, column.name)
        for column in fields(record)
        if column.name not in {"ref", "extra"}
    }
    return {"ref": record.ref.key, **row, **record.extra}


def outbox_row(row: outbox.OutboxRow) -> dict[str, object]:
    """An outbox row as other programs read it."""
    return {
        "ref": f"{row.connection}:{row.record_id}",
        "object": row.object,
        "field": row.field,
        "value": _decimal_text(outbox.decode(row.value)),
        "old": _decimal_text(outbox.decode(row.old)),
        "as_of": row.as_of,
        "state": row.state,
        "run": row.run,
        "attempts": row.attempts,
        "sent_at": row.sent_at,
    }


def _decimal_text(value: Scalar) -> Scalar:
    """A number as decimal text, whole or not: readers need one shape."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    return format(Decimal(value), "f")


@state_app.command("show")
def show_state(context: typer.Context) -> None:
    """Checkpoints of every stream, and the org each connection is pinned to."""
    session = session_of(context)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        found = checkpoints.every(conn)
        orgs = {name: checkpoints.pinned_org(conn, name) for name in runtime.config.connections}
    printer = session.printer
    if printer.is_json:
        printer.document({"orgs": orgs, "checkpoints": [asdict(one) for one in found]})
        return
    printer.table(
        ("stream", "state", "complete until", "last full", "org"),
        (
            (
                f"{one.connection}.{one.stream}",
                one.state,
                one.complete_until,
                one.last_full,
                orgs.get(one.connection),
            )
            for one in found
        ),
    )


@state_app.command("set")
def set_state(
    context: typer.Context,
    connection: str,
    rest: Annotated[
        str | None, typer.Option(help="Leave the connection alone for so long: 2h, 1d.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="End a pause now.")] = False,
) -> None:
    """Let a connection rest, or end its pause."""
    session = session_of(context)
    if (rest is None) == (not resume):
        raise typer.BadParameter("say --rest DURATION or --resume")
    span = None if rest is None else _span(rest)
    with session.runtime() as runtime:
        _refuse_unknown(runtime, connection)
        with operating(runtime.engine) as conn:
            if span is None:
                checkpoints.resume(conn, connection)
            else:
                until = database_now(conn) + span
                checkpoints.pause(conn, connection, until, "a person asked for it")
    session.printer.say(f"{connection}: " + ("resumed" if span is None else f"rests for {rest}"))


@state_app.command("forget")
def forget_state(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="CONN or CONN.STREAM, out of the configuration.")],
) -> None:
    """Remove the records of a connection or stream that is not configured any more."""
    session = session_of(context)
    connection, _, stream = target.partition(".")
    with session.runtime() as runtime:
        with reading(runtime.engine) as conn:
            found = leftovers.leftovers(runtime, conn)
        known = (
            {one.connection for one in found},
            {f"{one.connection}.{one.stream}" for one in found},
        )
        if target not in known[bool(stream)]:
            raise CommandError(
                ExitCode.USAGE,
                f"{target} is configured, or nothing of it is stored. What can be forgotten: "
                f"{', '.join(sorted(known[1])) or 'nothing'}",
            )
        try:
            gone = leftovers.forget(runtime, connection, stream or None)
        except Busy as busy:
            raise CommandError(
                ExitCode.FAILED, f"{busy}; it may have the old configuration: try again"
            ) from None
    session.printer.say(
        f"{target}: {gone:,} record(s) removed; the KPIs follow at the next computation"
    )


def _span(text: str) -> timedelta:
    try:
        return read_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no duration such as 30m, 2h, 1d") from error


def _refuse_unknown(runtime: Runtime, connection: str) -> None:
    if connection not in runtime.config.connections:
        known = ", ".join(runtime.config.connections)
        raise CommandError(
            ExitCode.USAGE, f'there is no connection "{connection}" (configured: {known})'
        )


@app.command()
def schedule(
    context: typer.Context,
    following: Annotated[int, typer.Option("--next", min=1, max=1000, help="How many.")] = 10,
) -> None:
    """When the configured schedules fire next, in the company's zone and in UTC."""
    session = session_of(context)
    config = session.load()
    firings = list(islice(upcoming(config, datetime.now(UTC)), following))
    printer = session.printer
    if printer.is_json:
        printer.document([{"at": one.at, "what": one.what} for one in firings])
        return
    zone = config.company.timezone
    printer.table(
        (str(zone), "UTC", "what"),
        (
            (
                one.at.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S"),
                one.at,
                one.what,
            )
            for one in firings
        ),
    )


@state_app.command("reset")
def reset_state(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="CONN or CONN.STREAM.")],
    org: Annotated[
        bool, typer.Option("--org", help="Also forget the org: the next one seen is pinned.")
    ] = False,
) -> None:
    """Forget checkpoints: the next pull reads everything again. Records and KPIs stay."""
    session = session_of(context)
    connection, _, stream = target.partition(".")
    if org and stream:
        raise typer.BadParameter("--org concerns a whole connection: name it without a stream")
    with session.runtime() as runtime:
        _refuse_unknown(runtime, connection)
        with writing(runtime.engine) as conn:
            reset = [
                one.stream
                for one in checkpoints.every(conn)
                if one.connection == connection and stream in {"", one.stream}
            ]
            for name in reset:
                checkpoints.reset(conn, connection, name)
            if org:
                checkpoints.unpin_org(conn, connection)
    session.printer.say(f"{connection}: reset {', '.join(reset) or 'nothing'}")
