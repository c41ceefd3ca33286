"""One access token for all who use a connection, and one refusal for all as well.

Each login may end the sessions before it (token rotation), and repeated failed ones lock the
user: so processes share one token through `ConnectionSettings.tokens`, log in one at a time, and
let a refusal stand for some minutes before anybody tries again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.base import ConnectionSettings, Notes
from connectors.errors import AuthenticationFailed
from connectors.salesforce.login import Login, Token

REFUSAL: Final = timedelta(minutes=5)
"""How long a refused login stands before it is tried again."""

_NOTE: Final = "refused_login"


class SharedToken:
    """The token of one connection."""

    def __init__(self, settings: ConnectionSettings, login: Login) -> None:
        self._login = login
        self._vault = settings.tokens
        self._refusals = StandingRefusal(settings.name, settings.auth, settings.notes)
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._is_ours = False

    def current(self) -> Token:
        """The token in use, fetched when there is none.

        Raises:
            ConnectorError: see `Login.log_in`.
        """
        with self._lock:
            if self._token is None:
                self._token = self._fetched(None)
            return self._token

    def renewed(self, refused: Token) -> tuple[Token, bool]:
        """A token other than the refused one, and whether it comes from a login made just now.

        Raises:
            ConnectorError: see `Login.log_in`.
        """
        with self._lock:
            if self._token is not None and self._token.text != refused.text:
                return self._token, False
            self._token = self._fetched(refused)
            return self._token, self._is_ours

    def refuse(self, refusal: AuthenticationFailed) -> None:
        """Let a refusal stand that came after a good login."""
        self._refusals.remember(refusal)

    def _fetched(self, refused: Token | None) -> Token:
        self._is_ours = False
        if self._vault is None or not self._login.can_renew:
            return self._logged_in()
        kept = self._vault.token(
            lambda: self._logged_in().as_mapping(), refused=refused.text if refused else None
        )
        return Token.from_mapping(kept)

    def _logged_in(self) -> Token:
        self._refusals.ensure_none()
        self._is_ours = True
        try:
            token = self._login.log_in()
        except AuthenticationFailed as refusal:
            self._refusals.remember(refusal)
            raise
        self._refusals.forget()
        return token


class StandingRefusal:
    """A refused login that is not tried again at once; other credentials are."""

    def __init__(self, connection: str, auth: Mapping[str, str], notes: Notes | None) -> None:
        self._connection = connection
        self._auth = auth
        self._notes = notes
        self._own: tuple[AuthenticationFailed, datetime] | None = None

    def ensure_none(self) -> None:
        """Let a login pass if none was refused lately.

        Raises:
            AuthenticationFailed: the refusal that still stands.
        """
        if self._own is None:
            self._own = self._noted()
        if self._own is None:
            return
        refusal, ends = self._own
        if datetime.now(UTC) < ends:
            raise refusal
        self._own = None

    def remember(self, refusal: AuthenticationFailed) -> None:
        """Let a refusal stand, for all processes of the connection."""
        ends = datetime.now(UTC) + REFUSAL
        self._own = refusal, ends
        if self._notes is not None:
            salt = secrets.token_hex(16)
            note = {
                "message": refusal.message,
                "ends": ends.isoformat(),
                "salt": salt,
                "credentials": self._digest(salt),
            }
            self._notes.put(_NOTE, json.dumps(note))

    def forget(self) -> None:
        """A login went well."""
        self._own = None
        if self._notes is not None and self._notes.get(_NOTE) is not None:
            self._notes.drop(_NOTE)

    def _noted(self) -> tuple[AuthenticationFailed, datetime] | None:
        text = self._notes.get(_NOTE) if self._notes is not None else None
        if text is None:
            return None
        try:
            note = json.loads(text)
            ends = datetime.fromisoformat(note["ends"])
            # A clock that was set back must not make a refusal stand for hours.
            is_standing = datetime.now(UTC) < ends <= datetime.now(UTC) + REFUSAL
            if not is_standing or note["credentials"] != self._digest(note["salt"]):
                return None
            return AuthenticationFailed(self._connection, str(note["message"])), ends
        except (ValueError, KeyError, TypeError):
            return None

    def _digest(self, salt: str) -> str:
        """Tells whether the credentials are still the refused ones, without telling them."""
        text = json.dumps(sorted(self._auth.items()))
        return hashlib.scrypt(text.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()
