"""The quickstart of the docs, word by word: each shell block as one shell would run it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.cli import clean_environment

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
SECRETS = ("sandbox-secret", "pat-na1-sandbox")
SECONDS = 900
MARK = "@@ended"

WAITING = """
serves() {{ (exec 3<>/dev/tcp/127.0.0.1/$1) 2>/dev/null; }}
for _ in $(seq 600); do serves {0} && serves {1} && break; sleep 0.1; done
"""
"""A person waits until the sandbox has printed its addresses."""


@dataclass(frozen=True)
class Walked:
    """One command of the page, after it was run."""

    command: str
    said: str
    exit_code: int


@pytest.mark.timeout(SECONDS)
def test_the_quickstart_works_word_by_word(tmp_path: Path) -> None:
    ports = free_ports()

    walked = walk(shell_lines(), ports, tmp_path)

    assert [one.command for one in walked if one.exit_code != 0] == []
    said = {one.command.partition(" --")[0]: one.said for one in walked}
    assert "kpisync.yaml is written" in said["kpisync init"]
    assert "configuration and connections are fine" in said["kpisync check"]
    assert "created" in said["kpisync setup"]
    assert "Rep 01" in said["kpisync kpi values"]
    assert "give the value again, exactly" in said["kpisync explain win_rate"]
    assert "0 values change" in said["kpisync plan"]
    assert re.search(r"account_kpis: [1-9]\d* written, 0 skipped, 0 failed", said["kpisync apply"])
    first, second = (one.said for one in walked if one.command == "kpisync run --once")
    assert "apply" in first
    assert re.search(r"push +account_kpis +ok", second)
    everything = "".join(one.said for one in walked if one.command.startswith("kpisync"))
    file = (tmp_path / "kpisync.yaml").read_text(encoding="utf-8")
    assert [secret for secret in SECRETS if secret in everything + file] == []


def shell_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def walk(lines: list[str], ports: tuple[int, int], folder: Path) -> list[Walked]:
    """Run the lines one after the other in one shell, on these ports instead of the page's."""
    script = ""
    for number, line in enumerate(lines):
        here = line.replace("8001", str(ports[0])).replace("8002", str(ports[1]))
        script += f'{here}\necho "{MARK} {number} $?"\n'
        if line.startswith("python -m sandbox"):
            script += WAITING.format(*ports)
    environment = clean_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=SECONDS - 20)
    finally:
        end(shell)
    parts = re.split(rf"{MARK} \d+ (\d+)\n", said)
    found = [
        Walked(line, text, int(code))
        for line, text, code in zip(lines, parts[0::2], parts[1::2], strict=False)
    ]
    assert len(found) == len(lines), said
    return found


def end(shell: subprocess.Popen[str]) -> None:
    """The shell's session: a sandbox that a failed walk has left serving ends with it."""
    try:
        os.killpg(shell.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    shell.wait(20)
