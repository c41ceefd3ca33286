"""Looking at a connection without reading its records: token, scopes, properties, pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.base import CheckReport, ConnectionSettings, Problem, Stream
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MisconfiguredConnection,
    PermissionMissing,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
)
from connectors.fieldmap import missing_fields
from connectors.hubspot.client import Account, HubSpotClient
from connectors.hubspot.defaults import CHOOSES_PIPELINES, LINK, defaults_of
from connectors.hubspot.fields import properties_of
from connectors.hubspot.links import is_settled
from connectors.hubspot.paths import CAMPAIGNS as CAMPAIGNS_PATH
from connectors.hubspot.paths import EXCHANGE_RATES
from connectors.hubspot.pull import read_pipelines
from connectors.hubspot.streams import (
    MISSING_REMEDY,
    NOT_OF_PROPERTIES,
    chosen_pipelines,
    is_optional,
    map_request,
    pipeline_objects,
    streams_of,
)
from store.canonical import Campaign, Owner, Rate, Stage

_ANY_ID = "1"
"""Asking for the links of a record that need not exist shows whether one may ask."""


def check(client: HubSpotClient, settings: ConnectionSettings) -> CheckReport:
    """Look at everything this connection is configured to read."""
    place = f"connections.{settings.name}"
    try:
        account = client.account
    except ConnectorError as error:
        return CheckReport(org_id=None, problems=[_login_problem(place, error)])
    problems = list(_differences(settings, account))
    try:
        streams = streams_of(settings)
    except MisconfiguredConnection as error:
        streams = ()
        problems.append(_problem(f"{place}.streams", error))
    for stream in streams:
        # What was found before a fault stays said.
        try:
            problems.extend(_stream_problems(client, settings, stream))
            _try_to_read(client, settings, stream)
        except ConnectorError as error:
            problem = _problem(f"{place}.streams.{stream.name}", error)
            is_off = isinstance(error, (PermissionMissing, RequestRefused)) and is_optional(stream)
            problems.append(replace(problem, is_error=not is_off))
    return CheckReport(org_id=account.portal_id, problems=problems)


def _stream_problems(
    client: HubSpotClient, settings: ConnectionSettings, stream: Stream
) -> list[Problem]:
    if stream.name in NOT_OF_PROPERTIES:
        return []
    properties = properties_of(client.properties(stream.object).results)
    return [
        Problem(
            place=f"connections.{settings.name}.streams.{stream.name}.fields.{missing.name}",
            message=missing.message.removesuffix(MISSING_REMEDY).strip(),
            remedy=MISSING_REMEDY,
            is_error=missing.is_required,
        )
        for missing in missing_fields(map_request(settings, stream, properties))
    ]


def _try_to_read(client: HubSpotClient, settings: ConnectionSettings, stream: Stream) -> None:
    """Make the calls that a pull would make, each for as little as shows that it may."""
    match stream.name:
        case Owner.STREAM:
            client.owners(archived=False, after=None)
        case Stage.STREAM:
            for object_name in pipeline_objects(settings):
                read_pipelines(client, object_name)
        case Campaign.STREAM:
            client.resource(CAMPAIGNS_PATH, [("limit", "1")])
        case Rate.STREAM:
            client.resource(EXCHANGE_RATES, [("limit", "1")])
        case _:
            _try_to_read_records(client, settings, stream)


def _try_to_read_records(
    client: HubSpotClient, settings: ConnectionSettings, stream: Stream
) -> None:
    client.page(stream.object, after=None, limit=1)
    if stream.name in CHOOSES_PIPELINES:
        chosen_pipelines(settings, stream, read_pipelines(client, stream.object))
    own = settings.streams[stream.name].fields if stream.name in settings.streams else {}
    for source in {**defaults_of(stream.name, stream.object), **own}.values():
        if source.source.startswith(LINK):
            to_object = source.source.removeprefix(LINK)
            client.links(stream.object, to_object, [{"id": _ANY_ID}], is_settled)


def _login_problem(place: str, error: ConnectorError) -> Problem:
    is_of_login = isinstance(error, (AuthenticationFailed, PermissionMissing))
    return _problem(f"{place}.auth" if is_of_login else place, error)


def _problem(place: str, error: ConnectorError) -> Problem:
    return Problem(place=place, message=error.message, remedy=_remedy(error))


def _remedy(error: ConnectorError) -> str:
    match error:
        case AuthenticationFailed():
            return "Create a service key in HubSpot and put it where auth.token points to."
        case PermissionMissing():
            return "Add the scope to the service key or private app in HubSpot, then check again."
        case MisconfiguredConnection():
            return "Correct the configuration as it says, or create what is missing in HubSpot."
        case QuotaExhausted():
            return "Wait until then, or pull less often."
        case CrmUnavailable() | RateLimited():
            return "Check the address and the network, then try again; HubSpot may be down."
        case _:
            return "See docs/hubspot for what the access token needs."


def _differences(settings: ConnectionSettings, account: Account) -> Iterator[Problem]:
    """Where the portal and the configured company do not mean the same day or money."""
    company = settings.company
    if account.timezone and not _is_same_zone(account.timezone, company.timezone):
        yield Problem(
            place="company.timezone",
            message=(
                f"HubSpot's account is in {account.timezone}, the company in {company.timezone}:"
                " a deal closed around midnight counts on another day than in HubSpot's own"
                " reports."
            ),
            remedy="Use the same time zone in both, if that is not meant.",
            is_error=False,
        )
    if account.currency and account.currency != company.currency:
        yield Problem(
            place="company.currency",
            message=(
                f"HubSpot's account is kept in {account.currency}, the company in"
                f" {company.currency}: amounts without a currency of their own are taken as"
                f" {account.currency}."
            ),
            remedy=f"Give a rate for {account.currency} under company.fx.",
            is_error=False,
        )


def _is_same_zone(name: str, zone: tzinfo) -> bool:
    """Whether both zones agree throughout the year; one zone has several names."""
    try:
        other = ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError):
        return False
    start = datetime.now(UTC)
    instants = (start + timedelta(days=days) for days in range(0, 366, 5))
    return all(
        at.astimezone(zone).utcoffset() == at.astimezone(other).utcoffset() for at in instants
    )
