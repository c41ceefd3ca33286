"""The whole simulation: ``python -m tests.simulation --seeds 2000 --jobs 2``.

All single crashes and all pairs of the scenarios, then random seeds. ``--seed 17`` plays that one
again and prints each of its effects, ``--scenario writing --crash 40 --crash 90`` those crashes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.simulation.enumerating import crash_points
from tests.simulation.jobs import Job, Tally, added, move_in, work
from tests.simulation.runs import Laboratory
from tests.simulation.scenarios import scenarios
from tests.simulation.world import Crashes
from worker.observe import configure_logging

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of ours is made in it
_SEEDS_AT_ONCE: Final = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 when a promise was broken."""
    asked = _asked(arguments)
    configure_logging(is_quiet=True)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of texts have the same order in every process only then.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606
    if asked.seed is not None or asked.crash:
        return _replay(asked)
    return _everything(asked)


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many random runs")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--no-pairs", action="store_true", help="single crashes and seeds alone")
    parser.add_argument("--seed", type=int, help="play one seed again and print its effects")
    parser.add_argument("--scenario", default="paging", help="the one of --crash")
    parser.add_argument("--crash", type=int, action="append", help="crash at this effect")
    return parser.parse_args(arguments)


# ---------------------------------------------------------------- one run again


def _replay(asked: argparse.Namespace) -> int:
    with _folder() as folder:
        laboratory = Laboratory(folder)
        if asked.seed is not None:
            run = laboratory.run_seed(asked.seed, is_traced=True)
        else:
            scenario = next(one for one in scenarios() if one.name == asked.scenario)
            calm = laboratory.run(scenario)
            plan = Crashes(*asked.crash)
            run = laboratory.run(scenario, plan, expected=calm.state, is_traced=True)
    _say(*run.trace)
    _say(f"{len(run.effects)} effects, {run.crashes} crashes")
    _say(*(run.found or ["all promises kept"]))
    return 1 if run.found else 0


# ---------------------------------------------------------------- all of them


def _everything(asked: argparse.Namespace) -> int:
    begun = time.monotonic()
    with _folder() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(asked.jobs, move_in, (str(folder),)) as pool:
            broken = 0
            for what, jobs in _jobs(folder, asked):
                started = time.monotonic()
                total = Tally()
                for tally in pool.imap_unordered(work, jobs):
                    _say(*tally.found)
                    total = added(total, tally)
                broken += len(total.found)
                _say(
                    f"{what}: {total.runs:,} runs, {total.crashes:,} crashes, "
                    f"{total.effects:,} effects, {len(total.found)} broke a promise, "
                    f"{time.monotonic() - started:.0f} s"
                )
    _say(f"{broken} runs broke a promise; {time.monotonic() - begun:.0f} s in all")
    return 1 if broken else 0


def _jobs(folder: Path, asked: argparse.Namespace) -> Iterator[tuple[str, list[Job]]]:
    home = folder / "first"
    home.mkdir()
    laboratory = Laboratory(home)
    for number, scenario in enumerate(scenarios()):
        calm = laboratory.run(scenario)
        points = crash_points(calm)
        has_pairs = not asked.no_pairs
        kinds = "single crashes and pairs" if has_pairs else "single crashes"
        yield (
            f"{scenario.name}, {calm.played} effects, {kinds} at {len(points)}",
            [Job(number, first, has_pairs) for first in points],
        )
    laboratory.disk.close()
    last = asked.first + asked.seeds
    yield (
        f"seeds {asked.first} to {last - 1}",
        [
            Job(seeds=range(start, min(start + _SEEDS_AT_ONCE, last)))
            for start in range(asked.first, last, _SEEDS_AT_ONCE)
        ],
    )


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


@contextmanager
def _folder() -> Iterator[Path]:
    """In memory where there is such a place: the disk is not what is looked at."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
