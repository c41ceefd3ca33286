"""The optional reports: failed steps reach Sentry, every step a collector, secrets neither."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli
from tests.fixtures.recorder import Recorder, Said, recording
from tests.fixtures.sandboxes import Sandbox


@pytest.fixture
def listener() -> Iterator[Recorder]:
    with recording(None) as recorder:
        yield recorder


def _body(said: Said) -> bytes:
    packed = dict(said.headers).get("Content-Encoding") == "gzip"
    return gzip.decompress(said.body) if packed else said.body


def test_failed_steps_are_reported_and_every_step_leaves_a_span(
    kpisync: Cli, sandbox: Sandbox, listener: Recorder
) -> None:
    kpisync.configure(two_crms(sandbox))
    sandbox.hubspot.fault("status", status=401, times=1_000, path="/crm")
    kpisync.environment |= {
        "SENTRY_DSN": listener.url.replace("http://", "http://public-key@") + "/1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": listener.url,
    }

    kpisync("pull", expect_exit=4)

    reports = [_body(one) for one in listener.said if one.path.startswith("/api/1/envelope")]
    spans = b"".join(_body(one) for one in listener.said if one.path == "/v1/traces")
    assert any(b"pull failed" in one and b'"stream":"deals"' in one for one in reports)
    assert not [one for one in reports if b'"connection":"salesforce"' in one]
    for words in (b"kpisync pull", b"kpisync.stream", b"kpisync.pulled", b"failed", b"ok"):
        assert words in spans, words
    everything = b"".join([*reports, spans])
    assert not [s for s in (b"pat-na1-sandbox", b"sandbox-secret") if s in everything]
