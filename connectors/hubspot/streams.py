"""Which streams a portal offers as configured, and how each is read in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from connectors.base import ConnectionSettings, Stream, StreamSettings
from connectors.errors import MisconfiguredConnection
from connectors.fieldmap import FieldMap, MapRequest, compile_fieldmap
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.fields import (
    ALWAYS,
    DEALS,
    DEFAULTS,
    LINK,
    MAY_LACK,
    STREAM_OBJECTS,
    Property,
    native_field,
    properties_of,
)
from connectors.hubspot.mapping import AccountMapper, DealMapper, Pipelines
from connectors.hubspot.pull import MapRow, ObjectPlan, read_pipelines
from store.canonical import Deal, Owner, Stage, StageChange

_IMPLIED: Final = frozenset({Owner.STREAM, Stage.STREAM})
MISSING_REMEDY: Final = (
    "Create the property in HubSpot, map another one, or give the access token the scope to see it."
)


def streams_of(settings: ConnectionSettings) -> Sequence[Stream]:
    """The streams of a connection, in the order in which to pull them.

    Raises:
        MisconfiguredConnection: the configuration names one that cannot be read.
    """
    wanted = settings.streams or dict.fromkeys(DEFAULTS, StreamSettings())
    for name, one in wanted.items():
        _refuse_unsupported(settings.name, name, one)
    return [
        Stream(
            name=name,
            object=native,
            yields=(name, StageChange.STREAM) if name == Deal.STREAM else (name,),
        )
        for name, native in STREAM_OBJECTS.items()
        if name in wanted or name in _IMPLIED
    ]


def map_request(
    settings: ConnectionSettings, stream: Stream, properties: Mapping[str, Property]
) -> MapRequest:
    """What is to be mapped, against the properties that the token sees."""
    return MapRequest(
        connection=settings.name,
        crm="HubSpot",
        stream=stream.name,
        object=stream.object,
        company=settings.company,
        defaults=DEFAULTS[stream.name],
        own=_settings_of(settings, stream).fields,
        look_up=lambda name: native_field(name, properties),
        missing_remedy=MISSING_REMEDY,
        may_lack=MAY_LACK,
        percent_divisor=1,
    )


def plan_of(client: HubSpotClient, settings: ConnectionSettings, stream: Stream) -> ObjectPlan:
    """Look at what the portal has today, and settle how a stream is read in this run.

    Raises:
        MisconfiguredConnection: a required property or a chosen pipeline is not there.
    """
    answer = client.properties(stream.object)
    properties = properties_of(answer.results)
    fieldmap = compile_fieldmap(map_request(settings, stream, properties))
    sources = [name for name in fieldmap.sources if not name.startswith(LINK)]
    links = [name.removeprefix(LINK) for name in fieldmap.sources if name.startswith(LINK)]
    map_row, history = _mapper(client, settings, stream, fieldmap)
    return ObjectPlan(
        stream=stream.name,
        object=stream.object,
        properties=tuple(dict.fromkeys([*ALWAYS, *sources])),
        history=history,
        links=links,
        map_row=map_row,
        warnings=fieldmap.warnings,
        unreadable=fieldmap.unreadable,
        began=answer.at,
    )


def chosen_pipelines(
    settings: ConnectionSettings, stream: Stream, pipelines: Pipelines
) -> frozenset[str]:
    """The native ids of the pipelines that the configuration names by label or id.

    Raises:
        MisconfiguredConnection: there is no such pipeline.
    """
    chosen: set[str] = set()
    for name in _settings_of(settings, stream).pipelines:
        found = [one for one, label in pipelines.labels.items() if name in {one, label}]
        if not found:
            known = ", ".join(f'"{label}"' for label in pipelines.labels.values()) or "none"
            raise MisconfiguredConnection(
                settings.name,
                f"connections.{settings.name}.streams.{stream.name}.pipelines: HubSpot has no"
                f' pipeline "{name}". Known are: {known}.',
            )
        chosen.update(found)
    return frozenset(chosen)


def _mapper(
    client: HubSpotClient, settings: ConnectionSettings, stream: Stream, fieldmap: FieldMap
) -> tuple[MapRow, Sequence[str]]:
    """How a row is mapped, and the properties whose past it needs."""
    currency = client.account.currency
    # Without a currency of its own an amount is in the portal's, wherever the company is.
    home_currency = None if currency == settings.company.currency else currency
    if stream.name != Deal.STREAM:
        return AccountMapper(settings.name, fieldmap, home_currency).map, ()
    pipelines = read_pipelines(client, DEALS)
    stage, pipeline, is_closed, is_won = (
        fieldmap.source_of(name) or "" for name in ("stage", "pipeline", "is_closed", "is_won")
    )
    deals = DealMapper(
        settings.name,
        fieldmap,
        pipelines,
        chosen=chosen_pipelines(settings, stream, pipelines),
        home_currency=home_currency,
        flags=(is_closed, is_won),
        stage_source=stage,
        pipeline_source=pipeline,
    )
    return deals.map, (stage,)


def _settings_of(settings: ConnectionSettings, stream: Stream) -> StreamSettings:
    return settings.streams.get(stream.name) or StreamSettings()


def _refuse_unsupported(connection: str, name: str, settings: StreamSettings) -> None:
    place = f"connections.{connection}.streams.{name}"
    if name not in STREAM_OBJECTS:
        raise MisconfiguredConnection(
            connection,
            f"{place}: HubSpot's {name} cannot be read yet. Take the stream out;"
            f" there are: {', '.join(DEFAULTS)}.",
        )
    if settings.where:
        raise MisconfiguredConnection(
            connection,
            f"{place}.where: HubSpot has no filter language. Take it out;"
            " deals can be chosen by pipelines.",
        )
    if settings.object not in {None, STREAM_OBJECTS[name]}:
        raise MisconfiguredConnection(
            connection,
            f"{place}.object: {settings.object} cannot be read as {name}."
            f" Use {STREAM_OBJECTS[name]}.",
        )
    if settings.pipelines and name != Deal.STREAM:
        raise MisconfiguredConnection(
            connection, f"{place}.pipelines: only deals are in pipelines. Take it out."
        )
