"""Every key has its line in the documentation."""

from __future__ import annotations

from pathlib import Path

import config
from config.reference import keys, markdown

DOCUMENT = Path(config.__file__).parents[1] / "docs" / "configuration.md"


def test_the_documentation_has_every_key() -> None:
    _, mark, written = DOCUMENT.read_text(encoding="utf-8").partition("<!-- keys -->\n")

    assert mark
    assert markdown() == written.lstrip("\n"), (
        "docs/configuration.md is out of date: put the output of config.reference.markdown() "
        "below <!-- keys -->"
    )


def test_every_key_has_a_meaning() -> None:
    assert [key.path for key in keys() if not key.meaning.strip()] == []


def test_defaults_stand_as_they_would_be_written() -> None:
    by_path = {key.path: key for key in keys()}

    assert by_path["advanced.lease"].default == "45s"
    assert by_path["connections.NAME.full_refresh"].default == '"0 3 * * sun"'
