"""Turns what pydantic found into problems with a place, plain words and a remedy.

pydantic's own sentences quote the offending input; nothing of them is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Final, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from config.connections import FURTHER_TYPE, IMPLIED_STREAMS, UNKNOWN_FLOW, UNKNOWN_TYPE
from config.errors import Path, Problem, did_you_mean, dotted, nearest, one_of, quoted
from config.installed import further_types
from config.interpolate import Resolved
from config.locate import Node, Scalar, Table, find, locate
from config.models import Config
from config.scalars import FAULT

_TAG = re.compile(r"(type|flow)=")
_OPTION = re.compile(r"'([^']*)'")
_VARIABLE = re.compile(r"\$\{(file:[^}]*|[A-Za-z_][A-Za-z0-9_]*)")
_SECRET_PARTS: Final = frozenset({"auth", "database", "broker", "channels", "url"})
_KEY_MARK: Final = "[key]"
_FEW: Final = 12


@dataclass(frozen=True, slots=True)
class Explainer:
    """Knows the tree a configuration came from, and which of its values are secret."""

    root: Node
    resolved: Resolved

    def problems(self, error: ValidationError) -> Iterator[Problem]:
        """Everything pydantic found, less what is already reported."""
        for detail in error.errors(include_input=False, include_url=False):
            loc = detail["loc"]
            is_key = bool(loc) and loc[-1] == _KEY_MARK
            path = self._written(loc[:-1] if is_key else loc)
            if not self.is_spoiled(path):
                yield self._problem(detail, path, is_key=is_key)

    def is_spoiled(self, path: Path) -> bool:
        """Whether a problem at this path or around it is already reported."""
        return any(path[:length] in self.resolved.spoiled for length in range(len(path) + 1))

    def is_secret(self, path: Path) -> bool:
        """Whether the value at `path` must not be shown."""
        return bool(_SECRET_PARTS.intersection(map(str, path))) or any(
            path[:length] in self.resolved.substituted for length in range(len(path) + 1)
        )

    def shown(self, path: Path) -> str:
        """The value at `path` for a sentence; a secret is named by where it comes from."""
        node = find(self.root, path)
        if not isinstance(node, Scalar):
            return "A mapping" if isinstance(node, Table) else "A list"
        if path in self.resolved.substituted:
            names = ", ".join(f"${{{name}}}" for name in _VARIABLE.findall(node.text))
            return f"The value of {names}" if "auth" not in path else "This value"
        if self.is_secret(path):
            return "This value"
        if not node.text:
            return "An empty value"
        return quoted(node.text)

    def _written(self, loc: tuple[int | str, ...]) -> Path:
        """Pydantic's location as a path of the file, without the tags of unions."""
        path: Path = ()
        for part in loc:
            if isinstance(part, str) and _TAG.match(part) and not self._has(path, part):
                continue
            path = (*path, part)
        return path

    def _has(self, path: Path, key: str) -> bool:
        node = find(self.root, path)
        return isinstance(node, Table) and key in node.entries

    def _problem(self, detail: ErrorDetails, path: Path, *, is_key: bool) -> Problem:
        kind = detail["type"]
        if kind == "missing":
            return self._missing(detail["loc"], path)
        if kind == "extra_forbidden":
            return self._unknown_key(detail["loc"], path)
        if is_key:
            return self._bad_key(detail, path)
        while path and find(self.root, path) is None:
            path = path[:-1]  # a short form: its parts are not written
        message, hint = self._sentence(detail, path)
        if kind == FAULT and self.is_secret(path) and "Did you mean" in hint:
            hint = ""  # it would be close to the secret
        message = message.replace("{value}", self.shown(path))
        return Problem.at(locate(self.root, path), path, message, hint)

    def _sentence(self, detail: ErrorDetails, path: Path) -> tuple[str, str]:
        kind = detail["type"]
        context = detail.get("ctx", {})
        if kind == FAULT:
            return str(context["message"]), str(context["hint"])
        if kind == "literal_error":
            return "{value} cannot stand here.", self._choices(str(context["expected"]), path)
        if kind in _SENTENCES:
            return _SENTENCES[kind]
        if kind in {UNKNOWN_TYPE, UNKNOWN_FLOW}:
            return self._untagged(kind.removeprefix("unknown_"), detail["loc"], path)
        return "{value} cannot stand here.", f"See the documentation of {dotted(path)}."

    def _choices(self, expected: str, path: Path) -> str:
        options = _OPTION.findall(expected) or [expected]
        node = find(self.root, path)
        if isinstance(node, Scalar) and not self.is_secret(path):
            return did_you_mean(node.text, options)
        return one_of(options)

    def _untagged(self, key: str, loc: tuple[int | str, ...], path: Path) -> tuple[str, str]:
        node = find(self.root, path)
        if not isinstance(node, Table):
            return _SENTENCES["model_type"]
        options = _tags_at(loc, key)
        if key not in node.entries:
            return f'"{key}" is missing.', one_of(options)
        value = node.entries[key].node
        text = value.text if isinstance(value, Scalar) else ""
        if (*path, key) in self.resolved.substituted:
            return f'The value of "{key}" is not known.', one_of(options)
        close = nearest(text, options)
        if key == "type" and close is None:
            hint = f"Install the package that brings it. {one_of(options)}"
            return f'{quoted(text)} is no known "type".', hint
        if key == "flow" and close is None:  # it stands among secrets
            return 'The value of "flow" is not known.', one_of(options)
        return f'{quoted(text)} is no known "{key}".', did_you_mean(text, options)

    def _missing(self, loc: tuple[int | str, ...], path: Path) -> Problem:
        key, parent = str(path[-1]), path[:-1]
        while parent and find(self.root, parent) is None:
            parent = parent[:-1]
        model = _model_at(loc[:-1])
        meaning = (_fields_of(model).get(key) or "") if model else ""
        return Problem.at(
            locate(self.root, parent, key=True), path, f"{quoted(key)} is missing.", meaning
        )

    def _unknown_key(self, loc: tuple[int | str, ...], path: Path) -> Problem:
        key, parent = str(path[-1]), path[:-1]
        model = _model_at(loc[:-1])
        known = tuple(_fields_of(model)) if model else ()
        where = dotted(parent) or "the configuration"
        place = locate(self.root, path, key=True)
        close = nearest(key, known)
        if "auth" in parent and close is None:
            # What stands here may be a secret that lost its key.
            return Problem.at(place, parent, f"This is not a key of {where}.", one_of(known))
        hint = did_you_mean(key, known) if close or len(known) <= _FEW else ""
        return Problem.at(place, path, f"{quoted(key)} is not a key of {where}.", hint)

    def _bad_key(self, detail: ErrorDetails, path: Path) -> Problem:
        key = str(path[-1])
        place = locate(self.root, path, key=True)
        context = detail.get("ctx", {})
        if detail["type"] == "literal_error":
            options = _OPTION.findall(str(context["expected"]))
            if key in IMPLIED_STREAMS:
                message = f"{quoted(key)} needs no entry: it comes with {IMPLIED_STREAMS[key]}."
                return Problem.at(place, path, message, "Remove it.")
            message = f"{quoted(key)} is not known in {dotted(path[:-1])}."
            return Problem.at(place, path, message, did_you_mean(key, options))
        message = str(context.get("message", "{value} cannot be a key here."))
        hint = str(context.get("hint", ""))
        return Problem.at(place, path, message.replace("{value}", quoted(key)), hint)


_SENTENCES: Final[Mapping[str, tuple[str, str]]] = {
    "model_type": ("{value} stands where keys are expected.", "Write KEY: VALUE pairs here."),
    "dict_type": ("{value} stands where keys are expected.", "Write KEY: VALUE pairs here."),
    "mapping_type": ("{value} stands where keys are expected.", "Write KEY: VALUE pairs here."),
    "tuple_type": ("{value} is not a list.", "Write it in square brackets: [a, b]."),
    "too_short": ("At least one entry is needed here.", "Add one, or remove the whole part."),
    "string_type": ("{value} is not text.", "Put it in quotes."),
}


# ---------------------------------------------------------------- what the models allow


def _walk(loc: tuple[int | str, ...]) -> object:
    """The type that the models expect at pydantic's location, or None."""
    here: object = Config
    for part in loc:
        here = _inside(here, part)
    return here


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    found = _bare(_walk(loc))
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _fields_of(model: type[BaseModel]) -> dict[str, str]:
    """YAML key -> what it is for."""
    return {
        field.alias or name: field.description or "" for name, field in model.model_fields.items()
    }


def _tags_at(loc: tuple[int | str, ...], key: str) -> tuple[str, ...]:
    tags = [str(mark.tag) for member in get_args(_bare(_walk(loc))) for mark in _marks(member, Tag)]
    named = tuple(tag.removeprefix(f"{key}=") for tag in tags if tag != FURTHER_TYPE)
    return named + further_types() if FURTHER_TYPE in tags else named


def _marks(annotation: object, kind: type[Tag]) -> list[Tag]:
    if get_origin(annotation) is not Annotated:
        return []
    return [mark for mark in get_args(annotation)[1:] if isinstance(mark, kind)]


def _bare(annotation: object) -> object:
    """Without Annotated and None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in {Union, UnionType}:
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) == 1:
                annotation = members[0]
                continue
        return annotation


def _inside(annotation: object, part: int | str) -> object:
    here = _bare(annotation)
    if isinstance(here, type) and issubclass(here, BaseModel):
        for name, field in here.model_fields.items():
            if part == (field.alias or name):
                return field.annotation
        return None
    arguments = get_args(here)
    if get_origin(here) in {Union, UnionType}:
        return next(
            (member for member in arguments if any(m.tag == part for m in _marks(member, Tag))),
            None,
        )
    if not arguments:
        return None
    return arguments[0] if get_origin(here) is tuple else arguments[-1]
