"""The pytest plugin ``kpisync``: tells the values of failed promises, and lists those not shown.

pytest loads it wherever kpisync is installed; it imports nothing of the product, and the suite
itself only when a test module asks for it.
"""

from __future__ import annotations

from collections import Counter

import pytest

pytest.register_assert_rewrite("connectors.contract")

_NOT_SHOWN = "Skipped: not shown, for lack of "  # as in connectors.contract.part


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what a connector's CRM lacks, and how many promises were not shown for it."""
    found: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if reason.startswith(_NOT_SHOWN):
            class_name = report.nodeid.partition("::")[2].partition("::")[0]
            found[class_name, reason.removeprefix(_NOT_SHOWN)] += 1
    if not found:
        return
    terminalreporter.section("promises of connectors that were not shown")
    for (class_name, lack), tests in sorted(found.items()):
        terminalreporter.line(f"{class_name}  {tests} for lack of {lack}")
