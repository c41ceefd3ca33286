"""Installing from the lock into an empty environment, as somebody without rights, and using it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.cli import clean_environment
from tests.fixtures.servers import UNPRIVILEGED

ROOT = Path(__file__).parents[2]


def _is_open_to_all(program: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (program, *program.parents))


def _interpreter() -> str:
    """A Python of at least 3.11 that everybody on this machine may run."""
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    found = [base, *(Path(one).resolve() for one in map(shutil.which, ("python3",)) if one)]
    found += [Path("/usr/bin/python3").resolve(), Path("/usr/local/bin/python3").resolve()]
    for one in found:
        if one.exists() and (os.geteuid() != 0 or _is_open_to_all(one)):
            version = subprocess.run(
                [one, "-c", "import sys, ensurepip; print(sys.version_info >= (3, 11))"],
                capture_output=True,
                text=True,
                check=False,
            )
            if version.stdout.strip() == "True":
                return str(one)
    raise AssertionError("no Python that an unprivileged user may run")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_unprivileged_user_installs_from_the_lock_and_runs_the_demo() -> None:
    user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
    # Not below pytest's own folder, which is closed to others.
    home = Path(f"/var/tmp/kpisync-install-{os.getpid()}")  # noqa: S108 - removed below
    home.mkdir(mode=0o755)
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            copy = home / "kpisync" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy)
        if user is not None:
            for path in (home, *home.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)

        def run(*command: str) -> str:
            ended = subprocess.run(
                command,
                cwd=home / "kpisync",
                env=clean_environment() | {"HOME": str(home), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                user=None if user is None else user.pw_name,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )
            assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}"
            return ended.stdout + ended.stderr

        run(_interpreter(), "-m", "venv", str(home / "empty"))
        python = str(home / "empty" / "bin" / "python")
        pip = (python, "-m", "pip", "install", "--quiet", "--no-cache-dir")
        run(*pip, "--require-hashes", "-r", "requirements.lock")
        run(*pip, "--no-deps", "--no-build-isolation", ".")
        kpisync = str(home / "empty" / "bin" / "kpisync")

        assert run(kpisync, "--version").startswith("kpisync ")
        said = run(kpisync, "demo")
    finally:
        shutil.rmtree(home)

    assert "second pass: 0 writes, 0 changed values" in said
