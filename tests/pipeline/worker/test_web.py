"""`kpisync web` as a process: health, metrics and doorbells over HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from config.loader import load
from connectors.base import Doorbell, WebRequest
from connectors.errors import RequestRefused
from store import checkpoints
from store.engine import operating
from tests.fixtures.cli import Cli, clean_environment
from tests.fixtures.sandboxes import Sandbox
from tests.pipeline.worker.site import Site
from worker import pipeline
from worker.results import Kind
from worker.runtime import open_runtime
from worker.schedule import due


@dataclass(frozen=True)
class Pages:
    """A running web process."""

    process: subprocess.Popen[bytes]
    address: str

    def get(self, path: str, token: str = "") -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.get(self.address + path, headers=headers, timeout=10)

    def post(self, path: str, body: bytes) -> requests.Response:
        return requests.post(self.address + path, data=body, timeout=10)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture
def serve(empty_site: Site) -> Iterator[Callable[..., Pages]]:
    started: list[Pages] = []

    def start(**environment: str) -> Pages:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(Path(sys.executable).with_name("kpisync")), "--config", str(empty_site.path)]
        process = subprocess.Popen(
            [*command, "web", "--port", str(port)], env=clean_environment() | environment
        )
        pages = Pages(process, f"http://127.0.0.1:{port}")
        started.append(pages)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            try:
                pages.get("/health")
            except requests.ConnectionError:
                time.sleep(0.1)
            else:
                return pages
        raise AssertionError("kpisync web does not answer")

    yield start
    for pages in started:
        pages.end()


def test_health_and_metrics_show_what_the_database_holds(
    serve: Callable[..., Pages], empty_site: Site
) -> None:
    empty_site.pull("salesforce", "accounts")
    pages = serve()

    health = pages.get("/health")
    metrics = pages.get("/metrics").text

    assert (health.status_code, health.json()) == (200, {"ok": True, "messages": []})
    assert 'kpisync_stream_lag_seconds{connection="salesforce",stream="accounts"}' in metrics
    state = 'kpisync_stream_state{connection="salesforce",state="ok",stream="accounts"} 1.0'
    assert state in metrics
    assert 'kpisync_api_calls_24h{connection="salesforce",purpose="read"}' in metrics
    assert "kpisync_heartbeat_silent_seconds{" in metrics
    assert pages.end() == 0


def test_nobody_reads_without_the_token_where_one_is_set(serve: Callable[..., Pages]) -> None:
    pages = serve(KPISYNC_WEB_TOKEN="s3cret")

    assert pages.get("/metrics").status_code == 401
    assert pages.get("/health", token="wrong").status_code == 401
    assert pages.get("/health", token="s3cret").status_code == 200


def test_a_bell_that_nobody_hears_and_one_without_end_are_refused(
    serve: Callable[..., Pages],
) -> None:
    pages = serve()

    assert pages.post("/hooks/salesforce", b"[]").status_code == 404
    assert pages.post("/hooks/nobody", b"[]").status_code == 404
    assert pages.post("/hooks/salesforce", b"x" * 1_000_001).status_code == 413


def test_a_wider_address_is_refused_without_a_token(kpisync: Cli, empty_site: Site) -> None:
    kpisync.configure(empty_site.text())

    refused = kpisync("web", "--host", "0.0.0.0", expect_exit=2)  # noqa: S104  # never bound

    assert "KPISYNC_WEB_TOKEN" in refused.err


def test_a_signed_delivery_lets_a_stream_be_pulled_before_its_time(
    start_sandbox: Callable[..., Sandbox], tmp_path: Path, sqlite_database: str
) -> None:
    secret = "a-client-secret"
    site = Site(tmp_path, start_sandbox(), sqlite_database, crms=("hubspot",))
    site = site.but(advanced=f"{site.advanced}, index_lag: 1s")
    signed = site.text().replace('}"}', f'}}", webhook_secret: "{secret}"}}', 1)
    path = tmp_path / "kpisync.yaml"
    path.write_text(signed, encoding="utf-8")
    config = load(path, {})
    with open_runtime(config) as runtime:
        connector = runtime.connector("hubspot")
        assert isinstance(connector, Doorbell)
        body = b'[{"subscriptionType": "deal.propertyChange", "objectId": 1, "portalId": 1}]'
        request = delivery(secret, body)

        assert "deals" in connector.rung(request, datetime.now(UTC))
        with pytest.raises(RequestRefused):
            connector.rung(replace(request, body=body + b" "), datetime.now(UTC))

        pipeline.pull_connection(runtime, "hubspot")
        assert [step for step in due(runtime) if step.kind is Kind.PULL] == []
        with operating(runtime.engine) as conn:
            checkpoints.ring(conn, "hubspot", "deals")
        time.sleep(1.1)
        assert [step.stream for step in due(runtime) if step.kind is Kind.PULL] == ["deals"]


def delivery(secret: str, body: bytes) -> WebRequest:
    """Signed as HubSpot does (version 3): HMAC-SHA256 over method, address, body and instant."""
    instant = str(int(time.time() * 1000))
    url = "https://kpis.example.com/hooks/hubspot"
    signature = hmac.new(
        secret.encode(), b"POST" + url.encode() + body + instant.encode(), hashlib.sha256
    ).digest()
    return WebRequest(
        method="POST",
        url=url,
        headers={
            "x-hubspot-signature-v3": base64.b64encode(signature).decode(),
            "x-hubspot-request-timestamp": instant,
        },
        body=body,
    )
