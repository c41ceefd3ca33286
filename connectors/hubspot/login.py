"""The access token: a static one, or one that is renewed with a refresh token.

https://developers.hubspot.com/docs/api-reference/auth-oauth-v1/guide
A renewed token is shared by all processes of the connection, and so is the refresh token that
comes back with it: HubSpot may rotate it, and who renews with an older one loses the grant.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from connectors.base import ConnectionSettings, TokenVault
from connectors.errors import AuthenticationFailed, MalformedAnswer, MisconfiguredConnection

Exchange = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""Sends the form of a token request, and gives back the JSON of its answer.

Raises:
    ConnectorError: there is no token; AuthenticationFailed where only a person can help.
"""

STATIC: Final = "token"
RENEWED: Final = "refresh_token"

_AHEAD_SECONDS: Final = 300.0
_AHEAD_SHARE: Final = 0.25
"""A token is renewed five minutes, or a quarter of its life, before it ends."""

_DEAD_SECONDS: Final = 300.0


class Login(Protocol):
    """One connection's way to an access token."""

    advice: str
    """What a person does when HubSpot does not accept the credentials."""
    can_renew: bool

    def token(self, *, refused: str | None = None) -> str:
        """The access token to use now.

        Args:
            refused: The token that HubSpot has just answered with 401; another one is wanted.

        Raises:
            ConnectorError: no token can be had; AuthenticationFailed for good.
        """
        ...

    @property
    def secrets(self) -> frozenset[str]:
        """What must never be shown."""
        ...

    @property
    def scopes(self) -> frozenset[str] | None:
        """The scopes granted, where the login's own answer tells them."""
        ...

    @property
    def portal_id(self) -> str | None:
        """The portal, where the login's own answer tells it."""
        ...


def login_of(settings: ConnectionSettings, exchange: Exchange) -> Login:
    """The way to a token that a connection is configured for.

    Raises:
        MisconfiguredConnection: a credential is missing, or there is no such way.
    """
    flow = settings.auth.get("flow", STATIC)
    if flow == STATIC:
        return StaticToken(_credential(settings, "token", "Create a service key in HubSpot."))
    if flow == RENEWED:
        return RefreshedToken(settings, exchange)
    raise MisconfiguredConnection(
        settings.name,
        f"connections.{settings.name}.auth.flow: {flow} is not supported for HubSpot."
        f" Use {STATIC} or {RENEWED}.",
    )


class StaticToken:
    """A service key, or the token of a private app: it has no end."""

    advice = (
        "Create a service key (Development > Keys > Service keys) with the scopes of docs/hubspot,"
        " and put it where auth.token points to."
    )
    can_renew = False
    scopes = None
    portal_id = None

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self, *, refused: str | None = None) -> str:  # noqa: ARG002 - there is no other
        """The token."""
        return self._token

    @property
    def secrets(self) -> frozenset[str]:
        """The token."""
        return frozenset({self._token})


class RefreshedToken:
    """An access token that lives half an hour, and the refresh token that brings the next.

    Args:
        settings: ``auth`` holds ``client_id``, ``client_secret`` and ``refresh_token``; `tokens`
            is where all processes of the connection keep what the last renewal brought.
        exchange: Asks HubSpot for a token.

    Raises:
        MisconfiguredConnection: a credential is missing.
    """

    advice = (
        "Install the app in the portal again, and put the refresh token that this brings where"
        " auth.refresh_token points to (docs/hubspot, OAuth)."
    )
    can_renew = True

    def __init__(self, settings: ConnectionSettings, exchange: Exchange) -> None:
        hint = "See docs/hubspot, OAuth."
        self._connection = settings.name
        self._client_id = _credential(settings, "client_id", hint)
        self._client_secret = _credential(settings, "client_secret", hint)
        self._configured = _credential(settings, "refresh_token", hint)
        self._exchange = exchange
        # A token of another grant is not ours, even under the name of this connection.
        self._grant = hashlib.sha256(f"{self._client_id} {self._configured}".encode()).hexdigest()
        self._vault: TokenVault = settings.tokens or _own_vault(f"{settings.name} {self._grant}")
        self._held: Mapping[str, str] | None = None
        self._refused: str | None = None
        self._dead: _DeadGrant | None = None
        self._lock = threading.Lock()

    def token(self, *, refused: str | None = None) -> str:
        """The shared access token, renewed when it is refused or about to end."""
        with self._lock:
            self._refused = refused or self._refused
            held = self._held or self._vault.token(self._first)
            if held.get("grant") != self._grant:
                held = self._vault.token(self._first, refused=held["access_token"])
            if held["access_token"] == self._refused or _is_ending(held):
                held = self._renewed(held)
            if _is_ending(held):
                # What another process had renewed long ago: now it is our turn.
                held = self._renewed(held)
            self._held = held
            return held["access_token"]

    @property
    def secrets(self) -> frozenset[str]:
        """Everything that opens the portal or the app."""
        held = self._held or {}
        found = {self._client_secret, self._configured}
        return frozenset(found | {held[name] for name in _SECRETS if held.get(name)})

    @property
    def scopes(self) -> frozenset[str] | None:
        """The scopes of the grant; None where HubSpot does not tell."""
        told = (self._held or {}).get("scopes")
        return frozenset(told.split()) if told else None

    @property
    def portal_id(self) -> str | None:
        """The portal that the grant is for; None where HubSpot does not tell."""
        return (self._held or {}).get("hub_id")

    def _renewed(self, held: Mapping[str, str]) -> Mapping[str, str]:
        """The token after `held`.

        The vault asks HubSpot only while it still keeps `held` itself: then the refresh token
        that came with it is the newest there is.
        """
        refresh_token = held.get("refresh_token", self._configured)
        return self._vault.token(lambda: self._log_in(refresh_token), refused=held["access_token"])

    def _first(self) -> Mapping[str, str]:
        return self._log_in(self._configured)

    def _log_in(self, refresh_token: str) -> Mapping[str, str]:
        dead = self._dead
        if dead and dead.refresh_token == refresh_token and time.monotonic() < dead.until:
            raise AuthenticationFailed(self._connection, dead.message)
        try:
            answer = self._exchange(
                {
                    "grant_type": "refresh_token",
                    "client_id": self._client_id,
                    "client_secret": self._client_secret,
                    "refresh_token": refresh_token,
                }
            )
        except AuthenticationFailed as error:
            until = time.monotonic() + _DEAD_SECONDS
            self._dead = _DeadGrant(refresh_token, error.message, until)
            raise
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise MalformedAnswer(self._connection, "HubSpot's answer to the login has no token.")
        kept = {
            "access_token": token,
            "refresh_token": str(answer.get("refresh_token") or refresh_token),
            "grant": self._grant,
        }
        lifetime = answer.get("expires_in")
        if isinstance(lifetime, (int, float)) and lifetime > 0:
            ahead = min(_AHEAD_SECONDS, lifetime * _AHEAD_SHARE)
            kept["renew_at"] = str(int(time.time() + lifetime - ahead))
        scopes = answer.get("scopes")
        if isinstance(scopes, list):
            kept["scopes"] = " ".join(map(str, scopes))
        if answer.get("hub_id"):
            kept["hub_id"] = str(answer["hub_id"])
        return kept


@dataclass(frozen=True, slots=True)
class _DeadGrant:
    """A refresh token that HubSpot refuses: only a person can help, so it is not asked again."""

    refresh_token: str = field(repr=False)
    message: str
    until: float
    """When it is asked once more, in monotonic seconds."""


_SECRETS: Final = ("access_token", "refresh_token")


def _is_ending(held: Mapping[str, str]) -> bool:
    renew_at = held.get("renew_at")
    return renew_at is not None and time.time() >= float(renew_at)


class _OwnVault:
    """The tokens of one grant in this process, where no vault is given."""

    def __init__(self) -> None:
        self._held: Mapping[str, str] | None = None
        self._lock = threading.Lock()

    def token(
        self, log_in: Callable[[], Mapping[str, str]], *, refused: str | None = None
    ) -> Mapping[str, str]:
        with self._lock:
            if self._held is None or self._held["access_token"] == refused:
                self._held = log_in()
            return self._held


_own_vaults: dict[str, _OwnVault] = {}
_own_vaults_lock = threading.Lock()


def _own_vault(grant: str) -> _OwnVault:
    # A second connector of this process must know of the refresh token that the first one got.
    with _own_vaults_lock:
        return _own_vaults.setdefault(grant, _OwnVault())


def _credential(settings: ConnectionSettings, name: str, hint: str) -> str:
    value = settings.auth.get(name, "").strip()
    if not value:
        raise MisconfiguredConnection(
            settings.name, f"connections.{settings.name}.auth.{name} is missing. {hint}"
        )
    return value
