"""Looking at a connection without reading a record: login, objects, fields, filters, quota."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from connectors.base import CheckReport, ConnectionSettings, Problem, Stream
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
)
from connectors.fieldmap import NativeField, canonical_fields, missing_fields
from connectors.salesforce.client import API_VERSION, SalesforceClient
from connectors.salesforce.faults import UnknownName
from connectors.salesforce.login_faults import LoginRefused
from connectors.salesforce.mapping import map_request, stream_settings, streams_of
from connectors.salesforce.rights import Rights
from connectors.salesforce.schema import MISSING_REMEDY, ObjectAbsent, OrgSchema
from connectors.salesforce.streams import SPECS

_LOW_QUOTA: Final = 0.1
_TOLERATED_SKEW: Final = 60.0
_NUMBERS: Final = frozenset({"integer", "number", "money", "percent"})
_FITTING: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "integer": _NUMBERS,
        "number": _NUMBERS,
        "money": _NUMBERS,
        "percent": _NUMBERS,
        "date": frozenset({"date", "datetime"}),
        "datetime": frozenset({"date", "datetime"}),
        "boolean": frozenset({"boolean"}),
        "ref": frozenset({"ref", "text"}),
    }
)
"""Type of a canonical field -> types of sources whose every value it takes."""
_FEATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Campaign": "Give the user the feature licence Marketing User and read access to campaigns,"
        " or remove the stream.",
        "CampaignMember": "Give the user the feature licence Marketing User and read access to"
        " campaigns, or remove campaigns.",
        "OpportunityLineItem": "Enable products in the org and give read access, or leave it: deals"
        " then have no lines.",
        "CaseHistory": "Switch on history tracking for cases (Setup > Object Manager > Case).",
    }
)
"""Objects that come with a licence or feature -> what a person may do."""
_WITH_MONEY: Final = frozenset({"deals", "deal_lines", "campaigns", "accounts", "contracts"})
_OF_THE_WHOLE_CONNECTION: Final = (
    AuthenticationFailed,
    CrmUnavailable,
    MalformedAnswer,
    QuotaExhausted,
    RateLimited,
)
"""Faults that the next call would meet as well: said once, not for every stream."""


def check(client: SalesforceClient, settings: ConnectionSettings) -> CheckReport:
    """Look at everything this connection is configured to read."""
    place = f"connections.{settings.name}"
    try:
        client.log_in()
        org_id = client.org_id()
    except ConnectorError as error:
        return CheckReport(org_id=None, problems=[_problem(_login_place(place, error), error)])
    problems = [_legacy_problem(place, warning) for warning in client.login_warnings]
    try:
        streams = streams_of(settings)
    except MisconfiguredConnection as error:
        streams = ()
        problems.append(_problem(f"{place}.streams", error))
    schema = OrgSchema(client)
    try:
        problems.extend(_clock_problems(client, settings, place))
        unserved = list(_version_problems(client, settings, place))
        if unserved:
            # Nothing is to be found under a version that is not there: one problem, not many.
            return CheckReport(org_id=org_id, problems=[*problems, *unserved])
        for stream in streams:
            problems.extend(_stream_problems(client, settings, stream, schema))
        problems.extend(_currency_problems(client, settings, streams, schema))
        objects = list(dict.fromkeys(stream.object for stream in streams))
        rights = Rights(client, schema, settings.written_objects or ())
        problems.extend(rights.problems(f"{place}.auth", objects))
        problems.extend(_quota_problems(client, place))
    except _OF_THE_WHOLE_CONNECTION as error:
        problems.append(_problem(place, error))
    return CheckReport(org_id=org_id, problems=problems)


def _version_problems(
    client: SalesforceClient, settings: ConnectionSettings, place: str
) -> Iterator[Problem]:
    served = client.served_versions()
    if not served or client.version in served:
        return
    newest = max(served, key=_as_number)
    yield Problem(
        place=f"{place}.api_version",
        message=f"The org does not serve the API version {client.version}.",
        remedy=f'Set api_version: "{min(newest, API_VERSION, key=_as_number)}".'
        if settings.api_version
        else f'Set api_version: "{newest}".',
    )


def _as_number(version: str) -> float:
    try:
        return float(version)
    except ValueError:
        return 0.0


def _clock_problems(
    client: SalesforceClient, settings: ConnectionSettings, place: str
) -> Iterator[Problem]:
    skew = client.clock_skew
    if settings.auth.get("flow") != "jwt" or abs(skew) <= _TOLERATED_SKEW:
        return
    yield Problem(
        place=f"{place}.auth",
        message=f"This machine's clock is {abs(skew):,.0f} seconds"
        f" {'ahead of' if skew > 0 else 'behind'} Salesforce's; beyond three minutes a JWT login"
        " fails.",
        remedy="Set the clock (time synchronisation).",
        is_error=False,
    )


def _stream_problems(
    client: SalesforceClient, settings: ConnectionSettings, stream: Stream, schema: OrgSchema
) -> Iterator[Problem]:
    place = f"connections.{settings.name}.streams.{stream.name}"
    try:
        yield from _field_problems(settings, stream, schema, place)
        where = stream_settings(settings, stream.name).where
        if where:
            client.query(f"SELECT Id FROM {stream.object} WHERE ({where}) LIMIT 1")  # noqa: S608  # the admin's own filter
        if stream.name == "ticket_status_changes":
            yield from _tracking_problems(client, place)
    except _OF_THE_WHOLE_CONNECTION:
        raise
    except ObjectAbsent as error:
        spec = SPECS[stream.name]
        is_legal = spec.may_be_absent and stream.object == spec.object
        remedy = _FEATURES.get(stream.object, "Give the user read access by a permission set.")
        problem = _problem(place, error, remedy, is_error=not is_legal)
        yield replace(problem, absent_stream=stream.name)
    except UnknownName as error:
        yield _problem(f"{place}.where", error, "Correct the filter; it is SOQL, without WHERE.")
    except ConnectorError as error:
        yield _problem(place, error)


def _field_problems(
    settings: ConnectionSettings, stream: Stream, schema: OrgSchema, place: str
) -> Iterator[Problem]:
    request = map_request(settings, stream.name, schema)
    for missing in missing_fields(request):
        yield Problem(
            place=f"{place}.fields.{missing.name}",
            message=missing.message.removesuffix(MISSING_REMEDY).strip(),
            remedy=MISSING_REMEDY,
            is_error=missing.is_required,
        )
    for name, source in {**request.defaults, **request.own}.items():
        native = request.look_up(source.source)
        if native is None:
            continue
        if name in request.own and (native.is_calculated or "." in native.name):
            yield _stale_problem(f"{place}.fields.{name}", stream.object, native.name)
        if not source.values:
            yield from _type_problems(place, stream, name, source.type, native)


def _type_problems(
    place: str, stream: Stream, name: str, given: str | None, native: NativeField
) -> Iterator[Problem]:
    """A source whose values cannot be read as what the field is, or not all of them."""
    wanted = given or canonical_fields(stream.name).get(name, "text")
    if native.type is None or native.type in _FITTING.get(wanted, frozenset({native.type})):
        return
    is_text = native.type == "text"
    yield Problem(
        place=f"{place}.fields.{name}",
        message=f"{name} is a {wanted}, and {stream.object}.{native.name} holds {native.type}: "
        + ("what is no " + wanted + " goes to the dead letters." if is_text else "it never fits."),
        remedy="Map a field of the right type, or give the values by a value map (values:).",
        is_error=not is_text,
    )


def _tracking_problems(client: SalesforceClient, place: str) -> Iterator[Problem]:
    """Without history tracking there is nothing that tells when a case changed its status."""
    tracked = client.query(
        "SELECT Id FROM CaseHistory WHERE Field = 'Status' LIMIT 1", deleted_too=False
    )
    if tracked.records or not client.query("SELECT Id FROM Case LIMIT 1").records:
        return
    yield Problem(
        place=place,
        message="No change of a case's status is on record; the history of Status seems not to be"
        " tracked, so times in status and reopened tickets stay unknown.",
        remedy="Switch it on in Setup > Object Manager > Case > Fields > Set History Tracking.",
        is_error=False,
    )


def _currency_problems(
    client: SalesforceClient,
    settings: ConnectionSettings,
    streams: Sequence[Stream],
    schema: OrgSchema,
) -> Iterator[Problem]:
    """An org with several currencies needs rates: unlike currencies are never added up."""
    place = f"connections.{settings.name}.streams"
    with_money = [stream for stream in streams if stream.name in _WITH_MONEY]
    if not any(_has_currency(schema, stream.object) for stream in with_money):
        return
    try:
        rows = client.query_all(
            "SELECT IsoCode, IsCorporate FROM CurrencyType WHERE IsActive = true",
            deleted_too=False,
        )
    except (UnknownName, PermissionMissing, RequestRefused):
        yield Problem(
            place=place,
            message="The org keeps amounts in several currencies, and its rates (CurrencyType)"
            " cannot be read.",
            remedy="Give the connected user read access to them (View Setup and Configuration), or"
            " set company.fx.file.",
            is_error=settings.gives_rates,
        )
        return
    codes = sorted(str(row.get("IsoCode")) for row in rows)
    company = settings.company.currency
    if settings.gives_rates and company not in codes:
        yield Problem(
            place="company.currency",
            message=f"The company's currency {company} is none of the org's ({', '.join(codes)}),"
            " so its rates say nothing about it.",
            remedy=f"Activate {company} in Setup > Manage Currencies, or set company.fx.file.",
        )
    if settings.gives_rates or settings.rated is None:
        return
    unrated = set(codes) - {company} - settings.rated
    if unrated:
        others = ", ".join(sorted(unrated))
        yield Problem(
            place=place,
            message=f"The org keeps amounts in several currencies ({others} beside {company}):"
            " without rates, amounts in other currencies than the company's are left out and"
            " counted as such.",
            remedy=f"Set company.fx: {{from: {settings.name}}}, or give their rates in"
            " company.fx.file or company.fx.table.",
            is_error=False,
        )


def _has_currency(schema: OrgSchema, object_name: str) -> bool:
    try:
        return schema.shape(object_name).has("CurrencyIsoCode")
    except MisconfiguredConnection:
        return False


def _legacy_problem(place: str, warning: str) -> Problem:
    return Problem(
        place=f"{place}.auth.flow",
        message=warning,
        remedy="See docs/salesforce.md for an app with the client credentials or JWT flow.",
        is_error=False,
    )


def _stale_problem(place: str, object_name: str, source: str) -> Problem:
    return Problem(
        place=place,
        message=(
            f"{object_name}.{source} is computed by Salesforce or belongs to a parent record: when"
            " it changes alone, the record is not reported as changed."
        ),
        remedy="Map a stored field of the record itself; else its rows are read again every"
        " advanced.sweep.",
        is_error=False,
    )


def _quota_problems(client: SalesforceClient, place: str) -> Iterator[Problem]:
    try:
        limits = client.get("limits")
        client.budget.note_limits(limits)
        calls = limits.get("DailyApiRequests", {})
        most, left = int(calls["Max"]), int(calls["Remaining"])
    except (RequestRefused, PermissionMissing, KeyError, TypeError, ValueError, AttributeError):
        return
    if most and left < most * _LOW_QUOTA:
        yield Problem(
            place=f"{place}.limits",
            message=f"Of the org's {most} API calls a day only {left} are left.",
            remedy="Wait, pull less often, or find out which other tool uses them up"
            " (Setup > System Overview).",
            is_error=False,
        )


def _login_place(place: str, error: ConnectorError) -> str:
    is_of_auth = isinstance(error, (AuthenticationFailed, MisconfiguredConnection))
    return f"{place}.auth" if is_of_auth else place


def _problem(
    place: str, error: ConnectorError, remedy: str | None = None, *, is_error: bool = True
) -> Problem:
    message = error.told if isinstance(error, LoginRefused) else error.message
    return Problem(place=place, message=message, remedy=remedy or _remedy(error), is_error=is_error)


def _remedy(error: ConnectorError) -> str:
    if isinstance(error, LoginRefused):
        return error.remedy
    if isinstance(error, AuthenticationFailed):
        return (
            "Compare auth.client_id and auth.client_secret (or auth.access_token) with the"
            " External Client App in Setup."
        )
    if isinstance(error, QuotaExhausted):
        return "Wait, pull less often, or find out which other tool uses up the org's API calls."
    if isinstance(error, (CrmUnavailable, RateLimited, MalformedAnswer)):
        return "Check the address and the network, then try again; the CRM may be down."
    if isinstance(error, PermissionMissing):
        return "Give the connected user the access by a permission set in Setup."
    return "Correct the configuration, or give the connected user the access it needs."
