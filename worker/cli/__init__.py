"""The command line: one module per group of verbs, nothing but calls and words."""

from worker.cli.app import main

__all__ = ["main"]
