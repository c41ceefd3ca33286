"""How the tests write configurations: small texts with a mark where the fault stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from config.errors import ConfigurationError, Problem
from config.loader import load
from config.models import Config

MARK = "¦"

BASE = """\
version: 1
company: {currency: EUR, timezone: Europe/Berlin}
connections:
  sf:
    type: salesforce
    auth: {flow: token, access_token: "${TOKEN}", instance_url: https://acme.my.salesforce.com}
  hs:
    type: hubspot
    auth: {flow: token, token: "${TOKEN}"}
"""

ENV = {"TOKEN": "s3cr3t-t0k3n-of-the-org"}


def write(folder: Path, text: str, name: str = "kpisync.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str, env: Mapping[str, str] = ENV) -> Config:
    return load(write(folder, text), env)


def problems_of(folder: Path, text: str, env: Mapping[str, str] = ENV) -> tuple[Problem, ...]:
    try:
        loaded(folder, text, env)
    except ConfigurationError as error:
        return error.problems
    return ()


def marked(text: str) -> tuple[str, int, int]:
    """The text without its mark, and the line and column where the mark stood."""
    before, _, after = text.partition(MARK)
    return before + after, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
