"""init where somebody sits: it asks for what each login needs, and shows and keeps no secret."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fixtures.cli import clean_environment
from tests.fixtures.sandboxes import Sandbox, launch
from worker.cli.logins import LOGINS

PATIENCE_SECONDS = 60.0
USERNAME = "integration@sandbox.example"


@dataclass(frozen=True)
class Answer:
    """What somebody types when a question stands on the screen."""

    question: str
    text: str
    is_secret: bool = False


@pytest.fixture(scope="module")
def company() -> Iterator[Sandbox]:
    with launch("--seed", "7", "--size", "20") as sandbox:
        sandbox.salesforce.settings(soap_login=True)
        yield sandbox


class Terminal:
    """A command at a terminal of its own, and what the screen shows."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        known = {
            one.variable for ways in LOGINS.values() for way in ways for one in way.credentials
        }
        environment = {
            name: value
            for name, value in clean_environment().items()
            if name.removesuffix("_FILE") not in known
        }
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("kpisync"), *arguments],
            cwd=folder,
            env={**environment, "NO_COLOR": "1", "COLUMNS": "300"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # Without a terminal of its own to go to, what asks for a password takes this one.
            start_new_session=True,
        )
        os.close(theirs)
        self.screen = ""

    def answer(self, answers: Sequence[Answer]) -> int:
        """Answer each question when it is asked; the exit code of the command."""
        for one in answers:
            seen = len(self.screen)
            # The blank is shown when typing is no longer echoed.
            while one.question not in self.screen[seen:] or not self.screen.endswith(": "):
                assert self._listen(), f"it ended before it asked for {one.question}: {self.screen}"
            os.write(self._ours, f"{one.text}\n".encode())
        while self._listen():
            pass
        return self._process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Hang up."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        os.close(self._ours)

    def _listen(self) -> bool:
        """Take up what is shown next; False: the command is over."""
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_SECONDS)
        assert ready, f"nothing is shown any more after: {self.screen}"
        try:
            heard = os.read(self._ours, 4096)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.screen += heard.decode()
        return True


def secret(question: str, text: str) -> Answer:
    return Answer(question, text, is_secret=True)


def questions(flow: str, company: Sandbox, key: Path) -> tuple[list[str], list[Answer]]:
    """Options, and what is asked under them; the key is asked for until there is such a file."""
    sf = ["--connect", "salesforce", "--base-url", company.salesforce.url, "--currency", "EUR"]
    user = Answer("the integration user's name (SF_USERNAME is not set", USERNAME)
    hub = ["--base-url", company.hubspot.url]
    return {
        "password": (
            sf,
            [
                user,
                secret("the integration user's password", "sandbox-password"),
                secret("empty where the network is trusted", "sandbox-security-token"),
            ],
        ),
        "jwt": (
            sf,
            [
                user,
                secret("the consumer key", "sandbox-client"),
                Answer("the file that holds the private key", f"{key}.lost"),
                Answer("there is no file", str(key)),
            ],
        ),
        "refresh_token": (
            hub,
            [
                Answer("Which CRMs", "hubspot"),
                secret("the app's client id", "sandbox-app"),
                secret("the app's client secret", "sandbox-app-secret"),
                secret("the refresh token that installing the app brought", "sandbox-refresh"),
            ],
        ),
        "token": (
            ["--connect", "hubspot", *hub],
            [secret("HUBSPOT_TOKEN is not set", "pat-na1-sandbox")],
        ),
    }[flow]


@pytest.mark.parametrize(
    "flow",
    [
        "password",
        # Each is a process that starts, logs in and looks around.
        *(pytest.param(flow, marks=pytest.mark.slow) for flow in ("jwt", "refresh_token", "token")),
    ],
)
def test_it_asks_for_what_a_login_needs_and_shows_and_keeps_no_secret(
    flow: str, tmp_path: Path, company: Sandbox
) -> None:
    (folder := tmp_path / "home").mkdir()
    options, answers = questions(flow, company, certified_key(company, tmp_path))
    terminal = Terminal(folder, "init", "--login", flow, *options)

    try:
        ended = terminal.answer(answers)
    finally:
        terminal.close()

    screen, typed = terminal.screen, [one.text for one in answers if one.is_secret]
    assert ended == 0, screen
    assert screen.count("what you typed is kept nowhere") >= len(typed)
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert b"connections:" in kept["kpisync.yaml"]
    assert [one for one in typed if one in screen] == []
    assert [(name, one) for name in kept for one in typed if one.encode() in kept[name]] == []


def certified_key(company: Sandbox, folder: Path) -> Path:
    """The file of a private key whose certificate the app of the org has."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    company.salesforce.settings(certificate=public.decode(), pre_authorized=[USERNAME])
    path = folder / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
