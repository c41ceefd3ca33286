"""A worker that pulls and pushes for minutes stays small, and does not grow."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from statistics import mean

import psutil
import pytest

from tests.acceptance.under_fire import Site, at_work
from tests.chaos.samples import MOST_FILES, MOST_MEMORY_MB

MINUTES = float(os.environ.get("KPISYNC_MEMORY_MINUTES") or 5)
MOST_GROWTH_MB = 25.0
"""Between the second and the last quarter of the time: caches are full by then."""


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_worker_at_work_stays_within_512_mb_and_flat(tmp_path: Path) -> None:
    sizes: list[float] = []
    files: list[int] = []
    with at_work(tmp_path, size=400) as site:
        end = time.monotonic() + MINUTES * 60
        sold = 0
        while time.monotonic() < end:
            site.sell()
            sold += 1
            time.sleep(2.0)
            size, most_files = _of_the_worker(site)
            sizes.append(size)
            files.append(most_files)
        assert site.worker.starts == 1

    quarter = len(sizes) // 4
    early, late = mean(sizes[quarter : 2 * quarter]), mean(sizes[-quarter:])
    print(  # noqa: T201 - figures for a person
        f"{MINUTES:g} min, {sold} deals sold: {early:.0f} MB early, {late:.0f} MB late, "
        f"at most {max(sizes):.0f} MB in three processes; at most {max(files)} files in one"
    )
    assert max(sizes) <= MOST_MEMORY_MB
    assert late - early <= MOST_GROWTH_MB
    assert max(files) <= MOST_FILES


def _of_the_worker(site: Site) -> tuple[float, int]:
    """MB of a worker and its children, what they share counted once, and the most open files."""
    size, files = 0.0, 0
    for process in [psutil.Process(site.worker.pid), *site.worker.children()]:
        with contextlib.suppress(psutil.Error):
            size += process.memory_full_info().pss / 2**20
            files = max(files, process.num_fds())
    return size, files
