"""Every key of the format with its meaning, for the documentation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.models import Config
from config.scalars import Cron, Interval

MARK: Final = "<!-- keys -->\n"
"""What stands above the keys in the documentation."""

_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the format."""

    path: str
    """Dotted; ``NAME`` stands for a name of the user's choice or a list position."""
    meaning: str
    default: str
    """As it would be written; empty: none, or nothing."""


def keys() -> tuple[Key, ...]:
    """Every key, in the order of the models; a key of several CRMs or flows comes once."""
    found: dict[str, Key] = {}
    for key in _walk(Config, ""):
        found.setdefault(key.path, key)
    return tuple(found.values())


def markdown() -> str:
    """The keys as tables, one for each top-level key."""
    lines: list[str] = []
    section = ""
    for key in keys():
        top = key.path.partition(".")[0]
        if top != section:
            section = top
            lines += ["", f"### {top}", "", "| key | meaning | default |", "|---|---|---|"]
        default = f"`{key.default}`" if key.default else ""
        lines.append(f"| `{key.path}` | {key.meaning} | {default} |".replace("  |", " |"))
    return "\n".join(lines).strip() + "\n"


def _walk(annotation: Any, path: str) -> Iterator[Key]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _walk(get_args(annotation)[0], path)
    elif origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _walk(member, path)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _walk(get_args(annotation)[1], f"{path}.NAME")
    elif origin is tuple:
        yield from _walk(get_args(annotation)[0], f"{path}.NAME")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            key = f"{path}.{field.alias or name}".removeprefix(".")
            yield Key(key, field.description or "", _default(field))
            yield from _walk(field.annotation, key)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return _written(field.get_default(call_default_factory=True, validated_data={}))


def _written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | str():
            return str(value)
        case Interval(every=every):
            return _span(every)
        case Cron(expression=expression):
            return f'"{expression.lower()}"'
        case timedelta():
            return _span(value)
        case Decimal():
            return f"{(value * 100).normalize():f}%"
        case tuple() if value and all(isinstance(item, str) for item in value):
            return f"[{', '.join(value)}]"
        case _:
            return ""


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return next(f"{seconds // size}{unit}" for size, unit in _SPANS if seconds % size == 0)


def write_into(page: Path) -> None:
    """Put the keys below the mark of a page, in place of what stands there."""
    before, mark, _ = page.read_text(encoding="utf-8").partition(MARK)
    page.write_text(f"{before}{mark}\n{markdown()}", encoding="utf-8")


if __name__ == "__main__":
    write_into(Path(sys.argv[1]))
