"""Which streams the KPIs live on: those that nobody reads, and those that are late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from config.errors import Path, Problem
from config.models import Config
from metrics.catalog import Catalog
from metrics.definition import Kpi
from metrics.families import sources_of
from worker.runtime import Runtime
from worker.status import StreamStatus, stream_states

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "deals": ("deals",),
    "visits": ("deals",),
    "stages": ("deals",),
    "purchases": ("deals",),
    "credits": ("deals", "campaign_members"),
    "tickets": ("tickets",),
    "closings": ("tickets",),
    "leads": ("leads",),
    "surveys": ("survey_responses",),
    "emails": ("email_statistics",),
    "contracts": ("contracts",),
}
"""Source of facts -> the configured streams without which it has none."""

_COSTS: Final = ("campaigns", "costs")

_HISTORY: Final[Mapping[str, tuple[str, ...]]] = {
    "visits": ("deal_stage_changes",),
    "closings": ("ticket_status_changes",),
}
"""Streams that come along with those."""

_OR: Final[Mapping[str, str]] = {"costs": " or campaigns"}
"""Streams in whose place another one will do."""

_SHOWN: Final = 6


def _sources(catalog: Catalog, kpi: Kpi) -> frozenset[str]:
    return frozenset(
        source
        for kind in catalog.kinds_of(kpi)
        for family in catalog.families_of(kpi, kind)
        for source in sources_of(family)
    )


# ---------------------------------------------------------------- that nobody reads


def unfed_problems(
    config: Config, catalog: Catalog, objects: Mapping[str, Mapping[str, str]]
) -> Iterator[Problem]:
    """A warning for each stream that kept KPIs need and nobody reads, and for fields of theirs.

    Args:
        config: the configuration.
        catalog: what it keeps.
        objects: connection -> stream -> what it is read from by default.
    """
    unfed = unfed_kpis(config, catalog)
    by_stream: dict[str, list[str]] = defaultdict(list)
    for kpi, missing in unfed.items():
        for stream in missing:
            by_stream[stream].append(kpi)
    for stream, kpis in sorted(by_stream.items()):
        either = f"{stream}{_OR.get(stream, '')}"
        yield config.problem(
            ("kpis", "use"),
            f"No connection reads {either}: {_listed(kpis)} will have no value.",
            f"{_givers(config, stream, objects)} Or leave the KPIs out with kpis.skip.",
        )
    for name, writeback in config.writebacks.items():
        for field, written in writeback.fields.items():
            if written.kpi in unfed:
                path: Path = ("writebacks", name, "fields", field)
                message = (
                    f'Nothing is written to {field}: "{written.kpi}" will have no value, for no '
                    f"connection reads {' and '.join(unfed[written.kpi])}."
                )
                yield config.problem(path, message)


def unfed_kpis(config: Config, catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """The kept KPIs that can have no value -> the streams they need and nobody reads."""
    read = frozenset(name for one in config.connections.values() for name in one.streams)
    return {kpi.name: missing for kpi in catalog.kpis if (missing := _missing(catalog, kpi, read))}


def _missing(catalog: Catalog, kpi: Kpi, read: frozenset[str]) -> tuple[str, ...]:
    """The streams that a KPI cannot do without and that nobody reads."""
    sources = _sources(catalog, kpi)
    needed = {stream for source in sources for stream in _NEEDED.get(source, ())}
    if "costs" in sources and not catalog.settings.costs and read.isdisjoint(_COSTS):
        needed.add("costs")
    return tuple(sorted(needed - read))


def _listed(kpis: Sequence[str]) -> str:
    shown = ", ".join(kpis[:_SHOWN])
    return f"{shown} and {len(kpis) - _SHOWN} more" if len(kpis) > _SHOWN else shown


def _givers(config: Config, stream: str, objects: Mapping[str, Mapping[str, str]]) -> str:
    if stream == "costs":
        campaigns = _givers(config, "campaigns", objects)
        return f"{campaigns} Costs that no campaign holds come from a stream costs or a file."
    ready = [name for name in config.connections if objects.get(name, {}).get(stream)]
    if ready:
        places = " or ".join(f"connections.{name}.streams" for name in ready)
        return f"Add `{stream}: {{}}` to {places}."
    places = " or ".join(f"connections.{name}.streams" for name in config.connections)
    return (
        f"Name the object, file or query that holds them in {places} "
        f"(`{stream}: {{object: ...}}`), or add a connection of the type files or sql."
    )


# ---------------------------------------------------------------- that are late


@dataclass(frozen=True, slots=True)
class Freshness:
    """Up to when the records behind a KPI are known."""

    complete_until: datetime | None
    """The earliest checkpoint of its streams; None: one was never read to its end."""
    late: tuple[str, ...]
    """``CONNECTION.STREAM`` of those that are late, paused, failed or held."""

    def to_json(self) -> dict[str, object]:
        """The keys that stand beside a value."""
        return {"complete_until": self.complete_until, "late": list(self.late)}


def freshness(
    runtime: Runtime, conn: Connection, catalog: Catalog, kpis: Sequence[str]
) -> Mapping[str, Freshness]:
    """How fresh the records behind these KPIs are.

    Args:
        runtime: whose connections count.
        conn: in `store.engine.reading`.
        catalog: what is kept.
        kpis: names; those that are not kept are left out.
    """
    states = stream_states(runtime, conn)
    met = {(one.connection, one.stream) for one in states}
    unread = [
        (connection, stream)
        for connection, section in runtime.config.connections.items()
        for stream in section.streams
        if (connection, stream) not in met
    ]
    kept = {kpi.name: kpi for kpi in catalog.kpis}
    return {name: _freshness(states, unread, catalog, kept[name]) for name in kpis if name in kept}


def _freshness(
    states: Sequence[StreamStatus], unread: Sequence[tuple[str, str]], catalog: Catalog, kpi: Kpi
) -> Freshness:
    sources = _sources(catalog, kpi)
    wanted = {
        stream
        for source in sources
        for stream in (*_NEEDED.get(source, ()), *_HISTORY.get(source, ()))
    }
    if "costs" in sources:
        wanted.update(_COSTS)
    feeding = [one for one in states if one.stream in wanted]
    known = [one.checkpoint for one in feeding if one.checkpoint is not None]
    never = [f"{connection}.{stream}" for connection, stream in unread if stream in wanted]
    is_complete = known and len(known) == len(feeding) and not never
    late = [
        f"{one.connection}.{one.stream}" for one in feeding if one.state not in {"ok", "running"}
    ]
    return Freshness(
        complete_until=min(known) if is_complete else None, late=tuple(sorted([*late, *never]))
    )
