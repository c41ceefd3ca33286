"""A store with its schema, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from store.canonical import Company
from store.engine import open_store
from store.schema import ensure_current


@pytest.fixture
def open_again(database_url: str) -> Iterator[Callable[[], Engine]]:
    """Opens the test's store once more, as another process would."""
    engines: list[Engine] = []

    def opened() -> Engine:
        engines.append(open_store(database_url))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.dispose()


@pytest.fixture
def store(open_again: Callable[[], Engine]) -> Engine:
    """An empty store with the current schema."""
    engine = open_again()
    ensure_current(engine)
    return engine


@pytest.fixture
def company() -> Company:
    return Company(ZoneInfo("Europe/Berlin"), "EUR")
