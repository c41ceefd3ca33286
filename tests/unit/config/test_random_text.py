"""Whatever the file holds, the answer is a configuration or its problems."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from config.errors import ConfigurationError
from config.loader import load
from config.models import Config
from tests.unit.config.loading import BASE, ENV, MARK

LIMITS = settings(max_examples=150, deadline=timedelta(seconds=5))

FRAGMENTS = st.sampled_from(
    [
        "version", "connections", "kpis", "writebacks", "company", "auth", "sf", "deals", "by",
        ": ", ":\n", "\n", "\n  ", "\n    ", "- ", "{", "}", "[", "]", ",", "&a", "*a", "!!str ",
        '"', "'", "|", ">", "#", "---\n", "...", "?", "%", "@", "${TOKEN}", "${X:-1}", "${", "$$",
        "1", "-1", "0.5", ".inf", ".nan", "1e99", "true", "null", "~", "25%", "15m", "* * * * *",
        "salesforce", "hubspot", "token", "\\ud800", "\t", "\ufeff", "é", "<<",
    ]
)  # fmt: skip


def _answer(content: bytes) -> Config | ConfigurationError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kpisync.yaml"
        path.write_bytes(content)
        try:
            return load(path, ENV)
        except ConfigurationError as error:
            answer = error
    assert answer.problems
    assert all(found.line >= 1 <= found.column for found in answer.problems)
    assert str(answer).encode()
    return answer


@LIMITS
@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    _answer(content)


@LIMITS
@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    _answer(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=timedelta(seconds=5))
@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_anything_that_looks_like_a_configuration(text: str) -> None:
    _answer(text.encode())


@settings(max_examples=300, deadline=timedelta(seconds=5))
@given(st.data())
def test_a_good_configuration_with_a_wound(data: st.DataObject) -> None:
    full = BASE + (
        "kpis: {use: [sales], settings: {win_rate: {by: [owner, [owner, region]]}}}\n"
        "writebacks:\n  w:\n    to: sf.Account\n    every: '0 6 * * mon'\n"
        "    fields: {K__c: {kpi: revenue, period: year}}\n    guard: {max_changed: 25%}\n"
    ).replace(MARK, "")
    start = data.draw(st.integers(0, len(full)))
    end = data.draw(st.integers(start, min(len(full), start + 12)))
    wound = data.draw(st.lists(FRAGMENTS, max_size=3).map("".join))

    answer = _answer((full[:start] + wound + full[end:]).encode())

    assert ENV["TOKEN"] not in str(answer)
