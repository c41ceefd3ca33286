"""Storms: random edits, faults and kills, then every promise is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.fire import Fire
from tests.chaos.storm import Storm
from tests.fixtures.servers import PostgresServer, RedisServer, start_postgres, start_redis


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with start_postgres() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.mark.timeout(300)
def test_a_short_storm_over_server_mode_breaks_no_promise(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    storm = Fire(1, 4, tmp_path, postgres, redis, losses=1)

    assert storm.blow() == []
    assert storm.killed >= 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 205))
def test_a_long_storm_over_server_mode_breaks_no_promise(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer, seed: int
) -> None:
    assert Fire(seed, 20, tmp_path, postgres, redis, workers=2).blow() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_long_storm_over_embedded_mode_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    assert Storm(seed=seed, kills=20, folder=tmp_path).blow() == []
