"""Logs: readable, parseable, and without secrets."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import structlog

from config.loader import load
from worker import observe
from worker.settings import secrets_of


@pytest.fixture(autouse=True)
def _secret() -> None:
    observe.hide(["s3cr3t-value"])


def test_no_secret_reaches_the_log_in_whatever_shape(capsys: pytest.CaptureFixture[str]) -> None:
    observe.configure_logging(log_format="json")
    log = structlog.get_logger("test")

    log.warning(
        "login with s3cr3t-value failed",
        token="abcdefghi",
        headers={"Authorization": "Bearer abcdefghi.jkl"},
        url="postgresql://user:p4ssw0rd@host/db",
        nested=[{"words": "Authorization: Bearer abcdefghi"}],
    )
    logging.getLogger("library").error("sent Bearer %s", "abcdefghi.jkl")
    try:
        int("s3cr3t-value")
    except ValueError:
        log.exception("it broke")

    said = capsys.readouterr().err
    for secret in ("s3cr3t-value", "abcdefghi", "p4ssw0rd"):
        assert secret not in said
    events = [json.loads(line) for line in said.splitlines()]
    assert [event["level"] for event in events] == ["warning", "error", "error"]
    assert "ValueError" in events[2]["exception"]


def test_text_lines_carry_fields_and_nothing_that_drives_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    observe.configure_logging()
    log = structlog.get_logger("test")

    with structlog.contextvars.bound_contextvars(run="r1", stream="deals"):
        log.info("page \x1b[31mcommitted\nreally", rows=3)
    log.info("after")

    said = capsys.readouterr().err
    assert "page  [31mcommitted really" in said
    assert "run=r1" in said
    assert "stream=deals" in said
    assert "rows=3" in said
    assert "run=r1" not in said.splitlines()[-1]


def test_quiet_shows_faults_only(capsys: pytest.CaptureFixture[str]) -> None:
    observe.configure_logging(is_quiet=True)
    log = structlog.get_logger("test")

    log.warning("a warning")
    log.error("a fault")

    assert capsys.readouterr().err.count("\n") == 1


def test_a_channels_key_is_hidden_as_libraries_write_it_and_plain_words_are_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "kpisync.yaml"
    file.write_text(
        "version: 1\n"
        "company: {currency: EUR}\n"
        "connections: {books: {type: files, folder: ., streams: {costs: {fields: {amount: a}}}}}\n"
        "alerts:\n"
        "  channels:\n"
        "    chat: slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ\n"
        "    mail: mailto://people:correcthorse@mail.example.com/services\n"
        "    hook: json://hooks.example.com/services/key%2D12345?token=query-67890\n"
    )

    secrets = secrets_of(load(file, {}))

    assert secrets >= {
        *("T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"),
        *("correcthorse", "key-12345", "query-67890"),
    }
    assert not secrets & {"services", "hooks.example.com", "mail.example.com"}
