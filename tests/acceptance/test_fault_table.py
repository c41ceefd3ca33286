"""Every fault that kpisync survives has its row in docs/faults.md, and every row its tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"

FAULTS = {
    "Worker": (
        "SIGKILL of a child, SIGKILL of the main process, SIGKILL of the group, "
        "SIGKILL at each step, SIGSTOP longer than the lease, SIGTERM"
    ),
    "Redis": "kill, empty restart, FLUSHALL, freeze, black hole, full",
    "PostgreSQL": (
        "immediate stop, backend killed during COMMIT, deadlock, serialization failure, "
        "read-only, out of connections"
    ),
    "CRM": (
        "401 once, 401 for ever, 403 quota, 403 permission, 429 with Retry-After, "
        "429 without Retry-After, 423, 5xx, HTML bodies, connect refused, hang, 1 byte a second, "
        "truncated JSON, invalid JSON, empty body, duplicate pages, looping pages, wrong totals, "
        "late-committed rows, search-index lag, rows edited while paging, "
        "rows deleted while paging, rows merged while paging, thousands of equal timestamps, "
        "field removed, field renamed, field retyped, field hidden between two pages, "
        "partial batch failure, row locks, validation rules, answer lost after the write, "
        "another tool rewriting our field"
    ),
    "Data": (
        "NUL bytes, lone surrogates, 10 MB text, NaN and Infinity, 1e400, 5;000 digits, "
        "depth 20;000, years 1700 and 9999, `:60` seconds, unknown stage, unknown owner, "
        "unknown currency"
    ),
    "Clock, disk, configuration": (
        "clock 1 h ahead, clock 1 h behind, DST forward, DST back, 29 February, missed ticks, "
        "disk full, broken configuration under a running worker"
    ),
}


def rows() -> dict[str, dict[str, list[str]]]:
    """Section -> fault -> tests, as the page has them."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("|") and not line.startswith(("| fault", "|---")):
            fault, _, tests = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(section, {})[fault] = re.findall(r"`(test_\w+)`", tests)
    return found


def test_every_fault_has_its_row() -> None:
    for section, faults in FAULTS.items():
        named = {fault.replace(";", ",") for fault in faults.split(", ")}

        assert named <= rows()[section].keys(), section


def test_every_row_names_tests_that_exist() -> None:
    tests = {
        name
        for folder in ("tests", "connectors/contract")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"^ *def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
    }

    for section, faults in rows().items():
        for fault, named in faults.items():
            assert named, (section, fault)
            assert not set(named) - tests, (section, fault)
