"""The guide's connector as somebody else would have it: built, installed, configured, tested."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.fixtures.cli import clean_environment

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "connector"
pytestmark = pytest.mark.timeout(400)  # some ten processes, each quick on an idle machine
GUIDE = ROOT / "docs" / "writing-a-connector.md"


@dataclass(frozen=True)
class Elsewhere:
    """An environment with the two wheels, and a folder with nothing of the checkout."""

    python: Path
    folder: Path

    def run(self, *command: str, expect_exit: int = 0, **variables: str) -> str:
        ended = subprocess.run(
            [str(self.python.with_name(command[0])), *command[1:]],
            cwd=self.folder,
            env=clean_environment() | {"PYTHONSAFEPATH": "1"} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        said = f"{ended.stdout}{ended.stderr}"
        assert ended.returncode == expect_exit, f"{command}\n{said[-6000:]}"
        return said if expect_exit else ended.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    wheels = folder / "wheels"
    for source in (ROOT, EXAMPLE):
        call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels, cwd=source)
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    built = sorted(wheels.glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in built] == ["kpisync", "kpisync_example"]
    quiet = ("--quiet", "--offline", "--no-cache", "--no-deps", "--no-index", "--python", python)
    call(uv, "pip", "install", *quiet, *built, cwd=folder)
    # The dependencies come from the environment of the tests, so that nothing is downloaded; a
    # path is added without the .pth files in it: the checkout itself is not on it.
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copytree(EXAMPLE / "tests", folder / "tests")
    shutil.copyfile(EXAMPLE / "kpisync.yaml", folder / "kpisync.yaml")
    return Elsewhere(python, folder)


def call(*command: str | Path, cwd: Path) -> None:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"


@pytest.fixture
def tiny_crm(elsewhere: Elsewhere) -> Iterator[str]:
    """The address of a running tiny CRM with ten accounts."""
    process = subprocess.Popen(
        [elsewhere.python, "-m", "kpisync_example.crm"],
        cwd=elsewhere.folder,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        process.kill()


def test_the_wheels_alone_are_used(elsewhere: Elsewhere) -> None:
    script = (
        "import sys, connectors.registry as product, kpisync_example.connector as example;"
        "print(product.__file__, example.__file__, 'pytest' in sys.modules)"
    )

    said = elsewhere.run("python", "-c", script)

    assert str(ROOT) not in said.replace(str(elsewhere.folder), "")
    assert said.count("site-packages") == 2
    assert said.split()[-1] == "False"


def test_the_contract_suite_passes_against_the_installed_connector(elsewhere: Elsewhere) -> None:
    said = elsewhere.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")

    passed = re.search(r"(\d+) passed, 10 skipped in", said)
    assert passed, said
    assert int(passed[1]) >= 50
    assert "TestExample  1 for lack of stage_history: the tiny CRM does not remember" in said


def test_a_configuration_pulls_computes_and_writes_through_it(
    elsewhere: Elsewhere, tiny_crm: str
) -> None:
    secrets = {"TINY_CRM_URL": tiny_crm, "TINY_CRM_TOKEN": "tiny-token"}

    elsewhere.run("kpisync", "check", "--online", **secrets)
    elsewhere.run("kpisync", "setup", "--yes", **secrets)
    elsewhere.run("kpisync", "run", "--once", **secrets)
    elsewhere.run("kpisync", "apply", "--yes", **secrets)

    values = json.loads(elsewhere.run("kpisync", "kpi", "values", "--json", **secrets))
    assert {
        Decimal(one["value"])
        for one in values
        if (one["kpi"], one["dimension"]) == ("revenue", "all")
    } == {Decimal(5505)}
    asked = Request(  # noqa: S310 - on loopback
        f"{tiny_crm}/accounts?limit=100", headers={"Authorization": "Bearer tiny-token"}
    )
    with urlopen(asked) as answer:  # noqa: S310 - on loopback
        held = [one["kpi_revenue"] for one in json.load(answer)["records"]]
    assert sorted(map(Decimal, held)) == [Decimal(f"{n}00.50") for n in range(1, 11)]


def test_a_wrong_key_and_a_wrong_token_are_named_where_they_stand(
    elsewhere: Elsewhere, tiny_crm: str
) -> None:
    text = (EXAMPLE / "kpisync.yaml").read_text(encoding="utf-8")
    wrong = elsewhere.folder / "wrong.yaml"
    secrets = {"TINY_CRM_URL": tiny_crm, "TINY_CRM_TOKEN": "hunter2hunter2"}

    wrong.write_text(text.replace("    streams:", "    option: {a: b}\n    streams:"))
    misspelt = elsewhere.run("kpisync", "--config", "wrong.yaml", "check", expect_exit=3, **secrets)
    wrong.write_text(text.replace("    streams:", "    options: {speed: high}\n    streams:"))
    useless = elsewhere.run(
        *("kpisync", "--config", "wrong.yaml", "check", "--online"), expect_exit=3, **secrets
    )
    refused = elsewhere.run("kpisync", "check", "--online", expect_exit=1, **secrets)

    assert "wrong.yaml:8:5  connections.tiny.option" in misspelt
    assert 'Did you mean "options"?' in misspelt
    assert "wrong.yaml:5:5  connections.tiny\n  options.speed: the tiny CRM has no" in useless
    assert "connections.tiny.auth" in refused
    assert "hunter2" not in refused


def test_the_code_of_the_guide_is_that_of_the_example() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    quoted = re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)```\n", text, flags=re.DOTALL)

    differing = [path for path, code in quoted if code not in (ROOT / "docs" / path).read_text()]

    assert differing == []
    assert len(quoted) == len(re.findall(r"^```(?:python|toml|yaml)$", text, flags=re.MULTILINE))
    assert {path.rpartition("/")[2] for path, _ in quoted} >= {
        *("pyproject.toml", "kpisync.yaml", "connector.py", "client.py", "test_contract.py")
    }
