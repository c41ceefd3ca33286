"""A disk that is full: said with the remedy, nothing half done, and on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.chaos.storm import with_fields
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_said_and_waited_for(
    sandbox: Sandbox, small_disk: Path, tmp_path: Path
) -> None:
    with_fields(sandbox)
    whole = [{"Name": f"Account {n:05d}"} for n in range(6_000)]
    sandbox.salesforce.create_many("Account", whole)
    kpisync = Cli(tmp_path)
    kpisync.configure(two_crms(sandbox, database=f"sqlite:///{small_disk}/kpisync.db"))
    kpisync("db", "upgrade")

    full = kpisync("pull", "salesforce", expect_exit=None)
    looked = kpisync("status", expect_exit=None)
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    roomy = kpisync("run", "--once", expect_exit=None)
    again = kpisync("run", "--once", "--json")

    assert full.exit_code == 1
    assert "the disk is full; make room" in full.err
    assert "Traceback" not in full.err + looked.err
    assert roomy.exit_code == 0, roomy.err
    assert len(kpisync("dump", "records", "accounts").lines) >= len(whole)
    assert kpisync("verify", "--json").json["ok"]
    assert again.exit_code == 0
    assert not [one for one in sandbox.salesforce.journal() if one["redundant"]]
