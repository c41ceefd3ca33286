"""Which streams a portal offers as configured, and how each is read in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from connectors.base import ConnectionSettings, Stream, StreamSettings
from connectors.errors import (
    ConnectorError,
    MisconfiguredConnection,
    PermissionMissing,
    RequestRefused,
    StreamPaused,
)
from connectors.fieldmap import FieldMap, MapRequest, compile_fieldmap
from connectors.hubspot.client import HubSpotClient, Json
from connectors.hubspot.deals import DealLineMapper, DealMapper
from connectors.hubspot.defaults import (
    CHOOSES_PIPELINES,
    CONTACTS,
    CUSTOMER_STAGE,
    DEALS,
    DERIVED,
    ENTERED,
    LEAD_STAGE,
    LIFECYCLE,
    LINK,
    MAY_LACK,
    MUST_BE_MAPPED,
    PRIMARY_COMPANY,
    STREAM_OBJECTS,
    SUBSCRIPTIONS,
    TICKETS,
    defaults_of,
    modified_property,
    object_name,
)
from connectors.hubspot.derived import (
    Derived,
    derived_of_contacts,
    derived_of_subscriptions,
    derived_of_tickets,
    native_field,
)
from connectors.hubspot.fields import MERGED, RECORD_ID, Property, properties_of
from connectors.hubspot.leads import LeadMapper
from connectors.hubspot.links import try_links
from connectors.hubspot.mapping import NO_PIPELINES, Pipelines, RecordMapper
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.pull import Children, MapRow, ObjectPlan, read_pipelines
from connectors.hubspot.tickets import TicketMapper
from store.canonical import (
    Account,
    Campaign,
    CampaignMember,
    Contact,
    Cost,
    Deal,
    DealContact,
    DealLine,
    EmailStatistics,
    Lead,
    Owner,
    Rate,
    Stage,
    StageChange,
    Ticket,
    TicketStatusChange,
)

_DEFAULT_STREAMS: Final = ("accounts", "deals")
_IMPLIED_BY: Final[Mapping[str, str]] = {DealLine.STREAM: Deal.STREAM, Lead.STREAM: Contact.STREAM}
"""Streams that come with another one, each with that one's name."""
_ALWAYS: Final = frozenset({Owner.STREAM, Stage.STREAM})
_RIDING: Final[Mapping[str, tuple[str, ...]]] = {
    Deal.STREAM: (StageChange.STREAM, DealContact.STREAM),
    Ticket.STREAM: (TicketStatusChange.STREAM,),
}
"""Canonical streams whose records come on the pages of another one."""
_DEPENDENTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    Deal.STREAM: ((StageChange.STREAM, "deal"), (DealContact.STREAM, "deal")),
    Ticket.STREAM: ((TicketStatusChange.STREAM, "ticket"),),
}
"""The same, with the field that names the record with which they go and come back."""
_CHILDREN: Final = {
    Deal.STREAM: Children(stream=DealContact.STREAM, link="deal", object=CONTACTS),
}
NOT_OF_PROPERTIES: Final = frozenset(
    {Owner.STREAM, Stage.STREAM, Campaign.STREAM, EmailStatistics.STREAM, Rate.STREAM}
)
"""Streams that are not read from the records of an object."""

_NEVER_OFF: Final = frozenset({Owner.STREAM, Stage.STREAM, Account.STREAM, Deal.STREAM})

MISSING_REMEDY: Final = (
    "Create the property in HubSpot, map another one, or give the access token the scope to see it."
)


def streams_of(settings: ConnectionSettings) -> Sequence[Stream]:
    """The streams of a connection, in the order in which to pull them.

    Raises:
        MisconfiguredConnection: the configuration names one that cannot be read.
    """
    wanted = settings.streams or dict.fromkeys(_DEFAULT_STREAMS, StreamSettings())
    for name, one in wanted.items():
        _refuse_unsupported(settings.name, name, one)
    return [
        Stream(
            name=name,
            object=_object_of(settings, name),
            yields=(name, *_RIDING.get(name, ())),
            dependents=_DEPENDENTS.get(name, ()),
        )
        for name in STREAM_OBJECTS
        if name in wanted or name in _ALWAYS or _is_implied(settings, name, wanted)
    ]


def is_optional(stream: Stream) -> bool:
    """Whether a portal may be without a stream: a refusal of others is a failure."""
    return stream.name not in _NEVER_OFF


def pipeline_objects(settings: ConnectionSettings) -> tuple[str, ...]:
    """The objects whose pipelines hold stages that the streams name."""
    named = [
        one.object
        for one in streams_of(settings)
        if one.name in CHOOSES_PIPELINES and one.name in (settings.streams or _DEFAULT_STREAMS)
    ]
    return tuple(named) or (DEALS,)


def map_request(
    settings: ConnectionSettings,
    stream: Stream,
    properties: Mapping[str, Property],
    derived: Mapping[str, Derived] | None = None,
) -> MapRequest:
    """What is to be mapped, against the properties that the token sees.

    Raises:
        MisconfiguredConnection: there is no such lifecycle stage.
    """
    made = derived_of(settings, stream, properties) if derived is None else derived
    return MapRequest(
        connection=settings.name,
        crm="HubSpot",
        stream=stream.name,
        object=stream.object,
        company=settings.company,
        defaults=defaults_of(stream.name, stream.object),
        own=settings_of(settings, stream).fields,
        look_up=lambda name: native_field(name, properties, made),
        missing_remedy=MISSING_REMEDY,
        may_lack=MAY_LACK,
        percent_divisor=1,
    )


def derived_of(
    settings: ConnectionSettings,
    stream: Stream,
    properties: Mapping[str, Property],
    stages: Mapping[str, str] | None = None,
) -> Mapping[str, Derived]:
    """The values of a stream that are made of several properties.

    Args:
        settings: The connection.
        stream: One of its streams.
        properties: What the portal has.
        stages: Ids of lifecycle stages by their labels, where they are known.
    """
    if stream.object == CONTACTS:
        named = settings_of(settings, stream).converted_stage or CUSTOMER_STAGE
        return derived_of_contacts(properties, (stages or {}).get(named.lower(), named))
    if stream.object == SUBSCRIPTIONS:
        return derived_of_subscriptions(properties)
    return derived_of_tickets(properties) if stream.object == TICKETS else {}


# ---------------------------------------------------------------- plans


@dataclass(slots=True)
class Planner:
    """Settles how streams are read; remembers which links the token may read."""

    client: HubSpotClient
    settings: ConnectionSettings
    _readable_links: set[tuple[str, str]] = field(default_factory=set)

    def plan(self, stream: Stream, minimum: Minimum) -> ObjectPlan:
        """Look at what the portal has today, and settle how a stream is read in this run.

        Raises:
            StreamPaused: a required property is not there, or the portal has no such object.
            MisconfiguredConnection: a chosen pipeline or lifecycle stage is not there.
        """
        answer = self.client.properties(stream.object)
        minimum.add_whole()
        properties = properties_of(answer.results)
        stages = _lifecycle_stages(answer.results)
        _check_converted_stage(self.settings, stream, stages)
        derived = derived_of(self.settings, stream, properties, stages)
        fieldmap = self._fieldmap(stream, map_request(self.settings, stream, properties, derived))
        links, lost, words = self._links(stream, fieldmap)
        if lost & set(MUST_BE_MAPPED.get(stream.name, ())):
            raise StreamPaused(self.settings.name, " ".join(words))
        currency, about_currency = self.home_currency()
        used = {name: one for name, one in derived.items() if name in fieldmap.sources}
        base = RecordMapper(self.settings.name, stream.name, fieldmap, currency, used)
        membership = self._membership(stream, fieldmap, derived, minimum)
        map_row, history = _mapper(stream, base, membership.pipelines)
        return ObjectPlan(
            stream=stream.name,
            object=stream.object,
            modified=modified_property(stream.object),
            created=_plain(fieldmap.source_of("created_at")),
            properties=_properties(stream, fieldmap.sources, used, membership.decided_by),
            history=history,
            links=links,
            map_row=map_row,
            warnings=(*fieldmap.warnings, *words, *about_currency),
            unreadable=fieldmap.unreadable | lost,
            began=answer.at,
            is_wanted=membership.is_member,
            wanted_by=membership.decided_by,
            children=_CHILDREN.get(stream.name),
            dependents=stream.dependents,
        )

    def _fieldmap(self, stream: Stream, request: MapRequest) -> FieldMap:
        mapped = {**request.defaults, **request.own}
        for name in MUST_BE_MAPPED.get(stream.name, ()):
            if name not in mapped:
                raise MisconfiguredConnection(
                    self.settings.name,
                    f"connections.{self.settings.name}.streams.{stream.name}.fields: {name} is"
                    f" mapped from no property of {stream.object}, and {stream.name} cannot be"
                    f" read without it. Add {name}: PROPERTY.",
                )
        return compile_fieldmap(request)

    # ------------------------------------------------------------ links

    def _links(
        self, stream: Stream, fieldmap: FieldMap
    ) -> tuple[Mapping[str, frozenset[str]], frozenset[str], Sequence[str]]:
        """Readable links with the fields read from them, the fields lost, and words about it."""
        readable: dict[str, frozenset[str]] = {}
        lost: set[str] = set()
        words: list[str] = []
        for target, names in _link_fields(stream, fieldmap).items():
            refusal = self._refusal(stream.object, target)
            if refusal is None:
                readable[target] = names
                continue
            consequence = ", ".join(sorted(names)) or DealContact.STREAM
            words.append(
                f"Links of {stream.object} to {target} cannot be read, so what is stored of"
                f" {consequence} stays as it is: {refusal.message}"
            )
            lost |= names
        return readable, frozenset(lost), words

    def _refusal(self, from_object: str, to_object: str) -> ConnectorError | None:
        if (from_object, to_object) in self._readable_links:
            return None
        try:
            try_links(self.client, from_object, to_object)
        except (PermissionMissing, RequestRefused) as error:
            return error
        self._readable_links.add((from_object, to_object))
        return None

    # ------------------------------------------------------------ money and pipelines

    def home_currency(self) -> tuple[str | None, Sequence[str]]:
        """What an amount without a currency code is in, None: the company's; and words about it."""
        try:
            currency = self.client.account.currency
        except (PermissionMissing, RequestRefused) as error:
            words = (
                "HubSpot does not tell the currency of its account, so amounts without one are"
                f" taken as {self.settings.company.currency}: {error.message}"
            )
            return None, (words,)
        # Without a currency of its own an amount is in the portal's, wherever the company is.
        return (None if currency == self.settings.company.currency else currency), ()

    def _membership(
        self,
        stream: Stream,
        fieldmap: FieldMap,
        derived: Mapping[str, Derived],
        minimum: Minimum,
    ) -> _Membership:
        """Which of the object's records belong to a stream."""
        if stream.name in CHOOSES_PIPELINES:
            pipelines = read_pipelines(self.client, stream.object)
            minimum.add_whole()
            chosen = chosen_pipelines(self.settings, stream, pipelines)
            return _of_pipelines(pipelines, fieldmap.source_of("pipeline") or "", chosen)
        # Whoever dates leads in another way takes every contact as one.
        is_dated = "created_at" in settings_of(self.settings, stream).fields
        if stream.name == Lead.STREAM and stream.object == CONTACTS and not is_dated:
            return _of_leads(derived[ENTERED])
        return _Membership()


def chosen_pipelines(
    settings: ConnectionSettings, stream: Stream, pipelines: Pipelines
) -> frozenset[str]:
    """The native ids of the pipelines that the configuration names by label or id.

    Raises:
        MisconfiguredConnection: there is no such pipeline.
    """
    chosen: set[str] = set()
    for name in settings_of(settings, stream).pipelines:
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


def settings_of(settings: ConnectionSettings, stream: Stream) -> StreamSettings:
    """What the configuration says of a stream."""
    return settings.streams.get(stream.name) or StreamSettings()


# ---------------------------------------------------------------- parts of a plan


@dataclass(frozen=True, slots=True)
class _Membership:
    """Which of an object's records belong to a stream."""

    is_member: Callable[[Json], bool] | None = None
    """None: all of them."""
    decided_by: Sequence[str] = ()
    """The properties it looks at."""
    pipelines: Pipelines = NO_PIPELINES


def _of_pipelines(pipelines: Pipelines, source: str, chosen: frozenset[str]) -> _Membership:
    if not chosen:
        return _Membership(pipelines=pipelines)

    def is_in_chosen(row: Json) -> bool:
        return str((row.get("properties") or {}).get(source)) in chosen

    return _Membership(is_in_chosen, (source,), pipelines)


def _of_leads(entered: Derived) -> _Membership:
    def is_lead(row: Json) -> bool:
        values = row.get("properties") or {}
        return bool(entered.read(values)) or values.get(LIFECYCLE) == LEAD_STAGE

    return _Membership(is_lead, (*entered.sources, LIFECYCLE))


def _mapper(
    stream: Stream, base: RecordMapper, pipelines: Pipelines
) -> tuple[MapRow, Sequence[str]]:
    """How a row is mapped, and the properties whose past it needs."""
    source_of = base.fieldmap.source_of
    match stream.name:
        case Lead.STREAM:
            return LeadMapper(base).map, ()
        case DealLine.STREAM:
            return DealLineMapper(base).map, ()
        case Ticket.STREAM:
            status = source_of("status") or ""
            tickets = TicketMapper(base, pipelines, status, source_of("is_closed") or "")
            return tickets.map, (status,)
        case Deal.STREAM:
            stage = source_of("stage") or ""
            flags = (source_of("is_closed") or "", source_of("is_won") or "")
            return DealMapper(base, pipelines, stage, flags).map, (stage,)
        case _:
            return base.map, ()


def _link_fields(stream: Stream, fieldmap: FieldMap) -> Mapping[str, frozenset[str]]:
    """Linked object -> the fields that are read from the links to it."""
    found: dict[str, frozenset[str]] = {}
    for name in sorted(fieldmap.mapped):
        source = fieldmap.source_of(name) or ""
        if source.startswith(LINK):
            target = source.removeprefix(LINK)
            found[target] = found.get(target, frozenset()) | {name}
    if stream.name in _CHILDREN:
        found.setdefault(_CHILDREN[stream.name].object, frozenset())
    return found


def _properties(
    stream: Stream,
    sources: Iterable[str],
    derived: Mapping[str, Derived],
    decided_by: Sequence[str],
) -> tuple[str, ...]:
    """The properties to ask for; reads ignore the names a portal does not know."""
    plain = [one for one in sources if not one.startswith((LINK, DERIVED))]
    made = [name for one in derived.values() for name in one.sources]
    also = [PRIMARY_COMPANY] if stream.object == CONTACTS else []
    always = [RECORD_ID, modified_property(stream.object), MERGED]
    return tuple(dict.fromkeys([*always, *plain, *made, *also, *decided_by]))


def _plain(source: str | None) -> str | None:
    return None if source is None or source.startswith((LINK, DERIVED)) else source


def _lifecycle_stages(properties: Sequence[Json]) -> Mapping[str, str]:
    """Ids of the lifecycle stages by label and by id, in small letters."""
    options = next((one.get("options") for one in properties if one["name"] == LIFECYCLE), None)
    found = {}
    for option in options or ():
        value = str(option["value"])
        found[str(option.get("label") or value).lower()] = value
    return {**found, **{value.lower(): value for value in found.values()}}


def _check_converted_stage(
    settings: ConnectionSettings, stream: Stream, stages: Mapping[str, str]
) -> None:
    named = settings_of(settings, stream).converted_stage
    if named is None or not stages or named.lower() in stages:
        return
    known = ", ".join(dict.fromkeys(stages.values()))
    raise MisconfiguredConnection(
        settings.name,
        f"connections.{settings.name}.streams.{stream.name}.converted_stage: HubSpot has no"
        f' lifecycle stage "{named}". Known are: {known}.',
    )


def _object_of(settings: ConnectionSettings, name: str) -> str:
    configured = settings.streams.get(name)
    return object_name((configured.object if configured else None) or STREAM_OBJECTS[name])


def _is_implied(settings: ConnectionSettings, name: str, wanted: Iterable[str]) -> bool:
    if name == Rate.STREAM:
        return settings.gives_rates
    by = _IMPLIED_BY.get(name)
    # A stream that is read from another object brings nothing along.
    return by is not None and by in wanted and _object_of(settings, by) == STREAM_OBJECTS[by]


def _refuse_unsupported(connection: str, name: str, settings: StreamSettings) -> None:
    place = f"connections.{connection}.streams.{name}"
    if name not in STREAM_OBJECTS:
        raise MisconfiguredConnection(
            connection,
            f"{place}: HubSpot has no {name}. Take the stream out;"
            f" there are: {', '.join(STREAM_OBJECTS)}.",
        )
    if settings.where:
        raise MisconfiguredConnection(
            connection,
            f"{place}.where: HubSpot has no filter language. Take it out;"
            " deals and tickets can be chosen by pipelines.",
        )
    if not (settings.object or STREAM_OBJECTS[name]):
        raise MisconfiguredConnection(connection, f"{place}.object: {_WHY_NAMED[name]}")
    if settings.object and name in NOT_OF_PROPERTIES and settings.object != STREAM_OBJECTS[name]:
        raise MisconfiguredConnection(
            connection,
            f"{place}.object: {name} are read from HubSpot's {STREAM_OBJECTS[name]} alone."
            f" Take the object out.",
        )
    if settings.pipelines and name not in CHOOSES_PIPELINES:
        raise MisconfiguredConnection(
            connection, f"{place}.pipelines: only deals and tickets are in pipelines. Take it out."
        )


_WHY_NAMED: Final[Mapping[str, str]] = {
    CampaignMember.STREAM: (
        "HubSpot tells which contacts a campaign touched, but not when, so its own campaigns have"
        " no members. Name an object whose records are touches, or take the stream out."
    ),
    Cost.STREAM: (
        "HubSpot keeps no costs but those of its campaigns. Name an object whose records are"
        " costs, or take the stream out."
    ),
}
