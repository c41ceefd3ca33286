"""The company's own KPIs: from the configuration to what the catalogue takes, and their faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from config.errors import Path, Problem
from config.models import Config
from config.models import CustomKpi as CustomSection
from metrics.catalog import PACKS, available
from metrics.definition import Kpi
from metrics.expression.definition import CustomFault, Written, faults_of, kpi_of, understood
from metrics.expression.fields import Type, canonical_fields

_TEXTS = frozenset({"where", "numerator", "denominator", "value"})


def written_kpis(config: Config) -> tuple[Written, ...]:
    """Every custom KPI in which nothing is wrong."""
    found = (_written(config, name, one) for name, one in config.kpis.custom.items())
    names = {*available(), *PACKS}
    return tuple(
        one
        for one in found
        if one is not None and one.name not in names and not list(faults_of(one))
    )


def custom_kpis(config: Config) -> Mapping[str, Kpi]:
    """The same as KPIs, by name."""
    return {one.name: kpi_of(understood(one)) for one in written_kpis(config)}


def known_kpis(config: Config) -> Mapping[str, Kpi]:
    """Every KPI that the configuration may name: built-in ones and its own."""
    return {**available(), **custom_kpis(config)}


def _written(config: Config, name: str, section: CustomSection) -> Written | None:
    figure = section.value or section.numerator
    if figure is None:
        return None
    return Written(
        name=name,
        label=section.label or name.replace("_", " ").capitalize(),
        of=section.of,
        date=section.date,
        where=section.where,
        numerator=figure,
        denominator=section.denominator,
        window=None if section.window is None else section.window.days,
        by=tuple(section.by or ()),
        format=section.format,
        own=own_fields(config, section.of),
    )


def own_fields(config: Config, stream: str) -> tuple[tuple[str, str | None], ...]:
    """The fields that the configuration maps in a stream beside the canonical ones.

    Where connections give one field different types, nobody says which it is.
    """
    found: dict[str, str | None] = {}
    known = canonical_fields(stream)
    for connection in config.connections.values():
        for one, section in connection.streams.items():
            for name, source in section.fields.items() if one == stream else ():
                if name not in known:
                    kind = None if source.type is None else str(source.type)
                    found[name] = kind if found.get(name, kind) == kind else None
    return tuple(sorted(found.items()))


def grouping_fields(config: Config) -> Mapping[str, tuple[str, ...]]:
    """Stream -> its fields by which built-in KPIs can be grouped beside their own dimensions."""
    return {
        stream: tuple(
            sorted(
                {name for name, one in canonical_fields(stream).items() if one.type is Type.TEXT}
                | {name for name, _ in own_fields(config, stream)}
            )
        )
        for stream in ("deals", "tickets", "leads", "survey_responses")
    }


# ---------------------------------------------------------------- what is wrong


def custom_problems(config: Config) -> Iterator[Problem]:
    """Everything that is wrong with the company's own KPIs."""
    for name, section in config.kpis.custom.items():
        path: Path = ("kpis", "custom", name)
        if name in available() or name in PACKS:
            message = f'"{name}" is the name of a built-in KPI.'
            yield config.problem(path, message, "Choose another name.", key=True)
        yield from _shape_problems(config, path, section)
        written = _written(config, name, section)
        if written is not None:
            for fault in faults_of(written):
                yield _problem(config, path, section, fault)


def _shape_problems(config: Config, path: Path, section: CustomSection) -> Iterator[Problem]:
    if section.value is None and section.numerator is None:
        hint = "Add value: count(where won), or numerator and denominator."
        yield config.problem(path, "Nobody says what is counted.", hint, key=True)
    if section.value is not None and (section.numerator or section.denominator):
        message = "A value is no ratio: numerator and denominator stand alone."
        yield config.problem((*path, "value"), message, "Keep one of the two forms.")
    window = section.window
    if window is not None and (window.days < 1 or window.seconds or window.days > 9_999):  # noqa: PLR2004 - as a period's name
        message = f"A window of {window} is not a number of days."
        yield config.problem((*path, "window"), message, "Write it like 90d.")
    streams: set[str] = {one for each in config.connections.values() for one in each.streams}
    if section.of not in streams and not _is_implied(section.of, streams):
        message = f"No connection reads {section.of}: there would be no values."
        yield config.problem((*path, "of"), message, f"Add {section.of} to streams.")


def _is_implied(stream: str, streams: set[str]) -> bool:
    return stream in {"deal_lines", "deal_contacts"} and "deals" in streams


def _problem(config: Config, path: Path, section: CustomSection, fault: CustomFault) -> Problem:
    part = fault.part
    if part == "numerator" and section.value is not None:
        part = "value"
    message = fault.fault.message
    if part in _TEXTS:
        message = f"Column {fault.fault.column}: {message}"
    is_there = getattr(section, part, None) is not None
    return config.problem((*path, part) if is_there else path, message, fault.fault.hint)
