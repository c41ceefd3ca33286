"""Storms: random edits, faults and kills, then every promise is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.storm import Storm


@pytest.mark.timeout(300)
def test_a_short_storm_breaks_no_promise(tmp_path: Path) -> None:
    storm = Storm(seed=1, kills=2, folder=tmp_path)

    assert storm.blow() == [], storm.said[-1]
    assert storm.killed == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_long_storm_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    assert Storm(seed=seed, kills=20, folder=tmp_path).blow() == []
