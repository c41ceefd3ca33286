"""`${...}` in scalars: environment variables and secret files, replaced after parsing.

What comes in this way is never read as YAML again, and never shown in a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final, TypeAlias

from config.errors import Path, Problem, quoted
from config.locate import Node, Plain, Scalar, Table

MAX_FILE_BYTES: Final = 65_536
MAX_TEXT: Final = 1_000_000

Value: TypeAlias = "Plain | Mapping[str, Value] | tuple[Value, ...]"
"""A configuration value before it is checked."""

_REFERENCE = re.compile(r"\$\$|\$\{(?P<body>[^}]*)\}|\$(?=[A-Za-z_{])")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<sign>[-?])(?P<rest>.*))?", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_FORMS = "Write ${NAME}, ${NAME:-default}, ${NAME:?message} or ${file:PATH}; $$ is a dollar sign."


class Substituted(str):
    """Text that came from outside the file: it may stand for a number, and is never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Substituted(**********)"


@dataclass(slots=True)
class Resolved:
    """The values of a tree with every reference replaced."""

    values: Value = None
    substituted: set[Path] = field(default_factory=set)
    """Where text came from outside the file."""
    spoiled: set[Path] = field(default_factory=set)
    """Where a problem is already reported: nothing more need be said."""
    problems: list[Problem] = field(default_factory=list)


class _UnresolvedError(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


def resolve(root: Node, env: Mapping[str, str], folder: FilePath) -> Resolved:
    """Replace every reference in the scalars of a tree; files are relative to `folder`."""
    resolved = Resolved()
    resolved.values = _value(root, (), _Sources(env, folder), resolved)
    return resolved


@dataclass(frozen=True, slots=True)
class _Sources:
    env: Mapping[str, str]
    folder: FilePath


def _value(node: Node, path: Path, sources: _Sources, resolved: Resolved) -> Value:
    if isinstance(node, Table):
        return {
            key: _value(entry.node, (*path, key), sources, resolved)
            for key, entry in node.entries.items()
        }
    if isinstance(node, Scalar):
        return _scalar(node, path, sources, resolved)
    return tuple(
        _value(item, (*path, position), sources, resolved)
        for position, item in enumerate(node.nodes)
    )


def _scalar(node: Scalar, path: Path, sources: _Sources, resolved: Resolved) -> Value:
    if "$" not in node.text:
        return node.value
    try:
        text, is_substituted = _replaced(node.text, sources)
    except _UnresolvedError as fault:
        resolved.problems.append(Problem.at(node.place, path, fault.message, fault.hint))
        resolved.spoiled.add(path)
        return Substituted("")
    if not is_substituted:
        return text
    resolved.substituted.add(path)
    return Substituted(text)


def _replaced(text: str, sources: _Sources) -> tuple[str, bool]:
    parts: list[str] = []
    end = 0
    length = 0
    is_substituted = False
    for match in _REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[0] == "$$":
            parts.append("$")
            continue
        if match["body"] is None:
            raise _UnresolvedError("A '$' begins no complete reference here.", _FORMS)
        parts.append(_looked_up(match["body"], sources))
        length += len(parts[-1])
        if length > MAX_TEXT:
            raise _UnresolvedError("The text grows beyond all reason here.", "Check what it names.")
        is_substituted = True
    parts.append(text[end:])
    return "".join(parts), is_substituted


def _looked_up(body: str, sources: _Sources) -> str:
    if body.startswith("file:"):
        return _from_file(body.removeprefix("file:"), sources.folder)
    match = _NAME.fullmatch(body)
    if match is None:
        raise _UnresolvedError("This ${...} cannot be understood.", _FORMS)
    return _from_environment(match["name"], match["sign"], match["rest"] or "", sources.env)


def _from_environment(name: str, sign: str | None, rest: str, env: Mapping[str, str]) -> str:
    found = env.get(name)
    if found and _SURROGATE.search(found):
        raise _UnresolvedError(
            f"The environment variable {name} is not UTF-8 text.", "Set it anew."
        )
    if found is not None and (found or sign is None):
        return found
    if sign == "-":
        return rest
    state = "is empty" if found is not None else "is not set"
    remedy = rest.strip() or f"Set {name}, or give a default: ${{{name}:-default}}."
    raise _UnresolvedError(f"The environment variable {name} {state}.", remedy)


def _from_file(name: str, folder: FilePath) -> str:
    shown = quoted(name)
    try:
        path = folder / name
        if not path.is_file():
            raise _UnresolvedError(f"There is no file {shown}.", "Create it, or correct the path.")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "bad path"
        raise _UnresolvedError(
            f"The file {shown} cannot be read: {reason}.", "Check its path and permissions."
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise _UnresolvedError(
            f"The file {shown} is larger than {MAX_FILE_BYTES // 1024} KiB.",
            "A secret file holds the secret alone.",
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _UnresolvedError(
            f"The file {shown} is not UTF-8 text.", "Save it as UTF-8."
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
