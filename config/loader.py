"""From a file or folder of YAML to a `Config`, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from config import checks
from config.errors import ConfigurationError, Finding, Place, Problem, printable, quoted
from config.errors import Path as KeyPath
from config.explain import Explainer
from config.interpolate import Resolved, resolve
from config.locate import (
    MAX_BYTES,
    Entry,
    NodeBudget,
    Parsed,
    Places,
    Table,
    UnreadableError,
    locate,
    read_tree,
)
from config.models import Config

_SUFFIXES: Final = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class _Tree:
    """All files together."""

    root: Table
    spoiled: frozenset[KeyPath]


def load(path: Path, env: Mapping[str, str]) -> Config:
    """Read the configuration at `path`, a YAML file or a folder of them.

    Raises:
        ConfigurationError: everything that is wrong with it, at once.
    """
    return load_with_warnings(path, env)[0]


def load_with_warnings(path: Path, env: Mapping[str, str]) -> tuple[Config, tuple[Problem, ...]]:
    """Like `load`; beside the configuration what works but deserves a second look.

    Raises:
        ConfigurationError: everything that is wrong with it, at once.
    """
    tree, problems = _read(path)
    if tree is None:
        raise ConfigurationError(problems)
    folder = path if path.is_dir() else path.parent
    resolved = resolve(tree.root, env, folder)
    resolved.spoiled |= tree.spoiled
    problems += resolved.problems
    config, faults = _validated(tree.root, resolved)
    problems += faults
    if config is None or problems:
        raise ConfigurationError(problems)
    return config, tuple(sorted(_warnings(tree.root, resolved)))


def server_database(path: Path, env: Mapping[str, str]) -> str | None:
    """The PostgreSQL URL of a configuration, whatever else is wrong with it; None: not to be read.

    For whoever asks after processes that go on by the last good configuration.
    """
    tree, _ = _read(path)
    if tree is None:
        return None
    resolved = resolve(tree.root, env, path if path.is_dir() else path.parent)
    values = resolved.values
    url = values.get("database") if isinstance(values, Mapping) else None
    return url if isinstance(url, str) and url.startswith("postgresql") else None


def _validated(root: Table, resolved: Resolved) -> tuple[Config | None, list[Problem]]:
    explainer = Explainer(root, resolved)
    values = resolved.values
    if not isinstance(values, Mapping):
        raise TypeError("a table resolves to a mapping")
    problems: list[Problem] = []
    problems += (
        _found(explainer, finding)
        for finding in checks.cross_check(values)
        if not explainer.is_spoiled(finding.path)
    )
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        return None, [*problems, *explainer.problems(error)]
    config._places = Places(root)  # noqa: SLF001 - the loader completes what it makes
    return config, problems


def _found(explainer: Explainer, finding: Finding) -> Problem:
    message = finding.message.replace("{value}", explainer.shown(finding.path))
    place = locate(explainer.root, finding.path, key=finding.at_key)
    return Problem.at(place, finding.path, message, finding.hint)


def _warnings(root: Table, resolved: Resolved) -> Iterator[Problem]:
    explainer = Explainer(root, resolved)
    values = resolved.values
    if isinstance(values, Mapping):
        for finding in checks.look_twice(values, lambda path: path not in resolved.substituted):
            yield _found(explainer, finding)


# ---------------------------------------------------------------- reading


def _read(path: Path) -> tuple[_Tree | None, list[Problem]]:
    """One tree of all files, or None when they cannot be read to their ends."""
    budget, bytes_left = NodeBudget(), MAX_BYTES
    problems: list[Problem] = []
    documents: list[Parsed] = []
    is_complete = True
    for file in _files(path):
        shown = printable(str(file), 400)
        try:
            content = _content(file, shown, bytes_left)
            bytes_left -= len(content)
            document = read_tree(_text(content, shown), shown, budget)
        except UnreadableError as stop:
            problems += stop.problems
            is_complete = False
            continue
        problems += document.problems
        documents.append(document)
    if not is_complete:
        return None, problems
    merged = _merged(documents, problems)
    if merged is None and not problems:
        place = Place(printable(str(path), 400), 1, 1)
        problems.append(Problem.at(place, (), "The configuration is empty.", _FIRST_KEYS))
    return merged, problems


_FIRST_KEYS: Final = "Begin with company: and connections:."


def _files(path: Path) -> list[Path]:
    shown = printable(str(path), 400)
    try:
        if not path.exists():
            raise _unreadable(shown, "There is no such file or folder.", "Check the path.")
        if not path.is_dir():
            return [path]
        inside = path.resolve()
        found = [
            file
            for file in sorted(path.iterdir())
            if file.suffix in _SUFFIXES and not file.name.startswith(".") and not file.is_dir()
        ]
        for file in found:
            if not file.resolve().is_relative_to(inside):
                raise _unreadable(
                    printable(str(file), 400),
                    "This link leads out of the configuration folder.",
                    "Put the file itself into the folder.",
                )
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "bad path"
        raise _unreadable(shown, f"It cannot be read: {reason}.", "Check the path.") from None
    if not found:
        raise _unreadable(shown, "The folder has no *.yaml or *.yml file.", "Add one.")
    return found


def _unreadable(shown: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem.at(Place(shown, 1, 1), (), message, hint)])


def _content(file: Path, shown: str, limit: int) -> bytes:
    start = Place(shown, 1, 1)
    try:
        if not file.is_file():
            raise UnreadableError(
                (Problem.at(start, (), "This is not a file.", "Check the path."),)
            )
        with file.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise UnreadableError(
            (Problem.at(start, (), f"It cannot be read: {reason}.", "Check its permissions."),)
        ) from None
    if len(content) > limit:
        raise UnreadableError(
            (
                Problem.at(
                    start,
                    (),
                    "The configuration is larger than 1 MB.",
                    "Check whether the right file was named.",
                ),
            )
        )
    return content


def _text(content: bytes, shown: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line_start = before.rfind(b"\n") + 1
        column = len(before[line_start:].decode("utf-8")) + 1
        place = Place(shown, before.count(b"\n") + 1, column)
        raise UnreadableError(
            (Problem.at(place, (), "The file is not UTF-8 text.", "Save it as UTF-8."),)
        ) from None


def _merged(documents: list[Parsed], problems: list[Problem]) -> _Tree | None:
    """All files' top-level keys in one table."""
    entries: dict[str, Entry] = {}
    spoiled: set[KeyPath] = set()
    first: Place | None = None
    for document in documents:
        root = document.root
        spoiled |= document.spoiled
        if root is None:
            continue
        if not isinstance(root, Table):
            message = "The file holds no KEY: VALUE pairs."
            problems.append(Problem.at(root.place, (), message, _FIRST_KEYS))
            continue
        first = first or root.place
        for key, entry in root.entries.items():
            if key in entries:
                message = f"{quoted(key)} is set twice; the first time at {entries[key].place}."
                problems.append(Problem.at(entry.place, (key,), message, "Keep one of the two."))
            else:
                entries[key] = entry
    return None if first is None else _Tree(Table(first, entries), frozenset(spoiled))
