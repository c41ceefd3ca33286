"""The runbook's commands exist, take what they are given, and do what is said of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click import Command
from typer.core import TyperGroup

from tests.acceptance.yaml_texts import two_crms
from tests.chaos.inside import Inside
from tests.chaos.storm import with_fields
from tests.fixtures.sandboxes import Sandbox
from worker.cli.app import load_commands

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RUNBOOK = ROOT / "docs" / "operations.md"


def written(page: Path) -> Iterator[str]:
    """Every command line of kpisync that a page shows, in text or in a block."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", text, flags=re.DOTALL)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in "\n".join(blocks).splitlines():
        for part in re.split(r"&&|\||;", re.sub(r"\s+#.*", "", line)):
            found = re.search(r"(?:^|\s)kpisync\s+(\S.*)", part.strip().removeprefix("$ "))
            if found and "exec" not in part:
                yield found[1].strip()
    yield from re.findall(r"`kpisync ([^`]+)`", prose)


def said_wrong(line: str) -> str | None:
    """What is wrong with a command line: a verb or an option that there is not."""
    command: Command = typer.main.get_command(load_commands())
    everywhere = options_of(command)
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", line.replace("|", " ")))
    while isinstance(command, TyperGroup):
        verb = next((word for word in words if not word.startswith("-")), None)
        if verb is None:
            return None
        if verb not in command.commands:
            # A placeholder such as VERB, or a sentence that begins with the name.
            return None if verb.isupper() else f"there is no command {verb}"
        words = words[words.index(verb) + 1 :]
        command = command.commands[verb]
    known = everywhere | options_of(command)
    wrong = [word for word in words if word.startswith("-") and word.split("=")[0] not in known]
    return f"{command.name} has no {wrong}" if wrong else None


def options_of(command: Command) -> set[str]:
    named = {"--help"}
    for one in command.params:
        if one.param_type_name == "option":
            named |= {*one.opts, *one.secondary_opts}
    return named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_documentation_exists_with_its_options(page: Path) -> None:
    wrong = {line: said_wrong(line) for line in written(page)}

    assert {line: why for line, why in wrong.items() if why} == {}


def test_the_commands_are_found_and_faults_in_them_seen() -> None:
    lines = [line for page in PAGES for line in written(page)]

    assert len(lines) > 150
    assert "status" in lines
    assert said_wrong("statsu") == "there is no command statsu"
    assert said_wrong("status --fail-upon stale") == "status has no ['--fail-upon']"
    assert said_wrong("runs show RUN --json") is None


REAL = {
    "CONN.STREAM": "hubspot.deals",
    "CONN": "hubspot",
    "WRITEBACK": "company_kpis",
}


@pytest.mark.slow
def test_every_command_of_the_runbook_can_be_given_as_it_stands(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with_fields(sandbox)
    kpisync = Inside(tmp_path)
    kpisync.configure(two_crms(sandbox))
    kpisync("run", "--once")
    given: set[str] = set()

    for line in written(RUNBOOK):
        words = line
        for placeholder, real in REAL.items():
            words = re.sub(rf"\b{re.escape(placeholder)}\b", real, words)
        if words.split()[0] == "web":
            # It serves until it is ended: test_web.py.
            continue
        ended = kpisync(*shlex.split(words), expect_exit=None)
        given.add(words)
        # A doctor may find something on a machine that is no server.
        assert ended.exit_code == 0 or words == "doctor", f"{words}\n{ended.out}\n{ended.err}"
        assert ended.out or ended.err, words

    assert len(given) >= 12
    assert kpisync("status", "--json").json["streams"]
