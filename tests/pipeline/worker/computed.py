"""A small company that is read and computed once for many tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.sandboxes import launch
from tests.pipeline.worker.site import Site
from tests.pipeline.worker.test_pushing import accounts_with_deals


@contextmanager
def computed_company(folder: Path) -> Iterator[Site]:
    """Six accounts with a deal each, stored and counted in a SQLite file."""
    with launch() as sandbox:
        site = Site(folder, sandbox, f"sqlite:///{folder}/kpisync.db", crms=("salesforce",))
        site = site.with_fields()
        accounts_with_deals(site, 6)
        site.pull_all("salesforce")
        site.compute()
        yield site


def copy_of(site: Site, folder: Path) -> Site:
    """The same company with a store of its own; the CRM is shared."""
    name = site.database.removeprefix("sqlite:///")
    shutil.copy(name, folder / "kpisync.db")
    return site.but(folder=folder, database=f"sqlite:///{folder}/kpisync.db")
