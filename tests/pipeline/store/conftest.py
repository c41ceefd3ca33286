"""A store with its schema, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from store.canonical import Company
from store.engine import open_store


@pytest.fixture
def open_again(store_url: str) -> Iterator[Callable[[], Engine]]:
    """Opens the test's store once more, as another process would."""
    engines: list[Engine] = []

    def opened() -> Engine:
        engines.append(open_store(store_url))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.dispose()


@pytest.fixture
def store(open_again: Callable[[], Engine]) -> Engine:
    """A store with the current schema and no rows."""
    return open_again()


@pytest.fixture
def company() -> Company:
    return Company(ZoneInfo("Europe/Berlin"), "EUR")
