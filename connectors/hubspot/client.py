"""The calls that this connector makes to HubSpot, by name; ``session`` is how they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import tzinfo
from functools import cached_property
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.base import CallCounter, ConnectionSettings, Purpose
from connectors.errors import AuthenticationFailed, MalformedAnswer, PermissionMissing
from connectors.hubspot import faults
from connectors.hubspot.paths import ACCOUNT_DETAILS, DAILY_USAGE, SCHEMAS, STATIC_TOKEN_INFO
from connectors.hubspot.session import Answer, Json, Session, Unparsable, is_object

__all__ = ["Account", "Answer", "HubSpotClient", "Json", "Unparsable"]

LIST_LIMIT: Final = 100
SEARCH_LIMIT: Final = 200
READ_LIMIT: Final = 100
HISTORY_LIMIT: Final = 50
"""Inputs of a batch read that asks for the history of a property."""
LINKS_LIMIT: Final = 1000
WRITE_LIMIT: Final = 100
OWNERS_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Account:
    """The portal: who it is, and what its days and money are."""

    portal_id: str
    timezone: str | None
    currency: str | None
    more_currencies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """The calls of the portal's day."""

    used: int
    limit: int


class HubSpotClient:
    """Typed calls of one connection.

    Args:
        settings: The connection.
        calls: Counts every request that goes out, and the fewest that would have done.

    Raises:
        MisconfiguredConnection: the authentication or the API version cannot work.
    """

    def __init__(self, settings: ConnectionSettings, calls: CallCounter) -> None:
        self.connection = settings.name
        self._settings = settings
        self._session = Session(settings, calls, self._zone)
        self.calls = calls
        self._raw = self._session.raw

    def close(self) -> None:
        """Give connections back."""
        self._session.close()

    @property
    def is_renewed(self) -> bool:
        """The token is that of an app with OAuth: it ends, and no daily limit counts its calls."""
        return self._session.login.can_renew

    def working_for(self, purpose: Purpose) -> AbstractContextManager[None]:
        """Let the calls inside use what the day's quota keeps for a purpose."""
        return self._session.working_for(purpose)

    # ------------------------------------------------------------ reading

    @cached_property
    def account(self) -> Account:
        """The portal's identity, zone and currency; asked once."""
        content = self.resource(
            ACCOUNT_DETAILS, is_complete=lambda content: "portalId" in content
        ).content
        more = content.get("additionalCurrencies")
        return Account(
            portal_id=str(content["portalId"]),
            timezone=content.get("timeZone") or None,
            currency=content.get("companyCurrency") or None,
            more_currencies=tuple(map(str, more)) if isinstance(more, list) else (),
        )

    def granted_scopes(self) -> frozenset[str] | None:
        """The scopes of the token; None where HubSpot does not tell them.

        A static token is asked about by its own text, which HubSpot wants in the body:
        https://developers.hubspot.com/docs/apps/legacy-apps/private-apps/overview
        What a refresh token brings tells by itself.
        """
        login = self._session.login
        if login.can_renew:
            login.token()
            return login.scopes
        scopes = self._static_token_info.get("scopes")
        return frozenset(map(str, scopes)) if isinstance(scopes, list) else None

    def portal_of_token(self) -> str | None:
        """The portal, from the token alone: for tokens that may not see the account's details."""
        login = self._session.login
        if login.can_renew:
            return login.portal_id
        portal_id = self._static_token_info.get("hubId")
        return None if portal_id is None else str(portal_id)

    @cached_property
    def _static_token_info(self) -> Json:
        body = {"tokenKey": self._session.login.token()}
        try:
            answer = self._session.read(
                lambda: self._session.call("POST", STATIC_TOKEN_INFO, body=body), is_object
            )
        except (faults.Refused, PermissionMissing, AuthenticationFailed, MalformedAnswer):
            # Not every kind of static token is told about, and it is only asked for advice.
            return {}
        return answer.content

    def daily_usage(self) -> Usage | None:
        """How much of the portal's day is used; None where HubSpot does not tell."""
        answer = self.resource(DAILY_USAGE, is_complete=is_object)
        listed = answer.content.get("results")
        usage = listed[0] if isinstance(listed, list) and listed else answer.content
        used, limit = (usage.get(name) for name in ("currentUsage", "usageLimit"))
        if not isinstance(used, int) or not isinstance(limit, int) or limit <= 0:
            return None
        return Usage(used, limit)

    def schemas(self) -> Answer:
        """The portal's custom objects with their properties."""
        api = self._schemas_api
        try:
            return self._session.read(lambda: api.get_all(archived=_flag(value=False), **self._raw))
        except faults.Refused as refusal:
            if refusal.status != faults.NOT_FOUND:
                raise
            # The library has the newer of the two undated addresses.
            return self.resource(SCHEMAS)

    def properties(self, object_name: str) -> Answer:
        """The properties of an object that the token may see."""
        api = self._properties_api
        return self._session.read(lambda: api.get_all(object_name, **self._raw))

    def pipelines(self, object_name: str) -> Answer:
        """The pipelines of an object with their stages."""
        api = self._pipelines_api
        return self._session.read(lambda: api.get_all(object_name, **self._raw))

    def owners(
        self,
        *,
        archived: bool,
        after: str | None,
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """One page of the owners, active or archived; `is_sound` as in `search`."""
        api = self._owners_api
        return self._session.read(
            lambda: api.get_page(
                limit=OWNERS_LIMIT, archived=_flag(value=archived), **_after(after), **self._raw
            ),
            is_sound=is_sound,
        )

    def page(
        self,
        object_name: str,
        *,
        after: str | None,
        limit: int,
        archived: bool = False,
        properties: Sequence[str] = ("hs_object_id",),
        history: Sequence[str] = (),
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """One page of an object's records in the order of their ids; ids only by default.

        Args:
            object_name: Which object.
            after: Where the page begins; None: at the beginning.
            limit: Most records; no page has more than HubSpot allows.
            archived: List the archived records, and only them.
            properties: Names of the properties to read.
            history: Names of the properties whose past to read.
            is_sound: What this page has to be beside well-formed; another is asked for again.
        """
        api = self._objects_api

        def is_of_its_kind(answer: Answer) -> bool:
            # A live record taken for an archived one would leave every number.
            return all(bool(row.get("archived")) is archived for row in answer.results) and (
                is_sound is None or is_sound(answer)
            )

        past = {"properties_with_history": list(history)} if history else {}
        most = HISTORY_LIMIT if history else LIST_LIMIT
        return self._session.read(
            lambda: api.get_page(
                object_name,
                limit=min(limit, most),
                properties=list(properties),
                archived=_flag(value=archived),
                **past,
                **_after(after),
                **self._raw,
            ),
            is_sound=is_of_its_kind,
        )

    def resource(
        self,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        is_complete: Callable[[Json], bool] | None = None,
        is_sound: Callable[[Answer], bool] | None = None,
    ) -> Answer:
        """An answer from a path that the client library has no method for.

        Args:
            path: One of ``connectors.hubspot.paths``, as the oldest version has it.
            query: Parameters of the address.
            is_complete: What its JSON has to have; by default a list ``results``.
            is_sound: As in `search`.
        """
        return self._session.read(
            lambda: self._session.call("GET", path, query=query), is_complete, is_sound=is_sound
        )

    def search(self, object_name: str, request: Json, is_sound: Callable[[Answer], bool]) -> Answer:
        """One page of a search.

        Args:
            object_name: Which object.
            request: The search's JSON.
            is_sound: What this page has to be beside well-formed; another is asked for again.
        """
        api = self._search_api
        return self._session.read(
            lambda: api.do_search(object_name, request, **self._raw),
            is_search=True,
            is_sound=is_sound,
        )

    def batch_read(
        self,
        object_name: str,
        ids: Iterable[str],
        properties: Sequence[str],
        history: Sequence[str],
        is_settled: Callable[[Answer], bool],
    ) -> Answer:
        """Values of records by id; unknown ids are told in ``errors``.

        An answer that is not settled is asked for again, and the last one given back as it is.
        """
        api = self._batch_api
        request = {
            "inputs": [{"id": record_id} for record_id in ids],
            "properties": list(properties),
            "propertiesWithHistory": list(history),
        }
        return self._session.read_settled(
            lambda: api.read(object_name, request, **self._raw), is_settled
        )

    def get(self, object_name: str, record_id: str, properties: Sequence[str]) -> Json | None:
        """One record, the winner where it was merged away; None: there is none."""
        api = self._objects_api
        try:
            answer = self._session.read(
                lambda: api.get_by_id(
                    object_name, record_id, properties=list(properties), **self._raw
                ),
                lambda content: "id" in content,
            )
        except faults.Refused as refusal:
            if refusal.status == faults.NOT_FOUND:
                return None
            raise
        return answer.content

    def links(
        self,
        from_object: str,
        to_object: str,
        inputs: Sequence[Json],
        is_settled: Callable[[Answer], bool],
    ) -> Answer:
        """Associations of records by id; settled as in `batch_read`."""
        api = self._associations_api
        request = {"inputs": list(inputs)}
        return self._session.read_settled(
            lambda: api.get_page(from_object, to_object, request, **self._raw), is_settled
        )

    # ------------------------------------------------------------ writing

    def batch_update(self, object_name: str, inputs: Sequence[Json]) -> Answer:
        """Set properties of records by id.

        Raises:
            AnswerLost, MalformedAnswer: it may have been done; never repeated in here.
        """
        api = self._batch_api
        return self._session.write(
            lambda: api.update(object_name, {"inputs": list(inputs)}, **self._raw)
        )

    def create_group(self, object_name: str, group: Json) -> None:
        """Create a group of properties."""
        api = self._groups_api
        self._session.write(lambda: api.create(object_name, dict(group), **self._raw), is_object)

    def create_property(self, object_name: str, definition: Json) -> None:
        """Create a property."""
        api = self._properties_api
        self._session.write(
            lambda: api.create(object_name, dict(definition), **self._raw), is_object
        )

    # ------------------------------------------------------------ the library

    def zone(self) -> tzinfo:
        """The zone that HubSpot's days are of: the portal's, else the company's."""
        try:
            _ = self.account
        except (PermissionMissing, faults.Refused):
            return self._settings.company.timezone
        return self._zone()

    def _zone(self) -> tzinfo:
        account = self.__dict__.get("account")
        try:
            return ZoneInfo(account.timezone) if account else self._settings.company.timezone
        except (TypeError, ValueError, ZoneInfoNotFoundError):
            return self._settings.company.timezone

    # Each access of the library makes a new client: they are kept.

    @cached_property
    def _objects_api(self) -> Any:
        return self._session.library.crm.objects.basic_api

    @cached_property
    def _batch_api(self) -> Any:
        return self._session.library.crm.objects.batch_api

    @cached_property
    def _search_api(self) -> Any:
        return self._session.library.crm.objects.search_api

    @cached_property
    def _associations_api(self) -> Any:
        return self._session.library.crm.associations.v4.batch_api

    @cached_property
    def _properties_api(self) -> Any:
        return self._session.library.crm.properties.core_api

    @cached_property
    def _groups_api(self) -> Any:
        return self._session.library.crm.properties.groups_api

    @cached_property
    def _pipelines_api(self) -> Any:
        return self._session.library.crm.pipelines.pipelines_api

    @cached_property
    def _owners_api(self) -> Any:
        return self._session.library.crm.owners.owners_api

    @cached_property
    def _schemas_api(self) -> Any:
        return self._session.library.crm.schemas.core_api


def _after(after: str | None) -> dict[str, str]:
    return {} if after is None else {"after": after}


def _flag(*, value: bool) -> str:
    # The library would send "True".
    return "true" if value else "false"
