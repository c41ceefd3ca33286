"""How results reach people and programs: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, TextIO

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = Console(width=1000).options


def printable(value: object) -> str:
    """Text without control bytes: what comes from a CRM never drives the terminal."""
    if isinstance(value, datetime):
        value = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    text = "" if value is None else str(value)
    return "".join(
        character if not unicodedata.category(character).startswith("C") else " "
        for character in text
    )


def as_json(value: object) -> object:
    """Decimals as strings in plain notation, instants in UTC with a Z."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): as_json(inner) for key, inner in value.items()}
        case str() | int() | float() | bool() | None:
            return value
        case Iterable():
            return [as_json(inner) for inner in value]
        case _:
            return str(value)


class Printer:
    """Writes results to stdout and words to stderr."""

    def __init__(self, *, is_json: bool, is_quiet: bool, color: bool) -> None:
        self.is_json = is_json
        self.is_quiet = is_quiet
        self.console = Console(no_color=not color, highlight=False, soft_wrap=True)
        self.errors = Console(stderr=True, no_color=not color, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A sentence for the person at the terminal."""
        if not self.is_quiet:
            self.errors.print(Text(printable_lines(text)))

    def warn(self, text: str) -> None:
        """A sentence that --quiet does not hide."""
        self.errors.print(Text(printable_lines(text), style="yellow"))

    def fail(self, text: str) -> None:
        """Why the command could not do what was asked."""
        self.errors.print(Text(printable_lines(text), style="red"))

    def document(self, value: object) -> None:
        """One JSON document on stdout."""
        sys.stdout.buffer.write(orjson.dumps(as_json(value), option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.flush()

    def lines(self, values: Iterable[object]) -> None:
        """One JSON object a line."""
        out = sys.stdout.buffer
        for value in values:
            out.write(orjson.dumps(as_json(value)) + b"\n")
        sys.stdout.flush()

    def text(self, value: str) -> None:
        """Plain text on stdout."""
        sys.stdout.write(printable_lines(value) + "\n")
        sys.stdout.flush()

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str | None = None,
        numbers: Sequence[str] = (),
    ) -> None:
        """A table on stdout; columns named in `numbers` are aligned right."""
        table = Table(
            title=title, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        for column in columns:
            justify: Literal["left", "right"] = "right" if column in numbers else "left"
            table.add_column(column, justify=justify, no_wrap=True)
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        # Squeezed columns cannot be read: a long line may rather wrap at the terminal's edge.
        width = self.console.measure(table, options=WIDE).maximum
        Console(no_color=self.console.no_color, highlight=False, width=width).print(table)


def printable_lines(text: str) -> str:
    """Like `printable`, keeping line breaks and tabs."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in text.split("\n"))


def write_json_file(stream: TextIO, value: object) -> None:
    """A JSON document for people to read and programs to load."""
    json.dump(as_json(value), stream, indent=2, ensure_ascii=False)
    stream.write("\n")
