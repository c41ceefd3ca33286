from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checker import Look
from tests.chaos.inside import Inside
from tests.chaos.storm import SECRETS, WRITTEN, prepared
from tests.fixtures.sandboxes import Sandbox, launch


@pytest.fixture(scope="module")
def calm_sandbox() -> Iterator[Sandbox]:
    sandbox = launch("--seed", "5", "--size", "24", "--today", "2026-06-30", "--split", "both")
    yield sandbox
    sandbox.end()


@pytest.fixture(scope="module")
def calm(calm_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Look:
    """An installation at rest."""
    folder: Path = tmp_path_factory.mktemp("calm")
    prepared(folder, calm_sandbox)
    cli = Inside(folder, {"SF_SECRET": SECRETS[0], "HS_TOKEN": SECRETS[1]})
    cli("drain", "--timeout", "120")
    return Look(cli, calm_sandbox, WRITTEN, secrets=SECRETS)
