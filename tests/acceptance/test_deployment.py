"""The compose file, the image's ingredients and the installed distribution."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from store.engine import open_store, reading
from store.schema import upgrade

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


def test_the_broker_never_evicts_and_survives_a_restart() -> None:
    command = compose()["services"]["redis"]["command"]

    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_ports_are_open_on_the_host_alone() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_dashboard_asks_the_metrics_table_for_columns_it_has(postgres_database: str) -> None:
    engine = open_store(postgres_database)
    upgrade(engine)
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/kpis.json").read_text())
    questions = [panel["targets"][0]["rawSql"] for panel in dashboard["panels"]]

    with reading(engine) as conn:
        for question in questions:
            conn.exec_driver_sql(re.sub(r"AND \$__timeFilter\(.*\)\n", "\n", question))
    engine.dispose()
    assert len(questions) >= 5


@pytest.mark.parametrize("role", ["worker", "beat", "web"])
def test_a_systemd_unit_starts_each_process_confined(role: str) -> None:
    unit = (ROOT / f"deploy/systemd/kpisync-{role}.service").read_text(encoding="utf-8")

    assert re.search(rf"^ExecStart=\S+/kpisync --log-format json {role}\b", unit, re.MULTILINE)
    for setting in ("NoNewPrivileges=yes", "ProtectSystem=strict", "User=kpisync"):
        assert setting in unit
    # SIGTERM is given the 30 seconds that a step under way may need.
    assert "TimeoutStopSec=35" in unit


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
