"""demo: a simulated company, from two CRMs to KPIs inside them, and nothing left to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, Annotated

import typer

from metrics import values as published
from metrics.values import KpiValue
from metrics.verify import verify as verify_store
from store.engine import database_now, reading
from worker import pipeline
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.kpis import display, print_values
from worker.cli.output import Printer
from worker.cli.steps import report
from worker.cli.writebacks import show_plan, show_setup
from worker.results import PassResult, exit_code
from worker.runtime import Runtime

CRMS = ("salesforce", "hubspot", "both")
SECONDS_TO_END = 10
HEADLINES = (
    "won_count",
    "lost_count",
    "win_rate",
    "win_rate_value",
    "won_value",
    "avg_deal_value",
    "close_rate",
    "sales_cycle_days",
    "buyers",
    "new_customers",
    "open_count",
    "open_value",
    "weighted_pipeline",
)


@app.command()
def demo(
    context: typer.Context,
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of CSV files of a real company, instead of the simulated one."),
    ] = None,
    crm: Annotated[str, typer.Option(help="salesforce, hubspot or both (half and half).")] = "both",
    seed: Annotated[int, typer.Option(help="Of the simulated company.")] = 7,
    size: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Deals of the simulated company.")
    ] = 600,
    folder: Annotated[
        Path | None, typer.Option(help="Where configuration and database go; else a new folder.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the CRMs serving until Ctrl-C, to look around.")
    ] = False,
) -> None:
    """A simulated company: pull, compute, plan, push, and a second pass that changes nothing."""
    session = session_of(context)
    if crm not in CRMS:
        raise typer.BadParameter(f"--crm is one of {', '.join(CRMS)}")
    if data is not None and not data.is_dir():
        raise CommandError(ExitCode.USAGE, f"{data} is not a folder")
    with ExitStack() as stack:
        if folder is None:
            # Kept after the end: the closing words point to it.
            folder = Path(tempfile.mkdtemp(prefix="kpisync-demo-"))
        try:
            folder = folder.resolve()
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(
                ExitCode.FAILED, f"the folder {folder} cannot be made: {error.strerror}"
            ) from error
        source = ("--data", str(data)) if data else ("--seed", str(seed), "--size", str(size))
        urls = stack.enter_context(serving_sandbox(session.printer, folder, source, crm))
        session.config_path = write_configuration(folder, crm, urls)
        with session.runtime() as runtime:
            is_fine = walk_through(session, runtime)
        closing_words(session.printer, session.config_path, urls if keep else {})
        if keep:
            wait_for_interrupt()
    raise typer.Exit(ExitCode.FINE if is_fine else ExitCode.FAILED)


@contextmanager
def serving_sandbox(
    printer: Printer, folder: Path, source: Sequence[str], crm: str
) -> Iterator[Mapping[str, str]]:
    """The fake CRMs as a process of their own, ended at the end.

    Yields:
        CRM name -> its address on loopback.
    """
    command = [sys.executable, "-m", "sandbox", "--salesforce-port", "0", "--hubspot-port", "0"]
    with (folder / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--split", crm, *source], stdout=subprocess.PIPE, stderr=log
        )
        try:
            yield ready_line(process, folder / "sandbox.log")
        finally:
            process.terminate()
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                printer.warn("the sandbox did not end when asked and was killed")


def ready_line(process: subprocess.Popen[bytes], log: Path) -> Mapping[str, str]:
    """The addresses the sandbox prints when it is ready."""
    stdout: IO[bytes] | None = process.stdout
    line = stdout.readline() if stdout else b""
    if not line:
        words = log.read_text(encoding="utf-8", errors="replace").strip()
        raise CommandError(ExitCode.FAILED, f"the sandbox did not start:\n{words[-2000:]}")
    urls = json.loads(line)
    return {name: str(urls[name]) for name in ("salesforce", "hubspot")}


def write_configuration(folder: Path, crm: str, urls: Mapping[str, str]) -> Path:
    """The demo's YAML, to read and to go on with: an example with this run's places filled in."""
    text = (files("config") / "examples" / f"demo-{crm}.yaml").read_text(encoding="utf-8")
    database = f"sqlite:///{(folder / 'kpisync.db').as_posix()}"
    places = {"KPISYNC_DATABASE_URL": database} | {
        f"{name.upper()}_URL": url for name, url in urls.items()
    }
    for variable, value in places.items():
        text = re.sub(rf"\$\{{{variable}:-[^}}]*\}}", value, text)
    path = folder / "kpisync.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def walk_through(session: Session, runtime: Runtime) -> bool:
    """The whole way once and once more; true when the second time found nothing to do."""
    printer = session.printer
    headline(printer, "1. Create the KPI fields in the CRMs")
    show_setup(
        printer,
        {
            name: pipeline.setup_writeback(runtime, name, dry_run=False)
            for name in runtime.writebacks
        },
    )
    headline(printer, "2. Pull, map, compute")
    first = pipeline.full_pass(runtime)
    report(printer, first.results)
    headline(printer, "3. Plan the write-back")
    plans = [pipeline.plan_writeback(runtime, name) for name in runtime.writebacks]
    for plan in plans:
        show_plan(printer, plan)
    headline(printer, "4. Push it")
    pushes = [pipeline.apply_plan(runtime, plan) for plan in plans]
    report(printer, pushes)
    headline(
        printer, "5. Everything again: nothing changed in the CRMs, so nothing may change here"
    )
    second = pipeline.full_pass(runtime)
    report(printer, second.results)
    headline(printer, "6. The KPIs")
    with reading(runtime.engine) as conn:
        rows = published.current(conn, runtime.catalog)
        verification = verify_store(conn, runtime.catalog, as_of=database_now(conn))
    show_kpis(printer, rows)
    writes, changes = left_to_do(second)
    printer.text(
        f"second pass: {writes} writes, {changes} changed values; "
        f"verify: {verification.checked:,} values recomputed, "
        f"{len(verification.differences)} differ"
    )
    runs = [*first.results, *pushes, *second.results]
    return writes == 0 and changes == 0 and verification.ok and exit_code(runs) == 0


def left_to_do(second: PassResult) -> tuple[int, int]:
    """Writes and changed KPI values of a pass."""
    return second.total("sent"), second.total("changed_values")


def headline(printer: Printer, text: str) -> None:
    """A step's title."""
    printer.text(f"\n{text}")


def show_kpis(printer: Printer, rows: Sequence[KpiValue]) -> None:
    """The totals as a matrix of KPI and period, and win rates by seller."""
    totals = {(row.kpi, row.period): row for row in rows if row.dimension == "all"}
    years = sorted({period for _, period in totals if period.isdigit()})[-2:]
    quarters = sorted({period for _, period in totals if "-Q" in period})[-4:]
    periods = [*quarters, *years, "all", "now"]
    printer.table(
        ("kpi", *periods),
        (
            (kpi, *(display(totals[kpi, p]) if (kpi, p) in totals else "" for p in periods))
            for kpi in HEADLINES
        ),
        numbers=periods,
    )
    best = sorted(
        (
            row
            for row in rows
            if (row.kpi, row.period, row.dimension) == ("won_value", "all", "owner")
        ),
        key=lambda row: row.value or 0,
        reverse=True,
    )[:5]
    printer.text("")
    print_values(printer, best)


def closing_words(printer: Printer, path: Path, urls: Mapping[str, str]) -> None:
    """Where to look and how to go on."""
    command = "kpisync" if shutil.which("kpisync") else sys.argv[0]
    printer.text(f"\nThe configuration and the database are in {path.parent}:")
    printer.text(f"  {command} --config {path} kpi values --by product --period all")
    printer.text(f"  {command} --config {path} status")
    for name, url in urls.items():
        printer.text(f"The {name} sandbox serves at {url} (see docs/sandbox.md); Ctrl-C ends it")


def wait_for_interrupt() -> None:
    """Serve until the person at the terminal has seen enough."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
