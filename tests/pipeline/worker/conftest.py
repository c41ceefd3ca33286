from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import SEEDED, Site
from worker.observe import configure_logging


@pytest.fixture(autouse=True)
def _quiet() -> None:
    configure_logging(is_quiet=True)


@pytest.fixture
def site(start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str) -> Site:
    """A small seeded company in both CRMs, an empty SQLite store, KPI fields in place."""
    return Site(tmp_path, start_sandbox(*SEEDED), sqlite_database).with_fields()


@pytest.fixture
def empty_site(sandbox: Sandbox, tmp_path: Path, sqlite_database: str) -> Site:
    """Salesforce alone, without records."""
    return Site(tmp_path, sandbox, sqlite_database, crms=("salesforce",)).with_fields()
