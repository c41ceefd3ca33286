"""The compose file, the image's ingredients and the installed distribution."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path

import psycopg
import pytest
from ruamel.yaml import YAML

from store.engine import open_store
from store.schema import ensure_current
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import SEEDED, Site

ROOT = Path(__file__).parents[2]
OURS = ("config", "connectors", "metrics", "sandbox", "store", "worker")


def test_the_compose_file_is_valid_by_the_compose_schema() -> None:
    command = Path(sys.executable).with_name("check-jsonschema")

    checked = subprocess.run(
        [command, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "command",
    [
        "compose-lint check --quiet --strict-config --fail-on low docker-compose.yml",
        "yamllint --strict docker-compose.yml deploy config/examples .compose-lint.yml .yamllint",
        "hadolint --failure-threshold style Dockerfile",
    ],
    ids=lambda command: command.split()[0],
)
def test_linters_find_nothing(command: str) -> None:
    program, *arguments = command.split()

    checked = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_image_is_named_after_the_version_that_it_holds() -> None:
    services = compose()["services"]

    for name in ("migrate", "worker", "beat", "web"):
        assert services[name]["image"] == f"kpisync:{version('kpisync')}"


def test_every_service_has_a_health_check_or_ends_by_itself() -> None:
    services = compose()["services"]

    without = {name for name, service in services.items() if "healthcheck" not in service}

    assert set(services) == {
        *("db", "redis", "migrate", "worker", "beat", "web"),
        *("flower", "grafana"),
    }
    assert without == {"migrate"}


def test_our_containers_run_unprivileged_with_secrets_as_files() -> None:
    services = compose()["services"]

    for name in ("migrate", "worker", "beat", "web"):
        service = services[name]
        assert service["user"] == "10001"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        secret = {key for key in service["environment"] if "SECRET" in key or "TOKEN" in key}
        assert all(key.endswith("_FILE") for key in secret)
    assert all("file" in secret for secret in compose()["secrets"].values())


def test_every_container_is_confined_and_bounded() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name


def test_whoever_reads_a_secret_may() -> None:
    """The files belong to one user; who else needs them starts as root, or is that user."""
    for name, service in compose()["services"].items():
        if service.get("secrets"):
            user = str(service.get("user", "root")).partition(":")[0]
            assert user in {"10001", "root"}, name
            assert user != "root" or "DAC_OVERRIDE" in service["cap_add"], name


def test_the_broker_never_evicts_and_survives_a_restart() -> None:
    command = compose()["services"]["redis"]["command"]

    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_ports_are_open_on_the_host_alone() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_panel_of_the_dashboard_shows_something(
    postgres_database: str, start_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    sandbox = start_sandbox(*SEEDED)
    site = Site(tmp_path, sandbox, postgres_database, periods="[month]")
    site.with_fields().full_pass()
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/kpis.json").read_text())
    questions = {panel["title"]: panel["targets"][0]["rawSql"] for panel in dashboard["panels"]}

    with psycopg.connect(postgres_database) as conn:
        shown = {
            title: conn.execute(as_grafana_asks(question)).fetchall()
            for title, question in questions.items()
        }

    assert len(shown) >= 5
    assert not {title for title, rows in shown.items() if not rows}
    assert all(row[1] is not None for row in shown["Revenue a month"])


def as_grafana_asks(question: str) -> str:
    """With its macros replaced.

    https://grafana.com/docs/grafana/latest/datasources/postgres/query-editor/#macros
    """
    span = r"\1 BETWEEN '2020-01-01T00:00:00Z' AND '2030-01-01T00:00:00Z'"
    written = re.sub(r"\$__timeFilter\((.*)\)$", span, question, flags=re.MULTILINE)
    assert "$" not in re.sub(r"'[^']*'", "", written)
    return written


@pytest.mark.parametrize("role", ["worker", "beat", "web"])
def test_a_systemd_unit_starts_each_process_confined(role: str) -> None:
    unit = (ROOT / f"deploy/systemd/kpisync-{role}.service").read_text(encoding="utf-8")

    assert re.search(rf"^ExecStart=\S+/kpisync --log-format json {role}\b", unit, re.MULTILINE)
    for setting in ("NoNewPrivileges=yes", "ProtectSystem=strict", "User=kpisync"):
        assert setting in unit
    # SIGTERM is given the 30 seconds that a step under way may need.
    assert "TimeoutStopSec=35" in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    for unit in (ROOT / "deploy/systemd").glob("*.service"):
        # It asks for programs and users that exist here.
        text = unit.read_text(encoding="utf-8").replace("User=kpisync", "User=root")
        program = Path(sys.executable).with_name("kpisync")
        (tmp_path / unit.name).write_text(re.sub(r"(?<=ExecStart=)\S+", str(program), text))

    checked = subprocess.run(
        ["systemd-analyze", "verify", *tmp_path.glob("*.service")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_no_other_distribution_owns_one_of_our_package_names() -> None:
    owners = packages_distributions()

    claimed = {name: set(owners.get(name, [])) - {"kpisync"} for name in OURS}

    assert not any(claimed.values()), claimed


def test_the_distribution_offers_its_command_and_its_connectors() -> None:
    points = {(point.group, point.name) for point in distribution("kpisync").entry_points}

    assert ("console_scripts", "kpisync") in points
    assert {("kpisync.connectors", "salesforce"), ("kpisync.connectors", "hubspot")} <= points


def test_lock_files_pin_hashes_and_name_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]

        assert all("==" in pin for pin in pins)
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text


def compose():
    return YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def test_what_the_guide_prepares_the_containers_can_read_and_nobody_else_the_secrets(
    tmp_path: Path,
) -> None:
    guide = (ROOT / "docs/server.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(mkdir -p etc.*?)```", guide, re.DOTALL)
    lines = [line for line in script.splitlines() if not line.startswith(("sudo ", "docker "))]
    (tmp_path / "config").symlink_to(ROOT / "config")

    secrets = {"SF_CLIENT_ID": "an id", "SF_CLIENT_SECRET": "a secret", "HUBSPOT_KEY": "a key"}
    subprocess.run(
        ["bash", "-euc", "umask 077\n" + "\n".join(lines)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **secrets},
        check=True,
    )

    def others_may(name: str) -> bool:
        return bool((tmp_path / name).stat().st_mode & 0o004)

    ours = compose()["services"]["worker"]
    (mount,) = ours["volumes"]
    folder, inside, _ = mount.split(":")
    # A single file would be held by its inode: no edit would ever be seen.
    assert (tmp_path / folder).is_dir()
    assert inside == "/etc/kpisync"
    assert others_may("etc")
    assert others_may("etc/kpisync.yaml")
    assert not any(others_may(secret["file"]) for secret in compose()["secrets"].values())
    assert (tmp_path / ".env").read_text() == "SF_CLIENT_ID=an id\n"


def test_a_health_check_takes_less_than_two_seconds_of_a_processor(tmp_path: Path) -> None:
    (tmp_path / "kpisync.yaml").write_text(
        "version: 1\ncompany: {currency: EUR}\n"
        "connections: {books: {type: files, folder: ., streams: {costs: {}}}}\n"
    )
    engine = open_store(f"sqlite:///{tmp_path}/kpisync.db")
    ensure_current(engine)
    engine.dispose()
    asked = subprocess.Popen(
        [Path(sys.executable).with_name("kpisync"), "health", "worker"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    assert asked.stderr is not None
    said = asked.stderr.read().decode()
    _, status, usage = os.wait4(asked.pid, 0)
    asked.returncode = os.waitstatus_to_exitcode(status)
    asked.stderr.close()

    assert (asked.returncode, said) == (1, "no fresh heartbeat of a worker on this host\n")
    # What others do at the same time costs none of it.
    assert usage.ru_utime + usage.ru_stime < 2
