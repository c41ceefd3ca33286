"""Every key has its line in the documentation."""

from __future__ import annotations

from pathlib import Path

import config
from config.reference import keys, markdown
from config.support import NOT_YET_KEYS

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


def test_what_is_refused_exists_in_the_format_and_is_marked() -> None:
    by_path = {key.path: key for key in keys()}
    streams = ".streams."

    for pattern in NOT_YET_KEYS:
        if streams in pattern and not pattern.startswith("connections.*.streams.*"):
            continue  # a name among streams, not a key of its own
        assert not by_path[pattern.replace("*", "NAME")].is_supported


def test_a_supported_key_is_not_marked() -> None:
    by_path = {key.path: key for key in keys()}

    assert by_path["connections.NAME.auth.client_secret"].is_supported
    assert by_path["connections.NAME.auth.private_key"].is_supported
    assert by_path["targets"].is_supported
    assert by_path["writebacks.NAME.guard.max_changed"].is_supported
    assert by_path["advanced.lease"].default == "45s"
    assert by_path["connections.NAME.full_refresh"].default == '"0 3 * * sun"'
