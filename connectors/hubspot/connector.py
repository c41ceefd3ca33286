"""One HubSpot portal behind the seam of ``connectors.base``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.base import (
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    FieldSource,
    LiveRecord,
    NewField,
    Page,
    Problem,
    PushResult,
    SetupResult,
    Stream,
    StreamSettings,
    TargetField,
)
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    MisconfiguredConnection,
    PermissionMissing,
)
from connectors.fieldmap import FieldMap, MapRequest, compile_fieldmap
from connectors.hubspot import push as writing
from connectors.hubspot.client import WRITE_LIMIT, Account, HubSpotClient
from connectors.hubspot.fields import (
    ALWAYS,
    DEALS,
    DEFAULTS,
    LINK,
    OBJECT_STREAMS,
    STREAM_OBJECTS,
    Property,
    native_field,
    property_of,
)
from connectors.hubspot.mapping import AccountMapper, DealMapper
from connectors.hubspot.pull import (
    MapRow,
    ObjectPlan,
    ObjectPull,
    choose,
    pull_owners,
    pull_stages,
    read_pipelines,
)
from store.canonical import Deal, FieldUpdate, StageChange

OWNERS: Final = "owners"
STAGES: Final = "stages"
ACCOUNTS: Final = "accounts"

_IMPLIED: Final = frozenset({OWNERS, STAGES})

CAPABILITIES: Final = Capabilities(
    push_batch=WRITE_LIMIT,
    sees_deletions=True,
    stream_objects=STREAM_OBJECTS,
    object_streams=OBJECT_STREAMS,
)

_REMEDIES: Final[Mapping[type[ConnectorError], str]] = {
    AuthenticationFailed: "Create a service key in HubSpot and put it where auth.token points to.",
    PermissionMissing: "Add the scope to the service key or private app in HubSpot.",
    MisconfiguredConnection: "Correct the configuration, or create what is missing in HubSpot.",
}


def connect(settings: ConnectionSettings) -> HubSpotConnector:
    """Open the connection that `settings` describe; nothing is called over the network yet."""
    return HubSpotConnector(settings)


class HubSpotConnector:
    """One connection to one HubSpot portal.

    Raises:
        MisconfiguredConnection: the settings cannot work.
    """

    capabilities = CAPABILITIES

    def __init__(self, settings: ConnectionSettings) -> None:
        self.calls = CallCounter()
        self._settings = settings
        self._client = HubSpotClient(settings, self.calls)
        self._described: dict[str, Mapping[str, Property]] = {}

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    # ------------------------------------------------------------ looking

    def check(self) -> CheckReport:
        """Authenticate, look at every mapped object and property, and report what is wrong."""
        try:
            account = self._client.account
        except ConnectorError as error:
            return CheckReport(org_id=None, problems=[self._problem("auth", error)])
        problems = list(_differences(self._settings, account))
        for name, look in self._looks():
            try:
                problems += look()
            except ConnectorError as error:
                problems.append(self._problem(f"streams.{name}", error))
        return CheckReport(org_id=account.portal_id, problems=problems)

    def _looks(self) -> Iterator[tuple[str, Callable[[], list[Problem]]]]:
        try:
            streams = self.streams()
        except ConnectorError as error:
            fault = error
            yield "*", lambda: [self._problem("streams", fault)]
            return
        for stream in streams:
            yield stream.name, lambda stream=stream: self._look(stream)  # type: ignore[misc]  # bound early

    def _look(self, stream: Stream) -> list[Problem]:
        """Read as little as shows that the stream can be read."""
        if stream.name == OWNERS:
            self._client.owners(archived=False, after=None)
            return []
        if stream.name == STAGES:
            read_pipelines(self._client, DEALS)
            return []
        plan = self._plan(stream)
        self._client.page(stream.object, after=None, limit=1)
        place = f"connections.{self._settings.name}.streams.{stream.name}.fields"
        remedy = "Create the property in HubSpot, or map the field from another one."
        return [
            Problem(place=place, message=warning, remedy=remedy, is_error=False)
            for warning in plan.warnings
        ]

    def _problem(self, place: str, error: ConnectorError) -> Problem:
        remedy = next(
            (text for kind, text in _REMEDIES.items() if isinstance(error, kind)),
            "Look at the network and at status.hubspot.com, then check again.",
        )
        return Problem(
            place=f"connections.{self._settings.name}.{place}",
            message=error.message,
            remedy=remedy,
        )

    # ------------------------------------------------------------ reading

    def streams(self) -> Sequence[Stream]:
        """The streams this connection reads, in the order in which to pull them.

        Raises:
            MisconfiguredConnection: the configuration names one that cannot be read.
        """
        wanted = self._settings.streams or dict.fromkeys(DEFAULTS, StreamSettings())
        for name, one in wanted.items():
            self._refuse_unsupported(name, one)
        return [
            Stream(name=name, object=native, yields=_yields(name))
            for name, native in STREAM_OBJECTS.items()
            if name in wanted or name in _IMPLIED
        ]

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read a stream: everything (None), from a date on, or from a cursor on."""
        if stream.name == OWNERS:
            return pull_owners(self._client)
        if stream.name == STAGES:
            return pull_stages(self._client, DEALS)
        return self._pull_object(stream, since)

    def _pull_object(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        plan = self._plan(stream)
        yield from ObjectPull(self._client, self._settings, plan).pages(since)

    def _plan(self, stream: Stream) -> ObjectPlan:
        """Look at what the portal has today, and settle how the stream is read in this run."""
        answer = self._client.properties(stream.object)
        properties = _by_name(answer.results)
        self._described[stream.object] = properties
        settings = self._stream_settings(stream.name)
        fieldmap = compile_fieldmap(
            MapRequest(
                connection=self._settings.name,
                crm="HubSpot",
                stream=stream.name,
                object=stream.object,
                company=self._settings.company,
                defaults=DEFAULTS[stream.name],
                own=settings.fields,
                look_up=lambda name: native_field(name, properties),
                missing_remedy=(
                    f"Create the property in HubSpot, map another one under streams.{stream.name}"
                    ".fields, or give the access token the scope"
                    f" crm.schemas.{stream.object}.read."
                ),
                percent_divisor=1,
            )
        )
        sources = [name for name in fieldmap.sources if not name.startswith(LINK)]
        links = [name.removeprefix(LINK) for name in fieldmap.sources if name.startswith(LINK)]
        map_row, history = self._mapper(stream, settings, fieldmap)
        return ObjectPlan(
            stream=stream.name,
            object=stream.object,
            properties=tuple(dict.fromkeys([*ALWAYS, *sources])),
            history=history,
            links=links,
            map_row=map_row,
            warnings=fieldmap.warnings,
            began=answer.at,
        )

    def _mapper(
        self, stream: Stream, settings: StreamSettings, fieldmap: FieldMap
    ) -> tuple[MapRow, Sequence[str]]:
        connection = self._settings.name
        if stream.name == ACCOUNTS:
            return AccountMapper(connection, fieldmap, self._home_currency).map, ()
        sources = {name: one.source for name, one in _sources(stream.name, settings).items()}
        pipelines = read_pipelines(self._client, DEALS)
        deals = DealMapper(
            connection,
            fieldmap,
            pipelines,
            chosen=choose(connection, stream.name, settings.pipelines, pipelines),
            home_currency=self._home_currency,
            flags=(sources["is_closed"], sources["is_won"]),
            stage_source=sources["stage"],
            pipeline_source=sources["pipeline"],
        )
        return deals.map, (sources["stage"],)

    @property
    def _home_currency(self) -> str | None:
        """What amounts without a currency are in, where it is not the company's currency."""
        currency = self._client.account.currency
        return None if currency == self._settings.company.currency else currency

    def _stream_settings(self, name: str) -> StreamSettings:
        return self._settings.streams.get(name) or StreamSettings()

    def _refuse_unsupported(self, name: str, settings: StreamSettings) -> None:
        place = f"connections.{self._settings.name}.streams.{name}"
        if name not in STREAM_OBJECTS:
            raise MisconfiguredConnection(
                self._settings.name,
                f"{place}: HubSpot's {name} cannot be read yet. Take the stream out;"
                f" there are: {', '.join(DEFAULTS)}.",
            )
        if settings.where:
            raise MisconfiguredConnection(
                self._settings.name,
                f"{place}.where: HubSpot has no filter language. Take it out;"
                " deals can be chosen by pipelines.",
            )
        if settings.object not in {None, STREAM_OBJECTS[name]}:
            raise MisconfiguredConnection(
                self._settings.name,
                f"{place}.object: {settings.object} cannot be read as {name}."
                f" Use {STREAM_OBJECTS[name]}.",
            )
        if settings.pipelines and name != Deal.STREAM:
            raise MisconfiguredConnection(
                self._settings.name, f"{place}.pipelines: only deals are in pipelines. Take it out."
            )

    # ------------------------------------------------------------ writing

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Write values, at most 100 records in one call."""
        return writing.push(self._client, updates, batch=self._settings.tuning.push_batch)

    def fields(self, object_name: str) -> Mapping[str, TargetField]:
        """The properties of an object that the token may see, by name."""
        return {
            name: described.as_target() for name, described in self._describe(object_name).items()
        }

    def read(
        self, object_name: str, record_ids: Sequence[str], field_names: Sequence[str]
    ) -> Sequence[LiveRecord]:
        """Live values by id; an id that does not exist any more is left out."""
        properties = self._described.get(object_name, {})
        if not properties.keys() >= set(field_names):
            properties = self._describe(object_name)
        return writing.read(self._client, object_name, record_ids, field_names, properties)

    def create(
        self, object_name: str, fields: Sequence[NewField], *, dry_run: bool
    ) -> Sequence[SetupResult]:
        """Create the properties that are missing; idempotent."""
        return writing.create(
            self._client,
            object_name,
            fields,
            lambda: self._describe(object_name),
            dry_run=dry_run,
        )

    def _describe(self, object_name: str) -> Mapping[str, Property]:
        properties = _by_name(self._client.properties(object_name).results)
        self._described[object_name] = properties
        return properties


def _by_name(results: Sequence[Mapping[str, object]]) -> Mapping[str, Property]:
    return {described.name: described for described in map(property_of, results)}


def _yields(stream: str) -> tuple[str, ...]:
    return (stream, StageChange.STREAM) if stream == Deal.STREAM else (stream,)


def _sources(stream: str, settings: StreamSettings) -> Mapping[str, FieldSource]:
    return {**DEFAULTS[stream], **settings.fields}


def _differences(settings: ConnectionSettings, account: Account) -> Iterator[Problem]:
    """Where the portal and the configured company do not mean the same day or money."""
    if account.timezone and not _is_same_zone(account.timezone, settings.company.timezone):
        yield Problem(
            place="company.timezone",
            message=(
                f"HubSpot's account is in {account.timezone}, the company in"
                f" {settings.company.timezone}: a deal closed around midnight counts on another"
                " day than HubSpot's own reports show."
            ),
            remedy="Use the same time zone in both, if that is not meant.",
            is_error=False,
        )
    if account.currency and account.currency != settings.company.currency:
        yield Problem(
            place="company.currency",
            message=(
                f"HubSpot's account currency is {account.currency}, the company's"
                f" {settings.company.currency}: amounts without a currency of their own count as"
                f" {account.currency}."
            ),
            remedy=f"Give a rate for {account.currency} under company.fx.",
            is_error=False,
        )


def _is_same_zone(name: str, zone: tzinfo) -> bool:
    """Whether both zones agree throughout the year; zones have several names."""
    try:
        other = ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError):
        return False
    start = datetime.now(UTC)
    instants = [start + timedelta(days=days) for days in range(0, 366, 5)]
    return all(
        at.astimezone(zone).utcoffset() == at.astimezone(other).utcoffset() for at in instants
    )
