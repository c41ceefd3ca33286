"""What the processes of one connection share through the store: calls, token, notes.

Each part works alone while the store is closed or away: a check of the configuration opens no
database, and a database that is down must not take the CRM's connection down with it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Engine

from connectors.base import Purpose
from store import calls, notes, tokens
from store.engine import operating, reading
from store.errors import StoreError
from worker import observe
from worker.holding import Busy, HeldLeases
from worker.ports import PORTS, Clock

_FLUSH_CALLS: Final = 20
_FLUSH_SECONDS: Final = 2.0
"""Counting each call by itself would cost a commit a call; so much a killed process forgets."""

_LOOK_SECONDS: Final = 5.0
"""How old the count of other processes' calls may be."""

_LOGIN_PATIENCE: Final = timedelta(seconds=60)

OpenStore = Callable[[], Engine | None]
"""The store's engine, or None while nobody has opened it."""


class StoredLedger:
    """`connectors.base.CallLedger` over the store."""

    def __init__(self, store: OpenStore, connection: str, clock: Clock = PORTS.clock) -> None:
        self._store = store
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._flushed_at = self._clock.monotonic()
        self._used = 0
        self._looked_at = float("-inf")
        self._org: tuple[int, int] | None = None
        self._noted_org: tuple[int, int] | None = None

    def add(self, number: int, purpose: Purpose) -> None:
        """Count calls that were just made."""
        with self._lock:
            self._waiting[purpose] += number
            is_due = (
                self._waiting.total() >= _FLUSH_CALLS
                or self._clock.monotonic() - self._flushed_at >= _FLUSH_SECONDS
            )
        if is_due:
            self.flush()

    def used(self) -> int:
        """Calls of this connection within the last 24 hours."""
        engine = self._store()
        if engine is not None and self._clock.monotonic() - self._looked_at >= _LOOK_SECONDS:
            with suppress(StoreError), reading(engine) as conn:
                self._used = calls.used(conn, self._connection)
            self._looked_at = self._clock.monotonic()
        with self._lock:
            return self._used + self._waiting.total()

    def free_at(self, number: int) -> datetime | None:
        """When at least `number` of the counted calls will be older than 24 hours."""
        engine = self._store()
        if engine is None:
            return None
        self.flush()
        with suppress(StoreError), reading(engine) as conn:
            return calls.free_at(conn, self._connection, number)
        return None

    def note_org(self, used: int, limit: int) -> None:
        """Keep what the CRM itself says; written with the next flush."""
        self._org = (used, limit)

    def flush(self) -> None:
        """Write down what was counted; what cannot be written waits."""
        engine = self._store()
        if engine is None:
            return
        with self._lock:
            fresh, self._waiting = self._waiting, Counter()
            self._flushed_at = self._clock.monotonic()
        org = self._org
        if not fresh and org == self._noted_org:
            return
        try:
            with operating(engine) as conn:
                calls.add(conn, self._connection, fresh)
                if org is not None and org != self._noted_org:
                    calls.note_org(conn, self._connection, *org)
        except StoreError:
            with self._lock:
                self._waiting.update(fresh)
            return
        self._noted_org = org
        with self._lock:
            self._used += fresh.total()


class StoredTokens:
    """`connectors.base.TokenVault` over the store."""

    def __init__(
        self,
        store: OpenStore,
        connection: str,
        credentials: Mapping[str, str],
        leases: Callable[[], HeldLeases],
    ) -> None:
        self._store = store
        self._connection = connection
        self._leases = leases
        self._cipher = _cipher(connection, credentials)
        self._own: Mapping[str, str] | None = None
        self._lock = threading.Lock()

    def token(
        self, log_in: Callable[[], Mapping[str, str]], *, refused: str | None = None
    ) -> Mapping[str, str]:
        """The shared token, or a new one when there is none or it is the refused one.

        Raises:
            ConnectorError: what `log_in` raised.
        """
        with self._lock:
            held = self._usable(refused)
            if held is None:
                held = self._renewed(log_in, refused)
            self._own = held
            observe.hide({held["access_token"], held.get("refresh_token", "")} - {""})
            return held

    def _renewed(
        self, log_in: Callable[[], Mapping[str, str]], refused: str | None
    ) -> Mapping[str, str]:
        if self._store() is None:
            return log_in()
        try:
            with self._leases().hold(f"login:{self._connection}", patience=_LOGIN_PATIENCE):
                # Whoever held the lock before us has probably logged in for all.
                held = self._usable(refused)
                if held is None:
                    # Ours, even if it cannot be written down: what it replaced may be dead.
                    held = self._own = log_in()
                    self._keep(held)
                return held
        except (Busy, StoreError):
            return self._usable(refused) or log_in()

    def _usable(self, refused: str | None) -> Mapping[str, str] | None:
        candidates = (self._kept(), self._own)
        return next((one for one in candidates if one and one["access_token"] != refused), None)

    def _kept(self) -> Mapping[str, str] | None:
        engine = self._store()
        if engine is None:
            return None
        with suppress(StoreError, InvalidToken, ValueError, KeyError):
            with reading(engine) as conn:
                sealed = tokens.get(conn, self._connection)
            if sealed is not None:
                opened = json.loads(self._cipher.decrypt(sealed.encode()))
                return {str(name): str(value) for name, value in opened.items()}
        return None

    def _keep(self, token: Mapping[str, str]) -> None:
        engine = self._store()
        sealed = self._cipher.encrypt(json.dumps(dict(token)).encode()).decode()
        if engine is not None:
            with operating(engine) as conn:
                tokens.put(conn, self._connection, sealed)


class StoredNotes:
    """`connectors.base.Notes` over the store."""

    def __init__(self, store: OpenStore, connection: str) -> None:
        self._store = store
        self._connection = connection
        self._own: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        """What was noted under a name.

        Raises:
            StoreUnavailable: the database is away.
        """
        engine = self._store()
        if engine is None:
            return self._own.get(name)
        with reading(engine) as conn:
            return notes.get(conn, self._connection, name)

    def put(self, name: str, text: str) -> None:
        """Note a text, durable when this returns.

        Raises:
            StoreUnavailable: the database is away.
        """
        engine = self._store()
        if engine is None:
            self._own[name] = text
            return
        with operating(engine) as conn:
            notes.put(conn, self._connection, name, text)

    def drop(self, name: str) -> None:
        """Forget a note.

        Raises:
            StoreUnavailable: the database is away.
        """
        engine = self._store()
        if engine is None:
            self._own.pop(name, None)
            return
        with operating(engine) as conn:
            notes.drop(conn, self._connection, name)


def _cipher(connection: str, credentials: Mapping[str, str]) -> Fernet:
    """A key that only those who know the credentials can make: a copy of the database is no leak.

    HKDF with SHA-256 (RFC 5869) over all of them; Fernet is AES-128-CBC with HMAC.
    """
    material = json.dumps(sorted(credentials.items())).encode()
    derived = HKDF(
        algorithm=SHA256(), length=32, salt=None, info=f"kpisync token {connection}".encode()
    ).derive(material)
    return Fernet(base64.urlsafe_b64encode(derived))
