"""YAML text as a tree of nodes that know their places.

ruamel.yaml gives the events (YAML 1.2); the tree is built here, so that duplicate keys, tags,
anchors and sheer size are refused with a place before any value exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from config.errors import Path, Place, Problem, quoted

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 50
MAX_NODES: Final = 50_000

Plain: TypeAlias = str | int | bool | Decimal | None
"""What a YAML scalar can be; fractions are exact decimals."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_BASED_INTEGER = re.compile(r"0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FRACTION = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,2})?")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf as it is written; `is_plain` without quotes."""

    place: Place
    text: str
    is_plain: bool

    @property
    def value(self) -> Plain:
        """The value by the YAML 1.2 core schema: `on`, `NO` and `12:30` are text."""
        return _resolved(self.text) if self.is_plain else self.text


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping with its value."""

    place: Place
    """Where the key is written."""
    key: str
    node: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping."""

    place: Place
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    nodes: tuple[Node, ...]


Node: TypeAlias = Scalar | Table | Items


class UnreadableError(Exception):
    """The file cannot be read any further; what was found so far is in ``problems``."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(slots=True)
class NodeBudget:
    """How many nodes all files together may still have."""

    left: int = MAX_NODES


@dataclass(frozen=True, slots=True)
class Parsed:
    """One YAML document."""

    root: Node | None
    """None: the file is empty."""
    problems: tuple[Problem, ...]
    """What is wrong with the YAML as such."""
    spoiled: frozenset[Path]
    """Key paths that have no usable value for one of these reasons."""


def read_tree(text: str, file: str, budget: NodeBudget) -> Parsed:
    """Parse one YAML document.

    Raises:
        UnreadableError: a syntax error or a limit ended the reading.
    """
    _refuse_control_characters(text, file)
    reader = _Reader(text, file, budget)
    root = reader.read()
    return Parsed(root, tuple(reader.problems), frozenset(reader.spoiled))


def find(root: Node, path: Path) -> Node | None:
    """The node at `path`, or None."""
    node: Node = root
    for part in path:
        if isinstance(node, Table) and isinstance(part, str) and part in node.entries:
            node = node.entries[part].node
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
        else:
            return None
    return node


def locate(root: Node, path: Path, *, key: bool = False) -> Place:
    """Where the value at `path` (or its key) is written; unwritten ones have their parent's."""
    node, place, key_place = root, root.place, root.place
    for part in path:
        if isinstance(node, Table) and isinstance(part, str) and part in node.entries:
            entry = node.entries[part]
            node, place, key_place = entry.node, entry.node.place, entry.place
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
            place = key_place = node.place
        else:
            return key_place  # defaulted: the nearest thing that is written
    return key_place if key else place


class _Reader:
    """Turns the events of one document into a tree."""

    def __init__(self, text: str, file: str, budget: NodeBudget) -> None:
        self._file = file
        self._text = text
        self._budget = budget
        self._path: list[str | int] = []
        self._depth = 0
        self._last = Place(file, 1, 1)
        self.problems: list[Problem] = []
        self.spoiled: set[Path] = set()

    def read(self) -> Node | None:
        events = self._events()
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                self._check_document(event, documents)
            elif isinstance(event, NodeEvent):
                root = self._node(event, events)
        if isinstance(root, Scalar) and root.is_plain and not root.text:
            return None
        return root

    def _events(self) -> Iterator[Event]:
        try:
            for event in YAML(typ="safe", pure=True).parse(self._text):
                self._last = self._place(event.start_mark)
                yield event
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark) if mark else self._last
            message, hint = _in_plain_words(error)
            self._stop(place, message, hint)
        except (YAMLError, ValueError, OverflowError):
            # A \U escape beyond Unicode, for one, reaches Python's chr().
            self._stop(self._last, "Near here the YAML cannot be read.", "Check the escapes.")

    def _node(self, event: NodeEvent, events: Iterator[Event]) -> Node:
        place = self._place(event.start_mark)
        self._spend(place)
        self._refuse_extras(event, place)
        if isinstance(event, MappingStartEvent):
            return self._table(place, events)
        if isinstance(event, SequenceStartEvent):
            return self._items(place, events)
        if isinstance(event, ScalarEvent):
            if _SURROGATE.search(event.value):
                self._note(
                    place,
                    "This text has an escape that is no character (a surrogate).",
                    "Remove the escape.",
                )
                self.spoiled.add(tuple(self._path))
            return Scalar(place, _SURROGATE.sub("\ufffd", event.value), event.style is None)
        return Scalar(place, "", is_plain=True)  # an alias, already refused

    def _table(self, place: Place, events: Iterator[Event]) -> Table:
        self._descend(place)
        entries: dict[str, Entry] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, NodeEvent):
                continue
            key_place = self._place(event.start_mark)
            key_node = self._node(event, events)
            key = key_node.text if isinstance(key_node, Scalar) else ""
            if not isinstance(key_node, Scalar):
                self._note(key_place, "A key must be plain text.", "Write KEY: VALUE.")
                self.spoiled.add((*self._path, key))
            self._path.append(key)
            value = self._node(_next_node(events), events)
            self._path.pop()
            if key in entries:
                self._refuse_duplicate(key, key_place, entries[key].place)
            else:
                entries[key] = Entry(key_place, key, value)
        self._depth -= 1
        return Table(place, entries)

    def _items(self, place: Place, events: Iterator[Event]) -> Items:
        self._descend(place)
        nodes: list[Node] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            if not isinstance(event, NodeEvent):
                continue
            self._path.append(len(nodes))
            nodes.append(self._node(event, events))
            self._path.pop()
        self._depth -= 1
        return Items(place, tuple(nodes))

    def _refuse_extras(self, event: NodeEvent, place: Place) -> None:
        if isinstance(event, AliasEvent):
            self._note(place, "Aliases (*) are not allowed.", "Write the value out.")
            self.spoiled.add(tuple(self._path))
        elif event.anchor is not None:
            self._note(place, "Anchors (&) are not allowed.", "Write the value out where needed.")
        if getattr(event, "tag", None) is not None:
            self._note(place, "Tags (!) are not allowed.", "Leave the tag out.")
            self.spoiled.add(tuple(self._path))

    def _refuse_duplicate(self, key: str, place: Place, first: Place) -> None:
        message = f"is set twice; the first time at {first}."
        if "auth" in self._path:  # what stands here may be a secret that lost its key
            self._note(place, f"This key {message}", "Keep one of the two.")
            return
        path = (*self._path, key)
        self.problems.append(
            Problem.at(place, path, f"{quoted(key)} {message}", "Keep one of the two.")
        )

    def _check_document(self, event: DocumentStartEvent, documents: int) -> None:
        place = self._place(event.start_mark)
        if documents > 1:
            self._stop(place, "A second YAML document begins here.", "Keep one document a file.")
        if event.version is not None and tuple(event.version) != (1, 2):
            self._note(place, "The configuration is YAML 1.2.", "Leave the %YAML line out.")
        if event.tags:
            self._note(place, "Tags are not allowed.", "Leave the %TAG line out.")

    def _descend(self, place: Place) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._stop(place, f"More than {MAX_DEPTH} levels are nested here.", "Flatten it.")

    def _spend(self, place: Place) -> None:
        self._budget.left -= 1
        if self._budget.left < 0:
            self._stop(
                place,
                f"The configuration has more than {MAX_NODES} values.",
                "Check whether the right file was named.",
            )

    def _note(self, place: Place, message: str, hint: str = "") -> None:
        self.problems.append(Problem.at(place, tuple(self._path), message, hint))

    def _stop(self, place: Place, message: str, hint: str) -> None:
        # The path is left out: it may not be the one the reader sees after a slipped indent.
        self.problems.append(Problem.at(place, (), message, hint))
        raise UnreadableError(tuple(self.problems))

    def _place(self, mark: StreamMark) -> Place:
        return Place(self._file, mark.line + 1, mark.column + 1)


def _next_node(events: Iterator[Event]) -> NodeEvent:
    event = next(events)
    if not isinstance(event, NodeEvent):  # the parser always gives a key its value
        raise TypeError(f"a value was expected, not {type(event).__name__}")
    return event


def _resolved(text: str) -> Plain:
    if _NULL.fullmatch(text):
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED_INTEGER.fullmatch(text):
        return int(text, 0)
    if _FRACTION.fullmatch(text):
        return Decimal(text)
    return text


def _refuse_control_characters(text: str, file: str) -> None:
    found = _UNPRINTABLE.search(text, 1 if text.startswith("\ufeff") else 0)
    if found is None:
        return
    before = text[: found.start()]
    line = before.count("\n") + 1
    column = found.start() - (before.rfind("\n") + 1) + 1
    raise UnreadableError(
        (
            Problem.at(
                Place(file, line, column),
                (),
                f"A control character (U+{ord(found[0]):04X}) stands here.",
                "Remove it; is this a text file?",
            ),
        )
    )


_PLAIN_WORDS: Final = (
    ("'\\t' that cannot start", "A tab stands where only spaces may.", "Indent with spaces."),
    ("mapping values are not allowed", "A ':' stands where no key can be.",
     'Check the indentation, and put text that contains ": " in quotes.'),
    ("that cannot start any token", "A value cannot begin with this character.",
     "Put the value in quotes."),
    ("found unexpected end of stream", "The file ends inside a quoted text.",
     "Close the quotes that were opened before."),
    ("unknown escape character", "There is no such backslash escape.",
     "Write \\\\ for a backslash, or use single quotes."),
    ("could not find expected ':'", "This line is no 'KEY: VALUE'.",
     "Add the ':' and a space after the key, or check the indentation."),
    ("expected ',' or '}'", "A '{' is not closed, or a ',' is missing.", "Complete the {...}."),
    ("expected ',' or ']'", "A '[' is not closed, or a ',' is missing.", "Complete the [...]."),
    ("expected <block end>", "This line does not line up with those before it.",
     "Check the indentation, and quotes opened or closed on the line before."),
    ("did not find expected", "Something is missing before this.", "Check the lines before."),
    ("expected the node content", "A value is missing here.", "Write it, or remove the sign."),
    ("did not find expected hexadecimal", "A backslash escape is cut short.", "Complete it."),
    ("incompatible YAML document", "The configuration is YAML 1.2.", "Leave the %YAML line out."),
)  # fmt: skip


def _in_plain_words(error: MarkedYAMLError) -> tuple[str, str]:
    # The parser's own words may quote the text, and that may be a secret.
    problem = error.problem or ""
    for sign, message, hint in _PLAIN_WORDS:
        if sign in problem:
            return message, hint
    return "The YAML cannot be read here.", "Check this line's punctuation and indentation."


@dataclass(frozen=True, slots=True)
class Places:
    """Answers where a key path of a loaded configuration is written."""

    root: Node = field(compare=False, repr=False)

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """Where the value at `path` (or its key) is written."""
        return locate(self.root, path, key=key)
