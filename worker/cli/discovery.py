"""discover: what a CRM holds, and the lines of YAML that would read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from config.errors import did_you_mean
from connectors.base import DiscoveredField, DiscoveredObject, Discovers
from connectors.errors import MisconfiguredConnection
from store.canonical import RECORD_TYPES
from worker.cli.app import CommandError, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.output import Printer
from worker.runtime import Runtime

_LEAST_FILLED: Final = 0.05
"""Fields that fewer records hold are shown, but not proposed."""

_VALUES_SHOWN: Final = 6


@app.command()
def discover(
    context: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="CONN, or CONN.STREAM or CONN.OBJECT; else all.")
    ] = None,
) -> None:
    """Objects, fields with fill rates, stages, and ready-to-paste YAML."""
    session = session_of(context)
    printer = session.printer
    with session.runtime() as runtime:
        connection, _, wanted = (target or "").partition(".")
        names = [connection] if connection else list(runtime.config.connections)
        for name in names:
            source = _source(runtime, name)
            if wanted:
                _show_object(printer, name, _one(source, name, wanted))
            else:
                _show_objects(printer, name, source.objects())


def _source(runtime: Runtime, name: str) -> Discovers:
    known = tuple(runtime.config.connections)
    if name not in known:
        raise CommandError(
            ExitCode.USAGE, f'there is no connection "{name}". {did_you_mean(name, known)}'
        )
    connector = runtime.connector(name)
    if not isinstance(connector, Discovers):
        raise MisconfiguredConnection(name, "This kind of connection cannot list what it holds.")
    return connector


def _one(source: Discovers, connection: str, wanted: str) -> DiscoveredObject:
    """An object by its own name or by that of its canonical stream."""
    objects = source.objects()
    for one in objects:
        if wanted in {one.name, one.stream}:
            return source.discover(one.name)
    known = tuple(name for one in objects for name in (one.stream, one.name) if name)
    raise CommandError(
        ExitCode.USAGE, f'{connection} shows no "{wanted}". {did_you_mean(wanted, known)}'
    )


def _show_objects(printer: Printer, connection: str, objects: Sequence[DiscoveredObject]) -> None:
    if printer.is_json:
        printer.document({"connection": connection, "objects": [asdict(one) for one in objects]})
        return
    printer.table(
        ("object", "label", "stream", "records"),
        ((one.name, one.label, one.stream, one.count) for one in objects),
        title=connection,
        numbers=("records",),
    )


def _show_object(printer: Printer, connection: str, one: DiscoveredObject) -> None:
    if printer.is_json:
        printer.document(
            {"connection": connection, **asdict(one), "yaml": as_yaml(connection, one)}
        )
        return
    printer.table(
        ("field", "label", "type", "filled", "example", "notes"),
        (
            (
                field.name,
                field.label,
                field.type,
                fill_share(field, one),
                field.sample,
                _notes(field),
            )
            for field in one.fields
        ),
        title=f"{connection}.{one.name} ({_counted(one)})",
        numbers=("filled",),
    )
    if one.stages:
        printer.table(
            ("pipeline", "stage", "id", "closed", "won", "probability"),
            (
                (
                    stage.pipeline_label or stage.pipeline,
                    stage.label,
                    stage.ref.key,
                    "closed" if stage.is_closed else "open",
                    "won" if stage.is_won else "",
                    stage.probability,
                )
                for stage in one.stages
            ),
            title="stages",
        )
    printer.text(as_yaml(connection, one))


def as_yaml(connection: str, one: DiscoveredObject) -> str:
    """A part of a configuration that reads an object with its own fields.

    Args:
        connection: the connection's name.
        one: the object, as `Discovers.discover` found it.
    """
    choice = "" if one.stream else "  # choose the stream that these records are"
    lines = [
        "connections:",
        f"  {connection}:",
        "    streams:",
        f"      {one.stream or 'survey_responses'}:{choice}",
        f"        object: {one.name}",
    ]
    proposed = [field for field in one.fields if field.is_custom and _is_worth_mapping(field, one)]
    if proposed:
        lines.append("        fields:")
        lines.extend(
            f"          {name}: {field.name}{_comment(field, one)}"
            for name, field in named_fields(proposed, one.stream)
        )
    return "\n".join(lines)


def _is_worth_mapping(field: DiscoveredField, one: DiscoveredObject) -> bool:
    return field.filled is None or not one.sampled or field.filled >= _LEAST_FILLED * one.sampled


def named_fields(
    fields: Sequence[DiscoveredField], stream: str | None
) -> Iterator[tuple[str, DiscoveredField]]:
    """Names for own fields: the canonical one where it fits, each once."""
    canonical = set(RECORD_TYPES[stream].__dataclass_fields__) if stream else set()
    taken: set[str] = set()
    for field in fields:
        plain = re.sub(r"[^a-z0-9]+", "_", field.name.removesuffix("__c").lower()).strip("_")
        name = plain if plain in canonical and plain not in {"ref", "extra"} else f"x_{plain}"
        while name in taken:
            name += "_2"
        taken.add(name)
        yield name, field


def _comment(field: DiscoveredField, one: DiscoveredObject) -> str:
    parts = [field.type]
    if share := fill_share(field, one):
        parts.append(f"filled {share}")
    if field.values:
        shown = ", ".join(field.values[:_VALUES_SHOWN])
        parts.append(shown + (" ..." if len(field.values) > _VALUES_SHOWN else ""))
    if field.is_calculated:
        parts.append("calculated: changes without a trace")
    return "  # " + "; ".join(parts).replace("\n", " ")


def fill_share(field: DiscoveredField, one: DiscoveredObject) -> str:
    """The share of the sampled records that hold a value, for people; empty: nobody knows."""
    if field.filled is None or not one.sampled:
        return ""
    return f"{100 * field.filled / one.sampled:.0f} %"


def _notes(field: DiscoveredField) -> str:
    marks = (("own", field.is_custom), ("calculated", field.is_calculated))
    notes = [word for word, is_so in marks if is_so]
    if field.values:
        notes.append(", ".join(field.values[:_VALUES_SHOWN]))
    return "; ".join(notes)


def _counted(one: DiscoveredObject) -> str:
    count = "?" if one.count is None else f"{one.count:,}"
    return f"{count} records, {one.sampled:,} looked at"
