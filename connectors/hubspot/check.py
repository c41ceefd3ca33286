"""Looking at a connection without reading its records: token, scopes, properties, pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.base import CheckReport, ConnectionSettings, FieldSource, Problem, Stream
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
from connectors.fieldmap import canonical_fields, missing_fields
from connectors.hubspot.client import Account, HubSpotClient
from connectors.hubspot.defaults import CHOOSES_PIPELINES, CONTACTS, LINK, defaults_of
from connectors.hubspot.fields import Property, properties_of
from connectors.hubspot.links import is_settled
from connectors.hubspot.paths import CAMPAIGNS as CAMPAIGNS_PATH
from connectors.hubspot.paths import EMAILS as EMAILS_PATH
from connectors.hubspot.paths import EXCHANGE_RATES
from connectors.hubspot.pull import read_pipelines
from connectors.hubspot.scopes import scope_problems
from connectors.hubspot.streams import (
    MISSING_REMEDY,
    NOT_OF_PROPERTIES,
    chosen_pipelines,
    is_optional,
    map_request,
    pipeline_objects,
    streams_of,
)
from store.canonical import Campaign, Deal, EmailStatistics, Owner, Rate, Stage

_ANY_ID: Final = "1"
"""Asking for the links of a record that need not exist shows whether one may ask."""

_LOW_QUOTA: Final = 0.1
_FITTING: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "integer": frozenset({"number"}),
        "number": frozenset({"number"}),
        "money": frozenset({"number"}),
        "percent": frozenset({"number"}),
        "date": frozenset({"date", "datetime"}),
        "datetime": frozenset({"date", "datetime"}),
        "boolean": frozenset({"boolean"}),
        "text": frozenset({"text", "number", "date", "datetime", "boolean"}),
        "ref": frozenset({"text", "number"}),
    }
)
"""Type of a canonical field -> kinds of properties whose every value it takes."""

_OF_THE_WHOLE_CONNECTION: Final = (
    AuthenticationFailed,
    CrmUnavailable,
    QuotaExhausted,
    RateLimited,
)
"""Faults that the next call would meet as well: said once, not for every stream."""


def check(client: HubSpotClient, settings: ConnectionSettings) -> CheckReport:
    """Look at everything this connection is configured to read."""
    place = f"connections.{settings.name}"
    try:
        account, problems = _account(client, settings)
        portal_id = account.portal_id if account else client.portal_of_token()
    except ConnectorError as error:
        return CheckReport(org_id=None, problems=[_login_problem(place, error)])
    try:
        streams = streams_of(settings)
    except MisconfiguredConnection as error:
        streams = ()
        problems.append(_problem(f"{place}.streams", error))
    try:
        for stream in streams:
            problems.extend(_stream_problems(client, settings, stream))
        problems.extend(_scope_problems(client, settings, streams))
        problems.extend(_quota_problems(client, settings))
    except _OF_THE_WHOLE_CONNECTION as error:
        # What was found before it stays said; the next call would meet it as well.
        problems.append(_problem(place, error))
    return CheckReport(org_id=portal_id, problems=problems)


def _account(
    client: HubSpotClient, settings: ConnectionSettings
) -> tuple[Account | None, list[Problem]]:
    try:
        account = client.account
    except (PermissionMissing, RequestRefused) as error:
        unseen = _problem(f"connections.{settings.name}.auth", error)
        words = f"{unseen.message} The portal's time zone and currencies stay unknown."
        return None, [replace(unseen, message=words, is_error=False)]
    return account, [*_differences(settings, account), *_currency_problems(settings, account)]


def _stream_problems(
    client: HubSpotClient, settings: ConnectionSettings, stream: Stream
) -> Iterator[Problem]:
    place = f"connections.{settings.name}.streams.{stream.name}"
    try:
        yield from _field_problems(client, settings, stream, place)
        _try_to_read(client, settings, stream)
    except _OF_THE_WHOLE_CONNECTION:
        raise
    except ConnectorError as error:
        is_off = isinstance(error, (PermissionMissing, RequestRefused)) and is_optional(stream)
        yield replace(_problem(place, error), is_error=not is_off)


def _field_problems(
    client: HubSpotClient, settings: ConnectionSettings, stream: Stream, place: str
) -> Iterator[Problem]:
    if stream.name in NOT_OF_PROPERTIES:
        return
    properties = properties_of(client.properties(stream.object).results)
    request = map_request(settings, stream, properties)
    for missing in missing_fields(request):
        yield Problem(
            place=f"{place}.fields.{missing.name}",
            message=missing.message.removesuffix(MISSING_REMEDY).strip(),
            remedy=MISSING_REMEDY,
            is_error=missing.is_required,
        )
    for name, source in {**request.defaults, **request.own}.items():
        described = properties.get(source.source)
        if described is None:
            continue
        if name in request.own and described.is_calculated:
            yield _calculated_problem(f"{place}.fields.{name}", stream, described)
        if not source.values:
            yield from _type_problems(place, stream, name, request.own.get(name), described)


def _calculated_problem(place: str, stream: Stream, described: Property) -> Problem:
    return Problem(
        place=place,
        message=(
            f"{stream.object}.{described.name} is computed by HubSpot: it may change some time"
            " after what it is computed from."
        ),
        remedy="Map a stored property where there is one; else its records are read again when it"
        " has changed.",
        is_error=False,
    )


def _type_problems(
    place: str, stream: Stream, name: str, own: FieldSource | None, described: Property
) -> Iterator[Problem]:
    """A source whose values cannot be read as what the field is, or not all of them."""
    given = own.type if own is not None else None
    wanted = given or canonical_fields(stream.name).get(name, "text")
    if described.kind in _FITTING.get(wanted, frozenset({described.kind})):
        return
    is_text = described.kind == "text"
    if is_text and own is None:
        # HubSpot itself keeps some numbers as text.
        return
    yield Problem(
        place=f"{place}.fields.{name}",
        message=(
            f"{name} is a {wanted}, and {stream.object}.{described.name} holds {described.type}: "
            + (f"what is no {wanted} goes to the dead letters." if is_text else "it never fits.")
        ),
        remedy="Map a property of the right type, or give the values by a value map (values:).",
        is_error=not is_text,
    )


def _scope_problems(
    client: HubSpotClient, settings: ConnectionSettings, streams: Sequence[Stream]
) -> Iterator[Problem]:
    granted = client.granted_scopes()
    if granted is None:
        return
    linked = {CONTACTS for stream in streams if stream.name == Deal.STREAM}
    for stream in streams:
        linked.update(_linked(settings, stream))
    yield from scope_problems(
        f"connections.{settings.name}.auth",
        granted,
        streams,
        linked=frozenset(linked),
        written=settings.written_objects,
    )


def _linked(settings: ConnectionSettings, stream: Stream) -> Iterator[str]:
    """The objects whose links to a stream's records are read."""
    own = settings.streams[stream.name].fields if stream.name in settings.streams else {}
    for source in {**defaults_of(stream.name, stream.object), **own}.values():
        if source.source.startswith(LINK):
            yield source.source.removeprefix(LINK)


def _quota_problems(client: HubSpotClient, settings: ConnectionSettings) -> Iterator[Problem]:
    place = f"connections.{settings.name}.limits"
    if client.is_renewed:
        daily = settings.daily_calls
        if daily is not None and daily.share is not None:
            yield Problem(
                place=f"{place}.daily_calls",
                message="HubSpot has no daily limit for apps with OAuth, so a share of it is no"
                " limit at all.",
                remedy="Give a number of calls instead.",
                is_error=False,
            )
        return
    try:
        usage = client.daily_usage()
    except (PermissionMissing, RequestRefused):
        return
    if usage is not None and usage.limit - usage.used < usage.limit * _LOW_QUOTA:
        yield Problem(
            place=place,
            message=f"Of the portal's {usage.limit:,} calls of this day only"
            f" {max(0, usage.limit - usage.used):,} are left.",
            remedy="Wait, pull less often, or find out which other app uses them up (HubSpot:"
            " Development > Monitoring).",
            is_error=False,
        )


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
        case EmailStatistics.STREAM:
            client.resource(EMAILS_PATH, [("limit", "1")])
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
    for to_object in _linked(settings, stream):
        client.links(stream.object, to_object, [{"id": _ANY_ID}], is_settled)


def _login_problem(place: str, error: ConnectorError) -> Problem:
    is_of_login = isinstance(error, (AuthenticationFailed, PermissionMissing))
    return _problem(f"{place}.auth" if is_of_login else place, error)


def _problem(place: str, error: ConnectorError) -> Problem:
    return Problem(place=place, message=error.message, remedy=_remedy(error))


def _remedy(error: ConnectorError) -> str:
    match error:
        case AuthenticationFailed():
            return "Renew the credentials as docs/hubspot says, and put them where auth: points."
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


def _currency_problems(settings: ConnectionSettings, account: Account) -> Iterator[Problem]:
    """Unlike currencies are never added up: whoever has several needs rates."""
    company = settings.company.currency
    if settings.gives_rates and account.currency and account.currency != company:
        yield Problem(
            place="company.currency",
            message=f"HubSpot's rates are to {account.currency}, its account's currency, and say"
            f" nothing about the company's {company}.",
            remedy="Set company.fx.file, or take the rates from another connection.",
        )
    if settings.gives_rates or settings.rated is None:
        return
    others = sorted({*account.more_currencies} - {company} - settings.rated)
    if others:
        yield Problem(
            place=f"connections.{settings.name}.streams",
            message=(
                f"HubSpot's account has several currencies ({', '.join(others)} beside {company}):"
                " without rates, amounts in other currencies than the company's are left out and"
                " counted as such."
            ),
            remedy=f"Set company.fx: {{from: {settings.name}}}, or give their rates in"
            " company.fx.file or company.fx.table.",
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
