"""The command line: one module per group of verbs, nothing but calls and words."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``kpisync`` command."""
    from worker.cli import health  # noqa: PLC0415 - nothing but what the verb needs is loaded

    if health.is_asked(sys.argv[1:]):
        sys.exit(health.main(sys.argv[2]))
    from worker.cli.app import main as whole  # noqa: PLC0415

    whole()
