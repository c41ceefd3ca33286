"""health ROLE: asked every few seconds by whoever watches, so it loads no more than it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.errors import ConfigurationError
from config.loader import load, server_database
from store.engine import open_store
from store.errors import StoreError
from worker.cli.exits import ExitCode
from worker.health import is_healthy

ROLES = ("worker", "beat", "web", "loop")
DEFAULT_CONFIG = Path("kpisync.yaml")


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether a command line is this verb and nothing else, as health checks write it."""
    return len(arguments) == 2 and arguments[0] == "health" and arguments[1] in ROLES  # noqa: PLR2004  # verb and role


def main(role: str) -> int:
    """Answer on stderr; returns the exit code."""
    path = Path(os.environ.get("KPISYNC_CONFIG") or DEFAULT_CONFIG)
    try:
        fault = answer(role, path, os.environ)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return ExitCode.CONFIGURATION_INVALID
    except StoreError as error:
        fault = str(error)
    if fault is not None:
        sys.stderr.write(f"{fault}\n")
        return ExitCode.FAILED
    return ExitCode.FINE


def answer(role: str, path: Path, environment: Mapping[str, str]) -> str | None:
    """What is wrong with a process of this host; None: its heartbeat is fresh.

    Raises:
        ConfigurationError: not even the database can be read from the file.
        StoreError: nobody can tell without the database.
    """
    engine = open_store(_database(path, environment))
    try:
        is_alive = is_healthy(engine, role)
    finally:
        engine.dispose()
    return None if is_alive else f"no fresh heartbeat of a {role} on this host"


def _database(path: Path, environment: Mapping[str, str]) -> str:
    """Also of a file that is faulty: processes go on by the last good one, and are alive."""
    try:
        return load(path, environment).database
    except ConfigurationError:
        url = server_database(path, environment)
        if url is None:
            raise
        return url
