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

from tests.simulation.exploring import Explorer, Tally
from tests.simulation.jobs import Job, move_in, work
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
    broken = 0
    with _folder() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(asked.jobs, move_in, (str(folder),)) as pool:
            for what, jobs in _jobs(folder, asked):
                started = time.monotonic()
                total = Tally()
                for done, tally in enumerate(pool.imap_unordered(work, jobs), start=1):
                    total.add(tally)
                    _say(*tally.found)
                    _progress(what, done, len(jobs), total)
                unclosed = list(total.never_closed())
                _say(*unclosed)
                broken += len(total.found) + len(unclosed)
                _say(_summary(what, total, time.monotonic() - started))
    _say(f"{broken} runs broke a promise; {time.monotonic() - begun:.0f} s in all")
    return 1 if broken else 0


def _jobs(folder: Path, asked: argparse.Namespace) -> Iterator[tuple[str, list[Job]]]:
    home = folder / "first"
    home.mkdir()
    laboratory = Laboratory(home)
    for scenario in scenarios():
        explorer = Explorer(laboratory, scenario)
        kinds = "single crashes" if asked.no_pairs else "single crashes and all pairs"
        jobs = [
            Job(scenario.name, number, not asked.no_pairs) for number in range(len(explorer.firsts))
        ]
        yield f"{scenario.name}, {explorer.calm.played} effects, {kinds}", jobs
    laboratory.disk.close()
    last = asked.first + asked.seeds
    yield (
        f"seeds {asked.first} to {last - 1}",
        [
            Job(seeds=range(start, min(start + _SEEDS_AT_ONCE, last)))
            for start in range(asked.first, last, _SEEDS_AT_ONCE)
        ],
    )


def _progress(what: str, done: int, of: int, total: Tally) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{what}: {done} of {of}, {total.runs:,} runs ")
        sys.stdout.flush()


def _what_it_stands_for(total: Tally) -> str:
    if not total.singles:
        return ""
    return f"{total.singles:,} crashes and {total.pairs:,} pairs of them in "


def _summary(what: str, total: Tally, seconds: float) -> str:
    end = "\r" if sys.stdout.isatty() else ""
    return (
        f"{end}{what}: {_what_it_stands_for(total)}{total.runs:,} runs to the end, "
        f"{total.effects:,} effects, {len(total.found)} broke a promise; {seconds:.0f} s, "
        f"{1000 * total.processor_seconds / max(total.runs, 1):.0f} ms of processor a run"
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
