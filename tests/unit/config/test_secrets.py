"""No secret is ever shown, however wrong the configuration is."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.loader import load, load_with_warnings
from tests.unit.config.loading import BASE, loaded, write

SECRET = "hunter2-very-secret"

CARELESS = {
    "a secret without its key": "{flow: token, hunter2-very-secret}",
    "a secret as the section": "hunter2-very-secret",
    "a secret under a wrong key": "{flow: token, tokenn: hunter2-very-secret}",
    "a secret as the flow": "{flow: hunter2-very-secret, token: x}",
    "a secret as a list": "{flow: token, token: [hunter2-very-secret]}",
    "a secret set twice": "{flow: token, hunter2-very-secret: 1, hunter2-very-secret: 2}",
    "a secret in broken YAML": '{flow: token, token: "hunter2-very-secret}',
    "a secret with a bad escape": '{flow: token, token: "\\qhunter2-very-secret"}',
    "a secret as a tag": "{flow: token, token: !hunter2-very-secret x}",
    "a secret as an alias": "{flow: token, token: *hunter2-very-secret}",
    "a secret from outside in the wrong place": '{flow: "${SECRET}", token: "${SECRET}"}',
    "a secret that is no reference": "{flow: token, token: hunter2-very-secret$ABC}",
    "a secret as the default": '{flow: "${NOPE:-hunter2-very-secret}", token: x}',
}


@pytest.mark.parametrize("name", CARELESS)
def test_a_message_never_shows_a_credential(name: str, tmp_path: Path) -> None:
    text = BASE + f"  careless:\n    type: hubspot\n    auth: {CARELESS[name]}\n"

    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, text), {"TOKEN": "t", "SECRET": SECRET})

    printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in printed
    assert caught.value.problems


@pytest.mark.parametrize(
    "text",
    [
        'advanced: {canary: "${SECRET}"}',
        'kpis: {use: ["${SECRET}"], periods: "${SECRET}"}',
        'kpis: "${SECRET}"',
        'database: "${SECRET}"',
        'broker: "${SECRET}://x"',
        'writebacks: {w: {to: "${SECRET}.Account", fields: {a: "${SECRET}"}, every: "${SECRET}"}}',
        'security: {allow_hosts: ["${SECRET}!"]}',
        "database: mysql://me:hunter2-very-secret@db/x",
        "alerts: {chanels: {a: hunter2-very-secret}}",
        "sinks: {bi: {type: postgres, url: 'mysql://me:hunter2-very-secret@db/x'}}",
        'company: {name: "${SECRET}", currency: "${SECRET}", timezone: "${SECRET}"}',
    ],
)
def test_what_came_from_outside_is_never_shown(text: str, tmp_path: Path) -> None:
    base = BASE if not text.startswith("company") else BASE.replace("company:", "identity: {} #")

    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, base + text + "\n"), {"TOKEN": "t", "SECRET": SECRET})

    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_hint_never_comes_close_to_what_came_from_outside(tmp_path: Path) -> None:
    text = BASE.replace("timezone: Europe/Berlin", 'timezone: "${ZONE}"') + (
        'kpis: {use: ["${PACK}"]}\n'
    )

    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, text), {"TOKEN": "t", "ZONE": "Europe/Berln", "PACK": "sale"})

    assert len(caught.value.problems) == 2
    assert "Did you mean" not in str(caught.value)


def test_loaded_secrets_show_as_stars(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        BASE + 'database: "postgresql://me:${TOKEN}@db/x"\n',
        {"TOKEN": SECRET},
    )

    assert SECRET not in repr(config)
    assert SECRET not in str(config)
    assert f"postgresql://me:{SECRET}@db/x" == str(config.database)


def test_an_inline_secret_is_a_warning_at_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        BASE.replace('token, token: "${TOKEN}"', "token, token: hunter2-very-secret")
        + "broker: redis://:hunter2-very-secret@redis:6379/0\n",
    )

    _, warnings = load_with_warnings(path, {"TOKEN": "t"})

    assert [found.path for found in warnings] == ["connections.hs.auth.token", "broker"]
    assert all(SECRET not in str(found) for found in warnings)


def test_terminals_get_no_control_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, BASE + '"\\x1b[31mred": 1\n'), {"TOKEN": "t"})

    assert str(caught.value).replace("\n", "").isprintable()
