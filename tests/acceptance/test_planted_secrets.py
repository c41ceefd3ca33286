"""Planted secrets: every login flow, the database, the broker, a sink, an alert channel, the web.

Whatever the product prints, logs, stores, sends or passes to a process is searched for each of
them. A secret may stand in the header or the login body that it is made for, nowhere else.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import redis
from sqlalchemy import MetaData, create_engine, select

from tests.fixtures.cli import Cli, clean_environment
from tests.fixtures.recorder import Recorder, Said, recording
from tests.fixtures.sandboxes import Sandbox, launch
from tests.fixtures.servers import free_port, new_database, start_redis

PLANTED = {
    "the consumer secret": "sandbox-secret",
    "the ready session": "sandbox-token",
    "the password": "sandbox-password",
    "the security token": "sandbox-security-token",
    "the service key": "pat-na1-sandbox",
    "the refresh token": "planted-refresh-7c41",
    "the app's secret": "sandbox-app-secret",
    "the webhook secret": "planted-webhook-5d77",
    "the database's password": "planted-database-91ab",
    "the broker's password": "planted-broker-33e0",
    "the sink's password": "planted-sink-a0f2",
    "the channel's key": "planted-channel-6b15",
    "the web token": "planted-web-token-88d2",
}
"""Beside these: the private key, and every token that a CRM issued meanwhile."""

CONSUMER_SECRET = PLANTED["the consumer secret"].encode()
LONGEST_SECONDS = 60

LOGIN_PATHS = re.compile(
    r"/services/oauth2/token|/services/Soap/u/|/oauth/(v1|2\d{3}-\d\d)/token"
    # HubSpot takes a key it is asked about in the body ("Get access token info").
    r"|/oauth/v2/private-apps/get/access-token-info"
)


@dataclass
class Traces:
    """Everything that could be searched."""

    texts: dict[str, bytes] = field(default_factory=dict)
    requests: list[Said] = field(default_factory=list)
    notices: list[Said] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)


CONFIG = """\
version: 1
database: "{database}"
broker: "redis://:${{BROKER_PASSWORD}}@127.0.0.1:{redis}/0"
company: {{name: Test Company, currency: USD, timezone: Europe/Berlin}}
connections:
  by_secret:
    type: salesforce
    base_url: {salesforce}
    every: 5s
    auth: {{flow: client_credentials, domain: sandbox.my, client_id: sandbox-client,
           client_secret: "${{SF_SECRET}}"}}
    streams: &none {{deals: {{}}}}
  by_key:
    type: salesforce
    base_url: {salesforce}
    every: 5s
    auth: {{flow: jwt, domain: sandbox.my, username: integration@sandbox.example,
           client_id: sandbox-client, private_key: "${{file:key.pem}}"}}
    streams: {{deals: {{}}}}
  by_password:
    type: salesforce
    base_url: {salesforce}
    every: 5s
    auth: {{flow: password, domain: login, username: integration@sandbox.example,
           password: "${{SF_PASSWORD}}", security_token: "${{SF_SECURITY_TOKEN}}"}}
    streams: {{deals: {{}}}}
  by_token:
    type: salesforce
    base_url: {salesforce}
    every: 5s
    auth: {{flow: token, access_token: "${{SF_TOKEN}}", instance_url: "{salesforce}"}}
    streams: {{deals: {{}}}}
  by_service_key:
    type: hubspot
    base_url: {hubspot}
    every: 5s
    auth: {{flow: token, token: "${{HS_TOKEN}}", webhook_secret: "${{HS_WEBHOOKS}}"}}
    streams: {{deals: {{}}}}
  by_grant:
    type: hubspot
    base_url: {hubspot}
    every: 5s
    auth: {{flow: refresh_token, client_id: sandbox-app, client_secret: "${{HS_SECRET}}",
           refresh_token: "${{HS_REFRESH}}"}}
    streams: {{deals: {{}}}}
kpis: {{use: [sales], periods: [year]}}
sinks: {{bi: {{type: postgres, url: "{sink}", table: kpi_values}}}}
alerts:
  channels: {{ops: "{channel}"}}
  rules: [{{when: failed, to: [ops]}}]
security: {{allow_hosts: [127.0.0.1]}}
advanced: {{retry_wait: 1s, retry_attempts: 2, connect_timeout: 2s, read_timeout: 5s}}
""".replace("&none ", "")


def _environment() -> dict[str, str]:
    return {
        "SF_SECRET": PLANTED["the consumer secret"],
        "SF_TOKEN": PLANTED["the ready session"],
        "SF_PASSWORD": PLANTED["the password"],
        "SF_SECURITY_TOKEN": PLANTED["the security token"],
        "HS_TOKEN": PLANTED["the service key"],
        "HS_REFRESH": PLANTED["the refresh token"],
        "HS_SECRET": PLANTED["the app's secret"],
        "HS_WEBHOOKS": PLANTED["the webhook secret"],
        "BROKER_PASSWORD": PLANTED["the broker's password"],
        "KPISYNC_WEB_TOKEN": PLANTED["the web token"],
        "KPISYNC_TEST": "1",
    }


def _with_password(url: str, password: str) -> str:
    return url.replace("postgres@", f"postgres:{password}@", 1)


@pytest.fixture(scope="module")
def traces(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    folder = tmp_path_factory.mktemp("secrets")
    with contextlib.ExitStack() as stack:
        sandbox = launch("--seed", "3", "--size", "8", "--today", "2026-06-30", "--split", "both")
        stack.callback(sandbox.end)
        salesforce = stack.enter_context(recording(sandbox.salesforce.url))
        hubspot = stack.enter_context(recording(sandbox.hubspot.url))
        channel = stack.enter_context(recording(None))
        broker = stack.enter_context(start_redis())
        store = stack.enter_context(new_database(postgres_url))
        sink = stack.enter_context(new_database(postgres_url))
        with redis.Redis(port=broker.port) as admin:
            admin.config_set("requirepass", PLANTED["the broker's password"])
        key = sandbox.salesforce.admin("private_key")["private_key"]
        (folder / "key.pem").write_text(str(key), encoding="utf-8")
        sandbox.hubspot.settings(refresh_tokens=[PLANTED["the refresh token"]])
        cli = Cli(folder, _environment())
        cli.configure(
            CONFIG.format(
                database=_with_password(store, PLANTED["the database's password"]),
                sink=_with_password(sink, PLANTED["the sink's password"]),
                redis=broker.port,
                salesforce=salesforce.url,
                hubspot=hubspot.url,
                channel=f"json://{channel.url.removeprefix('http://')}/notices/"
                f"{PLANTED['the channel' + chr(39) + 's key']}",
            )
        )
        found = Traces(secrets=dict(PLANTED))
        _use(cli, sandbox, found)
        _serve(cli, found, channel)
        _gather(found, folder, [store, sink], broker.port)
        found.requests = [*salesforce.said, *hubspot.said]
        found.notices = channel.said
        _add_issued(found, str(key), [salesforce, hubspot])
        yield found


def _use(cli: Cli, sandbox: Sandbox, found: Traces) -> None:
    """Commands by hand: while all is well, and while everything fails."""

    def run(*arguments: str) -> None:
        ended = cli(*arguments, expect_exit=None)
        found.texts[" ".join(arguments)] = (ended.out + ended.err).encode()

    run("check", "--online", "--json")
    run("-v", "--log-format", "json", "drain")
    run("doctor")
    sandbox.hubspot.settings(refresh_tokens=[])
    sandbox.hubspot.fault("status", status=401, times=5_000, path="/crm")
    sandbox.salesforce.fault("status", status=401, times=5_000, path="/query")
    run("-v", "pull")
    run("status", "--json")
    run("dump", "runs")


def _serve(cli: Cli, found: Traces, channel: Recorder) -> None:
    """The processes of server mode until somebody is told: their logs, how they were started."""
    kpisync = str(Path(sys.executable).with_name("kpisync"))
    port = str(free_port())
    roles = {"worker": ["worker"], "beat": ["beat"], "web": ["web", "--port", port]}
    logs = {role: cli.folder / f"{role}.log" for role in roles}
    with contextlib.ExitStack() as stack:
        running = {
            role: stack.enter_context(
                subprocess.Popen(
                    [kpisync, "-v", "--log-format", "json", *arguments],
                    cwd=cli.folder,
                    env=clean_environment() | cli.environment,
                    stdout=stack.enter_context(logs[role].open("wb")),
                    stderr=subprocess.STDOUT,
                )
            )
            for role, arguments in roles.items()
        }
        stack.callback(
            lambda: [process.send_signal(signal.SIGTERM) for process in running.values()]
        )
        deadline = time.monotonic() + LONGEST_SECONDS
        # Beat and the web may tell of troubles before the worker has begun to log.
        while time.monotonic() < deadline and not (
            channel.said and b'"event"' in logs["worker"].read_bytes()
        ):
            time.sleep(0.2)
        found.texts["the processes' command lines"] = _command_lines(running.values())
    for role, log in logs.items():
        found.texts[f"the log of the {role}"] = log.read_bytes()


def _command_lines(running: Iterable[subprocess.Popen[bytes]]) -> bytes:
    started = [psutil.Process(process.pid) for process in running]
    everyone = [one for process in started for one in (process, *process.children(recursive=True))]
    return "\n".join(" ".join(one.cmdline()) for one in everyone).encode()


def _gather(found: Traces, folder: Path, databases: list[str], redis_port: int) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in {"kpisync.yaml", "key.pem"}:
            found.texts[f"file {path.name}"] = path.read_bytes()
    for number, url in enumerate(databases):
        found.texts[f"database {number}"] = _everything_in(url)
    with redis.Redis(port=redis_port, password=PLANTED["the broker's password"]) as client:
        dumped = {key: client.dump(key) or b"" for key in client.keys("*")}
    found.texts["the broker"] = b"\n".join([*dumped, *dumped.values()])


def _everything_in(url: str) -> bytes:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as conn:
        rows = [str(row) for table in tables.sorted_tables for row in conn.execute(select(table))]
    engine.dispose()
    return "\n".join(rows).encode()


def _add_issued(found: Traces, key: str, recorders: list[Recorder]) -> None:
    found.secrets["the private key"] = max(key.splitlines(), key=len)
    number = 0
    for said in (one for recorder in recorders for one in recorder.said):
        if not LOGIN_PATHS.search(said.path) or said.status != 200:
            continue
        text = said.answer.decode()
        issued = re.findall(r"<sessionId>([^<]+)<", text)
        with contextlib.suppress(ValueError):
            answer = json.loads(text)
            issued += [answer[name] for name in ("access_token", "refresh_token") if name in answer]
        for token in issued:
            number += 1
            found.secrets[f"issued token {number}"] = token


def test_every_flow_logged_in_and_every_secret_was_used(traces: Traces) -> None:
    said = b"\n".join(
        [one.body + str(one.headers).encode() + one.path.encode() for one in traces.requests]
    ).decode()
    assert base64.b64encode(b"sandbox-client:" + CONSUMER_SECRET).decode() in said
    for name in ("the ready session", "the password", "the service key"):
        assert PLANTED[name] in said, name
    for name in ("the refresh token", "the app's secret", "the security token"):
        assert quote(PLANTED[name]) in said, name
    assert len([name for name in traces.secrets if name.startswith("issued")]) >= 4
    assert traces.notices, "the broken streams were not told of"
    assert b'"event"' in traces.texts["the log of the worker"]
    assert not [place for place, text in traces.texts.items() if b"Traceback" in text]


def _forms(secret: str) -> set[bytes]:
    """The secret as it is, in an address, and as the login of an HTTP header."""
    as_login = base64.b64encode(b"sandbox-client:" + secret.encode())
    return {secret.encode(), quote(secret, safe="").encode(), as_login}


def test_no_secret_is_printed_logged_stored_or_passed_to_a_process(traces: Traces) -> None:
    leaks = [
        (name, place)
        for name, secret in traces.secrets.items()
        for place, text in traces.texts.items()
        if any(form in text for form in _forms(secret))
    ]
    assert leaks == []


def test_no_secret_leaves_but_in_its_own_header_or_login(traces: Traces) -> None:
    leaks = []
    for name, secret in traces.secrets.items():
        for said in traces.requests:
            others = [v for n, v in said.headers if n.lower() != "authorization"]
            elsewhere = [said.path, *others]
            if not LOGIN_PATHS.search(said.path):
                elsewhere.append(said.body.decode(errors="replace"))
            leaks += [(name, said.path) for text in elsewhere if secret in text]
    assert leaks == []


def test_a_notice_shows_no_secret_but_its_channels_own_address(traces: Traces) -> None:
    words = b"\n".join(one.body for one in traces.notices).decode()
    assert [name for name, secret in traces.secrets.items() if secret in words] == []
