"""What the docs say is what the product does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from tests.fixtures.cli import Cli
from worker.cli.app import load_commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_command_has_a_paragraph() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")

    missing = [command for command in commands() if f"`kpisync {command}" not in text]

    assert missing == []


def test_every_kpi_has_a_paragraph(kpisync: Cli) -> None:
    text = (ROOT / "docs" / "kpis.md").read_text(encoding="utf-8")

    missing = [
        kpi["kpi"] for kpi in kpisync("kpi", "list", "--json").json if f"`{kpi['kpi']}`" not in text
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))

    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert broken == []


def test_the_first_yaml_of_the_readme_is_the_example_that_the_tests_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    example = (ROOT / "config" / "examples" / "quickstart.yaml").read_text(encoding="utf-8")

    assert without_comments(block) == without_comments(example)


def without_comments(text: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*$", "", line).rstrip() for line in text.splitlines())
    return [line for line in lines if line]


def commands() -> list[str]:
    """Every verb, and every verb below a group."""
    root = typer.main.get_command(load_commands())
    assert isinstance(root, TyperGroup)
    found: list[str] = []
    for name, command in root.commands.items():
        below = command.commands if isinstance(command, TyperGroup) else {}
        found += [f"{name} {sub}" for sub in below] or [name]
    return found
