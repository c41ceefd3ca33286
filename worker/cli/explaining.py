"""explain: one value down to its records, or through its history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from config.errors import did_you_mean
from metrics import catalog as kpi_catalog
from metrics import explain as explaining
from metrics import values as published
from metrics.catalog import Catalog, remedy_of_unkept
from metrics.definition import Kpi
from metrics.dimensions import TOTAL_KEY, TOTAL_NAME
from metrics.explain import Explanation, Listing, Unexplained
from metrics.explain import changes as history
from metrics.explain import reasons as reasoning
from metrics.explain import reasons_document as telling
from metrics.explain.document import (
    CSV_COLUMNS,
    CSV_NUMBERS,
    csv_rows,
    exact,
    how,
    rows_of,
    to_document,
)
from metrics.explain.window import running_period
from metrics.periods import Kind
from metrics.verify.periods import Calendar
from store import checkpoints
from store.checkpoints import Checkpoint
from store.engine import database_now, reading
from store.kpis import Place, plain
from worker import identities
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.kpis import (
    INSTANT_FORMATS,
    display,
    instant_of,
    refuse_unknown,
    refuse_unknown_dimensions,
)
from worker.cli.output import Printer
from worker.exporting import CannotExport, write_table
from worker.identities import Behind

LINES_SHOWN = 20
KEYS_NAMED = 5


@app.command()
def explain(  # noqa: PLR0917 - each is an option of the command line
    context: typer.Context,
    kpi: Annotated[str, typer.Argument(help="The KPI's name.")],
    period: Annotated[
        str | None,
        typer.Option(help="2017-Q1, 2017, all, now ...; a kind (quarter) is the running one."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="DIMENSION=KEY, as kpi values shows them; absent: total.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="All records into this file.")] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="How the value moved over time instead.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            "--from",
            formats=INSTANT_FORMATS,
            help="With --changes: from what was believed then (UTC); absent: from the first value.",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=INSTANT_FORMATS, help="With --changes: up to what was believed then (UTC)."
        ),
    ] = None,
) -> None:
    """One value down to the records it counts, those it leaves out, and the rates it uses."""
    session = session_of(context)
    for option, given in (("--since", since), ("--until", until)):
        if given is not None and not changes:
            raise CommandError(ExitCode.USAGE, f"{option} belongs to --changes")
    known = session.kpis()
    refuse_unknown("KPI", kpi, tuple(known), "kpisync kpi list")
    dimension, key = _group(by, session)
    with session.runtime() as runtime, reading(runtime.engine) as conn:
        catalog = runtime.catalog
        kept = _kept(catalog, kpi)
        label = _period(catalog, kept, period, database_now(conn))
        place = Place(kpi, dimension, identities.entity_key(conn, dimension, key), label)
        if changes:
            told = _Changes(conn, catalog, place, instant_of(since), instant_of(until))
            told.show(session.printer, csv)
            return
        try:
            explanation = explaining.explain(conn, catalog, place)
        except Unexplained as error:
            near = _near(conn, catalog, place)
            raise CommandError(ExitCode.FAILED, f"{error}. {near}") from error
        stands = checkpoints.every(conn)
        behind = identities.behind(conn, catalog.settings.identity, dimension, place.key)
    if csv is not None:
        _write(csv, explanation, session.printer)
    if session.printer.is_json:
        document = to_document(explanation)
        document["checkpoints"] = [_checkpoint(one) for one in stands]
        document["entities"] = [asdict(one) for one in behind]
        session.printer.document(document)
    else:
        _show(session.printer, explanation, stands)
        for one in behind:
            _show_records_behind(session.printer, one)
    if not explanation.is_proven:
        raise CommandError(ExitCode.FAILED, _doubt(explanation))


def _show_records_behind(printer: Printer, behind: Behind) -> None:
    if len(behind.records) < 2:  # noqa: PLR2004 - itself alone
        return
    printer.text(f"\nThe {behind.dimension} {behind.entity} is known as:")
    printer.table(
        ("record", "name", "why"),
        ((one.ref, one.name, "; ".join(one.evidence)) for one in behind.records),
    )


def _group(by: str | None, session: Session) -> tuple[str, str]:
    if by is None:
        return TOTAL_NAME, TOTAL_KEY
    dimension, equals, key = by.partition("=")
    refuse_unknown_dimensions(dimension, session)
    if not equals and dimension != TOTAL_NAME:
        raise CommandError(
            ExitCode.USAGE,
            f"--by takes DIMENSION=KEY, such as {dimension}=KEY "
            f"(kpisync kpi values --by {dimension} shows the keys)",
        )
    return dimension, key or TOTAL_KEY


def _kept(catalog: Catalog, name: str) -> Kpi:
    try:
        return catalog.kpi(name)
    except KeyError:
        remedy = remedy_of_unkept(kpi_catalog.available()[name], catalog.settings)
        raise CommandError(
            ExitCode.USAGE, f'"{name}" is not kept. {remedy} Then run kpisync compute.'
        ) from None


def _period(catalog: Catalog, kpi: Kpi, period: str | None, now: datetime) -> str:
    if period is None:
        kinds = catalog.kinds_of(kpi)
        usual = [kind for kind in (Kind.NOW, Kind.ALL) if kind in kinds]
        period = str(usual[0]) if usual else kinds[-1]
    if period in set(catalog.kinds):
        settings = catalog.settings
        calendar = Calendar(settings.week_starts, settings.fiscal_year_starts)
        return running_period(period, now.astimezone(catalog.company.timezone).date(), calendar)
    return period


def _near(conn: Connection, catalog: Catalog, place: Place) -> str:
    """What could have been meant."""
    rows = published.current(conn, catalog, kpi=place.kpi, dimension=place.dimension)
    if not rows:
        named = f"kpisync kpi values --kpi {place.kpi}"
        return f"It is not published by {place.dimension} ({named} shows what is)."
    keys = sorted({row.key for row in rows})
    if place.key not in keys:
        labelled = [row.key for row in rows if row.label == place.key]
        if labelled:
            return f'Did you mean --by "{place.dimension}={labelled[0]}"?'
        return f"{did_you_mean(place.key, keys)}"
    periods = sorted({row.period for row in rows if row.key == place.key})
    return f"Its periods: {', '.join(periods[-KEYS_NAMED:])}"


# ---------------------------------------------------------------- a value and its records


def _write(path: Path, explanation: Explanation, printer: Printer) -> None:
    _write_rows(path, CSV_COLUMNS, csv_rows(explanation), CSV_NUMBERS, printer)


def _write_rows(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, object]],
    numbers: Collection[str],
    printer: Printer,
) -> None:
    try:
        count = write_table(path, columns, rows, numbers=numbers)
    except CannotExport as error:
        raise CommandError(ExitCode.FAILED, str(error)) from error
    printer.say(f"{count:,} lines in {path}")


def _checkpoint(one: Checkpoint) -> dict[str, object]:
    return {
        "connection": one.connection,
        "stream": one.stream,
        "complete_until": one.complete_until,
        "state": one.state,
    }


def _doubt(explanation: Explanation) -> str:
    if not explanation.agrees:
        result = explanation.listing.result
        return (
            "the records, counted now, do not give the published value: they give "
            f"{result.words or exact(result.value) or 'no value'} with n {result.n}. Run kpisync "
            "compute if records came in since; if that changes nothing, kpisync verify"
        )
    return "the listed records alone do not give the value again: do not rely on this list"


def _show(printer: Printer, explanation: Explanation, stands: Sequence[Checkpoint]) -> None:
    stored, kpi, window = explanation.stored, explanation.kpi, explanation.window
    printer.text(f"{kpi.label}  {stored.period}  {stored.dimension}={stored.label or stored.key}")
    unit = stored.currency or stored.unit
    shown = stored.words or display(stored)
    printer.text(f"  value        {shown} {unit}  ({stored.words or plain(stored.value) or '-'})")
    if stored.denominator is not None:
        printer.text(f"  numerator    {plain(stored.numerator)}")
        printer.text(f"  denominator  {plain(stored.denominator)}")
    left_out = ", ".join(f"{reason} {count}" for reason, count in stored.left_out.items())
    printer.text(f"  n            {stored.n}" + (f", left out: {left_out}" if left_out else ""))
    printer.text(f"  formula      {stored.definition}: {kpi.definition}")
    for caveat in kpi.caveats:
        printer.text(f"  beware       {caveat}")
    if window.first_day is None:
        printer.text(f"  window       no bounds; counts by {kpi.counting_day}")
    else:
        printer.text(
            f"  window       {window.first_day} 00:00 to {window.day_after} 00:00 (excluded) in "
            f"{window.timezone}; counts by {kpi.counting_day}"
        )
        printer.text(f"               {_utc(window.starts_at)} to {_utc(window.ends_at)}")
    printer.text(
        f"  believed     since {_utc(explanation.valid_from)}, published by run "
        f"{explanation.run or '-'}; true of {_utc(explanation.computed_for)}"
    )
    for one in stands:
        printer.text(
            f"  checkpoint   {one.connection}.{one.stream}: complete until "
            f"{_utc(one.complete_until)} ({one.state})"
        )
    _show_listing(printer, explanation, explanation.listing)
    if explanation.is_proven:
        printer.say("the records listed here give the value again, exactly")


def _utc(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _show_listing(printer: Printer, explanation: Explanation, listing: Listing) -> None:
    kpi = explanation.kpi_named(listing.kpi)
    result = listing.result
    value = result.words or exact(result.value) or "no value"
    printer.text(f"\n{listing.kpi} {listing.period.label} = {value} = {how(kpi, listing)}")
    rows = list(rows_of(explanation, listing))
    if rows:
        columns = [
            name
            for name in CSV_COLUMNS[4:]
            if any(row[name] not in (None, "", 0) for row in rows[:LINES_SHOWN])
        ]
        printer.table(
            columns,
            ([row[name] for name in columns] for row in rows[:LINES_SHOWN]),
            numbers=tuple(CSV_NUMBERS),
        )
    if len(rows) > LINES_SHOWN:
        printer.text(f"... {len(rows) - LINES_SHOWN:,} more lines: --csv FILE or --json has all")
    for part in listing.parts:
        _show_listing(printer, explanation, part)


# ---------------------------------------------------------------- its history


class _Changes:
    """How a value moved between two instants, and why."""

    def __init__(
        self,
        conn: Connection,
        catalog: Catalog,
        place: Place,
        since: datetime | None,
        until: datetime | None,
    ) -> None:
        self._place = place
        self._found = history.changes(conn, place, since=since, until=until)
        first, last = self._found.first_version, self._found.last_version
        if last is None:
            # Ended: the last one there was is what can be explained.
            raise CommandError(ExitCode.FAILED, self._nothing(since, until))
        self._since = since
        self._why = reasoning.reasons(conn, catalog, place, first=first, last=last, since=since)

    def _nothing(self, since: datetime | None, until: datetime | None) -> str:
        place = self._place
        named = f"{place.kpi} for {place.period} and {place.dimension}={place.key}"
        if self._found.steps or self._found.first is not None:
            ended = self._found.steps[-1].at if self._found.steps else since
            return f"{named} is not published any more: it ended {_utc(ended)}; see --until"
        return f"no value of {named} was ever published" + (
            "" if until is None else f" until {_utc(until)}"
        )

    def show(self, printer: Printer, csv: Path | None) -> None:
        """As JSON or for people; with a file, all reasons into it."""
        why = self._why
        if csv is not None:
            reasons = telling.rows_of(why, self._place)
            _write_rows(csv, telling.CSV_COLUMNS, reasons, telling.CSV_NUMBERS, printer)
        if printer.is_json:
            printer.document(
                {
                    **self._place._asdict(),
                    **history.to_document(self._found),
                    "why": telling.to_document(why),
                }
            )
            return
        self._show_ends(printer)
        rows = list(telling.rows_of(why, self._place))
        columns = [
            name
            for name in telling.CSV_COLUMNS[4:]
            if any(row[name] not in (None, "", "0", 0) for row in rows)
        ]
        printer.table(
            columns,
            ([row[name] for name in columns] for row in rows[:LINES_SHOWN]),
            numbers=tuple(telling.CSV_NUMBERS),
        )
        if len(rows) > LINES_SHOWN:
            printer.text(f"... {len(rows) - LINES_SHOWN:,} more: --csv FILE or --json has all")
        delta = why.delta
        printer.text(
            f"sum of all: value {plain(delta.value)}, numerator {plain(delta.numerator)}, "
            f"denominator {plain(delta.denominator)}, n {delta.n}"
        )
        if why.idle:
            printer.say(f"other changes of its records that moved nothing: {why.idle:,}")
        if not why.is_complete:
            printer.warn("not all of it can be explained: see the lines `unknown`")

    def _show_ends(self, printer: Printer) -> None:
        first, last = self._why.first, self._why.last
        begins = None if first is None else first.valid_from
        place = self._place
        printer.text(f"{place.kpi}  {place.period}  {place.dimension}={place.key}")
        if first is None:
            printer.text(f"{_utc(self._since)}: nothing was published")
        else:
            printer.text(
                f"published {_utc(begins)} by run {first.run or '-'}: {_worth(first.value)}"
            )
        if last is not None:
            printer.text(
                f"published {_utc(last.valid_from)} by run {last.run or '-'}: {_worth(last.value)}"
            )
        between = len(self._found.steps)
        if between > 1:
            printer.say(f"{between:,} steps lie between them: --json lists them")


def _worth(value: published.KpiValue | None) -> str:
    if value is None:
        return "-"
    return value.words or plain(value.value) or "no value"
