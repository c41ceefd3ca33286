"""`${...}` brings values from the environment and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.loading import BASE, loaded, marked, problems_of


def _name(folder: Path, text: str, **env: str) -> str | None:
    head = BASE.replace("{currency: EUR", f'{{name: "{text}", currency: EUR')
    return loaded(folder, head, {"TOKEN": "t", **env}).company.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "alpha"),
        ("x${A}-${B}y", "xalpha-betay"),
        ("${UNSET:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${A:-fallback}", "alpha"),
        ("${A:?needed}", "alpha"),
        ("${UNSET:-a:-b?}", "a:-b?"),
        ("$${A}", "${A}"),
        ("5$$", "5$"),
        ("5$ and 6$", "5$ and 6$"),
        ("${file:name.txt}", "from a file"),
    ],
)
def test_every_form_of_reference(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "name.txt").write_text("from a file\n")

    assert expected == _name(tmp_path, text, A="alpha", B="beta", EMPTY="")


def test_what_comes_in_is_never_read_as_yaml_again(tmp_path: Path) -> None:
    hostile = '"], skip: [x], #${B}'

    assert hostile == _name(tmp_path, "${A}", A=hostile)


def test_a_reference_may_stand_for_a_number_or_a_truth_value(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        BASE
        + """\
advanced: {canary: "${N}", lease: "${SPAN}"}
kpis: {use: ["${PACK}"]}
writebacks:
  w:
    to: "${TO}"
    fields: {K__c: buyers}
    guard: {never_blank: "${NO}", max_changed: "${SHARE}"}
""",
        {
            "TOKEN": "t", "N": "7", "SPAN": "90s", "PACK": "sales", "TO": "sf.Account",
            "NO": "false", "SHARE": "25%",
        },
    )  # fmt: skip

    assert (config.advanced.canary, config.advanced.lease.total_seconds()) == (7, 90)
    assert config.kpis.use == ("sales",)
    assert config.writebacks["w"].guard.never_blank is False


FAULTS = {
    "a missing variable": ("${NOPE}", "The environment variable NOPE is not set", "Set NOPE"),
    "a missing variable with a message": (
        "${NOPE:?ask the admin for it}",
        "The environment variable NOPE is not set",
        "ask the admin for it",
    ),
    "an empty variable that is needed": (
        "${EMPTY:?ask the admin}",
        "The environment variable EMPTY is empty",
        "ask the admin",
    ),
    "a variable without braces": ("$A", "no complete reference", "${NAME}"),
    "a brace left open": ("${A", "no complete reference", "${NAME}"),
    "an unknown form": ("${A-b}", "cannot be understood", "${NAME:-default}"),
    "too much of everything": ("${file:big}" * 20, "beyond all reason", "names"),
    "an empty reference": ("${}", "cannot be understood", "${NAME}"),
    "a missing file": ("${file:nope.txt}", 'There is no file "nope.txt"', "Create it"),
    "a folder for a file": ("${file:.}", 'There is no file "."', "correct the path"),
    "a file that is no text": ("${file:binary}", "is not UTF-8", "UTF-8"),
    "a huge file": ("${file:huge}", "larger than 64 KiB", "the secret alone"),
    "a value that is no text": ("${SURROGATE}", "SURROGATE is not UTF-8", "Set it"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_reference_that_leads_nowhere_is_named_at_its_place(name: str, tmp_path: Path) -> None:
    reference, message, hint = FAULTS[name]
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    (tmp_path / "big").write_bytes(b"x" * 60_000)
    text, line, column = marked(
        BASE.replace("{flow: token, token: ", "{flow: token, token: ¦").replace(
            'token: ¦"${TOKEN}"', f'token: ¦"{reference}"'
        )
    )

    problems = problems_of(
        tmp_path, text, {"TOKEN": "t", "A": "aa", "EMPTY": "", "SURROGATE": "\udc80"}
    )

    assert [(line, column, "connections.hs.auth.token")] == [
        (found.line, found.column, found.path) for found in problems
    ]
    assert message in problems[0].message
    assert hint in problems[0].hint


def test_a_wrong_value_from_outside_names_its_variable(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path, BASE + 'advanced: {canary: "${N}"}\n', {"TOKEN": "t", "N": "hunter2"}
    )

    assert [found.message for found in problems] == ["The value of ${N} is not a whole number."]
