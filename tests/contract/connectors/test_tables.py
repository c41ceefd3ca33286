"""Files and queries keep what every connector promises, as far as tables can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from connectors.contract.org import Org
from connectors.contract.suite import ConnectorContract
from tests.contract.connectors.database_org import DatabaseOrg
from tests.contract.connectors.folder_org import FolderOrg


class TestFiles(ConnectorContract):
    """The suite, over a folder."""

    @pytest.fixture
    def org(self, tmp_path: Path) -> Org:
        return FolderOrg(tmp_path)


class TestSql(ConnectorContract):
    """The suite, over SQLite."""

    @pytest.fixture
    def org(self, tmp_path: Path) -> Iterator[Org]:
        engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
        yield DatabaseOrg(engine)
        engine.dispose()
