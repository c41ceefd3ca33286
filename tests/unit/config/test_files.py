"""One file or a folder of them, within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigurationError, Problem
from config.loader import load
from tests.unit.config.loading import BASE, ENV, problems_of, write


def _problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, ENV)
    return caught.value.problems


def test_a_folders_files_are_merged_by_top_level_key(tmp_path: Path) -> None:
    write(tmp_path, BASE, "10-base.yaml")
    write(tmp_path, "kpis: {use: [sales]}\n", "20-kpis.yml")
    write(tmp_path, "not: read\n", "notes.txt")
    write(tmp_path, "# nothing yet\n", "30-empty.yaml")

    config = load(tmp_path, ENV)

    assert config.kpis.use == ("sales",)
    assert str(tmp_path / "20-kpis.yml") == config.locate(("kpis", "use")).file


def test_a_key_in_two_files_names_both_places(tmp_path: Path) -> None:
    write(tmp_path, BASE + "kpis: {use: [sales]}\n", "a.yaml")
    write(tmp_path, "\n  \nkpis: {use: [customer]}\n", "b.yaml")

    (problem,) = _problems(tmp_path)

    assert (str(tmp_path / "b.yaml"), 3, 1, "kpis") == (
        problem.file,
        problem.line,
        problem.column,
        problem.path,
    )
    assert f"{tmp_path / 'a.yaml'}:10:1" in problem.message


def test_faults_of_several_files_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, BASE + "kpi: {}\n", "a.yaml")
    write(tmp_path, "advanced: {lease: 5}\n", "b.yaml")

    assert [Path(found.file).name for found in _problems(tmp_path)] == ["a.yaml", "b.yaml"]


def test_syntax_faults_of_several_files_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a: b: c\n", "a.yaml")
    write(tmp_path, "x: [\n", "b.yaml")

    assert [Path(found.file).name for found in _problems(tmp_path)] == ["a.yaml", "b.yaml"]


def test_relative_secret_files_lie_beside_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "key").write_text("from-file\r\n")
    write(folder, BASE.replace('token: "${TOKEN}"', 'token: "${file:key}"'), "k.yaml")

    for path in (folder, folder / "k.yaml"):
        assert load(path, ENV).connections["hs"].auth.resolved()["token"] == "from-file"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").symlink_to(write(tmp_path, BASE, "outside.yaml"))

    assert "leads out of the configuration folder" in _problems(folder)[0].message


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "a.yaml").symlink_to(write(tmp_path / "..data", BASE, "a.yaml"))

    assert len(load(tmp_path, ENV).connections) == 2


def test_missing_and_empty_ones_are_told_apart(tmp_path: Path) -> None:
    empty_folder = tmp_path / "empty"
    empty_folder.mkdir()

    assert "no such file or folder" in _problems(tmp_path / "nope.yaml")[0].message
    assert "no *.yaml or *.yml file" in _problems(empty_folder)[0].message
    assert "empty" in _problems(write(tmp_path, "# nothing\n"))[0].message


def test_bytes_that_are_no_utf_8_have_a_place(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_bytes("company: {name: Bö".encode() + b"\xe4hm}\n")

    (problem,) = _problems(path)

    assert (
        problem.line,
        problem.column,
        problem.message,
    ) == (1, 19, "The file is not UTF-8 text.")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())

    assert len(load(path, ENV).connections) == 2


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#" * 1_000_001, "larger than 1 MB"),
        ("- " * 60_000, "More than 50 levels"),
        ("[" * 200_000, "More than 50 levels"),
        ("{a: " * 60, "More than 50 levels"),
        ("? " * 60_000, "More than 50 levels"),
        ("a: [" + "1," * 60_000 + "]", "more than 50000 values"),
        ("\n".join(f"k{n}: 1" for n in range(60_000)), "more than 50000 values"),
        ("a: &a [x]\nb: [" + "*a," * 1000 + "]", "Anchors"),
        ("a: '" + "x\n" * 400_000, "inside a quoted text"),
        ("a: " + "9" * 900_000, '"a" is not a key'),
        ("a: |\n" + "\n" * 900_000, '"a" is not a key'),
        ("k" * 900_000, "no KEY: VALUE pairs"),
    ],
)
def test_bombs_are_refused_in_time(text: str, message: str, tmp_path: Path) -> None:
    problems = problems_of(tmp_path, text)

    assert any(message in found.message for found in problems)
    assert all(len(found.message) < 400 for found in problems)


def test_the_limits_hold_for_all_files_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, f"{name}: [" + "1," * 30_000 + "]", f"{name}.yaml")

    assert any("more than 50000 values" in found.message for found in _problems(tmp_path))
