"""The targets of the engine beside what was measured, as Markdown.

    python -m bench.engine_table results.jsonl

Each line of the file is one figure of a run of `bench.engine`. Where a run has times of the
processor, ratios are made of these: they do not depend on who else uses the machine.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

Run: TypeAlias = Mapping[str, float | str]
Row: TypeAlias = tuple[str, str, float | None, float | None, str]
"""Target, where, measured, bound, "at least" or "at most"."""

AT_LEAST: Final = "at least"
AT_MOST: Final = "at most"


def _figure(run: Run, name: str) -> float | None:
    for wanted in (f"{name}, cpu", name):
        if wanted in run:
            return float(run[wanted])
    return None


def _ratio(run: Run, above: str, below: str) -> float | None:
    one, other = _figure(run, above), _figure(run, below)
    return None if one is None or not other else one / other


def _place(run: Run) -> str:
    return f"{float(run['deals']):,.0f} deals, {run['store']}"


def rows_of(runs: Sequence[Run]) -> Iterator[Row]:
    """Every target that the runs say something of."""
    for run in runs:
        where, deals = _place(run), float(run["deals"])
        if run["breadth"] != "design":
            continue
        for size in (100, 1_000, 10_000):
            batch = f"{size} rows: "
            faster = _ratio(run, f"{batch}DuckDB upsert + full", f"{batch}commit")
            bound = {(1_000_000, 100): 100.0, (1_000_000, 1_000): 20.0, (4_000_000, 1_000): 50.0}
            yield (
                f"DuckDB upsert + full / commit, {size:,} rows",
                where,
                faster,
                bound.get((int(deals), size)),
                AT_LEAST,
            )
            upkeep = _ratio(run, f"{batch}commit", f"{batch}bare upsert")
            yield f"commit / bare upsert, {size:,} rows", where, upkeep, 3.0, AT_MOST
        refreshed = _ratio(run, "1000 rows: REFRESH", "1000 rows: commit")
        yield "REFRESH MATERIALIZED VIEW / commit, 1,000 rows", where, refreshed, 300.0, AT_LEAST
        rebuilt = _ratio(run, "own rebuild of all cells", "1000 rows: commit")
        yield "own rebuild / commit, 1,000 rows", where, rebuilt, None, AT_LEAST
        tail = [float(figure) for name, figure in run.items() if name.endswith("p99/median")]
        yield "p99 / median of commits", where, tail[0] if tail else None, 2.0, AT_MOST
        series = _figure(run, "monthly series of one owner")
        yield (
            "36 months of one owner, ms",
            where,
            None if series is None else 1_000 * series,
            1.0,
            AT_MOST,
        )
    yield from _growth(runs)


def _growth(runs: Sequence[Run]) -> Iterator[Row]:
    for store, bound in (("sqlite", 0.10), ("postgresql", 0.20)):
        of_store = sorted(
            (run for run in runs if run["store"] == store and run["breadth"] == "design"),
            key=lambda run: float(run["deals"]),
        )
        if len(of_store) < 2:
            continue
        first, last = of_store[0], of_store[-1]
        where = f"{_place(first)} to {float(last['deals']):,.0f}"
        for size in (100, 1_000, 10_000):
            exponent = _exponent(first, last, f"{size} rows: commit")
            yield f"growth exponent, {size:,} rows", where, exponent, bound, AT_MOST
            # What grows without any KPI, by the same code: no target.
            bare = _exponent(first, last, f"{size} rows: bare upsert")
            yield f"growth exponent of the bare upsert, {size:,} rows", where, bare, None, AT_MOST


def _exponent(first: Run, last: Run, name: str) -> float | None:
    """By which power of the number of deals a time grows."""
    before, after = _figure(first, name), _figure(last, name)
    times = math.log(float(last["deals"]) / float(first["deals"]))
    return math.log(after / before) / times if before and after and times else None


def markdown(runs: Sequence[Run]) -> str:
    """The table, and the figures it is made of."""
    lines = ["| what | where | measured | target | met |", "|---|---|---|---|---|"]
    for what, where, measured, bound, how in rows_of(runs):
        if measured is None:
            continue
        is_met = bound is None or (measured >= bound if how == AT_LEAST else measured <= bound)
        target = "" if bound is None else f"{how} {bound:g}"
        verdict = "" if bound is None else ("yes" if is_met else "no")
        lines.append(f"| {what} | {where} | {measured:,.2f} | {target} | {verdict} |")
    for run in runs:
        lines += ["", f"{_place(run)}, {run['breadth']}; load of the machine {run['load']}:", ""]
        lines += ["| figure | |", "|---|---|"]
        lines += [
            f"| {name} | {float(figure):,.4f} |"
            for name, figure in run.items()
            if name not in _ABOUT
        ]
    return "\n".join(lines)


_ABOUT: Final = frozenset({"deals", "store", "breadth", "rounds", "load", "python", "run"})


def runs_of(lines: Iterable[str]) -> list[Run]:
    """The runs of a file: of each its figures, and the highest load that it met."""
    runs: dict[tuple[object, ...], dict[str, float | str]] = {}
    for line in lines:
        figure = json.loads(line)
        run = runs.setdefault(
            tuple(figure[name] for name in ("run", "deals", "store", "breadth")), {"load": 0.0}
        )
        run |= {**figure, "load": max(run["load"], figure["load"])}
    return list(runs.values())


def main() -> None:
    """Print the table of a file."""
    print(markdown(runs_of(Path(sys.argv[1]).read_text().splitlines())))


if __name__ == "__main__":
    main()
