"""The root command: global options, one place where errors become words and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from config.errors import ConfigurationError, Problem
from config.loader import load_with_warnings
from config.models import Config
from connectors.errors import ConnectorError
from metrics.catalog import available
from metrics.definition import Kpi
from store.errors import StoreError
from worker.cli.exits import ExitCode
from worker.cli.output import Printer
from worker.cli.progress import progress_for
from worker.custom_kpis import grouping_fields, known_kpis
from worker.observe import configure_logging
from worker.runtime import Runtime, open_runtime

OUR_PACKAGES = ("config", "connectors", "metrics", "sandbox", "store", "worker")
DEFAULT_CONFIG = Path("kpisync.yaml")

app = typer.Typer(
    name="kpisync",
    help="Pulls CRM records, keeps exact KPIs, and writes them back onto the records people use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class CommandError(Exception):
    """A command ends with this exit code after this sentence."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence


@dataclass(slots=True)
class Session:
    """The global options of one invocation."""

    config_path: Path = DEFAULT_CONFIG
    is_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    color: bool = True
    log_format: str = "text"
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def printer(self) -> Printer:
        """Where results and words go."""
        return Printer(is_json=self.is_json, is_quiet=self.is_quiet, color=self.color)

    def load(self) -> Config:
        """The configuration, warnings told.

        Raises:
            ConfigurationError: with every problem at once.
        """
        config, warnings = self.read()
        for problem in warnings:
            self.printer.warn(f"warning: {problem}")
        return config

    def read(self) -> tuple[Config, tuple[Problem, ...]]:
        """The configuration, and what works but deserves a second look.

        Raises:
            ConfigurationError: with every problem at once.
        """
        if not self.config_path.exists():
            raise CommandError(
                ExitCode.CONFIGURATION_INVALID,
                f"{self.config_path} does not exist. Name a file with --config PATH or "
                "KPISYNC_CONFIG, or see docs/quickstart.md for a first one.",
            )
        return load_with_warnings(self.config_path, self.environment)

    def kpis(self) -> Mapping[str, Kpi]:
        """Every KPI there is: the built-in ones and, where a configuration has any, its own."""
        if not self.config_path.exists():
            return available()
        try:
            config, _ = self.read()
        except ConfigurationError:
            self.printer.warn(
                f"{self.config_path} is not valid (kpisync check); its own KPIs are not shown"
            )
            return available()
        return known_kpis(config)

    def grouping_fields(self) -> Mapping[str, tuple[str, ...]]:
        """Stream -> its mapped fields by which built-in KPIs can be grouped, too."""
        if not self.config_path.exists():
            return {}
        try:
            config, _ = self.read()
        except ConfigurationError:
            return {}
        return grouping_fields(config)

    @contextmanager
    def runtime(
        self, config: Config | None = None, *, is_service: bool = False
    ) -> Iterator[Runtime]:
        """Everything a command works with, and progress on stderr.

        Args:
            config: The configuration where it has been read before.
            is_service: A process that is watched through its log; other commands say what
                happened in their own words.
        """
        config = config or self.load()
        configure_logging(
            log_format=self.log_format,
            is_verbose=self.is_verbose,
            is_quiet=self.is_quiet or not is_service,
        )
        with (
            progress_for(self.printer) as progress,
            open_runtime(config, progress=progress) as runtime,
        ):
            yield runtime


def session_of(context: typer.Context) -> Session:
    """The session that the root command made."""
    session = context.obj
    if not isinstance(session, Session):
        raise TypeError("commands run below the root command")
    return session


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        sys.stdout.write(f"kpisync {version('kpisync')}\n")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="The YAML file or folder [KPISYNC_CONFIG, else kpisync.yaml]."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Results as JSON; works before and after the verb.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log every step.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only results, warnings, errors.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain output.")] = False,
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Global options come before or after the verb."""
    if log_format not in {"text", "json"}:
        raise typer.BadParameter("--log-format is text or json")
    context.obj = Session(
        config_path=config or Path(os.environ.get("KPISYNC_CONFIG") or DEFAULT_CONFIG),
        is_json=as_json,
        is_quiet=quiet,
        is_verbose=verbose,
        color=not no_color and "NO_COLOR" not in os.environ,
        log_format=log_format,
    )


GLOBAL_FLAGS = {"--json", "-v", "--verbose", "--quiet", "--no-color"}
GLOBAL_OPTIONS = {"--config", "--log-format"}


def hoist_global_options(arguments: Sequence[str]) -> list[str]:
    """Move global options before the verb, so that they may stand anywhere."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest.extend([word, *words])
        elif word in GLOBAL_FLAGS or ("=" in word and word.split("=")[0] in GLOBAL_OPTIONS):
            front.append(word)
        elif word in GLOBAL_OPTIONS:
            front.extend([word, *([following] if (following := next(words, None)) else [])])
        else:
            rest.append(word)
    return front + rest


def foreign_owners() -> dict[str, list[str]]:
    """Our package names that another distribution claims too: name -> distributions."""
    owners = packages_distributions()
    return {
        name: sorted({owner for owner in owners.get(name, []) if owner != "kpisync"})
        for name in OUR_PACKAGES
        if any(owner != "kpisync" for owner in owners.get(name, []))
    }


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    printer = Printer(is_json=False, is_quiet=False, color="NO_COLOR" not in os.environ)
    try:
        result = app(hoist_global_options(arguments), prog_name="kpisync", standalone_mode=False)
    except TyperException as error:
        printer.fail(f"{error.format_message()}  (kpisync --help lists the commands)")
        return int(ExitCode.USAGE)
    except ConfigurationError as error:
        printer.fail(str(error))
        return int(ExitCode.CONFIGURATION_INVALID)
    except CommandError as refused:
        printer.fail(refused.sentence)
        return int(refused.code)
    except (ConnectorError, StoreError) as error:
        printer.fail(str(error))
        return int(ExitCode.FAILED)
    except (KeyboardInterrupt, typer.Abort):
        printer.fail("interrupted; what was committed stays, the next run goes on from there")
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FINE)
    return result if isinstance(result, int) else int(ExitCode.FINE)


def load_commands() -> typer.Typer:
    """The root command with every verb.

    Commands register themselves; importing them here keeps this module free of cycles.
    """
    from worker.cli import (  # noqa: F401, PLC0415
        checks,
        demo,
        discovery,
        explaining,
        identity,
        init,
        inspection,
        kpis,
        letters,
        reporting,
        services,
        sinks,
        steps,
        writebacks,
    )

    return app


def main() -> None:
    """Entry point of the ``kpisync`` command."""
    load_commands()
    sys.exit(run_command(sys.argv[1:]))
